//! The IP header fields that the host stack reads before smoltcp does.
#![forbid(unsafe_code)]

use std::net::IpAddr;

use smoltcp::wire::{Ipv4Packet, Ipv6Packet};

/// Header fields of an IP packet with valid lengths and a valid IPv4 header checksum.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Header {
    pub(super) src: IpAddr,
    pub(super) dst: IpAddr,
    /// Protocol of the payload; in IPv6 that after the fragment header, if there is one.
    pub(super) protocol: u8,
    /// TTL or hop limit.
    pub(super) ttl: u8,
    /// Differentiated services code point (RFC 2474).
    pub(super) dscp: u8,
    /// Offsets of the payload's start and end.
    pub(super) start: usize,
    pub(super) end: usize,
    pub(super) fragment: Option<Fragment>,
}

/// Position of a fragment in its datagram.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Fragment {
    pub(super) id: u32,
    /// Offset in the datagram's payload, in bytes.
    pub(super) offset: usize,
    /// Whether more fragments follow.
    pub(super) more: bool,
}

impl Header {
    /// Reads a packet's header; `None` if it is malformed.
    pub(super) fn parse(packet: &[u8]) -> Option<Self> {
        match packet.first()? >> 4 {
            4 => Self::parse_v4(packet),
            6 => Self::parse_v6(packet),
            _ => None,
        }
    }

    /// The payload's first two 16-bit words: the ports, for TCP and UDP.
    pub(super) fn ports(&self, packet: &[u8]) -> Option<(u16, u16)> {
        let bytes = packet.get(self.start..self.end)?;
        Some((word(bytes, 0)?, word(bytes, 2)?))
    }

    fn parse_v4(packet: &[u8]) -> Option<Self> {
        let ip = Ipv4Packet::new_checked(packet).ok()?;
        let (start, end) = (usize::from(ip.header_len()), usize::from(ip.total_len()));
        if start < 20 || !ip.verify_checksum() {
            return None;
        }
        let fragmented = ip.more_frags() || ip.frag_offset() != 0;
        let fragment = fragmented.then(|| Fragment {
            id: u32::from(ip.ident()),
            offset: usize::from(ip.frag_offset()),
            more: ip.more_frags(),
        });
        Some(Self {
            src: ip.src_addr().into(),
            dst: ip.dst_addr().into(),
            protocol: ip.next_header().into(),
            ttl: ip.hop_limit(),
            dscp: ip.dscp(),
            start,
            end,
            fragment,
        })
    }

    fn parse_v6(packet: &[u8]) -> Option<Self> {
        let ip = Ipv6Packet::new_checked(packet).ok()?;
        let end = IPV6_HEADER + usize::from(ip.payload_len());
        let plain = Self {
            src: ip.src_addr().into(),
            dst: ip.dst_addr().into(),
            protocol: ip.next_header().into(),
            ttl: ip.hop_limit(),
            dscp: ip.traffic_class() >> 2,
            start: IPV6_HEADER,
            end,
            fragment: None,
        };
        if plain.protocol != IPV6_FRAGMENT {
            return Some(plain);
        }
        let start = IPV6_HEADER + FRAGMENT_HEADER;
        let bytes = packet.get(IPV6_HEADER..start).filter(|_| start <= end)?;
        let (place, high, low) = (word(bytes, 2)?, word(bytes, 4)?, word(bytes, 6)?);
        let fragment = Some(Fragment {
            id: u32::from(high) << 16 | u32::from(low),
            offset: usize::from(place & 0xfff8),
            more: place & 1 != 0,
        });
        Some(Self { protocol: bytes[0], start, fragment, ..plain })
    }
}

/// The big-endian 16-bit word at byte `at`.
pub(super) fn word(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes([*bytes.get(at)?, *bytes.get(at + 1)?]))
}

/// The big-endian 32-bit word at byte `at`.
pub(super) fn long(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from(word(bytes, at)?) << 16 | u32::from(word(bytes, at + 2)?))
}

pub(super) const IPV6_HEADER: usize = 40;
pub(super) const FRAGMENT_HEADER: usize = 8;
pub(super) const IPV6_HOP_BY_HOP: u8 = 0;
pub(super) const IPV6_FRAGMENT: u8 = 44;
pub(super) const ICMP: u8 = 1;
pub(super) const TCP: u8 = 6;
pub(super) const ICMPV6: u8 = 58;
