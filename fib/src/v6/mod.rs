//! IPv6 longest-prefix match: tables as wide as is worthwhile, then one cache line.
//!
//! ```text
//! address ─▶ root: 16 bits, direct ─▶ window of 32 bits: table ─▶ table ─▶ line ─▶ answer
//!                                                                            └──▶ next window
//! ```
//!
//! Real tables are sparse: most of what is allocated has few prefixes inside, and some has
//! thousands. A window begins with a table as wide as its own prefixes make worthwhile (Nilsson
//! and Karlsson, "IP-Address Lookup Using LC-Tries", 1999); what shares a slot is distinguished by a
//! line, in which sixteen runs of values are compared at once, or by a further table where there is
//! too much for that. Of a full table nearly all lookups up to /48 go through one to three tables
//! and a line, so that a batch does these steps for all of its addresses without a branch.
//!
//! Answers are pushed down: a word is what the longest prefix says that is longer than 24 bits.
//! Shorter ones are asked where that says nothing: of 17 to 24 bits in a table for each of the few
//! values of the root that has any, of up to 16 bits in the root, of up to 8 in a table of their
//! own. So a short prefix is cheap to change however much is inside it.
//!
//! Readers see each word's old or new value: a lookup that runs during an update gives the old or
//! the new answer for its address.
#![deny(unsafe_code)]

mod edit;
mod journal;
mod line;
mod parts;
mod store;
pub(crate) mod word;
mod writer;

use core::net::Ipv6Addr;

use crossbeam_utils::CachePadded;

pub(crate) use self::line::{Narrow, Wide};
use self::word::Kind;
pub(crate) use self::writer::{Freed, Full, Mark, TableWriter};
use crate::group::GroupId;
use crate::map::STRIDE;
use crate::memory::Slab;
use crate::short::Short;
use crate::sync::{AtomicU32, Ordering};

/// What readers see.
pub(crate) struct Table {
    /// For each value of the first [`ROOT_BITS`]: what prefixes of more than one stride and up to
    /// these bits say, and the first window's word.
    pub(crate) root: Slab<[AtomicU32; 2], { 1 << ROOT_BITS }>,
    /// For each such value, the first of [`MIDDLES`] slots with what prefixes say that end in the
    /// next stride; 0 where there is none.
    pub(crate) middle: Slab<AtomicU32, { 1 << ROOT_BITS }>,
    /// Tables.
    pub(crate) slots: Slab<AtomicU32, SLOTS>,
    pub(crate) narrow: Slab<Narrow, LINES>,
    wide: Slab<Wide, LINES>,
    /// As in the IPv4 table.
    pub(crate) short: Short,
    /// How many slots, narrow and wide lines have ever been in use.
    used: CachePadded<[AtomicU32; 3]>,
}

impl Table {
    pub(crate) fn new() -> Self {
        Self {
            root: Slab::new(),
            middle: Slab::new(),
            slots: Slab::new(),
            narrow: Slab::new(),
            wide: Slab::new(),
            short: Short::new(STRIDE),
            used: CachePadded::default(),
        }
    }

    /// The group of the longest prefix that covers `addr`, or [`GroupId::NONE`].
    #[inline]
    pub(crate) fn lookup(&self, addr: Ipv6Addr) -> GroupId {
        let bits = addr.to_bits();
        let word = self.short.while_unchanged(|| {
            // Acquire, here and below: a reader that sees a word sees what it leads to.
            let word = self.root[root_of(bits)][NODE].load(Ordering::Acquire);
            self.answer(self.descend(word, bits), bits)
        });
        GroupId::of_word(word)
    }

    /// Whether lookups fall back on prefixes of so many bits: each change of one is to be retired.
    #[allow(clippy::unused_self, reason = "as the IPv4 table is asked")]
    pub(crate) fn falls_back_on(&self, len: u8) -> bool {
        len <= self::writer::MIDDLE_LEN
    }

    /// As [`crate::memory::HugePages`] asks: slots and narrow lines, which are taken in order.
    pub(crate) fn advise_huge_pages(&self) -> [usize; 2] {
        let [slots, narrow] = [0, 1].map(|n| self.used[n].load(Ordering::Relaxed) as usize);
        [self.slots.advise_huge_pages(slots), self.narrow.advise_huge_pages(narrow)]
    }

    pub(crate) fn collapse(&self, slab: usize, nth: usize) {
        match slab {
            0 => self.slots.collapse(nth),
            _ => self.narrow.collapse(nth),
        }
    }

    /// Bytes in use.
    pub(crate) fn bytes(&self) -> usize {
        let [slots, narrow, wide] =
            [0, 1, 2].map(|n| self.used[n].load(Ordering::Relaxed) as usize);
        self.root.bytes()
            + self.middle.bytes()
            + self.short.bytes()
            + slots * size_of::<AtomicU32>()
            + narrow * size_of::<Narrow>()
            + wide * size_of::<Wide>()
    }

    /// From a word of the first window to an answer. As many steps as there are words on the way.
    #[inline]
    pub(crate) fn descend(&self, mut word: u32, bits: u128) -> u32 {
        let mut at = ROOT_BITS;
        loop {
            let value = window(bits, at);
            word = match word::kind(word) {
                Kind::Answer(answer) => return answer,
                Kind::Narrow { shift, line } => {
                    return self.narrow[line as usize].find((value >> shift) as u16);
                }
                Kind::Table { .. } => {
                    self.slots[word::slot_of(word, value)].load(Ordering::Acquire)
                }
                Kind::Wide { line } => self.wide[line as usize].find(value),
                Kind::Below { slot } => {
                    at += WINDOW;
                    self.slots[slot as usize].load(Ordering::Acquire)
                }
            };
        }
    }

    /// The answer of long prefixes, else of shorter ones, else of the shortest.
    #[inline]
    pub(crate) fn answer(&self, word: u32, bits: u128) -> u32 {
        if word != 0 {
            return word;
        }
        let root = root_of(bits);
        let middle = self.middle[root].load(Ordering::Acquire) as usize;
        let of_middle = middle + (window(bits, ROOT_BITS) >> (WINDOW - u32::from(STRIDE))) as usize;
        // Slots of no table are never written: they say nothing.
        let of_middle = if middle == 0 { 0 } else { of_middle };
        [
            self.slots[of_middle].load(Ordering::Acquire),
            self.root[root][ANSWER].load(Ordering::Acquire),
            self.short.get((bits >> (128 - u32::from(STRIDE))) as usize),
        ]
        .into_iter()
        .find(|&word| word != 0)
        .unwrap_or(0)
    }
}

/// The bits of an address that the root is indexed by.
#[inline]
fn root_of(bits: u128) -> usize {
    (bits >> (128 - ROOT_BITS)) as usize
}

/// The bits of one window, `at` bits from the first; what is beyond the last bit is zero.
#[inline]
fn window(bits: u128, at: u32) -> u32 {
    ((bits << at) >> (128 - WINDOW)) as u32
}

/// Bits of an address that the root distinguishes.
pub(crate) const ROOT_BITS: u32 = 2 * STRIDE as u32;

/// Bits of an address that a window distinguishes.
pub(crate) const WINDOW: u32 = 4 * STRIDE as u32;

/// Slots for the prefixes that end in the stride after the root's bits.
const MIDDLES: usize = 1 << STRIDE;

/// Index of a root's answer, and of its window's word.
pub(crate) const ANSWER: usize = 0;
pub(crate) const NODE: usize = 1;

/// Tables that a batch goes through for all of its addresses.
pub(crate) const STEPS: u32 = if cfg!(loom) { 1 } else { 3 };

/// Slots, and lines of each kind, there is address space for; memory is taken as they are used.
pub(crate) const SLOTS: usize = if cfg!(loom) { 16 } else { 1 << word::INDEX_BITS };
pub(crate) const LINES: usize = if cfg!(loom) { 8 } else { 1 << 22 };
