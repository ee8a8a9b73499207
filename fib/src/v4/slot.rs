//! Words of 16 and of 32 bits, and the chunks that /24s are divided by.
#![forbid(unsafe_code)]

use core::ops::BitOr;

use super::CHILD;
use crate::map::STRIDE;
use crate::memory::Zeroed;
use crate::segments::Segments;
use crate::sync::{AtomicU16, AtomicU32, Ordering};

/// A slot of a certain width. Its number is the word's with [`CHILD`] moved to its own highest bit.
pub(crate) trait Slot: Default + Zeroed {
    /// Its bits.
    type Raw: Copy + Default + Eq + BitOr<Output = Self::Raw>;

    /// The highest number besides the mark for chunks.
    const MAX: u32;

    /// Its bits. Acquire: a reader that sees a chunk's number sees its slots, and one that sees a
    /// group's number its lines.
    fn raw(&self) -> Self::Raw;

    /// The word that these bits stand for.
    fn word(raw: Self::Raw) -> u32;

    /// The number of the group, of bits that stand for one or for none.
    fn group(raw: Self::Raw) -> u32;

    /// The bits of a word, which has to fit.
    fn of_word(word: u32) -> Self::Raw;

    /// Whether the bits stand for a chunk.
    fn is_chunk(raw: Self::Raw) -> bool;

    /// Its word.
    #[inline]
    fn get(&self) -> u32 {
        Self::word(self.raw())
    }

    /// Release.
    fn set_raw(&self, raw: Self::Raw);

    /// As [`Self::set_raw`].
    #[inline]
    fn set(&self, word: u32) {
        self.set_raw(Self::of_word(word));
    }

    /// Slots by their width, for loads of several at once.
    #[cfg(any(test, all(target_arch = "x86_64", feature = "std", not(miri), not(loom))))]
    fn by_width(slots: &[Self]) -> ByWidth<'_>;
}

impl Slot for AtomicU16 {
    type Raw = u16;

    // The model checker widens at a number that it can reach.
    const MAX: u32 = if cfg!(loom) { 3 } else { 0x7fff };

    #[inline]
    fn raw(&self) -> u16 {
        self.load(Ordering::Acquire)
    }

    #[inline]
    fn word(raw: u16) -> u32 {
        let raw = u32::from(raw);
        raw & Self::MAX | (raw << 16) & CHILD
    }

    #[inline]
    fn group(raw: u16) -> u32 {
        // None is all ones, of 32 bits too.
        i32::from(raw.wrapping_sub(1).cast_signed()).cast_unsigned()
    }

    #[inline]
    fn of_word(word: u32) -> u16 {
        (word & Self::MAX | word >> 16 & 0x8000) as u16
    }

    #[inline]
    fn is_chunk(raw: u16) -> bool {
        raw >> 15 != 0
    }

    #[inline]
    fn set_raw(&self, raw: u16) {
        self.store(raw, Ordering::Release);
    }

    #[cfg(any(test, all(target_arch = "x86_64", feature = "std", not(miri), not(loom))))]
    fn by_width(slots: &[Self]) -> ByWidth<'_> {
        ByWidth::Narrow(slots)
    }
}

impl Slot for AtomicU32 {
    type Raw = u32;

    const MAX: u32 = CHILD - 1;

    #[inline]
    fn group(raw: u32) -> u32 {
        raw.wrapping_sub(1)
    }

    #[inline]
    fn of_word(word: u32) -> u32 {
        word
    }

    #[inline]
    fn is_chunk(raw: u32) -> bool {
        raw >> 31 != 0
    }

    #[inline]
    fn raw(&self) -> u32 {
        self.load(Ordering::Acquire)
    }

    #[inline]
    fn word(raw: u32) -> u32 {
        raw
    }

    #[inline]
    fn set_raw(&self, raw: u32) {
        self.store(raw, Ordering::Release);
    }

    #[cfg(any(test, all(target_arch = "x86_64", feature = "std", not(miri), not(loom))))]
    fn by_width(slots: &[Self]) -> ByWidth<'_> {
        ByWidth::Wide(slots)
    }
}

/// Slots of either width.
#[cfg(any(test, all(target_arch = "x86_64", feature = "std", not(miri), not(loom))))]
pub(crate) enum ByWidth<'a> {
    Narrow(&'a [AtomicU16]),
    Wide(&'a [AtomicU32]),
}

/// A slot for each address of the /24s that longer prefixes divide.
pub(crate) struct Chunks<S>(Segments<S>);

impl<S: Slot> Chunks<S> {
    pub(crate) fn new() -> Self {
        Self(Segments::new(FIRST_CHUNKS))
    }

    #[inline]
    pub(crate) fn get(&self, chunk: u32, slot: usize) -> u32 {
        self.0.get((chunk << STRIDE) + slot as u32).map_or(0, Slot::get)
    }

    pub(crate) fn set(&self, chunk: u32, slot: usize, word: u32) {
        self.0.grow_to((chunk << STRIDE) + slot as u32).set(word);
    }

    pub(crate) fn bytes(&self) -> usize {
        self.0.bytes()
    }
}

/// log₂ of the slots in the first segment of chunks.
const FIRST_CHUNKS: u32 = 2 * STRIDE as u32;
