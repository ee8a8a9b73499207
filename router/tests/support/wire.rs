//! Sends bytes on a device's wire unchanged, valid or not, and sees what passes there, by a packet
//! socket (packet(7)).
#![allow(dead_code)] // each test binary uses its own part
#![allow(unsafe_code)]

use std::io;
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd};

/// A socket whose packets leave by one device, without any check.
pub struct Wire(OwnedFd);

impl Wire {
    /// For the device with this index, in the namespace of the calling thread. It sends only.
    pub fn open(ifindex: u32) -> io::Result<Self> {
        Self::open_for(ifindex, 0)
    }

    /// Like [`Self::open`], and also receives every packet that passes.
    pub fn listen(ifindex: u32) -> io::Result<Self> {
        Self::open_for(ifindex, libc::ETH_P_ALL as u16)
    }

    fn open_for(ifindex: u32, protocol: u16) -> io::Result<Self> {
        // SAFETY: takes no pointers.
        let fd = unsafe { libc::socket(libc::AF_PACKET, libc::SOCK_RAW | libc::SOCK_CLOEXEC, 0) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the descriptor was made just now, and nobody else knows it.
        let fd = unsafe { OwnedFd::from_raw_fd(fd) };
        // SAFETY: all zeros is a valid `sockaddr_ll`.
        let mut address: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
        address.sll_family = libc::AF_PACKET as u16;
        address.sll_ifindex = ifindex.cast_signed();
        address.sll_protocol = protocol.to_be();
        let len = size_of_val(&address) as libc::socklen_t;
        // SAFETY: `address` lives, and `len` is its size.
        let bound = unsafe { libc::bind(fd.as_raw_fd(), (&raw const address).cast(), len) };
        if bound < 0 { Err(io::Error::last_os_error()) } else { Ok(Self(fd)) }
    }

    /// Takes a packet that passed; `None` if there is none. The buffer has to hold it.
    pub fn receive<'a>(&self, buffer: &'a mut [u8]) -> Option<&'a [u8]> {
        let flags = rustix::net::RecvFlags::DONTWAIT;
        let (len, _) = rustix::net::recv(&self.0, &mut *buffer, flags).ok()?;
        buffer.get(..len)
    }

    /// Sends these bytes as one packet.
    pub fn send(&self, bytes: &[u8]) -> io::Result<()> {
        rustix::net::send(&self.0, bytes, rustix::net::SendFlags::empty())?;
        Ok(())
    }
}
