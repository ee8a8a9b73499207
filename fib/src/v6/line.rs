//! A line: which of nine runs a value is in, and the word of that run.
//!
//! `unsafe` is here to load and compare eight keys at once, and for nothing else.
#![allow(unsafe_code)]

use crate::sync::{AtomicU32, AtomicU64, Ordering};

/// 64 bytes: the boundaries of runs, their words, and for the writer the owner of each.
///
/// Readers reach a line after it was filled; later the writer may change words of it, one at a
/// time, but never its boundaries.
#[derive(Default)]
#[cfg_attr(not(loom), repr(C, align(64)))]
pub(crate) struct Line {
    /// Eight boundaries of 16 bits, in order, the first lowest; unused ones are the highest value.
    keys: [AtomicU64; 2],
    /// Words of the runs; those beyond the last run repeat it.
    words: [AtomicU32; RUNS],
    /// A byte for each run: 1 + the length of the prefix that decides it, or 0.
    owners: [AtomicU32; 3],
}

/// Values from `start` to the next run's, and what is said of them.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Run {
    pub(super) start: u32,
    pub(super) word: u32,
    pub(super) owner: u8,
}

impl Line {
    /// The word of the run `key` is in.
    #[inline]
    pub(super) fn find(&self, key: u16) -> u32 {
        self.words[self.rank(key)].load(Ordering::Acquire)
    }

    /// The index of the run `key` is in.
    #[inline]
    pub(super) fn rank(&self, key: u16) -> usize {
        keys_up_to(&self.keys, key)
    }

    /// Fills a line that no reader can reach yet with 1 to [`RUNS`] runs, the first from 0.
    pub(super) fn fill(&self, runs: &[Run]) {
        let last = runs.len() - 1;
        let key = |nth: usize| runs.get(nth + 1).map_or(u64::from(u16::MAX), |r| r.start.into());
        for (half, keys) in self.keys.iter().enumerate() {
            let packed = (0..4).map(|nth| key(half * 4 + nth) << (16 * nth)).sum();
            keys.store(packed, Ordering::Relaxed);
        }
        for nth in 0..RUNS {
            let run = runs[nth.min(last)];
            self.words[nth].store(run.word, Ordering::Relaxed);
            self.set_owner(nth, run.owner);
        }
    }

    /// Changes what is said of a run, for readers too.
    pub(super) fn set(&self, nth: usize, word: u32, owner: u8) {
        self.set_owner(nth, owner);
        self.words[nth].store(word, Ordering::Release);
    }

    pub(super) fn word(&self, nth: usize) -> u32 {
        self.words[nth].load(Ordering::Relaxed)
    }

    pub(super) fn owner(&self, nth: usize) -> u8 {
        (self.owners[nth / 4].load(Ordering::Relaxed) >> (8 * (nth % 4))) as u8
    }

    /// Where run `nth` begins. Unused ones begin at the highest value.
    pub(super) fn start(&self, nth: usize) -> u32 {
        let Some(key) = nth.checked_sub(1) else { return 0 };
        (self.keys[key / 4].load(Ordering::Relaxed) >> (16 * (key % 4))) as u32 & 0xffff
    }

    fn set_owner(&self, nth: usize, owner: u8) {
        let owners = &self.owners[nth / 4];
        let shift = 8 * (nth % 4);
        let others = owners.load(Ordering::Relaxed) & !(0xff << shift);
        owners.store(others | u32::from(owner) << shift, Ordering::Relaxed);
    }
}

/// How many of eight ordered keys are no higher than `key`.
#[inline]
#[cfg(all(target_arch = "x86_64", not(miri), not(loom)))]
fn keys_up_to(keys: &[AtomicU64; 2], key: u16) -> usize {
    use core::arch::x86_64::{
        _mm_cmpeq_epi16, _mm_loadu_si128, _mm_movemask_epi8, _mm_set1_epi16, _mm_setzero_si128,
        _mm_subs_epu16,
    };
    // SAFETY: every x86-64 has SSE2. The sixteen bytes read are those of `keys`. They are written
    // only while no reader can reach the line: before the store that links it (release, and read
    // with acquire), and after the grace period of the store that unlinks it. Whoever holds a
    // `&Fib` is an online reader or the writer itself, so no write runs beside this plain load.
    let mask = unsafe {
        let keys = _mm_loadu_si128(core::ptr::from_ref(keys).cast());
        // The subtraction stops at 0 for keys no higher than `key`.
        let left = _mm_subs_epu16(keys, _mm_set1_epi16(key.cast_signed()));
        _mm_movemask_epi8(_mm_cmpeq_epi16(left, _mm_setzero_si128()))
    };
    // Two bits for each key, and the keys are in order: the first zero says how many.
    ((!mask).trailing_zeros() / 2) as usize
}

#[inline]
#[cfg(not(all(target_arch = "x86_64", not(miri), not(loom))))]
fn keys_up_to(keys: &[AtomicU64; 2], key: u16) -> usize {
    let up_to = |keys: u64| (0..4).filter(|nth| (keys >> (16 * nth)) as u16 <= key).count();
    keys.iter().map(|keys| up_to(keys.load(Ordering::Relaxed))).sum()
}

/// Boundaries in a line.
pub(super) const KEYS: usize = 8;

/// Runs in a line.
pub(super) const RUNS: usize = KEYS + 1;

#[cfg(all(test, not(loom)))]
mod tests {
    use alloc::vec::Vec;

    use super::*;

    #[test]
    fn a_line_is_one_cache_line_and_finds_the_run_of_every_value() {
        assert_eq!((size_of::<Line>(), align_of::<Line>()), (64, 64));
        for boundaries in [
            [1, 2, 3, 4, 5, 6, 7, 8].as_slice(),
            &[0x7fff, 0x8000, 0x8001],
            &[0xffff],
            &[1, 0xff, 0x100, 0x7f00, 0xff00, 0xfffd, 0xfffe, 0xffff],
            &[],
        ] {
            let starts = core::iter::once(0).chain(boundaries.iter().copied());
            let runs: Vec<Run> = starts
                .enumerate()
                .map(|(n, start)| Run { start, word: 100 + n as u32, owner: n as u8 + 1 })
                .collect();
            let line = Line::default();
            line.fill(&runs);
            for value in 0..=u16::MAX {
                let want = runs.iter().rfind(|run| run.start <= u32::from(value)).unwrap();
                assert_eq!(line.find(value), want.word, "{value:#x} of {boundaries:x?}");
                assert_eq!(line.owner(line.rank(value)), want.owner);
            }
        }
    }
}
