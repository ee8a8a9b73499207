//! Quiescent-state-based reclamation: when is an id that was unlinked out of every reader's hands?
//!
//! Readers say after each batch that they hold nothing (*quiescent*), and go *offline* before
//! they sleep, so that a sleeper holds nothing back. The scheme is that of userspace-RCU's QSBR
//! flavour (Desnoyers et al., "User-Level Implementations of Read-Copy Update", 2012).

use alloc::boxed::Box;

use crossbeam_utils::CachePadded;

use crate::sync::{AtomicU64, Ordering, fence};

/// One writer's clock and what each reader last saw of it.
pub(crate) struct Qsbr {
    /// Written by the writer alone, at each retirement; read by readers when they are quiescent.
    epoch: CachePadded<AtomicU64>,
    /// One for each reader that may register: [`FREE`], [`OFFLINE`], or the epoch it last saw.
    /// Written by its reader, read by the writer.
    slots: Box<[CachePadded<AtomicU64>]>,
}

impl Qsbr {
    pub(crate) fn new(readers_max: usize) -> Self {
        let slots = (0..readers_max).map(|_| CachePadded::new(AtomicU64::new(FREE))).collect();
        Self { epoch: CachePadded::new(AtomicU64::new(FIRST_EPOCH)), slots }
    }

    /// Takes a slot for a new reader, offline at first; `None` if all are taken.
    pub(crate) fn register(&self) -> Option<usize> {
        self.slots.iter().position(|slot| {
            slot.compare_exchange(FREE, OFFLINE, Ordering::AcqRel, Ordering::Relaxed).is_ok()
        })
    }

    pub(crate) fn unregister(&self, reader: usize) {
        self.slots[reader].store(FREE, Ordering::Release);
    }

    /// The reader may hold ids from here on.
    #[inline]
    pub(crate) fn online(&self, reader: usize) {
        let seen = self.epoch.load(Ordering::Acquire);
        // Release: a writer that sees this reader online again, and not the time offline between,
        // still comes after what the reader read before that.
        self.slots[reader].store(seen, Ordering::Release);
        // Pairs with the fence in `grace_over`: either the writer sees this reader online, or this
        // reader's later loads see what the writer unlinked before its fence.
        fence(Ordering::SeqCst);
    }

    /// The reader holds no id now, and may hold new ones from here on.
    #[inline]
    pub(crate) fn quiescent(&self, reader: usize) {
        // Acquire: having seen epoch E, later loads see everything unlinked before E began.
        // Release: the loads of the batch that ended are done before the writer can see E here.
        let seen = self.epoch.load(Ordering::Acquire);
        self.slots[reader].store(seen, Ordering::Release);
    }

    /// The reader holds no id until it is online again.
    #[inline]
    pub(crate) fn offline(&self, reader: usize) {
        self.slots[reader].store(OFFLINE, Ordering::Release);
    }

    /// Starts a new epoch after something was unlinked; it is free once [`Self::grace_over`] says
    /// so of the returned epoch.
    pub(crate) fn retire(&self) -> u64 {
        self.epoch.fetch_add(1, Ordering::SeqCst) + 1
    }

    /// The epoch below which nothing is held any more: everything retired at it or before is free.
    pub(crate) fn grace_over(&self) -> u64 {
        fence(Ordering::SeqCst);
        let now = self.epoch.load(Ordering::Relaxed);
        self.readers().map(|(_, seen)| seen).min().unwrap_or(now)
    }

    /// The online reader that has gone longest without a quiescent point, and what it last saw.
    pub(crate) fn slowest(&self) -> Option<(usize, u64)> {
        self.readers().min_by_key(|&(_, seen)| seen)
    }

    fn readers(&self) -> impl Iterator<Item = (usize, u64)> + '_ {
        self.slots
            .iter()
            .map(|slot| slot.load(Ordering::Acquire))
            .enumerate()
            .filter(|&(_, seen)| seen != FREE && seen != OFFLINE)
    }
}

const OFFLINE: u64 = 0;
const FIRST_EPOCH: u64 = 1;
const FREE: u64 = u64::MAX;

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn only_a_reader_online_since_before_holds_things_back() {
        let qsbr = Qsbr::new(2);
        let (busy, asleep) = (qsbr.register().unwrap(), qsbr.register().unwrap());
        assert_eq!(qsbr.register(), None);
        qsbr.online(busy);
        let epoch = qsbr.retire();
        assert!(qsbr.grace_over() < epoch);
        assert_eq!(qsbr.slowest().map(|(reader, _)| reader), Some(busy));
        qsbr.online(asleep);
        qsbr.offline(asleep);
        qsbr.quiescent(busy);
        assert!(qsbr.grace_over() >= epoch);
        let later = qsbr.retire();
        assert!(qsbr.grace_over() < later);
        qsbr.offline(busy);
        assert!(qsbr.grace_over() >= later);
        qsbr.unregister(busy);
        assert_eq!(qsbr.register(), Some(busy));
    }
}
