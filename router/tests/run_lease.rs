//! The lease of announcements, on real threads that are held still: two routers announce one address to BIRD,
//! by which clients reach it.
#![allow(clippy::unwrap_used, reason = "a test may panic")]
#![allow(clippy::disallowed_methods, reason = "real time")]

mod bgp_support;
mod daemon_support;
mod support;

use bgp_support::bird::Bird;
use bgp_support::missing;
use daemon_support::{Probes, Rig, SERVICE_V4, Tracer};
use nearhop::kernel::link::LinkSetup;
use nearhop::kernel::netns::NetNs;
use support::skip::skip;
use support::{in_namespaces, wait_for};

/// One of them: number `n`, with one site of the same name.
fn router(name: &str, n: u8, hub: &NetNs) -> Rig {
    let config = format!(
        "[router]\nname = \"{name}\"\nid = \"10.{n}.0.1\"\nworkers = 1\n\
         [[port]]\nname = \"hub\"\ntun = \"nh-hub-{name}\"\nnetns = \"hub\"\n\
         addresses = [\"10.{n}.0.1/24\"]\npeer-addresses = [\"10.{n}.0.2/24\"]\n\
         [[port]]\nname = \"{name}\"\ntun = \"nh-{name}\"\nnetns = \"{name}\"\n\
         addresses = [\"10.1{n}.0.1/24\"]\npeer-addresses = [\"10.1{n}.0.2/24\"]\n\
         [[route]]\nprefix = \"{CLIENT}/32\"\nvia = \"10.{n}.0.2\"\n\
         [[service]]\nname = \"echo\"\nprefixes = [\"{SERVICE_V4}/32\"]\nannounce-delay = \"1s\"\n\
         [[service.site]]\nname = \"{name}\"\nvia = \"{name}\"\n\
         health = {{ icmp = {{}}, interval = \"20ms\", fall = 50, rise = 3 }}\n\
         [bgp]\nas = 65001\nlease = \"1s\"\n\
         [[bgp.neighbor]]\nname = \"hub\"\naddress = \"10.{n}.0.2\"\nas = 65000\n\
         import = \"none\"\nexport = [\"echo\"]\n"
    );
    Rig::beside(name, hub, &[(name, 10)], &config)
}

/// Of clients, at whatever router they are: one of a link would be answered by way of that link's router alone.
const CLIENT: &str = "10.9.0.9";

/// Of equal paths that of `ams` is the best, whose router id is the lowest.
const BIRD: &str = "router id 10.1.0.2;\nprotocol device {}\n\
     protocol kernel { ipv4 { import none; export filter { krt_prefsrc = 10.9.0.9; accept; }; }; }\n\
     protocol bgp ams { local 10.1.0.2 as 65000; neighbor 10.1.0.1 as 65001; ipv4 { import all; export none; }; }\n\
     protocol bgp fra { local 10.2.0.2 as 65000; neighbor 10.2.0.1 as 65001; ipv4 { import all; export none; }; }\n";

/// How BIRD hears the service from a router: `None` not at all, else whether as what nobody prefers.
fn heard(bird: &Bird, router: &str) -> Option<bool> {
    let all = bird.ask(&format!("show route all protocol {router}"));
    // As BIRD writes GRACEFUL_SHUTDOWN (RFC 8326).
    all.contains(SERVICE_V4).then(|| all.contains("(65535,0)"))
}

fn wait_until_heard(bird: &Bird, router: &str, how: Option<bool>) {
    wait_for(&format!("{router} heard: {how:?}"), || (heard(bird, router) == how).then_some(()));
}

/// Both routers, BIRD, and clients beside it.
struct Net {
    routers: [Rig; 2],
    bird: Bird,
    probes: Probes,
}

impl Net {
    /// Both are announced, and clients answered by the site of the first.
    fn start() -> Self {
        let hub = support::netns("hub");
        let routers = [router("ams", 1, &hub), router("fra", 2, &hub)];
        let mut links = LinkSetup::open(&hub).unwrap();
        links.replace_address("lo", format!("{CLIENT}/32").parse().unwrap()).unwrap();
        let bird = Bird::start(&hub, "hub", BIRD);
        for name in ["ams", "fra"] {
            wait_until_heard(&bird, name, Some(false));
        }
        let probes = Probes::start(&hub, SERVICE_V4, 4);
        probes.wait_for_site("ams");
        Self { routers, bird, probes }
    }
}

#[test]
fn a_part_that_stands_still_deprioritises_and_all_at_once_withdraw_nothing() {
    let test = "a_part_that_stands_still_deprioritises_and_all_at_once_withdraw_nothing";
    if let Some(why) = missing("bird", "bird2") {
        return skip(test, &why);
    }
    in_namespaces(test, || {
        let Net { routers, bird, probes } = Net::start();

        // Who checks, and who decides: each of them alone is enough, and clients go elsewhere.
        for (thread, said) in [("nh-liveness", "the liveness thread"), ("", "the control thread")] {
            let held = match thread {
                "" => Tracer::stop(&routers[0]),
                name => Tracer::stop_named(&routers[0], name),
            };
            wait_until_heard(&bird, "ams", Some(true));
            assert_eq!(heard(&bird, "fra"), Some(false));
            probes.wait_for_site("fra");
            drop(held);
            wait_until_heard(&bird, "ams", Some(false));
            let lost = routers[0].events_until(|event| {
                event["kind"] == "lease" && event["reason"].as_str().unwrap().contains(said)
            });
            assert_eq!(lost.last().unwrap()["held"], false);
            wait_for("the lease to be held as the router says", || {
                let out = routers[0].nearhop(&["show", "bgp", "advertised"]).stdout;
                String::from_utf8_lossy(&out).contains("1 site is well, 1 needed").then_some(())
            });
        }

        // Whatever stops them stops all of them.
        let held = routers.each_ref().map(Tracer::stop);
        for name in ["ams", "fra"] {
            wait_until_heard(&bird, name, Some(true));
        }
        assert_eq!(probes.sites_now().len(), 4, "every client is answered");
        drop(held);
        for name in ["ams", "fra"] {
            wait_until_heard(&bird, name, Some(false));
        }
        probes.sites_now();
        for name in ["ams", "fra"] {
            let counted = bird.ask(&format!("show protocols all {name}"));
            assert!(counted.contains("Established"), "{counted}");
            // Received, rejected, filtered, ignored, accepted.
            let withdrawals = counted.lines().find(|line| line.contains("Import withdraws:"));
            let received = withdrawals.and_then(|line| line.split_whitespace().nth(2));
            assert_eq!(received, Some("0"), "{counted}");
        }
    });
}

#[test]
fn a_router_that_is_killed_is_left_at_once_by_its_neighbour() {
    let test = "a_router_that_is_killed_is_left_at_once_by_its_neighbour";
    if let Some(why) = missing("bird", "bird2") {
        return skip(test, &why);
    }
    in_namespaces(test, || {
        let Net { mut routers, bird, probes } = Net::start();
        routers[0].router.kill().unwrap();
        // Not by the hold timer: the wait is shorter.
        wait_until_heard(&bird, "ams", None);
        probes.wait_for_site("fra");
    });
}
