//! One check of the prober: what it asks, and whether a packet answers it.
#![forbid(unsafe_code)]

use std::collections::VecDeque;
use std::net::IpAddr;
use std::time::Duration;

use super::check::WINDOW_MAX;
use super::dns::{QUERY_MAX, Question, Reply};
use super::draw::{Draws, Ends};
use super::prober::AddError;
use super::wire::{self, Body, IcmpError, Incoming, PAYLOAD_MAX};
use super::{Answer, Cause, CheckState, SecretRng};
use crate::batch::Exit;
use crate::ids::PortId;
use crate::policy::CheckKind;
use crate::time::Nanos;

/// A check and its liveness.
#[derive(Debug)]
pub(super) struct Target {
    pub(super) exit: Exit,
    pub(super) ends: Ends,
    pub(super) request: Request,
    pub(super) draws: Draws,
    pub(super) live: CheckState,
    /// Its latest requests, the newest last: as many as `live` remembers.
    pub(super) sent: VecDeque<Sent>,
    /// Whether it waits to be asked for a request.
    pub(super) queued: bool,
    /// Number of its latest request.
    pub(super) tag: u16,
    pub(super) phase: Duration,
}

/// What it asks.
#[derive(Debug)]
pub(super) enum Request {
    /// ICMP or ICMPv6 echo.
    Echo,
    /// A datagram.
    Udp { port: u16, payload: Box<[u8]> },
    /// A DNS query.
    Dns { port: u16, question: Question },
}

/// What one request bore that nobody else knows.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sent {
    tag: u16,
    /// UDP source port or echo identifier.
    number: u16,
    /// IPv4 identification.
    ident: u16,
    /// Checksum of the upper layer.
    sum: u16,
    /// Which letters of a DNS name were capitals.
    case: u64,
}

impl Target {
    /// Whether the packet matches an outstanding or remembered request, its number and its own
    /// address having been found right.
    pub(super) fn handle(
        &mut self,
        received: Nanos,
        port: PortId,
        incoming: &Incoming<'_>,
    ) -> bool {
        if port != self.exit.port {
            return false;
        }
        match incoming.body {
            Body::Error(error) => is_unicast(incoming.src) && self.handle_error(received, &error),
            _ if incoming.src != self.ends.target => false,
            Body::Echo { ident, seq, data } => self.handle_echo(received, (ident, seq), data),
            Body::Udp { from, payload, .. } => self.handle_udp(received, from, payload),
        }
    }

    /// Writes a new request, of which `live` does not know yet; returns its tag and its length.
    pub(super) fn write(&mut self, buffer: &mut [u8], rng: &mut SecretRng) -> (u16, usize) {
        let tag = self.take_tag(rng);
        let (number, label) = (self.draws.now.number, self.draws.now.label);
        let case = if matches!(self.request, Request::Dns { .. }) { rng.next_u64() } else { 0 };
        let pair = (self.ends.source, self.ends.target);
        let len = match &self.request {
            Request::Echo => wire::write_echo(buffer, pair, (number, tag), &self.draws.now.cookie),
            Request::Udp { port, payload } => {
                wire::write_udp(buffer, pair, (number, *port), payload)
            }
            Request::Dns { port, question } => {
                let mut query = [0; QUERY_MAX];
                let query = question.write_query(tag, case, &mut query);
                wire::write_udp(buffer, pair, (number, *port), query)
            }
        };
        let ident = rng.next_u16();
        let packet = &mut buffer[..len];
        wire::stamp(packet, ident, label);
        let sum = wire::upper_checksum(packet, self.ends.udp);
        while self.sent.len() >= WINDOW_MAX.min(self.live.rule().fall as usize + 2) {
            self.sent.pop_front();
        }
        self.sent.push_back(Sent { tag, number, ident, sum, case });
        (tag, len)
    }

    /// Counting up, except for DNS, whose ids should not be guessed.
    fn take_tag(&mut self, rng: &mut SecretRng) -> u16 {
        self.tag = match self.request {
            Request::Dns { .. } => rng.next_u16(),
            _ => self.tag.wrapping_add(1),
        };
        while self.live.sent_at(self.tag).is_some() {
            self.tag = self.tag.wrapping_add(1);
        }
        self.tag
    }

    fn handle_echo(&mut self, received: Nanos, (ident, seq): (u16, u16), data: &[u8]) -> bool {
        let known = self.draws.of_number(ident).is_some_and(|draw| draw.cookie == data);
        known && self.handle_answer(received, seq)
    }

    fn handle_udp(&mut self, received: Nanos, from: u16, payload: &[u8]) -> bool {
        match &self.request {
            Request::Udp { port, .. } if *port == from => self.handle_any(received),
            Request::Dns { port, question } if *port == from => {
                match question.read_reply(payload) {
                    Some((id, Reply::Good)) => self.handle_answer(received, id),
                    Some((id, Reply::Bad)) => self.live.answered_badly(id),
                    None => false,
                }
            }
            _ => false,
        }
    }

    fn handle_answer(&mut self, received: Nanos, tag: u16) -> bool {
        let sent = self.live.sent_at(tag);
        let answer = self.live.answered(received, tag);
        if let (Some(sent), Answer::Counted) = (sent, answer) {
            self.live.measured(received.since(sent));
        }
        answer != Answer::Unknown
    }

    /// An answer that does not say to which request: it measures only if there is just one.
    fn handle_any(&mut self, received: Nanos) -> bool {
        if self.live.outstanding() == 1
            && let Some(tag) = self.live.oldest_pending()
        {
            return self.handle_answer(received, tag);
        }
        self.live.answered_any(received) != Answer::Unknown
    }

    fn handle_error(&mut self, now: Nanos, error: &IcmpError<'_>) -> bool {
        let quoted = &error.quoted;
        let tag = match &self.request {
            Request::Echo => Some(quoted.icmp_seq),
            Request::Udp { port, .. } | Request::Dns { port, .. } if *port != quoted.dst_port => {
                None
            }
            // Eight bytes need not hold the id of a query; the ports are the check's own then.
            Request::Dns { .. } if error.payload.len() >= 2 => {
                Some(u16::from_be_bytes([error.payload[0], error.payload[1]]))
            }
            Request::Udp { .. } | Request::Dns { .. } => self.live.oldest_pending(),
        };
        let cause = Cause::Refused { kind: quoted.kind, code: quoted.code };
        match tag.filter(|&tag| self.live.sent_at(tag).is_some()) {
            Some(tag) if error.is_fatal() => self.live.refused(now, tag, cause),
            Some(_) => true,
            None => false,
        }
    }
}

impl Request {
    pub(super) fn new(kind: CheckKind) -> Result<Self, AddError> {
        match kind {
            CheckKind::Icmp => Ok(Self::Echo),
            CheckKind::Udp { payload, .. } if payload.len() > PAYLOAD_MAX => {
                Err(AddError::Payload(payload.len()))
            }
            CheckKind::Udp { port, payload } => Ok(Self::Udp { port, payload: payload.into() }),
            CheckKind::Dns { port, name } => {
                let question = Question::new(&name).map_err(AddError::Name)?;
                Ok(Self::Dns { port, question })
            }
            CheckKind::Tcp { .. } => Err(AddError::WrongPlace),
        }
    }
}

/// Whether a router on the way can have this address.
fn is_unicast(address: IpAddr) -> bool {
    let broadcast = matches!(address, IpAddr::V4(v4) if v4.is_broadcast());
    !(broadcast || address.is_unspecified() || address.is_multicast())
}
