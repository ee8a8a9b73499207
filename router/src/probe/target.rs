//! One check of the prober: what it asks, and whether a packet answers it.
#![forbid(unsafe_code)]

use std::net::IpAddr;
use std::time::Duration;

use super::dns::{QUERY_MAX, Question, Reply};
use super::prober::AddError;
use super::wire::{self, Body, IcmpError, Incoming, PAYLOAD_MAX};
use super::{Answer, Cause, CheckState, Rng};
use crate::batch::Exit;
use crate::ids::PortId;
use crate::policy::CheckKind;
use crate::time::Nanos;

/// A check and its liveness.
#[derive(Debug)]
pub(super) struct Target {
    pub(super) exit: Exit,
    pub(super) source: IpAddr,
    pub(super) address: IpAddr,
    pub(super) request: Request,
    pub(super) live: CheckState,
    /// Whether it waits to be asked for a request.
    pub(super) queued: bool,
    /// Number of its latest request.
    pub(super) tag: u16,
    pub(super) phase: Duration,
}

/// What it asks.
#[derive(Debug)]
pub(super) enum Request {
    /// ICMP or ICMPv6 echo with data that nobody guesses.
    Echo { cookie: [u8; 8] },
    /// A datagram.
    Udp { port: u16, payload: Box<[u8]> },
    /// A DNS query.
    Dns { port: u16, question: Question },
}

impl Target {
    /// Whether the packet matches an outstanding or remembered request, its identifier or source
    /// port and its own address having been found right.
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
            _ if incoming.src != self.address => false,
            Body::Echo { seq, data, .. } => self.handle_echo(received, seq, data),
            Body::Udp { from, payload, .. } => self.handle_udp(received, from, payload),
        }
    }

    /// The tag of the next request: counting up, except for DNS, whose ids should not be guessed.
    pub(super) fn take_tag(&mut self, fresh: u16) -> u16 {
        self.tag = match self.request {
            Request::Dns { .. } => fresh,
            _ => self.tag.wrapping_add(1),
        };
        while self.live.sent_at(self.tag).is_some() {
            self.tag = self.tag.wrapping_add(1);
        }
        self.tag
    }

    /// Writes the request with this tag; returns its length.
    pub(super) fn write(&self, buffer: &mut [u8], ident: u16, source_port: u16, tag: u16) -> usize {
        let pair = (self.source, self.address);
        match &self.request {
            Request::Echo { cookie } => wire::write_echo(buffer, pair, (ident, tag), cookie),
            Request::Udp { port, payload } => {
                wire::write_udp(buffer, pair, (source_port, *port), payload)
            }
            Request::Dns { port, question } => {
                let mut query = [0; QUERY_MAX];
                let query = question.write_query(tag, &mut query);
                wire::write_udp(buffer, pair, (source_port, *port), query)
            }
        }
    }

    fn handle_echo(&mut self, received: Nanos, seq: u16, data: &[u8]) -> bool {
        match self.request {
            Request::Echo { cookie } if cookie == data => self.handle_answer(received, seq),
            _ => false,
        }
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
        if quoted.dst != self.address {
            return false;
        }
        let tag = match &self.request {
            Request::Echo { .. } => Some(quoted.icmp_seq),
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
    /// `rng` gives the data of echo requests.
    pub(super) fn new(kind: CheckKind, rng: &mut Rng) -> Result<Self, AddError> {
        match kind {
            CheckKind::Icmp => Ok(Self::Echo { cookie: rng.next_u64().to_be_bytes() }),
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
