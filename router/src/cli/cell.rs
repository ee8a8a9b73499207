//! Formats a value for people, by its declared type.
#![forbid(unsafe_code)]

use std::fmt::{self, Write as _};

use serde::Deserializer;
use serde::de::{DeserializeSeed, Error, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

use crate::api::column::{Field, Unit};
use crate::printable;

/// Reads a value of a declared unit, or of none, and appends it as text: a table has no other form of it. A
/// value of another JSON type, from a router of another version, is written unchanged.
pub(super) struct CellSeed<'t> {
    pub(super) unit: Option<Unit>,
    pub(super) text: &'t mut String,
}

/// What a value was, apart from its text.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum CellKind {
    Null,
    Number,
    True,
    Other,
}

/// Appends a value of a declared unit.
pub(super) fn push_field(unit: Unit, field: Field<'_>, text: &mut String) {
    match field {
        Field::Flag(set) => push_flag(Some(unit), set, text),
        Field::List([]) => text.push('-'),
        Field::List(parts) => text.push_str(&printable::line(&parts.join(", "))),
        Field::Number(number) => push_whole(Some(unit), number, text),
        Field::Share(number) => push_float(Some(unit), number, text),
        Field::Text(words) => push_text(words, text),
        Field::Unknown => push_null(Some(unit), text),
    }
}

/// Appends what stands for `null`, or for a key that is absent.
pub(super) fn push_null(unit: Option<Unit>, text: &mut String) {
    text.push_str(if let Some(Unit::TextOr(all)) = unit { all } else { "-" });
}

/// An undeclared key as a heading.
pub(super) fn heading(key: &str) -> String {
    printable::line(&key.replace('_', " ")).into_owned()
}

fn push_text(words: &str, text: &mut String) {
    let words = printable::line(words);
    text.push_str(if words.is_empty() { "-" } else { &words });
}

fn push_flag(unit: Option<Unit>, set: bool, text: &mut String) {
    text.push_str(match (unit, set) {
        (Some(Unit::Mark), true) => ">",
        (Some(Unit::Mark), false) => "",
        (_, true) => "yes",
        (_, false) => "no",
    });
}

fn push_whole(unit: Option<Unit>, number: u64, text: &mut String) {
    match unit.map(|unit| number_cell(unit, number as f64)) {
        Some(Some(cell)) => text.push_str(&cell),
        _ => drop(write!(text, "{number}")),
    }
}

fn push_float(unit: Option<Unit>, number: f64, text: &mut String) {
    match unit.map(|unit| number_cell(unit, number)) {
        Some(Some(cell)) => text.push_str(&cell),
        // As in JSON.
        _ => match Number::from_f64(number) {
            Some(number) => drop(write!(text, "{number}")),
            None => drop(write!(text, "{number}")),
        },
    }
}

impl<'de> DeserializeSeed<'de> for CellSeed<'_> {
    type Value = CellKind;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<CellKind, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for CellSeed<'_> {
    type Value = CellKind;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_bool<E: Error>(self, set: bool) -> Result<CellKind, E> {
        push_flag(self.unit, set, self.text);
        Ok(if set { CellKind::True } else { CellKind::Other })
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<CellKind, E> {
        push_whole(self.unit, number, self.text);
        Ok(CellKind::Number)
    }

    fn visit_i64<E: Error>(self, number: i64) -> Result<CellKind, E> {
        match self.unit.map(|unit| number_cell(unit, number as f64)) {
            Some(Some(cell)) => self.text.push_str(&cell),
            _ => drop(write!(self.text, "{number}")),
        }
        Ok(CellKind::Number)
    }

    fn visit_f64<E: Error>(self, number: f64) -> Result<CellKind, E> {
        push_float(self.unit, number, self.text);
        Ok(CellKind::Number)
    }

    fn visit_str<E: Error>(self, words: &str) -> Result<CellKind, E> {
        push_text(words, self.text);
        Ok(CellKind::Other)
    }

    fn visit_unit<E: Error>(self) -> Result<CellKind, E> {
        push_null(self.unit, self.text);
        Ok(CellKind::Null)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut values: A) -> Result<CellKind, A::Error> {
        let start = self.text.len();
        loop {
            let end = self.text.len();
            if end > start {
                self.text.push_str(", ");
            }
            let seed = CellSeed { unit: None, text: &mut *self.text };
            if values.next_element_seed(seed)?.is_none() {
                self.text.truncate(end);
                break;
            }
        }
        if self.text.len() == start {
            self.text.push('-');
        }
        Ok(CellKind::Other)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<CellKind, A::Error> {
        let mut map = Map::new();
        while let Some((key, value)) = entries.next_entry()? {
            map.insert(key, value);
        }
        self.text.push_str(&printable::json(&Value::Object(map).to_string()));
        Ok(CellKind::Other)
    }
}

/// `None` for a unit whose numbers are shown unchanged.
fn number_cell(unit: Unit, value: f64) -> Option<String> {
    Some(match unit {
        Unit::Age(scale) | Unit::Duration(scale) => span(value * scale.nanos() as f64),
        Unit::BitRate => amount(value * 8.0),
        Unit::Bytes | Unit::Count | Unit::PacketRate => amount(value),
        Unit::Percent => percent(value),
        Unit::Ratio => format!("{value:.1}"),
        Unit::Cost
        | Unit::Flag
        | Unit::List
        | Unit::Mark
        | Unit::Number
        | Unit::State
        | Unit::Text
        | Unit::TextOr(_) => return None,
    })
}

/// Formats a number: exact below 10,000; above with three digits and a suffix (`12.3k`, `123k`), or
/// two (`1.2M`).
fn amount(number: f64) -> String {
    if number < 9_999.5 {
        return format!("{number:.0}");
    }
    let mut rest = number;
    for letter in ["k", "M", "G", "T", "P"] {
        rest /= 1_000.0;
        if rest < 99.95 {
            return format!("{rest:.1}{letter}");
        }
        if rest < 999.5 {
            return format!("{rest:.0}{letter}");
        }
    }
    format!("{:.1}E", rest / 1_000.0)
}

/// Formats a share. `0%` and `100%` are exact: no other share is rounded to them.
fn percent(share: f64) -> String {
    let percent = (share * 100.0).round();
    let shown = if share > 0.0 && share < 1.0 { percent.clamp(1.0, 99.0) } else { percent };
    format!("{shown:.0}%")
}

/// Formats a duration in nanoseconds with two or three digits.
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

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::api::column::Scale;

    #[test]
    fn the_unit_decides_how_a_value_is_written() {
        for (unit, value, want) in [
            (Unit::PacketRate, json!(1_202), "1202"),
            (Unit::BitRate, json!(529_400), "4.2M"),
            (Unit::Bytes, json!(529_400), "529k"),
            (Unit::Cost, json!(4_294_967_295_u32), "4294967295"),
            (Unit::Number, json!(65_535), "65535"),
            (Unit::Ratio, json!(12), "12.0"),
            (Unit::Age(Scale::Ms), json!(1_202), "1.2s"),
            (Unit::Duration(Scale::Us), json!(1_202), "1.2ms"),
            (Unit::Mark, json!(true), ">"),
            (Unit::Mark, json!(false), ""),
            (Unit::Flag, json!(false), "no"),
            (Unit::List, json!(["a", "b"]), "a, b"),
            (Unit::List, json!([]), "-"),
            (Unit::Text, json!(null), "-"),
            (Unit::TextOr("(all)"), json!(null), "(all)"),
            (Unit::TextOr("(all)"), json!("fra"), "fra"),
            (Unit::Count, json!(null), "-"),
            (Unit::Count, json!("many"), "many"),
            (Unit::Text, json!(12_345), "12345"),
            (Unit::Text, json!("\u{1b}]0;x\u{7}"), "\\u{1b}]0;x\\u{7}"),
            (Unit::List, json!(["a\nb", {"k": "\u{9b}2J"}]), "a\\u{a}b, {\"k\":\"\\u009b2J\"}"),
        ] {
            let mut text = String::new();
            CellSeed { unit: Some(unit), text: &mut text }.deserialize(&value).unwrap();
            assert_eq!(text, want, "{unit:?} {value}");
        }
    }

    #[test]
    fn amounts_have_at_most_four_digits() {
        for (number, want) in [
            (0.0, "0"),
            (9_999.0, "9999"),
            (10_000.0, "10.0k"),
            (12_345.0, "12.3k"),
            (99_949.0, "99.9k"),
            (99_950.0, "100k"),
            (999_499.0, "999k"),
            (999_500.0, "1.0M"),
            (1_234_567.0, "1.2M"),
            (2.5e10, "25.0G"),
            (u64::MAX as f64, "18.4E"),
        ] {
            assert_eq!(amount(number), want, "{number}");
        }
    }

    #[test]
    fn only_none_and_all_read_as_none_and_all() {
        for (share, want) in [
            (0.0, "0%"),
            (1.0 / 65_535.0, "1%"),
            (0.38, "38%"),
            (65_534.0 / 65_535.0, "99%"),
            (1.0, "100%"),
        ] {
            assert_eq!(percent(share), want, "{share}");
        }
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
