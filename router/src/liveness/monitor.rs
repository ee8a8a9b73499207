//! Carrier, checks and damping to down-reasons, for every adjacency and leg. Sans-IO.
//!
//! What is here stands between a fault and the byte that moves packets away from it: when a
//! `handle_*` call returns, every byte that the call requires is stored.
#![forbid(unsafe_code)]

pub mod carrier;
pub(super) mod doubt;
mod judge;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use nearhop_fib::{Handle, PathId, Reason};

use self::carrier::{CarrierChange, PortCarrier};
use self::doubt::{Crowds, Doubt, Doubts};
use super::event::{self, MonitorEvent, of_check};
use super::leg::{Check, Leg, LegSpec, TcpCheckKey, reason_of};
use crate::ids::PortId;
use crate::policy::CheckKind;
use crate::probe::{AddError, Cause, CheckEvent, CheckId, CheckSpec, CheckStats, Prober, Transmit};
use crate::put_back::{self, PutBack};
use crate::time::Nanos;

/// Watches ports and legs, and stores their reasons carrier, probe, health, operator and damped.
pub struct Monitor {
    fib: Handle,
    changes: Arc<AtomicU64>,
    prober: Prober,
    ports: BTreeMap<PortId, PortCarrier>,
    legs: BTreeMap<PathId, Leg>,
    checks: HashMap<CheckId, (PathId, usize)>,
    holds: BTreeSet<(Nanos, PathId)>,
    crowds: Crowds,
    doubts: Doubts,
    spreading: VecDeque<CarrierChange>,
    /// Ports whose carrier [`Self::poll_carrier`] has not reported yet.
    unreported: BTreeSet<PortId>,
    events: VecDeque<MonitorEvent>,
    clock: Option<fn() -> Nanos>,
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
            crowds: Crowds::default(),
            doubts: Doubts::new(),
            spreading: VecDeque::new(),
            unreported: BTreeSet::new(),
            events: VecDeque::new(),
            clock: None,
        }
    }

    /// Looks at `clock` to know when bytes were stored.
    #[must_use]
    pub fn with_clock(self, clock: fn() -> Nanos) -> Self {
        Self { clock: Some(clock), ..self }
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
        let checks = self.add_checks(now, spec.path, std::mem::take(&mut spec.checks))?;
        let leg = match self.legs.remove(&spec.path) {
            Some(leg) => {
                self.forget_checks(&leg.checks);
                self.crowds.remove(leg.crowd);
                let impossible = spec.impossible.is_some();
                let LegSpec { version, exit, combine, crowd, .. } = spec;
                Leg { version, exit, checks, combine, impossible, crowd, ..leg }
            }
            None => Leg::new(&spec, checks),
        };
        self.crowds.add(spec.crowd);
        self.legs.insert(spec.path, leg);
        self.judge(now, None, spec.path, spec.impossible.as_deref().unwrap_or(event::INITIAL));
        self.settle();
        Ok(())
    }

    /// Forgets a leg; no group names its path any more.
    pub fn remove_leg(&mut self, path: PathId) {
        if let Some(leg) = self.legs.remove(&path) {
            self.forget_checks(&leg.checks);
            self.crowds.remove(leg.crowd);
            if let Doubt::Until(until, _) = leg.doubt {
                self.doubts.remove(&(until, path));
            }
            if let Some(until) = leg.hold_until {
                self.holds.remove(&(until, path));
                // Nobody else would ever clear it, should the path be watched again.
                self.fib.clear_path_down(path, Reason::Damped);
            }
        }
    }

    /// A packet that came in by `port` at `received`; `true` if it concerned one of the checks.
    pub fn handle_packet(&mut self, received: Nanos, port: PortId, packet: &[u8]) -> bool {
        let ours = self.prober.handle_packet(received, port, packet);
        self.settle();
        ours
    }

    /// The verdict of a TCP check: number `index` of the leg's checks in this version. One about checks
    /// that were replaced, about whatever had the path before, or from before the port's carrier came or
    /// went, changes nothing.
    pub fn handle_tcp_verdict(&mut self, key: TcpCheckKey, event: &CheckEvent) {
        let Some(leg) = self.legs.get(&key.path) else { return };
        let since = self.ports.get(&leg.exit.port).map_or(Nanos::ZERO, |port| port.since);
        let is_meant = leg.version == key.version && event.t >= since;
        if is_meant || put_back::is(PutBack::OldVerdicts) {
            self.check_changed(key.path, key.index, event);
            self.settle();
        }
    }

    /// BFD has stored that it lost the host of a leg, or has it again.
    pub fn handle_bfd(&mut self, now: Nanos, path: PathId) {
        self.judge(now, None, path, event::BFD);
    }

    /// The clock moved. Early or repeated calls do nothing. Every packet received by now has been
    /// handed in before.
    pub fn handle_timeout(&mut self, now: Nanos) {
        self.handle_timeout_unless(now, |_, _| false);
    }

    /// As [`Self::handle_timeout`]; checks of a port are not called silent yet while `unread` says
    /// that packets which it had received by the given time may not have been handed in
    /// ([`Prober::handle_timeout_unless`]).
    pub fn handle_timeout_unless(
        &mut self,
        now: Nanos,
        mut unread: impl FnMut(PortId, Nanos) -> bool,
    ) {
        self.prober.handle_timeout_unless(now, &mut unread);
        self.settle();
        self.spread();
        self.end_holds(now);
        self.end_doubts(now, unread);
    }

    /// When to call [`Self::handle_timeout`] next.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Nanos> {
        let hold = self.holds.first().map(|&(at, _)| at);
        let spreading = self.spreading.front().map(|change| change.t);
        let doubt = self.doubts.first().map(|&(at, _)| at);
        self.prober.poll_timeout().into_iter().chain(hold).chain(doubt).chain(spreading).min()
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

    /// Takes a port whose carrier came or went since it was last taken, and whether it has carrier, for
    /// whoever does TCP checks; a port that was forgotten has. Call until `None` after every call that
    /// takes `&mut self`.
    #[must_use]
    pub fn poll_carrier(&mut self) -> Option<(PortId, bool)> {
        let port = self.unreported.pop_first()?;
        Some((port, self.ports.get(&port).is_none_or(|state| state.carrier)))
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

    /// An operator disables the site of a leg, or enables it again.
    pub fn set_disabled(&mut self, now: Nanos, path: PathId, disabled: bool) {
        let Some(leg) = self.legs.get_mut(&path) else { return };
        if disabled {
            leg.damping.taken_out();
            self.fib.set_path_down(path, Reason::Operator);
        } else {
            self.fib.clear_path_down(path, Reason::Operator);
        }
        self.changed();
        self.report(now, None, path, event::ENABLED);
    }

    /// How many legs have a check without a first result.
    pub fn undecided(&self) -> usize {
        self.legs.values().filter(|leg| leg.is_undecided()).count()
    }

    /// What is known of the probes of a leg, in the order of its checks; TCP checks are left out.
    pub fn stats(&self, path: PathId) -> Vec<CheckStats> {
        let checks = self.legs.get(&path).map_or(&[][..], |leg| &leg.checks);
        checks.iter().filter_map(|check| self.prober.stats(check.id?)).collect()
    }

    /// The smoothed round-trip time of each leg whose ICMP or UDP checks know one.
    pub fn round_trips(&self) -> BTreeMap<PathId, Duration> {
        // By check, for most legs of a large router may have none.
        let paths: BTreeSet<PathId> = self.checks.values().map(|&(path, _)| path).collect();
        paths.into_iter().filter_map(|path| Some((path, self.round_trip(path)?))).collect()
    }

    /// As [`Self::round_trips`], of one leg.
    pub(super) fn round_trip(&self, path: PathId) -> Option<Duration> {
        let probes = self.legs.get(&path)?.checks.iter().filter(|c| c.reason == Reason::Probe);
        probes.filter_map(|check| self.prober.stats(check.id?)?.rtt_ewma).min()
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
        let reason = check.reason;
        check.up = event.up;
        check.known = true;
        // The port's change has not spread to this leg yet.
        if event.cause == Cause::Carrier && self.is_to_follow(path) {
            return;
        }
        let why = of_check(reason, event.cause);
        if event.cause == Cause::Carrier || !self.doubts(event.t, path, &why) {
            self.judge(event.t, None, path, &why);
        }
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
            let burst = spec.interval * (spec.fall + spec.rise);
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
            checks.push(Check { id, reason, up, known: up, burst });
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
