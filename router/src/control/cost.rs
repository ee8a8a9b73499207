//! Which site is cheaper, and why.
#![forbid(unsafe_code)]

use std::cmp::Ordering;
use std::time::Duration;

/// What sites are compared by.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Candidate<'a> {
    /// The site's name.
    pub name: &'a str,
    /// Operator's preference; higher is better.
    pub preference: u32,
    /// Configured cost plus quantised latency.
    pub distance: u64,
}

/// Why one site is better than another.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Rule {
    /// A higher preference.
    Preference,
    /// A smaller distance.
    Distance,
    /// Nothing: they share their tier, and flows are spread over them.
    Equal,
}

impl Rule {
    /// What is said of the loser.
    pub const fn loser_text(self) -> &'static str {
        match self {
            Self::Preference => "lower preference",
            Self::Distance => "higher cost",
            Self::Equal => "equal cost",
        }
    }
}

/// Compares two sites; `Less` is better. In this order:
///
/// 1. *Can it be reached?* Not asked here: the forwarding plane passes over members that are down,
///    so that a death needs no new ranking.
/// 2. *Operator's preference*: the higher wins.
/// 3. *Path attributes*, in BGP's order: static and probed sites have none, so they are equal.
/// 4. *Distance*: the smaller sum of configured cost and latency wins.
/// 5. *Load*: not asked here either: a site that is full accepts a smaller share of flows.
/// 6. Sites that are equal so far share a tier; their names order them for display only.
pub fn compare(a: &Candidate<'_>, b: &Candidate<'_>) -> (Ordering, Rule) {
    match b.preference.cmp(&a.preference) {
        Ordering::Equal => {}
        order => return (order, Rule::Preference),
    }
    match a.distance.cmp(&b.distance) {
        Ordering::Equal => (Ordering::Equal, Rule::Equal),
        order => (order, Rule::Distance),
    }
}

/// Sorts candidates from the best to the worst, by name where they are equal, and gives each its
/// tier: the same for equals, from 0.
pub fn rank(candidates: &[Candidate<'_>]) -> Vec<Ranked> {
    let mut order: Vec<usize> = (0..candidates.len()).collect();
    order.sort_by(|&a, &b| {
        let (a, b) = (&candidates[a], &candidates[b]);
        compare(a, b).0.then_with(|| a.name.cmp(b.name))
    });
    let mut ranked: Vec<Ranked> = Vec::with_capacity(order.len());
    for index in order {
        let (tier, rule) = match ranked.last() {
            None => (0, Rule::Equal),
            Some(better) => match compare(&candidates[better.index], &candidates[index]) {
                (Ordering::Equal, rule) => (better.tier, rule),
                (_, rule) => (better.tier.saturating_add(1), rule),
            },
        };
        ranked.push(Ranked { index, tier, rule });
    }
    ranked
}

/// A candidate's place.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Ranked {
    /// Which candidate.
    pub index: usize,
    /// 0 for the best; equals share it.
    pub tier: u8,
    /// By which rule the one before it is better.
    pub rule: Rule,
}

/// A site's distance: its configured cost and its latency, quantised with hysteresis so that noise
/// does not move flows.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Distance {
    units: u64,
}

impl Distance {
    /// Takes a smoothed round-trip time. Returns whether the distance changed: only when the time
    /// has left its present step by a quarter of a unit on either side.
    pub fn measured(&mut self, rtt: Duration, unit: Duration) -> bool {
        let unit = unit.as_nanos().max(1);
        let quarters = rtt.as_nanos() * 4 / unit;
        let (low, high) = (u128::from(self.units) * 4, u128::from(self.units) * 4 + 3);
        if quarters + 1 >= low && quarters <= high + 1 {
            return false;
        }
        self.units = u64::try_from(quarters / 4).unwrap_or(u64::MAX);
        true
    }

    /// Latency in whole units.
    pub fn units(self) -> u64 {
        self.units
    }

    /// The distance of a site with this configured cost.
    pub fn total(self, cost: u32) -> u64 {
        u64::from(cost).saturating_add(self.units)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn site(name: &str, preference: u32, distance: u64) -> Candidate<'_> {
        Candidate { name, preference, distance }
    }

    #[test]
    fn the_rules_in_their_order() {
        let sites = [
            site("par", 100, 20),
            site("fra", 100, 10),
            site("ams", 100, 10),
            site("lon", 200, 99),
            site("mad", 50, 0),
        ];
        let got: Vec<_> =
            rank(&sites).iter().map(|r| (sites[r.index].name, r.tier, r.rule)).collect();
        assert_eq!(
            got,
            [
                ("lon", 0, Rule::Equal),
                ("ams", 1, Rule::Preference),
                ("fra", 1, Rule::Equal),
                ("par", 2, Rule::Distance),
                ("mad", 3, Rule::Preference),
            ]
        );
        assert!(rank(&[]).is_empty());
    }

    #[test]
    fn latency_moves_by_whole_units_and_not_for_noise() {
        let unit = Duration::from_millis(1);
        let mut distance = Distance::default();
        for (us, changed, units) in [
            (300, false, 0),
            (999, false, 0),
            (1100, false, 0),
            (1300, true, 1),
            (990, false, 1),
            (800, false, 1),
            (700, true, 0),
            (12_400, true, 12),
            (13_100, false, 12),
            (11_900, false, 12),
        ] {
            let got = distance.measured(Duration::from_micros(us), unit);
            assert_eq!((got, distance.units()), (changed, units), "{us} us");
        }
        assert_eq!(distance.total(30), 42);
    }
}
