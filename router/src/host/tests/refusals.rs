//! What takes a TCP check down at once, and what is counted only.

use std::collections::BTreeSet;

use super::*;
use crate::probe::{CheckId, CheckStats, Ignore};

/// A check whose attempts nobody answers, and its first SYN.
fn asking(family: usize) -> (Pair, TcpChecker, CheckId, Vec<u8>) {
    let mut pair = Pair::new(family);
    let mut checker = TcpChecker::new();
    let spec = CheckSpec { interval: Duration::from_secs(10), ..spec(family, 100) };
    let id = checker.add(pair.now, &pair.hosts[0], spec).unwrap();
    pair.cut = true;
    assert!(run_checks(&mut pair, &mut checker, ms(5)).is_empty());
    let syn = pair.sent[0].1.packet.clone();
    (pair, checker, id, syn)
}

/// Gives packets to the host that asks, and returns what the check says.
fn give(pair: &mut Pair, checker: &mut TcpChecker, packets: &[&[u8]]) -> Vec<CheckEvent> {
    for packet in packets {
        pair.hosts[0].handle_packet(pair.now, PORT, packet);
    }
    let end = pair.now + Duration::from_millis(1);
    run_checks(pair, checker, end)
}

/// An ICMP error by `from` that quotes `keep` bytes of the segment.
fn error(from: &str, family: usize, packet: &[u8], kind: (u8, u8), keep: usize) -> Vec<u8> {
    let header: usize = [20, 40][family];
    let mut body = vec![kind.0, kind.1, 0, 0, 0, 0, 0, 0];
    body.extend(&packet[..packet.len().min(header.saturating_add(keep))]);
    ip(from, PAIRS[family].0, [1, 58][family], body, 2)
}

/// A segment from the server of the check that sent `syn`, by offset from the right acknowledgement.
fn answer(family: usize, syn: &[u8], ack_off: u32, flags: u8) -> Vec<u8> {
    let (us, them) = PAIRS[family];
    let (_, _, _, body) = parts(syn);
    let seq = u32::from_be_bytes(body[4..8].try_into().unwrap());
    let mine = u16::from_be_bytes([body[0], body[1]]);
    tcp(them, us, (80, mine), 7_000, seq.wrapping_add(1).wrapping_add(ack_off), flags)
}

/// What was ignored about a check, once its attempts are over.
fn ignored(pair: &mut Pair, checker: &mut TcpChecker, id: CheckId) -> CheckStats {
    checker.set_carrier(pair.now, &mut pair.hosts[0], PORT, false);
    checker.stats(id).unwrap()
}

const REFUSED: [(u8, u8); 2] = [(3, 3), (1, 4)];

#[test]
fn a_refusal_by_the_target_that_quotes_the_syn_fails_an_attempt_at_once() {
    for family in [0, 1] {
        for keep in [8, 20, usize::MAX] {
            let (mut pair, mut checker, _, syn) = asking(family);
            let at = pair.now;
            let error = error(PAIRS[family].1, family, &syn, REFUSED[family], keep);
            let events = give(&mut pair, &mut checker, &[&error]);
            let (kind, code) = REFUSED[family];
            let cause = Cause::Refused { kind, code };
            assert_eq!((events.len(), events[0].t, events[0].cause), (1, at, cause));
        }
    }
}

#[test]
fn errors_that_are_no_refusal_or_prove_nothing_are_counted() {
    for family in [0, 1] {
        let (mut pair, mut checker, id, syn) = asking(family);
        let (them, hop) = (PAIRS[family].1, ["10.0.0.77", "fd00::77"][family]);
        let refused = REFUSED[family];
        let of_way = [[(11, 0), (3, 4), (12, 0)], [(3, 0), (2, 0), (4, 1)]][family];
        let gone = [[(3, 0), (3, 1), (3, 13)], [(1, 0), (1, 3), (1, 1)]][family];
        let header = [20, 40][family];
        let changed = |at: usize| {
            let mut packet = syn.clone();
            packet[at] ^= 1;
            packet
        };
        let mut packets = Vec::new();
        for from in [them, hop] {
            packets.extend(of_way.map(|kind| error(from, family, &syn, kind, usize::MAX)));
            packets.extend(gone.map(|kind| error(from, family, &syn, kind, usize::MAX)));
        }
        packets.push(error(hop, family, &syn, refused, usize::MAX));
        packets.push(error(them, family, &syn, refused, 7));
        // Each byte of the sequence number, and of the identification or flow label.
        let secret = [[4, 5], [2, 3]][family];
        for at in (header + 4..header + 8).chain(secret) {
            packets.push(error(them, family, &changed(at), refused, usize::MAX));
        }
        // Blindly: another source port.
        packets.push(error(them, family, &changed(header + 1), refused, usize::MAX));
        let all: Vec<_> = packets.iter().map(Vec::as_slice).collect();
        assert_eq!(give(&mut pair, &mut checker, &all), []);
        let error = error(them, family, &syn, refused, usize::MAX);
        pair.hosts[0].handle_packet(pair.now, OTHER, &error);
        assert_eq!(give(&mut pair, &mut checker, &[]), []);
        let stats = ignored(&mut pair, &mut checker, id);
        let counts = Ignore::ALL.map(|reason| (reason, stats.ignored.of(reason)));
        assert_eq!(
            counts,
            [
                (Ignore::Unreachable, 7),
                (Ignore::Transit, 6),
                (Ignore::Mismatch, 7),
                (Ignore::ShortQuote, 1),
                (Ignore::OtherPort, 1),
                (Ignore::Stale, 0),
                (Ignore::Answer, 0),
            ],
            "family {family}"
        );
        assert_eq!(stats.last_error.unwrap().from, addr(hop));
    }
}

#[test]
fn a_reset_counts_only_with_the_acknowledgement_of_the_syn() {
    const RST_ACK: u8 = 0x14;
    for family in [0, 1] {
        let (mut pair, mut checker, id, syn) = asking(family);
        let forged = [
            answer(family, &syn, 1, RST_ACK),
            answer(family, &syn, u32::MAX, RST_ACK),
            answer(family, &syn, 0, 0x04),
            // A SYN would begin a simultaneous open, which the reset after it would end.
            answer(family, &syn, 0, 0x02),
            answer(family, &syn, 0, 0x04),
            answer(family, &syn, 1, RST_ACK),
        ];
        let all: Vec<_> = forged.iter().map(Vec::as_slice).collect();
        assert_eq!(give(&mut pair, &mut checker, &all), []);
        assert_eq!(pair.hosts[0].stats().unacknowledged, 6);
        let mut damaged = answer(family, &syn, 0, RST_ACK);
        *damaged.last_mut().unwrap() ^= 0x40;
        assert_eq!(give(&mut pair, &mut checker, &[&damaged]), [], "a wrong checksum");
        // A second connection, from another port, is reset too.
        let before = pair.sent.len();
        assert_eq!(give(&mut pair, &mut checker, &[&answer(family, &syn, 0, RST_ACK)]), []);
        let mut syns = pair.sent[before..].iter().map(|(_, out)| &out.packet);
        let again = syns.find(|packet| parts(packet).3[13] & 0x16 == 0x02).unwrap().clone();
        assert_ne!(parts(&again).3[..2], parts(&syn).3[..2]);
        let events = give(&mut pair, &mut checker, &[&answer(family, &again, 0, RST_ACK)]);
        assert_eq!((events.len(), events[0].cause), (1, Cause::Reset), "family {family}");
        assert_eq!(ignored(&mut pair, &mut checker, id).ignored.of(Ignore::Answer), 6);
    }
}

/// A server that accepts and closes at once does listen.
#[test]
fn a_reset_after_the_handshake_is_no_refusal() {
    for family in [0, 1] {
        let (mut pair, mut checker, id, syn) = asking(family);
        let open = answer(family, &syn, 0, 0x12);
        let (us, them) = PAIRS[family];
        let (_, _, _, body) = parts(&syn);
        let mine = u16::from_be_bytes([body[0], body[1]]);
        let reset = tcp(them, us, (80, mine), 7_001, 0, 4);
        assert_eq!(give(&mut pair, &mut checker, &[&open, &reset]), [], "rise is 2");
        let stats = checker.stats(id).unwrap();
        assert_eq!((stats.answered, stats.bad), (1, 0), "family {family}");
    }
}

/// What is half open at the server, by a stranger or because a reset was lost, is reset, and the
/// attempt goes on from another port, once.
#[test]
fn an_answer_about_another_connection_is_reset_and_costs_no_attempt() {
    for family in [0, 1] {
        let (mut pair, mut checker, id, syn) = asking(family);
        for flags in [[0x12, 0x10], [0x10, 0x12]][family] {
            let before = pair.sent.len();
            let wrong = answer(family, &syn, 99, flags);
            assert_eq!(give(&mut pair, &mut checker, &[&wrong]), []);
            let sent: Vec<_> = pair.sent[before..].iter().map(|(_, out)| &out.packet).collect();
            let with = |flag: u8| sent.iter().filter(move |p| parts(p).3[13] & 0x16 == flag);
            let ack = &parts(&wrong).3[8..12];
            let reset = with(0x04).any(|packet| parts(packet).3[4..8] == *ack);
            assert!(reset, "the reset that the target believes");
            let syns: Vec<_> = with(0x02).collect();
            let stats = checker.stats(id).unwrap();
            assert_eq!(syns.len(), usize::from(stats.answered == 0), "once");
            if let Some(again) = syns.first() {
                assert_ne!(parts(again).3[..2], parts(&syn).3[..2]);
                let open = answer(family, again, 0, 0x12);
                assert_eq!(give(&mut pair, &mut checker, &[&open]), [], "rise is 2");
            }
        }
        let stats = checker.stats(id).unwrap();
        assert_eq!((stats.sent, stats.answered, stats.lost), (1, 1, 0), "family {family}");
    }
}

#[test]
fn segments_of_checks_bear_random_identifications_or_labels() {
    for family in [0, 1] {
        let mut pair = Pair::new(family);
        let mut checker = TcpChecker::new();
        pair.hosts[1].tcp_listen(None, 80, TcpOptions::default()).unwrap();
        checker.add(pair.now, &pair.hosts[0], spec(family, 3)).unwrap();
        run_checks(&mut pair, &mut checker, ms(300));
        let ours = pair.sent.iter().filter(|(side, _)| *side == 0).map(|(_, out)| &out.packet);
        let is_syn = |packet: &&Vec<u8>| parts(packet).3[13] & 0x12 == 0x02;
        let syns: Vec<_> = ours.filter(is_syn).collect();
        let secrets: BTreeSet<_> = syns
            .iter()
            .map(|packet| match family {
                0 => u32::from_be_bytes([0, 0, packet[4], packet[5]]),
                _ => u32::from_be_bytes([0, packet[1] & 0xf, packet[2], packet[3]]),
            })
            .collect();
        assert!(syns.len() >= 29 && secrets.len() + 1 >= syns.len(), "family {family}");
        assert!(family == 1 || syns.iter().all(|packet| packet[6] & 0x40 != 0), "DF");
    }
}

#[test]
fn a_check_has_few_ports_and_draws_them_each_minute_or_after_a_forgery() {
    for forged in [false, true] {
        let mut pair = Pair::new(0);
        let mut checker = TcpChecker::new();
        pair.delay = Duration::from_micros(500);
        pair.hosts[1].tcp_listen(None, 80, TcpOptions::default()).unwrap();
        let spec = CheckSpec { interval: Duration::from_millis(50), ..spec(0, 4) };
        let id = checker.add(pair.now, &pair.hosts[0], spec).unwrap();
        let mut ports = Vec::new();
        let mut syn = Vec::new();
        while pair.now < ms(29_500) {
            let end = pair.now + Duration::from_millis(50);
            run_checks(&mut pair, &mut checker, end);
            for (_, out) in pair.sent.drain(..).filter(|(side, _)| *side == 0) {
                let body = parts(&out.packet).3;
                if body[13] & 0x12 == 0x02 {
                    ports.push(u16::from_be_bytes([body[0], body[1]]));
                    syn = out.packet;
                }
            }
            if forged {
                // It comes too late for the attempt, from somebody who knows the port.
                let packet = error(PAIRS[0].1, 0, &syn, REFUSED[0], 8);
                pair.hosts[0].handle_packet(pair.now, PORT, &packet);
            }
        }
        let all: BTreeSet<_> = ports.iter().collect();
        let draws = if forged { 3 } else { 1 };
        assert!(all.len() <= draws * check::PORTS, "{} of {}", all.len(), ports.len());
        assert!(all.len() + 2 >= draws * check::PORTS, "{} of {}", all.len(), ports.len());
        let stats = checker.stats(id).unwrap();
        assert!(stats.up && stats.lost == 0 && stats.answered >= 580, "{stats:?}");
        assert_eq!(stats.ignored.of(Ignore::Mismatch) > 500, forged, "{stats:?}");
    }
}
