//! Paths in one list, those to one prefix chained.
#![forbid(unsafe_code)]

use std::sync::Arc;

use super::Number;
use crate::bgp::{Attributes, Ruling};

/// Where a path is.
pub(super) type Index = u32;

/// Which of the paths to a prefix: whose, and its identifier.
pub(super) type Key = (Number, u32);

/// A path.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub(super) attributes: Arc<Attributes>,
    pub(super) path_id: u32,
    /// The next to the same prefix, or [`NONE`].
    next: Index,
    pub(super) neighbor: Number,
    pub(super) ruling: Ruling,
}

/// Every path. Growing doubles what is reserved; pages of it that nothing is in cost no memory.
#[derive(Default)]
pub(super) struct Entries {
    all: Vec<Option<Entry>>,
    /// Places without a path.
    free: Vec<Index>,
}

impl Entry {
    pub(super) fn new(
        neighbor: Number,
        path_id: u32,
        attributes: Arc<Attributes>,
        ruling: Ruling,
    ) -> Self {
        Self { attributes, path_id, next: NONE, neighbor, ruling }
    }

    pub(super) const fn key(&self) -> Key {
        (self.neighbor, self.path_id)
    }
}

impl Entries {
    /// Adds the only path to a prefix.
    pub(super) fn add(&mut self, entry: Entry) -> Index {
        if let Some(index) = self.free.pop() {
            self.all[index as usize] = Some(entry);
            return index;
        }
        self.all.push(Some(entry));
        self.all.len() as Index - 1
    }

    /// Adds another path to the prefix whose first one is given.
    pub(super) fn insert_after(&mut self, first: Index, entry: Entry) {
        let next = self.all[first as usize].as_ref().map_or(NONE, |first| first.next);
        let index = self.add(Entry { next, ..entry });
        if let Some(first) = &mut self.all[first as usize] {
            first.next = index;
        }
    }

    /// The paths to a prefix.
    pub(super) fn chain(&self, first: Index) -> impl Iterator<Item = &Entry> {
        let get = |index: Index| self.all.get(index as usize)?.as_ref();
        std::iter::successors(get(first), move |entry| get(entry.next))
    }

    /// One of the paths to a prefix.
    pub(super) fn find_mut(&mut self, first: Index, key: Key) -> Option<&mut Entry> {
        let (_, at) = self.find(first, key)?;
        self.all[at as usize].as_mut()
    }

    /// Passes on each of the paths to a prefix.
    pub(super) fn for_each_mut(&mut self, first: Index, mut change: impl FnMut(&mut Entry)) {
        let mut at = first;
        while let Some(Some(entry)) = self.all.get_mut(at as usize) {
            change(entry);
            at = entry.next;
        }
    }

    /// Removes one of the paths to a prefix. Returns it, and the first that is left.
    pub(super) fn remove(&mut self, first: Index, key: Key) -> Option<(Entry, Option<Index>)> {
        let (before, at) = self.find(first, key)?;
        let gone = self.all[at as usize].take()?;
        self.free.push(at);
        let head = match before {
            None => gone.next,
            Some(before) => {
                self.all[before as usize].as_mut()?.next = gone.next;
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
            let entry = self.all.get(at as usize)?.as_ref()?;
            if entry.key() == key {
                return Some((before, at));
            }
            (before, at) = (Some(at), entry.next);
        }
    }
}

/// No path.
const NONE: Index = Index::MAX;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_takes_24_bytes() {
        assert_eq!(size_of::<Option<Entry>>(), 24);
    }
}
