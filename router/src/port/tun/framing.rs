//! The headers before each packet on a device created with `pi` or `vnet_hdr`.
#![forbid(unsafe_code)]

use std::io::{self, IoSlice, IoSliceMut};
use std::os::fd::AsFd;

use rustix::io::Errno;

/// A `struct tun_pi`, then a `struct virtio_net_hdr`; either may be absent, usually both are.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) struct Framing {
    packet_info_len: usize,
    vnet_hdr_len: usize,
}

impl Framing {
    /// The framing of a device; `vnet_hdr_len` is its header length in bytes, 0 without one.
    pub fn new(packet_info: bool, vnet_hdr_len: usize) -> io::Result<Self> {
        let packet_info_len = if packet_info { PACKET_INFO_LEN } else { 0 };
        if vnet_hdr_len > HEADER_MAX - PACKET_INFO_LEN {
            return Err(io::Error::other(format!(
                "expected a vnet_hdr of at most {} bytes, found {vnet_hdr_len}",
                HEADER_MAX - PACKET_INFO_LEN
            )));
        }
        Ok(Self { packet_info_len, vnet_hdr_len })
    }

    /// Reads one packet into `buffer`; returns its length.
    pub fn read(self, queue: impl AsFd, buffer: &mut [u8]) -> Result<usize, Errno> {
        let header_len = self.len();
        if header_len == 0 {
            return rustix::io::read(queue, buffer);
        }
        let mut header = [0; HEADER_MAX];
        let header = &mut header[..header_len];
        let len = {
            let mut parts = [IoSliceMut::new(header), IoSliceMut::new(buffer)];
            rustix::io::readv(queue, &mut parts)?
        };
        self.check(header)?;
        Ok(len.saturating_sub(header_len))
    }

    /// Writes one packet.
    pub fn write(self, queue: impl AsFd, packet: &[u8]) -> Result<usize, Errno> {
        let header_len = self.len();
        if header_len == 0 {
            return rustix::io::write(queue, packet);
        }
        let mut header = [0; HEADER_MAX];
        if self.packet_info_len > 0 {
            header[2..4].copy_from_slice(&ethertype(packet)?.to_be_bytes());
        }
        let parts = [IoSlice::new(&header[..header_len]), IoSlice::new(packet)];
        rustix::io::writev(queue, &parts)
    }

    fn len(self) -> usize {
        self.packet_info_len + self.vnet_hdr_len
    }

    /// Refuses a packet that needs an offload: none was enabled on this device.
    fn check(self, header: &[u8]) -> Result<(), Errno> {
        let Some([flags, gso_type]) = header[self.packet_info_len..].first_chunk() else {
            return Ok(());
        };
        if flags & NEEDS_CHECKSUM != 0 || *gso_type != 0 { Err(Errno::NOTSUP) } else { Ok(()) }
    }
}

fn ethertype(packet: &[u8]) -> Result<u16, Errno> {
    match packet.first().map(|first| first >> 4) {
        Some(4) => Ok(ETHERTYPE_IPV4),
        Some(6) => Ok(ETHERTYPE_IPV6),
        _ => Err(Errno::INVAL),
    }
}

/// `struct tun_pi`: two bytes of flags, then the EtherType.
const PACKET_INFO_LEN: usize = 4;

/// The longest `virtio_net_hdr` is 24 bytes in Linux 6.17.
const HEADER_MAX: usize = 64;

/// `VIRTIO_NET_HDR_F_NEEDS_CSUM`, in the first byte of the header; `gso_type` is the second.
const NEEDS_CHECKSUM: u8 = 1;

const ETHERTYPE_IPV4: u16 = 0x0800;
const ETHERTYPE_IPV6: u16 = 0x86dd;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_packet_that_needs_an_offload_is_refused_whatever_stands_before_its_header() {
        for packet_info in [false, true] {
            let framing = Framing::new(packet_info, 10).unwrap();
            let start = framing.packet_info_len;
            let with = |offset: usize, value| {
                let mut header = vec![0; framing.len()];
                header[start + offset] = value;
                framing.check(&header)
            };
            assert_eq!(with(0, 0), Ok(()));
            assert_eq!(with(0, 2), Ok(()), "checksum known to be good");
            assert_eq!(with(0, NEEDS_CHECKSUM), Err(Errno::NOTSUP));
            assert_eq!(with(1, 1), Err(Errno::NOTSUP), "a superframe");
        }
        assert_eq!(Framing::new(true, 0).unwrap().check(&[0xff; 4]), Ok(()));
    }

    #[test]
    fn a_header_of_absurd_length_is_refused() {
        assert!(Framing::new(true, 60).is_ok());
        assert!(Framing::new(false, 61).is_err());
    }
}
