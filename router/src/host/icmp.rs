//! Echo replies, and checksums of ICMP messages to the router.
#![forbid(unsafe_code)]

use std::net::IpAddr;

use smoltcp::phy::ChecksumCapabilities;
use smoltcp::wire::{
    Icmpv4Packet, Icmpv4Repr, Icmpv6Packet, Icmpv6Repr, IpProtocol, IpRepr, Ipv4Packet, Ipv6Packet,
};

use super::header::{Header, ICMP, ICMPV6};

/// Whether this is an ICMP message (ICMPv6 in IPv6) with a valid checksum.
pub(super) fn is_valid(packet: &[u8], header: &Header) -> bool {
    let body = &packet[header.start..header.end];
    match (header.src, header.dst) {
        (IpAddr::V4(_), IpAddr::V4(_)) if header.protocol == ICMP => {
            body.len() >= 8 && Icmpv4Packet::new_unchecked(body).verify_checksum()
        }
        (IpAddr::V6(src), IpAddr::V6(dst)) if header.protocol == ICMPV6 => {
            body.len() >= 8 && Icmpv6Packet::new_unchecked(body).verify_checksum(&src, &dst)
        }
        _ => false,
    }
}

/// The reply to an echo request (RFC 1122, section 3.2.2.6; RFC 4443, section 4.2): the same
/// identifier, sequence number, data and code point (RFC 1812, section 4.3.2.5), the router's own TTL, no IP options. In IPv4, DF is clear,
/// so that the reply to a large request can be fragmented.
pub(super) fn echo_reply(packet: &[u8], header: &Header, id: u16) -> Option<Vec<u8>> {
    let body = packet.get(header.start..header.end)?;
    let &[kind, 0, _, _, i0, i1, s0, s1, ref data @ ..] = body else { return None };
    let (ident, seq_no) = (u16::from_be_bytes([i0, i1]), u16::from_be_bytes([s0, s1]));
    let checksums = ChecksumCapabilities::default();
    let ip =
        |protocol, len| IpRepr::new(header.dst.into(), header.src.into(), protocol, len, HOP_LIMIT);
    match (header.dst, header.src, kind) {
        (IpAddr::V4(_), IpAddr::V4(_), 8) => {
            let icmp = Icmpv4Repr::EchoReply { ident, seq_no, data };
            let ip = ip(IpProtocol::Icmp, icmp.buffer_len());
            let mut reply = vec![0; ip.buffer_len()];
            ip.emit(&mut reply[..], &checksums);
            icmp.emit(&mut Icmpv4Packet::new_unchecked(&mut reply[ip.header_len()..]), &checksums);
            let mut view = Ipv4Packet::new_unchecked(&mut reply[..]);
            view.clear_flags();
            view.set_ident(id);
            view.set_dscp(header.dscp);
            view.fill_checksum();
            Some(reply)
        }
        (IpAddr::V6(src), IpAddr::V6(dst), 128) => {
            let icmp = Icmpv6Repr::EchoReply { ident, seq_no, data };
            let ip = ip(IpProtocol::Icmpv6, icmp.buffer_len());
            let mut reply = vec![0; ip.buffer_len()];
            ip.emit(&mut reply[..], &checksums);
            Ipv6Packet::new_unchecked(&mut reply[..]).set_traffic_class(header.dscp << 2);
            let mut view = Icmpv6Packet::new_unchecked(&mut reply[ip.header_len()..]);
            icmp.emit(&src, &dst, &mut view, &checksums);
            Some(reply)
        }
        _ => None,
    }
}

const HOP_LIMIT: u8 = 64;
