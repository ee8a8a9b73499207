//! A token bucket; the caller passes the time.
#![forbid(unsafe_code)]

use std::time::Duration;

use crate::time::Nanos;

/// Allows a burst, then a steady rate.
#[derive(Clone, Debug)]
pub struct TokenBucket {
    /// Time in which one token accrues.
    per_token: Duration,
    /// Time in which an empty bucket fills.
    burst: Duration,
    /// When it is full, unless more is taken.
    full_at: Nanos,
}

impl TokenBucket {
    /// A full bucket of `burst` tokens, refilled at `rate` tokens a second; both at least 1.
    pub fn new(rate: u32, burst: u32) -> Self {
        let per_token = Duration::from_secs(1) / rate.max(1);
        Self { per_token, burst: per_token * burst.max(1), full_at: Nanos::ZERO }
    }

    /// Takes one token; `false` if there is none.
    pub fn take(&mut self, now: Nanos) -> bool {
        let full_at = self.full_at.max(now) + self.per_token;
        if full_at.since(now) > self.burst {
            return false;
        }
        self.full_at = full_at;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_at_once_and_then_the_rate() {
        let mut bucket = TokenBucket::new(10, 3);
        let start = Nanos::ZERO;
        let taken = |bucket: &mut TokenBucket, at| (0..10).filter(|_| bucket.take(at)).count();
        assert_eq!(taken(&mut bucket, start), 3);
        assert_eq!(taken(&mut bucket, start + Duration::from_millis(99)), 0);
        assert_eq!(taken(&mut bucket, start + Duration::from_millis(100)), 1);
        assert_eq!(taken(&mut bucket, start + Duration::from_millis(250)), 1);
        assert_eq!(taken(&mut bucket, start + Duration::from_mins(1)), 3);
    }
}
