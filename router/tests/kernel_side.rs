//! Bringing the kernel's side of a device from every state to every other, judged by what `ip` dumps.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod support;

use std::collections::BTreeSet;
use std::fs;

use ipnetwork::IpNetwork;
use nearhop::batch::Batch;
use nearhop::kernel::link::LinkSetup;
use nearhop::kernel::netns::NetNs;
use nearhop::kernel::side::{Mine, Side, SideLink};
use nearhop::packet::offload::Offloads;
use nearhop::port::tun::{self, OpenedTun, TunSpec};
use serde_json::Value;
use support::{in_namespaces, run};

fn open(netns: &NetNs) -> OpenedTun {
    let spec = TunSpec {
        name: "t0".into(),
        netns: netns.clone(),
        queues: 1,
        persist: false,
        offloads: Offloads::NONE,
    };
    tun::open(&spec).unwrap()
}

fn side(mtu: u32, addresses: &[&str], routes: &[&str]) -> Side {
    let parsed = |texts: &[&str]| texts.iter().map(|text| text.parse().unwrap()).collect();
    Side { mtu, quiet: true, addresses: parsed(addresses), routes: parsed(routes) }
}

/// What configurations a port may have: other hosts, other lengths, other orders, other MTUs.
fn states() -> Vec<Side> {
    vec![
        side(1500, &[], &[]),
        side(1500, &["10.9.0.2/24"], &["0.0.0.0/0"]),
        side(1500, &["10.9.0.3/24"], &["0.0.0.0/0"]),
        side(1500, &["10.9.0.2/24", "10.9.0.3/24"], &["10.20.0.0/16"]),
        side(1500, &["10.9.0.3/24", "10.9.0.2/24"], &["10.20.0.0/16", "10.30.0.0/16"]),
        side(1500, &["10.9.0.4/24", "10.9.0.2/24", "10.9.0.3/24"], &[]),
        side(1500, &["10.9.0.2/25"], &["10.20.0.0/16"]),
        side(1500, &["10.8.0.2/24", "fd00:9::2/64"], &["0.0.0.0/0", "::/0"]),
        side(1500, &["fd00:9::2/96"], &["::/0"]),
        side(9000, &["10.9.0.3/24", "fd00:9::2/64", "fd00:9::3/64"], &["2001:db8::/32"]),
        side(1280, &["fd00:9::3/128"], &["2001:db8::/32", "::/0"]),
        side(1000, &["10.9.0.2/24"], &["0.0.0.0/0"]),
        side(1000, &[], &[]),
    ]
}

fn json(arguments: &str) -> Vec<Value> {
    serde_json::from_str::<Value>(&run(&format!("ip -n site -j {arguments}")))
        .map(|value| value.as_array().cloned().unwrap_or_default())
        .unwrap_or_default()
}

/// The addresses that `ip` lists on a device, in the kernel's order, and whether each is secondary.
fn addresses() -> Vec<(IpNetwork, bool)> {
    let dump = json("addr show dev t0");
    let infos = dump[0]["addr_info"].as_array().unwrap();
    let infos = infos.iter().filter(|info| info["local"].is_string());
    let of = |info: &Value| {
        let text = format!("{}/{}", info["local"].as_str().unwrap(), info["prefixlen"]);
        (text.parse().unwrap(), info["secondary"] == true)
    };
    infos.map(of).collect()
}

/// The routes through the device that no address brings with it.
fn routes() -> BTreeSet<String> {
    let of = |family: &str| json(&format!("-{family} route show dev t0"));
    let all = of("4").into_iter().chain(of("6"));
    let own = all.filter(|route| route["protocol"] != "kernel");
    own.map(|route| route["dst"].as_str().unwrap().to_owned()).collect()
}

fn assert_is(want: &Side, others: &[&str], what: &str) {
    let link = &json("-d link show dev t0")[0];
    assert_eq!(link["mtu"], want.mtu, "{what}");
    if want.mtu >= 1280 {
        assert_eq!(link["inet6_addr_gen_mode"], "none", "{what}");
    }
    let seen = addresses();
    let of_others: Vec<IpNetwork> = others.iter().map(|text| text.parse().unwrap()).collect();
    let is_own = |one: &&(IpNetwork, bool)| !of_others.contains(&one.0);
    let set = |list: &[IpNetwork]| list.iter().copied().collect::<BTreeSet<_>>();
    let own: Vec<_> = seen.iter().filter(is_own).collect();
    let networks: Vec<IpNetwork> = own.iter().map(|one| one.0).collect();
    assert_eq!(set(&networks), set(&want.addresses), "{what}: {seen:?}");
    for other in &of_others {
        assert!(seen.iter().any(|one| one.0 == *other), "{what}: {other} is somebody's: {seen:?}");
    }
    // The kernel sends from the first of a network: the first that is configured.
    let networks = |list: &[IpNetwork]| {
        let v4 = list.iter().filter(|one| one.is_ipv4()).copied();
        let mut by_network: Vec<_> = v4.map(|one| (one.network(), one.prefix(), one)).collect();
        by_network.sort_by_key(|one| (one.0, one.1));
        by_network
    };
    let own: Vec<IpNetwork> = own.iter().map(|one| one.0).collect();
    assert_eq!(networks(&own), networks(&want.addresses), "{what}: {seen:?}");
    let text = |to: &IpNetwork| if to.prefix() == 0 { "default".into() } else { to.to_string() };
    let count = want.routes.iter().filter(|to| to.prefix() == 0).count();
    let wanted: BTreeSet<String> = want.routes.iter().map(text).collect();
    assert_eq!(routes(), wanted, "{what}");
    let defaults = ["4", "6"].map(|family| json(&format!("-{family} route show default")).len());
    assert_eq!(defaults.iter().sum::<usize>(), count, "{what}");
}

#[test]
fn every_state_leads_to_every_other_in_one_go() {
    in_namespaces("every_state_leads_to_every_other_in_one_go", || {
        let netns = support::netns("site");
        let opened = open(&netns);
        opened.bring_to(&states()[0]).unwrap();
        let mut links = SideLink::open(&netns).unwrap();
        let states = states();
        let mut settle = |side: &Side, what: &str| {
            links
                .settle(opened.ifindex, side, &Mine::new(), true)
                .unwrap_or_else(|error| panic!("{what}: {error}"));
            assert_is(side, &[], what);
            let again = links.settle(opened.ifindex, side, &Mine::new(), true).unwrap();
            assert_eq!(again.made, [], "{what}: nothing is left to change");
        };
        for (i, from) in states.iter().enumerate() {
            for (j, to) in states.iter().enumerate() {
                settle(from, &format!("back to {i}"));
                settle(to, &format!("{i} to {j}"));
            }
        }
    });
}

#[test]
fn what_others_do_to_a_device_is_put_right_and_what_is_theirs_stays() {
    in_namespaces("what_others_do_to_a_device_is_put_right_and_what_is_theirs_stays", || {
        let netns = support::netns("site");
        let opened = open(&netns);
        opened.bring_to(&states()[0]).unwrap();
        let mut links = SideLink::open(&netns).unwrap();
        let ip = |what: &str| drop(run(&format!("ip -n site {what}")));
        let sysctl = |value: &str| {
            netns
                .within(|| fs::write("/proc/sys/net/ipv6/conf/t0/disable_ipv6", value))
                .unwrap()
                .unwrap();
        };
        // In a network of the router's own addresses, behind whose first the kernel puts it.
        let other = "10.9.0.77/24";
        for (i, want) in states().iter().enumerate() {
            let has_v6 = want.mtu >= 1280;
            let mut disturb = |what: &str, others: &[&str], disturbance: &dyn Fn()| {
                disturbance();
                let what = format!("{i} after {what}");
                links
                    .settle(opened.ifindex, want, &Mine::new(), true)
                    .unwrap_or_else(|error| panic!("{what}: {error}"));
                assert_is(want, others, &what);
            };
            disturb("nothing", &[], &|| ());
            disturb("down and up", &[], &|| {
                ip("link set t0 down");
                ip("link set t0 up");
            });
            disturb("a small MTU", &[], &|| ip("link set t0 mtu 600"));
            disturb("a small MTU and back", &[], &|| {
                ip("link set t0 mtu 600");
                ip("link set t0 mtu 1500");
            });
            if has_v6 {
                disturb("IPv6 off and on", &[], &|| {
                    sysctl("1");
                    sysctl("0");
                });
                disturb("link-local addresses", &[], &|| {
                    ip("link set t0 addrgenmode random");
                    ip("link set t0 down");
                    ip("link set t0 up");
                });
            }
            disturb("flush", &[], &|| ip("addr flush dev t0"));
            disturb("an address of somebody", &[other], &|| {
                ip(&format!("addr add {other} dev t0"));
            });
            disturb("an address gone", &[other], &|| {
                if let Some(first) = want.addresses.first() {
                    ip(&format!("addr del {first} dev t0"));
                }
            });
            ip(&format!("addr del {other} dev t0"));
        }
    });
}

/// Also a route that the operator has added by hand, which the kernel deletes with the last address.
#[test]
fn what_is_somebody_elses_stays_when_the_routers_addresses_change() {
    in_namespaces("what_is_somebody_elses_stays_when_the_routers_addresses_change", || {
        let netns = support::netns("site");
        let opened = open(&netns);
        opened.bring_to(&side(1500, &["10.9.0.2/24"], &[])).unwrap();
        let mut links = SideLink::open(&netns).unwrap();
        let ip = |what: &str| drop(run(&format!("ip -n site {what}")));
        ip("addr add 10.9.0.77/24 dev t0");
        ip("route add 10.20.0.0/16 dev t0");
        let mut settle = |side: &Side| links.settle(opened.ifindex, side, &Mine::new(), true);
        let want = side(1500, &["10.9.0.3/24"], &[]);
        settle(&want).unwrap();
        let seen = addresses().into_iter().map(|one| one.0.to_string());
        assert_eq!(
            seen.collect::<BTreeSet<_>>(),
            ["10.9.0.3/24", "10.9.0.77/24"].map(Into::into).into()
        );
        assert_eq!(routes(), ["10.20.0.0/16".to_owned()].into());
        ip("addr del 10.9.0.77/24 dev t0");
        settle(&side(1500, &["10.7.0.3/24"], &[])).unwrap();
        assert_eq!(routes(), ["10.20.0.0/16".to_owned()].into());
        // A route of theirs, though configured, is used as it is, and stays when it is not any more.
        settle(&side(1500, &["10.7.0.3/24"], &["10.20.0.0/16"])).unwrap();
        settle(&side(1500, &["10.7.0.3/24"], &[])).unwrap();
        assert_eq!(routes(), ["10.20.0.0/16".to_owned()].into());
        // The machine's own default route is not replaced.
        ip("link add va type veth peer name vb");
        ip("link set va up");
        ip("route add default dev va");
        let error = settle(&side(1500, &["10.7.0.4/24"], &["0.0.0.0/0"])).unwrap_err();
        let text = error.to_string();
        assert!(
            text.contains("add route 0.0.0.0/0 (t0)") && text.contains("there already"),
            "{text}"
        );
        assert_eq!(json("route show default")[0]["dev"], "va");
        assert_eq!(addresses()[0].0.to_string(), "10.7.0.4/24", "the rest is done all the same");
    });
}

#[test]
fn a_device_that_is_down_gets_its_ipv6_once_it_is_up() {
    in_namespaces("a_device_that_is_down_gets_its_ipv6_once_it_is_up", || {
        let netns = support::netns("site");
        let opened = open(&netns);
        let want = side(1500, &["10.9.0.2/24", "fd00:9::2/64"], &["0.0.0.0/0", "::/0"]);
        opened.bring_to(&want).unwrap();
        let mut links = SideLink::open(&netns).unwrap();
        LinkSetup::open(&netns).unwrap().set_up("t0", false).unwrap();
        let settled = links.settle(opened.ifindex, &want, &Mine::new(), true).unwrap();
        assert_eq!((settled.made, addresses().len()), (vec![], 1));
        LinkSetup::open(&netns).unwrap().set_up("t0", true).unwrap();
        links.settle(opened.ifindex, &want, &Mine::new(), true).unwrap();
        assert_is(&want, &[], "after it was set up");
    });
}

/// The kernel solicits routers as soon as an MTU lets IPv6 in, unless that is prevented.
#[test]
fn the_kernel_sends_nothing_of_its_own_when_the_mtu_lets_ipv6_in() {
    in_namespaces("the_kernel_sends_nothing_of_its_own_when_the_mtu_lets_ipv6_in", || {
        let netns = support::netns("site");
        let opened = open(&netns);
        let mut links = SideLink::open(&netns).unwrap();
        let [small, large] = [1000, 1500].map(|mtu| side(mtu, &["10.9.0.2/24"], &[]));
        opened.bring_to(&small).unwrap();
        for _ in 0..20 {
            links.settle(opened.ifindex, &large, &Mine::new(), true).unwrap();
            links.settle(opened.ifindex, &small, &Mine::new(), true).unwrap();
        }
        links.settle(opened.ifindex, &large, &Mine::new(), true).unwrap();
        let link = LinkSetup::open(&netns).unwrap().status("t0").unwrap();
        assert!(link.up(), "{link:?}");
        let last = support::udp_socket(&netns, "10.9.0.2".parse::<std::net::IpAddr>().unwrap());
        last.send_to(b"last", "10.9.0.1:9").unwrap();
        let mut batch = Batch::new();
        let mut packets = Vec::new();
        support::wait_for("the last packet", || {
            batch.clear();
            opened.port.rx(0, &mut batch).unwrap();
            packets.extend((0..batch.len()).map(|index| batch.packet(index).1.to_vec()));
            packets.last().filter(|packet| packet.ends_with(b"last")).map(drop)
        });
        assert_eq!(packets.len(), 1, "{packets:x?}");
    });
}
