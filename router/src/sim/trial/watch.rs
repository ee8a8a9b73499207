//! What routers announce and use by BGP while things fail, looked at every few milliseconds.
#![forbid(unsafe_code)]

use std::collections::BTreeMap;
use std::time::Duration;

use nearhop_fib::IpPrefix;

use super::config::{PREFIXES, router_name, trunk_of};
use super::layout::ADDRESSES;
use super::oracle::Oracle;
use super::world::World;
use super::{Breach, Invariant};
use crate::bfd::packet::State as BfdState;
use crate::bgp::session::State;
use crate::control::NeighborState;
use crate::ids::NeighborId;
use crate::rib::{NextHop, NextHops, Source};
use crate::sim::RouterThread;

/// For how long what must not stay has stayed, and what stayed too long.
#[derive(Debug, Default)]
pub(super) struct Watch {
    pub(super) spoilt: Option<Invariant>,
    pub(super) checked: BTreeMap<Invariant, u64>,
    pub(super) breaches: Vec<Breach>,
    stays: BTreeMap<Wrong, Duration>,
}

/// Something that must not stay.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
enum Wrong {
    /// A router announces to another what too few of its own sites serve.
    Ill { node: usize, to: usize, prefix: IpPrefix },
    /// A router has a path from another that does not announce it, or runs no more.
    Withdrawn { node: usize, from: usize, prefix: IpPrefix },
    /// A router uses a path whose session is down.
    Dead { node: usize, from: usize, prefix: IpPrefix },
}

impl World {
    /// Looks at every router, `after` the time since it last did.
    pub(super) fn watch(&mut self, after: Duration) {
        let mut watch = std::mem::take(&mut self.watch);
        let mut wrong = Vec::new();
        for node in (0..self.layout.routers()).filter(|&node| self.net.runs(node)) {
            watch.announced(self, node, &mut wrong);
            watch.learned(self, node, &mut wrong);
            watch.used(self, node, &mut wrong);
        }
        watch.stays.retain(|one, _| wrong.contains(one));
        for one in wrong {
            let before = watch.stays.entry(one).or_default();
            let may_act = one.waits_for_stalls() || !self.stalls(one.node());
            let was = *before;
            *before += if may_act { after } else { Duration::ZERO };
            let bound =
                if watch.spoilt == Some(one.invariant()) { Duration::ZERO } else { one.bound() };
            // Once.
            if was <= bound && *before > bound {
                let what = format!("{} for {:?} by {}", one.what(), *before, self.net.now());
                watch.breaches.push(Breach { invariant: one.invariant(), what });
            }
        }
        self.watch = watch;
    }

    /// What is wrong about a router's own sites is so from now on, if it is.
    pub(super) fn forgive(&mut self, node: usize) {
        self.watch.stays.retain(|one, _| !matches!(one, Wrong::Ill { .. }) || one.node() != node);
    }

    /// What a router knows of its session with another.
    pub(super) fn session(
        &self,
        node: usize,
        other: usize,
    ) -> Option<(NeighborId, &NeighborState)> {
        let name = router_name(other);
        self.net.node(node).control().bgp_neighbors().find(|(_, one)| one.config.name == name)
    }

    /// The state of a router's BFD session over a trunk, if there is one.
    pub(super) fn bfd_state(&self, node: usize, trunk: usize) -> Option<BfdState> {
        let reports = self.net.node(node).bfd().reports();
        let over = reports.into_iter().find(|one| trunk_of(one.ends.remote) == Some(trunk));
        over.map(|one| one.state)
    }

    /// Whether a router has a path to a prefix from another.
    pub(super) fn has_path(&self, node: usize, other: usize, prefix: IpPrefix) -> bool {
        let Some((id, _)) = self.session(node, other) else { return false };
        self.net.node(node).control().bgp_paths().of(prefix).any(|path| path.neighbor == id)
    }

    fn stalls(&self, node: usize) -> bool {
        RouterThread::ALL.into_iter().any(|part| self.net.node(node).stalls(part))
    }

    /// The routers that one is linked with.
    pub(super) fn neighbors(&self, node: usize) -> impl Iterator<Item = usize> + '_ {
        let trunks = self.layout.trunks.iter().enumerate().filter(move |(_, e)| e.contains(&node));
        trunks.map(move |(trunk, _)| self.layout.across(trunk, node))
    }
}

impl Watch {
    /// Nothing is announced that is not well.
    fn announced(&mut self, world: &World, node: usize, wrong: &mut Vec<Wrong>) {
        let oracle = Oracle::new(world, false);
        let spoilt = self.spoilt == Some(Invariant::Announce);
        for to in world.neighbors(node) {
            let Some((_, session)) = world.session(node, to) else { continue };
            for (address, prefix) in prefixes() {
                if session.announced.has(prefix) {
                    *self.checked.entry(Invariant::Announce).or_default() += 1;
                    if spoilt || !oracle.serves(node, address) {
                        wrong.push(Wrong::Ill { node, to, prefix });
                    }
                }
            }
        }
    }

    /// What a neighbour does not announce is known no more.
    fn learned(&mut self, world: &World, node: usize, wrong: &mut Vec<Wrong>) {
        let spoilt = self.spoilt == Some(Invariant::Withdraw);
        for from in world.neighbors(node) {
            let Some((id, _)) = world.session(node, from) else { continue };
            let other = world.session(from, node).filter(|_| world.net.runs(from));
            let paths = world.net.node(node).control().bgp_paths();
            for (_, prefix) in prefixes() {
                if paths.of(prefix).any(|path| path.neighbor == id) {
                    *self.checked.entry(Invariant::Withdraw).or_default() += 1;
                    let announced = |(_, other): (_, &NeighborState)| other.announced.has(prefix);
                    if spoilt || !other.is_some_and(announced) {
                        wrong.push(Wrong::Withdrawn { node, from, prefix });
                    }
                }
            }
        }
    }

    /// What is used is of a session that stands.
    fn used(&mut self, world: &World, node: usize, wrong: &mut Vec<Wrong>) {
        let rib = world.net.node(node).control().rib();
        for (_, prefix) in prefixes() {
            let candidates = rib.candidates(prefix);
            let bgp = candidates.iter().find(|one| one.source == Source::Bgp);
            let Some(NextHops::Via(hops)) = bgp.and_then(|one| rib.next_hops(one.set)) else {
                continue;
            };
            for hop in hops {
                let NextHop::Address(address) = hop else { continue };
                let Some(trunk) = trunk_of(*address) else { continue };
                let from = world.layout.across(trunk, node);
                *self.checked.entry(Invariant::Withdraw).or_default() += 1;
                let state = world.session(node, from).map(|(_, state)| state.state);
                if state != Some(State::Established) {
                    wrong.push(Wrong::Dead { node, from, prefix });
                }
            }
        }
    }
}

impl Wrong {
    fn node(self) -> usize {
        match self {
            Self::Dead { node, .. } | Self::Ill { node, .. } | Self::Withdrawn { node, .. } => node,
        }
    }

    fn invariant(self) -> Invariant {
        match self {
            Self::Dead { .. } | Self::Withdrawn { .. } => Invariant::Withdraw,
            Self::Ill { .. } => Invariant::Announce,
        }
    }

    /// For how long it may be so.
    fn bound(self) -> Duration {
        match self {
            Self::Dead { .. } => ACTED_AFTER,
            Self::Ill { .. } => FOUND_AFTER,
            Self::Withdrawn { .. } => HEARD_AFTER,
        }
    }

    /// Whether the time in which a thread of the router stalls counts too.
    fn waits_for_stalls(self) -> bool {
        matches!(self, Self::Withdrawn { .. })
    }

    fn what(self) -> String {
        match self {
            Self::Dead { node, from, prefix } => {
                format!("r{node} uses {prefix} by r{from}, with which it has no session,")
            }
            Self::Ill { node, to, prefix } => {
                format!("r{node} announces {prefix} to r{to}, which too few of its sites serve,")
            }
            Self::Withdrawn { node, from, prefix } => {
                format!("r{node} has {prefix} from r{from}, which does not announce it,")
            }
        }
    }
}

/// The prefix of each address in both families.
pub(super) fn prefixes() -> impl Iterator<Item = (usize, IpPrefix)> {
    let of = |text: &str| text.parse().expect("a prefix written here can be read");
    (0..ADDRESSES).flat_map(move |address| PREFIXES[address].map(|text| (address, of(text))))
}

/// Between two looks.
pub(super) const LOOK_EVERY: Duration = Duration::from_millis(50);

/// A site that is dead is found out by its checks.
const FOUND_AFTER: Duration = Duration::from_millis(1500);

/// What is withdrawn is heard of, or the session ends: its bytes come in order, so that who hears nothing of a
/// withdrawal hears nothing for the hold time. And threads stall.
const HEARD_AFTER: Duration = Duration::from_millis(4000 + 1500);

/// The routes of a session that is down go in steps.
const ACTED_AFTER: Duration = Duration::from_millis(100);
