//! Whether packets may leave by an adjacency and a path: down-reasons.
//!
//! * [`bfd`]: what the BFD sessions are asked for, and what they say.
//! * [`monitor`]: carrier and the results of checks to the bytes that workers read.
//! * [`leg`]: a leg, its checks, and what these say together.
//! * [`damping`]: how long a flapping leg waits.
//! * [`event`]: what is reported.
//! * [`proof`]: whether packets that come in by a neighbour's port reach a site.
#![forbid(unsafe_code)]

pub mod bfd;
pub mod damping;
pub mod event;
pub mod leg;
pub mod monitor;
pub mod proof;

use std::collections::BTreeMap;
use std::time::Duration;

use nearhop_fib::PathId;

use self::bfd::BfdReport;
use crate::probe::CheckStats;
use crate::time::StepTimes;

/// What the liveness thread knows.
#[derive(Clone, Debug, Default)]
pub struct LivenessReport {
    /// Probes of each leg that was asked for, in the order of its checks.
    pub checks: BTreeMap<PathId, Vec<CheckStats>>,
    /// How late the latest timer was handled, at worst, since the start.
    pub lateness_max: Duration,
    /// Probes that a device did not take.
    pub unsent: u64,
    /// BFD sessions.
    pub bfd: Vec<BfdReport>,
    /// BFD packets that these did not use, by reason.
    pub bfd_dropped: BTreeMap<&'static str, u64>,
    /// How long the steps of its thread took.
    pub steps: Vec<StepTimes>,
}
