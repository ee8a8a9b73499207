//! One session in asynchronous mode (RFC 5880, section 6): no sockets, no clock.
//!
//! ```text
//!                          +--+
//!                          |  | UP, ADMIN DOWN, timer
//!                          |  V
//!                DOWN    +------+   INIT
//!          +------------ |      | -----------+
//!          |             | DOWN |            |
//!          |  +--------> |      | <-------+  |
//!          |  |          +------+         |  |
//!          |  | ADMIN DOWN,    ADMIN DOWN,|  |
//!          |  | timer        DOWN, timer  |  |
//!          V  |                           |  V
//!        +------+                      +------+
//!   +----|      |                      |      |----+
//!   |DOWN| INIT | -------------------> |  UP  |    | INIT, UP
//!   +--->|      |       INIT, UP       |      |<---+
//!        +------+                      +------+
//! ```
//! Arrows bear what the neighbour says of itself (section 6.2). Demand mode and echo are not used; a
//! neighbour may use demand mode.
#![forbid(unsafe_code)]

use std::collections::VecDeque;
use std::time::Duration;

use super::auth::{Authentication, NotAuthentic, SECTION_LEN, Sequences};
use super::packet::{Control, Diagnostic, Received, State};
use super::timing::{Intervals, Timing};
use crate::random::Rng;
use crate::time::Nanos;

/// What a session is configured with.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct SessionConfig {
    /// How often it sends and wants to receive.
    pub intervals: Intervals,
    /// So many packets that the neighbour misses in a row are a failure; at least 1.
    pub multiplier: u8,
    /// Sends nothing before it has heard the neighbour.
    pub passive: bool,
    /// How packets are authenticated, if they are.
    pub auth: Option<Authentication>,
}

/// One end of a session.
#[derive(Debug)]
pub struct Session {
    config: SessionConfig,
    state: State,
    diagnostic: Diagnostic,
    discriminator: u32,
    remote: Remote,
    timing: Timing,
    sequences: Sequences,
    /// When a valid packet came last.
    heard: Option<Nanos>,
    /// When to send next; `None`: not before something is heard.
    next_tx: Option<Nanos>,
    /// A packet with `poll` came.
    owes_final: bool,
    events: VecDeque<Event>,
    rng: Rng,
}

/// What the neighbour said last (RFC 5880, section 6.8.1).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Remote {
    /// Its number for the session; 0 while it is not known.
    pub discriminator: u32,
    /// Its state.
    pub state: State,
    /// Why its session left Up last.
    pub diagnostic: Diagnostic,
    /// Its multiplier.
    pub multiplier: u8,
    /// The least interval in which it wants to send, in microseconds.
    pub desired_min_tx_us: u32,
    /// The least interval in which it can receive, in microseconds.
    pub required_min_rx_us: u32,
    /// It wants packets only when it polls, while the session is up.
    pub demand: bool,
}

/// Something that happened.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Event {
    /// The session changed its state.
    State {
        /// When.
        at: Nanos,
        /// Before.
        from: State,
        /// Now.
        to: State,
        /// Why.
        why: Why,
    },
    /// The session sends and asks for packets in other intervals than configured, or again in these: packets
    /// went out late, or no more.
    Pace {
        /// When.
        at: Nanos,
        /// So many times slower than configured; 1 is as configured.
        factor: u32,
        /// How late the packet was that showed it; zero if none was for long.
        late: Duration,
    },
}

/// Why a session changed its state.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Why {
    /// An operator wants it.
    AdminDown,
    /// Nothing was heard for so long.
    Expired,
    /// A packet of the neighbour.
    Heard,
    /// An operator of the neighbour wants it: no failure (RFC 5882, section 3.2).
    NeighborAdminDown,
    /// The neighbour's end is down, for this reason.
    NeighborDown(Diagnostic),
    /// The carrier is lost.
    PathDown,
}

/// Why a packet is not used, besides what is malformed.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Discarded {
    /// It is for another session.
    Discriminator,
    /// It is not authentic.
    Auth(NotAuthentic),
    /// An operator wants the session down.
    AdminDown,
}

impl Default for Remote {
    fn default() -> Self {
        Self {
            discriminator: 0,
            state: State::Down,
            diagnostic: Diagnostic::None,
            multiplier: 0,
            desired_min_tx_us: 0,
            required_min_rx_us: 1,
            demand: false,
        }
    }
}

impl Session {
    /// A session that is down. `discriminator` is its number, not 0 and unique on this router; `seed` decides
    /// its jitter and its first sequence number.
    pub fn new(now: Nanos, config: SessionConfig, discriminator: u32, seed: u64) -> Self {
        let mut rng = Rng::new(seed);
        let first = rng.next_u64() as u32;
        Self {
            timing: Timing::new(config.intervals),
            next_tx: (!config.passive).then_some(now),
            config,
            state: State::Down,
            diagnostic: Diagnostic::None,
            discriminator,
            remote: Remote::default(),
            sequences: Sequences::new(first),
            heard: None,
            owes_final: false,
            events: VecDeque::new(),
            rng,
        }
    }

    /// A packet that is for this session, from its neighbour (RFC 5880, section 6.8.6).
    ///
    /// # Errors
    /// Why it is not used.
    pub fn handle_packet(&mut self, now: Nanos, packet: &Received<'_>) -> Result<(), Discarded> {
        let control = &packet.control;
        if control.your_discriminator != 0 && control.your_discriminator != self.discriminator {
            return Err(Discarded::Discriminator);
        }
        self.sequences
            .accept(self.config.auth.as_ref(), packet, self.config.multiplier)
            .map_err(Discarded::Auth)?;
        let before = self.interval();
        self.remote = Remote {
            discriminator: control.my_discriminator,
            state: control.state,
            diagnostic: control.diagnostic,
            multiplier: control.multiplier,
            desired_min_tx_us: control.desired_min_tx_us,
            required_min_rx_us: control.required_min_rx_us,
            demand: control.demand,
        };
        if control.is_final {
            self.timing.handle_final();
        }
        if self.state == State::AdminDown {
            return Err(Discarded::AdminDown);
        }
        self.heard = Some(now);
        self.owes_final |= control.poll;
        if let Some((to, why)) = self.transition(control) {
            self.change(now, to, why);
        }
        self.hasten(now, before);
        Ok(())
    }

    /// Where the neighbour's packet leads to.
    fn transition(&self, packet: &Control) -> Option<(State, Why)> {
        let lost = Why::NeighborDown(packet.diagnostic);
        match (self.state, packet.state) {
            (State::Init | State::Up, State::AdminDown) => {
                Some((State::Down, Why::NeighborAdminDown))
            }
            (State::Down, State::Down) => Some((State::Init, Why::Heard)),
            (State::Down, State::Init) | (State::Init, State::Init | State::Up) => {
                Some((State::Up, Why::Heard))
            }
            (State::Up, State::Down) => Some((State::Down, lost)),
            _ => None,
        }
    }

    /// The clock moved. Every packet that came by now has been handed in before, or the session is not asked
    /// yet.
    pub fn handle_timeout(&mut self, now: Nanos) {
        let Some(heard) = self.heard else { return };
        let silence = now.since(heard);
        let detection = self.detection_time();
        if silence < detection {
            return;
        }
        if self.config.auth.is_some() && silence >= detection * 2 {
            self.sequences.forget();
        }
        if self.remote.discriminator != 0 {
            let min_rx = self.remote.required_min_rx_us.max(1);
            self.remote = Remote { discriminator: 0, required_min_rx_us: min_rx, ..self.remote };
        }
        match self.state {
            State::Init | State::Up => self.change(now, State::Down, Why::Expired),
            State::Down | State::AdminDown => {}
        }
        let is_over = self.config.auth.is_none() || silence >= detection * 2;
        if is_over {
            self.heard = None;
        }
    }

    /// When to call [`Self::handle_timeout`] or [`Self::poll_transmit`] next.
    pub fn poll_timeout(&self) -> Option<Nanos> {
        let send = if self.owes_final { Some(Nanos::ZERO) } else { self.transmit_due() };
        [send, self.detection_due()].into_iter().flatten().min()
    }

    /// When the neighbour's silence is a failure.
    pub fn detection_due(&self) -> Option<Nanos> {
        let is_first = self.remote.discriminator != 0 || self.state != State::Down;
        let times = if is_first { 1 } else { 2 };
        self.heard.map(|heard| heard + self.detection_time() * times)
    }

    /// Writes the packet that is due into `out`; `false` if none is.
    pub fn poll_transmit(&mut self, now: Nanos, out: &mut Vec<u8>) -> bool {
        if std::mem::take(&mut self.owes_final) {
            self.write(true, out);
            return true;
        }
        let Some(due) = self.transmit_due().filter(|due| *due <= now) else { return false };
        let interval = self.interval();
        let late = now.since(due);
        if self.state == State::Up
            && let Some(factor) = self.timing.note_sent(now, late, interval, self.config.multiplier)
        {
            self.events.push_back(Event::Pace { at: now, factor, late });
        }
        self.write(false, out);
        self.next_tx = Some(self.next_after(now, self.interval()));
        true
    }

    /// Takes the oldest event.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// An operator wants the session down, or up again. It goes on saying so.
    pub fn set_admin_down(&mut self, now: Nanos, is_down: bool) {
        match (is_down, self.state) {
            (true, State::AdminDown) => {}
            (true, _) => self.change(now, State::AdminDown, Why::AdminDown),
            (false, State::AdminDown) => self.change(now, State::Down, Why::AdminDown),
            (false, _) => {}
        }
    }

    /// The carrier of the port is lost: no time has to pass.
    pub fn handle_path_down(&mut self, now: Nanos) {
        if matches!(self.state, State::Init | State::Up) {
            self.change(now, State::Down, Why::PathDown);
        }
    }

    /// Other intervals, another multiplier: the neighbour hears of it without a change of state.
    pub fn set_config(&mut self, now: Nanos, config: SessionConfig) {
        let before = self.interval();
        if config.auth != self.config.auth {
            self.sequences.forget();
        }
        self.config = config;
        self.timing.set_intervals(self.state, self.config.intervals);
        if self.next_tx.is_none() && !self.config.passive {
            self.next_tx = Some(now);
        }
        self.hasten(now, before);
    }

    /// How late the packet is that is due.
    pub fn lateness(&self, now: Nanos) -> Duration {
        self.transmit_due().map_or(Duration::ZERO, |due| now.since(due))
    }

    /// The session's state.
    pub const fn state(&self) -> State {
        self.state
    }

    /// Why it left Up last.
    pub const fn diagnostic(&self) -> Diagnostic {
        self.diagnostic
    }

    /// What the neighbour said last.
    pub const fn remote(&self) -> &Remote {
        &self.remote
    }

    /// Its number.
    pub const fn discriminator(&self) -> u32 {
        self.discriminator
    }

    /// What it is configured with.
    pub const fn config(&self) -> &SessionConfig {
        &self.config
    }

    /// In which interval it sends, before jitter (RFC 5880, section 6.8.7); `None`: the neighbour wants nothing.
    pub fn interval(&self) -> Option<Duration> {
        let remote = self.remote.required_min_rx_us;
        let us = self.timing.desired_tx_us(self.state).max(remote);
        (remote > 0).then(|| Duration::from_micros(us.into()))
    }

    /// How long the neighbour may be silent (RFC 5880, section 6.8.4).
    pub fn detection_time(&self) -> Duration {
        let us = self.timing.required_rx_us().max(self.remote.desired_min_tx_us);
        Duration::from_micros(us.into()) * u32::from(self.remote.multiplier)
    }

    /// Changes the state. Says so at once, and not with the next packet (section 6.8.7).
    fn change(&mut self, now: Nanos, to: State, why: Why) {
        let from = std::mem::replace(&mut self.state, to);
        self.diagnostic = match why {
            Why::AdminDown if to == State::AdminDown => Diagnostic::AdminDown,
            Why::Expired => Diagnostic::Expired,
            Why::NeighborAdminDown | Why::NeighborDown(_) => Diagnostic::NeighborDown,
            Why::PathDown => Diagnostic::PathDown,
            // It is kept, so that the neighbour hears why it was down; nobody needs it once it is up.
            Why::Heard if to == State::Up => Diagnostic::None,
            Why::AdminDown | Why::Heard => self.diagnostic,
        };
        self.timing.handle_state(to);
        self.next_tx = Some(now);
        self.events.push_back(Event::State { at: now, from, to, why });
    }

    /// The interval may be another: what is due by it is not later than it.
    fn hasten(&mut self, now: Nanos, before: Option<Duration>) {
        let after = self.interval();
        if self.next_tx.is_none() {
            self.next_tx = Some(now);
        } else if after < before || before.is_none() {
            let at_most = after.map(|interval| self.next_after(now, Some(interval)));
            self.next_tx = [self.next_tx, at_most].into_iter().flatten().min();
        }
    }

    /// When the next packet is to be sent, if one is.
    fn transmit_due(&self) -> Option<Nanos> {
        let is_quiet = self.config.passive && self.remote.discriminator == 0;
        let is_unwanted = self.remote.demand
            && (self.state, self.remote.state) == (State::Up, State::Up)
            && !self.timing.is_polling();
        let may = !is_quiet && !is_unwanted && self.remote.required_min_rx_us > 0;
        self.next_tx.filter(|_| may)
    }

    /// When the next packet is due. Sessions with the same interval share the times at which they send, so that a router
    /// with many of them wakes up for some at once: which of these times is drawn for each packet.
    fn next_after(&mut self, now: Nanos, interval: Option<Duration>) -> Nanos {
        let interval = interval.unwrap_or_default();
        let at = now + self.jittered(interval);
        let step = u64::try_from((interval / TIMES).as_nanos()).unwrap_or(u64::MAX).max(1);
        let shared = Nanos(at.0 - at.0 % step);
        if shared >= now + interval * 3 / 4 { shared } else { at }
    }

    /// Less than the interval by up to a quarter; a neighbour that counts to one gets a tenth more of time
    /// (section 6.8.7).
    fn jittered(&mut self, interval: Duration) -> Duration {
        let widest = if self.config.multiplier == 1 { 15 } else { 25 };
        let least = if self.config.multiplier == 1 { 10 } else { 0 };
        let permille = 10 * least + self.rng.below(10 * widest + 1);
        let rest = u32::try_from(1000 - permille).unwrap_or(1000);
        interval * rest / 1000
    }

    fn write(&mut self, is_final: bool, out: &mut Vec<u8>) {
        let (desired, required) = self.timing.advertised_us(self.state);
        let control = Control {
            diagnostic: self.diagnostic,
            state: self.state,
            poll: !is_final && self.timing.is_polling(),
            is_final,
            control_plane_independent: false,
            demand: false,
            multiplier: self.config.multiplier,
            my_discriminator: self.discriminator,
            your_discriminator: self.remote.discriminator,
            desired_min_tx_us: desired,
            required_min_rx_us: required,
            required_min_echo_rx_us: 0,
        };
        match &self.config.auth {
            None => control.write(0, out),
            Some(auth) => {
                control.write(SECTION_LEN, out);
                auth.sign(self.sequences.next(), out);
            }
        }
    }
}

/// Into so many parts the interval is divided by times that sessions share.
const TIMES: u32 = 32;

impl Discarded {
    /// Kebab-case, never renamed.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Discriminator => "discriminator",
            Self::Auth(why) => why.label(),
            Self::AdminDown => "admin-down",
        }
    }
}
