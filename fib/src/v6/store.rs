//! The books of the trie's memory: which slots and lines are in use, and what the writer knows of
//! each besides.
#![forbid(unsafe_code)]

use alloc::vec;
use alloc::vec::Vec;
use core::ops::Range;

use super::line::{NARROW_RUNS, Run, WIDE_RUNS};
use super::parts::{LineKind, Span};
use super::word::Kind;
use super::{LINES, SLOTS, Table, word};
use crate::sync::Ordering;

/// What is in use.
pub(super) struct Store {
    /// For each slot, 1 + the length of the prefix that decides it; 0 is none.
    owners: Vec<u8>,
    /// For each table, by its first slot: how many runs it tells apart, about.
    runs_in: Vec<u32>,
    slots: usize,
    free_tables: [Vec<u32>; WIDTHS],
    narrow: Lines<NARROW_RUNS>,
    wide: Lines<WIDE_RUNS>,
    /// What the present change unlinked.
    pub(super) unlinked: Vec<Unlinked>,
}

/// Lines of one kind.
struct Lines<const RUNS: usize> {
    /// For each line, how many runs it has; then for each run 1 + the length of the prefix that
    /// decides it, or 0. Side by side, for they are read together.
    books: Vec<u8>,
    used: usize,
    free: Vec<u32>,
}

/// What no new lookup reaches.
#[derive(Clone, Copy, Debug)]
pub(super) enum Unlinked {
    Table { first: u32, width: u32 },
    Narrow(u32),
    Wide(u32),
}

impl Store {
    pub(super) fn new() -> Self {
        Self {
            owners: vec![0; SLOTS],
            runs_in: vec![0; SLOTS],
            // The first of each stands for none.
            slots: 1,
            free_tables: [const { Vec::new() }; WIDTHS],
            narrow: Lines::new(),
            wide: Lines::new(),
            unlinked: Vec::new(),
        }
    }

    /// Whether any so many changes still have room.
    pub(super) fn has_room_for(&self, changes: usize) -> bool {
        let lines = changes * LINES_OF_A_CHANGE;
        let slots = changes * SLOTS_OF_A_CHANGE;
        SLOTS - self.slots > slots && self.narrow.room() > lines && self.wide.room() > lines
    }

    #[cfg(all(test, not(loom)))]
    pub(super) fn leave_lines(&mut self, left: usize) {
        self.narrow.used = LINES - left;
        self.wide.used = LINES - left;
    }

    /// What no reader can reach any more may be used again.
    pub(super) fn recycle(&mut self, unlinked: Unlinked) {
        match unlinked {
            Unlinked::Table { first, width } => self.free_tables[width as usize].push(first),
            Unlinked::Narrow(line) => self.narrow.free.push(line),
            Unlinked::Wide(line) => self.wide.free.push(line),
        }
    }

    /// Tells readers' side how much is in use.
    pub(super) fn note_use(&self, table: &Table) {
        let used = [self.slots, self.narrow.used, self.wide.used];
        for (place, used) in table.used.iter().zip(used) {
            place.store(used as u32, Ordering::Relaxed);
        }
    }

    /// The first of `2^width` slots.
    pub(super) fn take_table(&mut self, width: u32) -> u32 {
        self.free_tables[width as usize].pop().unwrap_or_else(|| {
            let first = self.slots as u32;
            self.slots += 1 << width;
            first
        })
    }

    /// Fills a line with runs that it has room for; its word.
    pub(super) fn make_line(&mut self, table: &Table, runs: &[Run], kind: LineKind) -> u32 {
        match kind {
            LineKind::Narrow { shift } => {
                let line = self.narrow.take(runs);
                table.narrow[line as usize].fill(runs, shift);
                word::narrow(shift, line)
            }
            LineKind::Wide => {
                let line = self.wide.take(runs);
                table.wide[line as usize].fill(runs);
                word::wide(line)
            }
        }
    }

    /// Notes that the word of a span is not linked any more, nor what it leads to.
    pub(super) fn unlink(&mut self, table: &Table, word: u32, span: Span) {
        match word::kind(word) {
            Kind::Answer(_) => {}
            Kind::Narrow { line, .. } => self.unlinked.push(Unlinked::Narrow(line)),
            Kind::Wide { line } => {
                for nth in 0..self.runs_of(word) {
                    self.unlink(table, table.wide[line as usize].word(nth), Span::VALUE);
                }
                self.unlinked.push(Unlinked::Wide(line));
            }
            Kind::Below { slot } => {
                let word = table.slots[slot as usize].load(Ordering::Relaxed);
                self.unlink(table, word, Span::WINDOW);
                self.unlinked.push(Unlinked::Table { first: slot, width: 0 });
            }
            Kind::Table { .. } => {
                for (slot, part) in span.parts(word) {
                    self.unlink(table, table.slots[slot].load(Ordering::Relaxed), part);
                }
                let (first, width) = span.table(word);
                self.unlinked.push(Unlinked::Table { first: first as u32, width });
            }
        }
    }

    /// How many runs a line has.
    pub(super) fn runs_of(&self, word: u32) -> usize {
        match word::kind(word) {
            Kind::Narrow { line, .. } => self.narrow.count(line),
            Kind::Wide { line } => self.wide.count(line),
            _ => 1,
        }
    }

    /// Run `nth` of the line that is this span's word.
    pub(super) fn run(&self, table: &Table, line: u32, span: Span, nth: usize) -> Run {
        let start = match word::kind(line) {
            Kind::Narrow { shift, line } => {
                span.value_of(table.narrow[line as usize].start(nth), shift)
            }
            Kind::Wide { line } => table.wide[line as usize].start(nth).max(span.start),
            _ => unreachable!("only lines have runs"),
        };
        let (word, owner) = self.said(table, line, nth);
        Run { start, word, owner }
    }

    /// What is said of run `nth` of a line, and the run's owner.
    pub(super) fn said(&self, table: &Table, line: u32, nth: usize) -> (u32, u8) {
        match word::kind(line) {
            Kind::Narrow { line, .. } => {
                (table.narrow[line as usize].word(nth), self.narrow.owner(line, nth))
            }
            Kind::Wide { line } => {
                (table.wide[line as usize].word(nth), self.wide.owner(line, nth))
            }
            _ => unreachable!("only lines have runs"),
        }
    }

    /// Which runs of the line that is a span's word are these values, if any are exactly these.
    pub(super) fn runs_that_are(
        &self,
        table: &Table,
        (line, span): (u32, Span),
        values: Span,
    ) -> Option<Range<usize>> {
        let last = (values.end() - 1) as u32;
        let (first, end) = match word::kind(line) {
            Kind::Narrow { shift, .. } if values.bits < shift => return None,
            Kind::Narrow { shift, line } => {
                let line = &table.narrow[line as usize];
                (line.rank((values.start >> shift) as u16), line.rank((last >> shift) as u16) + 1)
            }
            Kind::Wide { line } => {
                let line = &table.wide[line as usize];
                (line.rank(values.start), line.rank(last) + 1)
            }
            _ => return None,
        };
        let start = |nth: usize| match nth {
            _ if nth == self.runs_of(line) => span.end(),
            _ => self.run(table, line, span, nth).start.into(),
        };
        let are = start(first) == values.start.into() && start(end) == values.end();
        are.then_some(first..end)
    }

    /// How many runs of a line are left if neighbours that say the same are one.
    pub(super) fn distinct(&self, table: &Table, line: u32) -> usize {
        let mut before = self.said(table, line, 0);
        let differs = |&nth: &usize| {
            let said = self.said(table, line, nth);
            said != core::mem::replace(&mut before, said)
        };
        1 + (1..self.runs_of(line)).filter(differs).count()
    }

    /// Changes what is said of a run of a line, for readers too.
    pub(super) fn set_run(&mut self, table: &Table, line: u32, nth: usize, leaf: (u32, u8)) {
        let (word, owner) = leaf;
        // Runs that only fill the line up say what the last one does.
        let is_last = nth + 1 == self.runs_of(line);
        match word::kind(line) {
            Kind::Narrow { line, .. } => {
                self.narrow.set_owner(line, nth, owner);
                let end = if is_last { NARROW_RUNS } else { nth + 1 };
                (nth..end).for_each(|nth| table.narrow[line as usize].set(nth, word));
            }
            Kind::Wide { line } => {
                self.wide.set_owner(line, nth, owner);
                let end = if is_last { WIDE_RUNS } else { nth + 1 };
                (nth..end).for_each(|nth| table.wide[line as usize].set(nth, word));
            }
            _ => unreachable!("only lines have runs"),
        }
    }

    pub(super) fn owner(&self, slot: usize) -> u8 {
        self.owners[slot]
    }

    pub(super) fn set_owner(&mut self, slot: usize, owner: u8) {
        self.owners[slot] = owner;
    }

    /// How many runs the table that begins at this slot tells apart.
    pub(super) fn runs_in(&mut self, first: usize) -> &mut u32 {
        &mut self.runs_in[first]
    }
}

impl<const RUNS: usize> Lines<RUNS> {
    fn new() -> Self {
        Self { books: vec![0; LINES * (RUNS + 1)], used: 1, free: Vec::new() }
    }

    fn book(&self, line: u32) -> &[u8] {
        &self.books[line as usize * (RUNS + 1)..][..=RUNS]
    }

    fn count(&self, line: u32) -> usize {
        self.book(line)[0].into()
    }

    fn room(&self) -> usize {
        LINES - self.used + self.free.len()
    }

    fn owner(&self, line: u32, nth: usize) -> u8 {
        self.book(line)[nth + 1]
    }

    fn set_owner(&mut self, line: u32, nth: usize, owner: u8) {
        self.books[line as usize * (RUNS + 1) + nth + 1] = owner;
    }

    fn take(&mut self, runs: &[Run]) -> u32 {
        let line = self.free.pop().unwrap_or_else(|| {
            self.used += 1;
            self.used as u32 - 1
        });
        let book = &mut self.books[line as usize * (RUNS + 1)..][..=RUNS];
        book[0] = runs.len() as u8;
        book[1..].iter_mut().zip(runs).for_each(|(owner, run)| *owner = run.owner);
        line
    }
}

/// Widths of tables, in bits: from a single slot to the widest.
const WIDTHS: usize = super::parts::WIDTH_MAX as usize + 1;

/// More than any one change takes.
const LINES_OF_A_CHANGE: usize = if cfg!(loom) { 1 } else { 1 << 15 };
const SLOTS_OF_A_CHANGE: usize = if cfg!(loom) { 1 } else { 1 << 17 };
