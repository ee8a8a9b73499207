use super::*;
use crate::measure::testing::{LEG_NS, answered, failover, site_down, trace};

fn us(milliseconds: f64) -> u64 {
    (milliseconds * 1e3).round() as u64
}

fn kill() -> Kill {
    Kill {
        kind: KillKind::Silent,
        family: Family::Ipv4,
        site: "fra".into(),
        service: None,
        window: Window { start_ns: 0, fault_ns: 20_000_000, end_ns: 80_000_000 },
        conditions: Conditions::default(),
        causes: Vec::new(),
    }
}

#[test]
fn the_split_adds_up_to_the_repair_of_the_first_flow() {
    let traces = [
        trace(Family::Ipv4, failover(400, 200, 20_000, 51_000)),
        trace(Family::Ipv4, failover(400, 200, 20_000, 52_000)),
        trace(Family::Ipv6, failover(400, 200, 20_000, 70_000)),
    ];
    let events = [
        site_down("ams", Family::Ipv4, 21_000, 21_001),
        site_down("fra", Family::Ipv6, 22_000, 22_001),
        site_down("fra", Family::Ipv4, 10_000, 10_001),
        site_down("fra", Family::Ipv4, 50_000, 50_010),
        site_down("fra", Family::Ipv4, 50_005, 50_020),
    ];
    let measured = measure_kill(&kill(), &traces, &events).unwrap();
    let result = &measured.result;
    assert_eq!(measured.worst, 1);
    assert_eq!(us(result.detect_ms), 30_000);
    assert_eq!(us(result.publish_ms), 10);
    // The first probe sent at or after 51 ms arrives a leg later.
    assert_eq!(us(result.repair_ms), 990 + LEG_NS / 1_000);
    assert_eq!(us(result.blackout_ms), 32_000);
    let parts = result.detect_ms + result.publish_ms + result.repair_ms + result.rest_ms;
    assert_eq!(us(parts), us(result.blackout_ms));
    assert_eq!(us(result.resolution_ms), 200);
    assert_eq!((result.sent, result.lost), (800, 155 + 160));
    assert_eq!((result.from_site.as_str(), result.to_site.as_str()), ("fra", "ams"));
    assert_eq!((result.unexplained_moves, result.reordered, result.duplicated), (0, 0, 0));
}

#[test]
fn a_kill_that_hits_no_flow_is_an_error_and_not_zero() {
    let elsewhere = (0..400).map(|seq| answered(seq, seq * 200, 2)).collect();
    let error = measure_kill(
        &kill(),
        &[trace(Family::Ipv4, elsewhere)],
        &[site_down("fra", Family::Ipv4, 50_000, 50_010)],
    )
    .unwrap_err();
    assert!(matches!(&error, KillError::NoFlowHit { found, .. } if found == "par"), "{error}");
    assert!(error.to_string().contains("silent kill of fra, ipv4: it hit no flow"), "{error}");
}

#[test]
fn what_gives_no_figure_says_why() {
    let served = || vec![trace(Family::Ipv4, failover(400, 200, 20_000, 51_000))];
    let dead = || vec![trace(Family::Ipv4, failover(400, 200, 20_000, 900_000))];
    let event = || vec![site_down("fra", Family::Ipv4, 50_000, 50_010)];
    let other = vec![trace(Family::Ipv6, failover(400, 200, 20_000, 51_000))];
    let cases = [
        (other, event(), "no probe was sent"),
        (dead(), event(), "1 flows were still not answered 60.0 ms after"),
        (served(), vec![], "the router reported no 'site' event"),
        (served(), vec![site_down("fra", Family::Ipv4, 90_000, 90_000)], "the router reported no"),
    ];
    for (traces, events, expected) in cases {
        let error = measure_kill(&kill(), &traces, &events).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    }
}

#[test]
fn another_service_does_not_time_this_one() {
    let traces = [trace(Family::Ipv4, failover(400, 200, 20_000, 51_000))];
    let events = [site_down("fra", Family::Ipv4, 50_000, 50_010)];
    let of = |service: &str| Kill { service: Some(service.into()), ..kill() };
    assert!(measure_kill(&of("dns"), &traces, &events).is_ok());
    assert!(matches!(measure_kill(&of("http"), &traces, &events), Err(KillError::NoEvent { .. })));
}

#[test]
fn moves_of_flows_that_were_not_hit_need_a_reason_of_their_own() {
    let bystander: Vec<_> =
        (0..400).map(|seq| answered(seq, seq * 200, if seq < 200 { 2 } else { 1 })).collect();
    let traces =
        [trace(Family::Ipv4, failover(400, 200, 20_000, 51_000)), trace(Family::Ipv4, bystander)];
    let events = [site_down("fra", Family::Ipv4, 50_000, 50_010)];
    let measured = measure_kill(&kill(), &traces, &events).unwrap();
    assert_eq!(measured.result.unexplained_moves, 1);
    assert_eq!((measured.unexplained[0].flow, measured.unexplained[0].from.as_str()), (1, "par"));

    let cause = Cause {
        from_ns: 39_000_000,
        to_ns: 41_000_000,
        why: "par drained".into(),
        leaves: Some("par".into()),
        enters: None,
    };
    let known = Kill { causes: vec![cause], ..kill() };
    assert_eq!(measure_kill(&known, &traces, &events).unwrap().result.unexplained_moves, 0);
}

#[test]
fn a_heal_counts_loss_and_knows_the_way_back() {
    let back = |lost_at: Option<usize>, to| {
        let mut probes: Vec<_> =
            (0..400).map(|seq| answered(seq, seq * 200, if seq < 200 { 1 } else { to })).collect();
        if let Some(at) = lost_at {
            probes[at].arrival = None;
        }
        trace(Family::Ipv4, probes)
    };
    let heal = Heal {
        kind: KillKind::Site,
        family: Family::Ipv4,
        site: "fra".into(),
        window: kill().window,
        causes: Vec::new(),
    };
    let cases = [
        (back(None, 0), 0, 0),
        (back(Some(200), 0), 1, 0),
        (back(None, 2), 0, 1), // it moved to par, which did not come back
    ];
    for (trace, lost, unexplained) in cases {
        let result = measure_heal(&heal, &[trace]);
        assert_eq!((result.lost, result.unexplained_moves), (lost, unexplained));
    }
}
