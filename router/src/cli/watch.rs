//! `nearhop watch`: a running router's events, as lines for people or as JSON.
#![forbid(unsafe_code)]
#![allow(clippy::disallowed_methods, reason = "a command, which shows the time of day")]

mod since;

use std::io::{self, IsTerminal as _, Write};
use std::ops::ControlFlow;
use std::process::ExitCode;
use std::time::{SystemTime, UNIX_EPOCH};

use serde::Deserialize;
use tokio::io::Interest;
use tokio::net::unix::pipe::Sender;

use super::args::WatchArgs;
use super::client::connect;
use super::output::{Failure, ROUTER_ENDED, complain};
use crate::client::Followed;
use crate::event::Event;
use crate::printable;
use crate::time::Nanos;
use crate::utc::Utc;

pub(super) use self::since::Since;

pub(super) fn run(args: &WatchArgs) -> Result<ExitCode, Failure> {
    let stdout = io::stdout();
    let is_json = args.json || !stdout.is_terminal();
    let client = connect(&args.socket)?;
    let filter = Filter::new(args);
    let path = filter.from.map_or("/v1/watch".to_owned(), |from| {
        let seq = if let From::Seq(seq) = from { seq } else { 0 };
        format!("/v1/watch?since={seq}")
    });
    let mut events = Events::new(stdout.lock(), filter, is_json);
    let mut failed = None;
    let followed = client.follow(&path, closed_stdout(), |chunk| match events.take(chunk) {
        Ok(()) => ControlFlow::Continue(()),
        Err(error) => {
            failed = Some(error);
            ControlFlow::Break(())
        }
    })?;
    match (failed, followed) {
        (Some(error), _) => Err(error.into()),
        (None, Followed::Stopped) => Err(Failure::Closed),
        (None, Followed::Ended) => {
            complain("the router has ended\n");
            Ok(ExitCode::from(ROUTER_ENDED))
        }
    }
}

/// Which events are shown.
struct Filter {
    from: Option<From>,
    /// All kinds, if empty.
    kinds: Vec<String>,
}

/// The first event that is shown.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum From {
    Seq(u64),
    /// CLOCK_MONOTONIC, nanoseconds.
    Time(u64),
}

impl Filter {
    fn new(args: &WatchArgs) -> Self {
        let now = Nanos::now();
        let from = args.since.map(|since| match since {
            Since::Seq(seq) => From::Seq(seq),
            Since::Ago(span) => From::Time((now - span).0),
            Since::Unix(seconds) => From::Time((now - Wall::now().since(seconds)).0),
        });
        Self { from, kinds: args.kind.clone() }
    }

    fn passes(&self, stamp: &Stamp) -> bool {
        let is_late_enough = match self.from {
            Some(From::Seq(seq)) => stamp.seq.is_none_or(|at| at >= seq),
            Some(From::Time(t_ns)) => stamp.t_ns.is_none_or(|at| at >= t_ns),
            None => true,
        };
        let is_of = |kind: &String| stamp.kind.as_ref() == Some(kind);
        is_late_enough && (self.kinds.is_empty() || self.kinds.iter().any(is_of))
    }

    /// Whether events before this one, the first that the router has, are wanted and forgotten.
    fn lacks_before(&self, first: &Stamp) -> bool {
        match (self.from, first) {
            (Some(From::Seq(seq)), Stamp { seq: Some(at), .. }) => *at > seq,
            (Some(From::Time(t_ns)), Stamp { seq: Some(1..), t_ns: Some(at), .. }) => *at > t_ns,
            _ => false,
        }
    }
}

/// What of a line decides whether it is shown. A router of another version may lack any of it.
#[derive(Default, Deserialize)]
struct Stamp {
    seq: Option<u64>,
    t_ns: Option<u64>,
    kind: Option<String>,
}

/// Writes events as they come.
struct Events<W> {
    out: W,
    filter: Filter,
    is_json: bool,
    /// The beginning of a line.
    pending: Vec<u8>,
    /// The `seq` of the latest event.
    last: Option<u64>,
    /// The day of the latest line for people.
    date: String,
}

impl<W: Write> Events<W> {
    fn new(out: W, filter: Filter, is_json: bool) -> Self {
        Self { out, filter, is_json, pending: Vec::new(), last: None, date: String::new() }
    }

    fn take(&mut self, chunk: &[u8]) -> io::Result<()> {
        self.pending.extend_from_slice(chunk);
        let Some(end) = self.pending.iter().rposition(|&byte| byte == b'\n') else {
            return Ok(());
        };
        let rest = self.pending.split_off(end + 1);
        let whole = std::mem::replace(&mut self.pending, rest);
        for line in String::from_utf8_lossy(&whole).lines() {
            self.line(line)?;
        }
        self.out.flush()
    }

    fn line(&mut self, line: &str) -> io::Result<()> {
        let stamp: Stamp = serde_json::from_str(line).unwrap_or_default();
        if self.last.is_none() && self.filter.lacks_before(&stamp) {
            let from = stamp.seq.unwrap_or_default();
            complain(&format!(
                "the router remembers events from seq {from} on, and no earlier ones\n"
            ));
        }
        let lost = match (self.last, stamp.seq) {
            (Some(last), Some(seq)) => seq.saturating_sub(last + 1),
            _ => 0,
        };
        self.last = stamp.seq.or(self.last);
        if lost > 0 && !self.is_json {
            writeln!(self.out, "… {lost} events are lost: they came faster than they were read")?;
        }
        if !self.filter.passes(&stamp) {
            return Ok(());
        }
        match serde_json::from_str::<Event>(line) {
            Ok(event) if !self.is_json => self.text(&event),
            // Of a kind that only a newer router knows.
            _ => writeln!(self.out, "{}", printable::json(line)),
        }
    }

    fn text(&mut self, event: &Event) -> io::Result<()> {
        let at = Wall::now().of(Nanos(event.t_ns));
        let time = Utc::from_unix(at.seconds).rfc3339();
        let (date, time) = time.trim_end_matches('Z').split_once('T').unwrap_or_default();
        if self.date != date {
            writeln!(self.out, "{date} (UTC)")?;
            date.clone_into(&mut self.date);
        }
        let kind = serde_json::to_value(&event.kind).unwrap_or_default();
        let kind = kind["kind"].as_str().unwrap_or_default();
        let what = event.kind.to_string();
        writeln!(self.out, "{time}.{:03}  {kind:KIND$}  {}", at.millis, printable::line(&what))
    }
}

/// Both clocks at one moment.
#[derive(Clone, Copy)]
struct Wall {
    monotonic: Nanos,
    /// Nanoseconds since 1970-01-01.
    unix_ns: u64,
}

/// A time of day.
#[derive(Debug, Eq, PartialEq)]
struct Moment {
    /// Since 1970-01-01.
    seconds: u64,
    millis: u64,
}

impl Wall {
    fn now() -> Self {
        let unix = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let unix_ns = u64::try_from(unix.as_nanos()).unwrap_or(u64::MAX);
        Self { monotonic: Nanos::now(), unix_ns }
    }

    /// When it was, or will be, `then`.
    fn of(self, then: Nanos) -> Moment {
        let later = then.0.saturating_sub(self.monotonic.0);
        let unix_ns = self.unix_ns + later - self.monotonic.0.saturating_sub(then.0);
        Moment { seconds: unix_ns / SECOND, millis: unix_ns % SECOND / 1_000_000 }
    }

    /// How long ago it was so many seconds after 1970-01-01; zero if it is not that late.
    fn since(self, seconds: u64) -> std::time::Duration {
        Nanos(self.unix_ns).since(Nanos(seconds.saturating_mul(SECOND)))
    }
}

/// Waits until the reader of standard output closes it; for ever if that cannot be detected, as for
/// a file.
async fn closed_stdout() {
    let stdout = rustix::io::dup(io::stdout()).ok();
    // Unchecked, because it is only polled: non-blocking mode would affect other holders of the
    // file.
    let watched = stdout.and_then(|fd| Sender::from_owned_fd_unchecked(fd).ok());
    match watched {
        Some(pipe) => drop(pipe.ready(Interest::ERROR).await),
        None => std::future::pending().await,
    }
}

const SECOND: u64 = 1_000_000_000;

/// The width of the longest kind.
const KIND: usize = 14;

#[cfg(test)]
mod tests;
