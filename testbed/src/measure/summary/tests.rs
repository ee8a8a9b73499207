use super::*;

fn kill(kind: KillKind, family: Family, blackout_ms: f64) -> KillResult {
    KillResult {
        kind,
        family,
        blackout_ms,
        resolution_ms: 0.2,
        sent: 1_000,
        lost: 3,
        duplicated: 0,
        reordered: 1,
        from_site: "fra".into(),
        to_site: "ams".into(),
        detect_ms: blackout_ms / 2.0,
        publish_ms: 0.01,
        repair_ms: 0.1,
        unexplained_moves: 0,
    }
}

fn heal(lost: u64) -> HealResult {
    HealResult {
        kind: KillKind::Silent,
        family: Family::Ipv4,
        sent: 500,
        lost,
        duplicated: 0,
        reordered: 0,
        unexplained_moves: 0,
    }
}

fn budgets() -> Budgets {
    [(KillKind::Announced, Expectation { p50_ms: 1.0 })].into()
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
    let summary = Summary::new(&kills, &[heal(0), heal(0)], &budgets(), vec![]);
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
        &[slow, moved],
        &[heal(4)],
        &budgets(),
        vec!["the reload lost 1 probe".into()],
    );
    assert!(!summary.ok);
    let expected = [
        "the reload lost 1 probe",
        "announced kill, ipv4: blackout p50 1.500 ms is over the budget of 1.000 ms",
        "server kill, ipv4: 2 flows moved without a reason",
        "heal after silent kill, ipv4: 4 of 1000 probes were lost, expected 0",
    ];
    let summary_of_two = Summary::new(&[], &[heal(2), heal(2)], &budgets(), vec![]);
    assert_eq!(summary_of_two.failures[0], expected[3]);
    assert_eq!(summary_of_two.failures[1], "nothing was killed");
    assert_eq!(summary.failures[..3], expected[..3]);
}
