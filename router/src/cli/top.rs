//! `nearhop top`: what the counters of a running router did since the last look.
#![forbid(unsafe_code)]

use std::collections::BTreeMap;
use std::io::IsTerminal as _;
use std::process::ExitCode;
use std::time::Duration;

use serde_json::{Map, Value, json};

use super::args::TopArgs;
use super::output::{Failure, answer};
use super::{client, show};
use crate::time::Nanos;

pub(super) fn run(args: &TopArgs) -> Result<ExitCode, Failure> {
    let client = client::connect(&args.client.socket)?;
    let look = || -> Result<Look, Failure> {
        let mut look = Look { at: Nanos::now(), counters: BTreeMap::new() };
        for noun in ["ports", "verdicts", "services"] {
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
        let document = json!({ "schema": "nearhop.top.v1", "items": items });
        if args.client.json {
            answer(document.to_string())?;
        } else {
            // As top(1) does: the newest in the place of the one before.
            let clear = if std::io::stdout().is_terminal() { "\x1b[H\x1b[2J" } else { "" };
            answer(format!("{clear}{}", show::document("top", &document)))?;
        }
        before = now;
        shown += 1;
    }
    Ok(ExitCode::SUCCESS)
}

/// The counters at one moment.
struct Look {
    at: Nanos,
    /// By what they are of, then by name.
    counters: BTreeMap<(&'static str, String), BTreeMap<&'static str, u64>>,
}

impl Look {
    fn add(&mut self, noun: &str, document: &Value) {
        let items = document.get("items").and_then(Value::as_array);
        for item in items.into_iter().flatten().filter_map(Value::as_object) {
            let text = |key: &str| item.get(key).and_then(Value::as_str).unwrap_or("-").to_owned();
            let of = match noun {
                "ports" => vec![("port", text("port"))],
                "verdicts" => vec![("verdict", text("verdict"))],
                _ => vec![
                    ("service", text("service")),
                    ("site", format!("{} of {}", text("site"), text("service"))),
                ],
            };
            for key in of {
                let counters = self.counters.entry(key).or_default();
                for (name, key) in COUNTERS {
                    if let Some(count) = item.get(key).and_then(Value::as_u64) {
                        *counters.entry(name).or_default() += count;
                    }
                }
            }
        }
    }

    /// What went on, most first within each kind; what stood still is left out, but for ports.
    fn rates_since(&self, before: &Self) -> Vec<Value> {
        let seconds = self.at.since(before.at).as_secs_f64().max(0.001);
        let mut items: Vec<(&str, u64, Value)> = Vec::new();
        for ((kind, name), counters) in &self.counters {
            let old = before.counters.get(&(*kind, name.clone()));
            let mut item = Map::new();
            item.insert("of".into(), json!(kind));
            item.insert("name".into(), json!(name));
            let mut packets = 0;
            for (counter, now) in counters {
                // A counter that began anew has no rate yet.
                let old = old.and_then(|old| old.get(counter)).copied().unwrap_or(0);
                let more = now.saturating_sub(old);
                packets += more;
                item.insert((*counter).into(), json!((more as f64 / seconds).round() as u64));
            }
            if packets > 0 || *kind == "port" {
                items.push((kind, packets, Value::Object(item)));
            }
        }
        let order = ["port", "verdict", "service", "site"];
        let place = |kind: &str| order.iter().position(|one| *one == kind);
        items.sort_by_key(|(kind, packets, _)| (place(kind), std::cmp::Reverse(*packets)));
        items.into_iter().map(|(_, _, item)| item).collect()
    }
}

/// What is shown, and where it is in the documents.
const COUNTERS: [(&str, &str); 7] = [
    ("packets_per_s", "packets"),
    ("bytes_per_s", "bytes"),
    ("rx_packets_per_s", "rx_packets"),
    ("rx_bytes_per_s", "rx_bytes"),
    ("tx_packets_per_s", "tx_packets"),
    ("tx_bytes_per_s", "tx_bytes"),
    ("dropped_per_s", "tx_dropped"),
];

#[cfg(test)]
mod tests {
    use super::*;

    fn look(at_ms: u64, noun: &str, items: &Value) -> Look {
        let mut look = Look { at: Nanos(at_ms * 1_000_000), counters: BTreeMap::new() };
        look.add(noun, &json!({ "items": items }));
        look
    }

    #[test]
    fn rates_are_differences_over_the_time_between_two_looks() {
        let port =
            |rx: u64, tx: u64| json!([{ "port": "fra", "rx_packets": rx, "tx_packets": tx }]);
        let (before, after) = (look(0, "ports", &port(100, 7)), look(500, "ports", &port(600, 7)));
        let rates = after.rates_since(&before);
        assert_eq!(rates.len(), 1);
        assert_eq!(rates[0]["rx_packets_per_s"], 1000);
        assert_eq!(rates[0]["tx_packets_per_s"], 0);
        let restarted = look(1000, "ports", &port(5, 5)).rates_since(&after);
        assert_eq!(restarted[0]["rx_packets_per_s"], 0, "never below nothing");
    }

    #[test]
    fn legs_are_added_up_by_service_and_by_site_and_the_busiest_comes_first() {
        let legs = |ams: u64, fra: u64| {
            json!([
                { "service": "dns", "site": "ams", "family": "ipv4", "packets": ams },
                { "service": "dns", "site": "fra", "family": "ipv4", "packets": fra },
                { "service": "dns", "site": "fra", "family": "ipv6", "packets": fra },
                { "service": "web", "site": "ams", "family": "ipv4", "packets": 0 },
            ])
        };
        let (before, after) =
            (look(0, "services", &legs(0, 0)), look(1000, "services", &legs(10, 20)));
        let rates: Vec<_> = after
            .rates_since(&before)
            .iter()
            .map(|item| (item["name"].as_str().unwrap().to_owned(), item["packets_per_s"].clone()))
            .collect();
        let want = [("dns", 50), ("fra of dns", 40), ("ams of dns", 10)];
        assert_eq!(rates, want.map(|(name, rate)| (name.to_owned(), json!(rate))));
    }
}
