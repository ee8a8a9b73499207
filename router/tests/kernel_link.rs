//! Management of the kernel's devices: create, address, route, move, read, delete.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod support;

use std::net::{IpAddr, UdpSocket};

use ipnetwork::IpNetwork;
use nearhop::kernel::link::{KernelRoute, LinkSetup, VethEnd};
use nearhop::kernel::netns::NetNs;
use nearhop::packet::offload::Offloads;
use nearhop::port::tun::{self, TunSpec};
use support::{in_namespaces, run, udp_socket, v4, v6, wait_for};

/// Namespaces `a` and `b`, joined by `va` (index 100) and `vb` (index 200), up.
fn joined() -> (LinkSetup, LinkSetup) {
    let (a, b) = (support::netns("a"), support::netns("b"));
    let end = |name: &str, ifindex, netns: &NetNs| VethEnd {
        name: name.into(),
        ifindex: Some(ifindex),
        netns: netns.clone(),
    };
    LinkSetup::create_veth(&end("va", 100, &a), &end("vb", 200, &b)).unwrap();
    let (mut a, mut b) = (LinkSetup::open(&a).unwrap(), LinkSetup::open(&b).unwrap());
    a.set_up("va", true).unwrap();
    b.set_up("vb", true).unwrap();
    (a, b)
}

fn route(to: &str, gateway: Option<IpAddr>, interface: &str) -> KernelRoute {
    KernelRoute { to: to.parse().unwrap(), gateway, interface: interface.into() }
}

fn assert_reaches(from: &UdpSocket, to: &UdpSocket) {
    from.send_to(b"hello", to.local_addr().unwrap()).unwrap();
    let (len, sender) = to.recv_from(&mut [0; 100]).unwrap();
    assert_eq!((len, sender), (5, from.local_addr().unwrap()));
}

#[test]
fn a_veth_pair_spans_two_namespaces_and_carries_both_families() {
    in_namespaces("a_veth_pair_spans_two_namespaces_and_carries_both_families", || {
        let (mut a, mut b) = joined();
        for (links, name, host) in [(&mut a, "va", 1), (&mut b, "vb", 2)] {
            links.replace_address(name, IpNetwork::new(v4(host), 24).unwrap()).unwrap();
            links.replace_address(name, IpNetwork::new(v6(host.into()), 64).unwrap()).unwrap();
        }
        for (one, other) in [(v4(1), v4(2)), (v6(1), v6(2))] {
            let (one, other) = (udp_socket(a.netns(), one), udp_socket(b.netns(), other));
            assert_reaches(&one, &other);
            assert_reaches(&other, &one);
        }
        assert_eq!(a.status("va").unwrap().ifindex, 100);
        let vb = b.status("vb").unwrap();
        assert_eq!((vb.ifindex, vb.kind.as_deref(), vb.tun), (200, Some("veth"), None));
        let counted = (vb.stats.rx_packets, vb.stats.tx_packets, vb.stats.rx_bytes);
        assert!(counted.0 >= 4 && counted.1 >= 4 && counted.2 >= 100, "{counted:?}");
    });
}

#[test]
fn routes_lead_where_they_say_in_both_families() {
    in_namespaces("routes_lead_where_they_say_in_both_families", || {
        let (mut a, mut b) = joined();
        // Addresses outside the link's networks: only routes lead to them.
        let [a4, a6] = ["192.0.2.1", "2001:db8:a::1"].map(|ip| ip.parse::<IpAddr>().unwrap());
        let [b4, b6] = ["192.0.2.2", "2001:db8:b::1"].map(|ip| ip.parse::<IpAddr>().unwrap());
        for (links, name, ips) in [(&mut a, "va", [a4, a6]), (&mut b, "vb", [b4, b6])] {
            for ip in ips {
                links.replace_address(name, ip.into()).unwrap();
            }
        }
        for (to, name) in [("0.0.0.0/0", "va"), ("::/0", "va")] {
            let default = route(to, None, name);
            a.replace_route(&default).unwrap();
            a.replace_route(&default).unwrap();
        }
        b.replace_route(&route("192.0.2.1/32", None, "vb")).unwrap();
        b.replace_route(&route("2001:db8:a::/48", None, "vb")).unwrap();
        for (one, other) in [(a4, b4), (a6, b6)] {
            assert_reaches(&udp_socket(a.netns(), one), &udp_socket(b.netns(), other));
            assert_reaches(&udp_socket(b.netns(), other), &udp_socket(a.netns(), one));
        }
        assert!(run("ip -n a route").contains("default dev va"));
        assert!(run("ip -n a -6 route").contains("default dev va"));

        a.delete_route(&route("::/0", None, "va")).unwrap();
        assert!(!run("ip -n a -6 route").contains("default"));
        b.replace_route(&route("198.51.100.0/24", Some(a4), "vb")).unwrap();
        assert!(run("ip -n b route").contains("198.51.100.0/24 via 192.0.2.1 dev vb"));
        b.replace_route(&route("2001:db8:53::/48", Some(a6), "vb")).unwrap();
        assert!(run("ip -n b -6 route").contains("2001:db8:53::/48 via 2001:db8:a::1 dev vb"));
    });
}

#[test]
fn a_state_read_is_the_state_there_is() {
    in_namespaces("a_state_read_is_the_state_there_is", || {
        let (mut a, mut b) = joined();
        let mut wait_carrier = |carrier: bool| {
            wait_for("carrier change", || {
                let va = a.status("va").unwrap();
                (va.carrier == carrier && va.admin_up).then_some(va)
            })
        };
        assert!(wait_carrier(true).up());
        b.set_up("vb", false).unwrap();
        assert!(!wait_carrier(false).up());
        let vb = b.status("vb").unwrap();
        assert_eq!((vb.admin_up, vb.up()), (false, false));
        b.set_mtu("vb", 9000).unwrap();
        assert_eq!(b.status("vb").unwrap().mtu, 9000);
        let names: Vec<_> = b.list().unwrap().into_iter().map(|link| link.name).collect();
        assert_eq!(names, ["lo", "vb"]);
        assert_eq!(b.find("va").unwrap(), None);
    });
}

#[test]
fn a_device_moves_and_goes() {
    in_namespaces("a_device_moves_and_goes", || {
        let (mut a, mut b) = joined();
        support::netns("c");
        b.move_to("vb", &NetNs::named("c")).unwrap();
        assert_eq!(b.find("vb").unwrap(), None);
        let mut c = LinkSetup::open(&NetNs::named("c")).unwrap();
        assert_eq!(c.status("vb").unwrap().ifindex, 200);
        c.delete("vb").unwrap();
        assert_eq!(a.find("va").unwrap(), None, "the other end goes with it");
    });
}

#[test]
fn an_address_is_replaced_or_deleted() {
    in_namespaces("an_address_is_replaced_or_deleted", || {
        let (mut a, _b) = joined();
        for address in [IpNetwork::new(v4(1), 24).unwrap(), IpNetwork::new(v6(1), 64).unwrap()] {
            a.replace_address("va", address).unwrap();
            a.replace_address("va", address).unwrap();
            assert_eq!(run("ip -n a addr show va").matches(&address.to_string()).count(), 1);
            a.delete_address("va", address).unwrap();
            assert!(!run("ip -n a addr show va").contains(&address.to_string()));
        }
    });
}

#[test]
fn a_device_that_nearhop_made_is_quiet_and_any_other_left_alone() {
    in_namespaces("a_device_that_nearhop_made_is_quiet_and_any_other_left_alone", || {
        let netns = support::netns("a");
        let open = |name: &str| {
            let (name, netns) = (name.to_string(), netns.clone());
            tun::open(&TunSpec { name, netns, queues: 1, persist: false, offloads: Offloads::NONE })
        };
        run("ip -n a tuntap add theirs mode tun");
        let peer = [IpNetwork::new(v6(2), 64).unwrap()];
        let opened = ["ours", "theirs"].map(|name| {
            let opened = open(name).unwrap();
            opened.bring_up(1500, &peer).unwrap();
            opened
        });
        let link_local = |name: &str| run(&format!("ip -n a -6 -o addr show {name} scope link"));
        assert!(link_local("theirs").contains("fe80::"));
        assert_eq!(link_local("ours"), "");
        drop(opened);
    });
}
