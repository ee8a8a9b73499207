//! Carrier, checks and damping against a site that answers or does not.

use std::collections::VecDeque;
use std::net::IpAddr;

use nearhop_fib::{ACCEPT_ALL, AdjacencyId, Writer, fib};

use super::carrier::LEGS_PER_TURN;
use super::*;
use crate::batch::Exit;
use crate::liveness::event::MonitorEventKind;
use crate::liveness::leg::Crowd;
use crate::policy::Combine;
use crate::put_back::{PutBack, for_tests};
use crate::sim::{Power, Site};

const PORT: PortId = PortId(1);
/// The first adjacency of a FIB.
const EXIT: Exit = Exit { adjacency: AdjacencyId(0), port: PORT };
const SOURCE: &str = "10.1.0.1";
const TARGET: &str = "198.51.100.53";

/// A monitor with one port, a site behind it, and a clock.
struct Rig {
    writer: Writer,
    fib: Handle,
    adjacency: AdjacencyId,
    monitor: Monitor,
    site: Site,
    now: Nanos,
    answers: VecDeque<(Nanos, Vec<u8>)>,
    sent: usize,
}

impl Rig {
    /// The port has no carrier yet.
    fn new() -> Self {
        let (mut writer, fib) = fib(1);
        let adjacency = writer.add_adjacency(PORT.0, 1).unwrap();
        assert_eq!(adjacency, EXIT.adjacency);
        let mut monitor = Monitor::new(fib.clone(), Arc::new(AtomicU64::new(0)), 7);
        monitor.add_port(PORT);
        monitor.add_adjacency(EXIT);
        let target: IpAddr = TARGET.parse().unwrap();
        let site = Site::new("fra", &[target]);
        let (now, answers) = (Nanos(1_000_000_000), VecDeque::new());
        Self { writer, fib, adjacency, monitor, site, now, answers, sent: 0 }
    }

    fn with_carrier() -> Self {
        let mut rig = Self::new();
        rig.carrier(true);
        rig.events();
        rig
    }

    fn carrier(&mut self, up: bool) {
        self.monitor.handle_carrier(self.now, PORT, up);
    }

    fn leg(&mut self, checks: Vec<CheckSpec>, combine: Combine) -> PathId {
        let spec = LegSpec { combine, ..leg(PathId(0), checks) };
        let reasons = spec.initial_reasons();
        let path = self.writer.add_path_down(1, ACCEPT_ALL, reasons).unwrap();
        self.monitor.add_leg(self.now, LegSpec { path, ..spec }).unwrap();
        path
    }

    fn alive(&self, path: PathId) -> bool {
        self.fib.path_reasons(path).is_alive()
            && self.fib.adjacency_reasons(self.adjacency).is_alive()
    }

    fn reasons(&self, path: PathId) -> Vec<Reason> {
        self.fib.path_reasons(path).iter().collect()
    }

    /// Runs the clock; the site answers after a millisecond.
    fn run_ms(&mut self, ms: u64) {
        let end = self.now + Duration::from_millis(ms);
        loop {
            while let Some(transmit) = self.monitor.poll_transmit(self.now) {
                assert_eq!(transmit.exit, EXIT);
                self.sent += 1;
                if let Some(answer) = self.site.answer(transmit.packet) {
                    self.answers.push_back((self.now + Duration::from_millis(1), answer));
                }
            }
            let answer = self.answers.front().map(|&(at, _)| at);
            let due = answer.into_iter().chain(self.monitor.poll_timeout()).min();
            let Some(due) = due.filter(|&due| due <= end) else { break };
            self.now = self.now.max(due);
            while let Some((_, answer)) = self.answers.pop_front_if(|(at, _)| *at <= self.now) {
                self.monitor.handle_packet(self.now, PORT, &answer);
            }
            self.monitor.handle_timeout(self.now);
        }
        self.now = end;
    }

    fn events(&mut self) -> Vec<MonitorEventKind> {
        std::iter::from_fn(|| self.monitor.poll_event()).map(|event| event.kind).collect()
    }

    /// What was reported of legs: up or down, and why.
    fn reported(&mut self) -> Vec<(bool, String)> {
        let reported = self.events().into_iter().filter_map(|kind| match kind {
            MonitorEventKind::Leg { up, reason, .. } => Some((up, reason)),
            _ => None,
        });
        reported.collect()
    }

    /// Takes the carrier away and brings it back, so that the leg flaps.
    fn flap(&mut self, times: usize) {
        for _ in 0..times {
            self.carrier(false);
            self.run_ms(5);
            self.carrier(true);
            self.run_ms(5);
        }
    }
}

fn check(kind: CheckKind) -> CheckSpec {
    CheckSpec {
        kind,
        exit: EXIT,
        source: SOURCE.parse().unwrap(),
        target: TARGET.parse().unwrap(),
        interval: Duration::from_millis(10),
        fall: 3,
        rise: 2,
        initial_up: false,
    }
}

/// A leg with these checks, all of which have to pass.
fn leg(path: PathId, checks: Vec<CheckSpec>) -> LegSpec {
    LegSpec {
        path,
        version: 7,
        exit: EXIT,
        checks,
        combine: Combine::All,
        impossible: None,
        disabled: false,
        crowd: None,
    }
}

fn tcp_key(path: PathId, index: usize) -> TcpCheckKey {
    TcpCheckKey { path, version: 7, index }
}

fn icmp() -> CheckSpec {
    check(CheckKind::Icmp)
}

fn dns() -> CheckSpec {
    check(CheckKind::Dns { port: 53, name: "www.example.".into() })
}

fn tcp() -> CheckSpec {
    check(CheckKind::Tcp { port: 80 })
}

fn verdict(rig: &Rig, up: bool) -> CheckEvent {
    let cause = if up { Cause::Answered } else { Cause::Reset };
    CheckEvent { check: CheckId(0), t: rig.now, due: rig.now, up, cause }
}

fn leg_event(up: bool, reason: &str) -> (bool, String) {
    (up, reason.to_owned())
}

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

#[test]
fn without_checks_the_carrier_alone_decides() {
    let mut rig = Rig::new();
    let path = rig.leg(vec![], Combine::All);
    assert!(!rig.alive(path), "there is no carrier before it is reported");
    assert_eq!(rig.reported(), [leg_event(false, "initial")]);
    for up in [true, false] {
        rig.carrier(up);
        assert_eq!(rig.alive(path), up);
        let carrier = MonitorEventKind::Carrier { port: PORT, up };
        let leg = MonitorEventKind::Leg { path, up, reason: "carrier".into(), rtt: None };
        assert_eq!(rig.events(), [carrier, leg]);
        rig.carrier(up);
        assert_eq!(rig.events(), [], "reported twice");
    }
    assert_eq!(rig.reasons(path), [], "the adjacency's byte says it all");
    assert!(rig.fib.adjacency_reasons(rig.adjacency).has(Reason::Carrier));
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
fn a_device_that_is_gone_takes_its_carrier_with_it() {
    let mut rig = Rig::with_carrier();
    let path = rig.leg(vec![], Combine::All);
    assert!(rig.alive(path));
    rig.events();
    rig.monitor.handle_gone(rig.now, PORT, 7);
    assert!(!rig.alive(path));
    let carrier = MonitorEventKind::Carrier { port: PORT, up: false };
    let leg = MonitorEventKind::Leg { path, up: false, reason: "carrier".into(), rtt: None };
    let gone = MonitorEventKind::Gone { port: PORT, ifindex: 7 };
    assert_eq!(rig.events(), [carrier, leg, gone]);
    // The same adjacency with a new device.
    rig.monitor.add_port(PORT);
    rig.monitor.add_adjacency(EXIT);
    assert!(!rig.alive(path));
    rig.carrier(true);
    assert!(rig.alive(path));
}

#[test]
fn a_carrier_that_returns_is_not_enough_where_checks_have_to_pass() {
    let mut rig = Rig::with_carrier();
    let path = rig.leg(vec![icmp()], Combine::All);
    rig.run_ms(50);
    assert_eq!(rig.reported(), [leg_event(true, "probe answered")]);
    rig.carrier(false);
    assert!(!rig.alive(path));
    assert_eq!(rig.reasons(path), [Reason::Probe]);
    let sent = rig.sent;
    rig.run_ms(100);
    assert_eq!(rig.sent, sent, "nothing is sent without carrier");
    rig.carrier(true);
    assert!(!rig.alive(path));
    rig.run_ms(50);
    assert!(rig.alive(path));
    assert_eq!(rig.reported(), [leg_event(false, "carrier"), leg_event(true, "probe answered")]);
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

#[test]
fn a_port_with_very_many_legs_moves_their_packets_at_once_and_says_of_them_in_turns() {
    let mut rig = Rig::with_carrier();
    let legs = 3 * LEGS_PER_TURN + 7;
    let paths: Vec<PathId> = (0..legs).map(|_| rig.leg(vec![], Combine::All)).collect();
    rig.events();
    rig.carrier(false);
    assert!(paths.iter().all(|&path| !rig.alive(path)), "one byte moves all");
    assert_eq!(rig.events().len(), 1 + LEGS_PER_TURN, "the carrier, and a turn of legs");
    assert!(rig.monitor.is_behind() && rig.monitor.poll_timeout() == Some(rig.now));
    rig.monitor.handle_timeout(rig.now);
    assert_eq!(rig.events().len(), LEGS_PER_TURN);

    // Back before all were reported: those who were not hear of both.
    rig.carrier(true);
    while rig.monitor.is_behind() {
        rig.monitor.handle_timeout(rig.now);
    }
    assert_eq!(rig.events().len(), (legs - 2 * LEGS_PER_TURN) + 1 + legs);
    assert!(paths.iter().all(|&path| rig.alive(path)));
    assert_eq!(rig.monitor.poll_timeout(), None);
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
fn carrier_reaches_every_adjacency_of_a_port_before_it_is_reported_and_no_other_port() {
    const OTHER: PortId = PortId(2);
    let mut rig = Rig::with_carrier();
    let exits: Vec<Exit> = (0..4096)
        .map(|_| Exit { adjacency: rig.writer.add_adjacency(PORT.0, 1).unwrap(), port: PORT })
        .collect();
    let elsewhere = Exit { adjacency: rig.writer.add_adjacency(OTHER.0, 1).unwrap(), port: OTHER };
    rig.monitor.add_port(OTHER);
    rig.monitor.handle_carrier(rig.now, OTHER, true);
    for &exit in exits.iter().chain([&elsewhere]) {
        rig.monitor.add_adjacency(exit);
    }
    let down = |rig: &Rig| {
        let reasons = |exit: &&Exit| !rig.fib.adjacency_reasons(exit.adjacency).is_alive();
        exits.iter().filter(reasons).count()
    };
    assert_eq!(down(&rig), 0, "born with the carrier of their port");
    rig.carrier(false);
    assert_eq!(down(&rig), exits.len());
    assert!(rig.fib.adjacency_reasons(elsewhere.adjacency).is_alive());
    rig.monitor.remove_adjacency(exits[0]);
    rig.carrier(true);
    assert_eq!(down(&rig), 1, "the one that was removed follows no more");
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

/// Four sites behind one port that all answer, each with a path.
fn crowd(rig: &mut Rig, threshold: u8) -> [PathId; 4] {
    let paths = [0, 1, 2, 3].map(|site| {
        let crowd = Some(Crowd { service: 9, site, threshold });
        let spec = LegSpec { crowd, ..leg(PathId(0), vec![icmp()]) };
        let path = rig.writer.add_path_down(1, ACCEPT_ALL, spec.initial_reasons()).unwrap();
        rig.monitor.add_leg(rig.now, LegSpec { path, ..spec }).unwrap();
        path
    });
    rig.run_ms(100);
    assert!(paths.iter().all(|&path| rig.alive(path)));
    rig.events();
    paths
}

/// Which legs are doubted from when, and which not any more.
fn doubts(rig: &mut Rig) -> (usize, usize) {
    let (mut begun, mut ended) = (0, 0);
    for kind in rig.events() {
        if let MonitorEventKind::Doubted { until, .. } = kind {
            *if until.is_some() { &mut begun } else { &mut ended } += 1;
        }
    }
    (begun, ended)
}

fn alive(rig: &Rig, paths: &[PathId]) -> usize {
    paths.iter().filter(|&&path| rig.alive(path)).count()
}

#[test]
fn checks_that_call_most_sites_dead_at_once_have_to_say_so_twice() {
    let mut rig = Rig::with_carrier();
    let paths = crowd(&mut rig, 50);
    rig.site.power = Power::Off;
    // 30 ms to fall, and 50 ms more until the others are believed: 3 to fall, and 2 to rise.
    rig.run_ms(60);
    assert_eq!(alive(&rig, &paths), 2, "half of them are believed");
    assert_eq!(doubts(&mut rig), (2, 0));
    rig.run_ms(60);
    assert_eq!(alive(&rig, &paths), 0, "a second burst agrees");
    rig.site.power = Power::On;
    rig.run_ms(20_000);
    assert_eq!(alive(&rig, &paths), 4);
}

#[test]
fn sites_that_answer_again_in_time_were_never_out_of_use() {
    let mut rig = Rig::with_carrier();
    let paths = crowd(&mut rig, 50);
    rig.site.power = Power::Off;
    rig.run_ms(50);
    assert_eq!(alive(&rig, &paths), 2);
    rig.site.power = Power::On;
    for _ in 0..1000 {
        rig.run_ms(1);
        assert!(alive(&rig, &paths) >= 2);
    }
    assert_eq!(doubts(&mut rig), (2, 2));
    assert_eq!(alive(&rig, &paths), 4);
}

#[test]
fn carrier_is_believed_whatever_the_checks_of_others_say() {
    let mut rig = Rig::with_carrier();
    let paths = crowd(&mut rig, 50);
    rig.site.power = Power::Off;
    rig.run_ms(50);
    assert_eq!(alive(&rig, &paths), 2);
    rig.carrier(false);
    assert_eq!(alive(&rig, &paths), 0);
    assert_eq!(doubts(&mut rig), (2, 2));
    rig.carrier(true);
    assert_eq!(alive(&rig, &paths), 0, "what its checks said before the carrier was lost is said");
}

/// The first is, of two as of one; at 100 percent all are.
#[test]
fn a_threshold_leaves_the_first_and_a_hundred_all() {
    for (threshold, left) in [(1, 3), (50, 2), (75, 1), (100, 0)] {
        let mut rig = Rig::with_carrier();
        let paths = crowd(&mut rig, threshold);
        rig.site.power = Power::Off;
        rig.run_ms(50);
        assert_eq!(alive(&rig, &paths), left, "{threshold} percent");
    }
}

/// One dies, is back, and dies again, ten times in a second: never more than one is dead.
#[test]
fn sites_that_are_back_do_not_count() {
    let mut rig = Rig::with_carrier();
    let paths = crowd(&mut rig, 50);
    let key = |site| TcpCheckKey { version: 7, ..tcp_key(paths[site], 0) };
    for turn in 0..12 {
        let site = turn % paths.len();
        let refused = verdict(&rig, false);
        rig.monitor.handle_tcp_verdict(key(site), &refused);
        assert!(!rig.alive(paths[site]), "turn {turn}: it is believed");
        let answered = verdict(&rig, true);
        rig.monitor.handle_tcp_verdict(key(site), &answered);
    }
    assert_eq!(doubts(&mut rig), (0, 0));
}
