//! Queues: how a worker reads and writes a port.
#![forbid(unsafe_code)]

use std::io;
use std::os::fd::BorrowedFd;
use std::sync::Arc;

use super::uring::UringQueue;
use super::{Port, PortError, is_ipv6};
use crate::batch::{Batch, Frame, Transmission};
use crate::ids::PortId;
use crate::packet::offload::OFFLOAD_LEN;
use crate::packet::offload::segment::Segments;

/// One queue of a port, used by one worker.
pub trait Queue: Send {
    /// Name of the I/O engine, for `show ports`: `"epoll"`, `"io_uring"`.
    fn engine(&self) -> &'static str;

    /// The descriptor to poll for readability; `None` for a port without descriptors.
    fn fd(&self) -> Option<BorrowedFd<'_>>;

    /// Reads packets into `batch` until it is full or the queue is empty; see [`Port::rx`]. After
    /// [`PortError::Engine`] this queue returns no more packets and has to be replaced.
    fn rx(&mut self, batch: &mut Batch) -> Result<usize, PortError>;

    /// Sends frames, which use only offloads that the port supports. Calls `done` with the result
    /// of each, in order, before it returns. Keeps no reference to the frames.
    fn tx(
        &mut self,
        frames: &mut dyn Iterator<Item = Frame<'_>>,
        done: &mut dyn FnMut(Result<(), PortError>),
    );
}

/// The I/O engine configured for a port.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum EngineChoice {
    /// The fastest available.
    #[default]
    Auto,
    /// One system call per packet.
    Epoll,
    /// io_uring; if unavailable, the same as `Epoll` and an error in the log.
    Uring,
}

/// Opens `queue` of `port` for the calling thread, which alone may use it. Also returns why
/// io_uring is not used, if it was tried.
pub fn open_queue(
    port: &Arc<dyn Port>,
    queue: usize,
    choice: EngineChoice,
) -> (Box<dyn Queue>, Option<String>) {
    let plain = || Box::new(SyscallQueue::new(Arc::clone(port), queue));
    if choice == EngineChoice::Epoll || port.fd(queue).is_none() {
        return (plain(), None);
    }
    match UringQueue::open(Arc::clone(port), queue) {
        Ok(queue) => (Box::new(queue), None),
        Err(why) => (plain(), Some(why)),
    }
}

/// The I/O engine that works with every port: one system call per packet.
pub struct SyscallQueue {
    port: Arc<dyn Port>,
    queue: usize,
}

impl SyscallQueue {
    /// An engine on `queue` of `port`.
    pub fn new(port: Arc<dyn Port>, queue: usize) -> Self {
        Self { port, queue }
    }
}

impl Queue for SyscallQueue {
    fn engine(&self) -> &'static str {
        "epoll"
    }

    fn fd(&self) -> Option<BorrowedFd<'_>> {
        self.port.fd(self.queue)
    }

    fn rx(&mut self, batch: &mut Batch) -> Result<usize, PortError> {
        self.port.rx(self.queue, batch)
    }

    fn tx(
        &mut self,
        frames: &mut dyn Iterator<Item = Frame<'_>>,
        done: &mut dyn FnMut(Result<(), PortError>),
    ) {
        for frame in frames {
            done(self.port.send(self.queue, frame));
        }
    }
}

/// The result of sending one packet or superframe.
pub struct Sent {
    /// The transmission.
    pub transmission: Transmission,
    /// Number of packets on the wire.
    pub packets: u64,
    /// Number of these that were joined to the first.
    pub joined: u64,
    /// Bytes of IP packets.
    pub bytes: u64,
    /// The device's result.
    pub result: Result<(), PortError>,
}

/// Sends the frames of `batch` for `port`, in order. A frame whose offloads the port lacks is
/// completed and segmented in `buffer` (a frame of the largest packet). Calls `report` with each
/// result.
pub fn send_all(
    queue: &mut dyn Queue,
    port: (PortId, &dyn Port),
    batch: &Batch,
    buffer: &mut [u8],
    report: &mut dyn FnMut(Sent),
) {
    let (id, port) = port;
    let offloads = port.offloads();
    let taken = |frame: Frame<'_>| offloads.take(frame.offload(), is_ipv6(frame.packet()));
    let mut frames = batch.frames(id).peekable();
    // The same frames again, for the reports.
    let mut reported = batch.frames(id);
    while frames.peek().is_some() {
        let mut run = std::iter::from_fn(|| {
            frames.next_if(|(_, frame)| taken(*frame)).map(|(_, frame)| frame)
        });
        queue.tx(&mut run, &mut |result| {
            let Some((transmission, frame)) = reported.next() else { return };
            report(Sent {
                transmission,
                packets: frame.segments(),
                joined: frame.joined(),
                bytes: frame.wire_bytes(),
                result,
            });
        });
        let Some((transmission, frame)) = frames.next() else { break };
        reported.next();
        send_segments(queue, transmission, frame, buffer, report);
    }
}

/// Completes and segments `frame`, and sends each segment.
fn send_segments(
    queue: &mut dyn Queue,
    transmission: Transmission,
    frame: Frame<'_>,
    buffer: &mut [u8],
    report: &mut dyn FnMut(Sent),
) {
    let sent = |packets, bytes, result| Sent { transmission, packets, joined: 0, bytes, result };
    let Ok(plan) = Segments::plan(frame.packet(), frame.offload()) else {
        let refused = PortError::Refused(io::ErrorKind::InvalidData.into());
        return report(sent(frame.segments(), frame.wire_bytes(), Err(refused)));
    };
    for index in 0..plan.count() {
        let Some((header, room)) = buffer.split_at_mut_checked(OFFLOAD_LEN) else { return };
        header.fill(0);
        let Some(len) = plan.write(index, room).map(<[u8]>::len) else { return };
        let segment = Frame::whole(&buffer[..OFFLOAD_LEN + len]);
        queue.tx(&mut std::iter::once(segment), &mut |result| report(sent(1, len as u64, result)));
    }
}
