//! The answers of `show` and `explain`: flat objects with units in their keys.

mod checks;
mod commands;
mod explain;
mod groups;
mod members;
mod packets;
mod ports;
mod router;
mod routes;
mod services;

use std::collections::BTreeMap;

use serde_json::{Value, json};

use self::checks::{KnownChecks, check_rows};
pub use self::commands::{drained, reloaded, undamped};
pub use self::explain::explain;
use self::groups::page_of_groups;
use self::packets::{drops, verdicts};
use self::ports::{adjacencies, ports};
pub use self::router::WorkerFacts;
use self::router::{host, router, steps, workers};
use self::routes::page_of_prefixes;
use self::services::{page_of_services, service_rows};
use super::ApiError;
use super::pages::{Page, PageRequest};
use crate::control::Control;
use crate::event::SlowStep;
use crate::host::HostStats;
use crate::kernel::netns::Place;
use crate::liveness::LivenessReport;
use crate::liveness::leg::TcpCheckKey;
use crate::probe::CheckStats;
use crate::time::Nanos;
use crate::worker::WorkerReport;

/// The state that answers are built from.
pub struct Facts<'a> {
    /// When they were looked at.
    pub now: Nanos,
    /// Services, legs, routes, groups.
    pub control: &'a Control,
    /// The sum of the counters of all workers and of the host stack.
    pub totals: WorkerReport,
    /// Workers by number.
    pub workers: Vec<WorkerFacts>,
    /// Counters of the host stack.
    pub host: HostStats,
    /// What the host thread's TCP checks have found.
    pub tcp_checks: Vec<(TcpCheckKey, CheckStats)>,
    /// Steps of the control and host threads that took too long.
    pub slow_steps: Vec<SlowStep>,
    /// The namespace in which each port's device was opened.
    pub opened: &'a BTreeMap<String, Place>,
    /// Requests a report from the liveness thread.
    pub liveness: &'a dyn Fn() -> Option<LivenessReport>,
}

impl Facts<'_> {
    fn age_ms(&self, since: Nanos) -> u64 {
        u64::try_from(self.now.since(since).as_millis()).unwrap_or(u64::MAX)
    }
}

/// The answer to `show NOUN`.
pub fn show(facts: &Facts<'_>, noun: &str) -> Result<Value, ApiError> {
    let items = match noun {
        "adjacencies" => adjacencies(facts),
        "drops" => drops(facts),
        "host" => host(facts),
        "ports" => ports(facts),
        "router" => vec![router(facts)],
        "steps" => steps(facts),
        "verdicts" => verdicts(facts),
        "workers" => workers(facts),
        _ => {
            return Err(ApiError::not_found(format!("no such noun: {noun:?}")).with_help(
                "router, services, fib, routes, groups, adjacencies, ports, checks, drops, verdicts, \
                 workers, host, steps",
            ));
        }
    };
    Ok(json!({ "schema": format!("nearhop.{noun}.v1"), "items": items }))
}

/// Rows of a paged noun, from where the request says.
///
/// # Errors
/// What the request goes on after is no prefix, group or service, or is gone.
pub fn page(facts: &Facts<'_>, request: &PageRequest) -> Result<Page, ApiError> {
    let after = request.after.as_deref();
    Ok(match request.noun {
        "services" => page_of_services(facts, after, request.count, service_rows)?,
        "checks" => {
            let probes = (facts.liveness)().map(|report| report.checks).unwrap_or_default();
            let tcp = facts.tcp_checks.iter().copied().collect();
            let known = KnownChecks { probes, tcp };
            page_of_services(facts, after, request.count, |facts, service, items| {
                check_rows(facts, &known, service, items);
            })?
        }
        "groups" => page_of_groups(facts, after, request.count)?,
        _ => page_of_prefixes(facts, request)?,
    })
}

#[cfg(test)]
pub(crate) mod tests;
