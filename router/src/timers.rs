//! One timer for each of many slots.
#![forbid(unsafe_code)]

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use crate::time::Nanos;

/// A heap of timers. Moving a timer later costs nothing: its old entry fires early, the owner finds
/// nothing to do and arms it again.
#[derive(Debug, Default)]
pub(crate) struct Timers {
    heap: BinaryHeap<Reverse<(Nanos, u32)>>,
    armed: Vec<Option<Nanos>>,
}

impl Timers {
    /// Wakes `slot` at `at` or, if it is armed for an earlier time, then.
    pub(crate) fn arm(&mut self, slot: u32, at: Option<Nanos>) {
        let index = slot as usize;
        if self.armed.len() <= index {
            self.armed.resize(index + 1, None);
        }
        let Some(at) = at else { return };
        if self.armed[index].is_none_or(|armed| at < armed) {
            self.armed[index] = Some(at);
            self.heap.push(Reverse((at, slot)));
        }
    }

    /// Forgets `slot`'s timer.
    pub(crate) fn disarm(&mut self, slot: u32) {
        if let Some(armed) = self.armed.get_mut(slot as usize) {
            *armed = None;
        }
    }

    /// Takes a slot whose timer is due; call until `None`, or as often as work is bounded to.
    pub(crate) fn pop_due(&mut self, now: Nanos) -> Option<u32> {
        while let Some(&Reverse((at, slot))) = self.heap.peek() {
            if at > now {
                return None;
            }
            self.heap.pop();
            if self.armed[slot as usize] == Some(at) {
                self.armed[slot as usize] = None;
                return Some(slot);
            }
        }
        None
    }

    /// When to call [`Self::pop_due`] next: at the latest when the first timer is due.
    pub(crate) fn next(&self) -> Option<Nanos> {
        self.heap.peek().map(|Reverse((at, _))| *at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fires_in_order_once_and_keeps_the_earliest() {
        let mut timers = Timers::default();
        timers.arm(1, Some(Nanos(30)));
        timers.arm(2, Some(Nanos(20)));
        timers.arm(1, Some(Nanos(10)));
        timers.arm(2, Some(Nanos(90)));
        timers.arm(3, None);
        assert_eq!((timers.next(), timers.pop_due(Nanos(9))), (Some(Nanos(10)), None));
        assert_eq!(timers.pop_due(Nanos(25)), Some(1));
        assert_eq!(timers.pop_due(Nanos(25)), Some(2));
        assert_eq!(timers.pop_due(Nanos(100)), None, "the entry at 30 is stale");
        timers.arm(2, Some(Nanos(5)));
        timers.disarm(2);
        assert_eq!(timers.pop_due(Nanos(100)), None);
    }
}
