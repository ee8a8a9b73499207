//! Packets as bytes: checked views, what forwarding needs of a packet, and packets made here.
//!
//! Everything is pure: bytes and values in, values out, nothing allocated. The rule of the module:
//! a `parse` checks every length once, and after it no accessor can panic, whatever the bytes say.
//! A packet that fails a check is answered with the [`Verdict`](crate::verdict::Verdict) it is
//! dropped and counted by.
//!
//! * [`Meta::parse`] and [`decrement_ttl`]: what forwarding needs, in one pass over the headers; and
//!   [`Plain`], for packets like nearly all.
//! * [`ipv4`], [`ipv6`], [`icmp`], [`icmpv6`], [`udp`], [`tcp`]: views, one protocol a file.
//! * [`checksum`]: the Internet checksum, whole and incremental.
//! * [`martian`]: addresses that are never forwarded.
//! * [`error`]: ICMP and ICMPv6 errors, and when they may be sent; [`fragment`]: IPv4 fragments.
//! * [`offload`]: checksums left out, superframes, and how they are made and taken apart.
//! * [`origin`]: what is done to the router's own packets: fragments, TCP's segment size.
//! * [`build`]: probes; [`quote`]: which probe an ICMP error speaks of.
#![forbid(unsafe_code)]

pub mod build;
pub mod checksum;
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

/// IP protocol numbers that this module looks into.
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

    /// Whether its header begins with two ports, which then are part of a packet's flow.
    #[inline]
    pub const fn has_ports(protocol: u8) -> bool {
        matches!(protocol, TCP | UDP | UDP_LITE | SCTP | DCCP)
    }

    /// Whether it is the ICMP of its family, whose echoes have their identifier for a source port.
    #[inline]
    pub const fn is_icmp(protocol: u8, ipv6: bool) -> bool {
        protocol == if ipv6 { ICMPV6 } else { ICMP }
    }
}

/// The 16 bits at `at`, which must lie within the array.
#[inline]
const fn be16<const N: usize>(bytes: &[u8; N], at: usize) -> u16 {
    u16::from_be_bytes([bytes[at], bytes[at + 1]])
}

/// The 32 bits at `at`, which must lie within the array.
#[inline]
const fn be32<const N: usize>(bytes: &[u8; N], at: usize) -> u32 {
    u32::from_be_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}
