//! What came of each step.
#![forbid(unsafe_code)]

use serde::Serialize;

use super::judge::{Done, Record};
use super::{Deed, Scenario};
use crate::measure::{Arrival, Trace, Window, ms, ms_between};

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
}

impl Record<'_> {
    pub(super) fn steps(&self, scenario: &Scenario) -> Vec<StepOutcome> {
        let first = |step| self.done.iter().find(|done| done.step == step);
        let outcome = |(index, step): (usize, &super::Step)| {
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
            })
        };
        scenario.steps.iter().enumerate().filter_map(outcome).collect()
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

/// A step's outage may have begun a little before it.
const BEFORE_NS: u64 = 100_000_000;
