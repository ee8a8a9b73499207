//! Formats items as a table: a header, then one line per item.
#![forbid(unsafe_code)]

mod fit;

use std::collections::HashMap;
use std::fmt;
use std::io::{self, Write};

use serde::Deserializer;
use serde::de::{DeserializeSeed, IgnoredAny, MapAccess, Visitor};

use super::cell::{CellKind, CellSeed, heading, push_field, push_null};
use crate::api::column::{Column, Field, Unit};

pub(super) use fit::LeftOut;
pub(super) use fit::shortened;

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
    /// Whether there is room for it.
    room: Room,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Room {
    Enough,
    None,
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
            room: Room::Enough,
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
}

fn push_spaces(count: usize, line: &mut String) {
    line.extend(std::iter::repeat_n(' ', count));
}

/// Spaces between two columns.
const GAP: usize = 2;

#[cfg(test)]
mod tests;
