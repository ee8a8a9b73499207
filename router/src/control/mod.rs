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
mod install;
mod legs;
mod numbers;
mod ports;
mod select;
#[cfg(test)]
mod tests;
mod wanted;

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use nearhop_fib::{ACCEPT_ALL, ACCEPT_NONE, Grace, GroupId, Handle, PathId, WriteError, Writer};

pub use self::device::{Changed, DeviceFault};
pub use self::install::{GroupKey, Source};
use self::install::{GroupState, Installed, Unpublished};
pub use self::legs::{LegKey, LegState};
use self::numbers::PortNumbers;
pub use self::ports::{PortState, ReloadError};
use crate::batch::Exit;
use crate::config::Config;
use crate::event::{EventKind, MoveCause};
use crate::forward::{Adjacencies, Broadcasts, FirstPacket, Locals, Snapshot};
use crate::ids::Family;
use crate::liveness::event::{MonitorEvent, MonitorEventKind};
use crate::liveness::leg::LegSpec;
use crate::port::Port;
use crate::probe::SOURCE_PORTS;
use crate::time::Nanos;

/// The control plane's state. There is one; its thread owns it.
pub struct Control {
    writer: Writer,
    handle: Handle,
    snapshot: Arc<ArcSwap<Snapshot>>,
    changes: Arc<AtomicU64>,
    config: Config,
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
    drained: BTreeSet<String>,
    groups: HashMap<GroupKey, GroupState>,
    installed: BTreeMap<nearhop_fib::IpPrefix, Installed>,
    selected: BTreeMap<(String, Family), Vec<String>>,
    stopping: Stopping,
    /// Ports are configured no more, and stay until every batch that may lead to them is done.
    parting: Option<Grace>,
    /// Groups that were given another id, until no prefix leads to them.
    superseded: Vec<GroupId>,
    unpublished: Unpublished,
    /// Called whenever readers may see something new.
    #[cfg(test)]
    after_step: Option<Box<dyn FnMut()>>,
    /// Routes looked at by all publications.
    #[cfg(test)]
    considered: usize,
    events: VecDeque<(Nanos, EventKind)>,
    retired_snapshots: Vec<Arc<Snapshot>>,
    retired_devices: Vec<Arc<dyn Port>>,
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
            config: Config { ports: vec![], routes: vec![], services: vec![], ..config },
            service_index: HashMap::new(),
            clock,
            ports: BTreeMap::new(),
            numbers: PortNumbers::default(),
            legs: BTreeMap::new(),
            by_path: HashMap::new(),
            probes: HashMap::new(),
            version: 0,
            drained: BTreeSet::new(),
            groups: HashMap::new(),
            installed: BTreeMap::new(),
            selected: BTreeMap::new(),
            stopping: Stopping::default(),
            parting: None,
            superseded: Vec::new(),
            unpublished: Unpublished::default(),
            #[cfg(test)]
            after_step: None,
            #[cfg(test)]
            considered: 0,
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

    /// Puts a configuration in force. `devices` has every port that [`Self::ports_to_open`] named.
    /// What is the same as before keeps its state: a reload moves only what it changes.
    ///
    /// # Errors
    /// As [`Self::retry`]; the configuration is in force all the same, and is published by a retry.
    pub fn apply(
        &mut self,
        config: Config,
        devices: BTreeMap<String, Arc<dyn Port>>,
        now: Nanos,
    ) -> Result<Orders, (Orders, WriteError)> {
        let first = self.config.ports.is_empty() && self.config.services.is_empty();
        self.config = config;
        let names = self.config.services.iter().map(|service| service.name.clone());
        self.service_index = names.enumerate().map(|(index, name)| (name, index)).collect();
        let mut orders = Orders::default();
        let mut outcome = self.add_ports(now, devices, &mut orders);
        if outcome.is_ok() {
            outcome = self.plan_legs(now, &mut orders);
        }
        self.publish_snapshot();
        let why = if first { "start" } else { "reload" };
        self.unpublished.all = Some((MoveCause::Configuration, why.to_owned()));
        let outcome = outcome.and_then(|()| self.retry(now));
        orders.stop = self.take_stopping();
        match outcome {
            Ok(()) => Ok(orders),
            Err(error) => Err((orders, error)),
        }
    }

    /// Publishes what could not be published before. Does nothing when all is published. What it
    /// lets go of is then in [`Self::take_stopping`].
    ///
    /// # Errors
    /// A reader stalls, so nothing more can be unlinked; to be called again later.
    pub fn retry(&mut self, now: Nanos) -> Result<(), WriteError> {
        if self.unpublished.is_empty() {
            return Ok(());
        }
        let started = (self.clock)();
        let done = match self.unpublished.all {
            Some(_) => self.install()?,
            None => self.install_services()?,
        };
        let why = std::mem::take(&mut self.unpublished);
        if why.all.is_some() {
            self.part_with_ports();
        }
        self.changed();
        let took = (self.clock)().since(started);
        if done.groups + done.prefixes > 0 {
            let took_us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
            let kind = EventKind::Publish { groups: done.groups, prefixes: done.prefixes, took_us };
            self.events.push_back((now, kind));
        }
        // Where a configuration was published too, it may have changed everything.
        if let Some((cause, member)) = why.all {
            self.reselect(now, cause, &member);
        } else {
            for (service, (cause, member)) in why.services {
                self.reselect_one(now, service, cause, &member);
            }
        }
        Ok(())
    }

    /// Whether something waits for [`Self::retry`].
    pub fn is_unpublished(&self) -> bool {
        !self.unpublished.is_empty()
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
                let is_meant = |state: &&mut PortState| state.id == *port && state.since <= event.t;
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
            MonitorEventKind::Leg { path, up, reason } => {
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
    pub fn drain(&mut self, now: Nanos, site: &str, drained: bool) -> bool {
        if !self.config.services.iter().any(|s| s.sites.iter().any(|s| s.name == site)) {
            return false;
        }
        let changed =
            if drained { self.drained.insert(site.to_owned()) } else { self.drained.remove(site) };
        if changed {
            self.store_accepts();
            let kind = EventKind::Drain { site: site.to_owned(), drained };
            self.events.push_back((now, kind));
            self.reselect(now, MoveCause::Operator, site);
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
    pub fn source(&self, prefix: nearhop_fib::IpPrefix) -> Option<&Source> {
        Some(&self.installed.get(&prefix)?.source)
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
