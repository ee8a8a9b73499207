//! A request for records: when it may be answered, and how far that has come.
#![forbid(unsafe_code)]

use std::ops::Range;
use std::time::Duration;

use nearhop::time::Nanos;

use super::flow::OpenFlow;
use super::protocol::{Awaited, Patience, encode_record};
use super::ring::Ring;

/// A request for records, and how far it has come.
pub(super) struct Take {
    range_ns: Range<u64>,
    patience: Patience,
    /// What is left of each flow, once its end is over.
    flows: Vec<Part>,
    complete: bool,
    raw: Vec<u8>,
}

/// The part of one flow.
struct Part {
    /// Not copied yet.
    left: Range<u64>,
    /// Probes before this one are answered or given up.
    settled: u64,
    copied: u64,
}

impl Take {
    /// The probes sent at or after the range's start and before its end.
    pub(super) fn new(range_ns: Range<u64>, patience: Patience) -> Self {
        Self { range_ns, patience, flows: Vec::new(), complete: true, raw: Vec::new() }
    }

    /// Whether records may be copied: the range is over, and what is awaited has come or is given
    /// up. Of echoes that came by `now` some may not be recorded yet, unless `all_read`.
    pub(super) fn is_ready(&mut self, now: Nanos, all_read: bool, flows: &[OpenFlow]) -> bool {
        self.is_ready_of(now, all_read, &flows.iter().map(|flow| &flow.ring).collect::<Vec<_>>())
    }

    fn is_ready_of(&mut self, now: Nanos, all_read: bool, rings: &[&Ring]) -> bool {
        let settled = Nanos(self.range_ns.end) + Duration::from_millis(self.patience.settle_ms);
        if now < settled || !all_read {
            return false;
        }
        self.fix(rings);
        let (awaited, give_up) = (self.patience.awaited, self.patience.give_up_ms);
        let given_up = Nanos(now.0.saturating_sub(give_up.saturating_mul(1_000_000)));
        let mut parts = self.flows.iter_mut().zip(rings);
        parts.all(|(part, ring)| part.is_settled(awaited, given_up, ring))
    }

    /// Goes on copying, at most [`COPY_SLICE`] records; `true` when all is there.
    pub(super) fn copy(&mut self, flows: &[OpenFlow]) -> bool {
        let mut room = COPY_SLICE;
        for (part, open) in self.flows.iter_mut().zip(flows) {
            for seq in part.left.by_ref().take(room) {
                room -= 1;
                match open.ring.find(seq) {
                    Some(probe) => {
                        encode_record(probe, &mut self.raw);
                        part.copied += 1;
                    }
                    None => self.complete = false,
                }
            }
        }
        self.flows.iter().all(|part| part.left.is_empty())
    }

    /// How many records of each flow there are, whether none is missing, and the records.
    pub(super) fn into_parts(self) -> (Vec<u64>, bool, Vec<u8>) {
        (self.flows.iter().map(|part| part.copied).collect(), self.complete, self.raw)
    }

    /// Fixes which probes they are; once, for later probes are none of them.
    fn fix(&mut self, rings: &[&Ring]) {
        if !self.flows.is_empty() {
            return;
        }
        for ring in rings {
            let (left, complete) = ring.range(self.range_ns.start, self.range_ns.end);
            self.complete &= complete;
            self.flows.push(Part { settled: left.start, left, copied: 0 });
        }
    }
}

impl Part {
    /// Probes sent before `given_up` are not waited for any more.
    fn is_settled(&mut self, awaited: Awaited, given_up: Nanos, ring: &Ring) -> bool {
        let done = |seq: u64| {
            let probe = ring.find(seq);
            probe.is_none_or(|probe| probe.arrival.is_some() || probe.sent_ns <= given_up.0)
        };
        match awaited {
            Awaited::Last => self.left.is_empty() || done(self.left.end - 1),
            Awaited::Every => {
                while self.settled < self.left.end && done(self.settled) {
                    self.settled += 1;
                }
                self.settled >= self.left.end
            }
        }
    }
}

/// Copying so many takes less than the finest spacing of probes.
const COPY_SLICE: usize = 2_048;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::measure::Arrival;

    const MS: u64 = 1_000_000;
    const ARRIVAL: Arrival = Arrival { server_ns: 1, client_ns: 2, site: 0 };

    /// Ten probes, one each millisecond, all answered but these.
    fn ring(unanswered: &[u64]) -> Ring {
        let mut ring = Ring::new(16);
        for seq in 0..10 {
            ring.sent(seq * MS);
            if !unanswered.contains(&seq) {
                ring.answered(seq, ARRIVAL);
            }
        }
        ring
    }

    fn take(awaited: Awaited) -> Take {
        Take::new(2 * MS..8 * MS, Patience { awaited, settle_ms: 5, give_up_ms: 50 })
    }

    /// The first millisecond at which it is ready, asked at each.
    fn ready_at(awaited: Awaited, unanswered: &[u64]) -> u64 {
        let (mut take, ring) = (take(awaited), ring(unanswered));
        (0..100).find(|ms| take.is_ready_of(Nanos(ms * MS), true, &[&ring])).unwrap()
    }

    #[test]
    fn records_wait_for_what_is_awaited_and_not_for_what_was_given_up() {
        let (every, last) = (Awaited::Every, Awaited::Last);
        for (awaited, unanswered, ready, why) in [
            (every, &[][..], 13, "the end and the time to settle"),
            (last, &[], 13, "the same"),
            (every, &[1, 8], 13, "others are none of them"),
            (every, &[2], 52, "given up 50 ms after it was sent"),
            (every, &[2, 7], 57, "and so the last"),
            (last, &[2, 6], 13, "these are lost for good"),
            (last, &[7], 57, "the last may still come"),
        ] {
            assert_eq!(ready_at(awaited, unanswered), ready, "{awaited:?} {unanswered:?}: {why}");
        }
    }

    #[test]
    fn an_echo_that_comes_late_ends_the_wait_once_it_is_read() {
        let (mut take, mut ring) = (take(Awaited::Every), ring(&[5]));
        assert!(!take.is_ready_of(Nanos(40 * MS), true, &[&ring]));
        ring.answered(5, ARRIVAL);
        assert!(!take.is_ready_of(Nanos(41 * MS), false, &[&ring]), "another may lie unread");
        assert!(take.is_ready_of(Nanos(41 * MS), true, &[&ring]));
    }

    #[test]
    fn what_was_overwritten_is_not_waited_for() {
        let mut small = Ring::new(4);
        (0..10).for_each(|seq| assert_eq!(small.sent(seq * MS), seq));
        let mut take = Take::new(0..8 * MS, take(Awaited::Last).patience);
        assert!(!take.is_ready_of(Nanos(20 * MS), true, &[&small]));
        assert!(take.is_ready_of(Nanos(57 * MS), true, &[&small]));
        assert!(!take.complete);
    }
}
