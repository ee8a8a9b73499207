//! The ioctls of `<linux/if_tun.h>`.
#![allow(unsafe_code)]

use std::ffi::{c_int, c_short, c_uint};
use std::fs::File;
use std::io;
use std::mem;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, IntoRawFd, OwnedFd};

use tun_tap::Iface;

/// Opens the file from which every TUN descriptor is opened.
pub(super) fn open_clone_device() -> io::Result<OwnedFd> {
    Ok(File::options().read(true).write(true).open(super::CLONE_DEVICE)?.into())
}

/// Creates the TUN device `name`, or attaches to it, with `flags` besides IFF_TUN. The caller has
/// checked that the name has 1 to 15 bytes.
pub(super) fn attach(clone_device: &OwnedFd, name: &str, flags: c_int) -> io::Result<()> {
    debug_assert!(!name.is_empty() && name.len() < libc::IFNAMSIZ);
    // SAFETY: `ifreq` is plain old data, for which all zeros is a valid value.
    let mut request: libc::ifreq = unsafe { mem::zeroed() };
    for (to, from) in request.ifr_name[..libc::IFNAMSIZ - 1].iter_mut().zip(name.bytes()) {
        *to = from.cast_signed();
    }
    request.ifr_ifru.ifru_flags = (libc::IFF_TUN | flags) as c_short;
    // SAFETY: the descriptor is open while it is borrowed. TUNSETIFF reads and writes one `ifreq`
    // behind the pointer, which is to a whole one that nobody else refers to, and keeps no pointer.
    check(unsafe { libc::ioctl(clone_device.as_raw_fd(), libc::TUNSETIFF, &raw mut request) })
}

/// Sets whether the device outlives its descriptors.
pub(super) fn set_persist(tun: BorrowedFd<'_>, persist: bool) -> io::Result<()> {
    // SAFETY: the descriptor is open while it is borrowed. TUNSETPERSIST takes its argument by
    // value.
    check(unsafe { libc::ioctl(tun.as_raw_fd(), libc::TUNSETPERSIST, c_int::from(persist)) })
}

/// Sets the offloads (`TUN_F_*`) of packets that the kernel delivers; it completes all others
/// itself.
pub(super) fn set_offloads(tun: BorrowedFd<'_>, mask: c_uint) -> io::Result<()> {
    // SAFETY: the descriptor is open while it is borrowed. TUNSETOFFLOAD takes its argument by
    // value.
    check(unsafe { libc::ioctl(tun.as_raw_fd(), libc::TUNSETOFFLOAD, mask) })
}

/// Sets the length in bytes of the `struct virtio_net_hdr` before each packet.
pub(super) fn set_vnet_header_len(tun: BorrowedFd<'_>, len: usize) -> io::Result<()> {
    let len = c_int::try_from(len).map_err(|_| io::ErrorKind::InvalidInput)?;
    // SAFETY: the descriptor is open while it is borrowed. TUNSETVNETHDRSZ reads one `int` behind
    // the pointer, which is to one that lives until the call is over, and keeps no pointer.
    check(unsafe { libc::ioctl(tun.as_raw_fd(), libc::TUNSETVNETHDRSZ, &raw const len) })
}

/// Length in bytes of the `struct virtio_net_hdr` before each packet.
pub(super) fn vnet_header_len(tun: BorrowedFd<'_>) -> io::Result<usize> {
    let mut len: c_int = 0;
    // SAFETY: the descriptor is open while it is borrowed. TUNGETVNETHDRSZ writes one `int` behind
    // the pointer, which is to one that nobody else refers to, and keeps no pointer.
    check(unsafe { libc::ioctl(tun.as_raw_fd(), libc::TUNGETVNETHDRSZ, &raw mut len) })?;
    Ok(usize::try_from(len).unwrap_or(0))
}

/// Takes the descriptor out of what the crate tun-tap opened.
pub(super) fn into_fd(iface: Iface) -> OwnedFd {
    let fd = iface.into_raw_fd();
    // SAFETY: `Iface` owned the open descriptor and has given it up with `into_raw_fd`, so that
    // nobody else closes it.
    unsafe { OwnedFd::from_raw_fd(fd) }
}

fn check(result: c_int) -> io::Result<()> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
