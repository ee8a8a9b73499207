use super::*;
use crate::measure::testing::{heal_result as heal, kill_result as kill};

fn announced() -> Standard {
    Standard::Machine([(KillKind::Announced, 0.0)].into())
}

fn wanted() -> Wanted {
    Wanted { kinds: vec![], repeats: 0 }
}

#[test]
fn the_median_is_a_value_that_was_measured() {
    let cases: [(&[f64], f64, f64); 5] = [
        (&[], 0.0, 0.0),
        (&[3.0], 3.0, 3.0),
        (&[4.0, 1.0], 1.0, 4.0),
        (&[9.0, 1.0, 5.0], 5.0, 9.0),
        (&[5.0, 4.0, 3.0, 2.0, 1.0], 3.0, 5.0),
    ];
    for (values, p50, max) in cases {
        assert_eq!(Spread::of(values.iter().copied()), Spread { p50, max }, "{values:?}");
    }
}

#[test]
fn the_json_is_the_contract() {
    let mut second = kill(KillKind::Announced, Family::Ipv4, 0.4);
    second.from_site = "par".into();
    let kills = [
        kill(KillKind::Silent, Family::Ipv6, 31.0),
        kill(KillKind::Announced, Family::Ipv4, 0.2),
        second,
    ];
    let summary = Summary::new(&kills, &[heal(0), heal(0)], &announced(), &wanted(), vec![]);
    insta::assert_snapshot!(serde_json::to_string_pretty(&summary).unwrap());
    let back: Summary = serde_json::from_str(&serde_json::to_string(&summary).unwrap()).unwrap();
    assert_eq!(back, summary);
}

#[test]
fn every_expectation_that_fails_is_named() {
    let slow = kill(KillKind::Announced, Family::Ipv4, 1.5);
    let mut moved = kill(KillKind::Server, Family::Ipv4, 30.0);
    moved.unexplained_moves = 2;
    let summary = Summary::new(
        &[slow.clone(), slow.clone(), slow, moved],
        &[heal(4)],
        &announced(),
        &wanted(),
        vec!["the reload lost 1 probe".into()],
    );
    assert!(!summary.ok);
    let expected = [
        "the reload lost 1 probe",
        "announced kill, ipv4: the blackout is over its budget: p50 1.50 ms of 1.35: rule 0 and \
         1.5 x (call 0.30 + resolution 0.20 + wake-ups 0.40); 3 of 3 repeats",
        "server kill, ipv4: 2 flows moved without a reason",
        "heal after silent kill, ipv4: 4 of 500 probes were lost, expected 0",
    ];
    assert_eq!(summary.failures, expected);
}

#[test]
fn a_kind_or_family_that_was_not_seen_is_a_failure() {
    let wanted = Wanted { kinds: vec![KillKind::Announced, KillKind::Site], repeats: 2 };
    let one = kill(KillKind::Announced, Family::Ipv4, 0.5);
    let kills = [one.clone(), one];
    let summary = Summary::new(&kills, &[], &announced(), &wanted, vec![]);
    let expected = [
        "announced kill, ipv6: 0 of 2 repeats were measured",
        "site kill, ipv4: 0 of 2 repeats were measured",
        "site kill, ipv6: 0 of 2 repeats were measured",
    ];
    assert_eq!(summary.failures, expected);
    let nothing = Summary::new(&[], &[], &announced(), &wanted, vec![]);
    assert_eq!(nothing.failures.len(), 4);
}

#[test]
fn the_split_is_of_one_repeat_and_adds_up() {
    let kills = [9.0, 1.0, 5.0].map(|ms| kill(KillKind::Announced, Family::Ipv4, ms));
    let summary = Summary::new(&kills, &[], &announced(), &wanted(), vec![]);
    let kill = &summary.kills[0];
    let parts = kill.detect_ms + kill.publish_ms + kill.repair_ms + kill.rest_ms;
    assert!((parts - kill.blackout_ms.p50).abs() < 1e-9, "{kill:?}");
    assert!((kill.detect_ms - 2.5).abs() < 1e-9, "{kill:?}");
}

#[test]
fn who_took_over_from_whom_is_reported_by_repeat() {
    let repeat = |from: &str, to: &str| {
        let mut kill = kill(KillKind::Announced, Family::Ipv4, 0.5);
        (kill.from_site, kill.to_site) = (from.into(), to.into());
        kill
    };
    let kills = [repeat("fra", "par"), repeat("par", "ams"), repeat("fra", "par")];
    let summary = Summary::new(&kills, &[], &announced(), &wanted(), vec![]);
    let reported = summary.kills[0].takeovers.iter();
    let reported: Vec<_> =
        reported.map(|one| (&*one.from_site, &*one.to_site, one.repeats)).collect();
    assert_eq!(reported, [("fra", "par", 2), ("par", "ams", 1)]);
}
