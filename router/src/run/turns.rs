//! Turns of threads, which the watchdog and the lease of announcements count: a thread that stands still, or is
//! busy for too long, takes none.
#![forbid(unsafe_code)]

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::bgp::lease::Part;
use crate::worker::{Wake, WorkerShared};

/// The turns of one thread. It alone counts them; another reads the count. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Turns(Arc<AtomicU64>);

/// A thread on which it depends whether announcements are true.
pub struct WatchedThread {
    part: Part,
    count: Count,
    wake: Wake,
    /// At the last look.
    seen: u64,
}

/// Where a thread counts its turns.
pub enum Count {
    /// A thread that takes orders, or the control thread.
    Turns(Turns),
    /// A worker.
    Worker(Arc<WorkerShared>),
}

impl Turns {
    /// The thread has begun another turn.
    pub(super) fn take(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    /// How many it has taken.
    pub(super) fn count(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

impl WatchedThread {
    /// A thread that `wake` makes take a turn.
    pub fn new(part: Part, count: Count, wake: Wake) -> Self {
        Self { part, count, wake, seen: 0 }
    }

    /// How many turns it has taken. One that has taken none since the last look is woken: so it takes one
    /// before the next, if it has nothing to do.
    pub fn look(&mut self) -> (Part, u64) {
        let turns = match &self.count {
            Count::Turns(turns) => turns.count(),
            Count::Worker(shared) => shared.turns(),
        };
        if std::mem::replace(&mut self.seen, turns) == turns {
            self.wake.wake();
        }
        (self.part, turns)
    }
}
