//! Batches by AVX-512: sixteen slots loaded by one instruction.
#![forbid(unsafe_code)]

use super::ops::arch::{
    __m512i, _mm512_cmpgt_epu32_mask, _mm512_mask_mov_epi32, _mm512_set1_epi32, _mm512_srli_epi32,
    _mm512_testn_epi32_mask,
};
use core::net::Ipv4Addr;

use super::ops::{LANES, gather_all, gather_halves, numbers, to_array};
use crate::group::GroupId;
use crate::kernel::v4_portable::{GROUP, Silence};
use crate::v4::dir::{Dir, ROOT_BITS};
use crate::v4::slot::{ByWidth, Slot};
use crate::v4::{Now, Table};

kernel! {
    /// As [`Self::lookup_each`].
    #[inline]
    pub(in crate::kernel) fn lookup<T: Copy>(
        table: &Table,
        addrs: &[Ipv4Addr],
        found: &mut [T],
        make: impl Fn(GroupId) -> T,
    ) {
        let silence = table.silence();
        match table.now() {
            Now::Narrow(dir) => lookup_dir(dir, addrs, silence, found, &make),
            // Apart, so that a small batch pays for the preparations of one form alone.
            Now::Wide(dir) => lookup_dir_apart(dir, addrs, silence, found, &make),
        }
        table.recheck(silence, addrs, found, make);
    }
}

kernel! {
    /// As [`Self::lookup_each`]. Nothing is prefetched: as many loads as there is room for are under way
    /// anyway.
    #[inline]
    fn lookup_dir<S: Slot, T: Copy>(
        dir: &Dir<S>,
        addrs: &[Ipv4Addr],
        silence: Silence<'_>,
        found: &mut [T],
        make: impl Fn(GroupId) -> T,
    ) {
        let (groups, rest) = addrs.as_chunks::<GROUP>();
        let (found, found_rest) = found.as_chunks_mut::<GROUP>();
        for (group, found) in groups.iter().zip(found) {
            gather_group(dir, group, silence, found, &make);
        }
        if !rest.is_empty() {
            dir.lookup_group_apart(rest, silence, found_rest, make);
        }
    }
}

kernel! {
    #[inline(never)]
    fn lookup_dir_apart<S: Slot, T: Copy>(
        dir: &Dir<S>,
        addrs: &[Ipv4Addr],
        silence: Silence<'_>,
        found: &mut [T],
        make: impl Fn(GroupId) -> T,
    ) {
        lookup_dir(dir, addrs, silence, found, make);
    }
}

kernel! {
    #[inline]
    fn gather_group<S: Slot, T: Copy>(
        dir: &Dir<S>,
        addrs: &[Ipv4Addr; GROUP],
        silence: Silence<'_>,
        found: &mut [T; GROUP],
        make: impl Fn(GroupId) -> T,
    ) {
        let (registers, _) = addrs.as_chunks::<LANES>();
        let said: [__m512i; GROUP / LANES] =
            [roots(dir, numbers(&registers[0])), roots(dir, numbers(&registers[1]))];
        let short = _mm512_set1_epi32(silence.common.unwrap_or_default().cast_signed());
        let mut chunks = 0;
        let (founds, _) = found.as_chunks_mut::<LANES>();
        for (said, found) in said.into_iter().zip(founds) {
            let is_silent = _mm512_testn_epi32_mask(said, said);
            store(_mm512_mask_mov_epi32(said, is_silent, short), found, &make);
            chunks |= _mm512_cmpgt_epu32_mask(said, _mm512_set1_epi32(S::MAX.cast_signed()));
        }
        if chunks != 0 || silence.common.is_none() {
            dir.lookup_group_apart(addrs, silence, found, make);
        }
    }
}

kernel! {
    /// What the slots of the root say.
    #[inline]
    fn roots<S: Slot>(dir: &Dir<S>, numbers: __m512i) -> __m512i {
        let slots = _mm512_srli_epi32::<{ 32 - ROOT_BITS }>(numbers);
        match S::by_width(dir.slots()) {
            ByWidth::Narrow(root) => gather_halves(root, slots),
            ByWidth::Wide(root) => gather_all(root, slots),
        }
    }
}

kernel! {
    /// Stores what the caller makes of the groups that words stand for.
    #[inline]
    fn store<T: Copy>(words: __m512i, found: &mut [T; LANES], make: impl Fn(GroupId) -> T) {
        let words = to_array(words);
        // No `map`: it would be a function of its own, compiled for any processor.
        for lane in 0..LANES {
            found[lane] = make(GroupId::of_word(words[lane]));
        }
    }
}
