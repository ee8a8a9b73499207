//! From news to down-reasons: carrier, checks and damping, for every adjacency and leg. Sans-IO.
//!
//! What is here stands between a fault and the byte that moves packets away from it: when a
//! `handle_*` call returns, every byte that the news calls for is stored.
#![forbid(unsafe_code)]

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use nearhop_fib::{AdjacencyId, Handle, PathId, Reason, Reasons};

use super::damping::Damping;
use crate::ids::PortId;
use crate::kernel::carrier::LinkEvent;
use crate::policy::{CheckKind, Combine};
use crate::probe::{AddError, Cause, CheckEvent, CheckId, CheckSpec, CheckStats, Prober, Transmit};
use crate::time::Nanos;

/// Watches ports and legs, and owns their reasons carrier, probe, health and damped.
pub struct Monitor {
    fib: Handle,
    changes: Arc<AtomicU64>,
    prober: Prober,
    ports: BTreeMap<PortId, PortState>,
    legs: BTreeMap<PathId, Leg>,
    checks: HashMap<CheckId, (PathId, usize)>,
    holds: BTreeSet<(Nanos, PathId)>,
    news: VecDeque<CarrierNews>,
    events: VecDeque<MonitorEvent>,
    clock: Option<fn() -> Nanos>,
}

/// One way to a site, as it is to be watched.
#[derive(Clone, Debug)]
pub struct LegSpec {
    /// The path whose byte is kept.
    pub path: PathId,
    /// The port it leaves by.
    pub port: PortId,
    /// What has to be answered; empty: only the carrier counts.
    pub checks: Vec<CheckSpec>,
    /// How several checks make one verdict.
    pub combine: Combine,
    /// Why none of its checks can be done, if so: it stays down then.
    pub impossible: Option<String>,
}

impl LegSpec {
    /// What its path is down for before its checks have said anything.
    pub fn initial_reasons(&self) -> Reasons {
        if self.impossible.is_some() {
            return Reasons::NONE.with(Reason::Health);
        }
        let failing = self.checks.iter().filter(|check| !check.initial_up);
        let well = match self.combine {
            Combine::All => failing.clone().next().is_none(),
            Combine::Any => self.checks.is_empty() || self.checks.iter().any(|c| c.initial_up),
        };
        if well {
            return Reasons::NONE;
        }
        failing.fold(Reasons::NONE, |reasons, check| reasons.with(reason_of(&check.kind)))
    }
}

/// Something that happened; its bytes are stored already.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct MonitorEvent {
    /// When the news came.
    pub t: Nanos,
    /// When the bytes that it called for were stored; as `t` without [`Monitor::with_clock`].
    pub stored: Nanos,
    /// What it was.
    pub kind: MonitorEventKind,
}

/// What happened.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum MonitorEventKind {
    /// A port's carrier came or went.
    Carrier {
        /// Which port.
        port: PortId,
        /// Whether it is there now.
        up: bool,
    },
    /// A port's device was deleted, or moved to another namespace; its carrier went before.
    Gone {
        /// Which port.
        port: PortId,
        /// The device's interface index, for the port may have another device by now.
        ifindex: u32,
    },
    /// What a port's device is like: said when it is first seen, and after each change.
    Link {
        /// Which port.
        port: PortId,
        /// The device's interface index.
        ifindex: u32,
        /// Its name.
        name: String,
        /// Bytes of the largest packet it takes.
        mtu: u32,
    },
    /// A leg's checks pass, but it flapped and has to wait.
    Damped {
        /// Which leg.
        path: PathId,
        /// For how long.
        hold: Duration,
    },
    /// A leg went up or down.
    Leg {
        /// Which leg.
        path: PathId,
        /// Whether packets go there now.
        up: bool,
        /// What decided it.
        reason: String,
    },
}

struct PortState {
    adjacency: AdjacencyId,
    carrier: bool,
}

struct Leg {
    port: PortId,
    checks: Vec<Check>,
    combine: Combine,
    /// It has checks that cannot be done.
    impossible: bool,
    damping: Damping,
    /// Waits until then, although it is well.
    hold_until: Option<Nanos>,
    /// As last told.
    up: bool,
    /// Whether it was told yet.
    told: bool,
}

/// Carrier that came or went, whose legs are being gone through: their adjacency's byte has moved
/// their packets already.
struct CarrierNews {
    t: Nanos,
    stored: Nanos,
    port: PortId,
    up: bool,
    /// Legs below this path are done.
    next: PathId,
}

struct Check {
    /// `None` for a TCP check, which the host stack does.
    id: Option<CheckId>,
    reason: Reason,
    up: bool,
    known: bool,
}

impl Monitor {
    /// Watches nothing yet. Stores reasons through `fib` and raises `changes` after each.
    pub fn new(fib: Handle, changes: Arc<AtomicU64>, seed: u64) -> Self {
        Self {
            fib,
            changes,
            prober: Prober::new(seed),
            ports: BTreeMap::new(),
            legs: BTreeMap::new(),
            checks: HashMap::new(),
            holds: BTreeSet::new(),
            news: VecDeque::new(),
            events: VecDeque::new(),
            clock: None,
        }
    }

    /// Looks at `clock` to tell when bytes were stored.
    #[must_use]
    pub fn with_clock(self, clock: fn() -> Nanos) -> Self {
        Self { clock: Some(clock), ..self }
    }

    /// Watches a port from now on; its adjacency is down until there is carrier.
    pub fn add_port(&mut self, port: PortId, adjacency: AdjacencyId) {
        self.fib.set_adjacency_down(adjacency, Reason::Carrier);
        self.ports.insert(port, PortState { adjacency, carrier: false });
        self.prober.set_carrier(Nanos::ZERO, port, false);
        self.changed();
    }

    /// Forgets a port; its legs were removed before.
    pub fn remove_port(&mut self, port: PortId) {
        self.ports.remove(&port);
        // Another may get its number.
        self.news.retain(|news| news.port != port);
        // To the prober, ports have carrier until told otherwise.
        self.prober.set_carrier(Nanos::ZERO, port, true);
    }

    /// Watches a leg from now on. Its path was made down for what its checks have not shown yet
    /// ([`LegSpec::initial_reasons`]). One that is watched already gets these checks instead of its own,
    /// which begin as its own ended; its flaps are not forgotten.
    ///
    /// # Errors
    /// A check that cannot be done. A new leg is not watched then, another as before.
    pub fn add_leg(&mut self, now: Nanos, mut spec: LegSpec) -> Result<(), AddError> {
        if let Some(leg) = self.legs.get(&spec.path) {
            let well = leg.is_well();
            spec.checks.iter_mut().for_each(|check| check.initial_up = well);
        }
        let checks = self.add_checks(now, spec.path, spec.checks)?;
        let leg = match self.legs.remove(&spec.path) {
            Some(leg) => {
                self.forget_checks(&leg.checks);
                let (port, combine) = (spec.port, spec.combine);
                Leg { port, checks, combine, impossible: spec.impossible.is_some(), ..leg }
            }
            None => Leg {
                port: spec.port,
                checks,
                combine: spec.combine,
                impossible: spec.impossible.is_some(),
                damping: Damping::default(),
                hold_until: None,
                up: false,
                told: false,
            },
        };
        self.legs.insert(spec.path, leg);
        self.judge(now, None, spec.path, spec.impossible.as_deref().unwrap_or("initial"));
        self.settle();
        Ok(())
    }

    /// Forgets a leg; no group names its path any more.
    pub fn remove_leg(&mut self, path: PathId) {
        if let Some(leg) = self.legs.remove(&path) {
            self.forget_checks(&leg.checks);
            if let Some(until) = leg.hold_until {
                self.holds.remove(&(until, path));
                // Nobody else would ever clear it, should the path be watched again.
                self.fib.clear_path_down(path, Reason::Damped);
            }
        }
    }

    /// A port's carrier is there or not. Repeating it does nothing. Moves its packets at once,
    /// however many legs it has; of these it tells of [`LEGS_PER_TURN`], and of the rest in
    /// [`Self::handle_timeout`].
    pub fn handle_carrier(&mut self, now: Nanos, port: PortId, up: bool) {
        if self.ports.get(&port).is_none_or(|state| state.carrier == up) {
            return;
        }
        // Legs hear of each change in turn: first of the last one, where they have not yet.
        while self.news.iter().any(|news| news.port == port) {
            self.spread_news();
        }
        let Some(state) = self.ports.get_mut(&port) else { return };
        state.carrier = up;
        let adjacency = state.adjacency;
        if up {
            let held = self.flapping(port);
            self.push(now, now, MonitorEventKind::Carrier { port, up });
            for path in held {
                self.hold(now, path);
            }
            self.fib.clear_adjacency_down(adjacency, Reason::Carrier);
            self.changed();
        } else {
            self.fib.set_adjacency_down(adjacency, Reason::Carrier);
            self.changed();
            let stored = self.stored(now);
            self.push(now, stored, MonitorEventKind::Carrier { port, up });
        }
        let stored = self.stored(now);
        self.prober.set_carrier(now, port, up);
        self.news.push_back(CarrierNews { t: now, stored, port, up, next: PathId(0) });
        self.spread_news();
        self.settle();
    }

    /// A port's device is gone from its namespace, and its carrier with it.
    pub fn handle_gone(&mut self, now: Nanos, port: PortId, ifindex: u32) {
        self.handle_carrier(now, port, false);
        let stored = self.stored(now);
        self.push(now, stored, MonitorEventKind::Gone { port, ifindex });
    }

    /// What the kernel says of a port's device. No check depends on it: it is only passed on.
    pub fn handle_link(&mut self, now: Nanos, port: PortId, link: &LinkEvent) {
        let LinkEvent { ifindex, name, mtu, .. } = link.clone();
        self.push(now, now, MonitorEventKind::Link { port, ifindex, name, mtu });
    }

    /// A packet that came in by `port` at `received`; `true` if it concerned one of the checks.
    pub fn handle_packet(&mut self, received: Nanos, port: PortId, packet: &[u8]) -> bool {
        let ours = self.prober.handle_packet(received, port, packet);
        self.settle();
        ours
    }

    /// The verdict of a TCP check: number `index` of the leg's checks.
    pub fn handle_tcp_verdict(&mut self, path: PathId, index: usize, event: &CheckEvent) {
        self.check_changed(path, index, event);
        self.settle();
    }

    /// The clock moved. Early or repeated calls do nothing. Every packet received by now has been
    /// handed in before.
    pub fn handle_timeout(&mut self, now: Nanos) {
        self.handle_timeout_unless(now, |_, _| false);
    }

    /// As [`Self::handle_timeout`]; checks of a port are not called silent yet while `unread` says
    /// that packets which it had received by the given time may not have been handed in
    /// ([`Prober::handle_timeout_unless`]).
    pub fn handle_timeout_unless(&mut self, now: Nanos, unread: impl FnMut(PortId, Nanos) -> bool) {
        self.prober.handle_timeout_unless(now, unread);
        self.settle();
        self.spread_news();
        self.end_holds(now);
    }

    /// When to call [`Self::handle_timeout`] next.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Nanos> {
        let hold = self.holds.first().map(|&(at, _)| at);
        let news = self.news.front().map(|news| news.t);
        self.prober.poll_timeout().into_iter().chain(hold).chain(news).min()
    }

    /// Whether legs of a port whose carrier changed have not been told of yet: the next timeout is
    /// then due already, without being late.
    pub fn is_behind(&self) -> bool {
        !self.news.is_empty()
    }

    /// Takes a packet to be sent; call until `None` after every `handle_*`.
    #[must_use]
    pub fn poll_transmit(&mut self, now: Nanos) -> Option<Transmit<'_>> {
        self.prober.poll_transmit(now)
    }

    /// Takes an event; call until `None` after every `handle_*`.
    #[must_use]
    pub fn poll_event(&mut self) -> Option<MonitorEvent> {
        self.events.pop_front()
    }

    /// An operator forgives every leg its flaps; those that wait only for that are used at once.
    pub fn clear_damping(&mut self, now: Nanos) {
        for leg in self.legs.values_mut() {
            leg.damping.clear();
        }
        for (_, path) in std::mem::take(&mut self.holds) {
            self.holds.insert((now, path));
        }
        self.end_holds(now);
    }

    /// How many legs have a check without a first verdict.
    pub fn undecided(&self) -> usize {
        let undecided = |leg: &&Leg| leg.checks.iter().any(|check| !check.known);
        self.legs.values().filter(undecided).count()
    }

    /// What is known of the probes of a leg, in the order of its checks; TCP checks are left out.
    pub fn stats(&self, path: PathId) -> Vec<CheckStats> {
        let checks = self.legs.get(&path).map_or(&[][..], |leg| &leg.checks);
        checks.iter().filter_map(|check| self.prober.stats(check.id?)).collect()
    }

    /// The smoothed round-trip time of each leg whose ICMP or UDP checks know one.
    pub fn round_trips(&self) -> BTreeMap<PathId, Duration> {
        let mut times = BTreeMap::new();
        // By check, for most legs of a large router may have none.
        for (&id, &(path, index)) in &self.checks {
            let check = self.legs.get(&path).and_then(|leg| leg.checks.get(index));
            let is_probe = check.is_some_and(|check| check.reason == Reason::Probe);
            let rtt = self.prober.stats(id).and_then(|stats| stats.rtt_ewma);
            if let Some(rtt) = rtt.filter(|_| is_probe) {
                let least = times.entry(path).or_insert(rtt);
                *least = rtt.min(*least);
            }
        }
        times
    }

    /// Takes the prober's verdicts, as long as there are any.
    fn settle(&mut self) {
        while let Some(event) = self.prober.poll_event() {
            if let Some(&(path, index)) = self.checks.get(&event.check) {
                self.check_changed(path, index, &event);
            }
        }
    }

    fn check_changed(&mut self, path: PathId, index: usize, event: &CheckEvent) {
        let Some(check) = self.legs.get_mut(&path).and_then(|leg| leg.checks.get_mut(index)) else {
            return;
        };
        let reason = check.reason.label();
        check.up = event.up;
        check.known = true;
        // The port's news will come round to this leg.
        if event.cause == Cause::Carrier && self.awaits_news(path) {
            return;
        }
        self.judge(event.t, None, path, &format!("{reason} {}", event.cause.label()));
    }

    fn end_holds(&mut self, now: Nanos) {
        while let Some(&(at, path)) = self.holds.first().filter(|&&(at, _)| at <= now) {
            self.holds.remove(&(at, path));
            if let Some(leg) = self.legs.get_mut(&path) {
                leg.hold_until = None;
                self.fib.clear_path_down(path, Reason::Damped);
                self.changed();
                self.tell(now, None, path, "damping over");
            }
        }
    }

    fn awaits_news(&self, path: PathId) -> bool {
        let port = self.legs.get(&path).map(|leg| leg.port);
        self.news.iter().any(|news| Some(news.port) == port && news.next <= path)
    }

    /// Goes on with the oldest news: looks at [`LEGS_PER_TURN`] legs at most.
    fn spread_news(&mut self) {
        let Some(news) = self.news.front_mut() else { return };
        let (t, stored, port, up) = (news.t, news.stored, news.port, news.up);
        let mut turn = self.legs.range(news.next..).take(LEGS_PER_TURN + 1);
        let mut affected = Vec::with_capacity(LEGS_PER_TURN);
        let seen = turn.by_ref().take(LEGS_PER_TURN);
        affected.extend(seen.filter(|(_, leg)| leg.port == port).map(|(&path, _)| path));
        match turn.next() {
            Some((&path, _)) => news.next = path,
            None => drop(self.news.pop_front()),
        }
        for path in affected {
            self.carrier_changed(t, stored, path, up);
        }
    }

    fn carrier_changed(&mut self, now: Nanos, stored: Nanos, path: PathId, up: bool) {
        let Some(leg) = self.legs.get_mut(&path) else { return };
        if !up {
            for check in &mut leg.checks {
                check.up = false;
                check.known = true;
            }
        }
        self.judge(now, Some(stored), path, "carrier");
    }

    /// The legs of this port that flapped: they wait, from before their adjacency is up again.
    fn flapping(&self, port: PortId) -> Vec<PathId> {
        let waits = |leg: &Leg| leg.port == port && leg.is_well() && !leg.damping.hold().is_zero();
        self.legs.iter().filter(|(_, leg)| waits(leg)).map(|(&path, _)| path).collect()
    }

    /// A leg that is well again waits if it flapped, unless it waits already.
    fn hold(&mut self, now: Nanos, path: PathId) {
        let Some(leg) = self.legs.get_mut(&path) else { return };
        let hold = leg.damping.hold();
        if hold.is_zero() || leg.up || leg.hold_until.is_some() {
            return;
        }
        let until = now + hold;
        leg.hold_until = Some(until);
        self.holds.insert((until, path));
        self.fib.set_path_down(path, Reason::Damped);
        let stored = self.stored(now);
        self.push(now, stored, MonitorEventKind::Damped { path, hold });
    }

    /// Makes a path's byte say what its checks say: worse at once, better after the hold. `stored`:
    /// when its packets were moved, if another byte did that.
    fn judge(&mut self, now: Nanos, stored: Option<Nanos>, path: PathId, why: &str) {
        let Some(leg) = self.legs.get(&path) else { return };
        let well = leg.is_well();
        let carrier = self.ports.get(&leg.port).is_some_and(|port| port.carrier);
        let before = self.fib.path_reasons(path);
        for reason in [Reason::Probe, Reason::Health] {
            if !well && leg.fails(reason) {
                self.fib.set_path_down(path, reason);
            }
        }
        if well && carrier {
            self.hold(now, path);
        }
        let Some(leg) = self.legs.get_mut(&path) else { return };
        for reason in [Reason::Probe, Reason::Health] {
            if well || !leg.fails(reason) {
                self.fib.clear_path_down(path, reason);
            }
        }
        if !(well && carrier)
            && let Some(until) = leg.hold_until.take()
        {
            self.holds.remove(&(until, path));
            self.fib.clear_path_down(path, Reason::Damped);
        }
        if self.fib.path_reasons(path) != before {
            self.changed();
        }
        self.tell(now, stored, path, why);
    }

    /// Tells whether packets go there, if that changed.
    fn tell(&mut self, now: Nanos, stored: Option<Nanos>, path: PathId, why: &str) {
        let Some(leg) = self.legs.get_mut(&path) else { return };
        let carrier = self.ports.get(&leg.port).is_some_and(|port| port.carrier);
        let up = carrier && self.fib.path_reasons(path).is_alive();
        if leg.up == up && leg.told {
            return;
        }
        match (leg.up, up) {
            (true, false) => leg.damping.went_down(now),
            (false, true) => leg.damping.came_up(now),
            _ => {}
        }
        // Down from the start is no news, until there is a verdict.
        let first_silence = !leg.told && !up && leg.checks.iter().any(|check| !check.known);
        leg.up = up;
        if !first_silence {
            leg.told = true;
            let stored = stored.unwrap_or_else(|| self.stored(now));
            self.push(now, stored, MonitorEventKind::Leg { path, up, reason: why.to_owned() });
        }
    }

    fn push(&mut self, t: Nanos, stored: Nanos, kind: MonitorEventKind) {
        self.events.push_back(MonitorEvent { t, stored, kind });
    }

    /// The time, right after a store.
    fn stored(&self, now: Nanos) -> Nanos {
        self.clock.map_or(now, |clock| clock())
    }

    /// All of a leg's checks or none.
    fn add_checks(
        &mut self,
        now: Nanos,
        path: PathId,
        specs: Vec<CheckSpec>,
    ) -> Result<Vec<Check>, AddError> {
        let mut checks = Vec::with_capacity(specs.len());
        for spec in specs {
            let (reason, up) = (reason_of(&spec.kind), spec.initial_up);
            let id = match spec.kind {
                CheckKind::Tcp { .. } => None,
                _ => Some(match self.prober.add(now, spec) {
                    Ok(id) => id,
                    Err(error) => {
                        self.forget_checks(&checks);
                        return Err(error);
                    }
                }),
            };
            checks.push(Check { id, reason, up, known: up });
        }
        for (index, check) in checks.iter().enumerate() {
            if let Some(id) = check.id {
                self.checks.insert(id, (path, index));
            }
        }
        Ok(checks)
    }

    fn forget_checks(&mut self, checks: &[Check]) {
        for id in checks.iter().filter_map(|check| check.id) {
            self.prober.remove(id);
            self.checks.remove(&id);
        }
    }

    /// Lets workers note the first packet on each path again.
    fn changed(&self) {
        self.changes.fetch_add(1, Ordering::Release);
    }
}

impl Leg {
    fn is_well(&self) -> bool {
        match self.combine {
            _ if self.impossible => false,
            Combine::All => self.checks.iter().all(|check| check.up),
            Combine::Any => self.checks.is_empty() || self.checks.iter().any(|check| check.up),
        }
    }

    fn fails(&self, reason: Reason) -> bool {
        (self.impossible && reason == Reason::Health)
            || self.checks.iter().any(|check| check.reason == reason && !check.up)
    }
}

/// The reason that a failing check of this kind sets.
pub fn reason_of(kind: &CheckKind) -> Reason {
    match kind {
        CheckKind::Icmp | CheckKind::Udp { .. } => Reason::Probe,
        CheckKind::Dns { .. } | CheckKind::Tcp { .. } => Reason::Health,
    }
}

/// Legs looked at in one turn of [`Monitor::handle_carrier`] and [`Monitor::handle_timeout`]: a
/// fraction of a millisecond of work, so that a port with ten thousand of them makes no probe late.
pub const LEGS_PER_TURN: usize = 256;

#[cfg(test)]
mod tests;
