//! How long what got worse again and again waits before it is as before.
#![forbid(unsafe_code)]

use std::time::Duration;

/// A wait that is doubled each time it is needed again soon, up to [`WAIT_MAX`].
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Backoff {
    wait: Duration,
}

impl Backoff {
    /// It got worse, after it was well for `well`. `shortest` is the first wait.
    pub fn fell(&mut self, well: Duration, shortest: Duration) {
        if well > self.wait * FORGOTTEN_AFTER {
            self.wait = Duration::ZERO;
        }
        self.wait = (self.wait * 2).clamp(shortest, WAIT_MAX.max(shortest));
    }

    /// For how long to wait; zero before it got worse for the first time.
    pub const fn wait(self) -> Duration {
        self.wait
    }
}

/// The longest wait, unless the shortest is longer.
pub const WAIT_MAX: Duration = Duration::from_mins(10);

/// What was well for so many waits begins with the shortest one again.
const FORGOTTEN_AFTER: u32 = 4;
