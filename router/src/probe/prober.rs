//! The prober: many checks, one clock, one place where packets leave and come back.
#![forbid(unsafe_code)]

use std::collections::{HashSet, VecDeque};
use std::net::IpAddr;
use std::time::Duration;

use super::dns::NameError;
use super::draw::{Draws, Ends, Numbers, REDRAW_TRIES};
use super::target::{Request, Target};
use super::wire::{self, Body, PAYLOAD_MAX, PROBE_MAX};
use super::{CheckEvent, CheckId, CheckSpec, CheckState, CheckStats, Ignore, Rule, SOURCE_PORTS};
use crate::batch::Exit;
use crate::ids::PortId;
use crate::policy::CHECKS_MAX;
use crate::secret::SecretRng;
use crate::time::Nanos;
use crate::timers::Timers;

/// Sends ICMP, UDP and DNS checks and judges what comes back, for up to [`CHECKS_MAX`] of them.
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
    rng: SecretRng,
    numbers: Numbers,
    added: u32,
    stats: ProberStats,
    buffer: Box<[u8; PROBE_MAX]>,
}

/// A request to send by an adjacency, without a route lookup.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Transmit<'a> {
    /// The way out.
    pub exit: Exit,
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
    /// There are [`CHECKS_MAX`] already.
    #[error("there are {CHECKS_MAX} checks already")]
    Full,
    /// The DNS name cannot be asked for.
    #[error("the DNS name {0}")]
    Name(NameError),
    /// Other checks of this target use every source port or echo identifier.
    #[error("no source port or echo identifier is left for checks of {0}")]
    NoNumber(IpAddr),
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
    /// Answers and errors about none of the checks.
    pub stray: u64,
    /// The longest a due verdict waited until it was noticed.
    pub lateness_max: Duration,
}
#[derive(Debug)]
struct Slot {
    generation: u32,
    check: Option<Box<Target>>,
}

impl Prober {
    /// Identifiers, source ports and cookies follow from `seed`.
    pub fn new(seed: u64) -> Self {
        Self {
            slots: Vec::new(),
            free: VecDeque::new(),
            dead_ports: HashSet::new(),
            timers: Timers::default(),
            ready: VecDeque::new(),
            events: VecDeque::new(),
            rng: SecretRng::new(seed),
            numbers: Numbers::default(),
            added: 0,
            stats: ProberStats::default(),
            buffer: Box::new([0; PROBE_MAX]),
        }
    }

    /// Starts a check. Its first request is due at once (checks added together: 10 µs apart), the
    /// second within an interval, so that many checks spread evenly over it.
    pub fn add(&mut self, now: Nanos, spec: CheckSpec) -> Result<CheckId, AddError> {
        let CheckSpec { exit, source, target, interval, fall, rise, initial_up, .. } = spec;
        if source.is_ipv4() != target.is_ipv4() {
            return Err(AddError::Family { source_addr: source, target });
        }
        let request = Request::new(spec.kind)?;
        let ends = Ends { source, target, udp: !matches!(request, Request::Echo) };
        let slot = self.take_slot()?;
        let tries = if ends.udp { SOURCE_PORTS_COUNT } else { u16::MAX };
        let Some(draw) = self.numbers.draw(ends, slot, tries, &mut self.rng) else {
            self.free.push_front(slot);
            return Err(AddError::NoNumber(target));
        };
        self.numbers.add_way(ends, exit.port, slot);
        let order = self.added;
        self.added = self.added.wrapping_add(1);
        let phase = phase_of(order, interval);
        let start = now + start_delay(order, interval);
        let dead = self.dead_ports.contains(&exit.port);
        let rule = Rule { interval, fall, rise, initial_up: initial_up && !dead };
        let live = CheckState::new(now, start, phase, rule);
        let (draws, tag) = (Draws::new(now, draw), self.rng.next_u16());
        let sent = VecDeque::new();
        let check = Target { exit, ends, request, draws, live, sent, queued: false, tag, phase };
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
            entry.generation = entry.generation.wrapping_add(1);
            if let Some(Target { ends, exit, draws, .. }) = entry.check.take().as_deref() {
                self.numbers.free(*ends, draws.now.number);
                draws.before.iter().for_each(|draw| self.numbers.free(*ends, draw.number));
                self.numbers.remove_way(*ends, exit.port, slot);
            }
            self.timers.disarm(slot);
            self.ready.retain(|&waiting| waiting != slot);
            self.free.push_back(slot);
        }
    }

    /// A port's carrier came or went. Without it every check on that port is down at once and
    /// nothing is sent; with it they start again at once and have to pass `rise`. Ports have
    /// carrier unless it hears otherwise. Work bounded by the number of checks.
    pub fn set_carrier(&mut self, now: Nanos, port: PortId, up: bool) {
        let changed = if up { self.dead_ports.remove(&port) } else { self.dead_ports.insert(port) };
        if !changed {
            return;
        }
        let mut order = 0;
        for slot in 0..self.slots.len() as u32 {
            let Some(check) = self.check_mut(slot).filter(|check| check.exit.port == port) else {
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
    /// was taken from the lane) and by which port. `true` if it is about one of the checks: an
    /// answer, or an error, whether it counted or not.
    pub fn handle_packet(&mut self, received: Nanos, port: PortId, packet: &[u8]) -> bool {
        let Some(incoming) = wire::read(packet) else { return false };
        let (ends, number) = incoming.ends();
        let of_number = self.numbers.slot(ends, number).filter(|_| ends.source == incoming.dst);
        let slot = of_number.or_else(|| self.numbers.slot_by_way(ends.target, ends.udp, port));
        let Some((slot, check)) = slot.and_then(|slot| Some((slot, self.check_mut(slot)?))) else {
            self.stats.stray += 1;
            return false;
        };
        let outcome = match of_number {
            Some(_) => check.handle(received, port, &incoming),
            None if matches!(incoming.body, Body::Error(_)) => Err(Ignore::Mismatch),
            None => Err(Ignore::Answer),
        };
        if let Err(reason) = outcome {
            check.live.ignore(reason);
            let knows_number = of_number.is_some();
            if knows_number && matches!(reason, Ignore::Answer | Ignore::Mismatch) {
                check.draws.mismatch();
            }
        }
        self.settle(slot);
        true
    }

    /// The clock moved. Everything received before `now` has to be given to
    /// [`Self::handle_packet`] first: an answer received before a deadline then prevents the
    /// verdict, however late this is called. At most 4,096 checks a call; the rest keep
    /// [`Self::poll_timeout`] in the past.
    pub fn handle_timeout(&mut self, now: Nanos) {
        self.turn(now, |check| check.live.handle_timeout(now));
    }

    /// As [`Self::handle_timeout`], on a machine that may be short of CPU: a check that is about to
    /// be called silent is held while its requests are too young for that, because this came late,
    /// and, for at most [`check::HOLD_MAX`](super::check::HOLD_MAX), while `unread` says that
    /// packets which its port had received by the given time may not have been handed in yet.
    pub fn handle_timeout_unless(
        &mut self,
        now: Nanos,
        mut unread: impl FnMut(PortId, Nanos) -> bool,
    ) {
        self.turn(now, |check| {
            check.live.handle_timeout_unless(now, |due| unread(check.exit.port, due));
        });
    }

    fn turn(&mut self, now: Nanos, mut judge: impl FnMut(&mut Target)) {
        for index in 0..self.ready.len() {
            let slot = self.ready[index];
            self.with(slot, &mut judge);
        }
        for _ in 0..TIMERS_PER_CALL {
            let Some(slot) = self.timers.pop_due(now) else { break };
            let Some(check) = self.check_mut(slot) else { continue };
            judge(check);
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
            let Some(check) = self.slots[slot as usize].check.as_mut() else { continue };
            check.queued = false;
            if !check.live.send_due(now) {
                self.settle(slot);
                continue;
            }
            redraw(now, slot, check, &mut self.numbers, &mut self.rng);
            let (tag, len) = check.write(&mut self.buffer[..], &mut self.rng);
            let exit = check.exit;
            check.live.sent(now, tag);
            self.settle(slot);
            return Some(Transmit { exit, packet: &self.buffer[..len] });
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

    #[cfg(test)]
    pub(super) fn numbers_in_use(&self) -> usize {
        self.numbers.in_use()
    }

    /// Counters of the whole prober.
    pub fn totals(&self) -> ProberStats {
        self.stats
    }

    fn take_slot(&mut self) -> Result<u32, AddError> {
        if self.slots.len() < CHECKS_MAX {
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

    fn with(&mut self, slot: u32, act: impl FnOnce(&mut Target)) {
        if let Some(check) = self.check_mut(slot) {
            act(check);
            self.settle(slot);
        }
    }

    fn check_mut(&mut self, slot: u32) -> Option<&mut Target> {
        self.slots.get_mut(slot as usize)?.check.as_deref_mut()
    }

    fn id_of(&self, slot: u32) -> CheckId {
        CheckId(self.slots[slot as usize].generation << SLOT_BITS | slot)
    }

    fn slot_of(&self, id: CheckId) -> Option<u32> {
        let slot = id.0 & (CHECKS_MAX as u32 - 1);
        let entry = self.slots.get(slot as usize)?;
        (entry.check.is_some() && self.id_of(slot) == id).then_some(slot)
    }
}

/// Draws again for a check that is about to send, if it is time, and frees the number that no answer
/// comes to any more.
fn redraw(now: Nanos, slot: u32, check: &mut Target, numbers: &mut Numbers, rng: &mut SecretRng) {
    if let Some(old) = check.draws.take_old(now, check.live.rule().budget()) {
        numbers.free(check.ends, old.number);
    }
    if check.draws.is_due(now) {
        let draw = numbers.draw(check.ends, slot, REDRAW_TRIES, rng);
        check.draws.replace(now, draw);
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

const SOURCE_PORTS_COUNT: u16 = *SOURCE_PORTS.end() - *SOURCE_PORTS.start() + 1;

const SLOT_BITS: u32 = CHECKS_MAX.trailing_zeros();
