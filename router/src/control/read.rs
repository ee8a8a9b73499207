//! What the control plane knows, for those who show it.

use std::sync::Arc;

use arc_swap::ArcSwap;
use nearhop_fib::{GroupId, Handle, IpPrefix, PathId, Writer};

use super::bgp::NeighborState;
use super::bgp::announce::Advertised;
use super::cost::Rule;
use super::legs::{LegKey, LegState};
use super::ports::PortState;
use super::select::{Known, Serving};
use super::services::Services;
use super::{Control, own, select};
use crate::bgp::table::Paths;
use crate::config::Config;
use crate::config::model::{Service, Site};
use crate::forward::Snapshot;
use crate::host::OwnAddress;
use crate::ids::{Family, NeighborId, PortId};
use crate::rib::{Lead, Rib, Source};

impl Control {
    /// Every BGP neighbour.
    pub fn bgp_neighbors(&self) -> impl Iterator<Item = (NeighborId, &NeighborState)> {
        self.bgp.neighbors()
    }

    /// What is decided about the announcement of prefixes after one, in their order.
    pub fn bgp_advertised(&self, after: Option<IpPrefix>) -> impl Iterator<Item = Advertised<'_>> {
        let known = Known { services: self.services(), rib: &self.routing.rib };
        self.bgp.advertised(&self.config, known, after)
    }

    /// What BGP neighbours announce.
    pub fn bgp_paths(&self) -> &Paths {
        self.bgp.paths()
    }

    /// Where snapshots are published.
    pub fn published(&self) -> Arc<ArcSwap<Snapshot>> {
        Arc::clone(self.snapshots.in_force())
    }

    /// The configuration in force.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// As [`Self::config`], to be kept.
    pub fn config_in_force(&self) -> Arc<Config> {
        Arc::clone(self.config.config())
    }

    /// How many legs have had no result yet.
    pub fn legs_unknown(&self) -> usize {
        self.legs.unknown()
    }

    /// Every leg, in the order of its key.
    pub fn legs(&self) -> impl Iterator<Item = (&LegKey, &LegState)> {
        self.legs.iter()
    }

    /// Every port, by name.
    pub fn ports(&self) -> impl Iterator<Item = &PortState> {
        self.ports.iter()
    }

    /// The FIB, to read.
    pub fn writer(&self) -> &Writer {
        &self.writer
    }

    /// The FIB's other handle, which makes readers.
    pub fn handle(&self) -> &Handle {
        &self.handle
    }

    /// The snapshot in force.
    pub fn snapshot(&self) -> Arc<Snapshot> {
        self.snapshots.in_force().load_full()
    }

    /// Where a prefix's route comes from.
    pub fn source(&self, prefix: IpPrefix) -> Option<Source> {
        Some(self.rib().used(prefix)?.source)
    }

    /// The routes of every source.
    pub fn rib(&self) -> &Rib {
        &self.routing.rib
    }

    /// The group that stands for this in the FIB.
    pub fn group_of(&self, lead: Lead) -> Option<GroupId> {
        self.publication.publisher.group(lead)
    }

    /// The groups after one, by what they stand for.
    pub fn groups_after(&self, after: Option<Lead>) -> impl Iterator<Item = (Lead, GroupId)> + '_ {
        self.publication.publisher.groups_after(after)
    }

    /// Whether the FIB had no room for a prefix.
    #[cfg(test)]
    pub(super) fn is_refused(&self, prefix: IpPrefix) -> bool {
        self.publication.publisher.has_refused(prefix)
    }

    /// Services with what is known of their legs.
    pub fn services(&self) -> Services<'_> {
        Services::new(&self.config, &self.legs, &self.ports)
    }

    /// The router's own addresses, as far as their ports are open.
    pub fn own_addresses(&self) -> Vec<OwnAddress> {
        let own = own::all(&self.config).filter_map(|own::Own { address, port, unicast }| {
            let port = match port {
                Some(name) => Some(self.ports.get(name)?.id),
                None => None,
            };
            Some(OwnAddress { address, port, unicast })
        });
        own.collect()
    }

    /// The leg that a path is, if it is one.
    pub fn leg_of(&self, path: PathId) -> Option<(&LegKey, &LegState)> {
        self.legs.by_path(path)
    }

    /// The port a path that is no leg leaves by.
    pub fn port_of(&self, path: PathId) -> Option<&PortState> {
        let of_hop = || self.ports.by_id(self.bfd.port_of(path)?);
        self.ports.iter().find(|port| port.path == path).or_else(of_hop)
    }

    /// The name of the port that has this number.
    pub fn name_of(&self, id: PortId) -> Option<&str> {
        self.ports.by_id(id).map(PortState::name)
    }

    /// Where a service's packets go.
    pub fn serving(&self, service: &Service, family: Family) -> Serving {
        self.selection.serving(self.known(), service, family)
    }

    /// How many sites of a service are up, and neither drained nor disabled.
    pub fn sites_left(&self, service: &Service, family: Family) -> usize {
        self.selection.sites_left(self.known(), service, family)
    }

    /// The sites of [`Self::serving`].
    pub fn best_sites(&self, service: &Service, family: Family) -> Vec<String> {
        self.serving(service, family).sites
    }

    /// By which rule the sites that packets go to, as [`Self::best_sites`] says, are better than this one.
    pub fn against(&self, best: &[String], service: &Service, family: Family, site: &Site) -> Rule {
        select::against(self.services(), best, (service, family), site)
    }
}
