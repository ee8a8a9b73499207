//! IPv6 longest-prefix match: tables as wide as is worthwhile, then one cache line.
//!
//! ```text
//! address ─▶ root: 16 bits, direct ─▶ window of 32 bits: table ─▶ table ─▶ line ─▶ answer
//!                                                                            └──▶ next window
//! ```
//!
//! Real tables are sparse: most of what is allocated has few prefixes inside, and some has
//! thousands. A window begins with a table as wide as its own prefixes make worthwhile (Nilsson
//! and Karlsson, "IP-Address Lookup Using LC-Tries", 1999); what shares a slot is told apart by a
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
#[cfg(all(target_arch = "x86_64", feature = "std", not(miri), not(loom)))]
mod lanes;
mod line;
mod parts;
mod store;
mod word;
mod writer;

use core::net::Ipv6Addr;

use crossbeam_utils::CachePadded;

pub(crate) use self::line::{Narrow, Wide};
use self::word::Kind;
pub(crate) use self::writer::{Freed, Full, Mark, TableWriter};
use crate::group::GroupId;
use crate::memory::Slab;
use crate::rib::{STRIDE, for_each};
use crate::short::Short;
use crate::sync::{AtomicU32, Ordering};

/// What readers see.
pub(crate) struct Table {
    /// For each value of the first [`ROOT_BITS`]: what prefixes of more than one stride and up to
    /// these bits say, and the first window's word.
    root: Slab<[AtomicU32; 2], { 1 << ROOT_BITS }>,
    /// For each such value, the first of [`MIDDLES`] slots with what prefixes say that end in the
    /// next stride; 0 where there is none.
    middle: Slab<AtomicU32, { 1 << ROOT_BITS }>,
    /// Tables.
    slots: Slab<AtomicU32, SLOTS>,
    narrow: Slab<Narrow, LINES>,
    wide: Slab<Wide, LINES>,
    /// As in the IPv4 table.
    short: Short,
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
            // Acquire, here and below: who sees a word sees what it leads to.
            let word = self.root[root_of(bits)][NODE].load(Ordering::Acquire);
            self.answer(self.descend(word, bits), bits)
        });
        GroupId::of_word(word)
    }

    /// As [`Self::lookup`] for each address, into the slot of the same index of `found`, which is as
    /// long.
    #[inline(always)]
    #[allow(clippy::inline_always, reason = "compiled anew for each set of instructions")]
    pub(crate) fn lookup_each<T: Copy>(
        &self,
        addrs: &[Ipv6Addr],
        found: &mut [T],
        make: impl Fn(GroupId) -> T,
    ) {
        let (groups, rest) = addrs.as_chunks::<GROUP>();
        let (found, found_rest) = found.as_chunks_mut::<GROUP>();
        for (group, found) in groups.iter().zip(found) {
            self.lookup_group(group, found, &make);
        }
        for (addr, found) in rest.iter().zip(found_rest) {
            *found = make(self.lookup(*addr));
        }
    }

    /// Whether lookups fall back on prefixes of so many bits: each change of one is to be retired.
    #[allow(clippy::unused_self, reason = "as the IPv4 table is asked")]
    pub(crate) fn falls_back_on(&self, len: u8) -> bool {
        len <= self::writer::MIDDLE_LEN
    }

    pub(crate) fn use_huge_pages(&self) {
        self.slots.use_huge_pages();
        self.narrow.use_huge_pages();
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

    /// Step by step for all of a group, so that loads of different addresses overlap. No step has
    /// a branch, and those without a load are done for several addresses at once. What few
    /// addresses need is done for those alone: to guess who they are would cost more than the work.
    #[inline(always)]
    #[allow(clippy::inline_always, reason = "compiled anew for each set of instructions")]
    fn lookup_group<T: Copy>(
        &self,
        addrs: &[Ipv6Addr; GROUP],
        found: &mut [T; GROUP],
        make: impl Fn(GroupId) -> T,
    ) {
        let changes = self.short.changes();
        let (root, slots, narrow) = (&*self.root, &*self.slots, &*self.narrow);
        let (mut words, mut values) = ([0; GROUP], [0; GROUP]);
        for lane in 0..GROUP {
            // The first half of an address is all that these steps look at.
            let bits = (addrs[lane].to_bits() >> 64) as u64;
            words[lane] = root[(bits >> (64 - ROOT_BITS)) as usize][NODE].load(Ordering::Acquire);
            values[lane] = ((bits << ROOT_BITS) >> (64 - WINDOW)) as u32;
        }
        let (mut places, mut said) = ([0; GROUP], [0; GROUP]);
        for _ in 0..STEPS {
            for lane in 0..GROUP {
                let slot = word::slot_of(words[lane], values[lane]) as u32;
                places[lane] = choose(word::tag(words[lane]) == word::TABLE, slot, 0);
            }
            for lane in 0..GROUP {
                said[lane] = slots[places[lane] as usize % SLOTS].load(Ordering::Acquire);
            }
            for lane in 0..GROUP {
                words[lane] = choose(places[lane] == 0, words[lane], said[lane]);
            }
        }
        for lane in 0..GROUP {
            let is_line = word::tag(words[lane]) == word::NARROW;
            places[lane] = choose(is_line, words[lane] & word::INDEX, 0);
            values[lane] >>= word::shift_of(words[lane]);
        }
        for lane in 0..GROUP {
            said[lane] = narrow[places[lane] as usize % LINES].find(values[lane] as u16);
        }
        let mut left = 0_u32;
        for lane in 0..GROUP {
            words[lane] = choose(places[lane] == 0, words[lane], said[lane]);
            let group = words[lane].wrapping_sub(1);
            found[lane] = make(GroupId(group));
            // Bit 30 or 31: no answer yet.
            left |= ((group | group >> 1) >> 30 & 1) << lane;
        }
        for_each(&[left.into()], |lane| {
            let bits = addrs[lane].to_bits();
            let word = self.answer(self.descend(words[lane], bits), bits);
            found[lane] = make(GroupId::of_word(word));
        });
        if self.short.changes() != changes {
            for_each(&[left.into()], |lane| found[lane] = make(self.lookup(addrs[lane])));
        }
    }

    /// From a word of the first window to an answer. As many steps as there are words on the way.
    #[inline]
    fn descend(&self, mut word: u32, bits: u128) -> u32 {
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
    fn answer(&self, word: u32, bits: u128) -> u32 {
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

/// `yes` or `no`, by arithmetic: compilers make of a condition what is slow on some processors, a
/// branch, or stores and loads under a mask.
#[inline]
fn choose(condition: bool, yes: u32, no: u32) -> u32 {
    let mask = u32::from(condition).wrapping_neg();
    (yes & mask) | (no & !mask)
}

/// Bits of an address that the root tells apart.
const ROOT_BITS: u32 = 2 * STRIDE as u32;

/// Bits of an address that a window tells apart.
const WINDOW: u32 = 4 * STRIDE as u32;

/// Slots for the prefixes that end in the stride after the root's bits.
const MIDDLES: usize = 1 << STRIDE;

/// Index of a root's answer, and of its window's word.
const ANSWER: usize = 0;
const NODE: usize = 1;

/// Tables that a batch goes through for all of its addresses.
const STEPS: u32 = if cfg!(loom) { 1 } else { 3 };

/// Addresses looked up together.
const GROUP: usize = if cfg!(loom) { 2 } else { 32 };

/// Slots, and lines of each kind, there is address space for; memory is taken as they are used.
const SLOTS: usize = if cfg!(loom) { 16 } else { 1 << word::INDEX_BITS };
const LINES: usize = if cfg!(loom) { 8 } else { 1 << 22 };
