//! Changes of the trie.
//!
//! A word is changed in place where a prefix decides whole words. Where it divides a run, the line of
//! that part is made anew and linked by one store. Whatever is replaced is handed back for its grace
//! period. Neighbours that come to say the same stay apart until the room is needed, so that a route
//! that flaps costs a line once.
#![forbid(unsafe_code)]

use alloc::vec::Vec;

use super::line::Run;
use super::parts::{Leaf, Span, WIDTH_MAX, merge, needs_table, slots_for_a_run};
use super::store::Store;
use super::word::Kind;
use super::{NODE, ROOT_BITS, STEPS, Table, WINDOW, root_of, window, word};
use crate::sync::Ordering;

/// A change by one prefix that is longer than what readers fall back on.
pub(super) struct Edit {
    /// The prefix.
    pub(super) bits: u128,
    pub(super) len: u32,
    pub(super) paint: Paint,
    /// How many bits lead to the outermost window on the way that no route is in any more.
    pub(super) empty: Option<u32>,
}

/// What is to be said where.
#[derive(Clone, Copy)]
pub(super) enum Paint {
    /// This, wherever no longer prefix decides.
    Cover(Leaf),
    /// What the heir says, wherever the prefix with this owner decided.
    Uncover { owner: u8, heir: Leaf },
}

impl Paint {
    /// What replaces an answer of this owner.
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

/// Where the word of a span is stored.
#[derive(Clone, Copy)]
pub(super) enum Place {
    Root(usize),
    Slot(usize),
}

impl Place {
    fn load(self, table: &Table) -> u32 {
        match self {
            Self::Root(at) => table.root[at][NODE].load(Ordering::Relaxed),
            Self::Slot(slot) => table.slots[slot].load(Ordering::Relaxed),
        }
    }
}

/// A span of a window and its word's place.
#[derive(Clone, Copy)]
struct Part {
    place: Place,
    span: Span,
}

/// Carries changes out.
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

    /// Carries a change out. What is not linked any more is in `store.unlinked`.
    pub(super) fn edit(&mut self, table: &Table, edit: &Edit) {
        let mut place = Place::Root(root_of(edit.bits));
        let mut at = ROOT_BITS;
        if edit.empty == Some(at) {
            self.store.unlink(table, place.load(table), Span::WINDOW);
            return self.link(table, place, Leaf::NONE);
        }
        loop {
            let (value, end) = (window(edit.bits, at), at + WINDOW);
            self.depth = if at == ROOT_BITS { 0 } else { STEPS as usize };
            let whole = Part { place, span: Span::WINDOW };
            if edit.len <= end {
                return self.say(table, whole, Span::around(value, end - edit.len), edit.paint);
            }
            let part = self.part_of(table, whole, Span::around(value, 0));
            match Self::find(table, part, value) {
                Kind::Below { .. } if edit.empty == Some(end) => {
                    return self.take_window(table, part, value, edit.paint.leaf());
                }
                Kind::Below { slot } => (place, at) = (Place::Slot(slot as usize), end),
                _ => self.put_window(table, part, value),
            }
        }
    }

    /// The innermost part of a window that has all of `span`; the tables on the way are noted.
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

    /// What is said of a value of a part that is no table.
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

    /// Says `paint` of these values of a window.
    fn say(&mut self, table: &Table, whole: Part, span: Span, paint: Paint) {
        let part = self.part_of(table, whole, span);
        let word = part.place.load(table);
        if matches!(word::kind(word), Kind::Table { .. }) {
            for (slot, inner) in Span::parts_within(word, span) {
                self.paint(table, Part { place: Place::Slot(slot), span: inner }, paint);
            }
            self.path.push(part);
        } else if span == part.span {
            self.paint(table, part, paint);
        } else if !self.say_in_place(table, (word, part), span, paint) {
            return self.divide(table, part, span, paint);
        }
        self.count(table, paint);
    }

    /// Where a line tells these very values apart already, no new one is needed.
    fn say_in_place(
        &mut self,
        table: &Table,
        (line, part): (u32, Part),
        span: Span,
        paint: Paint,
    ) -> bool {
        let is_narrow = word::tag(line) == word::NARROW;
        if is_narrow && !word::fits_narrow(paint.leaf().word) {
            return false;
        }
        let Some(runs) = self.store.runs_that_are(table, (line, part.span), span) else {
            return false;
        };
        self.paint_runs(table, (line, part), runs, paint);
        true
    }

    /// Makes a part anew in which these values are told apart.
    fn divide(&mut self, table: &Table, part: Part, span: Span, paint: Paint) {
        self.change(table, part, |editor, runs| {
            split(runs, part.span, span.start.into());
            split(runs, part.span, span.end());
            for run in runs.iter_mut().filter(|run| span.contains(run.start)) {
                if let Kind::Below { slot } = word::kind(run.word) {
                    let place = Place::Slot(slot as usize);
                    editor.paint(table, Part { place, span: Span::WINDOW }, paint);
                } else if let Some(leaf) = paint.over(run.owner) {
                    (run.word, run.owner) = (leaf.word, leaf.owner);
                }
            }
        });
    }

    /// Gives a value a window of its own, that says what was said of the value.
    fn put_window(&mut self, table: &Table, part: Part, value: u32) {
        self.change(table, part, |editor, runs| {
            split(runs, part.span, value.into());
            split(runs, part.span, u64::from(value) + 1);
            if let Some(run) = runs.iter_mut().find(|run| run.start == value) {
                let slot = editor.store.take_table(0);
                let leaf = Leaf { word: run.word, owner: run.owner };
                editor.link(table, Place::Slot(slot as usize), leaf);
                (run.word, run.owner) = (word::below(slot), 0);
            }
        });
    }

    /// Puts an answer in the place of a value's window.
    fn take_window(&mut self, table: &Table, part: Part, value: u32, leaf: Leaf) {
        self.change(table, part, |editor, runs| {
            if let Some(run) = runs.iter_mut().find(|run| run.start == value) {
                editor.store.unlink(table, run.word, Span::VALUE);
                (run.word, run.owner) = (leaf.word, leaf.owner);
            }
        });
    }

    /// Says `paint` of all of a part, whatever it is made of.
    fn paint(&mut self, table: &Table, part: Part, paint: Paint) {
        let word = part.place.load(table);
        match word::kind(word) {
            Kind::Answer(_) => {
                if let Some(leaf) = paint.over(self.owner(part.place)) {
                    self.link(table, part.place, leaf);
                }
            }
            Kind::Below { slot } => {
                let place = Place::Slot(slot as usize);
                self.paint(table, Part { place, span: Span::WINDOW }, paint);
            }
            Kind::Table { .. } => {
                for (slot, span) in part.span.parts(word) {
                    self.paint(table, Part { place: Place::Slot(slot), span }, paint);
                }
            }
            Kind::Narrow { .. } if !word::fits_narrow(paint.leaf().word) => {
                let path = core::mem::take(&mut self.path);
                self.divide(table, part, part.span, paint);
                self.path = path;
            }
            Kind::Narrow { .. } | Kind::Wide { .. } => {
                let runs = 0..self.store.runs_of(word);
                self.paint_runs(table, (word, part), runs, paint);
            }
        }
    }

    /// Says `paint` of these runs of a line, and makes it anew if few that differ are left.
    fn paint_runs(
        &mut self,
        table: &Table,
        (line, part): (u32, Part),
        runs: core::ops::Range<usize>,
        paint: Paint,
    ) {
        for nth in runs {
            let (word, owner) = self.store.said(table, line, nth);
            if let Kind::Below { slot } = word::kind(word) {
                let place = Place::Slot(slot as usize);
                self.paint(table, Part { place, span: Span::WINDOW }, paint);
            } else if let Some(leaf) = paint.over(owner) {
                self.store.set_run(table, line, nth, (leaf.word, leaf.owner));
            }
        }
        if 2 * self.store.distinct(table, line) <= self.store.runs_of(line) {
            self.change(table, part, |_, _| {});
        }
    }

    /// Has `change` say what the runs of a part become. Its line is made anew.
    fn change(&mut self, table: &Table, part: Part, change: impl FnOnce(&mut Self, &mut Vec<Run>)) {
        let mut runs = core::mem::take(&mut self.scratch);
        runs.clear();
        self.store.take_apart(table, self.leaf(table, part.place), part.span, None, &mut runs);
        let before = runs.len();
        change(self, &mut runs);
        merge(&mut runs);
        for outer in &self.path {
            let count = runs_in(&mut self.store, table, *outer);
            *count = (*count + runs.len() as u32).saturating_sub(before as u32).max(1);
        }
        self.encode(table, part, &runs);
        self.scratch = runs;
    }

    /// Links these runs of a part. If they need a table, and the one around has grown enough to be
    /// wider, that is made anew instead.
    fn encode(&mut self, table: &Table, part: Part, runs: &[Run]) {
        let depth = self.depth + self.path.len();
        if !needs_table(runs, part.span, depth) {
            let leaf = self.store.make(table, runs, part.span, depth);
            return self.link(table, part.place, leaf);
        }
        let path = core::mem::take(&mut self.path);
        let is_too_narrow = |(depth, outer): &(usize, Part)| {
            let (_, width) = outer.span.table(outer.place.load(table));
            let worth = slots_for_a_run(*depth) * *runs_in(&mut self.store, table, *outer);
            width < WIDTH_MAX.min(outer.span.bits) && 2 << width <= worth
        };
        let outer = (self.depth..).zip(path.iter().copied()).find(is_too_narrow);
        if let Some(outer) = outer {
            self.make_anew(table, outer, Some((part.span, runs)));
        } else {
            let leaf = self.store.make(table, runs, part.span, depth);
            self.link(table, part.place, leaf);
        }
        self.path = path;
    }

    /// Makes a table anew to which so many others lead, with these runs for a part of it. Gives back how
    /// many runs it tells apart.
    fn make_anew(
        &mut self,
        table: &Table,
        (depth, part): (usize, Part),
        instead: Option<(Span, &[Run])>,
    ) -> u32 {
        let mut runs = Vec::new();
        self.store.take_apart(table, self.leaf(table, part.place), part.span, instead, &mut runs);
        merge(&mut runs);
        let leaf = self.store.make(table, &runs, part.span, depth);
        self.link(table, part.place, leaf);
        runs.len() as u32
    }

    /// Notes with the innermost table that a prefix began or ceased to decide whole words. If it has
    /// become far too wide it is made anew, and then perhaps those around it.
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
            let after = self.make_anew(table, (depth, part), None);
            lost = before.saturating_sub(after).cast_signed();
        }
        self.path = path;
    }

    fn leaf(&self, table: &Table, place: Place) -> Leaf {
        Leaf { word: place.load(table), owner: self.owner(place) }
    }

    fn owner(&self, place: Place) -> u8 {
        match place {
            // A root's window has nothing before a prefix comes.
            Place::Root(_) => 0,
            Place::Slot(slot) => self.store.owner(slot),
        }
    }

    /// Release: who sees the word sees what it leads to.
    fn link(&mut self, table: &Table, place: Place, leaf: Leaf) {
        match place {
            Place::Root(at) => table.root[at][NODE].store(leaf.word, Ordering::Release),
            Place::Slot(slot) => {
                self.store.set_owner(slot, leaf.owner);
                table.slots[slot].store(leaf.word, Ordering::Release);
            }
        }
    }
}

/// How many runs the table of a part tells apart.
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
