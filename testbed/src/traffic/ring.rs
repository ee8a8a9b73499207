//! The latest records of one flow.
#![forbid(unsafe_code)]

use crate::measure::{Arrival, Probe};

/// A ring of probes, indexed by sequence number in constant time. The oldest are overwritten.
pub struct Ring {
    slots: Box<[Probe]>,
    /// The next sequence number.
    next: u64,
    /// Echoes of probes that were overwritten or never sent.
    strays: u64,
}

/// How an echo was classified.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Noted {
    /// The first echo of its probe.
    First,
    /// A further echo of its probe.
    Duplicate,
    /// An echo of an unknown or overwritten probe.
    Stray,
}

impl Ring {
    /// A ring for `capacity` probes, rounded up to a power of two.
    pub fn new(capacity: usize) -> Self {
        let empty = Probe { seq: u64::MAX, sent_ns: 0, arrival: None, duplicates: 0 };
        let slots = vec![empty; capacity.next_power_of_two()].into_boxed_slice();
        Self { slots, next: 0, strays: 0 }
    }

    /// Records a probe sent at `sent_ns`; returns its sequence number.
    pub fn sent(&mut self, sent_ns: u64) -> u64 {
        let seq = self.next;
        let at = self.place(seq);
        self.slots[at] = Probe { seq, sent_ns, arrival: None, duplicates: 0 };
        self.next += 1;
        seq
    }

    /// Records an echo of probe `seq`.
    pub fn answered(&mut self, seq: u64, arrival: Arrival) -> Noted {
        let at = self.place(seq);
        let probe = &mut self.slots[at];
        if probe.seq != seq || seq >= self.next {
            self.strays += 1;
            return Noted::Stray;
        }
        if probe.arrival.is_some() {
            probe.duplicates = probe.duplicates.saturating_add(1);
            return Noted::Duplicate;
        }
        probe.arrival = Some(arrival);
        Noted::First
    }

    /// Number of echoes without a known probe.
    pub fn strays(&self) -> u64 {
        self.strays
    }

    /// Sequence numbers of the probes sent at or after `from_ns` and before `to_ns`, and whether
    /// all of them are still kept.
    pub fn range(&self, from_ns: u64, to_ns: u64) -> (std::ops::Range<u64>, bool) {
        let oldest = self.next.saturating_sub(self.slots.len() as u64);
        let start = self.first_at(oldest, from_ns);
        let end = self.first_at(oldest, to_ns).max(start);
        let overwritten = oldest > 0 && start == oldest && self.get(oldest).sent_ns > from_ns;
        (start..end, !overwritten)
    }

    /// Probe `seq`, if it is still kept.
    pub fn find(&self, seq: u64) -> Option<&Probe> {
        Some(self.get(seq)).filter(|probe| probe.seq == seq)
    }

    /// The first sequence number, at least `oldest`, that was sent at or after `at_ns`.
    fn first_at(&self, oldest: u64, at_ns: u64) -> u64 {
        let (mut low, mut high) = (oldest, self.next);
        while low < high {
            let middle = low.midpoint(high);
            if self.get(middle).sent_ns < at_ns {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        low
    }

    fn get(&self, seq: u64) -> &Probe {
        &self.slots[self.place(seq)]
    }

    fn place(&self, seq: u64) -> usize {
        (seq as usize) & (self.slots.len() - 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ARRIVAL: Arrival = Arrival { server_ns: 1, client_ns: 2, site: 0 };

    #[test]
    fn an_echo_finds_its_probe_until_it_is_overwritten() {
        let mut ring = Ring::new(4);
        for sent in 0..6 {
            assert_eq!(ring.sent(sent * 10), sent);
        }
        let cases = [
            (1, Noted::Stray),
            (2, Noted::First),
            (2, Noted::Duplicate),
            (5, Noted::First),
            (6, Noted::Stray),
            (u64::MAX, Noted::Stray),
        ];
        for (seq, expected) in cases {
            assert_eq!(ring.answered(seq, ARRIVAL), expected, "{seq}");
        }
        assert_eq!(ring.strays(), 3);
        assert_eq!(ring.find(2).unwrap().duplicates, 1);
        assert_eq!(ring.find(1), None);
    }

    #[test]
    fn a_range_is_cut_by_sending_time_and_says_when_it_has_holes() {
        let mut ring = Ring::new(4);
        assert_eq!(ring.range(0, 100), (0..0, true));
        for sent in 0..4 {
            ring.sent(sent * 10);
        }
        assert_eq!(ring.range(0, 100), (0..4, true));
        assert_eq!(ring.range(10, 30), (1..3, true));
        assert_eq!(ring.range(11, 12), (2..2, true));
        ring.sent(40);
        assert_eq!(ring.range(0, 100), (1..5, false));
        assert_eq!(ring.range(10, 100), (1..5, true));
        assert_eq!(ring.range(90, 100), (5..5, true));
    }
}
