//! Computes when the next probes are due. Deadlines are absolute, so lateness does not accumulate.
#![forbid(unsafe_code)]

use std::fmt;
use std::time::Duration;

use nearhop::time::Nanos;
use serde::{Deserialize, Serialize};

/// Deadlines at a constant spacing, which can be changed at any time.
#[derive(Clone, Debug)]
pub struct Pacer {
    next: Nanos,
    spacing: Duration,
    stats: PaceStats,
}

/// How well deadlines were kept since the start.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct PaceStats {
    /// Deadlines that were served.
    pub ticks: u64,
    /// Deadlines skipped because the sender was late by more than [`CATCH_UP`] of them.
    pub skipped: u64,
    /// Sum of the lateness of all wake-ups, nanoseconds.
    pub late_sum_ns: u64,
    /// Lateness of the latest wake-up, nanoseconds.
    pub late_max_ns: u64,
    /// Number of wake-ups.
    pub wakes: u64,
}

impl Pacer {
    /// The first deadline is at `now`. The spacing is at least a microsecond.
    pub fn new(now: Nanos, spacing: Duration) -> Self {
        Self { next: now, spacing: spacing.max(FINEST), stats: PaceStats::default() }
    }

    /// The next deadline. The value may change after [`Self::due`] and [`Self::set_spacing`].
    pub fn deadline(&self) -> Nanos {
        self.next
    }

    /// Statistics so far.
    pub fn stats(&self) -> PaceStats {
        self.stats
    }

    /// Number of deadlines due at `now`: 0 if it is too early, at most [`CATCH_UP`]. A late call
    /// does not shift later deadlines.
    pub fn due(&mut self, now: Nanos) -> u64 {
        if now < self.next {
            return 0;
        }
        let late_ns = now.0 - self.next.0;
        let spacing_ns = u64::try_from(self.spacing.as_nanos()).unwrap_or(u64::MAX);
        let passed = late_ns / spacing_ns + 1;
        let due = passed.min(CATCH_UP);
        self.next = Nanos(self.next.0.saturating_add(passed.saturating_mul(spacing_ns)));
        self.stats.ticks += due;
        self.stats.skipped += passed - due;
        self.stats.wakes += 1;
        self.stats.late_sum_ns += late_ns;
        self.stats.late_max_ns = self.stats.late_max_ns.max(late_ns);
        due
    }

    /// Changes the spacing from `now` on; at least a microsecond.
    pub fn set_spacing(&mut self, now: Nanos, spacing: Duration) {
        self.spacing = spacing.max(FINEST);
        self.next = self.next.min(now + self.spacing);
    }
}

impl PaceStats {
    /// Mean lateness of wake-ups, nanoseconds.
    pub fn late_mean_ns(&self) -> u64 {
        self.late_sum_ns.checked_div(self.wakes).unwrap_or(0)
    }
}

impl fmt::Display for PaceStats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "woke {:.1} µs late on average, {:.2} ms at worst",
            self.late_mean_ns() as f64 / 1e3,
            self.late_max_ns as f64 / 1e6
        )?;
        let due = self.ticks + self.skipped;
        match self.skipped {
            0 => write!(f, "; all {due} rounds of probes were sent"),
            skipped => write!(f, "; {skipped} of {due} rounds of probes were skipped"),
        }
    }
}

/// The most missed probes that a delayed sender sends at once. A larger burst would fill a device's
/// queue, and the measurement would show that queue.
pub const CATCH_UP: u64 = 16;

const FINEST: Duration = Duration::from_micros(1);

#[cfg(test)]
mod tests {
    use super::*;

    const US: u64 = 1_000;

    #[test]
    fn late_wake_ups_do_not_move_the_grid() {
        let mut pacer = Pacer::new(Nanos(0), Duration::from_micros(200));
        let mut sent = 0;
        for wake in 0..1_000 {
            let deadline = pacer.deadline();
            // Sometimes on time, sometimes nearly three deadlines late.
            sent += pacer.due(Nanos(deadline.0 + wake % 7 * 95 * US));
        }
        assert_eq!(pacer.deadline().0 / (200 * US), sent);
        assert_eq!(pacer.stats().skipped, 0);
        assert_eq!(pacer.stats().late_max_ns, 570 * US);
    }

    #[test]
    fn what_is_due_is_sent_and_what_is_hopeless_is_counted() {
        let spacing = Duration::from_micros(200);
        let cases = [
            // (microseconds late, due, skipped)
            (0, 1, 0),
            (199, 1, 0),
            (200, 2, 0),
            (3_000, 16, 0),
            (3_200, 16, 1),
            (200_000, 16, 985),
        ];
        for (late_us, due, skipped) in cases {
            let mut pacer = Pacer::new(Nanos(7), spacing);
            assert_eq!(pacer.due(Nanos(6)), 0, "too early");
            assert_eq!(pacer.due(Nanos(7 + late_us * US)), due, "{late_us}");
            assert_eq!(pacer.stats().skipped, skipped, "{late_us}");
            assert!(pacer.deadline() > Nanos(7 + late_us * US));
        }
    }

    #[test]
    fn its_pace_is_reported_in_words() {
        let mut pace = PaceStats {
            ticks: 900,
            late_sum_ns: 9_000,
            late_max_ns: 1_340_000,
            wakes: 3,
            skipped: 0,
        };
        let kept =
            "woke 3.0 µs late on average, 1.34 ms at worst; all 900 rounds of probes were sent";
        assert_eq!(pace.to_string(), kept);
        pace.skipped = 100;
        assert!(
            pace.to_string().ends_with("; 100 of 1000 rounds of probes were skipped"),
            "{pace}"
        );
    }

    #[test]
    fn a_finer_spacing_holds_at_once_and_a_coarser_one_after_the_next_deadline() {
        let mut pacer = Pacer::new(Nanos(0), Duration::from_millis(1));
        pacer.due(Nanos(0));
        pacer.set_spacing(Nanos(100 * US), Duration::from_micros(200));
        assert_eq!(pacer.deadline(), Nanos(300 * US));
        pacer.set_spacing(Nanos(100 * US), Duration::from_millis(1));
        assert_eq!(pacer.deadline(), Nanos(300 * US));
        assert_eq!(pacer.due(Nanos(300 * US)), 1);
        assert_eq!(pacer.deadline(), Nanos(1_300 * US));
    }
}
