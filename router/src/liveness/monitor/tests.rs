//! Carrier, checks and damping against a site that answers or does not.

mod carrier;
mod checks;
mod damping;
mod doubt;

use std::collections::VecDeque;
use std::net::IpAddr;

use nearhop_fib::{ACCEPT_ALL, AdjacencyId, Writer, fib};

use super::*;
use crate::batch::Exit;
use crate::liveness::event::MonitorEventKind;
use crate::policy::Combine;
use crate::sim::{Power, Site};

const PORT: PortId = PortId(1);
/// The first adjacency of a FIB.
const EXIT: Exit = Exit { adjacency: AdjacencyId(0), port: PORT };
const SOURCE: &str = "10.1.0.1";
const TARGET: &str = "198.51.100.53";

/// A monitor with one port, a site behind it, and a clock.
struct Rig {
    writer: Writer,
    fib: Handle,
    adjacency: AdjacencyId,
    monitor: Monitor,
    site: Site,
    now: Nanos,
    answers: VecDeque<(Nanos, Vec<u8>)>,
    sent: usize,
}

impl Rig {
    /// The port has no carrier yet.
    fn new() -> Self {
        let (mut writer, fib) = fib(1);
        let adjacency = writer.add_adjacency(PORT.0, 1).unwrap();
        assert_eq!(adjacency, EXIT.adjacency);
        let mut monitor = Monitor::new(fib.clone(), Arc::new(AtomicU64::new(0)), 7);
        monitor.add_port(PORT);
        monitor.add_adjacency(EXIT);
        let target: IpAddr = TARGET.parse().unwrap();
        let site = Site::new("fra", &[target]);
        let (now, answers) = (Nanos(1_000_000_000), VecDeque::new());
        Self { writer, fib, adjacency, monitor, site, now, answers, sent: 0 }
    }

    fn with_carrier() -> Self {
        let mut rig = Self::new();
        rig.carrier(true);
        rig.events();
        rig
    }

    fn carrier(&mut self, up: bool) {
        self.monitor.handle_carrier(self.now, PORT, up);
    }

    fn leg(&mut self, checks: Vec<CheckSpec>, combine: Combine) -> PathId {
        let spec = LegSpec { combine, ..leg(PathId(0), checks) };
        let reasons = spec.initial_reasons();
        let path = self.writer.add_path_down(1, ACCEPT_ALL, reasons).unwrap();
        self.monitor.add_leg(self.now, LegSpec { path, ..spec }).unwrap();
        path
    }

    fn alive(&self, path: PathId) -> bool {
        self.fib.path_reasons(path).is_alive()
            && self.fib.adjacency_reasons(self.adjacency).is_alive()
    }

    fn reasons(&self, path: PathId) -> Vec<Reason> {
        self.fib.path_reasons(path).iter().collect()
    }

    /// Runs the clock; the site answers after a millisecond.
    fn run_ms(&mut self, ms: u64) {
        let end = self.now + Duration::from_millis(ms);
        loop {
            while let Some(transmit) = self.monitor.poll_transmit(self.now) {
                assert_eq!(transmit.exit, EXIT);
                self.sent += 1;
                if let Some(answer) = self.site.answer(transmit.packet) {
                    self.answers.push_back((self.now + Duration::from_millis(1), answer));
                }
            }
            let answer = self.answers.front().map(|&(at, _)| at);
            let due = answer.into_iter().chain(self.monitor.poll_timeout()).min();
            let Some(due) = due.filter(|&due| due <= end) else { break };
            self.now = self.now.max(due);
            while let Some((_, answer)) = self.answers.pop_front_if(|(at, _)| *at <= self.now) {
                self.monitor.handle_packet(self.now, PORT, &answer);
            }
            self.monitor.handle_timeout(self.now);
        }
        self.now = end;
    }

    fn events(&mut self) -> Vec<MonitorEventKind> {
        std::iter::from_fn(|| self.monitor.poll_event()).map(|event| event.kind).collect()
    }

    /// What was reported of legs: up or down, and why.
    fn reported(&mut self) -> Vec<(bool, String)> {
        let reported = self.events().into_iter().filter_map(|kind| match kind {
            MonitorEventKind::Leg { up, reason, .. } => Some((up, reason)),
            _ => None,
        });
        reported.collect()
    }

    /// Takes the carrier away and brings it back, so that the leg flaps.
    fn flap(&mut self, times: usize) {
        for _ in 0..times {
            self.carrier(false);
            self.run_ms(5);
            self.carrier(true);
            self.run_ms(5);
        }
    }
}

fn check(kind: CheckKind) -> CheckSpec {
    CheckSpec {
        kind,
        exit: EXIT,
        source: SOURCE.parse().unwrap(),
        target: TARGET.parse().unwrap(),
        interval: Duration::from_millis(10),
        fall: 3,
        rise: 2,
        initial_up: false,
    }
}

/// A leg with these checks, all of which have to pass.
fn leg(path: PathId, checks: Vec<CheckSpec>) -> LegSpec {
    LegSpec {
        path,
        version: 7,
        exit: EXIT,
        checks,
        combine: Combine::All,
        impossible: None,
        disabled: false,
        crowd: None,
    }
}

fn tcp_key(path: PathId, index: usize) -> TcpCheckKey {
    TcpCheckKey { path, version: 7, index }
}

fn icmp() -> CheckSpec {
    check(CheckKind::Icmp)
}

fn dns() -> CheckSpec {
    check(CheckKind::Dns { port: 53, name: "www.example.".into() })
}

fn tcp() -> CheckSpec {
    check(CheckKind::Tcp { port: 80 })
}

fn verdict(rig: &Rig, up: bool) -> CheckEvent {
    let cause = if up { Cause::Answered } else { Cause::Reset };
    CheckEvent { check: CheckId(0), t: rig.now, due: rig.now, up, cause }
}

fn leg_event(up: bool, reason: &str) -> (bool, String) {
    (up, reason.to_owned())
}
