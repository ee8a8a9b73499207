//! Reads `health`: a check or a list of checks.
#![forbid(unsafe_code)]

use std::net::IpAddr;
use std::ops::Range;
use std::time::Duration;

use toml::Spanned;
use toml::de::DeValue;

use super::{inner_or, inner_or_default};
use crate::config::finding::Finding;
use crate::config::model::Check;
use crate::config::report::list_of;
use crate::config::value::{self, ValueError, one_of, text};
use crate::config::walk::{Node, Table, article};
use crate::policy::CheckKind;

/// The checks of a site as written.
#[derive(Default)]
pub(in crate::config) struct RawHealth {
    pub(in crate::config) checks: Vec<RawCheck>,
}

/// One check as written.
pub(in crate::config) struct RawCheck {
    pub(in crate::config) target: Option<Spanned<IpAddr>>,
    pub(in crate::config) interval: Option<Spanned<Duration>>,
    pub(in crate::config) kind: CheckKind,
    /// Position of the whole check.
    pub(in crate::config) span: Range<usize>,
    fall: u32,
    rise: u32,
    initial_up: bool,
}

impl RawHealth {
    pub(super) fn read(site: &mut Table<'_>) -> Self {
        let report = site.report();
        let Some(node) = site.node("health") else { return Self::default() };
        let nodes: Vec<&Node<'_>> = match node.get_ref() {
            DeValue::Array(items) => items.iter().collect(),
            _ => vec![node],
        };
        let mut checks = Vec::new();
        for node in nodes {
            if let DeValue::Table(entries) = node.get_ref() {
                checks.extend(read_check(Table::new(entries, node.span(), "this check", report)));
                continue;
            }
            let found = article(node.get_ref().type_str());
            let finding = Finding::mistake("health is not valid")
                .at(node.span(), format!("expected a check or a list of checks, found {found}"))
                .help("for example health = { icmp = {} }");
            report.add(finding);
        }
        Self { checks }
    }

    pub(super) fn into_model(self) -> Vec<Check> {
        self.checks.into_iter().map(RawCheck::into_model).collect()
    }
}

impl RawCheck {
    fn into_model(self) -> Check {
        let interval = match self.kind {
            CheckKind::Icmp | CheckKind::Udp { .. } => PROBE_INTERVAL,
            CheckKind::Dns { .. } | CheckKind::Tcp { .. } => REQUEST_INTERVAL,
        };
        Check {
            kind: self.kind,
            target: self.target.map(Spanned::into_inner),
            interval: inner_or(self.interval, interval),
            fall: self.fall,
            rise: self.rise,
            initial_up: self.initial_up,
        }
    }
}

/// Reads one check; `None` if it has no kind, or one that is not available yet, which is reported.
fn read_check(mut table: Table<'_>) -> Option<RawCheck> {
    let kind = read_kind(&mut table);
    let intervals = text("a span of time", value::duration_in(INTERVAL_MIN..=INTERVAL_MAX));
    let target = table.get("target", text("an address", target));
    let interval = table.get("interval", intervals);
    let fall = inner_or(table.get("fall", value::integer(1..=COUNT_MAX)), FALL_DEFAULT);
    let rise = inner_or(table.get("rise", value::integer(1..=COUNT_MAX)), RISE_DEFAULT);
    let initial_up = inner_or_default(table.get("initial", text("a word", initial)));
    if table.has("combine") {
        let finding = Finding::mistake("combine is not part of a check")
            .at(table.span_of("combine"), "it combines the checks of a site")
            .help("write it beside health, in [[service.site]]");
        table.report().add(finding);
        table.ignore("combine");
    }
    let span = table.span();
    table.finish();
    kind.map(|kind| RawCheck { target, interval, kind, span, fall, rise, initial_up })
}

fn read_kind(table: &mut Table<'_>) -> Option<CheckKind> {
    let present: Vec<_> = KINDS.iter().copied().filter(|kind| table.has(kind)).collect();
    if present.is_empty() {
        let finding = Finding::mistake("this check does not say what it sends")
            .at(table.span(), list_of("expected one of", &KINDS))
            .help("write for example { icmp = {} }")
            .consequence();
        table.report().add(finding);
    }
    if let [first, second, ..] = present[..] {
        let finding = Finding::mistake("a check has one kind")
            .at(table.span_of(second), format!("besides {first}"))
            .help("write a list: health = [{ ... }, { ... }]");
        table.report().add(finding);
    }
    let icmp = table.table("icmp", "icmp = { ... }").map(read_icmp);
    let udp = table.table("udp", "udp = { ... }").map(read_udp);
    let tcp = table.table("tcp", "tcp = { ... }").map(read_tcp);
    let dns = table.table("dns", "dns = { ... }").map(read_dns);
    table.later("http", "an HTTP check");
    table.later("command", "a check by a command");
    icmp.or(udp).or(tcp).or(dns)
}

fn read_icmp(table: Table<'_>) -> CheckKind {
    table.finish();
    CheckKind::Icmp
}

fn read_udp(mut table: Table<'_>) -> CheckKind {
    let port = table.need("port", "port = 7", port());
    let plain = table.get("payload", text("a string", payload));
    let hex = table.get("payload-hex", text("hexadecimal digits", payload_hex));
    if plain.is_some() && hex.is_some() {
        let finding = Finding::mistake("the payload is given twice")
            .at(table.span_of("payload-hex"), "payload is already given");
        table.report().add(finding);
    }
    table.finish();
    CheckKind::Udp {
        port: inner_or_default(port),
        payload: plain.or(hex).map(Spanned::into_inner).unwrap_or_default(),
    }
}

fn read_tcp(mut table: Table<'_>) -> CheckKind {
    let port = table.need("port", "port = 80", port());
    table.finish();
    CheckKind::Tcp { port: inner_or_default(port) }
}

fn read_dns(mut table: Table<'_>) -> CheckKind {
    let port = table.get("port", port());
    let example = "name = \"example.com\", a name that the service can resolve";
    let name = table.need("name", example, text("a domain name", domain_name));
    table.finish();
    CheckKind::Dns { port: inner_or(port, DNS_PORT), name: inner_or_default(name) }
}

fn port<'t>() -> impl Fn(&DeValue<'t>) -> Result<u16, ValueError> {
    value::integer(1..=u16::MAX)
}

fn target(text: &str) -> Result<IpAddr, ValueError> {
    let addr = match text.split_once('/') {
        Some((addr, _)) if addr.parse::<IpAddr>().is_ok() => {
            let expected = ValueError::new("expected an address without length");
            return Err(expected.help(format!("write {addr:?}")));
        }
        _ => value::address(text)?,
    };
    if addr.is_unspecified() || addr.is_multicast() {
        return Err(ValueError::new("expected the address of one host"));
    }
    Ok(addr)
}

fn initial(word: &str) -> Result<bool, ValueError> {
    one_of(word, &[("up", Some(true)), ("down", Some(false))])
}

fn payload(text: &str) -> Result<Vec<u8>, ValueError> {
    fits(text.as_bytes().to_vec())
}

fn payload_hex(text: &str) -> Result<Vec<u8>, ValueError> {
    let fault = || ValueError::new("expected pairs of hexadecimal digits, such as \"00ff\"");
    if !text.len().is_multiple_of(2) || !text.bytes().all(|b| b.is_ascii_hexdigit()) {
        return Err(fault());
    }
    let pairs = (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16));
    fits(pairs.collect::<Result<_, _>>().map_err(|_| fault())?)
}

fn fits(payload: Vec<u8>) -> Result<Vec<u8>, ValueError> {
    if payload.len() > PAYLOAD_MAX {
        let found = payload.len();
        return Err(ValueError::new(format!(
            "expected at most {PAYLOAD_MAX} bytes, found {found}"
        )));
    }
    Ok(payload)
}

/// Labels of 1 to 63 bytes, 253 bytes in all (RFC 1035 section 2.3.4), in printable ASCII, with an
/// optional final dot.
fn domain_name(text: &str) -> Result<String, ValueError> {
    let bare = text.strip_suffix('.').unwrap_or(text);
    let label = |label: &str| (1..=63).contains(&label.len());
    let printable = bare.bytes().all(|byte| byte.is_ascii_graphic());
    if text == "." || (printable && bare.len() <= 253 && bare.split('.').all(label)) {
        return Ok(text.to_owned());
    }
    Err(ValueError::new("expected labels of 1 to 63 bytes, joined by dots")
        .because(format!("{text:?} is not a domain name")))
}

const KINDS: [&str; 6] = ["icmp", "udp", "tcp", "dns", "http", "command"];

const COUNT_MAX: u32 = 1_000;
const DNS_PORT: u16 = 53;
const FALL_DEFAULT: u32 = 3;
const INTERVAL_MAX: Duration = Duration::from_hours(1);
const INTERVAL_MIN: Duration = Duration::from_micros(100);
/// Fits every IPv6 link (MTU 1,280), headers included.
const PAYLOAD_MAX: usize = 1_200;
const PROBE_INTERVAL: Duration = Duration::from_millis(10);
const REQUEST_INTERVAL: Duration = Duration::from_millis(100);
const RISE_DEFAULT: u32 = 5;
