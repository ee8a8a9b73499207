//! Waits until a port has packets: one epoll per worker, over its queue of every port.
#![forbid(unsafe_code)]

use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use rustix::buffer::spare_capacity;
use rustix::event::{Timespec, epoll};
use rustix::io::Errno;

use super::lanes::Lanes;
use crate::forward::{PortEntry, Snapshot};
use crate::ids::PortId;
use crate::port::news::EngineNews;
use crate::port::queue::{SyscallQueue, open_queue};
use crate::port::{EngineChoice, Port, Queue};

/// An epoll over a worker's queue of every port and its wake-up descriptor.
pub(super) struct Poller {
    worker: usize,
    epoll: OwnedFd,
    wake: OwnedFd,
    /// The generation of the snapshot that `open` follows.
    generation: Option<u64>,
    /// Open queues by port. A queue is dropped after its descriptor was removed from the epoll.
    open: BTreeMap<PortId, Open>,
    events: Vec<epoll::Event>,
}

/// A worker's queue of a port.
struct Open {
    device: Arc<dyn Port>,
    choice: EngineChoice,
    queue: Box<dyn Queue>,
    /// Whether this worker reads the queue; if not, it only sends.
    is_watched: bool,
}

/// The ports that have packets. The caller reuses it, so that waiting allocates nothing.
#[derive(Default)]
pub(super) struct Ready(Vec<PortId>);

impl Ready {
    pub(super) fn ports(&self) -> impl Iterator<Item = PortId> + Clone + '_ {
        self.0.iter().copied()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl Poller {
    pub(super) fn new(worker: usize, wake: OwnedFd) -> io::Result<Self> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        epoll::add(&epoll, &wake, epoll::EventData::new_u64(WAKE), epoll::EventFlags::IN)?;
        let events = Vec::with_capacity(EVENTS_MAX);
        Ok(Self { worker, epoll, wake, generation: None, open: BTreeMap::new(), events })
    }

    /// Opens a queue of each new port of `snapshot`, closes those of removed ports, and watches
    /// those that this worker reads.
    pub(super) fn follow(&mut self, snapshot: &Snapshot, lanes: &mut Lanes) -> io::Result<()> {
        if self.generation == Some(snapshot.generation) {
            return Ok(());
        }
        let stays = |id: &PortId, open: &Open| {
            let port = snapshot.port(*id);
            port.is_some_and(|p| Arc::ptr_eq(&p.device, &open.device) && p.engine == open.choice)
        };
        let stale: Vec<PortId> =
            self.open.iter().filter(|(id, open)| !stays(id, open)).map(|(&id, _)| id).collect();
        for id in stale {
            self.forget(id);
        }
        for (id, port) in snapshot.ports() {
            if !self.open.contains_key(&id) {
                self.open(id, port, lanes)?;
            }
        }
        self.generation = Some(snapshot.generation);
        Ok(())
    }

    /// This worker's queue of a port, if it was opened on this device.
    pub(super) fn queue(&mut self, id: PortId, device: &Arc<dyn Port>) -> Option<&mut dyn Queue> {
        let open = self.open.get_mut(&id)?;
        Arc::ptr_eq(&open.device, device).then_some(&mut *open.queue)
    }

    /// Closes the queue of a port.
    pub(super) fn forget(&mut self, id: PortId) {
        if let Some(open) = self.open.remove(&id)
            && open.is_watched
            && let Some(fd) = open.queue.fd()
        {
            // A descriptor that was already closed has left the epoll by itself.
            let _ = epoll::delete(&self.epoll, fd);
        }
    }

    /// Replaces a failed I/O engine by the one that works with every port.
    pub(super) fn fall_back(&mut self, id: PortId) {
        if let Some(open) = self.open.get_mut(&id) {
            // Both engines are polled by the device's descriptor, which is already in the epoll.
            let index = self.worker % open.device.queues().max(1);
            open.queue = Box::new(SyscallQueue::new(Arc::clone(&open.device), index));
        }
    }

    /// Replaces the queue of a port.
    #[cfg(test)]
    pub(super) fn set_queue(&mut self, id: PortId, queue: Box<dyn Queue>) {
        if let Some(open) = self.open.get_mut(&id) {
            open.queue = queue;
        }
    }

    /// Sleeps until a port has packets or the worker is woken, at most `timeout_ms`.
    pub(super) fn wait(&mut self, timeout_ms: Option<u32>, ready: &mut Ready) -> io::Result<()> {
        let timeout = timeout_ms
            .map(|ms| Timespec::try_from(Duration::from_millis(u64::from(ms))))
            .transpose()
            .map_err(|_| io::ErrorKind::InvalidInput)?;
        self.events.clear();
        match epoll::wait(&self.epoll, spare_capacity(&mut self.events), timeout.as_ref()) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(errno) => return Err(errno.into()),
        }
        ready.0.clear();
        for event in &self.events {
            match event.data.u64() {
                WAKE => {
                    // Reading resets the eventfd; an error means that it was reset before.
                    let _ = rustix::io::read(self.wake.as_fd(), &mut [0; 8]);
                }
                id => ready.0.push(PortId(id as u16)),
            }
        }
        Ok(())
    }

    fn open(&mut self, id: PortId, port: &PortEntry, lanes: &mut Lanes) -> io::Result<()> {
        let (device, choice) = (Arc::clone(&port.device), port.engine);
        let reads = self.worker < device.queues();
        // A worker that only sends shares a queue with the worker that reads it.
        let (queue, why) = if reads {
            open_queue(&device, self.worker, choice)
        } else {
            let index = self.worker % device.queues().max(1);
            (Box::new(SyscallQueue::new(Arc::clone(&device), index)) as Box<dyn Queue>, None)
        };
        let is_watched = match queue.fd().filter(|_| reads) {
            Some(fd) => {
                let data = epoll::EventData::new_u64(u64::from(id.0));
                epoll::add(&self.epoll, fd, data, epoll::EventFlags::IN)?;
                true
            }
            None => false,
        };
        if is_watched {
            let (worker, engine) = (self.worker, queue.engine());
            lanes.engines.push(EngineNews { worker, port: id, engine, why, failed: false });
        }
        self.open.insert(id, Open { device, choice, queue, is_watched });
        Ok(())
    }
}

/// Marks the wake-up among the events.
const WAKE: u64 = u64::MAX;

/// The most events taken in one wake-up.
const EVENTS_MAX: usize = 128;
