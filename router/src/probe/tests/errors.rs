//! ICMP errors: which take a check down, and which are counted only.

use super::packets::error;
use super::*;

/// Every kind of check in both families.
fn every_check() -> impl Iterator<Item = (CheckKind, bool)> {
    kinds().into_iter().flat_map(|kind| [(kind.clone(), true), (kind, false)])
}

/// A check that is up and has one request outstanding.
fn asked(kind: &CheckKind, ipv4: bool) -> (Rig, CheckId) {
    let (mut rig, id) = Rig::with(spec(kind.clone(), ipv4));
    assert!(rig.give(PORT, &answer(&rig.last_sent())));
    rig.run_until(ms(20));
    assert_eq!(rig.events.len(), 1);
    (rig, id)
}

impl Rig {
    /// Gives it a packet that must change nothing but this counter.
    #[track_caller]
    fn give_in_vain(&mut self, id: CheckId, port: PortId, packet: &[u8], reason: Ignore) {
        let before = self.prober.stats(id).unwrap();
        let events = self.events.len();
        self.give(port, packet);
        let mut after = self.prober.stats(id).unwrap();
        assert_eq!(self.events.len(), events, "{:?}", self.events.last());
        assert_eq!(after.ignored.of(reason), before.ignored.of(reason) + 1, "{after:?}");
        let of_all = |stats: &CheckStats| {
            Ignore::ALL.iter().map(|reason| stats.ignored.of(*reason)).sum::<u64>()
        };
        assert_eq!(of_all(&after), of_all(&before) + 1, "one reason for each");
        (after.ignored, after.last_error) = (before.ignored, before.last_error);
        assert_eq!(after, before);
    }
}

#[test]
fn a_refusal_by_the_target_takes_a_check_down_at_once_and_once() {
    for (kind, ipv4) in every_check() {
        let (mut rig, id) = asked(&kind, ipv4);
        let error = refusal(&rig.last_sent(), usize::MAX);
        assert!(!rig.prober.handle_packet(rig.now, PORT, &error[..error.len() - 60]));
        assert!(rig.give(PORT, &error));
        let (kind_of, code) = if ipv4 { (3, 3) } else { (1, 4) };
        let cause = Cause::Refused { kind: kind_of, code };
        assert_eq!(rig.verdicts()[1..], [(ms(20), false, cause)], "{kind:?}, IPv4 {ipv4}");
        assert_eq!(rig.prober.stats(id).unwrap().bad, 1);
        rig.give_in_vain(id, PORT, &error, Ignore::Stale);
        assert_eq!(rig.prober.totals().stray, 0);
    }
    let (mut rig, _) = asked(&udp(), true);
    let error = error(&rig.last_sent(), TARGET4.into(), (3, 2), 8);
    rig.give(PORT, &error);
    assert!(!rig.events[1].up, "protocol unreachable");
}

#[test]
fn every_other_error_is_counted_and_left_to_silence() {
    let (way4, way6) = (
        [(3, 4), (4, 0), (5, 1), (11, 0), (11, 1), (12, 0)],
        [(2, 0), (3, 0), (3, 1), (4, 0), (4, 1), (9, 9)],
    );
    let (gone4, gone6) =
        ([(3, 0), (3, 1), (3, 5), (3, 9), (3, 13)], [(1, 0), (1, 1), (1, 2), (1, 3), (1, 5)]);
    for (kind, ipv4) in every_check() {
        let (mut rig, id) = asked(&kind, ipv4);
        let request = rig.last_sent();
        let (_, target, ..) = ends(&request);
        let hop: IpAddr = if ipv4 { HOP4.into() } else { "fd00:1::9".parse().unwrap() };
        let way = if ipv4 { way4 } else { way6 };
        for of_way in way {
            for from in [hop, target] {
                let error = error(&request, from, of_way, usize::MAX);
                rig.give_in_vain(id, PORT, &error, Ignore::Transit);
            }
        }
        let gone = if ipv4 { gone4 } else { gone6 };
        for of_target in gone {
            for from in [target, hop] {
                let error = error(&request, from, of_target, usize::MAX);
                rig.give_in_vain(id, PORT, &error, Ignore::Unreachable);
            }
            let seen = rig.prober.stats(id).unwrap().last_error.unwrap();
            assert_eq!((seen.from, (seen.kind, seen.code)), (hop, of_target));
        }
        // A hop cannot refuse in the target's name.
        let refused = if ipv4 { (3, 3) } else { (1, 4) };
        rig.give_in_vain(id, PORT, &error(&request, hop, refused, usize::MAX), Ignore::Unreachable);
        // The target stays silent: that counts, in its time.
        rig.run_until(ms(100));
        assert_eq!(rig.verdicts()[1..], [(ms(30), false, Cause::Silent)], "{kind:?}, IPv4 {ipv4}");
    }
}

#[test]
fn an_error_that_quotes_too_little_does_not_count() {
    for (kind, ipv4) in every_check() {
        let (mut rig, id) = asked(&kind, ipv4);
        let request = rig.last_sent();
        let whole = ends(&request).3.len();
        // What routers must quote in IPv4: enough for a checksum, too little for a cookie.
        let enough = if ipv4 && kind != CheckKind::Icmp { 8 } else { whole };
        for keep in 8..enough {
            rig.give_in_vain(id, PORT, &refusal(&request, keep), Ignore::ShortQuote);
        }
        assert!(rig.give(PORT, &refusal(&request, enough)));
        assert!(!rig.events[1].up, "{kind:?}, IPv4 {ipv4}: {enough} bytes");
    }
}

/// As much as fits into an ICMPv6 error is enough of a payload that does not.
#[test]
fn an_error_about_the_largest_probe_counts() {
    let kind = CheckKind::Udp { port: 7, payload: vec![7; 1_232] };
    for ipv4 in [true, false] {
        let (mut rig, _) = asked(&kind, ipv4);
        let request = rig.last_sent();
        let error = refusal(&request, 1_280 - 40 - 8 - if ipv4 { 20 } else { 40 });
        assert!(error.len() <= 1_280 && request.len() > 1_232);
        rig.give(PORT, &error);
        assert!(!rig.events[1].up, "IPv4 {ipv4}");
    }
}

/// `packet` with these bits of its byte `at` after the IP header changed, and a right ICMP checksum.
fn changed(packet: &[u8], at: usize, bits: u8) -> Vec<u8> {
    let (from, to, protocol, mut body) = ends(packet);
    body[at] ^= bits;
    let quote = body[8..].to_vec();
    let mut out = packets::ip(from, to, protocol, body.len(), |bytes| bytes.copy_from_slice(&body));
    let start = out.len() - quote.len() - 8;
    match (from, to) {
        (IpAddr::V6(from), IpAddr::V6(to)) => {
            smoltcp::wire::Icmpv6Packet::new_unchecked(&mut out[start..]).fill_checksum(&from, &to);
        }
        _ => Icmpv4Packet::new_unchecked(&mut out[start..]).fill_checksum(),
    }
    out
}

#[test]
fn every_bit_that_an_error_must_quote_is_compared() {
    for (kind, ipv4) in every_check() {
        let (mut rig, id) = asked(&kind, ipv4);
        let error = refusal(&rig.last_sent(), usize::MAX);
        let (inner, upper) = if ipv4 { (8, 8 + 20) } else { (8, 8 + 40) };
        let mut places = Vec::new();
        if ipv4 {
            places.extend([inner + 4, inner + 5]);
        } else {
            places.extend([inner + 2, inner + 3]);
        }
        let end = ends(&error).3.len();
        if kind == CheckKind::Icmp {
            // The identifier, and every byte of the cookie.
            places.extend([upper + 4, upper + 5]);
            places.extend(upper + 8..end);
        } else {
            // Ports, checksum, and every byte of the payload.
            places.extend((upper..upper + 4).chain(upper + 6..end));
        }
        for at in places {
            for bit in 0..8 {
                rig.give_in_vain(id, PORT, &changed(&error, at, 1 << bit), Ignore::Mismatch);
            }
        }
        if !ipv4 {
            for bit in 0..4 {
                let forged = changed(&error, inner + 1, 1 << bit);
                rig.give_in_vain(id, PORT, &forged, Ignore::Mismatch);
            }
        }
        rig.give_in_vain(id, OTHER, &error, Ignore::OtherPort);
        if kind == CheckKind::Icmp {
            rig.give_in_vain(id, PORT, &changed(&error, upper + 7, 0x40), Ignore::Stale);
        }
        // About another target, and about a later fragment: about no check at all.
        let events = rig.events.len();
        rig.give(PORT, &changed(&error, upper - 1, 1));
        assert_eq!((rig.events.len(), rig.prober.totals().stray), (events, 1), "{kind:?}");
        if ipv4 {
            assert!(!rig.give(PORT, &changed(&error, inner + 7, 1)));
        }
        assert!(rig.give(PORT, &error) && !rig.events[1].up, "{kind:?}: the error itself counts");
    }
}

/// Who knows the source port, and everything else that does not change, of a check at 10 ms.
#[test]
fn a_mismatch_makes_a_check_draw_at_most_once_in_ten_seconds() {
    for (kind, ipv4) in every_check() {
        let (mut rig, id) = asked(&kind, ipv4);
        let (mut numbers, mut forged) = (Vec::new(), 0);
        let step = Duration::from_millis(2);
        while rig.now < ms(35_000) {
            let at = rig.now + step;
            rig.run_until(at);
            let request = rig.last_sent();
            if rig.sent.len() > numbers.len() {
                let body = ends(&request).3;
                let at = if kind == CheckKind::Icmp { 4 } else { 0 };
                numbers.resize(rig.sent.len(), [body[at], body[at + 1]]);
                let mut seen = request.clone();
                *seen.last_mut().unwrap() ^= 0x55;
                rig.give_in_vain(id, PORT, &refusal(&seen, usize::MAX), Ignore::Mismatch);
                forged += 1;
                assert!(rig.give(PORT, &answer(&request)));
            }
        }
        numbers.dedup();
        assert_eq!((rig.events.len(), numbers.len()), (1, 4), "{kind:?}, IPv4 {ipv4}");
        assert!(forged > 3_000);
    }
}

/// Blindly: about every source port there is.
#[test]
fn a_sweep_over_all_ports_changes_nothing_and_is_counted() {
    for ipv4 in [true, false] {
        let (mut rig, id) = asked(&dns(), ipv4);
        let request = rig.last_sent();
        let upper = if ipv4 { 20 } else { 40 };
        let own = u16::from_be_bytes([request[upper], request[upper + 1]]);
        for port in SOURCE_PORTS.filter(|port| *port != own) {
            let mut forged = request.clone();
            forged[upper..upper + 2].copy_from_slice(&port.to_be_bytes());
            rig.give_in_vain(id, PORT, &refusal(&forged, 8), Ignore::Mismatch);
        }
        rig.give(PORT, &refusal(&request, usize::MAX));
        assert_eq!(rig.events.len(), 2);
    }
}
