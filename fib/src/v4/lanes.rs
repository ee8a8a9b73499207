//! Batches by AVX-512: sixteen slots loaded by one instruction.
#![forbid(unsafe_code)]

use core::arch::x86_64::{
    __m512i, _mm512_cmpge_epu32_mask, _mm512_cmpgt_epu32_mask, _mm512_set1_epi32,
    _mm512_srli_epi32, _mm512_sub_epi32, _mm512_testn_epi32_mask,
};
use core::net::Ipv4Addr;

use super::compact::Compact;
use super::dir::{Dir, GROUP, ROOT_BITS};
use super::slot::{ByWidth, Slot};
use super::{Now, Table};
use crate::group::GroupId;
use crate::rib::{STRIDE, for_each};
use crate::simd::{LANES, gather, gather_all, gather_halves, numbers, to_array};

impl Table {
    /// As [`Self::lookup_each`].
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,bmi1,bmi2,lzcnt,movbe,popcnt")]
    pub(crate) fn lookup_lanes<T: Copy>(
        &self,
        addrs: &[Ipv4Addr],
        found: &mut [T],
        make: impl Fn(GroupId) -> T,
    ) {
        let at = (self, self.short.changes());
        match self.now() {
            Now::Narrow(dir) => dir.lookup_lanes(addrs, at, found, make),
            // Apart, so that a small batch pays for the preparations of one form alone.
            Now::Wide(dir) => dir.lookup_lanes_apart(addrs, at, found, make),
            Now::Compact(compact) => compact.lookup_apart(addrs, at, found, make),
        }
    }
}

impl Compact {
    #[inline(never)]
    #[target_feature(enable = "avx2,bmi1,bmi2,lzcnt,movbe,popcnt")]
    fn lookup_apart<T: Copy>(
        &self,
        addrs: &[Ipv4Addr],
        at: (&Table, u32),
        found: &mut [T],
        make: impl Fn(GroupId) -> T,
    ) {
        self.lookup_each(addrs, at, found, make);
    }
}

impl<S: Slot> Dir<S> {
    /// As [`Self::lookup_each`]. Nothing is fetched ahead, for as many loads as there is room for are
    /// under way anyway.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,bmi1,bmi2,lzcnt,movbe,popcnt")]
    fn lookup_lanes<T: Copy>(
        &self,
        addrs: &[Ipv4Addr],
        at: (&Table, u32),
        found: &mut [T],
        make: impl Fn(GroupId) -> T,
    ) {
        let (groups, rest) = addrs.as_chunks::<GROUP>();
        let (found, found_rest) = found.as_chunks_mut::<GROUP>();
        for (group, found) in groups.iter().zip(found) {
            self.group_by_lanes(group, at, found, &make);
        }
        self.lookup_group(rest, at, found_rest, make);
    }

    #[inline(never)]
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,bmi1,bmi2,lzcnt,movbe,popcnt")]
    fn lookup_lanes_apart<T: Copy>(
        &self,
        addrs: &[Ipv4Addr],
        at: (&Table, u32),
        found: &mut [T],
        make: impl Fn(GroupId) -> T,
    ) {
        self.lookup_lanes(addrs, at, found, make);
    }

    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,bmi1,bmi2,lzcnt,movbe,popcnt")]
    fn group_by_lanes<T: Copy>(
        &self,
        addrs: &[Ipv4Addr; GROUP],
        at: (&Table, u32),
        found: &mut [T; GROUP],
        make: impl Fn(GroupId) -> T,
    ) {
        let (registers, _) = addrs.as_chunks::<LANES>();
        let said: [__m512i; GROUP / LANES] =
            [self.roots(numbers(&registers[0])), self.roots(numbers(&registers[1]))];
        let mut others = 0;
        for said in said {
            let groups = _mm512_sub_epi32(said, _mm512_set1_epi32(1));
            others |= _mm512_cmpge_epu32_mask(groups, _mm512_set1_epi32(S::MAX.cast_signed()));
        }
        if others != 0 {
            return self.others_by_lanes(addrs, at, found, make);
        }
        let (found, _) = found.as_chunks_mut::<LANES>();
        for (said, found) in said.into_iter().zip(found) {
            store(said, found, &make);
        }
    }

    /// What the slots of the root say.
    #[inline]
    #[target_feature(enable = "avx512f")]
    fn roots(&self, numbers: __m512i) -> __m512i {
        let slots = _mm512_srli_epi32::<{ 32 - ROOT_BITS }>(numbers);
        match S::by_width(self.slots()) {
            ByWidth::Narrow(root) => gather_halves(root, slots),
            ByWidth::Wide(root) => gather_all(root, slots),
        }
    }

    /// Addresses of which slots do not name all groups. It begins anew: to hand over what is known
    /// would cost every group registers.
    #[inline(never)]
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,bmi1,bmi2,lzcnt,movbe,popcnt")]
    fn others_by_lanes<T: Copy>(
        &self,
        addrs: &[Ipv4Addr; GROUP],
        (table, changes): (&Table, u32),
        found: &mut [T; GROUP],
        make: impl Fn(GroupId) -> T,
    ) {
        let (addrs, _) = addrs.as_chunks::<LANES>();
        let (found, _) = found.as_chunks_mut::<LANES>();
        for (addrs, found) in addrs.iter().zip(&mut *found) {
            let numbers = numbers(addrs);
            let said = self.roots(numbers);
            let short = _mm512_srli_epi32::<{ 32 - STRIDE as u32 }>(numbers);
            let is_silent = _mm512_testn_epi32_mask(said, said);
            store(gather(table.short.words(), short, is_silent, said), found, &make);
            // Few addresses are in a chunk.
            let chunks = _mm512_cmpgt_epu32_mask(said, _mm512_set1_epi32(S::MAX.cast_signed()));
            let words = to_array(said);
            for_each(&[chunks.into()], |lane| {
                let (word, addr) = (S::word(words[lane]), addrs[lane].to_bits());
                let word = self.resolve(word, addr, &table.short);
                found[lane] = make(GroupId::of_word(word));
            });
        }
        if table.short.changes() != changes {
            for (addrs, found) in addrs.iter().zip(found) {
                for lane in 0..LANES {
                    found[lane] = make(table.lookup(addrs[lane]));
                }
            }
        }
    }
}

/// Stores what the caller makes of the groups that words stand for.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
fn store<T: Copy>(words: __m512i, found: &mut [T; LANES], make: impl Fn(GroupId) -> T) {
    let words = to_array(words);
    // No `map`: it would be a function of its own, compiled for any processor.
    for lane in 0..LANES {
        found[lane] = make(GroupId::of_word(words[lane]));
    }
}
