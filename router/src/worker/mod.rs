//! The thread that forwards: it owns one queue of every port and takes each batch from rx to tx
//! itself. Between two packets it makes no allocation and takes no lock; before it sleeps it says
//! that it holds nothing.
#![forbid(unsafe_code)]

mod lanes;
mod poller;

use std::collections::BTreeMap;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use arc_swap::ArcSwap;
use nearhop_fib::Reader;

pub use self::lanes::{Lane, LanePacket, Lanes, PortTrouble, Wake};
use self::poller::{Poller, Ready};
use crate::batch::Batch;
use crate::forward::{Counters, Snapshot, Snapshots, WorkerState, forward};
use crate::port::{PortError, PortId};
use crate::time::Nanos;
use crate::verdict::Verdict;

/// What one worker is made of.
pub struct Worker {
    index: usize,
    reader: Reader,
    snapshots: Snapshots,
    state: WorkerState,
    batch: Batch,
    lanes: Lanes,
    wake: OwnedFd,
    shared: Arc<WorkerShared>,
    ports: BTreeMap<PortId, PortCounters>,
    published_at: Nanos,
}

/// What others see of a worker.
#[derive(Default)]
pub struct WorkerShared {
    /// A copy of the counters, at most [`PUBLISH_EVERY_MS`] behind while packets flow. The worker
    /// only tries the lock, so that whoever reads cannot hold it up.
    pub counters: Mutex<WorkerReport>,
    /// Set to end the worker; it has to be woken then.
    pub stop: AtomicBool,
}

/// Counters of one worker.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct WorkerReport {
    /// By verdict and path.
    pub counters: Counters,
    /// By port.
    pub ports: BTreeMap<PortId, PortCounters>,
}

/// Counters of one worker on one port.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct PortCounters {
    /// Packets read.
    pub rx_packets: u64,
    /// Bytes read.
    pub rx_bytes: u64,
    /// Reads of a batch that brought at least one packet.
    pub rx_batches: u64,
    /// Packets the device took.
    pub tx_packets: u64,
    /// Bytes the device took.
    pub tx_bytes: u64,
    /// Packets the device did not take.
    pub tx_dropped: u64,
}

impl WorkerReport {
    /// Adds another worker's.
    pub fn add(&mut self, other: &Self) {
        self.counters.add(&other.counters);
        for (&id, count) in &other.ports {
            self.ports.entry(id).or_default().add(count);
        }
    }
}

impl PortCounters {
    /// Adds another worker's.
    pub fn add(&mut self, other: &Self) {
        self.rx_packets += other.rx_packets;
        self.rx_bytes += other.rx_bytes;
        self.rx_batches += other.rx_batches;
        self.tx_packets += other.tx_packets;
        self.tx_bytes += other.tx_bytes;
        self.tx_dropped += other.tx_dropped;
    }

    /// What was counted since `before`.
    #[must_use]
    pub fn since(&self, before: &Self) -> Self {
        Self {
            rx_packets: self.rx_packets.saturating_sub(before.rx_packets),
            rx_bytes: self.rx_bytes.saturating_sub(before.rx_bytes),
            rx_batches: self.rx_batches.saturating_sub(before.rx_batches),
            tx_packets: self.tx_packets.saturating_sub(before.tx_packets),
            tx_bytes: self.tx_bytes.saturating_sub(before.tx_bytes),
            tx_dropped: self.tx_dropped.saturating_sub(before.tx_dropped),
        }
    }
}

/// What a worker is started with.
pub struct WorkerParts {
    /// Its number, from 0.
    pub index: usize,
    /// How many there are.
    pub workers: usize,
    /// Its place among the FIB's readers.
    pub reader: Reader,
    /// Where snapshots are published.
    pub snapshots: Arc<ArcSwap<Snapshot>>,
    /// Raised whenever liveness or groups change.
    pub changes: Arc<AtomicU64>,
    /// Where its packets for the router go.
    pub lanes: Lanes,
    /// What others see of it.
    pub shared: Arc<WorkerShared>,
    /// Woken by writing to it: new snapshot, or stop.
    pub wake: OwnedFd,
}

impl Worker {
    /// Prepares a worker; it forwards from [`Self::run`] on.
    pub fn new(parts: WorkerParts) -> Self {
        Self {
            index: parts.index,
            reader: parts.reader,
            snapshots: Snapshots::new(parts.snapshots),
            state: WorkerState::new(parts.index, parts.workers, parts.changes),
            batch: Batch::new(),
            lanes: parts.lanes,
            wake: parts.wake,
            shared: parts.shared,
            ports: BTreeMap::new(),
            published_at: Nanos::ZERO,
        }
    }

    /// Forwards until told to stop.
    pub fn run(mut self) -> io::Result<()> {
        let mut poller = Poller::new(self.wake.try_clone()?)?;
        let mut ready = Ready::default();
        while !self.shared.stop.load(Ordering::Acquire) {
            poller.follow(self.index, self.snapshots.load())?;
            let behind = !self.publish();
            poller.wait(behind.then_some(PUBLISH_EVERY_MS), &mut ready)?;
            self.forward_from(&ready, &mut poller);
        }
        self.published_at = Nanos::ZERO;
        self.publish();
        Ok(())
    }

    /// Reads the ready ports in turn, a batch each, until a whole turn brings nothing.
    fn forward_from(&mut self, ready: &Ready, poller: &mut Poller) {
        let Self { reader, snapshots, state, batch, lanes, ports, index, .. } = self;
        let mut online = reader.online();
        for _ in 0..ROUNDS_MAX {
            let mut any = false;
            for port in ready.ports() {
                batch.clear();
                batch.from_port(port);
                if !receive(port, *index, batch, snapshots, ports, lanes, poller) {
                    continue;
                }
                any = true;
                let now = Nanos::now();
                state.counters.batches += 1;
                forward(batch, &online, snapshots, state, now);
                send(*index, batch, snapshots, state, ports, lanes);
                hand_over(batch, state, lanes, now);
                online.quiescent();
            }
            if !any {
                break;
            }
        }
        drop(online);
        lanes.report_first_packets(*index, &mut state.first_packets);
        lanes.flush();
    }

    /// Copies the counters out if that is due and nobody is reading them; `false` if it is owed.
    fn publish(&mut self) -> bool {
        let now = Nanos::now();
        if now.since(self.published_at) < Duration::from_millis(u64::from(PUBLISH_EVERY_MS)) {
            return false;
        }
        let Ok(mut report) = self.shared.counters.try_lock() else { return false };
        report.counters.clone_from(&self.state.counters);
        report.ports.clone_from(&self.ports);
        self.published_at = now;
        true
    }
}

/// Fills the batch from one port; `false` if nothing came.
fn receive(
    id: PortId,
    worker: usize,
    batch: &mut Batch,
    snapshots: &mut Snapshots,
    ports: &mut BTreeMap<PortId, PortCounters>,
    lanes: &mut Lanes,
    poller: &mut Poller,
) -> bool {
    let Some(port) = snapshots.load().port(id) else { return false };
    match port.device.rx(worker, batch) {
        Ok(0) => false,
        Ok(count) => {
            let counters = ports.entry(id).or_default();
            counters.rx_packets += count as u64;
            counters.rx_bytes += (0..count).map(|i| batch.packet(i).1.len() as u64).sum::<u64>();
            counters.rx_batches += 1;
            true
        }
        Err(error) => {
            lanes.report_trouble(id, &error);
            if matches!(error, PortError::Gone) {
                // Its descriptor would be ready for ever.
                poller.forget(id);
            }
            false
        }
    }
}

/// Sends what the step decided; each packet is counted by what its device said.
fn send(
    worker: usize,
    batch: &Batch,
    snapshots: &mut Snapshots,
    state: &mut WorkerState,
    ports: &mut BTreeMap<PortId, PortCounters>,
    lanes: &mut Lanes,
) {
    let snapshot = snapshots.load();
    for (transmission, bytes) in batch.transmissions() {
        let Some(port) = snapshot.port(transmission.port) else {
            state.counters.count(Verdict::NoPort);
            continue;
        };
        let queue = worker % port.device.queues().max(1);
        let counters = ports.entry(transmission.port).or_default();
        let verdict = match port.device.tx(queue, bytes) {
            Ok(()) => {
                counters.tx_packets += 1;
                counters.tx_bytes += bytes.len() as u64;
                transmission.verdict
            }
            Err(error) => {
                counters.tx_dropped += 1;
                lanes.report_trouble(transmission.port, &error);
                drop_verdict(&error)
            }
        };
        state.counters.count(verdict);
    }
}

/// Hands packets for the router to the part they are for.
fn hand_over(batch: &Batch, state: &mut WorkerState, lanes: &mut Lanes, now: Nanos) {
    for (punt, port, bytes) in batch.punts() {
        let packet = LanePacket { port, received: now, bytes: bytes.into() };
        let taken = match punt.verdict {
            Verdict::ProbeAnswer => lanes.prober.push(packet),
            _ => lanes.host.push(packet),
        };
        state.counters.count(if taken { punt.verdict } else { Verdict::PuntFull });
    }
}

/// How a packet ends that its device did not take.
pub fn drop_verdict(error: &PortError) -> Verdict {
    match error {
        PortError::Full => Verdict::TxFull,
        PortError::Down | PortError::Gone => Verdict::TxDown,
        PortError::Refused(_) => Verdict::TxRefused,
    }
}

/// Turns over the ready ports before the poller is asked again.
const ROUNDS_MAX: usize = 16;

/// How long published counters may be behind.
pub const PUBLISH_EVERY_MS: u32 = 10;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_device_says_decides_how_its_packet_is_counted() {
        for (error, verdict) in [
            (PortError::Full, Verdict::TxFull),
            (PortError::Down, Verdict::TxDown),
            (PortError::Gone, Verdict::TxDown),
            (PortError::Refused(io::ErrorKind::InvalidInput.into()), Verdict::TxRefused),
        ] {
            assert_eq!(drop_verdict(&error), verdict);
        }
    }
}
