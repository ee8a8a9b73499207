//! Decides whether an idle worker polls or sleeps.
//!
//! Waking a worker takes longer than forwarding a packet, so polling for a while lowers the latency
//! of packets that come close together. Polling occupies a core and gains nothing for rare packets,
//! so a worker polls only while recent packets came within its polling time.
#![forbid(unsafe_code)]

use std::time::Duration;

use super::counters::Polling;
use crate::time::Nanos;

/// The decision's state, one for each worker.
#[derive(Debug, Default)]
pub(super) struct Spin {
    budget: Duration,
    /// When it last began to wait.
    idle_since: Nanos,
    looked_until: Nanos,
    /// A moving average of recent waits.
    usual_wait: Duration,
    pub(super) sleeps: u64,
    found: u64,
    busy_ns: u64,
}

impl Spin {
    /// Begins a wait at `now`; returns whether to poll first.
    pub(super) fn begin(&mut self, now: Nanos, budget: Duration) -> bool {
        if budget != self.budget {
            // The average was limited by the old budget.
            self.usual_wait = Duration::ZERO;
        }
        self.budget = budget;
        self.idle_since = now;
        self.looked_until = now;
        !budget.is_zero() && self.usual_wait <= budget
    }

    /// Records a poll at `now` that `found` packets or not; returns whether to poll again.
    pub(super) fn goes_on(&mut self, now: Nanos, found: bool) -> bool {
        self.busy_ns += now.since(self.looked_until).as_nanos() as u64;
        self.looked_until = now;
        self.found += u64::from(found);
        !found && now.since(self.idle_since) < self.budget
    }

    /// Records that packets came after a wait.
    pub(super) fn packets_came(&mut self, now: Nanos) {
        // The limit keeps one long pause from outweighing packets that come close together again.
        let waited = now.since(self.idle_since).min(self.budget * WAIT_MAX);
        self.usual_wait = (self.usual_wait * 3 + waited) / 4;
    }

    pub(super) fn counters(&self) -> Polling {
        Polling { sleeps: self.sleeps, found: self.found, busy_ns: self.busy_ns }
    }
}

/// A wait counts as at most this many times the budget.
const WAIT_MAX: u32 = 8;

#[cfg(test)]
mod tests {
    use super::*;

    const BUDGET: Duration = Duration::from_micros(50);

    /// Receives a packet every `gap`, `times` times; returns how many of the waits polled.
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
    fn it_polls_while_packets_come_close_together_and_stops_when_they_do_not() {
        let (mut spin, mut now) = (Spin::default(), Nanos(1));
        let (close, far) = (Duration::from_micros(20), Duration::from_millis(1));
        assert_eq!(looks(&mut spin, &mut now, close, 100), 100);
        assert!(looks(&mut spin, &mut now, far, 100) <= 2, "it polls in vain");
        assert!(looks(&mut spin, &mut now, close, 100) >= 85, "it does not begin again");
    }

    #[test]
    fn without_a_budget_it_never_polls() {
        let mut spin = Spin::default();
        assert!(!spin.begin(Nanos(1), Duration::ZERO));
    }

    #[test]
    fn it_polls_no_longer_than_its_budget_and_counts_how_long() {
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
