//! The direct form: a root and its chunks, with slots of one width.
#![forbid(unsafe_code)]

use core::hint::select_unpredictable;
use core::net::Ipv4Addr;

use super::slot::{Chunks, Slot, narrow, widen};
use super::{Answers, BLOCKS, CHILD, Table, chunk_slot, short_slot};
use crate::group::GroupId;
use crate::memory::{Slab, clock, prefetch};
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
    /// The loads of neighbours overlap, as far as the processor looks ahead. Where the first
    /// addresses of a large batch take longer than loads from a near cache do, the others are
    /// fetched further ahead than it looks. `changes` is of before this form of `table` was chosen.
    #[inline(always)]
    #[allow(clippy::inline_always, reason = "compiled anew for each set of instructions")]
    pub(super) fn lookup_each<T: Copy>(
        &self,
        addrs: &[Ipv4Addr],
        (table, changes): (&Table, u32),
        found: &mut [T],
        make: impl Fn(GroupId) -> T,
    ) {
        let (groups, rest) = addrs.as_chunks::<GROUP>();
        let (found, found_rest) = found.as_chunks_mut::<GROUP>();
        let (trial, large) = groups.split_at(groups.len().min(TRIAL));
        let (trial_found, large_found) = found.split_at_mut(trial.len());
        // To look at the clock costs as much as a few lookups.
        let start = if large.is_empty() { 0 } else { clock() };
        for (group, found) in trial.iter().zip(trial_found) {
            self.lookup_group(group, (table, changes), found, &make);
        }
        if !large.is_empty() && clock().wrapping_sub(start) > SLOW {
            for group in &large[..large.len().min(AHEAD)] {
                self.fetch(group);
            }
            for (nth, (group, found)) in large.iter().zip(large_found).enumerate() {
                if let Some(ahead) = large.get(nth + AHEAD) {
                    self.fetch(ahead);
                }
                self.lookup_group(group, (table, changes), found, &make);
            }
        } else {
            for (group, found) in large.iter().zip(large_found) {
                self.lookup_group(group, (table, changes), found, &make);
            }
        }
        for (addr, found) in rest.iter().zip(found_rest) {
            *found = make(table.lookup(*addr));
        }
    }

    /// Loads alone first, so that as many as can be are under way at once. A group in which every
    /// slot names a group of next hops needs nothing more.
    #[inline(always)]
    #[allow(clippy::inline_always, reason = "compiled anew for each set of instructions")]
    fn lookup_group<T: Copy>(
        &self,
        addrs: &[Ipv4Addr; GROUP],
        (table, changes): (&Table, u32),
        found: &mut [T; GROUP],
        make: impl Fn(GroupId) -> T,
    ) {
        let (root, places) = (&*self.root, places_of(addrs));
        let mut words = [0; GROUP];
        for lane in 0..GROUP {
            words[lane] = root[places[lane] as usize % (1 << ROOT_BITS)].raw();
        }
        let mut others = 0;
        for lane in 0..GROUP {
            words[lane] = S::word(words[lane]);
            let group = words[lane].wrapping_sub(1);
            found[lane] = make(GroupId(group));
            others |= group;
        }
        if others < CHILD {
            return;
        }
        let mut said = [0; GROUP];
        for lane in 0..GROUP {
            let slot = places[lane] >> (ROOT_BITS - u32::from(STRIDE));
            said[lane] = table.short.get(slot as usize);
        }
        let mut chunks = 0_u32;
        for lane in 0..GROUP {
            let word = if words[lane] == 0 { said[lane] } else { words[lane] };
            found[lane] = make(GroupId::of_word(word));
            chunks |= (words[lane] >> 31) << lane;
        }
        for_each(&[chunks.into()], |lane| {
            let word = self.resolve(words[lane], addrs[lane].to_bits(), &table.short);
            found[lane] = make(GroupId::of_word(word));
        });
        if table.short.changes() != changes {
            for lane in 0..GROUP {
                found[lane] = make(table.lookup(addrs[lane]));
            }
        }
    }

    /// The root, slot by slot.
    #[cfg(all(target_arch = "x86_64", feature = "std", not(miri), not(loom)))]
    #[inline]
    pub(super) fn slots(&self) -> &[S] {
        &*self.root
    }

    #[inline(always)]
    #[allow(clippy::inline_always, reason = "compiled anew for each set of instructions")]
    fn fetch(&self, addrs: &[Ipv4Addr; GROUP]) {
        let root = &*self.root;
        for place in places_of(addrs) {
            prefetch(&root[place as usize % (1 << ROOT_BITS)]);
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

/// The slots of a group. A loop over what is there already, which compilers do for eight at once, as
/// they do not for `map`.
#[inline(always)]
#[allow(clippy::inline_always, reason = "compiled anew for each set of instructions")]
fn places_of(addrs: &[Ipv4Addr; GROUP]) -> [u32; GROUP] {
    let mut places = [0; GROUP];
    for lane in 0..GROUP {
        places[lane] = root_slot(addrs[lane].to_bits()) as u32;
    }
    places
}

/// Bits of an address that the root is indexed by.
pub(super) const ROOT_BITS: u32 = 3 * STRIDE as u32;

/// Addresses looked up together.
pub(super) const GROUP: usize = if cfg!(loom) { 2 } else { 32 };

/// Groups of a large batch that are timed.
const TRIAL: usize = 1;

/// Ticks of the clock that they take where loads come from far.
const SLOW: u64 = 6 * (TRIAL * GROUP) as u64;

/// Groups by which fetching runs ahead of reading.
const AHEAD: usize = 2;
