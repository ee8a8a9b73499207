//! BFD sessions: which are wanted, by whom, and what follows from what they say.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use nearhop_fib::{ACCEPT_ALL, PathId, WriteError, name_key};

use super::bgp::local_of;
use super::{Control, Ports};
use crate::bfd::machine::Ends;
use crate::bfd::packet::State;
use crate::bfd::session::{Event, Why};
use crate::config::Config;
use crate::config::model::{Bfd, Neighbor, Port, RouteTarget, Via};
use crate::event::EventKind;
use crate::ids::{Family, PortId};
use crate::liveness::bfd::{BfdNews, BfdOrder, BfdSpec, BfdView};
use crate::rib::Way;

/// Every session, as the control plane wants it.
#[derive(Default)]
pub(super) struct BfdSessions {
    sessions: BTreeMap<Ends, BfdState>,
    /// The session with each BGP neighbour that has one.
    by_neighbor: BTreeMap<String, Ends>,
    /// Paths of legs and of next hops, and the session that each is down with.
    paths: BTreeMap<PathId, Ends>,
    /// The paths of static next hops, with the port that each leaves by.
    hops: BTreeMap<Ends, (PathId, PortId)>,
    orders: Vec<BfdOrder>,
}

/// A session, as the control plane knows it.
struct BfdState {
    spec: BfdSpec,
    users: BTreeSet<User>,
    view: BfdView,
}

/// For whom a session is.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
enum User {
    /// A BGP neighbour, by its name.
    Neighbor(String),
    /// A leg, by its path.
    Leg(PathId),
    /// Static routes.
    Routes,
}

/// What is wanted: sessions with their users.
type Wanted = BTreeMap<Ends, (BfdSpec, BTreeSet<User>)>;

impl BfdSessions {
    /// These sessions are wanted from now on; those that stay keep their state.
    fn configure(&mut self, wanted: Wanted) {
        self.sessions.retain(|ends, _| {
            let stays = wanted.contains_key(ends);
            if !stays {
                self.orders.push(BfdOrder::Remove(*ends));
            }
            stays
        });
        self.by_neighbor.clear();
        let mut paths = BTreeMap::new();
        for (ends, (spec, users)) in wanted {
            for user in &users {
                match user {
                    User::Neighbor(name) => drop(self.by_neighbor.insert(name.clone(), ends)),
                    User::Leg(path) => drop(paths.insert(*path, ends)),
                    User::Routes => {
                        paths.extend(self.hops.get(&ends).map(|&(path, _)| (path, ends)));
                    }
                }
            }
            let known = self.sessions.get_mut(&ends);
            if known.as_ref().is_none_or(|state| state.spec != spec) {
                self.orders.push(BfdOrder::Set(Box::new(spec.clone())));
            }
            if let Some(state) = known {
                (state.spec, state.users) = (spec, users);
            } else {
                let view = BfdView::Unknown;
                self.sessions.insert(ends, BfdState { spec, users, view });
            }
        }
        self.watch_paths(paths);
    }

    /// These paths of legs and next hops are down with their sessions from now on, also if these failed before.
    fn watch_paths(&mut self, paths: BTreeMap<PathId, Ends>) {
        for (&path, &ends) in &self.paths {
            if paths.get(&path) != Some(&ends) {
                self.orders.push(BfdOrder::Unwatch(ends, path));
            }
        }
        for (&path, &ends) in &paths {
            if self.paths.get(&path) != Some(&ends) {
                self.orders.push(BfdOrder::Watch { ends, path, heeds_past: true });
            }
        }
        self.paths = paths;
    }

    /// The path of a BGP neighbour is down while its session has failed, which has to be up first: so far the
    /// neighbour may speak no BFD.
    fn watch(&mut self, neighbor: &str, path: PathId) {
        if let Some(&ends) = self.by_neighbor.get(neighbor) {
            self.orders.push(BfdOrder::Watch { ends, path, heeds_past: false });
        }
    }

    /// The BGP neighbours that a session is with.
    pub(super) fn neighbors(&self, ends: &Ends) -> impl Iterator<Item = &str> {
        let users = self.sessions.get(ends).into_iter().flat_map(|state| &state.users);
        users.filter_map(|user| match user {
            User::Neighbor(name) => Some(name.as_str()),
            User::Leg(_) | User::Routes => None,
        })
    }

    /// The way of a static next hop that is watched.
    pub(super) fn way_of(&self, ports: &Ports, address: IpAddr) -> Option<Way> {
        let (_, &(path, port)) = self.hops.iter().find(|(ends, _)| ends.remote == address)?;
        Some(Way { path, adjacency: ports.by_id(port)?.adjacency })
    }

    /// The port that a static next hop leaves by, if the path is one's.
    pub(super) fn port_of(&self, path: PathId) -> Option<PortId> {
        self.hops.values().find(|(hop, _)| *hop == path).map(|&(_, port)| port)
    }
}

impl Control {
    /// Makes the paths of static next hops that are watched. To be called before routes are offered; those that
    /// nothing leads to any more are released once that is published.
    pub(super) fn plan_hops(&mut self) -> Result<(), WriteError> {
        let hops = hops(&self.config, &self.ports);
        let gone: Vec<Ends> =
            self.bfd.hops.keys().filter(|ends| !hops.contains_key(ends)).copied().collect();
        for ends in gone {
            let released = self.bfd.hops.remove(&ends).map(|(path, _)| path);
            self.stopping.paths.extend(released);
        }
        for (ends, spec) in hops {
            if self.bfd.hops.contains_key(&ends) {
                continue;
            }
            let Some(exit) = spec.exit else { continue };
            let key = name_key(&ends.remote.to_string());
            let path = self.writer.add_path(key, ACCEPT_ALL)?;
            self.bfd.hops.insert(ends, (path, exit.port));
        }
        Ok(())
    }

    /// Brings the sessions to the configuration in force. To be called once BGP, legs and ports are.
    pub(super) fn configure_bfd(&mut self) {
        let before = self.bfd.by_neighbor.clone();
        self.bfd.configure(self.wanted_bfd());
        let paths: Vec<_> = self.bgp.paths_of_sessions().collect();
        for (name, path) in paths {
            let (was, is) = (before.get(&name), self.bfd.by_neighbor.get(&name).copied());
            if was.copied() == is {
                continue;
            }
            if let Some(path) = path {
                self.bfd.orders.extend(was.map(|&ends| BfdOrder::Unwatch(ends, path)));
                self.bfd.watch(&name, path);
            }
            if was.is_some() {
                // Whatever it said before, it is not asked any more.
                self.bgp.heed_bfd(&name, false);
            }
        }
    }

    /// The sessions of a configuration, as far as their ports are open.
    fn wanted_bfd(&self) -> Wanted {
        let (config, ports) = (&*self.config, &self.ports);
        let mut wanted = Wanted::new();
        let mut add = |spec: BfdSpec, user: User| {
            wanted.entry(spec.ends).or_insert_with(|| (spec, BTreeSet::new())).1.insert(user);
        };
        for neighbor in config.bgp.iter().flat_map(|bgp| &bgp.neighbors) {
            let address = neighbor.address.or_else(|| self.bgp.found_at(&neighbor.name));
            let Some(address) = address else { continue };
            if let Some(spec) = spec_of(config, ports, neighbor, address) {
                add(spec, User::Neighbor(neighbor.name.clone()));
            }
        }
        for spec in hops(config, ports).into_values() {
            add(spec, User::Routes);
        }
        for service in &config.services {
            for (key, leg) in self.services().legs_of(&service.name) {
                let mut sites = service.sites.iter();
                let site = sites.find(|site| site.name == key.site);
                let Some(bfd) = site.and_then(|site| site.bfd.as_ref()) else { continue };
                let of_family = |target: &&IpAddr| Family::of(**target) == key.family;
                for target in bfd.targets.iter().filter(of_family) {
                    let spec = on_link(config, ports, *target, &bfd.bfd);
                    if let Some(spec) = spec.filter(|spec| spec.exit == Some(leg.exit)) {
                        add(spec, User::Leg(leg.path));
                    }
                }
            }
        }
        wanted
    }

    /// Routes of BGP sessions that began lead by these paths. Of a neighbour that is looked for the address is known
    /// by then.
    pub(super) fn watch_begun(&mut self) {
        let begun = self.bgp.take_begun();
        let neighbors = || self.config.bgp.iter().flat_map(|bgp| &bgp.neighbors);
        let is_found = |name: &str| {
            let mut looked_for = neighbors().filter(|one| one.address.is_none());
            looked_for.any(|one| one.bfd.is_some() && one.name == name)
        };
        if begun.iter().any(|(name, _)| is_found(name)) {
            self.configure_bfd();
        }
        for (name, path) in begun {
            self.bfd.watch(&name, path);
        }
    }

    /// Something happened to a session; the bytes that follow from it are stored already.
    pub fn handle_bfd(&mut self, news: &BfdNews) {
        let Some(state) = self.bfd.sessions.get_mut(&news.ends) else { return };
        let before = std::mem::replace(&mut state.view, news.view);
        let has_failed = news.view == BfdView::Failed;
        if has_failed != (before == BfdView::Failed) {
            for user in &state.users {
                if let User::Neighbor(name) = user {
                    self.bgp.heed_bfd(name, has_failed);
                }
            }
        }
        let neighbor = news.ends.remote.to_string();
        let port = news.ends.link.and_then(|link| self.name_of(link)).map(str::to_owned);
        match news.event {
            // Nothing is known on the way up.
            None | Some(Event::State { to: State::Init, .. }) => {}
            Some(Event::State { at, to, why, .. }) => {
                let (state, up) = (to.label().to_owned(), to == State::Up);
                let (reason, stored_ns) = (why_text(why), news.stored.0);
                let kind = EventKind::Bfd { neighbor, port, up, state, reason, stored_ns };
                self.events.push_back((at, kind));
            }
            Some(Event::Pace { at, factor, late }) => {
                let late_us = u64::try_from(late.as_micros()).unwrap_or(u64::MAX);
                let kind = EventKind::BfdPace { neighbor, port, factor, late_us };
                self.events.push_back((at, kind));
            }
        }
    }

    /// Takes what the liveness engine is asked for, in this order.
    pub fn take_bfd_orders(&mut self) -> Vec<BfdOrder> {
        std::mem::take(&mut self.bfd.orders)
    }

    /// The BGP neighbours that a BFD session is with, by name.
    pub fn bfd_neighbors(&self, ends: &Ends) -> impl Iterator<Item = &str> {
        self.bfd.neighbors(ends)
    }
}

/// The sessions with static next hops.
fn hops(config: &Config, ports: &Ports) -> BTreeMap<Ends, BfdSpec> {
    let mut hops = BTreeMap::new();
    for route in &config.routes {
        let (Some(bfd), RouteTarget::Via(vias)) = (&route.bfd, &route.target) else { continue };
        for via in vias {
            let Via::Address(address) = via else { continue };
            let spec = on_link(config, ports, *address, bfd);
            hops.extend(spec.map(|spec| (spec.ends, spec)));
        }
    }
    hops
}

/// A session with an address on a port's link.
fn on_link(config: &Config, ports: &Ports, remote: IpAddr, bfd: &Bfd) -> Option<BfdSpec> {
    let net = |port: &Port| port.addresses.iter().find(|net| net.contains(remote)).copied();
    let (port, net) = config.ports.iter().find_map(|port| Some((port, net(port)?)))?;
    let exit = ports.exit(&port.name)?;
    let ends = Ends { local: net.ip(), remote, link: Some(exit.port) };
    Some(BfdSpec { ends, exit: Some(exit), config: bfd.session() })
}

fn spec_of(config: &Config, ports: &Ports, neighbor: &Neighbor, remote: IpAddr) -> Option<BfdSpec> {
    let bfd = neighbor.bfd.as_ref()?;
    let local = local_of(config, neighbor)?;
    if let Some(port) = &neighbor.port {
        let exit = ports.exit(port)?;
        let ends = Ends { local, remote, link: Some(exit.port) };
        return Some(BfdSpec { ends, exit: Some(exit), config: bfd.session() });
    }
    if bfd.multihop.unwrap_or(neighbor.multihop.is_some()) {
        let ends = Ends { local, remote, link: None };
        return Some(BfdSpec { ends, exit: None, config: bfd.session() });
    }
    let spec = on_link(config, ports, remote, bfd)?;
    let ends = Ends { local, ..spec.ends };
    Some(BfdSpec { ends, ..spec })
}

fn why_text(why: Why) -> String {
    match why {
        Why::AdminDown => "an operator of this router".to_owned(),
        Why::Expired => "the neighbor is silent".to_owned(),
        Why::Heard => "both ends hear each other".to_owned(),
        Why::NeighborAdminDown => "an operator of the neighbor".to_owned(),
        Why::NeighborDown(diagnostic) => format!("the neighbor's end is down: {diagnostic}"),
        Why::PathDown => "no carrier".to_owned(),
    }
}
