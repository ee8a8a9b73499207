//! The packets of probes: composed, and taken apart when they come back.
#![forbid(unsafe_code)]

use std::net::{IpAddr, SocketAddr};

use super::draw::Ends;
use crate::packet::build::{Datagram, Echo};
use crate::packet::checksum;
use crate::packet::icmp::{self, Message};
use crate::packet::icmpv6;
use crate::packet::ipv4::{self, Ipv4};
use crate::packet::ipv6::{self, Ipv6};
use crate::packet::udp::{self, Udp};
use crate::packet::{Fragment, Meta, Quoted, protocol, quoted};

/// Bytes of the largest probe: what every IPv6 link carries whole (RFC 8200, section 5).
pub(super) const PROBE_MAX: usize = 1_280;

/// Bytes of the largest UDP payload of a probe, in either family.
pub(super) const PAYLOAD_MAX: usize = PROBE_MAX - 40 - udp::HEADER_LEN;

/// A packet to the router itself that a prober may have asked for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Incoming<'a> {
    pub(super) src: IpAddr,
    pub(super) dst: IpAddr,
    pub(super) body: Body<'a>,
}

impl Incoming<'_> {
    /// Ends and number of the check that it is about, whether there is one or not.
    pub(super) fn ends(&self) -> (Ends, u16) {
        let answer = |udp| Ends { source: self.dst, target: self.src, udp };
        match self.body {
            Body::Echo { ident, .. } => (answer(false), ident),
            Body::Udp { to, .. } => (answer(true), to),
            Body::Error(error) => {
                let (quoted, udp) = (&error.quoted, error.is_about_udp());
                let number = if udp { quoted.src_port } else { quoted.icmp_ident };
                (Ends { source: quoted.src, target: quoted.dst, udp }, number)
            }
        }
    }
}

/// What such a packet says; checksums were right.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Body<'a> {
    /// An echo reply.
    Echo { ident: u16, seq: u16, data: &'a [u8] },
    /// A datagram.
    Udp { from: u16, to: u16, payload: &'a [u8] },
    /// An ICMP or ICMPv6 error.
    Error(IcmpError<'a>),
}

/// An ICMP or ICMPv6 error about an echo request or a datagram.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct IcmpError<'a> {
    pub(super) quoted: Quoted,
    /// Identification of the quoted packet; 0 in IPv6.
    pub(super) ident: u16,
    /// Flow label of the quoted packet; 0 in IPv4.
    pub(super) label: u32,
    /// What follows the IP headers of the quoted packet, as far as it was quoted.
    pub(super) upper: &'a [u8],
}

impl IcmpError<'_> {
    pub(super) fn is_about_udp(&self) -> bool {
        self.quoted.protocol == protocol::UDP
    }
}

/// Writes an echo request; returns its length, or 0 if it does not fit.
pub(super) fn write_echo(
    buffer: &mut [u8],
    (src, dst): (IpAddr, IpAddr),
    (ident, seq): (u16, u16),
    data: &[u8],
) -> usize {
    Echo { src, dst, ttl: TTL, reply: false, ident, seq, data }.write(buffer).unwrap_or(0)
}

/// Writes a datagram; returns its length, or 0 if it does not fit.
pub(super) fn write_udp(
    buffer: &mut [u8],
    (source, target): (IpAddr, IpAddr),
    (from, to): (u16, u16),
    payload: &[u8],
) -> usize {
    let (src, dst) = (SocketAddr::new(source, from), SocketAddr::new(target, to));
    Datagram { src, dst, ttl: TTL, payload }.write(buffer).unwrap_or(0)
}

/// The checksum in the upper layer of a probe: of UDP, or else of an echo.
pub(super) fn upper_checksum(packet: &[u8], udp: bool) -> u16 {
    let header = if packet.first() == Some(&0x45) { ipv4::HEADER_LEN } else { ipv6::HEADER_LEN };
    let at = header + if udp { 6 } else { 2 };
    packet.get(at..at + 2).map_or(0, |sum| u16::from_be_bytes([sum[0], sum[1]]))
}

/// Gives a packet with a plain IP header the identification `ident`, which was 0, in IPv4, or the
/// flow label `label` in IPv6. An ICMP error quotes it.
pub(crate) fn stamp(packet: &mut [u8], ident: u16, label: u32) {
    let [ident_high, ident_low] = ident.to_be_bytes();
    let [_, label_high, label_middle, label_low] = label.to_be_bytes();
    match packet {
        [0x45, _, _, _, id1, id2, _, _, _, _, sum1, sum2, ..] => {
            (*id1, *id2) = (ident_high, ident_low);
            let sum = checksum::update(u16::from_be_bytes([*sum1, *sum2]), 0, ident);
            [*sum1, *sum2] = sum.to_be_bytes();
        }
        [0x60..=0x6f, first, second, third, ..] => {
            *first = *first & 0xf0 | label_high & 0xf;
            (*second, *third) = (label_middle, label_low);
        }
        _ => {}
    }
}

/// Takes a packet apart; `None` if it is nothing a probe causes, or is damaged. Fragments are not
/// put together: no answer to a probe needs them.
pub(super) fn read(packet: &[u8]) -> Option<Incoming<'_>> {
    let meta = Meta::parse(packet).ok()?;
    let (src, dst) = (meta.src, meta.dst);
    let body = packet.get(meta.header_len..meta.len)?;
    if meta.fragment != Fragment::Whole {
        return None;
    }
    let body = match (meta.protocol, src, dst) {
        (protocol::UDP, ..) => {
            let udp = Udp::parse(body).ok().filter(|udp| udp.is_valid(src, dst))?;
            Body::Udp { from: udp.src_port(), to: udp.dst_port(), payload: udp.payload() }
        }
        (protocol::ICMP, IpAddr::V4(_), _) if body.first() == Some(&icmp::ECHO_REPLY) => {
            let icmp = Message::parse(body).ok().filter(icmp::is_valid)?;
            Body::Echo { ident: icmp.ident(), seq: icmp.seq(), data: icmp.data() }
        }
        (protocol::ICMPV6, IpAddr::V6(src), IpAddr::V6(dst))
            if body.first() == Some(&icmpv6::ECHO_REPLY) =>
        {
            let icmp =
                Message::parse(body).ok().filter(|message| icmpv6::is_valid(message, src, dst))?;
            Body::Echo { ident: icmp.ident(), seq: icmp.seq(), data: icmp.data() }
        }
        _ => Body::Error(read_error(packet, &meta, body)?),
    };
    Some(Incoming { src, dst, body })
}

fn read_error<'a>(packet: &[u8], meta: &Meta, body: &'a [u8]) -> Option<IcmpError<'a>> {
    let quoted = quoted(packet, meta)?;
    if !quoted.echo_request && quoted.protocol != protocol::UDP {
        return None;
    }
    let quote = body.get(icmp::HEADER_LEN..)?;
    if meta.src.is_ipv4() {
        let packet = Ipv4::parse_quoted(quote).ok()?;
        Some(IcmpError { quoted, ident: packet.ident(), label: 0, upper: packet.payload() })
    } else {
        let packet = Ipv6::parse_quoted(quote).ok()?;
        let upper = packet.payload().get(packet.extensions().ok()?.len..)?;
        Some(IcmpError { quoted, ident: 0, label: packet.flow_label(), upper })
    }
}

const TTL: u8 = 64;
