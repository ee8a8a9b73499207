//! What has to hold of a trial.
#![forbid(unsafe_code)]

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::oracle::Oracle;
use super::world::World;
use super::{Breach, Invariant, TransientLoop};
use crate::event::EventKind;
use crate::ids::Family;
use crate::sim::{Arrival, Flow, FlowId, Happened, Return};
use crate::time::Nanos;

/// Collects what was looked at, and what did not hold.
pub(super) struct Judge {
    pub(super) spoilt: Option<Invariant>,
    pub(super) checked: BTreeMap<Invariant, u64>,
    pub(super) breaches: Vec<Breach>,
}

/// Who has to serve each client, as the oracle says.
pub(super) type Expected = Vec<BTreeSet<String>>;

impl Judge {
    pub(super) fn new(spoilt: Option<Invariant>) -> Self {
        let checked = Invariant::ALL.map(|invariant| (invariant, 0)).into();
        Self { spoilt, checked, breaches: Vec::new() }
    }

    pub(super) fn expected(&self, world: &World) -> Expected {
        let oracle = Oracle::new(world, self.spoilt == Some(Invariant::Site));
        (0..world.plan.clients.len()).map(|client| oracle.sites(client)).collect()
    }

    /// Every packet that was sent from `since` on, the budget being over: the last ones left out
    /// that may be on their way still.
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
                    (lost > 0).then(|| format!("{lost} of {sent} packets of {} lost", name(flow)))
                });
            }
            let again = |one: &&Return| one.flow == FlowId(id) && one.t >= since;
            let first = world.net.returns().iter().find(again);
            self.check(Invariant::Loop, sent, || {
                first.map(|at| format!("a packet of {} came to r{} again", name(flow), at.node))
            });
        }
    }

    /// What holds at any time.
    pub(super) fn always(&mut self, world: &World, since: Nanos) {
        self.causes(world);
        let (steps, delivered) = (world.net.steps(), world.net.delivered());
        let ms = world.net.now().since(since).as_millis() as u64;
        let idle = STEPS_PER_MS * ms * world.plan.routers() as u64;
        let bound = if self.spoilt == Some(Invariant::Work) { 0 } else { delivered + idle };
        self.check(Invariant::Work, steps, || {
            (steps > bound).then(|| format!("{steps} steps; {bound} are enough"))
        });
        for router in 0..world.plan.routers() {
            let counters = world.net.node(router).counters();
            let ended: u64 = counters.verdicts.iter().sum();
            let spoilt = u64::from(self.spoilt == Some(Invariant::Account));
            let begun = counters.received + counters.originated + counters.split + spoilt;
            self.check(Invariant::Account, begun, || {
                let what = format!("r{router}: {begun} packets begun, {ended} ended");
                (begun != ended).then_some(what)
            });
        }
    }

    /// Each flow that came back from another site than before did so because the router at which
    /// the two ways part said that it selects anew, for a member that is on one of them.
    fn causes(&mut self, world: &World) {
        let told: &[Happened] = match self.spoilt {
            Some(Invariant::Cause) => &[],
            _ => world.net.happened(),
        };
        for (id, flow) in world.net.flows().iter().enumerate() {
            let whole = |one: &&Arrival| world.net.trail(FlowId(id), one.seq).is_some();
            let arrivals: Vec<&Arrival> = flow.arrivals.iter().filter(whole).collect();
            for pair in arrivals.windows(2).filter(|pair| pair[0].site != pair[1].site) {
                let (before, after) = (pair[0], pair[1]);
                self.check(Invariant::Cause, 1, || {
                    let explained = Move { world, id, flow, before, after }.is_explained(told);
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

/// Two answers to one flow, the second from another site.
struct Move<'m> {
    world: &'m World,
    id: usize,
    flow: &'m Flow,
    before: &'m Arrival,
    after: &'m Arrival,
}

impl Move<'_> {
    fn is_explained(&self, told: &[Happened]) -> bool {
        let way = |one: &Arrival| {
            let routers = self.world.net.trail(FlowId(self.id), one.seq).unwrap_or_default();
            let mut names: Vec<String> = routers.iter().map(|at| format!("r{at}")).collect();
            names.push(one.site.clone());
            (routers, names)
        };
        let ((routers, before), (_, after)) = (way(self.before), way(self.after));
        let fork = before.iter().zip(&after).take_while(|(a, b)| a == b).count();
        // Every flow of a client comes to the same router first.
        let Some(&node) = fork.checked_sub(1).and_then(|last| routers.get(last)) else {
            return false;
        };
        let members = [before.get(fork), after.get(fork)];
        let sent = &self.flow.sent;
        let window = sent[self.before.seq.min(self.after.seq)]..=self.after.t;
        let family = Family::of(self.flow.dst.ip());
        let restarted = self.world.absences.iter().any(|absence| {
            absence.node == node && absence.from <= *window.end() && absence.to >= *window.start()
        });
        restarted
            || told.iter().any(|one| {
                one.node == node
                    && window.contains(&one.t)
                    && matches!(&one.kind, EventKind::Select { family: of, member, .. }
                        if *of == family
                            && (member == "reload" || members.contains(&Some(member))))
            })
    }
}

/// Packets that come to a router again are of the same loop as long as another one does so within
/// [`LOOP_ENDS_AFTER`].
pub(super) fn loops(returns: &[Return]) -> Vec<TransientLoop> {
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
    // Which one of several is for the hash to say, but always the same.
    let what = || format!("{} is answered by {got:?}, not by one of {expected:?}", name(flow));
    (!known || got.len() > 1).then(what)
}

fn name(flow: &Flow) -> String {
    format!("{} to {}", flow.src, flow.dst)
}

/// More than the longest way there and back, with every link as late as it can be.
const IN_FLIGHT: Duration = Duration::from_millis(80);

/// Between the packets of a flow of a trial lies less.
const LOOP_ENDS_AFTER: Duration = Duration::from_millis(50);

/// A router is stepped for each packet; besides, for its timers and for what is asked of it.
const STEPS_PER_MS: u64 = 5;
