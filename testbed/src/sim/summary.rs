//! The output of `nearlab sim`.
#![forbid(unsafe_code)]

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::time::Duration;

use nearhop::sim::trial::{FaultKind, Invariant, NetShape, TransientLoop, TrialResult};
use serde_json::{Value, json};

/// The results of all trials.
pub(super) struct Totals {
    first: u64,
    outcomes: Vec<TrialResult>,
}

impl Totals {
    pub(super) fn of(first: u64, outcomes: Vec<TrialResult>) -> Self {
        Self { first, outcomes }
    }

    pub(super) fn ok(&self) -> bool {
        self.outcomes.iter().all(|outcome| outcome.breaches.is_empty())
    }

    /// The seeds in which an invariant was broken, with the first breach of each.
    pub(super) fn failures(&self) -> impl Iterator<Item = (u64, String)> {
        self.outcomes.iter().filter_map(|outcome| {
            let first = outcome.breaches.first()?.to_string().replace('\n', "; ");
            let more = match outcome.breaches.len() - 1 {
                0 => String::new(),
                more => format!(" (and {more} more)"),
            };
            Some((outcome.seed, first + &more))
        })
    }

    fn checked(&self, invariant: Invariant) -> u64 {
        self.sum(|outcome| outcome.checked.get(&invariant).copied().unwrap_or(0))
    }

    /// Number of seeds in which the invariant was broken.
    fn broken(&self, invariant: Invariant) -> u64 {
        let breaks =
            |outcome: &TrialResult| outcome.breaches.iter().any(|b| b.invariant == invariant);
        self.sum(|outcome| u64::from(breaks(outcome)))
    }

    fn loops(&self) -> impl Iterator<Item = &TransientLoop> {
        self.outcomes.iter().flat_map(|outcome| &outcome.loops)
    }

    fn faults(&self) -> BTreeMap<FaultKind, u64> {
        let count = |fault| self.sum(|outcome| outcome.faults.get(&fault).copied().unwrap_or(0));
        FaultKind::ALL.into_iter().map(|fault| (fault, count(fault))).collect()
    }

    fn shapes(&self) -> BTreeMap<NetShape, u64> {
        let count = |shape| self.sum(|outcome| u64::from(outcome.shape == shape));
        NetShape::ALL.into_iter().map(|shape| (shape, count(shape))).collect()
    }

    fn sum(&self, of: impl Fn(&TrialResult) -> u64) -> u64 {
        self.outcomes.iter().map(of).sum()
    }
}

/// Prints everything that happened in one trial, and the breaches.
pub(super) fn story(out: &mut impl Write, outcome: &TrialResult) -> io::Result<()> {
    let TrialResult { seed, shape, routers, sites, .. } = outcome;
    let shape = shape.label();
    writeln!(out, "seed {seed}: a {shape} of {routers} routers with {sites} sites\n")?;
    for reported in &outcome.story {
        writeln!(out, "{:>10.6}  {:<5}  {}", seconds(reported.t.0), reported.who, reported.what)?;
    }
    for one in &outcome.loops {
        let (from, lasted) = (seconds(one.from.0), ms(one.lasted()));
        writeln!(out, "{from:>10.6}  trial  a transient loop, {lasted:.1} ms")?;
    }
    for breach in &outcome.breaches {
        writeln!(out, "{breach}")?;
    }
    writeln!(out)
}

/// Prints the summary for people.
pub(super) fn table(out: &mut impl Write, totals: &Totals) -> io::Result<()> {
    let seeds = totals.outcomes.len() as u64;
    let last = totals.first.wrapping_add(seeds - 1);
    let time: Duration = totals.outcomes.iter().map(|outcome| outcome.took).sum();
    let routers = totals.sum(|outcome| outcome.routers as u64);
    let sites = totals.sum(|outcome| outcome.sites as u64);
    let packets = totals.sum(|outcome| outcome.packets);
    writeln!(
        out,
        "seeds     {} to {last}: {}",
        totals.first,
        list(totals.shapes(), NetShape::label)
    )?;
    writeln!(out, "networks  {routers} routers, {sites} sites, {packets} client packets")?;
    writeln!(out, "time      {:.1} s of simulated time", time.as_secs_f64())?;
    writeln!(out, "faults    {}", list(totals.faults(), FaultKind::label))?;
    writeln!(out)?;
    writeln!(out, "{:<36} {:>18}  broken in", "invariant", "checked")?;
    for invariant in Invariant::ALL {
        let (text, unit) = (invariant.text(), invariant.unit());
        let (checked, broken) = (totals.checked(invariant), totals.broken(invariant));
        let broken = if broken == 0 { "-".to_owned() } else { format!("{broken} seeds") };
        writeln!(out, "{text:<36} {checked:>10} {unit:<8}  {broken}")?;
    }
    let longest = totals.loops().map(TransientLoop::lasted).max().unwrap_or_default();
    let count = totals.loops().count();
    writeln!(out, "{:<36} {count:>10} loops    longest {:.1} ms", "transient loops", ms(longest))
}

/// The summary for scripts.
pub(super) fn json(totals: &Totals, replay: impl Fn(u64) -> String) -> Value {
    let invariant = |one: Invariant| {
        let (checked, broken) = (totals.checked(one), totals.broken(one));
        json!({
            "name": one.label(), "unit": one.unit(), "checked": checked, "broken_seeds": broken,
        })
    };
    let transient = |outcome: &TrialResult| {
        let (seed, shape) = (outcome.seed, outcome.shape.label());
        let one = |one: &TransientLoop| {
            let (from, lasted) = (one.from.0, one.lasted().as_nanos() as u64);
            json!({
                "seed": seed, "shape": shape, "from_ns": from, "lasted_ns": lasted,
                "returns": one.returns,
            })
        };
        outcome.loops.iter().map(one).collect::<Vec<_>>()
    };
    let failure = |outcome: &TrialResult| {
        let breach = |one: &nearhop::sim::trial::Breach| json!({ "invariant": one.invariant.label(), "what": one.what });
        json!({
            "seed": outcome.seed,
            "replay": replay(outcome.seed),
            "breaches": outcome.breaches.iter().map(breach).collect::<Vec<_>>(),
        })
    };
    let failed = totals.outcomes.iter().filter(|outcome| !outcome.breaches.is_empty());
    let named = |counts: Vec<(&'static str, u64)>| counts.into_iter().collect::<BTreeMap<_, _>>();
    json!({
        "schema": SCHEMA,
        "ok": totals.ok(),
        "start_seed": totals.first,
        "seeds": totals.outcomes.len(),
        "routers": totals.sum(|outcome| outcome.routers as u64),
        "sites": totals.sum(|outcome| outcome.sites as u64),
        "packets": totals.sum(|outcome| outcome.packets),
        "shapes": named(totals.shapes().into_iter().map(|(s, n)| (s.label(), n)).collect()),
        "faults": named(totals.faults().into_iter().map(|(f, n)| (f.label(), n)).collect()),
        "invariants": Invariant::ALL.map(invariant),
        "transient_loops": totals.outcomes.iter().flat_map(transient).collect::<Vec<_>>(),
        "failures": failed.map(failure).collect::<Vec<_>>(),
    })
}

fn list<K>(counts: BTreeMap<K, u64>, label: impl Fn(K) -> &'static str) -> String {
    let counts = counts.into_iter().filter(|(_, count)| *count > 0);
    counts.map(|(key, count)| format!("{count} {}", label(key))).collect::<Vec<_>>().join(", ")
}

fn seconds(ns: u64) -> f64 {
    Duration::from_nanos(ns).as_secs_f64()
}

fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}

/// Schema of the line that `--json` prints.
const SCHEMA: &str = "nearlab.sim.v1";
