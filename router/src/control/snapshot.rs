//! What workers read besides the FIB: ports, adjacencies, and the router's own settings.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use ipnetwork::IpNetwork;
use nearhop_fib::AdjacencyId;

use super::own::{self, Own, v4, v6};
use super::ports::{PortState, Ports};
use crate::config::Config;
use crate::forward::{AddressSet, Adjacencies, Adjacency, Broadcasts, Locals, PortEntry, Snapshot};
use crate::packet::martian::is_link_local;
use crate::probe::SOURCE_PORTS;

/// The snapshot in force, and those that somebody may still read.
pub(super) struct SnapshotPublisher {
    in_force: Arc<ArcSwap<Snapshot>>,
    /// Kept until nobody else has them, so that they end here and not on a worker.
    retired: Vec<Arc<Snapshot>>,
}

impl SnapshotPublisher {
    pub(super) fn new(in_force: Arc<ArcSwap<Snapshot>>) -> Self {
        Self { in_force, retired: Vec::new() }
    }

    /// Where snapshots are published.
    pub(super) fn in_force(&self) -> &Arc<ArcSwap<Snapshot>> {
        &self.in_force
    }

    /// Publishes these ports, whether they are configured or not, for batches and groups may still lead
    /// to them.
    pub(super) fn publish(&mut self, config: &Config, ports: &Ports) {
        let mut entries = vec![None; ports.numbers_end()];
        let own: Vec<Own<'_>> = own::all(config).collect();
        let mut link_locals = own::link_locals(&own);
        let on_links = || {
            let neighbors = config.bgp.iter().flat_map(|bgp| &bgp.neighbors);
            neighbors.filter_map(|neighbor| neighbor.port.as_deref())
        };
        for state in ports.iter() {
            let of_port = link_locals.remove(state.name()).unwrap_or_default();
            let has_discovery = on_links().any(|port| port == state.name());
            entries[usize::from(state.id.0)] =
                Some(PortEntry { has_discovery, ..entry(state, of_port) });
        }
        let adjacencies = self.adjacencies(ports);
        let router = &config.router;
        let (address_v4, address_v6) = own::error_sources(config, &own);
        let services = config.services.iter().flat_map(|service| service.prefixes.iter().copied());
        let broadcasts = own::broadcasts(config);
        let sources = own::martian_sources(&own, &broadcasts);
        let old = self.in_force.swap(Arc::new(Snapshot {
            generation: self.in_force.load().generation + 1,
            ports: entries,
            adjacencies,
            martians: router.martians,
            hash_seed: router.hash_seed,
            address_v4,
            address_v6,
            directed_broadcasts: broadcasts.into_iter().collect(),
            martian_sources: sources.iter().copied().collect(),
            client_sources: sources.into_iter().chain(services.clone()).collect(),
            services: services.collect(),
            bfd: Arc::clone(&self.in_force.load().bfd),
            busy_poll: router.busy_poll,
            ..empty()
        }));
        self.retired.push(old);
    }

    /// Ends old snapshots that nobody else has.
    pub(super) fn reclaim(&mut self) {
        self.retired.retain(|snapshot| Arc::strong_count(snapshot) > 1);
    }

    /// Those of the ports there are; chunks that stay the same are shared with the snapshot in force.
    fn adjacencies(&self, ports: &Ports) -> Adjacencies {
        let mut adjacencies = self.in_force.load().adjacencies.clone();
        let of_port =
            |state: &PortState| (state.adjacency, Adjacency::point_to_point(state.id, state.mtu()));
        let wanted: BTreeMap<_, _> = ports.iter().map(of_port).collect();
        let gone = |(id, _): (AdjacencyId, &Adjacency)| (!wanted.contains_key(&id)).then_some(id);
        for id in adjacencies.iter().filter_map(gone).collect::<Vec<_>>() {
            adjacencies.set(id, None);
        }
        for (id, adjacency) in wanted {
            adjacencies.set(id, Some(adjacency));
        }
        adjacencies
    }
}

/// The snapshot of a router without ports.
pub(super) fn empty() -> Snapshot {
    Snapshot {
        generation: 0,
        ports: Vec::new(),
        adjacencies: Adjacencies::default(),
        martians: crate::policy::Martians::Default,
        hash_seed: 0,
        address_v4: None,
        address_v6: None,
        directed_broadcasts: Broadcasts::default(),
        martian_sources: AddressSet::default(),
        client_sources: AddressSet::default(),
        services: AddressSet::default(),
        locals: Locals::of_checks(SOURCE_PORTS),
        bfd: Arc::default(),
        busy_poll: Duration::ZERO,
    }
}

fn entry(state: &PortState, link_locals: Vec<IpAddr>) -> PortEntry {
    let addresses = &state.config.addresses;
    let own = || addresses.iter().map(IpNetwork::ip).filter(|&ip| !is_link_local(ip));
    PortEntry {
        name: state.config.name.clone(),
        device: Arc::clone(&state.device),
        adjacency: state.adjacency,
        address_v4: own().find_map(v4),
        address_v6: own().find_map(v6),
        link_locals: link_locals.into(),
        has_discovery: false,
        networks: own::networks(addresses).collect(),
        reverse_path: state.config.reverse_path,
        facing: state.config.facing,
        engine: state.config.engine,
        join: state.config.join,
        has_link_headers: false,
    }
}
