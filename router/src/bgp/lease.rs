//! The lease: announcements stand as they are while everybody takes turns who finds out and decides whether
//! they are true. Without sockets and clock.
//!
//! A router whose checks stand still attracts packets to sites of which it does not know whether they live. So
//! what it announces becomes what is taken only where there is nothing else. It is not withdrawn unless that
//! is configured: what stops one router, such as a wrong reload, may stop all of them at once.
#![forbid(unsafe_code)]

use std::borrow::Cow;
use std::fmt;
use std::time::Duration;

use super::backoff::Backoff;
use super::{Attributes, Community};
use crate::time::Nanos;

/// Who stands between a check and a session.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Part {
    /// Who decides what is announced.
    Control,
    /// Who calls sites up or down.
    Liveness,
    /// Who carries the checks' packets: the worker of this number.
    Worker(usize),
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Control => f.write_str("the control thread"),
            Self::Liveness => f.write_str("the liveness thread"),
            Self::Worker(number) => write!(f, "worker {number}"),
        }
    }
}

/// When the lease ends, and begins again.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct LeaseRules {
    /// For how long a part may take no turn; zero is for ever.
    pub after: Duration,
    /// For how long what is announced is deprioritised, before it is withdrawn; `None` is for ever.
    pub withdraw: Option<Duration>,
    /// For how long all parts have to take turns before all is announced as before; doubled each time the
    /// lease ends again soon.
    pub back: Duration,
}

impl Default for LeaseRules {
    fn default() -> Self {
        Self { after: Duration::from_secs(3), withdraw: None, back: Duration::from_secs(10) }
    }
}

/// As what all is announced.
#[derive(Clone, Copy, Debug, Default, Eq, Ord, PartialEq, PartialOrd)]
pub enum LeaseState {
    /// As it is to be.
    #[default]
    Held,
    /// As what is taken only where there is nothing else, because this part stood still.
    Deprioritised(Part),
    /// Not at all, for the same reason.
    Withdrawn(Part),
}

impl LeaseState {
    /// What becomes of a route that is to be announced with these attributes; `None` is withdrawn. What
    /// neighbours are asked to discard (RFC 7999) stays so. `own_as` as of [`Attributes::deprioritise`].
    pub fn apply(
        self,
        attributes: &Attributes,
        own_as: Option<u32>,
    ) -> Option<Cow<'_, Attributes>> {
        if attributes.communities.contains(&Community::BLACKHOLE) {
            return Some(Cow::Borrowed(attributes));
        }
        match self {
            Self::Deprioritised(_) if !attributes.is_deprioritised() => {
                let mut attributes = attributes.clone();
                attributes.deprioritise(own_as);
                Some(Cow::Owned(attributes))
            }
            Self::Held | Self::Deprioritised(_) => Some(Cow::Borrowed(attributes)),
            Self::Withdrawn(_) => None,
        }
    }

    /// In words, with who stood still.
    pub fn text(self) -> String {
        match self {
            Self::Held => "the lease is held".into(),
            Self::Deprioritised(part) => format!("deprioritised: {part} stood still"),
            Self::Withdrawn(part) => format!("withdrawn: {part} stood still"),
        }
    }
}

/// The lease, for whoever has the sessions.
///
/// Time is the holder's own running time: of what lies between two looks, [`LOOK_EVERY`] counts at most, so that
/// a machine that was frozen as a whole withdraws nothing when it goes on.
#[derive(Debug, Default)]
pub struct Lease {
    rules: Option<LeaseRules>,
    looked: Option<Nanos>,
    /// The turns of each part when last looked at, and for how long it has taken none.
    parts: Vec<(Part, u64, Duration)>,
    state: LeaseState,
    /// For how long it has ended.
    ended: Duration,
    /// For how long all parts have taken turns since.
    well: Duration,
    /// For how long they have to.
    back: Backoff,
    /// For how long it has been held since it ended last.
    held: Duration,
}

impl Lease {
    /// Before there are rules, and by those that say so, it never ends.
    pub fn set_rules(&mut self, rules: LeaseRules) {
        if rules.after.is_zero() {
            *self = Self::default();
        } else {
            self.rules = Some(rules);
        }
    }

    /// When to look next, if ever.
    pub fn poll_timeout(&self) -> Option<Nanos> {
        self.rules?;
        Some(self.looked.map_or(Nanos::ZERO, |looked| looked + LOOK_EVERY))
    }

    /// How many turns each part has taken so far. Returns whether the state is another.
    pub fn look(&mut self, now: Nanos, turns: impl IntoIterator<Item = (Part, u64)>) -> bool {
        let Some(rules) = self.rules else { return false };
        let ran = self.looked.map_or(Duration::ZERO, |looked| now.since(looked)).min(LOOK_EVERY);
        self.looked = Some(now);
        let before = std::mem::take(&mut self.parts);
        self.parts.extend(turns.into_iter().map(|(part, turns)| {
            let known = before.iter().find(|known| known.0 == part);
            let stood = match known {
                Some(&(_, known, stood)) if known == turns => stood + ran,
                _ => Duration::ZERO,
            };
            (part, turns, stood)
        }));
        let slowest = self.parts.iter().max_by_key(|(_, _, stood)| *stood);
        let Some(&(part, _, stood)) = slowest else { return false };
        self.go_on(&rules, ran, part, stood)
    }

    /// As what all is announced.
    pub const fn state(&self) -> LeaseState {
        self.state
    }

    fn go_on(&mut self, rules: &LeaseRules, ran: Duration, part: Part, stood: Duration) -> bool {
        let before = self.state;
        if self.state == LeaseState::Held {
            self.held += ran;
            if stood >= rules.after {
                self.back.fell(self.held, rules.back);
                (self.ended, self.well) = (Duration::ZERO, Duration::ZERO);
                self.state = LeaseState::Deprioritised(part);
            }
        } else {
            self.ended += ran;
            // One look without a turn is none too many for a thread that is only about to run.
            self.well = if stood > LOOK_EVERY { Duration::ZERO } else { self.well + ran };
        }
        if let LeaseState::Deprioritised(part) = self.state
            && rules.withdraw.is_some_and(|after| self.ended >= after)
        {
            self.state = LeaseState::Withdrawn(part);
        }
        if before != LeaseState::Held && self.well >= self.back.wait() {
            (self.state, self.held) = (LeaseState::Held, Duration::ZERO);
        }
        self.state != before
    }
}

/// How often turns are looked at; and how long a part with nothing to do may go without one.
pub const LOOK_EVERY: Duration = Duration::from_millis(100);

#[cfg(test)]
mod tests {
    use super::*;

    const PARTS: [Part; 3] = [Part::Control, Part::Liveness, Part::Worker(0)];

    struct Rig {
        lease: Lease,
        now: Nanos,
        turns: [u64; 3],
        /// What the state became, and after how many milliseconds.
        changes: Vec<(u128, LeaseState)>,
    }

    impl Rig {
        fn new(rules: LeaseRules) -> Self {
            let mut lease = Lease::default();
            lease.set_rules(rules);
            Self { lease, now: Nanos(5_000_000_000), turns: [0; 3], changes: Vec::new() }
        }

        /// Time passes in looks, in which all but `still` take turns.
        fn run(&mut self, span: Duration, still: Option<Part>) {
            let begin = self.now;
            while self.now < begin + span {
                self.now += LOOK_EVERY;
                for (turns, part) in self.turns.iter_mut().zip(PARTS) {
                    *turns += u64::from(still != Some(part));
                }
                if self.lease.look(self.now, PARTS.into_iter().zip(self.turns)) {
                    let after = self.now.since(begin).as_millis();
                    self.changes.push((after, self.lease.state()));
                }
            }
        }

        fn changes(&mut self) -> Vec<(u128, LeaseState)> {
            std::mem::take(&mut self.changes)
        }
    }

    const fn secs(count: u64) -> Duration {
        Duration::from_secs(count)
    }

    #[test]
    fn it_ends_with_any_part_and_is_back_once_all_take_turns_for_a_while() {
        for part in PARTS {
            let mut rig = Rig::new(LeaseRules::default());
            rig.run(secs(60), None);
            assert_eq!(rig.changes(), []);
            rig.run(secs(30), Some(part));
            assert_eq!(rig.changes(), [(3000, LeaseState::Deprioritised(part))]);
            rig.run(secs(30), None);
            assert_eq!(rig.changes(), [(10_000, LeaseState::Held)]);
        }
    }

    #[test]
    fn it_withdraws_only_where_that_is_configured() {
        let mut rig = Rig::new(LeaseRules { withdraw: Some(secs(5)), ..LeaseRules::default() });
        rig.run(secs(1), None);
        rig.run(secs(20), Some(Part::Control));
        let (low, none) =
            (LeaseState::Deprioritised(Part::Control), LeaseState::Withdrawn(Part::Control));
        assert_eq!(rig.changes(), [(3000, low), (8000, none)]);
        let mut rig = Rig::new(LeaseRules::default());
        rig.run(secs(100_000), Some(Part::Control));
        assert_eq!(rig.changes(), [(3100, low)], "the first look has nothing to compare with");
        let mut off = Rig::new(LeaseRules { after: Duration::ZERO, ..LeaseRules::default() });
        off.run(secs(100), Some(Part::Control));
        assert_eq!((off.changes(), off.lease.poll_timeout()), (vec![], None));
    }

    /// Nobody took a turn, and neither did the holder.
    #[test]
    fn a_machine_that_was_frozen_keeps_it() {
        let mut rig = Rig::new(LeaseRules::default());
        rig.run(secs(1), None);
        for _ in 0..20 {
            rig.now += secs(3600);
            rig.run(LOOK_EVERY, Some(Part::Liveness));
            rig.run(LOOK_EVERY, None);
        }
        assert_eq!(rig.changes(), []);
    }

    #[test]
    fn one_that_ends_again_and_again_is_back_later_each_time() {
        let mut rig = Rig::new(LeaseRules::default());
        let mut waits = Vec::new();
        for _ in 0..9 {
            rig.run(secs(4), Some(Part::Worker(0)));
            rig.changes();
            rig.run(secs(700), None);
            // So that it was not held for long.
            let (after, state) = rig.changes()[0];
            assert_eq!(state, LeaseState::Held);
            waits.push(after / 1000);
            rig.lease.held = Duration::ZERO;
        }
        assert_eq!(waits, [10, 20, 40, 80, 160, 320, 600, 600, 600]);
        rig.run(secs(10_000), None);
        rig.run(secs(4), Some(Part::Worker(0)));
        rig.changes();
        rig.run(secs(700), None);
        assert_eq!(rig.changes(), [(10_000, LeaseState::Held)], "forgotten after a while");
    }

    /// A part that turns now and then is not well.
    #[test]
    fn it_is_not_back_while_a_part_stutters() {
        let mut rig = Rig::new(LeaseRules::default());
        rig.run(secs(5), Some(Part::Control));
        assert_eq!(rig.changes().len(), 1);
        for _ in 0..30 {
            rig.run(secs(1), Some(Part::Control));
            rig.run(LOOK_EVERY, None);
        }
        assert_eq!(rig.changes(), []);
    }
}
