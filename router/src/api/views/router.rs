//! Rows about the router and its threads.

use serde_json::{Value, json};

use super::Facts;
use crate::event::SlowStep;
use crate::worker::Polling;

/// The router itself, and the thread that decides what is alive.
pub(super) fn router(facts: &Facts<'_>) -> Value {
    let config = &facts.control.config();
    let liveness = (facts.liveness)();
    let late = liveness.as_ref().map(|report| report.lateness_max.as_micros());
    json!({
        "router": config.router.name,
        "id": config.router.id,
        "workers": facts.workers.len(),
        "ports": config.ports.len(),
        "services": config.services.len(),
        "liveness_late_us": late.map(|late| u64::try_from(late).unwrap_or(u64::MAX)),
        "probes_unsent": liveness.map(|report| report.unsent),
    })
}

/// What became of the packets for the router's own addresses.
pub(super) fn host(facts: &Facts<'_>) -> Vec<Value> {
    let row =
        |(counter, packets, text)| json!({ "counter": counter, "packets": packets, "text": text });
    facts.host.rows().into_iter().map(row).collect()
}

/// Steps of threads that took 10 ms or longer: somebody waited for them.
pub(super) fn steps(facts: &Facts<'_>) -> Vec<Value> {
    let liveness = (facts.liveness)().map(|report| report.slow_steps).unwrap_or_default();
    let row = |slow: &SlowStep| {
        let longest = u64::try_from(slow.longest.as_micros()).unwrap_or(u64::MAX);
        let (thread, step, count) = (slow.thread, slow.step, slow.count);
        json!({ "thread": thread, "step": step, "count": count, "longest_us": longest })
    };
    liveness.iter().chain(&facts.slow_steps).map(row).collect()
}

/// How one worker waits and looks up.
pub struct WorkerFacts {
    /// How it waits for packets.
    pub polling: Polling,
    /// Name of the code that looks up IPv4, and of that for IPv6.
    pub lookup_codes: [&'static str; 2],
}

/// How each worker waits for packets and looks up.
pub(super) fn workers(facts: &Facts<'_>) -> Vec<Value> {
    let busy_poll = facts.control.config().router.busy_poll;
    let each = facts.workers.iter().enumerate();
    each.map(|(worker, WorkerFacts { polling, lookup_codes: [v4, v6] })| {
        json!({
            "worker": worker,
            "busy_poll_us": busy_poll.as_micros() as u64,
            "sleeps": polling.sleeps,
            "found_awake": polling.found,
            "busy_ms": polling.busy_ns / 1_000_000,
            "lookups_v4_by": v4,
            "lookups_v6_by": v6,
        })
    })
    .collect()
}
