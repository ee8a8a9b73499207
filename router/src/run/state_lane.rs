//! A lane of state: a newer value of the same key replaces one that was not sent yet, so a full channel
//! or a reader that stands still loses nothing and grows nothing.
#![forbid(unsafe_code)]

use std::collections::BTreeMap;

use crossbeam_channel::{Sender, TrySendError};

use crate::worker::Wake;

/// The sending end.
pub(super) struct StateLane<K, V, T> {
    sender: Sender<T>,
    wake: Wake,
    pending: BTreeMap<K, V>,
    message: fn(K, V) -> T,
}

impl<K: Copy + Ord, V: Clone, T> StateLane<K, V, T> {
    /// Sends by `sender`, whose reader `wake` wakes; `message` makes what is sent.
    pub(super) fn new(sender: Sender<T>, wake: Wake, message: fn(K, V) -> T) -> Self {
        Self { sender, wake, pending: BTreeMap::new(), message }
    }

    /// The key's value is this from now on; [`Self::flush`] sends it.
    pub(super) fn set(&mut self, key: K, value: V) {
        self.pending.insert(key, value);
    }

    /// Sends what fits; the rest waits for the next call.
    pub(super) fn flush(&mut self) {
        if self.pending.is_empty() {
            return;
        }
        while let Some((&key, value)) = self.pending.first_key_value() {
            match self.sender.try_send((self.message)(key, value.clone())) {
                Ok(()) => drop(self.pending.pop_first()),
                Err(TrySendError::Full(_)) => break,
                // The reader has ended, and with it whoever could act on this.
                Err(TrySendError::Disconnected(_)) => self.pending.clear(),
            }
        }
        self.wake.wake();
    }

    /// Whether something did not fit.
    pub(super) fn is_behind(&self) -> bool {
        !self.pending.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use crossbeam_channel::bounded;

    use super::*;

    #[test]
    fn what_does_not_fit_waits_and_only_its_newest_value_is_sent() {
        let (sender, receiver) = bounded(1);
        let (wake, _fd) = Wake::new().unwrap();
        let mut lane = StateLane::new(sender, wake, |key: u8, up: bool| (key, up));
        for (key, up) in [(1, true), (2, true), (2, false), (1, false), (2, true)] {
            lane.set(key, up);
        }
        lane.flush();
        assert!(lane.is_behind());
        lane.set(2, false);
        lane.flush();
        assert_eq!(receiver.try_recv(), Ok((1, false)));
        lane.flush();
        assert!(!lane.is_behind());
        assert_eq!(receiver.try_iter().collect::<Vec<_>>(), [(2, false)]);
        drop(receiver);
        lane.set(3, true);
        lane.flush();
        assert!(!lane.is_behind(), "nobody is there to hear");
    }
}
