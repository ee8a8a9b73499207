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
//! Readers see each slot's old or new word, never anything else: a lookup that runs during an
//! update gives the old or the new answer for its address, and while a prefix is written its
//! addresses change one after the other. A chunk is filled before it is linked, and reused only
//! after every reader has passed a quiescent point.
#![forbid(unsafe_code)]

pub(crate) mod dir;
pub(crate) mod slot;
mod writer;

use core::net::Ipv4Addr;

use self::dir::Dir;
use self::slot::Slot;
pub(crate) use self::writer::{FREES_MAX, Freed, TableWriter};
use crate::group::GroupId;
use crate::map::STRIDE;
use crate::memory::prefetch;
use crate::short::Short;
use crate::sync::{AtomicU16, AtomicU32, OnceBox, Ordering};

/// What readers see.
pub(crate) struct Table {
    narrow: Dir<AtomicU16>,
    /// Takes over once a number outgrows 16 bits.
    wide: OnceBox<Dir<AtomicU32>>,
    pub(crate) short: Short,
    /// Whether the memory of narrow slots is given back.
    is_narrow_gone: AtomicU32,
}

/// The slots in use.
pub(crate) enum Now<'a> {
    Narrow(&'a Dir<AtomicU16>),
    Wide(&'a Dir<AtomicU32>),
}

/// Does the same with slots of either width.
macro_rules! with_slots {
    ($table:expr, $dir:ident => $what:expr) => {
        match $table.now() {
            Now::Narrow($dir) => $what,
            Now::Wide($dir) => $what,
        }
    };
}

impl Table {
    pub(crate) fn new() -> Self {
        // Of 8 bits there are many routes, and to write one into the root takes less than a twentieth
        // of a millisecond. Shorter than that there is hardly one but the default.
        let short = Short::new(STRIDE - 1);
        let is_narrow_gone = AtomicU32::new(0);
        Self { narrow: Dir::new(), wide: OnceBox::new(), short, is_narrow_gone }
    }

    #[inline]
    pub(crate) fn now(&self) -> Now<'_> {
        self.wide.get().map_or(Now::Narrow(&self.narrow), Now::Wide)
    }

    /// The group of the longest prefix that covers `addr`, or [`GroupId::NONE`].
    #[inline]
    pub(crate) fn lookup(&self, addr: Ipv4Addr) -> GroupId {
        let addr = addr.to_bits();
        let word =
            self.short.while_unchanged(|| with_slots!(self, dir => dir.lookup(addr, &self.short)));
        GroupId::of_word(word)
    }

    /// Bits of a slot: 16 or 32.
    pub(crate) fn slot_bits(&self) -> u32 {
        if self.wide.get().is_some() { 32 } else { 16 }
    }

    /// Bytes of the table.
    pub(crate) fn bytes(&self) -> usize {
        let is_gone = self.is_narrow_gone.load(Ordering::Relaxed) != 0;
        let narrow = if is_gone { self.narrow.chunks.bytes() } else { self.narrow.bytes() };
        self.short.bytes() + narrow + self.wide.get().map_or(0, Dir::bytes)
    }

    /// Asks the processor to fetch the slot of an address's /24.
    pub(crate) fn prefetch(&self, addr: Ipv4Addr) {
        let slot = dir::root_slot(addr.to_bits());
        with_slots!(self, dir => prefetch(&dir.slots()[slot]));
    }

    /// The word of a /24, for the writer: its answer, or its chunk.
    fn root(&self, slot: usize) -> u32 {
        with_slots!(self, dir => dir.root(slot))
    }

    /// Stores `word` in the slots of these values of a block, but for those that have a chunk, which
    /// are passed to `in_chunk` with their word.
    #[inline]
    fn paint(&self, block: usize, values: &[u64; 4], word: u32, in_chunk: impl FnMut(usize, u32)) {
        with_slots!(self, dir => dir.paint(block, values, word, in_chunk));
    }

    /// Stores the word of a /24.
    fn set_root(&self, slot: usize, word: u32) {
        with_slots!(self, dir => dir.set_root(slot, word));
    }

    /// The word of a slot of a chunk.
    fn chunk(&self, chunk: u32, slot: usize) -> u32 {
        with_slots!(self, dir => dir.chunks.get(chunk, slot))
    }

    #[inline]
    fn set_chunk(&self, chunk: u32, slot: usize, word: u32) {
        with_slots!(self, dir => dir.chunks.set(chunk, slot, word));
    }

    /// Whether a word fits the slots as they are.
    fn fits(&self, word: u32) -> bool {
        self.wide.get().is_some() || word & !CHILD <= AtomicU16::MAX
    }

    /// Continues with wider slots, of which the first `count` chunks are in use. Readers find the
    /// same answers before and after. Those that are inside a lookup finish it in the narrow slots,
    /// whose memory is to be given back after a grace period.
    fn widen(&self, count: u32) {
        self.wide.set(Dir::widened(&self.narrow, count));
    }

    /// As [`crate::memory::HugePages`] asks: there is one slab.
    pub(crate) fn advise_huge_pages(&self) -> [usize; 2] {
        [with_slots!(self, dir => dir.advise_huge_pages()), 0]
    }

    pub(crate) fn collapse(&self, nth: usize) {
        with_slots!(self, dir => dir.collapse(nth));
    }

    /// Gives the memory of narrow slots back, now that no reader is in them.
    pub(crate) fn release_narrow(&self) {
        self.narrow.release();
        self.is_narrow_gone.store(1, Ordering::Relaxed);
    }
}

#[inline]
fn chunk_slot(addr: u32) -> usize {
    ((addr << dir::ROOT_BITS) >> (32 - u32::from(STRIDE))) as usize
}

#[inline]
pub(crate) fn short_slot(addr: u32) -> usize {
    (addr >> (32 - u32::from(STRIDE))) as usize
}

/// Marks a word as a chunk's number.
const CHILD: u32 = 1 << 31;
