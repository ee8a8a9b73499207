//! What checks find out: how they are combined, whose answers count, and what a reload of them changes.

use super::*;
use crate::put_back::{PutBack, for_tests};

/// Of the checks that a leg had before a reload, when it has others.
#[test]
fn verdicts_about_checks_that_are_no_more_do_not_count() {
    let after_an_old_verdict = || {
        let mut rig = Rig::new();
        rig.carrier(true);
        let path = rig.leg(vec![tcp()], Combine::All);
        rig.monitor.handle_tcp_verdict(tcp_key(path, 0), &verdict(&rig, true));
        assert!(rig.alive(path));
        let checks = vec![tcp()];
        let spec = LegSpec { version: 8, ..leg(path, checks) };
        rig.monitor.add_leg(rig.now, spec).unwrap();
        rig.monitor.handle_tcp_verdict(tcp_key(path, 0), &verdict(&rig, false));
        rig.alive(path)
    };
    assert!(after_an_old_verdict());
    assert!(!for_tests::with(PutBack::OldVerdicts, after_an_old_verdict), "it would be noticed");
}

/// Nothing is asked, so nothing would ever say that the site is dead.
#[test]
fn a_leg_whose_checks_cannot_be_done_stays_down_and_says_why() {
    let mut rig = Rig::with_carrier();
    let path = rig.leg(vec![], Combine::All);
    assert!(rig.alive(path));
    rig.reported();
    let possible = LegSpec { combine: Combine::Any, ..leg(path, vec![]) };
    let why = "no check is possible: there is no address";
    let spec = LegSpec { impossible: Some(why.into()), ..possible.clone() };
    assert_eq!(spec.initial_reasons().iter().collect::<Vec<_>>(), [Reason::Health]);
    rig.monitor.add_leg(rig.now, spec.clone()).unwrap();
    assert_eq!((rig.alive(path), rig.reported()), (false, vec![leg_event(false, why)]));
    rig.carrier(false);
    rig.carrier(true);
    assert_eq!((rig.alive(path), rig.reported()), (false, vec![]));
    assert_eq!(rig.monitor.undecided(), 0, "this is its verdict");
    // With an address it is down until it has answered.
    rig.monitor.add_leg(rig.now, LegSpec { checks: vec![icmp()], ..possible.clone() }).unwrap();
    assert!(!rig.alive(path));
    rig.run_ms(100);
    assert!(rig.alive(path));
    rig.monitor.add_leg(rig.now, spec).unwrap();
    assert!(!rig.alive(path));
    rig.monitor.add_leg(rig.now, possible).unwrap();
    assert_eq!(rig.reasons(path), [Reason::Damped], "nothing to ask any more, but it flapped");
}

#[test]
fn checks_are_combined_as_configured() {
    use Power::{Off, On, ServerDead};
    use Reason::{Health, Probe};
    for (combine, power, reasons) in [
        (Combine::All, On, &[][..]),
        (Combine::All, ServerDead, &[Health]),
        (Combine::All, Off, &[Probe, Health]),
        (Combine::Any, On, &[]),
        (Combine::Any, ServerDead, &[]),
        (Combine::Any, Off, &[Probe, Health]),
    ] {
        let mut rig = Rig::with_carrier();
        let path = rig.leg(vec![icmp(), dns()], combine);
        assert_eq!(rig.reasons(path), [Probe, Health], "before the first result");
        rig.run_ms(100);
        assert_eq!(rig.reasons(path), []);
        rig.site.power = power;
        rig.run_ms(100);
        assert_eq!(rig.reasons(path), reasons, "{combine:?} {power:?}");
        rig.site.power = On;
        rig.run_ms(100);
        assert!(rig.alive(path));
    }
}

#[test]
fn any_of_two_that_are_both_unknown_comes_up_with_the_first() {
    let mut rig = Rig::with_carrier();
    rig.site.power = Power::ServerDead;
    let path = rig.leg(vec![icmp(), dns()], Combine::Any);
    rig.run_ms(100);
    assert!(rig.alive(path));
    assert_eq!(rig.monitor.undecided(), 0, "the query was refused, which is a verdict");
}

#[test]
fn what_is_not_known_yet_is_no_news_unless_it_is_configured_up() {
    let mut rig = Rig::with_carrier();
    rig.site.power = Power::Off;
    let path = rig.leg(vec![icmp()], Combine::All);
    assert_eq!((rig.reported(), rig.monitor.undecided()), (vec![], 1));
    rig.run_ms(100);
    assert_eq!(
        (rig.reported(), rig.monitor.undecided()),
        (vec![leg_event(false, "probe silent")], 0)
    );
    assert!(!rig.alive(path));
    let path = rig.leg(vec![CheckSpec { initial_up: true, ..icmp() }], Combine::All);
    assert!(rig.alive(path));
    assert_eq!(rig.reported(), [leg_event(true, "initial")]);
    rig.run_ms(100);
    assert_eq!(rig.reported(), [leg_event(false, "probe silent")]);
}

#[test]
fn the_host_stack_says_of_tcp() {
    let mut rig = Rig::with_carrier();
    let path = rig.leg(vec![icmp(), tcp()], Combine::All);
    rig.run_ms(50);
    assert_eq!(rig.reasons(path), [Reason::Health]);
    assert_eq!(rig.monitor.undecided(), 1);
    let up = verdict(&rig, true);
    rig.monitor.handle_tcp_verdict(tcp_key(path, 1), &up);
    assert!(rig.alive(path));
    let down = verdict(&rig, false);
    rig.monitor.handle_tcp_verdict(tcp_key(path, 1), &down);
    assert_eq!(rig.reasons(path), [Reason::Health]);
    assert_eq!(
        rig.reported(),
        [leg_event(true, "health answered"), leg_event(false, "health reset")]
    );
    // News of what is not there any more.
    rig.monitor.handle_tcp_verdict(tcp_key(path, 7), &up);
    rig.monitor.remove_leg(path);
    rig.monitor.handle_tcp_verdict(tcp_key(path, 1), &up);
    assert_eq!(rig.reasons(path), [Reason::Health]);
}

#[test]
fn what_tcp_said_before_a_cut_counts_no_more_after_it() {
    let mut rig = Rig::with_carrier();
    let path = rig.leg(vec![tcp()], Combine::All);
    let up = verdict(&rig, true);
    rig.monitor.handle_tcp_verdict(tcp_key(path, 0), &up);
    assert!(rig.alive(path));
    rig.run_ms(1);
    rig.carrier(false);
    rig.carrier(true);
    assert_eq!(rig.reasons(path), [Reason::Health]);
    rig.monitor.handle_tcp_verdict(tcp_key(path, 0), &up);
    assert_eq!(rig.reasons(path), [Reason::Health], "on its way since before the cut");
    let up = verdict(&rig, true);
    let of_others = TcpCheckKey { version: 6, ..tcp_key(path, 0) };
    rig.monitor.handle_tcp_verdict(of_others, &up);
    assert_eq!(rig.reasons(path), [Reason::Health], "of the checks that it had before");
    rig.monitor.handle_tcp_verdict(tcp_key(path, 0), &up);
    assert!(rig.alive(path));
}

#[test]
fn a_check_that_cannot_be_done_leaves_nothing_behind() {
    let mut rig = Rig::with_carrier();
    let wrong = CheckSpec { target: "2001:db8::53".parse().unwrap(), ..icmp() };
    let checks = vec![icmp(), dns(), wrong.clone()];
    let path = rig.writer.add_path_down(1, ACCEPT_ALL, Reason::Probe.into()).unwrap();
    let spec = leg(path, checks);
    let error = rig.monitor.add_leg(rig.now, spec.clone()).unwrap_err();
    assert!(matches!(error, AddError::Family { .. }), "{error}");
    assert_eq!((rig.monitor.stats(path), rig.monitor.undecided()), (vec![], 0));
    rig.run_ms(100);
    assert_eq!((rig.sent, rig.events()), (0, vec![]));
    assert_eq!(rig.reasons(path), [Reason::Probe], "as it was");
    // One that is watched already goes on as before.
    let good = LegSpec { checks: vec![icmp()], ..spec.clone() };
    rig.monitor.add_leg(rig.now, good).unwrap();
    rig.run_ms(50);
    assert!(rig.alive(path));
    assert!(rig.monitor.add_leg(rig.now, spec).is_err());
    rig.site.power = Power::Off;
    rig.run_ms(50);
    assert_eq!(
        rig.reported(),
        [leg_event(true, "probe answered"), leg_event(false, "probe silent")]
    );
}

#[test]
fn other_checks_begin_as_the_old_ones_ended() {
    let mut rig = Rig::with_carrier();
    let path = rig.leg(vec![icmp()], Combine::All);
    rig.run_ms(50);
    rig.events();
    let spec = leg(path, vec![dns()]);
    rig.monitor.add_leg(rig.now, spec.clone()).unwrap();
    assert!(rig.alive(path));
    rig.run_ms(100);
    assert_eq!(rig.reported(), [], "nothing changed");
    rig.site.power = Power::ServerDead;
    rig.run_ms(20);
    assert_eq!(rig.reasons(path), [Reason::Health]);
    // A leg that is down stays so, for the reason of its new checks.
    let spec = LegSpec { checks: vec![CheckSpec { initial_up: true, ..icmp() }], ..spec };
    rig.monitor.add_leg(rig.now, spec).unwrap();
    assert_eq!(rig.reasons(path), [Reason::Probe]);
    rig.run_ms(50);
    assert_eq!(
        rig.reported(),
        [leg_event(false, "health refused"), leg_event(true, "probe answered")]
    );
}

#[test]
fn what_is_removed_is_neither_asked_nor_reported() {
    let mut rig = Rig::with_carrier();
    let path = rig.leg(vec![icmp(), dns()], Combine::All);
    rig.run_ms(50);
    assert_eq!(rig.monitor.stats(path).len(), 2);
    rig.events();
    rig.monitor.remove_leg(path);
    rig.monitor.remove_port(PORT);
    let sent = rig.sent;
    rig.run_ms(200);
    rig.carrier(false);
    assert_eq!((rig.sent, rig.events(), rig.monitor.stats(path).len()), (sent, vec![], 0));
}

#[test]
fn round_trips_are_those_of_probes() {
    let mut rig = Rig::with_carrier();
    let probed = rig.leg(vec![dns(), icmp()], Combine::All);
    let unprobed = rig.leg(vec![dns()], Combine::All);
    rig.run_ms(200);
    let times: BTreeMap<PathId, Duration> = rig.monitor.round_trips();
    assert_eq!(times.get(&probed), Some(&Duration::from_millis(1)));
    assert_eq!(times.get(&unprobed), None);
}
