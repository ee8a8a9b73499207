//! A vector that grows without moving what it holds, so that readers need no lock.

use alloc::boxed::Box;

use crate::sync::OnceBox;

/// Up to 2³² elements in segments of doubling size. Only the writer grows it; readers index it.
///
/// An element's index reaches a reader through an atomic that was stored after the element's
/// segment, so a reader that holds an index finds the segment there.
pub(crate) struct Segments<T> {
    /// log₂ of the first segment's length.
    first: u32,
    segments: [OnceBox<Box<[T]>>; SEGMENTS],
}

impl<T: Default> Segments<T> {
    /// An empty vector whose first segment will hold `2^first` elements.
    pub(crate) fn new(first: u32) -> Self {
        Self { first, segments: core::array::from_fn(|_| OnceBox::new()) }
    }

    /// Element `index`, or `None` where the vector has not grown so far.
    #[inline]
    pub(crate) fn get(&self, index: u32) -> Option<&T> {
        let (segment, offset) = self.locate(index);
        self.segments.get(segment)?.get()?.get(offset)
    }

    /// Element `index`; makes its segment if it is not there.
    pub(crate) fn grow_to(&self, index: u32) -> &T {
        let (segment, offset) = self.locate(index);
        let place = &self.segments[segment];
        if place.get().is_none() {
            let length = 1_usize << (self.first + segment as u32);
            place.set((0..length).map(|_| T::default()).collect());
        }
        let Some(slots) = place.get() else { unreachable!("it was filled") };
        &slots[offset]
    }

    /// Bytes of the segments that exist.
    pub(crate) fn bytes(&self) -> usize {
        let elements: usize =
            self.segments.iter().filter_map(OnceBox::get).map(|segment| segment.len()).sum();
        elements * size_of::<T>()
    }

    #[inline]
    fn locate(&self, index: u32) -> (usize, usize) {
        let shifted = u64::from(index) + (1 << self.first);
        let top = shifted.ilog2();
        ((top - self.first) as usize, (shifted - (1 << top)) as usize)
    }
}

/// Enough for 2³² elements from a first segment of one.
const SEGMENTS: usize = 33;

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn every_index_has_its_own_place() {
        let segments: Segments<core::sync::atomic::AtomicU32> = Segments::new(2);
        assert!(segments.get(0).is_none());
        for index in 0..1000 {
            segments.grow_to(index).store(index, core::sync::atomic::Ordering::Relaxed);
        }
        for index in 0..1000 {
            let slot = segments.get(index).unwrap();
            assert_eq!(slot.load(core::sync::atomic::Ordering::Relaxed), index);
        }
        assert_eq!(segments.bytes(), (1024 - 4) * 4);
        assert!(segments.get(u32::MAX).is_none());
    }
}
