//! Strangers who forge bad news about a site: no check believes them, and each attempt is counted.
#![allow(clippy::disallowed_methods, reason = "real time")]
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod daemon_support;
mod support;

use std::collections::BTreeMap;
use std::fs;
use std::net::{IpAddr, TcpListener, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use daemon_support::{Costs, Rig, SERVICE_V4, SERVICE_V6, Watch, config_with};
use nearhop::kernel::link::LinkSetup;
use nearhop::kernel::netns::NetNs;
use nearhop::packet::checksum::Sum;
use nearhop::time::Nanos;
use serde_json::Value;
use support::wire::Wire;
use support::{in_namespaces, wait_for};

const AMS: Costs<'static> = &[("ams", 10)];

/// All kinds of checks. Silence would take 10 s, so what takes a check down is what it believes.
const HEALTH: &str = "[{ icmp = {}, interval = \"10ms\", fall = 1000, rise = 1 },\n\
     { udp = { port = 7, payload = \"are you there\" }, interval = \"10ms\", fall = 1000, rise = 1 },\n\
     { dns = { name = \"health.example\" }, interval = \"10ms\", fall = 1000, rise = 1 },\n\
     { tcp = { port = 7 }, interval = \"10ms\", fall = 1000, rise = 1 }]";

const KINDS: [&str; 4] = ["icmp", "udp", "dns", "tcp"];

/// The router's addresses at the site's port.
const ROUTER: [&str; 2] = ["10.1.0.1", "fd00:1::1"];

/// A hop behind the site's port.
const HOP: [&str; 2] = ["10.1.0.77", "fd00:1::77"];

#[test]
fn forged_errors_take_no_check_down_and_are_counted() {
    in_namespaces("forged_errors_take_no_check_down_and_are_counted", || {
        let rig = Rig::begin_with(AMS, &config_with(AMS, HEALTH));
        let servers = Servers::start(rig.site_netns("ams"));
        rig.wait_all_up();
        let mut attack = Attack::prepare(&rig);
        let watch = Watch::start(&rig);

        let start = Nanos::now();
        for round in 0..ROUNDS {
            attack.round(round);
            if Nanos::now().since(start) > LONGEST {
                break;
            }
            // The rate of the attack: some 10,000 packets a second, fewer on a busy machine.
            thread::park_timeout(Duration::from_millis(2));
        }
        let checks = wait_for("every reason to be counted", || {
            attack.round(0);
            let checks = rig.show("checks");
            missing(&checks).is_empty().then_some(checks)
        });
        println!("{} packets", attack.sent);
        for check in &checks {
            println!("{check}");
            assert_eq!(check["state"], "up", "{check}");
        }
        let lines = watch.lines.lock().unwrap().clone();
        assert!(!lines.iter().any(|line| line["kind"] == "site"), "{lines:?}");

        // The servers end, and their kernel refuses in the target's name: that is believed at once,
        // also while the attack goes on.
        servers.stop();
        for family in ["ipv4", "ipv6"] {
            let down = wait_for("the refusal to count", || {
                attack.round(0);
                let lines = watch.lines.lock().unwrap();
                lines
                    .iter()
                    .find(|line| line["kind"] == "site" && line["family"] == family)
                    .cloned()
            });
            assert_eq!(down["up"], false, "{down}");
            let reason = down["reason"].as_str().unwrap();
            assert!(reason.ends_with(" refused") || reason.ends_with(" reset"), "{down}");
        }
    });
}

/// What should have been counted of each check and was not.
fn missing(checks: &[Value]) -> Vec<String> {
    let mut missing = Vec::new();
    for check in checks {
        let (kind, ipv6) = (check["kind"].as_str().unwrap(), check["target"] == SERVICE_V6);
        let mut reasons = vec!["ignored_mismatch"];
        // Attempts of a TCP check are over before their ports are known; its genuine SYNs are quoted
        // in time now and then only.
        if kind != "tcp" {
            reasons.extend(["ignored_transit", "ignored_unreachable"]);
        }
        // Eight bytes prove nothing of an echo, and no payload.
        if kind == "icmp" || (ipv6 && kind != "tcp") {
            reasons.push("ignored_short_quote");
        }
        if kind == "icmp" || kind == "dns" {
            reasons.push("ignored_answer");
        }
        let uncounted = |key: &&str| check[*key].as_u64().unwrap_or(0) == 0;
        missing.extend(reasons.into_iter().filter(uncounted).map(|key| format!("{key}: {check}")));
    }
    if checks.len() != 2 * KINDS.len() {
        missing.push("a check".into());
    }
    missing
}

/// An attacker with a hop behind the site's port, and another who reaches the site by its own link.
struct Attack {
    /// The wire between the router and the site: the hop's packets, and requests to copy.
    wire: Wire,
    /// The other attacker's link.
    link: Wire,
    /// The latest request of each kind in each family.
    requests: BTreeMap<(usize, &'static str), Vec<u8>>,
    /// A simple sequence of numbers that differ.
    noise: u32,
    sent: u64,
}

impl Attack {
    fn prepare(rig: &Rig) -> Self {
        let attacker = support::netns("attacker");
        let site = rig.site_netns("ams");
        support::run(
            "ip link add to-site netns attacker type veth peer name strangers netns ams \
             address 02:00:00:00:00:02",
        );
        let mut far = LinkSetup::open(&attacker).unwrap();
        let mut near = LinkSetup::open(site).unwrap();
        far.set_up("to-site", true).unwrap();
        near.set_up("strangers", true).unwrap();
        for device in ["all", "default", "strangers"] {
            let path = format!("/proc/sys/net/ipv4/conf/{device}/rp_filter");
            site.within(|| fs::write(path, "0")).unwrap().unwrap();
        }
        let device = near.find("nh-ams").unwrap().unwrap().ifindex;
        let link = far.find("to-site").unwrap().unwrap().ifindex;
        Self {
            wire: site.within(|| Wire::listen(device)).unwrap().unwrap(),
            link: attacker.within(|| Wire::open(link)).unwrap().unwrap(),
            requests: BTreeMap::new(),
            noise: 1,
            sent: 0,
        }
    }

    /// Everything once, about the latest request of every check.
    fn round(&mut self, round: u32) {
        let mut buffer = [0; 2_048];
        while let Some(packet) = self.wire.receive(&mut buffer) {
            if let Some(key) = request_of(packet) {
                self.requests.insert(key, packet.to_vec());
            }
        }
        for ((family, kind), request) in self.requests.clone() {
            // Known: all that does not change from request to request. Blind: only the addresses.
            let known = self.forged(&request);
            let blind = self.with_another_port(&known, round);
            let target = [SERVICE_V4, SERVICE_V6][family];
            for quoted in [&known, &blind, &request] {
                for keep in [8, usize::MAX] {
                    self.report(family, HOP[family], [(11, 0), (3, 0)][family], quoted, keep);
                    self.report(family, HOP[family], [(3, 1), (1, 3)][family], quoted, keep);
                }
            }
            // Whoever can send in the target's name does not know the request.
            for quoted in [&known, &blind] {
                for keep in [8, usize::MAX] {
                    self.report(family, target, [(3, 3), (1, 4)][family], quoted, keep);
                }
            }
            self.ask_the_site(family, kind, &known);
        }
    }

    /// As a hop behind the site's port: an error that quotes so many bytes after the IP header.
    fn report(&mut self, family: usize, from: &str, kind: (u8, u8), quoted: &[u8], keep: usize) {
        let header: usize = [20, 40][family];
        let mut body = vec![kind.0, kind.1, 0, 0, 0, 0, 0, 0];
        body.extend(&quoted[..quoted.len().min(header.saturating_add(keep))]);
        let packet = ip(from, ROUTER[family], [1, 58][family], body, 2);
        // A full queue is no matter: others follow.
        self.sent += u64::from(self.wire.send(&packet).is_ok());
    }

    /// In the router's name, by the other link, so that the site itself answers to the router: by
    /// echo replies with other data, datagrams, port unreachables about other ports, and resets.
    fn ask_the_site(&mut self, family: usize, kind: &str, known: &[u8]) {
        let header = [20, 40][family];
        let mut body = known[header..].to_vec();
        let target = [SERVICE_V4, SERVICE_V6][family];
        let (protocol, sum_at) = match kind {
            "icmp" => ([1, 58][family], 2),
            "tcp" => (6, 16),
            _ => (17, 6),
        };
        let mut bodies = vec![body.clone()];
        if kind == "tcp" {
            // Out of nothing: an acknowledgement, which the site answers by a reset.
            body[13] = 0x10;
            bodies.push(body);
        } else if kind != "icmp" {
            // A closed port.
            body[2..4].copy_from_slice(&9_999_u16.to_be_bytes());
            bodies.push(body);
        }
        for mut body in bodies {
            body[sum_at..sum_at + 2].fill(0);
            let packet = ip(ROUTER[family], target, protocol, body, sum_at);
            let ethertype = [[0x08, 0x00], [0x86, 0xdd]][family];
            let mut frame = vec![2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1];
            frame.extend(ethertype);
            frame.extend(packet);
            self.sent += u64::from(self.link.send(&frame).is_ok());
        }
    }

    /// A request with everything changed that changes from one to the next, or that is secret.
    fn forged(&mut self, request: &[u8]) -> Vec<u8> {
        self.noise = self.noise.wrapping_mul(0x9e37_79b1).wrapping_add(0x7f4a_7c15);
        let noise = (self.noise | 0x0101_0101).to_be_bytes();
        let mut packet = request.to_vec();
        let (header, ident, protocol) =
            if packet[0] >> 4 == 4 { (20, 4, packet[9]) } else { (40, 2, packet[6]) };
        packet[ident] ^= noise[0];
        packet[ident + 1] ^= noise[1];
        match protocol {
            // The sequence number.
            6 => (0..4).for_each(|at| packet[header + 4 + at] ^= noise[at]),
            // The checksum, and the id of a query.
            17 => (6..10).for_each(|at| packet[header + at] ^= noise[at - 6]),
            // The cookie.
            _ => (8..12).for_each(|at| packet[header + at] ^= noise[at - 8]),
        }
        packet
    }

    /// The same from some other source port, or with another identifier.
    fn with_another_port(&self, packet: &[u8], round: u32) -> Vec<u8> {
        let mut packet = packet.to_vec();
        let header = if packet[0] >> 4 == 4 { 20 } else { 40 };
        let at = header + if matches!(packet[9], 1) || packet[6] == 58 { 4 } else { 0 };
        let port = 0xc000 | (self.noise >> 7).wrapping_add(round) as u16;
        packet[at..at + 2].copy_from_slice(&port.to_be_bytes());
        packet
    }
}

/// Family and kind of a request of the router's checks.
fn request_of(packet: &[u8]) -> Option<(usize, &'static str)> {
    let family = match packet.first()? >> 4 {
        4 => 0,
        6 => 1,
        _ => return None,
    };
    let address = |text: &str| match text.parse().unwrap() {
        IpAddr::V4(v4) => v4.octets().to_vec(),
        IpAddr::V6(v6) => v6.octets().to_vec(),
    };
    let (at, header, protocol) = [(12, 20, 9), (8, 40, 6)][family];
    let ends = [address(ROUTER[family]), address([SERVICE_V4, SERVICE_V6][family])].concat();
    if packet.get(at..at + ends.len())? != ends {
        return None;
    }
    let body = packet.get(header..)?;
    let kind = match (*packet.get(protocol)?, body.get(..4)?) {
        (1, [8, ..]) | (58, [128, ..]) => "icmp",
        (17, [_, _, 0, 7]) => "udp",
        (17, [_, _, 0, 53]) => "dns",
        (6, [_, _, 0, 7]) if body.get(13)? & 0x12 == 0x02 => "tcp",
        _ => return None,
    };
    Some((family, kind))
}

/// An IP packet. The checksum at `sum_at` of the body is filled in.
fn ip(src: &str, dst: &str, protocol: u8, mut body: Vec<u8>, sum_at: usize) -> Vec<u8> {
    let (src, dst): (IpAddr, IpAddr) = (src.parse().unwrap(), dst.parse().unwrap());
    let pseudo =
        if protocol == 1 { Sum::ZERO } else { Sum::pseudo(src, dst, protocol, body.len()) };
    let sum = pseudo.bytes(&body).checksum();
    body[sum_at..sum_at + 2].copy_from_slice(&sum.to_be_bytes());
    let mut packet = match (src, dst) {
        (IpAddr::V4(src), IpAddr::V4(dst)) => {
            let len = (20 + body.len() as u16).to_be_bytes();
            let mut header = vec![0x45, 0, len[0], len[1], 0, 0, 0x40, 0, 64, protocol, 0, 0];
            header.extend([src.octets(), dst.octets()].concat());
            let sum = Sum::ZERO.bytes(&header).checksum().to_be_bytes();
            header[10..12].copy_from_slice(&sum);
            header
        }
        (IpAddr::V6(src), IpAddr::V6(dst)) => {
            let len = (body.len() as u16).to_be_bytes();
            let mut header = vec![0x60, 0, 0, 0, len[0], len[1], protocol, 64];
            header.extend([src.octets(), dst.octets()].concat());
            header
        }
        _ => unreachable!("one family"),
    };
    packet.append(&mut body);
    packet
}

/// A DNS server and a TCP server at the site, in both families.
struct Servers {
    over: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Servers {
    fn start(site: &NetNs) -> Self {
        let over = Arc::new(AtomicBool::new(false));
        let mut threads = Vec::new();
        for address in [SERVICE_V4, SERVICE_V6] {
            let dns = site.within(|| UdpSocket::bind((address, 53))).unwrap().unwrap();
            dns.set_read_timeout(Some(Duration::from_millis(10))).unwrap();
            let is_over = Arc::clone(&over);
            threads.push(thread::spawn(move || {
                let mut buffer = [0; 512];
                while !is_over.load(Ordering::Relaxed) {
                    let Ok((len, from)) = dns.recv_from(&mut buffer) else { continue };
                    if let Some(flags) = buffer[..len].get_mut(2) {
                        *flags |= 0x80;
                        let _ = dns.send_to(&buffer[..len], from);
                    }
                }
            }));
            let tcp = site.within(|| TcpListener::bind((address, 7))).unwrap().unwrap();
            tcp.set_nonblocking(true).unwrap();
            let is_over = Arc::clone(&over);
            threads.push(thread::spawn(move || {
                while !is_over.load(Ordering::Relaxed) {
                    while tcp.accept().is_ok() {}
                    thread::park_timeout(Duration::from_millis(1));
                }
            }));
        }
        Self { over, threads }
    }

    /// From now on both are refused.
    fn stop(self) {
        self.over.store(true, Ordering::Relaxed);
        for thread in self.threads {
            thread.join().unwrap();
        }
    }
}

/// Each about 150 packets.
const ROUNDS: u32 = 500;

/// However slow the machine is.
const LONGEST: Duration = Duration::from_secs(15);
