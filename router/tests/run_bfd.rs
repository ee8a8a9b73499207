//! BFD between the running daemon and BIRD.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod bgp_support;
mod daemon_support;
mod support;

use std::fmt::Write as _;

use bgp_support::bfdd::Bfdd;
use bgp_support::bird::Bird;
use bgp_support::missing;
use daemon_support::{Costs, Rig, config};
use rustix::process::Signal;
use serde_json::Value;
use support::skip::skip;
use support::{in_namespaces, in_namespaces_as_root, wait_for};

const SITES: Costs<'_> = &[("ams", 10), ("peer", 20)];

/// Two neighbours, with these keys.
fn with_neighbors(keys: &str) -> String {
    let mut text = config(SITES).replace("name = \"r1\"\n", "name = \"r1\"\nid = \"10.0.0.1\"\n");
    text.push_str("[bgp]\nas = 65001\n");
    for (name, number) in [("one", 1), ("two", 2)] {
        let _ = write!(
            text,
            "[[bgp.neighbor]]\nname = \"{name}\"\naddress = \"10.{number}.0.2\"\nas = 6500{}\n\
             import = \"all\"\nexport = \"none\"\n{keys}",
            number + 1
        );
    }
    text
}

/// One of them; `far` makes its path longer.
fn bird(number: u8, bfd: &str, far: bool) -> String {
    let asn = format!("6500{}", number + 1);
    let export = if far { format!("bgp_path.prepend({asn}); ") } else { String::new() };
    format!(
        "router id 10.{number}.0.2;\nprotocol device {{}}\nprotocol bfd bfd1 {{ {bfd} }}\n\
         protocol static s4 {{ ipv4; route 203.0.113.0/24 unreachable; }}\n\
         protocol bgp r1 {{ local 10.{number}.0.2 as {asn}; neighbor 10.{number}.0.1 as 65001; bfd on; connect delay time 1; error wait time 1, 2;\n\
         ipv4 {{ import none; export filter {{ {export}accept; }}; next hop self; }}; }}\n"
    )
}

/// The session with a neighbour.
fn session(rig: &Rig, address: &str) -> Option<Value> {
    rig.show("bfd").into_iter().find(|row| row["neighbor"] == *address)
}

fn wait_for_bfd(rig: &Rig, address: &str, state: &str, path: &str) {
    wait_for(&format!("BFD of {address} {state}, path {path}"), || {
        let row = session(rig, address)?;
        (row["state"] == *state && row["path"] == *path).then_some(())
    });
}

/// Which neighbour packets to 203.0.113.9 go to.
fn wait_for_way(rig: &Rig, neighbor: &str) {
    wait_for_way_to(rig, "203.0.113.9", neighbor);
}

fn wait_for_way_to(rig: &Rig, address: &str, neighbor: &str) {
    let words = format!("over neighbor {neighbor}");
    wait_for(&words, || {
        let explained = rig.nearhop(&["explain", address]);
        String::from_utf8_lossy(&explained.stdout).contains(&words).then_some(())
    });
}

/// A neighbour that stands still is noticed by BFD, long before the hold time of 90 s, and packets go to the other.
#[test]
fn a_neighbor_that_stands_still_is_left_by_bfd_and_comes_back() {
    let test = "a_neighbor_that_stands_still_is_left_by_bfd_and_comes_back";
    if let Some(why) = missing("bird", "bird2") {
        return skip(test, &why);
    }
    in_namespaces(test, || {
        let rig = Rig::start_with(SITES, &with_neighbors(BFD));
        let one = Bird::start(rig.site_netns("ams"), "one", &bird(1, BIRD_BFD, true));
        let two = Bird::start(rig.site_netns("peer"), "two", &bird(2, BIRD_BFD, false));
        for address in ["10.1.0.2", "10.2.0.2"] {
            wait_for_bfd(&rig, address, "up", "yes");
        }
        wait_for("BIRD's session up", || {
            let sessions = two.ask("show bfd sessions");
            sessions
                .lines()
                .any(|line| line.contains("10.2.0.1") && line.contains("Up"))
                .then_some(())
        });
        wait_for_way(&rig, "two");
        // Both agree on the slower of what each wants: 300 ms, five times.
        wait_for("intervals confirmed", || {
            (session(&rig, "10.2.0.2")?["detection_us"] == 1_500_000).then_some(())
        });

        daemon_support::signal(two.daemon.child(), Signal::STOP);
        let is_of_two = |event: &Value| event["kind"] == "bgp" && event["neighbor"] == "two";
        let events = rig.events_until(|event| is_of_two(event) && event["up"] == false);
        let down = events.last().unwrap();
        assert!(down["reason"].as_str().unwrap().contains("BFD down"), "{down}");
        let bfd = events.iter().find(|one| one["kind"] == "bfd" && one["state"] == "down");
        let bfd = bfd.expect("BFD says so first");
        assert_eq!((&bfd["neighbor"], &bfd["port"]), (&"10.2.0.2".into(), &"peer".into()));
        assert!(bfd["stored_ns"].as_u64() <= down["t_ns"].as_u64(), "{bfd}, {down}");
        wait_for_way(&rig, "one");
        wait_for_bfd(&rig, "10.2.0.2", "down", "no");

        daemon_support::signal(two.daemon.child(), Signal::CONT);
        wait_for_bfd(&rig, "10.2.0.2", "up", "yes");
        wait_for_way(&rig, "two");
        drop(one);
    });
}

/// Both kinds of authentication; a router that waits to be spoken to; a neighbour that dies, and comes back without
/// knowing anything of what was before.
#[test]
fn authenticated_sessions_with_bird_in_both_roles_survive_its_restart() {
    let test = "authenticated_sessions_with_bird_in_both_roles_survive_its_restart";
    if let Some(why) = missing("bird", "bird2") {
        return skip(test, &why);
    }
    in_namespaces(test, || {
        // The first is active and meticulous, the second passive and not.
        let auth =
            |kind: &str| format!("auth = {{ type = \"{kind}\", key-id = 7, key = \"a secret\" }}");
        let text = with_neighbors("").replacen(
            "export = \"none\"\n",
            &format!(
                "export = \"none\"\nbfd = {{ interval = \"300ms\", multiplier = 5, {} }}\n",
                auth("meticulous-keyed-sha1")
            ),
            1,
        );
        let (first, second) = text.rsplit_once("export = \"none\"\n").unwrap();
        let text = format!(
            "{first}export = \"none\"\nbfd = {{ interval = \"300ms\", multiplier = 5, passive = true, {} }}\n{second}",
            auth("keyed-sha1")
        );
        let rig = Rig::start_with(SITES, &text);
        let of_bird = |kind: &str, passive: bool, key: &str| {
            let passive = if passive { "passive yes; " } else { "" };
            format!(
                "interface \"*\" {{ interval 200 ms; multiplier 5; {passive}authentication {kind}; \
                 password \"{key}\" {{ id 7; }}; }};"
            )
        };
        let config = bird(1, &of_bird("meticulous keyed sha1", true, "a secret"), true);
        let mut one = Bird::start(rig.site_netns("ams"), "one", &config);
        let good = bird(2, &of_bird("keyed sha1", false, "a secret"), false);
        let two = Bird::start(rig.site_netns("peer"), "two", &good);
        for address in ["10.1.0.2", "10.2.0.2"] {
            wait_for_bfd(&rig, address, "up", "yes");
        }
        wait_for_way(&rig, "two");

        // Another key is another router.
        two.configure(&bird(2, &of_bird("keyed sha1", false, "no secret"), false));
        wait_for_bfd(&rig, "10.2.0.2", "down", "no");
        wait_for("what it says is not used", || {
            let drops = rows_of(&rig, &["show", "bfd", "drops"]);
            let hash = drops.into_iter().find(|row| row["reason"] == "auth-hash")?;
            (hash["packets"].as_u64() > Some(2)).then_some(())
        });
        wait_for_way(&rig, "one");
        two.configure(&good);
        wait_for_bfd(&rig, "10.2.0.2", "up", "yes");
        wait_for_way(&rig, "two");

        one.kill();
        wait_for_bfd(&rig, "10.1.0.2", "down", "no");
        let one = Bird::start(rig.site_netns("ams"), "again", &config);
        wait_for_bfd(&rig, "10.1.0.2", "up", "yes");
        assert_eq!(rig.dropped("bfd-ttl"), 0);
        drop((one, two));
    });
}

/// RFC 5883, to an address behind the neighbour's.
#[test]
fn a_session_over_several_hops_is_with_an_address_behind_the_link() {
    let test = "a_session_over_several_hops_is_with_an_address_behind_the_link";
    if let Some(why) = missing("bird", "bird2") {
        return skip(test, &why);
    }
    in_namespaces(test, || {
        let text = with_neighbors("").replace(
            "address = \"10.2.0.2\"\n",
            "address = \"192.0.2.2\"\nlocal-address = \"10.2.0.1\"\nmultihop = 2\n\
             bfd = { interval = \"300ms\", multiplier = 5 }\n",
        ) + "[[route]]\nprefix = \"192.0.2.2/32\"\nvia = \"peer\"\n";
        let rig = Rig::start_with(SITES, &text);
        let netns = rig.site_netns("peer").to_string();
        let words = ["ip", "address", "add", "192.0.2.2/32", "dev", "lo"];
        assert!(bgp_support::daemon::inside(&netns, &words).status().unwrap().success());
        let config = bird(2, "multihop { interval 200 ms; multiplier 5; };", false)
            .replace("local 10.2.0.2 as", "local 192.0.2.2 as")
            .replace("bfd on;", "multihop 2; bfd on;");
        let two = Bird::start(rig.site_netns("peer"), "two", &config);
        wait_for_bfd(&rig, "192.0.2.2", "up", "yes");
        let row = session(&rig, "192.0.2.2").unwrap();
        assert_eq!(row["port"], Value::Null);
        wait_for_way(&rig, "two");
        daemon_support::signal(two.daemon.child(), Signal::STOP);
        wait_for_bfd(&rig, "192.0.2.2", "down", "no");
        daemon_support::signal(two.daemon.child(), Signal::CONT);
        wait_for_bfd(&rig, "192.0.2.2", "up", "yes");
        wait_for_way(&rig, "two");
    });
}

/// Two links alike, of whose ends the addresses are the same. One neighbour is named, the other is looked for.
#[test]
fn link_local_neighbors_are_watched_each_on_its_link() {
    let test = "link_local_neighbors_are_watched_each_on_its_link";
    if let Some(why) = missing("bird", "bird2") {
        return skip(test, &why);
    }
    in_namespaces(test, || {
        let ups = ["up1", "up2"].map(support::netns);
        let rig = Rig::start_with(SITES, &with_link_local_neighbors());
        let birds = [("one", 1, true), ("two", 2, false)].map(|(name, n, far)| {
            let up = &ups[n - 1];
            wait_for("the address of the other end", || {
                let words = ["ip", "-6", "address", "show", "dev", &format!("nh-up{n}")];
                let shown = bgp_support::daemon::inside(&up.to_string(), &words).output().unwrap();
                String::from_utf8_lossy(&shown.stdout).contains("fe80::2/64").then_some(())
            });
            Bird::start(up, name, &link_local_bird(n, far))
        });
        let wait_for_state = |port: &str, state: &str, path: &str| {
            wait_for(&format!("BFD on {port} {state}, path {path}"), || {
                let row = rig.show("bfd").into_iter().find(|row| row["port"] == *port)?;
                let ends = (&row["local_address"], &row["neighbor"]);
                assert_eq!(ends, (&"fe80::1".into(), &"fe80::2".into()));
                (row["state"] == *state && row["path"] == *path).then_some(())
            });
        };
        for port in ["up1", "up2"] {
            wait_for_state(port, "up", "yes");
        }
        wait_for_way_to(&rig, "2001:db8:77::9", "two");

        daemon_support::signal(birds[1].daemon.child(), Signal::STOP);
        wait_for_state("up2", "down", "no");
        wait_for_way_to(&rig, "2001:db8:77::9", "one");
        wait_for_state("up1", "up", "yes");
        daemon_support::signal(birds[1].daemon.child(), Signal::CONT);
        wait_for_state("up2", "up", "yes");
        wait_for_way_to(&rig, "2001:db8:77::9", "two");
        assert_eq!(rig.show("bfd").len(), 2, "of one that came back there is one session");
        assert_eq!((rig.dropped("bfd-ttl"), rig.dropped("bfd-discriminator")), (0, 0));
    });
}

fn with_link_local_neighbors() -> String {
    let mut text = config(SITES).replace("name = \"r1\"\n", "name = \"r1\"\nid = \"10.0.0.1\"\n");
    for n in [1, 2] {
        let _ = write!(
            text,
            "[[port]]\nname = \"up{n}\"\ntun = \"nh-up{n}\"\nnetns = \"up{n}\"\n\
             addresses = [\"fe80::1/64\"]\npeer-addresses = [\"fe80::2/64\"]\n"
        );
    }
    text.push_str("[bgp]\nas = 65001\n");
    for (name, n, address) in [("one", 1, "address = \"fe80::2\"\n"), ("two", 2, "")] {
        let _ = write!(
            text,
            "[[bgp.neighbor]]\nname = \"{name}\"\n{address}port = \"up{n}\"\nas = 6500{}\n\
             import = \"all\"\nexport = \"none\"\n{BFD}",
            n + 1
        );
    }
    text
}

/// It tells the link of itself, by which it is found.
fn link_local_bird(n: usize, far: bool) -> String {
    let asn = format!("6500{}", n + 1);
    let export = if far { format!("bgp_path.prepend({asn}); ") } else { String::new() };
    format!(
        "router id 10.0.0.{};\nprotocol device {{}}\nprotocol bfd {{ {BIRD_BFD} }}\n\
         protocol radv {{ interface \"nh-up{n}\" {{ min ra interval 3; max ra interval 4; }}; }}\n\
         protocol static s6 {{ ipv6; route 2001:db8:77::/48 unreachable; }}\n\
         protocol bgp r1 {{ local fe80::2 as {asn}; neighbor fe80::1 % 'nh-up{n}' as 65001; bfd on;\n\
         connect delay time 1; connect retry time 1; error wait time 1, 2;\n\
         ipv6 {{ import none; export filter {{ {export}accept; }}; next hop self; }}; }}\n",
        n + 1
    )
}

/// bfdd of FRR is the host of a site: its silence is a failure of the site, its operator's `shutdown` is none.
#[test]
fn a_site_whose_host_runs_frr_is_down_when_that_is_silent_but_not_when_it_is_shut_down() {
    let test =
        "a_site_whose_host_runs_frr_is_down_when_that_is_silent_but_not_when_it_is_shut_down";
    for program in ["../lib/frr/bfdd", "../lib/frr/zebra", "vtysh"] {
        if let Some(why) = missing(program, "frr") {
            return skip(test, &why);
        }
    }
    in_namespaces_as_root(test, || {
        let text = config(SITES).replace(
            "via = \"peer\"\n",
            "via = \"peer\"\nbfd = { target = \"10.2.0.2\", interval = \"300ms\", multiplier = 5 }\n",
        );
        assert!(text.contains("target"), "{text}");
        let rig = Rig::start_with(SITES, &text);
        let leg = |rig: &Rig| {
            let rows = rig.show("services");
            let mut of =
                rows.into_iter().filter(|row| row["site"] == "peer" && row["family"] == "ipv4");
            of.next().unwrap()["state"].as_str().unwrap().to_owned()
        };
        assert_eq!(leg(&rig), "up", "no BFD is no failure");
        let frr = Bfdd::start(rig.site_netns("peer"), "one", FRR);
        wait_for_bfd(&rig, "10.2.0.2", "up", "yes");
        assert_eq!(leg(&rig), "up");

        let peer = "peer 10.2.0.1 local-address 10.2.0.2 interface nh-peer";
        frr.ask(&["configure terminal", "bfd", peer, "shutdown"]);
        wait_for_bfd(&rig, "10.2.0.2", "down", "unknown");
        assert_eq!(
            (leg(&rig), session(&rig, "10.2.0.2").unwrap()["remote_state"].clone()),
            ("up".to_owned(), "admin-down".into())
        );
        frr.ask(&["configure terminal", "bfd", peer, "no shutdown"]);
        wait_for_bfd(&rig, "10.2.0.2", "up", "yes");

        daemon_support::signal(frr.bfdd.child(), Signal::STOP);
        wait_for_bfd(&rig, "10.2.0.2", "down", "no");
        wait_for("the leg down", || (leg(&rig) == "down").then_some(()));
        let events = rig.events_until(|event| event["kind"] == "site" && event["reason"] == "bfd");
        let last = events.last().unwrap();
        assert_eq!((&last["site"], &last["up"]), (&"peer".into(), &false.into()), "{last}");
        daemon_support::signal(frr.bfdd.child(), Signal::CONT);
        wait_for_bfd(&rig, "10.2.0.2", "up", "yes");
        wait_for("the leg up", || (leg(&rig) == "up").then_some(()));

        // It begins again without knowing anything.
        drop(frr);
        wait_for_bfd(&rig, "10.2.0.2", "down", "no");
        let frr = Bfdd::start(rig.site_netns("peer"), "again", FRR);
        wait_for_bfd(&rig, "10.2.0.2", "up", "yes");
        wait_for("the leg up", || (leg(&rig) == "up").then_some(()));
        drop(frr);
    });
}

/// The rows of a command.
fn rows_of(rig: &Rig, args: &[&str]) -> Vec<Value> {
    let out = rig.nearhop(&[args, &["--json"]].concat());
    let document: Value = serde_json::from_slice(&out.stdout).unwrap_or_default();
    document["items"].as_array().cloned().unwrap_or_default()
}

const FRR: &str = "bfd\n peer 10.2.0.1 local-address 10.2.0.2 interface nh-peer\n  detect-multiplier 5\n  \
                   receive-interval 200\n  transmit-interval 200\n !\n!\n";

const BFD: &str = "bfd = { interval = \"300ms\", multiplier = 5 }\n";

const BIRD_BFD: &str = "interface \"*\" { interval 200 ms; multiplier 5; };";
