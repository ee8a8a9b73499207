//! Several paths to one prefix between the running daemon and the routers that people run (RFC 7911).
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod bgp_support;
mod daemon_support;
mod support;

use std::collections::BTreeSet;

use bgp_support::bird::Bird;
use bgp_support::exabgp::ExaBgp;
use bgp_support::frr::Frr;
use bgp_support::gobgp::GoBgp;
use bgp_support::missing;
use daemon_support::bgp::SITES;
use daemon_support::{Rig, config};
use support::skip::skip;
use support::{in_namespaces, wait_for};

const PREFIX: &str = "203.0.113.0/24";

/// A prefix of two neighbours, and what a third hears of it.
#[test]
fn a_neighbor_hears_of_the_paths_of_two_others() {
    let test = "a_neighbor_hears_of_the_paths_of_two_others";
    let needed = [("bird", "bird2"), ("gobgpd", "gobgpd"), ("gobgp", "gobgpd"), ("vtysh", "frr")];
    if let Some(why) = needed.iter().find_map(|(program, package)| missing(program, package)) {
        return skip(test, &why);
    }
    in_namespaces(test, || {
        let neighbors = [
            neighbor("bird", "10.1.0.2", 65_002, "export = \"none\""),
            neighbor("gobgp", "10.2.0.2", 65_003, "export = \"none\""),
            neighbor(
                "hears",
                "10.0.0.2",
                65_004,
                "export = \"none\"\nexport-learned = true\nadd-path = \"send\"",
            ),
        ];
        let rig = Rig::begin_with(SITES, &text("", &neighbors.concat()));
        let _one = Bird::start(rig.site_netns("ams"), "one", &announcing_bird());
        let two = GoBgp::start(rig.site_netns("peer"), "two", &gobgp());
        let announce = ["global", "rib", "add", PREFIX, "nexthop", "10.2.0.2"];
        assert!(two.try_ask(&announce).is_some());

        // BIRD takes several.
        let mut bird = Bird::start(&rig.client, "hears", &hearing_bird("add paths rx;"));
        let paths = || paths_in(&shown(&bird));
        let [one_path, two_paths] = [&["65001 65002"][..], &["65001 65002", "65001 65003"]];
        wait_for("both paths", || (paths() == set(two_paths)).then_some(()));
        let advertised = rig.nearhop(&["show", "routes", "--advertised", PREFIX, "--json"]);
        let advertised: serde_json::Value = serde_json::from_slice(&advertised.stdout).unwrap();
        let rows = advertised["items"].as_array().unwrap();
        let ids: BTreeSet<u64> = rows.iter().map(|row| row["path_id"].as_u64().unwrap()).collect();
        assert_eq!(ids, BTreeSet::from([1, 2]), "{rows:?}");
        // One is withdrawn, by its identifier, and comes back.
        assert!(two.try_ask(&["global", "rib", "del", PREFIX]).is_some());
        wait_for("one path", || (paths() == set(one_path)).then_some(()));
        assert!(two.try_ask(&announce).is_some());
        wait_for("both paths", || (paths() == set(two_paths)).then_some(()));
        bird.kill();

        // One that takes a single path hears of the best, and of the next once that is gone.
        let mut bird = Bird::start(&rig.client, "single", &hearing_bird(""));
        let paths = || paths_in(&shown(&bird));
        wait_for("a path", || (!paths().is_empty()).then_some(()));
        assert_eq!(paths(), set(one_path), "the lower router id");
        bird.kill();

        // FRR takes several without being told.
        let frr = Frr::start(&rig.client, "hears", FRR);
        let paths = || -> BTreeSet<String> {
            let answer = frr.ask(&format!("show bgp ipv4 unicast {PREFIX} json"));
            let paths = answer["paths"].as_array().into_iter().flatten();
            paths.map(|path| path["aspath"]["string"].as_str().unwrap().to_owned()).collect()
        };
        wait_for("both paths at FRR", || (paths() == set(two_paths)).then_some(()));
        assert!(two.try_ask(&["global", "rib", "del", PREFIX]).is_some());
        wait_for("one path at FRR", || (paths() == set(one_path)).then_some(()));
    });
}

/// Two paths of one neighbour to one prefix, by both ports, and one withdrawn by its identifier.
#[test]
fn two_paths_of_bird_are_members() {
    let test = "two_paths_of_bird_are_members";
    if let Some(why) = missing("bird", "bird2") {
        return skip(test, &why);
    }
    in_namespaces(test, || {
        let rig = receiving();
        let bird = Bird::start(rig.site_netns("peer"), "peer", &two_paths_of_bird(true));
        judge(&rig, || bird.configure(&two_paths_of_bird(false)));
    });
}

#[test]
fn two_paths_of_exabgp_are_members() {
    let test = "two_paths_of_exabgp_are_members";
    if let Some(why) = missing("exabgp", "exabgp") {
        return skip(test, &why);
    }
    in_namespaces(test, || {
        let rig = receiving();
        let mut exabgp = ExaBgp::start(rig.site_netns("peer"), "peer", EXABGP);
        for (id, hop) in [(1, "10.2.0.2"), (2, "10.1.0.2")] {
            exabgp.say(&format!(
                "announce route {PREFIX} next-hop {hop} path-information 0.0.0.{id}"
            ));
        }
        judge(&rig, || {
            exabgp.say(&format!(
                "withdraw route {PREFIX} next-hop 10.1.0.2 path-information 0.0.0.2"
            ));
        });
    });
}

/// A router that takes several paths of its neighbour, and sends packets by four of them.
fn receiving() -> Rig {
    let keys = "export = \"none\"\nadd-path = \"receive\"";
    let neighbor = neighbor("peer", "10.2.0.2", 65_002, keys);
    Rig::begin_with(SITES, &text("multipath = 4\n", &neighbor))
}

/// Both paths are shown and are members; then the one by the first port goes.
fn judge(rig: &Rig, withdraw: impl FnOnce()) {
    let ids = || -> BTreeSet<u64> {
        let rows = rig.show("routes");
        let of = rows.iter().filter(|row| row["prefix"] == PREFIX && row["state"] != "refused");
        of.map(|row| row["path_id"].as_u64().unwrap()).collect()
    };
    let ports = || -> BTreeSet<String> {
        let rows = rig.show("fib");
        let of = rows.iter().filter(|row| row["prefix"] == PREFIX && row["best"] == true);
        of.map(|row| row["port"].as_str().unwrap().to_owned()).collect()
    };
    wait_for("both members", || (ports() == set(&["ams", "peer"])).then_some(()));
    assert_eq!(ids().len(), 2, "{:?}", rig.show("routes"));
    withdraw();
    wait_for("one member", || (ports() == set(&["peer"])).then_some(()));
    assert_eq!(ids().len(), 1, "{:?}", rig.show("routes"));
}

fn set(all: &[&str]) -> BTreeSet<String> {
    all.iter().map(|one| (*one).to_owned()).collect()
}

/// What BIRD has of the prefix; it fails where it has nothing.
fn shown(bird: &Bird) -> String {
    bird.try_ask(&["show", "route", PREFIX, "all"]).unwrap_or_default()
}

/// The AS paths in what BIRD shows of routes.
fn paths_in(text: &str) -> BTreeSet<String> {
    let lines = text.lines().filter_map(|line| line.trim().strip_prefix("BGP.as_path: "));
    lines.map(str::to_owned).collect()
}

fn text(bgp: &str, neighbors: &str) -> String {
    let router = config(SITES).replace("name = \"r1\"\n", "name = \"r1\"\nid = \"10.0.0.1\"\n");
    format!("{router}[bgp]\nas = 65001\n{bgp}{neighbors}")
}

fn neighbor(name: &str, address: &str, asn: u32, keys: &str) -> String {
    format!(
        "[[bgp.neighbor]]\nname = \"{name}\"\naddress = \"{address}\"\nas = {asn}\nimport = \"all\"\n{keys}\n"
    )
}

/// BIRD with a neighbour, and what is in both lines of its channel.
fn bird(local: &str, asn: u32, remote: &str, routes: &str, channel: &str) -> String {
    format!(
        "router id {local};\nlog stderr all;\nprotocol device {{}}\n{routes}\n\
         protocol bgp r1 {{ local {local} as {asn}; neighbor {remote} as 65001; hold time 9;\n\
         connect delay time 1; connect retry time 2; error wait time 1, 2;\n\
         ipv4 {{ {channel} }};\n}}\n"
    )
}

fn announcing_bird() -> String {
    let routes = format!("protocol static own {{ ipv4; route {PREFIX} unreachable; }}");
    bird("10.1.0.2", 65_002, "10.1.0.1", &routes, "import all; export where source = RTS_STATIC;")
}

fn hearing_bird(add_paths: &str) -> String {
    let channel = format!("import all; export none; {add_paths}");
    bird("10.0.0.2", 65_004, "10.0.0.1", "", &channel)
}

/// Two routes to the prefix, by next hops at both ports of the router, or one.
fn two_paths_of_bird(both: bool) -> String {
    let names = if both { &["s1", "s2"][..] } else { &["s1"] };
    let route = |name| format!("protocol static {name} {{ ipv4; route {PREFIX} unreachable; }}\n");
    let routes: String = names.iter().map(route).collect();
    let export = "export filter { if proto = \"s2\" then bgp_next_hop = 10.1.0.2; \
                  if source = RTS_STATIC then accept; reject; };";
    let channel = format!("import all; {export} add paths tx;");
    bird("10.2.0.2", 65_002, "10.2.0.1", &routes, &channel)
}

fn gobgp() -> String {
    "[global.config]\nas = 65003\nrouter-id = \"10.2.0.2\"\n\
     [[neighbors]]\n[neighbors.config]\nneighbor-address = \"10.2.0.1\"\npeer-as = 65001\n\
     [neighbors.timers.config]\nhold-time = 9\nkeepalive-interval = 3\nconnect-retry = 1\n\
     [neighbors.transport.config]\nlocal-address = \"10.2.0.2\"\n\
     [[neighbors.afi-safis]]\n[neighbors.afi-safis.config]\nafi-safi-name = \"ipv4-unicast\"\n"
        .into()
}

const FRR: &str = "log stdout debugging\nrouter bgp 65004\n bgp router-id 10.0.0.2\n \
                   no bgp ebgp-requires-policy\n neighbor 10.0.0.1 remote-as 65001\n \
                   neighbor 10.0.0.1 timers 3 9\n neighbor 10.0.0.1 timers connect 1\n!\n";

const EXABGP: &str = "neighbor 10.2.0.1 { router-id 10.2.0.2; local-address 10.2.0.2; local-as 65002; \
                      peer-as 65001; hold-time 9;\nfamily { ipv4 unicast; }\n\
                      capability { add-path send; }\napi { processes [ test ]; }\n}\n";
