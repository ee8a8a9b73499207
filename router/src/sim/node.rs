//! One router: each step does what its threads do, one after the other.
#![forbid(unsafe_code)]

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use arc_swap::ArcSwap;
use ipnetwork::IpNetwork;
use nearhop_fib::PathId;

use super::worker::{Punts, SimWorker};
use crate::batch::LocalLane;
use crate::config::Config;
use crate::control::{Control, Orders, ReloadError};
use crate::event::EventKind;
use crate::forward::Counters;
use crate::host::check::TcpChecker;
use crate::host::{Host, HostConfig};
use crate::ids::PortId;
use crate::liveness::leg::{LegSpec, TcpCheckKey};
use crate::liveness::monitor::Monitor;
use crate::packet::origin::clamp_mss;
use crate::port::Port;
use crate::port::memory::{LinkState, MemoryPort};
use crate::probe::{AddError, CheckId};
use crate::time::Nanos;

/// A router without threads, sockets and clock: forwarding, monitor, control plane and host stack
/// over ports in memory. Deterministic: the same calls produce the same packets and events.
pub struct Node {
    name: String,
    control: Control,
    monitor: Monitor,
    host: Host,
    tcp: TcpChecker,
    tcp_checks: BTreeMap<CheckId, TcpCheckKey>,
    worker: SimWorker,
    punts: Punts,
    devices: BTreeMap<String, Arc<MemoryPort>>,
    watched: BTreeSet<PathId>,
    next_round_trips: Nanos,
    probes_lost: u64,
    stalled: BTreeSet<RouterThread>,
}

/// A thread of a router that can be stalled while the others run.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum RouterThread {
    /// The control thread: nothing is published and no event is emitted. Liveness still reaches the
    /// worker, because the liveness thread stores it.
    Control,
    /// The worker: packets, including answers to probes, wait in the ports.
    Worker,
}

/// Why a router does not accept a configuration.
#[derive(Debug, thiserror::Error)]
pub enum NodeError {
    /// The change requires a restart. Nothing was changed.
    #[error(transparent)]
    Ports(#[from] ReloadError),
    /// A check cannot be added; its leg is not watched and stays down. The rest is in force.
    #[error("a check cannot be added, and its leg stays down: {0}")]
    Check(#[from] AddError),
}

impl Node {
    /// A router with this configuration, whose ports all have carrier. The identifiers and source
    /// ports of its probes follow from `seed`.
    ///
    /// # Errors
    /// See [`Self::apply`].
    ///
    /// # Panics
    /// Never: a FIB for one reader hands out one reader.
    pub fn new(now: Nanos, config: Config, seed: u64) -> Result<Self, NodeError> {
        let (writer, handle) = nearhop_fib::fib(1);
        let snapshot = Arc::new(ArcSwap::from_pointee(Control::empty_snapshot()));
        let changes = Arc::new(AtomicU64::new(0));
        let reader = handle.reader().expect("the FIB was made for one reader, and none was taken");
        let host = HostConfig { addresses: own_addresses(&config), mtu: u16::MAX, seed };
        let mut node = Self {
            name: config.router.name.clone(),
            monitor: Monitor::new(handle.clone(), Arc::clone(&changes), seed),
            worker: SimWorker::new(reader, Arc::clone(&snapshot), Arc::clone(&changes)),
            // A simulated publication takes no time.
            control: Control::new(writer, handle, snapshot, changes, config.clone(), || {
                Nanos::ZERO
            }),
            host: Host::new(now, host),
            tcp: TcpChecker::new(),
            tcp_checks: BTreeMap::new(),
            punts: Punts::new(),
            devices: BTreeMap::new(),
            watched: BTreeSet::new(),
            next_round_trips: now + ROUND_TRIPS_EVERY,
            probes_lost: 0,
            stalled: BTreeSet::new(),
        };
        node.apply(now, config)?;
        Ok(node)
    }

    /// Applies another configuration, as a reload does. New ports have carrier.
    ///
    /// # Errors
    /// See [`NodeError`].
    pub fn apply(&mut self, now: Nanos, config: Config) -> Result<(), NodeError> {
        let mut devices: BTreeMap<String, Arc<dyn Port>> = BTreeMap::new();
        for port in self.control.ports_to_open(&config)? {
            let (near, _) = MemoryPort::pair(QUEUE);
            devices.insert(port.name.clone(), Arc::clone(&near) as Arc<dyn Port>);
            self.devices.insert(port.name.clone(), near);
        }
        self.host.set_addresses(own_addresses(&config));
        let names: BTreeSet<String> = config.ports.iter().map(|port| port.name.clone()).collect();
        let mut orders = self.control.apply(Arc::new(config), devices, now);
        // A later step publishes what a stalled reader delays now.
        let _ = self.control.publish(now);
        orders.stop = self.control.take_stopping();
        let outcome = self.follow(now, orders);
        self.devices.retain(|name, _| names.contains(name));
        self.pass_news_on(now);
        outcome
    }

    /// Reports that a port's carrier came up or went down; ignores unknown names.
    pub fn set_carrier(&mut self, now: Nanos, port: &str, up: bool) {
        let Some(id) = self.port_id(port) else { return };
        self.carrier(now, id, up);
        self.pass_news_on(now);
    }

    /// Cuts or joins the wire of a port. Its device refuses packets at once; the router learns of
    /// it by [`Self::set_carrier`] or by its checks.
    pub fn set_wire(&mut self, port: &str, up: bool) {
        if let Some(device) = self.devices.get(port) {
            device.set_link(if up { LinkState::Up } else { LinkState::Down });
        }
    }

    /// Drains or undrains a site; `false` if no service has it.
    pub fn drain(&mut self, now: Nanos, site: &str, drained: bool) -> bool {
        self.control.drain(now, site, drained)
    }

    /// Ends the damping of every leg.
    pub fn clear_damping(&mut self, now: Nanos) {
        self.monitor.clear_damping(now);
        self.pass_news_on(now);
    }

    /// Stalls a thread or resumes it; on resumption, pending news of the monitor is handled first.
    pub fn stall(&mut self, now: Nanos, part: RouterThread, stalled: bool) {
        if stalled {
            self.stalled.insert(part);
        } else {
            self.stalled.remove(&part);
            self.pass_news_on(now);
        }
    }

    /// Whether a thread is stalled.
    pub fn stalls(&self, part: RouterThread) -> bool {
        self.stalled.contains(&part)
    }

    /// Does everything that is due, packets first, as each thread does: an answer that arrived in
    /// time counts before its timeout does.
    pub fn step(&mut self, now: Nanos) {
        for _ in 0..ROUNDS_MAX {
            let any = !self.stalls(RouterThread::Worker) && self.worker.run(now, &mut self.punts);
            self.take_in(now);
            if !any {
                break;
            }
        }
        self.monitor.handle_timeout(now);
        self.poll_host(now);
        self.send_probes(now);
        let round_trips = now >= self.next_round_trips;
        if round_trips {
            self.next_round_trips = now + ROUND_TRIPS_EVERY;
        }
        if !self.stalls(RouterThread::Control) {
            self.step_control(now, round_trips);
        }
    }

    /// When to call [`Self::step`] next, unless a packet arrives earlier. The value may change
    /// after any call that takes `&mut self`.
    #[must_use]
    pub fn poll_timeout(&mut self, now: Nanos) -> Option<Nanos> {
        let host = self.host.poll_timeout(now);
        let round_trips = (!self.watched.is_empty()).then_some(self.next_round_trips);
        let due = [self.monitor.poll_timeout(), host, self.tcp.poll_timeout(), round_trips];
        due.into_iter().flatten().min()
    }

    /// Takes the oldest event: when it happened, and what. Call until `None` after every call that
    /// takes `&mut self`.
    pub fn poll_event(&mut self) -> Option<(Nanos, EventKind)> {
        self.control.poll_event()
    }

    /// The router's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The device of a port: inject packets into it for the router to receive, drain what it sent.
    pub fn device(&self, port: &str) -> Option<&Arc<MemoryPort>> {
        self.devices.get(port)
    }

    /// The control plane's state.
    pub fn control(&self) -> &Control {
        &self.control
    }

    /// The monitor's state.
    pub fn monitor(&self) -> &Monitor {
        &self.monitor
    }

    /// The worker's counters.
    pub fn counters(&self) -> &Counters {
        self.worker.counters()
    }

    /// Probes that their port did not take.
    pub fn probes_lost(&self) -> u64 {
        self.probes_lost
    }

    fn step_control(&mut self, now: Nanos, round_trips: bool) {
        for first in self.worker.take_first_packets() {
            self.control.handle_first_packet(0, first);
        }
        self.pass_news_on(now);
        if round_trips {
            // The next step's retry publishes what a stalled reader delays now.
            let _ = self.control.handle_round_trips(now, self.monitor.round_trips());
        }
        let _ = self.control.publish(now);
        self.stop(now);
    }

    fn port_id(&self, name: &str) -> Option<PortId> {
        self.control.ports().find(|port| port.name() == name).map(|port| port.id)
    }

    /// Carries out orders: stops and starts watching legs. A check that cannot be added does not
    /// stop the rest.
    fn follow(&mut self, now: Nanos, orders: Orders) -> Result<(), NodeError> {
        for exit in orders.ports {
            self.monitor.add_port(exit.port);
            self.monitor.add_adjacency(exit);
            self.carrier(now, exit.port, true);
        }
        let mut outcome = Ok(());
        for leg in orders.legs {
            self.forget_tcp(leg.path);
            let added = self.watch(now, leg);
            outcome = outcome.and(added);
        }
        for &path in &orders.stop.legs {
            self.forget_leg(path);
        }
        for &(exit, _) in &orders.stop.ports {
            self.monitor.remove_port(exit.port);
        }
        self.pass_carrier_on(now);
        self.control.release(&orders.stop);
        outcome.map_err(NodeError::from)
    }

    fn watch(&mut self, now: Nanos, leg: LegSpec) -> Result<(), AddError> {
        let tcp = leg.checks.iter().enumerate();
        let tcp: Vec<_> = tcp
            .filter(|(_, check)| check.is_tcp())
            .map(|(index, check)| (index, check.clone()))
            .collect();
        let LegSpec { path, version, .. } = leg;
        self.monitor.add_leg(now, leg)?;
        self.watched.insert(path);
        for (index, check) in tcp {
            let id = self.tcp.add(now, &self.host, check)?;
            self.tcp_checks.insert(id, TcpCheckKey { path, version, index });
        }
        Ok(())
    }

    fn forget_leg(&mut self, path: PathId) {
        self.watched.remove(&path);
        self.monitor.remove_leg(path);
        self.forget_tcp(path);
    }

    fn forget_tcp(&mut self, path: PathId) {
        let gone = self.tcp_checks.iter().filter(|(_, key)| key.path == path);
        for id in gone.map(|(&id, _)| id).collect::<Vec<_>>() {
            self.tcp.remove(&mut self.host, id);
            self.tcp_checks.remove(&id);
        }
    }

    /// Stops watching the legs that a delayed publication has removed.
    fn stop(&mut self, now: Nanos) {
        let stop = self.control.take_stopping();
        if !stop.legs.is_empty() || !stop.ports.is_empty() {
            // Only new legs can cause an error.
            let _ = self.follow(now, Orders { stop, ..Orders::default() });
        }
    }

    fn carrier(&mut self, now: Nanos, id: PortId, up: bool) {
        self.monitor.handle_carrier(now, id, up);
        self.pass_carrier_on(now);
    }

    fn pass_carrier_on(&mut self, now: Nanos) {
        while let Some((port, up)) = self.monitor.poll_carrier() {
            self.tcp.set_carrier(now, &mut self.host, port, up);
        }
        self.take_tcp_verdicts();
    }

    /// Distributes the packets for the router itself.
    fn take_in(&mut self, now: Nanos) {
        for (lane, port, packet) in std::mem::take(&mut self.punts) {
            if lane == LocalLane::Checks {
                // The prober ignores errors about connections.
                if !self.monitor.handle_packet(now, port, &packet) {
                    self.handle_host_packet(now, port, packet);
                }
            } else {
                self.handle_host_packet(now, port, packet);
            }
        }
    }

    fn handle_host_packet(&mut self, now: Nanos, port: PortId, mut packet: Vec<u8>) {
        if let Some(mtu) = self.worker.mtu_of(port) {
            clamp_mss(&mut packet, mtu);
        }
        self.host.handle_packet(now, port, &packet);
    }

    fn poll_host(&mut self, now: Nanos) {
        self.tcp.poll(now, &mut self.host);
        self.take_tcp_verdicts();
        while let Some(mut out) = self.host.poll_transmit() {
            self.worker.originate(&mut out.packet, out.pin);
        }
    }

    fn take_tcp_verdicts(&mut self) {
        while let Some(event) = self.tcp.poll_event() {
            if let Some(&key) = self.tcp_checks.get(&event.check) {
                self.monitor.handle_tcp_verdict(key, &event);
            }
        }
    }

    fn send_probes(&mut self, now: Nanos) {
        while let Some(probe) = self.monitor.poll_transmit(now) {
            if !self.worker.send_probe(probe.exit, probe.packet) {
                self.probes_lost += 1;
            }
        }
    }

    /// Passes the monitor's news on to the control plane, round-trip times first: a site that comes
    /// up must be ranked by them.
    fn pass_news_on(&mut self, now: Nanos) {
        if self.stalls(RouterThread::Control) {
            return;
        }
        let mut first = true;
        while let Some(event) = self.monitor.poll_event() {
            if std::mem::take(&mut first) {
                let _ = self.control.handle_round_trips(now, self.monitor.round_trips());
            }
            self.control.handle_monitor(&event);
        }
    }
}

fn own_addresses(config: &Config) -> Vec<IpAddr> {
    let ports = config.ports.iter().flat_map(|port| &port.addresses);
    ports.chain(&config.router.addresses).map(IpNetwork::ip).collect()
}

/// Packets that a port queues in each direction until the network takes them.
const QUEUE: usize = 4096;

/// Rounds over the ports in one step: enough to empty a full queue.
const ROUNDS_MAX: usize = QUEUE / crate::batch::BURST + 1;

/// How often smoothed round-trip times are passed on.
const ROUND_TRIPS_EVERY: Duration = Duration::from_millis(100);
