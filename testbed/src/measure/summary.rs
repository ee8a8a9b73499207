//! What a whole demo reached: the JSON contract `nearlab.demo.v1`.
#![forbid(unsafe_code)]

use std::collections::BTreeMap;

use nearhop::ids::Family;
use serde::{Deserialize, Serialize};

use super::judge::Standard;
use super::kill::{HealResult, KillKind, KillResult, names};

/// The schema name of [`Summary`].
pub const SUMMARY_SCHEMA: &str = "nearlab.demo.v1";

/// What `nearlab demo --json` prints on its last line.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct Summary {
    /// Always [`SUMMARY_SCHEMA`].
    pub schema: String,
    /// Whether everything was as it has to be, and no kind that was judged missed its budget.
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
    /// Who took over from whom, and how often; by the first time it happened.
    pub takeovers: Vec<Takeover>,
    /// Fault to event, in the repeat whose blackout is the median.
    pub detect_ms: f64,
    /// Event to store, in that repeat.
    pub publish_ms: f64,
    /// Store to the first packet on the new path, in that repeat.
    pub repair_ms: f64,
    /// What is left of that repeat's blackout ([`KillResult::rest_ms`]).
    pub rest_ms: f64,
    /// The call that did the harm, the median.
    pub call_ms: f64,
    /// How late threads woke at worst, the median.
    pub wake_ms: f64,
    /// How long the median blackout may last here.
    pub budget_ms: f64,
    /// Whether speed was judged.
    pub judged: bool,
    /// Whether the budget was met; `None` if it was not judged.
    pub met: Option<bool>,
    /// By what it was judged, or why it was not.
    pub why: String,
    /// Changes of site without a reason, all repeats.
    pub unexplained_moves: u64,
}

/// Repeats in which one site took over from another.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Takeover {
    /// Who died.
    pub from_site: String,
    /// Who took over; several names are joined by commas.
    pub to_site: String,
    /// In how many repeats.
    pub repeats: u64,
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

/// What has to have been seen at the end.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Wanted {
    /// These kinds, in both families.
    pub kinds: Vec<KillKind>,
    /// So often each.
    pub repeats: u64,
}

impl Summary {
    /// Sums up. `failures` are expectations that failed elsewhere (a kill without a figure, a
    /// reload that lost packets); those seen here (budget, loss on heal, moves, what was not seen at
    /// all) are added.
    pub fn new(
        kills: &[KillResult],
        heals: &[HealResult],
        standard: &Standard,
        wanted: &Wanted,
        mut failures: Vec<String>,
    ) -> Self {
        let kills: Vec<_> = grouped(kills, |kill| (kill.kind, kill.family))
            .map(|group| KillSummary::of(&group, standard))
            .collect();
        let heals: Vec<_> = grouped(heals, |heal| (heal.kind, heal.family))
            .map(|group| HealSummary::of(&group))
            .collect();
        failures.extend(kills.iter().flat_map(KillSummary::failures));
        failures.extend(heals.iter().flat_map(HealSummary::failures));
        failures.extend(wanted.missing(&kills));
        let ok = failures.is_empty();
        Self { schema: SUMMARY_SCHEMA.to_owned(), ok, kills, heals, failures }
    }
}

impl Wanted {
    fn missing<'a>(&'a self, kills: &'a [KillSummary]) -> impl Iterator<Item = String> + 'a {
        let both = |&kind| [Family::Ipv4, Family::Ipv6].map(|family| (kind, family));
        let all = self.kinds.iter().flat_map(both);
        all.filter_map(|(kind, family)| {
            let seen = kills.iter().find(|kill| (kill.kind, kill.family) == (kind, family));
            let count = seen.map_or(0, |kill| kill.repeats);
            (count < self.repeats).then(|| {
                let family = family.label();
                format!("{kind} kill, {family}: {count} of {} repeats were measured", self.repeats)
            })
        })
    }
}

impl KillSummary {
    fn of(repeats: &[&KillResult], standard: &Standard) -> Self {
        let sum = |of: fn(&KillResult) -> u64| repeats.iter().map(|kill| of(kill)).sum();
        let spread = |of: fn(&KillResult) -> f64| Spread::of(repeats.iter().map(|kill| of(kill)));
        let first = repeats[0];
        let verdict = standard.judge(first.kind, repeats);
        let median = median_of(repeats, |kill| kill.blackout_ms);
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
            takeovers: takeovers(repeats),
            detect_ms: median.detect_ms,
            publish_ms: median.publish_ms,
            repair_ms: median.repair_ms,
            rest_ms: median.rest_ms,
            call_ms: spread(|kill| kill.call_ms).p50,
            wake_ms: spread(|kill| kill.wake_ms).p50,
            budget_ms: verdict.budget_ms,
            judged: verdict.met.is_some(),
            met: verdict.met,
            why: verdict.why,
            unexplained_moves: sum(|kill| kill.unexplained_moves),
        }
    }

    fn failures(&self) -> Vec<String> {
        let what = format!("{} kill, {}", self.kind, self.family.label());
        let over = (self.met == Some(false))
            .then(|| format!("{what}: the blackout is over its budget: {}", self.why));
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

/// The item with the median value, the lower of the two in the middle; there is at least one.
fn median_of<'a, T>(items: &[&'a T], value: impl Fn(&T) -> f64) -> &'a T {
    let mut sorted = items.to_vec();
    sorted.sort_by(|a, b| value(a).total_cmp(&value(b)));
    sorted[sorted.len().saturating_sub(1) / 2]
}

fn takeovers(repeats: &[&KillResult]) -> Vec<Takeover> {
    let mut all: Vec<Takeover> = Vec::new();
    for kill in repeats {
        let same = |one: &&mut Takeover| {
            (&one.from_site, &one.to_site) == (&kill.from_site, &kill.to_site)
        };
        match all.iter_mut().find(same) {
            Some(one) => one.repeats += 1,
            None => all.push(Takeover {
                from_site: kill.from_site.clone(),
                to_site: kill.to_site.clone(),
                repeats: 1,
            }),
        }
    }
    all
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
