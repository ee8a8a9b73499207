//! The writer's books of the trie's memory: which slots and lines are in use, and who decides each.
#![forbid(unsafe_code)]

use alloc::vec;
use alloc::vec::Vec;
use core::ops::Range;

use super::journal::Undo;
use super::line::{NARROW_RUNS, Run, WIDE_RUNS};
use super::parts::{Leaf, LineKind, Span};
use super::word::Kind;
use super::{LINES, NODE, SLOTS, Table, word};
use crate::space::Space;
use crate::sync::{AtomicU32, Ordering};

/// What is in use.
pub(super) struct Store {
    /// For each slot, 1 + the length of the prefix that decides it; 0 is none.
    owners: Vec<u8>,
    /// For each table, by its first slot: how many runs it distinguishes, about.
    runs_in: Vec<u32>,
    slots: Space,
    narrow: Lines<NARROW_RUNS>,
    wide: Lines<WIDE_RUNS>,
    /// What is out of every new lookup's reach, to be retired by the next commit.
    pub(super) unlinked: Vec<Unlinked>,
    /// What was taken into use since the last commit.
    pub(super) taken: Vec<Unlinked>,
    /// What was linked since, and is not any more: it was rolled back.
    pub(super) spoiled: Vec<Unlinked>,
    /// How to undo, from the last to the first, what was stored where readers look since the last
    /// commit.
    pub(super) journal: Vec<Undo>,
    /// Whether the change may use what is kept back for removals, by which room is made.
    pub(super) is_removal: bool,
}

/// The table has no more slots, or no more lines of a kind.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Full;

/// Lines of one kind.
struct Lines<const RUNS: usize> {
    /// For each line, how many runs it has; then for each run 1 + the length of the prefix that
    /// decides it, or 0. Side by side, since they are read together.
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

/// Where the word of a span is stored.
#[derive(Clone, Copy, Debug)]
pub(super) enum Place {
    /// The table of prefixes that end in the stride after this value of the root.
    Middle(usize),
    /// The first window below this value of the root.
    Root(usize),
    Slot(usize),
}

impl Place {
    fn of(self, table: &Table) -> &AtomicU32 {
        match self {
            Self::Middle(root) => &table.middle[root],
            Self::Root(root) => &table.root[root][NODE],
            Self::Slot(slot) => &table.slots[slot],
        }
    }

    pub(super) fn load(self, table: &Table) -> u32 {
        self.of(table).load(Ordering::Relaxed)
    }
}

impl Store {
    pub(super) fn new() -> Self {
        Self {
            owners: vec![0; SLOTS],
            runs_in: vec![0; SLOTS],
            // The first of each stands for none.
            slots: Space::new(1, SLOTS as u32),
            narrow: Lines::new(),
            wide: Lines::new(),
            unlinked: Vec::new(),
            taken: Vec::new(),
            spoiled: Vec::new(),
            journal: Vec::new(),
            is_removal: false,
        }
    }

    pub(super) fn unlink_one(&mut self, unlinked: Unlinked) {
        self.unlinked.push(unlinked);
    }

    /// Leaves no more than so many lines of each kind, and slots, besides what is kept back.
    #[cfg(all(test, not(loom)))]
    pub(super) fn leave(&mut self, lines: usize, slots: u32) {
        self.narrow.used = LINES - LINES_KEPT - lines;
        self.wide.used = LINES - LINES_KEPT - lines;
        self.slots.leave(SLOTS_KEPT + slots);
    }

    /// Takes what no reader can reach any more back into use.
    pub(super) fn recycle(&mut self, unlinked: Unlinked) {
        match unlinked {
            Unlinked::Table { first, width } => self.slots.recycle(first, 1 << width),
            Unlinked::Narrow(line) => self.narrow.free.push(line),
            Unlinked::Wide(line) => self.wide.free.push(line),
        }
    }

    /// Publishes how much is in use, for [`Table::bytes`].
    pub(super) fn note_use(&self, table: &Table) {
        let used = [self.slots.end_max() as usize, self.narrow.used, self.wide.used];
        for (place, used) in table.used.iter().zip(used) {
            place.store(used as u32, Ordering::Relaxed);
        }
    }

    /// The first of `2^width` slots.
    pub(super) fn take_table(&mut self, width: u32) -> Result<u32, Full> {
        let kept = if self.is_removal { 0 } else { SLOTS_KEPT };
        let first = self.slots.take(1 << width, kept).ok_or(Full)?;
        self.taken.push(Unlinked::Table { first, width });
        Ok(first)
    }

    /// Fills a line with runs that it has room for; its word.
    pub(super) fn make_line(
        &mut self,
        table: &Table,
        runs: &[Run],
        kind: LineKind,
    ) -> Result<u32, Full> {
        let kept = if self.is_removal { 0 } else { LINES_KEPT };
        Ok(match kind {
            LineKind::Narrow { shift } => {
                let line = self.narrow.take(runs, kept)?;
                self.taken.push(Unlinked::Narrow(line));
                table.narrow[line as usize].fill(runs, shift);
                word::narrow(shift, line)
            }
            LineKind::Wide => {
                let line = self.wide.take(runs, kept)?;
                self.taken.push(Unlinked::Wide(line));
                table.wide[line as usize].fill(runs);
                word::wide(line)
            }
        })
    }

    /// Stores a span's word where readers look. Release: a reader that sees the word sees what it leads to.
    pub(super) fn link(&mut self, table: &Table, place: Place, leaf: Leaf) {
        self.journal.push(Undo::Link { place, leaf: self.leaf(table, place) });
        self.store_link(table, place, leaf);
    }

    pub(super) fn store_link(&mut self, table: &Table, place: Place, leaf: Leaf) {
        if let Place::Slot(slot) = place {
            self.owners[slot] = leaf.owner;
        }
        place.of(table).store(leaf.word, Ordering::Release);
    }

    /// What is linked at a place.
    pub(super) fn leaf(&self, table: &Table, place: Place) -> Leaf {
        let owner = match place {
            Place::Slot(slot) => self.owners[slot],
            // A root's window has nothing before a prefix comes.
            Place::Middle(_) | Place::Root(_) => 0,
        };
        Leaf { word: place.of(table).load(Ordering::Relaxed), owner }
    }

    /// Unlinks the word of a span and all that it leads to.
    pub(super) fn unlink(&mut self, table: &Table, word: u32, span: Span) {
        match word::kind(word) {
            Kind::Answer(_) => {}
            Kind::Narrow { line, .. } => self.unlink_one(Unlinked::Narrow(line)),
            Kind::Wide { line } => {
                for nth in 0..self.runs_of(word) {
                    self.unlink(table, table.wide[line as usize].word(nth), Span::VALUE);
                }
                self.unlink_one(Unlinked::Wide(line));
            }
            Kind::Below { slot } => {
                let word = table.slots[slot as usize].load(Ordering::Relaxed);
                self.unlink(table, word, Span::WINDOW);
                self.unlink_one(Unlinked::Table { first: slot, width: 0 });
            }
            Kind::Table { .. } => {
                for (slot, part) in span.parts(word) {
                    self.unlink(table, table.slots[slot].load(Ordering::Relaxed), part);
                }
                let (first, width) = span.table(word);
                self.unlink_one(Unlinked::Table { first: first as u32, width });
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

    /// The word of run `nth` of a line, and the run's owner.
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

    /// Changes the answer of a run of a line, for readers too.
    pub(super) fn set_run(&mut self, table: &Table, line: u32, nth: usize, leaf: Leaf) {
        let (word, owner) = self.said(table, line, nth);
        self.journal.push(Undo::Run { line, nth, leaf: Leaf { word, owner } });
        self.store_run(table, line, nth, leaf);
    }

    pub(super) fn store_run(&mut self, table: &Table, line: u32, nth: usize, leaf: Leaf) {
        let Leaf { word, owner } = leaf;
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

    /// How many runs the table that begins at this slot distinguishes.
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

    /// A line with these owners, unless no more than `kept` are left.
    fn take(&mut self, runs: &[Run], kept: usize) -> Result<u32, Full> {
        if self.room() <= kept {
            return Err(Full);
        }
        let line = self.free.pop().unwrap_or_else(|| {
            self.used += 1;
            self.used as u32 - 1
        });
        let book = &mut self.books[line as usize * (RUNS + 1)..][..=RUNS];
        book[0] = runs.len() as u8;
        book[1..].iter_mut().zip(runs).for_each(|(owner, run)| *owner = run.owner);
        Ok(line)
    }
}

/// Kept back for removals: more than most of them take.
const LINES_KEPT: usize = if cfg!(loom) { 1 } else { 1 << 15 };
const SLOTS_KEPT: u32 = if cfg!(loom) { 1 } else { 1 << 17 };
