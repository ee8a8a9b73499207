//! Sites that fail in the worst ways; the flows of other sites notice nothing.
#![allow(clippy::disallowed_methods, reason = "real time")]
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod daemon_support;
mod support;

use std::fs;
use std::net::TcpListener;
use std::thread;
use std::time::Duration;

use daemon_support::{Probes, Rig, SERVICE_V4, SERVICE_V6, Tracer, Watch, config_with, connect};
use nearhop::kernel::link::LinkSetup;
use nearhop::time::Nanos;
use serde_json::Value;
use support::{in_namespaces, wait_for};

const AMS_FIRST: &[(&str, u32)] = &[("ams", 10), ("fra", 20)];
const EQUAL: &[(&str, u32)] = &[("ams", 10), ("fra", 10)];

#[test]
fn a_flapping_site_is_damped_and_takes_no_others_flows_with_it() {
    in_namespaces("a_flapping_site_is_damped_and_takes_no_others_flows_with_it", || {
        let health = "{ icmp = {}, interval = \"5ms\", fall = 200, rise = 1 }";
        let rig = Rig::start_with(EQUAL, &config_with(EQUAL, health));
        let watch = Watch::start(&rig);
        let mut probes = Probes::start(&rig.client, SERVICE_V4, 16);
        let first = probes.sites_now();
        let at = |site: &str| first.iter().filter(|now| *now == site).count();
        assert!(at("ams") > 0 && at("fra") > 0, "{first:?}");

        let mut links = LinkSetup::open(rig.site_netns("fra")).unwrap();
        for _ in 0..FLAPS {
            for up in [false, true] {
                links.set_up("nh-fra", up).unwrap();
                // Half of a period of 50 ms, which is the behaviour under test.
                thread::park_timeout(Duration::from_millis(25));
            }
        }
        let lines = watch.lines.lock().unwrap().clone();
        let ups = lines.iter().filter(|event| is_fra(event, "site") && event["up"] == true).count();
        assert!(lines.iter().any(|event| is_fra(event, "damped")), "{lines:?}");
        // Each hold is twice as long: however long they take, it is back some ten times at most.
        assert!(ups * 3 <= FLAPS, "back {ups} times in {FLAPS} flaps: not damped");

        // Longer than the hold: it comes up each time, and waits twice as long the next time.
        let damped = wait_for("a hold of a second and more", || {
            let last = |kind| {
                let lines = watch.lines.lock().unwrap();
                lines.iter().rfind(|event| is_fra(event, kind)).cloned()
            };
            let held = last("damped").filter(|event| event["hold_ms"].as_u64() >= Some(1_600));
            if held.is_none() && last("site")?["up"] == true {
                let before = last("site")?["seq"].as_u64();
                links.set_up("nh-fra", false).unwrap();
                watch.wait_for("fra to be down again", |event| {
                    is_fra(event, "site") && event["seq"].as_u64() > before
                });
                links.set_up("nh-fra", true).unwrap();
            }
            held
        });
        // Its routes disappeared with the link.
        connect(rig.site_netns("fra"), "nh-fra", &[]);
        assert!(rig.nearhop(&["undamp"]).status.success());
        let up = watch.wait_for("fra to be up", |event| {
            is_fra(event, "site")
                && event["up"] == true
                && event["seq"].as_u64() > damped["seq"].as_u64()
        });
        assert_eq!(up["reason"], "damping over");
        let waited_ms =
            (up["t_ns"].as_u64().unwrap() - damped["t_ns"].as_u64().unwrap()) / 1_000_000;
        assert!(Some(waited_ms) < damped["hold_ms"].as_u64(), "{waited_ms} ms: {damped}");
        wait_for("the flows to be back", || (probes.sites_now() == first).then_some(()));
        // Flows of the other site never moved and lost nothing.
        probes.stop();
        let (moved, lost) = (probes.moves(), probes.lost());
        for (flow, _) in first.iter().enumerate().filter(|(_, site)| *site == "ams") {
            assert_eq!((moved[flow], lost[flow]), (0, 0), "flow {flow}");
        }
    });
}

/// Two seconds of a link that flaps 20 times a second.
const FLAPS: usize = 40;

/// An event of this kind about fra's IPv4 leg.
fn is_fra(event: &Value, kind: &str) -> bool {
    (&event["kind"], &event["site"], &event["family"])
        == (&kind.into(), &"fra".into(), &"ipv4".into())
}

#[test]
fn a_device_that_is_deleted_under_traffic_is_made_anew() {
    in_namespaces("a_device_that_is_deleted_under_traffic_is_made_anew", || {
        let rig = Rig::start(AMS_FIRST);
        let watch = Watch::start(&rig);
        let probes = [SERVICE_V4, SERVICE_V6].map(|to| Probes::start(&rig.client, to, 4));
        for round in 1..=2 {
            wait_for_site(&probes, "ams");
            let mut links = LinkSetup::open(rig.site_netns("ams")).unwrap();
            let before = links.find("nh-ams").unwrap().unwrap();
            links.delete("nh-ams").unwrap();
            let after = wait_for("the device to be there again", || {
                links.find("nh-ams").unwrap().filter(|link| link.ifindex != before.ifindex)
            });
            assert_eq!(after.mtu, before.mtu);
            // The site's routes disappeared with the device; the router sets the addresses, which
            // is enough for its checks.
            connect(rig.site_netns("ams"), "nh-ams", &[]);
            wait_for("the router to report it", || {
                let lines = watch.lines.lock().unwrap();
                let device = |ok: bool| {
                    let fits = |line: &&Value| line["kind"] == "device" && line["ok"] == ok;
                    lines.iter().filter(fits).count()
                };
                let fits =
                    |line: &&Value| line["kind"] == "select" && line["cause"] == "member_died";
                let moves = lines.iter().filter(fits).count();
                (device(false) == round && device(true) == round && moves >= 2 * round)
                    .then_some(())
            });
        }
        wait_for_site(&probes, "ams");
        let ports = rig.show("ports");
        assert_eq!((&ports[0]["port"], &ports[0]["state"]), (&"ams".into(), &"up".into()));
        assert_eq!((&ports[0]["device"], &ports[0]["why"]), (&"nh-ams".into(), &Value::Null));
        for probes in probes {
            probes.finish();
        }
    });
}

#[test]
fn a_device_whose_namespace_vanished_is_tried_until_that_is_back() {
    in_namespaces("a_device_whose_namespace_vanished_is_tried_until_that_is_back", || {
        let rig = Rig::start(AMS_FIRST);
        let probes = [SERVICE_V4, SERVICE_V6].map(|to| Probes::start(&rig.client, to, 4));
        wait_for_site(&probes, "ams");
        let why = |wanted: &str| {
            wait_for(&format!("show ports to say {wanted:?}"), || {
                let port = rig.show("ports").remove(0);
                port["why"].as_str().is_some_and(|why| why.starts_with(wanted)).then_some(port)
            })
        };
        let mut links = LinkSetup::open(rig.site_netns("ams")).unwrap();
        support::hide_netns("ams");
        // Nobody can enter the namespace any more, but existing traffic is still served.
        why(
            "still in the namespace of before, and its network namespace is another now; trying again: \
             cannot open network namespace",
        );
        wait_for_site(&probes, "ams");
        links.delete("nh-ams").unwrap();
        wait_for_site(&probes, "fra");
        let gone = "device gone; trying again: cannot open network namespace /run/netns/ams";
        assert_eq!(why(gone)["state"], "down");
        wait_for("the router to report it", || {
            let items = rig.show("services");
            let of = |item: &&Value| item["site"] == "ams" && item["why"] == "unreachable: carrier";
            (items.iter().filter(of).count() == 2).then_some(())
        });
        // A worker that still polled the removed device would use a whole core.
        let (before, start) = (cpu_ticks(&rig), Nanos::now());
        while Nanos::now().since(start) < Duration::from_secs(1) {
            wait_for_site(&probes, "fra");
        }
        let (used, took) = (cpu_ticks(&rig) - before, Nanos::now().since(start));
        let reported = format!("{used} hundredths of a second of CPU in {took:?}");
        println!("{reported}");
        assert!(u128::from(used) * 1_000 < took.as_millis() * 40, "{reported}");
        // Another namespace of the same name: the port moves into it.
        drop(links);
        let ams = support::netns("ams");
        connect(&ams, "nh-ams", &[SERVICE_V4, SERVICE_V6]);
        wait_for("ams to be up", || {
            let items = rig.show("services");
            let of = |item: &&Value| item["site"] == "ams" && item["state"] == "up";
            (items.iter().filter(of).count() == 2).then_some(())
        });
        assert_eq!(rig.show("ports")[0]["why"], Value::Null);
        for probes in probes {
            probes.finish();
        }
    });
}

fn wait_for_site(probes: &[Probes], site: &str) {
    for probes in probes {
        probes.wait_for_site(site);
    }
}

/// CPU time of the router so far, user and system, in ticks of 10 ms (proc_pid_stat(5)).
fn cpu_ticks(rig: &Rig) -> u64 {
    let stat = fs::read_to_string(format!("/proc/{}/stat", rig.router.id())).unwrap();
    let fields = stat.rsplit(')').next().unwrap().split_whitespace();
    fields.skip(11).take(2).map(|ticks| ticks.parse::<u64>().unwrap()).sum()
}

/// The site's kernel reports that the service is unreachable, by ICMP errors that quote the SYN. They
/// are not the service's own, so only silence counts, which would take 100 s.
#[test]
fn unreachables_that_are_no_refusal_are_shown_and_left_to_silence() {
    in_namespaces("unreachables_that_are_no_refusal_are_shown_and_left_to_silence", || {
        let health = "{ tcp = { port = 7 }, interval = \"100ms\", fall = 1000, rise = 1 }";
        let rig = Rig::begin_with(AMS_FIRST, &config_with(AMS_FIRST, health));
        for (site, address) in
            [("ams", SERVICE_V4), ("ams", SERVICE_V6), ("fra", SERVICE_V4), ("fra", SERVICE_V6)]
        {
            let netns = rig.site_netns(site);
            let listener = netns.within(|| TcpListener::bind((address, 7))).unwrap().unwrap();
            // Ends with the test's process.
            thread::spawn(move || listener.incoming().for_each(drop));
        }
        rig.wait_all_up();
        let watch = Watch::start(&rig);
        let ams = rig.site_netns("ams");
        for sysctl in ["ipv4/ip_forward", "ipv6/conf/all/forwarding"] {
            let path = format!("/proc/sys/net/{sysctl}");
            ams.within(|| fs::write(path, "1")).unwrap().unwrap();
        }
        // A forwarding host sends errors, and one that forwards IPv6 keeps routes that were set by
        // hand.
        let mut links = LinkSetup::open(ams).unwrap();
        for (address, len) in [(SERVICE_V4, 32), (SERVICE_V6, 128)] {
            let network = format!("{address}/{len}");
            support::run(&format!("ip -n ams route add unreachable {network}"));
            links.delete_address("lo", network.parse().unwrap()).unwrap();
        }
        for target in [SERVICE_V4, SERVICE_V6] {
            wait_for("the errors to be shown", || {
                let checks = rig.show("checks");
                let of_ams = |check: &&Value| check["site"] == "ams" && check["target"] == target;
                let check = checks.iter().find(of_ams)?;
                println!("{check}");
                assert_eq!(check["state"], "up", "{check}");
                let shown = check["last_error"].is_string();
                (shown && check["ignored_unreachable"].as_u64() >= Some(1)).then_some(())
            });
        }
        let lines = watch.lines.lock().unwrap();
        assert!(!lines.iter().any(|line| line["kind"] == "site"), "{lines:?}");
    });
}

#[test]
fn a_silent_site_is_left_while_the_control_thread_stands_still() {
    in_namespaces("a_silent_site_is_left_while_the_control_thread_stands_still", || {
        let health = "{ icmp = {}, interval = \"20ms\", fall = 20, rise = 3 }";
        let rig = Rig::start_with(AMS_FIRST, &config_with(AMS_FIRST, health));
        let probes = [SERVICE_V4, SERVICE_V6].map(|to| Probes::start(&rig.client, to, 4));
        wait_for_site(&probes, "ams");
        let tracer = Tracer::stop(&rig);
        // Without its address, the site's kernel drops the packets silently.
        let mut links = LinkSetup::open(rig.site_netns("ams")).unwrap();
        for (address, len) in [(SERVICE_V4, 32), (SERVICE_V6, 128)] {
            links.delete_address("lo", format!("{address}/{len}").parse().unwrap()).unwrap();
        }
        wait_for_site(&probes, "fra");
        assert!(tracer.is_stopped(&rig), "the control thread ran");
        drop(tracer);
        let ams = wait_for("the control thread to report it", || {
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

/// Its answers lie in the devices' queues meanwhile, and in the hands of the workers.
#[test]
fn workers_that_stand_still_pass_for_no_dead_site() {
    in_namespaces("workers_that_stand_still_pass_for_no_dead_site", || {
        let health = "{ icmp = {}, interval = \"10ms\", fall = 3, rise = 3 }";
        let rig = Rig::start_with(AMS_FIRST, &config_with(AMS_FIRST, health));
        let watch = Watch::start(&rig);
        // A machine without a core to spare may hold them for longer than is put up with; or, before
        // or after, take so long over an answer that no worker is to blame.
        wait_for("workers that stood still and nobody who was called dead", || {
            rig.wait_all_up();
            let seen = watch.lines.lock().unwrap().len();
            let start = Nanos::now();
            let stopped = Tracer::stop_workers(&rig);
            thread::park_timeout(10 * SILENCE);
            drop(stopped);
            let held = Nanos::now().since(start);
            // All that was asked before has been answered or called silent by then.
            thread::park_timeout(2 * SILENCE);
            let lines = watch.lines.lock().unwrap();
            let is_down = |line: &&Value| line["kind"] == "site" && line["up"] == false;
            let down = lines[seen..].iter().filter(is_down).count();
            println!("held for {held:?}: {down} legs down");
            (down == 0).then_some(())
        });
    });
}

/// The least that checks at 10 ms find out in.
const SILENCE: Duration = Duration::from_millis(30);
