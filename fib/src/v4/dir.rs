//! A root and its chunks, with slots of one width.
#![forbid(unsafe_code)]

use core::hint::select_unpredictable;

use super::slot::{Chunks, Slot};
use super::{CHILD, chunk_slot, short_slot};
use crate::map::{STRIDE, for_each};
use crate::memory::Slab;
use crate::short::Short;
use crate::sync::{AtomicU16, AtomicU32};

/// A slot for each /24, and chunks for those that longer prefixes divide.
pub(crate) struct Dir<S: Slot> {
    root: Slab<S, { 1 << ROOT_BITS }>,
    pub(super) chunks: Chunks<S>,
}

impl<S: Slot> Dir<S> {
    pub(super) fn new() -> Self {
        Self { root: Slab::new(), chunks: Chunks::new() }
    }

    #[inline]
    pub(super) fn lookup(&self, addr: u32, short: &Short) -> u32 {
        let word = self.root[root_slot(addr)].get();
        self.resolve(word, addr, short)
    }

    /// The root, slot by slot.
    #[inline]
    pub(crate) fn slots(&self) -> &[S] {
        &*self.root
    }

    pub(super) fn root(&self, slot: usize) -> u32 {
        self.root[slot].get()
    }

    /// See [`super::Table::paint`].
    #[inline]
    pub(super) fn paint(
        &self,
        block: usize,
        values: &[u64; 4],
        word: u32,
        mut in_chunk: impl FnMut(usize, u32),
    ) {
        let new = S::of_word(word);
        let slots = &self.root[block << STRIDE..][..1 << STRIDE];
        let mut paint = |value: usize| {
            let old = slots[value].raw();
            if S::is_chunk(old) {
                in_chunk(value, S::word(old));
            } else if old != new {
                slots[value].set_raw(new);
            }
        };
        for (nth, &bits) in values.iter().enumerate() {
            // What is all set, as most is under a short prefix, need not be looked at bit by bit.
            if bits == u64::MAX {
                (64 * nth..64 * (nth + 1)).for_each(&mut paint);
            } else {
                for_each(&[bits], |value| paint(64 * nth + value));
            }
        }
    }

    pub(super) fn set_root(&self, slot: usize, word: u32) {
        self.root[slot].set(word);
    }

    pub(super) fn bytes(&self) -> usize {
        self.root.bytes() + self.chunks.bytes()
    }

    /// Routes are anywhere in the root.
    pub(super) fn advise_huge_pages(&self) -> usize {
        self.root.advise_huge_pages(self.root.len())
    }

    pub(super) fn collapse(&self, nth: usize) {
        self.root.collapse(nth);
    }

    pub(super) fn release(&self) {
        self.root.release();
        // Under the model checker there is no memory to return: a reader that is still inside finds
        // zeros, as it would otherwise.
        #[cfg(loom)]
        self.root.iter().for_each(|slot| slot.set(0));
    }

    /// The word for `addr`, from that of its slot in the root.
    #[inline]
    pub(crate) fn resolve(&self, mut word: u32, addr: u32, short: &Short) -> u32 {
        if word & CHILD != 0 {
            word = self.chunks.get(word & !CHILD, chunk_slot(addr));
        }
        // Read in any case: it is always in the cache, and a wrong guess would cost more.
        let short = short.get(short_slot(addr));
        select_unpredictable(word == 0, short, word)
    }
}

impl Dir<AtomicU32> {
    /// With the words of a narrow root, and of the first `count` chunks.
    pub(super) fn widened(narrow: &Dir<AtomicU16>, count: u32) -> Self {
        let wide = Self::new();
        wide.root.advise_huge_pages(0);
        for (slot, narrow) in wide.root.iter().zip(narrow.root.iter()) {
            slot.set(narrow.get());
        }
        for chunk in 0..count {
            for slot in 0..1 << STRIDE {
                wide.chunks.set(chunk, slot, narrow.chunks.get(chunk, slot));
            }
        }
        wide
    }
}

#[inline]
pub(crate) fn root_slot(addr: u32) -> usize {
    (addr >> (32 - ROOT_BITS)) as usize
}

/// Bits of an address that the root is indexed by.
pub(crate) const ROOT_BITS: u32 = 3 * STRIDE as u32;
