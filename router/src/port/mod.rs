//! Ports: where packets come in and go out.
//!
//! A port is one device with one or more queues. A worker reads one queue of every port and writes
//! on its own queue; any thread may write on any queue, for the kernel allows that.

pub mod carrier;
pub mod gone;
pub mod link;
pub mod memory;
mod netlink;
pub mod netns;
pub mod tun;

use std::io;
use std::os::fd::BorrowedFd;

use crate::batch::Batch;

/// Number of a port; stable over reloads while the port keeps its name. Another port may get it once
/// no worker can hold it any more.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct PortId(pub u16);

/// A device that carries IP packets.
pub trait Port: Send + Sync {
    /// How packets are moved, for `show ports`: `"tun"`, `"tun multi-queue"`, `"memory"`.
    fn engine(&self) -> &'static str;

    /// How many queues there are, at least 1.
    fn queues(&self) -> usize;

    /// Reads packets of `queue` into `batch` until it is full or the queue is empty; at most
    /// `batch.room()` packets. Never blocks. Returns how many came.
    fn rx(&self, queue: usize, batch: &mut Batch) -> Result<usize, PortError>;

    /// Sends one packet, whole IP header first. Never blocks.
    fn tx(&self, queue: usize, packet: &[u8]) -> Result<(), PortError>;

    /// What to poll until `queue` can be read; `None` for a port that has no descriptor.
    fn fd(&self, queue: usize) -> Option<BorrowedFd<'_>>;
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
    /// The packet is not one the device can carry.
    #[error("the device refused the packet: {0}")]
    Refused(io::Error),
}
