//! Events as lines: for those who watch, and those who come later.

use std::collections::VecDeque;

use axum::body::Bytes;
use tokio::sync::broadcast;

use crate::event::{Event, EventKind, SCHEMA};
use crate::time::Nanos;

/// The last events, and whoever waits for the next.
pub(super) struct History {
    next_seq: u64,
    past: VecDeque<(u64, Bytes)>,
    /// Bytes of these.
    past_bytes: usize,
    lines: broadcast::Sender<Bytes>,
}

impl History {
    pub(super) fn new() -> Self {
        let lines = broadcast::channel(LINES_MAX).0;
        Self { next_seq: 0, past: VecDeque::new(), past_bytes: 0, lines }
    }

    /// Makes an event a line, for watchers, for those who come later, and for the log.
    pub(super) fn emit(&mut self, node: String, t: Nanos, kind: EventKind) {
        let event = Event { schema: SCHEMA.to_owned(), t_ns: t.0, seq: self.next_seq, node, kind };
        self.next_seq += 1;
        let Ok(mut line) = serde_json::to_vec(&event) else { return };
        line.push(b'\n');
        log::info!("{}", event.kind);
        let line = Bytes::from(line);
        self.past_bytes += line.len();
        self.past.push_back((event.seq, line.clone()));
        while self.past.len() > PAST_MAX || self.past_bytes > PAST_BYTES_MAX {
            let Some((_, oldest)) = self.past.pop_front() else { break };
            self.past_bytes -= oldest.len();
        }
        // Nobody watching is no error.
        let _ = self.lines.send(line);
    }

    /// The events from this number on, none if there is none, and those to come.
    pub(super) fn follow(&self, since: Option<u64>) -> (Vec<Bytes>, broadcast::Receiver<Bytes>) {
        let past = self.past.iter().filter(|(seq, _)| since.is_some_and(|since| *seq >= since));
        (past.map(|(_, line)| line.clone()).collect(), self.lines.subscribe())
    }
}

/// Lines that wait for a watcher.
const LINES_MAX: usize = 16_384;

/// Events kept for those who come later.
const PAST_MAX: usize = 16_384;

/// Bytes of events kept for those who come later.
const PAST_BYTES_MAX: usize = 8 << 20;
