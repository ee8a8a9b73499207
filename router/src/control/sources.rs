//! What a configuration offers to the RIB, source by source.

use std::collections::{BTreeMap, VecDeque};
use std::net::IpAddr;
use std::sync::Arc;

use nearhop_fib::IpPrefix;

use super::own;
use super::ports::Ports;
use crate::config::Config;
use crate::config::model::{Route, RouteTarget, Service, Via, WhenAllDead};
use crate::ids::Family;
use crate::rib::table::{Builder, RouteTable};
use crate::rib::{Feed, NextHop, NextHops, Offered, Rib, ServiceSet, Source, Way};

/// The RIB, and what its sources have for it.
#[derive(Default)]
pub(super) struct Routing {
    pub(super) rib: Rib,
    /// What each source offers, once `feeds` are done.
    offered: BTreeMap<Source, Offered>,
    /// What is on its way to the RIB.
    feeds: VecDeque<Feed>,
}

impl Routing {
    /// Queues what leads from the tables in force to those of the configuration. `hop_by`: the way of a next hop
    /// of `[[route]]` that is watched.
    pub(super) fn offer(
        &mut self,
        config: &Config,
        ports: &Ports,
        hop_by: impl Fn(IpAddr) -> Option<Way>,
    ) {
        let way_by = |port: &str| {
            let port = ports.get(port)?;
            Some(Way { path: port.path, adjacency: port.adjacency })
        };
        let mut offered = BTreeMap::new();
        for (source, table) in tables(config, way_by, hop_by) {
            let sets = table.targets.into_iter().map(|hops| self.rib.hold(hops)).collect();
            offered.insert(source, Offered { prefixes: table.prefixes, sets });
        }
        let mut before = std::mem::replace(&mut self.offered, offered);
        for (&source, new) in &self.offered {
            let old = before.remove(&source).unwrap_or_default();
            self.feeds.push_back(Feed::new(source, old, new.clone()));
        }
        for (source, old) in before {
            self.feeds.push_back(Feed::new(source, old, Offered::default()));
        }
    }

    /// Feeds the RIB with up to so many routes; `false` if there is nothing to feed it with.
    pub(super) fn feed(&mut self, routes: usize) -> bool {
        let Some(feed) = self.feeds.front_mut() else { return false };
        if feed.step(&mut self.rib, routes) {
            self.feeds.pop_front();
        }
        true
    }

    /// Whether the RIB has what the sources offer.
    pub(super) fn is_fed(&self) -> bool {
        self.feeds.is_empty()
    }

    /// Marks what the sites of every service lead to, as it may be another.
    pub(super) fn mark_services(&mut self) {
        let sets = self.offered.get(&Source::Service).map(|offered| &offered.sets);
        for &set in sets.into_iter().flatten() {
            self.rib.dirty().mark_set(set);
        }
    }

    /// Marks what the sites of a service lead to in one family.
    pub(super) fn mark_service(&mut self, service: &Service, family: Family) {
        let prefixes = service.prefixes.iter();
        let of_family = prefixes.filter(|prefix| Family::of(prefix.addr()) == family);
        let mut sets: Vec<ServiceSet> = of_family.map(|&prefix| set_of(service, prefix)).collect();
        sets.dedup();
        for set in sets {
            if let Some(set) = self.rib.find(&NextHops::Service(set)) {
                self.rib.dirty().mark_set(set);
            }
        }
    }

    /// Sets of next hops that the sources' tables hold.
    #[cfg(test)]
    pub(super) fn offered_sets(&self) -> usize {
        self.offered.values().map(|offered| offered.sets.len()).sum()
    }
}

/// How many sets of next hops a configuration has at most.
pub(super) fn sets_max(config: &Config) -> usize {
    let prefixes = config.services.iter().map(|service| service.prefixes.len());
    let in_files = config.route_files.iter().map(|file| file.routes.targets.len());
    // One each for the router's own addresses and for what is discarded.
    prefixes.chain(in_files).sum::<usize>() + config.routes.len() + config.ports.len() + 2
}

/// The table of every source, where it has any route. `way_by`: the way out by a port of this name.
fn tables(
    config: &Config,
    way_by: impl Fn(&str) -> Option<Way>,
    hop_by: impl Fn(IpAddr) -> Option<Way>,
) -> Vec<(Source, RouteTable<NextHops>)> {
    let local: RouteTable<_> =
        own::all(config).map(|own| (IpPrefix::host(own.address), NextHops::Local)).collect();
    let mut connected = Builder::new();
    // Of several ports with one network (which only link-local ones are), the first.
    for port in config.ports.iter().rev() {
        let Some(way) = way_by(&port.name) else { continue };
        let target = connected.target(NextHops::Via(vec![NextHop::Way(way)]));
        let networks = port.addresses.iter();
        let prefixes = networks.filter_map(|net| IpPrefix::around(net.ip(), net.prefix()));
        prefixes.for_each(|prefix| connected.add(prefix, target));
    }
    let prefixes = config
        .services
        .iter()
        .flat_map(|service| service.prefixes.iter().map(move |p| (service, *p)));
    let services: RouteTable<_> = prefixes
        .map(|(service, prefix)| (prefix, NextHops::Service(set_of(service, prefix))))
        .collect();
    let hops = |target: &RouteTarget| next_hops(target, &way_by, |_| None);
    let watched = |route: &Route| match route.bfd {
        Some(_) => next_hops(&route.target, &way_by, &hop_by),
        None => hops(&route.target),
    };
    let routes = config.routes.iter();
    let fixed: RouteTable<_> =
        routes.filter_map(|route| Some((route.prefix, watched(route)?))).collect();
    let mut tables = vec![
        (Source::Local, local),
        (Source::Connected, connected.finish()),
        (Source::Service, services),
        (Source::Static, fixed),
    ];
    for (index, file) in config.route_files.iter().enumerate() {
        let targets = file.routes.targets.iter();
        // A port that is not there yet makes no way; its prefixes then lead nowhere.
        let targets = targets.map(|target| hops(target).unwrap_or(NextHops::Unreachable)).collect();
        let prefixes = Arc::clone(&file.routes.prefixes);
        let source = Source::File(u16::try_from(index).unwrap_or(u16::MAX));
        tables.push((source, RouteTable { prefixes, targets }));
    }
    tables.retain(|(_, table)| !table.is_empty());
    tables
}

/// `None` if no port among the next hops is there, and no address is one of them.
fn next_hops(
    target: &RouteTarget,
    way_by: impl Fn(&str) -> Option<Way>,
    hop_by: impl Fn(IpAddr) -> Option<Way>,
) -> Option<NextHops> {
    Some(match target {
        RouteTarget::Blackhole => NextHops::Blackhole,
        RouteTarget::Unreachable => NextHops::Unreachable,
        RouteTarget::Prohibit => NextHops::Prohibit,
        RouteTarget::Via(vias) => {
            let hops = vias.iter().filter_map(|via| match via {
                Via::Port(name) => way_by(name).map(NextHop::Way),
                Via::Address(address) => Some(match hop_by(*address) {
                    Some(way) => NextHop::Way(way),
                    None => NextHop::Address(*address),
                }),
            });
            let hops: Vec<NextHop> = hops.collect();
            return (!hops.is_empty()).then_some(NextHops::Via(hops));
        }
    })
}

/// What a prefix of a service leads to.
pub(super) fn set_of(service: &Service, prefix: IpPrefix) -> ServiceSet {
    let own = (service.when_all_dead == WhenAllDead::Covering).then_some(prefix);
    ServiceSet {
        service: service.name.clone(),
        family: Family::of(prefix.addr()),
        prefix: own,
        leads_on: service.when_all_dead.follows_routes(),
    }
}
