//! Batches by AVX-512: each step for sixteen addresses at once, but for lines, which are looked into
//! one by one.
#![forbid(unsafe_code)]

use super::ops::arch::{
    __m512i, __mmask16, _mm_setr_epi8, _mm512_add_epi32, _mm512_and_si512, _mm512_broadcast_i32x4,
    _mm512_cmpeq_epi32_mask, _mm512_mask_mov_epi32, _mm512_maskz_mov_epi32,
    _mm512_permutexvar_epi32, _mm512_set1_epi32, _mm512_setr_epi32, _mm512_setzero_si512,
    _mm512_shuffle_epi8, _mm512_slli_epi32, _mm512_srli_epi32, _mm512_srlv_epi32,
    _mm512_test_epi32_mask, _mm512_testn_epi32_mask, _mm512_unpackhi_epi64, _mm512_unpacklo_epi32,
    _mm512_unpacklo_epi64,
};
use core::net::Ipv6Addr;

use super::ops::{LANES, bytes_of_four, find_in_line, from_array, load_all, to_array};
use crate::group::GroupId;
use crate::map::{STRIDE, for_each};
use crate::sync::AtomicU32;
use crate::v6::{ANSWER, LINES, NODE, STEPS, Table, word};

kernel! {
    /// As [`Self::lookup_each`].
    #[inline]
    pub(in crate::kernel) fn lookup<T: Copy>(
        table: &Table,
        addrs: &[Ipv6Addr],
        found: &mut [T],
        make: impl Fn(GroupId) -> T,
    ) {
        let (groups, rest) = addrs.as_chunks::<GROUP>();
        let (found, found_rest) = found.as_chunks_mut::<GROUP>();
        for (group, found) in groups.iter().zip(found) {
            lookup_registers(table, group, found, &make);
        }
        for (addr, found) in rest.iter().zip(found_rest) {
            *found = make(table.lookup(*addr));
        }
    }
}

kernel! {
    /// Stage by stage for several registers, so that as many loads as possible are under way.
    #[inline]
    fn lookup_registers<T: Copy>(
        table: &Table,
        addrs: &[Ipv6Addr; GROUP],
        found: &mut [T; GROUP],
        make: impl Fn(GroupId) -> T,
    ) {
        let changes = table.short.changes();
        let (addrs, _) = addrs.as_chunks::<LANES>();
        let (found, _) = found.as_chunks_mut::<LANES>();
        let none = _mm512_setzero_si512();
        let (mut roots, mut values, mut words) = ([none; COUNT], [none; COUNT], [none; COUNT]);
        for nth in 0..COUNT {
            (roots[nth], values[nth]) = heads(&addrs[nth]);
            words[nth] = windows_at(table, roots[nth]);
        }
        for _ in 0..STEPS {
            for nth in 0..COUNT {
                words[nth] = step(table, words[nth], values[nth]);
            }
        }
        let (mut lines, mut said) = ([[0; LANES]; COUNT], [[0; LANES]; COUNT]);
        for nth in 0..COUNT {
            let word = words[nth];
            // Where there is no line, the first is looked into, which is never used.
            let line = _mm512_and_si512(word, splat(word::INDEX % LINES as u32));
            lines[nth] = to_array(_mm512_maskz_mov_epi32(is_line(word), line));
            said[nth] = to_array(_mm512_srlv_epi32(values[nth], shifts(word)));
        }
        for (lines, said) in lines.iter().zip(&mut said) {
            for lane in 0..LANES {
                let line = &table.narrow[lines[lane] as usize % LINES];
                said[lane] = find_in_line(line, said[lane] as u16);
            }
        }
        for nth in 0..COUNT {
            let words =
                _mm512_mask_mov_epi32(words[nth], is_line(words[nth]), from_array(&said[nth]));
            finish(table, &addrs[nth], (roots[nth], words, changes), &mut found[nth], &make);
        }
    }
}

kernel! {
    /// The words of first windows.
    #[inline]
    fn windows_at(table: &Table, roots: __m512i) -> __m512i {
        let index = _mm512_add_epi32(_mm512_slli_epi32::<1>(roots), splat(NODE as u32));
        let root = table.root.as_flattened();
        load_all(root, index)
    }
}

kernel! {
    /// Goes through a table, where there is one.
    #[inline]
    fn step(table: &Table, words: __m512i, values: __m512i) -> __m512i {
        let is_table = _mm512_cmpeq_epi32_mask(tags(words), splat(word::TABLE));
        let slot = _mm512_add_epi32(words, _mm512_srlv_epi32(values, shifts(words)));
        load_some(&*table.slots, slot, is_table, words)
    }
}

kernel! {
    /// From what was found to answers. What few addresses need is done for those alone.
    #[inline]
    fn finish<T: Copy>(
        table: &Table,
        addrs: &[Ipv6Addr; LANES],
        (roots, said, changes): (__m512i, __m512i, u32),
        found: &mut [T; LANES],
        make: impl Fn(GroupId) -> T,
    ) {
        let is_silent = _mm512_testn_epi32_mask(said, said);
        let mut left = _mm512_test_epi32_mask(said, splat(word::TAGS));
        let mut answers = said;
        if is_silent != 0 {
            let middle = load_some(&*table.middle, roots, is_silent, _mm512_setzero_si512());
            left |= _mm512_test_epi32_mask(middle, middle);
            answers = fall_back(table, roots, is_silent, said);
        }
        // No `map`: it would be a function of its own, compiled for any processor.
        let answers = to_array(answers);
        for lane in 0..LANES {
            found[lane] = make(GroupId::of_word(answers[lane]));
        }
        if left | is_silent == 0 {
            return;
        }
        let words = to_array(said);
        for_each(&[left.into()], |lane| {
            let bits = addrs[lane].to_bits();
            let word = table.answer(table.descend(words[lane], bits), bits);
            found[lane] = make(GroupId::of_word(word));
        });
        if table.short.changes() != changes {
            let all = is_silent | left;
            for_each(&[all.into()], |lane| found[lane] = make(table.lookup(addrs[lane])));
        }
    }
}

kernel! {
    /// The answers of these lanes by prefixes of up to the root's bits.
    #[inline]
    fn fall_back(table: &Table, roots: __m512i, lanes: __mmask16, others: __m512i) -> __m512i {
        let index = _mm512_add_epi32(_mm512_slli_epi32::<1>(roots), splat(ANSWER as u32));
        let said = load_some(table.root.as_flattened(), index, lanes, others);
        let is_silent = _mm512_testn_epi32_mask(said, said);
        let short = _mm512_srli_epi32::<{ STRIDE as u32 }>(roots);
        load_some(table.short.words(), short, is_silent, said)
    }
}

kernel! {
    /// The values of the root and of the first window, of sixteen addresses.
    #[inline]
    fn heads(addrs: &[Ipv6Addr; LANES]) -> (__m512i, __m512i) {
        // Of each address the first two bytes, and the next four, as numbers.
        let order = _mm_setr_epi8(1, 0, -1, -1, 5, 4, 3, 2, -1, -1, -1, -1, -1, -1, -1, -1);
        let order = _mm512_broadcast_i32x4(order);
        let (fours, _) = addrs.as_chunks::<4>();
        let four = |nth: usize| _mm512_shuffle_epi8(bytes_of_four(&fours[nth]), order);
        let low = _mm512_unpacklo_epi32(four(0), four(1));
        let high = _mm512_unpacklo_epi32(four(2), four(3));
        // Lane 4q + r has address 4r + q so far.
        let turn = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
        let roots = _mm512_permutexvar_epi32(turn, _mm512_unpacklo_epi64(low, high));
        (roots, _mm512_permutexvar_epi32(turn, _mm512_unpackhi_epi64(low, high)))
    }
}

kernel! {
    #[inline]
    fn splat(number: u32) -> __m512i {
        _mm512_set1_epi32(number.cast_signed())
    }
}

kernel! {
    /// As [`word::tag`].
    #[inline]
    fn tags(words: __m512i) -> __m512i {
        _mm512_srli_epi32::<{ word::TAG_SHIFT }>(words)
    }
}

kernel! {
    #[inline]
    fn is_line(words: __m512i) -> __mmask16 {
        _mm512_cmpeq_epi32_mask(tags(words), splat(word::NARROW))
    }
}

kernel! {
    /// As [`word::shift_of`].
    #[inline]
    fn shifts(words: __m512i) -> __m512i {
        _mm512_and_si512(_mm512_srli_epi32::<{ word::INDEX_BITS }>(words), splat(word::SHIFTS))
    }
}

kernel! {
    /// Elements of the lanes of `mask`; the others as in `others`. Where the mask is not set, the first
    /// element is loaded, and not used.
    #[inline]
    fn load_some(table: &[AtomicU32], index: __m512i, mask: __mmask16, others: __m512i) -> __m512i {
        let loaded = load_all(table, _mm512_maskz_mov_epi32(mask, index));
        _mm512_mask_mov_epi32(others, mask, loaded)
    }
}

/// Registers of a group, and addresses: half of a worker's batch.
const COUNT: usize = 2;
const GROUP: usize = COUNT * LANES;
