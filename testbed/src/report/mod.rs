//! The results of a run: a folder with every event, every record, a summary for scripts and a page
//! for people.
//!
//! ```text
//! runs/2026-11-23-1/
//!   events.jsonl     every event of router and lab, by time
//!   records.csv.gz   every probe
//!   summary.json     nearlab.demo.v1
//!   report.html      one file, no script, nothing loaded from elsewhere
//! ```
#![forbid(unsafe_code)]

mod bars;
mod events;
mod folder;
mod html;
mod machine;
mod played;
mod svg;
mod timeline;
mod zoom;

use crate::measure::{Kill, KillError, MeasuredKill, Summary, Trace};

pub use events::{EventLog, LAB_SCHEMA, LabEvent, LabEventKind, Line};
pub use folder::{ReportError, RunFolder};
pub use html::page;
pub use machine::Machine;
pub use played::{Expected, Played, PlayedStep};

/// Everything that the page shows.
#[derive(Clone, Debug)]
pub struct Run {
    /// When it started, such as `2026-11-23T18:53:20Z`.
    pub started: String,
    /// The command line.
    pub command: String,
    /// The seed that repeats its random decisions.
    pub seed: u64,
    /// The machine it ran on.
    pub machine: Machine,
    /// How it was measured, as (what, how) pairs: spacing, method of silent faults, clocks, ...
    pub method: Vec<(String, String)>,
    /// Names of the sites, in the order of their colours.
    pub sites: Vec<String>,
    /// All flows over the whole run.
    pub traces: Vec<Trace>,
    /// Faults, heals and changes, by time.
    pub marks: Vec<Mark>,
    /// Every kill, by time.
    pub kills: Vec<ReportedKill>,
    /// The scenario that was played; `None` for the demo.
    pub played: Option<Played>,
    /// The results.
    pub summary: Summary,
}

/// A kill with its figures, or the reason why there are none.
#[derive(Clone, Debug)]
pub struct ReportedKill {
    /// The kill.
    pub kill: Kill,
    /// Its figures.
    pub measured: Result<MeasuredKill, KillError>,
}

/// A mark on the timeline.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Mark {
    /// When, CLOCK_MONOTONIC nanoseconds.
    pub t_ns: u64,
    /// Its kind.
    pub kind: MarkKind,
    /// Its text.
    pub label: String,
}

/// The kind of a mark.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum MarkKind {
    /// A fault was inflicted.
    Fault,
    /// A fault was healed.
    Heal,
    /// The router was changed on purpose: a reload, a drain.
    Change,
}

#[cfg(test)]
mod tests;
