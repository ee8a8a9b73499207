//! What came of each step.
#![forbid(unsafe_code)]

use std::collections::BTreeSet;

use serde::Serialize;

use super::expected::Expectation;
use super::judge::{Done, Failure, Record};
use super::{Deed, Scenario, Step};
use crate::measure::{Arrival, Probe, Trace, Window, ms, ms_between};

/// What came of one step, until the next was taken. A probe that was on its way to a site when
/// that was killed counts for the kill.
#[derive(Clone, Debug, Serialize)]
pub struct StepOutcome {
    /// When it was taken, since the beginning.
    pub at_ms: f64,
    /// What was done, in words.
    pub what: String,
    /// The longest outage that reaches past it.
    pub outage_ms: f64,
    /// Probes sent.
    pub sent: u64,
    /// Of these, never answered.
    pub lost: u64,
    /// Changes of site.
    pub moves: u64,
    /// Who answered the flows last; `nobody` among them if a flow was not served any more.
    pub served_by: Vec<String>,
    /// When the next step was taken, CLOCK_MONOTONIC nanoseconds.
    #[serde(skip)]
    pub(super) end_ns: u64,
}

impl Record<'_> {
    pub(super) fn steps(&self, scenario: &Scenario) -> Vec<StepOutcome> {
        let first = |step| self.done.iter().find(|done| done.step == step);
        let outcome = |(index, step): (usize, &Step)| {
            let done = first(index)?;
            let next = first(index + 1);
            let end_ns = next.map_or(self.end_ns, |next| next.from_ns);
            let start_ns = done.from_ns.saturating_sub(BEFORE_NS).max(self.begin_ns);
            let all = self.measured(Window { start_ns, fault_ns: done.from_ns, end_ns });
            let own: Vec<_> = (self.traces.iter())
                .flat_map(|trace| {
                    let end_ns = next.map_or(self.end_ns, |next| self.struck_from(next, trace));
                    trace.between(self.struck_from(done, trace), end_ns)
                })
                .collect();
            let moves = all.iter().flat_map(|flow| &flow.changes);
            let moves = moves.filter(|change| change.t_ns >= done.from_ns);
            Some(StepOutcome {
                at_ms: ms_between(self.begin_ns, done.from_ns),
                what: step.deed.to_string(),
                outage_ms: ms(all.iter().map(|f| f.outage().length_ns).max().unwrap_or(0)),
                sent: own.len() as u64,
                lost: own.iter().filter(|probe| probe.arrival.is_none()).count() as u64,
                moves: moves.count() as u64,
                served_by: self.served_by(done.from_ns, end_ns),
                end_ns,
            })
        };
        scenario.steps.iter().enumerate().filter_map(outcome).collect()
    }

    /// Who answered the last probe of each flow in this time.
    fn served_by(&self, from_ns: u64, end_ns: u64) -> Vec<String> {
        let last = |trace: &Trace| {
            let answer = |probe: &Probe| Some((probe.sent_ns, probe.arrival?));
            let answer = trace.between(from_ns, end_ns).iter().rev().find_map(answer);
            let answer = answer.filter(|(sent, _)| sent + self.patience(trace) >= end_ns);
            answer.map_or(NOBODY, |(_, arrival)| trace.site(&arrival)).to_owned()
        };
        let sites: BTreeSet<String> = self.traces.iter().map(last).collect();
        sites.into_iter().collect()
    }

    /// From which probe on a flow's fate is that of this step: for a death, from the first that was
    /// still on its way to the dying site or back. Those left before it, but nothing else took
    /// them: they lie in the buffers of who dies with them, longer the busier the machine is.
    /// A flow that was not served any more by then ([`Self::patience`]) has lost them before.
    fn struck_from(&self, done: &Done, trace: &Trace) -> u64 {
        let (Deed::Kill { site, .. } | Deed::Flap { site, .. }) = &done.deed else {
            return done.from_ns;
        };
        let before = trace.between(self.begin_ns, done.from_ns);
        let dying = |arrival: &Arrival| trace.site(arrival) == site;
        // A probe that lay in the router's queue meanwhile may have been answered by another.
        let served = |arrival: &Arrival| arrival.server_ns < done.from_ns || dying(arrival);
        let last = before.iter().rposition(|probe| probe.arrival.as_ref().is_some_and(served));
        let last = last.filter(|&at| before[at].arrival.as_ref().is_some_and(dying));
        let first = last.and_then(|at| before.get(at + 1)).map(|probe| probe.sent_ns);
        let first = first.filter(|sent_ns| sent_ns + self.patience(trace) >= done.from_ns);
        first.unwrap_or(done.from_ns)
    }
}

/// The expectations of every step beside what was found, and the moment that shows it.
pub(super) fn expectations(
    scenario: &Scenario,
    outcomes: &[StepOutcome],
    begin_ns: u64,
) -> Vec<(Expectation, u64)> {
    let mut all = Vec::new();
    for (number, (step, outcome)) in (1..).zip(scenario.steps.iter().zip(outcomes)) {
        let mut add = |key: &str, wanted: String, found: String, held: bool, t_ns: u64| {
            let expect = format!("step {number} {key}");
            let what = &outcome.what;
            let wanted = format!("{wanted} after {what}");
            all.push((Expectation { expect, wanted, found, held }, t_ns));
        };
        let taken_ns = begin_ns + (outcome.at_ms * 1e6) as u64;
        let wanted = &step.expect.served_by;
        if !wanted.is_empty() {
            let held = outcome.served_by.iter().all(|site| wanted.contains(site));
            let found = outcome.served_by.join(", ");
            add("served-by", wanted.join(" or "), found, held, outcome.end_ns);
        }
        for (key, limit, found) in [
            ("lost-max", step.expect.lost_max, outcome.lost),
            ("moves-max", step.expect.moves_max, outcome.moves),
        ] {
            if let Some(limit) = limit {
                let wanted = format!("{limit} at most");
                add(key, wanted, found.to_string(), found <= limit, taken_ns);
            }
        }
    }
    all
}

/// The failure that an expectation of a step is.
pub(super) fn failure((expectation, t_ns): &(Expectation, u64)) -> Option<Failure> {
    let Expectation { expect, wanted, found, held } = expectation;
    let what = format!("expected {wanted}, found {found}");
    (!held).then(|| Failure { expect: expect.clone(), what, t_ns: *t_ns })
}

const NOBODY: &str = "nobody";

/// A step's outage may have begun a little before it.
const BEFORE_NS: u64 = 100_000_000;
