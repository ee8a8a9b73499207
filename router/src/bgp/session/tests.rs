//! The machine, beside a neighbour made of bytes, and two of it with each other.
#![forbid(unsafe_code)]

mod fsm;
mod pair;
mod routes;
mod timers;

use std::net::Ipv4Addr;
use std::time::Duration;

use super::*;
use crate::bgp::{Frame, FrameKind, MESSAGE_MAX, Message, Open, UpdateContext};

const OWN_AS: u32 = 65_001;
const REMOTE_AS: u32 = 65_002;
const REMOTE_ID: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 2);

fn config() -> SessionConfig {
    SessionConfig::new(OWN_AS, Ipv4Addr::new(10, 0, 0, 1), RemoteAs::Exactly(REMOTE_AS))
}

/// That of the neighbour.
fn remote_config() -> SessionConfig {
    SessionConfig::new(REMOTE_AS, REMOTE_ID, RemoteAs::Exactly(OWN_AS))
}

fn remote_open() -> Open {
    own_open(&remote_config(), false)
}

fn bytes_of(open: &Open) -> Vec<u8> {
    let mut bytes = Vec::new();
    wire::encode_open(open, &mut bytes).unwrap();
    bytes
}

fn keepalive() -> Vec<u8> {
    let mut bytes = Vec::new();
    Message::put_keepalive(&mut bytes);
    bytes
}

fn notification(code: (u8, u8)) -> Vec<u8> {
    let mut bytes = Vec::new();
    Notification::new(code).put(&mut bytes);
    bytes
}

fn end_of_rib() -> Vec<u8> {
    let mut bytes = Vec::new();
    crate::bgp::Packing::end_of_rib(Family::Ipv4, &mut bytes);
    bytes
}

/// A session and what it said, with a clock.
struct Bench {
    session: Session,
    now: Nanos,
    store: AttributeStore,
    actions: Vec<Action>,
    events: Vec<Event>,
    received: Vec<Received>,
    /// As its events say.
    state: State,
}

impl Bench {
    fn new(config: SessionConfig) -> Self {
        Self {
            session: Session::new(config, 1),
            now: Nanos(1_000_000_000),
            store: AttributeStore::default(),
            actions: Vec::new(),
            events: Vec::new(),
            received: Vec::new(),
            state: State::Idle,
        }
    }

    /// Started, in Connect or Active.
    fn started(config: SessionConfig) -> Self {
        let mut bench = Self::new(config);
        bench.session.start(bench.now);
        bench.poll();
        bench
    }

    /// In this state, on our own connection; [`State::Active`] after an attempt that failed.
    fn reach(state: State) -> Self {
        let mut bench = Self::new(config());
        if state == State::Idle {
            return bench;
        }
        bench.session.start(bench.now);
        if state == State::Active {
            bench.session.handle_closed(bench.now, Side::Outgoing);
        }
        if state >= State::OpenSent {
            bench.connect(Side::Outgoing);
        }
        if state >= State::OpenConfirm {
            bench.hear(Side::Outgoing, &bytes_of(&remote_open()));
        }
        if state >= State::Established {
            bench.hear(Side::Outgoing, &keepalive());
        }
        bench.poll();
        assert_eq!(bench.session.state(), state);
        bench.said(Side::Outgoing);
        (bench.actions, bench.events) = (Vec::new(), Vec::new());
        bench
    }

    fn connect(&mut self, side: Side) {
        self.session.handle_connected(self.now, side).expect("a connection that is wanted");
        self.poll();
    }

    /// The neighbour says this.
    fn hear(&mut self, side: Side, bytes: &[u8]) {
        let mut rest = bytes;
        while !rest.is_empty() {
            let count = self.session.handle_bytes(side, rest);
            rest = &rest[count..];
            self.read();
            if count == 0 {
                break;
            }
        }
    }

    fn read(&mut self) {
        loop {
            match self.session.receive(self.now, &mut self.store, true) {
                Progress::Idle => break,
                Progress::Received(received) => self.received.push(received),
                Progress::Handled => {}
                Progress::Full => panic!("there is room"),
            }
        }
        self.poll();
    }

    fn poll(&mut self) {
        self.actions.extend(std::iter::from_fn(|| self.session.poll_action()));
        let seen = self.events.len();
        self.events.extend(std::iter::from_fn(|| self.session.poll_event()));
        for event in &self.events[seen..] {
            if let Event::State { from, to } = event {
                assert_eq!(*from, self.state, "each change begins where the last one ended");
                self.state = *to;
            }
        }
        assert_eq!(self.state, self.session.state(), "no change is left out");
    }

    /// Lets time pass to the next timer; `false` if there is none.
    fn next_timer(&mut self) -> bool {
        let Some(due) = self.session.poll_timeout() else { return false };
        self.now = self.now.max(due);
        self.session.handle_timeout(self.now);
        self.poll();
        true
    }

    fn pass(&mut self, span: Duration) {
        self.now += span;
        self.session.handle_timeout(self.now);
        self.poll();
    }

    /// All it says on a connection, as types of messages.
    fn said(&mut self, side: Side) -> Vec<FrameKind> {
        let bytes = self.session.transmit(self.now, side).to_vec();
        self.session.handle_sent(self.now, side, bytes.len());
        self.poll();
        kinds(&bytes)
    }

    /// The last words on the connection that it closed.
    fn last_words(&self) -> Option<(Side, Notification)> {
        self.actions.iter().rev().find_map(|action| match action {
            Action::Close { side, last } => Some((*side, notification_of(last)?)),
            Action::Connect { .. } => None,
        })
    }

    fn has_closed(&self, side: Side) -> bool {
        let is_it = |action: &Action| matches!(action, Action::Close { side: s, .. } if *s == side);
        self.actions.iter().any(is_it)
    }

    fn connects(&self) -> usize {
        let is_it = |action: &&Action| matches!(action, Action::Connect { .. });
        self.actions.iter().filter(is_it).count()
    }

    fn cause(&self) -> Option<Cause> {
        self.events.iter().rev().find_map(|event| match event {
            Event::Down { cause, .. } => Some(cause.clone()),
            _ => None,
        })
    }
}

fn frames(bytes: &[u8]) -> Vec<Frame<'_>> {
    let (mut rest, mut frames) = (bytes, Vec::new());
    while let Some(frame) = Frame::first(rest, MESSAGE_MAX).expect("good headers") {
        rest = &rest[frame.message.len()..];
        frames.push(frame);
    }
    assert!(rest.is_empty(), "half a message");
    frames
}

fn kinds(bytes: &[u8]) -> Vec<FrameKind> {
    frames(bytes).into_iter().map(|frame| frame.kind).collect()
}

fn notification_of(bytes: &[u8]) -> Option<Notification> {
    let frame = frames(bytes).pop()?;
    let body = frame.body();
    (frame.kind == FrameKind::Notification)
        .then(|| Notification::with((body[0], body[1]), &body[2..]))
}
