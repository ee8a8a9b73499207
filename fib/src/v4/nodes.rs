//! Changes of the compact form, and the books of its memory.
#![forbid(unsafe_code)]

use super::compact::{
    Compact, LINES, NODE_WORDS_MAX, STARTS, line_of, lines_for, node_word, pack, runs_of,
};
use super::slot::{narrow, widen};
use super::{Answers, CHILD, Freed, VALUES};
use crate::rib::{STRIDE, for_each};
use crate::space::Space;

/// Which lines are in use.
pub(super) struct Nodes {
    space: Space,
}

impl Nodes {
    pub(super) fn new() -> Self {
        Self::with_lines(LINES as u32)
    }

    pub(super) fn with_lines(lines: u32) -> Self {
        Self { space: Space::new(0, lines) }
    }

    /// Whether any one change still has room.
    #[inline]
    pub(super) fn has_room(&self) -> bool {
        self.space.rest() >= LINES_OF_A_CHANGE
    }

    pub(super) fn recycle(&mut self, first: u32, count: u32) {
        self.space.recycle(first, count);
    }

    /// Has `change` say the new word of each of these values of a block, which it is given with the
    /// old one.
    pub(super) fn edit(
        &mut self,
        table: &Compact,
        (block, values): (usize, &[u64; 4]),
        mut change: impl FnMut(usize, u32) -> u32,
        freed: impl FnMut(Freed),
    ) {
        let mut answers = [0; VALUES];
        table.answers(block, &mut answers);
        let mut is_changed = false;
        for_each(values, |value| {
            let new = narrow(change(value, widen(answers[value])));
            is_changed |= new != answers[value];
            answers[value] = new;
        });
        if is_changed {
            self.encode(table, (block, values), &answers, freed);
        }
    }

    /// Has a block say these answers, of which those of `values` alone may be new.
    fn encode(
        &mut self,
        table: &Compact,
        (block, values): (usize, &[u64; 4]),
        answers: &Answers,
        mut freed: impl FnMut(Freed),
    ) {
        let old = table.load_block(block);
        let is_node = old & CHILD != 0;
        let old_starts = if is_node { table.starts(old) } else { WHOLE };
        let starts = starts_after(old_starts, answers, values);
        let runs = count(&starts);
        let mut words = [0; NODE_WORDS_MAX];
        if is_node && starts == old_starts {
            let length = pack(&starts, answers, &mut words);
            return table.write(line_of(old), &words[..length]);
        }
        let mut new = widen(answers[0]);
        if runs > 1 {
            let length = pack(&starts, answers, &mut words);
            let line = self.space.take(lines_for(runs) as u32, 0).unwrap_or_default();
            table.note_use(self.space.end_max());
            table.write(line, &words[..length]);
            new = node_word(line, runs);
        }
        table.link_block(block, new);
        if is_node {
            let count = lines_for(runs_of(old)) as u32;
            freed(Freed::Lines { first: line_of(old), count });
        }
    }
}

/// Where answers differ from the one before, which was so of `starts` until these values changed.
fn starts_after(mut starts: [u64; STARTS], answers: &Answers, values: &[u64; 4]) -> [u64; STARTS] {
    let mut look = |value: usize| {
        let (word, bit) = (value / 64, value % 64);
        let is_start = answers[value] != answers[value - 1];
        starts[word] = starts[word] & !(1 << bit) | u64::from(is_start) << bit;
    };
    for_each(values, |value| {
        if value > 0 {
            look(value);
        }
        if value + 1 < VALUES {
            look(value + 1);
        }
    });
    starts
}

fn count(starts: &[u64; STARTS]) -> usize {
    starts.iter().map(|bits| bits.count_ones() as usize).sum()
}

/// One run.
const WHOLE: [u64; STARTS] = [1, 0, 0, 0];

/// One change touches no more blocks than half a stride's values, and adds a chunk.
pub(super) const LINES_OF_A_CHANGE: u32 = (lines_for(VALUES) as u32) * ((1 << (STRIDE - 1)) + 2);
