//! What BIRD hears of services, of routers that are drained or end, and of blocked prefixes.
#![allow(clippy::unwrap_used, reason = "a test may panic")]
#![allow(clippy::disallowed_methods, reason = "real time")]

mod bgp_support;
mod daemon_support;
mod support;

use std::time::{Duration, Instant};

use bgp_support::bird::Bird;
use bgp_support::missing;
use daemon_support::{Costs, Rig, SERVICE_V4, SERVICE_V6, config, signal};
use rustix::process::Signal;
use serde_json::Value;
use support::skip::skip;
use support::{in_namespaces, wait_for};

/// The second is the neighbour.
const SITES: Costs<'_> = &[("ams", 10), ("peer", 20)];

/// With these keys of the service, of `[bgp]` and of the neighbour.
fn speaking(service: &str, bgp: &str, neighbor: &str) -> String {
    config(SITES)
        .replace("name = \"r1\"\n", "name = \"r1\"\nid = \"10.0.0.1\"\n")
        .replace("latency-unit = \"off\"\n", &format!("latency-unit = \"off\"\n{service}"))
        + &format!(
            "[bgp]\nas = 65001\n{bgp}\
             [[bgp.neighbor]]\nname = \"bird\"\naddress = \"10.2.0.2\"\nas = 65002\n\
             import = \"none\"\nexport = [\"echo\"]\n{neighbor}"
        )
}

const BIRD: &str = "router id 10.2.0.2;\nprotocol device {}\n\
     protocol bgp r1 { local 10.2.0.2 as 65002; neighbor 10.2.0.1 as 65001;\n\
     ipv4 { import all; export none; }; ipv6 { import all; export none; }; }\n";

/// What BIRD knows of a prefix; empty if nothing.
fn route(bird: &Bird, prefix: &str) -> String {
    // To ask for the prefix itself fails where there is none.
    let all = bird.ask("show route all protocol r1");
    let mut lines = all.lines().skip_while(|line| !line.starts_with(&format!("{prefix} ")));
    let Some(first) = lines.next() else { return String::new() };
    let rest = lines.take_while(|line| line.starts_with(char::is_whitespace));
    rest.fold(first.to_owned(), |text, line| text + "\n" + line) + "\n"
}

/// As BIRD writes GRACEFUL_SHUTDOWN (RFC 8326).
const GRACEFUL_SHUTDOWN: &str = "(65535,0)";

fn state_of(rig: &Rig, prefix: &str) -> (String, String) {
    let shown = rig.nearhop(&["show", "bgp", "advertised", "--json"]);
    let document: Value = serde_json::from_slice(&shown.stdout).unwrap_or_default();
    let rows = document["items"].as_array().cloned().unwrap_or_default();
    let row = rows.iter().find(|row| row["prefix"] == prefix);
    let text = |key: &str| row.map_or("", |row| row[key].as_str().unwrap()).to_owned();
    (text("state"), text("why"))
}

fn is_drained(rig: &Rig) -> bool {
    rig.show("router")[0]["bgp"] == "drained"
}

#[test]
fn bird_hears_of_sites_and_of_a_router_that_is_drained() {
    let test = "bird_hears_of_sites_and_of_a_router_that_is_drained";
    if let Some(why) = missing("bird", "bird2") {
        return skip(test, &why);
    }
    in_namespaces(test, || {
        let service = "min-sites = 2\nannounce-delay = \"0s\"\nmed = 7\n";
        let terms = "communities = [\"65001:100\"]\nprepend = 1\n";
        let playbook = "[[bgp.playbook]]\nname = \"gone\"\n\
                        [[bgp.playbook.step]]\nservices = [\"echo\"]\nwithdraw = true\n";
        let config = speaking(service, "drain-wait = \"5s\"\n", terms) + playbook;
        let mut rig = Rig::start_with(SITES, &config);
        let bird = Bird::start(rig.site_netns("peer"), "peer", BIRD);
        let prefix = format!("{SERVICE_V4}/32");
        let announced = wait_for("the service at BIRD", || {
            Some(route(&bird, &prefix)).filter(|route| !route.is_empty())
        });
        for part in ["BGP.as_path: 65001 65001\n", "BGP.med: 7", "(65001,100)"] {
            assert!(announced.contains(part), "{part}: {announced}");
        }
        assert_eq!(state_of(&rig, &prefix).0, "announced");

        // One site of two that are needed.
        assert!(rig.nearhop(&["drain", "ams"]).status.success());
        wait_for("no service with one site", || route(&bird, &prefix).is_empty().then_some(()));
        let (state, why) = state_of(&rig, &prefix);
        assert_eq!((&*state, &*why), ("withdrawn", "1 site is well, 2 needed"));
        assert!(rig.nearhop(&["undrain", "ams"]).status.success());
        wait_for("the service again", || (!route(&bird, &prefix).is_empty()).then_some(()));

        // A playbook that leaves nobody who hears of it is refused.
        let refused = rig.nearhop(&["playbook", "apply", "gone"]);
        assert_eq!(refused.status.code(), Some(2));
        let said = String::from_utf8_lossy(&refused.stderr).into_owned();
        assert!(said.contains("withdraws echo from all neighbours"), "{said}");
        assert!(rig.nearhop(&["playbook", "apply", "gone", "--force"]).status.success());
        wait_for("what a playbook withdraws", || route(&bird, &prefix).is_empty().then_some(()));
        assert_eq!(state_of(&rig, &prefix).1, "playbook gone withdraws it");
        assert_eq!(rig.show("playbooks")[0]["applied"], true);
        assert!(rig.nearhop(&["playbook", "undo", "gone"]).status.success());
        wait_for("the service again", || (!route(&bird, &prefix).is_empty()).then_some(()));
        // Nor is a reload accepted that makes an applied one such.
        rig.write_file(&config.replace("withdraw = true", "prepend = 2"));
        assert!(rig.nearhop(&["reload"]).status.success());
        assert!(rig.nearhop(&["playbook", "apply", "gone"]).status.success());
        rig.write_file(&config);
        let refused = rig.nearhop(&["reload"]);
        let said = String::from_utf8_lossy(&refused.stderr).into_owned();
        assert!(said.contains("reload withdraws echo from all neighbours"), "{said}");
        assert!(rig.nearhop(&["playbook", "undo", "gone"]).status.success());
        assert!(rig.nearhop(&["reload"]).status.success());
        wait_for("the service once more", || (!route(&bird, &prefix).is_empty()).then_some(()));

        // All of them: deprioritised, then withdrawn, while the session goes on.
        let drained = rig.nearhop(&["drain", "--router"]);
        let said = String::from_utf8_lossy(&drained.stdout).into_owned();
        assert!(said.contains("deprioritised now, and withdrawn in 5 s"), "{said}");
        let warned = wait_for("GRACEFUL_SHUTDOWN", || {
            Some(route(&bird, &prefix)).filter(|route| route.contains(GRACEFUL_SHUTDOWN))
        });
        for part in ["BGP.med: 4294967295", "BGP.as_path: 65001 65001 65001 65001 65001\n"] {
            assert!(warned.contains(part), "{part}: {warned}");
        }
        wait_for("nothing of a drained router", || route(&bird, &prefix).is_empty().then_some(()));
        assert!(bird.ask("show protocols r1").contains("Established"));
        assert!(is_drained(&rig));

        // It is over a restart, too.
        assert_eq!(rig.terminate(), Some(0));
        rig.restart_with(&config);
        rig.connect();
        rig.wait_all_up();
        wait_for("the session again", || {
            bird.ask("show protocols r1").contains("Established").then_some(())
        });
        assert!(is_drained(&rig));
        assert_eq!(state_of(&rig, &prefix).1, "the router is drained");
        assert!(rig.nearhop(&["undrain", "--router"]).status.success());
        wait_for("what is well", || (!route(&bird, &prefix).is_empty()).then_some(()));
    });
}

/// The site answers its checks, and has no way back to where the neighbour's packets come from.
#[test]
fn bird_hears_of_a_service_once_its_packets_are_seen_to_reach_a_site() {
    let test = "bird_hears_of_a_service_once_its_packets_are_seen_to_reach_a_site";
    if let Some(why) = missing("bird", "bird2") {
        return skip(test, &why);
    }
    in_namespaces(test, || {
        const ONE: Costs<'_> = &[("ams", 10), ("peer", 20)];
        let service = "announce = \"proven\"\nprove-timeout = \"10min\"\nannounce-delay = \"0s\"\n";
        let config = speaking(service, "", "");
        let rig = Rig::alone(ONE, &config, |_| {});
        let ams = rig.site_netns("ams").clone();
        let way_back = |what: &str| {
            let out = ams.within(|| {
                let args = ["route", what, "blackhole", "10.2.0.1/32"];
                std::process::Command::new("ip").args(args).output()
            });
            let out = out.unwrap().unwrap();
            assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
        };
        way_back("add");
        rig.connect();
        let bird = Bird::start(rig.site_netns("peer"), "peer", BIRD);
        let [v4, v6] = [format!("{SERVICE_V4}/32"), format!("{SERVICE_V6}/128")];
        wait_for("what is proven", || (!route(&bird, &v6).is_empty()).then_some(()));
        rig.wait_all_up();
        // Several requests later.
        let (state, why) = wait_for("requests", || {
            let seen = rig.show("services").iter().all(|leg| leg["state"] == "up");
            let state = state_of(&rig, &v4);
            (seen && state.1.starts_with("unproven")).then_some(state)
        });
        assert_eq!(state, "withdrawn", "{why}");
        assert_eq!(route(&bird, &v4), "");
        way_back("del");
        wait_for("the service at BIRD", || (!route(&bird, &v4).is_empty()).then_some(()));
        let events = rig.events_until(|event| event["prefix"] == *v4);
        let proof = events.last().unwrap();
        assert_eq!((&proof["kind"], &proof["proven"]), (&"proof".into(), &true.into()));
        assert_eq!(proof["port"], "peer");

        // Nobody waits for ever.
        way_back("add");
        rig.write_file(&config.replace("10min", "1s"));
        assert!(rig.nearhop(&["reload"]).status.success());
        for (command, gone) in [(&["disable", "--force"][..], true), (&["enable"], false)] {
            for site in ["ams", "peer"] {
                assert!(rig.nearhop(&[command, &[site]].concat()).status.success());
            }
            let is_so = || (route(&bird, &v4).is_empty() == gone).then_some(());
            wait_for("what becomes of the service", is_so);
        }
        let events = rig.events_until(|event| event["proven"] == false);
        assert_eq!(events.last().unwrap()["prefix"], *v4);
    });
}

#[test]
fn a_router_that_ends_takes_back_what_it_announced_first() {
    let test = "a_router_that_ends_takes_back_what_it_announced_first";
    if let Some(why) = missing("bird", "bird2") {
        return skip(test, &why);
    }
    in_namespaces(test, || {
        let bgp = "on-exit = \"graceful-shutdown\"\nexit-wait = \"4s\"\n";
        let mut rig = Rig::start_with(SITES, &speaking("", bgp, ""));
        let bird = Bird::start(rig.site_netns("peer"), "peer", BIRD);
        let prefix = format!("{SERVICE_V4}/32");
        let is_there = || (!route(&bird, &prefix).is_empty()).then_some(());
        wait_for("the service at BIRD", is_there);
        signal(&rig.router, Signal::TERM);
        wait_for("GRACEFUL_SHUTDOWN", || {
            route(&bird, &prefix).contains(GRACEFUL_SHUTDOWN).then_some(())
        });
        wait_for("a withdrawal", || route(&bird, &prefix).is_empty().then_some(()));
        let state = bird.ask("show protocols all r1");
        assert!(state.contains("Established"), "the withdrawal comes first: {state}");
        assert_eq!(rig.router.wait().unwrap().code(), Some(0));
        wait_for("its last words", || {
            bird.ask("show protocols all r1").contains("the router ends").then_some(())
        });

        // Whoever asks twice does not wait.
        let bgp = "exit-wait = \"60s\"\n";
        rig.restart_with(&speaking("", bgp, ""));
        rig.connect();
        wait_for("the service again", is_there);
        let begin = Instant::now();
        signal(&rig.router, Signal::TERM);
        wait_for("a withdrawal", || route(&bird, &prefix).is_empty().then_some(()));
        signal(&rig.router, Signal::TERM);
        assert_eq!(rig.router.wait().unwrap().code(), Some(0));
        assert!(begin.elapsed() < Duration::from_mins(1), "it waited");
    });
}

#[test]
fn bird_hears_of_a_blocked_prefix_as_one_to_be_discarded() {
    let test = "bird_hears_of_a_blocked_prefix_as_one_to_be_discarded";
    if let Some(why) = missing("bird", "bird2") {
        return skip(test, &why);
    }
    in_namespaces(test, || {
        let config = speaking("", "", "blackhole = true\n");
        let mut rig = Rig::start_with(SITES, &config);
        let bird = Bird::start(rig.site_netns("peer"), "peer", BIRD);
        wait_for("the service at BIRD", || {
            (!route(&bird, &format!("{SERVICE_V4}/32")).is_empty()).then_some(())
        });
        assert!(rig.nearhop(&["block", "203.0.113.7"]).status.success());
        let known = wait_for("the blocked prefix at BIRD", || {
            Some(route(&bird, "203.0.113.7/32")).filter(|route| !route.is_empty())
        });
        // BLACKHOLE and NO_EXPORT, as BIRD writes them.
        for community in ["(65535,666)", "(65535,65281)"] {
            assert!(known.contains(community), "{community}: {known}");
        }
        let explained = rig.nearhop(&["explain", "203.0.113.7", "--json"]);
        let explained = String::from_utf8_lossy(&explained.stdout).into_owned();
        assert!(explained.contains("\"kind\":\"blackhole\""), "{explained}");

        // What the router needs is not blocked by mistake.
        for needed in ["10.2.0.0/24", "10.0.0.1", &format!("{SERVICE_V4}/32"), "0.0.0.0/0"] {
            let refused = rig.nearhop(&["block", needed]);
            assert_eq!(refused.status.code(), Some(2), "{needed}");
            let said = String::from_utf8_lossy(&refused.stderr).into_owned();
            assert!(said.contains("--force"), "{needed}: {said}");
        }
        let shown = rig.show("blocks");
        assert_eq!(shown.len(), 1, "{shown:?}");
        assert_eq!(shown[0]["announced_to"][0], "bird");

        assert_eq!(rig.terminate(), Some(0));
        rig.restart_with(&config);
        rig.connect();
        wait_for("the blocked prefix after a restart", || {
            (!route(&bird, "203.0.113.7/32").is_empty()).then_some(())
        });
        assert!(rig.nearhop(&["unblock", "203.0.113.7"]).status.success());
        wait_for("no blocked prefix at BIRD", || {
            route(&bird, "203.0.113.7/32").is_empty().then_some(())
        });
        assert!(rig.show("blocks").is_empty());
    });
}
