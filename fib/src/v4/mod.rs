//! IPv4 longest-prefix match: DIR-24-8 (Gupta, Lin and McKeown, "Routing Lookups in Hardware at
//! Memory Access Speeds", 1998), with three changes.
//!
//! ```text
//! address ─▶ root: a slot for each /24 ─▶ group, if a prefix of 9 to 24 bits decides
//!                                       ─▶ chunk: a slot for each address of that /24
//!                                       ─▶ none: short, a slot for each /8, says
//! ```
//!
//! * Slots are 16 bits wide as long as group and chunk numbers fit, and 32 from then on: of what a
//!   lookup costs most is the cache that the root does not fit in.
//! * Prefixes shorter than 8 bits are in a table of their own. Every router has a default route,
//!   and to write that into 2²⁴ slots would take milliseconds.
//! * The writer keeps no copy of the table: its routes say which slots a prefix decides.
//!
//! That is the direct form. [`compact`] takes an eighth of the memory and has the same answers; it is
//! chosen where a table is made, and goes over to the direct form with 32-bit slots at the point
//! where slots of the direct form become wider.
//!
//! Readers see each slot's old or new word, never anything else: a lookup that runs during an
//! update gives the old or the new answer for its address, and while a prefix is written its
//! addresses change one after the other. A chunk is filled before it is linked, and reused only
//! after every reader has let go of it.
#![forbid(unsafe_code)]

mod compact;
mod dir;
#[cfg(all(target_arch = "x86_64", feature = "std", not(miri), not(loom)))]
mod far;
#[cfg(all(target_arch = "x86_64", feature = "std", not(miri), not(loom)))]
mod lanes;
mod nodes;
mod slot;
mod writer;

use core::net::Ipv4Addr;

use once_cell::race::OnceBox;

use self::compact::Compact;
use self::dir::Dir;
use self::nodes::Nodes;
use self::slot::Slot;
pub(crate) use self::writer::{Freed, TableWriter, frees_max};
use crate::group::GroupId;
use crate::options::V4Form;
use crate::rib::{STRIDE, outside};
use crate::short::Short;
use crate::sync::{AtomicU16, AtomicU32, Ordering};

/// What readers see.
pub(crate) struct Table {
    first: First,
    /// Takes over once a number outgrows 16 bits.
    wide: OnceBox<Dir<AtomicU32>>,
    short: Short,
    /// Whether what the table began as is given back.
    is_first_gone: AtomicU32,
}

/// What a table begins as.
enum First {
    Direct(Dir<AtomicU16>),
    Compact(Compact),
}

/// What slots that say nothing mean, for a batch.
#[derive(Clone, Copy)]
struct Silence<'a> {
    short: &'a Short,
    /// How many changes of short prefixes had begun.
    changes: u32,
    /// The word that stands for all of them, if one does.
    common: Option<u32>,
}

/// What a table is now.
enum Now<'a> {
    Narrow(&'a Dir<AtomicU16>),
    Wide(&'a Dir<AtomicU32>),
    Compact(&'a Compact),
}

impl Table {
    pub(crate) fn new(form: V4Form) -> Self {
        let (first, len_max) = match form {
            // Of 8 bits there are many routes, and to write one into the root takes less than a
            // twentieth of a millisecond. Shorter than that there is hardly one but the default.
            V4Form::Direct => (First::Direct(Dir::new()), STRIDE - 1),
            V4Form::Compact => (First::Compact(Compact::new()), STRIDE),
        };
        let short = Short::new(len_max);
        Self { first, wide: OnceBox::new(), short, is_first_gone: AtomicU32::new(0) }
    }

    #[inline]
    fn now(&self) -> Now<'_> {
        match (self.wide.get(), &self.first) {
            (Some(wide), _) => Now::Wide(wide),
            (None, First::Direct(narrow)) => Now::Narrow(narrow),
            (None, First::Compact(compact)) => Now::Compact(compact),
        }
    }

    /// The group of the longest prefix that covers `addr`, or [`GroupId::NONE`].
    #[inline]
    pub(crate) fn lookup(&self, addr: Ipv4Addr) -> GroupId {
        let addr = addr.to_bits();
        let word = self.short.while_unchanged(|| match self.now() {
            Now::Narrow(dir) => dir.lookup(addr, &self.short),
            Now::Wide(dir) => dir.lookup(addr, &self.short),
            Now::Compact(compact) => compact.lookup(addr, &self.short),
        });
        GroupId::of_word(word)
    }

    /// As [`Self::lookup`] for each address, into the slot of the same index of `found`, which is as
    /// long. `FAR` where slots are thought to be in no near cache.
    #[inline(always)]
    #[allow(clippy::inline_always, reason = "compiled anew for each set of instructions")]
    pub(crate) fn lookup_each<const FAR: bool, T: Copy>(
        &self,
        addrs: &[Ipv4Addr],
        found: &mut [T],
        make: impl Fn(GroupId) -> T,
    ) {
        let silence = self.silence();
        match self.now() {
            Now::Narrow(dir) => dir.lookup_each::<FAR, T>(addrs, silence, found, &make),
            Now::Wide(dir) => dir.lookup_each::<FAR, T>(addrs, silence, found, &make),
            Now::Compact(compact) => compact.lookup_each(addrs, &self.short, found, &make),
        }
        self.recheck(silence, addrs, found, make);
    }

    /// What a batch has to know of short prefixes. To be asked before [`Self::now`]: the common word
    /// then fits what that says.
    #[inline]
    fn silence(&self) -> Silence<'_> {
        let changes = self.short.changes();
        Silence { short: &self.short, changes, common: self.short.common() }
    }

    /// Looks a batch up anew if short prefixes have changed meanwhile: see [`crate::short`].
    #[inline]
    fn recheck<T: Copy>(
        &self,
        silence: Silence<'_>,
        addrs: &[Ipv4Addr],
        found: &mut [T],
        make: impl Fn(GroupId) -> T,
    ) {
        if self.short.changes() != silence.changes {
            self.lookup_singly(addrs, found, make);
        }
    }

    #[cold]
    #[inline(never)]
    fn lookup_singly<T: Copy>(
        &self,
        addrs: &[Ipv4Addr],
        found: &mut [T],
        make: impl Fn(GroupId) -> T,
    ) {
        for (addr, found) in addrs.iter().zip(found) {
            *found = make(self.lookup(*addr));
        }
    }

    /// Whether lookups fall back on prefixes of so many bits: each change of one is to be retired.
    pub(crate) fn falls_back_on(&self, len: u8) -> bool {
        self.short.has(len)
    }

    /// The form that is in use.
    pub(crate) fn form(&self) -> V4Form {
        match self.now() {
            Now::Narrow(_) | Now::Wide(_) => V4Form::Direct,
            Now::Compact(_) => V4Form::Compact,
        }
    }

    /// Bits of a slot: 16 or 32.
    pub(crate) fn slot_bits(&self) -> u32 {
        if self.wide.get().is_some() { 32 } else { 16 }
    }

    /// Bytes of the table.
    pub(crate) fn bytes(&self) -> usize {
        let is_gone = self.is_first_gone.load(Ordering::Relaxed) != 0;
        let first = match &self.first {
            First::Direct(narrow) if is_gone => narrow.chunks.bytes(),
            First::Direct(narrow) => narrow.bytes(),
            First::Compact(compact) if is_gone => compact.chunks.bytes(),
            First::Compact(compact) => compact.bytes(),
        };
        self.short.bytes() + first + self.wide.get().map_or(0, Dir::bytes)
    }

    /// What is said of a /24, for the writer: its answer, or its chunk.
    fn root(&self, slot: usize) -> u32 {
        match self.now() {
            Now::Narrow(dir) => dir.root(slot),
            Now::Wide(dir) => dir.root(slot),
            Now::Compact(compact) => compact.root(slot),
        }
    }

    /// Has each of these values of a block say `word`; but for those that have a chunk, which are
    /// handed to `in_chunk` with their word.
    #[inline]
    fn paint(
        &self,
        nodes: &mut Nodes,
        (block, values): (usize, &[u64; 4]),
        word: u32,
        mut in_chunk: impl FnMut(usize, u32),
        freed: impl FnMut(Freed),
    ) {
        match self.now() {
            Now::Narrow(dir) => dir.paint(block, values, word, in_chunk),
            Now::Wide(dir) => dir.paint(block, values, word, in_chunk),
            Now::Compact(compact) => {
                let change = |value, old| {
                    if old & CHILD == 0 {
                        return word;
                    }
                    in_chunk(value, old);
                    old
                };
                nodes.edit(compact, (block, values), change, freed);
            }
        }
    }

    /// Has the slot of a /24 say this.
    fn set_root(&self, nodes: &mut Nodes, slot: usize, word: u32, freed: impl FnMut(Freed)) {
        match self.now() {
            Now::Narrow(dir) => dir.set_root(slot, word),
            Now::Wide(dir) => dir.set_root(slot, word),
            Now::Compact(compact) => {
                let value = slot % VALUES;
                let only = outside([0; 4], value..value + 1);
                nodes.edit(compact, (slot >> STRIDE, &only), |_, _| word, freed);
            }
        }
    }

    /// The word of a slot of a chunk.
    fn chunk(&self, chunk: u32, slot: usize) -> u32 {
        match self.now() {
            Now::Narrow(dir) => dir.chunks.get(chunk, slot),
            Now::Wide(dir) => dir.chunks.get(chunk, slot),
            Now::Compact(compact) => compact.chunks.get(chunk, slot),
        }
    }

    #[inline]
    fn set_chunk(&self, chunk: u32, slot: usize, word: u32) {
        match self.now() {
            Now::Narrow(dir) => dir.chunks.set(chunk, slot, word),
            Now::Wide(dir) => dir.chunks.set(chunk, slot, word),
            Now::Compact(compact) => compact.chunks.set(chunk, slot, word),
        }
    }

    /// Whether a word fits the slots as they are.
    fn fits(&self, word: u32) -> bool {
        self.wide.get().is_some() || word & !CHILD <= AtomicU16::MAX
    }

    /// Goes on with wider slots. Readers find the same answers before and after; those that are at
    /// a lookup finish it in the table as it was, which is to be let go of after a grace period.
    fn widen(&self, count: u32) {
        let wide = match &self.first {
            First::Direct(narrow) => {
                Dir::widened(|block, out| narrow.answers(block, out), &narrow.chunks, count)
            }
            First::Compact(compact) => {
                Dir::widened(|block, out| compact.answers(block, out), &compact.chunks, count)
            }
        };
        let _ = self.wide.set(alloc::boxed::Box::new(wide));
    }

    pub(crate) fn use_huge_pages(&self) {
        match self.now() {
            Now::Narrow(dir) => dir.use_huge_pages(),
            Now::Wide(dir) => dir.use_huge_pages(),
            Now::Compact(compact) => compact.use_huge_pages(),
        }
    }

    /// Gives the memory back of what the table began as, now that no reader is in it.
    pub(crate) fn let_go_of_first(&self) {
        match &self.first {
            First::Direct(narrow) => narrow.let_go(),
            First::Compact(compact) => compact.let_go(),
        }
        self.is_first_gone.store(1, Ordering::Relaxed);
    }
}

#[inline]
fn chunk_slot(addr: u32) -> usize {
    ((addr << dir::ROOT_BITS) >> (32 - u32::from(STRIDE))) as usize
}

#[inline]
fn short_slot(addr: u32) -> usize {
    (addr >> (32 - u32::from(STRIDE))) as usize
}

/// Words of the values of a block, in 16 bits each.
type Answers = [u16; VALUES];

/// A block is what two strides lead to.
const BLOCKS: usize = 1 << (2 * STRIDE);

/// Values of a block: those of the third stride.
const VALUES: usize = 1 << STRIDE;

/// Marks a word as a chunk's number.
const CHILD: u32 = 1 << 31;
