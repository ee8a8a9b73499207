use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use nearhop_fib::AdjacencyId;
use smoltcp::wire::{Ipv4Packet, Ipv6Packet};

use super::check::TcpChecker;
use super::*;
use crate::policy::CheckKind;
use crate::probe::{Cause, CheckEvent, CheckSpec};

mod refusals;
mod scoped;

const PORT: PortId = PortId(1);
const OTHER: PortId = PortId(2);
const MS: u64 = 1_000_000;

fn ms(ms: u64) -> Nanos {
    Nanos(ms * MS)
}

fn addr(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn host(addresses: &[&str]) -> Host {
    let addresses = addresses.iter().map(|a| addr(a)).collect();
    Host::new(Nanos::ZERO, HostConfig { addresses, mtu: 1_500, seed: 11 })
}

/// Addresses of the router and of its peer, in both families.
const PAIRS: [(&str, &str); 2] = [("10.0.0.1", "10.0.0.2"), ("fd00::1", "fd00::2")];

/// The checksum of RFC 1071, implemented for these tests alone.
fn sum(parts: &[&[u8]]) -> u16 {
    let bytes: Vec<u8> = parts.concat();
    let words = bytes.chunks(2).map(|w| u32::from(w[0]) << 8 | u32::from(*w.get(1).unwrap_or(&0)));
    let mut sum: u32 = words.sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(v4) => v4.octets().to_vec(),
        IpAddr::V6(v6) => v6.octets().to_vec(),
    }
}

/// An IP packet encoded by hand. The checksum at `sum_at` of the body is filled in, over a pseudo
/// header unless it is ICMPv4.
fn ip(src: &str, dst: &str, protocol: u8, mut body: Vec<u8>, sum_at: usize) -> Vec<u8> {
    let (src, dst) = (octets(addr(src)), octets(addr(dst)));
    let len = (body.len() as u32).to_be_bytes();
    let pseudo = [&src[..], &dst, &len, &[0, 0, 0, protocol]].concat();
    let pseudo = if protocol == 1 { &[][..] } else { &pseudo[..] };
    let value = sum(&[pseudo, &body]);
    body[sum_at..sum_at + 2].copy_from_slice(&value.to_be_bytes());
    let mut packet = if src.len() == 4 {
        let len = (20 + body.len() as u16).to_be_bytes();
        let mut header = vec![0x45, 0, len[0], len[1], 0x12, 0x34, 0, 0, 61, protocol, 0, 0];
        header.extend([&src[..], &dst].concat());
        let value = sum(&[&header]);
        header[10..12].copy_from_slice(&value.to_be_bytes());
        header
    } else {
        let mut header = vec![0x60, 0, 0, 0, len[2], len[3], protocol, 61];
        header.extend([&src[..], &dst].concat());
        header
    };
    packet.append(&mut body);
    packet
}

fn echo_request(src: &str, dst: &str, len: usize) -> Vec<u8> {
    let v4 = addr(src).is_ipv4();
    let mut body = vec![if v4 { 8 } else { 128 }, 0, 0, 0, 0xbe, 0xef, 0, 7];
    body.extend((0..len).map(|n| (n % 253) as u8));
    ip(src, dst, if v4 { 1 } else { 58 }, body, 2)
}

fn udp(src: &str, dst: &str, (from, to): (u16, u16), payload: &[u8]) -> Vec<u8> {
    let len = 8 + payload.len() as u16;
    let mut body: Vec<u8> = [from, to, len, 0].iter().flat_map(|w| w.to_be_bytes()).collect();
    body.extend(payload);
    ip(src, dst, 17, body, 6)
}

fn tcp(src: &str, dst: &str, (from, to): (u16, u16), seq: u32, ack: u32, flags: u8) -> Vec<u8> {
    let mut body: Vec<u8> = [from, to].iter().flat_map(|w| w.to_be_bytes()).collect();
    body.extend(seq.to_be_bytes());
    body.extend(ack.to_be_bytes());
    body.extend([0x50, flags, 0xff, 0xff, 0, 0, 0, 0]);
    ip(src, dst, 6, body, 16)
}

/// Source, destination, protocol and body; asserts the IPv4 header checksum.
fn parts(packet: &[u8]) -> (IpAddr, IpAddr, u8, &[u8]) {
    if packet[0] >> 4 == 4 {
        assert_eq!(sum(&[&packet[..20]]), 0);
        let at = |at: usize| IpAddr::from(<[u8; 4]>::try_from(&packet[at..at + 4]).unwrap());
        (at(12), at(16), packet[9], &packet[20..])
    } else {
        let at = |at: usize| IpAddr::from(<[u8; 16]>::try_from(&packet[at..at + 16]).unwrap());
        (at(8), at(24), packet[6], &packet[40..])
    }
}

fn split(packet: &[u8], mtu: usize) -> Vec<Vec<u8>> {
    let mut pieces = Vec::new();
    let emit = |piece: &[u8]| pieces.push(piece.to_vec());
    crate::packet::origin::split(packet, mtu, 99, &mut vec![0; mtu], emit).unwrap();
    pieces
}

fn exchange(host: &mut Host, packet: &[u8]) -> Vec<Outgoing> {
    host.handle_packet(Nanos::ZERO, PORT, packet);
    host.poll(Nanos::ZERO);
    std::iter::from_fn(|| host.poll_transmit()).collect()
}

#[test]
fn link_local_pings_and_errors_are_answered_by_the_port_they_came_in_by() {
    for (us, them) in [("169.254.10.1", "169.254.10.2"), ("fe80::1", "fe80::2")] {
        let out = exchange(&mut host(&[us]), &echo_request(them, us, 8));
        assert_eq!((out.len(), out[0].by), (1, Some(PORT)), "{us}");
        // The peer has the address that is the router's on another port.
        let out = exchange(&mut host(&[us, them]), &echo_request(them, us, 8));
        assert_eq!(out.len(), 1, "{us}");
    }
    // Neither finds its way to the same site by a lookup: the sender may be one of many.
    for (us, them) in PAIRS {
        for packet in [udp(them, us, (5_000, 33_434), b"x"), echo_request(them, us, 8)] {
            let out = exchange(&mut host(&[us]), &packet);
            let is_error = parts(&packet).2 == 17;
            assert_eq!((out.len(), out[0].by), (1, is_error.then_some(PORT)), "{us}");
        }
    }
}

#[test]
fn an_anycast_address_answers_from_a_unicast_one() {
    let own = [
        ("fd00:9:1::", None, "fd00:9:1::1"),
        ("fe80::", Some(PORT), "fe80::1"),
        ("fe80::", Some(PortId(PORT.0 + 1)), "fe80::2"),
        ("fd00:9:1::1", None, "fd00:9:1::1"),
    ];
    let own = own.map(|(address, port, unicast)| OwnAddress {
        address: addr(address),
        port,
        unicast: addr(unicast),
    });
    for (us, them, unicast) in [
        ("fd00:9:1::", "fd00:9:1::2", "fd00:9:1::1"),
        ("fe80::", "fe80::9", "fe80::1"),
        ("fd00:9:1::1", "fd00:9:1::2", "fd00:9:1::1"),
    ] {
        for packet in [echo_request(them, us, 8), udp(them, us, (5_000, 33_434), b"x")] {
            let mut host = host(&[]);
            host.set_addresses(own);
            let out = exchange(&mut host, &packet);
            assert_eq!(out.len(), 1, "{us}");
            let (src, dst, protocol, body) = parts(&out[0].packet);
            assert_eq!((src, dst, protocol), (addr(unicast), addr(them), 58));
            let len = (body.len() as u32).to_be_bytes();
            let whole = [&octets(src)[..], &octets(dst), &len, &[0, 0, 0, 58], body].concat();
            assert_eq!(sum(&[&whole]), 0, "the checksum covers the source");
            if body[0] == 1 {
                assert_eq!(body[8..], packet[..], "an error quotes what was received");
            }
        }
    }
}

#[test]
fn ping_is_answered_in_both_families() {
    for (us, them) in PAIRS {
        for len in [0, 1, 56, 1_400] {
            let mut request = echo_request(them, us, len);
            set_dscp(&mut request, 46);
            let out = exchange(&mut host(&[us]), &request);
            assert_eq!(out.len(), 1, "{us}, {len} bytes");
            assert_eq!(dscp(&out[0].packet), 46, "{us}");
            assert_eq!(out[0].pin, None);
            let (src, dst, protocol, body) = parts(&out[0].packet);
            assert_eq!((src, dst), (addr(us), addr(them)));
            let want = parts(&request).3;
            assert_eq!((body[0], body[1]), (if protocol == 1 { 0 } else { 129 }, 0));
            assert_eq!(body[4..], want[4..], "identifier, sequence number, data");
            let whole = [
                &octets(src)[..],
                &octets(dst),
                &(body.len() as u32).to_be_bytes(),
                &[0, 0, 0, 58],
            ]
            .concat();
            let pseudo = if protocol == 1 { &[][..] } else { &whole[..] };
            assert_eq!(sum(&[pseudo, body]), 0);
        }
    }
}

fn set_dscp(packet: &mut [u8], dscp: u8) {
    if packet[0] >> 4 == 6 {
        Ipv6Packet::new_unchecked(packet).set_traffic_class(dscp << 2);
    } else {
        let mut view = Ipv4Packet::new_unchecked(packet);
        view.set_dscp(dscp);
        view.fill_checksum();
    }
}

fn dscp(packet: &[u8]) -> u8 {
    let v4 = Ipv4Packet::new_checked(packet).ok().filter(|view| view.version() == 4);
    v4.map_or_else(|| Ipv6Packet::new_unchecked(packet).traffic_class() >> 2, |view| view.dscp())
}

#[test]
fn a_big_ping_comes_in_fragments_and_is_answered_whole() {
    for (us, them) in PAIRS {
        let request = echo_request(them, us, 20_000);
        let mut host = host(&[us]);
        let mut out = Vec::new();
        for piece in split(&request, 1_280) {
            assert!(out.is_empty());
            out = exchange(&mut host, &piece);
        }
        // Fragmentation depends on the adjacency it leaves by, which the host does not know.
        assert_eq!(out.len(), 1);
        assert_eq!(parts(&out[0].packet).3[4..], parts(&request).3[4..]);
    }
}

#[test]
fn the_largest_datagram_is_answered_whole() {
    for (us, them) in PAIRS {
        let room = 65_535 - 40 - 8 - 8;
        let mut host = host(&[us]);
        let mut out = Vec::new();
        for piece in split(&echo_request(them, us, room), 1_500) {
            out.extend(exchange(&mut host, &piece));
        }
        assert_eq!(out.len(), 1);
        assert!(out[0].packet.len() > room);
        assert_eq!(host.stats().echo_replies, 1);
    }
}

#[test]
fn closed_ports_are_refused() {
    for (us, them) in PAIRS {
        let mut host = host(&[us]);
        let datagram = udp(them, us, (5_000, 33_434), b"x");
        let out = exchange(&mut host, &datagram);
        let (src, dst, protocol, body) = parts(&out[0].packet);
        assert_eq!((src, dst), (addr(us), addr(them)));
        assert_eq!((body[0], body[1]), if protocol == 1 { (3, 3) } else { (1, 4) });
        assert_eq!(dscp(&out[0].packet), if protocol == 1 { 48 } else { 0 });
        assert_eq!(parts(&body[8..]).3, parts(&datagram).3, "quotes the datagram");

        let out = exchange(&mut host, &tcp(them, us, (5_000, 179), 1_000, 0, 2));
        let (.., body) = parts(&out[0].packet);
        assert_eq!(body[..4], [179_u16.to_be_bytes(), 5_000_u16.to_be_bytes()].concat());
        assert_eq!(body[8..12], 1_001_u32.to_be_bytes());
        assert_eq!(body[13] & 0x16, 0x14, "RST and ACK");
        assert!(exchange(&mut host, &tcp(them, us, (5_000, 179), 1_000, 0, 4)).is_empty());
    }
}

type Case = (&'static str, Vec<u8>, fn(&HostStats) -> u64);

#[test]
fn packets_to_others_and_from_invalid_sources_are_counted_and_dropped() {
    let us = "10.0.0.1";
    let mut broken = echo_request("10.0.0.2", us, 8);
    broken[25] ^= 1;
    let mut header = echo_request("10.0.0.2", us, 8);
    header[8] = 1;
    let cases: [Case; 9] = [
        ("another address", echo_request("10.0.0.2", "10.0.0.3", 8), |s| s.not_ours),
        ("all systems", echo_request("10.0.0.2", "224.0.0.1", 8), |s| s.not_ours),
        ("broadcast", echo_request("10.0.0.2", "255.255.255.255", 8), |s| s.not_ours),
        ("from us", echo_request(us, us, 8), |s| s.bad_source),
        ("from nobody", echo_request("0.0.0.0", us, 8), |s| s.bad_source),
        ("from a group", echo_request("224.0.0.1", us, 8), |s| s.bad_source),
        ("from loopback", echo_request("127.0.0.1", us, 8), |s| s.bad_source),
        ("ICMP checksum", broken, |s| s.malformed),
        ("header checksum", header, |s| s.malformed),
    ];
    for (case, packet, counter) in cases {
        let mut host = host(&[us]);
        assert!(exchange(&mut host, &packet).is_empty(), "{case}");
        assert_eq!(counter(&host.stats()), 1, "{case}");
        for len in 0..packet.len() {
            assert!(exchange(&mut host, &packet[..len]).is_empty(), "{case}, cut to {len}");
        }
    }
}

#[test]
fn there_may_be_many_addresses_and_they_may_change() {
    let many: Vec<_> =
        (0..5_000_u32).map(|n| IpAddr::from(Ipv4Addr::from(0x0a00_0000 + n))).collect();
    let config = HostConfig { addresses: many, mtu: 1_500, seed: 1 };
    let mut host = Host::new(Nanos::ZERO, config);
    let request = echo_request("192.0.2.9", "10.0.19.135", 8);
    assert_eq!(exchange(&mut host, &request).len(), 1, "the 5,000th");
    host.set_addresses([addr("10.0.0.1")]);
    assert!(exchange(&mut host, &request).is_empty());
    let remote = "192.0.2.9:80".parse().unwrap();
    let id = host.tcp_connect(addr("10.0.0.1"), remote, TcpOptions::default()).unwrap();
    host.set_addresses::<IpAddr>([]);
    assert_eq!(host.tcp_progress(id), None, "its address is gone");
    host.poll(Nanos::ZERO);
    assert_eq!(host.poll_transmit(), None);
    assert_eq!(
        host.tcp_connect(addr("10.0.0.1"), remote, TcpOptions::default()),
        Err(SocketError::NotOurs(addr("10.0.0.1")))
    );
}

#[test]
fn a_flood_is_bounded_and_counted() {
    let (us, them) = PAIRS[0];
    let mut host = host(&[us]);
    let flood = udp(them, us, (5_000, 9), b"flood");
    for _ in 0..10_000 {
        host.handle_packet(Nanos::ZERO, PORT, &flood);
    }
    assert_eq!(host.stats().rx_full, 10_000 - RX_MAX as u64);
    let mut errors = 0;
    while host.poll_timeout(ms(1)) == Some(ms(1)) {
        host.poll(ms(1));
        errors += std::iter::from_fn(|| host.poll_transmit()).count() as u64;
    }
    assert_eq!(errors + host.stats().limited, RX_MAX as u64, "errors are limited, and counted");
    assert!(errors <= 50 + 1);
    for _ in 0..10_000 {
        host.handle_packet(ms(2), PORT, &echo_request(them, us, 8));
    }
    assert_eq!(host.stats().echo_replies + host.stats().tx_full, 10_000);
    assert!(std::iter::from_fn(|| host.poll_transmit()).count() <= 256);
}

#[test]
fn a_datagram_goes_to_its_socket_and_back() {
    for (us, them) in PAIRS {
        let mut host = host(&[us]);
        let id = host.udp_bind(SocketAddr::new(addr(us), 3_784)).unwrap();
        assert!(exchange(&mut host, &udp(them, us, (4_000, 3_784), b"hello")).is_empty());
        let mut buffer = [0; 64];
        let (len, from) = host.udp_receive(id, &mut buffer).unwrap();
        assert_eq!((&buffer[..len], from), (&b"hello"[..], SocketAddr::new(addr(them), 4_000)));
        host.udp_send(id, from, b"world").unwrap();
        host.poll(Nanos::ZERO);
        assert_eq!(parts(&host.poll_transmit().unwrap().packet).3[8..], *b"world");
        assert_eq!(host.udp_send(id, from, &[0; 1_500]), Err(SocketError::TooLarge(1_500)));
        assert_eq!(host.udp_bind(SocketAddr::new(addr(us), 3_784)), Err(SocketError::InUse));
        host.udp_close(id);
        assert_eq!(exchange(&mut host, &udp(them, us, (4_000, 3_784), b"x")).len(), 1, "refused");
    }
}

/// Two hosts connected directly, with a one-way `delay`, on one clock.
struct Pair {
    hosts: Vec<Host>,
    now: Nanos,
    delay: Duration,
    /// Packets in transit: arrival time, receiver, port, bytes.
    air: Vec<(Nanos, usize, PortId, Vec<u8>)>,
    sent: Vec<(usize, Outgoing)>,
    /// The port by which the first host receives packets of the second.
    back: PortId,
    cut: bool,
}

impl Pair {
    fn new(family: usize) -> Self {
        let (us, them) = PAIRS[family];
        Self {
            hosts: vec![
                host(&[us]),
                Host::new(
                    Nanos::ZERO,
                    HostConfig { addresses: vec![addr(them)], mtu: 1_500, seed: 5 },
                ),
            ],
            now: Nanos::ZERO,
            delay: Duration::from_millis(1),
            air: Vec::new(),
            sent: Vec::new(),
            back: PORT,
            cut: false,
        }
    }

    /// Advances the clock by a quarter of a millisecond.
    fn step(&mut self) {
        for side in 0..2 {
            self.hosts[side].poll(self.now);
            while let Some(out) = self.hosts[side].poll_transmit() {
                let port = if side == 0 { PORT } else { self.back };
                if !self.cut {
                    self.air.push((self.now + self.delay, 1 - side, port, out.packet.clone()));
                }
                self.sent.push((side, out));
            }
        }
        self.now += Duration::from_micros(250);
        let (due, later) =
            std::mem::take(&mut self.air).into_iter().partition(|(at, ..)| *at <= self.now);
        self.air = later;
        let due: Vec<_> = due;
        for (at, side, port, packet) in due {
            self.hosts[side].handle_packet(at, port, &packet);
        }
    }

    fn until(&mut self, mut done: impl FnMut(&mut Self) -> bool) {
        for _ in 0..100_000 {
            if done(self) {
                return;
            }
            self.step();
        }
        panic!("not within 25 s of its clock");
    }
}

#[test]
fn a_connection_carries_bytes_both_ways_and_ends_in_order() {
    for family in [0, 1] {
        let (us, them) = PAIRS[family];
        let mut pair = Pair::new(family);
        let gtsm = TcpOptions { ttl: 255, min_ttl: 255, ..TcpOptions::default() };
        let listener = pair.hosts[1].tcp_listen(None, 179, gtsm).unwrap();
        assert_eq!(pair.hosts[1].tcp_listen(None, 179, gtsm), Err(SocketError::InUse));
        let remote = SocketAddr::new(addr(them), 179);
        let id = pair.hosts[0].tcp_connect(addr(us), remote, gtsm).unwrap();
        let mut server = None;
        pair.until(|pair| {
            server = server.or_else(|| pair.hosts[1].tcp_accept(listener));
            server.is_some()
        });
        let (server, from) = server.unwrap();
        assert_eq!(from.ip(), addr(us));
        assert!(HOST_PORTS.contains(&from.port()));

        let data: Vec<u8> = (0..300_000_u32).map(|n| (n % 249) as u8).collect();
        let (mut written, mut read, mut buffer) = (0, Vec::new(), [0; 4_096]);
        pair.until(|pair| {
            written += pair.hosts[0].tcp_send(id, &data[written..]).unwrap();
            let len = pair.hosts[1].tcp_receive(server, &mut buffer).unwrap();
            read.extend_from_slice(&buffer[..len]);
            read.len() == data.len()
        });
        assert!(read == data);
        assert!(pair.sent.iter().all(|(_, out)| out.packet.len() <= 1_500 && out.pin.is_none()));
        pair.hosts[0].tcp_close(id);
        assert_eq!(pair.hosts[0].tcp_progress(id), None);
        pair.until(|pair| {
            pair.hosts[1].tcp_receive(server, &mut buffer) == Err(SocketError::Closed)
        });
        pair.hosts[1].tcp_close(server);
        pair.until(|pair| pair.hosts.iter().all(|host| host.sockets.lingering() == 0));
    }
}

#[test]
fn segments_with_a_low_ttl_never_reach_a_guarded_listener() {
    let (us, them) = PAIRS[0];
    let mut host = host(&[us]);
    let gtsm = TcpOptions { min_ttl: 255, ..TcpOptions::default() };
    host.tcp_listen(Some(addr(us)), 179, gtsm).unwrap();
    let syn = tcp(them, us, (5_000, 179), 1, 0, 2);
    assert!(exchange(&mut host, &syn).is_empty());
    assert_eq!(host.stats().low_ttl, 1);
    let mut near = syn;
    near[8] = 255;
    near[10..12].fill(0);
    let value = sum(&[&near[..20]]);
    near[10..12].copy_from_slice(&value.to_be_bytes());
    let out = exchange(&mut host, &near);
    assert_eq!(parts(&out[0].packet).3[13] & 0x12, 0x12, "SYN and ACK");
}

fn spec(family: usize, fall: u32) -> CheckSpec {
    let (us, them) = PAIRS[family];
    CheckSpec {
        kind: CheckKind::Tcp { port: 80 },
        exit: Exit { adjacency: AdjacencyId(7), port: PORT },
        source: addr(us),
        target: addr(them),
        interval: Duration::from_millis(10),
        fall,
        rise: 2,
        initial_up: false,
    }
}

fn run_checks(pair: &mut Pair, checker: &mut TcpChecker, until: Nanos) -> Vec<CheckEvent> {
    let mut events = Vec::new();
    while pair.now < until {
        pair.step();
        checker.poll(pair.now, &mut pair.hosts[0]);
        events.extend(std::iter::from_fn(|| checker.poll_event()));
    }
    events
}

#[test]
fn a_tcp_check_follows_a_server_up_and_down() {
    for family in [0, 1] {
        let mut pair = Pair::new(family);
        let mut checker = TcpChecker::new();
        let listener = pair.hosts[1].tcp_listen(None, 80, TcpOptions::default()).unwrap();
        let id = checker.add(pair.now, &pair.hosts[0], spec(family, 3)).unwrap();
        let events = run_checks(&mut pair, &mut checker, ms(200));
        assert_eq!(events.len(), 1);
        assert_eq!((events[0].up, events[0].cause), (true, Cause::Answered));
        let stats = checker.stats(id).unwrap();
        assert!(stats.lost == 0 && stats.answered >= 18, "{stats:?}");
        let rtt = stats.rtt_ewma.unwrap();
        assert!(rtt >= Duration::from_millis(2) && rtt < Duration::from_millis(3), "{rtt:?}");
        assert!(pair.sent.iter().all(|(side, out)| out.pin.is_some() == (*side == 0)), "pinned");
        let open = pair.hosts[0].sockets.lingering();
        assert!(open <= 1, "no connection stays, {open} do");

        // The server's process ends: its kernel answers with resets.
        pair.hosts[1].tcp_unlisten(listener);
        let killed = pair.now;
        let events = run_checks(&mut pair, &mut checker, killed + Duration::from_millis(100));
        assert_eq!(events.len(), 1);
        assert_eq!((events[0].up, events[0].cause), (false, Cause::Reset));
        // And the second connection of that.
        assert!(events[0].t <= killed + Duration::from_millis(16), "at the next attempt");

        pair.hosts[1].tcp_listen(None, 80, TcpOptions::default()).unwrap();
        let end = pair.now + Duration::from_millis(100);
        assert!(run_checks(&mut pair, &mut checker, end)[0].up);
    }
}

#[test]
fn a_silent_server_is_down_when_the_budget_is_over() {
    let mut pair = Pair::new(0);
    let mut checker = TcpChecker::new();
    pair.hosts[1].tcp_listen(None, 80, TcpOptions::default()).unwrap();
    checker.add(pair.now, &pair.hosts[0], spec(0, 3)).unwrap();
    assert!(run_checks(&mut pair, &mut checker, ms(100))[0].up);
    pair.cut = true;
    let fault = pair.now;
    let events = run_checks(&mut pair, &mut checker, ms(400));
    assert_eq!((events.len(), events[0].up, events[0].cause), (1, false, Cause::Silent));
    assert!(events[0].t <= fault + Duration::from_micros(30_250));
    pair.cut = false;
    let end = pair.now + Duration::from_millis(100);
    assert!(run_checks(&mut pair, &mut checker, end)[0].up, "back");
}

#[test]
fn answers_by_another_port_do_not_count() {
    let mut pair = Pair::new(0);
    let mut checker = TcpChecker::new();
    pair.hosts[1].tcp_listen(None, 80, TcpOptions::default()).unwrap();
    pair.back = OTHER;
    checker.add(pair.now, &pair.hosts[0], spec(0, 3)).unwrap();
    let events = run_checks(&mut pair, &mut checker, ms(100));
    assert_eq!((events.len(), events[0].up, events[0].cause), (1, false, Cause::Silent));
    assert!(pair.hosts[0].stats().wrong_port >= 8);
    pair.back = PORT;
    assert!(run_checks(&mut pair, &mut checker, ms(200))[0].up);
}

#[test]
fn tcp_checks_of_a_port_without_carrier_are_down_and_send_nothing() {
    let mut pair = Pair::new(0);
    let mut checker = TcpChecker::new();
    pair.hosts[1].tcp_listen(None, 80, TcpOptions::default()).unwrap();
    checker.add(pair.now, &pair.hosts[0], spec(0, 3)).unwrap();
    assert!(run_checks(&mut pair, &mut checker, ms(50))[0].up);
    checker.set_carrier(pair.now, &mut pair.hosts[0], PORT, false);
    assert_eq!(checker.poll_event().unwrap().cause, Cause::Carrier);
    pair.sent.clear();
    assert!(run_checks(&mut pair, &mut checker, ms(150)).is_empty());
    assert!(pair.sent.iter().all(|(side, _)| *side == 1));
    checker.set_carrier(pair.now, &mut pair.hosts[0], PORT, true);
    assert!(run_checks(&mut pair, &mut checker, ms(250))[0].up);
}

proptest::proptest! {
    #[test]
    fn no_packet_makes_the_host_panic(
        bytes in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..120),
        family in 0..2_usize,
        protocol in proptest::sample::select(vec![0_u8, 1, 6, 17, 43, 44, 58, 60, 99]),
    ) {
        let (us, them) = PAIRS[family];
        let mut host = host(&[us]);
        host.tcp_listen(None, 80, TcpOptions::default()).unwrap();
        let body = [&bytes[..], &[0; 4]].concat();
        exchange(&mut host, &bytes);
        exchange(&mut host, &ip(them, us, protocol, body, 2));
        let mut tcp = tcp(them, us, (1, 80), 0, 0, 2);
        tcp.extend(&bytes);
        exchange(&mut host, &tcp);
    }
}
