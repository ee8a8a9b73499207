//! How the runs of a span of values become a word: an answer, a line, or a table of spans.
#![forbid(unsafe_code)]

use alloc::vec::Vec;

use super::line::{NARROW_RUNS, Run, WIDE_RUNS};
use super::store::{Full, Store, Unlinked};
use super::word::Kind;
use super::{STEPS, Table, WINDOW, word};
use crate::sync::Ordering;

/// `2^bits` values of a window, from `start` on, which is a multiple of that.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Span {
    pub(super) start: u32,
    pub(super) bits: u32,
}

impl Span {
    /// All values of a window.
    pub(super) const WINDOW: Self = Self { start: 0, bits: WINDOW };
    /// One value.
    pub(super) const VALUE: Self = Self { start: 0, bits: 0 };

    /// The values that differ from this one in the last `bits` alone.
    pub(super) fn around(value: u32, bits: u32) -> Self {
        let start = (u64::from(value) >> bits << bits) as u32;
        Self { start, bits }
    }

    /// One more than the last value.
    pub(super) fn end(self) -> u64 {
        u64::from(self.start) + (1 << self.bits)
    }

    /// The value with this key in a narrow line of this span.
    pub(super) fn value_of(self, key: u16, shift: u32) -> u32 {
        // A span has no more values than keys, so all have the same bits above their key.
        let above = u64::from(self.start) >> shift >> KEY_BITS << KEY_BITS;
        // The first run's key is 0, wherever the span begins.
        (((above | u64::from(key)) << shift) as u32).max(self.start)
    }

    pub(super) fn contains(self, value: u32) -> bool {
        (u64::from(self.start)..self.end()).contains(&value.into())
    }

    /// First slot, and width in bits, of the table that is this span's word.
    pub(super) fn table(self, word: u32) -> (usize, u32) {
        (word::slot_of(word, self.start), self.bits - word::shift_of(word))
    }

    /// The slots of the table that is this span's word, and what each stands for.
    pub(super) fn parts(self, word: u32) -> impl Iterator<Item = (usize, Self)> + use<> {
        Self::parts_within(word, self)
    }

    /// The slots of a table for a span of more values than one of them stands for.
    pub(super) fn parts_within(
        word: u32,
        span: Self,
    ) -> impl Iterator<Item = (usize, Self)> + use<> {
        let bits = word::shift_of(word);
        (0..1_u64 << (span.bits - bits)).map(move |nth| {
            let start = span.start + ((nth << bits) as u32);
            (word::slot_of(word, start), Self { start, bits })
        })
    }
}

/// A word, and for an answer 1 + the length of the prefix it is by.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Leaf {
    pub(super) word: u32,
    pub(super) owner: u8,
}

impl Leaf {
    pub(super) const NONE: Self = Self { word: 0, owner: 0 };
}

/// What kind of line runs fit.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum LineKind {
    /// For values shifted by so much.
    Narrow {
        shift: u32,
    },
    Wide,
}

/// The kind of line for these runs of a span that so many tables lead to; `None` if they need a
/// table.
fn line_for(runs: &[Run], span: Span, depth: usize) -> Option<LineKind> {
    let shift = span.bits.saturating_sub(KEY_BITS);
    let is_narrow = runs.iter().all(|run| word::fits_narrow(run.word));
    if is_narrow && runs.len() <= NARROW_RUNS {
        let is_even = |run: &Run| run.start.trailing_zeros() >= shift;
        if runs[1..].iter().all(is_even) {
            return Some(LineKind::Narrow { shift });
        }
    }
    // Batches look into narrow lines for all of their addresses; so where they go through all
    // tables, one more is better.
    let is_better = !is_narrow || depth >= STEPS as usize;
    (is_better && runs.len() <= WIDE_RUNS).then_some(LineKind::Wide)
}

/// Whether these runs of a span that so many tables lead to are neither an answer nor a line.
pub(super) fn needs_table(runs: &[Run], span: Span, depth: usize) -> bool {
    let is_answer = runs.len() == 1 && !word::is_below(runs[0].word);
    !is_answer && line_for(runs, span, depth).is_none()
}

/// The width of a table for these runs of a span, after so many tables: the least at which every
/// part is a line or an answer, if that is worth its slots; else the greatest that is.
fn width_for(runs: &[Run], span: Span, depth: usize) -> u32 {
    let worth = slots_for_a_run(depth) * runs.len() as u32;
    let widest = WIDTH_MAX.min(span.bits);
    // What few runs need is spans that a line has keys for.
    let least = if runs.len() <= NARROW_RUNS { span.bits.saturating_sub(KEY_BITS) } else { 0 };
    let mut width = least.clamp(WIDTH_MIN, WIDTH_OF_FEW).min(widest);
    while width < widest && 2 << width <= worth && !is_enough(runs, span, width, depth + 1) {
        width += 1;
    }
    width
}

/// Whether no part that a table of this width leaves needs a table itself.
fn is_enough(runs: &[Run], span: Span, width: u32, depth: usize) -> bool {
    let bits = span.bits - width;
    let mut rest = runs;
    while let Some(first) = rest.first() {
        let part = Span::around(first.start, bits);
        let inside = rest.iter().take_while(|run| part.contains(run.start)).count();
        // A part that begins amid a run has that run too.
        let begins_amid = part.start != first.start;
        let is_one = inside == 1 && !begins_amid;
        let is_too_much = begins_amid && inside == NARROW_RUNS;
        if !is_one && (is_too_much || line_for(&rest[..inside], part, depth).is_none()) {
            return false;
        }
        if begins_amid && first.start.trailing_zeros() < bits.saturating_sub(KEY_BITS) {
            return false;
        }
        rest = &rest[inside..];
    }
    true
}

impl Store {
    /// The word for the runs of a span that so many tables lead to, not linked yet.
    pub(super) fn make(
        &mut self,
        table: &Table,
        runs: &[Run],
        span: Span,
        depth: usize,
    ) -> Result<Leaf, Full> {
        if let [Run { word, owner, .. }] = *runs
            && (span.bits == 0 || !word::is_below(word))
        {
            return Ok(Leaf { word, owner });
        }
        let word = match line_for(runs, span, depth) {
            Some(line) => self.make_line(table, runs, line)?,
            None => self.make_table(table, runs, span, depth)?,
        };
        Ok(Leaf { word, owner: 0 })
    }

    fn make_table(
        &mut self,
        table: &Table,
        runs: &[Run],
        span: Span,
        depth: usize,
    ) -> Result<u32, Full> {
        let width = width_for(runs, span, depth);
        let first = self.take_table(width)?;
        let word = word::table(span.bits - width, first, span.start);
        let mut from = 0;
        let mut mine: Vec<Run> = Vec::with_capacity(NARROW_RUNS);
        for (slot, part) in span.parts(word) {
            while runs.get(from + 1).is_some_and(|next| next.start <= part.start) {
                from += 1;
            }
            mine.clear();
            let inside = runs[from..].iter().take_while(|run| u64::from(run.start) < part.end());
            mine.extend(inside);
            mine[0].start = part.start;
            let leaf = self.make(table, &mine, part, depth + 1)?;
            table.slots[slot].store(leaf.word, Ordering::Relaxed);
            self.set_owner(slot, leaf.owner);
        }
        *self.runs_in(first as usize) = runs.len() as u32;
        Ok(word)
    }

    /// Appends the runs of a span with this word, and `instead` for a part of it. What the word
    /// leads to is noted as unlinked, but for the windows below.
    pub(super) fn take_apart(
        &mut self,
        table: &Table,
        leaf: Leaf,
        span: Span,
        instead: Option<(Span, &[Run])>,
        runs: &mut Vec<Run>,
    ) {
        if let Some((of, new)) = instead
            && of == span
        {
            return runs.extend_from_slice(new);
        }
        match word::kind(leaf.word) {
            Kind::Answer(_) | Kind::Below { .. } => {
                runs.push(Run { start: span.start, word: leaf.word, owner: leaf.owner });
            }
            Kind::Narrow { line, .. } => {
                self.append_line(table, leaf.word, span, runs);
                self.unlink_one(Unlinked::Narrow(line));
            }
            Kind::Wide { line } => {
                self.append_line(table, leaf.word, span, runs);
                self.unlink_one(Unlinked::Wide(line));
            }
            Kind::Table { .. } => {
                for (slot, part) in span.parts(leaf.word) {
                    let word = table.slots[slot].load(Ordering::Relaxed);
                    let leaf = Leaf { word, owner: self.owner(slot) };
                    self.take_apart(table, leaf, part, instead, runs);
                }
                let (first, width) = span.table(leaf.word);
                let first = first as u32;
                self.unlink_one(Unlinked::Table { first, width });
            }
        }
    }

    fn append_line(&self, table: &Table, line: u32, span: Span, runs: &mut Vec<Run>) {
        runs.extend((0..self.runs_of(line)).map(|nth| self.run(table, line, span, nth)));
    }
}

/// Makes one run of neighbours that say the same.
pub(super) fn merge(runs: &mut Vec<Run>) {
    runs.dedup_by(|next, run| {
        !word::is_below(next.word) && (next.word, next.owner) == (run.word, run.owner)
    });
}

/// Bits of a line's keys.
const KEY_BITS: u32 = 16;

/// Slots that a table after so many others may have for each of its runs: more make lookups
/// shorter, and the table larger than the cache. Much may be spent on the last that batches go
/// through for all of their addresses, for to go on alone takes an address longer than all others.
pub(super) fn slots_for_a_run(depth: usize) -> u32 {
    match depth {
        0 => 4,
        _ if depth + 1 < STEPS as usize => 8,
        _ => 64,
    }
}

/// The widest table. A wider one would take long to rebuild when it grows.
pub(super) const WIDTH_MAX: u32 = if cfg!(loom) { 2 } else { 16 };

/// The widest table that is given to few runs for the sake of fewer steps.
const WIDTH_OF_FEW: u32 = if cfg!(loom) { 1 } else { 6 };

/// The narrowest table, but for spans of fewer values.
const WIDTH_MIN: u32 = if cfg!(loom) { 1 } else { 2 };
