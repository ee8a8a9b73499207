//! The carrier of a port: for all of its legs at once, and stronger than any check.

use super::super::carrier::LEGS_PER_TURN;
use super::*;

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
