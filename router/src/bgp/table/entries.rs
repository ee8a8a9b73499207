//! Paths in one list, those to one prefix chained.
#![forbid(unsafe_code)]

use std::sync::Arc;

use super::Number;
use super::pages::{Pages, Sparse};
use crate::bgp::{Attributes, Ruling};

/// Where a path is.
pub(super) type Index = u32;

/// Which of the paths to a prefix: whose, and its identifier.
pub(super) type Key = (Number, u32);

/// A path, but for its identifier.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub(super) attributes: Arc<Attributes>,
    pub(super) ruling: Ruling,
    pub(super) neighbor: Number,
}

/// Every path.
pub(super) struct Entries {
    all: Pages<Option<Entry>>,
    /// The next path to the same prefix: of most there is none.
    next: Sparse,
    /// Identifiers: of most 0.
    path_ids: Sparse,
    /// Places without a path.
    free: Vec<Index>,
}

impl Default for Entries {
    fn default() -> Self {
        let (next, path_ids) = (Sparse::of(NONE), Sparse::of(0));
        Self { all: Pages::default(), next, path_ids, free: Vec::new() }
    }
}

impl Entries {
    /// Where the next path will be added.
    pub(super) fn next_place(&self) -> Index {
        self.free.last().copied().unwrap_or(self.all.len() as Index)
    }

    /// Adds the only path to a prefix.
    pub(super) fn add(&mut self, path_id: u32, entry: Entry) -> Index {
        let index = match self.free.pop() {
            Some(index) => {
                *self.all.get_mut(index) = Some(entry);
                index
            }
            None => self.all.push(Some(entry)),
        };
        self.path_ids.set(index, path_id);
        index
    }

    /// Adds another path to the prefix whose first one is given.
    pub(super) fn insert_after(&mut self, first: Index, path_id: u32, entry: Entry) {
        let index = self.add(path_id, entry);
        self.next.set(index, self.next.get(first));
        self.next.set(first, index);
    }

    /// The paths to a prefix, each with its identifier.
    pub(super) fn chain(&self, first: Index) -> impl Iterator<Item = (u32, &Entry)> {
        let mut at = first;
        std::iter::from_fn(move || {
            let entry = self.all.get(at)?.as_ref()?;
            let path_id = self.path_ids.get(at);
            at = self.next.get(at);
            Some((path_id, entry))
        })
    }

    /// One of the paths to a prefix.
    pub(super) fn find_mut(&mut self, first: Index, key: Key) -> Option<&mut Entry> {
        let (_, at) = self.find(first, key)?;
        self.all.get_mut(at).as_mut()
    }

    /// Passes on each of the paths to a prefix.
    pub(super) fn for_each_mut(&mut self, first: Index, mut change: impl FnMut(&mut Entry)) {
        let mut at = first;
        while at != NONE {
            if let Some(entry) = self.all.get_mut(at) {
                change(entry);
            }
            at = self.next.get(at);
        }
    }

    /// Removes one of the paths to a prefix. Returns it, and the first that is left.
    pub(super) fn remove(&mut self, first: Index, key: Key) -> Option<(Entry, Option<Index>)> {
        let (before, at) = self.find(first, key)?;
        let gone = self.all.get_mut(at).take()?;
        let next = self.next.get(at);
        self.next.set(at, NONE);
        self.path_ids.set(at, 0);
        self.free.push(at);
        let head = match before {
            None => next,
            Some(before) => {
                self.next.set(before, next);
                first
            }
        };
        if self.free.len() == self.all.len() {
            // Nothing is left: neither is its memory.
            *self = Self::default();
        }
        Some((gone, (head != NONE).then_some(head)))
    }

    /// Where one of the paths to a prefix is, and the one before it.
    fn find(&self, first: Index, key: Key) -> Option<(Option<Index>, Index)> {
        let (mut before, mut at) = (None, first);
        loop {
            let entry = self.all.get(at)?.as_ref()?;
            if (entry.neighbor, self.path_ids.get(at)) == key {
                return Some((before, at));
            }
            (before, at) = (Some(at), self.next.get(at));
        }
    }
}

/// No path.
const NONE: Index = Index::MAX;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_takes_16_bytes() {
        assert_eq!(size_of::<Option<Entry>>(), 16);
    }
}
