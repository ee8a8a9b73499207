//! The I/O around the forwarding step: reading a batch, sending it, delivering packets to the
//! router.
#![forbid(unsafe_code)]

use std::collections::BTreeMap;
use std::sync::Arc;

use super::lanes::{LanePacket, Lanes};
use super::poller::Poller;
use crate::batch::{Batch, LocalLane};
use crate::engine::PlaneShell;
use crate::forward::{Outlets, PortEntry, Snapshot};
use crate::ids::PortId;
use crate::port::counters::PortCounters;
use crate::port::news::{EngineNews, PortTrouble};
use crate::port::queue::SyscallQueue;
use crate::port::{PortError, Queue};
use crate::time::Nanos;

/// The parts of a worker that do I/O.
pub(super) struct Shell<'a> {
    worker: usize,
    lanes: &'a mut Lanes,
    ports: &'a mut BTreeMap<PortId, PortCounters>,
    poller: &'a mut Poller,
    /// A queue of a port that this worker has not opened yet.
    other: Option<SyscallQueue>,
}

impl<'a> Shell<'a> {
    pub(super) fn new(
        worker: usize,
        lanes: &'a mut Lanes,
        ports: &'a mut BTreeMap<PortId, PortCounters>,
        poller: &'a mut Poller,
    ) -> Self {
        Self { worker, lanes, ports, poller, other: None }
    }
}

impl PlaneShell for Shell<'_> {
    /// Reports a device that fails.
    fn receive(&mut self, id: PortId, snapshot: &Snapshot, batch: &mut Batch) -> bool {
        let Some(port) = snapshot.port(id) else { return false };
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

    fn counters(&mut self, id: PortId) -> &mut PortCounters {
        self.ports.entry(id).or_default()
    }

    fn deliver(&mut self, lane: LocalLane, port: PortId, packet: &[u8], received: Nanos) -> bool {
        self.lanes.push_local(lane, LanePacket { port, received, bytes: packet.into() })
    }

    fn report_trouble(&mut self, trouble: PortTrouble) {
        self.lanes.report_trouble(trouble);
    }

    fn now(&mut self) -> Nanos {
        Nanos::now()
    }
}

impl Outlets for Shell<'_> {
    fn outlet(&mut self, id: PortId, port: &PortEntry) -> (&mut dyn Queue, &mut PortCounters) {
        let counters = self.ports.entry(id).or_default();
        if let Some(queue) = self.poller.queue(id, &port.device) {
            return (queue, counters);
        }
        // Write to a queue of it, as any thread may.
        let index = self.worker % port.device.queues().max(1);
        (self.other.insert(SyscallQueue::new(Arc::clone(&port.device), index)), counters)
    }
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::os::fd::BorrowedFd;

    use crossbeam_channel::Receiver;
    use nearhop_fib::AdjacencyId;

    use super::super::lanes::{Lane, Wake};
    use super::*;
    use crate::batch::Frame;
    use crate::control::Control;
    use crate::port::memory::MemoryPort;
    use crate::port::{Port, Queue};

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
        let (host, first) = (Lane::new(8, wake.clone()).0, Lane::new(8, wake.clone()).0);
        (Lanes::new(Lane::new(8, wake).0, prober, trouble, host, first, engines), news)
    }

    #[test]
    fn an_engine_that_fails_is_replaced_and_reported_and_packets_come_again() {
        let id = PortId(0);
        let (near, far) = MemoryPort::pair(8);
        let device: Arc<dyn Port> = near;
        let entry = PortEntry::plain("fra", Arc::clone(&device), AdjacencyId(0));
        let snapshot = Snapshot { ports: vec![Some(entry)], ..Control::empty_snapshot() };
        let (mut lanes, news) = lanes();
        let mut poller = Poller::new(0, Wake::new().unwrap().1).unwrap();
        poller.follow(&snapshot, &mut lanes).unwrap();
        poller.set_queue(id, Box::new(Broken));
        let (mut ports, mut batch) = (BTreeMap::new(), Batch::new());
        let mut shell = Shell::new(0, &mut lanes, &mut ports, &mut poller);
        far.tx(0, &[0x45; 20]).unwrap();
        assert!(!shell.receive(id, &snapshot, &mut batch));
        assert!(
            shell.receive(id, &snapshot, &mut batch),
            "the waiting packet comes by the new engine"
        );
        assert_eq!(batch.len(), 1);
        assert_eq!(shell.poller.queue(id, &device).map(|queue| queue.engine()), Some("epoll"));
        let reported = news.try_iter().collect::<Vec<_>>();
        assert!(matches!(&reported[..], [one] if one.failed && one.port == id), "{reported:?}");
    }
}
