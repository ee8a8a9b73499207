//! RFC 4271, section 8.2.2: every event in every state; RFC 5492, 6286, 6608, 9003, 9687.

use State::{Active, Connect, Established, Idle, OpenConfirm, OpenSent};

use super::*;

/// An event of section 8.1.
#[derive(Clone, Copy, Debug)]
enum Do {
    /// 1.
    Start,
    /// 2.
    Stop,
    /// 9: the ConnectRetry timer.
    ConnectRetry,
    /// 10.
    Hold,
    /// 11.
    KeepaliveTimer,
    /// 16.
    Connected,
    /// 17.
    Accepted,
    /// 18.
    Closed,
    /// 19.
    Open,
    /// 20.
    BadHeader,
    /// 21.
    BadOpen,
    /// 24.
    VersionRefused,
    /// 25.
    Notified,
    /// 26.
    Keepalive,
    /// 27.
    Update,
    /// 28.
    BadUpdate,
    /// RFC 2918.
    Refresh,
    /// RFC 9687.
    SendHold,
}

/// What a neighbour that broke the rules is told.
type Told = Option<(u8, u8)>;

fn act(bench: &mut Bench, event: Do) {
    let outgoing = Side::Outgoing;
    match event {
        Do::Start => bench.session.start(bench.now),
        Do::Stop => {
            let notification = Notification::shutdown(codes::ADMIN_SHUTDOWN, "bye");
            bench.session.stop(bench.now, &notification);
        }
        Do::ConnectRetry => bench.pass(Duration::from_secs(31)),
        Do::Hold => {
            let hold = if bench.session.state() == OpenSent { 240 } else { 90 };
            bench.pass(Duration::from_secs(hold));
        }
        Do::KeepaliveTimer => bench.pass(Duration::from_secs(30)),
        Do::Connected => {
            let _ = bench.session.handle_connected(bench.now, outgoing);
        }
        Do::Accepted => {
            let _ = bench.session.handle_connected(bench.now, Side::Incoming);
        }
        Do::Closed => bench.session.handle_closed(bench.now, outgoing),
        Do::Open => bench.hear(outgoing, &bytes_of(&remote_open())),
        Do::BadHeader => bench.hear(outgoing, &[0; 19]),
        Do::BadOpen => {
            let bad = Open { hold_time_s: 2, ..remote_open() };
            bench.hear(outgoing, &bytes_of(&bad));
        }
        Do::VersionRefused => bench.hear(outgoing, &notification(codes::UNSUPPORTED_VERSION)),
        Do::Notified => bench.hear(outgoing, &notification(codes::CONNECTION_REJECTED)),
        Do::Keepalive => bench.hear(outgoing, &keepalive()),
        Do::Update => bench.hear(outgoing, &end_of_rib()),
        Do::BadUpdate => {
            let mut bad = end_of_rib();
            bad[20] = 9;
            bench.hear(outgoing, &bad);
        }
        Do::Refresh => {
            let mut bytes = Vec::new();
            RouteRefresh::of(Family::Ipv4, RefreshKind::Request).put(&mut bytes);
            bench.hear(outgoing, &bytes);
        }
        Do::SendHold => {
            // Something waits, and the neighbour takes nothing.
            bench.session.end_of_rib(Family::Ipv4).expect("an established session");
            assert!(!bench.session.transmit(bench.now, outgoing).is_empty());
            for _ in 0..16 {
                bench.pass(Duration::from_secs(30));
                bench.hear(outgoing, &keepalive());
            }
        }
    }
    bench.poll();
}

const SHUTDOWN: Told = Some(codes::ADMIN_SHUTDOWN);
const HOLD: Told = Some(codes::HOLD_TIMER);
const MARKER: Told = Some(codes::NOT_SYNCHRONIZED);
const IN_SENT: Told = Some((5, 1));
const IN_CONFIRM: Told = Some((5, 2));
const IN_ESTABLISHED: Told = Some((5, 3));

/// Event, state before and after, and what the neighbour is told.
const TABLE: &[(Do, State, State, Told)] = &[
    (Do::Start, Idle, Connect, None),
    (Do::Start, Connect, Connect, None),
    (Do::Start, Active, Active, None),
    (Do::Start, OpenSent, OpenSent, None),
    (Do::Start, OpenConfirm, OpenConfirm, None),
    (Do::Start, Established, Established, None),
    (Do::Stop, Idle, Idle, None),
    (Do::Stop, Connect, Idle, None),
    (Do::Stop, Active, Idle, None),
    (Do::Stop, OpenSent, Idle, SHUTDOWN),
    (Do::Stop, OpenConfirm, Idle, SHUTDOWN),
    (Do::Stop, Established, Idle, SHUTDOWN),
    (Do::ConnectRetry, Idle, Idle, None),
    (Do::ConnectRetry, Connect, Connect, None),
    (Do::ConnectRetry, Active, Connect, None),
    (Do::ConnectRetry, OpenSent, OpenSent, None),
    (Do::ConnectRetry, OpenConfirm, OpenConfirm, None),
    (Do::ConnectRetry, Established, Established, None),
    (Do::Hold, OpenSent, Idle, HOLD),
    (Do::Hold, OpenConfirm, Idle, HOLD),
    (Do::Hold, Established, Idle, HOLD),
    (Do::KeepaliveTimer, OpenConfirm, OpenConfirm, None),
    (Do::KeepaliveTimer, Established, Established, None),
    (Do::Connected, Idle, Idle, None),
    (Do::Connected, Connect, OpenSent, None),
    (Do::Connected, Active, Active, None),
    (Do::Accepted, Idle, Idle, None),
    (Do::Accepted, Connect, OpenSent, None),
    (Do::Accepted, Active, OpenSent, None),
    (Do::Accepted, OpenSent, OpenSent, None),
    (Do::Accepted, OpenConfirm, OpenConfirm, None),
    (Do::Accepted, Established, Established, None),
    (Do::Closed, Idle, Idle, None),
    (Do::Closed, Connect, Active, None),
    (Do::Closed, Active, Active, None),
    (Do::Closed, OpenSent, Active, None),
    (Do::Closed, OpenConfirm, Idle, None),
    (Do::Closed, Established, Idle, None),
    (Do::Open, OpenSent, OpenConfirm, None),
    (Do::Open, OpenConfirm, Idle, IN_CONFIRM),
    (Do::Open, Established, Idle, IN_ESTABLISHED),
    (Do::BadHeader, OpenSent, Idle, MARKER),
    (Do::BadHeader, OpenConfirm, Idle, MARKER),
    (Do::BadHeader, Established, Idle, MARKER),
    (Do::BadOpen, OpenSent, Idle, Some(codes::BAD_HOLD_TIME)),
    (Do::BadOpen, OpenConfirm, Idle, IN_CONFIRM),
    (Do::BadOpen, Established, Idle, IN_ESTABLISHED),
    (Do::VersionRefused, OpenSent, Idle, None),
    (Do::VersionRefused, OpenConfirm, Idle, None),
    (Do::VersionRefused, Established, Idle, None),
    (Do::Notified, OpenSent, Idle, None),
    (Do::Notified, OpenConfirm, Idle, None),
    (Do::Notified, Established, Idle, None),
    (Do::Keepalive, OpenSent, Idle, IN_SENT),
    (Do::Keepalive, OpenConfirm, Established, None),
    (Do::Keepalive, Established, Established, None),
    (Do::Update, OpenSent, Idle, IN_SENT),
    (Do::Update, OpenConfirm, Idle, IN_CONFIRM),
    (Do::Update, Established, Established, None),
    (Do::BadUpdate, OpenSent, Idle, IN_SENT),
    (Do::BadUpdate, OpenConfirm, Idle, IN_CONFIRM),
    (Do::BadUpdate, Established, Idle, Some(codes::MALFORMED_ATTRIBUTES)),
    (Do::Refresh, OpenSent, Idle, IN_SENT),
    (Do::Refresh, OpenConfirm, Idle, IN_CONFIRM),
    (Do::Refresh, Established, Established, None),
    (Do::SendHold, Established, Idle, None),
];

#[test]
fn every_event_in_every_state() {
    for (event, from, to, told) in TABLE {
        let mut bench = Bench::reach(*from);
        act(&mut bench, *event);
        let case = format!("{event:?} in {}", from.label());
        assert_eq!(bench.session.state().label(), to.label(), "{case}");
        let words = bench.last_words().map(|(_, said)| (said.code, said.subcode));
        assert_eq!(words, *told, "{case}");
        // Whoever leaves a connection behind closes it, unless the neighbour did.
        if *from >= OpenSent && *to == Idle && !matches!(event, Do::Closed) {
            assert!(bench.has_closed(Side::Outgoing), "{case}");
        }
        // Idle ends by itself, unless nobody started the session, or somebody stopped it.
        let ends = *from != Idle && !matches!(event, Do::Stop);
        let waits = bench.session.poll_timeout().is_some();
        assert_eq!(waits, *to != Idle || ends, "{case}");
    }
}

#[test]
fn the_way_to_established_and_what_is_said_on_it() {
    let mut bench = Bench::started(config());
    assert_eq!(bench.actions, [Action::Connect { min_ttl: None }]);
    bench.connect(Side::Outgoing);
    assert_eq!(bench.said(Side::Outgoing), [FrameKind::Open]);
    bench.hear(Side::Outgoing, &bytes_of(&remote_open()));
    assert_eq!(bench.said(Side::Outgoing), [FrameKind::Keepalive]);
    assert_eq!(bench.session.negotiated(), None);
    bench.hear(Side::Outgoing, &keepalive());
    assert_eq!(bench.session.negotiated().map(|agreed| agreed.remote_as), Some(REMOTE_AS));
    let state_of = |event: &Event| match event {
        Event::State { to, .. } => Some(*to),
        _ => None,
    };
    let states: Vec<_> = bench.events.iter().filter_map(state_of).collect();
    assert_eq!(states, [Connect, OpenSent, OpenConfirm, Established]);
    let is_established = |event: &&Event| matches!(event, Event::Established(_));
    assert_eq!(bench.events.iter().filter(is_established).count(), 1);
    assert_eq!(bench.session.counters().established, 1);
}

/// Every message is counted once and kept, in both directions, also the last words; and so is what is none.
#[test]
fn what_is_said_and_heard_is_counted_and_kept() {
    let mut bench = Bench::new(config());
    bench.session.keep_transcript(8192);
    bench.session.start(bench.now);
    bench.connect(Side::Outgoing);
    let open = bytes_of(&remote_open());
    bench.hear(Side::Outgoing, &open);
    bench.hear(Side::Outgoing, &keepalive());
    bench.hear(Side::Outgoing, &end_of_rib());
    bench.session.end_of_rib(Family::Ipv4).unwrap();
    bench.session.transmit(bench.now, Side::Outgoing);
    bench.hear(Side::Outgoing, b"nonsense");
    let said = bench.session.transcript();
    let kinds: Vec<_> =
        said.iter().map(|one| (one.is_own, one.kind().map(FrameKind::label))).collect();
    // Those of the same instant: first what is neither UPDATE nor KEEPALIVE.
    let wanted = [
        (true, Some("OPEN")),
        (false, Some("OPEN")),
        (false, None),
        (true, Some("NOTIFICATION")),
        (true, Some("KEEPALIVE")),
        (false, Some("KEEPALIVE")),
        (false, Some("UPDATE")),
        (true, Some("UPDATE")),
    ];
    assert_eq!(kinds, wanted);
    assert_eq!((&said[1].bytes, &said[2].bytes[..]), (&open, &b"nonsense"[..]));
    let Counters { received, sent, .. } = bench.session.counters();
    assert_eq!((received.opens, received.keepalives, received.updates), (1, 1, 1));
    assert_eq!((sent.opens, sent.keepalives, sent.updates, sent.notifications), (1, 1, 1, 1));
    assert_eq!(received.bytes, (open.len() + 19 + 23) as u64);
}

#[test]
fn a_passive_session_waits() {
    let mut passive = config();
    passive.passive = true;
    let mut bench = Bench::started(passive);
    assert_eq!((bench.session.state(), bench.connects()), (Active, 0));
    assert!(!bench.next_timer(), "it waits for the neighbour alone");
    bench.connect(Side::Incoming);
    bench.hear(Side::Incoming, &bytes_of(&remote_open()));
    bench.hear(Side::Incoming, &keepalive());
    assert_eq!(bench.session.state(), Established);
    bench.session.handle_closed(bench.now, Side::Incoming);
    bench.poll();
    assert!(bench.next_timer(), "Idle ends");
    assert_eq!((bench.session.state(), bench.connects()), (Active, 0));
}

#[test]
fn a_dynamic_session_ends_with_its_connection() {
    for to in [OpenSent, OpenConfirm, Established] {
        let mut template = config();
        (template.dynamic, template.remote_as) = (true, RemoteAs::OneOf([1, REMOTE_AS].into()));
        let mut bench = Bench::started(template);
        bench.connect(Side::Incoming);
        if to >= OpenConfirm {
            bench.hear(Side::Incoming, &bytes_of(&remote_open()));
        }
        if to == Established {
            bench.hear(Side::Incoming, &keepalive());
        }
        assert_eq!(bench.session.state(), to);
        bench.session.handle_closed(bench.now, Side::Incoming);
        bench.poll();
        assert!(bench.events.contains(&Event::Ended));
        assert_eq!((bench.session.state(), bench.session.poll_timeout()), (Idle, None));
    }
}

#[test]
fn gtsm_goes_to_whoever_connects() {
    let mut config = config();
    config.min_ttl = Some(254);
    assert_eq!(Bench::started(config).actions, [Action::Connect { min_ttl: Some(254) }]);
}

#[test]
fn the_neighbours_shutdown_text_is_in_the_cause() {
    let mut bench = Bench::reach(Established);
    let mut bytes = Vec::new();
    Notification::shutdown(codes::ADMIN_SHUTDOWN, "back at noon").put(&mut bytes);
    bench.hear(Side::Outgoing, &bytes);
    let cause = bench.cause().expect("a cause").to_string();
    assert!(cause.contains("\"back at noon\""), "{cause}");
    let is_it = |event: &Event| {
        matches!(event, Event::Down { was_established: true, cause: Cause::Received(_) })
    };
    assert!(bench.events.iter().any(is_it));
}

#[test]
fn our_shutdown_text_goes_after_what_was_begun() {
    let mut bench = Bench::reach(Established);
    bench.session.end_of_rib(Family::Ipv4).unwrap();
    // A part of it is gone already.
    let all = bench.session.transmit(bench.now, Side::Outgoing).to_vec();
    bench.session.handle_sent(bench.now, Side::Outgoing, 10);
    let bye = Notification::shutdown(codes::ADMIN_SHUTDOWN, "bye");
    bench.session.stop(bench.now, &bye);
    bench.poll();
    let Some(Action::Close { last, .. }) = bench.actions.last() else { panic!("no close") };
    let whole = [&all[..10], last].concat();
    assert_eq!(kinds(&whole), [FrameKind::Update, FrameKind::Notification]);
    assert_eq!(notification_of(&whole), Some(bye));
}

fn capabilities_said(bench: &mut Bench) -> usize {
    let bytes = bench.session.transmit(bench.now, Side::Outgoing).to_vec();
    wire::decode_open(frames(&bytes)[0].body()).unwrap().capabilities.len()
}

#[test]
fn a_neighbour_that_knows_no_capabilities_gets_none() {
    let mut bench = Bench::reach(OpenSent);
    bench.hear(Side::Outgoing, &notification(codes::UNSUPPORTED_PARAMETER));
    assert!(bench.next_timer());
    bench.connect(Side::Outgoing);
    assert_eq!(capabilities_said(&mut bench), 0);
    bench.hear(Side::Outgoing, &bytes_of(&own_open(&remote_config(), true)));
    bench.hear(Side::Outgoing, &keepalive());
    let families = bench.session.negotiated().map(|agreed| agreed.families);
    assert_eq!(families, Some(PerFamily::only(Family::Ipv4)));
    // The next session begins as usual.
    bench.session.handle_closed(bench.now, Side::Outgoing);
    assert!(bench.next_timer());
    bench.connect(Side::Outgoing);
    assert_ne!(capabilities_said(&mut bench), 0);
}

#[test]
fn without_ipv4_there_is_no_way_without_capabilities() {
    let mut config = config();
    config.families = PerFamily::only(Family::Ipv6);
    let mut bench = Bench::started(config);
    bench.connect(Side::Outgoing);
    bench.hear(Side::Outgoing, &notification(codes::UNSUPPORTED_PARAMETER));
    assert!(bench.next_timer());
    bench.connect(Side::Outgoing);
    assert_ne!(capabilities_said(&mut bench), 0);
}

#[test]
fn of_two_connections_that_of_the_higher_identifier_is_kept() {
    let (higher, lower) = (Ipv4Addr::new(10, 0, 0, 9), Ipv4Addr::new(10, 0, 0, 0));
    let same = config().router_id;
    for (id, asn, kept) in [
        (higher, REMOTE_AS, Side::Incoming),
        (lower, REMOTE_AS, Side::Outgoing),
        // RFC 6286: the AS decides.
        (same, OWN_AS + 1, Side::Incoming),
        (same, OWN_AS - 1, Side::Outgoing),
    ] {
        for first in [Side::Incoming, Side::Outgoing] {
            let mut config = config();
            config.remote_as = RemoteAs::Exactly(asn);
            let mut bench = Bench::started(config);
            bench.connect(Side::Outgoing);
            bench.connect(Side::Incoming);
            let open = own_open(&SessionConfig::new(asn, id, RemoteAs::Any), false);
            bench.hear(first, &bytes_of(&open));
            bench.hear(first.other(), &bytes_of(&open));
            let (closed, words) = bench.last_words().expect("one is closed");
            assert_eq!((closed, words), (kept.other(), Notification::new(codes::COLLISION)));
            assert_eq!(bench.session.state(), OpenConfirm);
            bench.hear(kept, &keepalive());
            assert_eq!(bench.session.state(), Established, "{id} {asn} {first:?}");
        }
    }
}

#[test]
fn an_established_connection_is_kept_whoever_has_the_higher_identifier() {
    for id in [Ipv4Addr::new(10, 0, 0, 9), Ipv4Addr::new(10, 0, 0, 0)] {
        let mut bench = Bench::reach(Established);
        bench.connect(Side::Incoming);
        bench.hear(Side::Incoming, &bytes_of(&Open { router_id: id, ..remote_open() }));
        assert_eq!(bench.last_words().map(|(side, _)| side), Some(Side::Incoming));
        assert_eq!(bench.session.state(), Established);
        let is_lost = |event: &Event| matches!(event, Event::Down { was_established: true, .. });
        assert!(!bench.events.iter().any(is_lost));
    }
}

#[test]
fn a_second_connection_of_the_same_side_is_refused() {
    let mut bench = Bench::reach(Active);
    bench.connect(Side::Incoming);
    for _ in 0..4096 {
        assert_eq!(bench.session.handle_connected(bench.now, Side::Incoming), Err(Refused));
    }
    assert_eq!(bench.session.counters().refused, 4096);
    assert_eq!(bench.session.state(), OpenSent);
    bench.hear(Side::Incoming, &bytes_of(&remote_open()));
    assert_eq!(bench.session.state(), OpenConfirm);
}

/// A neighbour that was started again resets the connection on which it is told something, and does not know of the
/// other one.
#[test]
fn a_connection_whose_other_end_is_gone_keeps_nobody_from_another() {
    let mut bench = Bench::started(config());
    bench.connect(Side::Outgoing);
    bench.connect(Side::Incoming);
    assert!(!bench.session.is_forgotten(bench.now, Side::Incoming), "an OPEN may come");
    bench.session.handle_closed(bench.now, Side::Outgoing);
    assert_eq!(bench.session.state(), OpenSent);
    let before = bench.connects();
    bench.pass(Duration::from_secs(30));
    assert_eq!(bench.connects(), before + 1, "it connects again");
    assert!(bench.session.is_forgotten(bench.now, Side::Incoming));
    bench.hear(Side::Incoming, &bytes_of(&remote_open()));
    assert!(!bench.session.is_forgotten(bench.now, Side::Incoming));
}

#[test]
fn the_attempt_to_connect_ends_when_the_neighbours_connection_stands() {
    let mut bench = Bench::started(config());
    bench.connect(Side::Incoming);
    bench.hear(Side::Incoming, &bytes_of(&remote_open()));
    bench.hear(Side::Incoming, &keepalive());
    assert_eq!(bench.session.state(), Established);
    assert!(bench.has_closed(Side::Outgoing));
    assert_eq!(bench.session.handle_connected(bench.now, Side::Outgoing), Err(Refused));
}

#[test]
fn wrong_as_and_no_id_are_refused_in_the_open() {
    let open_of = |asn, id| own_open(&SessionConfig::new(asn, id, RemoteAs::Any), false);
    for (open, codes) in [
        (open_of(REMOTE_AS + 1, REMOTE_ID), codes::BAD_PEER_AS),
        (open_of(REMOTE_AS, Ipv4Addr::UNSPECIFIED), codes::BAD_IDENTIFIER),
    ] {
        let mut bench = Bench::reach(OpenSent);
        bench.hear(Side::Outgoing, &bytes_of(&open));
        let words = bench.last_words().map(|(_, said)| (said.code, said.subcode));
        assert_eq!(words, Some(codes));
    }
}

#[test]
fn a_message_may_come_an_octet_at_a_time() {
    let mut bench = Bench::reach(OpenSent);
    let all = [bytes_of(&remote_open()), keepalive(), end_of_rib()].concat();
    for octet in all {
        bench.hear(Side::Outgoing, &[octet]);
    }
    assert_eq!(bench.session.state(), Established);
    assert_eq!(bench.received.len(), 1);
}

#[test]
fn a_version_that_is_not_4_is_told_which_one_is() {
    let mut open = bytes_of(&remote_open());
    open[19] = 5;
    let mut bench = Bench::reach(OpenSent);
    bench.hear(Side::Outgoing, &open);
    let words = bench.last_words().map(|(_, said)| said);
    assert_eq!(words, Some(Notification::with(codes::UNSUPPORTED_VERSION, [0, 4])));
}
