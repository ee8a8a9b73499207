//! What a run leaves behind: a folder with every event, every record, a summary for scripts and a
//! page for people.
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
mod svg;
mod timeline;
mod zoom;

use crate::measure::{Kill, KillError, MeasuredKill, Summary, Trace};

pub use events::{EventLog, LAB_SCHEMA, LabEvent, LabEventKind, Line};
pub use folder::{ReportError, RunFolder};
pub use html::page;
pub use machine::Machine;

/// Everything the page tells.
#[derive(Clone, Debug)]
pub struct Run {
    /// When it began, as `2026-11-23T18:53:20Z`.
    pub started: String,
    /// What was typed.
    pub command: String,
    /// The seed that makes it the same again.
    pub seed: u64,
    /// Where it ran.
    pub machine: Machine,
    /// How it was measured, as (what, how): spacing, how links were silenced, clocks, ...
    pub method: Vec<(String, String)>,
    /// Names of the sites, in the order of their colours.
    pub sites: Vec<String>,
    /// Every flow over the whole run.
    pub traces: Vec<Trace>,
    /// Faults, heals and changes, by time.
    pub marks: Vec<Mark>,
    /// Every kill, by time.
    pub kills: Vec<ReportedKill>,
    /// What was reached.
    pub summary: Summary,
}

/// A kill with its figures, or why there are none.
#[derive(Clone, Debug)]
pub struct ReportedKill {
    /// What was done.
    pub kill: Kill,
    /// What came of it.
    pub measured: Result<MeasuredKill, KillError>,
}

/// A moment in the timeline.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Mark {
    /// When, CLOCK_MONOTONIC nanoseconds.
    pub t_ns: u64,
    /// What kind of moment.
    pub kind: MarkKind,
    /// In words.
    pub label: String,
}

/// What kind of moment.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum MarkKind {
    /// Something was broken.
    Fault,
    /// Something was mended.
    Heal,
    /// Something was changed on purpose: a reload, a drain.
    Change,
}

#[cfg(test)]
mod tests;
