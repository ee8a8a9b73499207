//! BGP between the running daemon and each of the routers that people run: one story for all of them.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod bgp_support;
mod daemon_support;
mod support;

use std::collections::BTreeSet;

use bgp_support::peer::{Offer, Peer, Program, Setup};
use daemon_support::{Costs, Rig, SERVICE_V4, SERVICE_V6, config, connect};
use serde_json::Value;
use support::skip::skip;
use support::{in_namespaces, in_namespaces_as_root, wait_for};

/// The second is the neighbour.
const SITES: Costs<'_> = &[("ams", 10), ("peer", 20)];

const OFFERS: [Offer; 3] = [
    Offer { large_community: Some("65002:1:2"), ..Offer::new("203.0.113.0/24") },
    Offer::new("203.0.114.0/24"),
    Offer::new("2001:db8:113::/48"),
];

/// More addresses of the same service. FRR looks at its limit before it counts a route: two are not over it.
const OTHER_SERVICES: [&str; 2] = ["198.51.100.54", "198.51.100.55"];

#[test]
fn bird_exchanges_routes() {
    exchange("bird_exchanges_routes", Program::Bird);
}

#[test]
fn exabgp_exchanges_routes() {
    exchange("exabgp_exchanges_routes", Program::ExaBgp);
}

#[test]
fn frr_exchanges_routes() {
    exchange("frr_exchanges_routes", Program::Frr);
}

#[test]
fn gobgp_exchanges_routes() {
    exchange("gobgp_exchanges_routes", Program::GoBgp);
}

#[test]
fn openbgpd_exchanges_routes() {
    exchange("openbgpd_exchanges_routes", Program::OpenBgpd);
}

#[test]
fn bird_keeps_the_rules() {
    rules("bird_keeps_the_rules", Program::Bird);
}

#[test]
fn exabgp_keeps_the_rules() {
    rules("exabgp_keeps_the_rules", Program::ExaBgp);
}

#[test]
fn frr_keeps_the_rules() {
    rules("frr_keeps_the_rules", Program::Frr);
}

#[test]
fn gobgp_keeps_the_rules() {
    rules("gobgp_keeps_the_rules", Program::GoBgp);
}

#[test]
fn openbgpd_keeps_the_rules() {
    rules("openbgpd_keeps_the_rules", Program::OpenBgpd);
}

/// Routes of both families both ways, their withdrawal, a refresh, words at the end, a peer that dies.
fn exchange(test: &str, program: Program) {
    with(test, program, || {
        let mut link = Link::up(program, "", &Setup::new(&OFFERS));
        link.wait_both(&OFFERS);
        if program.ends_its_rib() {
            link.wait_ends();
        }
        let rows = link.rig.show("routes");
        let of = |prefix| rows.iter().find(|row| row["prefix"] == prefix && row["state"] == "up");
        let communities = of(OFFERS[0].prefix).map(|row| row["communities"].to_string());
        assert!(communities.unwrap().contains("65002:1:2"), "{rows:?}");

        // Withdrawals and a new route, both ways.
        let others = [OFFERS[1], Offer::new("203.0.115.0/24"), Offer::new("2001:db8:114::/48")];
        link.peer.offer(&others);
        link.configure("export = \"none\"\n");
        link.wait_routes(&others);
        wait_for("no route at the peer", || link.peer.learned().is_empty().then_some(()));
        link.configure("export = [\"echo\"]\n");
        link.wait_both(&others);

        // All of it again, as the peer asks.
        let before = link.peer.updates();
        if link.peer.ask_again() {
            wait_for("all services again", || (link.peer.updates() >= before + 2).then_some(()));
            link.wait_both(&others);
            assert!(link.peer.is_up(), "one session all the while");
        }

        // It dies, and comes back; the hold time is the longest that this takes.
        link.peer.kill();
        wait_for("no route of a dead peer", || link.routes().is_empty().then_some(()));
        link.start(&Setup::new(&OFFERS));
        link.wait_both(&OFFERS);

        // Each says why it ends (RFC 9003).
        if link.peer.shut("maintenance at noon") {
            let why = link.wait_why("maintenance at noon");
            assert!(why.contains("the neighbour says"), "{why}");
            link.start(&Setup::new(&OFFERS));
            link.wait_both(&OFFERS);
        }
        assert_eq!(link.rig.terminate(), Some(0));
        wait_for("no session at the peer", || (!link.peer.is_up()).then_some(()));
        if program.shows_words() {
            wait_for("the router's last words", || {
                link.peer.report().contains("the router ends").then_some(())
            });
        }
    });
}

/// Limits, GTSM with roles and ADD-PATH, a wrong AS, a reflector and its client.
fn rules(test: &str, program: Program) {
    with(test, program, || {
        // The router's limit: the peer announces too much; FRR also what it has of the router.
        let mut link = Link::up(program, "max-prefixes = 1\n", &Setup::new(&OFFERS));
        let why = link.wait_why("ipv4 prefixes; 1 are allowed");
        assert!(why.contains("maximum number of prefixes"), "{why}");
        assert!(link.routes().is_empty(), "nothing of it is left");

        // The peer's limit: the router does.
        if program != Program::ExaBgp {
            let setup = Setup { max_prefixes: Some(1), ..Setup::new(&OFFERS) };
            link.again("hold-time = \"12s\"\nexport = \"services\"\n", &setup);
            let why = link.wait_why("maximum number of prefixes");
            assert!(why.contains("the neighbour says"), "{why}");
        }

        // All of it at once: what one does not know it ignores.
        let role = program.knows_roles().then_some("provider");
        let setup = Setup { gtsm: true, add_path: true, role, ..Setup::new(&OFFERS) };
        let keys = "ttl-security = true\nadd-path = \"both\"\nrole = \"customer\"\n";
        link.again(keys, &setup);
        link.wait_both(&OFFERS);

        // Two providers of each other there are not.
        if program.knows_roles() {
            let setup = Setup { role, ..Setup::new(&OFFERS) };
            link.again("role = \"provider\"\n", &setup);
            link.wait_why("role mismatch");
            assert!(link.routes().is_empty());
        }

        // Another AS than configured.
        link.again("hold-time = \"15s\"\n", &Setup { asn: 65_003, ..Setup::new(&OFFERS) });
        let why = link.wait_why("the neighbour is in AS 65003");
        assert!(why.contains("bad peer AS"), "{why}");
        assert!(!link.peer.is_up());

        // A reflector and its client.
        let own = Offer { originator: Some("10.0.0.1"), ..Offer::new("203.0.116.0/24") };
        let loops = program == Program::ExaBgp;
        let offers: Vec<Offer> = OFFERS.into_iter().chain(loops.then_some(own)).collect();
        let setup = Setup { asn: 65_001, reflects: true, ..Setup::new(&offers) };
        link.asn = 65_001;
        link.again("hold-time = \"9s\"\n", &setup);
        link.wait_both(&OFFERS);
        if loops {
            // What the router is said to have originated came back to it.
            let refused = wait_for("a refused path", || {
                link.rig.show("routes").into_iter().find(|row| row["state"] == "refused")
            });
            assert_eq!(refused["prefix"], own.prefix, "{refused}");
            assert_eq!(refused["rule"], "originator-loop", "{refused}");
            link.wait_routes(&OFFERS);
        }
    });
}

/// A limit that is passed ends the session for a while, or until somebody clears it.
#[test]
fn a_session_over_its_limit_comes_back() {
    with("a_session_over_its_limit_comes_back", Program::Bird, || {
        let over = "1 are allowed";
        let keys = "max-prefixes = 1\nrestart-after = \"1s\"\n";
        let mut link = Link::up(Program::Bird, keys, &Setup::new(&OFFERS));
        link.wait_why(over);
        link.peer.offer(&OFFERS[1..]);
        link.wait_both(&OFFERS[1..]);

        link.configure("max-prefixes = 1\n");
        link.wait_both(&OFFERS[1..]);
        link.peer.offer(&OFFERS);
        link.wait_why(over);
        link.peer.offer(&OFFERS[1..]);
        let idle = || link.rig.show("bgp")[0]["state"] == "Idle";
        assert!(idle(), "nobody begins it again");
        assert!(link.rig.nearhop(&["clear", "bgp", "peer"]).status.success());
        link.wait_both(&OFFERS[1..]);

        // Softly: both sides announce all once more, between marks, on the same session.
        let (said, heard) = (link.marks_at_bird(), link.peer.updates());
        assert!(link.rig.nearhop(&["clear", "bgp", "10.2.0.2", "--soft"]).status.success());
        wait_for("all services again", || (link.peer.updates() >= heard + 2).then_some(()));
        wait_for("marks both ways", || {
            let [sent, received] = link.marks_at_bird();
            (sent >= said[0] + 4 && received >= said[1] + 4).then_some(())
        });
        link.wait_both(&OFFERS[1..]);

        let out = link.rig.nearhop(&["clear", "bgp", "pear"]);
        let stderr = String::from_utf8_lossy(&out.stderr).into_owned();
        assert!(!out.status.success() && stderr.contains("did you mean \"peer\"?"), "{stderr}");
    });
}

/// FRR compares what it has before it counts a route: of a limit of one it takes two, and acts at the third.
#[test]
fn frr_acts_on_its_limit_one_prefix_later() {
    with("frr_acts_on_its_limit_one_prefix_later", Program::Frr, || {
        let setup = Setup { max_prefixes: Some(1), ..Setup::new(&OFFERS) };
        let mut link = Link::up(Program::Frr, "export = \"none\"\n", &setup);
        // One more than it allows.
        let [one, other] = OTHER_SERVICES;
        let two = text("export = \"services\"\n", 65_002);
        let two =
            two.replace(&format!("\"{one}/32\", \"{other}/32\", "), &format!("\"{one}/32\", "));
        link.rig.write_file(&two);
        assert!(link.rig.nearhop(&["reload"]).status.success());
        wait_for("two IPv4 prefixes at FRR", || {
            let learned = link.peer.learned();
            (learned.iter().filter(|prefix| !prefix.contains(':')).count() == 2).then_some(())
        });
        // It has judged the second before it says more.
        link.peer.offer(&OFFERS[..1]);
        link.wait_routes(&OFFERS[..1]);
        assert!(link.peer.is_up(), "{}", link.peer.report());
        link.configure("export = \"services\"\n");
        let why = link.wait_why("maximum number of prefixes");
        assert!(why.contains("the neighbour says"), "{why}");
    });
}

/// What is reloaded of one session is nothing to another.
#[test]
fn a_reload_begins_only_the_session_again_that_changed() {
    let test = "a_reload_begins_only_the_session_again_that_changed";
    with(test, Program::Bird, || {
        let other = "[[bgp.neighbor]]\nname = \"other\"\naddress = \"10.1.0.2\"\nas = 65003\n\
                     import = \"all\"\nexport = [\"echo\"]\n";
        let link = Link::up(Program::Bird, other, &Setup::new(&OFFERS[..1]));
        let setup = Setup {
            local: "10.1.0.2",
            local_v6: "fd00:1::2",
            remote: "10.1.0.1",
            asn: 65_003,
            ..Setup::new(&OFFERS[1..])
        };
        let _peer = Program::Bird.start(link.rig.site_netns("ams"), "other", &setup);
        link.wait_both(&OFFERS);
        let times = |name: &str| link.rig.log().matches(&format!("{name}: established")).count();
        assert_eq!((times("bgp peer"), times("bgp other")), (1, 1));
        link.configure(&format!("hold-time = \"12s\"\n{other}"));
        wait_for("another session", || (times("bgp peer") == 2).then_some(()));
        link.wait_both(&OFFERS);
        assert_eq!(times("bgp other"), 1, "{}", link.rig.log());
    });
}

/// The router and the peer.
struct Link {
    rig: Rig,
    program: Program,
    peer: Box<dyn Peer>,
    /// The peer's AS, as the router has it.
    asn: u32,
    starts: usize,
}

impl Link {
    fn up(program: Program, keys: &str, setup: &Setup) -> Self {
        let rig = Rig::begin_with(SITES, &text(keys, 65_002));
        for (site, _) in SITES {
            connect(rig.site_netns(site), &format!("nh-{site}"), &OTHER_SERVICES);
        }
        wait_for("every leg up", || {
            let legs = rig.show("services");
            (!legs.is_empty() && legs.iter().all(|leg| leg["state"] == "up")).then_some(())
        });
        let peer = program.start(rig.site_netns("peer"), "peer-0", setup);
        Self { rig, program, peer, asn: 65_002, starts: 0 }
    }

    /// Another peer instead of the one there was.
    fn start(&mut self, setup: &Setup) {
        self.peer.kill();
        self.starts += 1;
        let name = format!("peer-{}", self.starts);
        self.peer = self.program.start(self.rig.site_netns("peer"), &name, setup);
    }

    fn again(&mut self, keys: &str, setup: &Setup) {
        self.start(setup);
        self.configure(keys);
    }

    /// The router with these keys of the neighbour.
    fn configure(&self, keys: &str) {
        self.rig.write_file(&text(keys, self.asn));
        let out = self.rig.nearhop(&["reload"]);
        assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    }

    /// Prefixes whose packets go to the peer.
    fn routes(&self) -> BTreeSet<String> {
        let rows = self.rig.show("routes");
        let is_used = |row: &&Value| row["best"] == true && row["state"] == "up";
        let of = rows.iter().filter(|row| row["source"] == "bgp").filter(is_used);
        of.map(|row| row["prefix"].as_str().unwrap().to_owned()).collect()
    }

    /// Waits until the peer has said that all it has has come, of both families (RFC 4724).
    fn wait_ends(&self) {
        wait_for("End-of-RIB of both families", || {
            let out = self.rig.nearhop(&["show", "bgp", "neighbor", "peer", "--json"]);
            let document: Value = serde_json::from_slice(&out.stdout).ok()?;
            let rows = document["items"].as_array()?;
            let has_come = |family: &str| {
                let what = format!("end of RIB has come, {family}");
                rows.iter().any(|row| row["what"] == what && row["value"] == "yes")
            };
            (has_come("ipv4") && has_come("ipv6")).then_some(())
        });
    }

    /// Waits until these routes of the peer are used, and no others. OpenBGPD takes any address of its host for the
    /// next hop of IPv6 routes, such as the service's own, by which the router does not forward: of it they may be
    /// accepted, and not used.
    fn wait_routes(&self, offers: &[Offer]) {
        let wanted: BTreeSet<String> = offers.iter().map(|offer| offer.prefix.to_owned()).collect();
        wait_for("the peer's routes", || {
            let mut found = self.routes();
            if self.program == Program::OpenBgpd {
                let rows = self.rig.show("routes");
                let unused =
                    rows.iter().filter(|row| row["source"] == "bgp" && row["state"] == "unused");
                let prefixes = unused.map(|row| row["prefix"].as_str().unwrap().to_owned());
                found.extend(prefixes.filter(|prefix| prefix.contains(':')));
            }
            (found == wanted).then_some(())
        });
    }

    fn wait_both(&self, offers: &[Offer]) {
        self.wait_routes(offers);
        let services = [format!("{SERVICE_V4}/32"), format!("{SERVICE_V6}/128")];
        wait_for("both services at the peer", || {
            let learned = self.peer.learned();
            services.iter().all(|prefix| learned.contains(prefix)).then_some(())
        });
    }

    /// Waits until the neighbour's last error has these words; returns it.
    fn wait_why(&self, words: &str) -> String {
        wait_for(words, || {
            let rows = self.rig.show("bgp");
            let why = rows.first().map(|row: &Value| row["why"].as_str().unwrap_or("").to_owned());
            why.filter(|why| why.to_lowercase().contains(&words.to_lowercase()))
        })
    }
}

impl Link {
    /// Begins and ends of refreshes that BIRD sent and received, by its log (RFC 7313).
    fn marks_at_bird(&self) -> [usize; 2] {
        let log = self.peer.report();
        let count = |words: [&str; 2]| words.iter().map(|word| log.matches(word).count()).sum();
        [
            count(["Sending BEGIN-OF-RR", "Sending END-OF-RR"]),
            count(["Got BEGIN-OF-RR", "Got END-OF-RR"]),
        ]
    }
}

impl Program {
    /// RFC 9234. GoBGP 3.10 and ExaBGP 4.2 do not know it.
    fn knows_roles(self) -> bool {
        matches!(self, Self::Bird | Self::Frr | Self::OpenBgpd)
    }

    /// Whether it sends End-of-RIB (RFC 4724) to a router that does not offer graceful restart. FRR 8.4, GoBGP 3.10
    /// and OpenBGPD 7.7 were not seen to.
    fn ends_its_rib(self) -> bool {
        matches!(self, Self::Bird | Self::ExaBgp)
    }

    /// Whether it shows the words of a shutdown (RFC 9003).
    fn shows_words(self) -> bool {
        self != Self::ExaBgp
    }
}

/// Runs a test where its program can run.
fn with(test: &str, program: Program, body: impl FnOnce()) {
    match program.missing() {
        Some(why) => skip(test, &why),
        None if program.needs_root() => in_namespaces_as_root(test, body),
        None => in_namespaces(test, body),
    }
}

/// The configuration, with more prefixes, so that a limit of one is passed.
fn text(keys: &str, asn: u32) -> String {
    let [one, other] = OTHER_SERVICES;
    let more = format!("prefixes = [\"{one}/32\", \"{other}/32\", ");
    let own = keys.split("[[").next().unwrap_or("");
    let export = if own.contains("export") { "" } else { "export = [\"echo\"]\n" };
    config(SITES)
        .replace("name = \"r1\"\n", "name = \"r1\"\nid = \"10.0.0.1\"\n")
        .replace("prefixes = [", &more)
        + &format!(
            "[bgp]\nas = 65001\n[[bgp.neighbor]]\nname = \"peer\"\naddress = \"10.2.0.2\"\n\
             as = {asn}\nimport = \"all\"\n{export}{keys}"
        )
}
