//! The numbers of ports: used again once no worker can hold them any more.

use std::collections::VecDeque;

use nearhop_fib::{Grace, Writer};

use crate::ids::PORTS_MAX;
use crate::ids::PortId;

/// Which numbers are free, and which will be.
#[derive(Debug, Default)]
pub(super) struct PortNumbers {
    /// Those from here on were never used.
    next: usize,
    /// The one that has been free longest first.
    free: VecDeque<PortId>,
    /// Given back, but maybe still in some worker's batch.
    waiting: VecDeque<(Grace, PortId)>,
}

impl PortNumbers {
    /// A number that nobody has; `None` when there is none.
    pub(super) fn take(&mut self, writer: &Writer) -> Option<PortId> {
        self.reclaim(writer);
        self.free.pop_front().or_else(|| {
            let id = u16::try_from(self.next).ok()?;
            self.next += 1;
            Some(PortId(id))
        })
    }

    /// A number that nobody has got to know.
    pub(super) fn put_back(&mut self, id: PortId) {
        self.free.push_front(id);
    }

    /// Nothing leads to this number any more: it is free after a grace period.
    pub(super) fn retire(&mut self, writer: &Writer, id: PortId) {
        self.waiting.push_back((writer.begin_grace(), id));
    }

    /// Frees what every reader has let go of.
    pub(super) fn reclaim(&mut self, writer: &Writer) {
        while let Some(&(grace, id)) = self.waiting.front() {
            if !writer.is_over(grace) {
                return;
            }
            self.waiting.pop_front();
            self.free.push_back(id);
        }
    }

    /// How many can be taken now.
    pub(super) fn available(&self) -> usize {
        PORTS_MAX - self.next + self.free.len()
    }

    /// Above every number in use.
    pub(super) fn end(&self) -> usize {
        self.next
    }
}
