//! From when on events are watched: `10m`, `07:31:05`, `2026-11-30T07:31:05Z` or `4711`.
#![forbid(unsafe_code)]
#![allow(clippy::disallowed_methods, reason = "a command, which is given a time of day")]

use std::str::FromStr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::config::reader::duration;

/// From when on.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(in crate::cli) enum Since {
    /// Since so long ago.
    Ago(Duration),
    /// Since the event of this `seq`.
    Seq(u64),
    /// Since so many seconds after 1970-01-01.
    Unix(u64),
}

impl FromStr for Since {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        Self::parse(text, now).ok_or(EXPECTED)
    }
}

impl Since {
    /// `now` is in seconds after 1970-01-01.
    fn parse(text: &str, now: u64) -> Option<Self> {
        if let Ok(seq) = text.parse() {
            return Some(Self::Seq(seq));
        }
        if !text.contains(':') {
            // Tables say `1m`.
            let minutes = text.strip_suffix('m').map(|number| format!("{number}min"));
            return duration(minutes.as_deref().unwrap_or(text)).ok().map(Self::Ago);
        }
        let text = text.strip_suffix('Z').unwrap_or(text);
        let Some((date, time)) = text.split_once(['T', ' ']) else {
            let today = now - now % DAY + seconds_of(text)?;
            // What is still to come today was yesterday.
            return Some(Self::Unix(if today > now { today.checked_sub(DAY)? } else { today }));
        };
        Some(Self::Unix(days_of(date)? * DAY + seconds_of(time)?))
    }
}

/// Seconds since midnight of `HH:MM` or `HH:MM:SS`, where a fraction of a second counts as none.
fn seconds_of(time: &str) -> Option<u64> {
    let (time, fraction) = time.split_once('.').unwrap_or((time, "0"));
    let mut parts = time.split(':');
    let hours = number(parts.next()?, 2, 23)?;
    let minutes = number(parts.next()?, 2, 59)?;
    let seconds = parts.next().map_or(Some(0), |part| number(part, 2, 59))?;
    let is_whole = parts.next().is_none() && fraction.bytes().all(|byte| byte.is_ascii_digit());
    is_whole.then_some(hours * 3600 + minutes * 60 + seconds)
}

/// Days from 1970-01-01 to `YYYY-MM-DD` of the Gregorian calendar.
fn days_of(date: &str) -> Option<u64> {
    let mut parts = date.split('-');
    let year = number(parts.next()?, 4, 9999).filter(|&year| year >= 1970)?;
    let month = number(parts.next()?, 2, 12).filter(|&month| month >= 1)?;
    let is_leap =
        |year: u64| year.is_multiple_of(4) && !year.is_multiple_of(100) || year.is_multiple_of(400);
    let february = if is_leap(year) { 29 } else { 28 };
    let lengths = [31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
    let before = usize::try_from(month - 1).ok()?;
    let day = number(parts.next()?, 2, lengths[before]).filter(|&day| day >= 1)?;
    let years: u64 = (1970..year).map(|year| if is_leap(year) { 366 } else { 365 }).sum();
    let months: u64 = lengths[..before].iter().sum();
    parts.next().is_none().then_some(years + months + day - 1)
}

/// A number of this many digits, up to `most`.
fn number(text: &str, digits: usize, most: u64) -> Option<u64> {
    let is_number = text.len() == digits && text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|&number| is_number && number <= most)
}

const DAY: u64 = 86_400;

const EXPECTED: &str = "expected a span of time (10m, 90s), a time in UTC (07:31:05, \
    2026-11-30T07:31:05Z) or the seq of an event (4711)";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::utc::Utc;

    #[test]
    fn spans_times_and_numbers_are_told_apart() {
        // 2026-11-23T18:53:20Z.
        let now = 1_795_460_000;
        let ago = |seconds| Some(Since::Ago(Duration::from_secs(seconds)));
        for (text, want) in [
            ("4711", Some(Since::Seq(4711))),
            ("90s", ago(90)),
            ("10m", ago(600)),
            ("2h", ago(7200)),
            ("500ms", Some(Since::Ago(Duration::from_millis(500)))),
            ("18:53", Some(Since::Unix(now - 20))),
            ("18:53:20", Some(Since::Unix(now))),
            ("18:53:21", Some(Since::Unix(now + 1 - DAY))),
            ("18:53:20.123Z", Some(Since::Unix(now))),
            ("2026-11-23T18:53:20Z", Some(Since::Unix(now))),
            ("2026-11-23 18:53:20.9", Some(Since::Unix(now))),
            ("2024-02-29T00:00:00Z", Some(Since::Unix(1_709_164_800))),
            ("2025-02-29T00:00:00Z", None),
            ("24:00", None),
            ("7:31", None),
            ("07:31+01:00", None),
            ("yesterday", None),
            ("-5", None),
            ("", None),
        ] {
            assert_eq!(Since::parse(text, now), want, "{text}");
        }
    }

    #[test]
    fn a_time_as_it_is_printed_is_that_time() {
        for seconds in (0..4_200_000_000).step_by(86_399 * 97) {
            let text = Utc::from_unix(seconds).rfc3339();
            assert_eq!(Since::parse(&text, 0), Some(Since::Unix(seconds)), "{text}");
        }
    }
}
