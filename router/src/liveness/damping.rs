//! How long a leg that flaps has to be well before it is used again.
#![forbid(unsafe_code)]

use std::time::Duration;

use crate::time::Nanos;

/// The history of one leg. A leg that goes down soon after it came up waits, and waits twice as
/// long each time, up to a limit; one that stays up is forgiven.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Damping {
    flaps: u32,
    up_since: Option<Nanos>,
}

impl Damping {
    /// The leg is in service from now on.
    pub fn came_up(&mut self, now: Nanos) {
        self.up_since = Some(now);
    }

    /// The leg went down.
    pub fn went_down(&mut self, now: Nanos) {
        let Some(since) = self.up_since.take() else { return };
        let well = now.since(since);
        if well < FLAP_WITHIN {
            self.flaps = (self.flaps + 1).min(FLAPS_MAX);
        } else {
            let forgiven = u32::try_from(well.as_nanos() / FORGIVEN_AFTER.as_nanos());
            self.flaps = self.flaps.saturating_sub(forgiven.unwrap_or(u32::MAX));
        }
    }

    /// An operator takes the leg out of service: that is no flap.
    pub fn taken_out(&mut self) {
        self.up_since = None;
    }

    /// How long it has to be well before it is used: zero until it has flapped twice.
    pub fn hold(&self) -> Duration {
        match self.flaps {
            0 | 1 => Duration::ZERO,
            flaps => (HOLD_FIRST * (1 << (flaps - 2))).min(HOLD_MAX),
        }
    }

    /// An operator forgives it.
    pub fn clear(&mut self) {
        self.flaps = 0;
    }
}

/// A leg that goes down sooner than this after it came up has flapped.
pub const FLAP_WITHIN: Duration = Duration::from_secs(10);

/// One flap is forgiven for each such time in service.
pub const FORGIVEN_AFTER: Duration = Duration::from_secs(30);

/// The hold of the second flap; doubled by each further one.
pub const HOLD_FIRST: Duration = Duration::from_millis(100);

/// The longest hold.
pub const HOLD_MAX: Duration = Duration::from_secs(20);

/// Flaps remembered: those that reach [`HOLD_MAX`].
const FLAPS_MAX: u32 = 10;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn holds_double_with_each_flap_up_to_the_limit_and_time_in_service_forgives() {
        let mut damping = Damping::default();
        let mut now = Nanos(1_000_000_000_000);
        let mut holds = Vec::new();
        for _ in 0..14 {
            damping.came_up(now);
            now += Duration::from_millis(50);
            damping.went_down(now);
            damping.went_down(now);
            holds.push(damping.hold().as_millis());
        }
        assert_eq!(
            holds,
            [0, 100, 200, 400, 800, 1600, 3200, 6400, 12800, 20000, 20000, 20000, 20000, 20000]
        );
        damping.came_up(now);
        now += FORGIVEN_AFTER * 5;
        damping.went_down(now);
        assert_eq!(damping.hold(), Duration::from_millis(800));
        damping.clear();
        assert_eq!(damping.hold(), Duration::ZERO);
    }

    #[test]
    fn a_leg_that_was_never_up_has_not_flapped() {
        let mut damping = Damping::default();
        damping.went_down(Nanos(5));
        assert_eq!(damping, Damping::default());
    }
}
