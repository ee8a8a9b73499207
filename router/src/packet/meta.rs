//! The header fields that forwarding reads, found in one pass, and the TTL decrement.
#![forbid(unsafe_code)]

use std::net::IpAddr;

use nearhop_fib::FlowKey;

use super::checksum;
use super::ipv4::{self, Ipv4};
use super::ipv6::{self, Ipv6};
use super::quote::Upper;
use crate::verdict::Verdict;

/// The header fields that forwarding reads.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Meta {
    /// Source address.
    pub src: IpAddr,
    /// Destination address.
    pub dst: IpAddr,
    /// Bytes of the IP packet. Any bytes after it are link padding, which the caller cuts off.
    pub len: usize,
    /// Bytes before the upper layer, including IPv4 options and IPv6 extension headers.
    pub header_len: usize,
    /// Time to live, or hop limit.
    pub ttl: u8,
    /// Protocol of the upper layer. In a non-first IPv6 fragment, the protocol that its fragment
    /// header names; if that is an extension header, only the first fragment contains the upper
    /// layer.
    pub protocol: u8,
    /// Which part of a datagram this is.
    pub fragment: Fragment,
    /// Whether routers must not fragment it; always true in IPv6.
    pub dont_fragment: bool,
    /// The flow, by which its site is chosen.
    ///
    /// It has the ports of TCP, UDP, UDP-Lite, SCTP and DCCP. An echo request or reply has its
    /// identifier as source port. An ICMP error has the reversed flow of the packet it quotes, with
    /// a label of 0, or its own flow if the quoted packet cannot be read. A fragment has no ports,
    /// and the protocol that all fragments of its datagram name; but one that an error quotes has
    /// ports, if it is the first.
    pub flow: FlowKey,
}

impl Meta {
    /// Checks and reads the IP headers. Bounded work: 40 bytes of options, [`ipv6::EXTENSIONS_MAX`]
    /// extension headers, and one quoted packet with as many.
    ///
    /// # Errors
    /// The verdict to drop the packet with. Checks follow the order of RFC 1812 section 5.2.2.
    #[inline]
    pub fn parse(bytes: &[u8]) -> Result<Self, Verdict> {
        match bytes.first().map(|byte| byte >> 4) {
            Some(4) => Self::of_ipv4(bytes),
            Some(6) => Self::of_ipv6(bytes),
            Some(_) => Err(Verdict::NotIp),
            None => Err(Verdict::Truncated),
        }
    }

    #[inline]
    fn of_ipv4(bytes: &[u8]) -> Result<Self, Verdict> {
        let packet = Ipv4::parse(bytes)?;
        let upper = Upper::of_ipv4(&packet);
        Ok(Self {
            src: packet.src().into(),
            dst: packet.dst().into(),
            len: usize::from(packet.total_len()),
            header_len: packet.header_len(),
            ttl: packet.ttl(),
            protocol: packet.protocol(),
            fragment: upper.fragment,
            dont_fragment: packet.dont_fragment(),
            flow: upper.flow(),
        })
    }

    #[inline]
    fn of_ipv6(bytes: &[u8]) -> Result<Self, Verdict> {
        let packet = Ipv6::parse(bytes)?;
        let extensions = packet.extensions()?;
        if let Some(fragment) = &extensions.fragment {
            fragment.check(packet.payload().len())?;
        }
        let upper = Upper::of_ipv6(&packet, &extensions);
        Ok(Self {
            src: packet.src().into(),
            dst: packet.dst().into(),
            len: ipv6::HEADER_LEN + packet.payload().len(),
            header_len: ipv6::HEADER_LEN + extensions.len,
            ttl: packet.hop_limit(),
            protocol: extensions.protocol,
            fragment: upper.fragment,
            dont_fragment: true,
            flow: upper.flow(),
        })
    }
}

/// Which part of a datagram a packet is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Fragment {
    /// All of it.
    Whole,
    /// Its start, with the upper layer's header.
    First,
    /// A part after the start.
    Later,
}

impl Fragment {
    #[inline]
    pub(super) const fn new(offset: usize, more: bool) -> Self {
        match (offset, more) {
            (0, false) => Self::Whole,
            (0, true) => Self::First,
            _ => Self::Later,
        }
    }
}

/// Decrements the TTL or hop limit and updates the IPv4 checksum. Returns `false` and leaves the
/// packet unchanged if the result would be zero, in which case a time-exceeded is due; also for
/// bytes that [`Meta::parse`] refuses as no IP packet.
#[inline]
pub fn decrement_ttl(packet: &mut [u8]) -> bool {
    match packet.first().map(|byte| byte >> 4) {
        Some(4) => packet.first_chunk_mut().is_some_and(decrement_ipv4),
        Some(6) => packet.first_chunk_mut().is_some_and(decrement_ipv6),
        _ => false,
    }
}

#[inline]
fn decrement_ipv4(header: &mut [u8; ipv4::HEADER_LEN]) -> bool {
    let ttl = header[ipv4::TTL];
    if ttl <= 1 {
        return false;
    }
    header[ipv4::TTL] = ttl - 1;
    let sum = checksum::with_less_ttl(super::be16(header, ipv4::CHECKSUM));
    header[ipv4::CHECKSUM..ipv4::SRC].copy_from_slice(&sum.to_be_bytes());
    true
}

#[inline]
fn decrement_ipv6(header: &mut [u8; ipv6::HEADER_LEN]) -> bool {
    if header[ipv6::HOP_LIMIT] <= 1 {
        return false;
    }
    header[ipv6::HOP_LIMIT] -= 1;
    true
}

#[cfg(test)]
mod tests;
