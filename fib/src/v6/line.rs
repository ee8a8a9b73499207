//! Lines: which of a few runs a value is in, and the answer of that run. 64 bytes each.
//!
//! A narrow line distinguishes sixteen runs, by 16 bits of a value and with answers that fit as many. A
//! wide one distinguishes eight, by whole values, and its words may be of any kind. Readers reach a
//! line after it was filled. Later the writer may change the answers of runs, but never where runs
//! begin: for that it makes a new line.
//!
//! `unsafe` is here to load and compare sixteen keys at once, and for nothing else.
#![allow(unsafe_code)]

use crate::sync::{AtomicU16, AtomicU32, AtomicU64, Ordering};

/// Values from `start` on, up to the next run's, and what is said of them.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Run {
    pub(super) start: u32,
    pub(super) word: u32,
    /// 1 + the length of the prefix that decides it, or 0.
    pub(super) owner: u8,
}

/// Up to [`NARROW_RUNS`] runs.
#[derive(Default)]
#[cfg_attr(not(loom), repr(C, align(64)))]
pub(crate) struct Narrow {
    /// The last value of each run but the last, 16 bits each, the first lowest; unused ones are the
    /// highest value.
    keys: [AtomicU64; NARROW_RUNS / 4],
    /// Answers; those beyond the last run repeat it.
    answers: [AtomicU16; NARROW_RUNS],
}

/// Up to [`WIDE_RUNS`] runs.
#[derive(Default)]
#[cfg_attr(not(loom), repr(C, align(64)))]
pub(crate) struct Wide {
    /// As in a narrow line, but whole values.
    keys: [AtomicU32; WIDE_RUNS],
    words: [AtomicU32; WIDE_RUNS],
}

impl Narrow {
    /// The answer for the run `key` is in.
    #[inline]
    pub(crate) fn find(&self, key: u16) -> u32 {
        // Acquire: a reader that sees a group's number sees its lines.
        self.answers[self.rank(key)].load(Ordering::Acquire).into()
    }

    /// As [`Self::find`], by a comparison that gives a bit for each key.
    #[cfg(all(target_arch = "x86_64", feature = "std", not(miri), not(loom)))]
    #[inline]
    #[target_feature(enable = "avx512bw,avx512vl,popcnt")]
    pub(crate) fn find_by_mask(&self, key: u16) -> u32 {
        use core::arch::x86_64::{_mm256_cmplt_epu16_mask, _mm256_loadu_si256, _mm256_set1_epi16};
        // SAFETY: as in `keys_below`.
        let keys = unsafe { _mm256_loadu_si256(self.keys.as_ptr().cast()) };
        let below = _mm256_cmplt_epu16_mask(keys, _mm256_set1_epi16(key.cast_signed()));
        self.answers[below.count_ones() as usize % NARROW_RUNS].load(Ordering::Acquire).into()
    }

    /// The index of the run `key` is in.
    #[inline]
    pub(super) fn rank(&self, key: u16) -> usize {
        keys_below(&self.keys, key) % NARROW_RUNS
    }

    /// Fills a line that no reader can reach yet with runs whose values are shifted by so much.
    pub(super) fn fill(&self, runs: &[Run], shift: u32) {
        let last = |nth: usize| match runs.get(nth + 1) {
            Some(next) => (next.start >> shift) as u16 - 1,
            None => u16::MAX,
        };
        for (quarter, keys) in self.keys.iter().enumerate() {
            let packed = (0..4).map(|nth| u64::from(last(4 * quarter + nth)) << (16 * nth)).sum();
            keys.store(packed, Ordering::Relaxed);
        }
        for (nth, answer) in self.answers.iter().enumerate() {
            let run = runs[nth.min(runs.len() - 1)];
            answer.store(run.word as u16, Ordering::Relaxed);
        }
    }

    /// Changes the answer of a run, for readers too.
    pub(super) fn set(&self, nth: usize, word: u32) {
        self.answers[nth].store(word as u16, Ordering::Release);
    }

    pub(super) fn word(&self, nth: usize) -> u32 {
        self.answers[nth].load(Ordering::Relaxed).into()
    }

    /// Where run `nth` begins, shifted.
    pub(super) fn start(&self, nth: usize) -> u16 {
        nth.checked_sub(1).map_or(0, |before| self.key(before).wrapping_add(1))
    }

    fn key(&self, nth: usize) -> u16 {
        (self.keys[nth / 4].load(Ordering::Relaxed) >> (16 * (nth % 4))) as u16
    }
}

impl Wide {
    /// The word of the run `value` is in.
    #[inline]
    pub(crate) fn find(&self, value: u32) -> u32 {
        self.words[self.rank(value)].load(Ordering::Acquire)
    }

    /// The index of the run `value` is in.
    #[inline]
    pub(super) fn rank(&self, value: u32) -> usize {
        // All of them: to end at the first would be a guess.
        let below = |key: &&AtomicU32| key.load(Ordering::Relaxed) < value;
        self.keys.iter().filter(below).count() % WIDE_RUNS
    }

    /// Fills a line that no reader can reach yet.
    pub(super) fn fill(&self, runs: &[Run]) {
        for nth in 0..WIDE_RUNS {
            let key = runs.get(nth + 1).map_or(u32::MAX, |next| next.start - 1);
            self.keys[nth].store(key, Ordering::Relaxed);
            let word = runs[nth.min(runs.len() - 1)].word;
            self.words[nth].store(word, Ordering::Relaxed);
        }
    }

    /// Changes the answer of a run, for readers too.
    pub(super) fn set(&self, nth: usize, word: u32) {
        self.words[nth].store(word, Ordering::Release);
    }

    pub(super) fn word(&self, nth: usize) -> u32 {
        self.words[nth].load(Ordering::Relaxed)
    }

    /// Where run `nth` begins; 0 for the first.
    pub(super) fn start(&self, nth: usize) -> u32 {
        let before = nth.checked_sub(1).map(|before| self.keys[before].load(Ordering::Relaxed));
        before.map_or(0, |before| before.wrapping_add(1))
    }
}

/// How many of sixteen ordered keys are lower than `key`.
#[inline]
#[cfg(all(target_arch = "x86_64", not(miri), not(loom)))]
fn keys_below(keys: &[AtomicU64; 4], key: u16) -> usize {
    use core::arch::x86_64::{
        __m128i, _mm_cmpeq_epi16, _mm_loadu_si128, _mm_movemask_epi8, _mm_packs_epi16,
        _mm_set1_epi16, _mm_setzero_si128, _mm_subs_epu16,
    };
    // SAFETY: every x86-64 has SSE2. The 32 bytes read are those of `keys`. They are written only
    // while no reader can reach the line: before the store that links it (release, and read with
    // acquire), and after the grace period of the store that unlinks it. Whoever holds a `&Fib` is
    // an online reader or the writer itself, so no write runs beside these plain loads.
    let halves = unsafe {
        let keys: *const __m128i = core::ptr::from_ref(keys).cast();
        [_mm_loadu_si128(keys), _mm_loadu_si128(keys.add(1))]
    };
    // SAFETY: every x86-64 has SSE2.
    let others = unsafe {
        // The subtraction stops at 0 for keys no lower than `key`.
        let others = |keys| {
            let over = _mm_subs_epu16(_mm_set1_epi16(key.cast_signed()), keys);
            _mm_cmpeq_epi16(over, _mm_setzero_si128())
        };
        _mm_movemask_epi8(_mm_packs_epi16(others(halves[0]), others(halves[1])))
    };
    // The keys are in order: the first of the others says how many are not of them.
    others.trailing_zeros() as usize
}

#[inline]
#[cfg(not(all(target_arch = "x86_64", not(miri), not(loom))))]
fn keys_below(keys: &[AtomicU64; 4], key: u16) -> usize {
    let below = |keys: u64| (0..4).filter(|nth| ((keys >> (16 * nth)) as u16) < key).count();
    keys.iter().map(|keys| below(keys.load(Ordering::Relaxed))).sum()
}

/// Runs of a narrow line.
pub(super) const NARROW_RUNS: usize = 16;

/// Runs of a wide line.
pub(super) const WIDE_RUNS: usize = 8;

#[cfg(all(test, not(loom)))]
mod tests {
    use alloc::vec::Vec;

    use super::*;

    const MOST: [u32; 15] = [
        1, 2, 3, 4, 5, 0xff, 0x100, 0x7eff, 0x7fff, 0x8000, 0x8001, 0xff00, 0xfffd, 0xfffe, 0xffff,
    ];

    #[test]
    fn a_line_is_one_cache_line_and_finds_the_run_of_every_value() {
        assert_eq!((size_of::<Narrow>(), align_of::<Narrow>()), (64, 64));
        assert_eq!((size_of::<Wide>(), align_of::<Wide>()), (64, 64));
        for boundaries in [&MOST[..], &MOST[..7], &[0x7fff, 0x8000], &[0xffff], &[1], &[]] {
            for (shift, base) in [(0, 0), (4, 0x1230_0000)] {
                let starts = core::iter::once(0).chain(boundaries.iter().copied());
                let run = |(n, start): (usize, u32)| Run {
                    start: base + (start << shift),
                    word: 100 + n as u32,
                    owner: 0,
                };
                check(&starts.enumerate().map(run).collect::<Vec<_>>(), shift, base);
            }
        }
    }

    fn check(runs: &[Run], shift: u32, base: u32) {
        let (narrow, wide) = (Narrow::default(), Wide::default());
        narrow.fill(runs, shift);
        let is_for_both = runs.len() <= WIDE_RUNS;
        if is_for_both {
            wide.fill(runs);
        }
        for key in 0..=u16::MAX {
            let value = base + (u32::from(key) << shift);
            let Some(want) = runs.iter().rfind(|run| run.start <= value) else { panic!("{value}") };
            assert_eq!(narrow.find(key), want.word, "{key:#x} of {runs:x?}");
            if is_for_both {
                assert_eq!(wide.find(value), want.word, "{key:#x} of {runs:x?}");
            }
        }
    }
}
