//! A root and its chunks, with slots of one width.
#![forbid(unsafe_code)]

use core::hint::select_unpredictable;
use core::net::Ipv4Addr;

use super::slot::{Chunks, Slot};
use super::{CHILD, Silence, chunk_slot, short_slot};
use crate::group::GroupId;
use crate::memory::{Slab, prefetch_far};
use crate::rib::{STRIDE, for_each};
use crate::short::Short;
use crate::sync::{AtomicU16, AtomicU32};

/// A slot for each /24, and chunks for those that longer prefixes divide.
pub(super) struct Dir<S: Slot> {
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

    /// As [`Self::lookup`] for each address, into the slot of the same index of `found`, which is as
    /// long.
    ///
    /// The loads of neighbours overlap, as far as the processor looks ahead; with `FAR` all slots are
    /// fetched before the first is loaded, which is further.
    #[inline(always)]
    #[allow(clippy::inline_always, reason = "compiled anew for each set of instructions")]
    pub(super) fn lookup_each<const FAR: bool, T: Copy>(
        &self,
        addrs: &[Ipv4Addr],
        silence: Silence<'_>,
        found: &mut [T],
        make: impl Fn(GroupId) -> T,
    ) {
        for (addrs, found) in addrs.chunks(FETCHED).zip(found.chunks_mut(FETCHED)) {
            if FAR {
                self.fetch(addrs);
            }
            for (addrs, found) in addrs.chunks(GROUP).zip(found.chunks_mut(GROUP)) {
                self.lookup_group(addrs, silence, found, &make);
            }
        }
    }

    /// Loads alone first, into memory, so that the fewest instructions are between them and as many
    /// as can be are under way at once.
    #[inline(always)]
    #[allow(clippy::inline_always, reason = "compiled anew for each set of instructions")]
    pub(super) fn lookup_group<T: Copy>(
        &self,
        addrs: &[Ipv4Addr],
        silence: Silence<'_>,
        found: &mut [T],
        make: impl Fn(GroupId) -> T,
    ) {
        let root = &*self.root;
        let mut loaded = [S::Raw::default(); GROUP];
        for (loaded, addr) in loaded.iter_mut().zip(addrs) {
            *loaded = root[root_slot(addr.to_bits())].raw();
        }
        // A length that compilers know lets them do several at once.
        if addrs.len() == GROUP {
            self.finish(&addrs[..GROUP], &loaded[..GROUP], silence, &mut found[..GROUP], make);
        } else {
            self.finish(addrs, &loaded[..addrs.len()], silence, found, make);
        }
    }

    /// As [`Self::lookup_group`], for whom it is not worth to be a part of.
    #[cfg(all(target_arch = "x86_64", feature = "std", not(miri), not(loom)))]
    #[inline(never)]
    pub(super) fn lookup_group_apart<T: Copy>(
        &self,
        addrs: &[Ipv4Addr],
        silence: Silence<'_>,
        found: &mut [T],
        make: impl Fn(GroupId) -> T,
    ) {
        self.lookup_group(addrs, silence, found, make);
    }

    /// From slots to answers.
    #[inline(always)]
    #[allow(clippy::inline_always, reason = "compiled anew for each set of instructions")]
    fn finish<T: Copy>(
        &self,
        addrs: &[Ipv4Addr],
        loaded: &[S::Raw],
        silence: Silence<'_>,
        found: &mut [T],
        make: impl Fn(GroupId) -> T,
    ) {
        let short = S::of_word(silence.common.unwrap_or_default());
        let mut any = S::Raw::default();
        for (found, &raw) in found.iter_mut().zip(loaded) {
            *found = make(GroupId(S::group(or_else(raw, short))));
            any = any | raw;
        }
        if S::is_chunk(any) || silence.common.is_none() {
            self.finish_others(addrs, loaded, silence, found, make);
        }
    }

    /// The answers that need more than the slots and one word.
    #[inline(always)]
    #[allow(clippy::inline_always, reason = "compiled anew for each set of instructions")]
    fn finish_others<T: Copy>(
        &self,
        addrs: &[Ipv4Addr],
        loaded: &[S::Raw],
        silence: Silence<'_>,
        found: &mut [T],
        make: impl Fn(GroupId) -> T,
    ) {
        let mut chunks = 0_u64;
        for (lane, &raw) in loaded.iter().enumerate() {
            chunks |= u64::from(S::is_chunk(raw)) << lane;
        }
        for_each(&[chunks], |lane| {
            let word = self.resolve(S::word(loaded[lane]), addrs[lane].to_bits(), silence.short);
            found[lane] = make(GroupId::of_word(word));
        });
        if silence.common.is_none() {
            // All are asked: to guess which addresses need it would cost more.
            for (lane, (addr, &raw)) in addrs.iter().zip(loaded).enumerate() {
                let short = silence.short.get(short_slot(addr.to_bits()));
                let is_silent = raw == S::Raw::default();
                let here = make(GroupId::of_word(short));
                found[lane] = select_unpredictable(is_silent, here, found[lane]);
            }
        }
    }

    /// The root, slot by slot.
    #[cfg(all(target_arch = "x86_64", feature = "std", not(miri), not(loom)))]
    #[inline]
    pub(super) fn slots(&self) -> &[S] {
        &*self.root
    }

    /// Has the slots of all these addresses fetched.
    #[inline(always)]
    #[allow(clippy::inline_always, reason = "compiled anew for each set of instructions")]
    pub(super) fn fetch(&self, addrs: &[Ipv4Addr]) {
        let root = &*self.root;
        for addr in addrs {
            prefetch_far(&root[root_slot(addr.to_bits())]);
        }
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

    pub(super) fn use_huge_pages(&self) {
        self.root.use_huge_pages();
    }

    pub(super) fn let_go(&self) {
        self.root.let_go();
        // Under the model checker memory is not given back: whoever still reads finds zeros.
        #[cfg(loom)]
        self.root.iter().for_each(|slot| slot.set(0));
    }

    /// What a slot of the root says of `addr`.
    #[inline]
    pub(super) fn resolve(&self, mut word: u32, addr: u32, short: &Short) -> u32 {
        if word & CHILD != 0 {
            word = self.chunks.get(word & !CHILD, chunk_slot(addr));
        }
        // Read in any case, for it is always in the cache, and to guess would cost more.
        let short = short.get(short_slot(addr));
        select_unpredictable(word == 0, short, word)
    }
}

impl Dir<AtomicU32> {
    /// With the words of a narrow root, and of the first `count` chunks.
    pub(super) fn widened(narrow: &Dir<AtomicU16>, count: u32) -> Self {
        let wide = Self::new();
        wide.use_huge_pages();
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

/// The word of `raw`, or the other where it says nothing.
#[inline]
pub(super) fn or_else<T: Copy + Default + Eq>(raw: T, other: T) -> T {
    if raw == T::default() { other } else { raw }
}

#[inline]
pub(super) fn root_slot(addr: u32) -> usize {
    (addr >> (32 - ROOT_BITS)) as usize
}

/// Bits of an address that the root is indexed by.
pub(super) const ROOT_BITS: u32 = 3 * STRIDE as u32;

/// Addresses looked up together.
pub(super) const GROUP: usize = if cfg!(loom) { 2 } else { 32 };

/// Addresses whose slots are fetched together.
pub(super) const FETCHED: usize = 8 * GROUP;
