use std::net::Ipv4Addr;

use super::*;
use crate::packet::protocol::{ICMP, ICMPV6, UDP};
use crate::packet::samples::{icmp as message, *};

const OWN_IDENT: u16 = 0x1234;

const KINDS: [ErrorKind; 9] = [
    ErrorKind::AdminProhibited,
    ErrorKind::BadHeader { pointer: 9 },
    ErrorKind::HostUnreachable,
    ErrorKind::NetUnreachable,
    ErrorKind::PortUnreachable,
    ErrorKind::ProtocolUnreachable { pointer: 9 },
    ErrorKind::TimeExceeded,
    ErrorKind::TooBig { mtu: 1280 },
    ErrorKind::UnknownOption { pointer: 9 },
];

fn may(kind: ErrorKind, packet: &[u8]) -> bool {
    may_answer(kind, packet, &Meta::parse(packet).unwrap())
}

fn built(kind: ErrorKind, offender: &[u8], source: impl Into<IpAddr>) -> Vec<u8> {
    let mut out = [0xee; ERROR_MAX];
    let len = build(kind, offender, source.into(), OWN_IDENT, &mut out).unwrap();
    out[..len].to_vec()
}

#[test]
fn sources_that_are_no_single_host_are_not_answered() {
    let to = |src: &str| {
        let src: IpAddr = src.parse().unwrap();
        let dst = if src.is_ipv4() { SERVICE_V4.into() } else { IpAddr::from(SERVICE_V6) };
        packet(src, dst, UDP, &ports(1, 2))
    };
    for (src, want) in [
        ("192.0.2.7", true),
        ("10.0.0.1", true),
        ("0.0.0.0", false),
        ("127.0.0.1", false),
        ("169.254.1.1", false),
        ("224.0.0.1", false),
        ("240.0.0.1", false),
        ("255.255.255.255", false),
        ("2001:db8::7", true),
        ("::", false),
        ("::1", false),
        ("::ffff:192.0.2.7", false),
        ("fe80::1", false),
        ("ff02::1", false),
    ] {
        for kind in KINDS {
            assert_eq!(may(kind, &to(src)), want, "{src} {kind:?}");
        }
    }
}

#[test]
fn multicast_gets_only_too_big_and_unknown_option_and_only_in_ipv6() {
    for kind in KINDS {
        for dst in [Ipv4Addr::new(224, 0, 0, 1), Ipv4Addr::BROADCAST] {
            assert!(!may(kind, &packet(CLIENT_V4, dst, UDP, &ports(1, 2))), "{kind:?}");
        }
        let group: std::net::Ipv6Addr = "ff0e::1".parse().unwrap();
        let want = matches!(kind, ErrorKind::TooBig { .. } | ErrorKind::UnknownOption { .. });
        assert_eq!(may(kind, &packet(CLIENT_V6, group, UDP, &ports(1, 2))), want, "{kind:?}");
    }
}

#[test]
fn errors_are_not_answered_but_other_messages_are() {
    for kind in 0..=255 {
        let v4 = packet(CLIENT_V4, SERVICE_V4, ICMP, &message(kind, 0, 0, &[]));
        // Echo, router discovery, timestamp, information, address mask, extended echo.
        let want = matches!(kind, 0 | 8..=10 | 13..=18 | 42 | 43);
        assert_eq!(may(ErrorKind::TimeExceeded, &v4), want, "ICMP type {kind}");
        let v6 = packet(CLIENT_V6, SERVICE_V6, ICMPV6, &message(kind, 0, 0, &[]));
        let want = kind >= 128 && kind != 137;
        assert_eq!(may(ErrorKind::TimeExceeded, &v6), want, "ICMPv6 type {kind}");
    }
    let empty = packet(CLIENT_V4, SERVICE_V4, ICMP, &[]);
    assert!(!may(ErrorKind::TimeExceeded, &empty));
    let padded = [&empty[..], &[8; 26]].concat();
    assert!(!may(ErrorKind::TimeExceeded, &padded), "link padding is no message");
    // ICMP's number means nothing in the other family.
    let foreign = packet(CLIENT_V6, SERVICE_V6, ICMP, &message(3, 0, 0, &[]));
    assert!(may(ErrorKind::TimeExceeded, &foreign));
}

#[test]
fn later_fragments_are_answered_only_in_ipv6_where_they_hide_no_error() {
    let echo = [128, 0, 0, 0, 0, 0, 0, 0];
    for (whole, want) in [
        (packet(CLIENT_V4, SERVICE_V4, UDP, &ports(1, 2)), false),
        (packet(CLIENT_V6, SERVICE_V6, UDP, &ports(1, 2)), true),
        (packet(CLIENT_V6, SERVICE_V6, ICMPV6, &echo), false),
    ] {
        for kind in [ErrorKind::TimeExceeded, ErrorKind::TooBig { mtu: 1280 }] {
            assert!(may(kind, &fragment(&whole, 0, true)));
            assert_eq!(may(kind, &fragment(&whole, 1, true)), want);
            assert_eq!(may(kind, &fragment(&whole, 1, false)), want);
        }
    }
}

#[test]
fn first_fragment_of_an_error_is_not_answered() {
    let quote = packet(SERVICE_V4, CLIENT_V4, UDP, &ports(1, 2));
    let error = packet(ROUTER_V4, SERVICE_V4, ICMP, &message(3, 0, 0, &quote));
    assert!(!may(ErrorKind::TimeExceeded, &fragment(&error, 0, true)));
}

#[test]
fn types_codes_and_parameters() {
    let v4 = packet(CLIENT_V4, SERVICE_V4, UDP, &ports(1, 2));
    let v6 = packet(CLIENT_V6, SERVICE_V6, UDP, &ports(1, 2));
    for (kind, [type4, code4], word4, [type6, code6], word6) in [
        (ErrorKind::NetUnreachable, [3, 0], 0, [1, 0], 0),
        (ErrorKind::HostUnreachable, [3, 1], 0, [1, 3], 0),
        (ErrorKind::ProtocolUnreachable { pointer: 6 }, [3, 2], 0, [4, 1], 6),
        (ErrorKind::PortUnreachable, [3, 3], 0, [1, 4], 0),
        (ErrorKind::TooBig { mtu: 1400 }, [3, 4], 1400, [2, 0], 1400),
        (ErrorKind::TooBig { mtu: 70_000 }, [3, 4], 65_535, [2, 0], 70_000),
        (ErrorKind::AdminProhibited, [3, 13], 0, [1, 1], 0),
        (ErrorKind::TimeExceeded, [11, 0], 0, [3, 0], 0),
        (ErrorKind::BadHeader { pointer: 20 }, [12, 0], 20 << 24, [4, 0], 20),
        (ErrorKind::UnknownOption { pointer: 42 }, [12, 0], 42 << 24, [4, 2], 42),
    ] {
        let error = built(kind, &v4, ROUTER_V4);
        let message = icmp::Message::parse(&error[20..]).unwrap();
        let found = (message.kind(), message.code(), message.rest_of_header());
        assert_eq!(found, (type4, code4, word4));
        assert!(icmp::is_valid(&message));
        let error = built(kind, &v6, ROUTER_V6);
        let message = icmp::Message::parse(&error[40..]).unwrap();
        let found = (message.kind(), message.code(), message.rest_of_header());
        assert_eq!(found, (type6, code6, word6));
        assert!(icmpv6::is_valid(&message, ROUTER_V6, CLIENT_V6));
    }
}

#[test]
fn header_fields() {
    let offender = packet(CLIENT_V4, SERVICE_V4, UDP, &ports(1, 2));
    let error = built(ErrorKind::TimeExceeded, &offender, ROUTER_V4);
    let view = Ipv4::parse(&error).unwrap();
    assert_eq!((view.src(), view.dst(), view.ttl()), (ROUTER_V4, CLIENT_V4, 64));
    assert_eq!((view.tos(), view.dont_fragment(), view.protocol()), (0xc0, false, ICMP));
    assert_eq!(view.ident(), OWN_IDENT);
    let offender = packet(CLIENT_V6, SERVICE_V6, UDP, &ports(1, 2));
    let error = built(ErrorKind::TimeExceeded, &offender, ROUTER_V6);
    let view = Ipv6::parse(&error).unwrap();
    assert_eq!((view.src(), view.dst(), view.hop_limit()), (ROUTER_V6, CLIENT_V6, 64));
    assert_eq!((view.traffic_class(), view.next_header()), (0, ICMPV6));
}

#[test]
fn quotes_as_much_as_is_allowed() {
    for (src, dst, source, header, max) in [
        (IpAddr::from(CLIENT_V4), IpAddr::from(SERVICE_V4), IpAddr::from(ROUTER_V4), 20, 576),
        (CLIENT_V6.into(), SERVICE_V6.into(), ROUTER_V6.into(), 40, 1280),
    ] {
        for payload in [0, 8, 100, max - 2 * header - 9, max - 2 * header - 8, max, 9000] {
            let offender = packet(src, dst, UDP, &vec![7; payload]);
            let padded = [&offender[..], &[0xee; 30]].concat();
            let error = built(ErrorKind::TimeExceeded, &padded, source);
            assert_eq!(error.len(), (header + 8 + offender.len()).min(max));
            assert!(offender.starts_with(&error[header + 8..]), "{payload}");
        }
    }
}

#[test]
fn what_cannot_be_built_is_none() {
    let v4 = packet(CLIENT_V4, SERVICE_V4, UDP, &ports(1, 2));
    let mut out = [0; ERROR_MAX];
    let kind = ErrorKind::TimeExceeded;
    assert_eq!(build(kind, &v4, ROUTER_V6.into(), OWN_IDENT, &mut out), None, "other family");
    assert_eq!(build(kind, &v4[..19], ROUTER_V4.into(), OWN_IDENT, &mut out), None, "no header");
    assert_eq!(build(kind, &[], ROUTER_V4.into(), OWN_IDENT, &mut out), None, "nothing");
    for room in 0..56 {
        assert_eq!(build(kind, &v4, ROUTER_V4.into(), OWN_IDENT, &mut out[..room]), None, "{room}");
    }
    assert_eq!(build(kind, &v4, ROUTER_V4.into(), OWN_IDENT, &mut out[..56]), Some(56));
}
