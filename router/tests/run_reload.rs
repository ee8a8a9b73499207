//! Changes of configuration while packets flow: a file is applied as a whole or not at all.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod daemon_support;
mod support;

use std::fs;
use std::thread;

use daemon_support::{Probes, Rig, SERVICE_V4, SERVICE_V6, Watch, config, signal};
use nearhop::kernel::link::{LinkSetup, LinkStatus};
use nearhop::kernel::netns::NetNs;
use rustix::process::Signal;
use support::{in_namespaces, wait_for};

const ONE: &[(&str, u32)] = &[("ams", 10)];
const TWO: &[(&str, u32)] = &[("ams", 10), ("fra", 20)];
const TWO_FRA_FIRST: &[(&str, u32)] = &[("ams", 30), ("fra", 20)];

#[test]
fn ports_come_and_go_without_a_loss_on_the_others() {
    in_namespaces("ports_come_and_go_without_a_loss_on_the_others", || {
        let mut rig = Rig::start(ONE);
        let probes = [SERVICE_V4, SERVICE_V6].map(|to| Probes::start(&rig.client, to, 4));
        let all_at = |site: &str| probes.iter().for_each(|probes| probes.wait_for_site(site));
        all_at("ams");
        for _ in 0..2 {
            rig.add_site("fra");
            rig.write_config(TWO);
            let said = reload(&rig);
            assert!(
                said.contains("+ port fra") && said.contains("+ service echo site fra"),
                "{said}"
            );
            rig.serve_last_site();
            rig.wait_all_up();
            all_at("ams");
            rig.write_config(TWO_FRA_FIRST);
            assert_eq!(reload(&rig).trim(), "service echo site ams: cost 10 -> 30");
            all_at("fra");
            rig.write_config(TWO);
            reload(&rig);
            all_at("ams");
            rig.write_config(ONE);
            let said = reload(&rig);
            assert!(
                said.contains("- port fra") && said.contains("- service echo site fra"),
                "{said}"
            );
            wait_for("the port's device to go", || device("fra", "nh-fra").is_none().then_some(()));
            all_at("ams");
            assert_eq!(rig.show("services").len(), 2);
            rig.remove_last_site();
        }
        for probes in probes {
            let (sent, lost, _) = probes.finish();
            assert!(sent > 100 && lost == 0, "{lost} of {sent} lost");
        }
    });
}

#[test]
fn a_reload_that_cannot_be_done_leaves_everything_as_it_was() {
    in_namespaces("a_reload_that_cannot_be_done_leaves_everything_as_it_was", || {
        let rig = Rig::start(TWO);
        let watch = Watch::start(&rig);
        let probes = Probes::start(&rig.client, SERVICE_V4, 4);
        probes.wait_for_site("ams");
        let before = shape(&rig);
        let par = support::netns("par");
        let good = config(TWO);
        let port = |name: &str, rest: &str| {
            format!(
                "[[port]]\nname = \"{name}\"\ntun = \"nh-{name}\"\naddresses = [\"10.9.0.1/24\"]\n{rest}"
            )
        };
        for (text, code, wanted) in [
            // The first port could be opened; the second, after it, cannot.
            (
                [
                    &config(&[("ams", 30), ("fra", 20)])[..],
                    &port("par", "netns = \"par\"\n"),
                    &port("gone", "netns = \"nowhere\"\n").replace("10.9", "10.8"),
                ]
                .concat(),
                3,
                "port \"gone\" cannot be opened: cannot open network namespace /run/netns/nowhere",
            ),
            (good.replace("tun = \"nh-fra\"", "tun = \"nh-other\""), 2, "another device"),
            (good.replace("workers = 2", "workers = 1"), 2, "workers cannot change"),
            ([&good, "[api]\nhttp = \"127.0.0.1:7780\"\n"].concat(), 2, "[api] cannot change"),
            (good.replace("cost = 20", "cost = \"low\""), 2, "r1.toml:"),
            (String::new(), 2, "r1.toml"),
        ] {
            rig.write_file(&text);
            let out = rig.nearhop(&["reload"]);
            let reported = String::from_utf8_lossy(&out.stderr).into_owned();
            assert!(reported.contains(wanted), "{wanted}: {reported}");
            assert_eq!(out.status.code(), Some(code), "{reported}");
            assert!(out.stdout.is_empty());
            signal(&rig.router, Signal::HUP);
            assert_eq!(shape(&rig), before, "{wanted}");
            assert_eq!(LinkSetup::open(&par).unwrap().list().unwrap().len(), 1, "only lo");
        }
        fs::remove_file(rig.dir.join("r1.toml")).unwrap();
        assert_eq!(rig.nearhop(&["reload"]).status.code(), Some(2));
        wait_for("the log to say it of every signal", || {
            let log = fs::read_to_string(rig.dir.join("log")).unwrap();
            (log.matches("not reloaded").count() >= 1).then_some(())
        });
        let (sent, lost, _) = probes.finish();
        assert_eq!(lost, 0, "of {sent}");
        rig.nearhop(&["drain", "fra"]);
        watch.wait_for("the drain", |event| event["kind"] == "drain");
        let lines = watch.lines.lock().unwrap();
        let moved = |line: &serde_json::Value| {
            ["reload", "publish", "site", "carrier"].iter().any(|kind| line["kind"] == *kind)
        };
        assert!(!lines.iter().any(moved), "{lines:?}");
    });
}

#[test]
fn a_reload_keeps_what_is_known_and_changes_ports_in_place() {
    in_namespaces("a_reload_keeps_what_is_known_and_changes_ports_in_place", || {
        let rig = Rig::start(TWO);
        let watch = Watch::start(&rig);
        let probes = Probes::start(&rig.client, SERVICE_V6, 4);
        probes.wait_for_site("ams");
        let before = device("fra", "nh-fra").unwrap();
        let changed = config(TWO)
            .replace("netns = \"fra\"\n", "netns = \"fra\"\nmtu = 1400\n")
            .replace("fall = 50", "fall = 40");
        rig.write_file(&changed);
        let said = reload(&rig);
        assert!(said.contains("port fra: mtu 1500 -> 1400"), "{said}");
        let after = device("fra", "nh-fra").unwrap();
        assert_eq!((after.mtu, after.ifindex), (1400, before.ifindex));
        assert_eq!(rig.show("ports")[2]["mtu"], 1400);
        let out = rig.nearhop(&["reload"]);
        assert!(out.status.success() && out.stdout.is_empty());
        assert!(String::from_utf8_lossy(&out.stderr).contains("nothing changed"), "{out:?}");
        rig.nearhop(&["drain", "fra"]);
        watch.wait_for("the drain", |event| event["kind"] == "drain");
        let lines = watch.lines.lock().unwrap();
        let down = |line: &serde_json::Value| line["up"] == false;
        assert!(!lines.iter().any(down), "something went down: {lines:?}");
        let (sent, lost, _) = probes.finish();
        assert_eq!(lost, 0, "of {sent}");
    });
}

/// Whoever removes a port may use its device at once, by this router or another program.
#[test]
fn a_removed_ports_device_is_free_when_the_reload_is_answered() {
    in_namespaces("a_removed_ports_device_is_free_when_the_reload_is_answered", || {
        let rig = Rig::start(TWO);
        let with_persist = |persist: bool| {
            let netns = "netns = \"fra\"\n";
            config(TWO).replace(netns, &format!("{netns}persist = {persist}\n"))
        };
        for persist in [false, true] {
            rig.write_config(&TWO[..1]);
            reload(&rig);
            for round in 0..10 {
                rig.write_file(&with_persist(persist));
                reload(&rig);
                rig.write_config(&TWO[..1]);
                reload(&rig);
                let left = device("fra", "nh-fra");
                let free = left.as_ref().is_none_or(|link| link.tun.unwrap().open_queues == 0);
                assert!(free && left.is_some() == persist, "{persist} {round}: {left:?}");
            }
        }
        // Under another name too, and by somebody who does not wait for the answer.
        for round in 0..10 {
            let (here, there) = if round % 2 == 0 { ("fra", "other") } else { ("other", "fra") };
            let named = |name: &str| {
                let text =
                    config(TWO).replace("name = \"fra\"\ntun", &format!("name = \"{name}\"\ntun"));
                text.replace("via = \"fra\"", &format!("via = \"{name}\""))
            };
            rig.write_file(&named(here));
            reload(&rig);
            rig.write_config(&TWO[..1]);
            thread::scope(|scope| {
                let going = scope.spawn(|| reload(&rig));
                wait_for("the first to be in force", || {
                    let ports = rig.show("ports");
                    (!ports.iter().any(|port| port["port"] == here)).then_some(())
                });
                rig.write_file(&named(there));
                reload(&rig);
                going.join().unwrap();
            });
            rig.write_config(&TWO[..1]);
            reload(&rig);
        }
    });
}

/// Reloads, and returns the output.
fn reload(rig: &Rig) -> String {
    let out = rig.nearhop(&["reload"]);
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    String::from_utf8(out.stdout).unwrap()
}

/// State that a reload could change: routes, costs, ports.
fn shape(rig: &Rig) -> Vec<String> {
    let row = |item: serde_json::Value, keys: &[&str]| {
        keys.iter().map(|key| item[*key].to_string()).collect::<Vec<_>>().join(" ")
    };
    let services = rig.show("services").into_iter();
    let services = services.map(|item| row(item, &["site", "family", "cost", "state", "tier"]));
    let fib =
        rig.show("fib").into_iter().map(|item| row(item, &["prefix", "group", "port", "tier"]));
    let ports = rig.show("ports").into_iter().map(|item| row(item, &["port", "device", "mtu"]));
    services.chain(fib).chain(ports).collect()
}

fn device(netns: &str, name: &str) -> Option<LinkStatus> {
    LinkSetup::open(&NetNs::named(netns)).unwrap().find(name).unwrap()
}
