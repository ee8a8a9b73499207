//! The host thread: a shell around [`HostEngine`]. Nothing else runs here, so that whatever the control
//! thread does fails no check.
#![forbid(unsafe_code)]
#![allow(clippy::disallowed_methods, reason = "this is a thread's shell")]

use std::io;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender};

use super::liveness::Order;
use super::orders::Orders;
use super::sleep::Sleeper;
use super::steps::Steps;
use super::threads::sent;
use super::turns::{Turns, WatchedThread};
use crate::bgp::session::{Counters as SessionCounters, Said};
use crate::engine::{HostEngine, HostOrder, LivenessOrder, StateLane};
use crate::forward::Counters;
use crate::host::HostStats;
use crate::ids::NeighborId;
use crate::liveness::leg::TcpCheckKey;
use crate::probe::{CheckEvent, CheckStats};
use crate::time::{Nanos, StepTimes};
use crate::worker::{LanePacket, Reading, Wake};

/// What other threads ask of the host thread.
pub enum HostCall {
    /// Something of the engine.
    Order(HostOrder),
    /// The last messages of a BGP neighbour.
    Transcript(NeighborId, Sender<Vec<Said>>),
    /// End the thread.
    End,
}

/// What the thread is made of.
pub struct HostParts {
    /// What it runs.
    pub engine: HostEngine,
    /// How far the workers have read their ports.
    pub reading: Reading,
    /// From the workers: packets for the router.
    pub packets: Receiver<LanePacket>,
    /// From the control thread and the liveness thread.
    pub orders: Receiver<HostCall>,
    /// To the liveness thread: verdicts.
    pub liveness: (Orders<Order>, Wake),
    /// Woken by news of BGP neighbours.
    pub control: Wake,
    /// Woken by the workers' lanes and by orders.
    pub wake: OwnedFd,
    /// Its turns, for the watchdog.
    pub turns: Turns,
    /// Threads on which it depends whether announcements are true.
    pub watched: Vec<WatchedThread>,
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
    /// BGP sessions.
    pub bgp: Vec<(NeighborId, SessionCounters)>,
    /// How long its steps took.
    pub steps: Vec<StepTimes>,
}

/// The thread's state.
pub struct HostThread {
    engine: HostEngine,
    reading: Reading,
    packets: Receiver<LanePacket>,
    orders: Receiver<HostCall>,
    /// Of each check only the newest counts.
    verdicts: StateLane<TcpCheckKey, CheckEvent>,
    liveness: (Orders<Order>, Wake),
    control: Wake,
    sleeper: Sleeper,
    shared: Arc<Mutex<HostReport>>,
    published_at: Nanos,
    turns: Turns,
    watched: Vec<WatchedThread>,
    steps: Steps,
}

impl HostThread {
    /// Prepares the thread.
    pub fn new(parts: HostParts) -> io::Result<Self> {
        Ok(Self {
            engine: parts.engine,
            reading: parts.reading,
            packets: parts.packets,
            orders: parts.orders,
            verdicts: StateLane::default(),
            liveness: parts.liveness,
            control: parts.control,
            sleeper: Sleeper::new(parts.wake)?,
            shared: parts.shared,
            published_at: Nanos::ZERO,
            turns: parts.turns,
            watched: parts.watched,
            steps: Steps::of("host"),
        })
    }

    /// Runs until [`HostCall::End`].
    pub fn run(mut self) -> io::Result<()> {
        self.steps.begin(Nanos::now());
        while self.handle_orders() {
            self.turns.take();
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
        self.engine.end_sessions(Nanos::now(), "the router ends");
        Ok(())
    }

    /// `false` when it is to end.
    fn handle_orders(&mut self) -> bool {
        for call in self.orders.try_iter().take(ORDERS_PER_STEP) {
            match call {
                HostCall::Order(order) => self.engine.handle_order(Nanos::now(), order),
                // One who no longer waits is no error.
                HostCall::Transcript(id, answer) => {
                    let _ = answer.try_send(self.engine.bgp_transcript(id));
                }
                HostCall::End => return false,
            }
        }
        true
    }

    fn handle_packets(&mut self) {
        let mut count = 0;
        for mut packet in self.packets.try_iter().take(PACKETS_PER_STEP) {
            self.engine.handle_packet(packet.received, packet.port, &mut packet.bytes);
            count += 1;
        }
        if count < PACKETS_PER_STEP {
            self.reading.lane_was_emptied();
        }
    }

    fn poll(&mut self, now: Nanos) {
        if self.engine.next_look().is_some_and(|at| at <= now) {
            self.engine.look(now, self.watched.iter_mut().map(WatchedThread::look));
        }
        let (reading, packets) = (&mut self.reading, &self.packets);
        self.engine.poll(now, |snapshot, port, due| {
            reading.may_be_unread(now, (snapshot, port), due, || packets.is_empty())
        });
        if self.engine.take_bgp_news() {
            self.control.wake();
        }
        while let Some((key, event)) = self.engine.poll_verdict() {
            self.verdicts.set(key, event);
        }
        let (orders, wake) = &self.liveness;
        let verdict = |key, event| Order::Engine(LivenessOrder::TcpVerdict(key, event));
        if self.verdicts.flush(|key, event| sent(&orders.try_send(verdict(key, event)))) {
            wake.wake();
        }
    }

    fn poll_timeout(&mut self, behind: bool) -> Option<Nanos> {
        let now = Nanos::now();
        let publish = behind.then(|| self.published_at + PUBLISH_EVERY);
        let retry = self.verdicts.is_behind().then(|| now + RETRY_AFTER);
        [self.engine.poll_timeout(now), publish, retry].into_iter().flatten().min()
    }

    /// `false` if it is too early, or somebody reads what was published before.
    fn publish(&mut self, now: Nanos) -> bool {
        if now.since(self.published_at) < PUBLISH_EVERY {
            return false;
        }
        let Ok(mut report) = self.shared.try_lock() else { return false };
        report.counters.clone_from(self.engine.counters());
        report.stats = self.engine.stats();
        report.steps.clear();
        report.steps.extend_from_slice(self.steps.times());
        report.bgp.clear();
        report.bgp.extend(self.engine.bgp_counters());
        report.checks.clear();
        report.checks.extend(self.engine.check_stats());
        self.published_at = now;
        true
    }
}

/// Packets taken between two looks at orders, checks and timers: half a millisecond of work.
const PACKETS_PER_STEP: usize = 256;

/// Orders taken between two looks at packets and timers.
const ORDERS_PER_STEP: usize = 256;

/// How old published counters may be while something happens.
const PUBLISH_EVERY: Duration = Duration::from_millis(10);

/// When verdicts that did not fit are sent again.
const RETRY_AFTER: Duration = Duration::from_millis(1);
