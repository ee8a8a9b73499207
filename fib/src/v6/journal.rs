//! What is changed where readers look, until it is kept or undone.
//!
//! Nothing that a change unlinks is retired before the commit, so that to undo needs no room: words
//! are restored from the last to the first, and lead where they led.
#![forbid(unsafe_code)]

use super::Table;
use super::parts::Leaf;
use super::store::{Place, Store, Unlinked};

/// A word as it was before a store.
#[derive(Clone, Copy, Debug)]
pub(super) enum Undo {
    Link { place: Place, leaf: Leaf },
    Run { line: u32, nth: usize, leaf: Leaf },
}

/// How far the journal had come.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Mark {
    unlinked: usize,
    taken: usize,
    journal: usize,
}

impl Store {
    pub(super) fn mark(&self) -> Mark {
        Mark { unlinked: self.unlinked.len(), taken: self.taken.len(), journal: self.journal.len() }
    }

    /// Keeps what was changed. Returns what is to be retired.
    pub(super) fn commit(&mut self) -> alloc::vec::Drain<'_, Unlinked> {
        self.taken.clear();
        self.journal.clear();
        self.unlinked.append(&mut self.spoiled);
        self.unlinked.drain(..)
    }

    /// Restores every word as it was at `mark`. It needs no room: what was unlinked since is linked
    /// again, since nothing of it was retired yet.
    pub(super) fn roll_back(&mut self, table: &Table, mark: Mark) {
        let is_linked = self.journal.len() > mark.journal;
        while self.journal.len() > mark.journal {
            let Some(undo) = self.journal.pop() else { break };
            table.short.begin_change();
            match undo {
                Undo::Link { place, leaf } => self.store_link(table, place, leaf),
                Undo::Run { line, nth, leaf } => self.store_run(table, line, nth, leaf),
            }
        }
        self.unlinked.truncate(mark.unlinked);
        if is_linked {
            // Readers may be in it.
            self.spoiled.extend(self.taken.drain(mark.taken..));
        } else {
            self.give_up(mark);
        }
    }

    /// Takes back, at once, what was taken since `mark` and never linked.
    pub(super) fn give_up(&mut self, mark: Mark) {
        self.unlinked.truncate(mark.unlinked);
        while self.taken.len() > mark.taken {
            let Some(taken) = self.taken.pop() else { break };
            self.recycle(taken);
        }
    }
}
