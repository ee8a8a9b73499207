use nearhop::ids::Family;

use super::*;
use crate::measure::testing::kill_result;

fn machine() -> Standard {
    Standard::Machine([(KillKind::Announced, 0.0), (KillKind::Silent, 30.0)].into())
}

/// Three repeats with these blackouts.
fn repeats(kind: KillKind, blackouts_ms: [f64; 3]) -> [KillResult; 3] {
    blackouts_ms.map(|ms| kill_result(kind, Family::Ipv4, ms))
}

fn judge(standard: &Standard, repeats: &[KillResult]) -> Verdict {
    standard.judge(repeats[0].kind, &repeats.iter().collect::<Vec<_>>())
}

#[test]
fn the_budget_is_the_rule_and_what_the_machine_added() {
    // Call 0.3, resolution 0.2, four wake-ups of 0.1: with the margin 1.35.
    for (kind, budget_ms, within, over) in
        [(KillKind::Announced, 1.35, 1.34, 1.36), (KillKind::Silent, 31.35, 31.3, 31.4)]
    {
        let met = judge(&machine(), &repeats(kind, [0.1, within, 99.0]));
        assert!((met.budget_ms - budget_ms).abs() < 1e-9, "{met:?}");
        assert_eq!(met.met, Some(true), "{met:?}");
        let missed = judge(&machine(), &repeats(kind, [0.1, over, 99.0]));
        assert_eq!(missed.met, Some(false), "{missed:?}");
    }
}

#[test]
fn a_machine_that_hides_what_is_to_be_judged_is_said_to() {
    type Spoil = fn(&mut KillResult);
    let cases: [(Spoil, KillKind, &str); 6] = [
        (|kill| kill.resolution_ms = 3.08, KillKind::Announced, "resolution 3.1 ms"),
        (|kill| kill.resolution_ms = 5.1, KillKind::Silent, "resolution 5.1 ms"),
        (|kill| kill.wake_ms = 116.2, KillKind::Silent, "the machine stood still for 116 ms"),
        (|kill| kill.wake_ms = 0.6, KillKind::Announced, "wake-ups 0.6 ms late"),
        (|kill| kill.wake_ms = 1.3, KillKind::Silent, "wake-ups 1.3 ms late"),
        (|kill| kill.call_ms = 7.0, KillKind::Announced, "the call that set it down took 7.0 ms"),
    ];
    for (spoil, kind, why) in cases {
        // Speed would be missed by far.
        let mut kills = repeats(kind, [400.0, 400.0, 400.0]);
        kills.iter_mut().for_each(spoil);
        let verdict = judge(&machine(), &kills);
        assert_eq!((verdict.met, verdict.why.as_str()), (None, why));
    }
}

#[test]
fn the_rule_leaves_room_in_proportion() {
    let mut kills = repeats(KillKind::Silent, [29.0, 29.0, 29.0]);
    for kill in &mut kills {
        kill.resolution_ms = 4.9;
    }
    assert_eq!(judge(&machine(), &kills).met, Some(true));
}

#[test]
fn a_repeat_on_a_machine_that_stood_still_does_not_count() {
    let mut kills = repeats(KillKind::Announced, [0.5, 0.5, 90.0]);
    kills[2].wake_ms = 85.0;
    let verdict = judge(&machine(), &kills);
    assert_eq!(verdict.met, Some(true));
    assert!(verdict.why.ends_with("2 of 3 repeats"), "{verdict:?}");
    // Most have to be fit.
    kills[1].wake_ms = 12.0;
    let verdict = judge(&machine(), &kills);
    assert_eq!((verdict.met, &*verdict.why), (None, "the machine stood still for 85 ms"));
    // Late repeats that are fit count in full.
    let slow = repeats(KillKind::Announced, [0.5, 9.0, 9.0]);
    assert_eq!(judge(&machine(), &slow).met, Some(false));
}

#[test]
fn strict_figures_hold_on_any_machine() {
    let strict = Standard::Absolute([(KillKind::Announced, 1.0)].into());
    let mut kills = repeats(KillKind::Announced, [0.9, 0.9, 1.2]);
    for kill in &mut kills {
        kill.wake_ms = 500.0;
    }
    assert_eq!(judge(&strict, &kills).met, Some(true));
    let kills = repeats(KillKind::Announced, [0.9, 1.1, 1.2]);
    assert_eq!(judge(&strict, &kills).met, Some(false));
    let kills = repeats(KillKind::Silent, [0.9, 1.1, 1.2]);
    assert_eq!(judge(&strict, &kills).met, None, "nothing is promised of it");
}

#[test]
fn a_miss_needs_three_repeats() {
    let slow = repeats(KillKind::Announced, [9.0, 9.0, 9.0]);
    for few in [&slow[..1], &slow[..2]] {
        let verdict = judge(&machine(), few);
        assert_eq!(verdict.met, None);
        assert!(verdict.why.ends_with("repeat(s), and a miss needs 3"), "{verdict:?}");
    }
    let quick = repeats(KillKind::Announced, [0.5, 0.5, 0.5]);
    assert_eq!(judge(&machine(), &quick[..1]).met, Some(true), "what was seen to hold holds");
}
