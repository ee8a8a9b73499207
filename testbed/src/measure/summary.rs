//! What a whole demo reached: the JSON contract `nearlab.demo.v1`.
#![forbid(unsafe_code)]

use std::collections::BTreeMap;

use nearhop::event::Family;
use serde::{Deserialize, Serialize};

use super::kill::{HealResult, KillKind, KillResult, names};

/// The schema name of [`Summary`].
pub const SUMMARY_SCHEMA: &str = "nearlab.demo.v1";

/// What `nearlab demo --json` prints on its last line.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct Summary {
    /// Always [`SUMMARY_SCHEMA`].
    pub schema: String,
    /// Whether every expectation held.
    pub ok: bool,
    /// One for each kind and family, kinds in the order of [`KillKind::ALL`].
    pub kills: Vec<KillSummary>,
    /// One for each kind and family.
    pub heals: Vec<HealSummary>,
    /// What was expected and did not hold, in words.
    pub failures: Vec<String>,
}

/// All repeats of one kind and family.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct KillSummary {
    /// How.
    pub kind: KillKind,
    /// Which flows.
    pub family: Family,
    /// How many kills.
    pub repeats: u64,
    /// Over the repeats.
    pub blackout_ms: Spread,
    /// The worst of the repeats.
    pub resolution_ms: f64,
    /// Probes sent round the kills, all repeats.
    pub sent: u64,
    /// Of these, never answered.
    pub lost: u64,
    /// Echoes beyond the first.
    pub duplicated: u64,
    /// Echoes that arrived after one of a later probe.
    pub reordered: u64,
    /// Who died; several names are joined by commas.
    pub from_site: String,
    /// Who took over; several names are joined by commas.
    pub to_site: String,
    /// Fault to event, the median.
    pub detect_ms: f64,
    /// Event to store, the median.
    pub publish_ms: f64,
    /// Store to the first packet on the new path, the median.
    pub repair_ms: f64,
    /// Changes of site without a reason, all repeats.
    pub unexplained_moves: u64,
}

/// All heals of one kind and family.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct HealSummary {
    /// What was healed.
    pub kind: KillKind,
    /// Which flows.
    pub family: Family,
    /// Probes never answered, all heals.
    pub lost: u64,
    /// Probes sent round the heals.
    pub sent: u64,
    /// Changes of site without a reason, all heals.
    pub unexplained_moves: u64,
}

/// Median and maximum.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Serialize)]
pub struct Spread {
    /// The median: the lower of the two in the middle when there is an even number.
    pub p50: f64,
    /// The largest.
    pub max: f64,
}

/// What was promised for one kind.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Serialize)]
pub struct Expectation {
    /// The median blackout, in milliseconds, may not be longer.
    pub p50_ms: f64,
}

/// What was promised, kind by kind.
pub type Budgets = BTreeMap<KillKind, Expectation>;

impl Summary {
    /// Sums up. `failures` are expectations that failed elsewhere (a kill without a figure, a
    /// reload that lost packets); those seen here (budget, loss on heal, moves) are added.
    pub fn new(
        kills: &[KillResult],
        heals: &[HealResult],
        budgets: &Budgets,
        mut failures: Vec<String>,
    ) -> Self {
        let kills: Vec<_> = grouped(kills, |kill| (kill.kind, kill.family))
            .map(|group| KillSummary::of(&group))
            .collect();
        let heals: Vec<_> = grouped(heals, |heal| (heal.kind, heal.family))
            .map(|group| HealSummary::of(&group))
            .collect();
        failures.extend(kills.iter().flat_map(|kill| kill.failures(budgets)));
        failures.extend(heals.iter().flat_map(HealSummary::failures));
        if kills.is_empty() {
            failures.push("nothing was killed".to_owned());
        }
        let ok = failures.is_empty();
        Self { schema: SUMMARY_SCHEMA.to_owned(), ok, kills, heals, failures }
    }
}

impl KillSummary {
    fn of(repeats: &[&KillResult]) -> Self {
        let sum = |of: fn(&KillResult) -> u64| repeats.iter().map(|kill| of(kill)).sum();
        let spread = |of: fn(&KillResult) -> f64| Spread::of(repeats.iter().map(|kill| of(kill)));
        let first = repeats[0];
        Self {
            kind: first.kind,
            family: first.family,
            repeats: repeats.len() as u64,
            blackout_ms: spread(|kill| kill.blackout_ms),
            resolution_ms: spread(|kill| kill.resolution_ms).max,
            sent: sum(|kill| kill.sent),
            lost: sum(|kill| kill.lost),
            duplicated: sum(|kill| kill.duplicated),
            reordered: sum(|kill| kill.reordered),
            from_site: names(repeats.iter().flat_map(|kill| kill.from_site.split(','))),
            to_site: names(repeats.iter().flat_map(|kill| kill.to_site.split(','))),
            detect_ms: spread(|kill| kill.detect_ms).p50,
            publish_ms: spread(|kill| kill.publish_ms).p50,
            repair_ms: spread(|kill| kill.repair_ms).p50,
            unexplained_moves: sum(|kill| kill.unexplained_moves),
        }
    }

    fn failures(&self, budgets: &Budgets) -> Vec<String> {
        let what = format!("{} kill, {}", self.kind, self.family.label());
        let budget = budgets.get(&self.kind).map(|budget| budget.p50_ms);
        let p50 = self.blackout_ms.p50;
        let over = budget.filter(|budget| p50 > *budget).map(|budget| {
            format!("{what}: blackout p50 {p50:.3} ms is over the budget of {budget:.3} ms")
        });
        let moved = (self.unexplained_moves > 0)
            .then(|| format!("{what}: {} flows moved without a reason", self.unexplained_moves));
        over.into_iter().chain(moved).collect()
    }
}

impl HealSummary {
    fn of(repeats: &[&HealResult]) -> Self {
        Self {
            kind: repeats[0].kind,
            family: repeats[0].family,
            lost: repeats.iter().map(|heal| heal.lost).sum(),
            sent: repeats.iter().map(|heal| heal.sent).sum(),
            unexplained_moves: repeats.iter().map(|heal| heal.unexplained_moves).sum(),
        }
    }

    fn failures(&self) -> Vec<String> {
        let what = format!("heal after {} kill, {}", self.kind, self.family.label());
        let lost = (self.lost > 0).then(|| {
            format!("{what}: {} of {} probes were lost, expected 0", self.lost, self.sent)
        });
        let moved = (self.unexplained_moves > 0)
            .then(|| format!("{what}: {} flows moved without a reason", self.unexplained_moves));
        lost.into_iter().chain(moved).collect()
    }
}

impl Spread {
    /// Of any number of values; zeros for none.
    pub fn of(values: impl Iterator<Item = f64>) -> Self {
        let mut values: Vec<f64> = values.collect();
        values.sort_by(f64::total_cmp);
        let median = values.get(values.len().saturating_sub(1) / 2);
        Self { p50: median.copied().unwrap_or(0.0), max: values.last().copied().unwrap_or(0.0) }
    }
}

/// Items with the same key together, by rising key; within a group in the order given.
fn grouped<T, K: Ord>(items: &[T], key: impl Fn(&T) -> K) -> impl Iterator<Item = Vec<&T>> {
    let mut groups: BTreeMap<K, Vec<&T>> = BTreeMap::new();
    for item in items {
        groups.entry(key(item)).or_default().push(item);
    }
    groups.into_values()
}

#[cfg(test)]
mod tests;
