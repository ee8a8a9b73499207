//! The I/O around the forwarding step: reading a batch, sending it, delivering packets to the
//! router.
#![forbid(unsafe_code)]

use std::collections::BTreeMap;
use std::sync::Arc;

use super::lanes::{LanePacket, Lanes};
use super::poller::Poller;
use crate::batch::Batch;
use crate::forward::{Egress, Outlets, PortEntry, Scratch, Snapshots, WorkerState};
use crate::ids::PortId;
use crate::packet::offload::segment::Segments;
use crate::port::counters::PortCounters;
use crate::port::news::{EngineNews, PortTrouble};
use crate::port::queue::SyscallQueue;
use crate::port::{PortError, Queue};
use crate::time::Nanos;
use crate::verdict::Verdict;

/// The parts of a worker that do I/O.
pub(super) struct Shell<'a> {
    pub(super) worker: usize,
    pub(super) lanes: &'a mut Lanes,
    pub(super) ports: &'a mut BTreeMap<PortId, PortCounters>,
    pub(super) poller: &'a mut Poller,
    pub(super) scratch: &'a mut Scratch,
}

impl Shell<'_> {
    /// Fills the batch from one port; `false` if no packet came. Reports a device that fails.
    pub(super) fn receive(
        &mut self,
        id: PortId,
        batch: &mut Batch,
        snapshots: &mut Snapshots,
    ) -> bool {
        let Some(port) = snapshots.load().port(id) else { return false };
        let Some(queue) = self.poller.queue(id, &port.device) else { return false };
        match queue.rx(batch) {
            Ok(count) => count > 0,
            Err(PortError::Engine(error)) => {
                self.poller.fall_back(id);
                let (worker, engine) = (self.worker, "epoll");
                let why = Some(format!("io_uring failed: {error}"));
                self.lanes.engines.push(EngineNews { worker, port: id, engine, why, failed: true });
                false
            }
            Err(error) => {
                let gone = matches!(error, PortError::Gone);
                if gone || matches!(error, PortError::Down) {
                    self.lanes.report_trouble(PortTrouble { port: id, gone });
                }
                if gone {
                    // The descriptor of a deleted device stays ready for ever.
                    self.poller.forget(id);
                }
                false
            }
        }
    }

    /// Counts the packets that [`Self::receive`] read, after the step has set their shapes; returns
    /// how many.
    pub(super) fn count_received(&mut self, id: PortId, batch: &Batch) -> u64 {
        let counters = self.ports.entry(id).or_default();
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

    /// Sends the batch's transmissions and counts each packet by its device's result.
    pub(super) fn send(
        &mut self,
        batch: &mut Batch,
        snapshots: &mut Snapshots,
        state: &mut WorkerState,
    ) {
        let snapshot = snapshots.load();
        let Self { worker, ports, poller, scratch, .. } = self;
        let mut own = OwnQueues { worker: *worker, ports, poller, other: None };
        Egress { snapshot, counters: &mut state.counters, scratch }.send(batch, &mut own);
        for trouble in self.scratch.trouble.drain(..) {
            self.lanes.report_trouble(trouble);
        }
    }

    /// Delivers packets addressed to the router to their lanes. Superframes are segmented and
    /// checksums completed first.
    pub(super) fn hand_over(&mut self, batch: &Batch, state: &mut WorkerState, received: Nanos) {
        for (punt, port, bytes) in batch.punts() {
            let slot = batch.packet(punt.index).0;
            let lane = self.lanes.local(punt.lane);
            let verdict = punt.lane.verdict();
            let mut hand = |bytes: &[u8]| {
                let taken = lane.push(LanePacket { port, received, bytes: bytes.into() });
                state.counters.count(if taken { verdict } else { Verdict::PuntFull });
            };
            if slot.offload.is_none() {
                hand(bytes);
                continue;
            }
            match Segments::plan(bytes, slot.offload) {
                Ok(plan) => plan.each(self.scratch.segment(), hand),
                Err(verdict) => {
                    state.counters.count_all(verdict, u64::from(slot.shape.segments));
                }
            }
        }
    }
}

/// A worker's own queue of each port.
struct OwnQueues<'a> {
    worker: usize,
    ports: &'a mut BTreeMap<PortId, PortCounters>,
    poller: &'a mut Poller,
    other: Option<SyscallQueue>,
}

impl Outlets for OwnQueues<'_> {
    fn outlet(&mut self, id: PortId, port: &PortEntry) -> (&mut dyn Queue, &mut PortCounters) {
        let counters = self.ports.entry(id).or_default();
        if let Some(queue) = self.poller.queue(id, &port.device) {
            return (queue, counters);
        }
        // This worker has not opened the port yet: write to a queue of it, as any thread may.
        let index = self.worker % port.device.queues().max(1);
        (self.other.insert(SyscallQueue::new(Arc::clone(&port.device), index)), counters)
    }
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::os::fd::BorrowedFd;

    use arc_swap::ArcSwap;
    use crossbeam_channel::Receiver;
    use nearhop_fib::AdjacencyId;

    use super::super::lanes::{Lane, Wake};
    use super::*;
    use crate::batch::Frame;
    use crate::control::Control;
    use crate::forward::Snapshot;
    use crate::port::memory::MemoryPort;
    use crate::port::{EngineChoice, Port, Queue};

    /// An I/O engine that has failed.
    struct Broken;

    impl Queue for Broken {
        fn engine(&self) -> &'static str {
            "broken"
        }

        fn fd(&self) -> Option<BorrowedFd<'_>> {
            None
        }

        fn rx(&mut self, _batch: &mut Batch) -> Result<usize, PortError> {
            Err(PortError::Engine(io::ErrorKind::OutOfMemory.into()))
        }

        fn tx(
            &mut self,
            _frames: &mut dyn Iterator<Item = Frame<'_>>,
            _done: &mut dyn FnMut(Result<(), PortError>),
        ) {
        }
    }

    fn lanes() -> (Lanes, Receiver<EngineNews>) {
        let wake = Wake::new().unwrap().0;
        let (engines, news) = Lane::new(8, wake.clone());
        let (prober, trouble) = (Lane::new(8, wake.clone()).0, Lane::new(8, wake.clone()).0);
        let (host, first) = (Lane::new(8, wake.clone()).0, Lane::new(8, wake).0);
        (Lanes::new(prober, trouble, host, first, engines), news)
    }

    #[test]
    fn an_engine_that_fails_is_replaced_and_reported_and_packets_come_again() {
        let id = PortId(0);
        let (near, far) = MemoryPort::pair(8);
        let device: Arc<dyn Port> = near;
        let entry = PortEntry {
            name: "fra".into(),
            device: Arc::clone(&device),
            adjacency: AdjacencyId(0),
            address_v4: None,
            address_v6: None,
            reverse_path: crate::policy::ReversePath::Off,
            engine: EngineChoice::Auto,
            join: true,
            has_link_headers: false,
        };
        let snapshot = Snapshot { ports: vec![Some(entry)], ..Control::empty_snapshot() };
        let (mut lanes, news) = lanes();
        let mut poller = Poller::new(0, Wake::new().unwrap().1).unwrap();
        poller.follow(&snapshot, &mut lanes).unwrap();
        poller.set_queue(id, Box::new(Broken));
        let mut snapshots = Snapshots::new(Arc::new(ArcSwap::from_pointee(snapshot)));
        let (mut ports, mut scratch, mut batch) =
            (BTreeMap::new(), Scratch::default(), Batch::new());
        let mut shell = Shell {
            worker: 0,
            lanes: &mut lanes,
            ports: &mut ports,
            poller: &mut poller,
            scratch: &mut scratch,
        };
        far.tx(0, &[0x45; 20]).unwrap();
        assert!(!shell.receive(id, &mut batch, &mut snapshots));
        assert!(
            shell.receive(id, &mut batch, &mut snapshots),
            "the waiting packet comes by the new engine"
        );
        assert_eq!(batch.len(), 1);
        assert_eq!(shell.poller.queue(id, &device).map(|queue| queue.engine()), Some("epoll"));
        let reported = news.try_iter().collect::<Vec<_>>();
        assert!(matches!(&reported[..], [one] if one.failed && one.port == id), "{reported:?}");
    }
}
