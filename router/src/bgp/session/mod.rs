//! A session with one neighbour: the finite state machine of RFC 4271, section 8.
//!
//! ```text
//!  handle_connected, handle_closed ─▶┌─────────┐─▶ poll_action   connect, close
//!  handle_bytes ────────────────────▶│ Session │─▶ receive       routes for whoever keeps them
//!  announce, withdraw, … ───────────▶│         │─▶ transmit      bytes, until handle_sent
//!  handle_timeout ──────────────────▶└─────────┘─▶ poll_event, poll_timeout
//! ```
//!
//! It has no socket, no clock and no source of chance: `now` comes with every call, and jitter from a seed.
//! Whoever carries it reads all that can be read before [`Session::handle_timeout`], so that nobody is
//! silent who has spoken. Each call does a bounded amount of work: at most one message, or one burst of
//! bytes.
//!
//! **How it differs from the RFC.** An attempt to connect that fails leads to Active, not to Idle: a neighbour
//! that connects meanwhile is not refused. A second OPEN on a connection is an error in every state. DelayOpen
//! is not there. Both sides' connections are two [`Side`]s of one session, not two machines.
#![forbid(unsafe_code)]

mod config;
mod event;
mod life;
mod link;
mod outbox;
mod record;
mod talk;

#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

pub use config::{PrefixLimit, RemoteAs, SessionConfig};
pub use event::{Action, Cause, Event, Progress, Received, Side, State};
use link::{DYNAMIC_OPEN_HOLD, Link, OPEN_HOLD};
use outbox::Outbox;
use record::Record;
pub use record::{Counters, Messages, Said};

use super::{
    AttributeStore, Attributes, MessageError, Negotiated, Nlri, Notification, PerFamily,
    RefreshKind, RouteRefresh, codes, own_open, wire,
};
use crate::ids::Family;
use crate::random::Rng;
use crate::time::Nanos;

/// A session with one neighbour.
#[derive(Debug)]
pub struct Session {
    config: SessionConfig,
    rng: Rng,
    /// Somebody wants it.
    enabled: bool,
    /// Without any connection: Idle, Connect or Active.
    phase: State,
    incoming: Option<Link>,
    outgoing: Option<Link>,
    connect_due: Option<Nanos>,
    /// When Idle ends.
    idle_due: Option<Nanos>,
    /// Sessions that failed one after the other.
    failures: u32,
    /// The neighbour knows no capabilities.
    bare: bool,
    outbox: Outbox,
    /// No burst of announcements before this.
    burst_due: Nanos,
    warned: PerFamily<bool>,
    record: Record,
    actions: VecDeque<Action>,
    events: VecDeque<Event>,
}

/// The connection is not wanted: it is to be reset.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("a connection is not wanted now")]
pub struct Refused;

/// The session is not established, or the family is not exchanged.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("the session does not exchange routes of this family")]
pub struct NotExchanged;

impl Session {
    /// A session that nobody started yet. `seed` decides all its jitter.
    pub fn new(config: SessionConfig, seed: u64) -> Self {
        Self {
            config,
            rng: Rng::new(seed),
            enabled: false,
            phase: State::Idle,
            incoming: None,
            outgoing: None,
            connect_due: None,
            idle_due: None,
            failures: 0,
            bare: false,
            outbox: Outbox::default(),
            burst_due: Nanos::ZERO,
            warned: PerFamily::NONE,
            record: Record::default(),
            actions: VecDeque::new(),
            events: VecDeque::new(),
        }
    }

    /// Starts it (RFC 4271, events 1, 3, 4 and 5): earlier failures are forgotten.
    pub fn start(&mut self, now: Nanos) {
        self.enabled = true;
        (self.failures, self.bare) = (0, false);
        if self.state() == State::Idle {
            self.begin(now);
            self.report(State::Idle);
        }
    }

    /// Ends it until somebody starts it (events 2 and 8), and says `notification`, usually
    /// [`Notification::shutdown`], to the neighbour.
    pub fn stop(&mut self, now: Nanos, notification: &Notification) {
        self.enabled = false;
        self.end_all(now, notification, "");
        self.idle_due = None;
    }

    /// Ends it and begins again, after the usual time without any attempt.
    pub fn restart(&mut self, now: Nanos, notification: &Notification) {
        self.failures = 0;
        self.end_all(now, notification, "");
    }

    /// The connection is there (events 16 and 17).
    pub fn handle_connected(&mut self, now: Nanos, side: Side) -> Result<(), Refused> {
        let is_wanted = match side {
            Side::Incoming => self.phase != State::Idle,
            Side::Outgoing => self.phase == State::Connect,
        };
        if !is_wanted || self.link(side).is_some() {
            self.record.counters.refused += 1;
            return Err(Refused);
        }
        let before = self.state();
        if side == Side::Outgoing {
            self.phase = State::Active;
            self.connect_due = None;
        }
        let send_hold = self.config.send_hold(Duration::from_secs(self.config.hold_time_s.into()));
        let open_hold = if self.config.dynamic { DYNAMIC_OPEN_HOLD } else { OPEN_HOLD };
        let mut link = Link::new(now, self.bare, send_hold, open_hold);
        let open = own_open(&self.config, self.bare);
        if let Err(error) = link.say(now, &mut self.record, |out| wire::encode_open(&open, out)) {
            // Only with more capabilities than there are.
            debug_assert!(false, "{error}");
            return Err(Refused);
        }
        *self.link_mut(side) = Some(link);
        self.report(before);
        Ok(())
    }

    /// The connection is closed, or was never made (event 18).
    pub fn handle_closed(&mut self, now: Nanos, side: Side) {
        let before = self.state();
        let Some(link) = self.link_mut(side).take() else {
            if side == Side::Outgoing && self.phase == State::Connect {
                // The timer that made the attempt makes the next one.
                self.phase = State::Active;
                self.report(before);
            }
            return;
        };
        if link.state == State::OpenSent && self.link(side.other()).is_none() {
            self.down(Cause::Closed, false);
            if self.config.dynamic {
                self.idle(now);
            } else if self.phase == State::Active {
                self.connect_due = self.next_connect(now);
            }
        } else {
            self.lost(now, &link, Cause::Closed);
            // What is left may be a connection whose other end is gone without a word.
            if side == Side::Outgoing && self.phase == State::Active {
                self.connect_due = self.next_connect(now);
            }
        }
        self.report(before);
    }

    /// Whether the neighbour has opened a connection and said nothing for so long that it has forgotten it, as one
    /// does that was started again: another takes its place.
    pub fn is_forgotten(&self, now: Nanos, side: Side) -> bool {
        let is_old = |link: &Link| now.since(link.since) >= FORGOTTEN_AFTER;
        !self.config.dynamic
            && self.link(side).is_some_and(|link| link.state == State::OpenSent && is_old(link))
    }

    /// How many bytes of the connection it takes now.
    pub fn room(&self, side: Side) -> usize {
        self.link(side).map_or(0, Link::room)
    }

    /// Takes as many of `bytes` as it has room for; returns how many. [`Self::receive`] reads them.
    pub fn handle_bytes(&mut self, side: Side, bytes: &[u8]) -> usize {
        self.link_mut(side).as_mut().map_or(0, |link| link.take(bytes))
    }

    /// Bytes for the neighbour, with what waits to be announced. The value may change after any call that
    /// takes `&mut self`.
    pub fn transmit(&mut self, now: Nanos, side: Side) -> &[u8] {
        if self.link(side).is_some_and(|link| link.state == State::Established) {
            self.fill(now, side);
        }
        self.link(side).map_or(&[], Link::output)
    }

    /// The first `count` bytes of [`Self::transmit`] are on their way.
    pub fn handle_sent(&mut self, now: Nanos, side: Side, count: usize) {
        if let Some(link) = self.link_mut(side) {
            link.sent(now, count);
        }
    }

    /// Lets timers act that are due. Early or repeated calls do nothing.
    pub fn handle_timeout(&mut self, now: Nanos) {
        let before = self.state();
        if self.idle_due.is_some_and(|due| due <= now) {
            self.begin(now);
        }
        if self.connect_due.is_some_and(|due| due <= now) {
            self.connect(now);
        }
        for side in [Side::Incoming, Side::Outgoing] {
            self.link_timeout(now, side);
        }
        self.report(before);
    }

    /// When to call [`Self::handle_timeout`] next, and [`Self::transmit`] after it. The value may change
    /// after any call that takes `&mut self`.
    pub fn poll_timeout(&self) -> Option<Nanos> {
        let links = [&self.incoming, &self.outgoing].into_iter().flatten().filter_map(Link::due);
        let burst = (self.state() == State::Established
            && self.outbox.is_waiting()
            && !self.outbox.is_ready())
        .then_some(self.burst_due);
        links.chain(burst).chain(self.connect_due).chain(self.idle_due).min()
    }

    /// What to do next; call until `None` after every call that takes `&mut self`.
    #[must_use]
    pub fn poll_action(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    /// What happened; call until `None` after every call that takes `&mut self`.
    #[must_use]
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// Its state.
    pub fn state(&self) -> State {
        let links = [&self.incoming, &self.outgoing].into_iter().flatten().map(|link| link.state);
        links.max().unwrap_or(self.phase)
    }

    /// What it counted.
    pub fn counters(&self) -> Counters {
        self.record.counters
    }

    /// Keeps the last messages, in about so many octets; none if zero.
    pub fn keep_transcript(&mut self, max: usize) {
        self.record.keep(max);
    }

    /// The last messages in both directions, the oldest first.
    pub fn transcript(&self) -> Vec<Said> {
        self.record.transcript()
    }

    /// What is configured.
    pub fn config(&self) -> &SessionConfig {
        &self.config
    }

    /// What both sides agreed on, once routes are exchanged.
    pub fn negotiated(&self) -> Option<&Negotiated> {
        let mut links = [&self.incoming, &self.outgoing].into_iter().flatten();
        let link = links.find(|link| link.state == State::Established)?;
        link.agreed.as_ref().map(|agreed| &agreed.negotiated)
    }

    fn link(&self, side: Side) -> Option<&Link> {
        match side {
            Side::Incoming => self.incoming.as_ref(),
            Side::Outgoing => self.outgoing.as_ref(),
        }
    }

    fn link_and_record(&mut self, side: Side) -> (Option<&mut Link>, &mut Record) {
        let link = match side {
            Side::Incoming => self.incoming.as_mut(),
            Side::Outgoing => self.outgoing.as_mut(),
        };
        (link, &mut self.record)
    }

    fn link_mut(&mut self, side: Side) -> &mut Option<Link> {
        match side {
            Side::Incoming => &mut self.incoming,
            Side::Outgoing => &mut self.outgoing,
        }
    }
}

/// An OPEN follows a connection by a round trip.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(5);
