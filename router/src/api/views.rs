//! The answers of `show` and `explain`: flat objects with units in their keys.

mod announcing;
mod bfd;
mod bgp;
mod checks;
mod commands;
mod explain;
mod groups;
mod members;
mod packets;
mod paths;
mod ports;
mod router;
mod routes;
mod services;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use nearhop_fib::PathId;

use self::announcing::{blocks, page_of_advertised, playbooks};
use self::bfd::{bfd, bfd_drops};
use self::bgp::{bgp, bgp_neighbor, bgp_refusals, bgp_transcript};
use self::checks::page_of_checks;
pub use self::commands::{cleared, effected, overridden, reloaded, undamped};
pub use self::explain::explain;
use self::groups::page_of_groups;
use self::packets::{drops, verdicts};
use self::ports::{adjacencies, ports};
pub use self::router::WorkerFacts;
use self::router::{host, router, steps, workers};
use self::routes::{page_of_fib, page_of_routes};
use self::services::page_of_services;
use super::ApiError;
use super::column::Text;
use super::nouns::Show;
use super::pages::{Page, PageRequest};
use crate::bgp::session::{Counters, Said};
use crate::control::Control;
use crate::host::HostStats;
use crate::ids::NeighborId;
use crate::kernel::netns::Place;
use crate::liveness::LivenessReport;
use crate::liveness::leg::TcpCheckKey;
use crate::probe::CheckStats;
use crate::time::{Nanos, StepTimes};
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
    /// What the host thread's TCP checks of these paths have found.
    pub tcp_checks: &'a dyn Fn(&BTreeSet<PathId>) -> BTreeMap<TcpCheckKey, CheckStats>,
    /// What the BGP sessions have counted.
    pub sessions: BTreeMap<NeighborId, Counters>,
    /// Requests the last messages of a BGP neighbour. `None`: they did not come in time.
    pub transcript: &'a dyn Fn(NeighborId) -> Option<Vec<Said>>,
    /// How long the steps of the control and host threads took.
    pub steps: Vec<StepTimes>,
    /// The namespace in which each port's device was opened.
    pub opened: &'a BTreeMap<String, Place>,
    /// Requests a report from the liveness thread, with the checks of these paths. `None`: it did not answer
    /// in time.
    pub liveness: &'a dyn Fn(BTreeSet<PathId>) -> Option<LivenessReport>,
}

impl<'a> Facts<'a> {
    /// What the control plane knows alone: no thread is asked, nothing is counted.
    pub fn of_control(
        now: Nanos,
        control: &'a Control,
        opened: &'a BTreeMap<String, Place>,
    ) -> Self {
        Self {
            now,
            control,
            totals: WorkerReport::default(),
            workers: Vec::new(),
            host: HostStats::default(),
            tcp_checks: &|_| BTreeMap::new(),
            sessions: BTreeMap::new(),
            transcript: &|_| None,
            steps: Vec::new(),
            opened,
            liveness: &|_| None,
        }
    }

    fn age_ms(&self, since: Nanos) -> u64 {
        u64::try_from(self.now.since(since).as_millis()).unwrap_or(u64::MAX)
    }
}

/// Rows of a noun; of one that is sent in pages, from where the request says.
///
/// # Errors
/// What the request goes on after is no prefix, group or service, or is gone.
pub fn show(facts: &Facts<'_>, request: &PageRequest) -> Result<Page, ApiError> {
    Ok(match request.show {
        Show::Adjacencies => adjacencies(facts).into(),
        Show::Bfd => bfd(facts).into(),
        Show::BfdDrops => bfd_drops(facts).into(),
        Show::Bgp => bgp(facts).into(),
        Show::BgpAdvertised => page_of_advertised(facts, request)?.into(),
        Show::BgpNeighbor => bgp_neighbor(facts, request).into(),
        Show::BgpRefusals => bgp_refusals(facts).into(),
        Show::BgpTranscript => bgp_transcript(facts, request).into(),
        Show::Blocks => blocks(facts).into(),
        Show::Checks => page_of_checks(facts, request)?.into(),
        Show::Drops => drops(facts).into(),
        Show::Fib => page_of_fib(facts, request)?.into(),
        Show::Groups => page_of_groups(facts, request)?.into(),
        Show::Host => host(facts).into(),
        Show::Playbooks => playbooks(facts).into(),
        Show::Ports => ports(facts).into(),
        Show::Router => vec![router(facts)].into(),
        Show::Routes => page_of_routes(facts, request)?.into(),
        Show::Services => page_of_services(facts, request)?.into(),
        Show::Steps => steps(facts).into(),
        Show::Verdicts => verdicts(facts).into(),
        Show::Workers => workers(facts).into(),
    })
}

/// Text of a row that is not one of a few words.
fn owned(text: &str) -> Text {
    Text::Owned(text.to_owned())
}

/// Microseconds.
fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
pub(crate) mod tests;
