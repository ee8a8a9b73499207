//! Quantities as people write them: `20ms`, `1%`, `10 Mbit/s`.
#![forbid(unsafe_code)]

use std::time::Duration;

/// A span of time: a number and `s`, `ms`, `us` or `ns`; at most an hour.
pub(super) fn duration(text: &str) -> Result<Duration, String> {
    let seconds =
        scaled(text, &[("ns", 1e-9), ("us", 1e-6), ("µs", 1e-6), ("ms", 1e-3), ("s", 1.0)])
            .filter(|seconds| (0.0..=3600.0).contains(seconds));
    seconds
        .map(Duration::from_secs_f64)
        .ok_or_else(|| "expected a time such as \"20ms\" or \"1.5s\"".to_owned())
}

/// A share: a percentage, 0 to 100.
pub(super) fn share(text: &str) -> Result<f64, String> {
    scaled(text, &[("%", 0.01)])
        .filter(|share| (0.0..=1.0).contains(share))
        .ok_or_else(|| "expected a percentage from \"0%\" to \"100%\"".to_owned())
}

/// A rate in bits a second, at least 1000.
pub(super) fn rate(text: &str) -> Result<u64, String> {
    scaled(text, &[("Gbit/s", 1e9), ("Mbit/s", 1e6), ("kbit/s", 1e3), ("bit/s", 1.0)])
        .filter(|rate| (1e3..=1e12).contains(rate))
        .map(|rate| rate as u64)
        .ok_or_else(|| "expected a rate such as \"10 Mbit/s\", at least \"1 kbit/s\"".to_owned())
}

/// A number times its unit; units are tried in order, so that `ms` comes before `s`.
fn scaled(text: &str, units: &[(&str, f64)]) -> Option<f64> {
    let text = text.trim();
    let (number, scale) =
        units.iter().find_map(|(unit, scale)| Some((text.strip_suffix(unit)?, scale)))?;
    let number = number.trim_end();
    let plain = number.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
    number.parse::<f64>().ok().filter(|_| plain).map(|number| number * scale)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities_are_read_as_people_write_them() {
        assert_eq!(duration("20ms"), Ok(Duration::from_millis(20)));
        assert_eq!(duration("1.5 s"), Ok(Duration::from_millis(1500)));
        assert_eq!(duration("200us"), Ok(Duration::from_micros(200)));
        assert_eq!(share("1%"), Ok(0.01));
        assert_eq!(rate("10 Mbit/s"), Ok(10_000_000));
        for bad in ["", "ms", "20", "-1ms", "1e3ms", "infs", "NaNs", "2h", "20 m s", "7200s"] {
            assert!(duration(bad).is_err(), "{bad:?}");
        }
        assert!(share("101%").is_err() && share("0.5").is_err());
        assert!(rate("999 bit/s").is_err() && rate("10 MB/s").is_err());
    }
}
