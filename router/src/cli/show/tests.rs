//! Documents as text, and the declarations of their keys.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use serde_json::json;

use super::*;
use crate::api::column::{Scale, Type, Unit};
use crate::api::nouns::SHOWN;
use crate::api::views;
use crate::cli::top;

fn document(noun: &str, document: &Value) -> String {
    let mut text = Vec::new();
    Shown::read(noun, document).unwrap().write(&mut text, None).unwrap();
    String::from_utf8(text).unwrap().trim_end().to_owned()
}

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
        "schema": "nearhop.explain.v1", "prefix": "198.51.100.53/32", "group": "dns/ipv4",
        "items": [{ "site": "fra", "chosen": false, "reasons": ["probe", "carrier"], "tags": [] }],
    });
    insta::assert_snapshot!(document("explain", &explained));
}

/// In a terminal of 80 columns, a table of any noun has the columns that are never left out, whole.
#[test]
fn what_is_essential_fits_80_columns() {
    for (name, document) in views::tests::documents() {
        let mut text = Vec::new();
        Shown::read(name, &document).unwrap().write(&mut text, Some(80)).unwrap();
        let text = String::from_utf8(text).unwrap();
        let noun = Noun::find(name).unwrap();
        let table: Vec<_> = text.lines().skip(noun.head.len()).collect();
        assert!(table.iter().all(|line| line.chars().count() <= 80), "{text}");
        let essential = noun.columns.iter().filter(|column| column.rank == 0);
        for Column { key, header, .. } in essential {
            let has_value =
                document["items"].as_array().unwrap().iter().any(|item| !item[key].is_null());
            assert!(!has_value || table[0].contains(header), "{name}: {header}: {text}");
        }
    }
}

#[test]
fn anything_a_server_might_say_is_shown_somehow() {
    for odd in [json!(null), json!([1]), json!({ "items": {} }), json!({ "items": [1, null] })] {
        assert_eq!(document("fib", &odd).lines().count(), 0, "{odd}");
    }
    assert_eq!(document("x", &json!({ "items": [{}] })), "");
}

/// Compares the JSON of a document of every noun with the keys of its rows.
#[test]
fn every_key_of_every_document_is_a_column_and_holds_what_its_unit_says() {
    let mut documents = views::tests::documents();
    documents.push(("top", {
        let (ports, verdicts, services) = views::tests::counted();
        top::tests::document(&ports, &verdicts, &services)
    }));
    let named = |names: &mut dyn Iterator<Item = &'static str>| names.collect::<BTreeSet<_>>();
    assert_eq!(
        named(&mut documents.iter().map(|(noun, _)| *noun)),
        named(&mut Noun::all().map(|noun| noun.name)),
        "a document for each noun"
    );
    for (name, document) in &documents {
        assert_eq!(document["schema"], format!("nearhop.{name}.v1"));
        let noun = Noun::find(name).unwrap();
        let mut own = document.as_object().unwrap().clone();
        own.retain(|key, _| key != "schema" && key != "items");
        check(name, noun.head, &[own]);
        let items = document["items"].as_array().unwrap();
        let items: Vec<_> = items.iter().map(|item| item.as_object().unwrap().clone()).collect();
        check(name, noun.columns, &items);
    }
}

/// No two keys are the same, every key is present, and its values match its unit.
fn check(noun: &str, declared: &[Column], items: &[Map<String, Value>]) {
    let have: BTreeSet<&str> = items.iter().flat_map(Map::keys).map(String::as_str).collect();
    let keys: BTreeSet<&str> = declared.iter().map(|column| column.key).collect();
    assert_eq!(keys.len(), declared.len(), "{noun}: a key is declared twice");
    assert_eq!(have, keys, "{noun}: keys of its JSON (left), its columns (right)");
    for Column { key, unit, .. } in declared {
        let mut values = items.iter().filter_map(|item| item.get(*key)).filter(|v| !v.is_null());
        if let Some(value) = values.find(|value| !holds(*unit, value)) {
            panic!("{noun}: {key} is declared as {unit:?}, and is {value}");
        }
    }
}

fn holds(unit: Unit, value: &Value) -> bool {
    match (unit, unit.type_of()) {
        (Unit::Percent, _) => value.as_f64().is_some_and(|share| (0.0..=1.0).contains(&share)),
        (_, Type::Flag) => value.is_boolean(),
        (_, Type::List) => value.as_array().is_some_and(|list| list.iter().all(Value::is_string)),
        (_, Type::Number) => value.is_u64(),
        (_, Type::Share) => value.is_number(),
        (_, Type::Text) => value.is_string(),
    }
}

#[test]
fn every_column_is_described_by_a_sentence_with_its_unit() {
    for noun in Noun::all() {
        for Column { key, about, unit, .. } in noun.head.iter().chain(noun.columns) {
            let place = format!("{}: {key}: {about:?}", noun.name);
            assert!(about.ends_with('.') && about.len() < 120, "{place}");
            assert!(!about.starts_with(char::is_whitespace), "{place}");
            let has_unit = match unit {
                Unit::Age(Scale::Ms) | Unit::Duration(Scale::Ms) => about.contains("milliseconds"),
                Unit::Age(Scale::Us) | Unit::Duration(Scale::Us) => about.contains("microseconds"),
                Unit::Bytes => about.contains("ytes"),
                Unit::PacketRate | Unit::BitRate => about.contains("per second"),
                _ => true,
            };
            assert!(has_unit, "{place}");
        }
    }
    assert!(SHOWN.iter().all(|noun| noun.about.ends_with('.')));
}

/// The unit in a key's name agrees with its declared unit.
#[test]
fn keys_are_named_by_their_units() {
    let ends = |key: &str, ends: &[&str]| ends.iter().any(|end| key.ends_with(end));
    for noun in Noun::all() {
        for Column { key, unit, .. } in noun.head.iter().chain(noun.columns) {
            let agrees = match unit {
                Unit::Age(Scale::Ms) | Unit::Duration(Scale::Ms) => key.ends_with("_ms"),
                Unit::Age(Scale::Us) | Unit::Duration(Scale::Us) => key.ends_with("_us"),
                Unit::BitRate => key.ends_with("bytes_per_s"),
                Unit::Bytes => key.ends_with("bytes"),
                Unit::PacketRate => ends(key, &["packets_per_s", "dropped_per_s"]),
                _ => !ends(key, &["_ns", "_us", "_ms", "_s", "bytes"]),
            };
            assert!(agrees, "{}: {key} is {unit:?}", noun.name);
        }
    }
}

#[test]
fn the_table_of_all_columns() {
    let mut lines = String::new();
    for noun in Noun::all() {
        for Column { key, header, unit, rank, .. } in noun.head.iter().chain(noun.columns) {
            let (unit, example) = (format!("{unit:?}"), cell(*unit, &example(*unit)));
            let name = noun.name;
            writeln!(lines, "{name:9} {rank:2} {key:17} {header:17} {unit:17} {example}").unwrap();
        }
    }
    insta::assert_snapshot!(lines);
}

fn cell(unit: Unit, value: &Value) -> String {
    let mut text = String::new();
    CellSeed { unit: Some(unit), text: &mut text }.deserialize(value).unwrap();
    text
}

fn example(unit: Unit) -> Value {
    match unit {
        Unit::Age(_) | Unit::Duration(_) => json!(1_202),
        Unit::BitRate | Unit::Bytes | Unit::Count | Unit::PacketRate => json!(1_234_567),
        Unit::Cost | Unit::Number => json!(65_535),
        Unit::Flag | Unit::Mark => json!(true),
        Unit::List => json!(["one", "two"]),
        Unit::Percent => json!(0.38),
        Unit::Ratio => json!(12.34),
        Unit::State | Unit::Text => json!("text"),
        Unit::TextOr(_) => json!(null),
    }
}
