//! Parsers of single values: strings and numbers.
#![forbid(unsafe_code)]

use std::fmt::Display;
use std::net::IpAddr;
use std::ops::{Range, RangeInclusive};
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use ipnetwork::IpNetwork;
use nearhop_fib::{IpPrefix, PrefixError};
use toml::de::DeValue;

use super::finding::Finding;
use super::model::Capacity;
use super::report::list_of;
use super::suggest::did_you_mean;
use super::walk::{article, not_available};
use crate::address_text::{why_no_address, why_no_length, why_no_prefix};

/// Why a value was refused. Its reader adds the position.
#[derive(Debug)]
pub struct ValueError {
    message: Option<String>,
    label: String,
    help: Option<String>,
    later: bool,
}

impl ValueError {
    /// A refusal; `label` says what was expected.
    pub fn new(label: impl Into<String>) -> Self {
        Self { message: None, label: label.into(), help: None, later: false }
    }

    /// A value that is part of the configuration format but not implemented yet.
    pub(super) fn later(what: impl Into<String>) -> Self {
        Self {
            message: Some(what.into()),
            label: "not implemented in this release".into(),
            help: None,
            later: true,
        }
    }

    /// Sets the message, in place of "KEY is not valid".
    #[must_use]
    pub fn because(mut self, message: impl Into<String>) -> Self {
        self.message = Some(message.into());
        self
    }

    /// Adds what to write instead.
    #[must_use]
    pub fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }

    pub(super) fn into_finding(self, key: &str, span: Range<usize>) -> Finding {
        let finding = match self.message {
            Some(what) if self.later => not_available(&what),
            Some(message) => Finding::mistake(format!("{key}: {message}")),
            None => Finding::mistake(format!("{key} is not valid")),
        };
        let finding = finding.at(span, self.label);
        match self.help {
            Some(help) => finding.help(help),
            None => finding,
        }
    }
}

/// A string that `parse` accepts; `what` describes it when the value is not a string.
pub fn text<'t, T>(
    what: &'static str,
    parse: impl Fn(&str) -> Result<T, ValueError>,
) -> impl Fn(&DeValue<'t>) -> Result<T, ValueError> {
    move |value| match value {
        DeValue::String(text) => parse(text),
        other => Err(wrong_type(what, other)),
    }
}

/// `true` or `false`.
pub fn boolean(value: &DeValue<'_>) -> Result<bool, ValueError> {
    let fault = wrong_type("true or false", value);
    match value.as_str() {
        Some(text @ ("true" | "false")) => Err(fault.help(format!("write {text} without quotes"))),
        _ => value.as_bool().ok_or(fault),
    }
}

/// A whole number in this range.
pub fn integer<'t, T>(range: RangeInclusive<T>) -> impl Fn(&DeValue<'t>) -> Result<T, ValueError>
where
    T: Copy + Display + PartialOrd + TryFrom<i128>,
{
    move |value| {
        let what = format!("expected a whole number from {} to {}", range.start(), range.end());
        let DeValue::Integer(number) = value else {
            let found = article(value.type_str());
            let fault = ValueError::new(format!("{what}, found {found}"));
            return Err(match value.as_str().map(str::parse::<i128>) {
                Some(Ok(number)) => fault.help(format!("write {number} without quotes")),
                _ => fault,
            });
        };
        let parsed = i128::from_str_radix(number.as_str(), number.radix()).ok();
        let fitting = parsed.and_then(|number| T::try_from(number).ok());
        fitting.filter(|number| range.contains(number)).ok_or_else(|| ValueError::new(what))
    }
}

/// One of these words. A word with `None` is known but not available yet.
pub fn one_of<T: Copy>(text: &str, words: &[(&str, Option<T>)]) -> Result<T, ValueError> {
    match words.iter().find(|(word, _)| *word == text) {
        Some((_, Some(value))) => Ok(*value),
        Some((word, None)) => Err(ValueError::later(format!("{word:?}"))),
        None => {
            let names: Vec<_> =
                words.iter().filter(|(_, v)| v.is_some()).map(|(word, _)| *word).collect();
            let fault = ValueError::new(list_of("expected one of", &names))
                .because(format!("{text:?} is not known"));
            Err(match did_you_mean(text, &names) {
                Some(best) => fault.help(format!("did you mean {best:?}?")),
                None => fault,
            })
        }
    }
}

/// A name of a router, port, service or site. It is used in file names, metric labels and URLs.
pub(super) fn name(text: &str) -> Result<String, ValueError> {
    let good =
        |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '.' | '_' | '-');
    let starts_well = text.starts_with(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit());
    if starts_well && text.chars().all(good) && text.len() <= NAME_MAX {
        return Ok(text.to_owned());
    }
    let fault = ValueError::new(format!(
        "expected 1 to {NAME_MAX} of a-z, 0-9, '.', '_', '-', a letter or digit first"
    ))
    .because(format!("{text:?} is not a name"));
    let spelt: String = text
        .to_lowercase()
        .chars()
        .map(|c| if good(c) { c } else { '-' })
        .skip_while(|c| !c.is_ascii_alphanumeric())
        .take(NAME_MAX)
        .collect();
    Err(if spelt.is_empty() { fault } else { fault.help(format!("for example {spelt:?}")) })
}

/// A canonical prefix, `ADDRESS/LENGTH`.
pub(super) fn prefix(text: &str) -> Result<IpPrefix, ValueError> {
    if !text.contains('/') {
        let fault = ValueError::new("expected ADDRESS/LENGTH").because("the prefix has no length");
        return Err(match text.parse::<IpAddr>() {
            Ok(addr) => {
                fault.help(format!("for this address alone, write \"{}\"", IpPrefix::host(addr)))
            }
            Err(_) => ValueError::new("expected ADDRESS/LENGTH, such as \"10.0.0.0/8\"")
                .because(format!("{text:?} is not a prefix")),
        });
    }
    text.parse::<IpPrefix>().map_err(|error| match error {
        PrefixError::HostBits { addr, len } => ValueError::new("bits beyond the length are set")
            .because(format!("{text} is not a canonical prefix"))
            .help(format!("the prefix is \"{addr}/{len}\"")),
        error => ValueError::new(why_no_prefix(text, &error))
            .because(format!("{text:?} is not a prefix")),
    })
}

/// An interface address, `ADDRESS/LENGTH`, that a host can have.
pub(super) fn interface_address(text: &str) -> Result<IpNetwork, ValueError> {
    let network = network(text)?;
    let (addr, len) = (network.ip(), network.prefix());
    if let Some(kind) = unusable(addr) {
        return Err(ValueError::new("an interface cannot have this address")
            .because(format!("{addr} is {kind}")));
    }
    if let IpNetwork::V4(v4) = network
        && len <= 30
        && (v4.ip() == v4.network() || v4.ip() == v4.broadcast())
    {
        let which = if v4.ip() == v4.network() { "network" } else { "broadcast" };
        let host = std::net::Ipv4Addr::from_bits(v4.network().to_bits() + 1);
        return Err(ValueError::new("expected the address of a host in it")
            .because(format!("{addr} is the {which} address of {}/{len}", v4.network()))
            .help(format!("for example \"{host}/{len}\"")));
    }
    Ok(network)
}

/// An address without a length.
pub fn address(text: &str) -> Result<IpAddr, ValueError> {
    text.parse().map_err(|_| not_an_address(text))
}

/// Says what is wrong with it.
pub(super) fn not_an_address(text: &str) -> ValueError {
    ValueError::new(why_no_address(text)).because(format!("{text:?} is not an address"))
}

/// An address without a length, or with its full length.
pub(super) fn own_address(text: &str) -> Result<IpNetwork, ValueError> {
    let network = match text.parse::<IpAddr>() {
        Ok(addr) => IpNetwork::from(addr),
        Err(_) if text.contains('/') => interface_address(text)?,
        Err(_) => return Err(not_an_address(text)),
    };
    let (addr, full) = (network.ip(), if network.is_ipv4() { 32 } else { 128 });
    if let Some(kind) = unusable(addr) {
        return Err(ValueError::new("a router cannot have this address")
            .because(format!("{addr} is {kind}")));
    }
    if network.prefix() != full {
        return Err(ValueError::new("an address of [router] has no network")
            .because(format!("{addr} must have its full length"))
            .help(format!("write \"{addr}/{full}\", or give the address to a port")));
    }
    Ok(network)
}

/// A duration: a decimal number and its unit.
pub fn duration(text: &str) -> Result<Duration, ValueError> {
    let at = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = (&text[..at], text[at..].trim_start());
    let fault =
        || ValueError::new("expected a number and a unit, such as \"250us\", \"50ms\" or \"1s\"");
    let Some((_, unit_ns)) = UNITS.iter().find(|(name, _)| *name == unit) else {
        let fault = fault().because(format!("{text:?} is not a span of time"));
        return Err(match unit {
            "" if !number.is_empty() => fault.help(format!("did you mean \"{number}ms\"?")),
            _ => fault.help("units: ns, us, ms, s, min, h"),
        });
    };
    let (whole, fraction) = number.split_once('.').unwrap_or((number, "0"));
    let nanos = || -> Option<u64> {
        let whole: u64 = whole.parse().ok()?;
        let digits = u32::try_from(fraction.len()).ok().filter(|&digits| digits <= 9)?;
        let fraction = fraction.parse::<u64>().ok()?.checked_mul(*unit_ns)?;
        whole.checked_mul(*unit_ns)?.checked_add(fraction / 10_u64.pow(digits))
    };
    nanos().map(Duration::from_nanos).ok_or_else(fault)
}

/// A duration in this range.
pub fn duration_in(
    range: RangeInclusive<Duration>,
) -> impl Fn(&str) -> Result<Duration, ValueError> {
    move |text| {
        let span = duration(text)?;
        if range.contains(&span) {
            return Ok(span);
        }
        let (least, most) = (show_duration(*range.start()), show_duration(*range.end()));
        Err(ValueError::new(format!("expected {least} to {most}"))
            .because(format!("{text} is out of range")))
    }
}

/// Formats a duration in the largest unit that represents it exactly.
pub(super) fn show_duration(span: Duration) -> String {
    let nanos = span.as_nanos();
    let whole = UNITS.iter().rev().find(|(_, unit)| nanos.is_multiple_of(u128::from(*unit)));
    match whole {
        Some((name, unit)) if nanos > 0 => format!("{}{name}", nanos / u128::from(*unit)),
        _ => "0s".to_owned(),
    }
}

/// `"5000 packets/s"`.
pub(super) fn capacity(text: &str) -> Result<Capacity, ValueError> {
    let number = text.strip_suffix("packets/s").map(str::trim_end);
    let packets_per_second = number.and_then(|number| number.parse().ok()).filter(|&n| n > 0);
    packets_per_second
        .map(|packets_per_second| Capacity { packets_per_second })
        .ok_or_else(|| ValueError::new("expected a rate above zero, such as \"5000 packets/s\""))
}

/// An absolute path: the working directory of a daemon is not known in advance.
pub(super) fn absolute_path(text: &str) -> Result<PathBuf, ValueError> {
    let path = PathBuf::from(text);
    if path.is_absolute() && !text.contains('\0') {
        return Ok(path);
    }
    Err(ValueError::new("expected an absolute path").because(format!("{text:?} is relative")))
}

/// Anything that implements [`FromStr`].
pub fn parsed<T: FromStr>(expected: &'static str) -> impl Fn(&str) -> Result<T, ValueError> {
    move |text| text.parse().map_err(|_| ValueError::new(expected))
}

fn network(text: &str) -> Result<IpNetwork, ValueError> {
    if text.contains('/') {
        let (addr, len) = text.split_once('/').unwrap_or((text, ""));
        let addr = address(addr)?;
        let network = len.parse().ok().and_then(|len| IpNetwork::new(addr, len).ok());
        return network.ok_or_else(|| {
            let max = if addr.is_ipv4() { 32 } else { 128 };
            let not = format!("{text:?} is not an address with a length");
            ValueError::new(why_no_length(len, max)).because(not)
        });
    }
    let example = match text.parse::<IpAddr>() {
        Ok(IpAddr::V4(addr)) => format!("{addr}/24"),
        Ok(IpAddr::V6(addr)) => format!("{addr}/64"),
        Err(_) => {
            return Err(
                not_an_address(text).help("expected ADDRESS/LENGTH, such as \"10.0.0.1/24\"")
            );
        }
    };
    Err(ValueError::new("expected ADDRESS/LENGTH")
        .because("the address has no prefix length")
        .help(format!("for example \"{example}\": its network becomes a connected route")))
}

/// Why `addr` cannot be the address of an interface.
fn unusable(addr: IpAddr) -> Option<&'static str> {
    let mapped = matches!(addr, IpAddr::V6(v6) if v6.to_ipv4_mapped().is_some());
    let reserved = matches!(addr, IpAddr::V4(v4) if v4.octets()[0] == 0 || v4.octets()[0] >= 240);
    match addr {
        _ if addr.is_unspecified() => Some("the unspecified address"),
        _ if addr.is_loopback() => Some("a loopback address"),
        _ if addr.is_multicast() => Some("a multicast address"),
        _ if reserved => Some("of a reserved block"),
        _ if mapped => Some("an IPv4-mapped address"),
        _ => None,
    }
}

fn wrong_type(what: &str, value: &DeValue<'_>) -> ValueError {
    let fault = ValueError::new(format!("expected {what}, found {}", article(value.type_str())));
    match value {
        DeValue::Integer(number) if what.starts_with("a span of time") => {
            fault.help(format!("did you mean \"{}ms\"?", number.as_str()))
        }
        _ => fault,
    }
}

/// Units and their nanoseconds, from the smallest to the largest.
const UNITS: [(&str, u64); 6] = [
    ("ns", 1),
    ("us", 1_000),
    ("ms", 1_000_000),
    ("s", 1_000_000_000),
    ("min", 60_000_000_000),
    ("h", 3_600_000_000_000),
];

const NAME_MAX: usize = 63;

#[cfg(test)]
mod tests;
