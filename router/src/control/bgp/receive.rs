//! What neighbours announce becomes routes of the RIB.

use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;
use std::vec;

use nearhop_fib::{ACCEPT_ALL, IpPrefix, Writer, name_key};

use super::refresh::Refreshes;
use super::{Bgp, NeighborState};
use crate::bgp::lane::{BgpNews, BgpOrder};
use crate::bgp::lease::LeaseState;
use crate::bgp::session::Received;
use crate::bgp::table::{Chain, Found, Sender};
use crate::bgp::{
    Announced, Attributes, FAMILIES, LoopRules, NextHop, Nlri, PerFamily, RefreshKind, Role, Update,
};
use crate::config::Config;
use crate::event::EventKind;
use crate::ids::{Family, NeighborId};
use crate::put_back::{self, PutBack};
use crate::rib::{Candidate, NextHops, RankedHop, Rib, SetId, Source, Way};
use crate::time::Nanos;

/// What is left of an UPDATE: withdrawals come before announcements.
pub(super) struct Rest {
    withdrawn: vec::IntoIter<Nlri>,
    announced: vec::IntoIter<Announced>,
    current: Option<(Arc<Attributes>, vec::IntoIter<Nlri>)>,
    /// Prefixes of `current` that are fetched and not taken yet.
    fetched: usize,
}

/// What changes with a prefix of an UPDATE.
enum Piece<'a> {
    Withdrawn(Nlri),
    Announced(Nlri, &'a Arc<Attributes>),
}

impl Rest {
    fn of(update: Update) -> Self {
        let Update { withdrawn, announced, .. } = update;
        let (withdrawn, announced) = (withdrawn.into_iter(), announced.into_iter());
        Self { withdrawn, announced, current: None, fetched: 0 }
    }

    fn next(&mut self) -> Option<Piece<'_>> {
        if let Some(nlri) = self.next_withdrawn() {
            return Some(Piece::Withdrawn(nlri));
        }
        self.turn_over();
        let (attributes, nlri) = self.current.as_mut()?;
        self.fetched = self.fetched.saturating_sub(1);
        Some(Piece::Announced(nlri.next()?, attributes))
    }

    /// The next prefix, if it is withdrawn.
    pub(super) fn next_withdrawn(&mut self) -> Option<Nlri> {
        self.withdrawn.next()
    }

    /// Whether the next prefix is withdrawn.
    pub(super) fn withdraws(&self) -> bool {
        self.withdrawn.len() > 0
    }

    /// Whether nothing is left.
    pub(super) fn is_over(&self) -> bool {
        let is_empty = |(_, nlri): &(_, vec::IntoIter<Nlri>)| nlri.len() == 0;
        let any = self.withdrawn.len() + self.announced.len() > 0;
        !any && self.current.as_ref().is_none_or(is_empty)
    }

    /// Goes on with the next set of attributes once all prefixes of one are taken.
    fn turn_over(&mut self) {
        while self.current.as_ref().is_none_or(|(_, nlri)| nlri.len() == 0) {
            let Some(Announced { attributes, nlri }) = self.announced.next() else { return };
            self.current = Some((attributes, nlri.into_iter()));
            self.fetched = 0;
        }
    }

    /// The prefixes that are announced next, if they are to be fetched now.
    fn take_fetchable(&mut self) -> impl Iterator<Item = IpPrefix> + Clone + '_ {
        self.turn_over();
        let next = self.current.as_ref().filter(|_| self.fetched == 0);
        let next = next.map_or(&[][..], |(_, nlri)| nlri.as_slice());
        let next = &next[..next.len().min(FETCHED_AT_ONCE)];
        self.fetched = next.len();
        next.iter().map(|nlri| nlri.prefix)
    }
}

/// What a step works with.
pub(in crate::control) struct Parts<'a> {
    pub(in crate::control) rib: &'a mut Rib,
    pub(in crate::control) fib: &'a mut Writer,
    pub(in crate::control) config: &'a Config,
}

impl Bgp {
    /// Takes news of neighbours in turn, up to `budget` prefixes or messages, and returns whether any route
    /// changed. Not while a publication is under way: what it publishes must not change. An UPDATE of which
    /// more is left goes on in the next step.
    pub(in crate::control) fn step(
        &mut self,
        parts: &mut Parts<'_>,
        budget: usize,
        events: &mut impl Extend<(Nanos, EventKind)>,
    ) -> bool {
        self.admit(parts.config);
        let mut changed = Vec::new();
        let mut left = self.paths.forget_some(budget, |prefix| changed.push(prefix));
        left = self.paths.judge_some(left, |prefix| changed.push(prefix));
        let (looked_at, swept) = self.sweep_some(left);
        left -= looked_at;
        changed.extend(swept);
        let mut any = !changed.is_empty();
        for prefix in changed {
            self.choose(parts.rib, prefix, self.paths.chain(prefix));
        }
        let count = self.neighbors.len();
        self.turn = if count == 0 { 0 } else { (self.turn + 1) % count };
        let ids: Vec<NeighborId> = self.neighbors.keys().copied().collect();
        for &id in ids[self.turn..].iter().chain(&ids[..self.turn]) {
            let was_full = self.neighbors.get(&id).is_some_and(NeighborState::is_full);
            while left > 0 && !self.paths.is_leaving(id) && !self.sweeping.contains(&id) {
                let Some(state) = self.neighbors.get_mut(&id) else { break };
                if let Some(rest) = state.rest.take() {
                    any = true;
                    left = self.receive(parts.rib, id, rest, left);
                    continue;
                }
                let Some(news) = state.take_news() else { break };
                left -= 1;
                match news {
                    BgpNews::Received(Received::Update(update)) => state.begin_update(update),
                    BgpNews::Received(mark) => {
                        if state.refreshes.note(&mark) {
                            self.sweeping.insert(id);
                        }
                    }
                    news => self.handle(parts, id, news, events),
                }
            }
            if was_full && self.neighbors.get(&id).is_some_and(|state| !state.is_full()) {
                self.orders.push(BgpOrder::Room);
            }
        }
        self.units += budget - left;
        any
    }

    fn handle(
        &mut self,
        parts: &mut Parts<'_>,
        id: NeighborId,
        news: BgpNews,
        events: &mut impl Extend<(Nanos, EventKind)>,
    ) {
        let Some(state) = self.neighbors.get_mut(&id) else { return };
        let neighbor = state.config.name.clone();
        match news {
            BgpNews::State(now) => state.state = now,
            BgpNews::Lease(at, lease) => {
                state.lease = lease;
                let (held, reason) = (lease == LeaseState::Held, lease.text());
                events.extend([(at, EventKind::Lease { neighbor, held, reason })]);
            }
            BgpNews::Found(address) => {
                log::info!("bgp {neighbor}: found at {address}");
                state.address = Some(address);
            }
            // Of two connections at once, the one that is not the session.
            BgpNews::Down { was_established: false, .. } if state.negotiated.is_some() => {}
            BgpNews::Down { at, was_established, why } => {
                state.last_error = Some(why.clone());
                state.negotiated = None;
                state.since = at;
                state.end_announcing();
                if was_established {
                    events.extend([(at, EventKind::Bgp { neighbor, up: false, reason: why })]);
                    if !put_back::is(PutBack::DeadSessionStays) {
                        // Usually it is down already.
                        let path = state.path.take();
                        self.forget(id, path);
                    }
                }
            }
            BgpNews::Established(at, negotiated) => {
                state.since = at;
                state.last_error = None;
                state.families = negotiated.families;
                state.begin_announcing();
                state.refreshes = Refreshes::default();
                state.ended = PerFamily::NONE;
                let sender = Sender {
                    asn: negotiated.remote_as,
                    internal: state.is_internal,
                    router_id: negotiated.remote_id,
                    // There is no session without.
                    address: state.address.unwrap_or(IpAddr::from([0; 4])),
                    role: state.config.role.map(Role::counterpart),
                    loops: LoopRules {
                        local_as: parts.config.bgp.as_ref().map_or(0, |bgp| bgp.asn),
                        own_as_max: state.config.allow_own_as,
                        router_id: state.peering.session.router_id,
                        cluster_id: None,
                    },
                    import: state.config.import.clone(),
                    refuses_bogons: state.config.refuses_bogons,
                };
                match parts.fib.add_path(name_key(&neighbor), ACCEPT_ALL) {
                    Ok(path) => {
                        state.path = Some(path);
                        self.begun.push((neighbor.clone(), path));
                    }
                    Err(error) => log::error!("bgp {neighbor}: no route of it is used: {error}"),
                }
                self.paths.begin(id, sender);
                state.negotiated = Some(negotiated);
                let reason = "established".to_owned();
                events.extend([(at, EventKind::Bgp { neighbor, up: true, reason })]);
            }
            BgpNews::Refresh(family) => {
                self.orders.push(BgpOrder::Mark(id, family, RefreshKind::Begin));
                state.announce_again(family);
            }
            BgpNews::Ended => self.end_dynamic(id),
            BgpNews::Received(_) => {}
        }
    }

    /// Takes up to `budget` prefixes of an UPDATE; returns what is left of the budget.
    fn receive(&mut self, rib: &mut Rib, id: NeighborId, mut rest: Rest, budget: usize) -> usize {
        for left in (0..budget).rev() {
            let next = rest.take_fetchable();
            self.paths.prefetch(next.clone());
            rib.prefetch(next);
            let (prefix, chain) = match rest.next() {
                Some(Piece::Announced(nlri, attributes)) => {
                    let chain = self.paths.announce(id, nlri, attributes);
                    if let Some(state) = self.neighbors.get_mut(&id) {
                        state.refreshes.announced(nlri);
                    }
                    (nlri.prefix, chain)
                }
                Some(Piece::Withdrawn(nlri)) if self.paths.withdraw(id, nlri) => {
                    (nlri.prefix, self.paths.chain(nlri.prefix))
                }
                Some(Piece::Withdrawn(_)) => continue,
                None => {
                    self.check_limit(id);
                    return left + 1;
                }
            };
            self.choose(rib, prefix, chain);
        }
        if let Some(state) = self.neighbors.get_mut(&id) {
            state.rest = Some(rest);
        }
        0
    }

    /// A neighbour that announces too much is told so.
    fn check_limit(&mut self, id: NeighborId) {
        let Some(state) = self.neighbors.get(&id) else { return };
        for family in FAMILIES {
            let count = u32::try_from(self.paths.count(id, family)).unwrap_or(u32::MAX);
            if count > state.config.max_prefixes {
                self.orders.push(BgpOrder::Prefixes(id, family, count));
            }
        }
    }

    /// The best paths to a prefix and the next best become the route that BGP offers. `chain` are all paths.
    pub(super) fn choose(&mut self, rib: &mut Rib, prefix: IpPrefix, chain: Chain) {
        let before = if let Some(set) = self.hold(rib, Family::of(prefix.addr()), chain) {
            let before = rib.offer(prefix, Candidate { source: Source::Bgp, set });
            if before == Some(set) {
                // No route is published: only what a path says of itself is another.
                self.mark_learned([prefix]);
            }
            before
        } else {
            let before = rib.offered(prefix, Source::Bgp);
            if before.is_some() {
                rib.withdraw(prefix, Source::Bgp);
            }
            before
        };
        if let Some(before) = before {
            rib.release(before);
        }
    }

    /// The set that the paths to a prefix lead to, held once more; `None` without any.
    fn hold(&mut self, rib: &mut Rib, family: Family, chain: Chain) -> Option<SetId> {
        let only = self.paths.only(chain).and_then(|found| self.hop(0, found));
        let several = if only.is_none() { self.hops(chain) } else { Vec::new() };
        let hops = only.as_ref().map_or(&several[..], std::slice::from_ref);
        if hops.is_empty() {
            return None;
        }
        let last = self.last.of_mut(family);
        if let Some((last, set)) = last
            && *last == hops
            && rib.hold_again(*set)
        {
            return Some(*set);
        }
        let set = rib.hold(NextHops::Ranked(hops.to_vec()));
        *last = Some((hops.to_vec(), set));
        Some(set)
    }

    /// Where a path leads: nowhere once its session has no path in the FIB.
    fn hop(&self, tier: u8, found: Found<'_>) -> Option<RankedHop> {
        let state = self.neighbors.get(&found.neighbor)?;
        let (address, way) = state.hop_of(found.used().next_hop)?;
        Some(RankedHop { tier, path: state.path?, address, way, weight: 1 })
    }

    /// Where the paths to a prefix lead.
    fn hops(&self, chain: Chain) -> Vec<RankedHop> {
        let ranked = self.paths.ranked(chain, self.multipath);
        let mut bandwidths = Vec::new();
        let mut hops = Vec::with_capacity(ranked.len());
        for (tier, found) in ranked {
            let Some(hop) = self.hop(tier, found) else { continue };
            if tier == 0 && self.multipath > 1 {
                bandwidths.push(found.used().link_bandwidth().map(|(_, octets)| octets));
            }
            hops.push(hop);
        }
        for (hop, weight) in hops.iter_mut().zip(weights(&bandwidths)) {
            hop.weight = weight;
        }
        hops
    }
}

impl NeighborState {
    /// Notes what an UPDATE says of itself; its prefixes come next.
    pub(super) fn begin_update(&mut self, update: Update) {
        for fault in &update.faults {
            log::warn!("bgp {}: {fault}", self.config.name);
        }
        if let Some(family) = update.end_of_rib {
            *self.ended.of_mut(family) = true;
        }
        self.rest = Some(Rest::of(update));
    }

    /// Where a next hop of it leads: a link-local one by its port, any other by the route to it. `None` if it
    /// is the router itself.
    pub fn hop_of(&self, next_hop: NextHop) -> Option<(IpAddr, Option<Way>)> {
        let own = self.peering.local;
        let on_link = match next_hop {
            // Of two addresses of one router, that on the link is nearer (RFC 2545 section 3).
            NextHop { link_local: Some(on_link), .. } => Some(on_link),
            NextHop { addr: IpAddr::V6(addr), .. } => {
                Some(addr).filter(Ipv6Addr::is_unicast_link_local)
            }
            _ => None,
        };
        match (on_link.map(IpAddr::from), self.way) {
            (Some(address), Some(way)) => (address != own).then_some((address, Some(way))),
            _ => Some((next_hop.addr, None)),
        }
    }
}

/// The shares of paths by their links' bandwidth, of which the greatest is [`WEIGHT_MAX`]; none unless all of
/// several say it.
fn weights(bandwidths: &[Option<f32>]) -> Vec<u16> {
    let known: Vec<f32> = bandwidths.iter().flatten().copied().filter(|one| *one > 0.0).collect();
    let most = known.iter().copied().fold(0.0, f32::max);
    if known.len() < 2 || known.len() < bandwidths.len() || !most.is_finite() {
        return Vec::new();
    }
    let share = |octets: f32| (octets / most * f32::from(WEIGHT_MAX)).round().max(1.0) as u16;
    known.into_iter().map(share).collect()
}

/// Prefixes of which what is looked at is fetched at once.
const FETCHED_AT_ONCE: usize = 16;

/// Finer differences of bandwidth make no groups of their own.
const WEIGHT_MAX: u16 = 100;
