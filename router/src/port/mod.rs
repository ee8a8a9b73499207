//! Ports: devices that receive and send packets.
//!
//! A port is one device with one or more queues. A worker reads one queue of every port and writes
//! to its own queue; any thread may write to any queue, which the kernel allows.
//!
//! All threads share a [`Port`], which moves one packet per system call. A worker has a [`Queue`]
//! on every port, which does the same or moves many packets per system call.

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
    /// Kind of device, for `show ports`: `"tun"`, `"tun multi-queue"`, `"memory"`.
    fn engine(&self) -> &'static str;

    /// Number of queues, at least 1.
    fn queues(&self) -> usize;

    /// Reads packets from `queue` into `batch` until the batch is full or the queue is empty; at
    /// most `batch.room()` packets. Never blocks. Returns the number of packets read.
    fn rx(&self, queue: usize, batch: &mut Batch) -> Result<usize, PortError>;

    /// Sends one complete IP packet, without offloads. Never blocks.
    fn tx(&self, queue: usize, packet: &[u8]) -> Result<(), PortError>;

    /// The offloads supported for packets sent; packets received may use them too.
    fn offloads(&self) -> Offloads {
        Offloads::NONE
    }

    /// Sends one packet that uses no offloads but those of [`Self::offloads`]. Never blocks.
    fn send(&self, queue: usize, frame: Frame<'_>) -> Result<(), PortError> {
        debug_assert!(self.offloads().take(frame.offload(), is_ipv6(frame.packet())));
        self.tx(queue, frame.packet())
    }

    /// The descriptor of `queue`, for I/O engines that read and write it themselves: one read or
    /// write is one packet with its offload header in front, and never blocks. `None` if the port's
    /// descriptors do not work this way.
    fn frames_fd(&self, _queue: usize) -> Option<BorrowedFd<'_>> {
        None
    }

    /// The descriptor to poll for readability of `queue`; `None` for a port without descriptors.
    fn fd(&self, queue: usize) -> Option<BorrowedFd<'_>>;
}

/// Whether an admitted packet is IPv6.
#[inline]
pub(crate) fn is_ipv6(packet: &[u8]) -> bool {
    packet.first().is_some_and(|first| first >> 4 == 6)
}

/// Why a device did not send or receive a packet.
#[derive(Debug, thiserror::Error)]
pub enum PortError {
    /// Its queue is full.
    #[error("the device's queue is full")]
    Full,
    /// The device is down (EIO). Polls do not report a TUN device that was set down, so this may be
    /// the first sign.
    #[error("the device is down")]
    Down,
    /// The device was deleted (EBADFD, ENODEV).
    #[error("the device is gone")]
    Gone,
    /// The I/O engine failed; the device itself may still work.
    #[error("the I/O engine failed: {0}")]
    Engine(io::Error),
    /// The device cannot carry this packet.
    #[error("the device refused the packet: {0}")]
    Refused(io::Error),
}
