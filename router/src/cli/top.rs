//! `nearhop top`: rates from the counters of a running router.
#![forbid(unsafe_code)]
#![allow(clippy::disallowed_methods, reason = "a command, which shows rates")]

mod frame;

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::io::IsTerminal as _;
use std::process::ExitCode;
use std::time::Duration;

use serde_json::{Map, Value, json};

use self::frame::{Size, frame};
use super::args::TopArgs;
use super::client;
use super::output::{Failure, answer};
use crate::time::Nanos;

pub(super) fn run(args: &TopArgs) -> Result<ExitCode, Failure> {
    let client = client::connect(&args.client.socket)?;
    let look = || -> Result<CounterSample, Failure> {
        let mut look = CounterSample { at: Nanos::now(), counters: BTreeMap::new() };
        for noun in NOUNS {
            look.add(noun, &client::parsed(&client.get(&format!("/v1/show/{noun}"))?)?);
        }
        Ok(look)
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build()?;
    let mut before = look()?;
    let mut shown = 0;
    while args.count.is_none_or(|count| shown < count) {
        let interval = Duration::from_secs_f64(args.interval);
        runtime.block_on(async { tokio::time::sleep(interval).await });
        let now = look()?;
        let items = now.rates_since(&before);
        if args.client.json {
            answer(document(&items))?;
        } else {
            // Each frame replaces the previous one, as in top(1).
            let size = terminal();
            let clear = if size.is_some() { "\x1b[H\x1b[2J" } else { "" };
            answer(format!("{clear}{}", frame(&items, size).join("\n")))?;
        }
        before = now;
        shown += 1;
    }
    Ok(ExitCode::SUCCESS)
}

fn document(items: &[Value]) -> Value {
    json!({ "schema": "nearhop.top.v1", "items": items })
}

/// The size of a frame if standard output is a terminal. One line is left for the cursor, so
/// nothing scrolls.
fn terminal() -> Option<Size> {
    let stdout = std::io::stdout();
    if !stdout.is_terminal() {
        return None;
    }
    // A terminal of unknown size reports 0.
    let size = rustix::termios::tcgetwinsize(&stdout).ok();
    let size = size.filter(|size| size.ws_col > 0 && size.ws_row > 0);
    let (width, lines) = size.map_or((80, 24), |size| (size.ws_col, size.ws_row));
    Some(Size { width: width.into(), lines: usize::from(lines).saturating_sub(1) })
}

/// What an item's counters belong to.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
enum Of {
    Port(String),
    Verdict(String),
    Service { service: String, family: String },
    Site { service: String, family: String, site: String },
}

impl Of {
    /// Everything to which the counters of an item of `show NOUN` are added.
    fn all(noun: &str, item: &Map<String, Value>) -> Vec<Self> {
        let text = |key: &str| item.get(key).and_then(Value::as_str).unwrap_or("-").to_owned();
        match noun {
            "ports" => vec![Self::Port(text("port"))],
            "verdicts" => vec![Self::Verdict(text("verdict"))],
            _ => {
                let (service, family, site) = (text("service"), text("family"), text("site"));
                let whole = Self::Service { service: service.clone(), family: family.clone() };
                vec![whole, Self::Site { service, family, site }]
            }
        }
    }

    /// The position of its kind in the document.
    fn rank(&self) -> u8 {
        match self {
            Self::Port(_) => 0,
            Self::Verdict(_) => 1,
            Self::Service { .. } => 2,
            Self::Site { .. } => 3,
        }
    }

    /// The keys that identify it, without its rates.
    fn item(&self) -> Value {
        match self {
            Self::Port(port) => json!({ "of": "port", "name": port, "port": port }),
            Self::Verdict(verdict) => {
                json!({ "of": "verdict", "name": verdict, "verdict": verdict })
            }
            Self::Service { service, family } => json!({
                "of": "service", "name": service, "service": service, "family": family,
                "site": null,
            }),
            Self::Site { service, family, site } => json!({
                "of": "site", "name": format!("{site} of {service}"), "service": service,
                "family": family, "site": site,
            }),
        }
    }
}

/// The counters at one moment.
struct CounterSample {
    at: Nanos,
    /// In the order of [`COUNTERS`]; `None` for counters it does not have.
    counters: BTreeMap<Of, [Option<u64>; COUNTERS.len()]>,
}

impl CounterSample {
    fn add(&mut self, noun: &str, document: &Value) {
        let items = document.get("items").and_then(Value::as_array);
        for item in items.into_iter().flatten().filter_map(Value::as_object) {
            for of in Of::all(noun, item) {
                let counters = self.counters.entry(of).or_default();
                for (sum, counter) in counters.iter_mut().zip(COUNTERS) {
                    if let Some(count) = item.get(counter.count).and_then(Value::as_u64) {
                        *sum = Some(sum.unwrap_or(0) + count);
                    }
                }
            }
        }
    }

    /// Rates, most packets first within each kind. Items without packets are left out, except
    /// ports.
    fn rates_since(&self, before: &Self) -> Vec<Value> {
        let seconds = self.at.since(before.at).as_secs_f64().max(0.001);
        let mut items = Vec::new();
        for (of, counters) in &self.counters {
            let mut item = of.item();
            let mut packets = 0;
            let old = before.counters.get(of).copied().unwrap_or_default();
            for ((counter, now), old) in COUNTERS.iter().zip(counters).zip(old) {
                let Some(now) = now else { continue };
                // A restarted router counts from 0: the rate is then 0, not negative.
                let more = now.saturating_sub(old.unwrap_or(0));
                item[counter.rate] = json!((more as f64 / seconds).round() as u64);
                packets += if counter.is_packets { more } else { 0 };
            }
            if packets > 0 || matches!(of, Of::Port(_)) {
                items.push((of, packets, item));
            }
        }
        items.sort_by_key(|(of, packets, _)| (of.rank(), Reverse(*packets)));
        items.into_iter().map(|(.., item)| item).collect()
    }
}

/// The documents with counters.
const NOUNS: [&str; 3] = ["ports", "verdicts", "services"];

/// A counter of `show` and its rate.
struct Counter {
    /// Key in the items of `show`.
    count: &'static str,
    /// Key in the items of `top`.
    rate: &'static str,
    /// Whether it counts packets, not bytes.
    is_packets: bool,
}

const fn packets(count: &'static str, rate: &'static str) -> Counter {
    Counter { count, rate, is_packets: true }
}

const fn bytes(count: &'static str, rate: &'static str) -> Counter {
    Counter { count, rate, is_packets: false }
}

const COUNTERS: [Counter; 7] = [
    packets("packets", "packets_per_s"),
    bytes("bytes", "bytes_per_s"),
    packets("rx_packets", "rx_packets_per_s"),
    bytes("rx_bytes", "rx_bytes_per_s"),
    packets("tx_packets", "tx_packets_per_s"),
    bytes("tx_bytes", "tx_bytes_per_s"),
    packets("tx_dropped", "dropped_per_s"),
];

#[cfg(test)]
pub(super) mod tests;
