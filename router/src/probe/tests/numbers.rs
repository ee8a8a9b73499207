//! What requests bear that nobody else knows.

use std::collections::BTreeSet;

use smoltcp::wire::{IpProtocol, Ipv4Packet, Ipv6Packet};

use super::super::draw::REDRAW_EVERY;
use super::*;

/// The source port or echo identifier of a request.
fn number(request: &[u8]) -> u16 {
    let (_, _, protocol, body) = ends(request);
    let at = if protocol == IpProtocol::Udp { 0 } else { 4 };
    u16::from_be_bytes([body[at], body[at + 1]])
}

fn ident(request: &[u8]) -> u16 {
    Ipv4Packet::new_checked(request).unwrap().ident()
}

fn label(request: &[u8]) -> u32 {
    Ipv6Packet::new_checked(request).unwrap().flow_label()
}

#[test]
fn each_ipv4_request_has_an_identification_of_its_own_and_forbids_fragments() {
    for kind in kinds() {
        let (mut rig, _) = Rig::with(spec(kind.clone(), true));
        rig.run_until(ms(1_000));
        let requests = || rig.sent.iter().map(|(_, _, packet)| packet.as_slice());
        let all: BTreeSet<_> = requests().map(ident).collect();
        assert!(all.len() + 2 >= rig.sent.len(), "{kind:?}: {} of {}", all.len(), rig.sent.len());
        assert!(requests().all(|packet| Ipv4Packet::new_checked(packet).unwrap().dont_frag()));
        assert!(
            requests().all(|packet| Ipv4Packet::new_checked(packet).unwrap().verify_checksum())
        );
    }
}

#[test]
fn numbers_and_flow_labels_are_drawn_each_minute_and_not_for_each_request() {
    for kind in kinds() {
        for ipv4 in [true, false] {
            let spec = CheckSpec { fall: 6, ..spec(kind.clone(), ipv4) };
            let (mut rig, id) = Rig::with(spec);
            let end = Nanos::ZERO + 3 * REDRAW_EVERY + Duration::from_secs(1);
            // Answers come after several more requests: some are to the number before.
            rig.run_answered(end, Duration::from_millis(25), end);
            let mut runs: Vec<(u16, u32)> = rig
                .sent
                .iter()
                .map(|(_, _, packet)| (number(packet), if ipv4 { 0 } else { label(packet) }))
                .collect();
            runs.dedup();
            let numbers: BTreeSet<u16> = runs.iter().map(|run| run.0).collect();
            assert_eq!((runs.len(), numbers.len()), (4, 4), "{kind:?}, IPv4 {ipv4}: {runs:?}");
            let labels: BTreeSet<u32> = runs.iter().map(|run| run.1).collect();
            assert_eq!(labels.len(), if ipv4 { 1 } else { 4 }, "{runs:x?}");
            assert!(ipv4 || labels.iter().any(|label| *label > 0xffff), "20 bits: {runs:x?}");
            let stats = rig.prober.stats(id).unwrap();
            assert_eq!((stats.lost, stats.late, stats.duplicate), (0, 0, 0), "{kind:?}");
            assert_eq!(rig.events.len(), 1, "up, and never down");
        }
    }
}

#[test]
fn numbers_are_unique_for_each_target_and_not_for_the_router() {
    for kind in [CheckKind::Icmp, udp()] {
        let mut prober = Prober::new(3);
        let mut numbers = Vec::new();
        for n in 0..2_048_u32 {
            // Two targets, by several ports.
            let target = Ipv4Addr::from(0xc633_6400 + n % 2).into();
            let exit = exit(PortId(n as u16 % 7));
            let spec = CheckSpec { exit, target, ..spec(kind.clone(), true) };
            prober.add(Nanos::ZERO, spec).unwrap();
        }
        prober.handle_timeout(ms(20));
        while let Some(transmit) = prober.poll_transmit(ms(20)) {
            let (_, target, ..) = ends(transmit.packet);
            numbers.push((target, number(transmit.packet)));
        }
        let unique: BTreeSet<_> = numbers.iter().collect();
        assert_eq!((numbers.len(), unique.len()), (2_048, 2_048), "{kind:?}");
        if kind != CheckKind::Icmp {
            let ports: BTreeSet<_> = numbers.iter().map(|(_, port)| *port).collect();
            assert!(ports.len() < 2_048, "two targets have some in common");
        }
    }
}

#[test]
fn a_target_with_as_many_checks_as_ports_keeps_them() {
    let mut rig = Rig::new();
    let interval = REDRAW_EVERY + Duration::from_secs(1);
    let spec = CheckSpec { interval, ..spec(udp(), true) };
    let ids: Vec<_> =
        (0..CHECKS_MAX).map(|_| rig.prober.add(rig.now, spec.clone()).unwrap()).collect();
    assert_eq!(rig.prober.add(rig.now, spec.clone()), Err(AddError::Full));
    // Those whose second request is late enough try to draw again.
    rig.run_until(Nanos::ZERO + interval);
    assert!(rig.sent.iter().any(|(at, ..)| *at >= Nanos::ZERO + REDRAW_EVERY));
    let used: BTreeSet<_> = rig.sent.iter().map(|(_, _, packet)| number(packet)).collect();
    assert_eq!(used.len(), CHECKS_MAX);
    rig.prober.remove(ids[77]);
    rig.prober.add(rig.now, spec).unwrap();
}

#[test]
fn a_removed_check_frees_both_its_numbers() {
    let mut rig = Rig::new();
    for round in 0..3 {
        let (mut id, start) = (None, rig.now);
        for _ in 0..4 {
            id = Some(rig.prober.add(rig.now, spec(udp(), true)).unwrap());
        }
        rig.run_until(start + REDRAW_EVERY + Duration::from_millis(15));
        let request = rig.last_sent();
        assert!(rig.give(PORT, &answer(&request)), "round {round}");
        let last = id.unwrap();
        for slot in 0..4 {
            rig.prober.remove(CheckId(last.0 - slot));
        }
        assert!(!rig.give(PORT, &answer(&request)), "round {round}");
        assert!(rig.prober.numbers_in_use() == 0, "round {round}");
    }
}

#[test]
fn names_are_asked_for_in_a_random_case_and_answers_may_have_any() {
    let kind = CheckKind::Dns { port: 53, name: "a-rather-long-name.example".into() };
    let (mut rig, id) = Rig::with(spec(kind, true));
    rig.run_until(ms(1_000));
    let names: BTreeSet<_> =
        rig.sent.iter().map(|(_, _, packet)| packet[40..67].to_vec()).collect();
    assert!(names.len() + 2 >= rig.sent.len(), "{} of {}", names.len(), rig.sent.len());
    assert!(
        names.iter().all(|name| name.eq_ignore_ascii_case(b"\x12a-rather-long-name\x07example"))
    );
    let request = rig.last_sent();
    for change in [<[u8]>::make_ascii_lowercase, <[u8]>::make_ascii_uppercase] {
        let (_, _, _, body) = ends(&answer(&request));
        let (ports, mut payload) = ((53, number(&request)), body[8..].to_vec());
        change(&mut payload[12..]);
        assert!(rig.give(PORT, &udp_packet(TARGET4.into(), SOURCE4.into(), ports, &payload)));
    }
    let stats = rig.prober.stats(id).unwrap();
    assert_eq!((stats.answered, stats.duplicate), (1, 1));
}
