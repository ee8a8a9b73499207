//! The one clock type that simulator, events, workers and benches share, and how long steps of a thread take.
#![forbid(unsafe_code)]

use std::fmt;
use std::ops::{Add, AddAssign, Sub};
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// Nanoseconds since an arbitrary start: CLOCK_MONOTONIC in a running router, a fake clock's
/// reading in a simulation. 64 bits last 584 years.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Nanos(pub u64);

impl Nanos {
    /// The start of time.
    pub const ZERO: Self = Self(0);

    /// Reads CLOCK_MONOTONIC. Only code that owns a thread calls this; everything else takes `now`.
    pub fn now() -> Self {
        let now = clock_gettime(ClockId::Monotonic);
        Self(now.tv_sec.unsigned_abs() * 1_000_000_000 + now.tv_nsec.unsigned_abs())
    }

    /// How long after `earlier` this is; zero if `earlier` is later.
    #[must_use]
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

impl Add<Duration> for Nanos {
    type Output = Self;

    fn add(self, span: Duration) -> Self {
        Self(self.0.saturating_add(u64::try_from(span.as_nanos()).unwrap_or(u64::MAX)))
    }
}

impl AddAssign<Duration> for Nanos {
    fn add_assign(&mut self, span: Duration) {
        *self = *self + span;
    }
}

impl Sub<Duration> for Nanos {
    type Output = Self;

    fn sub(self, span: Duration) -> Self {
        Self(self.0.saturating_sub(u64::try_from(span.as_nanos()).unwrap_or(u64::MAX)))
    }
}

impl fmt::Display for Nanos {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:09}s", self.0 / 1_000_000_000, self.0 % 1_000_000_000)
    }
}

/// How long a step of a thread took at worst since the thread started, and how often 10 ms or longer.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct StepTimes {
    /// The thread.
    pub thread: &'static str,
    /// What it did.
    pub step: &'static str,
    /// How often it took 10 ms or longer.
    pub slow: u64,
    /// The longest time that it took.
    pub longest: Duration,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arithmetic_saturates_instead_of_wrapping() {
        assert_eq!(Nanos(5) - Duration::from_nanos(7), Nanos::ZERO);
        assert_eq!(Nanos(u64::MAX) + Duration::from_secs(1), Nanos(u64::MAX));
        assert_eq!(Nanos(1).since(Nanos(3)), Duration::ZERO);
        assert_eq!(Nanos(1_500_000_000).to_string(), "1.500000000s");
    }
}
