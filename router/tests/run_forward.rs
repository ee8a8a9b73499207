//! What the running daemon does with packets, and what it reports meanwhile.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod daemon_support;
mod support;

use std::fs;
use std::net::{IpAddr, SocketAddr, SocketAddrV6, UdpSocket};
use std::time::Duration;

use daemon_support::{Probes, Rig, SERVICE_V4, SERVICE_V6, config};
use nearhop::kernel::link::LinkSetup;
use nearhop::packet::build::Echo;
use rustix::net::{AddressFamily, RecvFlags, SocketType, ipproto};
use serde_json::Value;
use smoltcp::wire::{
    Icmpv4Message, Icmpv4Packet, Icmpv6Message, Icmpv6Packet, Ipv4Packet, Ipv6Packet,
};
use support::wire::Wire;
use support::{in_namespaces, udp_packet, wait_for};

const AMS_FIRST: &[(&str, u32)] = &[("ams", 10), ("fra", 20)];

#[test]
fn readiness_is_reported_after_every_first_verdict_and_by_a_file() {
    in_namespaces("readiness_is_reported_after_every_first_verdict_and_by_a_file", || {
        let rig = Rig::start(AMS_FIRST);
        wait_for("the ready file", || fs::read_to_string(rig.dir.join("ready")).ok());
        let events = rig.events_until(|event| event["kind"] == "ready");
        let at = |fits: &dyn Fn(&Value) -> bool| events.iter().position(fits).unwrap();
        let ready = at(&|event| event["kind"] == "ready");
        assert!(at(&|event| event["kind"] == "publish") < ready, "routes are installed");
        for site in ["ams", "fra"] {
            let carrier = at(&|event| event["kind"] == "carrier" && event["port"] == site);
            for family in ["ipv4", "ipv6"] {
                let verdict = at(&|event| {
                    (&event["kind"], &event["site"], &event["family"])
                        == (&"site".into(), &site.into(), &family.into())
                });
                assert!(carrier < verdict && verdict < ready, "{site} {family}: {events:#?}");
            }
        }
        for (index, event) in events.iter().enumerate() {
            assert_eq!(event["seq"], index);
            assert_eq!(
                (&event["schema"], &event["node"]),
                (&"nearhop.event.v1".into(), &"r1".into())
            );
            assert!(event["t_ns"].as_u64().unwrap() > 0);
        }
    });
}

#[test]
fn packets_are_forwarded_and_expired_ones_answered_by_the_ports_address() {
    in_namespaces("packets_are_forwarded_and_expired_ones_answered_by_the_ports_address", || {
        let rig = Rig::start(AMS_FIRST);
        for (from, to, port) in
            [("10.0.0.2", SERVICE_V4, "10.0.0.1"), ("fd00::2", SERVICE_V6, "fd00::1")]
        {
            let (from, to): (IpAddr, IpAddr) = (from.parse().unwrap(), to.parse().unwrap());
            let socket = rig.client.within(|| UdpSocket::bind((from, 0))).unwrap().unwrap();
            socket.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
            // One hop ends at the router, two reach the site.
            set_hops(&socket, to, 2);
            socket.send_to(b"two hops", (to, 7)).unwrap();
            let mut buffer = [0; 64];
            let len = socket.recv(&mut buffer).unwrap();
            assert_eq!(&buffer[..len], b"two hopsams");

            let (family, protocol) = match to {
                IpAddr::V4(_) => (AddressFamily::INET, ipproto::ICMP),
                IpAddr::V6(_) => (AddressFamily::INET6, ipproto::ICMPV6),
            };
            let open = || rustix::net::socket(family, SocketType::RAW, Some(protocol));
            let icmp = rig.client.within(open).unwrap().unwrap();
            set_hops(&socket, to, 1);
            socket.send_to(b"one hop", (to, 7)).unwrap();
            let mut buffer = [0; 2048];
            let quoted = wait_for("time exceeded", || {
                let (len, _, sender) =
                    rustix::net::recvfrom(&icmp, &mut buffer[..], RecvFlags::DONTWAIT).ok()?;
                let quoted = quoted_destination(to, &buffer[..len])?;
                let sender = SocketAddr::try_from(sender?).unwrap();
                assert_eq!(sender.ip().to_string(), port);
                Some(quoted)
            });
            assert_eq!(quoted, to);
        }
        wait_for("both to be counted", || (rig.dropped("ttl-expired") == 2).then_some(()));
    });
}

/// The client's kernel learns the path MTU from the router's answers, like tracepath.
#[test]
fn what_is_too_big_for_the_way_out_is_refused_with_its_mtu() {
    in_namespaces("what_is_too_big_for_the_way_out_is_refused_with_its_mtu", || {
        let narrow =
            config(AMS_FIRST).replace("netns = \"ams\"\n", "netns = \"ams\"\nmtu = 1300\n");
        let rig = Rig::start_with(AMS_FIRST, &narrow);
        for (from, to) in [("10.0.0.2", SERVICE_V4), ("fd00::2", SERVICE_V6)] {
            let (from, to): (IpAddr, IpAddr) = (from.parse().unwrap(), to.parse().unwrap());
            let socket = rig.client.within(|| UdpSocket::bind((from, 0))).unwrap().unwrap();
            socket.connect((to, 7)).unwrap();
            socket.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
            let fits = 1300 - if to.is_ipv4() { 28 } else { 48 };
            // IPv4 sets DF from the start, like every socket that does path MTU discovery.
            let mtu = wait_for("the kernel to know the MTU", || {
                // Fails once the kernel has the error.
                let _ = socket.send(&[0; 1400]);
                let _ = socket.recv(&mut [0; 64]);
                mtu_of(to)
            });
            assert_eq!(mtu, 1300);
            socket.send(&vec![0; fits]).unwrap();
            wait_for("an answer to what fits", || socket.recv(&mut [0; 64]).ok());
        }
        wait_for("both to be counted", || (rig.dropped("too-big") >= 2).then_some(()));
    });
}

/// The path MTU that the client's kernel knows, by `ip route get`, such as `mtu 1300`.
fn mtu_of(to: IpAddr) -> Option<u32> {
    let reported = support::run(&format!("ip -n client route get {to}"));
    let mut words = reported.split_whitespace();
    words.find(|word| *word == "mtu")?;
    words.next()?.parse().ok()
}

fn set_hops(socket: &UdpSocket, to: IpAddr, hops: u8) {
    match to {
        IpAddr::V4(_) => socket.set_ttl(hops.into()).unwrap(),
        IpAddr::V6(_) => rustix::net::sockopt::set_ipv6_unicast_hops(socket, Some(hops)).unwrap(),
    }
}

/// Destination of the packet quoted by a time-exceeded message, if it is one. An IPv4 raw socket
/// returns the IP header too, an IPv6 one does not (raw(7), ipv6(7)).
fn quoted_destination(to: IpAddr, bytes: &[u8]) -> Option<IpAddr> {
    if to.is_ipv4() {
        let ip = Ipv4Packet::new_checked(bytes).unwrap();
        let icmp = Icmpv4Packet::new_checked(ip.payload()).unwrap();
        assert!(icmp.verify_checksum());
        let quoted = Ipv4Packet::new_unchecked(icmp.data());
        (icmp.msg_type() == Icmpv4Message::TimeExceeded).then(|| quoted.dst_addr().into())
    } else {
        let icmp = Icmpv6Packet::new_checked(bytes).unwrap();
        let quoted = Ipv6Packet::new_unchecked(icmp.payload());
        (icmp.msg_type() == Icmpv6Message::TimeExceeded).then(|| quoted.dst_addr().into())
    }
}

#[test]
fn wrong_packets_are_counted_by_reason_and_stop_nothing() {
    in_namespaces("wrong_packets_are_counted_by_reason_and_stop_nothing", || {
        let text = config(AMS_FIRST)
            .replace("netns = \"client\"\n", "netns = \"client\"\nfacing = \"clients\"\n");
        let rig = Rig::start_with(AMS_FIRST, &text);
        let ifindex = LinkSetup::open(&rig.client).unwrap().status("nh-client").unwrap().ifindex;
        let wire = rig.client.within(|| Wire::open(ifindex)).unwrap().unwrap();
        let probes = Probes::start(&rig.client, SERVICE_V4, 2);
        probes.wait_for_site("ams");
        for (reason, packet) in wrong_packets() {
            let before = rig.dropped(reason);
            for _ in 0..3 {
                wire.send(&packet).unwrap();
            }
            wait_for(reason, || (rig.dropped(reason) >= before + 3).then_some(()));
            assert_eq!(rig.dropped(reason), before + 3, "{reason}");
        }
        let (sent, lost, _) = probes.finish();
        assert_eq!(lost, 0, "of {sent}");
    });
}

/// Packets that must not be forwarded, and the verdict by which each is counted.
fn wrong_packets() -> Vec<(&'static str, Vec<u8>)> {
    let v4 = |from: &str, to: &str| {
        let (from, to): (IpAddr, IpAddr) = (from.parse().unwrap(), to.parse().unwrap());
        udp_packet(SocketAddr::new(from, 5000), SocketAddr::new(to, 7), b"wrong")
    };
    let (good, good6) = (v4("10.0.0.2", SERVICE_V4), v4("fd00::2", SERVICE_V6));
    // The header checksum is corrected, so that it is not the reason of the drop.
    let with = |at: usize, value: u8| {
        let mut packet = good.clone();
        packet[at] = value;
        Ipv4Packet::new_unchecked(&mut packet[..]).fill_checksum();
        packet
    };
    let mut sum = good.clone();
    sum[10] ^= 0xff;
    // Loose source and record route (RFC 791 section 3.1) to one address, and a byte of padding.
    let mut route = good[..20].to_vec();
    route.extend([131, 7, 4, 10, 9, 9, 9, 0]);
    route.extend(&good[20..]);
    route[0] = 0x47;
    route[3] += 8;
    Ipv4Packet::new_unchecked(&mut route[..]).fill_checksum();
    let mut lying6 = good6.clone();
    lying6[4] = 0xff;
    vec![
        ("truncated", good[..19].to_vec()),
        ("truncated", good6[..39].to_vec()),
        ("truncated", vec![0x45]),
        ("not-ip", vec![0x75; 40]),
        ("bad-header-length", with(0, 0x44)),
        ("bad-total-length", with(2, 0x40)),
        ("bad-total-length", with(3, 19)),
        ("bad-total-length", lying6),
        ("bad-header-checksum", sum),
        ("source-route", route),
        ("martian-source", v4("127.0.0.1", SERVICE_V4)),
        ("martian-source", v4("::1", SERVICE_V6)),
        // What these drew from a next hop would be an answer to the router itself.
        ("martian-source", v4("10.1.0.1", SERVICE_V4)),
        ("martian-source", v4("fd00:1::1", SERVICE_V6)),
        ("service-source", v4(SERVICE_V4, "10.1.0.2")),
        ("service-source", v4(SERVICE_V6, "fd00:1::2")),
        ("martian-destination", v4("10.0.0.2", "240.0.0.1")),
        ("broadcast", v4("10.0.0.2", "10.1.0.255")),
        ("no-route", v4("10.0.0.2", "203.0.113.9")),
    ]
}

#[test]
fn what_is_shown_is_so() {
    in_namespaces("what_is_shown_is_so", || {
        let rig = Rig::start(AMS_FIRST);
        let probes = Probes::start(&rig.client, SERVICE_V4, 2);
        probes.wait_for_site("ams");
        let (sent, _, _) = probes.finish();
        rig.nearhop(&["drain", "fra"]);

        let ports = wait_for("counters that are up to date", || {
            let ports = rig.show("ports");
            (ports[1]["rx_packets"].as_u64() >= Some(sent)).then_some(ports)
        });
        let names: Vec<_> = ports.iter().map(|port| port["port"].as_str().unwrap()).collect();
        assert_eq!(names, ["ams", "client", "fra"]);
        let services = rig.show("services");
        let via = |site: &str| {
            let of_site = |item: &&Value| item["site"] == site && item["family"] == "ipv4";
            services.iter().find(of_site).unwrap()
        };
        assert_eq!(via("ams")["packets"], sent, "every probe and nothing else took this leg");
        assert_eq!(via("fra")["packets"], 0);
        let checks = rig.show("checks");
        for check in &checks {
            let count = |key: &str| check[key].as_u64().unwrap();
            assert!(count("answered") >= 3 && count("sent") >= count("answered"), "{check}");
        }
        let shown: Vec<(&str, Value)> = ["services", "fib", "routes", "ports", "checks"]
            .into_iter()
            .map(|noun| (noun, rig.show(noun).into_iter().map(steady).collect()))
            .collect();
        for (noun, items) in shown {
            insta::assert_json_snapshot!(format!("show_{noun}"), items);
        }
    });
}

/// The document without what differs between two runs.
fn steady(mut item: Value) -> Value {
    const VOLATILE: [&str; 18] = [
        "age_ms",
        "answered",
        "bytes",
        "device_dropped",
        "device_refused",
        // Depends on the kernel; `port_offloads` tests it.
        "engine",
        "late",
        "latency_us",
        "lost",
        "offloads",
        "packets",
        "packets_per_batch",
        "packets_per_read",
        "packets_per_write",
        "rx_bytes",
        "rx_packets",
        "sent",
        "tx_bytes",
    ];
    for (key, value) in item.as_object_mut().unwrap() {
        if VOLATILE.contains(&&**key) || key == "tx_packets" {
            *value = "(varies)".into();
        }
    }
    item
}

#[test]
fn explain_follows_ipv6_flows_too_and_says_why_not_elsewhere() {
    in_namespaces("explain_follows_ipv6_flows_too_and_says_why_not_elsewhere", || {
        let rig = Rig::start(&[("ams", 10), ("fra", 10), ("par", 30)]);
        let mut seen = std::collections::BTreeSet::new();
        for port in 42_000..42_016_u16 {
            let from = SocketAddrV6::new("fd00::2".parse().unwrap(), port, 0, 0);
            let socket = rig.client.within(|| UdpSocket::bind(from)).unwrap().unwrap();
            socket.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
            socket.send_to(&[0; 8], (SERVICE_V6, 7)).unwrap();
            let mut buffer = [0; 64];
            let len = socket.recv(&mut buffer).unwrap();
            let site = String::from_utf8_lossy(&buffer[8..len]).into_owned();
            let port = port.to_string();
            let flow = ["--from", "fd00::2", "--proto", "17", "--sport", &port, "--dport", "7"];
            let out = rig.nearhop(&[&["explain", SERVICE_V6, "--json"], &flow[..]].concat());
            let said: Value = serde_json::from_slice(&out.stdout).unwrap();
            for member in said["items"].as_array().unwrap() {
                assert_eq!(member["chosen"] == true, member["site"] == site, "{said}");
                assert!(!member["why"].as_str().unwrap().is_empty(), "{said}");
            }
            assert_eq!(said["prefix"], format!("{SERVICE_V6}/128"));
            seen.insert(site);
        }
        assert_eq!(seen.into_iter().collect::<Vec<_>>(), ["ams", "fra"], "equal sites share");
        let out = rig.nearhop(&["explain", "203.0.113.9", "--json"]);
        let said: Value = serde_json::from_slice(&out.stdout).unwrap();
        assert!(out.status.success() && said["prefix"].is_null(), "{said}");
    });
}

/// The MTU of a port that the answer does not take is of no concern.
#[test]
fn an_echo_is_answered_whole_where_its_way_has_room() {
    in_namespaces("an_echo_is_answered_whole_where_its_way_has_room", || {
        let narrow =
            config(AMS_FIRST).replace("netns = \"ams\"\n", "netns = \"ams\"\nmtu = 1280\n");
        let rig = Rig::start_with(AMS_FIRST, &narrow);
        // In IPv6 nothing of the router's own is longer than every link takes (RFC 8201 section 1).
        for (from, to, request, len) in
            [("10.0.0.2", "10.0.0.1", 8, 1_392), ("fd00::2", "fd00::1", 128, 1_280 - 48)]
        {
            let (from, to): (IpAddr, IpAddr) = (from.parse().unwrap(), to.parse().unwrap());
            let (family, protocol) = match to {
                IpAddr::V4(_) => (AddressFamily::INET, ipproto::ICMP),
                IpAddr::V6(_) => (AddressFamily::INET6, ipproto::ICMPV6),
            };
            let open = || rustix::net::socket(family, SocketType::RAW, Some(protocol));
            let socket = UdpSocket::from(rig.client.within(open).unwrap().unwrap());
            socket.set_nonblocking(true).unwrap();
            let mut packet = vec![0; 1_500];
            let data = &vec![0xa5; len];
            let echo = Echo { src: from, dst: to, ttl: 64, reply: false, ident: 7, seq: 1, data };
            let len = echo.write(&mut packet).unwrap();
            let header = if to.is_ipv4() { 20 } else { 40 };
            let echo = &packet[header..len];
            assert_eq!(echo[0], request);
            let answer = wait_for("an echo reply", || {
                let _ = socket.send_to(echo, (to, 0));
                let mut buffer = [0; 2_048];
                let len = socket.recv(&mut buffer).ok()?;
                // A raw IPv4 socket gives the header, too.
                let start = if to.is_ipv4() { 20 } else { 0 };
                Some(buffer[start..len].to_vec()).filter(|answer| answer.len() == echo.len())
            });
            assert_eq!(answer[8..], echo[8..]);
        }
        // What the client's kernel had to put together.
        let of = |file: &str| rig.client.within(|| fs::read_to_string(file)).unwrap().unwrap();
        let v4 = of("/proc/thread-self/net/snmp");
        let mut ip = v4.lines().filter(|line| line.starts_with("Ip:"));
        let (names, values) = (ip.next().unwrap(), ip.next().unwrap());
        let mut ip = names.split_whitespace().zip(values.split_whitespace());
        assert_eq!(ip.find(|(name, _)| *name == "ReasmReqds"), Some(("ReasmReqds", "0")));
        let v6 = of("/proc/thread-self/net/snmp6");
        let reassembled = v6.lines().find(|line| line.starts_with("Ip6ReasmReqds")).unwrap();
        assert_eq!(reassembled.split_whitespace().nth(1), Some("0"));
    });
}
