//! A neighbour's table comes into the running daemon while TCP checks run beside it, on the same host stack: the
//! table makes no check late.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod bgp_support;
mod daemon_support;
mod support;

use std::net::{Ipv4Addr, TcpListener};
use std::thread;

use bgp_support::speaker::{Ends, Speaker, as_path, attribute, update};
use daemon_support::bgp::{SITES, with_neighbors};
use daemon_support::{Rig, SERVICE_V4, SERVICE_V6, Watch};
use support::{in_namespaces, wait_for};

/// Two sites in two families answer 25 checks each. That a check which is not answered is noticed at all is shown
/// at the end.
#[test]
fn a_table_loads_beside_a_hundred_tcp_checks_and_none_of_them_fails() {
    in_namespaces("a_table_loads_beside_a_hundred_tcp_checks_and_none_of_them_fails", || {
        let rig = Rig::begin_with(SITES, &config());
        for (site, _) in SITES {
            for address in [SERVICE_V4, SERVICE_V6] {
                let netns = rig.site_netns(site);
                let listener =
                    netns.within(|| TcpListener::bind((address, PORT))).unwrap().unwrap();
                // Ends with the test's process.
                thread::spawn(move || listener.incoming().for_each(drop));
            }
        }
        rig.wait_all_up();
        let watch = Watch::start(&rig);
        let before = answered(&rig);
        assert_eq!(before.len(), CHECKS);
        let mut neighbor = Speaker::open(rig.site_netns("peer"), ends());
        neighbor.send(&table());
        wait_for("the whole table in the FIB", || {
            let rows = rig.show("bgp");
            let published = |line: &serde_json::Value| line["prefixes"].as_u64().unwrap_or(0);
            let published: u64 = watch.lines.lock().unwrap().iter().map(published).sum();
            let has_all = rows[0]["received_ipv4"] == u64::from(ROUTES);
            (has_all && published >= u64::from(ROUTES)).then_some(())
        });
        // Each was answered meanwhile or is soon after, and was up all the time.
        wait_for("an answer to every check", || {
            let now = answered(&rig);
            now.iter().zip(&before).all(|(now, before)| now > before).then_some(())
        });
        let lines = watch.lines.lock().unwrap();
        let verdicts: Vec<_> = lines.iter().filter(|line| line["kind"] == "site").collect();
        assert!(verdicts.is_empty(), "{verdicts:?}");
        drop(lines);
        support::run(&format!("ip -n ams addr del {SERVICE_V4}/32 dev lo"));
        watch.wait_for("a site that is silent", |line| {
            line["kind"] == "site" && line["up"] == false && line["reason"] == "health silent"
        });
    });
}

fn config() -> String {
    // A listener's queue takes what comes in a second: on a starved machine it is a thread of the test that is late.
    let one = "{ tcp = { port = 7 }, interval = \"200ms\", rise = 1 }";
    let health = vec![one; CHECKS / 4].join(", ");
    let text = with_neighbors(2..3, &[], "passive = true\nmax-prefixes = 1000000\n");
    let usual = daemon_support::config(SITES);
    let usual = usual.lines().find(|line| line.starts_with("health = ")).unwrap();
    text.replace(usual, &format!("health = [{health}]"))
}

/// How many answers each check had, in an order that stays.
fn answered(rig: &Rig) -> Vec<u64> {
    let checks = rig.show("checks");
    checks.iter().map(|check| check["answered"].as_u64().unwrap()).collect()
}

/// /24s from 5.0.0.0 on, in UPDATEs of a few with attributes of their own.
fn table() -> Vec<u8> {
    let first = u32::from(Ipv4Addr::new(5, 0, 0, 0));
    let mut bytes = Vec::new();
    for start in (0..ROUTES).step_by(PREFIXES_PER_UPDATE) {
        let prefixes = start..ROUTES.min(start + PREFIXES_PER_UPDATE as u32);
        let nlri: Vec<u8> = prefixes
            .flat_map(|index| {
                let [a, b, c, _] = (first + (index << 8)).to_be_bytes();
                [24, a, b, c]
            })
            .collect();
        let next_hop = attribute(0x40, 3, &[10, 2, 0, 2]);
        let med = attribute(0x80, 4, &start.to_be_bytes());
        let attributes = [attribute(0x40, 1, &[0]), as_path(&[65_002]), next_hop, med].concat();
        bytes.extend(update(&[], &attributes, &nlri));
    }
    bytes
}

fn ends() -> Ends {
    let from = Ipv4Addr::new(10, 2, 0, 2);
    Ends { from, to: Ipv4Addr::new(10, 2, 0, 1), asn: 65_002, id: from, hold_s: 0 }
}

const PORT: u16 = 7;
const CHECKS: usize = 100;
const ROUTES: u32 = 200_000;
const PREFIXES_PER_UPDATE: usize = 5;
