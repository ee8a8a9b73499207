//! Changes of the trie.
//!
//! A word is changed in place where a prefix decides whole words. Where it splits a run, the line of
//! that part is rebuilt and linked by one store. Neighbours that come to have the same answer stay
//! apart until the room is needed, so that a route that flaps costs a line once.
//!
//! An example, in the first window below `2001:`, which begins as one answer (none):
//!
//! ```text
//! insert 2001:db8::/32 ─▶ A      root[2001] ─▶ narrow line   0 –  db7ffff : none
//!                                                     db80000 – db8ffff : A
//!                                                     db90000 – fffffff : none
//!     The /32 splits the one run: `change` takes the part apart into runs, splits them at db8:: and
//!     db9::, paints those inside, and `encode` builds a line of the three and links it.
//!
//! insert 2001:db8:7::/48 ─▶ B    one more split: five runs, in a new line; the old one is unlinked.
//!
//! insert 2001:db8:7::/48 ─▶ C    the line has a run of exactly these values, owned by /48: `paint`
//!                                stores C in place, and nothing is unlinked.
//!
//! insert 2001:db8::/32 ─▶ D      two runs are owned by /32: D is stored in both. The run of the /48
//!                                has a longer owner and stays.
//!
//! thirty more /48s               more runs than a line holds: `encode` builds a table of parts, each
//!                                an answer or a line. With many more, the table is too narrow for
//!                                its runs, and `rebuild` makes a wider one instead of the part.
//!
//! remove 2001:db8:7::/48         the runs that /48 owned get the answer and owner of its heir, the
//!                                /32. Fewer than half of the line's runs differ: it is rebuilt.
//! ```
//!
//! Whatever is stored where readers look is in the store's journal, so that a change that finds no
//! room is undone, and so are all of a transaction.
#![forbid(unsafe_code)]

use alloc::vec::Vec;
use core::ops::Range;

use super::line::Run;
use super::parts::{Leaf, Span, WIDTH_MAX, merge, needs_table, slots_for_a_run};
use super::store::{Full, Place, Store};
use super::word::Kind;
use super::{ROOT_BITS, STEPS, Table, WINDOW, root_of, window, word};

/// A change by one prefix that is longer than those that readers fall back on.
pub(super) struct Edit {
    /// The prefix.
    pub(super) bits: u128,
    pub(super) len: u32,
    pub(super) paint: Paint,
    /// How many bits lead to the outermost window on the way that holds no route any more.
    pub(super) empty: Option<u32>,
}

/// Which answer replaces which.
#[derive(Clone, Copy)]
pub(super) enum Paint {
    /// This one, wherever no longer prefix decides.
    Cover(Leaf),
    /// The heir's, wherever the prefix with this owner decided.
    Uncover { owner: u8, heir: Leaf },
}

impl Paint {
    /// The answer that replaces one of this owner.
    fn over(self, owner: u8) -> Option<Leaf> {
        match self {
            Self::Cover(leaf) => (owner <= leaf.owner).then_some(leaf),
            Self::Uncover { owner: old, heir } => (owner == old).then_some(heir),
        }
    }

    fn leaf(self) -> Leaf {
        match self {
            Self::Cover(leaf) => leaf,
            Self::Uncover { heir, .. } => heir,
        }
    }
}

/// A span of a window and its word's place.
#[derive(Clone, Copy)]
struct Part {
    place: Place,
    span: Span,
}

/// Makes changes.
pub(super) struct Editor {
    pub(super) store: Store,
    /// The tables on the way to the part that is changed, the outermost first.
    path: Vec<Part>,
    /// How many tables are counted as leading to the window: none to the first, and to those below
    /// as many as a batch goes through for all of its addresses.
    depth: usize,
    scratch: Vec<Run>,
}

impl Editor {
    pub(super) fn new() -> Self {
        Self { store: Store::new(), path: Vec::new(), depth: 0, scratch: Vec::new() }
    }

    /// Makes a change. After an error the caller rolls the store back.
    pub(super) fn edit(&mut self, table: &Table, edit: &Edit) -> Result<(), Full> {
        let mut place = Place::Root(root_of(edit.bits));
        let mut at = ROOT_BITS;
        if edit.empty == Some(at) {
            self.store.unlink(table, place.load(table), Span::WINDOW);
            self.store.link(table, place, Leaf::NONE);
            return Ok(());
        }
        loop {
            let (value, end) = (window(edit.bits, at), at + WINDOW);
            self.depth = if at == ROOT_BITS { 0 } else { STEPS as usize };
            let whole = Part { place, span: Span::WINDOW };
            if edit.len <= end {
                let span = Span::around(value, end - edit.len);
                return self.edit_window(table, whole, span, edit.paint);
            }
            let part = self.part_of(table, whole, Span::around(value, 0));
            match Self::find(table, part, value) {
                Kind::Below { .. } if edit.empty == Some(end) => {
                    return self.remove_window(table, part, value, edit.paint.leaf());
                }
                Kind::Below { slot } => (place, at) = (Place::Slot(slot as usize), end),
                _ => self.add_window(table, part, value)?,
            }
        }
    }

    /// The innermost part of a window that has all of `span`; leaves the tables on the way in
    /// `path`.
    fn part_of(&mut self, table: &Table, mut part: Part, span: Span) -> Part {
        self.path.clear();
        loop {
            let word = part.place.load(table);
            match word::kind(word) {
                Kind::Table { shift, .. } if span.bits <= shift => {
                    self.path.push(part);
                    let place = Place::Slot(word::slot_of(word, span.start));
                    part = Part { place, span: Span::around(span.start, shift) };
                }
                _ => return part,
            }
        }
    }

    /// The word for a value of a part that is no table.
    fn find(table: &Table, part: Part, value: u32) -> Kind {
        let word = part.place.load(table);
        word::kind(match word::kind(word) {
            Kind::Wide { line } => table.wide[line as usize].find(value),
            Kind::Narrow { shift, line } => {
                table.narrow[line as usize].find((value >> shift) as u16)
            }
            _ => word,
        })
    }

    /// Paints these values of a window.
    fn edit_window(
        &mut self,
        table: &Table,
        whole: Part,
        span: Span,
        paint: Paint,
    ) -> Result<(), Full> {
        let part = self.part_of(table, whole, span);
        let word = part.place.load(table);
        if matches!(word::kind(word), Kind::Table { .. }) {
            for (slot, inner) in Span::parts_within(word, span) {
                self.paint(table, Part { place: Place::Slot(slot), span: inner }, paint)?;
            }
            self.path.push(part);
        } else if span == part.span {
            self.paint(table, part, paint)?;
        } else if !self.paint_in_place(table, (word, part), span, paint)? {
            return self.split_and_paint(table, part, span, paint);
        }
        self.count(table, paint);
        Ok(())
    }

    /// Paints the runs of a line that are exactly these values; whether there are such.
    fn paint_in_place(
        &mut self,
        table: &Table,
        (line, part): (u32, Part),
        span: Span,
        paint: Paint,
    ) -> Result<bool, Full> {
        let is_narrow = word::tag(line) == word::NARROW;
        if is_narrow && !word::fits_narrow(paint.leaf().word) {
            return Ok(false);
        }
        let Some(runs) = self.store.runs_that_are(table, (line, part.span), span) else {
            return Ok(false);
        };
        self.paint_runs(table, (line, part), runs, paint)?;
        Ok(true)
    }

    /// Rebuilds a part so that it distinguishes these values, and paints them.
    fn split_and_paint(
        &mut self,
        table: &Table,
        part: Part,
        span: Span,
        paint: Paint,
    ) -> Result<(), Full> {
        self.change(table, part, |editor, runs| {
            split(runs, part.span, span.start.into());
            split(runs, part.span, span.end());
            for run in runs.iter_mut().filter(|run| span.contains(run.start)) {
                if let Kind::Below { slot } = word::kind(run.word) {
                    let place = Place::Slot(slot as usize);
                    editor.paint(table, Part { place, span: Span::WINDOW }, paint)?;
                } else if let Some(leaf) = paint.over(run.owner) {
                    (run.word, run.owner) = (leaf.word, leaf.owner);
                }
            }
            Ok(())
        })
    }

    /// Gives a value a window of its own, with the answer that the value had.
    fn add_window(&mut self, table: &Table, part: Part, value: u32) -> Result<(), Full> {
        self.change(table, part, |editor, runs| {
            split(runs, part.span, value.into());
            split(runs, part.span, u64::from(value) + 1);
            if let Some(run) = runs.iter_mut().find(|run| run.start == value) {
                let slot = editor.store.take_table(0)?;
                let leaf = Leaf { word: run.word, owner: run.owner };
                editor.store.link(table, Place::Slot(slot as usize), leaf);
                (run.word, run.owner) = (word::below(slot), 0);
            }
            Ok(())
        })
    }

    /// Puts an answer in the place of a value's window.
    fn remove_window(
        &mut self,
        table: &Table,
        part: Part,
        value: u32,
        leaf: Leaf,
    ) -> Result<(), Full> {
        self.change(table, part, |editor, runs| {
            if let Some(run) = runs.iter_mut().find(|run| run.start == value) {
                editor.store.unlink(table, run.word, Span::VALUE);
                (run.word, run.owner) = (leaf.word, leaf.owner);
            }
            Ok(())
        })
    }

    /// Paints all of a part, whatever it is made of.
    fn paint(&mut self, table: &Table, part: Part, paint: Paint) -> Result<(), Full> {
        let leaf = self.store.leaf(table, part.place);
        match word::kind(leaf.word) {
            Kind::Answer(_) => {
                if let Some(leaf) = paint.over(leaf.owner) {
                    self.store.link(table, part.place, leaf);
                }
            }
            Kind::Below { slot } => {
                let place = Place::Slot(slot as usize);
                self.paint(table, Part { place, span: Span::WINDOW }, paint)?;
            }
            Kind::Table { .. } => {
                for (slot, span) in part.span.parts(leaf.word) {
                    self.paint(table, Part { place: Place::Slot(slot), span }, paint)?;
                }
            }
            Kind::Narrow { .. } if self.widens(table, leaf.word, paint) => {
                let path = core::mem::take(&mut self.path);
                self.split_and_paint(table, part, part.span, paint)?;
                self.path = path;
            }
            Kind::Narrow { .. } | Kind::Wide { .. } => {
                let runs = 0..self.store.runs_of(leaf.word);
                self.paint_runs(table, (leaf.word, part), runs, paint)?;
            }
        }
        Ok(())
    }

    /// Whether a narrow line has no room for what is painted over some of its runs.
    fn widens(&self, table: &Table, line: u32, paint: Paint) -> bool {
        let is_over = |nth: usize| paint.over(self.store.said(table, line, nth).1).is_some();
        !word::fits_narrow(paint.leaf().word) && (0..self.store.runs_of(line)).any(is_over)
    }

    /// Paints these runs of a line, and rebuilds it if few that differ are left.
    fn paint_runs(
        &mut self,
        table: &Table,
        (line, part): (u32, Part),
        runs: Range<usize>,
        paint: Paint,
    ) -> Result<(), Full> {
        for nth in runs {
            let (word, owner) = self.store.said(table, line, nth);
            if let Kind::Below { slot } = word::kind(word) {
                let place = Place::Slot(slot as usize);
                self.paint(table, Part { place, span: Span::WINDOW }, paint)?;
            } else if let Some(leaf) = paint.over(owner) {
                self.store.set_run(table, line, nth, leaf);
            }
        }
        if 2 * self.store.distinct(table, line) <= self.store.runs_of(line) {
            return self.change(table, part, |_, _| Ok(()));
        }
        Ok(())
    }

    /// Rebuilds a part from its runs after `change`.
    fn change(
        &mut self,
        table: &Table,
        part: Part,
        change: impl FnOnce(&mut Self, &mut Vec<Run>) -> Result<(), Full>,
    ) -> Result<(), Full> {
        let mut runs = core::mem::take(&mut self.scratch);
        runs.clear();
        let leaf = self.store.leaf(table, part.place);
        self.store.take_apart(table, leaf, part.span, None, &mut runs);
        let before = runs.len();
        change(self, &mut runs)?;
        merge(&mut runs);
        for outer in &self.path {
            let count = runs_in(&mut self.store, table, *outer);
            *count = (*count + runs.len() as u32).saturating_sub(before as u32).max(1);
        }
        self.encode(table, part, &runs)?;
        self.scratch = runs;
        Ok(())
    }

    /// Links these runs of a part. If they need a table, and the one around has grown enough to be
    /// wider, that is rebuilt instead, as long as there is room for it.
    fn encode(&mut self, table: &Table, part: Part, runs: &[Run]) -> Result<(), Full> {
        let depth = self.depth + self.path.len();
        if needs_table(runs, part.span, depth) {
            let store = &mut self.store;
            let is_too_narrow = |(depth, outer): &(usize, Part)| {
                let (_, width) = outer.span.table(outer.place.load(table));
                let worth = slots_for_a_run(*depth) * *runs_in(store, table, *outer);
                width < WIDTH_MAX.min(outer.span.bits) && 2 << width <= worth
            };
            let outer = (self.depth..).zip(self.path.iter().copied()).find(is_too_narrow);
            let instead = Some((part.span, runs));
            if outer.is_some_and(|outer| self.rebuild(table, outer, instead).is_ok()) {
                return Ok(());
            }
        }
        let leaf = self.store.make(table, runs, part.span, depth)?;
        self.store.link(table, part.place, leaf);
        Ok(())
    }

    /// Rebuilds a table to which so many others lead, with these runs for a part of it. Returns how
    /// many runs it distinguishes. Where there is no room it stays as it is.
    fn rebuild(
        &mut self,
        table: &Table,
        (depth, part): (usize, Part),
        instead: Option<(Span, &[Run])>,
    ) -> Result<u32, Full> {
        let mark = self.store.mark();
        let mut runs = Vec::new();
        let leaf = self.store.leaf(table, part.place);
        self.store.take_apart(table, leaf, part.span, instead, &mut runs);
        merge(&mut runs);
        match self.store.make(table, &runs, part.span, depth) {
            Ok(leaf) => {
                self.store.link(table, part.place, leaf);
                Ok(runs.len() as u32)
            }
            Err(full) => {
                self.store.give_up(mark);
                Err(full)
            }
        }
    }

    /// Counts with the innermost table that a prefix began or ceased to decide whole words. If the
    /// table is far too wide by now it is rebuilt, and then perhaps those around it.
    fn count(&mut self, table: &Table, paint: Paint) {
        let path = core::mem::take(&mut self.path);
        let mut lost = match paint {
            Paint::Cover(_) => -1,
            Paint::Uncover { .. } => 1,
        };
        for (nth, &part) in path.iter().enumerate().rev() {
            let count = runs_in(&mut self.store, table, part);
            *count = count.saturating_add_signed(-lost).max(1);
            let (before, depth) = (*count, self.depth + nth);
            let (_, width) = part.span.table(part.place.load(table));
            if width <= 4 || 1 << width <= 4 * slots_for_a_run(depth) * before {
                break;
            }
            let Ok(after) = self.rebuild(table, (depth, part), None) else { break };
            lost = before.saturating_sub(after).cast_signed();
        }
        self.path = path;
    }
}

/// How many runs the table of a part distinguishes.
fn runs_in<'s>(store: &'s mut Store, table: &Table, part: Part) -> &'s mut u32 {
    let (first, _) = part.span.table(part.place.load(table));
    store.runs_in(first)
}

/// Begins a run at `at`, if there is none.
fn split(runs: &mut Vec<Run>, span: Span, at: u64) {
    if at >= span.end() {
        return;
    }
    let at = at as u32;
    let after = runs.partition_point(|run| run.start <= at);
    let Some(&run) = after.checked_sub(1).and_then(|before| runs.get(before)) else { return };
    if run.start < at {
        runs.insert(after, Run { start: at, ..run });
    }
}
