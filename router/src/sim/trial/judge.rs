//! Checks the invariants of a trial.
#![forbid(unsafe_code)]

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::config::site_name;
use super::moves::FlowMove;
use super::oracle::Oracle;
use super::world::World;
use super::{Breach, Invariant, TransientLoop};
use crate::event::EventKind;
use crate::sim::{Arrival, Flow, FlowId, NodeEvent, Revisit};
use crate::time::Nanos;

/// Counts what was checked, and collects what did not hold.
pub(super) struct Judge {
    pub(super) spoilt: Option<Invariant>,
    pub(super) checked: BTreeMap<Invariant, u64>,
    pub(super) breaches: Vec<Breach>,
}

/// The sites that may serve each client, by the oracle.
pub(super) type Expected = Vec<BTreeSet<String>>;

impl Judge {
    pub(super) fn new(spoilt: Option<Invariant>) -> Self {
        let checked = Invariant::ALL.map(|invariant| (invariant, 0)).into();
        Self { spoilt, checked, breaches: Vec::new() }
    }

    pub(super) fn expected(&self, world: &World) -> Expected {
        let oracle = Oracle::new(world, self.spoilt == Some(Invariant::Site));
        (0..world.layout.clients.len()).map(|client| oracle.sites(client)).collect()
    }

    /// Checks every packet that was sent from `since` on, once the budget is over; the last ones,
    /// which may still be on their way, are left out.
    pub(super) fn converged(&mut self, world: &World, since: Nanos, expected: &Expected) {
        let until = world.net.now() - IN_FLIGHT;
        for (id, flow) in world.net.flows().iter().enumerate() {
            let sent = flow.sent.iter().filter(|t| (since..until).contains(t)).count() as u64;
            let arrivals = flow.arrivals.iter().filter(|one| flow.sent[one.seq] >= since);
            let got: BTreeSet<&str> = arrivals.map(|one| &*one.site).collect();
            let expected = &expected[flow.client];
            self.check(Invariant::Site, 1, || wrong_site(flow, &got, expected));
            if !expected.is_empty() {
                let lost = flow.lost(since, until);
                self.check(Invariant::BlackHole, sent, || {
                    (lost > 0)
                        .then(|| format!("{lost} of {sent} packets of {} were lost", name(flow)))
                });
            }
            let again = |one: &&Revisit| one.flow == FlowId(id) && one.t >= since;
            let first = world.net.revisits().iter().find(again);
            self.check(Invariant::Loop, sent, || {
                first.map(|at| format!("a packet of {} reached r{} twice", name(flow), at.node))
            });
        }
    }

    /// Checks what holds at any time.
    pub(super) fn always(&mut self, world: &World, since: Nanos) {
        self.causes(world);
        self.alarms(world);
        let (steps, delivered) = (world.net.steps(), world.net.delivered());
        let ms = world.net.now().since(since).as_millis() as u64;
        let idle = STEPS_PER_MS * ms * world.layout.routers() as u64;
        let bound = if self.spoilt == Some(Invariant::Work) { 0 } else { delivered + idle };
        self.check(Invariant::Work, steps, || {
            (steps > bound).then(|| format!("{steps} steps, expected at most {bound}"))
        });
        for router in 0..world.layout.routers() {
            let counters = world.net.node(router).counters();
            let ended: u64 = counters.verdicts.iter().sum();
            let spoilt = u64::from(self.spoilt == Some(Invariant::Account));
            let begun = counters.received + counters.originated + counters.split + spoilt;
            self.check(Invariant::Account, begun, || {
                let what = format!(
                    "r{router}: {begun} packets came in or were made, {ended} verdicts were counted"
                );
                (begun != ended).then_some(what)
            });
        }
    }

    /// Checks that no leg to a site was called down before anything failed that can lose packets.
    fn alarms(&mut self, world: &World) {
        let (since, until) = match self.spoilt {
            Some(Invariant::Alarm) => (Nanos::ZERO, world.net.now()),
            _ => (world.warm_since, world.lossy_since.unwrap_or_else(|| world.net.now())),
        };
        let legs = (0..world.layout.routers()).map(|node| world.net.node(node).control().legs());
        let legs: usize = legs.map(Iterator::count).sum();
        self.check(Invariant::Alarm, legs as u64, || None);
        for one in world.net.events().iter().filter(|one| (since..until).contains(&one.t)) {
            let EventKind::Site { site, family, up, reason, .. } = &one.kind else { continue };
            // A neighbour whose worker stalls answers nobody.
            if !(0..world.layout.sites.len()).any(|index| site_name(index) == *site) {
                continue;
            }
            self.check(Invariant::Alarm, 0, || {
                let (node, t, family) = (one.node, one.t, family.label());
                let what = || format!("r{node} calls {site}/{family} down at {t}: {reason}");
                (!up).then(what)
            });
        }
    }

    /// Checks that for each flow that moved to another site, the router at which the two trails
    /// part emitted a `select` event that names a member on one of them.
    fn causes(&mut self, world: &World) {
        let reported: &[NodeEvent] = match self.spoilt {
            Some(Invariant::Cause) => &[],
            _ => world.net.events(),
        };
        for (id, flow) in world.net.flows().iter().enumerate() {
            let whole = |one: &&Arrival| world.net.trail(FlowId(id), one.seq).is_some();
            let arrivals: Vec<&Arrival> = flow.arrivals.iter().filter(whole).collect();
            for pair in arrivals.windows(2).filter(|pair| pair[0].site != pair[1].site) {
                let (before, after) = (pair[0], pair[1]);
                self.check(Invariant::Cause, 1, || {
                    let explained =
                        FlowMove { world, id, flow, before, after }.is_explained(reported);
                    let what = || {
                        let (t, from, to) = (after.t, &before.site, &after.site);
                        format!("{} moved from {from} to {to} by {t}", name(flow))
                    };
                    (!explained).then(what)
                });
            }
        }
    }

    fn check(&mut self, invariant: Invariant, count: u64, breach: impl FnOnce() -> Option<String>) {
        *self.checked.entry(invariant).or_default() += count;
        self.breaches.extend(breach().map(|what| Breach { invariant, what }));
    }
}

/// Groups returns into loops: two belong to the same loop if less than [`LOOP_ENDS_AFTER`] is
/// between them.
pub(super) fn loops(returns: &[Revisit]) -> Vec<TransientLoop> {
    let mut loops: Vec<TransientLoop> = Vec::new();
    for one in returns {
        match loops.last_mut().filter(|last| one.t.since(last.to) < LOOP_ENDS_AFTER) {
            Some(last) => {
                last.to = one.t;
                last.returns += 1;
            }
            None => loops.push(TransientLoop { from: one.t, to: one.t, returns: 1 }),
        }
    }
    loops
}

fn wrong_site(flow: &Flow, got: &BTreeSet<&str>, expected: &BTreeSet<String>) -> Option<String> {
    let known = got.iter().all(|site| expected.contains(*site));
    // Which of several sites serves a flow is up to the hash, but it must be always the same one.
    let what = || format!("{} is answered by {got:?}, not by one of {expected:?}", name(flow));
    (!known || got.len() > 1).then(what)
}

fn name(flow: &Flow) -> String {
    format!("{} to {}", flow.src, flow.dst)
}

/// Longer than the longest round trip with every link at its latest.
const IN_FLIGHT: Duration = Duration::from_millis(80);

/// Longer than the time between two packets of a flow.
const LOOP_ENDS_AFTER: Duration = Duration::from_millis(50);

/// Besides one step per packet, for a router's timers and actions.
const STEPS_PER_MS: u64 = 5;
