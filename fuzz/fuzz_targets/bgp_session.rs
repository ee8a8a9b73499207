//! A BGP session and a neighbour that does anything, in any order: no panic; what it says is whole messages,
//! in the order that RFC 4271 allows; a timer that was handled is not due; what is not read takes bounded
//! room; and whoever stops it finds it Idle.
#![no_main]

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use libfuzzer_sys::fuzz_target;
use nearhop::bgp::session::{
    Action, Event, PrefixLimit, Progress, RemoteAs, Session, SessionConfig, Side, State,
};
use nearhop::bgp::{
    AddPath, AttributeStore, Attributes, EXTENDED_MAX, Frame, FrameKind, Message, NextHop, Nlri,
    Notification, PerFamily, Role, codes, own_open, wire,
};
use nearhop::ids::Family;
use nearhop::time::Nanos;
use nearhop_fib::IpPrefix;

fuzz_target!(|bytes: &[u8]| {
    let Some((setup, mut script)) = bytes.split_first() else { return };
    let mut bench = Bench::new(*setup);
    while let Some((op, rest)) = script.split_first() {
        script = bench.act(*op, rest);
        bench.check();
    }
    bench.session.stop(bench.now, &Notification::shutdown(codes::ADMIN_SHUTDOWN, "bye"));
    bench.check();
    assert_eq!((bench.session.state(), bench.session.poll_timeout()), (State::Idle, None));
});

struct Bench {
    session: Session,
    store: AttributeStore,
    now: Nanos,
    /// Of each side: connected, and what it said that is no whole message yet.
    links: [Option<Vec<u8>>; 2],
    said_open: [bool; 2],
    connecting: bool,
    established: bool,
    /// As its events say.
    state: State,
}

const SIDES: [Side; 2] = [Side::Incoming, Side::Outgoing];

impl Bench {
    fn new(setup: u8) -> Self {
        let mut config = SessionConfig::new(65_001, Ipv4Addr::new(10, 0, 0, 1), RemoteAs::External);
        config.passive = setup & 1 != 0;
        config.dynamic = setup & 2 != 0;
        config.extended_message = setup & 4 != 0;
        config.role = (setup & 8 != 0).then_some(Role::Customer);
        config.add_path =
            PerFamily::with(|_| AddPath { send: setup & 16 != 0, receive: setup & 32 != 0 });
        config.min_route_advertisement = Duration::from_secs(u64::from(setup >> 6));
        config.max_prefixes.ipv4 = Some(PrefixLimit {
            max: 100,
            warn_at: 80,
            restart_after: Some(Duration::from_mins(1)),
        });
        Self {
            session: Session::new(config, u64::from(setup)),
            store: AttributeStore::default(),
            now: Nanos(1),
            links: [None, None],
            said_open: [false; 2],
            connecting: false,
            established: false,
            state: State::Idle,
        }
    }

    /// Does one thing; returns what is left of the script.
    fn act<'a>(&mut self, op: u8, rest: &'a [u8]) -> &'a [u8] {
        let side = SIDES[usize::from(op >> 7)];
        let (argument, tail) = rest.split_first().map_or((0, rest), |(first, tail)| (*first, tail));
        match op & 15 {
            0 => self.session.start(self.now),
            1 => self.session.stop(self.now, &Notification::new(codes::DECONFIGURED)),
            2 => self.session.restart(self.now, &Notification::new(codes::ADMIN_RESET)),
            3 => self.connect(side),
            4 => self.close(side),
            5 => {
                // Octets of the script itself.
                let (heard, tail) = tail.split_at(usize::from(argument).min(tail.len()));
                self.hear(side, heard);
                return tail;
            }
            6 => self.hear(side, &good_open(argument)),
            7 => self.hear(side, &said(Message::put_keepalive)),
            8 => {
                let body = &tail[..usize::from(argument).min(tail.len())];
                let mut update = vec![0xff; 16];
                update.extend_from_slice(&(19 + body.len() as u16).to_be_bytes());
                update.push(2);
                update.extend_from_slice(body);
                self.hear(side, &update);
                return &tail[body.len()..];
            }
            9 => {
                self.now += Duration::from_secs(u64::from(argument));
                self.session.handle_timeout(self.now);
            }
            10 => {
                if let Some(due) = self.session.poll_timeout() {
                    self.now = self.now.max(due);
                    self.session.handle_timeout(self.now);
                }
            }
            11 => drop(self.session.announce(nlri(argument), &route(argument))),
            12 => drop(self.session.withdraw(nlri(argument))),
            13 => drop(self.session.end_of_rib(Family::Ipv6)),
            14 => self.session.handle_prefix_count(self.now, Family::Ipv4, argument.into()),
            _ => {
                let _ = self.session.begin_refresh(Family::Ipv4);
                let _ = self.session.end_refresh(Family::Ipv4);
                let _ = self.session.request_refresh(Family::Ipv6);
            }
        }
        tail
    }

    fn connect(&mut self, side: Side) {
        let index = side as usize;
        if self.links[index].is_some() || side == Side::Outgoing && !self.connecting {
            return;
        }
        if self.session.handle_connected(self.now, side).is_ok() {
            (self.links[index], self.said_open[index]) = (Some(Vec::new()), false);
        }
        if side == Side::Outgoing {
            self.connecting = false;
        }
    }

    fn close(&mut self, side: Side) {
        if self.links[side as usize].take().is_some() || side == Side::Outgoing && self.connecting {
            self.connecting &= side != Side::Outgoing;
            self.session.handle_closed(self.now, side);
        }
    }

    fn hear(&mut self, side: Side, bytes: &[u8]) {
        if self.links[side as usize].is_some() {
            let taken = self.session.handle_bytes(side, bytes);
            assert!(taken == bytes.len() || self.session.room(side) == 0);
        }
        // Sometimes there is no room for routes.
        let room = !bytes.len().is_multiple_of(3);
        loop {
            match self.session.receive(self.now, &mut self.store, room) {
                Progress::Idle => break,
                Progress::Full => {
                    assert!(!room);
                    break;
                }
                Progress::Handled => self.check(),
                Progress::Received(_) => assert!(room && self.established),
            }
        }
    }

    /// What it says and asks for.
    fn check(&mut self) {
        while let Some(action) = self.session.poll_action() {
            match action {
                Action::Connect { .. } => {
                    assert!(!self.connecting && self.links[1].is_none(), "one attempt at a time");
                    self.connecting = true;
                }
                Action::Close { side, last } => match self.links[side as usize].take() {
                    Some(mut said) => {
                        said.extend_from_slice(&last);
                        let words = self.words(side, &mut said);
                        let is_reset = last.is_empty();
                        assert!(is_reset || words.last() == Some(&FrameKind::Notification));
                        assert!(is_reset || said.is_empty(), "half a message at the end");
                    }
                    None => {
                        assert!(side == Side::Outgoing && self.connecting, "nothing to close");
                        self.connecting = false;
                    }
                },
            }
        }
        while let Some(event) = self.session.poll_event() {
            match event {
                Event::Established(_) => {
                    assert!(!self.established);
                    self.established = true;
                }
                Event::Down { was_established: true, .. } => {
                    assert!(self.established);
                    self.established = false;
                }
                Event::State { from, to } => {
                    assert_eq!(from, self.state);
                    self.state = to;
                }
                _ => {}
            }
        }
        assert_eq!(self.state, self.session.state());
        assert_eq!(self.established, self.session.state() == State::Established);
        for side in SIDES {
            let Some(mut said) = self.links[side as usize].take() else {
                assert!(self.session.transmit(self.now, side).is_empty());
                continue;
            };
            let bytes = self.session.transmit(self.now, side);
            assert!(bytes.len() < (16 << 10) + EXTENDED_MAX);
            // It goes out in pieces.
            let count = bytes.len().min(100);
            said.extend_from_slice(&bytes[..count]);
            self.session.handle_sent(self.now, side, count);
            self.words(side, &mut said);
            self.links[side as usize] = Some(said);
        }
        if let Some(due) = self.session.poll_timeout() {
            self.session.handle_timeout(self.now);
            let still_due = self.session.poll_timeout().is_some_and(|due| due <= self.now);
            // But for a burst, which waits for the neighbour to take what is there.
            assert!(!still_due || due <= self.now && self.established);
        }
    }

    /// The whole messages of what it said.
    fn words(&mut self, side: Side, said: &mut Vec<u8>) -> Vec<FrameKind> {
        let mut kinds = Vec::new();
        while let Some(frame) = Frame::first(said, EXTENDED_MAX).expect("a good header") {
            let (kind, len) = (frame.kind, frame.message.len());
            let said_open = &mut self.said_open[side as usize];
            assert_eq!(kind == FrameKind::Open, !*said_open, "OPEN first, and once");
            *said_open = true;
            kinds.push(kind);
            said.drain(..len);
        }
        kinds
    }
}

fn said(put: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut bytes = Vec::new();
    put(&mut bytes);
    bytes
}

/// Of a neighbour with this or that.
fn good_open(kind: u8) -> Vec<u8> {
    let asn = [65_002, 65_001, 4_200_000_000, 0][usize::from(kind & 3)];
    let id = Ipv4Addr::new(10, 0, 0, kind >> 6);
    let mut config = SessionConfig::new(asn, id, RemoteAs::Any);
    config.extended_message = kind & 4 != 0;
    config.role = (kind & 8 != 0).then_some(Role::Provider);
    config.add_path =
        PerFamily::with(|_| AddPath { send: kind & 16 != 0, receive: kind & 16 != 0 });
    config.hold_time_s = if kind & 32 != 0 { 0 } else { 9 };
    let open = own_open(&config, kind & 0x40 != 0);
    said(|out| wire::encode_open(&open, out).expect("an OPEN that fits"))
}

fn nlri(number: u8) -> Nlri {
    let addr = Ipv4Addr::new(10, number, 0, 0);
    Nlri {
        prefix: IpPrefix::new(addr.into(), 16).expect("a prefix"),
        path_id: u32::from(number & 3),
    }
}

fn route(number: u8) -> Arc<Attributes> {
    let next_hop = NextHop::new(Ipv4Addr::new(192, 0, 2, 1).into());
    Arc::new(Attributes { med: Some(u32::from(number & 7)), ..Attributes::originated(next_hop) })
}
