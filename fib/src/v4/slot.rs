//! Words of 16 and of 32 bits, and the chunks that /24s are divided by.
#![forbid(unsafe_code)]

use super::CHILD;
use crate::memory::Zeroed;
use crate::rib::STRIDE;
use crate::segments::Segments;
use crate::sync::{AtomicU16, AtomicU32, Ordering};

/// A slot of a certain width. Its number is the word's with [`CHILD`] moved to its own highest bit.
pub(super) trait Slot: Default + Zeroed {
    /// The highest number besides the mark for chunks.
    const MAX: u32;

    /// Its bits. Acquire: who sees a chunk's number sees its slots, who sees a group's sees its
    /// lines.
    fn raw(&self) -> u32;

    /// The word that these bits stand for.
    fn word(raw: u32) -> u32;

    /// Its word.
    #[inline]
    fn get(&self) -> u32 {
        Self::word(self.raw())
    }

    /// Release.
    fn set(&self, word: u32);

    /// Slots by their width, for who loads several at once.
    #[cfg(all(target_arch = "x86_64", feature = "std", not(miri), not(loom)))]
    fn by_width(slots: &[Self]) -> ByWidth<'_>;
}

impl Slot for AtomicU16 {
    const MAX: u32 = 0x7fff;

    #[inline]
    fn raw(&self) -> u32 {
        self.load(Ordering::Acquire).into()
    }

    #[inline]
    fn word(raw: u32) -> u32 {
        raw & Self::MAX | (raw << 16) & CHILD
    }

    #[inline]
    fn set(&self, word: u32) {
        self.store(narrow(word), Ordering::Release);
    }

    #[cfg(all(target_arch = "x86_64", feature = "std", not(miri), not(loom)))]
    fn by_width(slots: &[Self]) -> ByWidth<'_> {
        ByWidth::Narrow(slots)
    }
}

impl Slot for AtomicU32 {
    const MAX: u32 = CHILD - 1;

    #[inline]
    fn raw(&self) -> u32 {
        self.load(Ordering::Acquire)
    }

    #[inline]
    fn word(raw: u32) -> u32 {
        raw
    }

    #[inline]
    fn set(&self, word: u32) {
        self.store(word, Ordering::Release);
    }

    #[cfg(all(target_arch = "x86_64", feature = "std", not(miri), not(loom)))]
    fn by_width(slots: &[Self]) -> ByWidth<'_> {
        ByWidth::Wide(slots)
    }
}

/// Slots of either width.
#[cfg(all(target_arch = "x86_64", feature = "std", not(miri), not(loom)))]
pub(super) enum ByWidth<'a> {
    Narrow(&'a [AtomicU16]),
    Wide(&'a [AtomicU32]),
}

/// A word in 16 bits. It has to fit: see [`Slot::MAX`].
#[inline]
pub(super) fn narrow(word: u32) -> u16 {
    (word & AtomicU16::MAX | word >> 16 & 0x8000) as u16
}

/// The word that [`narrow`] was given.
#[inline]
pub(super) fn widen(int: u16) -> u32 {
    AtomicU16::word(int.into())
}

/// A slot for each address of the /24s that longer prefixes divide.
pub(super) struct Chunks<S>(Segments<S>);

impl<S: Slot> Chunks<S> {
    pub(super) fn new() -> Self {
        Self(Segments::new(FIRST_CHUNKS))
    }

    #[inline]
    pub(super) fn get(&self, chunk: u32, slot: usize) -> u32 {
        self.0.get((chunk << STRIDE) + slot as u32).map_or(0, Slot::get)
    }

    pub(super) fn set(&self, chunk: u32, slot: usize, word: u32) {
        self.0.grow_to((chunk << STRIDE) + slot as u32).set(word);
    }

    pub(super) fn bytes(&self) -> usize {
        self.0.bytes()
    }
}

/// log₂ of the slots in the first segment of chunks.
const FIRST_CHUNKS: u32 = 2 * STRIDE as u32;
