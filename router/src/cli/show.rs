//! Formats `{"schema": ..., "items": [...]}` documents as text.
//!
//! The keys of a noun are declared in [`nouns`](crate::api::nouns). Other keys, from a router of
//! another version, are shown unchanged.
#![forbid(unsafe_code)]

use serde_json::Value;

use super::cell::{cell, plain};
use super::table::TextTable;
use crate::api::nouns::{Column, Noun, Unit};

/// A document as text: its own fields, one per line, then the table of its items.
pub(super) fn document(noun: &str, document: &Value) -> String {
    let noun = Noun::find(noun);
    let mut parts = Vec::new();
    if let Some(document) = document.as_object() {
        let own = document.iter().filter(|(key, _)| !matches!(key.as_str(), "schema" | "items"));
        parts.extend(own.map(|(key, value)| field(noun, key, value)));
    }
    let items = document.get("items").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
    let items: Vec<_> = items.iter().filter_map(Value::as_object).collect();
    let columns = noun.map_or(&[][..], |noun| noun.columns);
    if !items.is_empty() {
        parts.push(TextTable::new(columns, &items).lines(None).join("\n"));
    }
    let marks = columns.iter().filter(|column| column.unit == Unit::Mark);
    let is_set = |mark: &Column| items.iter().any(|item| item.get(mark.key) == Some(&true.into()));
    if marks.into_iter().any(is_set) {
        parts.push(LEGEND.to_owned());
    }
    parts.join("\n")
}

fn field(noun: Option<&Noun>, key: &str, value: &Value) -> String {
    let declared = noun.and_then(|noun| noun.fields.iter().find(|field| field.key == key));
    match declared {
        Some(Column { header, unit, .. }) => format!("{header}: {}", cell(*unit, value)),
        None => format!("{}: {}", key.replace('_', " "), plain(value)),
    }
}

const LEGEND: &str = "> packets go there now";

#[cfg(test)]
mod tests;
