//! When the side of a port is compared: at once when the kernel says that something happened, and at
//! growing intervals where somebody works against it or the kernel refuses.
#![forbid(unsafe_code)]

use std::time::Duration;

use super::SideNews;
use crate::kernel::netns::Place;
use crate::kernel::side::{Settled, Side, SideError};
use crate::time::Nanos;

/// The side of a port that is kept.
#[derive(Debug)]
pub(super) struct Kept {
    pub(super) place: Place,
    pub(super) side: Side,
    /// When it is compared next; `None` while nothing happens.
    pub(super) due: Option<Nanos>,
    /// What was last said of it.
    pub(super) why: Option<String>,
    /// How often it was put right of late.
    repairs: u32,
    repaired: Option<Nanos>,
    failures: u32,
    last: Option<Nanos>,
}

impl Kept {
    pub(super) fn new(place: Place, side: Side) -> Self {
        Self {
            place,
            side,
            due: None,
            why: None,
            repairs: 0,
            repaired: None,
            failures: 0,
            last: None,
        }
    }

    /// Something happened to the device.
    pub(super) fn touched(&mut self, now: Nanos) {
        if self.repaired.is_some_and(|at| now.since(at) > FORGOTTEN_AFTER) {
            self.repairs = 0;
        }
        let pause = (PAUSE_FIRST * (1 << self.repairs.min(DOUBLINGS_MAX))).min(PAUSE_MAX);
        let at = self.last.map_or(now, |last| now.max(last + pause));
        self.due = Some(self.due.map_or(at, |due| due.min(at)));
    }

    /// It was compared. Returns what there is to say of that.
    pub(super) fn settled(
        &mut self,
        now: Nanos,
        done: &Result<Settled, SideError>,
    ) -> Option<SideNews> {
        let (made, why) = match done {
            Ok(settled) => (&settled.made[..], None),
            Err(error) => (error.made(), Some(error.to_string())),
        };
        if !made.is_empty() {
            self.repairs = self.repairs.saturating_add(1);
            self.repaired = Some(now);
        }
        self.last = Some(now);
        self.failures = if why.is_some() { self.failures.saturating_add(1) } else { 0 };
        self.due = (self.failures > 0).then(|| {
            let doubled = (self.failures - 1).min(DOUBLINGS_MAX);
            now + (RETRY_FIRST * (1 << doubled)).min(RETRY_MAX)
        });
        if made.is_empty() && why == self.why {
            return None;
        }
        self.why.clone_from(&why);
        let made = made.iter().map(ToString::to_string).collect();
        Some(SideNews { ifindex: self.place.ifindex, why, made })
    }
}

/// The least time between two looks at one device; doubled by each repair.
const PAUSE_FIRST: Duration = Duration::from_millis(5);

/// The longest: how long somebody who works against it is right.
const PAUSE_MAX: Duration = Duration::from_secs(1);

/// Repairs are forgotten after this long without one.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(5);

/// How long after a first refusal it is tried again; doubled by each further one.
const RETRY_FIRST: Duration = Duration::from_millis(250);

/// The longest interval between two tries.
const RETRY_MAX: Duration = Duration::from_secs(8);

/// Enough to reach the longest intervals.
const DOUBLINGS_MAX: u32 = 8;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::netns::NetNs;
    use crate::kernel::side::Change;

    const START: Nanos = Nanos(100_000_000_000);

    fn kept() -> Kept {
        let place = Place { netns: NetNs::Here, identity: (1, 1), ifindex: 7 };
        Kept::new(place, Side::default())
    }

    fn refused() -> Result<Settled, SideError> {
        Err(SideError::NotKept { left: vec![Change::Quiet], made: vec![] })
    }

    #[test]
    fn what_is_refused_is_tried_at_growing_intervals_and_at_once_when_something_happens() {
        let (mut kept, mut now) = (kept(), START);
        let mut waits = Vec::new();
        for _ in 0..8 {
            kept.settled(now, &refused());
            let due = kept.due.unwrap();
            waits.push(due.since(now).as_millis());
            now = due;
        }
        assert_eq!(waits, [250, 500, 1000, 2000, 4000, 8000, 8000, 8000]);
        kept.settled(now, &refused());
        now += Duration::from_secs(1);
        kept.touched(now);
        assert_eq!(kept.due, Some(now));
        kept.settled(now, &Ok(Settled::default()));
        assert_eq!(kept.due, None);
    }

    /// Neither does a flood of notifications keep the thread busy.
    #[test]
    fn somebody_who_undoes_every_repair_is_answered_more_and_more_slowly() {
        let (mut kept, mut now) = (kept(), START);
        let mut waits = Vec::new();
        for _ in 0..10 {
            kept.touched(now);
            let due = kept.due.unwrap();
            waits.push(due.since(now).as_millis());
            now = due;
            kept.settled(now, &Ok(Settled { made: vec![Change::Quiet] }));
        }
        assert_eq!(waits, [0, 10, 20, 40, 80, 160, 320, 640, 1000, 1000]);
        now += FORGOTTEN_AFTER + Duration::from_secs(1);
        kept.touched(now);
        assert_eq!(kept.due, Some(now), "forgotten after a while");
    }

    #[test]
    fn a_refusal_is_said_once_and_so_is_its_end() {
        let mut kept = kept();
        let said = |kept: &mut Kept, done: &_| kept.settled(START, done).map(|news| news.why);
        let why =
            "turn off link-local addresses is not kept: something else changes the device too";
        assert_eq!(said(&mut kept, &refused()), Some(Some(why.into())));
        assert_eq!(said(&mut kept, &refused()), None);
        assert_eq!(said(&mut kept, &Ok(Settled::default())), Some(None));
        assert_eq!(said(&mut kept, &Ok(Settled::default())), None);
    }
}
