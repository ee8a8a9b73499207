//! The packets of probes: composed, and taken apart when they come back.
#![forbid(unsafe_code)]

use std::net::IpAddr;

use smoltcp::phy::ChecksumCapabilities;
use smoltcp::wire::{
    Icmpv4Packet, Icmpv4Repr, Icmpv6Packet, Icmpv6Repr, IpProtocol, IpRepr, Ipv4Packet, Ipv6Packet,
    UdpPacket, UdpRepr,
};

/// Bytes of the largest probe: what every IPv6 link carries whole (RFC 8200, section 5).
pub(super) const PROBE_MAX: usize = 1_280;

/// Bytes of the largest UDP payload of a probe, in either family.
pub(super) const PAYLOAD_MAX: usize = PROBE_MAX - 40 - 8;

/// A packet to the router itself that a prober may have asked for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Incoming<'a> {
    pub(super) src: IpAddr,
    pub(super) dst: IpAddr,
    pub(super) body: Body<'a>,
}

/// What such a packet says; checksums were right.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Body<'a> {
    /// An echo reply.
    Echo { ident: u16, seq: u16, data: &'a [u8] },
    /// A datagram.
    Udp { from: u16, to: u16, payload: &'a [u8] },
    /// An ICMP or ICMPv6 error about a packet of ours.
    Error { error: IcmpError, quoted: Quoted<'a> },
}

/// An ICMP or ICMPv6 error's type and code.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct IcmpError {
    pub(super) kind: u8,
    pub(super) code: u8,
    /// Whether it says that packets do not arrive (unreachable, time exceeded), not only that they
    /// were too large or not liked.
    pub(super) fatal: bool,
}

/// The packet that an error quotes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Quoted<'a> {
    pub(super) src: IpAddr,
    pub(super) dst: IpAddr,
    pub(super) body: QuotedBody<'a>,
}

/// As much of it as an error must quote (RFC 792, 8 bytes), and what is more.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum QuotedBody<'a> {
    /// An echo request.
    Echo { ident: u16, seq: u16 },
    /// A datagram; the payload may be cut, or missing.
    Udp { from: u16, to: u16, payload: &'a [u8] },
}

/// Writes an echo request; returns its length, or 0 if the families differ or it does not fit.
pub(super) fn write_echo(
    buffer: &mut [u8],
    (source, target): (IpAddr, IpAddr),
    (ident, seq): (u16, u16),
    data: &[u8],
) -> usize {
    let checksums = ChecksumCapabilities::default();
    match (source, target) {
        (IpAddr::V4(_), IpAddr::V4(_)) => {
            let repr = Icmpv4Repr::EchoRequest { ident, seq_no: seq, data };
            let pair = (source, target);
            write_ip(buffer, pair, IpProtocol::Icmp, repr.buffer_len(), |payload| {
                repr.emit(&mut Icmpv4Packet::new_unchecked(payload), &checksums);
            })
        }
        (IpAddr::V6(src), IpAddr::V6(dst)) => {
            let repr = Icmpv6Repr::EchoRequest { ident, seq_no: seq, data };
            let pair = (source, target);
            write_ip(buffer, pair, IpProtocol::Icmpv6, repr.buffer_len(), |payload| {
                let mut packet = Icmpv6Packet::new_unchecked(payload);
                repr.emit(&src, &dst, &mut packet, &checksums);
            })
        }
        _ => 0,
    }
}

/// Writes a datagram whose payload of `len` bytes `fill` writes; returns its length, or 0 if the
/// families differ or it does not fit.
pub(super) fn write_udp(
    buffer: &mut [u8],
    (source, target): (IpAddr, IpAddr),
    (from, to): (u16, u16),
    len: usize,
    fill: impl FnOnce(&mut [u8]),
) -> usize {
    let repr = UdpRepr { src_port: from, dst_port: to };
    let pair = (source, target);
    write_ip(buffer, pair, IpProtocol::Udp, repr.header_len() + len, |payload| {
        let mut packet = UdpPacket::new_unchecked(payload);
        let checksums = ChecksumCapabilities::default();
        repr.emit(&mut packet, &source.into(), &target.into(), len, fill, &checksums);
    })
}

/// Takes a packet apart; `None` if it is nothing a probe causes, or is damaged. Fragments and
/// IPv6 extension headers are not followed: no answer to a probe needs them.
pub(super) fn read(packet: &[u8]) -> Option<Incoming<'_>> {
    match packet.first()? >> 4 {
        4 => read_v4(packet),
        6 => read_v6(packet),
        _ => None,
    }
}

fn write_ip(
    buffer: &mut [u8],
    (source, target): (IpAddr, IpAddr),
    protocol: IpProtocol,
    len: usize,
    fill: impl FnOnce(&mut [u8]),
) -> usize {
    if source.is_ipv4() != target.is_ipv4() {
        return 0;
    }
    let repr = IpRepr::new(source.into(), target.into(), protocol, len, HOP_LIMIT);
    let Some(packet) = buffer.get_mut(..repr.buffer_len()) else { return 0 };
    repr.emit(&mut *packet, &ChecksumCapabilities::default());
    fill(&mut packet[repr.header_len()..]);
    packet.len()
}

fn read_v4(packet: &[u8]) -> Option<Incoming<'_>> {
    let ip = Ipv4Packet::new_checked(packet).ok()?;
    if !ip.verify_checksum() || ip.more_frags() || ip.frag_offset() != 0 {
        return None;
    }
    let (src, dst) = (IpAddr::V4(ip.src_addr()), IpAddr::V4(ip.dst_addr()));
    let body = match ip.next_header() {
        IpProtocol::Icmp => {
            let icmp = Icmpv4Packet::new_checked(ip.payload()).ok()?;
            icmp.verify_checksum().then(|| read_icmpv4(ip.payload())).flatten()?
        }
        IpProtocol::Udp => read_udp(src, dst, ip.payload())?,
        _ => return None,
    };
    Some(Incoming { src, dst, body })
}

fn read_v6(packet: &[u8]) -> Option<Incoming<'_>> {
    let ip = Ipv6Packet::new_checked(packet).ok()?;
    let (src, dst) = (IpAddr::V6(ip.src_addr()), IpAddr::V6(ip.dst_addr()));
    let body = match ip.next_header() {
        IpProtocol::Icmpv6 => {
            let icmp = Icmpv6Packet::new_checked(ip.payload()).ok()?;
            let valid = icmp.verify_checksum(&ip.src_addr(), &ip.dst_addr());
            valid.then(|| read_icmpv6(ip.payload())).flatten()?
        }
        IpProtocol::Udp => read_udp(src, dst, ip.payload())?,
        _ => return None,
    };
    Some(Incoming { src, dst, body })
}

fn read_udp(src: IpAddr, dst: IpAddr, bytes: &[u8]) -> Option<Body<'_>> {
    let udp = UdpPacket::new_checked(bytes).ok()?;
    // RFC 8200, section 8.1: no datagram without a checksum in IPv6.
    let summed = src.is_ipv4() || udp.checksum() != 0;
    if !summed || !udp.verify_checksum(&src.into(), &dst.into()) {
        return None;
    }
    Some(Body::Udp { from: udp.src_port(), to: udp.dst_port(), payload: udp.payload() })
}

fn read_icmpv4(bytes: &[u8]) -> Option<Body<'_>> {
    let (kind, code) = (*bytes.first()?, *bytes.get(1)?);
    let fatal = match (kind, code) {
        (0, 0) => return read_echo(bytes),
        (3, 4) | (12, _) => false,
        (3 | 11, _) => true,
        _ => return None,
    };
    let quoted = read_quoted_v4(bytes.get(8..)?)?;
    Some(Body::Error { error: IcmpError { kind, code, fatal }, quoted })
}

fn read_icmpv6(bytes: &[u8]) -> Option<Body<'_>> {
    let (kind, code) = (*bytes.first()?, *bytes.get(1)?);
    let fatal = match (kind, code) {
        (129, 0) => return read_echo(bytes),
        (1 | 3, _) => true,
        (2 | 4, _) => false,
        _ => return None,
    };
    let quoted = read_quoted_v6(bytes.get(8..)?)?;
    Some(Body::Error { error: IcmpError { kind, code, fatal }, quoted })
}

fn read_echo(bytes: &[u8]) -> Option<Body<'_>> {
    Some(Body::Echo { ident: word(bytes, 4)?, seq: word(bytes, 6)?, data: bytes.get(8..)? })
}

/// The quoted packet's total length and checksum may have changed on its way, so they are not
/// looked at.
fn read_quoted_v4(bytes: &[u8]) -> Option<Quoted<'_>> {
    let header = bytes.get(..20)?;
    let header_len = usize::from(header[0] & 0xf) * 4;
    if header[0] >> 4 != 4 || header_len < 20 || word(header, 6)? & 0x1fff != 0 {
        return None;
    }
    let address = |at: usize| <[u8; 4]>::try_from(&header[at..at + 4]).ok().map(IpAddr::from);
    let rest = bytes.get(header_len..)?;
    let body = match header[9] {
        1 => read_quoted_echo(rest, ECHO_REQUEST_V4)?,
        17 => read_quoted_udp(rest)?,
        _ => return None,
    };
    Some(Quoted { src: address(12)?, dst: address(16)?, body })
}

fn read_quoted_v6(bytes: &[u8]) -> Option<Quoted<'_>> {
    let header = bytes.get(..40)?;
    if header[0] >> 4 != 6 {
        return None;
    }
    let address = |at: usize| <[u8; 16]>::try_from(&header[at..at + 16]).ok().map(IpAddr::from);
    let rest = bytes.get(40..)?;
    let body = match header[6] {
        58 => read_quoted_echo(rest, ECHO_REQUEST_V6)?,
        17 => read_quoted_udp(rest)?,
        _ => return None,
    };
    Some(Quoted { src: address(8)?, dst: address(24)?, body })
}

fn read_quoted_echo(bytes: &[u8], kind: u8) -> Option<QuotedBody<'_>> {
    if bytes.first() != Some(&kind) {
        return None;
    }
    Some(QuotedBody::Echo { ident: word(bytes, 4)?, seq: word(bytes, 6)? })
}

fn read_quoted_udp(bytes: &[u8]) -> Option<QuotedBody<'_>> {
    let payload = bytes.get(8..)?;
    Some(QuotedBody::Udp { from: word(bytes, 0)?, to: word(bytes, 2)?, payload })
}

fn word(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes([*bytes.get(at)?, *bytes.get(at + 1)?]))
}

const HOP_LIMIT: u8 = 64;
const ECHO_REQUEST_V4: u8 = 8;
const ECHO_REQUEST_V6: u8 = 128;
