//! Zeroed memory for tables: large, on huge pages where the system gives them, and never moved.
//!
//! `unsafe` is here for that memory, and for two instructions. What it hands out are slices of
//! atomics, which all zeros are a valid value of, and which live as long as the [`Slab`].
#![allow(unsafe_code)]

use crate::map::LARGE;

#[cfg(loom)]
pub(crate) use self::model::{Slab, Zeroed};
#[cfg(not(loom))]
pub(crate) use self::real::{Slab, Zeroed};

/// Asks the processor to fetch the cache line `place` is in. Only a hint: nothing where the target
/// has no such instruction.
#[inline(always)]
#[allow(clippy::inline_always, reason = "one instruction")]
pub(crate) fn prefetch<T>(place: &T) {
    #[cfg(all(target_arch = "x86_64", not(miri), not(loom)))]
    // SAFETY: a prefetch accesses no memory in the sense of the language and cannot fault;
    // `place` is a valid address anyway.
    unsafe {
        use core::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        _mm_prefetch::<_MM_HINT_T0>(core::ptr::from_ref(place).cast());
    }
    #[cfg(not(all(target_arch = "x86_64", not(miri), not(loom))))]
    let _ = place;
}

/// Prefetches into the second-level cache: for many lines at once. The first level has room for
/// some dozen that are under way, and whatever else is loaded waits for that room; the second has
/// several times as many. (Zen 4: 200 million random lines a second from 32 MB into the first, 330
/// into the second.)
#[inline(always)]
#[allow(clippy::inline_always, reason = "one instruction")]
pub(crate) fn prefetch_far<T>(place: &T) {
    #[cfg(all(target_arch = "x86_64", not(miri), not(loom)))]
    // SAFETY: as in `prefetch`.
    unsafe {
        use core::arch::x86_64::{_MM_HINT_T1, _mm_prefetch};
        _mm_prefetch::<_MM_HINT_T1>(core::ptr::from_ref(place).cast());
    }
    #[cfg(not(all(target_arch = "x86_64", not(miri), not(loom))))]
    let _ = place;
}

/// Ticks of a clock that runs about as fast as the processor, read once everything before has been
/// done; 0 where there is none.
#[inline]
pub(crate) fn settled_clock() -> u64 {
    #[cfg(all(target_arch = "x86_64", not(miri), not(loom)))]
    // SAFETY: every x86-64 has SSE2, which the fence is part of, and the time stamp counter, and
    // neither touches memory.
    return unsafe {
        core::arch::x86_64::_mm_lfence();
        core::arch::x86_64::_rdtsc()
    };
    #[cfg(not(all(target_arch = "x86_64", not(miri), not(loom))))]
    0
}

/// Pages of a growing table that become huge ones, one after the other: each takes up to 0.2 ms.
#[derive(Debug, Default)]
pub(crate) struct HugePages {
    /// By slab, how many touched pages are left; `None` before the table is large.
    left: Option<[usize; 2]>,
}

impl HugePages {
    /// A route came to a table that has so many now. Once that is large, `advise` says how many pages of up to two
    /// slabs are touched already: those touched later are huge from the start. Then `collapse` is called with one
    /// page of a slab after the other.
    pub(crate) fn note_growth(
        &mut self,
        routes: usize,
        advise: impl FnOnce() -> [usize; 2],
        collapse: impl FnOnce(usize, usize),
    ) {
        if routes < LARGE || !routes.is_multiple_of(ROUTES_PER_HUGE_PAGE) {
            return;
        }
        let left = self.left.get_or_insert_with(advise);
        if let Some(slab) = left.iter().position(|&pages| pages > 0) {
            left[slab] -= 1;
            collapse(slab, left[slab]);
        }
    }
}

/// Routes of a large table that come while one page of it becomes a huge one.
const ROUTES_PER_HUGE_PAGE: usize = 512;

/// Bytes of a huge page.
#[cfg(not(loom))]
const HUGE_PAGE: usize = 2 << 20;

/// Huge pages in place of small ones that are in use. The kernel has an advice for it (`MADV_COLLAPSE`), which
/// waits until every processor has had a turn, while it holds a lock that everybody needs who asks for memory: two
/// seconds on a busy machine.
#[cfg(all(feature = "std", target_os = "linux", not(miri), not(loom)))]
mod huge {
    use core::ptr::null_mut;

    use libc::{
        MADV_HUGEPAGE, MAP_ANONYMOUS, MAP_FAILED, MAP_PRIVATE, MREMAP_FIXED, MREMAP_MAYMOVE,
        PROT_READ, PROT_WRITE,
    };

    use super::HUGE_PAGE;

    /// Puts a huge page with the same contents in the place of small ones, at one stroke for whoever reads there.
    /// Changes nothing if the system has none to give.
    ///
    /// # Safety
    /// `place` is aligned to a huge page, all of which is private anonymous memory that may be read and written,
    /// and nobody writes there meanwhile.
    pub(super) unsafe fn replace(place: *mut u8) {
        let (access, kind) = (PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS);
        // SAFETY: a new mapping, anywhere, changes no memory that is in use.
        let block = unsafe { libc::mmap(null_mut(), 2 * HUGE_PAGE, access, kind, -1, 0) };
        if block == MAP_FAILED {
            return;
        }
        let start: *mut u8 = block.cast();
        let before = start.align_offset(HUGE_PAGE);
        // SAFETY: of twice its size, an aligned huge page is within the block, and so is its last byte. What is
        // around it is unmapped by the numbers of bytes before and after it. The page is ours alone until `mremap`
        // moves it, which replaces the mapping at `place` while the kernel holds off whoever faults there; the
        // contents are those that were there, since nobody writes meanwhile, by this function's contract. Where the
        // page came from is unmapped only if it is still there: others may have got that place otherwise.
        unsafe {
            let page = start.add(before);
            unmap(start, before);
            unmap(page.add(HUGE_PAGE), HUGE_PAGE - before);
            libc::madvise(page.cast(), HUGE_PAGE, MADV_HUGEPAGE);
            page.write_volatile(0);
            let mut moved = MAP_FAILED;
            if is_resident(page.add(HUGE_PAGE - SMALL_PAGE)) {
                page.copy_from_nonoverlapping(place, HUGE_PAGE);
                let how = MREMAP_MAYMOVE | MREMAP_FIXED;
                moved = libc::mremap(page.cast(), HUGE_PAGE, HUGE_PAGE, how, place);
            }
            if moved == MAP_FAILED {
                unmap(page, HUGE_PAGE);
            }
        }
    }

    /// Unmaps so many bytes, if there are any.
    ///
    /// # Safety
    /// They are a mapping that nobody uses.
    unsafe fn unmap(start: *mut u8, bytes: usize) {
        if bytes > 0 {
            // SAFETY: by this function's contract.
            unsafe { libc::munmap(start.cast(), bytes) };
        }
    }

    /// Whether there is memory behind an address: where only the first byte of a huge page was touched, that says
    /// of the last one that it is one page.
    ///
    /// # Safety
    /// `at` is the beginning of a small page that is mapped.
    unsafe fn is_resident(at: *mut u8) -> bool {
        let mut state = 0_u8;
        // SAFETY: by this function's contract, and one byte is written for one page.
        let outcome = unsafe { libc::mincore(at.cast(), SMALL_PAGE, &raw mut state) };
        outcome == 0 && state & 1 != 0
    }

    /// No system's pages are smaller; where they are larger, `mincore` refuses, and nothing is replaced.
    const SMALL_PAGE: usize = 4096;
}

#[cfg(not(loom))]
mod real {
    use alloc::alloc::{alloc_zeroed, dealloc, handle_alloc_error};
    use core::alloc::Layout;
    use core::ops::Deref;
    use core::ptr::NonNull;

    use crate::sync::{AtomicU16, AtomicU32, AtomicU64};

    /// Types that may be made of zero bytes.
    ///
    /// # Safety
    /// Zero bytes are a valid value, and nothing has to be dropped.
    pub(crate) unsafe trait Zeroed: Sync + Send {}

    // SAFETY: an atomic integer has the representation of the integer, of which zero is a value, and
    // no destructor.
    unsafe impl Zeroed for AtomicU16 {}
    // SAFETY: as above.
    unsafe impl Zeroed for AtomicU32 {}
    // SAFETY: as above.
    unsafe impl Zeroed for AtomicU64 {}
    // SAFETY: made of atomic integers alone.
    unsafe impl Zeroed for crate::v6::Narrow {}
    // SAFETY: as above.
    unsafe impl Zeroed for crate::v6::Wide {}
    // SAFETY: as above.
    unsafe impl Zeroed for crate::group::GroupLine {}
    // SAFETY: as above.
    unsafe impl Zeroed for crate::state::AdjacencyState {}
    // SAFETY: as above.
    unsafe impl Zeroed for crate::state::PathState {}
    // SAFETY: an array is its elements one after the other.
    unsafe impl<T: Zeroed, const N: usize> Zeroed for [T; N] {}

    /// `LEN` elements of zero bytes at one address for life. Untouched pages cost nothing where the
    /// allocator maps large blocks lazily, as those of Linux do.
    pub(crate) struct Slab<T: Zeroed, const LEN: usize> {
        first: NonNull<[T; LEN]>,
        block: NonNull<u8>,
    }

    // SAFETY: a slab owns its elements as a boxed slice does, and gives out shared references only;
    // `Zeroed` demands that elements are `Sync` and `Send`.
    unsafe impl<T: Zeroed, const LEN: usize> Send for Slab<T, LEN> {}
    // SAFETY: as above.
    unsafe impl<T: Zeroed, const LEN: usize> Sync for Slab<T, LEN> {}

    impl<T: Zeroed, const LEN: usize> Slab<T, LEN> {
        const ALIGN: usize = {
            assert!(align_of::<T>() <= LINE, "no atomic is aligned to more than a line");
            if size_of::<[T; LEN]>() >= HUGE_PAGE { HUGE_PAGE } else { LINE }
        };

        /// Allocators map zeros lazily only where no more than the usual alignment is asked for; so
        /// more is asked for than is needed, and the slab begins inside.
        const LAYOUT: Layout = {
            assert!(LEN > 0 && size_of::<T>() > 0, "a slab holds something");
            match Layout::from_size_align(size_of::<[T; LEN]>() + Self::ALIGN, USUAL_ALIGN) {
                Ok(layout) => layout,
                Err(_) => panic!("a slab fits the address space"),
            }
        };

        pub(crate) fn new() -> Self {
            // SAFETY: the layout's size is not zero, by the assertion at its definition.
            let start = unsafe { alloc_zeroed(Self::LAYOUT) };
            let Some(block) = NonNull::new(start) else { handle_alloc_error(Self::LAYOUT) };
            // SAFETY: `align_offset` to a power of two is below it, and by as much the block is
            // longer than the slab.
            let first = unsafe { block.add(start.align_offset(Self::ALIGN)) };
            Self { first: first.cast(), block }
        }

        /// Bytes of address space.
        #[allow(clippy::unused_self, reason = "as asked of a value")]
        pub(crate) fn bytes(&self) -> usize {
            size_of::<[T; LEN]>()
        }

        /// Asks for huge pages, also for the first `touched` elements. Where these are many, this takes long: see
        /// [`HugePages`].
        pub(crate) fn use_huge_pages(&self, touched: usize) {
            let pages = self.advise_huge_pages(touched);
            (0..pages).for_each(|nth| self.collapse(nth));
        }

        /// Asks for huge pages where nothing is touched yet. A system that refuses gives small ones: slower, and
        /// right all the same. To be called once a table is large: a huge page costs its whole size, and the time
        /// to clear it, as soon as one byte is touched. Returns how many pages the first `touched` elements are
        /// in: those are to be passed to [`Self::collapse`].
        #[cfg_attr(not(feature = "std"), allow(clippy::unused_self, reason = "no system to ask"))]
        pub(crate) fn advise_huge_pages(&self, touched: usize) -> usize {
            let pages = self.bytes() / HUGE_PAGE;
            #[cfg(all(feature = "std", target_os = "linux", not(miri)))]
            if pages > 0 {
                // SAFETY: the range is one allocation of our own, and the advice does not change what is in it.
                unsafe {
                    libc::madvise(self.first.as_ptr().cast(), self.bytes(), libc::MADV_HUGEPAGE);
                }
            }
            (touched * size_of::<T>()).div_ceil(HUGE_PAGE).min(pages)
        }

        /// Makes the page with this number a huge one, if the system gives one. Nobody may store in the slab
        /// meanwhile; others may read.
        #[cfg_attr(not(feature = "std"), allow(clippy::unused_self, reason = "no system to ask"))]
        pub(crate) fn collapse(&self, nth: usize) {
            #[cfg(all(feature = "std", target_os = "linux", not(miri)))]
            if nth < self.bytes() / HUGE_PAGE {
                let start: *mut u8 = self.first.as_ptr().cast();
                // SAFETY: this page is within one allocation of our own, by its number, and aligned, as `first`
                // is, which `ALIGN` demands of a slab with a whole huge page. That nobody stores meanwhile is the
                // caller's promise, which the one writer keeps: it alone stores in the slabs that it collapses.
                unsafe { super::huge::replace(start.add(nth * HUGE_PAGE)) };
            }
            let _ = nth;
        }

        /// Returns the memory to the system; from then on every element is zero. For elements that
        /// nobody reads any more, so that it does not matter that systems other than Linux keep them.
        #[cfg_attr(not(feature = "std"), allow(clippy::unused_self, reason = "no system to ask"))]
        pub(crate) fn release(&self) {
            #[cfg(all(feature = "std", target_os = "linux", not(miri)))]
            if self.bytes() >= HUGE_PAGE {
                let whole = self.bytes() / HUGE_PAGE * HUGE_PAGE;
                // SAFETY: the range is whole pages of one allocation of our own. Its elements
                // become zeros, which by `Zeroed` they may be, and which a concurrent reader sees
                // as it would see stores of zeros: they are read through atomics alone.
                unsafe { libc::madvise(self.first.as_ptr().cast(), whole, libc::MADV_DONTNEED) };
            }
        }
    }

    impl<T: Zeroed, const LEN: usize> Deref for Slab<T, LEN> {
        type Target = [T; LEN];

        #[inline]
        fn deref(&self) -> &[T; LEN] {
            // SAFETY: `first` points to `LEN` elements, allocated and zeroed in `new`, aligned to
            // `align`, which is no less than that of `T`, valid as zeros by `Zeroed`, freed only in `drop`; they are changed through
            // shared references alone, which only atomics allow.
            unsafe { self.first.as_ref() }
        }
    }

    impl<T: Zeroed, const LEN: usize> Drop for Slab<T, LEN> {
        fn drop(&mut self) {
            // SAFETY: allocated in `new` by the same allocator with the same layout, and not freed
            // before; elements need no drop, by `Zeroed`.
            unsafe { dealloc(self.block.as_ptr(), Self::LAYOUT) }
        }
    }

    use super::HUGE_PAGE;

    const LINE: usize = 64;
    const USUAL_ALIGN: usize = 16;

    #[cfg(test)]
    mod tests {
        use super::*;
        use crate::sync::Ordering;

        #[test]
        fn a_slab_is_zero_aligned_and_keeps_what_is_stored() {
            check::<1>();
            check::<63>();
            check::<{ 1 << 12 }>();
            check::<{ (1 << 20) + 5 }>();
        }

        fn check<const LEN: usize>() {
            let slab: Slab<AtomicU32, LEN> = Slab::new();
            assert_eq!(slab.as_ptr() as usize % LINE, 0);
            assert!(slab.iter().step_by(997).all(|slot| slot.load(Ordering::Relaxed) == 0));
            slab[LEN - 1].store(7, Ordering::Relaxed);
            assert_eq!(slab[LEN - 1].load(Ordering::Relaxed), 7);
            assert_eq!(slab.bytes(), LEN * 4);
            slab.use_huge_pages(LEN);
            assert_eq!(slab[LEN - 1].load(Ordering::Relaxed), 7);
            let pages = LEN * 4 / HUGE_PAGE;
            assert_eq!(slab.advise_huge_pages(1), pages.min(1));
            assert_eq!(
                slab.advise_huge_pages(LEN),
                pages,
                "what is beyond the last whole page is not huge"
            );
            slab.release();
        }

        /// Whether it is one huge page or many small ones, every reader finds what was stored.
        #[test]
        fn a_page_is_replaced_under_those_who_read_it() {
            const LEN: usize = 4 * HUGE_PAGE / 4;
            let slab: Slab<AtomicU32, LEN> = Slab::new();
            // Sparsely, as routes are: most small pages are not touched.
            let places = || (0..LEN).step_by(7919);
            places().for_each(|place| slab[place].store(place as u32 + 1, Ordering::Relaxed));
            let is_right = || {
                places().all(|place| slab[place].load(Ordering::Relaxed) == place as u32 + 1)
                    && slab[1].load(Ordering::Relaxed) == 0
            };
            let is_done = core::sync::atomic::AtomicBool::new(false);
            std::thread::scope(|scope| {
                for _ in 0..2 {
                    scope.spawn(|| {
                        while !is_done.load(Ordering::Relaxed) {
                            assert!(is_right());
                        }
                    });
                }
                for _ in 0..20 {
                    slab.use_huge_pages(LEN);
                }
                is_done.store(true, Ordering::Relaxed);
            });
            assert!(is_right());
            places().for_each(|place| slab[place].store(place as u32 + 1, Ordering::Relaxed));
            assert!(is_right());
            slab.release();
            assert!(places().all(|place| slab[place].load(Ordering::Relaxed) == 0));
        }

        #[test]
        fn a_growing_table_uses_one_huge_page_at_a_time_and_each_that_is_touched_once() {
            let (mut pages, mut used) =
                (super::super::HugePages::default(), alloc::vec::Vec::new());
            let mut advised = 0;
            for routes in 1..=super::super::LARGE + 4096 {
                let before = used.len();
                let advise = || {
                    advised += 1;
                    [2, 1]
                };
                pages.note_growth(routes, advise, |slab, nth| used.push((slab, nth)));
                assert!(
                    used.len() <= before + 1 && (routes >= super::super::LARGE || used.is_empty())
                );
            }
            assert_eq!((advised, &used[..]), (1, &[(0, 1), (0, 0), (1, 0)][..]));
        }
    }
}

/// Under the model checker, atomics are objects that have to be made one by one.
#[cfg(loom)]
mod model {
    use alloc::boxed::Box;
    use core::ops::Deref;

    pub(crate) trait Zeroed: Default {}

    impl<T: Default> Zeroed for T {}

    pub(crate) struct Slab<T, const LEN: usize>(Box<[T; LEN]>);

    impl<T: Default, const LEN: usize> Slab<T, LEN> {
        pub(crate) fn new() -> Self {
            Self(Box::new(core::array::from_fn(|_| T::default())))
        }

        pub(crate) fn bytes(&self) -> usize {
            size_of::<[T; LEN]>()
        }

        pub(crate) fn use_huge_pages(&self, _touched: usize) {}

        pub(crate) fn advise_huge_pages(&self, _touched: usize) -> usize {
            0
        }

        pub(crate) fn collapse(&self, _nth: usize) {}

        pub(crate) fn release(&self) {}
    }

    impl<T, const LEN: usize> Deref for Slab<T, LEN> {
        type Target = [T; LEN];

        fn deref(&self) -> &[T; LEN] {
            &self.0
        }
    }
}
