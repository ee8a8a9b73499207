//! A reload removes everything of a removed port, and a new one starts from scratch.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod daemon_support;
mod support;

use std::fs;
use std::net::UdpSocket;
use std::time::Duration;

use daemon_support::{Probes, Rig, SERVICE_V4};
use nearhop::kernel::link::LinkSetup;
use nearhop::kernel::netns::NetNs;
use support::{in_namespaces, wait_for};

const FRA_FIRST: &[(&str, u32)] = &[("ams", 30), ("fra", 20)];
const AMS_ALONE: &[(&str, u32)] = &[("ams", 30)];

#[test]
fn a_port_that_goes_leaves_neither_device_nor_socket_nor_counts() {
    in_namespaces("a_port_that_goes_leaves_neither_device_nor_socket_nor_counts", || {
        let rig = Rig::start(FRA_FIRST);
        let probes = Probes::start(&rig.client, SERVICE_V4, 2);
        probes.wait_for_site("fra");
        assert!(probes.finish().0 > 0);
        wait_for("fra's packets", || packets_of_fra(&rig).iter().sum::<u64>().gt(&0).then_some(()));
        make_the_stack_speak(&rig.client);
        let fra = rig.site_netns("fra");
        assert!(route_sockets(fra) > 0, "the carrier is watched");

        let before = wait_for("fra's port to count", || Some(received(&rig)).filter(|&n| n >= 50));
        rig.write_config(AMS_ALONE);
        assert!(rig.nearhop(&["reload"]).status.success());
        let mut links = LinkSetup::open(fra).unwrap();
        wait_for("the device to go", || links.find("nh-fra").unwrap().is_none().then_some(()));
        drop(links);
        wait_for("the socket to go", || (route_sockets(fra) == 0).then_some(()));

        rig.write_config(FRA_FIRST);
        assert!(rig.nearhop(&["reload"]).status.success());
        // The port has its old number again, and its site does not answer yet.
        assert!(received(&rig) < before);
        rig.connect();
        rig.wait_all_up();
        assert_eq!(packets_of_fra(&rig), [0, 0]);
    });
}

/// Packets that came in by fra's port.
fn received(rig: &Rig) -> u64 {
    let ports = rig.show("ports");
    let fra = ports.iter().find(|port| port["port"] == "fra").unwrap();
    fra["rx_packets"].as_u64().unwrap()
}

fn packets_of_fra(rig: &Rig) -> Vec<u64> {
    let items = rig.show("services");
    let of_fra = items.iter().filter(|item| item["site"] == "fra");
    of_fra.map(|item| item["packets"].as_u64().unwrap()).collect()
}

/// The host stack answers a datagram to a closed port, so it has something to send.
fn make_the_stack_speak(client: &NetNs) {
    let socket = client.within(|| UdpSocket::bind("10.0.0.2:0")).unwrap().unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    socket.connect("10.0.0.1:9").unwrap();
    socket.send(&[0; 8]).unwrap();
    assert!(
        socket.recv(&mut [0; 8]).is_err_and(|e| e.kind() == std::io::ErrorKind::ConnectionRefused)
    );
}

/// Route netlink sockets of processes in a namespace.
fn route_sockets(netns: &NetNs) -> usize {
    let table = netns.within(|| fs::read_to_string("/proc/thread-self/net/netlink"));
    let table = table.unwrap().unwrap();
    let of_process = |line: &&str| {
        let mut words = line.split_whitespace().skip(1);
        words.next() == Some("0") && words.next() != Some("0")
    };
    table.lines().filter(of_process).count()
}
