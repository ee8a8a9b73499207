//! Smoothed round-trip time.
#![forbid(unsafe_code)]

use std::time::Duration;

/// Smoothed round-trip time and its deviation (the estimator of RFC 6298, section 2, in
/// nanoseconds), which leaves outliers out: one slow answer says something about a queue, not about
/// the distance. [`SHIFT`] outliers in a row are no outliers but a new distance.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Rtt {
    last: Option<u64>,
    smooth: Option<u64>,
    deviation: u64,
    outliers: u32,
}

impl Rtt {
    /// Takes one measurement.
    pub(super) fn sample(&mut self, rtt: Duration) {
        let rtt = u64::try_from(rtt.as_nanos()).unwrap_or(u64::MAX / 16).min(u64::MAX / 16);
        self.last = Some(rtt);
        match self.smooth {
            Some(smooth) if rtt <= self.limit(smooth) => self.blend(smooth, rtt),
            Some(_) if self.outliers + 1 < SHIFT => self.outliers += 1,
            _ => self.restart(rtt),
        }
    }

    /// The latest measurement, outlier or not.
    pub(super) fn last(&self) -> Option<Duration> {
        self.last.map(Duration::from_nanos)
    }

    /// The smoothed time.
    pub(super) fn smooth(&self) -> Option<Duration> {
        self.smooth.map(Duration::from_nanos)
    }

    fn blend(&mut self, smooth: u64, rtt: u64) {
        self.outliers = 0;
        self.deviation = (3 * self.deviation + smooth.abs_diff(rtt)) / 4;
        self.smooth = Some((7 * smooth + rtt) / 8);
    }

    fn restart(&mut self, rtt: u64) {
        *self = Self { smooth: Some(rtt), deviation: rtt / 2, ..*self };
        self.outliers = 0;
    }

    fn limit(&self, smooth: u64) -> u64 {
        smooth + (4 * self.deviation).max(smooth / 8).max(FLOOR)
    }
}

/// As many outliers in a row are taken for a new distance.
const SHIFT: u32 = 8;

/// Within this of the smoothed time, in nanoseconds, nothing is an outlier: threads wake so much
/// later at times.
const FLOOR: u64 = 200_000;

#[cfg(test)]
mod tests {
    use super::*;

    fn feed(rtt: &mut Rtt, ms: u64, times: u32) -> Duration {
        for _ in 0..times {
            rtt.sample(Duration::from_millis(ms));
        }
        rtt.smooth().unwrap()
    }

    #[test]
    fn first_samples_follow_rfc_6298() {
        let mut rtt = Rtt::default();
        assert_eq!(feed(&mut rtt, 80, 1), Duration::from_millis(80));
        // SRTT = 7/8 * 80 + 1/8 * 160; RTTVAR = 3/4 * 40 + 1/4 * 80.
        assert_eq!(feed(&mut rtt, 160, 1), Duration::from_millis(90));
        assert_eq!(rtt.deviation, 50_000_000);
    }

    #[test]
    fn outliers_are_left_out_until_they_are_the_rule() {
        let mut rtt = Rtt::default();
        let calm = feed(&mut rtt, 10, 100);
        assert_eq!(calm, Duration::from_millis(10));
        assert_eq!(feed(&mut rtt, 500, 7), calm);
        assert_eq!(rtt.last(), Some(Duration::from_millis(500)));
        assert_eq!(feed(&mut rtt, 10, 1), calm, "one calm answer starts the count again");
        assert_eq!(feed(&mut rtt, 500, 7), calm);
        assert_eq!(feed(&mut rtt, 500, 1), Duration::from_millis(500));
    }

    #[test]
    fn a_shorter_way_is_believed_bit_by_bit() {
        let mut rtt = Rtt::default();
        feed(&mut rtt, 100, 50);
        assert!(feed(&mut rtt, 10, 1) > Duration::from_millis(85));
        assert!(feed(&mut rtt, 10, 60) < Duration::from_millis(11));
    }

    #[test]
    fn absurd_samples_do_not_overflow() {
        let mut rtt = Rtt::default();
        for _ in 0..20 {
            rtt.sample(Duration::MAX);
            rtt.sample(Duration::ZERO);
        }
        assert!(rtt.smooth().is_some());
    }
}
