//! TCP checks: a connection that opens is an answer, a reset or an ICMP error is bad news at once.
#![forbid(unsafe_code)]

use std::collections::{BTreeMap, HashSet, VecDeque};
use std::net::SocketAddr;

use super::{Host, Progress, SocketId, TcpOptions};
use crate::config::model::CheckKind;
use crate::port::PortId;
use crate::probe::{
    AddError, Cause, CheckEvent, CheckId, CheckSpec, CheckStats, Liveness, Rule, phase_of,
    start_delay,
};
use crate::time::Nanos;

/// Does TCP checks through a [`Host`], each pinned to its port: its packets skip the route lookup,
/// and only what comes in by that port counts. Every attempt has a source port of its own and ends
/// by a reset, so that nothing stays in TIME-WAIT on either side.
///
/// After [`Self::poll`] drain [`Host::poll_transmit`] and [`Self::poll_event`]. Each poll's work is
/// bounded by the number of checks times [`ATTEMPTS_MAX`]; smoltcp's own look-up of a connection
/// is linear too, so some hundreds of TCP checks are the most to have in one host.
#[derive(Debug, Default)]
pub struct TcpChecker {
    checks: BTreeMap<u32, Check>,
    dead_ports: HashSet<PortId>,
    events: VecDeque<CheckEvent>,
    added: u32,
}

#[derive(Debug)]
struct Check {
    spec: CheckSpec,
    remote: SocketAddr,
    live: Liveness,
    attempts: VecDeque<(u16, SocketId)>,
    next_tag: u16,
    order: u32,
}

/// Connections of one check that may be open at a time; with a larger `fall` the oldest attempts
/// are given up early.
pub const ATTEMPTS_MAX: usize = 8;

impl TcpChecker {
    /// Without checks.
    pub fn new() -> Self {
        Self::default()
    }

    /// Starts a check; its first attempt is due at once.
    pub fn add(&mut self, now: Nanos, host: &Host, spec: CheckSpec) -> Result<CheckId, AddError> {
        let CheckKind::Tcp { port } = spec.kind else { return Err(AddError::WrongPlace) };
        let (source, target) = (spec.source, spec.target);
        if source.is_ipv4() != target.is_ipv4() {
            return Err(AddError::Family { source_addr: source, target });
        }
        if !host.has_address(source) {
            return Err(AddError::NotOurs(source));
        }
        let CheckSpec { interval, fall, rise, .. } = spec;
        let dead = self.dead_ports.contains(&spec.port);
        let order = self.added;
        self.added += 1;
        let rule = Rule { interval, fall, rise, initial_up: spec.initial_up && !dead };
        let start = now + start_delay(order, interval);
        let mut live = Liveness::new(now, start, phase_of(order, interval), rule);
        if dead {
            live.suspend(now);
        }
        let remote = SocketAddr::new(target, port);
        let check = Check { spec, remote, live, attempts: VecDeque::new(), next_tag: 0, order };
        self.checks.insert(order, check);
        self.take_verdicts(order);
        Ok(CheckId(order))
    }

    /// Ends a check and its attempts.
    pub fn remove(&mut self, host: &mut Host, id: CheckId) {
        if let Some(check) = self.checks.remove(&id.0) {
            check.attempts.iter().for_each(|(_, socket)| host.tcp_abort(*socket));
        }
    }

    /// A port's carrier came or went; see [`crate::probe::Prober::set_carrier`].
    pub fn set_carrier(&mut self, now: Nanos, host: &mut Host, port: PortId, up: bool) {
        let changed = if up { self.dead_ports.remove(&port) } else { self.dead_ports.insert(port) };
        if !changed {
            return;
        }
        let on_port = self.checks.iter().filter(|(_, check)| check.spec.port == port);
        for id in on_port.map(|(id, _)| *id).collect::<Vec<_>>() {
            let Some(check) = self.checks.get_mut(&id) else { continue };
            if up {
                check.live.resume(now, phase_of(check.order, check.spec.interval));
            } else {
                check.attempts.drain(..).for_each(|(_, socket)| host.tcp_forget(socket));
                check.live.suspend(now);
            }
            self.take_verdicts(id);
        }
    }

    /// Lets the host work, reads what became of the attempts, gives verdicts that are due, and makes
    /// the attempts that are due. Everything received before `now` has to be given to
    /// [`Host::handle_packet`] first.
    pub fn poll(&mut self, now: Nanos, host: &mut Host) {
        self.poll_unless(now, host, |_, _| false);
    }

    /// As [`Self::poll`], on a machine that may be short of CPU: see
    /// [`crate::probe::Prober::handle_timeout_unless`].
    pub fn poll_unless(
        &mut self,
        now: Nanos,
        host: &mut Host,
        mut unread: impl FnMut(PortId, Nanos) -> bool,
    ) {
        host.poll(now);
        for check in self.checks.values_mut() {
            check.harvest(host);
        }
        for id in self.checks.keys().copied().collect::<Vec<_>>() {
            if let Some(check) = self.checks.get_mut(&id) {
                check.live.handle_timeout_unless(now, |due| unread(check.spec.port, due));
                check.give_up_old(host);
                if check.live.send_due(now) {
                    check.attempt(now, host);
                }
            }
            self.take_verdicts(id);
        }
        host.poll(now);
    }

    /// When to call [`Self::poll`] next, apart from [`Host::poll_timeout`].
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Nanos> {
        self.checks.values().filter_map(|check| check.live.poll_timeout()).min()
    }

    /// The next change of mind; call until `None`.
    #[must_use]
    pub fn poll_event(&mut self) -> Option<CheckEvent> {
        self.events.pop_front()
    }

    /// What is known about a check; `None` if it was removed.
    pub fn stats(&self, id: CheckId) -> Option<CheckStats> {
        self.checks.get(&id.0).map(|check| check.live.stats())
    }

    fn take_verdicts(&mut self, id: u32) {
        let Some(check) = self.checks.get_mut(&id) else { return };
        while let Some(verdict) = check.live.poll_verdict() {
            self.events.push_back(CheckEvent {
                check: CheckId(id),
                t: verdict.t,
                due: verdict.due,
                up: verdict.up,
                cause: verdict.cause,
            });
        }
    }
}

impl Check {
    /// Takes the attempts that ended, in the order in which their last packets came.
    fn harvest(&mut self, host: &mut Host) {
        let mut ended: Vec<_> = self
            .attempts
            .iter()
            .filter_map(|&(tag, socket)| Some((time_of(host.tcp_progress(socket))?, tag, socket)))
            .collect();
        ended.sort_unstable_by_key(|(at, tag, _)| (*at, *tag));
        for (at, tag, socket) in ended {
            match host.tcp_progress(socket) {
                Some(Progress::Open(_)) => {
                    let sent = self.live.sent_at(tag);
                    if let (Some(sent), crate::probe::Answer::Counted) =
                        (sent, self.live.answered(at, tag))
                    {
                        self.live.measured(at.since(sent));
                    }
                }
                Some(Progress::Refused { kind, code, .. }) => {
                    self.live.refused(at, tag, Cause::Refused { kind, code });
                }
                _ => drop(self.live.refused(at, tag, Cause::Reset)),
            }
            host.tcp_abort(socket);
            self.attempts.retain(|(_, other)| *other != socket);
        }
    }

    /// Ends attempts whose time has run out, or which a refusal made the check forget.
    fn give_up_old(&mut self, host: &mut Host) {
        let live = &self.live;
        self.attempts.retain(|(tag, socket)| {
            let outstanding = live.sent_at(*tag).is_some();
            if !outstanding {
                host.tcp_abort(*socket);
            }
            outstanding
        });
    }

    fn attempt(&mut self, now: Nanos, host: &mut Host) {
        if self.attempts.len() >= ATTEMPTS_MAX
            && let Some((_, oldest)) = self.attempts.pop_front()
        {
            host.tcp_abort(oldest);
        }
        self.next_tag = self.next_tag.wrapping_add(1);
        self.live.sent(now, self.next_tag);
        let options =
            TcpOptions { pin: Some(self.spec.port), buffer: BUFFER, ..TcpOptions::default() };
        // Without an address or a free port nothing is sent, and silence says so in time.
        if let Ok(socket) = host.tcp_connect(self.spec.source, self.remote, options) {
            self.attempts.push_back((self.next_tag, socket));
        }
    }
}

/// When an attempt ended; `None` while it goes on.
fn time_of(progress: Option<Progress>) -> Option<Nanos> {
    match progress? {
        Progress::Opening => None,
        Progress::Open(at) | Progress::Closed(at) | Progress::Refused { at, .. } => Some(at),
    }
}

/// Nothing is sent or received but the handshake.
const BUFFER: usize = 64;
