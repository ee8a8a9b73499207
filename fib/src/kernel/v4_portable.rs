//! Batches of IPv4 addresses, by instructions that any processor has.
#![forbid(unsafe_code)]

use core::hint::select_unpredictable;
use core::net::Ipv4Addr;

use crate::group::GroupId;
use crate::map::for_each;
use crate::memory::prefetch_far;
use crate::short::Short;
use crate::v4::dir::{Dir, root_slot};
use crate::v4::slot::Slot;
use crate::v4::{Now, Table, short_slot};

/// What slots that say nothing mean, for a batch.
#[derive(Clone, Copy)]
pub(super) struct Silence<'a> {
    pub(super) short: &'a Short,
    /// How many changes of short prefixes had begun.
    pub(super) changes: u32,
    /// The word that stands for all of them, if one does.
    pub(super) common: Option<u32>,
}

impl Table {
    /// As [`Self::lookup`] for each address, into the slot of the same index of `found`, which is as
    /// long. With `AHEAD` slots are prefetched first.
    #[inline(never)]
    pub(crate) fn lookup_each<const AHEAD: bool, T: Copy>(
        &self,
        addrs: &[Ipv4Addr],
        found: &mut [T],
        make: impl Fn(GroupId) -> T,
    ) {
        let silence = self.silence();
        match self.now() {
            Now::Narrow(dir) => dir.lookup_each::<AHEAD, T>(addrs, silence, found, &make),
            Now::Wide(dir) => dir.lookup_each::<AHEAD, T>(addrs, silence, found, &make),
        }
        self.recheck(silence, addrs, found, make);
    }

    /// What a batch has to know of short prefixes. To be asked before [`Self::now`]: the common word
    /// then fits what that says.
    #[inline]
    pub(super) fn silence(&self) -> Silence<'_> {
        let changes = self.short.changes();
        Silence { short: &self.short, changes, common: self.short.common() }
    }

    /// Looks a batch up again if short prefixes have changed meanwhile: see [`crate::short`].
    #[inline]
    pub(super) fn recheck<T: Copy>(
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
}

impl<S: Slot> Dir<S> {
    /// As [`Self::lookup`] for each address, into the slot of the same index of `found`, which is as
    /// long.
    ///
    /// The loads of neighbours overlap, as far as the processor looks ahead; with `AHEAD` all slots are
    /// fetched before the first is loaded, which is further.
    #[inline]
    pub(super) fn lookup_each<const AHEAD: bool, T: Copy>(
        &self,
        addrs: &[Ipv4Addr],
        silence: Silence<'_>,
        found: &mut [T],
        make: impl Fn(GroupId) -> T,
    ) {
        for (addrs, found) in addrs.chunks(FETCHED).zip(found.chunks_mut(FETCHED)) {
            if AHEAD {
                self.fetch(addrs);
            }
            for (addrs, found) in addrs.chunks(GROUP).zip(found.chunks_mut(GROUP)) {
                self.lookup_group(addrs, silence, found, &make);
            }
        }
    }

    /// Loads alone first, into memory, so that the fewest instructions are between them and as many
    /// as can be are under way at once.
    #[inline]
    pub(super) fn lookup_group<T: Copy>(
        &self,
        addrs: &[Ipv4Addr],
        silence: Silence<'_>,
        found: &mut [T],
        make: impl Fn(GroupId) -> T,
    ) {
        let root = self.slots();
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

    /// Out-of-line [`Self::lookup_group`]: keeps the caller small.
    #[cfg(any(test, all(target_arch = "x86_64", feature = "std", not(miri), not(loom))))]
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
    #[inline]
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
    #[inline]
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

    /// Prefetches the slots of all these addresses.
    #[inline]
    pub(super) fn fetch(&self, addrs: &[Ipv4Addr]) {
        let root = self.slots();
        for addr in addrs {
            prefetch_far(&root[root_slot(addr.to_bits())]);
        }
    }
}

/// The word of `raw`, or the other where it says nothing.
#[inline]
pub(super) fn or_else<T: Copy + Default + Eq>(raw: T, other: T) -> T {
    if raw == T::default() { other } else { raw }
}

/// Addresses looked up together.
pub(super) const GROUP: usize = if cfg!(loom) { 2 } else { 32 };

/// Addresses whose slots are fetched together.
pub(super) const FETCHED: usize = 8 * GROUP;
