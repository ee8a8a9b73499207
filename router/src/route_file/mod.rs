//! Files of routes: lines `PREFIX NEXTHOP`, compressed or not.
#![forbid(unsafe_code)]

mod lines;

use nearhop_fib::IpPrefix;

use crate::address_text;

pub use self::lines::{Lines, TEXT_MAX};

/// The most invalid lines that are reported of one file.
pub const WRONG_SHOWN: usize = 10;

/// Parses a line, `PREFIX NEXTHOP`; `None` for a blank line or a comment.
///
/// # Errors
/// What is wrong with it.
pub fn parse(line: &[u8]) -> Result<Option<(IpPrefix, &[u8])>, String> {
    let blank = |byte: &u8| byte.is_ascii_whitespace();
    let mut words = line.split(blank).filter(|word| !word.is_empty());
    let Some(prefix) = words.next().filter(|word| !word.starts_with(b"#")) else {
        return Ok(None);
    };
    let Some(next_hop) = words.next().filter(|word| !word.starts_with(b"#")) else {
        return Err("expected PREFIX NEXTHOP, found one word".into());
    };
    if let Some(more) = words.next().filter(|word| !word.starts_with(b"#")) {
        let more = String::from_utf8_lossy(more);
        return Err(format!("expected PREFIX NEXTHOP, found a third word, {more:?}"));
    }
    let text = str::from_utf8(prefix).map_err(|_| "the prefix is not UTF-8".to_owned())?;
    if !text.contains('/') {
        return Err(format!("{text:?} is not a prefix: it has no /LENGTH"));
    }
    let prefix =
        address_text::prefix(text).map_err(|why| format!("{text:?} is not a prefix: {why}"))?;
    Ok(Some((prefix, next_hop)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_hold_a_prefix_and_a_word() {
        for (line, want) in [
            ("10.0.0.0/8 fra", Some(("10.0.0.0/8", "fra"))),
            ("2001:DB8::/32\t \tnh#1", Some(("2001:db8::/32", "nh#1"))),
            ("0.0.0.0/0 a # the default", Some(("0.0.0.0/0", "a"))),
            ("", None),
            ("# 10.0.0.0/8 fra", None),
            ("#", None),
        ] {
            let parsed = parse(line.as_bytes()).unwrap();
            let parsed =
                parsed.map(|(p, n)| (p.to_string(), String::from_utf8_lossy(n).into_owned()));
            assert_eq!(parsed, want.map(|(p, n)| (p.into(), n.into())), "{line}");
        }
    }

    #[test]
    fn anything_else_is_refused_with_its_reason() {
        for (line, reason) in [
            (&b"10.0.0.1/8 fra"[..], "host bits are set: the prefix is 10.0.0.0/8"),
            (b"10.0.0.0 fra", "it has no /LENGTH"),
            (b"10.0.0.0/33 fra", "the prefix length must be 0 to 32"),
            (b"10.0.0.0/8", "found one word"),
            (b"10.0.0.0/8 # fra", "found one word"),
            (b"10.0.0.0/8 a b", "a third word, \"b\""),
            (b"fra 10.0.0.0/8", "it has no /LENGTH"),
            (b"a/8 fra", "expected an address such as"),
            (b"10.0.0.256/8 fra", "\"256\", is above 255"),
            (b"\xff/8 fra", "not UTF-8"),
        ] {
            let said = parse(line).unwrap_err();
            assert!(said.contains(reason), "{said}");
        }
    }
}
