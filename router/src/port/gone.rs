//! Deleted devices: detecting them, and the placeholder port until there is a new device.
#![forbid(unsafe_code)]

use std::os::fd::BorrowedFd;

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::{Port, PortError};
use crate::batch::Batch;

/// A port without a device, on which every call fails with [`PortError::Gone`]. It keeps neither
/// the old device nor its namespace alive.
#[derive(Clone, Copy, Debug)]
pub struct GonePort;

impl Port for GonePort {
    fn engine(&self) -> &'static str {
        "none"
    }

    fn queues(&self) -> usize {
        1
    }

    fn rx(&self, _queue: usize, _batch: &mut Batch) -> Result<usize, PortError> {
        Err(PortError::Gone)
    }

    fn tx(&self, _queue: usize, _packet: &[u8]) -> Result<(), PortError> {
        Err(PortError::Gone)
    }

    fn fd(&self, _queue: usize) -> Option<BorrowedFd<'_>> {
        None
    }
}

/// Whether the device was deleted: the kernel reports a poll error on the descriptor of such a TUN
/// device (`tun_chr_poll`). A port without a descriptor counts as gone.
pub fn is_gone(port: &dyn Port) -> bool {
    port.fd(0).is_none_or(|fd| {
        let mut fds = [PollFd::from_borrowed_fd(fd, PollFlags::IN)];
        let now = Timespec { tv_sec: 0, tv_nsec: 0 };
        matches!(poll(&mut fds, Some(&now)), Ok(1)) && fds[0].revents().contains(PollFlags::ERR)
    })
}
