use std::collections::HashSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use nearhop_fib::AdjacencyId;
use smoltcp::wire::{Icmpv4Packet, UdpPacket};

use self::packets::{answer, echo_reply, ends, refusal, udp_packet};
use super::*;
use crate::ids::PortId;
use crate::policy::CHECKS_MAX;

mod errors;
mod numbers;
mod packets;

const MS: u64 = 1_000_000;
const PORT: PortId = PortId(3);
const OTHER: PortId = PortId(4);
const SOURCE4: Ipv4Addr = Ipv4Addr::new(10, 1, 0, 1);
const TARGET4: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 53);
const HOP4: Ipv4Addr = Ipv4Addr::new(10, 1, 0, 2);
const SOURCE6: Ipv6Addr = Ipv6Addr::new(0xfd00, 1, 0, 0, 0, 0, 0, 1);
const TARGET6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0x53, 0, 0, 0, 0, 0x53);

fn ms(ms: u64) -> Nanos {
    Nanos(ms * MS)
}

/// A way out by this port.
fn exit(port: PortId) -> Exit {
    Exit { adjacency: AdjacencyId(u32::from(port.0) + 100), port }
}

fn spec(kind: CheckKind, ipv4: bool) -> CheckSpec {
    let (source, target) =
        if ipv4 { (SOURCE4.into(), TARGET4.into()) } else { (SOURCE6.into(), TARGET6.into()) };
    let interval = Duration::from_millis(10);
    CheckSpec {
        kind,
        exit: exit(PORT),
        source,
        target,
        interval,
        fall: 3,
        rise: 1,
        initial_up: false,
    }
}

fn udp() -> CheckKind {
    CheckKind::Udp { port: 7, payload: b"are you there".to_vec() }
}

fn dns() -> CheckKind {
    CheckKind::Dns { port: 53, name: "id.example".into() }
}

fn kinds() -> [CheckKind; 3] {
    [CheckKind::Icmp, udp(), dns()]
}

/// A prober, its clock, and what it sent.
struct Rig {
    prober: Prober,
    now: Nanos,
    sent: Vec<(Nanos, PortId, Vec<u8>)>,
    events: Vec<CheckEvent>,
}

impl Rig {
    fn new() -> Self {
        Self { prober: Prober::new(7), now: Nanos::ZERO, sent: Vec::new(), events: Vec::new() }
    }

    fn with(spec: CheckSpec) -> (Self, CheckId) {
        let mut rig = Self::new();
        let id = rig.prober.add(Nanos::ZERO, spec).unwrap();
        rig.run_until(Nanos::ZERO);
        (rig, id)
    }

    fn drain(&mut self) {
        while let Some(transmit) = self.prober.poll_transmit(self.now) {
            let (port, packet) = (transmit.exit.port, transmit.packet.to_vec());
            self.sent.push((self.now, port, packet));
        }
        while let Some(event) = self.prober.poll_event() {
            self.events.push(event);
        }
    }

    /// Handles every timer when it is due, up to and including `end`.
    fn run_until(&mut self, end: Nanos) {
        self.drain();
        while let Some(at) = self.prober.poll_timeout().filter(|&at| at <= end) {
            self.now = self.now.max(at);
            self.prober.handle_timeout(self.now);
            self.drain();
        }
        self.now = end;
    }

    fn give(&mut self, port: PortId, packet: &[u8]) -> bool {
        let taken = self.prober.handle_packet(self.now, port, packet);
        self.drain();
        taken
    }

    fn last_sent(&self) -> Vec<u8> {
        self.sent.last().unwrap().2.clone()
    }

    /// Answers each request `rtt` after it left, until `end`; requests that leave from `cut` on
    /// vanish.
    fn run_answered(&mut self, end: Nanos, rtt: Duration, cut: Nanos) {
        let mut answered = self.sent.len().saturating_sub(1);
        loop {
            let due =
                self.sent.get(answered).filter(|(at, ..)| *at < cut).map(|(at, ..)| *at + rtt);
            let timer = self.prober.poll_timeout().unwrap_or(end);
            match due.filter(|&due| due <= timer.min(end)) {
                Some(due) => {
                    self.run_until(due);
                    let (_, port, packet) = self.sent[answered].clone();
                    assert!(self.give(port, &answer(&packet)));
                    answered += 1;
                }
                None if timer < end => self.run_until(timer),
                None => return self.run_until(end),
            }
        }
    }

    fn verdicts(&self) -> Vec<(Nanos, bool, Cause)> {
        self.events.iter().map(|event| (event.t, event.up, event.cause)).collect()
    }
}

#[test]
fn every_kind_in_both_families_goes_up_with_an_answer_and_down_without() {
    for kind in kinds() {
        for ipv4 in [true, false] {
            let (mut rig, id) = Rig::with(spec(kind.clone(), ipv4));
            let cut = ms(200);
            rig.run_answered(ms(400), Duration::from_millis(2), cut);
            let last = rig.sent.iter().map(|(at, ..)| *at).filter(|at| *at < cut).max().unwrap();
            assert_eq!(
                rig.verdicts(),
                [
                    (ms(2), true, Cause::Answered),
                    (last + Duration::from_millis(30), false, Cause::Silent),
                ],
                "{kind:?}, IPv4 {ipv4}"
            );
            let stats = rig.prober.stats(id).unwrap();
            assert_eq!(stats.rtt_ewma, Some(Duration::from_millis(2)), "{kind:?}");
            assert_eq!((stats.up, stats.duplicate, stats.late), (false, 0, 0));
            assert!(stats.lost > 15 && stats.sent == stats.answered + stats.lost + 3, "{stats:?}");
        }
    }
}

#[test]
fn a_fault_at_any_phase_is_detected_within_the_budget() {
    for fault_us in (100_000..111_000).step_by(137) {
        let (mut rig, _) = Rig::with(spec(CheckKind::Icmp, true));
        let fault = Nanos(fault_us * 1_000);
        rig.run_answered(ms(300), Duration::from_micros(300), fault);
        let down = rig.events.last().unwrap();
        assert!(!down.up);
        assert!(down.t > fault + Duration::from_millis(20), "fault {fault}, down {}", down.t);
        assert!(down.t <= fault + Duration::from_millis(30), "fault {fault}, down {}", down.t);
    }
}

#[test]
fn forged_answers_do_not_count() {
    let (src, dst) = (IpAddr::from(SOURCE4), IpAddr::from(TARGET4));
    let stranger = IpAddr::from(HOP4);
    for (case, kind, forge) in [
        ("by another port", CheckKind::Icmp, None),
        ("from another source", CheckKind::Icmp, Some((stranger, 0_u16, 0_u16))),
        ("another identifier", CheckKind::Icmp, Some((dst, 1, 0))),
        ("another sequence number", CheckKind::Icmp, Some((dst, 0, 1))),
    ] {
        let (mut rig, _) = Rig::with(spec(kind, true));
        let request = rig.last_sent();
        let Some((from, ident, seq)) = forge else {
            rig.give(OTHER, &answer(&request));
            assert!(rig.events.is_empty(), "{case}");
            continue;
        };
        let icmp = Icmpv4Packet::new_checked(&request[20..]).unwrap();
        let (ident, seq) = (icmp.echo_ident() ^ ident, icmp.echo_seq_no() ^ seq);
        rig.give(PORT, &echo_reply(from, src, ident, seq, icmp.data()));
        assert!(rig.events.is_empty(), "{case}");
        rig.give(PORT, &echo_reply(dst, src, ident, seq, b"guessed!"));
        assert!(rig.events.is_empty(), "{case}: another payload");
        rig.give(PORT, &answer(&request));
        assert_eq!(rig.events.len(), 1, "{case}: the right one");
    }
}

#[test]
fn forged_datagrams_do_not_count() {
    let (me, target) = (IpAddr::from(SOURCE4), IpAddr::from(TARGET4));
    for kind in [udp(), dns()] {
        let (mut rig, id) = Rig::with(spec(kind, true));
        let request = rig.last_sent();
        let (_, _, _, body) = ends(&request);
        let sent = UdpPacket::new_checked(&body[..]).unwrap();
        let (mine, theirs) = (sent.src_port(), sent.dst_port());
        let good = ends(&answer(&request)).3[8..].to_vec();
        let mut wrong_id = good.clone();
        wrong_id[0] ^= 1;
        for (case, from, ports, payload, taken) in [
            ("another address", HOP4.into(), (theirs, mine), &good, false),
            ("another source port", target, (theirs + 1, mine), &good, true),
            ("another destination port", target, (theirs, mine ^ 1), &good, true),
            ("a port below the range", target, (theirs, 4_000), &good, true),
        ] {
            assert_eq!(rig.give(PORT, &udp_packet(from, me, ports, payload)), taken, "{case}");
            assert!(rig.events.is_empty(), "{case}");
        }
        if theirs == 53 {
            assert!(rig.give(PORT, &udp_packet(target, me, (theirs, mine), &wrong_id)));
            assert!(rig.events.is_empty(), "another query's id");
        }
        let mut damaged = udp_packet(target, me, (theirs, mine), &good);
        *damaged.last_mut().unwrap() ^= 0x55;
        assert!(!rig.give(PORT, &damaged), "a wrong checksum");
        assert!(rig.give(PORT, &udp_packet(target, me, (theirs, mine), &good)));
        assert_eq!(rig.events.len(), 1);
        let ignored = rig.prober.stats(id).unwrap().ignored;
        assert_eq!(ignored.of(Ignore::Answer), if theirs == 53 { 4 } else { 3 });
        assert_eq!(rig.prober.totals().stray, 1, "from another address");
    }
}

#[test]
fn a_dns_server_that_fails_is_down_when_the_budget_is_over() {
    let (mut rig, id) = Rig::with(spec(dns(), true));
    rig.give(PORT, &answer(&rig.last_sent()));
    for _ in 0..8 {
        let next = rig.prober.poll_timeout().unwrap();
        rig.run_until(next);
        let (_, _, _, body) = ends(&answer(&rig.last_sent()));
        let udp = UdpPacket::new_checked(&body[..]).unwrap();
        let mut payload = udp.payload().to_vec();
        payload[3] = payload[3] & 0xf0 | 2;
        let ports = (udp.src_port(), udp.dst_port());
        rig.give(PORT, &udp_packet(TARGET4.into(), SOURCE4.into(), ports, &payload));
    }
    assert_eq!(rig.verdicts()[1..], [(ms(30), false, Cause::BadAnswer)]);
    assert!(rig.prober.stats(id).unwrap().bad >= 3);
}

#[test]
fn dns_ids_are_fresh_and_source_ports_lie_in_the_range() {
    let (mut rig, _) = Rig::with(spec(dns(), true));
    rig.run_until(ms(500));
    let ids: HashSet<_> = rig.sent.iter().map(|(_, _, p)| [p[28], p[29]]).collect();
    assert!(ids.len() + 1 >= rig.sent.len());
    let ports: HashSet<_> =
        rig.sent.iter().map(|(_, _, p)| u16::from_be_bytes([p[20], p[21]])).collect();
    assert_eq!(ports.len(), 1);
    assert!(ports.iter().all(|port| SOURCE_PORTS.contains(port)));
}

#[test]
fn a_timer_handled_late_is_no_verdict_if_the_answer_came_in_time() {
    let (mut rig, id) = Rig::with(spec(CheckKind::Icmp, true));
    rig.give(PORT, &answer(&rig.last_sent()));
    rig.run_until(ms(29));
    let newest = rig.last_sent();
    // The thread sleeps until 80 ms; the answer lay in the lane since 29.999 ms.
    assert!(rig.prober.handle_packet(Nanos(30 * MS - 1), PORT, &answer(&newest)));
    let due = rig.sent.last().unwrap().0 + Duration::from_millis(30);
    rig.now = due - Duration::from_nanos(1);
    rig.prober.handle_timeout(rig.now);
    rig.drain();
    assert_eq!(rig.events.len(), 1, "still up");
    rig.now = ms(80);
    rig.prober.handle_timeout(rig.now);
    rig.drain();
    let down = rig.events[1];
    assert_eq!((down.up, down.due, down.t), (false, due, ms(80)));
    assert_eq!(rig.prober.totals().lateness_max, ms(80).since(due));
    assert!(!rig.prober.stats(id).unwrap().up);
}

#[test]
fn a_port_without_carrier_is_silent_and_its_checks_are_down_at_once() {
    let mut rig = Rig::new();
    let first = rig.prober.add(rig.now, spec(CheckKind::Icmp, true)).unwrap();
    let elsewhere = CheckSpec { exit: exit(OTHER), ..spec(CheckKind::Icmp, true) };
    rig.prober.add(rig.now, elsewhere).unwrap();
    rig.run_until(Nanos(10_000));
    for (_, port, packet) in rig.sent.clone() {
        rig.give(port, &answer(&packet));
    }
    assert_eq!(rig.events.len(), 2);
    rig.now = ms(1);
    rig.prober.set_carrier(rig.now, PORT, false);
    rig.prober.set_carrier(rig.now, PORT, false);
    rig.drain();
    assert_eq!(rig.verdicts()[2..], [(ms(1), false, Cause::Carrier)]);
    assert_eq!(rig.events[2].check, first);

    let added = CheckSpec { initial_up: true, ..spec(udp(), false) };
    rig.prober.add(rig.now, added).unwrap();
    rig.drain();
    assert_eq!(rig.verdicts()[3..], [(ms(1), false, Cause::Carrier)], "known at once");

    let before = rig.sent.len();
    rig.run_until(ms(100));
    assert!(rig.sent[before..].iter().all(|(_, port, _)| *port == OTHER));
    rig.events.clear();
    rig.prober.set_carrier(ms(100), PORT, true);
    let before = rig.sent.len();
    rig.run_until(ms(100) + Duration::from_micros(10));
    let (at, port, packet) = rig.sent[before].clone();
    assert_eq!((at, port), (ms(100), PORT), "at once");
    rig.give(PORT, &answer(&packet));
    assert!(rig.events.iter().any(|event| event.check == first && event.up));
}

#[test]
fn many_checks_neither_burst_nor_drift() {
    let mut rig = Rig::new();
    for n in 0..2_000_u32 {
        let target = IpAddr::from(Ipv4Addr::from(0xc633_0000 + n));
        let interval = Duration::from_millis(100);
        rig.prober
            .add(rig.now, CheckSpec { target, interval, ..spec(CheckKind::Icmp, true) })
            .unwrap();
    }
    rig.run_until(ms(1_200));
    let mut per_ms = vec![0; 1_200];
    for (at, ..) in &rig.sent {
        per_ms[((at.0 / MS) as usize).min(1_199)] += 1;
    }
    let steady = &per_ms[200..1_200];
    let (least, most) = (steady.iter().min().unwrap(), steady.iter().max().unwrap());
    assert!(*least >= 14 && *most <= 26, "20 a millisecond, spread: {least} to {most}");
    assert_eq!(steady.iter().sum::<i32>(), 20_000);
}

#[test]
fn removed_checks_are_forgotten_and_names_are_not_mistaken() {
    let (mut rig, id) = Rig::with(spec(CheckKind::Icmp, true));
    let request = rig.last_sent();
    rig.prober.remove(id);
    rig.prober.remove(id);
    assert_eq!(rig.prober.stats(id), None);
    assert!(!rig.give(PORT, &answer(&request)));
    rig.run_until(ms(1_000));
    assert_eq!((rig.sent.len(), rig.events.len()), (1, 0));
    let mut seen = HashSet::from([id]);
    for _ in 0..3 * CHECKS_MAX {
        let next = rig.prober.add(rig.now, spec(CheckKind::Icmp, true)).unwrap();
        assert!(seen.insert(next), "{next:?} twice");
        rig.prober.remove(next);
    }
}

#[test]
fn what_cannot_be_checked_is_refused() {
    let mut prober = Prober::new(1);
    let long = CheckKind::Udp { port: 1, payload: vec![0; 1_233] };
    let mixed = CheckSpec { target: TARGET6.into(), ..spec(CheckKind::Icmp, true) };
    for (spec, want) in [
        (mixed.clone(), AddError::Family { source_addr: mixed.source, target: mixed.target }),
        (spec(long, true), AddError::Payload(1_233)),
        (spec(CheckKind::Tcp { port: 80 }, true), AddError::WrongPlace),
        (
            spec(CheckKind::Dns { port: 53, name: "a..b".into() }, true),
            AddError::Name(NameError::EmptyLabel),
        ),
    ] {
        assert_eq!(prober.add(Nanos::ZERO, spec), Err(want));
    }
    for _ in 0..CHECKS_MAX {
        prober.add(Nanos::ZERO, spec(CheckKind::Icmp, true)).unwrap();
    }
    assert_eq!(prober.add(Nanos::ZERO, spec(CheckKind::Icmp, true)), Err(AddError::Full));
}

proptest::proptest! {
    #[test]
    fn no_packet_makes_it_panic_or_come_up(
        bytes in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..200),
        cut in 0..100_usize,
        flips in proptest::collection::vec((0..100_usize, 1..=255_u8), 1..4),
        kind in 0..3_usize,
    ) {
        let (mut rig, id) = Rig::with(spec(kinds()[kind].clone(), cut % 2 == 0));
        rig.give(PORT, &bytes);
        for packet in [answer(&rig.last_sent()), refusal(&rig.last_sent(), cut)] {
            rig.give(PORT, &packet[..cut.min(packet.len())]);
            let mut flipped = packet.clone();
            for (at, bits) in &flips {
                let at = at % flipped.len();
                flipped[at] ^= bits;
            }
            rig.give(PORT, &flipped);
        }
        // A flipped hop limit or traffic class does no harm: the answer may still be right.
        proptest::prop_assert!(rig.prober.stats(id).unwrap().answered <= 1);
    }
}

/// A check of an answering target whose answers lie unread from 100 ms on, and when it is due.
fn unread_rig() -> (Rig, Nanos) {
    let (mut rig, _) = Rig::with(spec(CheckKind::Icmp, true));
    rig.run_answered(ms(100), Duration::from_micros(100), ms(100));
    assert_eq!(rig.events.last().map(|event| event.up), Some(true));
    while let Some(at) = rig.prober.poll_timeout() {
        rig.now = at;
        rig.prober.handle_timeout_unless(at, |_, _| true);
        let before = rig.sent.len();
        rig.drain();
        if rig.sent.len() == before {
            return (rig, at);
        }
    }
    unreachable!("a check always has a timer")
}

#[test]
fn a_check_whose_port_has_unread_packets_is_not_called_silent() {
    let (mut rig, due) = unread_rig();
    rig.now = due + Duration::from_micros(300);
    let answers: Vec<_> = rig.sent.iter().rev().take(2).map(|sent| answer(&sent.2)).collect();
    for answer in answers.iter().rev() {
        assert!(rig.give(PORT, answer));
    }
    rig.run_until(due + Duration::from_millis(8));
    assert!(rig.events.last().unwrap().up, "{:?}", rig.verdicts());
}

#[test]
fn unread_packets_do_not_put_a_verdict_off_for_ever() {
    let (mut rig, due) = unread_rig();
    while rig.events.last().unwrap().up {
        rig.now = rig.prober.poll_timeout().unwrap();
        rig.prober.handle_timeout_unless(rig.now, |port, _| port == PORT);
        rig.drain();
    }
    let late = rig.events.last().unwrap().t.since(due);
    assert!(late <= check::HOLD_MAX + Duration::from_millis(1), "{late:?}");
    assert!(late + Duration::from_millis(5) > check::HOLD_MAX, "{late:?}");
}

/// The thread got no turn: nothing was asked meanwhile, or only just before the verdict was due.
#[test]
fn a_check_that_was_not_asked_is_not_called_silent() {
    for first_turn in [24, 29, 60, 500] {
        let (mut rig, _) = Rig::with(spec(CheckKind::Icmp, true));
        rig.run_answered(ms(100), Duration::from_micros(100), ms(100));
        let last = rig.sent.last().unwrap().0;
        rig.now = last + Duration::from_millis(first_turn);
        let (mut asked, mut looked_for) = (None, None);
        // Nobody answers from now on.
        while rig.events.last().unwrap().up {
            rig.prober.handle_timeout_unless(rig.now, |_, due| {
                looked_for = Some(due);
                false
            });
            let before = rig.sent.len();
            rig.drain();
            if rig.sent.len() > before {
                asked.get_or_insert(rig.now);
            }
            rig.now = rig.prober.poll_timeout().unwrap().max(rig.now);
        }
        let down = rig.events.last().unwrap().t;
        let patience = Duration::from_millis(20);
        assert_eq!(down, asked.unwrap() + patience, "first turn after {first_turn} ms");
        assert_eq!(looked_for, Some(down), "answers to these may have come until then");
    }
}
