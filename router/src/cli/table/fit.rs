//! Makes tables narrow enough for a terminal.
#![forbid(unsafe_code)]

use std::borrow::Cow;
use std::mem;

use super::{GAP, Room, TextColumn, TextTable};

/// What a table lacks because the terminal is too narrow.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(in crate::cli) struct LeftOut {
    /// Headers, in the order of the columns.
    headers: Vec<String>,
    /// Whether texts are cut.
    is_cut: bool,
}

impl LeftOut {
    /// Also what another table lacks.
    pub(in crate::cli) fn extend(&mut self, other: Self) {
        self.headers.extend(other.headers);
        self.is_cut |= other.is_cut;
    }

    /// A line of at most `width` characters that says so, if there is something to say.
    pub(in crate::cli) fn line(&self, width: usize) -> Option<String> {
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
    /// Makes lines no wider than `width`, in terminal columns: columns are left out by their rank, those
    /// without any value first, then texts are cut, and if that is not enough, the last columns are left
    /// out.
    pub(in crate::cli) fn fit(&mut self, width: usize) -> LeftOut {
        while self.width_at_least() > width
            && let Some(place) = self.most_dispensable()
        {
            self.columns[place].room = Room::None;
        }
        let is_cut = self.cut(width);
        let (left_out, kept): (Vec<_>, _) =
            mem::take(&mut self.columns).into_iter().partition(|column| column.room == Room::None);
        self.columns = kept;
        LeftOut { headers: left_out.into_iter().map(|column| column.header).collect(), is_cut }
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
                    self.columns[place].room = Room::None;
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
        self.columns.iter().enumerate().filter(|(_, column)| column.room == Room::Enough)
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

impl TextColumn {
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

/// The first `width` characters, the last of them an ellipsis if the text is longer.
pub(in crate::cli) fn shortened(text: &str, width: usize) -> Cow<'_, str> {
    if text.chars().count() <= width {
        return text.into();
    }
    let kept: String = text.chars().take(width.saturating_sub(1)).collect();
    format!("{kept}{}", if width == 0 { "" } else { "…" }).into()
}

/// Rather than to cut a text to fewer characters than this, a column is left out.
const TEXT_FAIR: usize = 24;

/// Texts are not cut to fewer characters than this.
const TEXT_MIN: usize = 6;
