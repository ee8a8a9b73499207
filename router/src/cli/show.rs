//! Formats `{"schema": ..., "items": [...]}` documents as text.
//!
//! The keys of a noun are declared by its rows ([`rows`](crate::api::rows)). Other keys, from a router of
//! another version, are shown unchanged.
#![forbid(unsafe_code)]

use std::fmt;
use std::io::{self, Write};

use serde::Deserializer;
use serde::de::{DeserializeSeed, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};

use super::cell::{CellSeed, heading};
use super::table::TextTable;
use crate::api::column::Column;
use crate::api::nouns::Noun;

/// A document for people.
pub(super) struct Shown {
    noun: Option<&'static Noun>,
    /// Its own fields.
    head: Map<String, Value>,
    table: TextTable,
}

impl Shown {
    /// Reads a document of a noun: row by row, so that only the text of its cells is kept.
    ///
    /// # Errors
    /// It is not JSON, or cannot be read.
    pub(super) fn read<'de, D: Deserializer<'de>>(
        noun: &str,
        document: D,
    ) -> Result<Self, D::Error> {
        let noun = Noun::find(noun);
        let table = TextTable::new(noun.map_or(&[][..], |noun| noun.columns));
        let mut shown = Self { noun, head: Map::new(), table };
        document.deserialize_any(DocumentVisitor(&mut shown))?;
        shown.table.retain_present();
        Ok(shown)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.head.is_empty() && self.table.is_empty()
    }

    /// Writes its own fields, one per line, then the table of its items, no wider than `width`.
    pub(super) fn write(mut self, out: &mut impl Write, width: Option<usize>) -> io::Result<()> {
        let left_out = width.map(|width| (self.table.fit(width), width));
        let note = left_out.and_then(|(left_out, width)| left_out.line(width));
        for (key, value) in &self.head {
            writeln!(out, "{}", self.field(key, value))?;
        }
        if !self.table.is_empty() {
            self.table.write(out)?;
        }
        if self.table.has_mark() {
            writeln!(out, "{LEGEND}")?;
        }
        note.map_or(Ok(()), |note| writeln!(out, "{note}"))
    }

    fn field(&self, key: &str, value: &Value) -> String {
        let head = self.noun.map_or(&[][..], |noun| noun.head);
        let declared = head.iter().find(|field| field.key == key);
        let unit = declared.map(|column| column.unit);
        let header =
            declared.map_or_else(|| heading(key), |Column { header, .. }| (*header).to_owned());
        let mut text = format!("{header}: ");
        // A value that was read once is read again.
        let _ = CellSeed { unit, text: &mut text }.deserialize(value);
        text
    }
}

/// Values that are none of a document are read, and shown as nothing.
macro_rules! anything_else {
    () => {
        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a document")
        }

        fn visit_bool<E>(self, _: bool) -> Result<(), E> {
            Ok(())
        }

        fn visit_f64<E>(self, _: f64) -> Result<(), E> {
            Ok(())
        }

        fn visit_i64<E>(self, _: i64) -> Result<(), E> {
            Ok(())
        }

        fn visit_str<E>(self, _: &str) -> Result<(), E> {
            Ok(())
        }

        fn visit_u64<E>(self, _: u64) -> Result<(), E> {
            Ok(())
        }

        fn visit_unit<E>(self) -> Result<(), E> {
            Ok(())
        }
    };
}

struct DocumentVisitor<'s>(&'s mut Shown);

impl<'de> Visitor<'de> for DocumentVisitor<'_> {
    type Value = ();

    anything_else!();

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<(), A::Error> {
        while let Some(key) = entries.next_key::<String>()? {
            match key.as_str() {
                "items" => entries.next_value_seed(RowsVisitor(&mut self.0.table))?,
                "schema" => drop(entries.next_value::<IgnoredAny>()?),
                _ => drop(self.0.head.insert(key, entries.next_value()?)),
            }
        }
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut values: A) -> Result<(), A::Error> {
        while values.next_element::<IgnoredAny>()?.is_some() {}
        Ok(())
    }
}

struct RowsVisitor<'t>(&'t mut TextTable);

impl<'de> DeserializeSeed<'de> for RowsVisitor<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, rows: D) -> Result<(), D::Error> {
        rows.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for RowsVisitor<'_> {
    type Value = ();

    anything_else!();

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<(), A::Error> {
        while entries.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut rows: A) -> Result<(), A::Error> {
        while rows.next_element_seed(RowVisitor(&mut *self.0))?.is_some() {}
        Ok(())
    }
}

struct RowVisitor<'t>(&'t mut TextTable);

impl<'de> DeserializeSeed<'de> for RowVisitor<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, row: D) -> Result<(), D::Error> {
        row.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for RowVisitor<'_> {
    type Value = ();

    anything_else!();

    fn visit_map<A: MapAccess<'de>>(self, entries: A) -> Result<(), A::Error> {
        self.0.push_object(entries)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut values: A) -> Result<(), A::Error> {
        while values.next_element::<IgnoredAny>()?.is_some() {}
        Ok(())
    }
}

const LEGEND: &str = "> packets go there now";

#[cfg(test)]
mod tests;
