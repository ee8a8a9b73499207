//! The threads and the channels between them.
#![allow(
    clippy::disallowed_methods,
    reason = "gives the clock to those who report when they stored"
)]

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};

use arc_swap::ArcSwap;
use crossbeam_channel::{Receiver, TrySendError};
use tokio::sync::Notify;

use super::host::{HostCall, HostParts, HostReport, HostThread};
use super::kernel::{KernelOrder, KernelParts, KernelReport, KernelThread};
use super::liveness::{LivenessParts, LivenessThread, Order};
use super::orders::Orders;
use super::turns::{Count, Turns, WatchedThread};
use super::watched::Watched;
use super::{RunError, RunOptions};
use crate::bgp::lease::Part;
use crate::config::Config;
use crate::control::Control;
use crate::engine::{
    BfdEngine, ControlEngine, HostEngine, HostEngineParts, LivenessEngine, LivenessNews,
    PlaneParts, Sent,
};
use crate::forward::{FirstPacket, Snapshots};
use crate::liveness::monitor::Monitor;
use crate::liveness::proof::Prover;
use crate::port::news::EngineNews;
use crate::time::Nanos;
use crate::worker::{
    INJECTIONS_PER_TURN, Lane, Lanes, Reading, Wake, Worker, WorkerParts, WorkerShared,
};

/// Everything the control thread holds of the others.
pub(super) struct Daemon {
    pub(super) control: ControlEngine,
    pub(super) workers: Vec<WorkerHandle>,
    pub(super) liveness: ThreadHandle<Order>,
    pub(super) host: ThreadHandle<HostCall>,
    pub(super) kernel: ThreadHandle<KernelOrder>,
    /// What the kernel's thread has to say.
    pub(super) kernel_report: Arc<Mutex<KernelReport>>,
    /// What the host thread publishes.
    pub(super) host_report: Arc<Mutex<HostReport>>,
    /// Which ports the liveness thread watches.
    pub(super) watched: Watched,
    /// Those of the liveness thread, the host thread and the kernel's thread.
    turns: [Turns; 3],
    /// Those of the control thread.
    pub(super) own_turns: Turns,
    /// Notified when a lane to the control thread has something.
    pub(super) wake: Arc<Notify>,
    pub(super) first_packets: Receiver<(usize, FirstPacket)>,
    pub(super) news: Receiver<LivenessNews>,
    pub(super) engine_news: Receiver<EngineNews>,
}

pub(super) struct WorkerHandle {
    pub(super) shared: Arc<WorkerShared>,
    wake: Wake,
    thread: Option<JoinHandle<io::Result<()>>>,
}

/// A thread that takes orders.
pub(super) struct ThreadHandle<T> {
    name: &'static str,
    orders: Orders<T>,
    wake: Wake,
    thread: Option<JoinHandle<io::Result<()>>>,
}

impl<T> ThreadHandle<T> {
    fn new(name: &'static str, orders: Orders<T>, wake: Wake) -> Self {
        Self { name, orders, wake, thread: None }
    }

    fn start(&mut self, work: impl FnOnce() -> io::Result<()> + Send + 'static) -> io::Result<()> {
        self.thread = Some(spawn(format!("nh-{}", self.name), work)?);
        Ok(())
    }

    /// Waits while the channel is full, which it is for a moment at most.
    pub(super) fn order(&self, order: T) {
        self.queue(order);
        self.wake.wake();
    }

    /// As [`Self::order`]; the thread looks for it after [`Self::wake`] at the latest.
    pub(super) fn queue(&self, order: T) {
        let has_ended = match self.orders.try_send(order) {
            Err(TrySendError::Full(order)) => {
                self.wake.wake();
                self.orders.send(order).is_err()
            }
            outcome => outcome.is_err(),
        };
        if has_ended {
            log::error!("the {} thread has ended", self.name);
        }
    }

    /// It has something to look for.
    pub(super) fn wake(&self) {
        self.wake.wake();
    }
}

impl WorkerHandle {
    fn start(parts: WorkerParts, wake: Wake) -> io::Result<Self> {
        let (name, shared) =
            (format!("nh-worker-{}", parts.plane.index), Arc::clone(&parts.shared));
        let worker = Worker::new(parts);
        Ok(Self { shared, wake, thread: Some(spawn(name, move || worker.run())?) })
    }

    pub(super) fn wake(&self) {
        self.wake.wake();
    }
}

impl Daemon {
    /// Ends the other threads and waits for them; once. Dropping it does so too.
    pub(super) fn end(&mut self) {
        if self.liveness.thread.is_none() {
            return;
        }
        for worker in &self.workers {
            worker.shared.stop.store(true, Ordering::Release);
            worker.wake.wake();
        }
        self.liveness.order(Order::End);
        self.host.order(HostCall::End);
        self.kernel.order(KernelOrder::End);
        let workers = self.workers.iter_mut().map(|worker| &mut worker.thread);
        for thread in workers
            .chain([&mut self.liveness.thread, &mut self.host.thread, &mut self.kernel.thread])
            .filter_map(Option::take)
        {
            match thread.join() {
                Ok(Ok(())) => {}
                Ok(Err(error)) => log::error!("a thread ended with: {error}"),
                Err(_) => log::error!("a thread panicked"),
            }
        }
    }

    /// How many turns each thread has taken.
    pub(super) fn turns(&self) -> impl Iterator<Item = (String, u64)> {
        let workers = self.workers.iter().enumerate();
        let workers = workers.map(|(n, worker)| (format!("worker {n}"), worker.shared.turns()));
        let names = [self.liveness.name, self.host.name, self.kernel.name].into_iter();
        let others = names.zip(&self.turns);
        workers.chain(others.map(|(name, turns)| (format!("the {name} thread"), turns.count())))
    }

    /// Whether a thread has ended although nobody asked it to.
    pub(super) fn lost_thread(&self) -> Option<&'static str> {
        let ended =
            |thread: &Option<JoinHandle<_>>| thread.as_ref().is_none_or(JoinHandle::is_finished);
        if self.workers.iter().any(|worker| ended(&worker.thread)) {
            return Some("a worker");
        }
        if ended(&self.liveness.thread) {
            return Some("the liveness thread");
        }
        if ended(&self.kernel.thread) {
            return Some("the kernel's thread");
        }
        ended(&self.host.thread).then_some("the host thread")
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        self.end();
    }
}

/// Starts workers, liveness and host; they have nothing to do until there are ports.
#[expect(clippy::too_many_lines, reason = "the lanes, and who holds which end: one picture")]
pub(super) fn start(config: &Config, options: &RunOptions) -> Result<Daemon, RunError> {
    let failed = |error: io::Error| {
        let started = RunError::new(format!("cannot start a thread: {error}"));
        match error.raw_os_error() {
            Some(libc::EAGAIN | libc::ENOMEM) => started.with_help(
                "raise the limits of processes (`ulimit -u`, TasksMax=) and of address space (`ulimit -v`, \
                 LimitAS=)",
            ),
            _ => started,
        }
    };
    let count = workers(config);
    let (writer, fib) = nearhop_fib::fib(count + READERS_BESIDE);
    log::info!("{count} worker(s)");
    let snapshot = Arc::new(ArcSwap::from_pointee(Control::empty_snapshot()));
    let changes = Arc::new(AtomicU64::new(0));
    let seed = random_seed().map_err(failed)?;
    let bfd_seed = random_seed().map_err(failed)?;
    let proof_seed = random_seed().map_err(failed)?;
    let reader = || fib.reader().ok_or_else(|| RunError::new("no reader is left"));

    let wake = Arc::new(Notify::new());
    let control_wake = Wake::Task(Arc::clone(&wake));
    let (liveness_wake, liveness_fd) = Wake::new().map_err(failed)?;
    let (host_wake, host_fd) = Wake::new().map_err(failed)?;
    let (host, host_packets) = Lane::new(HOST_LANE, host_wake.clone());
    let (first, first_packets) = Lane::new(NEWS_LANE, control_wake.clone());
    let (news, liveness_news) = Lane::of_many(EVENT_LANE, control_wake.clone());
    let (bfd, bfd_packets) = Lane::new(BFD_LANE, liveness_wake.clone());
    let (prober, probe_packets) = Lane::of_many(PROBE_LANE, liveness_wake.clone());
    let (trouble, trouble_news) = Lane::new(NEWS_LANE, liveness_wake.clone());
    let (engines, engine_news) = Lane::new(NEWS_LANE, control_wake.clone());
    let (orders, order_queue) = Orders::new(ORDER_LANE);
    let (host_orders, host_order_queue) = Orders::new(ORDER_LANE);
    let (kernel_orders, kernel_order_queue) = Orders::new(ORDER_LANE);
    let (kernel_wake, kernel_fd) = Wake::new().map_err(failed)?;

    let (watched, turns) = (Watched::default(), <[Turns; 3]>::default());
    let own_turns = Turns::default();
    let shared: Vec<Arc<WorkerShared>> = (0..count).map(|_| Arc::default()).collect();
    let wakes = (0..count).map(|_| Wake::new()).collect::<io::Result<Vec<_>>>().map_err(failed)?;
    let (injections, injected): (Vec<_>, Vec<_>) =
        wakes.iter().map(|(wake, _)| Lane::new(INJECTIONS_PER_TURN, wake.clone())).unzip();
    let mut watched_threads = vec![
        WatchedThread::new(Part::Control, Count::Turns(own_turns.clone()), control_wake.clone()),
        WatchedThread::new(Part::Liveness, Count::Turns(turns[0].clone()), liveness_wake.clone()),
    ];
    watched_threads.extend(shared.iter().zip(&wakes).enumerate().map(
        |(n, (shared, (wake, _)))| {
            WatchedThread::new(Part::Worker(n), Count::Worker(Arc::clone(shared)), wake.clone())
        },
    ));
    let liveness = LivenessThread::new(LivenessParts {
        engine: LivenessEngine::new(
            Nanos::now(),
            (
                Monitor::new(fib.clone(), Arc::clone(&changes), seed).with_clock(Nanos::now),
                BfdEngine::new(fib.clone(), reader()?, Arc::clone(&changes), bfd_seed)
                    .with_clock(Nanos::now),
                Prover::new(count, proof_seed),
            ),
            Snapshots::new(Arc::clone(&snapshot)),
        ),
        wake: liveness_fd,
        bfd: (bfd_packets, Reading::new(shared.clone())),
        packets: probe_packets,
        reading: Reading::new(shared.clone()),
        trouble: trouble_news,
        orders: order_queue,
        host: (host_orders.clone(), host_wake.clone()),
        news,
        injections,
        turns: turns[0].clone(),
        watched: (watched.clone(), control_wake.clone()),
        test_carrier_delay: options.test_carrier_delay.unwrap_or_default(),
    })
    .map_err(failed)?;
    let host_report = Arc::new(Mutex::new(HostReport::default()));
    let host_thread = HostThread::new(HostParts {
        engine: HostEngine::new(
            Nanos::now(),
            HostEngineParts {
                reader: reader()?,
                snapshots: Arc::clone(&snapshot),
                changes: Arc::clone(&changes),
                seed,
            },
        ),
        reading: Reading::new(shared.clone()),
        packets: host_packets,
        orders: host_order_queue,
        liveness: (orders.clone(), liveness_wake.clone()),
        control: control_wake.clone(),
        wake: host_fd,
        turns: turns[1].clone(),
        watched: watched_threads,
        shared: Arc::clone(&host_report),
    })
    .map_err(failed)?;
    let kernel_report = Arc::new(Mutex::new(KernelReport::default()));
    let kernel_thread = KernelThread::new(KernelParts {
        wake: kernel_fd,
        orders: kernel_order_queue,
        report: Arc::clone(&kernel_report),
        control: control_wake,
        turns: turns[2].clone(),
        workers: count,
    })
    .map_err(failed)?;
    let (published, of_control) = (Arc::clone(&snapshot), Arc::clone(&changes));
    let control =
        Control::new(writer, fib.clone(), snapshot, of_control, config.clone(), Nanos::now);
    // From here on, what was started ends with the daemon, also on an error.
    let mut daemon = Daemon {
        control: ControlEngine::new(control),
        workers: Vec::with_capacity(count),
        liveness: ThreadHandle::new("liveness", orders, liveness_wake),
        host: ThreadHandle::new("host", host_orders, host_wake),
        kernel: ThreadHandle::new("kernel", kernel_orders, kernel_wake),
        kernel_report,
        host_report,
        watched,
        turns,
        own_turns,
        wake,
        first_packets,
        news: liveness_news,
        engine_news,
    };
    daemon.liveness.start(move || liveness.run()).map_err(failed)?;
    daemon.host.start(move || host_thread.run()).map_err(failed)?;
    daemon.kernel.start(move || kernel_thread.run()).map_err(failed)?;
    let lanes = || {
        Lanes::new(
            bfd.another(),
            prober.another(),
            trouble.another(),
            host.another(),
            first.another(),
            engines.another(),
        )
    };
    let workers = shared.into_iter().zip(wakes).zip(injected);
    for (index, ((shared, (wake, wake_fd)), injections)) in workers.enumerate() {
        let parts = WorkerParts {
            plane: PlaneParts {
                index,
                workers: count,
                reader: reader()?,
                snapshots: Arc::clone(&published),
                changes: Arc::clone(&changes),
            },
            lanes: lanes(),
            shared,
            wake: wake_fd,
            injections,
        };
        daemon.workers.push(WorkerHandle::start(parts, wake).map_err(failed)?);
    }
    Ok(daemon)
}

/// As configured, else one for each core.
pub(super) fn workers(config: &Config) -> usize {
    let cores = || thread::available_parallelism().map_or(1, usize::from);
    config.router.workers.unwrap_or_else(cores).max(1)
}

/// What became of an order that was to be sent.
pub(super) fn sent<T>(outcome: &Result<(), TrySendError<T>>) -> Sent {
    match outcome {
        Ok(()) => Sent::Yes,
        Err(TrySendError::Full(_)) => Sent::Full,
        Err(TrySendError::Disconnected(_)) => Sent::Ended,
    }
}

fn spawn(
    name: String,
    work: impl FnOnce() -> io::Result<()> + Send + 'static,
) -> io::Result<JoinHandle<io::Result<()>>> {
    thread::Builder::new().name(name).spawn(work)
}

fn random_seed() -> io::Result<u64> {
    let mut bytes = [0; 8];
    rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty())?;
    Ok(u64::from_ne_bytes(bytes))
}

/// FIB readers besides the workers: the ways out of the host stack and of BFD.
const READERS_BESIDE: usize = 4;

/// Packets for the host stack that may wait: what comes more is dropped and counted.
const HOST_LANE: usize = 1024;

/// BFD packets that may wait: workers let only those of sessions pass, at their rate.
const BFD_LANE: usize = 16_384;

/// Answers to probes that may wait.
const PROBE_LANE: usize = 65_536;

/// First packets and port troubles that may wait.
const NEWS_LANE: usize = 4096;

/// Events of the liveness thread that may wait.
const EVENT_LANE: usize = 262_144;

/// Orders to a thread that may wait.
const ORDER_LANE: usize = 65_536;
