//! Which parts of a range of lines are in use.
#![forbid(unsafe_code)]

use alloc::collections::{BTreeMap, BTreeSet};

/// Hands out runs of lines: the shortest free one that is long enough, and of these the first, so
/// that what is in use stays together. Free neighbours become one.
pub(super) struct Space {
    /// Lines from here on are free.
    end: u32,
    end_max: u32,
    max: u32,
    /// Free runs before `end`, which none of them touches: length by start.
    by_start: BTreeMap<u32, u32>,
    /// The same, as length and start.
    by_length: BTreeSet<(u32, u32)>,
}

impl Space {
    pub(super) fn new(max: u32) -> Self {
        let (by_start, by_length) = (BTreeMap::new(), BTreeSet::new());
        Self { end: 0, end_max: 0, max, by_start, by_length }
    }

    /// As many lines as can be taken in any case.
    #[inline]
    pub(super) fn rest(&self) -> u32 {
        self.max - self.end
    }

    /// Lines below this have been in use.
    pub(super) fn end_max(&self) -> u32 {
        self.end_max
    }

    /// A run of `count` lines, of which there must be room for: see [`Self::rest`].
    pub(super) fn take(&mut self, count: u32) -> u32 {
        let Some(&(length, start)) = self.by_length.range((count, 0)..).next() else {
            debug_assert!(count <= self.rest());
            self.end += count;
            self.end_max = self.end_max.max(self.end);
            return self.end - count;
        };
        self.forget(start, length);
        if length > count {
            self.remember(start + count, length - count);
        }
        start
    }

    pub(super) fn give_back(&mut self, mut start: u32, mut count: u32) {
        if let Some((&before, &length)) = self.by_start.range(..start).next_back()
            && before + length == start
        {
            self.forget(before, length);
            (start, count) = (before, count + length);
        }
        if start + count == self.end {
            self.end = start;
            return;
        }
        if let Some(&length) = self.by_start.get(&(start + count)) {
            self.forget(start + count, length);
            count += length;
        }
        self.remember(start, count);
    }

    fn remember(&mut self, start: u32, length: u32) {
        self.by_start.insert(start, length);
        self.by_length.insert((length, start));
    }

    fn forget(&mut self, start: u32, length: u32) {
        self.by_start.remove(&start);
        self.by_length.remove(&(length, start));
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use alloc::vec::Vec;

    use super::*;

    #[test]
    fn what_is_given_back_becomes_one_again() {
        let mut space = Space::new(100);
        let runs: Vec<(u32, u32)> = [3, 1, 9, 2].map(|count| (space.take(count), count)).into();
        assert_eq!(runs, [(0, 3), (3, 1), (4, 9), (13, 2)]);
        space.give_back(0, 3);
        space.give_back(4, 9);
        assert_eq!(space.take(2), 0, "the shortest that is long enough");
        space.give_back(0, 2);
        space.give_back(3, 1);
        assert_eq!(space.take(13), 0);
        space.give_back(0, 13);
        space.give_back(13, 2);
        assert_eq!((space.rest(), space.end_max()), (100, 15));
        assert!(space.by_start.is_empty() && space.by_length.is_empty());
    }

    #[test]
    fn no_line_is_handed_out_twice() {
        let mut space = Space::new(10_000);
        let mut taken: Vec<(u32, u32)> = Vec::new();
        let mut noise = 1_u32;
        for _ in 0..20_000 {
            noise = noise.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let pick = (noise >> 8) as usize;
            if taken.len() < 1000 && noise >> 31 == 0 {
                let count = 1 + pick as u32 % 9;
                let start = space.take(count);
                let is_apart = |&(other, length): &(u32, u32)| {
                    start + count <= other || other + length <= start
                };
                assert!(taken.iter().all(is_apart));
                taken.push((start, count));
            } else if !taken.is_empty() {
                let (start, count) = taken.swap_remove(pick % taken.len());
                space.give_back(start, count);
            }
        }
        let used: u32 = taken.iter().map(|&(_, count)| count).sum();
        let free: u32 = space.by_start.values().sum();
        assert_eq!(used + free, space.end);
    }
}
