//! IPv6 longest-prefix match: a level-compressed trie whose last step is one cache line.
//!
//! ```text
//! address ─▶ root: 16 bits, direct ─▶ node for 16 bits ─▶ node for 16 bits ─▶ …
//!
//! node:  a line, where nine runs of values or fewer tell all of its 2¹⁶ apart
//!        else a table by its first 3 to 13 bits, of answers and lines
//! line:  64 bytes: eight 16-bit boundaries, compared at once, and nine words
//! ```
//!
//! Real tables are sparse: most of what is allocated has few prefixes inside, and some has
//! thousands. A node's table is as large as its own prefixes make worthwhile (Nilsson and
//! Karlsson, "IP-Address Lookup Using LC-Tries", 1999), and what is left after it fits a line. So
//! a lookup of any prefix up to /48 touches two to five cache lines after the root, in a fixed
//! order of steps without a branch that data decides; a lookup that ends early goes on with steps
//! that change nothing.
//!
//! Answers are pushed down: a word is what the longest prefix says that is longer than 16 bits.
//! What prefixes of up to 16 bits say is in the root, and of up to 8 bits in a table of its own, so
//! that a default route is cheap to change. Readers see each word's old or new value: a lookup
//! that runs during an update gives the old or the new answer for its address.
#![deny(unsafe_code)]

mod edit;
mod line;
mod writer;

use core::net::Ipv6Addr;

use crossbeam_utils::CachePadded;

use self::line::KEYS;
pub(crate) use self::line::Line;
pub(crate) use self::writer::{Freed, TableWriter};
use crate::group::GroupId;
use crate::memory::Slab;
use crate::rib::{STRIDE, for_each};
use crate::short::Short;
use crate::sync::{AtomicU32, Ordering};

/// What readers see.
pub(crate) struct Table {
    /// For each value of the first [`WINDOW`] bits: what prefixes of more than one stride and up to
    /// these bits say, and the node of longer ones.
    root: Slab<[AtomicU32; 2], { 1 << WINDOW }>,
    /// Tables of nodes.
    slots: Slab<AtomicU32, SLOTS>,
    lines: Slab<Line, LINES>,
    /// As in the IPv4 table.
    short: Short,
    /// How many slots and lines have ever been in use.
    used: CachePadded<[AtomicU32; 2]>,
}

impl Table {
    pub(crate) fn new() -> Self {
        Self {
            root: Slab::new(),
            slots: Slab::new(),
            lines: Slab::new(),
            short: Short::new(),
            used: CachePadded::default(),
        }
    }

    /// The group of the longest prefix that covers `addr`, or [`GroupId::NONE`].
    #[inline]
    pub(crate) fn lookup(&self, addr: Ipv6Addr) -> GroupId {
        let bits = addr.to_bits();
        let start = &self.root[window(bits, 0)];
        let word = self.short.while_unchanged(|| {
            let word = self.descend(start[NODE].load(Ordering::Acquire), bits, WINDOW);
            self.answer(word, bits)
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

    pub(crate) fn use_huge_pages(&self) {
        self.slots.use_huge_pages();
        self.lines.use_huge_pages();
    }

    /// Bytes in use.
    pub(crate) fn bytes(&self) -> usize {
        let [slots, lines] = [0, 1].map(|n| self.used[n].load(Ordering::Relaxed) as usize);
        self.root.bytes()
            + self.short.bytes()
            + slots * size_of::<AtomicU32>()
            + lines * size_of::<Line>()
    }

    /// Step by step for all of a group, so that loads of different addresses overlap. No step has
    /// a branch, and those without a load are done for eight addresses at once. What few addresses
    /// need is done for those alone: to guess who they are would cost more than the work.
    #[inline(always)]
    #[allow(clippy::inline_always, reason = "compiled anew for each set of instructions")]
    fn lookup_group<T: Copy>(
        &self,
        addrs: &[Ipv6Addr; GROUP],
        found: &mut [T; GROUP],
        make: impl Fn(GroupId) -> T,
    ) {
        let changes = self.short.changes();
        let (root, slots, lines) = (&*self.root, &*self.slots, &*self.lines);
        let mut keys = [[0; GROUP]; STEPS as usize];
        let mut words = [0; GROUP];
        for lane in 0..GROUP {
            // The first half of an address is all that these steps look at.
            let bits = (addrs[lane].to_bits() >> 64) as u64;
            let start = &root[(bits >> (64 - WINDOW)) as usize];
            words[lane] = start[NODE].load(Ordering::Acquire);
            for (nth, keys) in keys.iter_mut().enumerate() {
                keys[lane] = u32::from(key_at(bits, (nth as u32 + 1) * WINDOW));
            }
        }
        let (mut places, mut said) = ([0; GROUP], [0; GROUP]);
        for keys in &keys {
            for lane in 0..GROUP {
                places[lane] = slot_of(words[lane], keys[lane]);
            }
            for lane in 0..GROUP {
                said[lane] = slots[places[lane] as usize % SLOTS].load(Ordering::Acquire);
            }
            for lane in 0..GROUP {
                words[lane] = entered(words[lane], said[lane]);
                places[lane] = line_of(words[lane]);
            }
            for lane in 0..GROUP {
                said[lane] = lines[places[lane] as usize % LINES].find(keys[lane] as u16);
            }
            let mut again = 0_u32;
            for lane in 0..GROUP {
                words[lane] = choose(places[lane] == 0, words[lane], said[lane]);
                // Bit 30 and not bit 31: another line.
                again |= ((words[lane] & !(words[lane] >> 1)) >> 30 & 1) << lane;
            }
            // A few parts of a few nodes have more runs than fit a line.
            for_each(&[again.into()], |lane| {
                words[lane] = self.follow(words[lane], keys[lane] as u16);
            });
        }
        let mut left = 0_u32;
        for lane in 0..GROUP {
            let group = words[lane].wrapping_sub(1);
            found[lane] = make(GroupId(group));
            // Bit 30 or 31: no answer yet.
            left |= ((group | group >> 1) >> 30 & 1) << lane;
        }
        for_each(&[left.into()], |lane| {
            let bits = addrs[lane].to_bits();
            let word = self.descend(words[lane], bits, (STEPS + 1) * WINDOW);
            found[lane] = make(GroupId::of_word(self.answer(word, bits)));
        });
        if self.short.changes() != changes {
            for_each(&[left.into()], |lane| found[lane] = make(self.lookup(addrs[lane])));
        }
    }

    /// What the line of a word says, line by line.
    #[inline]
    fn follow(&self, mut word: u32, key: u16) -> u32 {
        while word & TAGS == LINE {
            word = self.lines[line_of(word) as usize].find(key);
        }
        word
    }

    #[inline]
    fn descend(&self, mut word: u32, bits: u128, mut at: u32) -> u32 {
        while word & TAGS != 0 {
            let key = window(bits, at) as u16;
            let slot = slot_of(word, key.into()) as usize;
            let slot = self.slots[slot].load(Ordering::Acquire);
            word = self.follow(entered(word, slot), key);
            at += WINDOW;
        }
        word
    }

    /// The answer of long prefixes, else of shorter ones, else of the shortest.
    #[inline]
    fn answer(&self, mut word: u32, bits: u128) -> u32 {
        if word == 0 {
            word = self.root[window(bits, 0)][ANSWER].load(Ordering::Acquire);
        }
        if word == 0 {
            word = self.short.get((bits >> (128 - u32::from(STRIDE))) as usize);
        }
        word
    }
}

/// The bits of one node, `at` bits from the first.
#[inline]
fn window(bits: u128, at: u32) -> usize {
    ((bits << at) >> (128 - WINDOW)) as usize
}

/// As [`window`], of the first half of an address.
#[inline]
fn key_at(bits: u64, at: u32) -> u16 {
    ((bits << at) >> (64 - WINDOW)) as u16
}

/// `yes` or `no`, by arithmetic: compilers make of a condition what is slow on some processors, a
/// branch, or stores and loads under a mask.
#[inline]
fn choose(condition: bool, yes: u32, no: u32) -> u32 {
    let mask = u32::from(condition).wrapping_neg();
    (yes & mask) | (no & !mask)
}

/// From a node's word and that of a slot of its table to a line of this node, or an answer.
#[inline]
fn entered(word: u32, slot: u32) -> u32 {
    let line = choose(word & LINE == 0, word, word & !BELOW);
    choose(word & TAGS == TABLE_BELOW, slot, line)
}

/// The line of a word; the first, which is never used, for a word of something else.
#[inline]
fn line_of(word: u32) -> u32 {
    choose(word & LINE == 0, 0, (word & !TAGS) % LINES as u32)
}

/// The slot of a key in a node's table; the first, which is never used, where there is none.
#[inline]
fn slot_of(word: u32, key: u32) -> u32 {
    let slot = (word >> SHIFT_BITS << SLOTS_ALIGN) + (key >> (word & SHIFT_MASK));
    choose(word & TAGS == TABLE_BELOW, slot % SLOTS as u32, 0)
}

/// First slot and width in bits of a table.
#[inline]
fn table_of(word: u32) -> (usize, u32) {
    let first = (word & !TAGS) >> SHIFT_BITS << SLOTS_ALIGN;
    (first as usize, WINDOW.saturating_sub(word & SHIFT_MASK))
}

fn table_word(first: u32, width: u32) -> u32 {
    TABLE_BELOW | first >> SLOTS_ALIGN << SHIFT_BITS | (WINDOW - width)
}

/// A word's first two bits say what it is. Without any it is 0 or 1 + a group.
const TAGS: u32 = 3 << 30;

/// A line of the same node.
const LINE: u32 = 1 << 30;

/// Set for the node below.
const BELOW: u32 = 1 << 31;

/// A node below that is a table: its width, and its first slot.
const TABLE_BELOW: u32 = BELOW;

/// A node below that is one line.
const LINE_BELOW: u32 = BELOW | LINE;

/// A table's word ends with how many of a key's bits its slots leave apart.
const SHIFT_BITS: u32 = 5;
const SHIFT_MASK: u32 = (1 << SHIFT_BITS) - 1;

/// Bits of an address that a node tells apart.
const WINDOW: u32 = 2 * STRIDE as u32;

/// Index of a root's answer, and of its node.
const ANSWER: usize = 0;
const NODE: usize = 1;

/// Nodes that a batch goes through step by step: to /48, beyond which few prefixes are.
const STEPS: u32 = if cfg!(loom) { 1 } else { 2 };

/// Addresses looked up together.
const GROUP: usize = if cfg!(loom) { 2 } else { 32 };

/// Slots and lines there is address space for; memory is taken as they are used.
const SLOTS: usize = if cfg!(loom) { 2 } else { 1 << 25 };
const LINES: usize = if cfg!(loom) { 16 } else { 1 << 22 };

/// Tables begin at multiples of 2 to this.
const SLOTS_ALIGN: u32 = 3;

/// The widest table: the 2³ values that share a slot of it fit a line.
const WIDTH_MAX: u32 = if cfg!(loom) { 0 } else { WINDOW - (KEYS.ilog2()) };
