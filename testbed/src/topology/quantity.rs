//! Parses quantities such as `1%` and `10 Mbit/s`.
#![forbid(unsafe_code)]

use nearhop::config::reader::ValueError;

/// A percentage from 0 to 100, as a share from 0 to 1.
pub(super) fn share(text: &str) -> Result<f64, ValueError> {
    scaled(text, &[("%", 0.01)])
        .filter(|share| (0.0..=1.0).contains(share))
        .ok_or_else(|| ValueError::new("expected a percentage from \"0%\" to \"100%\""))
}

/// A rate in bits per second, at least 1000.
pub(super) fn rate(text: &str) -> Result<u64, ValueError> {
    scaled(text, &[("Gbit/s", 1e9), ("Mbit/s", 1e6), ("kbit/s", 1e3), ("bit/s", 1.0)])
        .filter(|rate| (1e3..=1e12).contains(rate))
        .map(|rate| rate as u64)
        .ok_or_else(|| {
            ValueError::new("expected a rate such as \"10 Mbit/s\", at least \"1 kbit/s\"")
        })
}

/// Parses a number and its unit. Units are tried in order: `kbit/s` before `bit/s`.
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
        assert_eq!(share("1%").ok(), Some(0.01));
        assert_eq!(rate("10 Mbit/s").ok(), Some(10_000_000));
        for bad in ["", "%", "1", "-1%", "1e1%", "inf%", "NaN%", "1 0 %"] {
            assert!(share(bad).is_err(), "{bad:?}");
        }
        assert!(share("101%").is_err() && share("0.5").is_err());
        assert!(rate("999 bit/s").is_err() && rate("10 MB/s").is_err());
    }
}
