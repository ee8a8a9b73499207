//! All events of a run in one file: the router's, in the format of `nearhop watch`, and the lab's.
#![forbid(unsafe_code)]

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use nearhop::event::Event;
use nearhop::ids::Family;
use serde::{Deserialize, Serialize};

use super::{Mark, MarkKind, ReportError};
use crate::measure::KillKind;

/// Schema of the lab's event lines.
pub const LAB_SCHEMA: &str = "nearlab.event.v1";

/// Something the lab did.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct LabEvent {
    /// Always [`LAB_SCHEMA`].
    pub schema: String,
    /// When it happened, CLOCK_MONOTONIC nanoseconds.
    pub t_ns: u64,
    /// What the lab did.
    #[serde(flatten)]
    pub kind: LabEventKind,
}

/// What the lab did.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum LabEventKind {
    /// A fault was inflicted.
    Fault {
        /// The kind of fault.
        how: KillKind,
        /// The site.
        site: String,
        /// The family whose flows are measured; `None` means both.
        family: Option<Family>,
    },
    /// A fault was healed.
    Heal {
        /// The kind of fault.
        how: KillKind,
        /// The site.
        site: String,
    },
    /// The router was changed: a reload, a drain.
    Change {
        /// The change.
        what: String,
    },
    /// A remark.
    Note {
        /// Its text.
        text: String,
    },
}

/// One line of the merged file.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(untagged)]
pub enum Line {
    /// A router's event.
    Router(Event),
    /// A lab's event.
    Lab(LabEvent),
}

/// Collects events; clones share one log. Each event is written to disk at once, in order of
/// arrival; [`EventLog::finish`] sorts the file by time.
#[derive(Clone)]
pub struct EventLog(Arc<Mutex<Inner>>);

struct Inner {
    path: PathBuf,
    out: BufWriter<File>,
    lines: Vec<Line>,
}

impl EventLog {
    pub(super) fn create(path: &Path) -> Result<Self, ReportError> {
        let file = File::create(path).map_err(ReportError::at(path))?;
        let inner = Inner { path: path.to_owned(), out: BufWriter::new(file), lines: Vec::new() };
        Ok(Self(Arc::new(Mutex::new(inner))))
    }

    /// Adds a router's event.
    pub fn router(&self, event: Event) -> Result<(), ReportError> {
        self.inner().add(Line::Router(event))
    }

    /// Adds an event of the lab that happened at `t_ns`, CLOCK_MONOTONIC.
    pub fn lab(&self, t_ns: u64, kind: LabEventKind) -> Result<(), ReportError> {
        self.inner().add(Line::Lab(LabEvent { schema: LAB_SCHEMA.to_owned(), t_ns, kind }))
    }

    /// All events so far, in order of arrival.
    pub fn lines(&self) -> Vec<Line> {
        self.inner().lines.clone()
    }

    /// The router's events so far that happened at `since_ns` or later.
    pub fn router_events(&self, since_ns: u64) -> Vec<Event> {
        self.inner().router_events(since_ns).cloned().collect()
    }

    /// Whether any event of the router at `since_ns` or later satisfies `fits`.
    pub fn reported(&self, since_ns: u64, fits: impl Fn(&Event) -> bool) -> bool {
        self.inner().router_events(since_ns).any(fits)
    }

    /// Faults, heals and changes, by time.
    pub fn marks(&self) -> Vec<Mark> {
        let mut marks: Vec<Mark> = self.inner().lines.iter().filter_map(Line::mark).collect();
        marks.sort_by_key(|mark| mark.t_ns);
        marks
    }

    /// Rewrites the file sorted by time, and returns its lines. Later events are appended.
    pub fn finish(&self) -> Result<Vec<Line>, ReportError> {
        let mut inner = self.inner();
        inner.sort()?;
        Ok(inner.lines.clone())
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        // No change to the log can panic half-way.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn add(&mut self, line: Line) -> Result<(), ReportError> {
        let written = write_line(&mut self.out, &line).and_then(|()| self.out.flush());
        // Kept even if the disk is full: measurements use the list.
        self.lines.push(line);
        written.map_err(ReportError::at(&self.path))
    }

    fn router_events(&self, since_ns: u64) -> impl Iterator<Item = &Event> {
        let router = self.lines.iter().filter_map(|line| match line {
            Line::Router(event) => Some(event),
            Line::Lab(_) => None,
        });
        router.filter(move |event| event.t_ns >= since_ns)
    }

    /// Replaces the file in one step, so that a reader never sees a part of it.
    fn sort(&mut self) -> Result<(), ReportError> {
        self.lines.sort_by_key(Line::t_ns);
        let sorted = self.path.with_extension("jsonl.new");
        let file = File::create(&sorted).map_err(ReportError::at(&sorted))?;
        let mut out = BufWriter::new(file);
        let written = self.lines.iter().try_for_each(|line| write_line(&mut out, line));
        written.and_then(|()| out.flush()).map_err(ReportError::at(&sorted))?;
        std::fs::rename(&sorted, &self.path).map_err(ReportError::at(&self.path))?;
        self.out = out;
        Ok(())
    }
}

impl Line {
    /// When it happened, CLOCK_MONOTONIC nanoseconds.
    pub fn t_ns(&self) -> u64 {
        match self {
            Self::Router(event) => event.t_ns,
            Self::Lab(event) => event.t_ns,
        }
    }

    fn mark(&self) -> Option<Mark> {
        let Self::Lab(event) = self else { return None };
        let (kind, label) = match &event.kind {
            LabEventKind::Fault { how, site, family } => {
                let family = family.map(|family| format!(", {}", family.label()));
                (MarkKind::Fault, format!("{how} kill of {site}{}", family.unwrap_or_default()))
            }
            LabEventKind::Heal { how, site } => {
                (MarkKind::Heal, format!("{site} healed after {how} kill"))
            }
            LabEventKind::Change { what } => (MarkKind::Change, what.clone()),
            LabEventKind::Note { .. } => return None,
        };
        Some(Mark { t_ns: event.t_ns, kind, label })
    }
}

fn write_line(out: &mut impl Write, line: &Line) -> io::Result<()> {
    serde_json::to_writer(&mut *out, line)?;
    out.write_all(b"\n")
}
