//! Packets built by this crate, read by smoltcp's checked parsers.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, reason = "a failed unwrap fails the test")]

mod packet_support;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use nearhop::packet::build::{Datagram, Echo};
use nearhop::packet::error::{self, ErrorKind, may_answer};
use nearhop::packet::{Meta, decrement_ttl, quoted};
use packet_support::payload;
use proptest::prelude::*;
use smoltcp::phy::ChecksumCapabilities;
use smoltcp::wire::{
    Icmpv4DstUnreachable, Icmpv4Packet, Icmpv4ParamProblem, Icmpv4Repr, Icmpv4TimeExceeded,
    Icmpv6DstUnreachable, Icmpv6Packet, Icmpv6ParamProblem, Icmpv6Repr, Icmpv6TimeExceeded,
    IpProtocol, Ipv4Packet, Ipv4Repr, Ipv6Packet, Ipv6Repr, UdpPacket, UdpRepr,
};

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn echoes(
        addresses in addresses(), ttl: u8, reply: bool, ident: u16, seq: u16, data in payload()
    ) {
        let (src, dst) = addresses;
        let mut out = [0xee; 300];
        let echo = Echo { src, dst, ttl, reply, ident, seq, data: &data };
        let len = echo.write(&mut out).unwrap();
        let message = upper(&out[..len], src, dst, ttl)?;
        let data = &data[..];
        if src.is_ipv4() {
            let want = if reply {
                Icmpv4Repr::EchoReply { ident, seq_no: seq, data }
            } else {
                Icmpv4Repr::EchoRequest { ident, seq_no: seq, data }
            };
            prop_assert_eq!(icmpv4(message), want);
        } else {
            let want = if reply {
                Icmpv6Repr::EchoReply { ident, seq_no: seq, data }
            } else {
                Icmpv6Repr::EchoRequest { ident, seq_no: seq, data }
            };
            prop_assert_eq!(icmpv6(message, src, dst), want);
        }
    }

    #[test]
    fn datagrams(
        addresses in addresses(), ttl: u8, src_port: u16, dst_port in 1..=u16::MAX,
        payload in payload(),
    ) {
        let (src, dst) = addresses;
        let mut out = [0xee; 300];
        let (from, to) = ((src, src_port).into(), (dst, dst_port).into());
        let len = Datagram { src: from, dst: to, ttl, payload: &payload }.write(&mut out).unwrap();
        let packet = UdpPacket::new_checked(upper(&out[..len], src, dst, ttl)?).unwrap();
        let checked = ChecksumCapabilities::default();
        let repr = UdpRepr::parse(&packet, &src.into(), &dst.into(), &checked).unwrap();
        prop_assert_ne!(packet.checksum(), 0);
        prop_assert_eq!(repr, UdpRepr { src_port, dst_port });
        prop_assert_eq!(packet.payload(), &payload[..]);
    }

    #[test]
    fn errors(
        addresses in addresses(), source in addresses(), kind in kinds(), sport: u16, dport: u16,
        size in 0..2000usize, padding in 0..50usize,
    ) {
        let (src, dst) = addresses;
        let source = if src.is_ipv4() == source.0.is_ipv4() { source.0 } else { dst };
        let mut offender = vec![0; 2100];
        let payload = vec![7; size];
        let (from, to) = ((src, sport).into(), (dst, dport).into());
        let datagram = Datagram { src: from, dst: to, ttl: 1, payload: &payload };
        let len = datagram.write(&mut offender).unwrap();
        offender.resize(len + padding, 0xee);

        let mut out = [0xee; error::ERROR_MAX];
        let made = error::build(kind, &offender, source, 0, &mut out).unwrap();
        let made = &out[..made];
        let message = upper(made, source, src, 64)?;
        if src.is_ipv4() {
            same_as_icmpv4(kind, message, &offender[..len])?;
        } else {
            same_as_icmpv6(kind, message, source, src, &offender[..len])?;
        }
        let meta = Meta::parse(made).unwrap();
        prop_assert!(!may_answer(ErrorKind::TimeExceeded, made, &meta), "errors are not answered");
        let found = quoted(made, &meta).unwrap();
        prop_assert_eq!((found.src, found.dst, found.protocol), (src, dst, 17));
        prop_assert_eq!((found.src_port, found.dst_port), (sport, dport));
    }

    #[test]
    fn a_decremented_header_is_as_good_as_new(bytes in packet_support::ipv4()) {
        let mut ours = bytes.clone();
        let mut theirs = bytes;
        let ttl = Ipv4Packet::new_unchecked(&ours[..]).hop_limit();
        prop_assert_eq!(decrement_ttl(&mut ours), ttl > 1);
        if ttl > 1 {
            let mut packet = Ipv4Packet::new_unchecked(&mut theirs[..]);
            packet.set_hop_limit(ttl - 1);
            packet.fill_checksum();
        }
        prop_assert_eq!(ours, theirs);
    }
}

/// The payload of an IP packet that smoltcp accepts.
fn upper(packet: &[u8], src: IpAddr, dst: IpAddr, ttl: u8) -> Result<&[u8], TestCaseError> {
    let checked = ChecksumCapabilities::default();
    match (src, dst) {
        (IpAddr::V4(src), IpAddr::V4(dst)) => {
            let view = Ipv4Packet::new_checked(packet).unwrap();
            let repr = Ipv4Repr::parse(&view, &checked).unwrap();
            prop_assert_eq!((repr.src_addr, repr.dst_addr, repr.hop_limit), (src, dst, ttl));
            prop_assert_eq!(usize::from(view.total_len()), packet.len());
            prop_assert!(!view.more_frags() && view.frag_offset() == 0);
            Ok(view.payload())
        }
        (IpAddr::V6(src), IpAddr::V6(dst)) => {
            let view = Ipv6Packet::new_checked(packet).unwrap();
            let repr = Ipv6Repr::parse(&view).unwrap();
            prop_assert_eq!((repr.src_addr, repr.dst_addr, repr.hop_limit), (src, dst, ttl));
            prop_assert_eq!(view.total_len(), packet.len());
            prop_assert_eq!(view.flow_label(), 0);
            Ok(view.payload())
        }
        _ => Err(TestCaseError::fail("two families")),
    }
}

fn icmpv4(message: &[u8]) -> Icmpv4Repr<'_> {
    let packet = Icmpv4Packet::new_checked(message).unwrap();
    Icmpv4Repr::parse(&packet, &ChecksumCapabilities::default()).unwrap()
}

fn icmpv6(message: &[u8], src: IpAddr, dst: IpAddr) -> Icmpv6Repr<'_> {
    let (IpAddr::V6(src), IpAddr::V6(dst)) = (src, dst) else { panic!("not IPv6") };
    let packet = Icmpv6Packet::new_checked(message).unwrap();
    Icmpv6Repr::parse(&src, &dst, &packet, &ChecksumCapabilities::default()).unwrap()
}

fn same_as_icmpv4(kind: ErrorKind, message: &[u8], offender: &[u8]) -> Result<(), TestCaseError> {
    use Icmpv4DstUnreachable as Unreachable;
    let quote = &message[8..];
    prop_assert!(quote.len() == offender.len().min(548) && offender.starts_with(quote));
    let packet = Icmpv4Packet::new_checked(message).unwrap();
    prop_assert!(packet.verify_checksum());
    let (kind, code) = match kind {
        ErrorKind::AdminProhibited => (3, Unreachable::CommProhibited.into()),
        ErrorKind::HostUnreachable => (3, Unreachable::HostUnreachable.into()),
        ErrorKind::NetUnreachable => (3, Unreachable::NetUnreachable.into()),
        ErrorKind::PortUnreachable => (3, Unreachable::PortUnreachable.into()),
        ErrorKind::ProtocolUnreachable { .. } => (3, Unreachable::ProtoUnreachable.into()),
        ErrorKind::TooBig { mtu } => {
            prop_assert_eq!(u32::from(packet.echo_seq_no()), mtu.min(65_535));
            (3, Unreachable::FragRequired.into())
        }
        ErrorKind::TimeExceeded => (11, Icmpv4TimeExceeded::TtlExpired.into()),
        ErrorKind::BadHeader { pointer } | ErrorKind::UnknownOption { pointer } => {
            prop_assert_eq!(packet.echo_ident().to_be_bytes(), [pointer as u8, 0]);
            (12, Icmpv4ParamProblem::AtPointer.into())
        }
    };
    prop_assert_eq!((u8::from(packet.msg_type()), packet.msg_code()), (kind, code));
    if matches!(kind, 3 | 11) && quote.len() == offender.len() {
        let (Icmpv4Repr::DstUnreachable { header, data, .. }
        | Icmpv4Repr::TimeExceeded { header, data, .. }) = icmpv4(message)
        else {
            return Err(TestCaseError::fail("another message"));
        };
        let whole = Ipv4Packet::new_checked(offender).unwrap();
        prop_assert_eq!((header.src_addr, header.dst_addr), (whole.src_addr(), whole.dst_addr()));
        prop_assert_eq!(data, whole.payload());
    }
    Ok(())
}

fn same_as_icmpv6(
    kind: ErrorKind,
    message: &[u8],
    src: IpAddr,
    dst: IpAddr,
    offender: &[u8],
) -> Result<(), TestCaseError> {
    use Icmpv6DstUnreachable as Unreachable;
    let quote = &message[8..];
    prop_assert!(quote.len() == offender.len().min(1232) && offender.starts_with(quote));
    let unreachable = |wanted: Unreachable| match icmpv6(message, src, dst) {
        Icmpv6Repr::DstUnreachable { reason, .. } => reason == wanted,
        _ => false,
    };
    let problem = |wanted: Icmpv6ParamProblem, at: u32| match icmpv6(message, src, dst) {
        Icmpv6Repr::ParamProblem { reason, pointer, .. } => reason == wanted && pointer == at,
        _ => false,
    };
    let right = match kind {
        ErrorKind::AdminProhibited => unreachable(Unreachable::AdminProhibit),
        ErrorKind::HostUnreachable => unreachable(Unreachable::AddrUnreachable),
        ErrorKind::NetUnreachable => unreachable(Unreachable::NoRoute),
        ErrorKind::PortUnreachable => unreachable(Unreachable::PortUnreachable),
        ErrorKind::ProtocolUnreachable { pointer } => {
            problem(Icmpv6ParamProblem::UnrecognizedNxtHdr, pointer)
        }
        ErrorKind::TooBig { mtu: wanted } => match icmpv6(message, src, dst) {
            Icmpv6Repr::PktTooBig { mtu, .. } => mtu == wanted,
            _ => false,
        },
        ErrorKind::TimeExceeded => match icmpv6(message, src, dst) {
            Icmpv6Repr::TimeExceeded { reason, .. } => {
                reason == Icmpv6TimeExceeded::HopLimitExceeded
            }
            _ => false,
        },
        ErrorKind::BadHeader { pointer } => problem(Icmpv6ParamProblem::ErroneousHdrField, pointer),
        ErrorKind::UnknownOption { pointer } => {
            problem(Icmpv6ParamProblem::UnrecognizedOption, pointer)
        }
    };
    prop_assert!(right, "{kind:?}");
    let whole = Ipv6Packet::new_checked(offender).unwrap();
    prop_assert_eq!(whole.next_header(), IpProtocol::Udp);
    Ok(())
}

/// Two addresses of one family, between which an ICMP error can be sent.
fn addresses() -> impl Strategy<Value = (IpAddr, IpAddr)> {
    let v4 = (1..127u8, any::<[u8; 3]>())
        .prop_map(|(a, [b, c, d])| IpAddr::V4(Ipv4Addr::new(a, b, c, d)));
    let v6 = any::<[u8; 16]>().prop_map(|mut octets| {
        octets[0] = 0x20 | octets[0] & 0x1f;
        IpAddr::V6(Ipv6Addr::from(octets))
    });
    prop_oneof![
        (v4.clone(), v4),
        (v6, any::<[u8; 15]>()).prop_map(|(src, rest)| {
            let mut octets = [0x2a; 16];
            octets[1..].copy_from_slice(&rest);
            (src, IpAddr::V6(Ipv6Addr::from(octets)))
        })
    ]
}

fn kinds() -> impl Strategy<Value = ErrorKind> {
    prop_oneof![
        Just(ErrorKind::AdminProhibited),
        any::<u32>().prop_map(|pointer| ErrorKind::BadHeader { pointer }),
        Just(ErrorKind::HostUnreachable),
        Just(ErrorKind::NetUnreachable),
        Just(ErrorKind::PortUnreachable),
        any::<u32>().prop_map(|pointer| ErrorKind::ProtocolUnreachable { pointer }),
        Just(ErrorKind::TimeExceeded),
        (0..100_000u32).prop_map(|mtu| ErrorKind::TooBig { mtu }),
        any::<u32>().prop_map(|pointer| ErrorKind::UnknownOption { pointer }),
    ]
}
