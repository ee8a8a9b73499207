//! BGP in the control plane: what neighbours announce becomes routes of the RIB, and what services are
//! worth becomes what is announced.

pub(super) mod announce;
mod ranges;
mod receive;
mod refresh;
mod withdrawals;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use crossbeam_channel::{Receiver, bounded};
use nearhop_fib::{Handle, PathId, Reason};

use self::announce::offers::Announcements;
use self::announce::stale::Stale;
use self::announce::told::Told;
use self::ranges::Ranges;
pub(super) use self::receive::Parts as BgpParts;
use self::receive::Rest;
use self::refresh::Refreshes;
use super::ports::Ports;
use crate::batch::Exit;
use crate::bgp::lane::{
    BgpNews, BgpOrder, Clear, Link, NeighborSpec, PREFIXES_WAITING_MAX, Peering,
};
use crate::bgp::lease::{LeaseRules, LeaseState};
use crate::bgp::session::{PrefixLimit, RemoteAs, SessionConfig, State};
use crate::bgp::table::Paths;
use crate::bgp::{AttributeStore, Negotiated, PerFamily, RefreshKind};
use crate::config::Config;
use crate::config::model::{self, Neighbor};
use crate::event::EventKind;
use crate::ids::NeighborId;
use crate::neighbor::DiscoveryLink;
use crate::put_back::{self, PutBack};
use crate::rib::{RankedHop, SetId, Way};
use crate::time::Nanos;

/// Every neighbour, what they announce, and what is announced to them.
#[derive(Default)]
pub(super) struct Bgp {
    neighbors: BTreeMap<NeighborId, NeighborState>,
    /// Numbers are not used again.
    next_id: u32,
    /// The lane of a neighbour whose paths are being forgotten is not read.
    paths: Paths,
    /// Neighbours of which stale paths are being removed; a lane is not read before.
    sweeping: BTreeSet<NeighborId>,
    /// Who is served first.
    turn: usize,
    /// Whose withdrawals are taken first.
    withdraws_first: usize,
    /// Units of steps since a publication began.
    units: usize,
    /// How many paths that are as good share the packets to a prefix.
    multipath: usize,
    /// What the paths to the last prefix of a family lead to, and its set: often the next one's too.
    last: PerFamily<Option<(Vec<RankedHop>, SetId)>>,
    /// Paths in the FIB of sessions that ended, whose byte is to be set.
    lost: Vec<PathId>,
    /// Those whose byte is set, until nothing leads to them any more.
    retiring: Vec<PathId>,
    /// Paths in the FIB of sessions that began, with the names of their neighbours.
    begun: Vec<(String, PathId)>,
    orders: Vec<BgpOrder>,
    events: Vec<(Nanos, EventKind)>,
    /// As last ordered.
    lease: Option<LeaseRules>,
    /// Whether `[bgp]` is configured.
    is_on: bool,
    announcements: Announcements,
    ranges: Ranges,
    /// Equal attributes of what is announced are one, so that prefixes share UPDATEs.
    store: AttributeStore,
}

/// A neighbour, as the control plane knows it.
pub struct NeighborState {
    /// What is configured.
    pub config: Neighbor,
    /// Its address; of one that is looked for, the one that was found.
    pub address: Option<IpAddr>,
    /// State of its session.
    pub state: State,
    /// Since when.
    pub since: Nanos,
    /// Why its last session ended.
    pub last_error: Option<String>,
    /// What is announced to it.
    pub announced: Told,
    /// Whether End-of-RIB is to follow what is announced first.
    owes_end: bool,
    /// Prefixes about which it may have to hear something else.
    stale: Stale,
    /// Families of which it wants to hear all once more.
    again: PerFamily<bool>,
    /// Families of which all that it began with has come (End-of-RIB, RFC 4724).
    pub ended: PerFamily<bool>,
    /// What it announces again.
    refreshes: Refreshes,
    /// As what it hears all that is ordered.
    pub lease: LeaseState,
    /// The families that are exchanged.
    pub families: PerFamily<bool>,
    /// What both sides agreed on, of a session that exchanges routes.
    pub negotiated: Option<Box<Negotiated>>,
    lane: Receiver<BgpNews>,
    /// News that were taken out of the lane before their turn.
    held: Option<BgpNews>,
    /// Set by the session when it ends.
    lost: Arc<AtomicBool>,
    /// Prefixes in the lane.
    waiting: Arc<AtomicUsize>,
    /// What is left of an UPDATE.
    rest: Option<Rest>,
    /// The session's path in the FIB, by which all its routes lead: one byte takes it down.
    path: Option<PathId>,
    peering: Peering,
    /// The way out by its port, where its link-local next hops are.
    way: Option<Way>,
    is_internal: bool,
}

impl NeighborState {
    /// The router's end of the session.
    pub fn local(&self) -> IpAddr {
        self.peering.local
    }

    /// The next news.
    fn take_news(&mut self) -> Option<BgpNews> {
        if let Some(held) = self.held.take() {
            return Some(held);
        }
        let news = self.lane.try_recv().ok()?;
        self.waiting.fetch_sub(news.prefixes(), Ordering::Relaxed);
        Some(news)
    }

    /// Whether the session may wait for room in the lane.
    fn is_full(&self) -> bool {
        let waiting = self.waiting.load(Ordering::Relaxed);
        self.lane.is_full() || waiting >= PREFIXES_WAITING_MAX
    }
}

impl Bgp {
    /// What is configured changes.
    pub(super) fn configure(&mut self, now: Nanos, config: &Config, ports: &Ports) {
        self.is_on = config.bgp.is_some();
        self.announcements.configure(config);
        self.set_lease(config);
        self.set_multipath(config);
        self.set_ranges(config);
        let mut wanted: BTreeMap<String, (&Neighbor, Peering, Option<Way>)> = BTreeMap::new();
        if let (Some(bgp), Some(router_id)) = (&config.bgp, config.router.id) {
            for neighbor in &bgp.neighbors {
                let port = neighbor.port.as_ref().and_then(|name| ports.get(name));
                let Some(local) = local_of(config, neighbor) else { continue };
                if neighbor.port.is_some() && port.is_none() {
                    continue;
                }
                let link = port.map(|port| Link { port: port.id, adjacency: port.adjacency });
                let way = port.map(|port| Way { path: port.path, adjacency: port.adjacency });
                let peering = peering_of(bgp, router_id, neighbor, (local, link));
                wanted.insert(neighbor.name.clone(), (neighbor, peering, way));
            }
        }
        let asn = config.bgp.as_ref().map_or(0, |bgp| bgp.asn);
        let gone: Vec<NeighborId> = self
            .neighbors
            .iter()
            .filter(|(id, state)| match state.config.template {
                Some(_) => self.still_of_range(config, **id).is_none(),
                None => wanted
                    .get(&state.config.name)
                    .is_none_or(|(_, peering, _)| *peering != state.peering),
            })
            .map(|(&id, _)| id)
            .collect();
        for id in gone {
            let state = self.neighbors.remove(&id);
            self.forget(id, state.and_then(|state| state.path));
            self.orders.push(BgpOrder::End(id, "no longer configured so".into()));
        }
        for id in self.neighbors.keys().copied().collect::<Vec<_>>() {
            if let Some((neighbor, _)) = self.still_of_range(config, id) {
                self.reconfigure(id, &neighbor);
            }
        }
        for (name, (neighbor, peering, way)) in wanted {
            let mut fixed = self.neighbors.iter().filter(|(_, one)| one.config.template.is_none());
            let known = fixed.find(|(_, state)| state.config.name == name);
            if let Some((&id, _)) = known {
                self.reconfigure(id, neighbor);
                continue;
            }
            self.begin(now, neighbor, (peering, way), neighbor.asn == asn);
        }
    }

    /// A neighbour is new, or its session has to be another.
    fn begin(
        &mut self,
        now: Nanos,
        neighbor: &Neighbor,
        (peering, way): (Peering, Option<Way>),
        is_internal: bool,
    ) {
        let id = NeighborId(self.next_id);
        self.next_id += 1;
        let (lane, news) = bounded(LANE);
        let (lost, waiting) = (Arc::<AtomicBool>::default(), Arc::<AtomicUsize>::default());
        let spec = NeighborSpec {
            id,
            peering: peering.clone(),
            lane,
            transcript: neighbor.transcript,
            lost: Arc::clone(&lost),
            waiting: Arc::clone(&waiting),
        };
        self.orders.push(BgpOrder::Begin(Box::new(spec)));
        let state = NeighborState {
            config: neighbor.clone(),
            address: peering.address,
            state: State::Idle,
            since: now,
            last_error: None,
            announced: Told::default(),
            owes_end: false,
            stale: Stale::default(),
            again: PerFamily::NONE,
            ended: PerFamily::NONE,
            refreshes: Refreshes::default(),
            lease: LeaseState::Held,
            families: PerFamily::NONE,
            negotiated: None,
            lane: news,
            held: None,
            lost,
            waiting,
            rest: None,
            path: None,
            peering,
            way,
            is_internal,
        };
        self.neighbors.insert(id, state);
    }

    /// What is configured of a neighbour changes, but its session.
    fn reconfigure(&mut self, id: NeighborId, neighbor: &Neighbor) {
        let Some(state) = self.neighbors.get_mut(&id) else { return };
        let rules = |one: &Neighbor| (one.import.clone(), one.refuses_bogons, one.allow_own_as);
        if rules(&state.config) != rules(neighbor) {
            // What came is kept as it came: the session goes on.
            self.paths.change_rules(id, |sender| {
                sender.import = neighbor.import.clone();
                sender.refuses_bogons = neighbor.refuses_bogons;
                sender.loops.own_as_max = neighbor.allow_own_as;
            });
            log::info!("bgp {}: what it announces is judged again", neighbor.name);
        }
        if state.config.transcript != neighbor.transcript {
            self.orders.push(BgpOrder::Keep(id, neighbor.transcript));
        }
        state.config = neighbor.clone();
        state.stale.mark_all();
    }

    /// What a neighbour announced is gone, and its session's path in the FIB is not used any more.
    fn forget(&mut self, id: NeighborId, path: Option<PathId>) {
        self.lost.extend(path);
        self.retiring.extend(path);
        self.paths.forget(id);
        self.sweeping.remove(&id);
    }

    /// Whether news wait.
    pub(super) fn has_news(&self) -> bool {
        let waits = |state: &NeighborState| {
            state.rest.is_some() || state.held.is_some() || !state.lane.is_empty()
        };
        let is_busy = self.paths.any_leaving() || self.paths.is_judging() || self.ranges.is_asked();
        is_busy || !self.sweeping.is_empty() || self.neighbors.values().any(waits)
    }

    /// All services are back after the longest of their waits.
    fn set_lease(&mut self, config: &Config) {
        let Some(bgp) = &config.bgp else { return };
        let back = config.services.iter().map(|service| service.announce.delay).max();
        let rules = LeaseRules { back: back.unwrap_or(bgp.lease.back), ..bgp.lease };
        if self.lease.replace(rules) != Some(rules) {
            self.orders.push(BgpOrder::Lease(rules));
        }
    }

    fn set_multipath(&mut self, config: &Config) {
        let multipath = config.bgp.as_ref().map_or(1, |bgp| usize::from(bgp.multipath));
        if std::mem::replace(&mut self.multipath, multipath) != multipath {
            self.paths.change_choice();
        }
    }

    /// Whether news have been taken for so long that what changed is to be published before more are.
    pub(super) fn is_due(&self) -> bool {
        self.units >= UNITS_MAX
    }

    /// A publication begins: all that was taken is in it.
    pub(super) fn note_publication(&mut self) {
        self.units = 0;
    }

    /// Takes sessions down that ended, by one byte each: packets go by what is left of each group, whatever
    /// waits to be published. Returns whether there was any.
    pub(super) fn note_losses(&mut self, handle: &Handle) -> bool {
        for state in self.neighbors.values_mut() {
            if state.lost.swap(false, Ordering::Acquire) && !put_back::is(PutBack::DeadSessionStays)
            {
                self.lost.extend(state.path);
            }
        }
        let any = !self.lost.is_empty();
        for path in self.lost.drain(..) {
            handle.set_path_down(path, Reason::Session);
        }
        any
    }

    /// Whether something waits for [`Self::note_losses`].
    pub(super) fn has_losses(&self) -> bool {
        let is_lost = |state: &NeighborState| state.lost.load(Ordering::Relaxed);
        !self.lost.is_empty() || self.neighbors.values().any(is_lost)
    }

    /// Whether routes of sessions that are gone are still being forgotten.
    pub(super) fn is_forgetting(&self) -> bool {
        self.paths.any_leaving()
    }

    /// The links on which the router advertises itself.
    pub(super) fn discovery_links(&self) -> Vec<DiscoveryLink> {
        let mut links: Vec<DiscoveryLink> = Vec::new();
        for Peering { address, link, local, .. } in self.neighbors.values().map(|one| &one.peering)
        {
            let (Some(Link { port, adjacency }), IpAddr::V6(own)) = (*link, *local) else {
                continue;
            };
            let (exit, listens) = (Exit { adjacency, port }, address.is_none());
            match links.iter_mut().find(|one| one.exit == exit) {
                // Of two neighbours on a link, one may be looked for: from the address of its session.
                Some(one) if listens => *one = DiscoveryLink { exit, address: own, listens },
                Some(_) => {}
                None => links.push(DiscoveryLink { exit, address: own, listens }),
            }
        }
        links
    }

    /// All that changed in the RIB is published: no group leads to sessions that are forgotten.
    /// Their paths are to be watched no more, and released.
    pub(super) fn take_retired(&mut self) -> Vec<PathId> {
        if self.paths.any_leaving() {
            return Vec::new();
        }
        std::mem::take(&mut self.retiring)
    }

    /// Takes the paths of sessions that began, with the names of their neighbours.
    pub(super) fn take_begun(&mut self) -> Vec<(String, PathId)> {
        std::mem::take(&mut self.begun)
    }

    /// The names of all neighbours, and the paths of their sessions.
    pub(super) fn paths_of_sessions(&self) -> impl Iterator<Item = (String, Option<PathId>)> {
        self.neighbors.values().map(|state| (state.config.name.clone(), state.path))
    }

    /// Where a neighbour is that was looked for.
    pub(super) fn found_at(&self, name: &str) -> Option<IpAddr> {
        let mut all = self.neighbors.values();
        all.find(|state| state.config.name == name).and_then(|state| state.address)
    }

    /// BFD has lost a neighbour, or says so no more.
    pub(super) fn heed_bfd(&mut self, name: &str, is_lost: bool) {
        let found = self.neighbors.iter().find(|(_, state)| state.config.name == name);
        self.orders.extend(found.map(|(&id, _)| BgpOrder::Bfd(id, is_lost)));
    }

    /// Takes what happened to what is announced.
    pub(super) fn take_events(&mut self) -> Vec<(Nanos, EventKind)> {
        std::mem::take(&mut self.events)
    }

    /// Takes what the host engine is asked for.
    pub(super) fn take_orders(&mut self) -> Vec<BgpOrder> {
        std::mem::take(&mut self.orders)
    }

    /// Clears the session with a neighbour, named by its name or address; whether there is one.
    pub(super) fn clear(&mut self, neighbor: &str, how: Clear) -> bool {
        let address = neighbor.parse::<IpAddr>().ok();
        let is_it = |state: &NeighborState| {
            state.config.name == neighbor || address.is_some() && address == state.address
        };
        let found = self.neighbors.iter_mut().find(|(_, state)| is_it(state));
        let Some((&id, state)) = found else { return false };
        self.orders.push(BgpOrder::Clear(id, how));
        if how == Clear::Soft {
            for family in state.families.set() {
                self.orders.push(BgpOrder::Mark(id, family, RefreshKind::Begin));
                state.announce_again(family);
            }
        }
        true
    }

    /// Every neighbour.
    pub(super) fn neighbors(&self) -> impl Iterator<Item = (NeighborId, &NeighborState)> {
        self.neighbors.iter().map(|(&id, state)| (id, state))
    }

    /// The neighbour whose session a path in the FIB is.
    pub(super) fn neighbor_of(&self, path: PathId) -> Option<&NeighborState> {
        self.neighbors.values().find(|state| state.path == Some(path))
    }

    /// What neighbours announce.
    pub(super) fn paths(&self) -> &Paths {
        &self.paths
    }
}

/// The router's end of a session: as configured, or its link-local address on the neighbour's port, or its
/// address in the neighbour's network.
pub(super) fn local_of(config: &Config, neighbor: &Neighbor) -> Option<IpAddr> {
    if let Some(local) = neighbor.local_address {
        return Some(local);
    }
    if let Some(name) = &neighbor.port {
        return config.ports.iter().find(|port| port.name == *name)?.link_local().map(IpAddr::from);
    }
    let address = neighbor.address?;
    let own = config.ports.iter().flat_map(|port| &port.addresses).chain(&config.router.addresses);
    own.filter(|net| net.contains(address)).map(ipnetwork::IpNetwork::ip).next()
}

fn peering_of(
    bgp: &model::Bgp,
    router_id: std::net::Ipv4Addr,
    neighbor: &Neighbor,
    (local, link): (IpAddr, Option<Link>),
) -> Peering {
    let limit = PrefixLimit {
        max: neighbor.max_prefixes,
        warn_at: neighbor.max_prefixes / 10 * 9,
        restart_after: neighbor.restart_after,
    };
    let session = SessionConfig {
        passive: neighbor.passive,
        dynamic: neighbor.template.is_some(),
        hold_time_s: u16::try_from(neighbor.hold_time.as_secs()).unwrap_or(u16::MAX),
        role: neighbor.role,
        max_prefixes: PerFamily::with(|_| Some(limit)),
        add_path: PerFamily::with(|_| neighbor.add_path),
        // A message of 65,535 octets is more than a step's work.
        extended_message: false,
        min_ttl: neighbor.ttl_security.then_some(u8::MAX),
        // Over link-local addresses there need be no others, not even for IPv4 (RFC 8950).
        extended_next_hop: link.is_some(),
        link_local_next_hop: link.is_some(),
        link_scoped: link.is_some(),
        ..SessionConfig::new(bgp.asn, router_id, RemoteAs::Exactly(neighbor.asn))
    };
    let ttl = neighbor.multihop.unwrap_or(u8::MAX);
    Peering { session, address: neighbor.address, link, local, ttl }
}

/// Units of steps before what they changed is published.
const UNITS_MAX: usize = 1 << 15;

/// News of a neighbour that may wait; then no more is read of it.
const LANE: usize = 256;
