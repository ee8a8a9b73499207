//! The host thread: the host stack on the router's own addresses, and the TCP checks that run on it.
//! Nothing else runs here, so that whatever the control thread does fails no check.
#![forbid(unsafe_code)]
#![allow(clippy::disallowed_methods, reason = "this is a thread's shell")]

use std::collections::HashMap;
use std::io;
use std::net::IpAddr;
use std::os::fd::OwnedFd;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use arc_swap::ArcSwap;
use crossbeam_channel::Receiver;
use nearhop_fib::{PathId, Reader};

use super::liveness::Order;
use super::sleep::Sleeper;
use super::state_lane::StateLane;
use super::steps::Steps;
use crate::batch::Batch;
use crate::event::SlowStep;
use crate::forward::{
    Counters, Egress, Scratch, Snapshot, Snapshots, SyscallOutlets, WorkerState, originate,
};
use crate::host::check::TcpChecker;
use crate::host::{Host, HostConfig, HostStats};
use crate::ids::PortId;
use crate::liveness::leg::{LegSpec, TcpCheckKey};
use crate::packet::origin::clamp_mss;
use crate::probe::{CheckEvent, CheckId, CheckStats};
use crate::time::Nanos;
use crate::worker::{LanePacket, Reading};

/// What other threads ask of the host thread.
pub enum HostOrder {
    /// The router's own addresses are these from now on.
    Addresses(Vec<IpAddr>),
    /// A port's carrier changed, and is there now or not; there for a port that is gone.
    Carrier(PortId, bool),
    /// End the thread.
    End,
    /// Forget a leg.
    Forget(PathId),
    /// Take over the TCP checks of a leg; those that it had before are forgotten.
    Watch(LegSpec),
}

/// Verdicts to the liveness thread; of each check only the newest counts.
pub type Verdicts = StateLane<TcpCheckKey, CheckEvent, Order>;

/// What the thread is made of.
pub struct HostParts {
    /// Its reader of the FIB.
    pub reader: Reader,
    /// Where snapshots are published.
    pub snapshots: Arc<ArcSwap<Snapshot>>,
    /// Incremented whenever liveness or a group changes.
    pub changes: Arc<AtomicU64>,
    /// How far the workers have read their ports.
    pub reading: Reading,
    /// From the workers: packets for the router.
    pub packets: Receiver<LanePacket>,
    /// From the control thread and the liveness thread.
    pub orders: Receiver<HostOrder>,
    /// To the liveness thread.
    pub verdicts: Verdicts,
    /// Woken by the workers' lanes and by orders.
    pub wake: OwnedFd,
    /// For the ports of connections, and their sequence numbers.
    pub seed: u64,
    /// Where [`HostReport`]s are published.
    pub shared: Arc<Mutex<HostReport>>,
}

/// What the thread has counted and measured.
#[derive(Clone, Debug, Default)]
pub struct HostReport {
    /// What was sent, by verdict and path.
    pub counters: Counters,
    /// What became of the packets for the router.
    pub stats: HostStats,
    /// TCP checks.
    pub checks: Vec<(TcpCheckKey, CheckStats)>,
    /// Steps that took too long.
    pub slow_steps: Vec<SlowStep>,
}

/// The thread's state.
pub struct HostThread {
    host: Host,
    checker: TcpChecker,
    checks: HashMap<CheckId, TcpCheckKey>,
    reader: Reader,
    snapshots: Snapshots,
    batch: Batch,
    state: WorkerState,
    scratch: Scratch,
    outlets: SyscallOutlets,
    reading: Reading,
    packets: Receiver<LanePacket>,
    orders: Receiver<HostOrder>,
    verdicts: Verdicts,
    sleeper: Sleeper,
    shared: Arc<Mutex<HostReport>>,
    published_at: Nanos,
    steps: Steps,
}

impl HostThread {
    /// Prepares the thread.
    pub fn new(parts: HostParts) -> io::Result<Self> {
        let config = HostConfig { addresses: Vec::new(), mtu: MTU_MAX, seed: parts.seed };
        Ok(Self {
            host: Host::new(Nanos::now(), config),
            checker: TcpChecker::new(),
            checks: HashMap::new(),
            reader: parts.reader,
            snapshots: Snapshots::new(parts.snapshots),
            batch: Batch::new(),
            state: WorkerState::new(usize::MAX, 1, parts.changes),
            scratch: Scratch::default(),
            outlets: SyscallOutlets::default(),
            reading: parts.reading,
            packets: parts.packets,
            orders: parts.orders,
            verdicts: parts.verdicts,
            sleeper: Sleeper::new(parts.wake)?,
            shared: parts.shared,
            published_at: Nanos::ZERO,
            steps: Steps::of("host"),
        })
    }

    /// Runs until [`HostOrder::End`].
    pub fn run(mut self) -> io::Result<()> {
        self.steps.begin(Nanos::now());
        while self.handle_orders() {
            self.steps.end("orders", Nanos::now());
            self.handle_packets();
            self.steps.end("packets", Nanos::now());
            self.poll(Nanos::now());
            self.steps.end("connections and checks", Nanos::now());
            let behind = !self.publish(Nanos::now());
            if self.packets.is_empty() && self.orders.is_empty() {
                let due = self.poll_timeout(behind);
                self.sleeper.sleep(due)?;
            }
            self.steps.begin(Nanos::now());
        }
        Ok(())
    }

    /// `false` when it is to end.
    fn handle_orders(&mut self) -> bool {
        while let Ok(order) = self.orders.try_recv() {
            match order {
                HostOrder::Addresses(addresses) => self.host.set_addresses(addresses),
                HostOrder::Carrier(port, up) => {
                    self.checker.set_carrier(Nanos::now(), &mut self.host, port, up);
                }
                HostOrder::End => return false,
                HostOrder::Forget(path) => self.forget(path),
                HostOrder::Watch(leg) => self.watch(Nanos::now(), &leg),
            }
        }
        true
    }

    fn watch(&mut self, now: Nanos, leg: &LegSpec) {
        self.forget(leg.path);
        for (index, spec) in leg.checks.iter().enumerate() {
            if !spec.is_tcp() {
                continue;
            }
            match self.checker.add(now, &self.host, spec.clone()) {
                Ok(id) => {
                    let LegSpec { path, version, .. } = *leg;
                    self.checks.insert(id, TcpCheckKey { path, version, index });
                }
                Err(error) => log::error!("a TCP check cannot be done: {error}"),
            }
        }
    }

    fn forget(&mut self, path: PathId) {
        let of_leg = |(id, key): (&CheckId, &TcpCheckKey)| (key.path == path).then_some(*id);
        for id in self.checks.iter().filter_map(of_leg).collect::<Vec<_>>() {
            self.checker.remove(&mut self.host, id);
            self.checks.remove(&id);
        }
    }

    /// Packets to the router. Its TCP asks for no larger segments than the way back has room for.
    fn handle_packets(&mut self) {
        let mut count = 0;
        for mut packet in self.packets.try_iter().take(PACKETS_PER_STEP) {
            if let Some(mtu) = self.snapshots.load().mtu_of(packet.port) {
                clamp_mss(&mut packet.bytes, usize::from(mtu));
            }
            self.host.handle_packet(packet.received, packet.port, &packet.bytes);
            count += 1;
        }
        if count < PACKETS_PER_STEP {
            self.reading.lane_was_emptied();
        }
    }

    /// Runs stack and checks and sends what they say. No check is called silent while its answers may
    /// lie unread, in a port or in the lane.
    fn poll(&mut self, now: Nanos) {
        self.host.poll(now);
        let (reading, packets, snapshot) =
            (&mut self.reading, &self.packets, self.snapshots.load());
        self.checker.poll_unless(now, &mut self.host, |port, due| {
            reading.may_be_unread(now, (snapshot, port), due, || packets.is_empty())
        });
        self.host.poll(now);
        self.send();
        while let Some(event) = self.checker.poll_event() {
            if let Some(&key) = self.checks.get(&event.check) {
                self.verdicts.set(key, event);
            }
        }
        self.verdicts.flush();
    }

    fn poll_timeout(&mut self, behind: bool) -> Option<Nanos> {
        let now = Nanos::now();
        let publish = behind.then(|| self.published_at + PUBLISH_EVERY);
        let retry = self.verdicts.is_behind().then(|| now + RETRY_AFTER);
        let stack = self.host.poll_timeout(now);
        [stack, self.checker.poll_timeout(), publish, retry].into_iter().flatten().min()
    }

    fn send(&mut self) {
        // Also with nothing to send: an old snapshot keeps the devices of removed ports open.
        self.snapshots.load();
        self.outlets.release();
        while let Some(mut outgoing) = self.host.poll_transmit() {
            self.batch.clear();
            let pin = outgoing.pin.map(|exit| exit.adjacency);
            // Not longer, for what is sent takes system calls.
            let online = self.reader.online();
            let (snapshots, state) = (&mut self.snapshots, &mut self.state);
            originate(&mut outgoing.packet, pin, &mut self.batch, &online, snapshots, state);
            drop(online);
            let snapshot = self.snapshots.load();
            let (counters, scratch) = (&mut self.state.counters, &mut self.scratch);
            Egress { snapshot, counters, scratch }.send(&mut self.batch, &mut self.outlets);
        }
        // The workers, which read these ports, report the same.
        self.scratch.trouble.clear();
        self.outlets.release();
    }

    /// `false` if it is too early, or somebody reads what was published before.
    fn publish(&mut self, now: Nanos) -> bool {
        if now.since(self.published_at) < PUBLISH_EVERY {
            return false;
        }
        let Ok(mut report) = self.shared.try_lock() else { return false };
        report.counters.clone_from(&self.state.counters);
        report.stats = self.host.stats();
        report.slow_steps.clear();
        report.slow_steps.extend(self.steps.slow());
        report.checks.clear();
        let stats = |(&id, &key): (&CheckId, &TcpCheckKey)| Some((key, self.checker.stats(id)?));
        report.checks.extend(self.checks.iter().filter_map(stats));
        self.published_at = now;
        true
    }
}

/// The stack may make packets as large as there are: each is fitted to the way out it takes.
const MTU_MAX: u16 = u16::MAX;

/// Packets taken between two looks at orders, checks and timers: half a millisecond of work.
const PACKETS_PER_STEP: usize = 256;

/// How old published counters may be while something happens.
const PUBLISH_EVERY: Duration = Duration::from_millis(10);

/// When verdicts that did not fit are sent again.
const RETRY_AFTER: Duration = Duration::from_millis(1);
