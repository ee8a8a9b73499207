//! Hold, keepalive and send hold timers, and how soon a session is tried again.

use super::*;

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn keepalives_come_three_times_in_the_hold_time_and_silence_ends_it() {
    let mut bench = Bench::reach(State::Established);
    let begin = bench.now;
    let mut said = 0;
    while bench.session.state() == State::Established {
        assert!(bench.next_timer() && said < 100);
        said += bench.said(Side::Outgoing).len();
    }
    assert_eq!(bench.now.since(begin), Duration::from_secs(90), "the hold time");
    assert!((3..=4).contains(&said), "{said} keepalives");
    let words = bench.last_words().map(|(_, said)| said);
    assert_eq!(words, Some(Notification::new(codes::HOLD_TIMER)));
}

#[test]
fn whatever_the_neighbour_says_keeps_the_session() {
    for word in [keepalive(), end_of_rib()] {
        let mut bench = Bench::reach(State::Established);
        for _ in 0..10 {
            bench.pass(Duration::from_secs(89));
            bench.said(Side::Outgoing);
            bench.hear(Side::Outgoing, &word);
        }
        assert_eq!(bench.session.state(), State::Established);
    }
}

#[test]
fn without_hold_time_nothing_is_said_and_silence_is_no_error() {
    let mut bench = Bench::reach(State::OpenSent);
    let open = Open { hold_time_s: 0, ..remote_open() };
    bench.hear(Side::Outgoing, &bytes_of(&open));
    bench.hear(Side::Outgoing, &keepalive());
    bench.said(Side::Outgoing);
    bench.pass(Duration::from_hours(24));
    assert_eq!(bench.session.state(), State::Established);
    assert_eq!((bench.said(Side::Outgoing), bench.session.poll_timeout()), (vec![], None));
}

#[test]
fn a_neighbour_whose_message_waits_unread_is_not_silent() {
    let mut bench = Bench::reach(State::Established);
    bench.session.handle_bytes(Side::Outgoing, &end_of_rib());
    let receive =
        |bench: &mut Bench, room| bench.session.receive(bench.now, &mut bench.store, room);
    assert_eq!(receive(&mut bench, false), Progress::Full);
    for _ in 0..100 {
        bench.pass(Duration::from_secs(10));
        bench.said(Side::Outgoing);
        assert_eq!(receive(&mut bench, false), Progress::Full);
    }
    assert_eq!(bench.session.state(), State::Established);
    assert!(bench.session.poll_timeout().is_some_and(|due| due > bench.now), "it does not spin");
    // Read at last, its silence counts from now.
    assert!(matches!(receive(&mut bench, true), Progress::Received(_)));
    bench.pass(Duration::from_secs(89));
    assert_eq!(bench.session.state(), State::Established);
    bench.pass(SECOND);
    assert_eq!(bench.session.state(), State::Idle);
}

#[test]
fn half_a_message_does_not_keep_the_session() {
    let mut bench = Bench::reach(State::Established);
    bench.hear(Side::Outgoing, &end_of_rib()[..20]);
    bench.pass(Duration::from_secs(90));
    assert_eq!(bench.session.state(), State::Idle);
}

#[test]
fn a_neighbour_that_never_reads_is_given_up_and_takes_little_memory() {
    let mut config = config();
    config.send_hold = Some(Duration::from_mins(10));
    let mut bench = Bench::started(config);
    bench.connect(Side::Outgoing);
    bench.hear(Side::Outgoing, &bytes_of(&remote_open()));
    bench.hear(Side::Outgoing, &keepalive());
    bench.said(Side::Outgoing);
    bench.actions.clear();
    let begin = bench.now;
    let mut med = 0;
    while bench.session.state() == State::Established {
        med += 1;
        assert!(bench.now.since(begin) <= Duration::from_mins(10), "it is not given up");
        let attributes = routes::route(med);
        for number in 0..1000 {
            bench.session.announce(routes::nlri(number), &attributes).unwrap();
        }
        assert!(bench.session.transmit(bench.now, Side::Outgoing).len() < 32 << 10);
        assert!(bench.session.unsent() <= 1000);
        bench.session.handle_sent(bench.now, Side::Outgoing, 0);
        bench.pass(SECOND);
        // It says enough.
        bench.hear(Side::Outgoing, &keepalive());
    }
    assert_eq!(bench.now.since(begin), Duration::from_mins(10));
    assert_eq!(bench.cause(), Some(Cause::SendHold));
    let reset = Action::Close { side: Side::Outgoing, last: Vec::new() };
    assert!(bench.actions.contains(&reset), "{:?}", bench.actions);
}

#[test]
fn a_neighbour_that_reads_slowly_is_kept() {
    let mut bench = Bench::reach(State::Established);
    bench.session.end_of_rib(Family::Ipv4).unwrap();
    for _ in 0..20 {
        assert!(!bench.session.transmit(bench.now, Side::Outgoing).is_empty());
        bench.session.handle_sent(bench.now, Side::Outgoing, 1);
        bench.pass(Duration::from_mins(1));
        bench.hear(Side::Outgoing, &keepalive());
    }
    assert_eq!(bench.session.state(), State::Established);
}

#[test]
fn the_send_hold_time_is_eight_minutes_or_twice_the_hold_time() {
    let config = config();
    assert_eq!(config.send_hold(Duration::from_secs(90)), Duration::from_mins(8));
    assert_eq!(config.send_hold(Duration::from_mins(10)), Duration::from_mins(20));
}

/// A neighbour that says its OPEN, and closes. How long nothing is tried then.
fn fail_once(bench: &mut Bench) -> Duration {
    bench.connect(Side::Outgoing);
    bench.hear(Side::Outgoing, &bytes_of(&remote_open()));
    bench.session.handle_closed(bench.now, Side::Outgoing);
    bench.poll();
    assert_eq!(bench.session.state(), State::Idle);
    let begin = bench.now;
    assert_eq!(bench.session.handle_connected(bench.now, Side::Incoming), Err(Refused));
    while bench.session.state() == State::Idle {
        assert!(bench.next_timer());
    }
    bench.now.since(begin)
}

#[test]
fn a_neighbour_that_fails_again_and_again_waits_longer_each_time() {
    let mut bench = Bench::started(config());
    let waits: Vec<Duration> = (0..12).map(|_| fail_once(&mut bench)).collect();
    for (step, wait) in waits.iter().enumerate() {
        let most = (SECOND * (1 << step)).min(Duration::from_mins(2));
        assert!(*wait <= most && *wait >= most * 3 / 4, "after {step}: {wait:?}");
    }
    // A start forgets it.
    let bye = Notification::new(codes::ADMIN_RESET);
    bench.session.stop(bench.now, &bye);
    bench.session.start(bench.now);
    bench.poll();
    assert!(fail_once(&mut bench) <= SECOND);
}

#[test]
fn a_session_that_stood_for_long_is_tried_again_soon() {
    let mut bench = Bench::started(config());
    for _ in 0..5 {
        fail_once(&mut bench);
    }
    bench.connect(Side::Outgoing);
    bench.hear(Side::Outgoing, &bytes_of(&remote_open()));
    for _ in 0..3 {
        bench.hear(Side::Outgoing, &keepalive());
        bench.pass(Duration::from_mins(1));
        bench.said(Side::Outgoing);
    }
    bench.session.handle_closed(bench.now, Side::Outgoing);
    let due = bench.session.poll_timeout().expect("it is tried again");
    assert!(due.since(bench.now) <= SECOND);
}

#[test]
fn a_neighbour_that_restarts_twenty_times_a_second_gets_a_session_once_in_a_while() {
    let mut passive = config();
    passive.passive = true;
    let mut bench = Bench::started(passive);
    let mut accepted = 0;
    for _ in 0..20 * 60 {
        if bench.session.handle_connected(bench.now, Side::Incoming).is_ok() {
            accepted += 1;
            bench.hear(Side::Incoming, &bytes_of(&remote_open()));
            bench.hear(Side::Incoming, &keepalive());
            assert_eq!(bench.session.state(), State::Established);
            bench.session.handle_closed(bench.now, Side::Incoming);
        }
        bench.pass(Duration::from_millis(50));
    }
    assert!((5..=8).contains(&accepted), "{accepted} in a minute: after 0, 1, 3, 7, 15, 31 s");
}

#[test]
fn attempts_to_connect_are_repeated_with_jitter() {
    let mut bench = Bench::started(config());
    let mut spans = Vec::new();
    for attempt in 2..12 {
        let begin = bench.now;
        bench.session.handle_closed(bench.now, Side::Outgoing);
        assert_eq!(bench.session.state(), State::Active);
        assert!(bench.next_timer());
        assert_eq!(bench.connects(), attempt);
        spans.push(bench.now.since(begin));
    }
    let (least, most) = (spans.iter().min().unwrap(), spans.iter().max().unwrap());
    assert!(*least >= SECOND * 22 && *most <= SECOND * 30 && least != most, "{spans:?}");
}

#[test]
fn an_attempt_that_gets_no_answer_is_given_up_before_the_next() {
    let mut bench = Bench::started(config());
    assert!(bench.next_timer());
    let expected = [
        Action::Connect { min_ttl: None },
        Action::Close { side: Side::Outgoing, last: vec![] },
        Action::Connect { min_ttl: None },
    ];
    assert_eq!(bench.actions, expected);
}

#[test]
fn a_clock_that_stands_or_jumps_breaks_nothing() {
    let mut bench = Bench::reach(State::Established);
    for _ in 0..1000 {
        bench.session.handle_timeout(bench.now);
    }
    assert_eq!(bench.session.state(), State::Established);
    bench.session.handle_timeout(Nanos::ZERO);
    assert_eq!(bench.session.state(), State::Established);
    bench.session.handle_timeout(Nanos(u64::MAX));
    bench.poll();
    assert_eq!(bench.session.state(), State::Idle);
    assert!(bench.session.poll_timeout().is_some());
}

#[test]
fn too_many_prefixes_end_the_session_until_the_restart_timer() {
    for restart_after in [Some(Duration::from_mins(30)), None] {
        let mut bench = Bench::reach(State::Established);
        let limit = PrefixLimit { max: 10, warn_at: 8, restart_after };
        bench.session.config.max_prefixes.ipv4 = Some(limit);
        for count in 1..=10 {
            bench.session.handle_prefix_count(bench.now, Family::Ipv4, count);
            bench.session.handle_prefix_count(bench.now, Family::Ipv6, 1000);
        }
        bench.poll();
        let near = Event::PrefixesNearLimit { family: Family::Ipv4, count: 8 };
        assert_eq!(bench.events, [near], "once");
        bench.session.handle_prefix_count(bench.now, Family::Ipv4, 11);
        bench.poll();
        let words = bench.last_words().map(|(_, said)| said);
        let data = [0, 1, 1, 0, 0, 0, 10];
        assert_eq!(words, Some(Notification::with(codes::MAX_PREFIXES, data)), "RFC 4486");
        assert_eq!(bench.session.state(), State::Idle);
        let begin = bench.now;
        assert_eq!(bench.next_timer(), restart_after.is_some());
        if let Some(after) = restart_after {
            assert_eq!(bench.now.since(begin), after);
        }
        bench.session.start(bench.now);
        assert_eq!(bench.session.state(), State::Connect);
    }
}
