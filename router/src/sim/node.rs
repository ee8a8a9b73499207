//! One router: what its threads do, one after the other, whenever it is stepped.
#![forbid(unsafe_code)]

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use arc_swap::ArcSwap;
use ipnetwork::IpNetwork;
use nearhop_fib::PathId;

use super::plane::{Plane, Punts};
use crate::batch::LocalLane;
use crate::config::Config;
use crate::control::monitor::{LegSpec, Monitor};
use crate::control::{Control, Orders, ReloadError};
use crate::event::EventKind;
use crate::forward::Counters;
use crate::host::check::TcpChecker;
use crate::host::{Host, HostConfig};
use crate::ids::PortId;
use crate::packet::origin::clamp_mss;
use crate::policy::CheckKind;
use crate::port::Port;
use crate::port::memory::{LinkState, MemoryPort};
use crate::probe::{AddError, CheckId};
use crate::time::Nanos;

/// A router without threads, sockets and clock: forwarding, monitor, core and host stack over ports
/// in memory. Deterministic: the same calls give the same packets and events.
pub struct Node {
    name: String,
    control: Control,
    monitor: Monitor,
    host: Host,
    tcp: TcpChecker,
    tcp_checks: BTreeMap<CheckId, (PathId, usize)>,
    plane: Plane,
    punts: Punts,
    devices: BTreeMap<String, Arc<MemoryPort>>,
    watched: BTreeSet<PathId>,
    next_round_trips: Nanos,
    probes_lost: u64,
    stalled: BTreeSet<Part>,
}

/// A part of a router that can stand still while the others go on.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Part {
    /// The control thread: nothing is published and no event is told. Liveness, which is the
    /// heartbeat thread's, still reaches the worker.
    Control,
    /// The worker: packets wait in the ports, answers to probes among them.
    Worker,
}

/// Why a router does not take a configuration.
#[derive(Debug, thiserror::Error)]
pub enum NodeError {
    /// Only a restart could bring it in force. Nothing was changed.
    #[error(transparent)]
    Ports(#[from] ReloadError),
    /// A check cannot be done; its leg is not watched, and stays down. The rest is in force.
    #[error("a check cannot be done: {0}")]
    Check(#[from] AddError),
}

impl Node {
    /// A router with this configuration, whose ports all have carrier. Identifiers and source ports
    /// of its probes follow from `seed`.
    ///
    /// # Errors
    /// As [`Self::apply`].
    ///
    /// # Panics
    /// Never: a FIB for one reader gives one reader.
    pub fn new(now: Nanos, config: Config, seed: u64) -> Result<Self, NodeError> {
        let (writer, handle) = nearhop_fib::fib(1);
        let snapshot = Arc::new(ArcSwap::from_pointee(Control::empty_snapshot()));
        let changes = Arc::new(AtomicU64::new(0));
        let reader = handle.reader().expect("one reader was allowed, and none exists");
        let host = HostConfig { addresses: own_addresses(&config), mtu: u16::MAX, seed };
        let mut node = Self {
            name: config.router.name.clone(),
            monitor: Monitor::new(handle.clone(), Arc::clone(&changes), seed),
            plane: Plane::new(reader, Arc::clone(&snapshot), Arc::clone(&changes)),
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

    /// Puts another configuration in force, as a reload does. New ports have carrier.
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
        // What a stalled reader holds back is published by a later step.
        let orders = match self.control.apply(config, devices, now) {
            Ok(orders) | Err((orders, _)) => orders,
        };
        let outcome = self.follow(now, orders);
        self.devices.retain(|name, _| names.contains(name));
        self.tell_core(now);
        outcome
    }

    /// A port's carrier came or went; unknown names are ignored.
    pub fn set_carrier(&mut self, now: Nanos, port: &str, up: bool) {
        let Some(id) = self.port_id(port) else { return };
        self.carrier(now, id, up);
        self.tell_core(now);
    }

    /// Cuts or joins the wire of a port: its device refuses packets at once, but the router learns
    /// of it by [`Self::set_carrier`] or by its checks.
    pub fn set_wire(&mut self, port: &str, up: bool) {
        if let Some(device) = self.devices.get(port) {
            device.set_link(if up { LinkState::Up } else { LinkState::Down });
        }
    }

    /// Takes a site out of service for new flows, or back in; `false` if no service has it.
    pub fn drain(&mut self, now: Nanos, site: &str, drained: bool) -> bool {
        self.control.drain(now, site, drained)
    }

    /// Forgives every leg its flaps.
    pub fn clear_damping(&mut self, now: Nanos) {
        self.monitor.clear_damping(now);
        self.tell_core(now);
    }

    /// Lets a part stand still, or go on; what the monitor had to say meanwhile comes first then.
    pub fn stall(&mut self, now: Nanos, part: Part, stalled: bool) {
        if stalled {
            self.stalled.insert(part);
        } else {
            self.stalled.remove(&part);
            self.tell_core(now);
        }
    }

    /// Whether a part stands still.
    pub fn stalls(&self, part: Part) -> bool {
        self.stalled.contains(&part)
    }

    /// Does everything that is due: packets first, as each of the threads does, so that an answer
    /// that came in time counts before its absence does.
    pub fn step(&mut self, now: Nanos) {
        for _ in 0..ROUNDS_MAX {
            let any = !self.stalls(Part::Worker) && self.plane.run(now, &mut self.punts);
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
        if !self.stalls(Part::Control) {
            self.step_control(now, round_trips);
        }
    }

    /// When to call [`Self::step`] next, unless a packet comes before.
    #[must_use]
    pub fn poll_timeout(&mut self, now: Nanos) -> Option<Nanos> {
        let host = self.host.poll_timeout(now);
        let round_trips = (!self.watched.is_empty()).then_some(self.next_round_trips);
        let due = [self.monitor.poll_timeout(), host, self.tcp.poll_timeout(), round_trips];
        due.into_iter().flatten().min()
    }

    /// Takes the oldest event: when it happened, and what.
    pub fn poll_event(&mut self) -> Option<(Nanos, EventKind)> {
        self.control.poll_event()
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The device of a port: what is injected there it receives, what is drained it has sent.
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

    /// What its worker counted.
    pub fn counters(&self) -> &Counters {
        self.plane.counters()
    }

    /// Probes that their port did not take.
    pub fn probes_lost(&self) -> u64 {
        self.probes_lost
    }

    fn step_control(&mut self, now: Nanos, round_trips: bool) {
        for first in self.plane.take_first_packets() {
            self.control.handle_first_packet(0, first);
        }
        self.tell_core(now);
        if round_trips {
            // What a stalled reader holds back is published by the next step's retry.
            let _ = self.control.handle_round_trips(now, self.monitor.round_trips());
        }
        let _ = self.control.retry(now);
        self.stop(now);
    }

    fn port_id(&self, name: &str) -> Option<PortId> {
        self.control.ports().find(|port| port.name() == name).map(|port| port.id)
    }

    /// Watches what is new and forgets what is gone. Goes on after a check that cannot be done.
    fn follow(&mut self, now: Nanos, orders: Orders) -> Result<(), NodeError> {
        for (id, adjacency) in orders.ports {
            self.monitor.add_port(id, adjacency);
            self.carrier(now, id, true);
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
        for &(id, _, _) in &orders.stop.ports {
            self.monitor.remove_port(id);
        }
        self.control.release(&orders.stop);
        outcome.map_err(NodeError::from)
    }

    fn watch(&mut self, now: Nanos, leg: LegSpec) -> Result<(), AddError> {
        let tcp = leg.checks.iter().enumerate();
        let tcp: Vec<_> = tcp
            .filter(|(_, check)| matches!(check.kind, CheckKind::Tcp { .. }))
            .map(|(index, check)| (index, check.clone()))
            .collect();
        let path = leg.path;
        self.monitor.add_leg(now, leg)?;
        self.watched.insert(path);
        for (index, check) in tcp {
            let id = self.tcp.add(now, &self.host, check)?;
            self.tcp_checks.insert(id, (path, index));
        }
        Ok(())
    }

    fn forget_leg(&mut self, path: PathId) {
        self.watched.remove(&path);
        self.monitor.remove_leg(path);
        self.forget_tcp(path);
    }

    fn forget_tcp(&mut self, path: PathId) {
        let gone = self.tcp_checks.iter().filter(|(_, place)| place.0 == path);
        for id in gone.map(|(&id, _)| id).collect::<Vec<_>>() {
            self.tcp.remove(&mut self.host, id);
            self.tcp_checks.remove(&id);
        }
    }

    /// Forgets what a publication that was held back has let go of.
    fn stop(&mut self, now: Nanos) {
        let stop = self.control.take_stopping();
        if !stop.legs.is_empty() || !stop.ports.is_empty() {
            // Without new legs nothing can fail.
            let _ = self.follow(now, Orders { stop, ..Orders::default() });
        }
    }

    fn carrier(&mut self, now: Nanos, id: PortId, up: bool) {
        self.monitor.handle_carrier(now, id, up);
        self.tcp.set_carrier(now, &mut self.host, id, up);
        self.take_tcp_verdicts();
    }

    /// Hands out what came for the router itself.
    fn take_in(&mut self, now: Nanos) {
        for (lane, port, packet) in std::mem::take(&mut self.punts) {
            if lane == LocalLane::Checks {
                // An error about a connection is of no concern to the prober.
                if !self.monitor.handle_packet(now, port, &packet) {
                    self.handle_host_packet(now, port, packet);
                }
            } else {
                self.handle_host_packet(now, port, packet);
            }
        }
    }

    fn handle_host_packet(&mut self, now: Nanos, port: PortId, mut packet: Vec<u8>) {
        if let Some(mtu) = self.plane.mtu_of(port) {
            clamp_mss(&mut packet, mtu);
        }
        self.host.handle_packet(now, port, &packet);
    }

    fn poll_host(&mut self, now: Nanos) {
        self.tcp.poll(now, &mut self.host);
        self.take_tcp_verdicts();
        while let Some(mut out) = self.host.poll_transmit() {
            self.plane.originate(&mut out.packet, out.pin);
        }
    }

    fn take_tcp_verdicts(&mut self) {
        while let Some(event) = self.tcp.poll_event() {
            if let Some(&(path, index)) = self.tcp_checks.get(&event.check) {
                self.monitor.handle_tcp_verdict(path, index, &event);
            }
        }
    }

    fn send_probes(&mut self, now: Nanos) {
        while let Some(probe) = self.monitor.poll_transmit(now) {
            if !self.plane.send_probe(probe.port, probe.packet) {
                self.probes_lost += 1;
            }
        }
    }

    /// Hands the monitor's news on, round-trip times first: a site that comes up is to be ranked by
    /// what is known of it.
    fn tell_core(&mut self, now: Nanos) {
        if self.stalls(Part::Control) {
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

/// Packets that a port holds each way until the network takes them.
const QUEUE: usize = 4096;

/// Turns over the ports in one step: a queue's worth.
const ROUNDS_MAX: usize = QUEUE / crate::batch::BURST + 1;

/// How often smoothed round-trip times are looked at.
const ROUND_TRIPS_EVERY: Duration = Duration::from_millis(100);
