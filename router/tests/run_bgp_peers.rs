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
    Offer { prefix: "203.0.113.0/24", large_community: Some("65002:1:2") },
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
        let mut link = Link::up(program, "", Setup::new(&OFFERS));
        link.wait_both(&OFFERS);

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
        link.start(Setup::new(&OFFERS));
        link.wait_both(&OFFERS);

        // Each says why it ends (RFC 9003).
        if link.peer.shut("maintenance at noon") {
            let why = link.wait_why("maintenance at noon");
            assert!(why.contains("the neighbour says"), "{why}");
            link.start(Setup::new(&OFFERS));
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
        let mut link = Link::up(program, "max-prefixes = 1\n", Setup::new(&OFFERS));
        let why = link.wait_why("ipv4 prefixes; 1 are allowed");
        assert!(why.contains("maximum number of prefixes"), "{why}");
        assert!(link.routes().is_empty(), "nothing of it is left");

        // The peer's limit: the router does.
        if program != Program::ExaBgp {
            let setup = Setup { max_prefixes: Some(1), ..Setup::new(&OFFERS) };
            link.again("hold-time = \"12s\"\nexport = \"services\"\n", setup);
            let why = link.wait_why("maximum number of prefixes");
            assert!(why.contains("the neighbour says"), "{why}");
        }

        // All of it at once: what one does not know it ignores.
        let role = program.knows_roles().then_some("provider");
        let setup = Setup { gtsm: true, add_path: true, role, ..Setup::new(&OFFERS) };
        let keys = "ttl-security = true\nadd-path = \"receive\"\nrole = \"customer\"\n";
        link.again(keys, setup);
        link.wait_both(&OFFERS);

        // Two providers of each other there are not.
        if program.knows_roles() {
            let setup = Setup { role, ..Setup::new(&OFFERS) };
            link.again("role = \"provider\"\n", setup);
            link.wait_why("role mismatch");
            assert!(link.routes().is_empty());
        }

        // Another AS than configured.
        link.again("hold-time = \"15s\"\n", Setup { asn: 65_003, ..Setup::new(&OFFERS) });
        let why = link.wait_why("the neighbour is in AS 65003");
        assert!(why.contains("bad peer AS"), "{why}");
        assert!(!link.peer.is_up());

        // A reflector and its client.
        let setup = Setup { asn: 65_001, reflects: true, ..Setup::new(&OFFERS) };
        link.asn = 65_001;
        link.again("hold-time = \"9s\"\n", setup);
        link.wait_both(&OFFERS);
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
    fn up(program: Program, keys: &str, setup: Setup) -> Self {
        let rig = Rig::begin_with(SITES, &text(keys, 65_002));
        for (site, _) in SITES {
            connect(rig.site_netns(site), &format!("nh-{site}"), &OTHER_SERVICES);
        }
        wait_for("every leg up", || {
            let legs = rig.show("services");
            (!legs.is_empty() && legs.iter().all(|leg| leg["state"] == "up")).then_some(())
        });
        let peer = program.start(rig.site_netns("peer"), "peer-0", &setup);
        Self { rig, program, peer, asn: 65_002, starts: 0 }
    }

    /// Another peer instead of the one there was.
    fn start(&mut self, setup: Setup) {
        self.peer.kill();
        self.starts += 1;
        let name = format!("peer-{}", self.starts);
        self.peer = self.program.start(self.rig.site_netns("peer"), &name, &setup);
    }

    fn again(&mut self, keys: &str, setup: Setup) {
        self.start(setup);
        self.configure(keys);
    }

    /// The router with these keys of the neighbour.
    fn configure(&self, keys: &str) {
        self.rig.write_file(&text(keys, self.asn));
        let out = self.rig.nearhop(&["reload"]);
        assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    }

    /// Prefixes that the router forwards by and has of the peer.
    fn routes(&self) -> BTreeSet<String> {
        let rows = self.rig.show("routes");
        let of = rows.iter().filter(|row| row["source"] == "bgp");
        of.map(|row| row["prefix"].as_str().unwrap().to_owned()).collect()
    }

    fn wait_routes(&self, offers: &[Offer]) {
        let all: BTreeSet<String> = offers.iter().map(|offer| offer.prefix.to_owned()).collect();
        wait_for("the peer's routes", || (self.routes() == all).then_some(()));
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

impl Program {
    /// RFC 9234. GoBGP 3.10 and ExaBGP 4.2 do not know it.
    fn knows_roles(self) -> bool {
        matches!(self, Self::Bird | Self::Frr | Self::OpenBgpd)
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
    let export = if keys.contains("export") { "" } else { "export = [\"echo\"]\n" };
    config(SITES)
        .replace("name = \"r1\"\n", "name = \"r1\"\nid = \"10.0.0.1\"\n")
        .replace("prefixes = [", &more)
        + &format!(
            "[bgp]\nas = 65001\n[[bgp.neighbor]]\nname = \"peer\"\naddress = \"10.2.0.2\"\n\
             as = {asn}\nimport = \"all\"\n{export}{keys}"
        )
}
