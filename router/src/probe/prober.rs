//! The prober: many checks, one clock, one place where packets leave and come back.
#![forbid(unsafe_code)]

use std::collections::{HashSet, VecDeque};
use std::net::IpAddr;
use std::time::Duration;

use super::dns::{NameError, Question, Reply};
use super::timers::Timers;
use super::wire::{self, Body, IcmpError, Incoming, PAYLOAD_MAX, PROBE_MAX, Quoted, QuotedBody};
use super::{
    Answer, Cause, CheckEvent, CheckId, CheckSpec, CheckStats, Liveness, Rng, Rule, SOURCE_PORTS,
};
use crate::config::model::CheckKind;
use crate::port::PortId;
use crate::time::Nanos;

/// Sends ICMP, UDP and DNS checks and judges what comes back, for up to [`MAX_CHECKS`] of them.
///
/// After every `handle_*`, `add` or `set_carrier` call [`Self::poll_transmit`] and
/// [`Self::poll_event`] until `None`, then wait until [`Self::poll_timeout`] or for a packet.
#[derive(Debug)]
pub struct Prober {
    slots: Vec<Slot>,
    free: VecDeque<u32>,
    dead_ports: HashSet<PortId>,
    timers: Timers,
    ready: VecDeque<u32>,
    events: VecDeque<CheckEvent>,
    rng: Rng,
    /// Slot 0's ICMP identifier; the others' follow.
    ident: u16,
    /// Slot 0's place in the range of source ports; the others' follow.
    first_port: u16,
    added: u32,
    stats: ProberStats,
    buffer: Box<[u8; PROBE_MAX]>,
}

/// A request to send out of a port, without a route lookup.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Transmit<'a> {
    /// The port.
    pub port: PortId,
    /// The packet, IP header first.
    pub packet: &'a [u8],
}

/// Why a check cannot be made.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum AddError {
    /// Source and target are of different families.
    #[error("the source {source_addr} and the target {target} are of different families")]
    Family {
        /// Source.
        source_addr: IpAddr,
        /// Target.
        target: IpAddr,
    },
    /// There are [`MAX_CHECKS`] already.
    #[error("there are {MAX_CHECKS} checks already, and each needs a source port of its own")]
    Full,
    /// The DNS name cannot be asked for.
    #[error("the DNS name {0}")]
    Name(NameError),
    /// The source is not one of the host's addresses (TCP checks).
    #[error("the source {0} is not an address of this router")]
    NotOurs(IpAddr),
    /// The payload does not fit.
    #[error("a payload of {0} bytes, but only {PAYLOAD_MAX} fit")]
    Payload(usize),
    /// A TCP check: the host stack does those ([`crate::host::check::TcpChecker`]), not the
    /// prober; or the other way round.
    #[error(
        "this kind of check is done elsewhere: TCP by the host stack, the others by the prober"
    )]
    WrongPlace,
}

/// Counters of the whole prober.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct ProberStats {
    /// Packets to a probe's address and identifier or port that did not match it: another port,
    /// source, payload or question; or nothing outstanding.
    pub stray: u64,
    /// The longest a due verdict waited until it was noticed.
    pub lateness_max: Duration,
}

/// One for each UDP source port of [`SOURCE_PORTS`].
pub const MAX_CHECKS: usize = 16_384;

#[derive(Debug)]
struct Slot {
    generation: u32,
    check: Option<Box<Check>>,
}

#[derive(Debug)]
struct Check {
    port: PortId,
    source: IpAddr,
    target: IpAddr,
    request: Request,
    live: Liveness,
    /// Whether it waits in [`Prober::ready`].
    queued: bool,
    /// Number of its next request.
    next_tag: u16,
    phase: Duration,
}

#[derive(Debug)]
enum Request {
    Echo { cookie: [u8; 8] },
    Udp { port: u16, payload: Box<[u8]> },
    Dns { port: u16, question: Question },
}

impl Prober {
    /// Identifiers, source ports and cookies follow from `seed`.
    pub fn new(seed: u64) -> Self {
        let mut rng = Rng::new(seed);
        Self {
            slots: Vec::new(),
            free: VecDeque::new(),
            dead_ports: HashSet::new(),
            timers: Timers::default(),
            ready: VecDeque::new(),
            events: VecDeque::new(),
            ident: rng.next_u16(),
            first_port: rng.next_u16() % MAX_CHECKS as u16,
            rng,
            added: 0,
            stats: ProberStats::default(),
            buffer: Box::new([0; PROBE_MAX]),
        }
    }

    /// Starts a check. Its first request is due at once (checks added together: 10 µs apart), the
    /// second within an interval, so that many checks spread evenly over it.
    pub fn add(&mut self, now: Nanos, spec: CheckSpec) -> Result<CheckId, AddError> {
        let CheckSpec { port, source, target, interval, fall, rise, initial_up, .. } = spec;
        if source.is_ipv4() != target.is_ipv4() {
            return Err(AddError::Family { source_addr: source, target });
        }
        let request = Request::new(spec.kind, &mut self.rng)?;
        let slot = self.take_slot()?;
        let order = self.added;
        self.added = self.added.wrapping_add(1);
        let phase = phase_of(order, interval);
        let start = now + start_delay(order, interval);
        let dead = self.dead_ports.contains(&port);
        let rule = Rule { interval, fall, rise, initial_up: initial_up && !dead };
        let live = Liveness::new(now, start, phase, rule);
        let next_tag = self.rng.next_u16();
        let check = Check { port, source, target, request, live, queued: false, next_tag, phase };
        self.slots[slot as usize].check = Some(Box::new(check));
        if dead {
            self.with(slot, |check| check.live.suspend(now));
        } else {
            self.settle(slot);
        }
        Ok(self.id_of(slot))
    }

    /// Ends a check; its outstanding requests are forgotten, its events not yet taken remain.
    pub fn remove(&mut self, id: CheckId) {
        if let Some(slot) = self.slot_of(id) {
            let entry = &mut self.slots[slot as usize];
            entry.check = None;
            entry.generation = entry.generation.wrapping_add(1);
            self.timers.disarm(slot);
            self.ready.retain(|&waiting| waiting != slot);
            self.free.push_back(slot);
        }
    }

    /// A port's carrier came or went. Without it every check on that port is down at once and
    /// nothing is sent; with it they start anew at once and have to pass `rise`. Ports have
    /// carrier until told otherwise. Work bounded by the number of checks.
    pub fn set_carrier(&mut self, now: Nanos, port: PortId, up: bool) {
        let changed = if up { self.dead_ports.remove(&port) } else { self.dead_ports.insert(port) };
        if !changed {
            return;
        }
        let mut order = 0;
        for slot in 0..self.slots.len() as u32 {
            let Some(check) = self.check_mut(slot).filter(|check| check.port == port) else {
                continue;
            };
            if up {
                let start = now + start_delay(order, check.live.rule().interval);
                check.live.resume(start, check.phase);
                order += 1;
            } else {
                check.live.suspend(now);
            }
            self.settle(slot);
        }
    }

    /// A packet to one of the router's addresses, when it was received (by the worker, not when it
    /// was taken from the lane) and by which port. `true` if it was meant for the prober: the
    /// answer to a probe, or an error about one, whether it counted or not.
    pub fn handle_packet(&mut self, received: Nanos, port: PortId, packet: &[u8]) -> bool {
        let Some(incoming) = wire::read(packet) else { return false };
        let Some(slot) = self.slot_for(&incoming) else { return false };
        let Some(check) = self.check_mut(slot) else { return false };
        if !check.handle(received, port, &incoming) {
            self.stats.stray += 1;
        }
        self.settle(slot);
        true
    }

    /// The clock moved. Everything received before `now` has to be given to
    /// [`Self::handle_packet`] first: an answer received before a deadline then prevents the
    /// verdict, however late this is called. At most 4,096 checks a call; the rest keep
    /// [`Self::poll_timeout`] in the past.
    pub fn handle_timeout(&mut self, now: Nanos) {
        for index in 0..self.ready.len() {
            let slot = self.ready[index];
            self.with(slot, |check| check.live.handle_timeout(now));
        }
        for _ in 0..TIMERS_PER_CALL {
            let Some(slot) = self.timers.pop_due(now) else { break };
            let Some(check) = self.check_mut(slot) else { continue };
            check.live.handle_timeout(now);
            if check.live.send_due(now) && !check.queued {
                check.queued = true;
                self.ready.push_back(slot);
            }
            self.settle(slot);
        }
    }

    /// When to call [`Self::handle_timeout`] at the latest. Changes with every call that takes
    /// `&mut self`.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Nanos> {
        self.timers.next()
    }

    /// The next request to send; call until `None`. The request counts as sent at `now`.
    #[must_use]
    pub fn poll_transmit(&mut self, now: Nanos) -> Option<Transmit<'_>> {
        loop {
            let slot = self.ready.pop_front()?;
            let source_port = self.source_port(slot);
            let ident = self.ident.wrapping_add(slot as u16);
            let fresh = self.rng.next_u16();
            let Some(check) = self.slots[slot as usize].check.as_mut() else { continue };
            check.queued = false;
            if !check.live.send_due(now) {
                self.settle(slot);
                continue;
            }
            let tag = check.take_tag(fresh);
            let len = check.write(&mut self.buffer[..], ident, source_port, tag);
            let port = check.port;
            check.live.sent(now, tag);
            self.settle(slot);
            return Some(Transmit { port, packet: &self.buffer[..len] });
        }
    }

    /// The next change of mind; call until `None`.
    #[must_use]
    pub fn poll_event(&mut self) -> Option<CheckEvent> {
        self.events.pop_front()
    }

    /// What is known about a check; `None` if it was removed.
    pub fn stats(&self, id: CheckId) -> Option<CheckStats> {
        let slot = self.slot_of(id)?;
        self.slots[slot as usize].check.as_ref().map(|check| check.live.stats())
    }

    /// Counters of the whole prober.
    pub fn totals(&self) -> ProberStats {
        self.stats
    }

    fn take_slot(&mut self) -> Result<u32, AddError> {
        if self.slots.len() < MAX_CHECKS {
            self.slots.push(Slot { generation: 0, check: None });
            return Ok(self.slots.len() as u32 - 1);
        }
        self.free.pop_front().ok_or(AddError::Full)
    }

    /// Takes the check's verdicts and arms its timer; after every touch of a check.
    fn settle(&mut self, slot: u32) {
        let id = self.id_of(slot);
        let Some(check) = self.slots[slot as usize].check.as_mut() else { return };
        while let Some(verdict) = check.live.poll_verdict() {
            let late = verdict.t.since(verdict.due);
            self.stats.lateness_max = self.stats.lateness_max.max(late);
            self.events.push_back(CheckEvent {
                check: id,
                t: verdict.t,
                due: verdict.due,
                up: verdict.up,
                cause: verdict.cause,
            });
        }
        let at = if check.queued { check.live.verdict_due() } else { check.live.poll_timeout() };
        self.timers.arm(slot, at);
    }

    fn with(&mut self, slot: u32, act: impl FnOnce(&mut Check)) {
        if let Some(check) = self.check_mut(slot) {
            act(check);
            self.settle(slot);
        }
    }

    fn check_mut(&mut self, slot: u32) -> Option<&mut Check> {
        self.slots.get_mut(slot as usize)?.check.as_deref_mut()
    }

    /// The check whose identifier or source port the packet bears, if its addresses are right too.
    fn slot_for(&self, incoming: &Incoming<'_>) -> Option<u32> {
        let (slot, source) = match incoming.body {
            Body::Echo { ident, .. } => (self.slot_of_ident(ident), incoming.dst),
            Body::Udp { to, .. } => (self.slot_of_port(to)?, incoming.dst),
            Body::Error { quoted, .. } => match quoted.body {
                QuotedBody::Echo { ident, .. } => (self.slot_of_ident(ident), quoted.src),
                QuotedBody::Udp { from, .. } => (self.slot_of_port(from)?, quoted.src),
            },
        };
        let check = self.slots.get(slot as usize)?.check.as_ref()?;
        let of_udp = matches!(
            incoming.body,
            Body::Udp { .. }
                | Body::Error { quoted: Quoted { body: QuotedBody::Udp { .. }, .. }, .. }
        );
        let kind_fits = of_udp != matches!(check.request, Request::Echo { .. });
        (kind_fits && check.source == source && incoming.dst == source).then_some(slot)
    }

    fn slot_of_ident(&self, ident: u16) -> u32 {
        u32::from(ident.wrapping_sub(self.ident))
    }

    fn slot_of_port(&self, port: u16) -> Option<u32> {
        let place = port.checked_sub(*SOURCE_PORTS.start())?;
        let range = MAX_CHECKS as u16;
        Some(u32::from((place + range - self.first_port) % range))
    }

    fn source_port(&self, slot: u32) -> u16 {
        SOURCE_PORTS.start() + (self.first_port + slot as u16) % MAX_CHECKS as u16
    }

    fn id_of(&self, slot: u32) -> CheckId {
        CheckId(self.slots[slot as usize].generation << SLOT_BITS | slot)
    }

    fn slot_of(&self, id: CheckId) -> Option<u32> {
        let slot = id.0 & (MAX_CHECKS as u32 - 1);
        let entry = self.slots.get(slot as usize)?;
        (entry.check.is_some() && self.id_of(slot) == id).then_some(slot)
    }
}

impl Check {
    /// Whether the packet matched, its identifier and own address having been found right.
    fn handle(&mut self, received: Nanos, port: PortId, incoming: &Incoming<'_>) -> bool {
        if port != self.port {
            return false;
        }
        match incoming.body {
            Body::Error { error, quoted } => {
                plausible(incoming.src) && self.handle_error(received, error, &quoted)
            }
            _ if incoming.src != self.target => false,
            Body::Echo { seq, data, .. } => self.handle_echo(received, seq, data),
            Body::Udp { from, payload, .. } => self.handle_udp(received, from, payload),
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
            Request::Udp { port, .. } if *port == from => {
                let certain = self.live.outstanding() == 1;
                let sent = self.live.oldest_pending().and_then(|tag| self.live.sent_at(tag));
                let answer = self.live.answered_any(received);
                if let (true, Some(sent), Answer::Counted) = (certain, sent, answer) {
                    self.live.measured(received.since(sent));
                }
                answer != Answer::Unknown
            }
            Request::Dns { port, question } if *port == from => {
                match question.read_reply(payload) {
                    Some((id, Reply::Good)) => self.handle_answer(received, id),
                    Some((id, Reply::Bad)) => self.live.answered_badly(received, id),
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

    fn handle_error(&mut self, now: Nanos, error: IcmpError, quoted: &Quoted<'_>) -> bool {
        if quoted.dst != self.target {
            return false;
        }
        let tag = match (&self.request, quoted.body) {
            (Request::Echo { .. }, QuotedBody::Echo { seq, .. }) => Some(seq),
            (Request::Udp { port, .. }, QuotedBody::Udp { to, .. }) if *port == to => {
                self.live.oldest_pending()
            }
            (Request::Dns { port, .. }, QuotedBody::Udp { to, payload, .. }) if *port == to => {
                match payload {
                    [high, low, ..] => Some(u16::from_be_bytes([*high, *low])),
                    _ => self.live.oldest_pending(),
                }
            }
            _ => None,
        };
        let cause = Cause::Refused { kind: error.kind, code: error.code };
        match tag.filter(|&tag| self.live.sent_at(tag).is_some()) {
            Some(tag) if error.fatal => self.live.refused(now, tag, cause),
            Some(_) => true,
            None => false,
        }
    }

    /// The tag of the next request: counting up, except for DNS, whose ids should not be guessed.
    fn take_tag(&mut self, fresh: u16) -> u16 {
        if matches!(self.request, Request::Dns { .. }) {
            self.next_tag = fresh;
            while self.live.sent_at(self.next_tag).is_some() {
                self.next_tag = self.next_tag.wrapping_add(1);
            }
            return self.next_tag;
        }
        self.next_tag = self.next_tag.wrapping_add(1);
        self.next_tag
    }

    fn write(&self, buffer: &mut [u8], ident: u16, source_port: u16, tag: u16) -> usize {
        let pair = (self.source, self.target);
        match &self.request {
            Request::Echo { cookie } => wire::write_echo(buffer, pair, (ident, tag), cookie),
            Request::Udp { port, payload } => {
                wire::write_udp(buffer, pair, (source_port, *port), payload.len(), |bytes| {
                    bytes.copy_from_slice(payload);
                })
            }
            Request::Dns { port, question } => {
                let len = question.query_len();
                wire::write_udp(buffer, pair, (source_port, *port), len, |bytes| {
                    question.write_query(tag, bytes);
                })
            }
        }
    }
}

impl Request {
    fn new(kind: CheckKind, rng: &mut Rng) -> Result<Self, AddError> {
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
fn plausible(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => !(v4.is_unspecified() || v4.is_multicast() || v4.is_broadcast()),
        IpAddr::V6(v6) => !(v6.is_unspecified() || v6.is_multicast()),
    }
}

/// When the second request of the `order`th check is due after the first: golden-ratio steps, which
/// spread any number of checks over the interval (at least a 64th of it after the first).
pub(crate) fn phase_of(order: u32, interval: Duration) -> Duration {
    let turn = order.wrapping_add(1).wrapping_mul(0x9e37_79b9) >> 8;
    let interval = u64::try_from(interval.as_nanos()).unwrap_or(u64::MAX);
    let part = (u128::from(interval) * u128::from(turn)) >> 24;
    Duration::from_nanos((part as u64).max(interval / 64))
}

/// How long the first request of the `order`th of several checks waits.
pub(crate) fn start_delay(order: u32, interval: Duration) -> Duration {
    Duration::from_micros(u64::from(order % 1_024) * 10).min(interval / 2)
}

const TIMERS_PER_CALL: usize = 4_096;

const SLOT_BITS: u32 = MAX_CHECKS.trailing_zeros();
