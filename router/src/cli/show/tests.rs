//! Documents as text, and the declarations of their keys.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use serde_json::{Map, json};

use super::*;
use crate::api::nouns::{NOUNS, Scale};
use crate::api::views;
use crate::cli::top;

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
    for odd in [json!(null), json!([1]), json!({ "items": {} }), json!({ "items": [1, null] })] {
        assert_eq!(document("fib", &odd).lines().count(), 0, "{odd}");
    }
    assert_eq!(document("x", &json!({ "items": [{}] })), "");
}

/// Compares the rows that the router builds with the declarations in `api/nouns.rs`.
#[test]
fn every_key_of_every_document_is_declared_with_what_it_is() {
    let mut documents = views::tests::documents();
    documents.push(("top", top::tests::document(&documents)));
    let named = |names: &mut dyn Iterator<Item = &'static str>| names.collect::<BTreeSet<_>>();
    assert_eq!(
        named(&mut documents.iter().map(|(noun, _)| *noun)),
        named(&mut NOUNS.iter().map(|noun| noun.name)),
        "a document for each noun"
    );
    for (name, document) in &documents {
        assert_eq!(document["schema"], format!("nearhop.{name}.v1"));
        let noun = Noun::find(name).unwrap();
        let mut own = document.as_object().unwrap().clone();
        own.retain(|key, _| key != "schema" && key != "items");
        check(name, noun.fields, &[own]);
        let items = document["items"].as_array().unwrap();
        let items: Vec<_> = items.iter().map(|item| item.as_object().unwrap().clone()).collect();
        check(name, noun.columns, &items);
    }
}

/// Every key is declared once, every declared key is present, and its values match its unit.
fn check(noun: &str, declared: &[Column], items: &[Map<String, Value>]) {
    let have: BTreeSet<&str> = items.iter().flat_map(Map::keys).map(String::as_str).collect();
    let keys: BTreeSet<&str> = declared.iter().map(|column| column.key).collect();
    assert_eq!(keys.len(), declared.len(), "{noun}: a key is declared twice");
    assert_eq!(
        have, keys,
        "{noun}: keys of its rows (left), keys declared in api/nouns.rs (right)"
    );
    for Column { key, unit, .. } in declared {
        let mut values = items.iter().filter_map(|item| item.get(*key)).filter(|v| !v.is_null());
        if let Some(value) = values.find(|value| !holds(*unit, value)) {
            panic!("{noun}: {key} is declared as {unit:?}, and is {value}");
        }
    }
}

fn holds(unit: Unit, value: &Value) -> bool {
    match unit {
        Unit::Flag | Unit::Mark => value.is_boolean(),
        Unit::List => value.as_array().is_some_and(|list| list.iter().all(Value::is_string)),
        Unit::Percent => value.as_f64().is_some_and(|share| (0.0..=1.0).contains(&share)),
        Unit::Ratio => value.is_number(),
        Unit::Text | Unit::TextOr(_) => value.is_string(),
        _ => value.is_u64(),
    }
}

/// The unit in a key's name agrees with its declared unit.
#[test]
fn keys_are_named_by_their_units() {
    let ends = |key: &str, ends: &[&str]| ends.iter().any(|end| key.ends_with(end));
    for noun in NOUNS {
        for Column { key, unit, .. } in noun.fields.iter().chain(noun.columns) {
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
    for noun in NOUNS {
        for Column { key, header, unit } in noun.fields.iter().chain(noun.columns) {
            let (unit, example) = (format!("{unit:?}"), cell(*unit, &example(*unit)));
            let name = noun.name;
            writeln!(lines, "{name:9} {key:17} {header:17} {unit:17} {example}").unwrap();
        }
    }
    insta::assert_snapshot!(lines);
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
        Unit::Text => json!("text"),
        Unit::TextOr(_) => json!(null),
    }
}
