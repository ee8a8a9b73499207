//! TCP checks. An opened connection is a success; a reset or an ICMP error is a failure at once.
#![forbid(unsafe_code)]

use std::collections::{BTreeMap, HashSet, VecDeque};
use std::net::SocketAddr;

use super::{Host, Progress, SocketId, TcpOptions};
use crate::ids::PortId;
use crate::policy::CheckKind;
use crate::probe::{
    AddError, Cause, CheckEvent, CheckId, CheckSpec, CheckState, CheckStats, Rule, phase_of,
    start_delay,
};
use crate::time::Nanos;

/// Runs TCP checks through a [`Host`]. Each is pinned to an adjacency: its packets skip the
/// route lookup, and only packets that come in by its port count. Every attempt has its own source port
/// and ends with a reset, so no TIME-WAIT remains on either side.
///
/// After [`Self::poll`], drain [`Host::poll_transmit`] and [`Self::poll_event`]. The work of a poll
/// is bounded by the number of checks times [`ATTEMPTS_MAX`]. smoltcp's lookup of a connection is
/// linear too, so a host should have a few hundred TCP checks at most.
#[derive(Debug, Default)]
pub struct TcpChecker {
    checks: BTreeMap<u32, TcpCheck>,
    dead_ports: HashSet<PortId>,
    events: VecDeque<CheckEvent>,
    added: u32,
}

#[derive(Debug)]
struct TcpCheck {
    spec: CheckSpec,
    remote: SocketAddr,
    live: CheckState,
    attempts: VecDeque<(u16, SocketId)>,
    next_tag: u16,
    order: u32,
}

/// The most open connections of one check. With a larger `fall`, the oldest attempts are abandoned
/// early.
pub const ATTEMPTS_MAX: usize = 8;

impl TcpChecker {
    /// A checker without checks.
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
        let dead = self.dead_ports.contains(&spec.exit.port);
        let order = self.added;
        self.added += 1;
        let rule = Rule { interval, fall, rise, initial_up: spec.initial_up && !dead };
        let start = now + start_delay(order, interval);
        let mut live = CheckState::new(now, start, phase_of(order, interval), rule);
        if dead {
            live.suspend(now);
        }
        let remote = SocketAddr::new(target, port);
        let check = TcpCheck { spec, remote, live, attempts: VecDeque::new(), next_tag: 0, order };
        self.checks.insert(order, check);
        self.take_verdicts(order);
        Ok(CheckId(order))
    }

    /// Removes a check and resets its connections.
    pub fn remove(&mut self, host: &mut Host, id: CheckId) {
        if let Some(check) = self.checks.remove(&id.0) {
            check.attempts.iter().for_each(|(_, socket)| host.tcp_abort(*socket));
        }
    }

    /// Reports that a port's carrier changed, and whether it is there now: without it every check on that
    /// port is down at once and nothing is sent; with it they begin again at once and have to pass
    /// `rise`, also where the loss before was not reported. Ports have carrier until one is reported
    /// without.
    pub fn set_carrier(&mut self, now: Nanos, host: &mut Host, port: PortId, up: bool) {
        let had = if up { !self.dead_ports.remove(&port) } else { self.dead_ports.insert(port) };
        let on_port = self.checks.iter().filter(|(_, check)| check.spec.exit.port == port);
        for id in on_port.map(|(id, _)| *id).collect::<Vec<_>>() {
            let Some(check) = self.checks.get_mut(&id) else { continue };
            if had {
                check.attempts.drain(..).for_each(|(_, socket)| host.tcp_forget(socket));
                check.live.suspend(now);
            }
            if up {
                check.live.resume(now, phase_of(check.order, check.spec.interval));
            }
            self.take_verdicts(id);
        }
    }

    /// Polls the host, evaluates attempts that ended, queues the events that are due, and starts
    /// the attempts that are due. The caller passes everything received before `now` to
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
                check.live.handle_timeout_unless(now, |due| unread(check.spec.exit.port, due));
                check.give_up_old(host);
                if check.live.send_due(now) {
                    check.attempt(now, host);
                }
            }
            self.take_verdicts(id);
        }
        host.poll(now);
    }

    /// When to call [`Self::poll`] next, besides [`Host::poll_timeout`]; `None` is never. The value
    /// may change after any call that takes `&mut self`.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Nanos> {
        self.checks.values().filter_map(|check| check.live.poll_timeout()).min()
    }

    /// The next change of a check's state; call until `None` after every [`Self::poll`],
    /// [`Self::add`] and [`Self::set_carrier`].
    #[must_use]
    pub fn poll_event(&mut self) -> Option<CheckEvent> {
        self.events.pop_front()
    }

    /// Statistics of a check; `None` if it was removed.
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

impl TcpCheck {
    /// Evaluates the attempts that ended, in the order of their last packets.
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

    /// Resets attempts that timed out or that the check discarded after a failure.
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
            TcpOptions { pin: Some(self.spec.exit), buffer: BUFFER, ..TcpOptions::default() };
        // Without a local address or a free port nothing is sent, and the attempt times out.
        if let Ok(socket) = host.tcp_connect(self.spec.source, self.remote, options) {
            self.attempts.push_back((self.next_tag, socket));
        }
    }
}

/// When an attempt ended; `None` while it is open.
fn time_of(progress: Option<Progress>) -> Option<Nanos> {
    match progress? {
        Progress::Opening => None,
        Progress::Open(at) | Progress::Closed(at) | Progress::Refused { at, .. } => Some(at),
    }
}

/// Bytes of the socket buffers. Only the handshake is exchanged.
const BUFFER: usize = 64;
