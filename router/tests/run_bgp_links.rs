//! BGP over link-local addresses between the running daemon and routers that people run. The links have no other
//! addresses, so that every route of both families rests on them, and packets go both ways by these routes.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod bgp_support;
mod daemon_support;
mod support;

use std::fmt::Write as _;

use bgp_support::bird::Bird;
use bgp_support::frr::Frr;
use bgp_support::missing;
use daemon_support::{Costs, Probes, Rig, SERVICE_V4, SERVICE_V6, config};
use nearhop::kernel::netns::NetNs;
use serde_json::Value;
use support::skip::skip;
use support::{in_namespaces, in_namespaces_as_root, wait_for};

const SITES: Costs<'_> = &[("ams", 10)];

/// FRR without any address of the router in its configuration, and the router without any of FRR.
#[test]
fn frr_without_numbers_exchanges_routes() {
    let test = "frr_without_numbers_exchanges_routes";
    if let Some(why) = missing("vtysh", "frr") {
        return skip(test, &why);
    }
    in_namespaces_as_root(test, || {
        let up = support::netns("up1");
        let neighbor = |export: &str| text(&[1], "", "port = \"up1\"\n", export);
        let rig = Rig::begin_with(SITES, &neighbor("[\"echo\"]"));
        own_addresses(&up, 1);
        let mut frr = Frr::start_with_zebra(&up, "unnumbered", &frr_config(&ROUTES));
        let row = wait_for("a session", || row_of(&rig, "up1").filter(|row| row["up"] == true));
        assert_eq!(row["address"], "fe80::2", "{row}");
        let own = row["local_address"].as_str().unwrap().to_owned();
        assert!(own.starts_with("fe80::") && own != "fe80::1", "{own}");
        wait_routes(&rig, 1, &ROUTES);
        wait_kernel_routes(&up, 1, &own, true);
        rig.wait_all_up();
        talk(&up);

        frr.change_networks(65_002, &ROUTES[..1], &[]);
        wait_routes(&rig, 1, &ROUTES[1..]);
        frr.change_networks(65_002, &[], &ROUTES[..1]);
        reload(&rig, &neighbor("\"none\""));
        wait_kernel_routes(&up, 1, &own, false);
        reload(&rig, &neighbor("[\"echo\"]"));
        wait_kernel_routes(&up, 1, &own, true);
        wait_routes(&rig, 1, &ROUTES);
        talk(&up);
        assert_eq!(row_of(&rig, "up1").unwrap()["sessions"], 1, "one session all the while");

        // One that comes back is found again.
        frr.kill();
        wait_routes(&rig, 1, &[]);
        let _frr = Frr::start_with_zebra(&up, "again", &frr_config(&ROUTES[1..]));
        wait_routes(&rig, 1, &ROUTES[1..]);
    });
}

/// Two links alike: the addresses of both ends are the same on both.
#[test]
fn bird_exchanges_routes_by_link_local_addresses() {
    let test = "bird_exchanges_routes_by_link_local_addresses";
    if let Some(why) = missing("bird", "bird2") {
        return skip(test, &why);
    }
    in_namespaces(test, || {
        let ups = ["up1", "up2"].map(support::netns);
        let both = |export: &str| {
            let other = format!(
                "address = \"fe80::2\"\nport = \"up2\"\nas = 65002\nimport = \"all\"\nexport = {export}\n\
                 [[bgp.neighbor]]\naddress = \"fe80::2\"\nport = \"up1\"\n"
            );
            text(&[1, 2], "addresses = [\"fe80::1/64\"]\n", &other, export)
        };
        let rig = Rig::begin_with(SITES, &both("[\"echo\"]"));
        let mut birds = Vec::new();
        for (n, up) in (1..).zip(&ups) {
            own_addresses(up, n);
            let bird = Bird::start(up, &format!("up{n}"), &bird_config(n, &ROUTES));
            birds.push(bird);
        }
        for (n, up) in (1..).zip(&ups) {
            wait_for("a session", || {
                row_of(&rig, &format!("fe80::2%up{n}")).filter(|row| row["up"] == true)
            });
            wait_routes(&rig, n, &ROUTES);
            wait_kernel_routes(up, n, "fe80::1", true);
        }
        rig.wait_all_up();
        ups.iter().for_each(talk);

        birds[0].configure(&bird_config(1, &ROUTES[1..]));
        wait_routes(&rig, 1, &ROUTES[1..]);
        wait_routes(&rig, 2, &ROUTES);
        reload(&rig, &both("\"none\""));
        (1..).zip(&ups).for_each(|(n, up)| wait_kernel_routes(up, n, "fe80::1", false));
        birds[1].kill();
        wait_routes(&rig, 2, &[]);
        wait_routes(&rig, 1, &ROUTES[1..]);
    });
}

/// What the other end announces, where `N` stands for the link.
const ROUTES: [&str; 2] = ["203.0.N.0/24", "2001:db8:N::/48"];

fn of_link(routes: &[&str], n: usize) -> Vec<String> {
    routes.iter().map(|route| route.replace('N', &n.to_string())).collect()
}

/// A router with these uplinks; `keys` are of its neighbour, or of the last of them.
fn text(links: &[usize], port_keys: &str, keys: &str, export: &str) -> String {
    let mut text = config(SITES).replace("name = \"r1\"\n", "name = \"r1\"\nid = \"10.0.0.1\"\n");
    for n in links {
        let _ = write!(
            text,
            "[[port]]\nname = \"up{n}\"\ntun = \"nh-up{n}\"\nnetns = \"up{n}\"\n{port_keys}\
             peer-addresses = [\"fe80::2/64\"]\n"
        );
    }
    text + &format!(
        "[bgp]\nas = 65001\n[[bgp.neighbor]]\n{keys}as = 65002\nimport = \"all\"\nexport = {export}\n"
    )
}

/// The far end has addresses of its own routes, which packets come from, on its loopback device.
fn own_addresses(up: &NetNs, n: usize) {
    let ip = |words: &str| {
        let words: Vec<&str> = words.split(' ').collect();
        let done = bgp_support::daemon::inside(&up.to_string(), &words).status().unwrap();
        assert!(done.success(), "{words:?}");
    };
    ip(&format!("ip address add 203.0.{n}.1/32 dev lo"));
    ip(&format!("ip address add 2001:db8:{n}::1/128 dev lo"));
    wait_for("the device", || {
        let device = ["ip", "address", "show", "dev", &format!("nh-up{n}")];
        let output = bgp_support::daemon::inside(&up.to_string(), &device).output().unwrap();
        String::from_utf8_lossy(&output.stdout).contains("fe80::2/64").then_some(())
    });
}

fn frr_config(routes: &[&str]) -> String {
    let [v4, v6] = [false, true].map(|is_v6| {
        let of = of_link(routes, 1).into_iter().filter(move |route| route.contains(':') == is_v6);
        of.map(|route| format!("  network {route}\n")).collect::<Vec<_>>().concat()
    });
    format!(
        "log stdout debugging\nrouter bgp 65002\n bgp router-id 10.0.0.2\n no bgp ebgp-requires-policy\n \
         no bgp network import-check\n neighbor nh-up1 interface remote-as external\n \
         neighbor nh-up1 timers 3 9\n neighbor nh-up1 timers connect 1\n \
         neighbor nh-up1 advertisement-interval 0\n \
         address-family ipv4 unicast\n  neighbor nh-up1 activate\n{v4} exit-address-family\n \
         address-family ipv6 unicast\n  neighbor nh-up1 activate\n{v6} exit-address-family\n!\n"
    )
}

fn bird_config(n: usize, routes: &[&str]) -> String {
    let mut text = format!("router id 10.0.0.{};\nlog stderr all;\nprotocol device {{ }}\n", n + 1);
    for (family, is_v6) in [("ipv4", false), ("ipv6", true)] {
        let of = of_link(routes, n).into_iter().filter(|route| route.contains(':') == is_v6);
        let of =
            of.map(|route| format!("route {route} unreachable;")).collect::<Vec<_>>().join(" ");
        let _ = write!(
            text,
            "protocol kernel {{ {family} {{ import none; export where source = RTS_BGP; }}; }}\n\
             protocol static s_{family} {{ {family}; {of} }}\n"
        );
    }
    let channel = |family: &str, keys: &str| {
        format!(
            "{family} {{ import all; export where proto = \"s_{family}\"; next hop self; {keys} }};\n"
        )
    };
    text + &format!(
        "protocol bgp r1 {{ debug {{ events, states }}; local fe80::2 as 65002;\n\
         neighbor fe80::1 % 'nh-up{n}' as 65001; hold time 9; connect retry time 1;\n{}{} }}\n",
        channel("ipv4", "extended next hop on;"),
        channel("ipv6", "")
    )
}

fn row_of(rig: &Rig, neighbor: &str) -> Option<Value> {
    rig.show("bgp").into_iter().find(|row| row["neighbor"] == neighbor)
}

fn reload(rig: &Rig, text: &str) {
    rig.write_file(text);
    let out = rig.nearhop(&["reload"]);
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
}

/// Waits until exactly these routes of a link are used, by the neighbour's link-local address on it.
fn wait_routes(rig: &Rig, n: usize, routes: &[&str]) {
    let mut wanted = of_link(routes, n);
    wanted.sort();
    let via = format!("fe80::2%up{n}");
    wait_for(&format!("{wanted:?} by {via}"), || {
        let rows = rig.show("routes").into_iter();
        let of = rows.filter(|row| row["source"] == "bgp" && row["via"][0] == *via);
        let mut found: Vec<String> = of
            .filter(|row| row["state"] == "up")
            .map(|row| row["prefix"].as_str().unwrap().to_owned())
            .collect();
        found.sort();
        (found == wanted).then_some(())
    });
}

/// Waits until the other end's kernel has the service by the router's link-local address, or not any more.
fn wait_kernel_routes(up: &NetNs, n: usize, own: &str, there: bool) {
    for (family, service) in [("-4", SERVICE_V4), ("-6", SERVICE_V6)] {
        let words = ["ip", family, "route", "show", service];
        wait_for(&format!("{service} in the kernel: {there}"), || {
            let output = bgp_support::daemon::inside(&up.to_string(), &words).output().unwrap();
            let text = String::from_utf8_lossy(&output.stdout).into_owned();
            let is_by = text.contains(own) && text.contains(&format!("nh-up{n}"));
            let is_right = if there { is_by } else { text.trim().is_empty() };
            is_right.then_some(())
        });
    }
}

/// A client at the other end is served: its packets come by the routes of one side, the answers by those of
/// the other.
fn talk(up: &NetNs) {
    for service in [SERVICE_V4, SERVICE_V6] {
        let probes = Probes::start(up, service, 2);
        assert_eq!(probes.sites_now(), ["ams", "ams"], "{service}");
        probes.finish();
    }
}
