//! Formats items as a table: a header, then one line per item.
#![forbid(unsafe_code)]

use std::borrow::Cow;

use comfy_table::{CellAlignment, ContentArrangement, presets};
use serde_json::{Map, Value};

use super::cell::{cell, plain};
use crate::api::nouns::Column;

/// A table of text cells, before layout.
pub(super) struct TextTable {
    columns: Vec<Laid>,
    /// Rows; each has as many cells as there are columns.
    rows: Vec<Vec<String>>,
}

/// How a column is laid out.
struct Laid {
    header: String,
    /// Numbers are aligned to the right and never shortened.
    is_number: bool,
}

impl TextTable {
    /// The declared columns that any item has, then the other keys of the items.
    pub(super) fn new(declared: &'static [Column], items: &[&Map<String, Value>]) -> Self {
        let present = |key: &str| items.iter().any(|item| item.contains_key(key));
        let declared = declared.iter().filter(|column| present(column.key));
        let mut table = Self::of(declared.clone(), items);
        let mut shown: Vec<&str> = declared.map(|column| column.key).collect();
        for key in items.iter().flat_map(|item| item.keys()) {
            if !shown.contains(&key.as_str()) {
                shown.push(key);
                table.add_unknown(key, items);
            }
        }
        table
    }

    /// Only these columns.
    pub(super) fn of(
        columns: impl Iterator<Item = &'static Column> + Clone,
        items: &[&Map<String, Value>],
    ) -> Self {
        let value = |item: &Map<_, _>, key: &str| item.get(key).cloned().unwrap_or(Value::Null);
        let row = |item: &&Map<_, _>| {
            columns.clone().map(|column| cell(column.unit, &value(item, column.key))).collect()
        };
        let laid = |column: &Column| Laid {
            header: column.header.to_owned(),
            is_number: column.unit.is_number(),
        };
        Self { rows: items.iter().map(row).collect(), columns: columns.map(laid).collect() }
    }

    /// Adds a column for an undeclared key, from a router of another version.
    fn add_unknown(&mut self, key: &str, items: &[&Map<String, Value>]) {
        let values = items.iter().map(|item| item.get(key).unwrap_or(&Value::Null));
        let is_number = values.clone().filter(|value| !value.is_null()).all(Value::is_number);
        self.columns.push(Laid { header: key.replace('_', " ").to_uppercase(), is_number });
        for (row, value) in self.rows.iter_mut().zip(values) {
            row.push(plain(value));
        }
    }

    /// The header and one line per item. If they are wider than `width` (in terminal columns),
    /// texts are shortened; if that is not enough, the last columns are left out.
    pub(super) fn lines(mut self, width: Option<usize>) -> Vec<String> {
        if let Some(width) = width {
            self.fit(width);
        }
        let mut table = comfy_table::Table::new();
        table.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled);
        table.set_header(self.columns.iter().map(|column| &column.header));
        table.add_rows(&self.rows);
        for (shown, column) in table.column_iter_mut().zip(&self.columns) {
            shown.set_padding((0, GAP as u16));
            if column.is_number {
                shown.set_cell_alignment(CellAlignment::Right);
            }
        }
        table.lines().map(|line| line.trim_end().to_owned()).collect()
    }

    fn fit(&mut self, width: usize) {
        while self.width() > width {
            let texts = (0..self.columns.len()).filter(|place| !self.columns[*place].is_number);
            let widest = texts.max_by_key(|place| self.column_width(*place));
            match widest.map(|place| (place, self.column_width(place))) {
                Some((place, wide)) if wide > TEXT_MIN => {
                    let excess = self.width() - width;
                    self.shorten(place, wide.saturating_sub(excess).max(TEXT_MIN));
                }
                _ if self.columns.len() > 1 => self.drop_last(),
                _ => return self.shorten(0, width),
            }
        }
    }

    fn width(&self) -> usize {
        let cells: usize = (0..self.columns.len()).map(|place| self.column_width(place)).sum();
        cells + GAP * self.columns.len().saturating_sub(1)
    }

    fn column_width(&self, place: usize) -> usize {
        let cells = self.rows.iter().map(|row| &row[place]);
        let widths = cells.chain([&self.columns[place].header]).map(|text| text.chars().count());
        widths.max().unwrap_or(0)
    }

    fn shorten(&mut self, place: usize, width: usize) {
        let cells = self.rows.iter_mut().map(|row| &mut row[place]);
        for text in cells.chain([&mut self.columns[place].header]) {
            if let Cow::Owned(short) = shortened(text, width) {
                *text = short;
            }
        }
    }

    fn drop_last(&mut self) {
        self.columns.pop();
        for row in &mut self.rows {
            row.pop();
        }
    }
}

/// The first `width` characters, the last of them an ellipsis if the text is longer.
pub(super) fn shortened(text: &str, width: usize) -> Cow<'_, str> {
    if text.chars().count() <= width {
        return text.into();
    }
    let kept: String = text.chars().take(width.saturating_sub(1)).collect();
    format!("{kept}{}", if width == 0 { "" } else { "…" }).into()
}

/// Spaces between two columns.
const GAP: usize = 2;

/// Texts are not shortened to fewer characters than this.
const TEXT_MIN: usize = 6;

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::api::nouns::Noun;

    fn lines(noun: &str, items: &Value, width: Option<usize>) -> Vec<String> {
        let items: Vec<_> = items.as_array().unwrap().iter().filter_map(Value::as_object).collect();
        TextTable::new(Noun::find(noun).map_or(&[], |noun| noun.columns), &items).lines(width)
    }

    #[test]
    fn no_line_is_wider_than_asked_and_numbers_stay_whole() {
        let items = json!([
            { "port": "a-port-with-a-long-name", "rx_packets": 1_234_567, "device": "nh-ams" },
            { "port": "ams", "rx_packets": 12, "device": null },
        ]);
        assert_eq!(
            lines("ports", &items, Some(30)),
            [
                "PORT        DEVICE  RX PACKETS",
                "a-port-wi…  nh-ams        1.2M",
                "ams         -               12"
            ]
        );
        assert_eq!(lines("ports", &items, Some(18))[1], "a-por…  nh-ams");
        for width in 1..60 {
            for line in lines("ports", &items, Some(width)) {
                assert!(line.chars().count() <= width, "{width}: {line}");
            }
        }
    }

    /// The suffix of a key has no meaning: `packets_s` may be anything.
    #[test]
    fn what_is_not_declared_is_shown_as_it_is() {
        let items = json!([{ "port": "ams", "packets_s": 1202, "flow_ms": 17 }, { "hue": "red" }]);
        assert_eq!(
            lines("ports", &items, None),
            [
                "PORT  FLOW MS  PACKETS S  HUE",
                "ams        17       1202  -",
                "-           -          -  red"
            ]
        );
    }
}
