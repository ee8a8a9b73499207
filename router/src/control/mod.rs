//! Configuration and events to adjacencies, paths, groups and routes. No I/O: devices are handed
//! in, what the liveness thread has to watch is handed out.
//!
//! Order of publication: adjacency, path and port, then group, then FIB entry; what goes away goes
//! in the opposite order, and its numbers are reused only after every reader has let go of them.
//!
//! [`cost`] says which site is cheaper, and why.
#![forbid(unsafe_code)]

mod bfd;
mod bgp;
mod blocks;
pub mod cost;
mod device;
mod discards;
mod legs;
mod news;
mod numbers;
mod operator;
mod own;
mod ports;
mod publication;
mod publish;
mod publisher;
mod read;
mod room;
mod select;
mod services;
mod snapshot;
mod sources;
#[cfg(test)]
mod tests;
mod wanted;

use std::collections::{BTreeMap, HashSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arc_swap::ArcSwap;
use nearhop_fib::{Handle, PathId, WriteError, Writer, name_key};

use self::bfd::BfdSessions;
use self::bgp::Bgp;
pub use self::bgp::NeighborState;
pub use self::bgp::announce::decide::Decision;
pub use self::bgp::announce::leave::{Leave, LeaveCause};
pub use self::bgp::announce::offers::Offered;
pub use self::bgp::announce::reason::Reason;
pub use self::bgp::announce::{Advertised, Decided};
pub use self::blocks::{BLOCKS_MAX, Blocks};
pub use self::device::{Changed, DeviceFault};
use self::discards::Discards;
pub use self::legs::{Caution, LegKey, LegState, Legs};
pub use self::ports::{PortState, Ports};
use self::publication::Publication;
use self::publish::CHANGES_PER_STEP;
pub use self::room::ReloadError;
use self::select::{Known, Selection, ServiceKey};
pub use self::select::{Overrides, Serving};
use self::services::InForce;
pub use self::services::Services;
use self::snapshot::SnapshotPublisher;
use self::sources::Routing;
use self::wanted::wanted_legs;
use crate::batch::Exit;
use crate::bgp::lane::{BgpOrder, Clear};
use crate::config::Config;
use crate::config::model::Service;
use crate::event::{EventKind, MoveCause};
use crate::forward::Snapshot;
use crate::liveness::leg::LegSpec;
use crate::liveness::proof::{ProofId, ProofOrder};
use crate::neighbor::DiscoveryLink;
use crate::port::Port;
use crate::rib::Source;
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
    /// Ports may be configured no more, and routes may still lead by them.
    owes_parting: bool,
    bgp: Bgp,
    bfd: BfdSessions,
    discards: Discards,
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
    /// Paths of BGP sessions that ended.
    pub paths: Vec<PathId>,
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
            owes_parting: false,
            bgp: Bgp::default(),
            bfd: BfdSessions::default(),
            discards: Discards::default(),
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
            .and_then(|()| self.plan_legs(now, &changed, &mut orders))
            .and_then(|()| self.plan_hops());
        if let Err(error) = planned {
            log::error!("part of the configuration has no place: {error}");
        }
        self.publish_snapshot();
        let hop_by = |address| self.bfd.way_of(&self.ports, address);
        self.routing.offer(&self.config, &self.ports, hop_by);
        self.routing.mark_services();
        let why = if first { "start" } else { "reload" };
        self.publication.owe_all(MoveCause::Configuration, why);
        self.bgp.configure(now, &self.config, &self.ports);
        let mut neighbors = self.config.bgp.iter().flat_map(|bgp| &bgp.neighbors);
        let any_learned = neighbors.any(|neighbor| neighbor.terms.takes_learned);
        self.publication.publisher.note_prefixes(any_learned);
        self.bgp.set_playbooks(&self.config, &self.selection.overrides().playbooks);
        self.configure_bfd();
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

    /// Whether BGP neighbours have said something that is not in the RIB yet.
    pub fn has_bgp_news(&self) -> bool {
        self.bgp.has_news() || self.bgp.has_losses()
    }

    /// The neighbour whose session a path in the FIB is, if it is one's.
    pub fn neighbor_of(&self, path: PathId) -> Option<&NeighborState> {
        self.bgp.neighbor_of(path)
    }

    /// Whether [`Self::poll_bgp`] has more to bring up to date.
    pub fn is_announcing(&self) -> bool {
        self.bgp.is_behind() || self.bgp.wants_proofs() && !self.is_unpublished()
    }

    /// Brings a part of what is announced up to date; returns what the sessions have to do.
    pub fn poll_bgp(&mut self, now: Nanos) -> Vec<BgpOrder> {
        let services = Services::new(&self.config, &self.legs, &self.ports);
        let known = Known { services, rib: &self.routing.rib };
        let health = |service: &Service, family| self.selection.health(known, service, family);
        self.bgp.announce(now, &self.config, known, health);
        if let Some(aggregates) = self.bgp.take_active_aggregates() {
            self.discards.set(Source::Aggregate, aggregates);
        }
        if !self.is_unpublished() {
            self.bgp.ask_for_proofs(&self.config, &self.ports);
        }
        self.events.extend(self.bgp.take_events());
        self.bgp.take_orders()
    }

    /// Packets that come in by a neighbour's port reach a site.
    pub fn handle_proof(&mut self, at: Nanos, id: ProofId) {
        self.bgp.note_proof(at, id);
    }

    /// Takes what the liveness engine is to prove, and no more.
    pub fn take_proof_orders(&mut self) -> Vec<ProofOrder> {
        self.bgp.take_proof_orders()
    }

    /// The links on which the router advertises itself, for neighbours with link-local addresses.
    pub fn discovery_links(&self) -> Vec<DiscoveryLink> {
        self.bgp.discovery_links()
    }

    /// Clears the session with a BGP neighbour, named by its name or address; whether there is one.
    pub fn clear_bgp(&mut self, neighbor: &str, how: Clear) -> bool {
        self.bgp.clear(neighbor, how)
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
        for &path in &stopped.paths {
            let _ = self.writer.remove_path(path);
        }
        for &(exit, path) in &stopped.ports {
            self.ports.release(&self.writer, exit.port);
            let _ = self.writer.remove_path(path);
            let _ = self.writer.remove_adjacency(exit.adjacency);
        }
        self.writer.reclaim();
    }

    /// Makes reusable what readers have let go of. Old snapshots and devices are kept until nobody
    /// else has them, so that they end here and not on a worker: closing a TUN takes milliseconds.
    pub fn reclaim(&mut self) {
        self.snapshots.reclaim();
        self.ports.reclaim(&self.writer);
        self.writer.reclaim();
    }

    /// Takes the oldest event: when it happened, and what.
    pub fn poll_event(&mut self) -> Option<(Nanos, EventKind)> {
        self.events.pop_front()
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

    /// Lets workers note the first packet on each path again.
    fn changed(&self) {
        self.changes.fetch_add(1, Ordering::Release);
    }
}
