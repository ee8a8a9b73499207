//! What targets and routers on the way send back, made by smoltcp.

use std::net::IpAddr;

use smoltcp::phy::ChecksumCapabilities;
use smoltcp::wire::{
    Icmpv4Packet, Icmpv4Repr, Icmpv6Packet, Icmpv6Repr, IpProtocol, IpRepr, Ipv4Packet, Ipv6Packet,
    UdpPacket, UdpRepr,
};

/// An IP packet made by smoltcp.
pub(super) fn ip(
    src: IpAddr,
    dst: IpAddr,
    protocol: IpProtocol,
    len: usize,
    fill: impl FnOnce(&mut [u8]),
) -> Vec<u8> {
    let repr = IpRepr::new(src.into(), dst.into(), protocol, len, 61);
    let mut packet = vec![0; repr.buffer_len()];
    repr.emit(&mut packet[..], &ChecksumCapabilities::default());
    fill(&mut packet[repr.header_len()..]);
    packet
}

pub(super) fn ends(packet: &[u8]) -> (IpAddr, IpAddr, IpProtocol, Vec<u8>) {
    if packet[0] >> 4 == 4 {
        let ip = Ipv4Packet::new_checked(packet).unwrap();
        assert!(ip.verify_checksum());
        (ip.src_addr().into(), ip.dst_addr().into(), ip.next_header(), ip.payload().to_vec())
    } else {
        let ip = Ipv6Packet::new_checked(packet).unwrap();
        (ip.src_addr().into(), ip.dst_addr().into(), ip.next_header(), ip.payload().to_vec())
    }
}

pub(super) fn udp_packet(
    src: IpAddr,
    dst: IpAddr,
    (from, to): (u16, u16),
    payload: &[u8],
) -> Vec<u8> {
    let repr = UdpRepr { src_port: from, dst_port: to };
    ip(src, dst, IpProtocol::Udp, 8 + payload.len(), |bytes| {
        repr.emit(
            &mut UdpPacket::new_unchecked(bytes),
            &src.into(),
            &dst.into(),
            payload.len(),
            |at| at.copy_from_slice(payload),
            &ChecksumCapabilities::default(),
        );
    })
}

pub(super) fn echo_reply(
    src: IpAddr,
    dst: IpAddr,
    ident: u16,
    seq_no: u16,
    data: &[u8],
) -> Vec<u8> {
    let checksums = ChecksumCapabilities::default();
    let (IpAddr::V6(src6), IpAddr::V6(dst6)) = (src, dst) else {
        let repr = Icmpv4Repr::EchoReply { ident, seq_no, data };
        return ip(src, dst, IpProtocol::Icmp, repr.buffer_len(), |bytes| {
            repr.emit(&mut Icmpv4Packet::new_unchecked(bytes), &checksums);
        });
    };
    let repr = Icmpv6Repr::EchoReply { ident, seq_no, data };
    ip(src, dst, IpProtocol::Icmpv6, repr.buffer_len(), |bytes| {
        repr.emit(&src6, &dst6, &mut Icmpv6Packet::new_unchecked(bytes), &checksums);
    })
}

/// What a well target answers, by an implementation that is not ours.
pub(super) fn answer(request: &[u8]) -> Vec<u8> {
    let (src, dst, protocol, body) = ends(request);
    match protocol {
        IpProtocol::Udp => {
            let udp = UdpPacket::new_checked(&body[..]).unwrap();
            assert!(udp.verify_checksum(&src.into(), &dst.into()));
            let mut payload = udp.payload().to_vec();
            if udp.dst_port() == 53 {
                payload[2] |= 0x80;
            }
            udp_packet(dst, src, (udp.dst_port(), udp.src_port()), &payload)
        }
        IpProtocol::Icmp => {
            let icmp = Icmpv4Packet::new_checked(&body[..]).unwrap();
            assert!(icmp.verify_checksum());
            echo_reply(dst, src, icmp.echo_ident(), icmp.echo_seq_no(), icmp.data())
        }
        _ => {
            let icmp = Icmpv6Packet::new_checked(&body[..]).unwrap();
            let (IpAddr::V6(src6), IpAddr::V6(dst6)) = (src, dst) else { panic!() };
            assert!(icmp.verify_checksum(&src6, &dst6));
            echo_reply(dst, src, icmp.echo_ident(), icmp.echo_seq_no(), icmp.payload())
        }
    }
}

/// An ICMP or ICMPv6 error `kind` from `from` about `request`, which quotes `keep` bytes after its
/// IP header, byte by byte as they were sent.
pub(super) fn error(request: &[u8], from: IpAddr, (kind, code): (u8, u8), keep: usize) -> Vec<u8> {
    let (src, _, _, body) = ends(request);
    let quote = &request[..request.len() - body.len() + keep.min(body.len())];
    let protocol = if src.is_ipv4() { IpProtocol::Icmp } else { IpProtocol::Icmpv6 };
    ip(from, src, protocol, 8 + quote.len(), |bytes| {
        bytes[..2].copy_from_slice(&[kind, code]);
        bytes[8..].copy_from_slice(quote);
        match (from, src) {
            (IpAddr::V6(from), IpAddr::V6(src)) => {
                Icmpv6Packet::new_unchecked(bytes).fill_checksum(&from, &src);
            }
            _ => Icmpv4Packet::new_unchecked(bytes).fill_checksum(),
        }
    })
}

/// What a kernel without a server answers: port unreachable, from the target itself.
pub(super) fn refusal(request: &[u8], keep: usize) -> Vec<u8> {
    let (_, target, ..) = ends(request);
    error(request, target, if target.is_ipv4() { (3, 3) } else { (1, 4) }, keep)
}
