//! Formats items as a table: a header, then one line per item.
#![forbid(unsafe_code)]

use std::borrow::Cow;
use std::collections::HashMap;
use std::fmt;
use std::io::{self, Write};
use std::mem;

use serde::Deserializer;
use serde::de::{DeserializeSeed, IgnoredAny, MapAccess, Visitor};

use super::cell::{CellKind, CellSeed, heading, push_field, push_null};
use crate::api::column::{Column, Field, Unit};

/// A table of text cells, before layout. Its cells are a string for each column, however many rows it has.
pub(super) struct TextTable {
    columns: Vec<TextColumn>,
    /// Places of columns that are not declared, by key.
    unknown: HashMap<String, usize>,
    rows: usize,
    has_mark: bool,
}

/// The cells of a column.
struct TextColumn {
    header: String,
    /// `None` for a key from a router of another version.
    declared: Option<&'static Column>,
    /// Numbers are aligned to the right and never shortened.
    is_number: bool,
    /// Whether a row has its key.
    is_present: bool,
    /// The text of its cells, one behind the other.
    text: String,
    /// Where each of them ends.
    ends: Vec<usize>,
    /// Characters of the longest, or of the header.
    width: usize,
    /// Whether a cell has something to say.
    has_value: bool,
    /// Whether there is no room for it.
    is_left_out: bool,
}

/// What a table lacks because the terminal is too narrow.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(super) struct LeftOut {
    /// Headers, in the order of the columns.
    headers: Vec<String>,
    /// Whether texts are cut.
    is_cut: bool,
}

impl LeftOut {
    /// Also what another table lacks.
    pub(super) fn extend(&mut self, other: Self) {
        self.headers.extend(other.headers);
        self.is_cut |= other.is_cut;
    }

    /// A line of at most `width` characters that says so, if there is something to say.
    pub(super) fn line(&self, width: usize) -> Option<String> {
        let columns = self.headers.iter().map(|header| header.to_lowercase());
        let columns = columns.collect::<Vec<_>>().join(", ");
        let count = self.headers.len();
        let plural = if count == 1 { "" } else { "s" };
        let line = match (count, self.is_cut) {
            (0, false) => return None,
            (0, true) => "texts are cut; all of them: --wide".to_owned(),
            (_, false) => format!("{count} column{plural} more by --wide: {columns}"),
            (_, true) => format!("texts are cut; {count} column{plural} more by --wide: {columns}"),
        };
        Some(shortened(&line, width).into_owned())
    }
}

impl TextTable {
    /// An empty table with these columns.
    pub(super) fn new(declared: impl IntoIterator<Item = &'static Column>) -> Self {
        let columns = declared.into_iter().map(|column| TextColumn {
            declared: Some(column),
            is_number: column.unit.is_number(),
            ..TextColumn::new(column.header.to_owned())
        });
        Self { columns: columns.collect(), unknown: HashMap::new(), rows: 0, has_mark: false }
    }

    /// Adds a row of values, one for each column.
    pub(super) fn push(&mut self, fields: &[Field<'_>]) {
        for (column, field) in self.columns.iter_mut().zip(fields) {
            let unit = column.declared.map_or(Unit::Text, |column| column.unit);
            push_field(unit, *field, &mut column.text);
            column.end_cell();
            column.is_present = true;
        }
        self.end_row();
    }

    /// Adds a row that is an object. Keys that are not declared become columns behind the others.
    pub(super) fn push_object<'de, A: MapAccess<'de>>(
        &mut self,
        mut entries: A,
    ) -> Result<(), A::Error> {
        let mut place = 0;
        // Keys come in the order of the columns, mostly.
        while let Some(found) = entries.next_key_seed(KeySeed { table: self, hint: place })? {
            place = found;
            let column = &mut self.columns[place];
            if column.ends.len() > self.rows {
                entries.next_value::<IgnoredAny>()?;
                continue;
            }
            let unit = column.declared.map(|column| column.unit);
            let kind = entries.next_value_seed(CellSeed { unit, text: &mut column.text })?;
            if unit.is_none() && kind != CellKind::Null {
                column.is_number &= kind == CellKind::Number;
            }
            column.end_cell();
            column.is_present = true;
            self.has_mark |= unit == Some(Unit::Mark) && kind == CellKind::True;
            place += 1;
        }
        self.end_row();
        Ok(())
    }

    /// Leaves out columns whose key no row has.
    pub(super) fn retain_present(&mut self) {
        self.columns.retain(|column| column.is_present);
        self.unknown.clear();
    }

    /// Whether there is nothing to show.
    pub(super) fn is_empty(&self) -> bool {
        self.columns.is_empty() || self.rows == 0
    }

    /// Whether a row is marked.
    pub(super) fn has_mark(&self) -> bool {
        self.has_mark
    }

    /// Makes lines no wider than `width`, in terminal columns: columns are left out by their rank, those
    /// without any value first, then texts are cut, and if that is not enough, the last columns are left
    /// out.
    pub(super) fn fit(&mut self, width: usize) -> LeftOut {
        while self.width_at_least() > width
            && let Some(place) = self.most_dispensable()
        {
            self.columns[place].is_left_out = true;
        }
        let is_cut = self.cut(width);
        let (left_out, kept): (Vec<_>, _) =
            mem::take(&mut self.columns).into_iter().partition(|column| column.is_left_out);
        self.columns = kept;
        LeftOut { headers: left_out.into_iter().map(|column| column.header).collect(), is_cut }
    }

    /// The header and one line per item.
    pub(super) fn lines(&self) -> Vec<String> {
        let line = |number| {
            let mut line = String::new();
            self.push_line(number, &mut line);
            line
        };
        (0..=self.rows).map(line).collect()
    }

    /// Writes the header and one line per item.
    pub(super) fn write(&self, out: &mut impl Write) -> io::Result<()> {
        let mut line = String::new();
        for number in 0..=self.rows {
            line.clear();
            self.push_line(number, &mut line);
            line.push('\n');
            out.write_all(line.as_bytes())?;
        }
        Ok(())
    }

    /// The column of a key, which is probably at `hint`.
    fn place_of(&mut self, key: &str, hint: usize) -> usize {
        let is_it = |column: &TextColumn| column.declared.is_some_and(|column| column.key == key);
        if self.columns.get(hint).is_some_and(is_it) {
            return hint;
        }
        let known = self.columns.iter().position(is_it);
        if let Some(place) = known.or_else(|| self.unknown.get(key).copied()) {
            return place;
        }
        let mut column = TextColumn::new(heading(key).to_uppercase());
        column.fill(self.rows);
        self.columns.push(column);
        self.unknown.insert(key.to_owned(), self.columns.len() - 1);
        self.columns.len() - 1
    }

    fn end_row(&mut self) {
        self.rows += 1;
        for column in &mut self.columns {
            column.fill(self.rows);
        }
    }

    /// Appends a line; 0 is the header.
    fn push_line(&self, number: usize, line: &mut String) {
        for (place, column) in self.columns.iter().enumerate() {
            if place > 0 {
                push_spaces(GAP, line);
            }
            let cell = column.cell(number);
            let space = column.width.saturating_sub(cell.chars().count());
            if column.is_number {
                push_spaces(space, line);
            }
            line.push_str(cell);
            if !column.is_number {
                push_spaces(space, line);
            }
        }
        line.truncate(line.trim_end().len());
    }

    /// The column that is missed least: one that never has a value, else the one of the highest rank.
    fn most_dispensable(&self) -> Option<usize> {
        let of = |column: &TextColumn| {
            let rank = column.declared.map_or(u8::MAX, |declared| declared.rank);
            (!column.has_value, rank)
        };
        let others = self.kept().skip(1).filter(|(_, column)| of(column) > (false, 0));
        others.max_by_key(|(place, column)| (of(column), *place)).map(|(place, _)| place)
    }

    /// Cuts texts, the widest first and the first column last; leaves out the last columns if that does not
    /// do. Whether it cut any.
    fn cut(&mut self, width: usize) -> bool {
        let mut is_cut = false;
        while self.width() > width {
            let long = self.kept().filter(|(_, one)| !one.is_number && one.width > TEXT_MIN);
            let widest = long.max_by_key(|(place, one)| if *place == 0 { 0 } else { one.width });
            let last = self.kept().skip(1).last();
            let (place, to) = match (widest, last) {
                (Some((place, one)), _) => {
                    let excess = self.width() - width;
                    (place, one.width.saturating_sub(excess).max(TEXT_MIN))
                }
                (None, Some((place, _))) => {
                    self.columns[place].is_left_out = true;
                    continue;
                }
                (None, None) => (0, width),
            };
            self.columns[place].shorten(to);
            is_cut = true;
        }
        is_cut
    }

    /// The columns that are not left out, and their places.
    fn kept(&self) -> impl Iterator<Item = (usize, &TextColumn)> {
        self.columns.iter().enumerate().filter(|(_, column)| !column.is_left_out)
    }

    fn width(&self) -> usize {
        self.width_of(|_, column| column.width)
    }

    /// The width with texts cut as far as is better than a column less.
    fn width_at_least(&self) -> usize {
        self.width_of(|place, column| {
            let is_whole = place == 0 || column.is_number;
            if is_whole { column.width } else { column.width.min(TEXT_FAIR) }
        })
    }

    fn width_of(&self, of: impl Fn(usize, &TextColumn) -> usize) -> usize {
        let cells: usize = self.kept().map(|(place, column)| of(place, column)).sum();
        cells + GAP * self.kept().count().saturating_sub(1)
    }
}

/// Reads a key as the place of its column.
struct KeySeed<'t> {
    table: &'t mut TextTable,
    hint: usize,
}

impl<'de> DeserializeSeed<'de> for KeySeed<'_> {
    type Value = usize;

    fn deserialize<D: Deserializer<'de>>(self, key: D) -> Result<usize, D::Error> {
        key.deserialize_str(self)
    }
}

impl Visitor<'_> for KeySeed<'_> {
    type Value = usize;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }

    fn visit_str<E>(self, key: &str) -> Result<usize, E> {
        Ok(self.table.place_of(key, self.hint))
    }
}

impl TextColumn {
    /// A column that is not declared: of numbers, as long as it has no other value.
    fn new(header: String) -> Self {
        // A column of marks has no header.
        let (width, text, ends) = (header.chars().count().max(1), String::new(), Vec::new());
        Self {
            header,
            declared: None,
            is_number: true,
            is_present: false,
            text,
            ends,
            width,
            has_value: false,
            is_left_out: false,
        }
    }

    /// The cell of a line; 0 is the header.
    fn cell(&self, line: usize) -> &str {
        let Some(row) = line.checked_sub(1) else { return &self.header };
        &self.text[self.start_of(row)..self.ends[row]]
    }

    fn start_of(&self, row: usize) -> usize {
        row.checked_sub(1).map_or(0, |before| self.ends[before])
    }

    /// What was appended to the text since the last cell is one.
    fn end_cell(&mut self) {
        let start = self.start_of(self.ends.len());
        self.width = self.width.max(self.text[start..].chars().count());
        self.has_value |= &self.text[start..] != "-";
        self.ends.push(self.text.len());
    }

    /// Adds empty cells, until there are so many.
    fn fill(&mut self, rows: usize) {
        while self.ends.len() < rows {
            push_null(self.declared.map(|column| column.unit), &mut self.text);
            self.end_cell();
        }
    }

    fn shorten(&mut self, width: usize) {
        let header = shortened(&self.header, width).into_owned();
        let mut short = Self { text: String::new(), ends: Vec::new(), width: 0, header, ..*self };
        short.width = short.header.chars().count().max(1);
        for row in 1..=self.ends.len() {
            short.text.push_str(&shortened(self.cell(row), width));
            short.end_cell();
        }
        *self = short;
    }
}

fn push_spaces(count: usize, line: &mut String) {
    line.extend(std::iter::repeat_n(' ', count));
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

/// Rather than to cut a text to fewer characters than this, a column is left out.
const TEXT_FAIR: usize = 24;

/// Texts are not cut to fewer characters than this.
const TEXT_MIN: usize = 6;

#[cfg(test)]
mod tests {
    use serde::de::value::MapDeserializer;
    use serde_json::{Value, json};

    use super::*;
    use crate::api::nouns::Noun;

    fn lines(noun: &str, items: &Value, width: Option<usize>) -> Vec<String> {
        let mut table = TextTable::new(Noun::find(noun).map_or(&[][..], |noun| noun.columns));
        for item in items.as_array().unwrap() {
            let entries = item.as_object().unwrap().iter();
            let entries = entries.map(|(key, value)| (key.as_str(), value));
            table.push_object(MapDeserializer::<_, serde_json::Error>::new(entries)).unwrap();
        }
        table.retain_present();
        let left_out = width.map(|width| (table.fit(width), width));
        let note = left_out.and_then(|(left_out, width)| left_out.line(width));
        table.lines().into_iter().chain(note).collect()
    }

    #[test]
    fn no_line_is_wider_than_asked_and_numbers_stay_whole() {
        let items = json!([
            { "port": "a-port-with-a-long-name", "rx_packets": 1_234_567, "device": "nh-ams" },
            { "port": "ams", "rx_packets": 12, "device": null },
        ]);
        assert_eq!(
            lines("ports", &items, Some(40)),
            [
                "PORT                     RX PACKETS",
                "a-port-with-a-long-name        1.2M",
                "ams                              12",
                "1 column more by --wide: device",
            ]
        );
        assert_eq!(lines("ports", &items, Some(18))[1], "a-por…        1.2M");
        for width in 1..60 {
            for line in lines("ports", &items, Some(width)) {
                assert!(line.chars().count() <= width, "{width}: {line}");
            }
        }
    }

    #[test]
    fn what_is_missed_least_is_left_out_first_and_named() {
        let items = json!([{
            "port": "ams", "device": null, "engine": "epoll", "state": "up", "rx_packets": 7,
            "rx_bytes": 700, "tx_packets": 8, "tx_bytes": 800, "why": "the device is set down",
        }]);
        let head = |width| lines("ports", &items, Some(width)).remove(0);
        let note = |width| lines("ports", &items, Some(width)).pop().unwrap();
        assert_eq!(lines("ports", &items, Some(100)).len(), 2, "all fits, and nothing is said");
        assert_eq!(
            head(87),
            "PORT  ENGINE  STATE  RX PACKETS  RX BYTES  TX PACKETS  TX BYTES  WHY"
        );
        assert_eq!(note(87), "1 column more by --wide: device");
        assert_eq!(head(78), "PORT  STATE  RX PACKETS  RX BYTES  TX PACKETS  WHY");
        assert_eq!(note(78), "3 columns more by --wide: device, engine, tx bytes");
        assert_eq!(head(60), "PORT  STATE  RX PACKETS  TX PACKETS  WHY");
        let narrow = lines("ports", &items, Some(50));
        assert_eq!(narrow[1], "ams   up              7           8  the device i…");
        assert!(
            narrow[2].starts_with("texts are cut; 4 columns more by --wide: device"),
            "{narrow:?}"
        );
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
