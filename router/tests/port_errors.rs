//! Error texts when a port cannot be opened: what failed, where, and what to type.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod support;

use std::fs;
use std::thread;

use insta::assert_snapshot;
use nearhop::kernel::carrier::CarrierMonitor;
use nearhop::kernel::link::{LinkSetup, VethEnd};
use nearhop::kernel::netns::NetNs;
use nearhop::packet::offload::Offloads;
use nearhop::port::tun::{self, TunSpec};
use rustix::mount::{MountFlags, mount};
use rustix::thread::{CapabilitySet, capabilities, set_capabilities};
use support::in_namespaces;

fn spec(netns: &NetNs, queues: usize) -> TunSpec {
    let (name, netns) = ("t0".into(), netns.clone());
    TunSpec { name, netns, queues, persist: false, offloads: Offloads::NONE }
}

fn refusal(spec: &TunSpec) -> String {
    match tun::open(spec) {
        Ok(_) => "opened".into(),
        Err(error) => error.to_string(),
    }
}

/// Runs `work` on a thread that has dropped `capability`.
fn without<T: Send>(capability: CapabilitySet, work: impl FnOnce() -> T + Send) -> T {
    thread::scope(|scope| {
        let deprived = scope.spawn(move || {
            let mut sets = capabilities(None).unwrap();
            sets.effective.remove(capability);
            sets.permitted.remove(capability);
            set_capabilities(None, sets).unwrap();
            work()
        });
        deprived.join().unwrap()
    })
}

#[test]
fn a_namespace_that_is_not_there_or_is_none() {
    in_namespaces("a_namespace_that_is_not_there_or_is_none", || {
        assert_snapshot!(refusal(&spec(&NetNs::named("fra"), 1)), @"cannot open network namespace /run/netns/fra: No such file or directory (os error 2); `ip netns add fra` makes it");
        assert_snapshot!(refusal(&spec(&NetNs::named("/run/elsewhere/fra"), 1)), @"cannot open network namespace /run/elsewhere/fra: No such file or directory (os error 2); expected the file of a network namespace, as `ip netns add NAME` makes it at /run/netns/NAME");
        fs::write("/run/netns/stale", "").unwrap();
        assert_snapshot!(refusal(&spec(&NetNs::named("stale"), 1)), @"cannot enter network namespace /run/netns/stale: Invalid argument (os error 22); the file is not a network namespace (a leftover of `ip netns` after a restart is an empty file: delete it and make the namespace again)");
        let watch = CarrierMonitor::open(&NetNs::named("fra")).map(|_| ()).unwrap_err();
        assert_snapshot!(watch, @"cannot open network namespace /run/netns/fra: No such file or directory (os error 2); `ip netns add fra` makes it");
    });
}

#[test]
fn a_missing_privilege() {
    in_namespaces("a_missing_privilege", || {
        let netns = support::netns("site");
        let net_admin = CapabilitySet::NET_ADMIN;
        assert_snapshot!(without(net_admin, || refusal(&spec(&netns, 1))), @"no permission to create TUN device t0 in network namespace /run/netns/site (operation not permitted): this needs CAP_NET_ADMIN there; run as root, inside `unshare -Urnm`, or give the program the capability: `setcap cap_net_admin+ep FILE`");
        assert_snapshot!(without(net_admin, || refusal(&spec(&netns, 2))), @"no permission to create TUN device t0 in network namespace /run/netns/site (operation not permitted): this needs CAP_NET_ADMIN there; run as root, inside `unshare -Urnm`, or give the program the capability: `setcap cap_net_admin+ep FILE`");
        let sys_admin = CapabilitySet::SYS_ADMIN;
        assert_snapshot!(without(sys_admin, || refusal(&spec(&netns, 1))), @"cannot enter network namespace /run/netns/site: Operation not permitted (os error 1); this needs CAP_SYS_ADMIN over that namespace: run as root, or make the namespace inside `unshare -Urnm` and run nearhop there");
        let up = without(net_admin, || LinkSetup::open(&netns).unwrap().set_up("lo", false));
        assert_snapshot!(up.unwrap_err(), @"cannot set lo down in network namespace /run/netns/site: Operation not permitted (os error 1); this needs CAP_NET_ADMIN there: run as root, or inside `unshare -Urnm`");
    });
}

#[test]
fn a_missing_device_file() {
    in_namespaces("a_missing_device_file", || {
        mount("tmpfs", "/dev/net", "tmpfs", MountFlags::empty(), None).unwrap();
        let [one, two] = [1, 2].map(|queues| refusal(&spec(&NetNs::Here, queues)));
        assert_eq!(one, two);
        assert_snapshot!(one, @"cannot open /dev/net/tun: No such file or directory (os error 2); create it with `modprobe tun` as root (in a container, run that with `--device /dev/net/tun`)");
    });
}

#[test]
fn something_else_that_bears_the_name() {
    in_namespaces("something_else_that_bears_the_name", || {
        let netns = support::netns("site");
        let mut links = LinkSetup::open(&netns).unwrap();
        support::run("ip -n site tuntap add t0 mode tap");
        assert_snapshot!(refusal(&spec(&netns, 1)), @"t0 in network namespace /run/netns/site cannot be used as a TUN port: found a TAP device, which carries Ethernet frames; delete it with `ip -n site link del t0`, or use another name");
        links.delete("t0").unwrap();

        let end = |name: &str| VethEnd { name: name.into(), ifindex: None, netns: netns.clone() };
        LinkSetup::create_veth(&end("t0"), &end("t1")).unwrap();
        assert_snapshot!(refusal(&spec(&netns, 2)), @"t0 in network namespace /run/netns/site cannot be used as a TUN port: found a veth device; delete it with `ip -n site link del t0`, or use another name");
        links.delete("t0").unwrap();

        let loopback = TunSpec { name: "lo".into(), ..spec(&NetNs::Here, 1) };
        assert_snapshot!(refusal(&loopback), @"lo in network namespace (own) cannot be used as a TUN port: found a device that is not virtual; use another name");
    });
}

#[test]
fn a_device_that_is_held_already() {
    in_namespaces("a_device_that_is_held_already", || {
        let netns = support::netns("site");
        let mut refusals = Vec::new();
        for (held, wanted) in [(1, 1), (1, 2), (2, 1), (2, 2)] {
            let _holder = tun::open(&spec(&netns, held)).unwrap();
            refusals.push(refusal(&spec(&netns, wanted)));
        }
        assert_snapshot!(refusals[0], @"TUN device t0 in network namespace /run/netns/site is in use; end the process that has it open, or use another name (`ip -n site -d link show t0` shows the device)");
        assert_eq!(refusals, vec![refusals[0].clone(); 4]);
    });
}

#[test]
fn a_name_or_a_number_that_no_device_can_have() {
    in_namespaces("a_name_or_a_number_that_no_device_can_have", || {
        let named = |name: &str| refusal(&TunSpec { name: name.into(), ..spec(&NetNs::Here, 1) });
        assert_snapshot!(named(""), @r#""" cannot be the name of a TUN device: expected 1 to 15 bytes, found 0"#);
        assert_snapshot!(named("sixteen-bytes-xx"), @r#""sixteen-bytes-xx" cannot be the name of a TUN device: expected 1 to 15 bytes, found 16"#);
        assert_snapshot!(named("t%d"), @r#""t%d" cannot be the name of a TUN device: expected 1 to 15 bytes without blanks, `/`, `:` and `%`, and neither `.` nor `..`"#);
        for bad in ["a b", "a/b", "a:b", ".", "..", "a\n"] {
            assert!(named(bad).contains("cannot be the name"), "{bad:?}: {}", named(bad));
        }
        assert_eq!(named("fifteen-bytes-x"), "opened");
        assert_snapshot!(refusal(&spec(&NetNs::Here, 0)), @"TUN device t0 cannot have 0 queues, expected 1 to 256");
        assert_snapshot!(refusal(&spec(&NetNs::Here, 257)), @"TUN device t0 cannot have 257 queues, expected 1 to 256");
        assert_eq!(LinkSetup::open(&NetNs::Here).unwrap().list().unwrap().len(), 1, "only lo");
    });
}

#[test]
fn as_many_queues_as_a_device_can_have() {
    in_namespaces("as_many_queues_as_a_device_can_have", || {
        let opened = tun::open(&spec(&NetNs::Here, tun::QUEUES_MAX)).unwrap();
        assert_eq!(opened.port.queues(), tun::QUEUES_MAX);
    });
}

#[test]
fn a_link_that_cannot_be_changed() {
    in_namespaces("a_link_that_cannot_be_changed", || {
        let netns = support::netns("site");
        let mut links = LinkSetup::open(&netns).unwrap();
        assert_snapshot!(links.set_up("t0", true).unwrap_err(), @"cannot set t0 up in network namespace /run/netns/site: No such device (os error 19); `ip -n site link` lists what is there");
        let opened = tun::open(&spec(&netns, 1)).unwrap();
        assert_snapshot!(links.set_mtu("t0", 100_000).unwrap_err(), @"cannot set the MTU of t0 to 100000 in network namespace /run/netns/site: Invalid argument (os error 22): mtu greater than device maximum");
        let address = "10.0.0.1/24".parse().unwrap();
        assert_snapshot!(links.delete_address("t0", address).unwrap_err(), @"cannot delete address 10.0.0.1/24 from t0 in network namespace /run/netns/site: Cannot assign requested address (os error 99): ipv4: Address not found");
        let end = |name: &str| VethEnd { name: name.into(), ifindex: None, netns: netns.clone() };
        let twice = LinkSetup::create_veth(&end("t0"), &end("t1")).unwrap_err();
        assert_snapshot!(twice, @"cannot make veth pair t0 in /run/netns/site and t1 in /run/netns/site in network namespace /run/netns/site: File exists (os error 17); it is there already");
        let gone = links.move_to("t0", &NetNs::named("fra")).unwrap_err();
        assert_snapshot!(gone, @"cannot open network namespace /run/netns/fra: No such file or directory (os error 2); `ip netns add fra` makes it");
        drop(opened);
        assert_snapshot!(links.delete("t0").unwrap_err(), @"cannot delete t0 in network namespace /run/netns/site: No such device (os error 19); `ip -n site link` lists what is there");
    });
}
