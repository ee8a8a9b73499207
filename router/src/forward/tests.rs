//! The forwarding step, packet by packet.

mod changes;
mod fragments;
mod origin;
mod rig;
mod superframes;

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arc_swap::ArcSwap;
use nearhop_fib::{
    ACCEPT_ALL, AdjacencyId, Group, IpPrefix, Member, PathId, Reason, Spread, WhenDead, name_key,
};
use proptest::prelude::*;

use self::rig::*;
use super::*;
use crate::batch::{BURST, LocalLane};
use crate::ids::PortId;
use crate::packet::build::{Datagram, Echo};
use crate::packet::offload::Offload;
use crate::policy::{Martians, ReversePath};
use crate::port::memory::MemoryPort;
use crate::verdict::Outcome;

#[test]
fn packets_go_to_the_cheapest_living_site_with_one_hop_less() {
    let mut rig = Rig::new();
    for (src, dst) in [(CLIENT, SERVICE), (CLIENT6, SERVICE6)] {
        let packet = udp(src, dst, 30);
        let sent = rig.run(0, std::slice::from_ref(&packet));
        assert_eq!(sent, [(1, Verdict::Forward, udp_ttl(src, dst, 30, 63))]);
        rig.handle.set_path_down(rig.legs[1].0, Reason::Probe);
        assert_eq!(rig.run(0, std::slice::from_ref(&packet))[0].0, 2);
        rig.handle.clear_path_down(rig.legs[1].0, Reason::Probe);
    }
    assert_eq!(rig.of(Verdict::Forward), 4);
    assert_eq!(rig.state.counters.paths[rig.legs[2].0.0 as usize].packets, 2);
}

/// From an address of the router by whatever port, but by the same rules otherwise.
#[test]
fn what_is_injected_goes_where_a_packet_from_the_port_would() {
    for (from, to) in [("10.0.0.1:4000", SERVICE), ("[fd00::1]:4000", SERVICE6)] {
        let mut rig = Rig::new();
        rig.with_snapshot(|snapshot| {
            for port in snapshot.ports.iter_mut().flatten() {
                port.reverse_path = ReversePath::Strict;
            }
        });
        let packet = udp(from, to, 30);
        assert!(
            rig.run(0, std::slice::from_ref(&packet)).is_empty(),
            "from the wire it is spoofed"
        );
        assert_eq!(rig.of(Verdict::MartianSource), 1);
        let mut inject = |port: u16, packet: &[u8]| {
            rig.batch.clear();
            rig.batch.inject(PortId(port), packet);
            rig.run_batch()
        };
        assert_eq!(inject(0, &packet), [(1, Verdict::Forward, udp_ttl(from, to, 30, 63))]);
        // Refused like any other, with an error.
        assert_eq!(inject(0, &udp("203.0.113.9:1", "203.0.113.8:1", 30)).len(), 1);
        assert_eq!((rig.of(Verdict::NoRoute), rig.of(Verdict::MartianSource)), (1, 1));
        assert_eq!((rig.state.counters.received, rig.state.counters.originated), (1, 3));
        assert!(rig.run(0, &[packet]).is_empty(), "the next batch is from the wire again");
    }
}

#[test]
fn repair_makes_no_u_turn() {
    let mut rig = Rig::new();
    rig.route("203.0.113.0/24", &[1, 0]);
    let [toward_ams, by_the_way] =
        ["203.0.113.9:53", "10.0.0.77:53"].map(|dst| udp(CLIENT, dst, 30));
    assert_eq!(rig.run(0, std::slice::from_ref(&toward_ams))[0].0, 1);
    // The remaining member leads back to this packet's ingress port; it is usable for packets from
    // elsewhere.
    rig.handle.set_adjacency_down(rig.legs[1].1, Reason::Carrier);
    let sent = rig.run(0, std::slice::from_ref(&toward_ams));
    assert_eq!(sent.iter().map(|s| s.1).collect::<Vec<_>>(), [Verdict::Originate], "{sent:?}");
    assert_eq!(rig.of(Verdict::UTurn), 1);
    assert_eq!(rig.run(2, std::slice::from_ref(&toward_ams))[0].0, 0);
    // Back out of the same port is right where nothing better exists with all alive.
    assert_eq!(rig.run(0, std::slice::from_ref(&by_the_way))[0].0, 0);
    assert_eq!(rig.of(Verdict::UTurn), 1);
}

/// A neighbour that still takes the router for the nearest one does not get its packets back.
#[test]
fn what_a_dead_service_leads_on_to_is_no_u_turn() {
    let mut rig = Rig::new();
    for (prefix, next, src, dst) in [
        ("203.0.113.53/32", "203.0.113.0/24", "10.2.0.77:9", "203.0.113.53:53"),
        ("2001:db8:99::53/128", "2001:db8:99::/48", "[fd00:2::77]:9", "[2001:db8:99::53]:53"),
    ] {
        rig.route(next, &[2]).route(prefix, &[1]);
        let found = rig.writer.get(prefix.parse().unwrap()).unwrap();
        let next = rig.writer.get(next.parse().unwrap()).unwrap();
        let Some(Group::Forward { members, spread, .. }) = rig.writer.group(found) else {
            panic!("a group")
        };
        let when_dead = WhenDead::Covering(next);
        let group = Group::Forward { members, when_dead, spread };
        rig.writer.replace_group(found, &group).unwrap();
        let packet = udp(src, dst, 30);
        assert_eq!(rig.run(2, std::slice::from_ref(&packet))[0].0, 1);
        rig.handle.set_path_down(rig.legs[1].0, Reason::Probe);
        let before = rig.of(Verdict::UTurn);
        let sent = rig.run(2, std::slice::from_ref(&packet));
        assert!(sent.iter().all(|one| one.1 == Verdict::Originate), "{sent:?}");
        assert_eq!(rig.of(Verdict::UTurn), before + 1);
        assert_eq!(rig.run(0, std::slice::from_ref(&packet))[0].0, 2, "from elsewhere it is sent");
        rig.handle.clear_path_down(rig.legs[1].0, Reason::Probe);
    }
}

/// RFC 6864 section 4.3: they may be fragmented on their way.
#[test]
fn no_two_errors_have_one_identification() {
    let mut rig = Rig::new();
    let late = udp_ttl(CLIENT, SERVICE, 30, 1);
    let sent = rig.run(0, &[late.clone(), late]);
    let [(_, _, first), (_, _, second)] = &sent[..] else { panic!("{sent:?}") };
    assert_ne!(first[4..6], second[4..6]);
    assert_eq!(first[20..], second[20..], "they say the same");
}

/// A link's other end that routes its network here would get such packets again and again.
#[test]
fn what_comes_from_a_link_and_is_for_another_address_of_it_is_answered() {
    let mut rig = Rig::new();
    let networks = ["10.0.0.0/24", "fd00::/64", "198.51.100.0/24"];
    let networks: Vec<IpPrefix> = networks.iter().map(|text| text.parse().unwrap()).collect();
    rig.with_snapshot(|snapshot| {
        snapshot.ports[0].as_mut().unwrap().networks = networks.into();
    });
    for (src, dst, code) in [(CLIENT, "10.0.0.77:53", [3, 1]), (CLIENT6, "[fd00::77]:53", [1, 3])] {
        rig.route(
            &IpPrefix::host(dst.parse::<std::net::SocketAddr>().unwrap().ip()).to_string(),
            &[0],
        );
        let packet = udp(src, dst, 30);
        let sent = rig.run(0, std::slice::from_ref(&packet));
        let [(0, Verdict::Originate, error)] = &sent[..] else { panic!("{sent:?}") };
        let header = if src.starts_with('[') { 40 } else { 20 };
        assert_eq!(error[header..header + 2], code);
        assert_eq!(rig.run(2, std::slice::from_ref(&packet))[0].0, 0, "from elsewhere it is sent");
    }
    assert_eq!(rig.of(Verdict::UTurn), 2);
    // A site may serve clients on its own link.
    rig.route("198.51.100.53/32", &[0]);
    assert_eq!(rig.run(0, &[udp(CLIENT, SERVICE, 30)])[0].1, Verdict::Forward);
}

#[test]
fn link_padding_is_cut() {
    let mut rig = Rig::new();
    let mut packet = udp(CLIENT, SERVICE, 1);
    let len = packet.len();
    packet.extend([0; 17]);
    assert_eq!(rig.run(0, &[packet])[0].2.len(), len);
}

#[test]
fn each_refusal_is_counted_and_answered_as_the_rules_say() {
    let mut rig = Rig::new();
    rig.group("10.10.0.0/16", &Group::Blackhole);
    rig.group("10.11.0.0/16", &Group::Unreachable);
    rig.group("10.12.0.0/16", &Group::Prohibit);
    rig.handle.set_path_down(rig.legs[1].0, Reason::Probe);
    rig.route("10.13.0.0/16", &[1]);
    let ttl1 = udp_ttl(CLIENT, SERVICE, 5, 1);
    for (packet, verdict, icmp) in [
        (udp(CLIENT, "9.9.9.9:1", 5), Verdict::NoRoute, Some((3, 0))),
        (udp(CLIENT, "10.10.0.1:1", 5), Verdict::Blackhole, None),
        (udp(CLIENT, "10.11.0.1:1", 5), Verdict::Unreachable, Some((3, 1))),
        (udp(CLIENT, "10.12.0.1:1", 5), Verdict::Prohibit, Some((3, 13))),
        (udp(CLIENT, "10.13.0.1:1", 5), Verdict::AllDead, Some((3, 1))),
        (ttl1, Verdict::TtlExpired, Some((11, 0))),
        (udp(CLIENT, "127.0.0.1:1", 5), Verdict::MartianDestination, None),
        (udp(CLIENT, "224.0.0.1:1", 5), Verdict::Multicast, None),
        (udp(CLIENT, "255.255.255.255:1", 5), Verdict::Broadcast, None),
        (udp(CLIENT, "10.0.0.255:1", 5), Verdict::Broadcast, None),
        (udp("127.0.0.1:1", SERVICE, 5), Verdict::MartianSource, None),
        (udp("10.0.0.255:1", SERVICE, 5), Verdict::MartianSource, None),
        (vec![0x45, 0], Verdict::Truncated, None),
        (vec![0x15; 40], Verdict::NotIp, None),
    ] {
        let before = rig.of(verdict);
        let sent = rig.run(0, std::slice::from_ref(&packet));
        assert_eq!(rig.of(verdict), before + 1, "{verdict:?}");
        let got = sent.first().map(|(port, verdict, bytes)| {
            assert_eq!((*port, *verdict), (0, Verdict::Originate));
            let meta = Meta::parse(bytes).unwrap();
            assert_eq!(meta.src, IpAddr::from([10, 0, 0, 1]), "from the port it leaves by");
            (bytes[meta.header_len], bytes[meta.header_len + 1])
        });
        assert_eq!(got, icmp, "{verdict:?}");
    }
}

#[test]
fn an_error_by_a_port_without_an_address_has_another_of_the_routers() {
    let mut rig = Rig::new();
    rig.with_snapshot(|snapshot| {
        let client = snapshot.ports[0].as_mut().unwrap();
        (client.address_v4, client.address_v6) = (None, None);
        snapshot.address_v6 = "fd00:1::1".parse().ok();
    });
    for (client, service, source) in
        [(CLIENT, SERVICE, "192.0.2.1"), (CLIENT6, SERVICE6, "fd00:1::1")]
    {
        let sent = rig.run(0, &[udp_ttl(client, service, 5, 1)]);
        assert_eq!(Meta::parse(&sent[0].2).unwrap().src, source.parse::<IpAddr>().unwrap());
    }
    rig.with_snapshot(|snapshot| snapshot.address_v6 = None);
    assert!(rig.run(0, &[udp_ttl(CLIENT6, SERVICE6, 5, 1)]).is_empty());
    assert_eq!(rig.state.counters.errors_unroutable, 1);
}

#[test]
fn packets_above_the_mtu_are_answered_with_it_or_fragmented() {
    let mut rig = Rig::new();
    let sent = rig.run(0, &[udp(CLIENT, SERVICE, 1400)]);
    assert_eq!(sent[0].2[20..22], [3, 4]);
    assert_eq!(sent[0].2[26..28], 1400_u16.to_be_bytes());
    let sent = rig.run(0, &[udp(CLIENT6, SERVICE6, 1400)]);
    assert_eq!(sent[0].2[40..42], [2, 0]);
    assert_eq!(sent[0].2[44..48], 1400_u32.to_be_bytes());
    assert_eq!(rig.of(Verdict::TooBig), 2);

    let sent = rig.run(0, &[may_fragment(udp(CLIENT, SERVICE, 3000))]);
    assert_eq!(sent.len(), 3);
    let payload: usize = sent.iter().map(|(_, _, bytes)| bytes.len() - 20).sum();
    assert_eq!(payload, 3008);
    assert!(sent.iter().all(|(port, verdict, bytes)| {
        (*port, *verdict) == (1, Verdict::FragmentSent) && bytes.len() <= 1400
    }));
    assert_eq!((rig.of(Verdict::Fragmented), rig.state.counters.split), (1, 3));
}

#[test]
fn a_batch_of_giants_is_cut_as_far_as_buffers_reach_and_no_datagram_half() {
    let mut rig = Rig::new();
    let small = Adjacency::point_to_point(PortId(1), 68);
    rig.with_snapshot(|snapshot| snapshot.adjacencies.set(AdjacencyId(1), Some(small)));
    let giant = may_fragment(udp(CLIENT, SERVICE, 60_000));
    let sent = rig.run(0, &vec![giant.clone(); 8]);
    let each = 60_008_usize.div_ceil(48);
    assert_eq!(sent.len() % each, 0);
    assert!(sent.len() >= each);
    assert_eq!(rig.of(Verdict::Fragmented) + rig.of(Verdict::NoBuffer), 8);
}

#[test]
fn errors_are_never_answered_and_floods_are_limited_without_starving_too_big() {
    let mut rig = Rig::new();
    let expired = udp_ttl(CLIENT, SERVICE, 5, 1);
    let error = rig.run(0, std::slice::from_ref(&expired)).remove(0).2;
    // The error comes back with its TTL spent.
    let mut back = error;
    back[8] = 1;
    back[12..16].copy_from_slice(&[10, 0, 0, 2]);
    back[16..20].copy_from_slice(&[198, 51, 100, 53]);
    assert!(rig.run(0, &[may_fragment(back)]).is_empty());

    for _ in 0..10 {
        rig.run(0, &vec![expired.clone(); 64]);
    }
    assert!(rig.state.counters.errors_limited >= 500);
    let sent = rig.run(0, &[udp(CLIENT, SERVICE, 1400)]);
    assert_eq!(sent[0].2[20..22], [3, 4], "too big has a bucket of its own");
}

#[test]
fn what_is_for_the_router_is_punted_to_the_part_it_is_for() {
    let mut rig = Rig::new();
    let mut buffer = vec![0; 100];
    let mut echo = |reply| {
        let (src, dst) = ([10, 0, 0, 2].into(), [10, 0, 0, 1].into());
        let echo = Echo { src, dst, ttl: 64, reply, ident: 7, seq: 1, data: &[1; 8] };
        let len = echo.write(&mut buffer).unwrap();
        buffer[..len].to_vec()
    };
    let packets = [
        echo(false),
        echo(true),
        udp(CLIENT, "10.0.0.1:179", 4),
        udp(CLIENT, "10.0.0.1:50000", 4),
        udp_ttl(CLIENT6, "[fd00::1]:179", 4, 1),
    ];
    assert!(rig.run(0, &packets).is_empty());
    let punts: Vec<_> =
        rig.batch.punts().map(|(punt, port, _)| (punt.lane.verdict(), port.0)).collect();
    let (host, prober) = ((Verdict::Local, 0), (Verdict::ProbeAnswer, 0));
    assert_eq!(punts, [host, prober, host, prober, host]);
}

#[test]
fn fragments_for_the_router_go_to_the_host_stack_whatever_their_bytes_are() {
    let mut rig = Rig::new();
    let (src, dst) = ([10, 0, 0, 2].into(), [10, 0, 0, 1].into());
    let mut echo = vec![0; 3100];
    let request = Echo { src, dst, ttl: 64, reply: false, ident: 7, seq: 1, data: &[0xa5; 3000] };
    let len = request.write(&mut echo).unwrap();
    let mut pieces = Vec::new();
    let packet = may_fragment(echo[..len].to_vec());
    crate::packet::fragment::fragment(&packet, 1500, &mut [0; 1500], |piece| {
        pieces.push(piece.to_vec());
    })
    .unwrap();
    rig.run(0, &pieces);
    assert_eq!((rig.of(Verdict::Local), rig.of(Verdict::ProbeAnswer)), (3, 0));
    assert!(rig.batch.punts().all(|(punt, _, _)| punt.lane == LocalLane::Host));
    // An answer to a check may be among fragments of UDP.
    for (src, dst) in [(CLIENT, "10.0.0.1:50000"), (CLIENT6, "[fd00::1]:50000")] {
        let mut pieces = Vec::new();
        let answer = udp(src, dst, 3000);
        let emit = |piece: &[u8]| pieces.push(piece.to_vec());
        crate::packet::origin::split(&answer, 1280, 7, &mut [0; 1280], emit).unwrap();
        rig.run(0, &pieces);
        let punts: Vec<_> = rig.batch.punts().map(|(punt, _, _)| punt.lane).collect();
        assert_eq!(punts, vec![LocalLane::Fragments; pieces.len()], "{dst}");
    }
}

#[test]
fn reverse_path_strict_takes_any_member_dead_or_alive_and_loose_any_route_that_leads_somewhere() {
    let mut rig = Rig::new();
    let answer = udp(SERVICE, CLIENT, 5);
    let check = |rig: &mut Rig, mode, port: u16| {
        rig.with_snapshot(|snapshot| {
            snapshot.ports[usize::from(port)].as_mut().unwrap().reverse_path = mode;
        });
        !rig.run(port, std::slice::from_ref(&answer)).is_empty()
    };
    rig.handle.set_path_down(rig.legs[2].0, Reason::Probe);
    assert!(check(&mut rig, ReversePath::Strict, 1));
    assert!(check(&mut rig, ReversePath::Strict, 2), "a dead member's port is a feasible path");
    assert!(!check(&mut rig, ReversePath::Strict, 0));
    assert!(check(&mut rig, ReversePath::Loose, 0));
    assert_eq!(rig.of(Verdict::ReversePath), 1);
    rig.with_snapshot(|s| s.ports[0].as_mut().unwrap().reverse_path = ReversePath::Loose);
    assert!(rig.run(0, &[udp("9.9.9.9:1", SERVICE, 5)]).is_empty());
    assert_eq!(rig.of(Verdict::ReversePath), 2);
    let refused = [Group::Blackhole, Group::Unreachable, Group::Prohibit];
    for (group, refused) in refused.iter().zip(3..) {
        rig.group("9.9.9.0/24", group);
        assert!(rig.run(0, &[udp("9.9.9.9:1", SERVICE, 5)]).is_empty());
        assert_eq!(rig.of(Verdict::ReversePath), refused, "{group:?} is no way back");
    }
    rig.route("9.9.9.0/24", &[2]);
    assert_eq!(rig.run(0, &[udp("9.9.9.9:1", SERVICE, 5)]).len(), 1, "its member is dead");
}

#[test]
fn the_routers_own_addresses_are_no_source_on_any_port() {
    let mut rig = Rig::new();
    for (own, dst) in OWN_SOURCES.iter().map(|own| match own.parse().unwrap() {
        IpAddr::V4(_) => (format!("{own}:4000"), SERVICE),
        IpAddr::V6(_) => (format!("[{own}]:4000"), SERVICE6),
    }) {
        for port in 0..3 {
            for martians in [Martians::Off, Martians::Default, Martians::Strict] {
                rig.with_snapshot(|snapshot| snapshot.martians = martians);
                let before = rig.of(Verdict::MartianSource);
                assert!(rig.run(port, &[udp(&own, dst, 5)]).is_empty(), "{own} by {port}");
                assert_eq!(rig.of(Verdict::MartianSource), before + 1, "{own} {martians:?}");
            }
        }
    }
    // A neighbour of each is a source like any other.
    rig.with_snapshot(|snapshot| snapshot.martians = Martians::Default);
    for (next, dst) in [("10.1.0.2:9", SERVICE), ("[fd00:1::2]:9", SERVICE6)] {
        assert_eq!(rig.run(0, &[udp(next, dst, 5)]).len(), 1, "{next}");
    }
}

#[test]
fn clients_do_not_send_from_a_service_unless_a_way_to_it_leads_there() {
    let mut rig = Rig::new();
    let refused = |rig: &mut Rig, src: &str, dst: &str| {
        let before = rig.of(Verdict::ServiceSource);
        rig.run(0, &[udp(src, dst, 5)]);
        rig.of(Verdict::ServiceSource) > before
    };
    for (service, client) in [(SERVICE, "10.0.0.9:9"), (SERVICE6, "[fd00::9]:9")] {
        assert!(!refused(&mut rig, service, client), "anybody may be behind the port");
    }
    let facing = crate::policy::Facing::Clients;
    rig.with_snapshot(|snapshot| snapshot.ports[0].as_mut().unwrap().facing = facing);
    for (service, client) in [(SERVICE, "10.0.0.9:9"), (SERVICE6, "[fd00::9]:9")] {
        assert!(refused(&mut rig, service, client));
        assert!(!refused(&mut rig, client, service), "a client asks");
    }
    // A dead site elsewhere is behind the port.
    rig.route("198.51.100.53/32", &[1, 0]).route("2001:db8:53::53/128", &[1, 0]);
    rig.handle.set_path_down(rig.legs[0].0, Reason::Probe);
    for (service, client) in [(SERVICE, "10.0.0.9:9"), (SERVICE6, "[fd00::9]:9")] {
        assert!(!refused(&mut rig, service, client));
    }
    // What covers it leads there.
    let covering = Group::Forward {
        members: vec![],
        when_dead: WhenDead::Covering(rig.writer.get("10.0.0.0/24".parse().unwrap()).unwrap()),
        spread: Spread::Flow,
    };
    rig.group("198.51.100.53/32", &covering);
    assert!(!refused(&mut rig, SERVICE, "10.0.0.9:9"));
    rig.group("198.51.100.53/32", &Group::Unreachable);
    assert!(refused(&mut rig, SERVICE, "10.0.0.9:9"));
}

#[test]
fn router_discovery_is_delivered_by_ports_that_have_it() {
    let mut rig = Rig::new();
    rig.with_snapshot(|snapshot| {
        let port = snapshot.ports[1].as_mut().unwrap();
        port.link_locals = ["fe80::1".parse().unwrap()].into();
        port.has_discovery = true;
    });
    let [delivered, group] = [Verdict::Local, Verdict::Multicast];
    for (port, src, dst, verdict) in [
        (1, "[fe80::2]:9", "[ff02::1]:9", delivered),
        (1, "[fe80::2]:9", "[ff02::2]:9", delivered),
        (1, "[::]:9", "[ff02::2]:9", delivered),
        (1, "[fe80::1]:9", "[ff02::1]:9", Verdict::MartianSource),
        (1, "[2001:db8::9]:9", "[ff02::1]:9", group),
        (1, "[fe80::2]:9", "[ff02::16]:9", Verdict::LinkLocal),
        (2, "[fe80::2]:9", "[ff02::1]:9", Verdict::LinkLocal),
    ] {
        let before = rig.of(verdict);
        assert!(rig.run(port, &[udp(src, dst, 5)]).is_empty(), "{src} to {dst}");
        assert_eq!(rig.of(verdict), before + 1, "{src} to {dst} by {port}");
    }
}

#[test]
fn link_local_packets_are_delivered_by_their_own_port_and_never_forwarded() {
    let mut rig = Rig::new();
    rig.group("10.1.0.1/32", &Group::Local).group("fd00:1::1/128", &Group::Local);
    rig.group("169.254.10.1/32", &Group::Local).group("fe80::1/128", &Group::Local);
    rig.with_snapshot(|snapshot| {
        let own = ["169.254.10.1", "fe80::1"].map(|own| own.parse().unwrap());
        snapshot.ports[1].as_mut().unwrap().link_locals = own.into();
    });
    let [delivered, refused, own] = [Verdict::Local, Verdict::LinkLocal, Verdict::MartianSource];
    for (port, src, dst, verdict) in [
        (1, "169.254.10.2:9", "169.254.10.1:179", delivered),
        (1, "[fe80::2]:9", "[fe80::1]:179", delivered),
        (1, "[fd00:1::2]:9", "[fe80::1]:179", delivered),
        (1, "[fe80::2]:9", "[fd00:1::1]:179", delivered),
        (1, "169.254.10.2:9", "10.1.0.1:179", delivered),
        (1, "[fe80::2]:9", "[fe80::1]:50000", Verdict::ProbeAnswer),
        (2, "169.254.10.2:9", "169.254.10.1:179", refused),
        (2, "[fe80::2]:9", "[fe80::1]:179", refused),
        (1, "169.254.10.2:9", "169.254.10.3:179", refused),
        (1, "[fe80::2]:9", "[fe80::3]:179", refused),
        (1, "169.254.10.2:9", SERVICE, refused),
        (1, "[fe80::2]:9", SERVICE6, refused),
        (1, "169.254.10.2:9", "224.0.0.1:9", refused),
        (1, "[fe80::2]:9", "[ff02::1]:9", refused),
        (1, "169.254.10.1:9", "169.254.10.1:179", own),
        (1, "[fe80::1]:9", "[fe80::1]:179", own),
        (1, "[fd00:2::1]:9", "[fe80::1]:179", own),
        (1, "[::1]:9", "[fe80::1]:179", own),
    ] {
        for martians in [Martians::Default, Martians::Off] {
            if martians == Martians::Off && src.starts_with("[::1") {
                continue;
            }
            rig.with_snapshot(|snapshot| snapshot.martians = martians);
            let before = rig.of(verdict);
            assert!(rig.run(port, &[udp(src, dst, 5)]).is_empty(), "{src} to {dst}");
            assert_eq!(rig.of(verdict), before + 1, "{src} to {dst} by {port}, {martians:?}");
        }
    }
}

#[test]
fn spreading_by_packet_uses_every_member_of_the_tier() {
    let mut rig = Rig::new();
    let members = [1, 2].map(|leg| {
        let (path, adjacency): (PathId, AdjacencyId) = rig.legs[leg];
        Member { path, adjacency, tier: 0, weight: 1, link_weight: 1 }
    });
    let group = Group::Forward {
        members: members.to_vec(),
        when_dead: WhenDead::Drop,
        spread: Spread::Packet,
    };
    rig.group("198.51.100.54/32", &group);
    let sent = rig.run(0, &vec![udp(CLIENT, "198.51.100.54:53", 5); 64]);
    let to_ams = sent.iter().filter(|sent| sent.0 == 1).count();
    assert!((10..54).contains(&to_ams), "{to_ams}");
}

proptest! {
    #[test]
    fn junk_never_panics_and_always_balances(
        junk in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..200), 1..64),
        flips in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6),
        port in 0..4_u16,
    ) {
        let mut rig = Rig::new();
        rig.run(port, &junk);
        for template in [udp(CLIENT, SERVICE, 20), udp(CLIENT6, SERVICE6, 20)] {
            let mut packet = template;
            for (at, value) in &flips {
                let at = at.index(packet.len());
                packet[at] = *value;
            }
            rig.run(port, &[packet.clone(), may_fragment(packet)]);
        }
        let counters = &rig.state.counters;
        let by = |outcome| -> u64 {
            let of = Verdict::ALL.iter().filter(|v| v.outcome() == outcome);
            of.map(|v| counters.of(*v)).sum()
        };
        prop_assert_eq!(
            counters.received + counters.originated + counters.split,
            Outcome::ALL.into_iter().map(by).sum::<u64>()
        );
    }
}
