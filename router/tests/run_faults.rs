//! Sites that fail in the worst ways, and what the others' flows see of it: nothing.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod daemon_support;
mod support;

use std::thread;
use std::time::Duration;

use daemon_support::{Probes, Rig, SERVICE_V4, SERVICE_V6, Tracer, Watch, config_with, connect};
use nearhop::port::link::LinkSetup;
use nearhop::time::Nanos;
use support::{in_namespaces, wait_for};

const AMS_FIRST: &[(&str, u32)] = &[("ams", 10), ("fra", 20)];
const EQUAL: &[(&str, u32)] = &[("ams", 10), ("fra", 10)];

#[test]
fn a_flapping_site_is_damped_and_takes_no_others_flows_with_it() {
    in_namespaces("a_flapping_site_is_damped_and_takes_no_others_flows_with_it", || {
        let health = "{ icmp = {}, interval = \"5ms\", fall = 200, rise = 1 }";
        let rig = Rig::start_with(EQUAL, &config_with(EQUAL, health));
        let watch = Watch::start(&rig);
        let probes = Probes::start(&rig.client, SERVICE_V4, 16);
        let first = probes.sites_now();
        let at = |site: &str| first.iter().filter(|now| *now == site).count();
        assert!(at("ams") > 0 && at("fra") > 0, "{first:?}");

        let mut links = LinkSetup::open(rig.site_netns("fra")).unwrap();
        let end = Nanos::now() + Duration::from_secs(2);
        let mut flaps = 0;
        while Nanos::now() < end {
            for up in [false, true] {
                links.set_up("nh-fra", up).unwrap();
                // The half of a period of 50 ms: what is tested is a link that behaves so.
                thread::park_timeout(Duration::from_millis(25));
            }
            flaps += 1;
        }
        links.set_up("nh-fra", false).unwrap();
        connect(rig.site_netns("fra"), "lo", &[]);
        links.set_up("nh-fra", true).unwrap();
        rig.connect();

        let hold = |event: &serde_json::Value| {
            (event["kind"] == "damped" && event["site"] == "fra")
                .then(|| event["hold_ms"].as_u64().unwrap())
        };
        let longest = wait_for("a hold that outlasts the flapping", || {
            let lines = watch.lines.lock().unwrap();
            lines.iter().filter_map(hold).max().filter(|&hold| hold >= 400)
        });
        let lines = watch.lines.lock().unwrap().clone();
        let ups = lines.iter().filter(|event| {
            event["kind"] == "site"
                && event["site"] == "fra"
                && event["up"] == true
                && event["family"] == "ipv4"
        });
        let ups = ups.count();
        assert!(ups * 3 <= flaps, "back {ups} times in {flaps} flaps: not damped");

        // Flows that were at the other site have not moved, nor lost anything.
        let moved = probes.moves();
        let lost = probes.lost();
        for (flow, site) in first.iter().enumerate().filter(|(_, site)| *site == "ams") {
            assert_eq!((moved[flow], lost[flow]), (0, 0), "flow {flow} at {site}");
        }
        // Well, but waiting: an operator ends the wait.
        let since = Nanos::now();
        assert!(rig.nearhop(&["undamp"]).status.success());
        wait_for("fra to be up", || {
            let items = rig.show("services");
            let of = |item: &&serde_json::Value| item["site"] == "fra" && item["family"] == "ipv4";
            (items.iter().find(of)?["state"] == "up").then_some(())
        });
        let took = Nanos::now().since(since);
        assert!(took < Duration::from_secs(5), "undamp took {took:?}, the hold {longest} ms");
        wait_for("the flows to be back", || (probes.sites_now() == first).then_some(()));
        probes.finish();
    });
}

#[test]
fn a_silent_site_is_left_while_the_control_thread_stands_still() {
    in_namespaces("a_silent_site_is_left_while_the_control_thread_stands_still", || {
        let health = "{ icmp = {}, interval = \"20ms\", fall = 20, rise = 3 }";
        let rig = Rig::start_with(AMS_FIRST, &config_with(AMS_FIRST, health));
        let probes = [SERVICE_V4, SERVICE_V6].map(|to| Probes::start(&rig.client, to, 4));
        probes.iter().for_each(|probes| probes.wait_for_site("ams"));
        let tracer = Tracer::stop(&rig);
        // Without its address the site's kernel drops what comes for it, and tells nobody.
        let mut links = LinkSetup::open(rig.site_netns("ams")).unwrap();
        for (address, len) in [(SERVICE_V4, 32), (SERVICE_V6, 128)] {
            links.delete_address("lo", format!("{address}/{len}").parse().unwrap()).unwrap();
        }
        probes.iter().for_each(|probes| probes.wait_for_site("fra"));
        assert!(tracer.is_stopped(&rig), "the control thread ran");
        drop(tracer);
        let ams = wait_for("the control thread to tell of it", || {
            let items = rig.show("services");
            items.into_iter().find(|item| item["site"] == "ams" && item["state"] == "down")
        });
        assert_eq!(ams["why"], "unreachable: probe silent");
        for probes in probes {
            let (_, lost, gap) = probes.finish();
            assert!(lost > 0, "a silent fault costs something");
            assert!(gap < Duration::from_secs(5), "{gap:?}");
        }
    });
}
