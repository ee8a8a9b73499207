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
    /// The bucket holds as many tokens as if it had been empty at this time.
    empty_at: Nanos,
}

impl TokenBucket {
    /// A full bucket of `burst` tokens, refilled at `rate` tokens a second; both at least 1.
    pub fn new(rate: u32, burst: u32) -> Self {
        let per_token = Duration::from_secs(1) / rate.max(1);
        Self { per_token, burst: per_token * burst.max(1), empty_at: Nanos::ZERO }
    }

    /// Takes one token; `false` if there is none.
    pub fn take(&mut self, now: Nanos) -> bool {
        let full_since = now - self.burst;
        let empty_at = self.empty_at.max(full_since) + self.per_token;
        if empty_at > now {
            return false;
        }
        self.empty_at = empty_at;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_at_once_and_then_the_rate() {
        let mut bucket = TokenBucket::new(10, 3);
        let start = Nanos(5_000_000_000);
        let taken = |bucket: &mut TokenBucket, at| (0..10).filter(|_| bucket.take(at)).count();
        assert_eq!(taken(&mut bucket, start), 3);
        assert_eq!(taken(&mut bucket, start + Duration::from_millis(99)), 0);
        assert_eq!(taken(&mut bucket, start + Duration::from_millis(100)), 1);
        assert_eq!(taken(&mut bucket, start + Duration::from_millis(250)), 1);
        assert_eq!(taken(&mut bucket, start + Duration::from_mins(1)), 3);
    }
}
