//! The answers of prefixes of up to one stride, and how a lookup that falls back on them stays
//! linearizable.
//!
//! A lookup that finds nothing longer reads a second word, later than the first. If a longer prefix
//! is added and the short one removed in between, it finds neither. So the writer counts before it
//! changes a word that lookups fall back on, and a lookup that sees the count move starts again.
//!
//! It starts again as often as the count moves. That is bounded: each such change is on the
//! writer's list of retired things, which empties only when every reader passes a quiescent point.
//! A reader passes none inside a lookup, so after at most [`crate::RETIRED_MAX`] changes, and those
//! of one transaction, the writer stalls.
#![forbid(unsafe_code)]

use crossbeam_utils::CachePadded;

use crate::addr::Addr;
use crate::map::{Rib, STRIDE};
use crate::memory::Slab;
use crate::prefix::Prefix;
use crate::sync::{AtomicU32, Ordering};

/// For each value of the first stride, the answer of the longest prefix of up to `len_max` bits: 0, or
/// 1 + the group.
pub(crate) struct Short {
    len_max: u8,
    words: Slab<AtomicU32, { 1 << STRIDE }>,
    /// The word that all of them are, or [`DIFFERENT`]: mostly there is a default route or none.
    common: AtomicU32,
    /// Raised by the writer before it changes a word here, or another that lookups fall back on.
    /// Release: a reader that sees it sees what was added before. Readers compare two acquire loads.
    changes: CachePadded<AtomicU32>,
}

impl Short {
    /// `len_max` is at most a stride.
    pub(crate) fn new(len_max: u8) -> Self {
        debug_assert!(len_max <= STRIDE);
        let changes = CachePadded::new(AtomicU32::new(0));
        Self { len_max, words: Slab::new(), common: AtomicU32::new(0), changes }
    }

    /// Whether prefixes of so many bits are here.
    #[inline]
    pub(crate) fn has(&self, len: u8) -> bool {
        len <= self.len_max
    }

    /// The word that all are; `None` if they differ, or are about to. As long as no change begins it is
    /// the same as [`Self::get`] returns.
    #[inline]
    pub(crate) fn common(&self) -> Option<u32> {
        // Acquire: as in `get`.
        let word = self.common.load(Ordering::Acquire);
        (word != DIFFERENT).then_some(word)
    }

    /// Acquire: a reader that sees a group's number sees its lines.
    #[inline]
    pub(crate) fn get(&self, slot: usize) -> u32 {
        self.words[slot].load(Ordering::Acquire)
    }

    /// All words, for loads of several at once.
    #[cfg(any(test, all(target_arch = "x86_64", feature = "std", not(miri), not(loom))))]
    #[inline]
    pub(crate) fn words(&self) -> &[AtomicU32] {
        &*self.words
    }

    /// Follows the routes after a change of `prefix`, which is one of those that are here.
    pub(crate) fn follow<A: Addr>(&self, routes: &Rib<A>, prefix: Prefix<A>) {
        // Before the count: a reader that sees the new count must not see the old word.
        self.common.store(DIFFERENT, Ordering::Release);
        self.begin_change();
        for (value, group) in routes.short_answers(prefix, self.len_max) {
            self.words[value].store(group.word(), Ordering::Release);
        }
        let first = self.get(0);
        if self.words.iter().all(|word| word.load(Ordering::Relaxed) == first) {
            self.common.store(first, Ordering::Release);
        }
    }

    /// To be called before each change of what else lookups fall back on.
    pub(crate) fn begin_change(&self) {
        let next = self.changes.load(Ordering::Relaxed).wrapping_add(1);
        self.changes.store(next, Ordering::Release);
    }

    /// How many changes have begun. The same before and after a lookup: what it fell back on was
    /// what it would have been at its first step.
    #[inline]
    pub(crate) fn changes(&self) -> u32 {
        self.changes.load(Ordering::Acquire)
    }

    /// Looks up, again and again until no change begins meanwhile.
    #[inline]
    pub(crate) fn while_unchanged(&self, mut look_up: impl FnMut() -> u32) -> u32 {
        let mut before = self.changes();
        loop {
            let word = look_up();
            let after = self.changes();
            if before == after {
                return word;
            }
            before = after;
        }
    }

    pub(crate) fn bytes(&self) -> usize {
        self.words.bytes()
    }
}

/// No word: groups have smaller numbers.
const DIFFERENT: u32 = u32::MAX;
