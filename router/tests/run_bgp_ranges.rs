//! Neighbours of the running daemon that come from a range: routers that people run, and nobody listed.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod bgp_support;
mod daemon_support;
mod support;

use std::collections::BTreeSet;

use bgp_support::bird::Bird;
use bgp_support::frr::Frr;
use bgp_support::missing;
use daemon_support::bgp::{SITES, routes};
use daemon_support::{Rig, config};
use support::skip::skip;
use support::{in_namespaces, wait_for};

#[test]
fn two_birds_and_an_frr_come_from_one_range() {
    let test = "two_birds_and_an_frr_come_from_one_range";
    if let Some(why) = missing("bird", "bird2").or_else(|| missing("vtysh", "frr")) {
        return skip(test, &why);
    }
    in_namespaces(test, || {
        let rig = Rig::begin_with(SITES, &text(3));
        let netns = rig.site_netns("peer");
        let mut first = Bird::start(netns, "first", &bird(3));
        let mut second = Bird::start(netns, "second", &bird(4));
        let _frr = Frr::start_with(netns, "third", &frr(5), &["-p", "0"]);
        let wait_routes = |lasts: &[u8]| {
            let all: BTreeSet<String> = lasts.iter().map(|last| prefix(*last)).collect();
            wait_for("their routes", || {
                let used = rig.show("fib");
                let of = used.iter().filter(|row| row["source"] == "bgp");
                let used = of.map(|row| row["prefix"].as_str().unwrap().to_owned());
                (used.collect::<BTreeSet<_>>() == all).then_some(())
            });
        };
        wait_routes(&[3, 4, 5]);
        assert_eq!(neighbors(&rig), [(3, "rack"), (4, "rack"), (5, "rack")].map(row));
        let service = |bird: &Bird| bird.ask("show route protocol r1").contains("198.51.100.53/32");
        wait_for("the service at a BIRD", || service(&first).then_some(()));

        // A fourth has no room until one dies; the hold time is the longest that this takes.
        let fourth = Bird::start(netns, "fourth", &bird(6));
        wait_for("a refused connection", || (refused(&rig, "bgp-over-limit") > 0).then_some(()));
        assert!(!fourth.ask("show protocols r1").contains("Established"));
        first.kill();
        wait_for("one in place of the other", || {
            (neighbors(&rig) == [(4, "rack"), (5, "rack"), (6, "rack")].map(row)).then_some(())
        });
        wait_routes(&[4, 5, 6]);
        // From outside the range.
        let _outside = Bird::start(netns, "outside", &bird(200));
        wait_for("a stranger", || (refused(&rig, "bgp-strangers") > 0).then_some(()));

        // Without the range nobody is left, and nobody comes.
        let text = text(3).split("[[bgp.neighbor]]").next().unwrap().to_owned();
        rig.write_file(&text);
        assert!(rig.nearhop(&["reload"]).status.success());
        wait_for("no route", || routes(&rig).is_empty().then_some(()));
        assert!(neighbors(&rig).is_empty());
        second.kill();
    });
}

fn prefix(last: u8) -> String {
    format!("5.{last}.0.0/24")
}

/// Address and range of every neighbour, in the order of their addresses.
fn neighbors(rig: &Rig) -> Vec<(String, String)> {
    let rows = rig.show("bgp");
    let text = |row: &serde_json::Value, key: &str| row[key].as_str().unwrap_or("").to_owned();
    let mut all: Vec<_> =
        rows.iter().map(|row| (text(row, "address"), text(row, "range"))).collect();
    all.sort();
    all
}

fn row((last, range): (u8, &str)) -> (String, String) {
    (format!("10.2.0.{last}"), range.to_owned())
}

fn refused(rig: &Rig, counter: &str) -> u64 {
    let rows = rig.show("host");
    let row = rows.iter().find(|row| row["counter"] == counter);
    row.and_then(|row| row["packets"].as_u64()).unwrap()
}

/// Addresses for all of them at the other end, and a range.
fn text(limit: u16) -> String {
    let addresses: Vec<String> =
        [2, 3, 4, 5, 6, 200].map(|last| format!("\"10.2.0.{last}/24\"")).into();
    let router = config(SITES).replace("name = \"r1\"\n", "name = \"r1\"\nid = \"10.0.0.1\"\n");
    let router = router.replace("\"10.2.0.2/24\"", &addresses.join(", "));
    format!(
        "{router}[bgp]\nas = 65001\n[[bgp.neighbor]]\nname = \"rack\"\nrange = \"10.2.0.0/25\"\nlimit = {limit}\nas = 65002\n\
         import = \"all\"\nexport = \"services\"\nhold-time = \"9s\"\n"
    )
}

fn bird(last: u8) -> String {
    format!(
        "router id 10.2.0.{last};\nlog stderr all;\nprotocol device {{}}\n\
         protocol static own {{ ipv4; route {} unreachable; }}\n\
         protocol bgp r1 {{ local 10.2.0.{last} as 65002; neighbor 10.2.0.1 as 65001; strict bind yes;\n\
         hold time 9; connect delay time 1; connect retry time 2; error wait time 1, 2;\n\
         ipv4 {{ import all; export where source = RTS_STATIC; }};\n}}\n",
        prefix(last)
    )
}

fn frr(last: u8) -> String {
    let prefix = prefix(last);
    format!(
        "log stdout debugging\nrouter bgp 65002\n bgp router-id 10.2.0.{last}\n \
         no bgp ebgp-requires-policy\n no bgp network import-check\n \
         neighbor 10.2.0.1 remote-as 65001\n neighbor 10.2.0.1 update-source 10.2.0.{last}\n \
         neighbor 10.2.0.1 timers 3 9\n neighbor 10.2.0.1 timers connect 1\n \
         address-family ipv4 unicast\n  network {prefix}\n exit-address-family\n!\n"
    )
}
