//! The direct form: a root and its chunks, with slots of one width.
#![forbid(unsafe_code)]

use core::hint::select_unpredictable;
use core::net::Ipv4Addr;

use super::slot::{Chunks, Slot, narrow, widen};
use super::{Answers, BLOCKS, CHILD, Table, chunk_slot, short_slot};
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
    /// long. `changes` is of before this form of `table` was chosen.
    ///
    /// The loads of neighbours overlap, as far as the processor looks ahead; with `FAR` all slots are
    /// fetched before the first is loaded, which is further.
    #[inline(always)]
    #[allow(clippy::inline_always, reason = "compiled anew for each set of instructions")]
    pub(super) fn lookup_each<const FAR: bool, T: Copy>(
        &self,
        addrs: &[Ipv4Addr],
        at: (&Table, u32),
        found: &mut [T],
        make: impl Fn(GroupId) -> T,
    ) {
        for (addrs, found) in addrs.chunks(FETCHED).zip(found.chunks_mut(FETCHED)) {
            if FAR {
                self.fetch(addrs);
            }
            for (addrs, found) in addrs.chunks(GROUP).zip(found.chunks_mut(GROUP)) {
                self.lookup_group(addrs, at, found, &make);
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
        at: (&Table, u32),
        found: &mut [T],
        make: impl Fn(GroupId) -> T,
    ) {
        let mut loaded = [0; GROUP];
        for (loaded, addr) in loaded.iter_mut().zip(addrs) {
            *loaded = self.root[root_slot(addr.to_bits())].raw();
        }
        // A length that compilers know lets them do several at once.
        if addrs.len() == GROUP {
            self.finish(&addrs[..GROUP], &loaded[..GROUP], at, &mut found[..GROUP], make);
        } else {
            self.finish(addrs, &loaded, at, found, make);
        }
    }

    /// From slots to answers. If every slot names a group of next hops, nothing more is needed; what
    /// few addresses need is done for those alone.
    #[inline(always)]
    #[allow(clippy::inline_always, reason = "compiled anew for each set of instructions")]
    pub(super) fn finish<T: Copy>(
        &self,
        addrs: &[Ipv4Addr],
        loaded: &[u32],
        (table, changes): (&Table, u32),
        found: &mut [T],
        make: impl Fn(GroupId) -> T,
    ) {
        let mut others = 0;
        for (found, &raw) in found.iter_mut().zip(loaded) {
            let group = S::word(raw).wrapping_sub(1);
            *found = make(GroupId(group));
            others |= group;
        }
        if others < CHILD {
            return;
        }
        let (mut silent, mut chunks) = (0_u64, 0_u64);
        for (lane, &raw) in loaded[..addrs.len()].iter().enumerate() {
            let word = S::word(raw);
            silent |= u64::from(word == 0) << lane;
            chunks |= u64::from(word >> 31) << lane;
        }
        for_each(&[silent], |lane| {
            let word = table.short.get(short_slot(addrs[lane].to_bits()));
            found[lane] = make(GroupId::of_word(word));
        });
        for_each(&[chunks], |lane| {
            let word = self.resolve(S::word(loaded[lane]), addrs[lane].to_bits(), &table.short);
            found[lane] = make(GroupId::of_word(word));
        });
        if table.short.changes() != changes {
            for_each(&[silent | chunks], |lane| found[lane] = make(table.lookup(addrs[lane])));
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
        for addr in addrs {
            prefetch_far(&self.root[root_slot(addr.to_bits())]);
        }
    }

    pub(super) fn root(&self, slot: usize) -> u32 {
        self.root[slot].get()
    }

    /// See [`super::Table::edit`].
    #[inline]
    pub(super) fn edit(
        &self,
        block: usize,
        values: &[u64; 4],
        mut change: impl FnMut(usize, u32) -> u32,
    ) {
        for_each(values, |value| {
            let slot = &self.root[(block << STRIDE) + value];
            let old = slot.get();
            let new = change(value, old);
            if new != old {
                slot.set(new);
            }
        });
    }

    pub(super) fn bytes(&self) -> usize {
        self.root.bytes() + self.chunks.bytes()
    }

    pub(super) fn use_huge_pages(&self) {
        self.root.use_huge_pages();
    }

    pub(super) fn let_go(&self) {
        self.root.let_go();
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

impl Dir<AtomicU16> {
    /// What the slots of a block say.
    pub(super) fn answers(&self, block: usize, answers: &mut Answers) {
        for (answer, slot) in answers.iter_mut().zip(&self.root[block << STRIDE..]) {
            *answer = narrow(slot.get());
        }
    }
}

impl Dir<AtomicU32> {
    /// With the answers of each block, and the first `count` chunks of those there were.
    pub(super) fn widened(
        answers: impl Fn(usize, &mut Answers),
        chunks: &Chunks<AtomicU16>,
        count: u32,
    ) -> Self {
        let wide = Self::new();
        wide.use_huge_pages();
        let mut block_answers = [0; 1 << STRIDE];
        for block in 0..BLOCKS {
            answers(block, &mut block_answers);
            for (slot, &answer) in wide.root[block << STRIDE..].iter().zip(&block_answers) {
                slot.set(widen(answer));
            }
        }
        for chunk in 0..count {
            for slot in 0..1 << STRIDE {
                wide.chunks.set(chunk, slot, chunks.get(chunk, slot));
            }
        }
        wide
    }
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
