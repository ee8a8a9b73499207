//! Changes of the trie, and the books of its memory.
//!
//! A word is changed in place where a prefix decides whole words. Where it divides a run, the lines
//! of that part of the node are made anew and linked by one store. Whatever is replaced is handed
//! back for its grace period.
#![forbid(unsafe_code)]

use alloc::vec;
use alloc::vec::Vec;

use super::line::{RUNS, Run};
use super::writer::Freed;
use super::{
    BELOW, LINE, LINE_BELOW, LINES, NODE, SLOTS, SLOTS_ALIGN, TABLE_BELOW, TAGS, Table, WIDTH_MAX,
    WINDOW, line_of, table_of, table_word, window,
};
use crate::sync::Ordering;

/// A change by one prefix of more than [`WINDOW`] bits.
pub(super) struct Edit {
    /// The prefix.
    pub(super) bits: u128,
    pub(super) len: u32,
    pub(super) paint: Paint,
    /// How many bits lead to the outermost node on the way that no route is in any more.
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

/// An answer: the word, and 1 + the length of the prefix it is by.
#[derive(Clone, Copy)]
pub(super) struct Leaf {
    pub(super) word: u32,
    pub(super) owner: u8,
}

impl Leaf {
    pub(super) const NONE: Self = Self { word: 0, owner: 0 };
}

impl Paint {
    /// What replaces an answer of this owner.
    fn over(self, owner: u8) -> Option<Leaf> {
        match self {
            Self::Cover(leaf) => (owner <= leaf.owner).then_some(leaf),
            Self::Uncover { owner: old, heir } => (owner == old).then_some(heir),
        }
    }

    fn heir(self) -> Leaf {
        match self {
            Self::Cover(leaf) => leaf,
            Self::Uncover { heir, .. } => heir,
        }
    }
}

/// Where the word of a node or of a part of one is stored.
#[derive(Clone, Copy)]
enum Place {
    Root(usize),
    Slot(usize),
    Run { line: usize, nth: usize },
}

impl Place {
    fn load(self, table: &Table) -> u32 {
        match self {
            Self::Root(at) => table.root[at][NODE].load(Ordering::Relaxed),
            Self::Slot(slot) => table.slots[slot].load(Ordering::Relaxed),
            Self::Run { line, nth } => table.lines[line].word(nth),
        }
    }
}

/// A part of a node that shares a word: all of it, or what a slot of its table stands for.
struct Part {
    place: Place,
    start: u32,
    /// The word of the table, and where that is stored.
    table: Option<(u32, Place)>,
}

/// Memory of the trie: what is in use, and what the writer knows of it besides.
pub(super) struct Nodes {
    /// For each slot, 1 + the length of the prefix that decides it; 0 is none.
    owners: Vec<u8>,
    /// For each table, by its first slot, how many runs it tells apart.
    runs_in: Vec<u32>,
    slots: usize,
    lines: usize,
    free_tables: [Vec<u32>; WIDTH_MAX as usize + 1],
    free_lines: Vec<u32>,
    freed: Freed,
    scratch: Vec<Run>,
}

impl Nodes {
    pub(super) fn new() -> Self {
        Self {
            owners: vec![0; SLOTS],
            runs_in: vec![0; SLOTS >> SLOTS_ALIGN],
            // The first of each stands for none.
            slots: 1 << SLOTS_ALIGN,
            lines: 1,
            free_tables: [const { Vec::new() }; WIDTH_MAX as usize + 1],
            free_lines: Vec::new(),
            freed: Freed { lines: Vec::new(), tables: Vec::new() },
            scratch: Vec::new(),
        }
    }

    pub(super) fn has_room_for(&self, changes: usize) -> bool {
        LINES - self.lines + self.free_lines.len() > changes * LINES_OF_A_CHANGE
            && (WIDTH_MAX == 0 || SLOTS - self.slots > changes * (2 << WIDTH_MAX))
    }

    #[cfg(all(test, not(loom)))]
    pub(super) fn leave_lines(&mut self, left: usize) {
        self.lines = LINES - left;
    }

    pub(super) fn recycle(&mut self, freed: Freed) {
        self.free_lines.extend(freed.lines);
        for word in freed.tables {
            let (first, width) = table_of(word);
            self.free_tables[width as usize].push(first as u32);
        }
    }

    /// Carries a change out; gives back what is linked no more.
    pub(super) fn edit(&mut self, table: &Table, edit: &Edit) -> Option<Freed> {
        self.carry_out(table, edit);
        table.used[0].store(self.slots as u32, Ordering::Relaxed);
        table.used[1].store(self.lines as u32, Ordering::Relaxed);
        let is_nothing = self.freed.lines.is_empty() && self.freed.tables.is_empty();
        (!is_nothing).then(|| Freed {
            lines: core::mem::take(&mut self.freed.lines),
            tables: core::mem::take(&mut self.freed.tables),
        })
    }

    fn carry_out(&mut self, table: &Table, edit: &Edit) {
        let mut place = Place::Root(window(edit.bits, 0));
        let mut at = WINDOW;
        if edit.empty == Some(at) {
            let node = place.load(table);
            self.store(table, place, Leaf::NONE.word, 0);
            return self.free_below(table, node);
        }
        if place.load(table) & TAGS == 0 {
            let node = self.make_line(table, &[Run { start: 0, word: 0, owner: 0 }]);
            self.store(table, place, LINE_BELOW | node, 0);
        }
        loop {
            let key = window(edit.bits, at) as u32;
            let end = at + WINDOW;
            let node = place.load(table);
            let width = table_of(node).1;
            if node & TAGS == TABLE_BELOW && edit.len <= at + width {
                let first = table_of(node).0 + (key >> (WINDOW - width)) as usize;
                for slot in first..first + (1 << (at + width - edit.len)) {
                    self.paint_slot(table, slot, edit.paint);
                }
                return;
            }
            let part = Self::part(place, node, key);
            if edit.len <= end {
                return self.divide(table, &part, key, key + (1 << (end - edit.len)), edit.paint);
            }
            let (run, word) = Self::locate(table, &part, key);
            if word & BELOW == 0 {
                self.put_node(table, &part, key);
            } else if edit.empty == Some(end) {
                return self.take_node(table, &part, key, word, edit.paint.heir());
            } else {
                (place, at) = (run, end);
            }
        }
    }

    /// The part of a node that `key` is in.
    fn part(place: Place, node: u32, key: u32) -> Part {
        if node & TAGS != TABLE_BELOW {
            return Part { place, start: 0, table: None };
        }
        let (first, width) = table_of(node);
        let shift = WINDOW - width;
        let slot = key >> shift;
        Part {
            place: Place::Slot(first + slot as usize),
            start: slot << shift,
            table: Some((node, place)),
        }
    }

    /// Where the word of the run `key` is in is stored, and the word.
    fn locate(table: &Table, part: &Part, key: u32) -> (Place, u32) {
        let mut place = part.place;
        let mut word = place.load(table);
        // The node's own word, where it has no table, is marked as seen from above.
        let mut is_line = part.table.is_none() || word & TAGS == LINE;
        while is_line {
            let line = line_of(word) as usize;
            let nth = table.lines[line].rank(key as u16);
            place = Place::Run { line, nth };
            word = table.lines[line].word(nth);
            is_line = word & TAGS == LINE;
        }
        (place, word)
    }

    /// Says `paint` of the values from `start` to before `end` of a part.
    fn divide(&mut self, table: &Table, part: &Part, start: u32, end: u32, paint: Paint) {
        self.change(table, part, |nodes, runs| {
            split(runs, start);
            split(runs, end);
            for run in runs.iter_mut().filter(|run| (start..end).contains(&run.start)) {
                if run.word & BELOW != 0 {
                    nodes.paint_node(table, run.word, paint);
                } else if let Some(leaf) = paint.over(run.owner) {
                    (run.word, run.owner) = (leaf.word, leaf.owner);
                }
            }
        });
    }

    /// Gives a value a node of its own, that says what was said of the value.
    fn put_node(&mut self, table: &Table, part: &Part, key: u32) {
        self.change(table, part, |nodes, runs| {
            split(runs, key);
            split(runs, key + 1);
            if let Some(run) = runs.iter_mut().find(|run| run.start == key) {
                run.word = LINE_BELOW | nodes.make_line(table, &[Run { start: 0, ..*run }]);
            }
        });
    }

    /// Puts an answer in the place of a value's node.
    fn take_node(&mut self, table: &Table, part: &Part, key: u32, node: u32, heir: Leaf) {
        self.change(table, part, |_, runs| {
            if let Some(run) = runs.iter_mut().find(|run| run.start == key) {
                (run.word, run.owner) = (heir.word, heir.owner);
            }
        });
        self.free_below(table, node);
    }

    /// Has `change` say what the runs of a part become. Their lines are made anew, and the old ones
    /// handed back.
    fn change(
        &mut self,
        table: &Table,
        part: &Part,
        change: impl FnOnce(&mut Self, &mut Vec<Run>),
    ) {
        let mut runs = core::mem::take(&mut self.scratch);
        runs.clear();
        self.decode(table, part, &mut runs);
        let before = runs.len();
        change(self, &mut runs);
        merge(&mut runs);
        self.encode(table, part, before, &runs);
        self.scratch = runs;
    }

    /// The runs of a part, whose lines are handed back.
    fn decode(&mut self, table: &Table, part: &Part, runs: &mut Vec<Run>) {
        let word = part.place.load(table);
        if word & LINE != 0 {
            self.decode_line(table, line_of(word) as usize, part.start, runs);
        } else if let Place::Slot(slot) = part.place {
            runs.push(Run { start: part.start, word, owner: self.owners[slot] });
        }
    }

    fn decode_line(&mut self, table: &Table, index: usize, from: u32, runs: &mut Vec<Run>) {
        let line = &table.lines[index];
        for nth in 0..RUNS {
            let (word, owner) = (line.word(nth), line.owner(nth));
            let start = if nth == 0 { from } else { line.start(nth) };
            let is_padding = nth > 0 && word == line.word(nth - 1) && owner == line.owner(nth - 1);
            if is_padding {
                continue;
            }
            if word & TAGS == LINE {
                self.decode_line(table, line_of(word) as usize, start, runs);
            } else {
                runs.push(Run { start, word, owner });
            }
        }
        self.freed.lines.push(index as u32);
    }

    /// Writes a part's runs, of which there were so many `before`, and links them.
    fn encode(&mut self, table: &Table, part: &Part, before: usize, runs: &[Run]) {
        match part.table {
            Some((node, place)) => {
                let (first, width) = table_of(node);
                let count = &mut self.runs_in[first >> SLOTS_ALIGN];
                *count = (*count + runs.len() as u32).saturating_sub(before as u32);
                let is_worth_it = runs.len() > RUNS && 2 << width <= SLOTS_FOR_A_RUN * *count;
                if width < WIDTH_MAX && (runs.len() > RUNS * RUNS || is_worth_it) {
                    let all = self.decode_table(table, node, part, runs);
                    let wider = self.make_table(table, &all);
                    self.store(table, place, wider, 0);
                    self.freed.tables.push(node);
                } else {
                    let leaf = self.make_part(table, runs);
                    self.store(table, part.place, leaf.word, leaf.owner);
                }
            }
            None if runs.len() > RUNS => {
                let node = self.make_table(table, runs);
                self.store(table, part.place, node, 0);
            }
            None => {
                let line = self.make_line(table, runs);
                self.store(table, part.place, LINE_BELOW | line, 0);
            }
        }
    }

    /// Every run of a table, with `runs` for one part of it.
    fn decode_table(&mut self, table: &Table, node: u32, part: &Part, runs: &[Run]) -> Vec<Run> {
        let (first, width) = table_of(node);
        let shift = WINDOW - width;
        let mut all = Vec::new();
        for slot in 0..1 << width {
            let start = slot << shift;
            if start == part.start {
                all.extend_from_slice(runs);
                continue;
            }
            let place = Place::Slot(first + slot as usize);
            self.decode(table, &Part { place, start, table: part.table }, &mut all);
        }
        merge(&mut all);
        all
    }

    /// A table for a whole node, not linked yet; its word.
    fn make_table(&mut self, table: &Table, runs: &[Run]) -> u32 {
        let width = width_for(runs);
        let first = self.free_tables[width as usize].pop().unwrap_or_else(|| {
            let first = self.slots as u32;
            self.slots += 1 << width.max(SLOTS_ALIGN);
            first
        });
        let shift = WINDOW - width;
        let mut from = 0;
        let mut mine: Vec<Run> = Vec::with_capacity(RUNS);
        for slot in 0..1_u32 << width {
            let (start, end) = (slot << shift, (slot + 1) << shift);
            while runs.get(from + 1).is_some_and(|next| next.start <= start) {
                from += 1;
            }
            mine.clear();
            mine.extend(runs[from..].iter().take_while(|run| run.start < end));
            mine[0].start = start;
            let leaf = self.make_part(table, &mine);
            let place = first as usize + slot as usize;
            table.slots[place].store(leaf.word, Ordering::Relaxed);
            self.owners[place] = leaf.owner;
        }
        self.runs_in[first as usize >> SLOTS_ALIGN] = runs.len() as u32;
        table_word(first, width)
    }

    /// The word for the runs of a slot, not linked yet: an answer, a line, or a line of lines.
    fn make_part(&mut self, table: &Table, runs: &[Run]) -> Leaf {
        if let [Run { word, owner, .. }] = *runs
            && word & BELOW == 0
        {
            return Leaf { word, owner };
        }
        if runs.len() <= RUNS {
            return Leaf { word: LINE | self.make_line(table, runs), owner: 0 };
        }
        let each = runs.len().div_ceil(runs.len().div_ceil(RUNS));
        let mut top = [Run { start: 0, word: 0, owner: 0 }; RUNS];
        let mut count = 0;
        for (run, part) in top.iter_mut().zip(runs.chunks(each)) {
            let word = LINE | self.make_line(table, part);
            *run = Run { start: part[0].start, word, owner: 0 };
            count += 1;
        }
        Leaf { word: LINE | self.make_line(table, &top[..count]), owner: 0 }
    }

    fn make_line(&mut self, table: &Table, runs: &[Run]) -> u32 {
        let line = self.free_lines.pop().unwrap_or_else(|| {
            self.lines += 1;
            self.lines as u32 - 1
        });
        table.lines[line as usize].fill(runs);
        line
    }

    fn paint_node(&mut self, table: &Table, node: u32, paint: Paint) {
        if node & TAGS != TABLE_BELOW {
            return self.paint_line(table, line_of(node) as usize, paint);
        }
        let (first, width) = table_of(node);
        for slot in first..first + (1 << width) {
            self.paint_slot(table, slot, paint);
        }
    }

    fn paint_slot(&mut self, table: &Table, slot: usize, paint: Paint) {
        let word = table.slots[slot].load(Ordering::Relaxed);
        if word & TAGS == LINE {
            self.paint_line(table, line_of(word) as usize, paint);
        } else if let Some(leaf) = paint.over(self.owners[slot]) {
            self.store(table, Place::Slot(slot), leaf.word, leaf.owner);
        }
    }

    fn paint_line(&mut self, table: &Table, index: usize, paint: Paint) {
        let line = &table.lines[index];
        for nth in 0..RUNS {
            let word = line.word(nth);
            let is_padding = nth > 0 && word & TAGS != 0 && word == line.word(nth - 1);
            if word & TAGS == 0 {
                if let Some(leaf) = paint.over(line.owner(nth)) {
                    line.set(nth, leaf.word, leaf.owner);
                }
            } else if !is_padding {
                self.paint_node(table, word, paint);
            }
        }
    }

    /// Hands back everything of a node and of those below it.
    fn free_below(&mut self, table: &Table, node: u32) {
        if node & TAGS == TABLE_BELOW {
            let (first, width) = table_of(node);
            for slot in first..first + (1 << width) {
                self.free_below(table, table.slots[slot].load(Ordering::Relaxed));
            }
            self.freed.tables.push(node);
        } else if node & LINE != 0 {
            let line = &table.lines[line_of(node) as usize];
            for nth in 0..RUNS {
                let word = line.word(nth);
                if word & TAGS != 0 && (nth == 0 || word != line.word(nth - 1)) {
                    self.free_below(table, word);
                }
            }
            self.freed.lines.push(line_of(node));
        }
    }

    /// Release: who sees the word sees what it leads to.
    fn store(&mut self, table: &Table, place: Place, word: u32, owner: u8) {
        match place {
            Place::Root(at) => table.root[at][NODE].store(word, Ordering::Release),
            Place::Slot(slot) => {
                self.owners[slot] = owner;
                table.slots[slot].store(word, Ordering::Release);
            }
            Place::Run { line, nth } => {
                // Runs that only fill the line up say what the last one does.
                let line = &table.lines[line];
                let old = line.word(nth);
                for nth in (0..RUNS).filter(|&nth| line.word(nth) == old) {
                    line.set(nth, word, owner);
                }
            }
        }
    }
}

/// Begins a run at `at`, if there is none.
fn split(runs: &mut Vec<Run>, at: u32) {
    let after = runs.partition_point(|run| run.start <= at);
    let Some(&run) = after.checked_sub(1).and_then(|before| runs.get(before)) else { return };
    if run.start < at && at < 1 << WINDOW {
        runs.insert(after, Run { start: at, ..run });
    }
}

/// Makes one run of neighbours that say the same.
fn merge(runs: &mut Vec<Run>) {
    runs.dedup_by(|next, run| {
        next.word & BELOW == 0 && (next.word, next.owner) == (run.word, run.owner)
    });
}

/// The width of a table for these runs: the least at which every part fits a line, if that is
/// worth its slots; else the greatest that is, as long as two lines in a row are enough.
fn width_for(runs: &[Run]) -> u32 {
    let worth = SLOTS_FOR_A_RUN * runs.len() as u32;
    let mut width = SLOTS_ALIGN.min(WIDTH_MAX);
    while width < WIDTH_MAX {
        let most = most_in_a_part(runs, width);
        if most <= RUNS || (2 << width > worth && most <= RUNS * RUNS) {
            break;
        }
        width += 1;
    }
    width
}

/// The most runs in one of the parts that a table of `width` has.
fn most_in_a_part(runs: &[Run], width: u32) -> usize {
    let shift = WINDOW - width;
    let (mut most, mut count, mut part) = (0, 0, 0);
    for run in runs {
        if run.start >> shift == part {
            count += 1;
        } else {
            part = run.start >> shift;
            // A part that begins amid a run has that run too.
            count = 1 + usize::from(run.start & ((1 << shift) - 1) != 0);
        }
        most = most.max(count);
    }
    most
}

/// Slots a table may have for each of its runs: more make lookups shorter, and the table larger
/// than the cache.
const SLOTS_FOR_A_RUN: u32 = 8;

/// More lines than any one change takes.
const LINES_OF_A_CHANGE: usize = if cfg!(loom) { 2 } else { 1 << 15 };
