//! Which parts of a range of units (slots of a table, lines of groups) are in use.
#![forbid(unsafe_code)]

use alloc::collections::{BTreeMap, BTreeSet};

/// Hands out runs of units: the shortest free one that is long enough, and of these the first, so
/// that what is in use stays together. A run that is too long is divided, and free neighbours
/// become one, so that no size uses up the range for the others.
pub(crate) struct Space {
    /// Units from here on are free.
    end: u32,
    end_max: u32,
    max: u32,
    /// Free runs before `end`, which none of them touches: length by start.
    by_start: BTreeMap<u32, u32>,
    /// The same, as length and start.
    by_length: BTreeSet<(u32, u32)>,
}

impl Space {
    /// Units from `first` up to `max`.
    pub(crate) fn new(first: u32, max: u32) -> Self {
        let (by_start, by_length) = (BTreeMap::new(), BTreeSet::new());
        Self { end: first, end_max: first, max, by_start, by_length }
    }

    /// As many units as can be taken in any case.
    #[inline]
    pub(crate) fn rest(&self) -> u32 {
        self.max - self.end
    }

    /// Units below this have been in use.
    pub(crate) fn end_max(&self) -> u32 {
        self.end_max
    }

    /// Whether there is a run of `count` units, and `kept` more after those in use.
    pub(crate) fn has(&self, count: u32, kept: u32) -> bool {
        self.shortest(count).is_some() || self.rest() >= count + kept
    }

    /// A run of `count` units, if there is one: see [`Self::has`].
    pub(crate) fn take(&mut self, count: u32, kept: u32) -> Option<u32> {
        let Some((length, start)) = self.shortest(count) else {
            let has_room = self.rest() >= count + kept;
            return has_room.then(|| {
                self.end += count;
                self.end_max = self.end_max.max(self.end);
                self.end - count
            });
        };
        self.forget(start, length);
        if length > count {
            self.remember(start + count, length - count);
        }
        Some(start)
    }

    /// Takes a run back.
    pub(crate) fn recycle(&mut self, mut start: u32, mut count: u32) {
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

    /// The shortest free run that is long enough: length and start.
    fn shortest(&self, count: u32) -> Option<(u32, u32)> {
        self.by_length.range((count, 0)..).next().copied()
    }

    /// Leaves no more than so many units, as if the others were in use.
    #[cfg(all(test, not(loom)))]
    pub(crate) fn leave(&mut self, left: u32) {
        self.end = self.max - left;
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
        let mut space = Space::new(0, 100);
        let runs: Vec<(u32, u32)> =
            [3, 1, 9, 2].map(|count| (space.take(count, 0).unwrap(), count)).into();
        assert_eq!(runs, [(0, 3), (3, 1), (4, 9), (13, 2)]);
        space.recycle(0, 3);
        space.recycle(4, 9);
        assert_eq!(space.take(2, 0), Some(0), "the shortest that is long enough");
        space.recycle(0, 2);
        space.recycle(3, 1);
        assert_eq!(space.take(13, 0), Some(0));
        space.recycle(0, 13);
        space.recycle(13, 2);
        assert_eq!((space.rest(), space.end_max()), (100, 15));
        assert!(space.by_start.is_empty() && space.by_length.is_empty());
    }

    #[test]
    fn what_was_taken_in_one_size_serves_another() {
        for (first, second) in [(1, 9), (9, 1), (4, 256), (256, 4), (3, 2)] {
            let mut space = Space::new(1, 1 + 36_864);
            let fill = |space: &mut Space, size| -> Vec<u32> {
                core::iter::from_fn(|| space.take(size, 0)).collect()
            };
            let runs = fill(&mut space, first);
            assert_eq!(runs.len() as u32, 36_864 / first);
            // Every other one, from the end; then those between.
            let (even, odd): (Vec<_>, Vec<_>) =
                runs.into_iter().partition(|run| run / first % 2 == 0);
            even.into_iter().rev().chain(odd).for_each(|run| space.recycle(run, first));
            assert_eq!(fill(&mut space, second).len() as u32, 36_864 / second);
            assert!(!space.has(second, 0) && space.take(second, 0).is_none());
        }
    }

    #[test]
    fn some_units_can_be_kept() {
        let mut space = Space::new(0, 100);
        assert_eq!(
            (space.take(60, 40), space.take(1, 40), space.take(40, 0)),
            (Some(0), None, Some(60))
        );
        space.recycle(10, 20);
        assert_eq!(space.take(20, 40), Some(10), "what was in use before is not kept");
    }

    #[test]
    fn no_line_is_handed_out_twice() {
        let mut space = Space::new(0, 10_000);
        let mut taken: Vec<(u32, u32)> = Vec::new();
        let mut noise = 1_u32;
        for _ in 0..20_000 {
            noise = noise.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let pick = (noise >> 8) as usize;
            if taken.len() < 1000 && noise >> 31 == 0 {
                let count = 1 + pick as u32 % 9;
                let start = space.take(count, 0).unwrap();
                let is_apart = |&(other, length): &(u32, u32)| {
                    start + count <= other || other + length <= start
                };
                assert!(taken.iter().all(is_apart));
                taken.push((start, count));
            } else if !taken.is_empty() {
                let (start, count) = taken.swap_remove(pick % taken.len());
                space.recycle(start, count);
            }
        }
        let used: u32 = taken.iter().map(|&(_, count)| count).sum();
        let free: u32 = space.by_start.values().sum();
        assert_eq!(used + free, space.end);
    }
}
