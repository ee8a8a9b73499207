//! How well a service is served, and as what it may be announced since when.

use std::time::Duration;

use crate::bgp::backoff::Backoff;
use crate::config::model::{AnnounceRules, AnnounceWhen, BelowMin};
use crate::time::Nanos;

/// As what a prefix is announced, from the worst to the best.
#[derive(Clone, Copy, Debug, Default, Eq, Ord, PartialEq, PartialOrd)]
pub enum Level {
    /// Not at all.
    #[default]
    Withdrawn,
    /// As what is taken only where there is nothing else.
    Deprioritised,
    /// As configured.
    Full,
}

/// What is known of the sites of a service in one family.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Health {
    /// Sites that are up, and neither damped, drained nor disabled.
    pub well: usize,
    /// The sum of their weights.
    pub weight: u64,
    /// Whether any site takes packets, be it as a last resort.
    pub is_served: bool,
}

/// How a service stands in one family.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Standing {
    /// The sites.
    pub health: Health,
    /// As what it is announced.
    pub level: Held<Level>,
    /// The sum of weights that is announced.
    pub weight: Held<u64>,
}

/// A value that gets worse at once; what gets better waits, the longer the more often it got worse, so that
/// a site that flaps is no route that flaps.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Held<T> {
    /// The value that counts; the greater, the better.
    pub value: T,
    /// When it gets better, if it waits for that.
    pub until: Option<Nanos>,
    /// When it last got better.
    rose: Nanos,
    delay: Backoff,
}

impl AnnounceRules {
    /// As what a service with these sites is to be announced.
    pub fn level(&self, health: Health) -> Level {
        if health.well >= self.min_sites || self.when == AnnounceWhen::Always {
            return Level::Full;
        }
        match self.below_min {
            BelowMin::Deprioritise if health.is_served => Level::Deprioritised,
            _ => Level::Withdrawn,
        }
    }
}

impl Standing {
    /// Notes what became of the sites, or that time has passed.
    pub fn update(&mut self, now: Nanos, rules: &AnnounceRules, health: Health) {
        self.health = health;
        let before = self.level.value;
        self.level.update(now, rules.delay, rules.level(health));
        self.weight.update(now, rules.delay, health.weight);
        if before != self.level.value {
            // Neighbours hear of it anyway.
            self.weight = Held { value: health.weight, until: None, rose: now, ..self.weight };
        }
    }

    /// When it changes although nothing happens.
    pub fn due(&self) -> Option<Nanos> {
        self.level.until.into_iter().chain(self.weight.until).min()
    }
}

impl<T: Copy + Ord> Held<T> {
    fn update(&mut self, now: Nanos, shortest: Duration, wanted: T) {
        if wanted < self.value {
            self.delay.fell(now.since(self.rose), shortest);
        }
        if wanted <= self.value {
            (self.value, self.until) = (wanted, None);
            return;
        }
        let until = *self.until.get_or_insert(now + self.delay.wait());
        if now >= until {
            (self.value, self.until, self.rose) = (wanted, None, now);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bgp::backoff::WAIT_MAX;

    const START: Nanos = Nanos(1_000_000_000_000);

    const fn health(well: usize) -> Health {
        Health { well, weight: well as u64, is_served: well > 0 }
    }

    fn level(standing: &mut Standing, now: Nanos, rules: &AnnounceRules, well: usize) -> Level {
        standing.update(now, rules, health(well));
        standing.level.value
    }

    /// A site that is up and down twenty times a second is one withdrawal; each death begins the wait again.
    #[test]
    fn a_site_that_flaps_is_no_route_that_flaps() {
        let (mut standing, rules) = (Standing::default(), AnnounceRules::default());
        let mut now = START;
        assert_eq!(level(&mut standing, now, &rules, 1), Level::Full, "at once the first time");
        let (mut before, mut changes) = (Level::Full, Vec::new());
        for turn in 0..20 * 300 {
            now += Duration::from_millis(25);
            assert_eq!(level(&mut standing, now, &rules, 0), Level::Withdrawn, "it is dead");
            now += Duration::from_millis(25);
            let is = level(&mut standing, now, &rules, 1);
            if before != is {
                changes.push(turn);
            }
            before = is;
        }
        assert_eq!(changes, [0]);

        // Well for good: announced after the wait, and after another death later than the first time.
        let mut waits = Vec::new();
        for _ in 0..3 {
            let begin = now;
            while level(&mut standing, now, &rules, 1) == Level::Withdrawn {
                now = standing.level.until.unwrap();
            }
            waits.push(now.since(begin).as_secs());
            now += Duration::from_secs(1);
            assert_eq!(level(&mut standing, now, &rules, 0), Level::Withdrawn);
        }
        assert!(waits[0] < 11 && waits[1..] == [20, 40], "{waits:?}");
        level(&mut standing, now, &rules, 1);
        now = standing.level.until.unwrap();
        assert_eq!(level(&mut standing, now, &rules, 1), Level::Full);
        now += WAIT_MAX * 10;
        level(&mut standing, now, &rules, 0);
        level(&mut standing, now, &rules, 1);
        assert_eq!(standing.level.until, Some(now + rules.delay), "forgotten after a while");
    }

    #[test]
    fn waits_end_at_ten_minutes_and_none_is_none() {
        let mut now = START;
        let (mut standing, rules) = (Standing::default(), AnnounceRules::default());
        for _ in 0..20 {
            level(&mut standing, now, &rules, 1);
            now = standing.level.until.unwrap_or(now);
            level(&mut standing, now, &rules, 1);
            level(&mut standing, now, &rules, 0);
        }
        level(&mut standing, now, &rules, 1);
        assert_eq!(standing.level.until, Some(now + WAIT_MAX));
        let rules = AnnounceRules { delay: Duration::ZERO, ..rules };
        let mut standing = Standing::default();
        for well in [1, 0, 1, 0, 1] {
            let want = if well == 1 { Level::Full } else { Level::Withdrawn };
            assert_eq!(level(&mut standing, now, &rules, well), want);
        }
    }

    /// The weight that is announced is no flapping attribute either.
    #[test]
    fn a_weight_falls_at_once_and_rises_after_a_wait() {
        let (mut standing, rules) = (Standing::default(), AnnounceRules::default());
        let mut now = START;
        standing.update(now, &rules, health(2));
        let mut changes = 0;
        for turn in 0..100 {
            now += Duration::from_millis(25);
            let before = standing.weight.value;
            standing.update(now, &rules, health(1 + turn % 2));
            changes += usize::from(standing.weight.value != before);
        }
        assert_eq!((changes, standing.weight.value, standing.level.value), (1, 1, Level::Full));
        standing.update(now, &rules, health(2));
        now = standing.due().unwrap();
        standing.update(now, &rules, health(2));
        assert_eq!((standing.weight.value, standing.due()), (2, None));
        // What is announced again is announced with what there is.
        for well in [1, 0, 2] {
            standing.update(now, &rules, health(well));
        }
        now = standing.level.until.unwrap();
        standing.update(now, &rules, health(2));
        assert_eq!((standing.level.value, standing.weight.value), (Level::Full, 2));
    }

    /// Between too few sites and enough, too, what gets better waits.
    #[test]
    fn below_the_minimum_it_is_withdrawn_or_deprioritised() {
        let withdraw = AnnounceRules { min_sites: 2, ..AnnounceRules::default() };
        let deprioritise = AnnounceRules { below_min: BelowMin::Deprioritise, ..withdraw };
        for (rules, low) in [(withdraw, Level::Withdrawn), (deprioritise, Level::Deprioritised)] {
            let mut standing = Standing::default();
            assert_eq!(level(&mut standing, START, &rules, 2), Level::Full);
            assert_eq!(level(&mut standing, START, &rules, 1), low);
            assert_eq!(level(&mut standing, START, &rules, 2), low, "it waits");
            let until = standing.level.until.unwrap();
            assert_eq!(until, START + rules.delay);
            assert_eq!(level(&mut standing, until, &rules, 2), Level::Full);
            assert_eq!(level(&mut standing, until, &rules, 0), Level::Withdrawn);
        }
        // Drained sites, which are not well, take packets where nobody else is left.
        let last = Health { well: 0, weight: 0, is_served: true };
        assert_eq!(deprioritise.level(last), Level::Deprioritised);
        assert_eq!(withdraw.level(last), Level::Withdrawn);
    }
}
