//! Ports: where packets come in and go out.
//!
//! A port is one device with one or more queues. A worker reads one queue of every port and writes
//! on its own queue; any thread may write on any queue, for the kernel allows that.
//!
//! [`Port`] is what all threads share, and moves one packet in one system call. A worker has a
//! [`Queue`] on every port: that, or an engine that moves many at once.

pub mod counters;
pub mod gone;
pub mod memory;
pub mod news;
pub mod queue;
pub mod tun;
mod uring;

use std::io;
use std::os::fd::BorrowedFd;

pub use self::queue::{EngineChoice, Queue};
use crate::batch::{Batch, Frame};
use crate::packet::offload::Offloads;

/// A device that carries IP packets.
pub trait Port: Send + Sync {
    /// How packets are moved, for `show ports`: `"tun"`, `"tun multi-queue"`, `"memory"`.
    fn engine(&self) -> &'static str;

    /// How many queues there are, at least 1.
    fn queues(&self) -> usize;

    /// Reads packets of `queue` into `batch` until it is full or the queue is empty; at most
    /// `batch.room()` packets. Never blocks. Returns how many came.
    fn rx(&self, queue: usize, batch: &mut Batch) -> Result<usize, PortError>;

    /// Sends one packet of which nothing was left out, whole IP header first. Never blocks.
    fn tx(&self, queue: usize, packet: &[u8]) -> Result<(), PortError>;

    /// What may be left out of packets that are sent, and may be of those received.
    fn offloads(&self) -> Offloads {
        Offloads::NONE
    }

    /// Sends one packet of which no more was left out than [`Self::offloads`] allows.
    fn send(&self, queue: usize, frame: Frame<'_>) -> Result<(), PortError> {
        debug_assert!(self.offloads().take(frame.offload(), is_ipv6(frame.packet())));
        self.tx(queue, frame.packet())
    }

    /// The descriptor of `queue` for engines that read and write it themselves: one read or write
    /// is one packet with its offload header in front, and never blocks. `None` for a port that is
    /// not like that.
    fn frames_fd(&self, _queue: usize) -> Option<BorrowedFd<'_>> {
        None
    }

    /// What to poll until `queue` can be read; `None` for a port that has no descriptor.
    fn fd(&self, queue: usize) -> Option<BorrowedFd<'_>>;
}

/// Whether a packet that was admitted is of IPv6.
#[inline]
pub(crate) fn is_ipv6(packet: &[u8]) -> bool {
    packet.first().is_some_and(|first| first >> 4 == 6)
}

/// Why a device did not take or give a packet.
#[derive(Debug, thiserror::Error)]
pub enum PortError {
    /// Its queue is full.
    #[error("the device's queue is full")]
    Full,
    /// The device is set down (EIO). A TUN set down wakes no poll, so this may be the first sign.
    #[error("the device is down")]
    Down,
    /// The device was deleted (EBADFD, ENODEV).
    #[error("the device is gone")]
    Gone,
    /// The engine does not work any more; the device may.
    #[error("the engine failed: {0}")]
    Engine(io::Error),
    /// The packet is not one the device can carry.
    #[error("the device refused the packet: {0}")]
    Refused(io::Error),
}
