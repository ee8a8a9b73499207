//! Sleeping until a port has packets: one epoll for each worker.
#![forbid(unsafe_code)]

use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use rustix::buffer::spare_capacity;
use rustix::event::{Timespec, epoll};
use rustix::io::Errno;

use crate::forward::Snapshot;
use crate::port::{Port, PortId};

/// An epoll over a worker's queue of every port, and its wake-up.
pub(super) struct Poller {
    epoll: OwnedFd,
    wake: OwnedFd,
    /// Of which snapshot the ports are.
    generation: Option<u64>,
    /// Kept until the epoll has let go of its descriptor.
    watched: BTreeMap<PortId, (Arc<dyn Port>, usize)>,
    events: Vec<epoll::Event>,
}

/// The ports that have packets. Handed back to the poller, so that sleeping allocates nothing.
#[derive(Default)]
pub(super) struct Ready(Vec<PortId>);

impl Ready {
    pub(super) fn ports(&self) -> impl Iterator<Item = PortId> + '_ {
        self.0.iter().copied()
    }
}

impl Poller {
    pub(super) fn new(wake: OwnedFd) -> io::Result<Self> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        epoll::add(&epoll, &wake, epoll::EventData::new_u64(WAKE), epoll::EventFlags::IN)?;
        let events = Vec::with_capacity(EVENTS_MAX);
        Ok(Self { epoll, wake, generation: None, watched: BTreeMap::new(), events })
    }

    /// Watches the ports of `snapshot` of which worker `worker` reads a queue, and no others.
    pub(super) fn follow(&mut self, worker: usize, snapshot: &Snapshot) -> io::Result<()> {
        if self.generation == Some(snapshot.generation) {
            return Ok(());
        }
        let stays = |id: &PortId, device: &Arc<dyn Port>| {
            snapshot.port(*id).is_some_and(|port| Arc::ptr_eq(&port.device, device))
        };
        let stale: Vec<PortId> = self
            .watched
            .iter()
            .filter(|(id, (device, _))| !stays(id, device))
            .map(|(&id, _)| id)
            .collect();
        for id in stale {
            self.forget(id);
        }
        for (id, port) in snapshot.ports() {
            if worker < port.device.queues() && !self.watched.contains_key(&id) {
                self.watch(id, &port.device, worker)?;
            }
        }
        self.generation = Some(snapshot.generation);
        Ok(())
    }

    /// Stops watching a port.
    pub(super) fn forget(&mut self, id: PortId) {
        if let Some((device, queue)) = self.watched.remove(&id)
            && let Some(fd) = device.fd(queue)
        {
            // A descriptor that is closed already has left the epoll by itself.
            let _ = epoll::delete(&self.epoll, fd);
        }
    }

    /// Sleeps until a port has packets, or it is woken; for `timeout_ms` at most.
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
                    // Reading resets it; that it was reset already is no harm.
                    let _ = rustix::io::read(self.wake.as_fd(), &mut [0; 8]);
                }
                id => ready.0.push(PortId(id as u16)),
            }
        }
        Ok(())
    }

    fn watch(&mut self, id: PortId, device: &Arc<dyn Port>, queue: usize) -> io::Result<()> {
        let Some(fd) = device.fd(queue) else { return Ok(()) };
        let data = epoll::EventData::new_u64(u64::from(id.0));
        epoll::add(&self.epoll, fd, data, epoll::EventFlags::IN)?;
        self.watched.insert(id, (Arc::clone(device), queue));
        Ok(())
    }
}

/// Marks the wake-up among the events.
const WAKE: u64 = u64::MAX;

/// Events taken in one wake-up.
const EVENTS_MAX: usize = 128;
