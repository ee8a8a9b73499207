//! From numbered probes to blackouts: pure functions over records.
//!
//! Every time is CLOCK_MONOTONIC nanoseconds of one machine, so that clients, sites, router and
//! faults are compared without any correction. Terms:
//!
//! * a **gap** is the time between two consecutive arrivals of a flow in one direction: at the
//!   sites (client to server), or at the client (server to client);
//! * the **outage** of a flow and direction is the longest gap that reaches past the fault, less
//!   the sending interval: with no loss at all arrivals are one interval apart, and that is no
//!   outage. The interval is the one at which probes really left at the gap's two edges;
//! * the **resolution** is the longer of these two: what is shorter cannot be known;
//! * the **blackout** of a kill is the longest outage over the flows it hit and both directions.
//!
//! An arrival at a site is known from its echo. If the echo is lost the arrival is not known, so a
//! client-to-server outage may be stated too long, never too short.
#![forbid(unsafe_code)]

mod flow;
mod judge;
mod kill;
mod moves;
mod summary;
#[cfg(test)]
pub(crate) mod testing;
mod trace;

pub use flow::{Direction, DirectionResult, FlowResult, Outage, Window, measure_flow};
pub use judge::{Budget, Conditions, Standard, WAKE_UPS};
pub use kill::{
    Heal, HealResult, Kill, KillError, KillKind, KillResult, MeasuredKill, measure_heal,
    measure_kill,
};
pub use moves::{Cause, SiteChange, site_changes, unexplained};
pub use summary::{HealSummary, KillSummary, SUMMARY_SCHEMA, Spread, Summary, Takeover, Wanted};
pub use trace::{Arrival, Flow, Probe, Trace};

/// Nanoseconds as milliseconds, as reports print them.
pub fn ms(nanoseconds: u64) -> f64 {
    nanoseconds as f64 / 1e6
}

/// The time from `from` to `to` in milliseconds; negative if `to` comes first.
pub fn ms_between(from: u64, to: u64) -> f64 {
    if to >= from { ms(to - from) } else { -ms(from - to) }
}
