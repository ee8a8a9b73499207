//! Legs that flap wait before they are used again, and operators forgive.

use super::super::carrier::LEGS_PER_TURN;
use super::*;

#[test]
fn a_leg_that_flaps_waits_twice_as_long_each_time() {
    let mut rig = Rig::with_carrier();
    let path = rig.leg(vec![], Combine::All);
    rig.flap(1);
    assert!(rig.alive(path), "one flap is forgiven");
    for hold_ms in [100, 200, 400] {
        rig.events();
        rig.flap(1);
        assert_eq!(rig.reasons(path), [Reason::Damped]);
        let hold = Duration::from_millis(hold_ms);
        assert!(rig.events().contains(&MonitorEventKind::Damped { path, hold }));
        rig.run_ms(hold_ms - 6);
        assert!(!rig.alive(path), "it came back 5 ms before");
        rig.run_ms(1);
        assert!(rig.alive(path));
        assert_eq!(rig.reported(), [leg_event(true, "damping over")]);
    }
}

#[test]
fn the_wait_begins_anew_whenever_it_is_not_well() {
    for checks in [vec![], vec![icmp()]] {
        let mut rig = Rig::with_carrier();
        let checked = !checks.is_empty();
        let path = rig.leg(checks, Combine::All);
        rig.run_ms(50);
        for _ in 0..2 {
            rig.carrier(false);
            rig.run_ms(10);
            rig.carrier(true);
            rig.run_ms(60);
        }
        assert_eq!(rig.reasons(path), [Reason::Damped]);
        rig.events();
        // Had it not failed meanwhile, it would be used after 40 to 60 ms more.
        rig.carrier(false);
        assert!(!rig.reasons(path).contains(&Reason::Damped), "it does not even wait");
        rig.run_ms(5);
        rig.carrier(true);
        rig.run_ms(99);
        assert!(!rig.alive(path), "checked: {checked}");
        rig.run_ms(40);
        assert!(rig.alive(path));
        assert_eq!(rig.reported(), [leg_event(false, "carrier"), leg_event(true, "damping over")]);
    }
}

#[test]
fn nothing_waits_without_carrier() {
    let mut rig = Rig::with_carrier();
    let path = rig.leg(vec![], Combine::All);
    rig.flap(2);
    rig.carrier(false);
    rig.events();
    let spec = leg(path, vec![]);
    rig.monitor.add_leg(rig.now, spec).unwrap();
    assert_eq!((rig.events(), rig.monitor.poll_timeout()), (vec![], None));
    assert_eq!(rig.reasons(path), []);
}

#[test]
fn an_operator_ends_the_wait_and_forgives() {
    let mut rig = Rig::with_carrier();
    let path = rig.leg(vec![], Combine::All);
    rig.flap(4);
    assert!(!rig.alive(path));
    rig.events();
    rig.monitor.clear_damping(rig.now);
    assert!(rig.alive(path));
    assert_eq!(rig.reported(), [leg_event(true, "damping over")]);
    assert_eq!(rig.monitor.poll_timeout(), None, "nothing is left to wait for");
    rig.flap(1);
    assert!(rig.alive(path), "the first flap again");
}

#[test]
fn other_checks_neither_end_a_wait_nor_make_it_endless() {
    let mut rig = Rig::with_carrier();
    let path = rig.leg(vec![], Combine::All);
    rig.flap(2);
    assert_eq!(rig.reasons(path), [Reason::Damped]);
    rig.events();
    let spec = leg(path, vec![icmp()]);
    rig.monitor.add_leg(rig.now, spec.clone()).unwrap();
    assert_eq!(rig.reasons(path), [Reason::Damped]);
    rig.run_ms(94);
    assert!(!rig.alive(path));
    rig.run_ms(1);
    assert!(rig.alive(path));
    assert_eq!(rig.reported(), [leg_event(true, "damping over")]);
    // Even if it is forgotten in between, nothing holds it for ever.
    rig.flap(2);
    rig.run_ms(30);
    assert_eq!(rig.reasons(path), [Reason::Damped]);
    rig.monitor.remove_leg(path);
    assert_eq!(rig.reasons(path), []);
    rig.monitor.add_leg(rig.now, spec).unwrap();
    rig.run_ms(100);
    assert!(rig.alive(path));
}

#[test]
fn a_flap_of_carrier_counts_for_every_leg_of_the_port_and_says_so() {
    let mut rig = Rig::with_carrier();
    let legs = LEGS_PER_TURN + 9;
    let paths: Vec<PathId> = (0..legs).map(|_| rig.leg(vec![icmp()], Combine::All)).collect();
    rig.run_ms(200);
    assert!(paths.iter().all(|&path| rig.alive(path)));
    for _ in 0..2 {
        rig.events();
        rig.carrier(false);
        rig.run_ms(5);
        let down = rig.reported();
        assert_eq!(down.len(), legs);
        assert!(down.iter().all(|event| *event == (false, "carrier".into())), "{:?}", down.last());
        rig.carrier(true);
        rig.run_ms(200);
    }
    let is_damped = |kind: &MonitorEventKind| matches!(kind, MonitorEventKind::Damped { .. });
    assert_eq!(rig.events().iter().filter(|kind| is_damped(kind)).count(), legs);
}

/// The thread was late, and the operator's order came before what the site had answered.
#[test]
fn forgiving_flaps_judges_no_check() {
    let mut rig = Rig::with_carrier();
    let path = rig.leg(vec![icmp()], Combine::All);
    rig.run_ms(200);
    assert!(rig.alive(path));
    rig.reported();
    rig.now += Duration::from_secs(1);
    rig.monitor.clear_damping(rig.now);
    assert!(rig.alive(path));
    assert_eq!(rig.reported(), []);
}

#[test]
fn a_disabled_leg_is_down_whatever_its_checks_say_and_has_not_flapped_by_it() {
    let mut rig = Rig::with_carrier();
    let path = rig.leg(vec![icmp()], Combine::All);
    rig.run_ms(500);
    assert!(rig.alive(path));
    rig.events();
    for _ in 0..5 {
        rig.monitor.set_disabled(rig.now, path, true);
        assert_eq!(rig.reasons(path), [Reason::Operator]);
        rig.run_ms(100);
        assert_eq!(rig.reasons(path), [Reason::Operator], "its checks pass");
        rig.monitor.set_disabled(rig.now, path, false);
        assert!(rig.alive(path), "at once: that is no flapping");
    }
    let events: Vec<(bool, String)> = rig
        .events()
        .into_iter()
        .filter_map(|kind| match kind {
            MonitorEventKind::Leg { up, reason, .. } => Some((up, reason)),
            _ => None,
        })
        .collect();
    let want = [(false, "disabled by an operator"), (true, "enabled by an operator")];
    assert_eq!(events.len(), 10);
    for (nth, (up, reason)) in events.iter().enumerate() {
        assert_eq!((*up, reason.as_str()), want[nth % 2]);
    }
}

#[test]
fn a_damped_leg_that_fails_is_reported_down() {
    let mut rig = Rig::with_carrier();
    let path = rig.leg(vec![icmp()], Combine::All);
    rig.run_ms(500);
    for _ in 0..4 {
        rig.carrier(false);
        rig.carrier(true);
        rig.run_ms(200);
    }
    assert_eq!(rig.reasons(path), [Reason::Damped]);
    let damped = |kind: &MonitorEventKind| matches!(kind, MonitorEventKind::Damped { .. });
    assert!(rig.events().last().is_some_and(damped), "the last word so far");
    rig.carrier(false);
    let down = |kind: &MonitorEventKind| matches!(kind, MonitorEventKind::Leg { up: false, .. });
    assert!(rig.events().iter().any(down));
    assert!(!rig.reasons(path).contains(&Reason::Damped));
}
