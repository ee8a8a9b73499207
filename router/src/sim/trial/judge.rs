//! Checks the invariants of a trial.
#![forbid(unsafe_code)]

use std::array;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::config::{site_name, trunk_of};
use super::layout::ADDRESSES;
use super::moves::FlowMove;
use super::oracle::Oracle;
use super::world::{World, address_of};
use super::{Breach, Invariant, TransientLoop};
use super::{answers, watch};
use crate::bfd::packet::State as BfdState;
use crate::bgp::session::State;
use crate::event::EventKind;
use crate::sim::{Arrival, CarrierNews, Flow, FlowId, NodeEvent, Revisit};
use crate::time::Nanos;

/// Counts what was checked, and collects what did not hold.
pub(super) struct Judge {
    pub(super) spoilt: Option<Invariant>,
    pub(super) checked: BTreeMap<Invariant, u64>,
    pub(super) breaches: Vec<Breach>,
}

/// The sites that may answer each client at each address, by the oracle.
pub(super) type Expected = Vec<[BTreeSet<String>; ADDRESSES]>;

impl Judge {
    pub(super) fn new(spoilt: Option<Invariant>) -> Self {
        let checked = Invariant::ALL.map(|invariant| (invariant, 0)).into();
        Self { spoilt, checked, breaches: Vec::new() }
    }

    pub(super) fn expected(&self, world: &World) -> Expected {
        let oracle = Oracle::new(world, self.spoilt == Some(Invariant::Site));
        let clients = 0..world.layout.clients.len();
        clients.map(|client| array::from_fn(|address| oracle.sites(client, address))).collect()
    }

    /// Checks what routers show and every packet that was sent from `since` on, once the budget is over; the last ones,
    /// which may still be on their way, are left out.
    pub(super) fn converged(&mut self, world: &World, since: Nanos, expected: &Expected) {
        self.shown_carrier(world);
        self.sessions(world);
        let until = world.net.now() - IN_FLIGHT;
        for (id, flow) in world.net.flows().iter().enumerate() {
            let sent = flow.sent.iter().filter(|t| (since..until).contains(t)).count() as u64;
            let arrivals = flow.arrivals.iter().filter(|one| flow.sent[one.seq] >= since);
            let got: BTreeSet<&str> = arrivals.map(|one| &*one.site).collect();
            let Some(address) = address_of(flow.dst.ip()) else { continue };
            let expected = &expected[flow.client][address];
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
        self.bfd_alarms(world);
        self.answers(world);
        self.carriers(world);
        for (&invariant, &count) in &world.watch.checked {
            self.check(invariant, count, || None);
        }
        self.breaches.extend(world.watch.breaches.iter().cloned());
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

    /// Checks that no BFD session went down before anything failed that can lose packets, unless the liveness
    /// thread of one of both routers stalled: a worker that stalls is no silent neighbour.
    fn bfd_alarms(&mut self, world: &World) {
        let spoilt = self.spoilt == Some(Invariant::Bfd);
        let since = if spoilt { Nanos::ZERO } else { world.warm_since };
        let until = world.lossy_since.filter(|_| !spoilt).unwrap_or_else(|| world.net.now());
        let sessions = (0..world.layout.routers()).map(|node| world.net.node(node).bfd());
        let sessions: usize = sessions.map(|bfd| bfd.reports().len()).sum();
        self.check(Invariant::Bfd, sessions as u64, || None);
        for one in world.net.events().iter().filter(|one| (since..until).contains(&one.t)) {
            let EventKind::Bfd { neighbor, up, reason, .. } = &one.kind else { continue };
            let trunk = neighbor.parse().ok().and_then(trunk_of);
            let other = trunk.map(|trunk| world.layout.across(trunk, one.node));
            let from = one.t - MUTE_BEFORE;
            let stalls = |node| world.mute.iter().any(|spell| spell.touches(node, from, one.t));
            let is_explained = stalls(one.node) || other.is_some_and(stalls);
            self.check(Invariant::Bfd, 1, || {
                let (node, t) = (one.node, one.t);
                let what = || format!("r{node} calls BFD with {neighbor} down at {t}: {reason}");
                (!up && !is_explained).then(what)
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

    /// Checks each packet that a router sends on while it publishes a configuration, or loses then.
    fn answers(&mut self, world: &World) {
        let accepts_new = self.spoilt != Some(Invariant::Answer);
        for (id, flow) in world.net.flows().iter().enumerate() {
            for answer in answers::of(world, FlowId(id)) {
                self.check(Invariant::Answer, 1, || {
                    (!answer.is_right(accepts_new)).then(|| format!("{}: {answer}", name(flow)))
                });
            }
        }
    }

    /// Checks that a port's carrier is reported only after the router was told so of that very port.
    fn carriers(&mut self, world: &World) {
        let told: &[CarrierNews] = match self.spoilt {
            Some(Invariant::Carrier) => &[],
            _ => world.net.carrier_news(),
        };
        for one in world.net.events() {
            let EventKind::Carrier { port, up } = &one.kind else { continue };
            let is_it =
                |news: &CarrierNews| (news.node, &news.port, news.up) == (one.node, port, *up);
            let is_true = told.iter().any(|news| is_it(news) && news.t <= one.t);
            self.check(Invariant::Carrier, 1, || {
                let (node, t, how) = (one.node, one.t, if *up { "up" } else { "down" });
                let what = format!("r{node} reports {port} {how} at {t}, which nobody said");
                (!is_true).then_some(what)
            });
        }
    }

    /// Checks that routers show the carrier of their ports as it is.
    fn shown_carrier(&mut self, world: &World) {
        for node in 0..world.layout.routers() {
            for port in world.net.node(node).control().ports() {
                let (name, shown) = (port.name(), port.carrier);
                self.check(Invariant::Carrier, 1, || {
                    let is = world.net.has_carrier(node, name);
                    let what = format!("r{node} shows carrier {shown} of {name}, which has {is}");
                    (shown != is).then_some(what)
                });
            }
        }
    }

    /// Checks that each BGP session stands whose link is up, and no other, and each BFD session; and that each router
    /// has from its neighbour what that announces by the oracle.
    fn sessions(&mut self, world: &World) {
        if world.layout.speaks.is_empty() {
            return;
        }
        let oracle = Oracle::new(world, false);
        let spoilt = self.spoilt == Some(Invariant::Learn);
        for (trunk, &[a, b]) in world.layout.trunks.iter().enumerate() {
            let is_up = oracle.up(world.trunk_links[trunk]);
            for (node, other) in [(a, b), (b, a)] {
                let state = world.session(node, other).map(|(_, session)| session.state);
                let stands = state == Some(State::Established);
                self.check(Invariant::Learn, 1, || {
                    let what =
                        || format!("r{node} is {state:?} with r{other}, the link is up: {is_up}");
                    (stands != is_up).then(what)
                });
                if let Some(state) = world.bfd_state(node, trunk) {
                    self.check(Invariant::Bfd, 1, || {
                        let what =
                            || format!("r{node} calls BFD with r{other} {state:?}, up: {is_up}");
                        ((state == BfdState::Up) != is_up).then(what)
                    });
                }
                for (address, prefix) in watch::prefixes() {
                    let expected = is_up && !spoilt && oracle.announces(other, address);
                    let has = world.has_path(node, other, prefix);
                    self.check(Invariant::Learn, 1, || {
                        let what = || {
                            format!("r{node} has {prefix} from r{other}: {has}, should: {expected}")
                        };
                        (has != expected).then(what)
                    });
                }
            }
        }
    }

    fn check(&mut self, invariant: Invariant, count: u64, breach: impl FnOnce() -> Option<String>) {
        *self.checked.entry(invariant).or_default() += count;
        self.breaches.extend(breach().map(|what| Breach { invariant, what }));
    }
}

/// Whether every session is as it must be once the routers have converged.
pub(super) fn agree(world: &World) -> bool {
    let mut judge = Judge::new(None);
    judge.sessions(world);
    judge.breaches.is_empty()
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

/// A session that was not served is called down by the other side within its detection time, and by its own
/// once it hears that.
const MUTE_BEFORE: Duration = Duration::from_secs(2);

/// Longer than the longest round trip with every link at its latest.
const IN_FLIGHT: Duration = Duration::from_millis(80);

/// Longer than the time between two packets of a flow.
const LOOP_ENDS_AFTER: Duration = Duration::from_millis(50);

/// Besides one step per packet, for a router's timers and actions.
const STEPS_PER_MS: u64 = 5;
