//! The forwarding plane: one for each worker. From a port's packets to what is sent, delivered to the
//! router, or dropped and counted.
#![forbid(unsafe_code)]

use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use arc_swap::ArcSwap;
use nearhop_fib::Reader;

use crate::batch::{Batch, LocalLane};
use crate::forward::{
    Counters, Egress, FirstPacket, Outlets, Scratch, Snapshot, Snapshots, WorkerState, forward,
};
use crate::ids::PortId;
use crate::packet::offload::segment::Segments;
use crate::port::counters::PortCounters;
use crate::port::news::PortTrouble;
use crate::time::Nanos;
use crate::verdict::Verdict;

/// A worker's engine. Per packet it allocates nothing and takes no lock.
pub struct PlaneEngine {
    reader: Reader,
    snapshots: Snapshots,
    state: WorkerState,
    batch: Batch,
    scratch: Scratch,
}

/// Everything a plane needs.
pub struct PlaneParts {
    /// The number of its worker, from 0.
    pub index: usize,
    /// Number of workers.
    pub workers: usize,
    /// Its reader of the FIB.
    pub reader: Reader,
    /// Where snapshots are published.
    pub snapshots: Arc<ArcSwap<Snapshot>>,
    /// Incremented whenever liveness or a group changes.
    pub changes: Arc<AtomicU64>,
}

/// A plane's way to devices, to the other engines, and to the time.
pub trait PlaneShell: Outlets {
    /// Fills the batch from one port; returns whether a packet came.
    fn receive(&mut self, id: PortId, snapshot: &Snapshot, batch: &mut Batch) -> bool;

    /// The counters of a port.
    fn counters(&mut self, id: PortId) -> &mut PortCounters;

    /// Delivers a packet that came in by a port, read at `received`, to the router itself; returns `false`
    /// if its lane is full.
    fn deliver(&mut self, lane: LocalLane, id: PortId, packet: &[u8], received: Nanos) -> bool;

    /// A device was down or gone.
    fn report_trouble(&mut self, trouble: PortTrouble);

    /// The time.
    fn now(&mut self) -> Nanos;
}

impl PlaneEngine {
    /// One that has forwarded nothing.
    pub fn new(parts: PlaneParts) -> Self {
        Self {
            reader: parts.reader,
            snapshots: Snapshots::new(parts.snapshots),
            state: WorkerState::new(parts.index, parts.workers, parts.changes),
            batch: Batch::new(),
            scratch: Scratch::default(),
        }
    }

    /// Reads these ports in turn, one batch each, and repeats while a port returned several packets.
    /// After a single packet it does not look again, because more are unlikely and looking would delay
    /// other work. Returns whether any packet came. It is offline in the FIB's grace-period scheme
    /// before and after, so it holds back no update.
    pub fn turn(
        &mut self,
        ports: &(impl Iterator<Item = PortId> + Clone),
        shell: &mut impl PlaneShell,
    ) -> bool {
        let Self { reader, snapshots, state, batch, scratch } = self;
        let mut online = reader.online();
        let mut any = false;
        for _ in 0..ROUNDS_MAX {
            let mut several = false;
            for port in ports.clone() {
                batch.clear();
                batch.from_port(port);
                if !shell.receive(port, snapshots.load(), batch) {
                    continue;
                }
                any = true;
                let now = shell.now();
                state.counters.batches += 1;
                forward(batch, &online, snapshots, state, now);
                several |= count_received(shell.counters(port), batch) > 1;
                carry_out((batch, snapshots.load()), state, scratch, shell, now);
                online.quiescent();
            }
            if !several {
                break;
            }
        }
        any
    }

    /// Forwards a packet that the router made as if it had come in by a port, from whatever source.
    pub fn inject(&mut self, port: PortId, packet: &[u8], shell: &mut impl PlaneShell) {
        let Self { reader, snapshots, state, batch, scratch } = self;
        let online = reader.online();
        batch.clear();
        batch.inject(port, packet);
        let now = shell.now();
        forward(batch, &online, snapshots, state, now);
        carry_out((batch, snapshots.load()), state, scratch, shell, now);
    }

    /// The newest snapshot.
    pub fn snapshot(&mut self) -> &Snapshot {
        self.snapshots.load()
    }

    /// What became of its packets so far.
    pub fn counters(&self) -> &Counters {
        &self.state.counters
    }

    /// Takes the first packets by a path since something changed.
    pub fn first_packets(&mut self) -> impl Iterator<Item = FirstPacket> {
        self.state.first_packets.drain(..)
    }

    /// Name of the code that looks up IPv4, and of that for IPv6.
    pub fn lookup_codes(&self) -> [&'static str; 2] {
        self.reader.batch_codes()
    }
}

/// Counts the packets that were read, after the step has set their shapes; returns how many.
fn count_received(counters: &mut PortCounters, batch: &Batch) -> u64 {
    let before = counters.rx_packets;
    counters.rx_batches += 1;
    counters.rx_frames += batch.len() as u64;
    for index in 0..batch.len() {
        let (slot, bytes) = batch.packet(index);
        counters.rx_packets += u64::from(slot.shape.segments);
        counters.rx_bytes += slot.shape.bytes(bytes.len()) as u64;
    }
    counters.rx_packets - before
}

/// Sends what leaves, reports devices in trouble, and delivers what is for the router.
fn carry_out(
    (batch, snapshot): (&mut Batch, &Snapshot),
    state: &mut WorkerState,
    scratch: &mut Scratch,
    shell: &mut impl PlaneShell,
    received: Nanos,
) {
    Egress { snapshot, counters: &mut state.counters, scratch }.send(batch, shell);
    for trouble in scratch.trouble.drain(..) {
        shell.report_trouble(trouble);
    }
    deliver((batch, snapshot), state, scratch, shell, received);
}

/// Delivers the packets to the router itself. Superframes are segmented and checksums completed first. BFD
/// packets that cannot be a session's end here.
fn deliver(
    (batch, snapshot): (&Batch, &Snapshot),
    state: &mut WorkerState,
    scratch: &mut Scratch,
    shell: &mut impl PlaneShell,
    received: Nanos,
) {
    for (punt, port, bytes) in batch.punts() {
        let slot = batch.packet(punt.index).0;
        let mut hand = |bytes: &[u8]| {
            if punt.lane == LocalLane::Bfd
                && let Err(verdict) = snapshot.bfd.admit(received, port, bytes)
            {
                return state.counters.count(verdict);
            }
            let taken = shell.deliver(punt.lane, port, bytes, received);
            state.counters.count(if taken { punt.lane.verdict() } else { Verdict::PuntFull });
        };
        if slot.offload.is_none() {
            hand(bytes);
            continue;
        }
        match Segments::plan(bytes, slot.offload) {
            Ok(plan) => plan.each(scratch.segment(), hand),
            Err(verdict) => state.counters.count_all(verdict, u64::from(slot.shape.segments)),
        }
    }
}

/// The most rounds over the ready ports in one turn.
pub const ROUNDS_MAX: usize = 16;
