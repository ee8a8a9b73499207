//! Rows about the router and its threads.

use std::collections::BTreeSet;

use super::{Facts, micros, owned};
use crate::api::column::Text;
use crate::api::rows::{HostRow, RouterRow, StepRow, WorkerRow};
use crate::control::{Leave, LeaveCause};
use crate::time::StepTimes;
use crate::worker::Polling;

/// How one worker waits and looks up.
pub struct WorkerFacts {
    /// How it waits for packets.
    pub polling: Polling,
    /// Name of the code that looks up IPv4, and of that for IPv6.
    pub lookup_codes: [&'static str; 2],
}

/// The router itself, and the thread that decides what is alive.
pub(super) fn router(facts: &Facts<'_>) -> RouterRow {
    let config = &facts.control.config();
    let liveness = (facts.liveness)(BTreeSet::new());
    RouterRow {
        router: owned(&config.router.name),
        id: config.router.id.map(|id| id.to_string().into()),
        workers: facts.workers.len() as u64,
        ports: config.ports.len() as u64,
        services: config.services.len() as u64,
        bgp: config.bgp.as_ref().map(|_| leaving(facts.control.leaves()).into()),
        liveness_late_us: liveness.as_ref().map(|report| micros(report.lateness_max)),
        probes_unsent: liveness.map(|report| report.unsent),
    }
}

const fn leaving(leave: Leave) -> &'static str {
    match leave {
        Leave::No => "announcing",
        Leave::Warned { why: LeaveCause::Drained, .. } => "draining",
        Leave::Gone(LeaveCause::Drained) => "drained",
        Leave::Warned { why: LeaveCause::Exit, .. } | Leave::Gone(LeaveCause::Exit) => "ending",
    }
}

/// What became of the packets for the router's own addresses.
pub(super) fn host(facts: &Facts<'_>) -> Vec<HostRow> {
    let row = |(counter, packets, text): (&'static str, u64, &'static str)| HostRow {
        counter: counter.into(),
        packets,
        text: text.into(),
    };
    facts.host.rows().into_iter().map(row).collect()
}

/// How long the steps of threads took at worst: whoever wants something of a thread waits for one of them.
pub(super) fn steps(facts: &Facts<'_>) -> Vec<StepRow> {
    let liveness = (facts.liveness)(BTreeSet::new());
    let liveness = liveness.map(|report| report.steps).unwrap_or_default();
    let row = |times: &StepTimes| StepRow {
        thread: times.thread.into(),
        step: times.step.into(),
        count: times.slow,
        longest_us: micros(times.longest),
    };
    liveness.iter().chain(&facts.steps).map(row).collect()
}

/// How each worker waits for packets and looks up.
pub(super) fn workers(facts: &Facts<'_>) -> Vec<WorkerRow> {
    let busy_poll_us = micros(facts.control.config().router.busy_poll);
    let each = facts.workers.iter().enumerate();
    each.map(|(worker, WorkerFacts { polling, lookup_codes: [v4, v6] })| WorkerRow {
        worker: worker as u64,
        busy_poll_us,
        sleeps: polling.sleeps,
        found_awake: polling.found,
        busy_ms: polling.busy_ns / 1_000_000,
        lookups_v4_by: Text::Borrowed(v4),
        lookups_v6_by: Text::Borrowed(v6),
    })
    .collect()
}
