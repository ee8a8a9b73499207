use std::net::IpAddr;

use nearhop_fib::FlowKey;

use super::*;
use crate::packet::protocol::{DCCP, ICMP, ICMPV6, SCTP, TCP, UDP, UDP_LITE};
use crate::packet::samples::*;

fn flow(packet: &[u8]) -> FlowKey {
    Meta::parse(packet).unwrap().flow
}

fn key(src: impl Into<IpAddr>, dst: impl Into<IpAddr>, protocol: u8, ports: [u16; 2]) -> FlowKey {
    let number = |address: IpAddr| match address {
        IpAddr::V4(address) => u128::from(u32::from(address)),
        IpAddr::V6(address) => u128::from(address),
    };
    FlowKey {
        src: number(src.into()),
        dst: number(dst.into()),
        protocol,
        src_port: ports[0],
        dst_port: ports[1],
        label: 0,
    }
}

#[test]
fn ipv4_fields() {
    let mut bytes = packet(CLIENT_V4, SERVICE_V4, UDP, &ports(4000, 53));
    bytes[6] = 0x40;
    bytes = with_options(&bytes, &[148, 4, 0, 0]);
    bytes.extend([0xee; 10]);
    let want = Meta {
        src: CLIENT_V4.into(),
        dst: SERVICE_V4.into(),
        len: 32,
        header_len: 24,
        ttl: 64,
        protocol: UDP,
        fragment: Fragment::Whole,
        dont_fragment: true,
        flow: key(CLIENT_V4, SERVICE_V4, UDP, [4000, 53]),
    };
    assert_eq!(Meta::parse(&bytes), Ok(want));
}

#[test]
fn ipv6_fields() {
    let options = [&[UDP, 0, 1, 4, 0, 0, 0, 0], &ports(4000, 53)[..]].concat();
    let mut bytes = packet(CLIENT_V6, SERVICE_V6, 60, &options);
    bytes[..4].copy_from_slice(&[0x6f, 0xfa, 0xbc, 0xde]);
    bytes.extend([0xee; 10]);
    let want = Meta {
        src: CLIENT_V6.into(),
        dst: SERVICE_V6.into(),
        len: 56,
        header_len: 48,
        ttl: 64,
        protocol: UDP,
        fragment: Fragment::Whole,
        dont_fragment: true,
        flow: FlowKey { label: 0xabcde, ..key(CLIENT_V6, SERVICE_V6, UDP, [4000, 53]) },
    };
    assert_eq!(Meta::parse(&bytes), Ok(want));
}

#[test]
fn neither_version_nor_bytes() {
    assert_eq!(Meta::parse(&[]), Err(Verdict::Truncated));
    assert_eq!(Meta::parse(&[0x50; 60]), Err(Verdict::NotIp));
    assert_eq!(Meta::parse(&[0x45]), Err(Verdict::Truncated));
    assert_eq!(Meta::parse(&[0x60]), Err(Verdict::Truncated));
}

#[test]
fn who_has_ports() {
    for (protocol, want) in [
        (TCP, [4000, 53]),
        (UDP, [4000, 53]),
        (UDP_LITE, [4000, 53]),
        (SCTP, [4000, 53]),
        (DCCP, [4000, 53]),
        (47, [0, 0]),
        (50, [0, 0]),
    ] {
        let v4 = packet(CLIENT_V4, SERVICE_V4, protocol, &ports(4000, 53));
        assert_eq!(flow(&v4), key(CLIENT_V4, SERVICE_V4, protocol, want), "{protocol}");
        let v6 = packet(CLIENT_V6, SERVICE_V6, protocol, &ports(4000, 53));
        assert_eq!(flow(&v6), key(CLIENT_V6, SERVICE_V6, protocol, want), "{protocol}");
    }
    let short = packet(CLIENT_V4, SERVICE_V4, UDP, &[1, 2, 3]);
    assert_eq!(flow(&short), key(CLIENT_V4, SERVICE_V4, UDP, [0, 0]));
}

#[test]
fn an_echo_has_its_identifier_both_ways() {
    for (src, dst, protocol, kinds) in [
        (IpAddr::from(CLIENT_V4), IpAddr::from(SERVICE_V4), ICMP, [8, 0]),
        (CLIENT_V6.into(), SERVICE_V6.into(), ICMPV6, [128, 129]),
    ] {
        for kind in kinds {
            let bytes = packet(src, dst, protocol, &icmp(kind, 0, 0x1234_0001, &[]));
            assert_eq!(flow(&bytes), key(src, dst, protocol, [0x1234, 0]), "{src} {kind}");
        }
        let other = packet(src, dst, protocol, &icmp(200, 0, 0x1234_0001, &[]));
        assert_eq!(flow(&other), key(src, dst, protocol, [0, 0]));
    }
    let foreign = packet(CLIENT_V6, SERVICE_V6, ICMP, &icmp(8, 0, 0x1234_0001, &[]));
    assert_eq!(flow(&foreign), key(CLIENT_V6, SERVICE_V6, ICMP, [0, 0]));
}

#[test]
fn all_fragments_have_one_key_without_ports() {
    for whole in [
        packet(CLIENT_V4, SERVICE_V4, UDP, &ports(4000, 53)),
        packet(CLIENT_V6, SERVICE_V6, UDP, &ports(4000, 53)),
    ] {
        let plain = flow(&whole);
        let want = FlowKey { src_port: 0, dst_port: 0, ..plain };
        for (offset, more, part) in
            [(0, true, Fragment::First), (1, true, Fragment::Later), (9, false, Fragment::Later)]
        {
            let bytes = fragment(&whole, offset, more);
            let meta = Meta::parse(&bytes).unwrap();
            assert_eq!((meta.fragment, meta.flow), (part, want));
        }
    }
}

#[test]
fn an_ipv6_fragment_of_all_of_its_packet_is_whole() {
    let whole = packet(CLIENT_V6, SERVICE_V6, UDP, &ports(4000, 53));
    let meta = Meta::parse(&fragment(&whole, 0, false)).unwrap();
    assert_eq!((meta.fragment, meta.header_len), (Fragment::Whole, 48));
    assert_eq!(meta.flow, flow(&whole));
}

#[test]
fn fragments_agree_on_the_protocol_when_options_are_fragmented_too() {
    let options = [&[UDP, 0, 1, 4, 0, 0, 0, 0], &ports(4000, 53)[..]].concat();
    let whole = packet(CLIENT_V6, SERVICE_V6, 60, &options);
    let first = Meta::parse(&fragment(&whole, 0, true)).unwrap();
    let later = Meta::parse(&fragment(&whole, 2, false)).unwrap();
    assert_eq!((first.protocol, first.header_len), (UDP, 56));
    assert_eq!((later.protocol, later.header_len), (60, 48));
    assert_eq!(first.flow, later.flow);
}

#[test]
fn fragments_that_fit_nothing_are_dropped() {
    let v4 = fragment(&packet(CLIENT_V4, SERVICE_V4, UDP, &[0; 16]), 8190, false);
    assert_eq!(Meta::parse(&v4), Err(Verdict::BadFragment));
    let v6 = fragment(&packet(CLIENT_V6, SERVICE_V6, UDP, &[0; 15]), 0, true);
    assert_eq!(Meta::parse(&v6), Err(Verdict::BadFragment));
}

#[test]
fn every_truncation_of_a_packet_is_a_drop() {
    let options = [&[UDP, 0, 1, 4, 0, 0, 0, 0], &ports(4000, 53)[..]].concat();
    for bytes in [
        with_options(&packet(CLIENT_V4, SERVICE_V4, UDP, &ports(1, 2)), &[148, 4, 0, 0]),
        packet(CLIENT_V6, SERVICE_V6, 60, &options),
    ] {
        assert!(Meta::parse(&bytes).is_ok());
        for len in 0..bytes.len() {
            assert!(Meta::parse(&bytes[..len]).is_err(), "{len} of {}", bytes.len());
        }
    }
}

#[test]
fn ttl_goes_down_to_one_and_no_further() {
    for (mut bytes, at) in
        [(packet(CLIENT_V4, SERVICE_V4, UDP, &[]), 8), (packet(CLIENT_V6, SERVICE_V6, UDP, &[]), 7)]
    {
        for want in (1..64).rev() {
            assert!(decrement_ttl(&mut bytes));
            assert_eq!(Meta::parse(&bytes).unwrap().ttl, want);
        }
        let before = bytes.clone();
        assert!(!decrement_ttl(&mut bytes));
        assert_eq!(bytes, before);
        bytes[at] = 0;
        assert!(!decrement_ttl(&mut bytes));
    }
    for mut bytes in [vec![], vec![0x45; 19], vec![0x60; 39], vec![0x50; 60]] {
        assert!(!decrement_ttl(&mut bytes));
    }
}

#[test]
fn patched_checksum_is_that_of_the_changed_header() {
    // Every TTL and protocol against every first byte of the identification: some of these
    // headers have a checksum of 0x0000, before or after.
    let mut zeros = 0;
    for ttl in 2..=255 {
        for protocol in [0, 1, 17, 254, 255] {
            for ident in 0..=255 {
                let mut bytes = packet(CLIENT_V4, SERVICE_V4, protocol, &[]);
                (bytes[4], bytes[8]) = (ident, ttl);
                fix_checksum(&mut bytes);
                let mut want = bytes.clone();
                want[8] -= 1;
                fix_checksum(&mut want);
                assert!(decrement_ttl(&mut bytes));
                assert_eq!(bytes, want, "ttl {ttl} protocol {protocol} ident {ident}");
                zeros += usize::from(want[10..12] == [0, 0]);
            }
        }
    }
    // Both bytes of the identification for one of them, so that 0x0000 is certainly met.
    for ident in 0..=u16::MAX {
        let mut bytes = packet(CLIENT_V4, SERVICE_V4, UDP, &[]);
        bytes[4..6].copy_from_slice(&ident.to_be_bytes());
        fix_checksum(&mut bytes);
        let mut want = bytes.clone();
        want[8] -= 1;
        fix_checksum(&mut want);
        assert!(decrement_ttl(&mut bytes));
        assert_eq!(bytes, want, "ident {ident}");
        zeros += usize::from(want[10..12] == [0, 0]);
    }
    assert!(zeros > 0);
}
