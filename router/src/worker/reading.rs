//! Whether packets that a port had received by some time may still be on their way to whoever
//! judges by them: unread in the device, or in the hands of a worker.
//!
//! A worker counts its turns: even while it waits for packets, odd while it has some in its hands.
//! So a port's packets are known to be handed over up to the moment of a look that finds its queue
//! empty and its worker waiting; and, where packets come faster than they are read, up to the
//! moment since which the worker has read as many as a queue can hold.
#![forbid(unsafe_code)]

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{Ordering, fence};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::WorkerShared;
use crate::batch::BURST;
use crate::engine::ROUNDS_MAX;
use crate::forward::Snapshot;
use crate::ids::PortId;
use crate::port::Port;
use crate::time::Nanos;

/// What is known of every port that was asked for, by one thread that has a lane from the workers.
pub struct Reading {
    workers: Vec<Arc<WorkerShared>>,
    ports: BTreeMap<PortId, Vec<QueueReading>>,
}

/// One queue of a port, which one worker reads.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
struct QueueReading {
    /// What came by then was handed over when the queue was last looked at.
    handed_over: Nanos,
    /// What came by then was also taken from the lane.
    taken: Nanos,
    /// What came by the first will be handed over when the worker has reached that turn.
    behind: Option<(Nanos, u64)>,
}

impl Reading {
    /// Nothing is known yet. The worker of a queue is the one of the same number.
    pub fn new(workers: Vec<Arc<WorkerShared>>) -> Self {
        Self { workers, ports: BTreeMap::new() }
    }

    /// The lane was emptied since the last look.
    pub fn lane_was_emptied(&mut self) {
        for queue in self.ports.values_mut().flatten() {
            queue.taken = queue.handed_over;
        }
    }

    /// Whether packets that the port had received by `due` may not have been taken from the lane
    /// yet. Looks at the port's queues, at `now`, if that is not known from before.
    pub fn may_be_unread(
        &mut self,
        now: Nanos,
        (snapshot, port): (&Snapshot, PortId),
        due: Nanos,
        lane_is_empty: impl FnOnce() -> bool,
    ) -> bool {
        let Some(entry) = snapshot.port(port) else { return false };
        let queues = self.ports.entry(port).or_default();
        queues.resize(entry.device.queues(), QueueReading::default());
        if queues.iter().all(|queue| queue.taken >= due) {
            return false;
        }
        for (index, queue) in queues.iter_mut().enumerate() {
            let Some(worker) = self.workers.get(index) else { continue };
            let is_unread = has_unread(&*entry.device, index);
            // Pairs with `WorkerShared::begin_turn`: a worker that emptied the queue before it was
            // polled has begun its turn before.
            fence(Ordering::SeqCst);
            queue.look(now, is_unread, worker.turn.load(Ordering::Acquire));
        }
        let workers = self.workers.len();
        let is_behind = |queue: &QueueReading| queue.handed_over < due;
        queues.iter().take(workers).any(is_behind) || !lane_is_empty()
    }
}

impl QueueReading {
    /// A look at the queue, and then at its worker's turn.
    fn look(&mut self, now: Nanos, is_unread: bool, turn: u64) {
        if !is_unread && turn.is_multiple_of(2) {
            *self = Self { handed_over: now, taken: self.taken, behind: None };
            return;
        }
        if let Some((since, goal)) = self.behind
            && turn >= goal
        {
            self.handed_over = self.handed_over.max(since);
            self.behind = None;
        }
        // The next time it waits it finds the queue; the turn in progress may have passed by it.
        let whole_turns = (turn & !1) + 2 + 2 * TURNS_ENOUGH;
        let goal = if is_unread { whole_turns } else { turn + 1 };
        if self.behind.is_none_or(|(_, sooner)| goal < sooner) {
            self.behind = Some((now, goal));
        }
    }
}

fn has_unread(device: &dyn Port, queue: usize) -> bool {
    device.fd(queue).is_some_and(|fd| {
        let mut fds = [PollFd::from_borrowed_fd(fd, PollFlags::IN)];
        let now = Timespec { tv_sec: 0, tv_nsec: 0 };
        matches!(poll(&mut fds, Some(&now)), Ok(1)) && fds[0].revents().contains(PollFlags::IN)
    })
}

/// In so many turns a worker reads more packets than wait in any queue.
const TURNS_ENOUGH: u64 = (QUEUE_MAX as u64).div_ceil((ROUNDS_MAX * BURST) as u64);

/// Packets in the longest queue that a device is expected to have; TUN devices are made with 500.
const QUEUE_MAX: usize = 10_000;

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::os::fd::{AsFd, BorrowedFd};
    use std::os::unix::net::UnixStream;

    use nearhop_fib::AdjacencyId;

    use super::*;
    use crate::batch::Batch;
    use crate::control::Control;
    use crate::forward::PortEntry;
    use crate::port::PortError;

    /// A device whose one queue is this stream.
    struct Device(UnixStream);

    impl Port for Device {
        fn engine(&self) -> &'static str {
            "stream"
        }

        fn queues(&self) -> usize {
            1
        }

        fn rx(&self, _queue: usize, _batch: &mut Batch) -> Result<usize, PortError> {
            Ok((&self.0).read(&mut [0; 8]).unwrap_or(0))
        }

        fn tx(&self, _queue: usize, _packet: &[u8]) -> Result<(), PortError> {
            Ok(())
        }

        fn fd(&self, _queue: usize) -> Option<BorrowedFd<'_>> {
            Some(self.0.as_fd())
        }
    }

    #[test]
    fn a_packet_may_be_unread_until_it_was_taken_from_the_lane() {
        let (mut far, near) = UnixStream::pair().unwrap();
        let device = Arc::new(Device(near));
        let entry = PortEntry::plain("fra", Arc::<Device>::clone(&device), AdjacencyId(0));
        let snapshot = Snapshot { ports: vec![Some(entry)], ..Control::empty_snapshot() };
        let worker = Arc::new(WorkerShared::default());
        let mut reading = Reading::new(vec![Arc::clone(&worker)]);
        let ask = |reading: &mut Reading, now: u64, lane_is_empty: bool| {
            reading.may_be_unread(Nanos(now), (&snapshot, PortId(0)), Nanos(10), || lane_is_empty)
        };
        far.write_all(b"answer").unwrap();
        assert!(ask(&mut reading, 10, true), "it lies in the queue");
        worker.begin_turn();
        assert_eq!(device.rx(0, &mut Batch::new()).unwrap(), 6);
        assert!(ask(&mut reading, 11, true), "in the worker's hands");
        worker.end_turn();
        assert!(ask(&mut reading, 12, false), "in the lane");
        reading.lane_was_emptied();
        // What comes later is no matter.
        far.write_all(b"another").unwrap();
        assert!(!ask(&mut reading, 13, false), "taken");
        assert!(!reading.may_be_unread(Nanos(13), (&snapshot, PortId(1)), Nanos(13), || true));
        let later = (&snapshot, PortId(0));
        assert!(reading.may_be_unread(Nanos(20), later, Nanos(13), || true), "asked about later");
    }

    /// Looks at 1 ms, 2 ms and so on; what was handed over after each.
    fn looks(seen: &[(bool, u64)]) -> Vec<u64> {
        let mut queue = QueueReading::default();
        let mut look = |(at, &(is_unread, turn)): (usize, &(bool, u64))| {
            queue.look(Nanos(at as u64 + 1), is_unread, turn);
            queue.handed_over.0
        };
        seen.iter().enumerate().map(&mut look).collect()
    }

    #[test]
    fn an_empty_queue_whose_worker_waits_is_handed_over() {
        assert_eq!(looks(&[(false, 0), (false, 0), (false, 8)]), [1, 2, 3]);
    }

    #[test]
    fn a_worker_that_gets_no_turn_hands_nothing_over() {
        assert_eq!(looks(&[(true, 6), (true, 6), (true, 6)]), [0, 0, 0], "it sleeps on");
        assert_eq!(looks(&[(true, 6), (true, 7), (false, 7), (false, 8)]), [0, 0, 0, 4]);
    }

    #[test]
    fn what_a_worker_has_in_its_hands_is_handed_over_when_its_turn_ends() {
        assert_eq!(looks(&[(false, 7), (false, 7), (false, 8)]), [0, 0, 3]);
        // Another turn already: that of the first look is over.
        assert_eq!(looks(&[(false, 7), (true, 9), (true, 9)]), [0, 1, 1]);
        assert_eq!(looks(&[(true, 7), (false, 7), (true, 9)]), [0, 0, 2]);
    }

    #[test]
    fn where_packets_come_faster_than_they_are_read_enough_turns_are_enough() {
        let enough = 2 * TURNS_ENOUGH;
        // The wait that may have begun before counts for nothing.
        assert_eq!(looks(&[(true, 6), (true, 6 + enough), (true, 8 + enough)]), [0, 0, 1]);
        assert_eq!(looks(&[(true, 7), (true, 7 + enough), (true, 8 + enough)]), [0, 0, 1]);
        // And so on from there.
        let second = [(true, 0), (true, 2 + enough), (true, 4 + 2 * enough)];
        assert_eq!(looks(&second), [0, 1, 2]);
    }
}
