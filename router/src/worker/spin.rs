//! Whether a worker that has nothing to do looks again, or sleeps.
//!
//! To be woken takes a worker longer than to forward a packet, so looking for a while shortens the
//! way of packets that come at short distances. It costs a core, and brings nothing where they come
//! rarely: so a worker looks only while packets have lately come within the time it would look.
#![forbid(unsafe_code)]

use std::time::Duration;

use super::counters::Polling;
use crate::time::Nanos;

/// A worker's habit.
#[derive(Debug, Default)]
pub(super) struct Spin {
    budget: Duration,
    /// When it last began to wait.
    idle_since: Nanos,
    looked_until: Nanos,
    /// How long it usually waits: follows the last few times.
    usual_wait: Duration,
    pub(super) sleeps: u64,
    found: u64,
    busy_ns: u64,
}

impl Spin {
    /// There is nothing to do from `now` on; says whether to look.
    pub(super) fn begin(&mut self, now: Nanos, budget: Duration) -> bool {
        if budget != self.budget {
            // What was learned was about another time.
            self.usual_wait = Duration::ZERO;
        }
        self.budget = budget;
        self.idle_since = now;
        self.looked_until = now;
        !budget.is_zero() && self.usual_wait <= budget
    }

    /// After a look at `now` that `found` something or did not; says whether to look again.
    pub(super) fn goes_on(&mut self, now: Nanos, found: bool) -> bool {
        self.busy_ns += now.since(self.looked_until).as_nanos() as u64;
        self.looked_until = now;
        self.found += u64::from(found);
        !found && now.since(self.idle_since) < self.budget
    }

    /// Packets came after it had waited.
    pub(super) fn packets_came(&mut self, now: Nanos) {
        // One long pause is soon forgotten once packets come close together again.
        let waited = now.since(self.idle_since).min(self.budget * WAIT_MAX);
        self.usual_wait = (self.usual_wait * 3 + waited) / 4;
    }

    pub(super) fn counters(&self) -> Polling {
        Polling { sleeps: self.sleeps, found: self.found, busy_ns: self.busy_ns }
    }
}

/// A wait counts as so many times the budget at most.
const WAIT_MAX: u32 = 8;

#[cfg(test)]
mod tests {
    use super::*;

    const BUDGET: Duration = Duration::from_micros(50);

    /// Packets come every `gap`; says how many of the waits were looked through.
    fn looks(spin: &mut Spin, now: &mut Nanos, gap: Duration, times: u32) -> u32 {
        (0..times)
            .map(|_| {
                let looks = spin.begin(*now, BUDGET);
                *now += gap;
                if looks {
                    spin.goes_on(*now, gap < BUDGET);
                }
                spin.packets_came(*now);
                u32::from(looks)
            })
            .sum()
    }

    #[test]
    fn it_looks_while_packets_come_close_together_and_stops_when_they_do_not() {
        let (mut spin, mut now) = (Spin::default(), Nanos(1));
        let (close, far) = (Duration::from_micros(20), Duration::from_millis(1));
        assert_eq!(looks(&mut spin, &mut now, close, 100), 100);
        assert!(looks(&mut spin, &mut now, far, 100) <= 2, "it looks in vain");
        assert!(looks(&mut spin, &mut now, close, 100) >= 85, "it does not begin again");
    }

    #[test]
    fn without_a_budget_it_never_looks() {
        let mut spin = Spin::default();
        assert!(!spin.begin(Nanos(1), Duration::ZERO));
    }

    #[test]
    fn it_looks_no_longer_than_it_may_and_counts_how_long() {
        let mut spin = Spin::default();
        assert!(spin.begin(Nanos(1000), BUDGET));
        assert!(spin.goes_on(Nanos(11_000), false));
        assert!(!spin.goes_on(Nanos(51_000), false), "the budget is used up");
        assert_eq!(spin.counters().busy_ns, 50_000);
        assert!(spin.begin(Nanos(60_000), BUDGET));
        assert!(!spin.goes_on(Nanos(61_000), true));
        assert_eq!(spin.counters().found, 1);
    }
}
