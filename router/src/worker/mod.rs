//! The worker: the thread around a [`PlaneEngine`]. It owns one queue of every port, and waits for packets.
#![forbid(unsafe_code)]
#![allow(clippy::disallowed_methods, reason = "this is a thread's shell")]

mod counters;
mod io;
mod lanes;
mod poller;
mod reading;
mod spin;

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering, fence};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crossbeam_channel::Receiver;

pub use self::counters::{Polling, WorkerReport};
pub use self::lanes::{Lane, LanePacket, Lanes, Wake};
use self::poller::{Poller, Ready};
pub use self::reading::Reading;
use self::spin::Spin;
use crate::engine::{PlaneEngine, PlaneParts};
use crate::ids::PortId;
use crate::kernel::realtime;
use crate::liveness::proof::Injection;
use crate::port::counters::PortCounters;
use crate::time::Nanos;

/// A worker's state.
pub struct Worker {
    index: usize,
    plane: PlaneEngine,
    lanes: Lanes,
    wake: OwnedFd,
    injections: Receiver<Injection>,
    shared: Arc<WorkerShared>,
    ports: BTreeMap<PortId, PortCounters>,
    spin: Spin,
    published_at: Nanos,
}

/// The state that a worker shares with other threads.
#[derive(Default)]
pub struct WorkerShared {
    /// A copy of the counters, at most [`PUBLISH_EVERY_MS`] old while packets flow. The worker only
    /// tries the lock, so readers cannot block it.
    pub counters: Mutex<WorkerReport>,
    /// Set to `true` to end the worker, which then has to be woken.
    pub stop: AtomicBool,
    /// Its turns so far: even while it waits for packets, odd while it may have some in its hands.
    /// The worker alone writes it. A reader that sees an even number, or a later one, sees in the
    /// lanes what was handed over before.
    turn: AtomicU64,
}

impl WorkerShared {
    /// How many turns the worker has begun or ended: it grows while the worker works, and when it is
    /// woken.
    pub fn turns(&self) -> u64 {
        self.turn.load(Ordering::Relaxed)
    }

    /// The worker is about to read.
    fn begin_turn(&self) {
        self.turn.store(self.turn.load(Ordering::Relaxed) + 1, Ordering::Release);
        // Pairs with the fence of `Reading`: who finds a queue empty that this worker emptied sees
        // that it had begun to read.
        fence(Ordering::SeqCst);
    }

    /// The worker has handed over what it read, and is about to wait.
    fn end_turn(&self) {
        self.turn.store(self.turn.load(Ordering::Relaxed) + 1, Ordering::Release);
    }
}

/// Everything a worker needs to start.
pub struct WorkerParts {
    /// Its engine's.
    pub plane: PlaneParts,
    /// Its lanes to other threads.
    pub lanes: Lanes,
    /// The state it shares with other threads.
    pub shared: Arc<WorkerShared>,
    /// An eventfd; a write to it wakes the worker for a new snapshot, for an injection, or to stop.
    pub wake: OwnedFd,
    /// Packets that it is to forward as if they had come in by a port.
    pub injections: Receiver<Injection>,
}

impl Worker {
    /// Prepares a worker; it forwards from [`Self::run`] on.
    pub fn new(parts: WorkerParts) -> Self {
        Self {
            index: parts.plane.index,
            plane: PlaneEngine::new(parts.plane),
            lanes: parts.lanes,
            wake: parts.wake,
            injections: parts.injections,
            shared: parts.shared,
            ports: BTreeMap::new(),
            spin: Spin::default(),
            published_at: Nanos::ZERO,
        }
    }

    /// Forwards packets until [`WorkerShared::stop`] is set.
    pub fn run(mut self) -> std::io::Result<()> {
        if let Err(error) = realtime::take_short_turns() {
            log::info!("worker {} takes turns as long as any other thread: {error}", self.index);
        }
        let mut poller = Poller::new(self.index, self.wake.try_clone()?)?;
        let mut ready = Ready::default();
        while !self.shared.stop.load(Ordering::Acquire) {
            poller.follow(self.plane.snapshot(), &mut self.lanes)?;
            self.lanes.flush();
            let behind = !self.publish();
            self.wait(behind, &mut poller, &mut ready)?;
            self.shared.begin_turn();
            if self.forward_from(&ready, &mut poller) {
                self.spin.packets_came(Nanos::now());
            }
            self.shared.end_turn();
        }
        self.published_at = Nanos::ZERO;
        self.publish();
        Ok(())
    }

    /// Waits until there are packets or the worker is woken: polls for a while if configured and
    /// worthwhile, then sleeps.
    fn wait(
        &mut self,
        behind: bool,
        poller: &mut Poller,
        ready: &mut Ready,
    ) -> std::io::Result<()> {
        let budget = self.plane.snapshot().busy_poll;
        if self.spin.begin(Nanos::now(), budget) {
            loop {
                poller.wait(Some(0), ready)?;
                let is_asked =
                    !self.injections.is_empty() || self.shared.stop.load(Ordering::Acquire);
                let found = !ready.is_empty() || is_asked;
                if self.spin.goes_on(Nanos::now(), found) {
                    std::hint::spin_loop();
                    continue;
                }
                if found {
                    return Ok(());
                }
                break;
            }
        }
        self.spin.sleeps += 1;
        poller.wait(behind.then_some(PUBLISH_EVERY_MS), ready)
    }

    /// Forwards what the ready ports have; returns whether any packet came.
    fn forward_from(&mut self, ready: &Ready, poller: &mut Poller) -> bool {
        let Self { index, plane, lanes, ports, injections, .. } = self;
        let mut shell = io::Shell::new(*index, lanes, ports, poller);
        let any = plane.turn(&ready.ports(), &mut shell);
        for one in injections.try_iter().take(INJECTIONS_PER_TURN) {
            plane.inject(one.port, &one.packet, &mut shell);
        }
        self.lanes.report_first_packets(self.index, self.plane.first_packets());
        self.lanes.flush();
        any
    }

    /// Copies the counters to [`WorkerShared`] if due and no reader holds the lock; `false` if not
    /// copied.
    fn publish(&mut self) -> bool {
        let now = Nanos::now();
        if now.since(self.published_at) < Duration::from_millis(u64::from(PUBLISH_EVERY_MS)) {
            return false;
        }
        let Ok(mut report) = self.shared.counters.try_lock() else { return false };
        report.counters.clone_from(self.plane.counters());
        report.ports.clone_from(&self.ports);
        report.polling = self.spin.counters();
        report.lookup_codes = self.plane.lookup_codes();
        self.published_at = now;
        true
    }
}

/// Packets of the router's own that are forwarded in a turn: as many as their lane holds.
pub const INJECTIONS_PER_TURN: usize = 64;

/// How old published counters may be, in milliseconds.
pub const PUBLISH_EVERY_MS: u32 = 10;
