//! BFD sessions and neighbours that send anything, in any order: no panic; what is sent reads back as a packet of the
//! session's; a timer that was handled is not due; sending ends; and events say what the states are.
#![no_main]

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::time::Duration;

use libfuzzer_sys::fuzz_target;
use nearhop::bfd::Intervals;
use nearhop::bfd::auth::Authentication;
use nearhop::bfd::machine::{Ends, Machine, SessionId};
use nearhop::bfd::packet::{Control, PACKET_LEN_MAX, Received, State};
use nearhop::bfd::session::{Event, SessionConfig};
use nearhop::ids::PortId;
use nearhop::time::Nanos;

fuzz_target!(|bytes: &[u8]| {
    let mut bench = Bench::new();
    let mut script = bytes;
    while let Some((op, rest)) = script.split_first() {
        script = bench.act(*op, rest);
        bench.check();
    }
});

struct Bench {
    machine: Machine,
    /// Another router, at the other end of each session.
    other: Machine,
    now: Nanos,
    /// As the events say.
    states: BTreeMap<SessionId, State>,
}

impl Bench {
    fn new() -> Self {
        Self {
            machine: Machine::new(1),
            other: Machine::new(2),
            now: Nanos(1_000_000_000),
            states: BTreeMap::new(),
        }
    }

    /// Does one thing; returns what is left of the script.
    fn act<'a>(&mut self, op: u8, rest: &'a [u8]) -> &'a [u8] {
        let (argument, tail) = rest.split_first().map_or((0, rest), |(first, tail)| (*first, tail));
        let number = op >> 4 & 3;
        match op & 15 {
            0 | 1 => self.add(number, argument),
            2 => self.remove(number),
            3 => {
                let (heard, tail) = tail.split_at(usize::from(argument).min(tail.len()));
                let _ = self.machine.handle_packet(self.now, ends(number), heard);
                return tail;
            }
            4 => self.hear_control(number, argument),
            5..=8 => self.exchange(argument),
            9 => self.pass(Duration::from_millis(u64::from(argument))),
            10 => self.pass(Duration::from_secs(u64::from(argument))),
            11 => {
                if let Some(due) = self.machine.poll_timeout() {
                    self.pass(due.since(self.now));
                }
            }
            12 => self.machine.handle_carrier_lost(self.now, PortId(u16::from(number))),
            _ => {
                if let Some(id) = self.id(number) {
                    self.machine.set_admin_down(self.now, id, argument & 1 != 0);
                }
            }
        }
        tail
    }

    fn id(&self, number: u8) -> Option<SessionId> {
        self.machine
            .ids()
            .find(|id| self.machine.get(*id).is_some_and(|one| *one.0 == ends(number)))
    }

    fn add(&mut self, number: u8, setup: u8) {
        let id = self.machine.add(self.now, ends(number), config(setup)).expect("there is room");
        self.states.entry(id).or_insert(State::Down);
        let Ends { local, remote, link } = ends(number);
        let other = Ends { local: remote, remote: local, link };
        self.other.add(self.now, other, config(setup ^ (setup >> 7)));
    }

    fn remove(&mut self, number: u8) {
        if let Some(id) = self.id(number) {
            self.machine.remove(id);
            self.states.remove(&id);
        }
    }

    /// A packet that could be a neighbour's.
    fn hear_control(&mut self, number: u8, kind: u8) {
        let your = self.id(number).and_then(|id| self.machine.get(id));
        let your = your.map_or(0, |(_, session, _)| session.discriminator());
        let states = [State::AdminDown, State::Down, State::Init, State::Up];
        let control = Control {
            state: states[usize::from(kind & 3)],
            poll: kind & 4 != 0,
            is_final: kind & 12 == 8,
            demand: kind & 16 != 0,
            multiplier: 1 + (kind >> 6),
            my_discriminator: 1 + u32::from(number),
            your_discriminator: if kind & 32 != 0 { your } else { 0 },
            desired_min_tx_us: 1_000 * u32::from(kind),
            required_min_rx_us: 500 * u32::from(kind >> 1),
            ..Control::default()
        };
        let mut payload = Vec::new();
        control.write(0, &mut payload);
        let _ = self.machine.handle_packet(self.now, ends(number), &payload);
    }

    /// Both sides say what is due, of which some is lost.
    fn exchange(&mut self, lost: u8) {
        let mut out = Vec::new();
        let mut count = 0_u8;
        while let Some(transmit) = self.other.poll_transmit(self.now, &mut out) {
            count = count.wrapping_add(1);
            let Ends { local, remote, link } = transmit.ends;
            if lost >> (count & 7) & 1 == 0 {
                let ends = Ends { local: remote, remote: local, link };
                let _ = self.machine.handle_packet(self.now, ends, &out);
            }
        }
        for (ends, payload) in self.said() {
            let other = Ends { local: ends.remote, remote: ends.local, link: ends.link };
            let _ = self.other.handle_packet(self.now, other, &payload);
        }
        self.other.handle_timeout(self.now, |_, _| false);
        while self.other.poll_event().is_some() {}
    }

    fn pass(&mut self, time: Duration) {
        self.now += time;
        self.machine.handle_timeout(self.now, |_, _| false);
    }

    /// What is due.
    fn said(&mut self) -> Vec<(Ends, Vec<u8>)> {
        let (mut said, mut out) = (Vec::new(), Vec::new());
        while let Some(transmit) = self.machine.poll_transmit(self.now, &mut out) {
            assert!(said.len() < 100, "sending ends");
            assert!(out.len() <= PACKET_LEN_MAX && transmit.source_port >= 49_152);
            let packet = Received::parse(&out).expect("a good packet");
            let (ends, session, _) = self.machine.get(transmit.session).expect("it is there");
            assert_eq!(*ends, transmit.ends);
            assert_eq!(packet.control.my_discriminator, session.discriminator());
            assert_eq!(packet.auth.is_some(), session.config().auth.is_some());
            said.push((transmit.ends, out.clone()));
        }
        said
    }

    fn check(&mut self) {
        self.said();
        while let Some((id, event)) = self.machine.poll_event() {
            if let Event::State { from, to, .. } = event {
                assert_eq!(self.states.insert(id, to), Some(from));
            }
        }
        for (id, state) in &self.states {
            assert_eq!(self.machine.get(*id).map(|one| one.1.state()), Some(*state));
        }
        self.machine.handle_timeout(self.now, |_, _| false);
        self.said();
        while self.machine.poll_event().is_some_and(|(id, event)| {
            if let Event::State { to, .. } = event {
                self.states.insert(id, to);
            }
            true
        }) {}
        // An entry of a timer that was moved may be due once more.
        let due = self.machine.poll_timeout();
        self.machine.handle_timeout(self.now, |_, _| false);
        let said = self.said().len();
        assert!(said == 0 || due.is_some());
    }
}

fn ends(number: u8) -> Ends {
    Ends {
        local: Ipv4Addr::new(10, 0, number, 1).into(),
        remote: Ipv4Addr::new(10, 0, number, 2).into(),
        link: (number != 3).then_some(PortId(u16::from(number))),
    }
}

fn config(setup: u8) -> SessionConfig {
    let us = [300, 10_000, 1_000_000, 3_000_000][usize::from(setup & 3)];
    SessionConfig {
        intervals: Intervals { desired_min_tx_us: us, required_min_rx_us: us },
        multiplier: 1 + (setup >> 2 & 3),
        passive: setup & 16 != 0,
        auth: (setup & 32 != 0).then(|| Authentication::new(setup & 64 != 0, 1, b"key")).flatten(),
    }
}
