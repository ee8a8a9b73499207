//! `{"schema": ..., "items": [...]}` documents as tables for people.
//!
//! Tables are made from the items alone: the columns a noun is known for come first, in their
//! order, then whatever else the items have. A key's unit decides how its values are written.
#![forbid(unsafe_code)]

use comfy_table::{CellAlignment, ContentArrangement, Table, presets};
use serde_json::{Map, Value};

/// A document as text: its own fields one a line, then the table of its items.
pub(super) fn document(noun: &str, document: &Value) -> String {
    let mut parts = Vec::new();
    if let Some(fields) = document.as_object() {
        let own = fields.iter().filter(|(key, _)| !matches!(key.as_str(), "schema" | "items"));
        parts.extend(own.map(|(key, value)| format!("{}: {}", label(key), cell(key, value))));
    }
    let empty = Vec::new();
    let items = document.get("items").and_then(Value::as_array).unwrap_or(&empty);
    let items: Vec<_> = items.iter().filter_map(Value::as_object).collect();
    if !items.is_empty() {
        parts.push(table(known_columns(noun), &items));
    }
    if items.iter().any(|item| MARKS.iter().any(|mark| item.get(*mark) == Some(&Value::Bool(true))))
    {
        parts.push(LEGEND.to_owned());
    }
    parts.join("\n")
}

fn table(known: &[&str], items: &[&Map<String, Value>]) -> String {
    let columns = columns(known, items);
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled);
    table.set_header(columns.iter().map(|key| header(key)));
    for item in items {
        table.add_row(columns.iter().map(|key| cell(key, item.get(*key).unwrap_or(&Value::Null))));
    }
    for (column, key) in table.column_iter_mut().zip(&columns) {
        column.set_padding((0, 2));
        let mut values = items.iter().filter_map(|item| item.get(*key)).filter(|v| !v.is_null());
        if values.clone().next().is_some() && values.all(Value::is_number) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    table.lines().map(|line| line.trim_end().to_owned()).collect::<Vec<_>>().join("\n")
}

/// Keys that an item has, known ones first.
fn columns<'a>(known: &[&'a str], items: &[&'a Map<String, Value>]) -> Vec<&'a str> {
    let present = |key: &str| items.iter().any(|item| item.contains_key(key));
    let mut columns: Vec<&str> = known.iter().copied().filter(|key| present(key)).collect();
    for item in items {
        for key in item.keys() {
            if !columns.contains(&key.as_str()) {
                columns.push(key);
            }
        }
    }
    columns
}

/// A key without its unit, as words.
fn label(key: &str) -> String {
    let bare = UNITS.iter().find_map(|(suffix, _)| key.strip_suffix(suffix));
    bare.unwrap_or(key).replace('_', " ")
}

fn header(key: &str) -> String {
    if MARKS.contains(&key) { String::new() } else { label(key).to_uppercase() }
}

fn cell(key: &str, value: &Value) -> String {
    match value {
        Value::Null => "-".into(),
        Value::Bool(set) if MARKS.contains(&key) => if *set { ">" } else { "" }.into(),
        Value::Bool(set) => if *set { "yes" } else { "no" }.into(),
        Value::Number(number) => match UNITS.iter().find(|(suffix, _)| key.ends_with(suffix)) {
            Some((_, nanos)) => span(number.as_f64().unwrap_or(0.0) * nanos),
            None => number.to_string(),
        },
        Value::String(text) if text.is_empty() => "-".into(),
        Value::String(text) => text.clone(),
        Value::Array(values) if values.is_empty() => "-".into(),
        Value::Array(values) => {
            values.iter().map(|value| cell(key, value)).collect::<Vec<_>>().join(", ")
        }
        Value::Object(_) => value.to_string(),
    }
}

/// A span of nanoseconds in two or three digits, as people say it.
fn span(nanos: f64) -> String {
    let seconds = nanos / 1e9;
    match seconds {
        s if s < 0.001 => format!("{:.0}us", nanos / 1e3),
        s if s < 1.0 => format!("{:.1}ms", nanos / 1e6),
        s if s < 60.0 => format!("{s:.1}s"),
        s if s < 3_600.0 => format!("{}m{}s", whole(s / 60.0), whole(s % 60.0)),
        s if s < 86_400.0 => format!("{}h{}m", whole(s / 3_600.0), whole(s % 3_600.0 / 60.0)),
        s => format!("{}d{}h", whole(s / 86_400.0), whole(s % 86_400.0 / 3_600.0)),
    }
}

fn whole(number: f64) -> u64 {
    number as u64
}

/// What `show NOUN` begins with.
fn known_columns(noun: &str) -> &'static [&'static str] {
    let found = COLUMNS.iter().find(|(name, _)| *name == noun);
    found.map_or(&[], |(_, columns)| columns)
}

const COLUMNS: [(&str, &[&str]); 10] = [
    (
        "services",
        &[
            "service",
            "family",
            "prefix",
            "best",
            "site",
            "port",
            "state",
            "tier",
            "cost",
            "latency_us",
            "accept",
            "packets",
            "bytes",
            "age_ms",
            "why",
        ],
    ),
    (
        "fib",
        &[
            "prefix",
            "source",
            "kind",
            "group",
            "best",
            "site",
            "port",
            "tier",
            "weight",
            "cost",
            "state",
            "reasons",
            "service",
            "family",
            "latency_us",
            "accept",
            "age_ms",
            "why",
        ],
    ),
    ("routes", &["prefix", "source", "kind", "via", "state"]),
    (
        "ports",
        &[
            "port",
            "device",
            "netns",
            "engine",
            "kind",
            "queues",
            "offloads",
            "state",
            "mtu",
            "rx_packets",
            "rx_bytes",
            "packets_per_batch",
            "packets_per_read",
            "tx_packets",
            "tx_bytes",
            "packets_per_write",
            "tx_dropped",
            "device_dropped",
            "device_refused",
            "why",
        ],
    ),
    ("drops", &["reason", "packets", "text"]),
    ("verdicts", &["verdict", "outcome", "packets", "text"]),
    (
        "workers",
        &[
            "worker",
            "busy_poll_us",
            "sleeps",
            "found_awake",
            "busy_ms",
            "lookups_v4_by",
            "lookups_v6_by",
        ],
    ),
    (
        "neighbors",
        &[
            "neighbor",
            "site",
            "service",
            "port",
            "kind",
            "state",
            "latency_us",
            "sent",
            "answered",
            "lost",
            "age_ms",
        ],
    ),
    (
        "explain",
        &[
            "chosen",
            "best",
            "site",
            "port",
            "tier",
            "cost",
            "state",
            "reasons",
            "latency_us",
            "accept",
            "weight",
            "service",
            "family",
            "age_ms",
            "why",
        ],
    ),
    ("drain", &["site", "service", "drained"]),
];

/// Keys whose truth is a mark and not a word.
const MARKS: [&str; 2] = ["best", "chosen"];

const LEGEND: &str = "> packets go there now";

/// Suffixes of keys, and their unit in nanoseconds.
const UNITS: [(&str, f64); 4] = [("_ns", 1.0), ("_us", 1e3), ("_ms", 1e6), ("_s", 1e9)];

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn tables_put_what_is_known_first_and_numbers_to_the_right() {
        let services = json!({
            "schema": "nearhop.services.v1",
            "items": [
                { "service": "dns", "family": "ipv4", "best": true, "site": "fra", "port": "fra", "cost": 27,
                  "latency_us": 420, "age_ms": 4_100, "why": "lowest cost", "weight": 1 },
                { "service": "dns", "family": "ipv4", "best": false, "site": "par", "port": "par", "cost": 131,
                  "latency_us": null, "age_ms": 62_000, "why": "higher cost", "drained": false },
            ],
        });
        insta::assert_snapshot!(document("services", &services));
        let explained = json!({
            "schema": "nearhop.explain.v1", "prefix": "198.51.100.53/32", "group": 7,
            "items": [{ "site": "fra", "chosen": false, "reasons": ["probe", "carrier"], "tags": [] }],
        });
        insta::assert_snapshot!(document("explain", &explained));
    }

    #[test]
    fn anything_a_server_might_say_is_shown_somehow() {
        for odd in [json!(null), json!([1]), json!({ "items": {} }), json!({ "items": [1, null] })]
        {
            assert_eq!(document("fib", &odd).lines().count(), 0, "{odd}");
        }
        assert_eq!(document("x", &json!({ "items": [{}] })), "");
    }

    #[test]
    fn spans_are_short() {
        for (nanos, want) in [
            (0.0, "0us"),
            (420e3, "420us"),
            (27.3e6, "27.3ms"),
            (4.1e9, "4.1s"),
            (62e9, "1m2s"),
            (7_260e9, "2h1m"),
            (100_000e9, "1d3h"),
        ] {
            assert_eq!(span(nanos), want);
        }
    }
}
