//! BGP in the control plane: what neighbours announce becomes routes of the RIB, and what services are
//! worth becomes what is announced.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::{Receiver, bounded};
use nearhop_fib::IpPrefix;

use crate::bgp::lane::{BgpNews, BgpOrder, Change, NeighborSpec, Peering};
use crate::bgp::session::{PrefixLimit, Received, RemoteAs, SessionConfig, State};
use crate::bgp::table::{Paths, Sender};
use crate::bgp::{
    AddPath, AsPath, Attributes, LoopRules, NextHop as BgpNextHop, PerFamily, Role, Update,
};
use crate::config::Config;
use crate::config::model::{self, Export, Import, Neighbor};
use crate::event::EventKind;
use crate::ids::{Family, NeighborId};
use crate::rib::{Candidate, NextHop, NextHops, Rib, Source};
use crate::time::Nanos;

/// Every neighbour, what they announce, and what is announced to them.
#[derive(Default)]
pub(super) struct Bgp {
    neighbors: BTreeMap<NeighborId, NeighborState>,
    /// Numbers are not used again.
    next_id: u32,
    paths: Paths,
    /// Neighbours whose paths are being forgotten; a lane is not read before.
    leaving: BTreeSet<NeighborId>,
    /// Who is served first.
    turn: usize,
    orders: Vec<BgpOrder>,
    /// Of each prefix that was ever to be announced: whether it is, and since when not.
    held: BTreeMap<IpPrefix, Held>,
    /// Whether what is announced may have to be another.
    is_dirty: bool,
}

/// A neighbour, as the control plane knows it.
pub struct NeighborState {
    /// What is configured.
    pub config: Neighbor,
    /// State of its session.
    pub state: State,
    /// Since when.
    pub since: Nanos,
    /// Why its last session ended.
    pub last_error: Option<String>,
    /// What is announced to it, by prefix.
    pub announced: BTreeMap<IpPrefix, Arc<Attributes>>,
    /// Whether End-of-RIB is to follow what is announced first.
    owes_end: bool,
    /// The families that are exchanged.
    pub families: PerFamily<bool>,
    lane: Receiver<BgpNews>,
    peering: Peering,
    is_internal: bool,
}

/// How long a service that can be announced again is not.
#[derive(Clone, Copy, Debug)]
struct Held {
    /// Whether it is announced now.
    is_announced: bool,
    /// When it is again.
    until: Option<Nanos>,
    /// When it was last seen ill.
    ill: Nanos,
    delay: Duration,
}

impl NeighborState {
    /// The router's end of the session.
    pub fn local(&self) -> IpAddr {
        self.peering.local
    }
}

impl Bgp {
    /// What is configured changes.
    pub(super) fn configure(&mut self, now: Nanos, config: &Config) {
        self.is_dirty = true;
        let prefixes = config.services.iter().flat_map(|service| &service.prefixes);
        let prefixes: BTreeSet<IpPrefix> = prefixes.copied().collect();
        self.held.retain(|prefix, _| prefixes.contains(prefix));
        let mut wanted: BTreeMap<String, (&Neighbor, Peering)> = BTreeMap::new();
        if let (Some(bgp), Some(router_id)) = (&config.bgp, config.router.id) {
            for neighbor in &bgp.neighbors {
                let Some(local) = local_of(config, neighbor) else { continue };
                let peering = peering_of(bgp, router_id, neighbor, local);
                wanted.insert(neighbor.name.clone(), (neighbor, peering));
            }
        }
        let asn = config.bgp.as_ref().map_or(0, |bgp| bgp.asn);
        let gone: Vec<NeighborId> = self
            .neighbors
            .iter()
            .filter(|(_, state)| {
                wanted.get(&state.config.name).is_none_or(|(_, peering)| *peering != state.peering)
            })
            .map(|(&id, _)| id)
            .collect();
        for id in gone {
            self.neighbors.remove(&id);
            self.forget(id);
            self.orders.push(BgpOrder::End(id, "no longer configured so".into()));
        }
        for (name, (neighbor, peering)) in wanted {
            if let Some(state) = self.neighbors.values_mut().find(|state| state.config.name == name)
            {
                if state.config.import != neighbor.import && state.state == State::Established {
                    // What came is judged again, by a session that begins again.
                    log::info!("bgp {name}: import changes with the next session");
                }
                state.config = neighbor.clone();
                continue;
            }
            let id = NeighborId(self.next_id);
            self.next_id += 1;
            let (lane, news) = bounded(LANE);
            let is_internal = neighbor.asn == asn;
            let spec = NeighborSpec { id, peering: peering.clone(), lane };
            self.orders.push(BgpOrder::Begin(Box::new(spec)));
            let state = NeighborState {
                config: neighbor.clone(),
                state: State::Idle,
                since: now,
                last_error: None,
                announced: BTreeMap::new(),
                owes_end: false,
                families: PerFamily::NONE,
                lane: news,
                peering,
                is_internal,
            };
            self.neighbors.insert(id, state);
        }
    }

    /// Takes news of neighbours in turn, up to about so many prefixes, and returns whether any route
    /// changed. Not while a publication is under way: what it publishes must not change.
    pub(super) fn step(
        &mut self,
        rib: &mut Rib,
        config: &Config,
        budget: usize,
        events: &mut impl Extend<(Nanos, EventKind)>,
    ) -> bool {
        let mut left = budget;
        let mut any = false;
        for id in self.leaving.iter().copied().collect::<Vec<_>>() {
            let mut changed = Vec::new();
            let done = self.paths.forget_some(id, left, |prefix| changed.push(prefix));
            left = left.saturating_sub(changed.len());
            any |= !changed.is_empty();
            for prefix in changed {
                self.choose(rib, prefix);
            }
            if done {
                self.leaving.remove(&id);
            }
        }
        let count = self.neighbors.len();
        self.turn = if count == 0 { 0 } else { (self.turn + 1) % count };
        let ids: Vec<NeighborId> = self.neighbors.keys().copied().collect();
        for &id in ids[self.turn..].iter().chain(&ids[..self.turn]) {
            while left > 0 && !self.leaving.contains(&id) {
                let Some(state) = self.neighbors.get_mut(&id) else { break };
                let Ok(news) = state.lane.try_recv() else { break };
                left -= 1;
                match news {
                    BgpNews::Received(Received::Update(update)) => {
                        left = left.saturating_sub(self.receive(rib, id, update));
                        any = true;
                    }
                    // Without stale routes there is nothing to mark.
                    BgpNews::Received(_) => {}
                    news => self.handle(config, id, news, events),
                }
            }
        }
        any
    }

    /// Sites may be well now, or no more.
    pub(super) fn mark(&mut self) {
        self.is_dirty = true;
    }

    /// Whether news wait.
    pub(super) fn has_news(&self) -> bool {
        !self.leaving.is_empty() || self.neighbors.values().any(|state| !state.lane.is_empty())
    }

    /// Announces and withdraws what changed. `is_well`: whether a service has enough sites that may serve.
    pub(super) fn announce(
        &mut self,
        now: Nanos,
        config: &Config,
        is_well: impl Fn(&model::Service, Family) -> bool,
    ) {
        let is_due = self.poll_timeout().is_some_and(|due| due <= now);
        if self.neighbors.is_empty() || !(std::mem::take(&mut self.is_dirty) || is_due) {
            return;
        }
        let asn = config.bgp.as_ref().map_or(0, |bgp| bgp.asn);
        let mut prefixes: Vec<(&model::Service, IpPrefix)> = Vec::new();
        for service in &config.services {
            for &prefix in &service.prefixes {
                if self.may_announce(now, prefix, is_well(service, Family::of(prefix.addr()))) {
                    prefixes.push((service, prefix));
                }
            }
        }
        for (&id, state) in &mut self.neighbors {
            if state.state != State::Established {
                continue;
            }
            let mut wanted = BTreeMap::new();
            for (service, prefix) in &prefixes {
                let is_exported = match &state.config.export {
                    Export::AllServices => true,
                    Export::Services(names) => names.contains(&service.name),
                };
                let family = Family::of(prefix.addr());
                if !is_exported || !state.families.of(family) {
                    continue;
                }
                let Some(next_hop) = next_hop_for(config, state.local(), family) else { continue };
                wanted.insert(*prefix, originated(next_hop, asn, state.is_internal));
            }
            let mut changes: Vec<Change> = Vec::new();
            for (prefix, attributes) in &wanted {
                if state.announced.get(prefix) != Some(attributes) {
                    changes.push((*prefix, Some(Arc::clone(attributes))));
                }
            }
            let gone = state.announced.keys().filter(|prefix| !wanted.contains_key(prefix));
            changes.extend(gone.map(|prefix| (*prefix, None)));
            let end = std::mem::take(&mut state.owes_end);
            if end || !changes.is_empty() {
                state.announced = wanted;
                self.orders.push(BgpOrder::Announce(id, changes, end));
            }
        }
    }

    /// When [`Self::announce`] has something to say although nothing happened.
    pub(super) fn poll_timeout(&self) -> Option<Nanos> {
        self.held.values().filter_map(|held| held.until).min()
    }

    /// Takes what the host engine is asked for.
    pub(super) fn take_orders(&mut self) -> Vec<BgpOrder> {
        std::mem::take(&mut self.orders)
    }

    /// Every neighbour.
    pub(super) fn neighbors(&self) -> impl Iterator<Item = (NeighborId, &NeighborState)> {
        self.neighbors.iter().map(|(&id, state)| (id, state))
    }

    /// What neighbours announce.
    pub(super) fn paths(&self) -> &Paths {
        &self.paths
    }

    fn forget(&mut self, id: NeighborId) {
        self.paths.forget(id);
        self.leaving.insert(id);
    }

    fn handle(
        &mut self,
        config: &Config,
        id: NeighborId,
        news: BgpNews,
        events: &mut impl Extend<(Nanos, EventKind)>,
    ) {
        let Some(state) = self.neighbors.get_mut(&id) else { return };
        let neighbor = state.config.name.clone();
        match news {
            BgpNews::State(now) => state.state = now,
            BgpNews::Down { at, was_established, why } => {
                state.last_error = Some(why.clone());
                state.since = at;
                state.announced.clear();
                if was_established {
                    events.extend([(at, EventKind::Bgp { neighbor, up: false, reason: why })]);
                    self.forget(id);
                }
            }
            BgpNews::Established(at, negotiated) => {
                state.since = at;
                state.last_error = None;
                state.families = negotiated.families;
                state.announced.clear();
                let sender = Sender {
                    asn: negotiated.remote_as,
                    internal: state.is_internal,
                    router_id: negotiated.remote_id,
                    address: state.config.address,
                    role: state.config.role.map(Role::counterpart),
                    loops: LoopRules {
                        local_as: config.bgp.as_ref().map_or(0, |bgp| bgp.asn),
                        own_as_max: state.config.allow_own_as,
                        router_id: state.peering.session.router_id,
                        cluster_id: None,
                    },
                    accepts: state.config.import == Import::All,
                };
                self.paths.begin(id, sender);
                let reason = "established".to_owned();
                events.extend([(at, EventKind::Bgp { neighbor, up: true, reason })]);
                state.owes_end = true;
                self.is_dirty = true;
            }
            // Said again, all of it.
            BgpNews::Refresh(family) => {
                let of_family = |(prefix, _): &(&IpPrefix, _)| Family::of(prefix.addr()) == family;
                let all = state.announced.iter().filter(of_family);
                let changes = all.map(|(prefix, one)| (*prefix, Some(Arc::clone(one)))).collect();
                self.orders.push(BgpOrder::Announce(id, changes, true));
            }
            BgpNews::Received(_) => {}
        }
    }

    /// Returns how many prefixes it was about.
    fn receive(&mut self, rib: &mut Rib, id: NeighborId, update: Update) -> usize {
        for fault in &update.faults {
            log::warn!("bgp {}: {fault}", self.neighbors[&id].config.name);
        }
        let mut prefixes: Vec<IpPrefix> = Vec::new();
        for nlri in update.withdrawn {
            if self.paths.withdraw(id, nlri) {
                prefixes.push(nlri.prefix);
            }
        }
        for announced in &update.announced {
            for &nlri in &announced.nlri {
                self.paths.announce(id, nlri, &announced.attributes);
                prefixes.push(nlri.prefix);
            }
        }
        let families: BTreeSet<Family> =
            prefixes.iter().map(|prefix| Family::of(prefix.addr())).collect();
        for family in families {
            let count = u32::try_from(self.paths.count(id, family)).unwrap_or(u32::MAX);
            if count > self.neighbors[&id].config.max_prefixes {
                self.orders.push(BgpOrder::Prefixes(id, family, count));
            }
        }
        prefixes.sort_unstable();
        prefixes.dedup();
        for &prefix in &prefixes {
            self.choose(rib, prefix);
        }
        prefixes.len()
    }

    /// The best path to a prefix becomes the route that BGP offers.
    fn choose(&self, rib: &mut Rib, prefix: IpPrefix) {
        let before = rib.candidates(prefix).into_iter().find(|one| one.source == Source::Bgp);
        let best = self.paths.best(prefix);
        let hops = best
            .map(|best| NextHops::Via(vec![NextHop::Address(best.path.attributes.next_hop.addr)]));
        match hops {
            Some(hops) => {
                let set = rib.hold(hops);
                match before {
                    Some(before) if before.set == set => rib.release(set),
                    before => {
                        rib.offer(prefix, Candidate { source: Source::Bgp, set });
                        if let Some(before) = before {
                            rib.release(before.set);
                        }
                    }
                }
            }
            None => {
                if let Some(before) = before {
                    rib.withdraw(prefix, Source::Bgp);
                    rib.release(before.set);
                }
            }
        }
    }

    /// Whether a prefix is announced: at once the first time, and after each withdrawal later than after the
    /// one before, so that a site that flaps is no route that flaps.
    fn may_announce(&mut self, now: Nanos, prefix: IpPrefix, is_well: bool) -> bool {
        let fresh =
            Held { is_announced: false, until: None, ill: Nanos::ZERO, delay: Duration::ZERO };
        let held = self.held.entry(prefix).or_insert(fresh);
        match (is_well, held.is_announced) {
            (true, true) => {}
            (false, true) => {
                held.is_announced = false;
                if held.delay > Duration::ZERO && now.since(held.ill) > held.delay * 4 {
                    held.delay = Duration::ZERO;
                }
                held.ill = now;
                held.delay = (held.delay * 2).clamp(ANNOUNCE_DELAY, ANNOUNCE_DELAY_MAX);
            }
            (false, false) => {
                held.until = None;
                held.ill = now;
            }
            (true, false) => {
                let until = *held.until.get_or_insert(now + held.delay);
                if now >= until {
                    held.is_announced = true;
                    held.until = None;
                }
            }
        }
        held.is_announced
    }
}

/// The router's end of a session: as configured, or its address in the neighbour's network.
fn local_of(config: &Config, neighbor: &Neighbor) -> Option<IpAddr> {
    if let Some(local) = neighbor.local_address {
        return Some(local);
    }
    let own = config.ports.iter().flat_map(|port| &port.addresses).chain(&config.router.addresses);
    own.filter(|net| net.contains(neighbor.address)).map(ipnetwork::IpNetwork::ip).next()
}

fn peering_of(
    bgp: &model::Bgp,
    router_id: std::net::Ipv4Addr,
    neighbor: &Neighbor,
    local: IpAddr,
) -> Peering {
    let limit = PrefixLimit {
        max: neighbor.max_prefixes,
        warn_at: neighbor.max_prefixes / 10 * 9,
        restart_after: None,
    };
    let add_path = AddPath { send: false, receive: neighbor.add_path == model::AddPath::Receive };
    let session = SessionConfig {
        passive: neighbor.passive,
        hold_time_s: u16::try_from(neighbor.hold_time.as_secs()).unwrap_or(u16::MAX),
        role: neighbor.role,
        max_prefixes: PerFamily::with(|_| Some(limit)),
        add_path: PerFamily::with(|_| add_path),
        // A message of 65,535 octets is more than a step's work.
        extended_message: false,
        min_ttl: neighbor.ttl_security.then_some(u8::MAX),
        ..SessionConfig::new(bgp.asn, router_id, RemoteAs::Exactly(neighbor.asn))
    };
    let ttl = neighbor.multihop.unwrap_or(u8::MAX);
    Peering { session, address: neighbor.address, local, ttl }
}

/// The next hop of what is announced in a family: the router's end, or its address of the other family on
/// the same port.
fn next_hop_for(config: &Config, local: IpAddr, family: Family) -> Option<IpAddr> {
    if Family::of(local) == family {
        return Some(local);
    }
    let has_local = |port: &&model::Port| port.addresses.iter().any(|net| net.ip() == local);
    let port = config.ports.iter().find(has_local);
    let addresses = port.map_or(&config.router.addresses, |port| &port.addresses);
    let usable = |ip: &IpAddr| {
        Family::of(*ip) == family && !matches!(ip, IpAddr::V6(v6) if v6.is_unicast_link_local())
    };
    addresses.iter().map(ipnetwork::IpNetwork::ip).find(usable)
}

fn originated(next_hop: IpAddr, asn: u32, is_internal: bool) -> Arc<Attributes> {
    let mut attributes = Attributes::originated(BgpNextHop::new(next_hop));
    if is_internal {
        attributes.local_pref = Some(100);
    } else {
        attributes.as_path = AsPath::sequence(&[asn]);
    }
    Arc::new(attributes)
}

/// News of a neighbour that may wait; then no more is read of it.
const LANE: usize = 64;

/// From when a service can be announced again until it is; doubled by each withdrawal.
const ANNOUNCE_DELAY: Duration = Duration::from_secs(10);
const ANNOUNCE_DELAY_MAX: Duration = Duration::from_mins(10);

#[cfg(test)]
mod tests {
    use super::*;

    const START: Nanos = Nanos(1_000_000_000_000);

    /// A site that is up and down twenty times a second is one withdrawal in ten seconds, then fewer.
    #[test]
    fn a_site_that_flaps_is_no_route_that_flaps() {
        let (mut bgp, prefix) = (Bgp::default(), "198.51.100.53/32".parse().unwrap());
        let mut now = START;
        assert!(bgp.may_announce(now, prefix, true), "at once the first time");
        let (mut before, mut changes) = (true, Vec::new());
        for turn in 0..20 * 300 {
            now += Duration::from_millis(25);
            assert!(!bgp.may_announce(now, prefix, false), "what is dead is not announced");
            now += Duration::from_millis(25);
            let is_announced = bgp.may_announce(now, prefix, true);
            if before != is_announced {
                changes.push(turn);
            }
            before = is_announced;
        }
        assert_eq!(changes, [0], "each death begins the wait again");

        // Well for good: announced after the wait, and after another death later than the first time.
        let mut waits = Vec::new();
        for _ in 0..3 {
            let begin = now;
            assert!(!bgp.may_announce(now, prefix, true));
            while !bgp.may_announce(now, prefix, true) {
                now = bgp.poll_timeout().unwrap();
            }
            waits.push(now.since(begin).as_secs());
            now += Duration::from_secs(1);
            assert!(!bgp.may_announce(now, prefix, false));
        }
        assert!(waits[0] < 11 && waits[1..] == [20, 40], "{waits:?}");
        now += ANNOUNCE_DELAY_MAX * 10;
        bgp.may_announce(now, prefix, true);
        now = bgp.poll_timeout().unwrap();
        assert!(bgp.may_announce(now, prefix, true));
        now += ANNOUNCE_DELAY_MAX * 10;
        assert!(!bgp.may_announce(now, prefix, false));
        let begin = now;
        bgp.may_announce(now, prefix, true);
        assert_eq!(
            bgp.poll_timeout().unwrap().since(begin),
            ANNOUNCE_DELAY,
            "forgotten after a while"
        );
    }
}
