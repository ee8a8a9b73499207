//! Configuration and events to adjacencies, paths, groups and routes. No I/O: devices are handed
//! in, what the liveness thread has to watch is handed out.
//!
//! Order of publication: adjacency, path and port, then group, then FIB entry; what goes away goes
//! in the opposite order, and its numbers are reused only after every reader has let go of them.
//!
//! [`cost`] says which site is cheaper, and why.
#![forbid(unsafe_code)]

mod bgp;
pub mod cost;
mod device;
mod legs;
mod news;
mod numbers;
mod own;
mod ports;
mod publication;
mod publisher;
mod room;
mod select;
mod services;
mod snapshot;
mod sources;
#[cfg(test)]
mod tests;
mod wanted;

use std::collections::{BTreeMap, BTreeSet, HashSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arc_swap::ArcSwap;
use nearhop_fib::{
    ACCEPT_ALL, ACCEPT_NONE, GroupId, Handle, IpPrefix, PathId, WriteError, Writer, name_key,
};

use self::bgp::Bgp;
pub use self::bgp::NeighborState;
use self::cost::Rule;
pub use self::device::{Changed, DeviceFault};
pub use self::legs::{LegKey, LegState, Legs};
pub use self::ports::{PortState, Ports};
use self::publication::{Publication, Published};
use self::publisher::{Done, Parts};
pub use self::room::ReloadError;
use self::select::{Known, Selection, ServiceKey};
pub use self::select::{Overrides, Serving};
use self::services::InForce;
pub use self::services::Services;
use self::snapshot::SnapshotPublisher;
use self::sources::Routing;
use self::wanted::wanted_legs;
use crate::batch::Exit;
use crate::bgp::lane::BgpOrder;
use crate::bgp::table::Paths;
use crate::config::Config;
use crate::config::model::{Service, Site, WhenAllDead};
use crate::event::{EventKind, MoveCause};
use crate::forward::Snapshot;
use crate::host::OwnAddress;
use crate::ids::{Family, NeighborId, PortId};
use crate::liveness::leg::LegSpec;
use crate::port::Port;
use crate::rib::{Rib, SetId, Source};
use crate::time::Nanos;

/// The control plane's state. There is one; its thread owns it.
pub struct Control {
    writer: Writer,
    handle: Handle,
    /// Incremented whenever liveness or a group changes.
    changes: Arc<AtomicU64>,
    clock: fn() -> Nanos,
    config: InForce,
    ports: Ports,
    legs: Legs,
    routing: Routing,
    publication: Publication,
    selection: Selection,
    snapshots: SnapshotPublisher,
    stopping: Stopping,
    bgp: Bgp,
    /// Units of a publication's step: lookups and changes of the FIB.
    changes_per_step: usize,
    events: VecDeque<(Nanos, EventKind)>,
}

/// What the liveness thread has to do after a change of configuration.
#[derive(Debug, Default)]
pub struct Orders {
    /// Ports to watch, with their own adjacencies.
    pub ports: Vec<Exit>,
    /// Legs to watch; one whose path is watched already gets these checks instead of its own.
    pub legs: Vec<LegSpec>,
    /// Legs and ports to forget. [`Control::release`] is called once they are.
    pub stop: Stopping,
}

/// Legs and ports that no group leads to any more.
#[derive(Clone, Debug, Default)]
pub struct Stopping {
    /// Paths of legs.
    pub legs: Vec<PathId>,
    /// Ports with their own adjacencies, and the paths of routes that left by them.
    pub ports: Vec<(Exit, PathId)>,
}

impl Control {
    /// An empty router that publishes through these. `clock` says how long a publication took.
    pub fn new(
        writer: Writer,
        handle: Handle,
        snapshot: Arc<ArcSwap<Snapshot>>,
        changes: Arc<AtomicU64>,
        config: Config,
        clock: fn() -> Nanos,
    ) -> Self {
        let empty = Config {
            ports: vec![],
            routes: vec![],
            route_files: vec![],
            services: vec![],
            bgp: None,
            ..config
        };
        Self {
            writer,
            handle,
            changes,
            clock,
            config: InForce::new(Arc::new(empty)),
            ports: Ports::default(),
            legs: Legs::default(),
            routing: Routing::default(),
            publication: Publication::default(),
            selection: Selection::default(),
            snapshots: SnapshotPublisher::new(snapshot),
            stopping: Stopping::default(),
            bgp: Bgp::default(),
            changes_per_step: CHANGES_PER_STEP,
            events: VecDeque::new(),
        }
    }

    /// Makes each step of a publication as small as this, in lookups and changes of the FIB: for simulations
    /// and tests, in which a millisecond's worth would publish everything at once.
    pub fn set_changes_per_step(&mut self, changes: usize) {
        self.changes_per_step = changes.max(1);
    }

    /// A snapshot of a router without ports, to begin with.
    pub fn empty_snapshot() -> Snapshot {
        snapshot::empty()
    }

    /// Puts a configuration in force, to be published by [`Self::publish_step`]. `devices` has every port
    /// that [`Self::ports_to_open`] named, which found room for all there is in it. What is the same as
    /// before keeps its state: a reload moves only what it changes. One that is under way is superseded.
    pub fn apply(
        &mut self,
        config: Arc<Config>,
        devices: BTreeMap<String, Arc<dyn Port>>,
        now: Nanos,
    ) -> Orders {
        let first = self.config.ports.is_empty() && self.config.services.is_empty();
        let changed = wanted::changed(&self.config, |name| self.config.service(name), &config);
        self.config = InForce::new(config);
        let mut orders = Orders::default();
        self.selection.forget_rankings();
        let planned = self
            .plan_ports(now, devices, &mut orders)
            .and_then(|()| self.plan_legs(now, &changed, &mut orders));
        if let Err(error) = planned {
            log::error!("part of the configuration has no place: {error}");
        }
        self.publish_snapshot();
        self.routing.offer(&self.config, &self.ports);
        self.routing.mark_services();
        let why = if first { "start" } else { "reload" };
        self.publication.owe_all(MoveCause::Configuration, why);
        self.bgp.configure(now, &self.config);
        orders
    }

    /// Takes new ports in; those that stay get their new configuration.
    fn plan_ports(
        &mut self,
        now: Nanos,
        mut devices: BTreeMap<String, Arc<dyn Port>>,
        orders: &mut Orders,
    ) -> Result<(), WriteError> {
        for port in &self.config.ports {
            if self.ports.configure(port) {
                continue;
            }
            let Some(device) = devices.remove(&port.name) else { continue };
            let fib = (&mut self.writer, &self.handle);
            let exit = self.ports.add(now, (&self.config.router.name, port), device, fib)?;
            orders.ports.push(exit);
        }
        Ok(())
    }

    /// Makes the legs that the configuration has: new ones begin down for what is not known yet;
    /// ones whose checks changed keep their state until the new checks speak. `changed`: the services
    /// whose legs may be others than before, by their place.
    fn plan_legs(
        &mut self,
        now: Nanos,
        changed: &[usize],
        orders: &mut Orders,
    ) -> Result<(), WriteError> {
        let config = Arc::clone(self.config.config());
        let services = || changed.iter().map(|&index| &config.services[index]);
        let wanted = wanted_legs(&config, services(), |name| self.ports.exit(name));
        let others: HashSet<&str> = services().map(|service| &*service.name).collect();
        let gone = self.legs.retain(|key| {
            let is_same = !others.contains(&*key.service);
            is_same && self.config.service(&key.service).is_some() || wanted.contains_key(key)
        });
        self.stopping.legs.extend(gone);
        for (key, mut spec) in wanted {
            if self.legs.get(&key).is_some() {
                orders.legs.extend(self.legs.change(&key, spec));
                continue;
            }
            let accept = self.accept(&key.site);
            spec.disabled = self.overrides().disabled.contains(&key.site);
            spec.path =
                self.writer.add_path_down(name_key(&key.site), accept, spec.initial_reasons())?;
            orders.legs.push(self.legs.add(now, key, spec));
        }
        Ok(())
    }

    /// Publishes a part of what is to be published, about a millisecond's worth. Returns whether all is
    /// published; what that lets go of is then in [`Self::take_stopping`].
    ///
    /// # Errors
    /// A reader stalls, so nothing more can be unlinked; to be called again later.
    pub fn publish_step(&mut self, now: Nanos) -> Result<bool, WriteError> {
        self.publish_some(now, self.changes_per_step)
    }

    fn publish_some(&mut self, now: Nanos, changes: usize) -> Result<bool, WriteError> {
        if !self.selection.is_settled() {
            self.select_some(now, changes.div_ceil(CHANGES_PER_SELECTION));
            return Ok(!self.is_unpublished());
        }
        if self.routing.feed(changes.saturating_mul(ROUTES_PER_CHANGE)) {
            return Ok(false);
        }
        if !self.publication.is_under_way() && self.bgp.has_news() {
            let (rib, budget) = (&mut self.routing.rib, changes);
            if self.bgp.step(rib, &self.config, budget, &mut self.events) {
                self.publication.owe_routes();
            }
            return Ok(false);
        }
        if self.publication.is_idle() {
            return Ok(true);
        }
        let services = Services::new(&self.config, &self.legs, &self.ports);
        let mut parts = Parts { fib: &mut self.writer, rib: &mut self.routing.rib, services };
        let Some(published) = self.publication.step(&mut parts, changes, self.clock)? else {
            return Ok(false);
        };
        self.finish(now, published);
        Ok(!self.is_unpublished())
    }

    /// Publishes all there is to publish, however long it takes.
    ///
    /// # Errors
    /// As [`Self::publish_step`].
    pub fn publish(&mut self, now: Nanos) -> Result<(), WriteError> {
        while !self.publish_step(now)? {}
        Ok(())
    }

    fn finish(&mut self, now: Nanos, Published { why, done, took }: Published) {
        if why.all.is_some() {
            self.ports.begin_parting(&self.config, &self.writer);
            self.finish_parting();
        }
        self.changed();
        let Done { groups, prefixes, refused } = done;
        if groups + prefixes + refused > 0 {
            let took_us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
            let kind = EventKind::Publish { groups, prefixes, refused, took_us };
            self.events.push_back((now, kind));
        }
        // Where a configuration was published too, it may have changed everything.
        if let Some((cause, member)) = why.all {
            let services = Services::new(&self.config, &self.legs, &self.ports);
            self.selection.look_at_all(services, (cause, &member));
        } else {
            if why.routes {
                // What covers a service may be another.
                let services = Services::new(&self.config, &self.legs, &self.ports);
                let covered = |one: &Service| one.when_all_dead == WhenAllDead::Covering;
                let keys = services.keys(covered);
                self.selection.look_at(keys, (MoveCause::Configuration, "bgp"));
            }
            for (key, (cause, member)) in why.services {
                self.selection.look_at([key], (cause, &member));
            }
        }
        self.select_some(now, SELECTIONS_AT_ONCE);
    }

    fn select_some(&mut self, now: Nanos, budget: usize) {
        let services = Services::new(&self.config, &self.legs, &self.ports);
        let known = Known { services, rib: &self.routing.rib };
        self.events.extend(self.selection.step(known, now, budget));
    }

    /// Whether something waits for [`Self::publish_step`].
    pub fn is_unpublished(&self) -> bool {
        !self.publication.is_idle() || !self.selection.is_settled()
    }

    /// Whether BGP neighbours have said something that is not in the RIB yet.
    pub fn has_bgp_news(&self) -> bool {
        self.bgp.has_news()
    }

    /// Brings what is announced up to date; returns what the sessions have to do.
    pub fn poll_bgp(&mut self, now: Nanos) -> Vec<BgpOrder> {
        let services = Services::new(&self.config, &self.legs, &self.ports);
        let drained = &self.selection.overrides().drained;
        self.bgp.announce(now, &self.config, |service, family| {
            let mut legs = services.legs_of(&service.name);
            legs.any(|(key, leg)| key.family == family && leg.up && !drained.contains(&key.site))
        });
        self.bgp.take_orders()
    }

    /// Every BGP neighbour.
    pub fn bgp_neighbors(&self) -> impl Iterator<Item = (NeighborId, &NeighborState)> {
        self.bgp.neighbors()
    }

    /// What BGP neighbours announce.
    pub fn bgp_paths(&self) -> &Paths {
        self.bgp.paths()
    }

    /// When [`Self::poll_bgp`] is to be called although nothing happened.
    pub fn bgp_timeout(&self) -> Option<Nanos> {
        self.bgp.poll_timeout()
    }

    /// Takes what the liveness thread has to forget, as [`Orders::stop`]; to be asked again and
    /// again, for ports come later than [`Self::apply`] when a worker is busy, and everything does
    /// when a retry has to publish it. Empty while groups may still lead to it.
    pub fn take_stopping(&mut self) -> Stopping {
        if self.is_unpublished() {
            return Stopping::default();
        }
        self.finish_parting();
        std::mem::take(&mut self.stopping)
    }

    /// The liveness thread has forgotten these: their numbers may be reused after a grace period.
    pub fn release(&mut self, stopped: &Stopping) {
        // A full retire list leaves a number unused, which costs nothing but the number.
        for &path in &stopped.legs {
            self.legs.release(path);
            let _ = self.writer.remove_path(path);
        }
        for &(exit, path) in &stopped.ports {
            self.ports.release(&self.writer, exit.port);
            let _ = self.writer.remove_path(path);
            let _ = self.writer.remove_adjacency(exit.adjacency);
        }
        self.writer.reclaim();
    }

    /// Takes a site out of service where any other is left, or back in; `false` if no service has it.
    pub fn drain(&mut self, now: Nanos, site: &str, drained: bool, by: &str) -> bool {
        if !self.has_site(site) {
            return false;
        }
        if self.selection.drain(site, drained) {
            self.bgp.mark();
            self.store_accepts();
            let kind = EventKind::Drain { by: by.to_owned(), site: site.to_owned(), drained };
            self.events.push_back((now, kind));
            let services = Services::new(&self.config, &self.legs, &self.ports);
            let with = services.keys(|service| service.sites.iter().any(|one| one.name == site));
            self.selection.look_at(with, (MoveCause::Operator, site));
            self.select_some(now, SELECTIONS_AT_ONCE);
        }
        true
    }

    /// Takes a site out of service whatever is left, or back in. Returns the paths that the liveness thread
    /// is to set down or clear; `None` if no service has the site.
    pub fn disable(
        &mut self,
        now: Nanos,
        site: &str,
        disabled: bool,
        by: &str,
    ) -> Option<Vec<PathId>> {
        if !self.has_site(site) {
            return None;
        }
        if !self.selection.disable(site, disabled) {
            return Some(Vec::new());
        }
        let kind = EventKind::Disable { by: by.to_owned(), site: site.to_owned(), disabled };
        self.events.push_back((now, kind));
        let of_site = self.legs.iter().filter(|(key, _)| key.site == site);
        Some(of_site.map(|(_, leg)| leg.path).collect())
    }

    /// Services that would have nobody left but drained sites, if this site were taken out too.
    pub fn served_by_last(&self, site: &str) -> BTreeSet<String> {
        self.selection.served_by_last(self.known(), site)
    }

    /// Services that this configuration would leave without a site that may serve, and that have one now.
    pub fn left_without(&self, config: &Config) -> Vec<String> {
        self.selection.left_without(&self.config.services, &config.services)
    }

    /// What operators took out of service before a restart; to be called before the first configuration.
    pub fn restore(&mut self, overrides: Overrides) {
        self.selection.restore(overrides);
    }

    /// Makes reusable what readers have let go of. Old snapshots and devices are kept until nobody
    /// else has them, so that they end here and not on a worker: closing a TUN takes milliseconds.
    pub fn reclaim(&mut self) {
        self.snapshots.reclaim();
        self.ports.reclaim(&self.writer);
        self.writer.reclaim();
    }

    /// Where snapshots are published.
    pub fn published(&self) -> Arc<ArcSwap<Snapshot>> {
        Arc::clone(self.snapshots.in_force())
    }

    /// The sites that are drained.
    pub fn drained(&self) -> &BTreeSet<String> {
        &self.overrides().drained
    }

    /// What operators have taken out of service.
    pub fn overrides(&self) -> &Overrides {
        self.selection.overrides()
    }

    /// Takes the oldest event: when it happened, and what.
    pub fn poll_event(&mut self) -> Option<(Nanos, EventKind)> {
        self.events.pop_front()
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

    /// The group that stands for a set of next hops in the FIB.
    pub fn group_of(&self, set: SetId) -> Option<GroupId> {
        self.publication.publisher.group(set)
    }

    /// The groups of sets of next hops after one, by its number: number, set and group of each.
    pub fn groups_after(
        &self,
        after: Option<u32>,
    ) -> impl Iterator<Item = (u32, SetId, GroupId)> + '_ {
        self.publication.publisher.groups_after(after)
    }

    /// Whether the FIB had no room for a prefix.
    #[cfg(test)]
    fn is_refused(&self, prefix: IpPrefix) -> bool {
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
        self.ports.iter().find(|port| port.path == path)
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

    /// The groups of a service have to be published, and flows may move for this cause then.
    fn owe(&mut self, key: ServiceKey, cause: MoveCause, member: &str) {
        let Some(service) = self.config.service(&key.0) else { return };
        self.selection.forget_ranking(&key);
        self.routing.mark_service(service, key.1);
        self.publication.owe(key, cause, member);
    }

    fn known(&self) -> Known<'_> {
        Known { services: self.services(), rib: &self.routing.rib }
    }

    fn has_site(&self, site: &str) -> bool {
        self.config.services.iter().any(|service| service.sites.iter().any(|s| s.name == site))
    }

    fn store_accepts(&self) {
        for (key, leg) in self.legs.iter() {
            self.handle.set_accept(leg.path, self.accept(&key.site));
        }
        self.changed();
    }

    fn accept(&self, site: &str) -> u16 {
        if self.drained().contains(site) { ACCEPT_NONE } else { ACCEPT_ALL }
    }

    /// Takes ports that are configured no more out of the snapshot, once nobody can lead to them.
    fn finish_parting(&mut self) {
        if let Some(ways_out) = self.ports.finish_parting(&self.config, &self.writer) {
            self.stopping.ports.extend(ways_out);
            self.publish_snapshot();
        }
    }

    fn publish_snapshot(&mut self) {
        self.snapshots.publish(&self.config, &self.ports);
    }

    /// Lets workers note the first packet on each path again.
    fn changed(&self) {
        self.changes.fetch_add(1, Ordering::Release);
    }
}

/// Routes that a feed looks at in the time of one change of the FIB.
const ROUTES_PER_CHANGE: usize = 8;

/// Changes of the FIB in the time of one look at the sites of a service.
const CHANGES_PER_SELECTION: usize = 32;

/// Services whose sites are looked at in the step that ends a publication, or that drains a site.
const SELECTIONS_AT_ONCE: usize = 16;

/// About a millisecond's worth.
const CHANGES_PER_STEP: usize = 512;
