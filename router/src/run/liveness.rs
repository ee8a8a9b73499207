//! The liveness thread: carrier, probes and their timers, and nothing else, so that nothing else
//! stands between a fault and the byte that moves packets away from it.
#![forbid(unsafe_code)]
#![allow(clippy::disallowed_methods, reason = "this is a thread's shell")]

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender};
use nearhop_fib::PathId;

use super::host::HostOrder;
use super::sleep::Sleeper;
use super::state_lane::StateLane;
use super::steps::Steps;
use crate::batch::{Batch, Exit, PACKET_MAX};
use crate::control::Stopping;
use crate::forward::{Counters, Egress, Scratch, Snapshots, SyscallOutlets};
use crate::ids::PortId;
use crate::kernel::carrier::{CarrierError, CarrierMonitor, LinkEvent};
use crate::kernel::netns::Place;
use crate::kernel::realtime;
use crate::liveness::LivenessReport;
use crate::liveness::event::MonitorEvent;
use crate::liveness::leg::{LegSpec, TcpCheckKey};
use crate::liveness::monitor::Monitor;
use crate::port::gone::is_gone;
use crate::port::news::PortTrouble;
use crate::probe::CheckEvent;
use crate::time::Nanos;
use crate::verdict::Verdict;
use crate::worker::{Lane, LanePacket, Reading};

/// What the control thread asks of the liveness thread.
pub enum Order {
    /// Forgive every leg its flaps.
    ClearDamping,
    /// End the thread.
    End,
    /// Watch a leg; one that is watched already keeps its state and gets these checks.
    Leg(LegSpec),
    /// Watch a port; one that is watched already has a new device.
    Port {
        /// The port and its own adjacency.
        exit: Exit,
        /// Where the device lives.
        place: Place,
    },
    /// Answer with what is known of every check.
    Report(Sender<LivenessReport>),
    /// Answer with the smoothed round-trip time of each leg that has one.
    RoundTrips(Sender<BTreeMap<PathId, Duration>>),
    /// Forget these, then answer.
    Stop(Stopping, Sender<()>),
    /// What the host stack found out by TCP.
    TcpVerdict(TcpCheckKey, CheckEvent),
}

/// The carrier of ports to the host thread.
pub type CarrierLane = StateLane<PortId, bool, HostOrder>;

/// What the thread is made of.
pub struct LivenessParts {
    /// The state machine that decides.
    pub monitor: Monitor,
    /// To find the devices.
    pub snapshots: Snapshots,
    /// Woken by orders and by the workers' lanes.
    pub wake: OwnedFd,
    /// Answers to probes, from the workers.
    pub packets: Receiver<LanePacket>,
    /// How far the workers have read their ports.
    pub reading: Reading,
    /// Ports in trouble, from the workers.
    pub trouble: Receiver<PortTrouble>,
    /// From the control thread.
    pub orders: Receiver<Order>,
    /// To the host thread: the carrier of ports.
    pub host: CarrierLane,
    /// To the control thread: what happened.
    pub events: Lane<MonitorEvent>,
    /// Lost carrier is handled so much late; zero but in tests of what measures failover.
    pub test_carrier_delay: Duration,
}

/// The thread's state.
pub struct LivenessThread {
    parts: LivenessParts,
    sleeper: Sleeper,
    carriers: Vec<Carrier>,
    legs: BTreeSet<PathId>,
    /// Ports that lost carrier, and when that is to be handled; empty but in tests.
    delayed: VecDeque<(Nanos, PortId)>,
    lateness_max: Duration,
    steps: Steps,
    batch: Batch,
    scratch: Scratch,
    outlets: SyscallOutlets,
    counters: Counters,
}

/// A namespace that is watched, and which of its devices are ports.
struct Carrier {
    /// By this, for a path may lead to a new namespace when a port is added later.
    netns: (u64, u64),
    monitor: CarrierMonitor,
    ports: HashMap<u32, PortId>,
    /// What was last heard of each device: a port may be added later.
    known: HashMap<u32, LinkEvent>,
}

impl LivenessThread {
    /// Prepares the thread.
    pub fn new(parts: LivenessParts) -> io::Result<Self> {
        Ok(Self {
            sleeper: Sleeper::new(parts.wake.try_clone()?)?,
            parts,
            carriers: Vec::new(),
            legs: BTreeSet::new(),
            delayed: VecDeque::new(),
            lateness_max: Duration::ZERO,
            steps: Steps::of("liveness"),
            batch: Batch::new(),
            scratch: Scratch::default(),
            outlets: SyscallOutlets::default(),
            counters: Counters::default(),
        })
    }

    /// Watches until it is to end.
    pub fn run(mut self) -> io::Result<()> {
        match realtime::enter() {
            Ok(()) => log::info!("the liveness thread runs in real time"),
            Err(error) => log::info!("the liveness thread is scheduled as any other: {error}"),
        }
        loop {
            self.sleep()?;
            self.steps.begin(Nanos::now());
            self.handle_carriers();
            self.steps.end("carrier", Nanos::now());
            self.handle_packets();
            self.steps.end("packets", Nanos::now());
            self.pass_events_on();
            if !self.handle_orders() {
                return Ok(());
            }
            self.steps.end("orders", Nanos::now());
            // Whatever came in before this moment is handled before a timer may call it missing.
            self.handle_packets();
            let now = Nanos::now();
            let due = self.parts.monitor.poll_timeout().filter(|&due| due <= now);
            if let Some(due) = due.filter(|_| !self.parts.monitor.is_behind()) {
                self.lateness_max = self.lateness_max.max(now.since(due));
            }
            self.handle_timeout(now);
            self.pass_events_on();
            self.transmit(now);
            self.steps.end("timers", Nanos::now());
        }
    }

    /// Until a device, a worker, the control thread or the clock has something.
    fn sleep(&mut self) -> io::Result<()> {
        let delayed = self.delayed.front().map(|&(at, _)| at);
        let retry = self.parts.host.is_behind().then(|| Nanos::now() + RETRY_AFTER);
        let due = [self.parts.monitor.poll_timeout(), delayed, retry].into_iter().flatten().min();
        self.sleeper.sleep(due)
    }

    fn handle_carriers(&mut self) {
        self.handle_delayed();
        let LivenessParts { monitor, snapshots, trouble, test_carrier_delay, .. } = &mut self.parts;
        for carrier in &mut self.carriers {
            while let Some(event) = carrier.monitor.poll_event() {
                let now = Nanos::now();
                if event.deleted {
                    carrier.known.remove(&event.ifindex);
                    if let Some(port) = carrier.ports.remove(&event.ifindex) {
                        monitor.handle_gone(now, port, event.ifindex);
                    }
                    continue;
                }
                let before = carrier.known.insert(event.ifindex, event.clone());
                if let Some(&port) = carrier.ports.get(&event.ifindex) {
                    if test_carrier_delay.is_zero() {
                        monitor.handle_carrier(now, port, event.up);
                    } else if event.up {
                        self.delayed.retain(|&(_, lost)| lost != port);
                        monitor.handle_carrier(now, port, true);
                    } else {
                        self.delayed.push_back((now + *test_carrier_delay, port));
                    }
                    let like =
                        |link: &LinkEvent| (link.mtu, &link.name) == (event.mtu, &event.name);
                    if !before.as_ref().is_some_and(like) {
                        monitor.handle_link(now, port, &event);
                    }
                }
            }
        }
        for trouble in trouble.try_iter() {
            // One that is only set down is reported by netlink too, and may be up again by the time
            // this is read; as the port of one that was deleted may have a new device.
            let device = snapshots.load().port(trouble.port).map(|port| &*port.device);
            if trouble.gone && device.is_none_or(is_gone) {
                monitor.handle_carrier(Nanos::now(), trouble.port, false);
            }
        }
        self.let_go();
    }

    /// Carrier that was lost some time ago, under [`LivenessParts::test_carrier_delay`].
    fn handle_delayed(&mut self) {
        let now = Nanos::now();
        while let Some(&(_, port)) = self.delayed.front().filter(|&&(at, _)| at <= now) {
            self.delayed.pop_front();
            self.parts.monitor.handle_carrier(now, port, false);
        }
    }

    /// A namespace without ports is watched no more: that would keep it from ending.
    fn let_go(&mut self) {
        self.carriers.retain(|carrier| !carrier.ports.is_empty());
    }

    fn handle_packets(&mut self) {
        let mut count = 0;
        for packet in self.parts.packets.try_iter().take(PACKETS_MAX) {
            self.parts.monitor.handle_packet(packet.received, packet.port, &packet.bytes);
            count += 1;
        }
        if count < PACKETS_MAX {
            self.parts.reading.lane_was_emptied();
        }
    }

    /// A worker that got no turn on a core must not pass for a dead site: no check is called
    /// silent while its answers may lie unread.
    fn handle_timeout(&mut self, now: Nanos) {
        let LivenessParts { monitor, snapshots, packets, reading, .. } = &mut self.parts;
        let snapshot = snapshots.load();
        monitor.handle_timeout_unless(now, |port, due| {
            reading.may_be_unread(now, (snapshot, port), due, || packets.is_empty())
        });
    }

    /// Passes events on. None may be lost, for what the control thread shows rests on them: those
    /// that find no room wait here for its next order, which comes a few times a second.
    fn pass_events_on(&mut self) {
        let LivenessParts { monitor, events, host, .. } = &mut self.parts;
        while let Some((port, up)) = monitor.poll_carrier() {
            host.set(port, up);
        }
        host.flush();
        while !events.is_full()
            && let Some(event) = monitor.poll_event()
        {
            events.push(event);
        }
        events.flush();
    }

    fn transmit(&mut self, now: Nanos) {
        loop {
            self.batch.clear();
            let snapshot = self.parts.snapshots.load();
            let mut any = false;
            while self.batch.room_to_make().has(1, PACKET_MAX) {
                let Some(transmit) = self.parts.monitor.poll_transmit(now) else { break };
                let exit = transmit.exit;
                self.counters.originated += 1;
                any |= self.batch.transmit_copy(transmit.packet, exit, None, Verdict::Originate);
            }
            if !any {
                break;
            }
            let (counters, scratch) = (&mut self.counters, &mut self.scratch);
            Egress { snapshot, counters, scratch }.send(&mut self.batch, &mut self.outlets);
        }
        // Carrier is heard of from the kernel.
        self.scratch.trouble.clear();
        self.outlets.release();
    }

    /// `false` when it is to end.
    fn handle_orders(&mut self) -> bool {
        while let Ok(order) = self.parts.orders.try_recv() {
            let now = Nanos::now();
            match order {
                Order::ClearDamping => self.parts.monitor.clear_damping(now),
                Order::End => return false,
                Order::Leg(spec) => self.watch_leg(now, spec),
                Order::Port { exit, place } => {
                    let id = exit.port;
                    self.unwatch_port(id);
                    self.parts.monitor.handle_carrier(now, id, false);
                    self.parts.monitor.add_port(id);
                    self.parts.monitor.add_adjacency(exit);
                    if let Err(error) = self.watch_port(now, id, &place) {
                        log::error!("carrier of port {} is not watched: {error}", id.0);
                    }
                    self.let_go();
                }
                Order::Report(answer) => {
                    // Nobody waits for it any more: nothing to do.
                    let _ = answer.send(self.report());
                }
                Order::RoundTrips(answer) => {
                    let _ = answer.send(self.parts.monitor.round_trips());
                }
                Order::Stop(stopping, answer) => {
                    self.forget(&stopping);
                    let _ = answer.send(());
                }
                Order::TcpVerdict(key, event) => {
                    self.parts.monitor.handle_tcp_verdict(key, &event);
                }
            }
            self.pass_events_on();
        }
        true
    }

    fn watch_leg(&mut self, now: Nanos, spec: LegSpec) {
        let path = spec.path;
        match self.parts.monitor.add_leg(now, spec) {
            Ok(()) => drop(self.legs.insert(path)),
            Err(error) => log::error!("a site's checks cannot be done: {error}"),
        }
    }

    /// Finds or opens the namespace's monitor, and says what it knows of the port already.
    fn watch_port(&mut self, now: Nanos, id: PortId, place: &Place) -> Result<(), CarrierError> {
        let Place { netns, ifindex, .. } = place;
        let identity = netns.identity()?;
        let found = self.carriers.iter().position(|carrier| carrier.netns == identity);
        let index = if let Some(index) = found {
            index
        } else {
            let monitor = CarrierMonitor::open(netns)?;
            if let Err(error) = self.sleeper.add(monitor.as_fd()) {
                log::error!("cannot poll for carrier in {netns}: {error}");
            }
            let (ports, known) = (HashMap::new(), HashMap::new());
            self.carriers.push(Carrier { netns: identity, monitor, ports, known });
            self.carriers.len() - 1
        };
        let carrier = &mut self.carriers[index];
        carrier.ports.insert(*ifindex, id);
        // What is known may be older than what waits to be read.
        self.handle_carriers();
        let known = self.carriers.iter().find(|carrier| carrier.netns == identity);
        if let Some(link) = known.and_then(|carrier| carrier.known.get(ifindex)) {
            self.parts.monitor.handle_carrier(now, id, link.up);
            self.parts.monitor.handle_link(now, id, link);
        }
        Ok(())
    }

    fn forget(&mut self, stopping: &Stopping) {
        for &path in &stopping.legs {
            self.parts.monitor.remove_leg(path);
            self.legs.remove(&path);
        }
        for &(exit, _) in &stopping.ports {
            self.parts.monitor.remove_port(exit.port);
            self.unwatch_port(exit.port);
        }
        self.let_go();
    }

    fn unwatch_port(&mut self, id: PortId) {
        for carrier in &mut self.carriers {
            carrier.ports.retain(|_, port| *port != id);
        }
    }

    fn report(&self) -> LivenessReport {
        let monitor = &self.parts.monitor;
        LivenessReport {
            checks: self.legs.iter().map(|&path| (path, monitor.stats(path))).collect(),
            lateness_max: self.lateness_max,
            slow_steps: self.steps.slow().collect(),
            unsent: self.counters.originated - self.counters.of(Verdict::Originate),
        }
    }
}

/// When carrier that did not fit into the lane is sent again.
const RETRY_AFTER: Duration = Duration::from_millis(1);

/// Packets taken from the workers' lane before timers get their turn.
const PACKETS_MAX: usize = 65_536;
