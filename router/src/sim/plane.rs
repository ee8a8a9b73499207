//! What a worker does with packets, without its thread.
#![forbid(unsafe_code)]

use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use arc_swap::ArcSwap;
use nearhop_fib::Reader;

use crate::batch::Batch;
use crate::forward::{Counters, FirstPacket, Snapshot, Snapshots, WorkerState, forward, originate};
use crate::ids::PortId;
use crate::time::Nanos;
use crate::verdict::Verdict;
use crate::worker::drop_verdict;

/// The one worker of a simulated router.
pub(super) struct Plane {
    reader: Reader,
    snapshots: Snapshots,
    state: WorkerState,
    batch: Batch,
}

/// Packets for the router itself: verdict, port, bytes.
pub(super) type Punts = Vec<(Verdict, PortId, Vec<u8>)>;

impl Plane {
    pub(super) fn new(
        reader: Reader,
        snapshots: Arc<ArcSwap<Snapshot>>,
        changes: Arc<AtomicU64>,
    ) -> Self {
        let state = WorkerState::new(0, 1, changes);
        Self { reader, snapshots: Snapshots::new(snapshots), state, batch: Batch::new() }
    }

    /// Reads a batch of every port and forwards it; `false` if nothing came.
    pub(super) fn run(&mut self, now: Nanos, punts: &mut Punts) -> bool {
        let ports: Vec<PortId> = self.snapshots.load().ports().map(|(id, _)| id).collect();
        let mut any = false;
        for port in ports {
            any |= self.run_port(now, port, punts);
        }
        any
    }

    /// Sends a packet of the host stack: out of the port it is pinned to, else where the FIB says.
    pub(super) fn originate(&mut self, packet: &[u8], pin: Option<PortId>) {
        self.batch.clear();
        let Self { reader, snapshots, state, batch } = self;
        match pin {
            None => originate(packet, batch, &reader.online(), snapshots, state),
            Some(port) => {
                state.counters.originated += 1;
                if !batch.transmit_copy(packet, port, None, Verdict::Originate) {
                    state.counters.count(Verdict::NoBuffer);
                }
            }
        }
        self.send();
    }

    /// Sends a packet of the prober: past the FIB, and past the worker's counters, as the
    /// heartbeat thread does. `false` if the device did not take it.
    pub(super) fn send_probe(&mut self, port: PortId, packet: &[u8]) -> bool {
        let entry = self.snapshots.load().port(port);
        entry.is_some_and(|entry| entry.device.tx(0, packet).is_ok())
    }

    pub(super) fn counters(&self) -> &Counters {
        &self.state.counters
    }

    pub(super) fn take_first_packets(&mut self) -> Vec<FirstPacket> {
        std::mem::take(&mut self.state.first_packets)
    }

    fn run_port(&mut self, now: Nanos, port: PortId, punts: &mut Punts) -> bool {
        let Self { reader, snapshots, state, batch } = self;
        let Some(entry) = snapshots.load().port(port) else { return false };
        batch.clear();
        batch.from_port(port);
        // A wire that is cut gives nothing; the news of it comes by another way, as from a kernel.
        if !entry.device.rx(0, batch).is_ok_and(|count| count > 0) {
            return false;
        }
        state.counters.batches += 1;
        forward(batch, &reader.online(), snapshots, state, now);
        for (punt, port, bytes) in batch.punts() {
            state.counters.count(punt.verdict);
            punts.push((punt.verdict, port, bytes.to_vec()));
        }
        self.send();
        true
    }

    fn send(&mut self) {
        let snapshot = self.snapshots.load();
        for (transmission, bytes) in self.batch.transmissions() {
            let sent = snapshot.port(transmission.port).map(|port| port.device.tx(0, bytes));
            let verdict = match sent {
                None => Verdict::NoPort,
                Some(Ok(())) => transmission.verdict,
                Some(Err(error)) => drop_verdict(&error),
            };
            self.state.counters.count(verdict);
        }
    }
}
