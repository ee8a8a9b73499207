//! What came of a scenario, and whether it is what was expected: pure functions over records.
#![forbid(unsafe_code)]

use std::collections::BTreeSet;
use std::time::Duration;

use nearhop::event::{Event, EventKind};
use serde::Serialize;

use super::expected::{Expectation, expectations};
use super::step::StepOutcome;
use super::{Deed, Expect, Scenario, step};
use crate::measure::{
    Cause, FlowResult, Probe, SiteChange, Trace, Window, measure_flow, ms, unexplained,
};

/// Something that was done, and when: CLOCK_MONOTONIC, before it began and after it was over. A
/// flap is many of them.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Done {
    /// Index of the step.
    pub(super) step: usize,
    pub(super) deed: Deed,
    pub(super) from_ns: u64,
    pub(super) to_ns: u64,
}

/// Everything that was recorded.
pub(super) struct Record<'a> {
    pub(super) begin_ns: u64,
    pub(super) end_ns: u64,
    pub(super) traces: &'a [Trace],
    pub(super) done: &'a [Done],
    pub(super) events: &'a [Event],
}

/// What came of a scenario: `nearlab.run.v1`.
#[derive(Clone, Debug, Serialize)]
pub struct Outcome {
    /// Always `nearlab.run.v1`.
    pub schema: &'static str,
    /// The scenario's name.
    pub scenario: String,
    /// Its seed.
    pub seed: u64,
    /// Whether every expectation held.
    pub ok: bool,
    /// Each expectation beside what was found.
    pub expectations: Vec<Expectation>,
    /// Those that did not hold.
    pub failures: Vec<Failure>,
    /// The longest outage of any flow in any direction.
    pub outage_ms: f64,
    /// Probes sent.
    pub sent: u64,
    /// Of these, never answered.
    pub lost: u64,
    /// Echoes beyond the first.
    pub duplicated: u64,
    /// Echoes that arrived after one of a later probe.
    pub reordered: u64,
    /// Changes of site.
    pub moves: u64,
    /// Of these, without a reason.
    pub unexplained_moves: u64,
    /// One for each step.
    pub steps: Vec<StepOutcome>,
}

/// An expectation that did not hold.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct Failure {
    /// Its key in `[expect]`; after the number of the step if it is a step's.
    pub expect: String,
    /// What was expected and what was found.
    pub what: String,
    /// The moment that shows it best, CLOCK_MONOTONIC nanoseconds.
    pub t_ns: u64,
}

impl Outcome {
    pub(super) fn of(scenario: &Scenario, record: &Record<'_>) -> Self {
        let flows = record.flows();
        let sum = |of: fn(&FlowResult) -> u64| flows.iter().map(of).sum();
        let steps = record.steps(scenario);
        let of_steps = step::expectations(scenario, &steps, record.begin_ns);
        let mut failures = failures(scenario, record, &flows);
        failures.extend(of_steps.iter().filter_map(step::failure));
        let mut outcome = Self {
            schema: "nearlab.run.v1",
            scenario: scenario.name.clone(),
            seed: scenario.seed,
            ok: failures.is_empty(),
            outage_ms: ms(flows.iter().map(|f| f.outage().length_ns).max().unwrap_or(0)),
            sent: sum(|flow| flow.sent),
            lost: sum(|flow| flow.lost),
            duplicated: sum(|flow| flow.duplicated),
            reordered: sum(|flow| flow.to_client.reordered),
            moves: sum(|flow| flow.changes.len() as u64),
            unexplained_moves: record.unexplained(&flows).len() as u64,
            steps,
            expectations: Vec::new(),
            failures,
        };
        outcome.expectations = expectations(&scenario.expect, &outcome);
        outcome.expectations.extend(of_steps.into_iter().map(|(expectation, _)| expectation));
        outcome
    }
}

impl Record<'_> {
    fn flows(&self) -> Vec<FlowResult> {
        let window =
            Window { start_ns: self.begin_ns, fault_ns: self.begin_ns, end_ns: self.end_ns };
        self.measured(window)
    }

    pub(super) fn measured(&self, window: Window) -> Vec<FlowResult> {
        let traces = self.traces.iter().enumerate();
        traces.map(|(index, trace)| measure_flow(index, trace, window)).collect()
    }

    fn unexplained(&self, flows: &[FlowResult]) -> Vec<SiteChange> {
        let causes = self.causes();
        flows.iter().flat_map(|flow| unexplained(&flow.changes, &causes)).cloned().collect()
    }

    /// The last probe that was answered: when it was sent, and by whom.
    fn last_answer<'t>(&self, trace: &'t Trace) -> Option<(u64, &'t str)> {
        let probes = trace.between(self.begin_ns, self.end_ns);
        let answer = |probe: &Probe| Some((probe.sent_ns, trace.site(&probe.arrival?)));
        probes.iter().rev().find_map(answer)
    }

    /// How old the last answer of a flow may be for it to be served.
    pub(super) fn patience(&self, trace: &Trace) -> u64 {
        let probes = trace.between(self.begin_ns, self.end_ns);
        let spacing = probes.windows(2).map(|pair| pair[1].sent_ns - pair[0].sent_ns).max();
        SERVED_WITHIN_NS.max(3 * spacing.unwrap_or(0))
    }

    /// For which reasons flows may have moved, from what was done alone: the router's own word is
    /// no reason. Who died is left until it is healed and for the time a router may take to notice;
    /// who was healed is entered from then on, for damping may hold it back.
    fn causes(&self) -> Vec<Cause> {
        self.done.iter().enumerate().map(|(at, done)| self.cause(at, done)).collect()
    }

    fn cause(&self, at: usize, done: &Done) -> Cause {
        let later = || self.done[at + 1..].iter();
        let until = |to: Option<&Done>| to.map_or(self.end_ns, |to| to.to_ns);
        let soon = done.to_ns + NOTICED_NS;
        let mut cause = Cause {
            from_ns: done.from_ns,
            to_ns: soon,
            why: done.deed.to_string(),
            leaves: None,
            enters: None,
        };
        match &done.deed {
            Deed::Kill { site, .. } | Deed::Flap { site, .. } => {
                let healed = |d: &&Done| matches!(&d.deed, Deed::Heal { site: s } if s == site);
                cause.leaves = Some(site.clone());
                cause.to_ns = until(later().find(healed)) + NOTICED_NS;
            }
            Deed::Heal { site } => {
                let died = |d: &&Done| matches!(&d.deed, Deed::Kill { site: s, .. } if s == site);
                cause.enters = Some(site.clone());
                cause.to_ns = until(later().find(died));
            }
            // A BGP daemon says it when it likes: the reason holds until the next step took effect.
            Deed::Drain(site) | Deed::Withdraw(site) => {
                cause.leaves = Some(site.clone());
                cause.to_ns = until(later().next()) + NOTICED_NS;
            }
            Deed::Undrain(site) | Deed::Announce(site) => {
                cause.enters = Some(site.clone());
                cause.to_ns = until(later().next()) + NOTICED_NS;
            }
            Deed::Reorder(_) | Deed::Undamp => {}
        }
        cause
    }
}

fn failures(scenario: &Scenario, record: &Record<'_>, flows: &[FlowResult]) -> Vec<Failure> {
    let expect = &scenario.expect;
    let mut found = Vec::new();
    found.extend(outage(expect, flows));
    found.extend(counts(expect, record, flows));
    found.extend(moves(expect, record, flows));
    found.extend(served(expect, record));
    found.extend(damped(expect, record));
    found
}

fn outage(expect: &Expect, flows: &[FlowResult]) -> Option<Failure> {
    let most = expect.outage_max?;
    let worst = flows.iter().map(|flow| (flow.outage(), flow.flow));
    let (outage, flow) = worst.max_by_key(|(outage, _)| outage.length_ns)?;
    (Duration::from_nanos(outage.length_ns) > most).then(|| Failure {
        expect: "outage-max".into(),
        what: format!(
            "flow {flow} had no service for {:.3} ms, expected {most:?} at most",
            ms(outage.length_ns)
        ),
        t_ns: outage.from_ns,
    })
}

fn counts(expect: &Expect, record: &Record<'_>, flows: &[FlowResult]) -> Vec<Failure> {
    let lost = record.traces.iter().flat_map(|trace| {
        trace.between(record.begin_ns, record.end_ns).iter().filter(|p| p.arrival.is_none())
    });
    let first_lost = lost.map(|probe| probe.sent_ns).min().unwrap_or(record.begin_ns);
    let total = |of: fn(&FlowResult) -> u64| flows.iter().map(of).sum::<u64>();
    let begin = record.begin_ns;
    [
        ("lost-max", expect.lost_max, total(|f| f.lost), "probes were lost", first_lost),
        (
            "reordered-max",
            expect.reordered_max,
            total(|f| f.to_client.reordered),
            "echoes came out of order",
            begin,
        ),
        (
            "duplicated-max",
            expect.duplicated_max,
            total(|f| f.duplicated),
            "echoes came twice",
            begin,
        ),
    ]
    .into_iter()
    .filter_map(|(expect, most, found, what, t_ns)| {
        let what = format!("{found} {what}, expected {} at most", most?);
        (found > most?).then(|| Failure { expect: expect.into(), what, t_ns })
    })
    .collect()
}

fn moves(expect: &Expect, record: &Record<'_>, flows: &[FlowResult]) -> Vec<Failure> {
    let all: Vec<_> = flows.iter().flat_map(|flow| flow.changes.clone()).collect();
    let rows = [
        ("moves-max", expect.moves_max, all, "moves"),
        (
            "unexplained-moves",
            Some(expect.unexplained_moves),
            record.unexplained(flows),
            "moves without a reason",
        ),
    ];
    let over = |(expect, most, mut moves, what): (&str, Option<u64>, Vec<SiteChange>, &str)| {
        moves.sort_by_key(|change| change.t_ns);
        let (most, first) = (most?, moves.first()?);
        let what = format!(
            "{} {what}, expected {most} at most; the first: flow {} from {} to {}",
            moves.len(),
            first.flow,
            first.from,
            first.to
        );
        let t_ns = first.t_ns;
        (moves.len() as u64 > most).then(|| Failure { expect: expect.to_owned(), what, t_ns })
    };
    rows.into_iter().filter_map(over).collect()
}

/// Who answers each flow at the end.
fn served(expect: &Expect, record: &Record<'_>) -> Vec<Failure> {
    let (mut silent, mut elsewhere) = (Vec::new(), Vec::new());
    let mut t_ns = [record.end_ns; 2];
    for (flow, trace) in record.traces.iter().enumerate() {
        let last = record.last_answer(trace);
        let last_ns = last.map_or(record.begin_ns, |(sent_ns, _)| sent_ns);
        match last.filter(|(sent_ns, _)| sent_ns + record.patience(trace) >= record.end_ns) {
            None => {
                silent.push(flow.to_string());
                t_ns[0] = t_ns[0].min(last_ns);
            }
            Some((_, site)) if !expect.served_by.iter().any(|wanted| wanted == site) => {
                elsewhere.push(format!("{flow} by {site}"));
                t_ns[1] = t_ns[1].min(last_ns);
            }
            Some(_) => {}
        }
    }
    let silent = (expect.every_client_served && !silent.is_empty()).then(|| Failure {
        expect: "every-client-served".into(),
        what: format!("not answered any more at the end: flow {}", silent.join(", ")),
        t_ns: t_ns[0],
    });
    let elsewhere = (!expect.served_by.is_empty() && !elsewhere.is_empty()).then(|| Failure {
        expect: "served-by".into(),
        what: format!(
            "expected {} at the end, answered is flow {}",
            expect.served_by.join(" or "),
            elsewhere.join(", ")
        ),
        t_ns: t_ns[1],
    });
    silent.into_iter().chain(elsewhere).collect()
}

fn damped(expect: &Expect, record: &Record<'_>) -> Vec<Failure> {
    let since = record.events.iter().filter(|event| event.t_ns >= record.begin_ns);
    let held: BTreeSet<_> = since
        .filter_map(|event| match &event.kind {
            EventKind::Damped { site, .. } => Some(site.as_str()),
            _ => None,
        })
        .collect();
    let missing = expect.damped.iter().filter(|site| !held.contains(site.as_str()));
    let failure = |site: &String| Failure {
        expect: "damped".into(),
        what: format!("the router did not hold {site} down for flapping"),
        t_ns: record.end_ns,
    };
    missing.map(failure).collect()
}

/// A router notices any death, and carries any change out, within this time.
const NOTICED_NS: u64 = 1_000_000_000;

/// A flow is served if a probe of this last time was answered.
const SERVED_WITHIN_NS: u64 = 250_000_000;
