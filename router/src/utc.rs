//! Wall-clock dates for names and pages. Measurements never use them.
#![forbid(unsafe_code)]

use std::time::{SystemTime, UNIX_EPOCH};

/// A time in UTC.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Utc {
    seconds: u64,
    millis: u32,
}

impl Utc {
    /// Reads the wall clock.
    pub fn now() -> Self {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self { seconds: since.as_secs(), millis: since.subsec_millis() }
    }

    /// `seconds` after 1970-01-01T00:00:00Z.
    pub const fn from_unix(seconds: u64) -> Self {
        Self { seconds, millis: 0 }
    }

    /// The same second, with `millis` of it passed.
    #[must_use]
    pub const fn with_millis(self, millis: u32) -> Self {
        Self { millis, ..self }
    }

    /// `2026-11-23`.
    pub fn date(self) -> String {
        let (year, month, day) = civil(self.seconds / DAY);
        format!("{year:04}-{month:02}-{day:02}")
    }

    /// `2026-11-23T18:51:07Z` (RFC 3339).
    pub fn rfc3339(self) -> String {
        let rest = self.seconds % DAY;
        format!("{}T{:02}:{:02}:{:02}Z", self.date(), rest / 3600, rest / 60 % 60, rest % 60)
    }

    /// `2026-11-23T18:51:07.042Z` (RFC 3339).
    pub fn rfc3339_millis(self) -> String {
        format!("{}.{:03}Z", self.rfc3339().trim_end_matches('Z'), self.millis)
    }
}

/// Year, month and day of the Gregorian calendar, from days since 1970-01-01. Years are counted
/// from March, so that the leap day is the last of its year, in cycles of 400 years.
fn civil(days: u64) -> (u64, u64, u64) {
    let days = days + DAYS_0000_03_01_TO_1970;
    let (cycle, in_cycle) = (days / 146_097, days % 146_097);
    let year = (in_cycle - in_cycle / 1_460 + in_cycle / 36_524 - in_cycle / 146_096) / 365;
    let in_year = in_cycle - (365 * year + year / 4 - year / 100);
    let march_month = (5 * in_year + 2) / 153;
    let day = in_year - (153 * march_month + 2) / 5 + 1;
    let month = if march_month < 10 { march_month + 3 } else { march_month - 9 };
    (cycle * 400 + year + u64::from(month <= 2), month, day)
}

const DAY: u64 = 86_400;
const DAYS_0000_03_01_TO_1970: u64 = 719_468;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_agree_with_date_1() {
        // From `date -u -d @N +%FT%TZ`.
        let cases = [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_399, "2000-02-28T23:59:59Z"),
            (951_782_400, "2000-02-29T00:00:00Z"),
            (1_709_251_199, "2024-02-29T23:59:59Z"),
            (1_795_460_000, "2026-11-23T18:53:20Z"),
            (4_107_542_400, "2100-03-01T00:00:00Z"),
        ];
        for (seconds, expected) in cases {
            assert_eq!(Utc::from_unix(seconds).rfc3339(), expected);
        }
        let late = Utc::from_unix(1_795_460_000).with_millis(7);
        assert_eq!(late.rfc3339_millis(), "2026-11-23T18:53:20.007Z");
    }
}
