//! Two routers in a row on a fake clock: the cost of each fault, heals without a loss, and the same
//! run from the same seed.
#![forbid(unsafe_code)]

mod sim_support;

use std::time::Duration;

use nearhop::event::{EventKind, MoveCause, Resort};
use nearhop::port::memory::LinkState;
use nearhop::sim::{Action, Impairment, Power, RouterThread};
use nearhop::time::Nanos;
use sim_support::{CheckPlan, LINK_DELAY, Lab, R1, R2};

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// One flow of each family, a packet every 5 ms.
fn lab() -> Lab {
    Lab::new(7, CheckPlan::default()).flow(1, 5)
}

/// When `site` last went down since `from`, in both families, each for the same reason.
fn down_at(lab: &Lab, site: &str, from: Nanos, reason: &str) -> [Nanos; 2] {
    let events = lab.site_events(site, from);
    let [a, b] = &events[..] else { panic!("{site}: {events:?}") };
    assert!(a.1 != b.1 && !a.2 && !b.2, "{events:?}");
    assert_eq!([&*a.3, &*b.3], [reason; 2]);
    [a.0, b.0]
}

#[test]
fn the_nearest_site_serves_both_families() {
    let mut lab = lab();
    lab.run_ms(500);
    assert_eq!(lab.sites_now(), ["ams"]);
    assert_eq!(lab.lost_since(Nanos::ZERO), 0);
    assert_eq!(lab.net.client(0).errors, 0);
    assert!(lab.net.site(lab.ams.site).served > 200);
    for flow in lab.each_flow() {
        let arrival = &flow.arrivals[3];
        // From client to r1 to r2 to ams, and back.
        assert_eq!(arrival.t.since(flow.sent[arrival.seq]), LINK_DELAY * 6);
    }
    lab.assert_sound();
}

#[test]
fn after_an_announced_cut_the_next_packet_goes_elsewhere() {
    for carrier_delay in [0, 1] {
        let mut lab = lab();
        lab.net.set_carrier_delay(ms(carrier_delay));
        let cut = lab.link(lab.ams.link, LinkState::Down);
        lab.run_ms(200);
        for flow in lab.each_flow() {
            let lost = flow.lost(cut - ms(5), lab.now() - ms(5));
            assert!(lost <= 1, "{lost} of {} with news after {carrier_delay} ms", flow.src);
        }
        assert!(lab.sites_now().iter().all(|site| ["fra", "par"].contains(site)));
        assert_eq!(down_at(&lab, "ams", cut, "carrier"), [cut + ms(carrier_delay); 2]);
        assert!(lab.selects(R2, cut).iter().all(|s| *s == (MoveCause::MemberDied, "ams".into())));
        assert!(lab.selects(R1, cut).is_empty(), "r1 has nothing to do with it");
        lab.assert_sound();
    }
}

#[test]
fn a_cut_that_nobody_announces_is_found_like_silence() {
    let mut lab = lab();
    lab.net.set_carrier_delay(ms(100));
    let cut = lab.link(lab.ams.link, LinkState::Down);
    lab.run_ms(200);
    for at in down_at(&lab, "ams", cut, "probe silent") {
        assert!(at <= cut + ms(30), "{at}");
    }
    assert_eq!(lab.lost_since(cut + ms(30)), 0);
    lab.assert_sound();
}

#[test]
fn a_silent_link_is_found_within_interval_times_fall() {
    for power in [None, Some(Power::Off)] {
        let mut lab = lab();
        let cut = match power {
            None => lab.link(lab.ams.link, LinkState::Silent),
            Some(power) => lab.power(lab.ams, power),
        };
        lab.run_ms(200);
        for at in down_at(&lab, "ams", cut, "probe silent") {
            // The last answered request was sent before the cut, and after the cut before.
            assert!(at <= cut + ms(30) && at >= cut + ms(30 - 10) - LINK_DELAY * 2, "{at}");
        }
        for flow in lab.each_flow() {
            assert!(flow.lost(cut - ms(5), lab.now() - ms(5)) <= 30 / 5 + 1);
            assert_eq!(flow.lost(cut + ms(30), lab.now() - ms(5)), 0);
        }
        assert!(lab.sites_now().iter().all(|site| ["fra", "par"].contains(site)));
        assert!(lab.selects(R1, cut).is_empty(), "repaired before r1 could notice");
        lab.assert_sound();
    }
}

#[test]
fn a_dead_server_is_found_by_the_next_query() {
    let mut lab = lab();
    let killed = lab.power(lab.ams, Power::ServerDead);
    lab.run_ms(200);
    for at in down_at(&lab, "ams", killed, "health refused") {
        assert!(at <= killed + ms(20) + LINK_DELAY * 2, "{at}, killed at {killed}");
    }
    assert!(lab.net.client(0).errors > 0, "the clients hear of it too");
    assert!(lab.sites_now().iter().all(|site| ["fra", "par"].contains(site)));
    assert_eq!(lab.lost_since(killed + ms(22)), 0);
    // The host still answers echoes, but the site stays down.
    let alive = lab.power(lab.ams, Power::On);
    lab.run_ms(200);
    assert_eq!(lab.sites_now(), ["ams"]);
    assert_eq!(lab.lost_since(alive), 0);
    lab.assert_sound();
}

#[test]
fn a_server_that_resets_is_found_by_the_next_connection() {
    let mut lab = Lab::new(7, CheckPlan { tcp: true, ..CheckPlan::default() }).flow(1, 5);
    assert_eq!(lab.sites_now(), ["ams"]);
    let killed = lab.power(lab.ams, Power::ServerDead);
    lab.run_ms(200);
    for at in down_at(&lab, "ams", killed, "health reset") {
        assert!(at <= killed + ms(20) + LINK_DELAY * 2, "{at}, killed at {killed}");
    }
    let alive = lab.power(lab.ams, Power::On);
    lab.run_ms(200);
    assert_eq!(lab.sites_now(), ["ams"]);
    assert_eq!(lab.lost_since(alive), 0);
    let silent = lab.link(lab.ams.link, LinkState::Silent);
    lab.run_ms(200);
    assert!(lab.sites_now().iter().all(|site| ["fra", "par"].contains(site)));
    assert_eq!(lab.lost_since(silent + ms(30)), 0);
    lab.assert_sound();
}

#[test]
fn a_healed_link_takes_its_flows_back_without_a_loss() {
    for state in [LinkState::Down, LinkState::Silent] {
        let mut lab = lab();
        lab.link(lab.ams.link, state);
        lab.run_ms(200);
        let healed = lab.link(lab.ams.link, LinkState::Up);
        lab.run_ms(300);
        assert_eq!(lab.sites_now(), ["ams"], "{state:?}");
        assert_eq!(lab.lost_since(healed - ms(50)), 0, "{state:?}");
        assert!(!lab.each_flow().any(nearhop::sim::Flow::reordered));
        let events = lab.site_events("ams", healed);
        assert!(events.iter().all(|e| e.2 && e.0 >= healed + ms(30)), "rise = 5: {events:?}");
        let up = (MoveCause::CheaperUp, "ams".to_owned());
        assert_eq!(lab.selects(R2, healed), [up.clone(), up]);
        lab.assert_sound();
    }
}

#[test]
fn a_drain_and_its_end_lose_nothing() {
    let mut lab = lab();
    let began = lab.drain(lab.ams, true);
    lab.run_ms(200);
    assert!(lab.sites_now().iter().all(|site| ["fra", "par"].contains(site)));
    let ended = lab.drain(lab.ams, false);
    lab.run_ms(200);
    assert_eq!(lab.sites_now(), ["ams"]);
    assert_eq!(lab.lost_since(began - ms(50)), 0);
    assert!(!lab.each_flow().any(nearhop::sim::Flow::reordered));
    let operator = (MoveCause::Operator, "ams".to_owned());
    assert_eq!(lab.selects(R2, began), vec![operator; 4]);
    for flow in lab.each_flow() {
        let moved = flow.moves().map(|(_, after)| flow.sent[after.seq]).collect::<Vec<_>>();
        let [out, back] = moved[..] else { panic!("{moved:?}") };
        // At once: with the first packet that r2 gets afterwards.
        assert!(out <= began + ms(5) && back >= ended - LINK_DELAY * 2 && back <= ended + ms(5));
    }
    lab.assert_sound();
}

#[test]
fn when_every_far_site_is_gone_the_first_router_serves_its_own() {
    let mut lab = lab();
    let cut = lab.now();
    for place in [lab.ams, lab.fra, lab.par] {
        lab.link(place.link, LinkState::Down);
    }
    lab.run_ms(200);
    assert_eq!(lab.sites_now(), ["home"]);
    // r2 answers r1's own check with unreachable, which is no refusal by the site.
    for at in down_at(&lab, "far", cut, "probe silent") {
        assert!(at <= cut + ms(80), "{at}");
    }
    let healed = lab.link(lab.par.link, LinkState::Up);
    lab.run_ms(400);
    assert_eq!(lab.sites_now(), ["par"]);
    assert_eq!(lab.lost_since(healed), 0);
    let cut = lab.link(lab.trunk, LinkState::Silent);
    lab.run_ms(300);
    assert_eq!(lab.sites_now(), ["home"]);
    for at in down_at(&lab, "far", cut, "probe silent") {
        assert!(at <= cut + ms(80), "{at}");
    }
    lab.assert_sound();
}

#[test]
fn a_flapping_link_is_held_down_and_harms_nobody_else() {
    let plan = CheckPlan { fra_checked: false, ams_cost: 30, ..CheckPlan::default() };
    let mut lab = Lab::new(7, plan).flow(16, 10);
    assert_eq!(lab.sites_now(), ["fra", "par"], "they share a tier");
    let began = lab.now();
    // Twenty times per second; fra has no checks, only its carrier.
    for flap in 0..60 {
        for (offset, state) in [(0, LinkState::Down), (25, LinkState::Up)] {
            let link = lab.fra.link;
            lab.net.at(began + ms(flap * 50 + offset), Action::Link { link, state });
        }
    }
    lab.run_ms(3000);
    let (mut stayed, mut moved) = (0, 0);
    for flow in lab.each_flow() {
        if flow.site_before(began - ms(5)) == Some("par") {
            stayed += 1;
            assert_eq!(flow.moves().count(), 0);
            assert_eq!(flow.lost(Nanos::ZERO, lab.now() - ms(5)), 0);
        } else {
            moved += 1;
            // Used again after the first cut, held down from the second one on.
            assert!(flow.moves().count() <= 3, "{:?}", flow.moves().collect::<Vec<_>>());
        }
    }
    assert!(stayed >= 8 && moved >= 8, "{stayed} flows of par, {moved} of fra");
    let ups = lab.site_events("fra", began).iter().filter(|event| event.2).count();
    assert_eq!(ups, 2, "once in each family, and never again while it flaps");
    let damped = |kind: &EventKind| matches!(kind, EventKind::Damped { site, .. } if site == "fra");
    assert!(lab.events_since(began).any(|event| damped(&event.kind)));
    // Its checks pass for long enough, or damping is ended.
    lab.act(Action::ClearDamping { node: R2 });
    lab.run_ms(100);
    assert_eq!(lab.sites_now(), ["fra", "par"]);
    lab.assert_sound();
}

#[test]
fn a_held_link_comes_back_by_itself_once_it_has_been_well_long_enough() {
    let plan = CheckPlan { fra_checked: false, ..CheckPlan::default() };
    let mut lab = Lab::new(7, plan);
    for _ in 0..2 {
        lab.link(lab.fra.link, LinkState::Down);
        lab.run_ms(20);
        lab.link(lab.fra.link, LinkState::Up);
        lab.run_ms(20);
    }
    // Held for 100 ms after it came back; a cut meanwhile restarts that time.
    lab.link(lab.fra.link, LinkState::Down);
    lab.run_ms(20);
    let well = lab.link(lab.fra.link, LinkState::Up);
    lab.run_ms(300);
    let events = lab.site_events("fra", well);
    assert_eq!(events.len(), 2, "{events:?}");
    for (at, _, up, reason) in events {
        assert!(up && reason == "damping over");
        assert_eq!(at, well + ms(1 + 100), "news after a millisecond, then the hold");
    }
}

#[test]
fn a_reload_moves_what_it_changes_and_keeps_what_checks_know() {
    let mut lab = lab();
    let reload = |plan: CheckPlan| Action::Reload { node: R2, config: Box::new(plan.r2()) };
    let dearer = CheckPlan { ams_cost: 30, ..CheckPlan::default() };
    let first = lab.act(reload(dearer));
    lab.run_ms(100);
    assert!(lab.sites_now().iter().all(|site| ["fra", "par"].contains(site)));
    let configuration = (MoveCause::Configuration, "reload".to_owned());
    assert_eq!(lab.selects(R2, first), vec![configuration; 2]);
    // Other checks for all sites, with the old costs.
    lab.act(reload(CheckPlan { icmp_ms: 15, dns_ms: 30, ..CheckPlan::default() }));
    lab.run_ms(200);
    assert_eq!(lab.sites_now(), ["ams"]);
    // The same reload again changes nothing.
    let same = lab.act(reload(CheckPlan { icmp_ms: 15, dns_ms: 30, ..CheckPlan::default() }));
    lab.run_ms(100);
    assert!(lab.selects(R2, same).is_empty());
    assert_eq!(lab.lost_since(first - ms(50)), 0);
    assert!(!lab.each_flow().any(nearhop::sim::Flow::reordered));
    for site in ["ams", "fra", "par", "far", "home"] {
        assert_eq!(lab.site_events(site, first), [], "{site} went neither down nor up");
    }
    // The new checks take effect.
    let cut = lab.link(lab.ams.link, LinkState::Silent);
    lab.run_ms(200);
    for at in down_at(&lab, "ams", cut, "probe silent") {
        assert!(at <= cut + ms(45) && at > cut + ms(25), "{at}");
    }
    lab.assert_sound();
}

/// The link of the cheapest site flaps, so that it waits; then every other site behind the router dies.
#[test]
fn damping_leaves_no_service_without_a_site() {
    let mut lab = lab();
    for _ in 0..10 {
        lab.link(lab.ams.link, LinkState::Down);
        lab.run_ms(20);
        lab.link(lab.ams.link, LinkState::Up);
        lab.run_ms(80);
    }
    let flapped = lab.now();
    let waits = |kind: &EventKind| matches!(kind, EventKind::Damped { site, .. } if site == "ams");
    assert!(lab.events_since(Nanos::ZERO).any(|event| waits(&event.kind)));
    lab.run_ms(50);
    assert!(lab.sites_now().iter().all(|site| ["fra", "par"].contains(site)));
    for link in [lab.fra.link, lab.par.link] {
        lab.link(link, LinkState::Down);
    }
    lab.run_ms(200);
    assert_eq!(lab.sites_now(), ["ams"], "it is well, and nobody else is");
    for flow in lab.each_flow() {
        assert!(flow.lost(flapped - ms(5), lab.now() - ms(5)) <= 1, "what was on its way");
    }
    let resort = |kind: &EventKind| matches!(kind, EventKind::Select { resort: Some(Resort::Damped), to, .. } if to == &["ams"]);
    assert!(lab.events_since(flapped).any(|event| resort(&event.kind)));
    let heal = lab.link(lab.fra.link, LinkState::Up);
    lab.run_ms(200);
    assert_eq!(lab.lost_since(heal), 0);
    lab.assert_sound();
}

#[test]
fn a_control_part_that_stands_still_stops_no_failover() {
    let mut lab = lab();
    let stall = |stalled| Action::Stall { node: R2, part: RouterThread::Control, stalled };
    lab.act(stall(true));
    let cut = lab.link(lab.ams.link, LinkState::Silent);
    lab.drain(lab.par, true);
    lab.run_ms(200);
    assert!(lab.sites_now().iter().all(|site| ["fra", "par"].contains(site)));
    assert_eq!(lab.lost_since(cut + ms(30)), 0);
    assert!(lab.events_since(cut).all(|event| event.node != R2), "nothing is reported");
    lab.act(stall(false));
    lab.run_ms(50);
    for at in down_at(&lab, "ams", cut, "probe silent") {
        assert!(at <= cut + ms(30), "reported late, with its own time: {at}");
    }
    assert_eq!(lab.sites_now(), ["fra"], "par is drained as soon as somebody takes the order");
    lab.assert_sound();
}

#[test]
fn a_worker_that_stands_still_loses_nothing_but_time() {
    let mut lab = lab();
    let stall = |stalled| Action::Stall { node: R2, part: RouterThread::Worker, stalled };
    // Shorter than the timeouts of r1's and r2's checks.
    let began = lab.act(stall(true));
    lab.run_ms(15);
    lab.act(stall(false));
    lab.run_ms(100);
    assert_eq!(lab.lost_since(began - ms(50)), 0);
    assert_eq!(lab.sites_now(), ["ams"]);
    assert_eq!(lab.events_since(began).count(), 0);
    lab.assert_sound();
}

#[test]
fn a_router_that_is_killed_starts_anew_and_reads_the_state_of_its_ports() {
    let mut lab = lab();
    lab.drain(lab.ams, true);
    let killed = lab.act(Action::Stop { node: R2 });
    lab.run_ms(100);
    assert_eq!(lab.sites_now(), ["home"]);
    assert!(lab.events_since(killed).all(|event| event.node == R1));
    lab.link(lab.fra.link, LinkState::Down);
    let started = lab.act(Action::Start { node: R2 });
    lab.run_ms(400);
    assert_eq!(lab.sites_now(), ["ams"], "the drain is forgotten");
    assert!(lab.site_events("fra", started).iter().all(|event| !event.2), "it has no carrier");
    assert_eq!(lab.lost_since(lab.now() - ms(50)), 0);
}

#[test]
fn late_copied_and_damaged_packets_move_nothing() {
    let mut lab = lab();
    let began = lab.now();
    let impairment = Impairment { reorder: 300, duplicate: 300, corrupt: 0 };
    lab.act(Action::Impair { link: lab.ams.link, impairment });
    lab.run_ms(300);
    assert_eq!((lab.lost_since(began), lab.sites_now()), (0, vec!["ams"]));
    let arrived = lab.each_flow().map(|flow| flow.arrivals.len()).sum::<usize>();
    let sent = lab.each_flow().map(|flow| flow.sent.len()).sum::<usize>();
    assert!(arrived > sent + sent / 10, "{arrived} answers to {sent} packets");
    let impairment = Impairment { corrupt: 100, ..Impairment::default() };
    lab.act(Action::Impair { link: lab.ams.link, impairment });
    lab.run_ms(300);
    assert!(lab.lost_since(began) > 0, "what is damaged counts as lost");
    lab.assert_moves_explained();
}

#[test]
fn the_same_seed_gives_the_same_run_to_the_byte() {
    let run = |seed| {
        let mut lab = Lab::new(seed, CheckPlan::default()).flow(2, 10);
        lab.link(lab.ams.link, LinkState::Silent);
        lab.run_ms(100);
        lab.power(lab.par, Power::ServerDead);
        lab.link(lab.ams.link, LinkState::Up);
        lab.run_ms(100);
        lab.link(lab.trunk, LinkState::Down);
        lab.run_ms(200);
        lab.transcript()
    };
    let first = run(1);
    assert!(first.lines().count() > 30);
    assert_eq!(first, run(1));
    assert_ne!(first, run(2));
}
