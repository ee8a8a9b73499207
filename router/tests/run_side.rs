//! A running router keeps the kernel's side of its ports as it is configured.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod daemon_support;
mod support;

use std::collections::BTreeSet;
use std::fs;

use daemon_support::{Rig, Watch, config};
use nearhop::kernel::netns::NetNs;
use serde_json::Value;
use support::{in_namespaces, wait_for};

const AMS: &[(&str, u32)] = &[("ams", 10)];

/// The configuration with these keys of the site's port.
fn with(keys: &str) -> String {
    let usual = "peer-addresses = [\"10.1.0.2/24\", \"fd00:1::2/64\"]\n";
    let text = config(AMS);
    assert!(text.contains(usual));
    text.replace(usual, keys)
}

fn ip(arguments: &str) -> String {
    support::run(&format!("ip -n ams {arguments}"))
}

/// The addresses of the site's device, as `ip` lists them.
fn addresses() -> BTreeSet<String> {
    let dump: Value = serde_json::from_str(&ip("-j addr show dev nh-ams")).unwrap();
    let infos = dump[0]["addr_info"].as_array().unwrap();
    let infos = infos.iter().filter(|info| info["local"].is_string());
    infos.map(|info| format!("{}/{}", info["local"].as_str().unwrap(), info["prefixlen"])).collect()
}

fn set(words: &[&str]) -> BTreeSet<String> {
    words.iter().map(|&word| word.to_owned()).collect()
}

fn wait_for_addresses(what: &str, wanted: &[&str]) {
    let wanted = set(wanted);
    let last = wait_for(&format!("{wanted:?} after {what}"), || {
        Some(addresses()).filter(|seen| *seen == wanted)
    });
    assert_eq!(last, wanted);
}

fn port(rig: &Rig) -> Value {
    rig.show("ports").into_iter().find(|port| port["port"] == "ams").unwrap_or_default()
}

fn reload(rig: &Rig, text: &str) {
    rig.write_file(text);
    let out = rig.nearhop(&["reload"]);
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
}

#[test]
fn a_reload_leaves_what_it_configures_whatever_was_there_before() {
    in_namespaces("a_reload_leaves_what_it_configures_whatever_was_there_before", || {
        let states: &[(&str, &[&str])] = &[
            (
                "peer-addresses = [\"10.1.0.2/24\", \"fd00:1::2/64\"]\n",
                &["10.1.0.2/24", "fd00:1::2/64"],
            ),
            (
                "peer-addresses = [\"10.1.0.3/24\", \"fd00:1::2/96\"]\n",
                &["10.1.0.3/24", "fd00:1::2/96"],
            ),
            (
                "peer-addresses = [\"10.1.0.4/24\", \"10.1.0.3/24\"]\n",
                &["10.1.0.3/24", "10.1.0.4/24"],
            ),
            ("mtu = 1000\npeer-addresses = [\"10.1.0.2/25\"]\n", &["10.1.0.2/25"]),
            ("mtu = 9000\npeer-addresses = [\"fd00:1::3/64\"]\n", &["fd00:1::3/64"]),
            ("mtu = 1000\n", &[]),
        ];
        // IPv6 needs an MTU of 1,280, on the router's side too.
        let text = |keys: &str| {
            let text = with(keys);
            if keys.contains("mtu = 1000") { text.replace(", \"fd00:1::1/64\"", "") } else { text }
        };
        let rig = Rig::start(AMS);
        for from in states {
            for to in states {
                for (keys, wanted) in [from, to] {
                    reload(&rig, &text(keys));
                    // Not later: whoever reloads uses it next.
                    assert_eq!(addresses(), set(wanted), "{keys}");
                    let link: Value = serde_json::from_str(&ip("-d -j link show nh-ams")).unwrap();
                    let mode = link[0]["inet6_addr_gen_mode"].as_str();
                    assert!(mode.is_none_or(|mode| mode == "none"), "{keys}: {mode:?}");
                    assert_eq!(port(&rig)["why"], Value::Null, "{keys}");
                }
            }
        }
    });
}

#[test]
fn what_somebody_takes_from_a_port_is_put_back_and_reported() {
    in_namespaces("what_somebody_takes_from_a_port_is_put_back_and_reported", || {
        let rig = Rig::start(AMS);
        let usual = ["10.1.0.2/24", "fd00:1::2/64"];
        let sysctl = |value: &str| {
            let file = "/proc/sys/net/ipv6/conf/nh-ams/disable_ipv6";
            NetNs::named("ams").within(|| fs::write(file, value)).unwrap().unwrap();
        };
        let disturbances: &[(&str, &dyn Fn())] = &[
            ("a flush", &|| drop(ip("addr flush dev nh-ams"))),
            ("down and up", &|| {
                ip("link set nh-ams down");
                ip("link set nh-ams up");
            }),
            ("a small MTU", &|| drop(ip("link set nh-ams mtu 1000"))),
            ("a small MTU and back", &|| {
                ip("link set nh-ams mtu 1000");
                ip("link set nh-ams mtu 1500");
            }),
            ("IPv6 off and on", &|| {
                sysctl("1");
                wait_for_addresses("IPv6 off", &["10.1.0.2/24"]);
                sysctl("0");
            }),
            ("an address deleted", &|| drop(ip("addr del 10.1.0.2/24 dev nh-ams"))),
        ];
        for (what, disturb) in disturbances {
            disturb();
            wait_for_addresses(what, &usual);
            wait_for(&format!("the MTU after {what}"), || {
                let link: Value = serde_json::from_str(&ip("-j link show nh-ams")).unwrap();
                (link[0]["mtu"] == 1500).then_some(())
            });
            wait_for(&format!("nothing to be wrong after {what}"), || {
                port(&rig)["why"].is_null().then_some(())
            });
        }
        rig.events_until(|event| {
            let reason = event["reason"].as_str().unwrap_or_default();
            event["kind"] == "device" && reason == "put right: add address 10.1.0.2/24"
        });
    });
}

#[test]
fn what_the_kernel_refuses_is_said_until_it_does_not() {
    in_namespaces("what_the_kernel_refuses_is_said_until_it_does_not", || {
        let rig = Rig::start(AMS);
        let sysctl = |value: &str| {
            let file = "/proc/sys/net/ipv6/conf/nh-ams/disable_ipv6";
            NetNs::named("ams").within(|| fs::write(file, value)).unwrap().unwrap();
        };
        sysctl("1");
        let wanted = "cannot add address fd00:1::2/64 (nh-ams) in network namespace";
        let why = wait_for("it to be said", || {
            let why = port(&rig)["why"].as_str().map(str::to_owned)?;
            why.contains(wanted).then_some(why)
        });
        assert!(why.contains("IPv6 is disabled"), "{why}");
        // A reload of something else is not kept from it, one that needs it is refused whole.
        reload(&rig, &config(&[("ams", 30)]));
        rig.write_file(&with("peer-addresses = [\"10.1.0.7/24\", \"fd00:1::7/64\"]\n"));
        let out = rig.nearhop(&["reload"]);
        let said = String::from_utf8_lossy(&out.stderr).into_owned();
        assert_eq!(out.status.code(), Some(3), "{said}");
        assert!(said.contains("port \"ams\" cannot be changed: cannot add address"), "{said}");
        assert_eq!(addresses(), set(&["10.1.0.2/24"]));
        sysctl("0");
        wait_for_addresses("IPv6 is back", &["10.1.0.2/24", "fd00:1::2/64"]);
        wait_for("nothing to be wrong", || port(&rig)["why"].is_null().then_some(()));
    });
}

/// Nothing that `show` says contradicts what else it shows.
#[test]
fn why_a_port_or_a_site_is_down_is_what_keeps_it_down_now() {
    in_namespaces("why_a_port_or_a_site_is_down_is_what_keeps_it_down_now", || {
        let rig = Rig::start(AMS);
        let site = |family: &str| {
            let rows = rig.show("services");
            rows.into_iter().find(|row| row["family"] == family).unwrap_or_default()
        };
        let wait_for_site = |family: &str, wanted: &str| {
            wait_for(&format!("{family} to say {wanted:?}"), || {
                site(family)["why"].as_str()?.starts_with(wanted).then_some(())
            });
        };
        ip("link set nh-ams down");
        wait_for("the port to be down", || (port(&rig)["state"] == "down").then_some(()));
        assert_eq!(port(&rig)["why"], "the device is set down");
        wait_for_site("ipv6", "unreachable: carrier");
        // It comes up without what checks are answered by.
        let file = "/proc/sys/net/ipv6/conf/nh-ams/disable_ipv6";
        NetNs::named("ams").within(|| fs::write(file, "1")).unwrap().unwrap();
        ip("link set nh-ams up");
        wait_for("the port to be up", || (port(&rig)["state"] == "up").then_some(()));
        let wanted = "unreachable: no check has passed since the carrier came back; port ams: \
                      cannot add address fd00:1::2/64 (nh-ams)";
        wait_for_site("ipv6", wanted);
        NetNs::named("ams").within(|| fs::write(file, "0")).unwrap().unwrap();
        // The rig's own route, by hand.
        ip("-6 route replace default dev nh-ams");
        ip("-4 route replace default dev nh-ams");
        rig.wait_all_up();
        assert_eq!(port(&rig)["why"], Value::Null);
    });
}

/// What somebody calls a device reaches no terminal and no log as it is.
#[test]
fn a_device_called_by_escapes_of_a_terminal_is_shown_escaped_everywhere() {
    in_namespaces("a_device_called_by_escapes_of_a_terminal_is_shown_escaped_everywhere", || {
        let rig = Rig::start(AMS);
        let watch = Watch::start(&rig);
        wait_for("the watcher to be connected", || {
            assert!(rig.nearhop(&["reload"]).status.success());
            (!watch.lines.lock().unwrap().is_empty()).then_some(())
        });
        let name = "x\u{1b}[2J\u{9b}m\u{7f}";
        ip("link set nh-ams down");
        ip(&format!("link set nh-ams name {name}"));
        wait_for("it to be known", || {
            port(&rig)["why"].as_str()?.contains("is called").then_some(())
        });
        let acts = |text: &[u8]| {
            let text = String::from_utf8_lossy(text).into_owned();
            text.chars().find(|&c| c != '\n' && nearhop::printable::is_unprintable(c))
        };
        for arguments in [
            &["show", "ports"][..],
            &["show", "ports", "--json"],
            &["show", "services"],
            &["top", "--count", "1", "--interval", "0.1"],
            &["drain", "\u{1b}[2J"],
        ] {
            let out = rig.nearhop(arguments);
            assert_eq!(
                (acts(&out.stdout), acts(&out.stderr)),
                (None, None),
                "{arguments:?}: {out:?}"
            );
        }
        let shown = rig.nearhop(&["show", "ports"]);
        let shown = String::from_utf8(shown.stdout).unwrap();
        assert!(shown.contains("the device is called x\\u{1b}[2J\\u{9b}m\\u{7f} now"), "{shown}");
        assert_eq!(port(&rig)["device"], name, "JSON means the same");
        let log = fs::read(rig.dir.join("log")).unwrap();
        assert_eq!(acts(&log), None, "{}", String::from_utf8_lossy(&log));
        let is_device = |event: &Value| event["kind"] == "device";
        let event = watch.wait_for("the event", is_device);
        assert_eq!(event["reason"], format!("the device is called {name} now"));
        assert_eq!(acts(watch.text.lock().unwrap().as_bytes()), None);
    });
}

#[test]
fn a_device_that_stays_has_only_what_is_configured_next_time() {
    in_namespaces("a_device_that_stays_has_only_what_is_configured_next_time", || {
        let kept = |keys: &str| with(&format!("persist = true\n{keys}"));
        let old = kept("peer-addresses = [\"10.1.0.2/24\", \"fd00:1::2/64\"]\n");
        let mut rig = Rig::start_with(AMS, &old);
        assert_eq!(rig.terminate(), Some(0));
        assert_eq!(addresses(), set(&["10.1.0.2/24", "fd00:1::2/64"]), "it stays");
        ip("addr add 10.1.0.99/24 dev nh-ams");
        let new = kept("peer-addresses = [\"10.1.0.3/24\", \"fd00:1::3/64\"]\n");
        rig.restart_with(&new);
        rig.wait_all_up();
        assert_eq!(addresses(), set(&["10.1.0.3/24", "10.1.0.99/24", "fd00:1::3/64"]));
    });
}

/// The routes through the site's device that no address brings with it.
fn routes() -> BTreeSet<String> {
    let dump = |family: &str| -> Vec<Value> {
        serde_json::from_str(&ip(&format!("-j -{family} route show dev nh-ams")))
            .unwrap_or_default()
    };
    let all = dump("4").into_iter().chain(dump("6"));
    let added = all.filter(|route| route["protocol"] != "kernel");
    added.map(|route| format!("{} {}", route["dst"], route["protocol"]).replace('"', "")).collect()
}

fn wait_for_routes(what: &str, wanted: &[&str]) {
    let wanted = set(wanted);
    wait_for(&format!("{wanted:?} after {what}"), || (routes() == wanted).then_some(()));
}

/// Nobody else adds a route: checks are answered by these, from the service's own address.
#[test]
fn peer_routes_lead_answers_back_and_outlive_a_flap() {
    in_namespaces("peer_routes_lead_answers_back_and_outlive_a_flap", || {
        let addresses = "peer-addresses = [\"10.1.0.2/24\", \"fd00:1::2/64\"]\n";
        let with_routes = |routes: &str| with(&format!("{addresses}peer-routes = {routes}\n"));
        let rig = Rig::start_with(AMS, &with_routes("[\"192.0.2.0/24\", \"2001:db8:9::/48\"]"));
        // The rig's own, added by hand, stay; the router's bear its mark.
        let by_hand = "default static";
        wait_for_routes("the start", &[by_hand, "192.0.2.0/24 110", "2001:db8:9::/48 110"]);
        for family in ["4", "6"] {
            ip(&format!("-{family} route del default dev nh-ams"));
        }
        reload(&rig, &with_routes("\"default\""));
        assert_eq!(routes(), set(&["default 110"]), "at once, and in both families");
        for (what, disturb) in [
            ("a flap", vec!["link set nh-ams down", "link set nh-ams up"]),
            ("a flush", vec!["addr flush dev nh-ams"]),
            ("a route deleted", vec!["-6 route del default dev nh-ams"]),
            ("the other deleted", vec!["-4 route del default dev nh-ams"]),
        ] {
            for command in disturb {
                ip(command);
            }
            wait_for(&format!("both families after {what}"), || {
                let count =
                    |family: &str| ip(&format!("-{family} route show default")).lines().count();
                (count("4") == 1 && count("6") == 1).then_some(())
            });
            rig.wait_all_up();
        }
        reload(&rig, &with_routes("[]"));
        assert_eq!(routes(), BTreeSet::new());
    });
}

/// As in the router's own namespace, whose machine has a way out of its own.
#[test]
fn a_route_of_somebody_else_is_not_replaced_and_that_is_said() {
    in_namespaces("a_route_of_somebody_else_is_not_replaced_and_that_is_said", || {
        let addresses = "peer-addresses = [\"10.1.0.2/24\", \"fd00:1::2/64\"]\n";
        let rig = Rig::start(AMS);
        ip("link add va type veth peer name vb");
        ip("link set va up");
        ip("route add 192.0.2.0/24 dev va");
        let text =
            with(&format!("{addresses}peer-routes = [\"192.0.2.0/24\", \"192.0.3.0/24\"]\n"));
        rig.write_file(&text);
        let out = rig.nearhop(&["reload"]);
        let said = String::from_utf8_lossy(&out.stderr).into_owned();
        assert_eq!(out.status.code(), Some(3), "{said}");
        assert!(said.contains("cannot add route 192.0.2.0/24 (nh-ams)"), "{said}");
        assert_eq!(routes(), set(&["default static"]), "all or nothing");
        ip("route del 192.0.2.0/24 dev va");
        reload(&rig, &text);
        assert_eq!(routes(), set(&["default static", "192.0.2.0/24 110", "192.0.3.0/24 110"]));
        // Taken later: said, and put right once that is gone.
        ip("route del 192.0.2.0/24 dev nh-ams");
        wait_for_routes(
            "it was deleted",
            &["default static", "192.0.2.0/24 110", "192.0.3.0/24 110"],
        );
        ip("route replace 192.0.2.0/24 dev va");
        wait_for("it to be said", || {
            port(&rig)["why"].as_str()?.contains("cannot add route 192.0.2.0/24").then_some(())
        });
        ip("route del 192.0.2.0/24 dev va");
        wait_for_routes("it is free", &["default static", "192.0.2.0/24 110", "192.0.3.0/24 110"]);
        wait_for("nothing to be wrong", || port(&rig)["why"].is_null().then_some(()));
    });
}
