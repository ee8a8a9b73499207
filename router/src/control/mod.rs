//! Configuration and events to adjacencies, paths, groups and routes. No I/O: devices are handed
//! in, what the liveness thread has to watch is handed out.
//!
//! Order of publication: adjacency, path and port, then group, then FIB entry; what goes away goes
//! in the opposite order, and its numbers are reused only after every reader has let go of them.
//!
//! [`cost`] says which site is cheaper, and why.
#![forbid(unsafe_code)]

pub mod cost;
mod device;
mod legs;
mod numbers;
mod ports;
mod publisher;
mod select;
mod services;
mod sources;
#[cfg(test)]
mod tests;
mod wanted;

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use nearhop_fib::{
    ACCEPT_ALL, ACCEPT_NONE, Grace, GroupId, Handle, IpPrefix, PathId, WriteError, Writer,
};

use self::cost::Ranked;
pub use self::device::{Changed, DeviceFault};
pub use self::legs::{LegKey, LegState};
use self::numbers::PortNumbers;
pub use self::ports::{PortState, ReloadError};
use self::publisher::{Done, Parts, Publisher};
pub use self::services::Services;
use self::sources::set_of;
use crate::batch::Exit;
use crate::config::Config;
use crate::event::{EventKind, MoveCause};
use crate::forward::{Adjacencies, Broadcasts, FirstPacket, Locals, Snapshot};
use crate::ids::Family;
use crate::liveness::event::{MonitorEvent, MonitorEventKind};
use crate::liveness::leg::LegSpec;
use crate::port::Port;
use crate::probe::SOURCE_PORTS;
use crate::put_back::{self, PutBack};
use crate::rib::{Feed, NextHops, Offered, Rib, ServiceSet, SetId, Source};
use crate::time::Nanos;

/// The control plane's state. There is one; its thread owns it.
pub struct Control {
    writer: Writer,
    handle: Handle,
    snapshot: Arc<ArcSwap<Snapshot>>,
    changes: Arc<AtomicU64>,
    config: Arc<Config>,
    service_index: HashMap<String, usize>,
    clock: fn() -> Nanos,
    ports: BTreeMap<String, PortState>,
    numbers: PortNumbers,
    legs: BTreeMap<LegKey, LegState>,
    by_path: HashMap<PathId, LegKey>,
    /// Checks that the prober has for each path, from [`Orders::legs`] to [`Self::release`].
    probes: HashMap<PathId, usize>,
    /// The newest version of a leg's checks.
    version: u64,
    /// Legs without a first verdict.
    unknown: usize,
    drained: BTreeSet<String>,
    rib: Rib,
    /// What each source offers to the RIB, once `feeds` are done.
    offered: BTreeMap<Source, Offered>,
    /// What is on its way to the RIB.
    feeds: VecDeque<Feed>,
    publisher: Publisher,
    selected: BTreeMap<(String, Family), Vec<String>>,
    /// Services whose best sites are to be looked at, and why these may be others.
    reselecting: VecDeque<((String, Family), MoveCause, String)>,
    /// The order of the sites of services, as far as it was asked for since it last changed.
    rankings: HashMap<(String, Family), Vec<Ranked>>,
    stopping: Stopping,
    /// Ports are configured no more, and stay until every batch that may lead to them is done.
    parting: Option<Grace>,
    /// What has to be published yet, besides what is being published.
    unpublished: Unpublished,
    publication: Option<Publication>,
    events: VecDeque<(Nanos, EventKind)>,
    retired_snapshots: Vec<Arc<Snapshot>>,
    retired_devices: Vec<Arc<dyn Port>>,
}

/// What waits to be published, and why flows move when it is.
#[derive(Debug, Default)]
struct Unpublished {
    /// A configuration.
    all: Option<(MoveCause, String)>,
    /// Services whose order changed.
    services: BTreeMap<(String, Family), (MoveCause, String)>,
}

impl Unpublished {
    fn is_empty(&self) -> bool {
        self.all.is_none() && self.services.is_empty()
    }
}

/// A publication that is under way.
#[derive(Debug)]
struct Publication {
    why: Unpublished,
    started: Nanos,
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
        Self {
            writer,
            handle,
            snapshot,
            changes,
            config: Arc::new(Config {
                ports: vec![],
                routes: vec![],
                route_files: vec![],
                services: vec![],
                ..config
            }),
            service_index: HashMap::new(),
            clock,
            ports: BTreeMap::new(),
            numbers: PortNumbers::default(),
            legs: BTreeMap::new(),
            by_path: HashMap::new(),
            probes: HashMap::new(),
            version: 0,
            unknown: 0,
            drained: BTreeSet::new(),
            rib: Rib::default(),
            offered: BTreeMap::new(),
            feeds: VecDeque::new(),
            publisher: Publisher::default(),
            selected: BTreeMap::new(),
            reselecting: VecDeque::new(),
            rankings: HashMap::new(),
            stopping: Stopping::default(),
            parting: None,
            unpublished: Unpublished::default(),
            publication: None,
            events: VecDeque::new(),
            retired_snapshots: Vec::new(),
            retired_devices: Vec::new(),
        }
    }

    /// A snapshot of a router without ports, to begin with.
    pub fn empty_snapshot() -> Snapshot {
        Snapshot {
            generation: 0,
            ports: Vec::new(),
            adjacencies: Adjacencies::default(),
            martians: crate::policy::Martians::Default,
            hash_seed: 0,
            address_v4: None,
            address_v6: None,
            directed_broadcasts: Broadcasts::default(),
            locals: Locals::of_checks(SOURCE_PORTS),
            busy_poll: Duration::ZERO,
        }
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
        let of_old = |name: &str| self.services().get(name);
        let changed = wanted::changed(&self.config, of_old, &config);
        self.config = config;
        let names = self.config.services.iter().map(|service| service.name.clone());
        self.service_index = names.enumerate().map(|(index, name)| (name, index)).collect();
        let mut orders = Orders::default();
        self.rankings.clear();
        let planned = self
            .add_ports(now, devices, &mut orders)
            .and_then(|()| self.plan_legs(now, &changed, &mut orders));
        if let Err(error) = planned {
            log::error!("part of the configuration has no place: {error}");
        }
        self.publish_snapshot();
        self.offer_configuration();
        self.mark_services();
        let why = if first { "start" } else { "reload" };
        if let Some(superseded) = self.publication.take() {
            self.unpublished.services.extend(superseded.why.services);
        }
        self.unpublished.all = Some((MoveCause::Configuration, why.to_owned()));
        orders
    }

    /// Publishes a part of what is to be published, about a millisecond's worth. Returns whether all is
    /// published; what that lets go of is then in [`Self::take_stopping`].
    ///
    /// # Errors
    /// A reader stalls, so nothing more can be unlinked; to be called again later.
    pub fn publish_step(&mut self, now: Nanos) -> Result<bool, WriteError> {
        self.publish_some(now, CHANGES_PER_STEP)
    }

    fn publish_some(&mut self, now: Nanos, changes: usize) -> Result<bool, WriteError> {
        if !self.reselecting.is_empty() {
            let all = self.reselect_some(now, changes.div_ceil(CHANGES_PER_SELECTION));
            return Ok(all && !self.is_unpublished());
        }
        if let Some(feed) = self.feeds.front_mut() {
            if feed.step(&mut self.rib, changes.saturating_mul(ROUTES_PER_CHANGE)) {
                self.feeds.pop_front();
            }
            return Ok(false);
        }
        if self.publication.is_none() {
            if self.unpublished.is_empty() {
                return Ok(true);
            }
            let (why, started) = (std::mem::take(&mut self.unpublished), (self.clock)());
            self.publication = Some(Publication { why, started });
            self.publisher.begin(&mut self.rib);
        }
        let services = Services {
            configured: &self.config.services,
            index: &self.service_index,
            legs: &self.legs,
            ports: &self.ports,
        };
        let mut parts = Parts { fib: &mut self.writer, rib: &mut self.rib, services };
        let Some(done) = self.publisher.step(&mut parts, changes)? else {
            return Ok(false);
        };
        if let Some(publication) = self.publication.take() {
            self.finish(now, publication, done);
        }
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

    fn finish(&mut self, now: Nanos, Publication { why, started }: Publication, done: Done) {
        if why.all.is_some() {
            self.part_with_ports();
        }
        self.changed();
        let took = (self.clock)().since(started);
        let Done { groups, prefixes, refused } = done;
        if groups + prefixes + refused > 0 {
            let took_us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
            let kind = EventKind::Publish { groups, prefixes, refused, took_us };
            self.events.push_back((now, kind));
        }
        // Where a configuration was published too, it may have changed everything.
        if let Some((cause, member)) = why.all {
            self.reselect_all(cause, &member);
            self.reselect_some(now, SELECTIONS_AT_ONCE);
        } else {
            let each = why.services.into_iter();
            self.reselecting.extend(each.map(|(key, (cause, member))| (key, cause, member)));
            self.reselect_some(now, SELECTIONS_AT_ONCE);
        }
    }

    /// Whether something waits for [`Self::publish_step`].
    pub fn is_unpublished(&self) -> bool {
        !self.unpublished.is_empty() || self.publication.is_some() || !self.reselecting.is_empty()
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
            self.probes.remove(&path);
            let _ = self.writer.remove_path(path);
        }
        for &(exit, path) in &stopped.ports {
            self.numbers.retire(&self.writer, exit.port);
            let _ = self.writer.remove_path(path);
            let _ = self.writer.remove_adjacency(exit.adjacency);
        }
        self.writer.reclaim();
    }

    /// Something happened to a port or a leg; its bytes are stored already.
    pub fn handle_monitor(&mut self, event: &MonitorEvent) {
        match &event.kind {
            MonitorEventKind::Carrier { port, up } => {
                // News from before is of another port, which had the number then.
                let is_meant = |state: &&mut PortState| {
                    let is_old = event.t < state.since;
                    state.id == *port && (!is_old || put_back::is(PutBack::CarrierOlderThanPort))
                };
                if let Some(state) = self.ports.values_mut().find(is_meant) {
                    state.carrier = *up;
                    let kind = EventKind::Carrier { port: state.name().to_owned(), up: *up };
                    self.events.push_back((event.t, kind));
                }
            }
            MonitorEventKind::Damped { path, hold } => {
                if let Some(key) = self.by_path.get(path) {
                    let hold_ms = u64::try_from(hold.as_millis()).unwrap_or(u64::MAX);
                    let (service, site) = (key.service.clone(), key.site.clone());
                    let kind = EventKind::Damped { service, site, family: key.family, hold_ms };
                    self.events.push_back((event.t, kind));
                }
            }
            MonitorEventKind::Gone { port, .. } => self.lose_device(event.t, *port),
            MonitorEventKind::Link { port, name, mtu, .. } => {
                self.handle_link(event.t, *port, name, *mtu);
            }
            MonitorEventKind::Leg { path, up, reason, rtt } => {
                if let Some(rtt) = rtt {
                    // It is ranked by what it is, and not by what it was.
                    self.note_round_trip(*path, *rtt);
                }
                self.leg_changed(event.t, *path, *up, reason, event.stored);
            }
        }
    }

    /// A worker sent the first packet by a path since something changed.
    pub fn handle_first_packet(&mut self, worker: usize, first: FirstPacket) {
        if let Some(key) = self.by_path.get(&first.path) {
            let kind = EventKind::FirstPacket {
                service: key.service.clone(),
                site: key.site.clone(),
                family: key.family,
                worker: worker as u16,
            };
            self.events.push_back((first.t, kind));
        }
    }

    /// Takes a site out of service for new flows, or back in; `false` if no service has it.
    pub fn drain(&mut self, now: Nanos, site: &str, drained: bool, by: &str) -> bool {
        if !self.config.services.iter().any(|s| s.sites.iter().any(|s| s.name == site)) {
            return false;
        }
        let changed =
            if drained { self.drained.insert(site.to_owned()) } else { self.drained.remove(site) };
        if changed {
            self.store_accepts();
            let kind = EventKind::Drain { by: by.to_owned(), site: site.to_owned(), drained };
            self.events.push_back((now, kind));
            let with = self.families_of(|service| service.sites.iter().any(|one| one.name == site));
            let cause = MoveCause::Operator;
            self.reselecting.extend(with.into_iter().map(|key| (key, cause, site.to_owned())));
            self.reselect_some(now, SELECTIONS_AT_ONCE);
        }
        true
    }

    /// Sites that were drained before a restart; to be called before the first configuration.
    pub fn restore_drains(&mut self, sites: impl IntoIterator<Item = String>) {
        self.drained.extend(sites);
    }

    /// Makes reusable what readers have let go of. Old snapshots and devices are kept until nobody
    /// else has them, so that they end here and not on a worker: closing a TUN takes milliseconds.
    pub fn reclaim(&mut self) {
        self.retired_snapshots.retain(|snapshot| Arc::strong_count(snapshot) > 1);
        self.retired_devices.retain(|device| Arc::strong_count(device) > 1);
        self.numbers.reclaim(&self.writer);
        self.writer.reclaim();
    }

    /// Where snapshots are published.
    pub fn published(&self) -> Arc<ArcSwap<Snapshot>> {
        Arc::clone(&self.snapshot)
    }

    /// The sites that are drained.
    pub fn drained(&self) -> &BTreeSet<String> {
        &self.drained
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
        Arc::clone(&self.config)
    }

    /// How many legs have had no verdict yet.
    pub fn legs_unknown(&self) -> usize {
        self.unknown
    }

    /// Every leg, in the order of its key.
    pub fn legs(&self) -> impl Iterator<Item = (&LegKey, &LegState)> {
        self.legs.iter()
    }

    /// Every port, by name.
    pub fn ports(&self) -> impl Iterator<Item = &PortState> {
        self.ports.values()
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
        self.snapshot.load_full()
    }

    /// Where a prefix's route comes from.
    pub fn source(&self, prefix: IpPrefix) -> Option<Source> {
        Some(self.rib.used(prefix)?.source)
    }

    /// The routes of every source.
    pub fn rib(&self) -> &Rib {
        &self.rib
    }

    /// The group that stands for a set of next hops in the FIB.
    pub fn group_of(&self, set: SetId) -> Option<GroupId> {
        self.publisher.group(set)
    }

    /// The groups of sets of next hops after one, by its number: number, set and group of each.
    pub fn groups_after(
        &self,
        after: Option<u32>,
    ) -> impl Iterator<Item = (u32, SetId, GroupId)> + '_ {
        self.publisher.groups_after(after)
    }

    /// Whether the FIB had no room for a prefix.
    #[cfg(test)]
    fn is_refused(&self, prefix: IpPrefix) -> bool {
        self.publisher.has_refused(prefix)
    }

    /// Sets of next hops that the sources' tables hold.
    #[cfg(test)]
    fn offered_sets(&self) -> usize {
        self.offered.values().map(|offered| offered.sets.len()).sum()
    }

    /// Services with what is known of their legs.
    pub fn services(&self) -> Services<'_> {
        Services {
            configured: &self.config.services,
            index: &self.service_index,
            legs: &self.legs,
            ports: &self.ports,
        }
    }

    /// The leg that a path is, if it is one.
    pub fn leg_of(&self, path: PathId) -> Option<(&LegKey, &LegState)> {
        let key = self.by_path.get(&path)?;
        Some((key, self.legs.get(key)?))
    }

    /// The port a path that is no leg leaves by.
    pub fn port_of(&self, path: PathId) -> Option<&PortState> {
        self.ports.values().find(|port| port.path == path)
    }

    /// The groups of a service have to be published, and flows may move for this cause then.
    fn owe(&mut self, service: (String, Family), cause: MoveCause, member: &str) {
        let Some(of) = self.services().get(&service.0) else { return };
        let of_family = of.prefixes.iter().filter(|prefix| Family::of(prefix.addr()) == service.1);
        let mut sets: Vec<ServiceSet> = of_family.map(|&prefix| set_of(of, prefix)).collect();
        sets.dedup();
        self.rankings.remove(&service);
        for set in sets {
            if let Some(set) = self.rib.find(&NextHops::Service(set)) {
                self.rib.dirty().mark_set(set);
            }
        }
        self.unpublished.services.insert(service, (cause, member.to_owned()));
    }

    fn store_accepts(&self) {
        for (key, leg) in &self.legs {
            let drained = self.drained.contains(&key.site);
            self.handle.set_accept(leg.path, if drained { ACCEPT_NONE } else { ACCEPT_ALL });
        }
        self.changed();
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

/// Units of a publication's step: lookups and changes of the FIB.
const CHANGES_PER_STEP: usize = 512;
