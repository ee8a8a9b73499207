//! One check of the prober: what it asks, and whether a packet answers it.
#![forbid(unsafe_code)]

use std::collections::VecDeque;
use std::net::IpAddr;
use std::time::Duration;

use super::check::WINDOW_MAX;
use super::dns::{QUERY_MAX, Question, Reply};
use super::draw::{Draws, Ends};
use super::prober::AddError;
use super::wire::{self, Body, IcmpError, Incoming, PAYLOAD_MAX, PROBE_MAX};
use super::{Answer, Cause, CheckState, ErrorSeen, Ignore};
use crate::batch::Exit;
use crate::ids::PortId;
use crate::packet::udp;
use crate::policy::CheckKind;
use crate::secret::SecretRng;
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
    /// Evaluates a packet whose ends and number are this check's, or those of what it quotes.
    pub(super) fn handle(
        &mut self,
        received: Nanos,
        port: PortId,
        incoming: &Incoming<'_>,
    ) -> Result<(), Ignore> {
        if port != self.exit.port {
            return Err(Ignore::OtherPort);
        }
        let counts = match incoming.body {
            Body::Error(error) => return self.handle_error(received, incoming.src, &error),
            Body::Echo { ident, seq, data } => self.handle_echo(received, (ident, seq), data),
            Body::Udp { from, payload, .. } => self.handle_udp(received, from, payload),
        };
        if counts { Ok(()) } else { Err(Ignore::Answer) }
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

    fn handle_error(
        &mut self,
        now: Nanos,
        from: IpAddr,
        error: &IcmpError<'_>,
    ) -> Result<(), Ignore> {
        let (tag, is_outstanding) = self.quoted_request(error)?;
        let (kind, code) = (error.quoted.kind, error.quoted.code);
        let seen = ErrorSeen { from, kind, code };
        self.live.saw_error(seen);
        seen.judge(self.ends.target)?;
        if !is_outstanding {
            return Err(Ignore::Stale);
        }
        self.live.refused(now, tag, Cause::Refused { kind, code });
        Ok(())
    }

    /// The tag of the request that an error proves to have seen, and whether it is outstanding.
    fn quoted_request(&self, error: &IcmpError<'_>) -> Result<(u16, bool), Ignore> {
        let quoted = &error.quoted;
        let number = if self.ends.udp { quoted.src_port } else { quoted.icmp_ident };
        let draw = self.draws.of_number(number).ok_or(Ignore::Mismatch)?;
        let ipv4 = self.ends.source.is_ipv4();
        if !ipv4 && error.label != draw.label {
            return Err(Ignore::Mismatch);
        }
        let has_ident =
            |sent: &&Sent| sent.number == number && (!ipv4 || sent.ident == error.ident);
        let Some((port, len)) = self.request.datagram() else {
            let data = error.upper.get(ECHO_HEADER..).unwrap_or_default();
            if data.len() < draw.cookie.len() {
                return Err(Ignore::ShortQuote);
            }
            let of_tag = self.sent.iter().rev().find(|sent| sent.tag == quoted.icmp_seq);
            if data != draw.cookie || !of_tag.iter().all(has_ident) {
                return Err(Ignore::Mismatch);
            }
            return Ok((quoted.icmp_seq, self.live.sent_at(quoted.icmp_seq).is_some()));
        };
        let Some((header, payload)) = error.upper.split_first_chunk::<{ udp::HEADER_LEN }>() else {
            return Err(Ignore::ShortQuote);
        };
        if !ipv4 && payload.len() < len.min(QUOTED_MAX) {
            return Err(Ignore::ShortQuote);
        }
        let sum = u16::from_be_bytes([header[6], header[7]]);
        let seen = |sent: &&Sent| {
            has_ident(sent) && sent.sum == sum && self.request.begins_with(sent, payload)
        };
        let is_outstanding = |sent: &&Sent| self.live.sent_at(sent.tag).is_some();
        let all = || self.sent.iter().filter(|_| quoted.dst_port == port).filter(seen);
        let outstanding = all().find(is_outstanding).map(|sent| (sent.tag, true));
        outstanding.or(all().next().map(|sent| (sent.tag, false))).ok_or(Ignore::Mismatch)
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

    /// Destination port and bytes of the payload of its datagrams.
    fn datagram(&self) -> Option<(u16, usize)> {
        match self {
            Self::Echo => None,
            Self::Udp { port, payload } => Some((*port, payload.len())),
            Self::Dns { port, question } => Some((*port, question.query_len())),
        }
    }

    /// Whether the payload of a datagram that was sent begins with these bytes.
    fn begins_with(&self, sent: &Sent, start: &[u8]) -> bool {
        match self {
            Self::Echo => false,
            Self::Udp { payload, .. } => payload.starts_with(start),
            Self::Dns { question, .. } => {
                let mut query = [0; QUERY_MAX];
                question.write_query(sent.tag, sent.case, &mut query).starts_with(start)
            }
        }
    }
}

/// Bytes before the data of an echo.
const ECHO_HEADER: usize = 8;

/// Bytes of a datagram's payload that an ICMPv6 error has room for (RFC 4443, section 2.4 c).
const QUOTED_MAX: usize = PROBE_MAX - 40 - ECHO_HEADER - 40 - udp::HEADER_LEN;
