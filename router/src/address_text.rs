//! What is wrong with a text that was meant to be an address or a prefix.
#![forbid(unsafe_code)]

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use nearhop_fib::{IpPrefix, PrefixError};

/// Why `text` is not an IP address; empty if it is one.
pub fn why_no_address(text: &str) -> String {
    if text.parse::<IpAddr>().is_ok() {
        return String::new();
    }
    let v6 = text.contains(':');
    match text {
        _ if v6 => why_no_v6(text),
        _ if text.contains('.') => why_no_v4(text),
        _ => format!("expected an address such as {EXAMPLE_V4} or {EXAMPLE_V6}"),
    }
}

/// Why `text` is not a prefix, `ADDRESS/LENGTH`.
pub fn why_no_prefix(text: &str, error: &PrefixError) -> String {
    let (address, len) = text.split_once('/').unwrap_or((text, ""));
    match error {
        PrefixError::Address => why_no_address(address),
        PrefixError::Length { max } => why_no_length(len, *max),
        PrefixError::HostBits { .. } => error.to_string(),
    }
}

/// Why `text` is no length of a prefix of at most `max` bits.
pub fn why_no_length(text: &str, max: u8) -> String {
    let zeros =
        if text.len() > 1 && text.starts_with('0') { ", without leading zeros" } else { "" };
    format!("the prefix length must be 0 to {max}{zeros}, found {text:?}")
}

/// Parses a prefix.
///
/// # Errors
/// What is wrong with it.
pub fn prefix(text: &str) -> Result<IpPrefix, String> {
    text.parse().map_err(|error| why_no_prefix(text, &error))
}

/// Whether `text` was probably meant to be an address.
pub fn is_like_an_address(text: &str) -> bool {
    text.contains(':')
        || text.contains('.') && text.bytes().all(|b| b.is_ascii_digit() || b == b'.')
}

fn why_no_v4(text: &str) -> String {
    let numbers: Vec<&str> = text.split('.').collect();
    if numbers.len() != Ipv4Addr::UNSPECIFIED.octets().len() {
        let found = numbers.len();
        return format!("expected 4 numbers with dots between them, found {found}");
    }
    for (number, which) in numbers.into_iter().zip(["first", "second", "third", "fourth"]) {
        let what = format!("the {which} number, {number:?},");
        if number.is_empty() || !number.bytes().all(|byte| byte.is_ascii_digit()) {
            return format!("{what} is not a number from 0 to 255");
        }
        if number.len() > 1 && number.starts_with('0') {
            return format!("{what} has a leading zero");
        }
        if number.parse::<u8>().is_err() {
            return format!("{what} is above 255");
        }
    }
    format!("expected an address such as {EXAMPLE_V4}")
}

fn why_no_v6(text: &str) -> String {
    if text.contains('%') {
        return "an address has no zone (%) here".to_owned();
    }
    if text.matches("::").count() > 1 || text.contains(":::") {
        return "\"::\" may stand once, for groups of zeros".to_owned();
    }
    // The last 32 bits may be written as an IPv4 address.
    let (groups, v4) = match text.rsplit_once(':') {
        Some((groups, last)) if last.contains('.') => (groups, Some(last)),
        _ => (text, None),
    };
    if let Some(v4) = v4.filter(|v4| v4.parse::<Ipv4Addr>().is_err()) {
        return why_no_v4(v4);
    }
    let written: Vec<&str> = groups.split(':').filter(|group| !group.is_empty()).collect();
    for group in &written {
        if !group.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return format!("{group:?} is not a group of hexadecimal digits");
        }
        if group.len() > 4 {
            return format!("the group {group:?} has more than 4 digits");
        }
    }
    let found = written.len() + if v4.is_some() { 2 } else { 0 };
    let wanted = Ipv6Addr::UNSPECIFIED.segments().len();
    if text.contains("::") {
        return format!("expected fewer than {wanted} groups beside \"::\", found {found}");
    }
    format!("expected {wanted} groups, or \"::\" for groups of zeros: found {found} groups")
}

const EXAMPLE_V4: &str = "192.0.2.1";
const EXAMPLE_V6: &str = "2001:db8::1";

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_is_wrong_is_named() {
        for (text, says) in [
            ("10.0.0.256", "the fourth number, \"256\", is above 255"),
            ("10.999.0.1", "the second number, \"999\", is above 255"),
            ("10.0.0.01", "the fourth number, \"01\", has a leading zero"),
            ("10.0..1", "the third number, \"\", is not a number"),
            ("10.0.0.x", "the fourth number, \"x\", is not a number"),
            ("10.0.0", "expected 4 numbers with dots between them, found 3"),
            ("10.0.0.0.0", "found 5"),
            ("fe80::g", "\"g\" is not a group of hexadecimal digits"),
            ("2001:db8::12345", "\"12345\" has more than 4 digits"),
            ("2001::db8::1", "\"::\" may stand once"),
            ("1:2:3:4:5:6:7", "found 7 groups"),
            ("1:2:3:4:5:6:7:8:9", "found 9 groups"),
            ("1:2:3:4::5:6:7:8", "beside \"::\", found 8"),
            ("fe80::1%eth0", "no zone"),
            ("::ffff:10.0.0.300", "the fourth number, \"300\", is above 255"),
            ("dns", "expected an address such as 192.0.2.1 or 2001:db8::1"),
            ("", "expected an address such as"),
        ] {
            let said = why_no_address(text);
            assert!(said.contains(says), "{text}: {said}");
        }
        for (text, says) in [
            ("10.0.0.256/24", "\"256\", is above 255"),
            ("10.0.0.0/33", "0 to 32, found \"33\""),
            ("::/x", "0 to 128, found \"x\""),
            ("10.0.0.0/08", "0 to 32, without leading zeros, found \"08\""),
            ("10.0.0.1/8", "the prefix is 10.0.0.0/8"),
        ] {
            let said = prefix(text).unwrap_err();
            assert!(said.contains(says), "{text}: {said}");
        }
    }

    proptest! {
        /// Whatever the standard library refuses has a reason, and nothing else has.
        #[test]
        fn what_is_no_address_has_a_reason(text in "[0-9a-f.:%x]{0,24}|\\PC{0,12}") {
            prop_assert_eq!(why_no_address(&text).is_empty(), text.parse::<IpAddr>().is_ok());
        }
    }
}
