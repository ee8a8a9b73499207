//! A lane of state: a newer value of the same key replaces one that was not sent yet, so that a full
//! channel or a reader that stands still loses nothing and grows nothing.

use std::collections::BTreeMap;

use crate::put_back::{self, PutBack};

/// What is still to be sent.
#[derive(Clone, Debug)]
pub struct StateLane<K, V> {
    pending: BTreeMap<K, V>,
}

/// What became of a value that was to be sent.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Sent {
    /// It is on its way.
    Yes,
    /// There is no room: it is to be sent again.
    Full,
    /// The reader has ended, and with it whoever could act on it.
    Ended,
}

impl<K: Copy + Ord, V: Clone> StateLane<K, V> {
    /// The key's value is this from now on; [`Self::flush`] sends it.
    pub fn set(&mut self, key: K, value: V) {
        self.pending.insert(key, value);
    }

    /// Sends what fits; the rest waits for the next call. Returns whether anything was to be sent.
    pub fn flush(&mut self, mut send: impl FnMut(K, V) -> Sent) -> bool {
        let any = !self.pending.is_empty();
        while let Some((&key, value)) = self.pending.first_key_value() {
            match send(key, value.clone()) {
                Sent::Yes => drop(self.pending.pop_first()),
                Sent::Full if put_back::is(PutBack::FullLaneLoses) => self.pending.clear(),
                Sent::Full => break,
                Sent::Ended => self.pending.clear(),
            }
        }
        any
    }

    /// Whether something did not fit.
    pub fn is_behind(&self) -> bool {
        !self.pending.is_empty()
    }
}

impl<K, V> Default for StateLane<K, V> {
    fn default() -> Self {
        Self { pending: BTreeMap::new() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_fit_waits_and_only_its_newest_value_is_sent() {
        let mut lane = StateLane::default();
        for (key, up) in [(1, true), (2, true), (2, false), (1, false), (2, true)] {
            lane.set(key, up);
        }
        let mut sent = Vec::new();
        let mut one = |key: i32, up: bool| {
            if !sent.is_empty() {
                return Sent::Full;
            }
            sent.push((key, up));
            Sent::Yes
        };
        assert!(lane.flush(&mut one));
        assert!(lane.is_behind());
        assert_eq!(sent, [(1, false)]);
        lane.set(2, false);
        let mut rest = Vec::new();
        lane.flush(|key, up| {
            rest.push((key, up));
            Sent::Yes
        });
        assert_eq!(rest, [(2, false)]);
        assert!(!lane.is_behind());
        lane.set(3, true);
        lane.flush(|_, _| Sent::Ended);
        assert!(!lane.is_behind(), "nobody is there to hear");
        assert!(!lane.flush(|_, _| Sent::Full), "nothing is to be sent");
    }
}
