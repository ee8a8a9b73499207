//! The forwarding worker of a simulated router, without a thread.
#![forbid(unsafe_code)]

use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use arc_swap::ArcSwap;
use nearhop_fib::Reader;

use crate::batch::{Batch, LocalLane};
use crate::forward::{
    Counters, Egress, FirstPacket, Scratch, Snapshot, Snapshots, SyscallOutlets, WorkerState,
    forward,
};
use crate::ids::PortId;
use crate::time::Nanos;

/// The one worker of a simulated router.
pub(super) struct SimWorker {
    reader: Reader,
    snapshots: Snapshots,
    state: WorkerState,
    batch: Batch,
    scratch: Scratch,
    outlets: SyscallOutlets,
}

/// Packets for the router itself: their lane, the port they came in by, their bytes.
pub(super) type Punts = Vec<(LocalLane, PortId, Vec<u8>)>;

impl SimWorker {
    pub(super) fn new(
        reader: Reader,
        snapshots: Arc<ArcSwap<Snapshot>>,
        changes: Arc<AtomicU64>,
    ) -> Self {
        let state = WorkerState::new(0, 1, changes);
        Self {
            reader,
            snapshots: Snapshots::new(snapshots),
            state,
            batch: Batch::new(),
            scratch: Scratch::default(),
            outlets: SyscallOutlets::default(),
        }
    }

    /// Reads one batch from every port and forwards it; `false` if no port had packets.
    pub(super) fn run(&mut self, now: Nanos, punts: &mut Punts) -> bool {
        let ports: Vec<PortId> = self.snapshots.load().ports().map(|(id, _)| id).collect();
        let mut any = false;
        for port in ports {
            any |= self.run_port(now, port, punts);
        }
        any
    }

    pub(super) fn counters(&self) -> &Counters {
        &self.state.counters
    }

    pub(super) fn take_first_packets(&mut self) -> Vec<FirstPacket> {
        std::mem::take(&mut self.state.first_packets)
    }

    fn run_port(&mut self, now: Nanos, port: PortId, punts: &mut Punts) -> bool {
        let Self { reader, snapshots, state, batch, .. } = self;
        let Some(entry) = snapshots.load().port(port) else { return false };
        batch.clear();
        batch.from_port(port);
        // A cut wire delivers nothing. The router learns of the cut separately, as from a kernel.
        if !entry.device.rx(0, batch).is_ok_and(|count| count > 0) {
            return false;
        }
        state.counters.batches += 1;
        forward(batch, &reader.online(), snapshots, state, now);
        for (punt, port, bytes) in batch.punts() {
            state.counters.count(punt.lane.verdict());
            punts.push((punt.lane, port, bytes.to_vec()));
        }
        self.send();
        true
    }

    fn send(&mut self) {
        let mut counters = std::mem::take(&mut self.state.counters);
        let snapshot = self.snapshots.load();
        let scratch = &mut self.scratch;
        Egress { snapshot, counters: &mut counters, scratch }
            .send(&mut self.batch, &mut self.outlets);
        self.state.counters = counters;
        // The network reports a port's state, as a kernel does, so the worker's reports are
        // dropped.
        self.scratch.trouble.clear();
    }
}
