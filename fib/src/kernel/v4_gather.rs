//! Batches by AVX-512: sixteen slots loaded by one instruction.
#![forbid(unsafe_code)]

use core::arch::x86_64::{
    __m512i, _mm512_cmpgt_epu32_mask, _mm512_mask_mov_epi32, _mm512_set1_epi32, _mm512_srli_epi32,
    _mm512_testn_epi32_mask,
};
use core::net::Ipv4Addr;

use super::avx512::{LANES, gather_all, gather_halves, numbers, to_array};
use super::v4_portable::{GROUP, Silence};
use crate::group::GroupId;
use crate::v4::dir::{Dir, ROOT_BITS};
use crate::v4::slot::{ByWidth, Slot};
use crate::v4::{Now, Table};

impl Table {
    /// As [`Self::lookup_each`].
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,bmi1,bmi2,lzcnt,movbe,popcnt")]
    pub(crate) fn lookup_gather<T: Copy>(
        &self,
        addrs: &[Ipv4Addr],
        found: &mut [T],
        make: impl Fn(GroupId) -> T,
    ) {
        let silence = self.silence();
        match self.now() {
            Now::Narrow(dir) => dir.lookup_gather(addrs, silence, found, &make),
            // Apart, so that a small batch pays for the preparations of one form alone.
            Now::Wide(dir) => dir.lookup_gather_apart(addrs, silence, found, &make),
        }
        self.recheck(silence, addrs, found, make);
    }
}

impl<S: Slot> Dir<S> {
    /// As [`Self::lookup_each`]. Nothing is prefetched: as many loads as there is room for are under way
    /// anyway.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,bmi1,bmi2,lzcnt,movbe,popcnt")]
    fn lookup_gather<T: Copy>(
        &self,
        addrs: &[Ipv4Addr],
        silence: Silence<'_>,
        found: &mut [T],
        make: impl Fn(GroupId) -> T,
    ) {
        let (groups, rest) = addrs.as_chunks::<GROUP>();
        let (found, found_rest) = found.as_chunks_mut::<GROUP>();
        for (group, found) in groups.iter().zip(found) {
            self.gather_group(group, silence, found, &make);
        }
        if !rest.is_empty() {
            self.lookup_group_apart(rest, silence, found_rest, make);
        }
    }

    #[inline(never)]
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,bmi1,bmi2,lzcnt,movbe,popcnt")]
    fn lookup_gather_apart<T: Copy>(
        &self,
        addrs: &[Ipv4Addr],
        silence: Silence<'_>,
        found: &mut [T],
        make: impl Fn(GroupId) -> T,
    ) {
        self.lookup_gather(addrs, silence, found, make);
    }

    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,bmi1,bmi2,lzcnt,movbe,popcnt")]
    fn gather_group<T: Copy>(
        &self,
        addrs: &[Ipv4Addr; GROUP],
        silence: Silence<'_>,
        found: &mut [T; GROUP],
        make: impl Fn(GroupId) -> T,
    ) {
        let (registers, _) = addrs.as_chunks::<LANES>();
        let said: [__m512i; GROUP / LANES] =
            [self.roots(numbers(&registers[0])), self.roots(numbers(&registers[1]))];
        let short = _mm512_set1_epi32(silence.common.unwrap_or_default().cast_signed());
        let mut chunks = 0;
        let (founds, _) = found.as_chunks_mut::<LANES>();
        for (said, found) in said.into_iter().zip(founds) {
            let is_silent = _mm512_testn_epi32_mask(said, said);
            store(_mm512_mask_mov_epi32(said, is_silent, short), found, &make);
            chunks |= _mm512_cmpgt_epu32_mask(said, _mm512_set1_epi32(S::MAX.cast_signed()));
        }
        if chunks != 0 || silence.common.is_none() {
            self.lookup_group_apart(addrs, silence, found, make);
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
