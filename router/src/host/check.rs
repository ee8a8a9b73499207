//! TCP checks. An opened connection is a success; a refusal, by a reset or an ICMP error, is a
//! failure at once ([`crate::probe`]), a reset if a second connection is reset too.
#![forbid(unsafe_code)]

use std::collections::{BTreeMap, HashSet, VecDeque};
use std::net::SocketAddr;

use super::flows::Way;
use super::{Handshake, Host, SocketId, TcpOptions};
use crate::ids::PortId;
use crate::policy::CheckKind;
use crate::probe::{
    AddError, Cause, CheckEvent, CheckId, CheckSpec, CheckState, CheckStats, Ignore, Ignored,
    REDRAW_EVERY, REDRAW_LIMIT, Rule, phase_of, start_delay,
};
use crate::time::Nanos;

/// Runs TCP checks through a [`Host`]. Each is pinned to an adjacency: its packets skip the
/// route lookup, and only packets that come in by its port count. Every attempt ends with a reset, so
/// no TIME-WAIT remains on either side, and its source port can be used again: a check takes
/// [`PORTS`] in turn, which it draws again each minute and, at most once in ten seconds, after a
/// packet that would have harmed it.
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
    attempts: VecDeque<Attempt>,
    next_tag: u16,
    order: u32,
    /// Source ports of attempts, once there was one; from then on the host counts what is ignored on
    /// its way.
    ports: Option<Ports>,
}

/// One request of a check: a connection that is being opened.
#[derive(Clone, Copy, Debug)]
struct Attempt {
    tag: u16,
    socket: SocketId,
    /// Whether it is the second connection for this request.
    again: bool,
}

/// Source ports of a check's attempts.
#[derive(Debug)]
struct Ports {
    drawn: Nanos,
    numbers: [u16; PORTS],
    /// Somebody tried to harm the check since then.
    mismatched: bool,
}

/// The most open connections of one check. With a larger `fall`, the oldest attempts are abandoned
/// early.
pub const ATTEMPTS_MAX: usize = 8;

/// Source ports of one check, in turn: more than it can have attempts, so that what is left of one on
/// the way does not meet the next from the same port.
pub const PORTS: usize = 2 * ATTEMPTS_MAX;

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
        let attempts = VecDeque::new();
        let check = TcpCheck { spec, remote, live, attempts, next_tag: 0, order, ports: None };
        self.checks.insert(order, check);
        self.take_verdicts(order);
        Ok(CheckId(order))
    }

    /// Removes a check and resets its connections.
    pub fn remove(&mut self, host: &mut Host, id: CheckId) {
        if let Some(check) = self.checks.remove(&id.0) {
            check.attempts.iter().for_each(|attempt| host.tcp_abort(attempt.socket));
            if check.ports.is_some() {
                host.unwatch_way(check.way());
            }
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
                while let Some(Attempt { socket, .. }) = check.attempts.pop_front() {
                    check.take_ignored(host, socket);
                    host.tcp_forget(socket);
                }
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
        for (way, ignored) in host.take_strays() {
            // Several checks of one way share a count.
            if let Some(check) = self.checks.values_mut().find(|check| check.way() == way) {
                check.ignore(&ignored);
            }
        }
        for check in self.checks.values_mut() {
            check.harvest(host);
            check.disentangle(host);
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
    fn way(&self) -> Way {
        (self.spec.source, self.remote, self.spec.exit.port)
    }

    /// Evaluates the attempts that ended, in the order of their last packets.
    fn harvest(&mut self, host: &mut Host) {
        let mut ended: Vec<_> = self
            .attempts
            .iter()
            .filter_map(|attempt| Some((*attempt, host.tcp_handshake(attempt.socket)?)))
            .collect();
        ended.sort_unstable_by_key(|(attempt, outcome)| (time_of(*outcome), attempt.tag));
        for (attempt, outcome) in ended {
            let Attempt { tag, socket, again } = attempt;
            match outcome {
                // A stranger's half-open connection with the same ends can make the target reset
                // this one: a closed port resets any.
                Handshake::Reset(_) if self.try_again(host, attempt) => continue,
                Handshake::Opened(at) => {
                    let sent = self.live.sent_at(tag).filter(|_| !again);
                    let answer = self.live.answered(at, tag);
                    if let (Some(sent), crate::probe::Answer::Counted) = (sent, answer) {
                        self.live.measured(at.since(sent));
                    }
                }
                Handshake::Refused { kind, code, at } => {
                    self.live.refused(at, tag, Cause::Refused { kind, code });
                }
                Handshake::Reset(at) => drop(self.live.refused(at, tag, Cause::Reset)),
            }
            self.attempts.retain(|other| other.socket != socket);
            self.abort(host, socket);
        }
    }

    /// Connects again, from another port and once for each request, where the answer was about
    /// something else: a connection with the same ends is half open at the target, by a stranger or
    /// as its reset was lost. The host resets it, but a SYN would be sent again only after a second.
    fn disentangle(&mut self, host: &mut Host) {
        for index in 0..self.attempts.len() {
            let attempt = self.attempts[index];
            if host.tcp_is_entangled(attempt.socket) {
                self.try_again(host, attempt);
            }
        }
    }

    /// Replaces an attempt by one from a random port; `false` if it was one, or none is free.
    fn try_again(&mut self, host: &mut Host, attempt: Attempt) -> bool {
        let Some(place) = self.attempts.iter().position(|other| other.socket == attempt.socket)
        else {
            return false;
        };
        let another = if attempt.again { None } else { self.connect(host, None) };
        let Some(socket) = another else { return false };
        self.attempts[place] = Attempt { tag: attempt.tag, socket, again: true };
        self.abort(host, attempt.socket);
        true
    }

    /// Resets attempts that timed out or that the check discarded after a failure.
    fn give_up_old(&mut self, host: &mut Host) {
        for index in (0..self.attempts.len()).rev() {
            let Attempt { tag, socket, .. } = self.attempts[index];
            if self.live.sent_at(tag).is_none() {
                self.attempts.remove(index);
                self.abort(host, socket);
            }
        }
    }

    /// Resets an attempt, and takes over what was ignored about it.
    fn abort(&mut self, host: &mut Host, socket: SocketId) {
        self.take_ignored(host, socket);
        host.tcp_abort(socket);
    }

    fn take_ignored(&mut self, host: &Host, socket: SocketId) {
        let (ignored, last_error) = host.tcp_ignored(socket);
        self.ignore(&ignored);
        if let Some(error) = last_error {
            self.live.saw_error(error);
        }
    }

    fn ignore(&mut self, ignored: &Ignored) {
        let harmful = ignored.of(Ignore::Answer) + ignored.of(Ignore::Mismatch);
        if let Some(ports) = self.ports.as_mut().filter(|_| harmful > 0) {
            ports.mismatched = true;
        }
        self.live.ignore_all(ignored);
    }

    /// The source port of the next attempt.
    fn take_port(&mut self, now: Nanos, host: &mut Host) -> Option<u16> {
        if self.ports.is_none() {
            host.watch_way(self.way());
        }
        let age = |ports: &Ports| if ports.mismatched { REDRAW_LIMIT } else { REDRAW_EVERY };
        if self.ports.as_ref().is_none_or(|ports| ports.drawn + age(ports) <= now) {
            let mut numbers = [0; PORTS];
            numbers.fill_with(|| host.draw_port());
            self.ports = Some(Ports { drawn: now, numbers, mismatched: false });
        }
        let ports = self.ports.as_ref()?;
        ports.numbers.get(usize::from(self.next_tag) % PORTS).copied()
    }

    fn attempt(&mut self, now: Nanos, host: &mut Host) {
        if self.attempts.len() >= ATTEMPTS_MAX
            && let Some(oldest) = self.attempts.pop_front()
        {
            self.abort(host, oldest.socket);
        }
        self.next_tag = self.next_tag.wrapping_add(1);
        self.live.sent(now, self.next_tag);
        let port = self.take_port(now, host);
        if let Some(socket) = self.connect(host, port) {
            self.attempts.push_back(Attempt { tag: self.next_tag, socket, again: false });
        }
    }

    /// Without a local address or a free port nothing is sent, and the attempt times out.
    fn connect(&self, host: &mut Host, port: Option<u16>) -> Option<SocketId> {
        let pin = Some(self.spec.exit);
        let options = TcpOptions { pin, port, buffer: BUFFER, ..TcpOptions::default() };
        host.tcp_connect(self.spec.source, self.remote, options).ok()
    }
}

fn time_of(outcome: Handshake) -> Nanos {
    match outcome {
        Handshake::Opened(at) | Handshake::Reset(at) | Handshake::Refused { at, .. } => at,
    }
}

/// Bytes of the socket buffers. Only the handshake is exchanged.
const BUFFER: usize = 64;
