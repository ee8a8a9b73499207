//! Lanes: bounded queues from a worker to other threads.
#![forbid(unsafe_code)]

use std::collections::BTreeSet;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use crossbeam_channel::{Receiver, Sender, TrySendError, bounded, unbounded};
use rustix::event::{EventfdFlags, eventfd};
use tokio::sync::Notify;

use crate::batch::LocalLane;
use crate::forward::FirstPacket;
use crate::ids::PortId;
use crate::port::news::{EngineNews, PortTrouble};
use crate::time::Nanos;

/// A packet addressed to the router.
#[derive(Clone, Debug)]
pub struct LanePacket {
    /// The port it came in by.
    pub port: PortId,
    /// When its batch was read.
    pub received: Nanos,
    /// The IP packet.
    pub bytes: Box<[u8]>,
}

/// Wakes a lane's reader. Cheap to clone.
#[derive(Clone)]
pub enum Wake {
    /// A thread that polls this eventfd.
    Descriptor(Arc<OwnedFd>),
    /// A task that awaits this.
    Task(Arc<Notify>),
}

impl Wake {
    /// A wake-up by a new eventfd, and the descriptor that the reader polls and reads.
    pub fn new() -> std::io::Result<(Self, OwnedFd)> {
        let fd = eventfd(0, EventfdFlags::NONBLOCK | EventfdFlags::CLOEXEC)?;
        let poll = fd.try_clone()?;
        Ok((Self::Descriptor(Arc::new(fd)), poll))
    }

    /// Wakes the reader. Several calls may merge into one wake-up.
    pub fn wake(&self) {
        match self {
            Self::Descriptor(fd) => {
                // Fails only if the counter is full, in which case a wake-up is already pending.
                let _ = rustix::io::write(fd.as_fd(), &1_u64.to_ne_bytes());
            }
            Self::Task(notify) => notify.notify_one(),
        }
    }
}

/// The sending end of a bounded channel, with the wake-up of its reader.
pub struct Lane<T> {
    sender: Sender<T>,
    /// Items that may wait, where the channel itself takes any number.
    capacity: Option<usize>,
    wake: Wake,
    pending: bool,
}

impl<T> Lane<T> {
    /// A lane for `capacity` items, and its receiving end. `wake` wakes the reader.
    pub fn new(capacity: usize, wake: Wake) -> (Self, Receiver<T>) {
        let (sender, receiver) = bounded(capacity);
        (Self { sender, capacity: None, wake, pending: false }, receiver)
    }

    /// As [`Self::new`], for very many items that hardly ever wait: memory is taken for those that do. Of several
    /// threads that fill it each may exceed `capacity` by one item.
    pub fn of_many(capacity: usize, wake: Wake) -> (Self, Receiver<T>) {
        let (sender, receiver) = unbounded();
        (Self { sender, capacity: Some(capacity), wake, pending: false }, receiver)
    }

    /// Another sending end of the same channel.
    #[must_use]
    pub fn another(&self) -> Self {
        let (sender, wake) = (self.sender.clone(), self.wake.clone());
        Self { sender, capacity: self.capacity, wake, pending: false }
    }

    /// Adds an item; `false` if the lane is full. Wakes the reader at once if it is full; otherwise
    /// [`Self::flush`] does.
    pub fn push(&mut self, item: T) -> bool {
        let is_over = self.capacity.is_some_and(|capacity| self.sender.len() >= capacity);
        let sent = if is_over { Err(TrySendError::Full(item)) } else { self.sender.try_send(item) };
        match sent {
            Ok(()) => {
                self.pending = true;
                true
            }
            Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => {
                self.wake.wake();
                false
            }
        }
    }

    /// Whether the reader has taken everything.
    pub fn is_empty(&self) -> bool {
        self.sender.is_empty()
    }

    /// Whether the next item would be refused.
    pub fn is_full(&self) -> bool {
        self.capacity.map_or_else(|| self.sender.is_full(), |most| self.sender.len() >= most)
    }

    /// Wakes the reader if an item was added since the last call.
    pub fn flush(&mut self) {
        if std::mem::take(&mut self.pending) {
            self.wake.wake();
        }
    }
}

/// A worker's lanes.
pub struct Lanes {
    /// To the liveness thread: BFD packets.
    pub bfd: Lane<LanePacket>,
    /// To the liveness thread: answers to probes.
    pub prober: Lane<LanePacket>,
    /// To the liveness thread: ports whose devices are down or gone.
    pub trouble: Lane<PortTrouble>,
    /// To the control thread: all other packets addressed to the router.
    pub host: Lane<LanePacket>,
    /// To the control thread: the worker's number and a first packet.
    pub first_packets: Lane<(usize, FirstPacket)>,
    /// To the control thread: I/O engines in use.
    pub engines: Lane<EngineNews>,
    reported: BTreeSet<PortId>,
}

impl Lanes {
    /// Bundles a worker's lanes.
    pub fn new(
        bfd: Lane<LanePacket>,
        prober: Lane<LanePacket>,
        trouble: Lane<PortTrouble>,
        host: Lane<LanePacket>,
        first_packets: Lane<(usize, FirstPacket)>,
        engines: Lane<EngineNews>,
    ) -> Self {
        Self { bfd, prober, trouble, host, first_packets, engines, reported: BTreeSet::new() }
    }

    /// Sends a packet to the router by its lane; `false` if that is full. Of fragments the host
    /// stack's lane decides, for it reassembles all of them.
    pub(super) fn push_local(&mut self, lane: LocalLane, packet: LanePacket) -> bool {
        match lane {
            LocalLane::Bfd => self.bfd.push(packet),
            LocalLane::Checks => self.prober.push(packet),
            LocalLane::Host => self.host.push(packet),
            LocalLane::Fragments => {
                self.prober.push(packet.clone());
                self.host.push(packet)
            }
        }
    }

    /// Reports a port that is down or gone, at most once until [`Self::flush`].
    pub(super) fn report_trouble(&mut self, news: PortTrouble) {
        if self.reported.insert(news.port) {
            self.trouble.push(news);
        }
    }

    pub(super) fn report_first_packets(
        &mut self,
        worker: usize,
        seen: impl Iterator<Item = FirstPacket>,
    ) {
        for first in seen {
            self.first_packets.push((worker, first));
        }
    }

    /// Wakes the readers of all lanes that have new items.
    pub(super) fn flush(&mut self) {
        self.reported.clear();
        self.bfd.flush();
        self.prober.flush();
        self.trouble.flush();
        self.host.flush();
        self.first_packets.flush();
        self.engines.flush();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_lane_refuses_and_wakes_its_reader() {
        for new in [Lane::new, Lane::of_many] {
            refuses_when_full(new);
        }
    }

    fn refuses_when_full(new: impl FnOnce(usize, Wake) -> (Lane<i32>, Receiver<i32>)) {
        let (wake, fd) = Wake::new().unwrap();
        let (mut lane, receiver) = new(2, wake);
        assert!(lane.push(1) && !lane.is_full() && lane.push(2) && lane.is_full());
        assert!(rustix::io::read(&fd, &mut [0; 8]).is_err(), "not woken before the flush");
        assert!(!lane.push(3));
        assert!(rustix::io::read(&fd, &mut [0; 8]).is_ok());
        lane.flush();
        assert!(rustix::io::read(&fd, &mut [0; 8]).is_ok());
        lane.flush();
        assert!(rustix::io::read(&fd, &mut [0; 8]).is_err(), "nothing new");
        assert_eq!(receiver.try_iter().collect::<Vec<_>>(), [1, 2]);
    }
}
