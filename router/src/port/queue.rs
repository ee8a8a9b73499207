//! A worker's end of a port: how it reads and writes one queue.
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

/// One queue of a port in the hands of one worker.
pub trait Queue: Send {
    /// How packets are moved, for `show ports`: `"epoll"`, `"io_uring"`.
    fn engine(&self) -> &'static str;

    /// What to poll until there is something to read.
    fn fd(&self) -> Option<BorrowedFd<'_>>;

    /// As [`Port::rx`]. After [`PortError::Engine`] nothing more comes: another queue has to be
    /// opened in its place.
    fn rx(&mut self, batch: &mut Batch) -> Result<usize, PortError>;

    /// Sends frames that the port's offloads allow. What became of each is told in their order,
    /// before this returns; nothing refers to them afterwards.
    fn tx(
        &mut self,
        frames: &mut dyn Iterator<Item = Frame<'_>>,
        done: &mut dyn FnMut(Result<(), PortError>),
    );
}

/// Which engine a port is to have.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum EngineChoice {
    /// The fastest there is.
    #[default]
    Auto,
    /// A system call for each packet.
    Epoll,
    /// As `Auto`, with an error in the log where it is not there.
    Uring,
}

/// Opens `queue` of `port` for the calling thread, which alone may use it. Says also why it is not
/// a faster engine, if one was looked for.
pub fn open_queue(
    port: &Arc<dyn Port>,
    queue: usize,
    choice: EngineChoice,
) -> (Box<dyn Queue>, Option<String>) {
    let plain = || Box::new(PlainQueue::new(Arc::clone(port), queue));
    if choice == EngineChoice::Epoll || port.fd(queue).is_none() {
        return (plain(), None);
    }
    match UringQueue::open(Arc::clone(port), queue) {
        Ok(queue) => (Box::new(queue), None),
        Err(why) => (plain(), Some(why)),
    }
}

/// The engine that every port has: a system call for each packet.
pub struct PlainQueue {
    port: Arc<dyn Port>,
    queue: usize,
}

impl PlainQueue {
    /// On `queue` of `port`.
    pub fn new(port: Arc<dyn Port>, queue: usize) -> Self {
        Self { port, queue }
    }
}

impl Queue for PlainQueue {
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

/// What became of one packet or superframe.
pub struct Sent {
    /// What it was sent for.
    pub transmission: Transmission,
    /// How many packets it was.
    pub packets: u64,
    /// How many of these were joined to the first.
    pub joined: u64,
    /// Bytes of IP packets.
    pub bytes: u64,
    /// What the device said.
    pub result: Result<(), PortError>,
}

/// Sends what `batch` has for `port`, in order: whole where its offloads allow that, else completed
/// and in segments, made in `buffer` (a frame of the largest packet).
pub fn send_all(
    queue: &mut dyn Queue,
    port: (PortId, &dyn Port),
    batch: &Batch,
    buffer: &mut [u8],
    told: &mut dyn FnMut(Sent),
) {
    let (id, port) = port;
    let offloads = port.offloads();
    let taken = |frame: Frame<'_>| offloads.take(frame.offload(), is_ipv6(frame.packet()));
    let mut frames = batch.frames(id).peekable();
    // The same ones again, to tell of them.
    let mut told_of = batch.frames(id);
    while frames.peek().is_some() {
        let mut run = std::iter::from_fn(|| {
            frames.next_if(|(_, frame)| taken(*frame)).map(|(_, frame)| frame)
        });
        queue.tx(&mut run, &mut |result| {
            let Some((transmission, frame)) = told_of.next() else { return };
            told(Sent {
                transmission,
                packets: frame.segments(),
                joined: frame.joined(),
                bytes: frame.wire_bytes(),
                result,
            });
        });
        let Some((transmission, frame)) = frames.next() else { break };
        told_of.next();
        send_segments(queue, transmission, frame, buffer, told);
    }
}

/// What was left out of `frame` is done here, and each segment sent alone.
fn send_segments(
    queue: &mut dyn Queue,
    transmission: Transmission,
    frame: Frame<'_>,
    buffer: &mut [u8],
    told: &mut dyn FnMut(Sent),
) {
    let tell = |packets, bytes, result| Sent { transmission, packets, joined: 0, bytes, result };
    let Ok(plan) = Segments::plan(frame.packet(), frame.offload()) else {
        let refused = PortError::Refused(io::ErrorKind::InvalidData.into());
        return told(tell(frame.segments(), frame.wire_bytes(), Err(refused)));
    };
    for index in 0..plan.count() {
        let Some((header, room)) = buffer.split_at_mut_checked(OFFLOAD_LEN) else { return };
        header.fill(0);
        let Some(len) = plan.write(index, room).map(<[u8]>::len) else { return };
        let segment = Frame::whole(&buffer[..OFFLOAD_LEN + len]);
        queue.tx(&mut std::iter::once(segment), &mut |result| told(tell(1, len as u64, result)));
    }
}
