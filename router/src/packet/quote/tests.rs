use super::*;
use crate::packet::checksum::Sum;
use crate::packet::protocol::{ICMP, ICMPV6, TCP, UDP};
use crate::packet::samples::{packet as ip, *};

/// An error with a good checksum from the router to `dst`, quoting `quote`.
fn error(dst: IpAddr, kind: u8, code: u8, word: u32, quote: &[u8]) -> Vec<u8> {
    let mut message = icmp(kind, code, word, quote);
    let (src, protocol, pseudo) = match dst {
        IpAddr::V4(_) => (ROUTER_V4.into(), ICMP, Sum::ZERO),
        IpAddr::V6(_) => {
            let src = IpAddr::from(ROUTER_V6);
            (src, ICMPV6, Sum::pseudo(src, dst, ICMPV6, message.len()))
        }
    };
    let sum = pseudo.bytes(&message).checksum();
    message[2..4].copy_from_slice(&sum.to_be_bytes());
    ip(src, dst, protocol, &message)
}

fn unreachable(dst: IpAddr) -> u8 {
    if dst.is_ipv4() { icmp::UNREACHABLE } else { icmpv6::UNREACHABLE }
}

fn flow(packet: &[u8]) -> FlowKey {
    Meta::parse(packet).unwrap().flow
}

fn read(packet: &[u8]) -> Option<Quoted> {
    quoted(packet, &Meta::parse(packet).unwrap())
}

/// Client and service of each family, and its ICMP.
fn families() -> [(IpAddr, IpAddr, u8); 2] {
    [(CLIENT_V4.into(), SERVICE_V4.into(), ICMP), (CLIENT_V6.into(), SERVICE_V6.into(), ICMPV6)]
}

#[test]
fn an_error_to_the_service_has_the_flow_of_its_client() {
    for (client, service, icmp_protocol) in families() {
        let echo = |kind| icmp(kind, 0, 0x1234_0001, &[]);
        let [request, reply] = if client.is_ipv4() { [8, 0] } else { [128, 129] };
        for (asks, answer) in [
            (
                ip(client, service, UDP, &ports(4000, 53)),
                ip(service, client, UDP, &ports(53, 4000)),
            ),
            (
                ip(client, service, TCP, &ports(4000, 80)),
                ip(service, client, TCP, &ports(80, 4000)),
            ),
            (ip(client, service, 47, &[]), ip(service, client, 47, &[])),
            (
                ip(client, service, icmp_protocol, &echo(request)),
                ip(service, client, icmp_protocol, &echo(reply)),
            ),
        ] {
            let about = error(service, unreachable(service), 0, 0, &answer);
            assert_eq!(flow(&about), flow(&asks));
        }
    }
}

#[test]
fn labels_of_errors_are_zero() {
    let mut answer = ip(SERVICE_V6, CLIENT_V6, UDP, &ports(53, 4000));
    answer[3] = 9;
    let mut about = error(SERVICE_V6.into(), 2, 0, 1280, &answer);
    about[3] = 7;
    assert_eq!(flow(&about).label, 0);
    assert_eq!(flow(&about).src_port, 4000);
}

#[test]
fn eight_bytes_of_the_upper_layer_are_enough_and_fewer_ports_are_none() {
    for (client, service, icmp_protocol) in families() {
        let header = if client.is_ipv4() { 20 } else { 40 };
        let answer = ip(service, client, UDP, &[&ports(53, 4000)[..], &[7; 500]].concat());
        let full = flow(&error(service, unreachable(service), 0, 0, &answer));
        for len in header + 4..answer.len() {
            let about = error(service, unreachable(service), 0, 0, &answer[..len]);
            assert_eq!(flow(&about), full, "{len}");
        }
        let outer = FlowKey {
            src: number(if client.is_ipv4() { ROUTER_V4.into() } else { ROUTER_V6.into() }),
            dst: number(service),
            protocol: icmp_protocol,
            ..FlowKey::default()
        };
        for len in 0..header + 4 {
            let about = error(service, unreachable(service), 0, 0, &answer[..len]);
            assert_eq!(flow(&about), outer, "{len}");
        }
    }
}

#[test]
fn a_quoted_first_fragment_has_the_flow_of_the_whole_and_a_later_one_has_no_ports() {
    for (client, service, icmp_protocol) in families() {
        let [request, reply] = if client.is_ipv4() { [8, 0] } else { [128, 129] };
        let echo = |kind| icmp(kind, 0, 0x1234_0001, &[]);
        for (asks, answer) in [
            (
                ip(client, service, UDP, &ports(4000, 53)),
                ip(service, client, UDP, &ports(53, 4000)),
            ),
            (
                ip(client, service, icmp_protocol, &echo(request)),
                ip(service, client, icmp_protocol, &echo(reply)),
            ),
        ] {
            let about = |offset, more| {
                error(service, unreachable(service), 0, 0, &fragment(&answer, offset, more))
            };
            assert_eq!(flow(&about(0, true)), flow(&asks));
            assert_eq!(flow(&about(5, false)), flow(&fragment(&asks, 0, true)));
            let is_later =
                |packet: &[u8]| quotes_later_fragment(packet, &Meta::parse(packet).unwrap());
            assert_eq!([is_later(&about(0, true)), is_later(&about(0, false))], [false; 2]);
            assert!(is_later(&about(5, false)) && is_later(&about(5, true)));
            assert!(!is_later(&fragment(&about(5, true), 0, true)), "in a fragment itself");
            assert!(!is_later(&answer));
        }
        // An extension header follows the fragment header.
        if client.is_ipv6() {
            let options = [&[UDP, 0, 1, 4, 0, 0, 0, 0][..], &ports(53, 4000)].concat();
            let first = fragment(&ip(service, client, 60, &options), 0, true);
            let about = error(service, 2, 0, 1280, &first);
            assert_eq!(flow(&about), flow(&ip(client, service, UDP, &ports(4000, 53))));
        }
    }
}

#[test]
fn a_fragment_of_an_error_has_no_quote() {
    let answer = ip(SERVICE_V4, CLIENT_V4, UDP, &ports(53, 4000));
    let about = fragment(&error(SERVICE_V4.into(), 3, 3, 0, &answer), 0, true);
    let flow = flow(&about);
    assert_eq!((flow.protocol, flow.src_port, flow.dst_port), (ICMP, 0, 0));
    assert_eq!(read(&about), None);
}

#[test]
fn a_prober_learns_what_it_asked() {
    for (client, service, icmp_protocol) in families() {
        let kind = unreachable(service);
        let blank = Quoted {
            src: client,
            dst: service,
            protocol: UDP,
            src_port: 0,
            dst_port: 0,
            echo_request: false,
            icmp_ident: 0,
            icmp_seq: 0,
            unreachable: true,
            kind,
            code: 1,
            mtu: None,
        };
        let udp = ip(client, service, UDP, &ports(4000, 53));
        let want = Quoted { src_port: 4000, dst_port: 53, ..blank };
        let about = error(client, kind, 1, 0, &udp);
        assert_eq!(read(&about), Some(want));
        assert_eq!(read(&[&about[..], &[0xee; 9]].concat()), Some(want), "link padding");

        let request = if client.is_ipv4() { 8 } else { 128 };
        let echo = ip(client, service, icmp_protocol, &icmp(request, 0, 0x1234_5678, &[]));
        let want = Quoted {
            protocol: icmp_protocol,
            echo_request: true,
            icmp_ident: 0x1234,
            icmp_seq: 0x5678,
            ..blank
        };
        assert_eq!(read(&error(client, kind, 1, 0, &echo)), Some(want));
        let cut = echo.len() - 1;
        assert_eq!(read(&error(client, kind, 1, 0, &echo[..cut])), None, "no sequence number");

        let later = fragment(&udp, 3, false);
        assert_eq!(read(&error(client, kind, 1, 0, &later)), None);
        assert_eq!(read(&udp), None);
        assert_eq!(read(&echo), None);
    }
}

#[test]
fn which_errors_say_unreachable() {
    for (dst, kind, code, unreachable, mtu) in [
        (IpAddr::from(CLIENT_V4), 3, 0, true, None),
        (CLIENT_V4.into(), 3, 3, true, None),
        (CLIENT_V4.into(), 3, 4, false, Some(1400)),
        (CLIENT_V4.into(), 3, 13, true, None),
        (CLIENT_V4.into(), 4, 0, false, None),
        (CLIENT_V4.into(), 5, 1, false, None),
        (CLIENT_V4.into(), 11, 0, false, None),
        (CLIENT_V4.into(), 12, 0, false, None),
        (CLIENT_V6.into(), 1, 0, true, None),
        (CLIENT_V6.into(), 1, 4, true, None),
        (CLIENT_V6.into(), 2, 0, false, Some(1400)),
        (CLIENT_V6.into(), 3, 0, false, None),
        (CLIENT_V6.into(), 4, 0, false, None),
        (CLIENT_V6.into(), 4, 1, true, None),
        (CLIENT_V6.into(), 100, 1, false, None),
    ] {
        let service = if dst.is_ipv4() { SERVICE_V4.into() } else { IpAddr::from(SERVICE_V6) };
        let quote = ip(dst, service, UDP, &ports(4000, 53));
        let found = read(&error(dst, kind, code, 1400, &quote)).unwrap();
        assert_eq!((found.unreachable, found.mtu), (unreachable, mtu), "{kind}/{code} to {dst}");
        assert_eq!((found.kind, found.code), (kind, code));
    }
}

#[test]
fn a_corrupted_error_says_nothing() {
    for (client, service, _) in families() {
        let quote = ip(client, service, UDP, &ports(4000, 53));
        let good = error(client, unreachable(client), 1, 0, &quote);
        let start = if client.is_ipv4() { 20 } else { 40 };
        for bit in start * 8..good.len() * 8 {
            let mut bad = good.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(read(&bad), None, "bit {bit}");
        }
    }
}
