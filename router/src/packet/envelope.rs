//! The IP header of packets that the router makes.
#![forbid(unsafe_code)]

use std::net::IpAddr;

use super::checksum::Sum;
use super::{ipv4, ipv6};

/// IP header fields of a packet that the router makes. It has no options and no extension headers.
#[derive(Clone, Copy, Debug)]
pub(super) struct Envelope {
    pub(super) src: IpAddr,
    pub(super) dst: IpAddr,
    pub(super) protocol: u8,
    pub(super) ttl: u8,
    /// Type of service, or traffic class.
    pub(super) traffic_class: u8,
    /// IPv4 identification; `None` sets DF and an identification of 0 (RFC 6864 section 4.1).
    pub(super) ident: Option<u16>,
}

impl Envelope {
    /// Bytes of the header.
    pub(super) const fn header_len(&self) -> usize {
        if self.src.is_ipv4() { ipv4::HEADER_LEN } else { ipv6::HEADER_LEN }
    }

    /// Writes the header in front of an upper layer of `len` bytes that is already in `out`, and
    /// returns the packet's length. `None` if the addresses differ in family, or the packet exceeds
    /// `out` or what IP allows.
    pub(super) fn write(&self, out: &mut [u8], len: usize) -> Option<usize> {
        let total = self.header_len() + len;
        if out.len() < total {
            return None;
        }
        match (self.src, self.dst) {
            (IpAddr::V4(src), IpAddr::V4(dst)) => {
                let header = out.first_chunk_mut()?;
                self.write_ipv4(header, u16::try_from(total).ok()?, src.octets(), dst.octets());
            }
            (IpAddr::V6(src), IpAddr::V6(dst)) => {
                let header = out.first_chunk_mut()?;
                self.write_ipv6(header, u16::try_from(len).ok()?, src.octets(), dst.octets());
            }
            _ => return None,
        }
        Some(total)
    }

    /// The sum of the pseudo header.
    pub(super) fn pseudo(&self, len: usize) -> Sum {
        Sum::pseudo(self.src, self.dst, self.protocol, len)
    }

    fn write_ipv4(
        &self,
        header: &mut [u8; ipv4::HEADER_LEN],
        total_len: u16,
        src: [u8; 4],
        dst: [u8; 4],
    ) {
        *header = [0; ipv4::HEADER_LEN];
        header[0] = 0x45;
        header[ipv4::TOS] = self.traffic_class;
        header[ipv4::TOTAL_LEN..ipv4::IDENT].copy_from_slice(&total_len.to_be_bytes());
        let flags = if self.ident.is_none() { ipv4::DONT_FRAGMENT } else { 0 };
        let ident = self.ident.unwrap_or_default();
        header[ipv4::IDENT..ipv4::FLAGS].copy_from_slice(&ident.to_be_bytes());
        header[ipv4::FLAGS..ipv4::TTL].copy_from_slice(&flags.to_be_bytes());
        header[ipv4::TTL] = self.ttl;
        header[ipv4::PROTOCOL] = self.protocol;
        header[ipv4::SRC..ipv4::DST].copy_from_slice(&src);
        header[ipv4::DST..].copy_from_slice(&dst);
        let sum = Sum::ZERO.bytes(header).checksum();
        header[ipv4::CHECKSUM..ipv4::SRC].copy_from_slice(&sum.to_be_bytes());
    }

    fn write_ipv6(
        &self,
        header: &mut [u8; ipv6::HEADER_LEN],
        payload_len: u16,
        src: [u8; 16],
        dst: [u8; 16],
    ) {
        let first = 6 << 28 | u32::from(self.traffic_class) << 20;
        header[..ipv6::PAYLOAD_LEN].copy_from_slice(&first.to_be_bytes());
        let next = ipv6::PAYLOAD_LEN..ipv6::NEXT_HEADER;
        header[next].copy_from_slice(&payload_len.to_be_bytes());
        header[ipv6::NEXT_HEADER] = self.protocol;
        header[ipv6::HOP_LIMIT] = self.ttl;
        header[ipv6::SRC..ipv6::DST].copy_from_slice(&src);
        header[ipv6::DST..].copy_from_slice(&dst);
    }
}
