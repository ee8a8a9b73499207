//! Packets as bytes: checked views, the fields that forwarding needs, and packets the router makes.
//!
//! Everything here is pure: functions take bytes and values, return values, and allocate nothing.
//! `parse` checks every length once; afterwards no accessor can panic, whatever the bytes contain.
//! A packet that fails a check yields the [`Verdict`](crate::verdict::Verdict) under which it is
//! dropped and counted.
//!
//! * [`Meta::parse`] and [`decrement_ttl`]: what forwarding needs, in one pass over the headers.
//! * [`Plain`]: the same for the common case, a whole packet with ports and without options.
//! * [`ipv4`], [`ipv6`], [`icmp`], [`icmpv6`], [`udp`], [`tcp`]: views, one file for each protocol.
//! * [`checksum`]: the Internet checksum, in full and incremental.
//! * [`martian`]: addresses that are never forwarded.
//! * [`error`]: ICMP and ICMPv6 errors, and when they may be sent; [`fragment`]: IPv4 fragments.
//! * [`offload`]: partial checksums and superframes; completing, segmenting and joining packets.
//! * [`origin`]: fragmentation and MSS clamping of the router's own packets.
//! * [`discovery`]: solicitations and advertisements of routers.
//! * [`build`]: probes; [`quote`]: which packet an ICMP error is about.
#![forbid(unsafe_code)]

pub mod build;
pub mod checksum;
pub mod discovery;
mod envelope;
pub mod error;
pub mod fragment;
pub mod icmp;
pub mod icmpv6;
pub mod ipv4;
pub mod ipv6;
pub mod martian;
mod meta;
pub mod offload;
pub mod origin;
mod plain;
pub mod quote;
#[cfg(test)]
pub(crate) mod samples;
pub mod tcp;
pub mod udp;

pub use meta::{Fragment, Meta, decrement_ttl};
pub use plain::Plain;
pub use quote::{Quoted, quoted};

/// The destination in the header of an IP packet; `None` if the header is cut off.
pub fn destination(packet: &[u8]) -> Option<std::net::IpAddr> {
    if packet.first()? >> 4 == 6 {
        let bytes: &[u8; 16] = packet.get(ipv6::DST..ipv6::HEADER_LEN)?.first_chunk()?;
        return Some((*bytes).into());
    }
    let bytes: &[u8; 4] = packet.get(ipv4::DST..ipv4::HEADER_LEN)?.first_chunk()?;
    Some((*bytes).into())
}

/// Numbers of the IP protocols whose headers this module reads.
pub mod protocol {
    /// IPv6 hop-by-hop options (RFC 8200).
    pub const HOP_BY_HOP: u8 = 0;
    /// ICMP (RFC 792); an upper layer in IPv4 only.
    pub const ICMP: u8 = 1;
    /// TCP (RFC 9293).
    pub const TCP: u8 = 6;
    /// UDP (RFC 768).
    pub const UDP: u8 = 17;
    /// DCCP (RFC 4340).
    pub const DCCP: u8 = 33;
    /// IPv6 routing header (RFC 8200).
    pub const ROUTING: u8 = 43;
    /// IPv6 fragment header (RFC 8200).
    pub const FRAGMENT: u8 = 44;
    /// Authentication header (RFC 4302); walked in IPv6 only.
    pub const AUTHENTICATION: u8 = 51;
    /// ICMPv6 (RFC 4443); an upper layer in IPv6 only.
    pub const ICMPV6: u8 = 58;
    /// IPv6 destination options (RFC 8200).
    pub const DESTINATION_OPTIONS: u8 = 60;
    /// SCTP (RFC 9260).
    pub const SCTP: u8 = 132;
    /// UDP-Lite (RFC 3828).
    pub const UDP_LITE: u8 = 136;

    /// Whether the protocol's header begins with two ports, which are then part of the flow.
    #[inline]
    pub const fn has_ports(protocol: u8) -> bool {
        matches!(protocol, TCP | UDP | UDP_LITE | SCTP | DCCP)
    }

    /// Whether `protocol` is the ICMP of its family. The identifier of its echoes serves as source
    /// port.
    #[inline]
    pub const fn is_icmp(protocol: u8, ipv6: bool) -> bool {
        protocol == if ipv6 { ICMPV6 } else { ICMP }
    }
}

/// The 16 bits at offset `at`, all of them within the array.
#[inline]
const fn be16<const N: usize>(bytes: &[u8; N], at: usize) -> u16 {
    u16::from_be_bytes([bytes[at], bytes[at + 1]])
}

/// The 32 bits at offset `at`, all of them within the array.
#[inline]
const fn be32<const N: usize>(bytes: &[u8; N], at: usize) -> u32 {
    u32::from_be_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}
