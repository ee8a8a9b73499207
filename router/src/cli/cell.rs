//! Formats a value for people, by its declared type.
#![forbid(unsafe_code)]

use serde_json::Value;

use crate::api::nouns::Unit;

/// Formats a value of a declared unit. A value of another JSON type, from a router of another
/// version, is printed unchanged.
pub(super) fn cell(unit: Unit, value: &Value) -> String {
    match (unit, value) {
        (Unit::TextOr(all), Value::Null) => all.into(),
        (Unit::Mark, Value::Bool(set)) => if *set { ">" } else { "" }.into(),
        (_, Value::Number(number)) => number_cell(unit, number),
        _ => plain(value),
    }
}

/// Formats a value without a declared unit.
pub(super) fn plain(value: &Value) -> String {
    match value {
        Value::Null => "-".into(),
        Value::Bool(set) => if *set { "yes" } else { "no" }.into(),
        Value::Number(number) => number.to_string(),
        Value::String(text) if text.is_empty() => "-".into(),
        Value::String(text) => text.clone(),
        Value::Array(values) if values.is_empty() => "-".into(),
        Value::Array(values) => values.iter().map(plain).collect::<Vec<_>>().join(", "),
        Value::Object(_) => value.to_string(),
    }
}

fn number_cell(unit: Unit, number: &serde_json::Number) -> String {
    let value = number.as_f64().unwrap_or(0.0);
    match unit {
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
        | Unit::Text
        | Unit::TextOr(_) => number.to_string(),
    }
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
    use crate::api::nouns::Scale;

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
        ] {
            assert_eq!(cell(unit, &value), want, "{unit:?} {value}");
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
