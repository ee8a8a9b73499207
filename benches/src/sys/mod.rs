//! This program's calls that Rust cannot check.
#![allow(unsafe_code)]

mod capture;
mod xdp;

use std::io;
use std::os::fd::{AsFd, AsRawFd};

pub use capture::{Capture, Captured};
pub use xdp::{Feature, redirect, set_feature};

/// Has the kernel cut what this UDP socket sends into datagrams of `size` bytes, as late as it can.
///
/// # Errors
/// What the kernel refuses.
pub fn set_udp_segment(socket: &impl AsFd, size: u16) -> io::Result<()> {
    let size = libc::c_int::from(size);
    let len = size_of_val(&size) as libc::socklen_t;
    let fd = socket.as_fd().as_raw_fd();
    // SAFETY: the descriptor is open while it is borrowed, and `len` is the size of `size`.
    let set = unsafe {
        libc::setsockopt(fd, libc::SOL_UDP, libc::UDP_SEGMENT, (&raw const size).cast(), len)
    };
    if set < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
