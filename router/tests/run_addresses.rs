//! What the running daemon does at its own addresses, and how errors find their way, judged by
//! kernels on the other sides.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod daemon_support;
mod support;

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::thread;
use std::time::Duration;

use daemon_support::{Rig, SERVICE_V4, SERVICE_V6, config, config_with};
use nearhop::kernel::netns::NetNs;
use support::{in_namespaces, wait_for};

const AMS_FIRST: &[(&str, u32)] = &[("ams", 10), ("fra", 20)];
const EQUAL: &[(&str, u32)] = &[("ams", 10), ("fra", 10)];

/// Pings once, from an address of this device; returns who answers.
fn ping(netns: &NetNs, device: &str, from: IpAddr, to: IpAddr) -> Option<IpAddr> {
    use rustix::net::{AddressFamily, RecvFlags, SocketType, ipproto};
    let (family, protocol, request, reply) = match to {
        IpAddr::V4(_) => (AddressFamily::INET, ipproto::ICMP, 8, 0),
        IpAddr::V6(_) => (AddressFamily::INET6, ipproto::ICMPV6, 128, 129),
    };
    let open = || rustix::net::socket(family, SocketType::RAW, Some(protocol));
    let socket = netns.within(open).unwrap().unwrap();
    rustix::net::sockopt::set_socket_timeout(
        &socket,
        rustix::net::sockopt::Timeout::Recv,
        Some(Duration::from_millis(200)),
    )
    .unwrap();
    let scope = netns.within(|| rustix::net::netdevice::name_to_index(&socket, device)).unwrap();
    let scope = scope.unwrap();
    let address = |ip: IpAddr| match ip {
        IpAddr::V4(ip) => SocketAddr::from((ip, 0)),
        IpAddr::V6(ip) => {
            let scope = if ip.is_unicast_link_local() { scope } else { 0 };
            std::net::SocketAddrV6::new(ip, 0, 0, scope).into()
        }
    };
    rustix::net::bind(&socket, &address(from)).unwrap();
    // The kernel completes the checksum of ICMPv6.
    let mut echo = vec![request, 0, 0, 0, 0x12, 0x34, 0, 1, 7, 7, 7, 7];
    if to.is_ipv4() {
        let words = echo.chunks(2).map(|w| u32::from(w[0]) << 8 | u32::from(w[1]));
        let sum: u32 = words.sum();
        let sum = !((sum & 0xffff) + (sum >> 16)) as u16;
        echo[2..4].copy_from_slice(&sum.to_be_bytes());
    }
    rustix::net::sendto(&socket, &echo, rustix::net::SendFlags::empty(), &address(to)).ok()?;
    let mut buffer = [0; 256];
    // The socket also gets what others ping, and neighbour discovery.
    for _ in 0..16 {
        let (len, _, sender) =
            rustix::net::recvfrom(&socket, &mut buffer[..], RecvFlags::empty()).ok()?;
        let start = if to.is_ipv4() { 20 } else { 0 };
        if buffer[start..len].first() == Some(&reply) && buffer[start + 4..len] == echo[4..] {
            return SocketAddr::try_from(sender?).ok().map(|sender| sender.ip());
        }
    }
    None
}

/// Both sites have the same link-local addresses, and ams no others: its checks come from there.
#[test]
fn link_local_and_anycast_addresses_answer_on_their_ports() {
    in_namespaces("link_local_and_anycast_addresses_answer_on_their_ports", || {
        let text = config(AMS_FIRST)
            .replace(
                "addresses = [\"10.1.0.1/24\", \"fd00:1::1/64\"]\n\
                 peer-addresses = [\"10.1.0.2/24\", \"fd00:1::2/64\"]",
                "addresses = [\"169.254.10.1/30\", \"fe80::1/64\"]\n\
                 peer-addresses = [\"169.254.10.2/30\", \"fe80::2/64\"]",
            )
            .replace("\"fd00:2::1/64\"]\n", "\"fd00:2::1/64\", \"fe80::1/64\"]\n")
            .replace("\"fd00:2::2/64\"]\n", "\"fd00:2::2/64\", \"fe80::2/64\"]\n");
        let rig = Rig::start_with(AMS_FIRST, &text);
        for (site, from, to, answers) in [
            ("ams", "169.254.10.2", "169.254.10.1", "169.254.10.1"),
            ("ams", "fe80::2", "fe80::1", "fe80::1"),
            ("fra", "fe80::2", "fe80::1", "fe80::1"),
            ("fra", "fe80::2", "fe80::", "fe80::1"),
            ("fra", "fd00:2::2", "fd00:2::1", "fd00:2::1"),
            ("fra", "fd00:2::2", "fd00:2::", "fd00:2::1"),
        ] {
            let [from, to, answers]: [IpAddr; 3] =
                [from, to, answers].map(|address| address.parse().unwrap());
            let device = format!("nh-{site}");
            let who = wait_for(&format!("{to} to answer {site}"), || {
                ping(rig.site_netns(site), &device, from, to)
            });
            assert_eq!(who, answers, "{to} from {site}");
        }
        let out = rig.nearhop(&["explain", "fe80::1"]);
        let text = String::from_utf8_lossy(&out.stdout).into_owned();
        assert!(text.contains("to the router itself, if it came in by port"), "{text}");
    });
}

/// Answers every datagram at this address with 3,000 bytes, until the test's process ends.
fn serve_large(netns: &NetNs, address: SocketAddr, name: &str) {
    let socket = netns.within(|| UdpSocket::bind(address)).unwrap().unwrap();
    let name = name.to_owned();
    thread::spawn(move || {
        let mut buffer = [0; 64];
        while let Ok((_, from)) = socket.recv_from(&mut buffer) {
            let answer = [&vec![0xa5; 3_000][..], name.as_bytes()].concat();
            let _ = socket.send_to(&answer, from);
        }
    });
}

#[test]
fn answers_to_checks_count_that_come_in_fragments() {
    in_namespaces("answers_to_checks_count_that_come_in_fragments", || {
        let health = "{ udp = { port = 99 }, interval = \"20ms\", fall = 50, rise = 3 }";
        let rig = Rig::begin_with(AMS_FIRST, &config_with(AMS_FIRST, health));
        for (site, _) in AMS_FIRST {
            for address in [SERVICE_V4, SERVICE_V6] {
                let address = SocketAddr::new(address.parse().unwrap(), 99);
                serve_large(rig.site_netns(site), address, site);
            }
        }
        rig.wait_all_up();
    });
}

/// The narrow port's errors are about fragments that the site's kernel made.
#[test]
fn large_answers_reach_clients_behind_a_narrow_link_from_every_site() {
    in_namespaces("large_answers_reach_clients_behind_a_narrow_link_from_every_site", || {
        let narrow =
            config(EQUAL).replace("netns = \"client\"\n", "netns = \"client\"\nmtu = 1280\n");
        let rig = Rig::start_with(EQUAL, &narrow);
        let service = SocketAddr::new(SERVICE_V6.parse().unwrap(), 99);
        for (site, _) in EQUAL {
            serve_large(rig.site_netns(site), service, site);
        }
        let mut sites = BTreeSet::new();
        for port in 43_000..43_024_u16 {
            let from = SocketAddr::new("fd00::2".parse().unwrap(), port);
            let socket = rig.client.within(|| UdpSocket::bind(from)).unwrap().unwrap();
            socket.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
            let mut buffer = [0; 4_096];
            let len = wait_for(&format!("an answer to port {port}"), || {
                socket.send_to(b"ask", service).unwrap();
                socket.recv(&mut buffer).ok()
            });
            sites.insert(String::from_utf8_lossy(&buffer[3_000..len]).into_owned());
        }
        assert_eq!(sites.into_iter().collect::<Vec<_>>(), ["ams", "fra"], "both serve some");
    });
}
