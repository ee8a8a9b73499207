//! Where atomics come from: `core` in a build, `loom` under the model checker. The one file that
//! differs between the two.

#[cfg(not(loom))]
pub(crate) use core::sync::atomic::{AtomicU8, AtomicU16, AtomicU32, AtomicU64, Ordering, fence};
#[cfg(loom)]
pub(crate) use loom::sync::atomic::{AtomicU8, AtomicU16, AtomicU32, AtomicU64, Ordering, fence};

#[cfg(not(loom))]
pub(crate) use alloc::sync::Arc;
#[cfg(loom)]
pub(crate) use loom::sync::Arc;

/// A place that is filled once, by the writer, and read by readers.
pub(crate) struct OnceBox<T>(once_cell::race::OnceBox<T>, Filled);

/// Whether a place is filled: the model checker sees atomics of its own alone, and so not the one
/// inside the place.
#[cfg(loom)]
type Filled = loom::sync::atomic::AtomicBool;
#[cfg(not(loom))]
type Filled = ();

impl<T> OnceBox<T> {
    #[cfg(not(loom))]
    pub(crate) const fn new() -> Self {
        Self(once_cell::race::OnceBox::new(), ())
    }

    #[cfg(loom)]
    pub(crate) fn new() -> Self {
        Self(once_cell::race::OnceBox::new(), Filled::new(false))
    }

    /// Acquire: a reader that sees the place filled sees what is in it.
    #[inline]
    pub(crate) fn get(&self) -> Option<&T> {
        #[cfg(loom)]
        if !self.1.load(Ordering::Acquire) {
            return None;
        }
        self.0.get()
    }

    /// Fills it, if it is not. Release.
    pub(crate) fn set(&self, value: T) {
        let _ = self.0.set(alloc::boxed::Box::new(value));
        #[cfg(loom)]
        self.1.store(true, Ordering::Release);
    }
}
