//! BGP between simulated routers, on which somebody or something leans: clocks that jump, a neighbour that
//! restarts again and again, forged resets.
//!
//! ```text
//! client ── r1 ──── r2 ── near     r1 has no sites; r2 and r3 announce theirs to it
//!            └───── r3 ── far
//! ```
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used)] // it is all for tests

mod sim_support;

use std::net::Ipv4Addr;
use std::time::Duration;

use nearhop::event::EventKind;
use nearhop::packet::checksum::Sum;
use nearhop::sim::{Action, RouterThread};
use sim_support::star::{OTHERS, R1, R2, R3, Star, first, other};

impl Star {
    /// Every session stands, and r1 sends packets to r2.
    fn new(seed: u64) -> Self {
        let others = OTHERS.map(|(node, site)| other(node, site, ""));
        let mut lab = Self::join(seed, &first(["", ""]), others);
        lab.serve(Duration::from_secs(8), Duration::from_millis(50));
        lab
    }

    /// None of the router's threads has a turn for so long: its machine sleeps.
    fn sleep(&mut self, node: usize, time: Duration) {
        for (part, stalled) in RouterThread::ALL.into_iter().map(|part| (part, true)) {
            self.act(Action::Stall { node, part, stalled });
        }
        self.run(time);
        for part in RouterThread::ALL {
            self.act(Action::Stall { node, part, stalled: false });
        }
    }

    /// How often r1 reported that its session with another went up, and down.
    fn changes(&self, other: usize) -> (usize, usize) {
        let name = format!("r{}", other + 1);
        let events = self.net.events().iter().filter(|event| event.node == R1);
        let changes: Vec<bool> = events
            .filter_map(|event| match &event.kind {
                EventKind::Bgp { neighbor, up, .. } if *neighbor == name => Some(*up),
                _ => None,
            })
            .collect();
        let ups = changes.iter().filter(|up| **up).count();
        (ups, changes.len() - ups)
    }

    /// Runs until every session stands and its service is announced again, within the longest sequence of
    /// BGP's timers.
    fn recovers(&mut self) {
        let end = self.net.now() + RECOVERS_WITHIN;
        while !(self.stands(R2) && self.stands(R3) && self.sites() == ["near", "near"]) {
            assert!(self.net.now() < end, "{:?}, {:?}", self.sites(), self.net.events());
            self.run(Duration::from_secs(1));
        }
    }
}

/// A jump by less than the hold time loses nothing; one by more loses the session on both sides, and it comes back.
#[test]
fn a_clock_that_jumps_costs_a_session_only_beyond_the_hold_time() {
    let mut lab = Star::new(1);
    for node in [R1, R2] {
        lab.sleep(node, Duration::from_millis(1500));
        lab.run(Duration::from_secs(2));
        assert_eq!((lab.changes(R2), lab.changes(R3)), ((1, 0), (1, 0)), "r{}", node + 1);
    }
    lab.recovers();
    for (node, long) in [(R2, 20), (R1, 20), (R2, 600)] {
        let before = lab.changes(R2);
        lab.sleep(node, Duration::from_secs(long));
        lab.run(Duration::from_secs(1));
        lab.recovers();
        let after = lab.changes(R2);
        assert!(after.0 == before.0 + 1 && after.1 == before.1 + 1, "{before:?}, then {after:?}");
    }
}

/// A neighbour that restarts twenty times a second gets few sessions, and nobody else hears of it.
#[test]
fn a_neighbor_that_restarts_all_the_time_is_left_alone_and_others_are_unharmed() {
    let mut lab = Star::new(2);
    let before = lab.changes(R2).0;
    let begun = lab.net.now();
    for _ in 0..RESTARTS {
        lab.act(Action::Stop { node: R2 });
        lab.run(Duration::from_millis(5));
        lab.act(Action::Start { node: R2 });
        lab.run(Duration::from_millis(45));
        assert!(lab.stands(R3), "the other session");
    }
    let sessions = lab.changes(R2).0 - before;
    let seconds = lab.net.now().since(begun).as_secs();
    assert!(sessions <= 8, "{sessions} sessions in {seconds} s: each wait is twice the one before");
    assert_eq!(lab.changes(R3), (1, 0));
    // What r2 announced is served by r3 meanwhile, or by r2.
    let since = lab.net.now() - Duration::from_secs(1);
    lab.run(Duration::from_secs(5));
    lab.recovers();
    for flow in &lab.flows {
        let flow = lab.net.flow(*flow);
        assert!(flow.arrivals.iter().any(|one| one.t > since), "it is served again");
    }
}

/// Whoever is not on the path knows addresses and one port, but no sequence numbers.
#[test]
fn forged_resets_end_no_session() {
    let mut lab = Star::new(3);
    let (r1, r2): (Ipv4Addr, Ipv4Addr) =
        ("10.12.0.1".parse().unwrap(), "10.12.0.2".parse().unwrap());
    let received = |lab: &Star, node| lab.net.node(node).counters().received;
    let before = [R1, R2].map(|node| received(&lab, node));
    let mut seq = 0x1234_5678_u32;
    for (node, port, from, to) in [(R1, "r2", r2, r1), (R2, "r1", r1, r2)] {
        for first in (1..=u16::MAX).step_by(1024) {
            for other in first..=first.saturating_add(1023) {
                for ports in [(other, 179), (179, other)] {
                    seq = seq.wrapping_mul(0x9e37_79b1).wrapping_add(1);
                    let packet = reset((from, ports.0), (to, ports.1), seq);
                    lab.net.node(node).device(port).unwrap().inject(&packet).unwrap();
                }
            }
            lab.run(Duration::from_millis(50));
        }
    }
    lab.run(Duration::from_secs(5));
    let came = [R1, R2].map(|node| received(&lab, node) - before[node]);
    assert!(came.iter().all(|count| *count > 2 * u64::from(u16::MAX) - 2), "{came:?}");
    assert_eq!((lab.changes(R2), lab.changes(R3)), ((1, 0), (1, 0)));
    assert!(lab.stands(R2) && lab.sites() == ["near", "near"]);
}

/// An IPv4 packet with a TCP reset.
fn reset((from, from_port): (Ipv4Addr, u16), (to, to_port): (Ipv4Addr, u16), seq: u32) -> Vec<u8> {
    let mut segment = [0; 20];
    segment[..2].copy_from_slice(&from_port.to_be_bytes());
    segment[2..4].copy_from_slice(&to_port.to_be_bytes());
    segment[4..8].copy_from_slice(&seq.to_be_bytes());
    segment[12] = 5 << 4;
    segment[13] = 0x04; // RST
    let sum = Sum::pseudo(from.into(), to.into(), 6, segment.len()).bytes(&segment);
    segment[16..18].copy_from_slice(&sum.checksum().to_be_bytes());
    let mut header = [0x45, 0, 0, 40, 0, 0, 0x40, 0, 64, 6, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    header[12..16].copy_from_slice(&from.octets());
    header[16..20].copy_from_slice(&to.octets());
    let sum = Sum::ZERO.bytes(&header).checksum();
    header[10..12].copy_from_slice(&sum.to_be_bytes());
    [header, segment].concat()
}

/// Ten seconds of them.
const RESTARTS: usize = 200;

/// After many failures a neighbour is tried every two minutes, and what was withdrawn waits too.
const RECOVERS_WITHIN: Duration = Duration::from_secs(200);
