//! Carrier, probes and their timers: the only one that stores why something is down.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use nearhop_fib::PathId;

use super::bfd::BfdEngine;
use crate::batch::{Batch, Exit, PACKET_MAX};
use crate::control::Stopping;
use crate::forward::{Counters, Egress, Scratch, Snapshot, Snapshots, SyscallOutlets};
use crate::host::{AnswerEnds, FragmentedAnswers};
use crate::ids::PortId;
use crate::kernel::carrier::LinkEvent;
use crate::liveness::bfd::{BfdNews, BfdOrder};
use crate::liveness::event::MonitorEvent;
use crate::liveness::leg::{LegSpec, TcpCheckKey};
use crate::liveness::monitor::Monitor;
use crate::liveness::proof::{Injection, ProofId, ProofOrder, Prover};
use crate::probe::{CheckEvent, CheckSpec, CheckStats};
use crate::put_back::{self, PutBack};
use crate::time::Nanos;
use crate::verdict::Verdict;

/// What others ask of the liveness engine.
#[derive(Clone, Debug)]
pub enum LivenessOrder {
    /// Of a BFD session.
    Bfd(BfdOrder),
    /// Forgive every leg its flaps.
    ClearDamping,
    /// Watch a leg; one that is watched already keeps its state and gets these checks.
    Leg(LegSpec),
    /// Watch a port, which is down until there is news of its carrier; one that is watched already has a
    /// new device.
    Port(Exit),
    /// An operator has disabled the site of a leg, or enabled it.
    Disable(PathId, bool),
    /// Of what is to be proven before it is announced.
    Proof(ProofOrder),
    /// Forget these, then say so.
    Stop(Stopping),
    /// What the host engine found out by TCP.
    TcpVerdict(TcpCheckKey, CheckEvent),
}

/// What the control engine hears.
#[derive(Clone, Debug)]
pub enum LivenessNews {
    /// Something happened to a BFD session.
    Bfd(BfdNews),
    /// Something happened to a port or a leg.
    Event(MonitorEvent),
    /// Every worker's packets by a neighbour's port reached a site.
    Proven(Nanos, ProofId),
    /// Smoothed round-trip times of all legs that have one.
    RoundTrips(BTreeMap<PathId, Duration>),
    /// These are forgotten.
    Stopped(Stopping),
}

/// The monitor, and its way out.
pub struct LivenessEngine {
    bfd: BfdEngine,
    monitor: Monitor,
    prover: Prover,
    /// The legs, and where answers to their checks come from.
    legs: BTreeMap<PathId, Vec<AnswerEnds>>,
    fragmented: FragmentedAnswers,
    news: VecDeque<LivenessNews>,
    next_round_trips: Nanos,
    round_trips_due: bool,
    snapshots: Snapshots,
    batch: Batch,
    scratch: Scratch,
    outlets: SyscallOutlets,
    counters: Counters,
}

impl LivenessEngine {
    /// Watches nothing yet.
    pub fn new(
        now: Nanos,
        (monitor, bfd, prover): (Monitor, BfdEngine, Prover),
        snapshots: Snapshots,
    ) -> Self {
        Self {
            bfd,
            monitor,
            prover,
            legs: BTreeMap::new(),
            fragmented: FragmentedAnswers::default(),
            news: VecDeque::new(),
            next_round_trips: now + ROUND_TRIPS_EVERY,
            round_trips_due: false,
            snapshots,
            batch: Batch::new(),
            scratch: Scratch::default(),
            outlets: SyscallOutlets::default(),
            counters: Counters::default(),
        }
    }

    /// Does what others ask.
    pub fn handle_order(&mut self, now: Nanos, order: LivenessOrder) {
        match order {
            LivenessOrder::Bfd(order) => {
                self.bfd.handle_order(now, order);
                self.judge_moved(now);
            }
            LivenessOrder::ClearDamping => self.monitor.clear_damping(now),
            LivenessOrder::Leg(spec) => {
                let (path, ends) = (spec.path, answer_ends(&spec));
                match self.monitor.add_leg(now, spec) {
                    Ok(()) => self.expect(path, ends),
                    Err(error) => log::error!("a site's checks cannot be done: {error}"),
                }
            }
            LivenessOrder::Port(exit) => {
                self.handle_carrier(now, exit.port, false);
                self.monitor.add_port(exit.port);
                self.monitor.add_adjacency(exit);
            }
            LivenessOrder::Disable(path, disabled) => {
                self.monitor.set_disabled(now, path, disabled);
            }
            LivenessOrder::Proof(order) => self.prover.handle_order(now, order),
            LivenessOrder::Stop(stopping) => self.stop(stopping),
            LivenessOrder::TcpVerdict(key, event) => self.monitor.handle_tcp_verdict(key, &event),
        }
    }

    /// A BFD packet of one of the sessions, which was read at `received`.
    pub fn handle_bfd(&mut self, received: Nanos, port: PortId, packet: &[u8]) {
        self.bfd.handle_packet(received, port, packet);
        self.judge_moved(received);
    }

    /// What is due of the BFD sessions, and their packets. No neighbour is called silent while `unread` says
    /// that its packets may lie unread: those by a port, or any, due at a time.
    pub fn serve_bfd(
        &mut self,
        now: Nanos,
        mut unread: impl FnMut(&Snapshot, Option<PortId>, Nanos) -> bool,
    ) {
        if self.bfd.is_empty() {
            return;
        }
        let Self { bfd, snapshots, batch, scratch, outlets, .. } = self;
        let snapshot = snapshots.load();
        bfd.handle_timeout(now, snapshot, |port, due| {
            unread(snapshot, port, due) && !put_back::is(PutBack::SilentWhileUnread)
        });
        bfd.transmit(now, snapshots, (batch, scratch), outlets);
        // Carrier is heard of from the kernel.
        scratch.trouble.clear();
        outlets.release();
        self.judge_moved(now);
    }

    /// Legs among the paths that BFD took down, or let go, are reported.
    fn judge_moved(&mut self, now: Nanos) {
        while let Some(path) = self.bfd.poll_moved() {
            self.monitor.handle_bfd(now, path);
        }
    }

    /// The router ends: the neighbours of BFD sessions hear that the path is down.
    pub fn end(&mut self, now: Nanos) {
        self.bfd.end(now);
        self.serve_bfd(now, |_, _, _| true);
    }

    /// The BFD sessions.
    pub fn bfd(&self) -> &BfdEngine {
        &self.bfd
    }

    /// An answer to a probe, or an error about one.
    pub fn handle_packet(&mut self, now: Nanos, port: PortId, packet: &[u8]) {
        if self.prover.handle_packet(packet) {
            let proven = std::iter::from_fn(|| self.prover.poll_proven());
            self.news.extend(proven.map(|id| LivenessNews::Proven(now, id)));
        } else if !FragmentedAnswers::is_fragment(packet) {
            self.monitor.handle_packet(now, port, packet);
        } else if let Some(whole) = self.fragmented.add(now, port, packet) {
            self.monitor.handle_packet(now, port, &whole);
        }
    }

    /// A port's carrier came or went.
    pub fn handle_carrier(&mut self, now: Nanos, port: PortId, up: bool) {
        self.monitor.handle_carrier(now, port, up);
        if !up {
            self.bfd.handle_carrier_lost(now, port);
            self.judge_moved(now);
        }
    }

    /// A port's device is another way now.
    pub fn handle_link(&mut self, now: Nanos, port: PortId, link: &LinkEvent) {
        self.monitor.handle_link(now, port, link);
    }

    /// A port's device is gone.
    pub fn handle_gone(&mut self, now: Nanos, port: PortId, ifindex: u32) {
        self.monitor.handle_gone(now, port, ifindex);
        self.bfd.handle_carrier_lost(now, port);
        self.judge_moved(now);
    }

    /// What is due. No check is called silent while `unread` says that its answers may lie unread: those
    /// by a port, due at a time.
    pub fn handle_timeout(
        &mut self,
        now: Nanos,
        mut unread: impl FnMut(&Snapshot, PortId, Nanos) -> bool,
    ) {
        let snapshot = self.snapshots.load();
        self.monitor.handle_timeout_unless(now, |port, due| {
            unread(snapshot, port, due) && !put_back::is(PutBack::SilentWhileUnread)
        });
        self.prover.handle_timeout(now);
        if now >= self.next_round_trips {
            self.next_round_trips = now + ROUND_TRIPS_EVERY;
            self.round_trips_due = !self.legs.is_empty();
        }
    }

    /// When to call [`Self::handle_timeout`] next.
    pub fn poll_timeout(&self) -> Option<Nanos> {
        let round_trips = (!self.legs.is_empty()).then_some(self.next_round_trips);
        let proofs = self.prover.poll_timeout();
        let timers = [self.bfd.poll_timeout(), self.monitor.poll_timeout(), proofs, round_trips];
        timers.into_iter().flatten().min()
    }

    /// When the next check is due, and whether one was put off because its answers may lie unread.
    pub fn next_check(&self) -> (Option<Nanos>, bool) {
        (self.monitor.poll_timeout(), self.monitor.is_behind())
    }

    /// Takes a port whose carrier the host engine is to hear of.
    pub fn poll_carrier(&mut self) -> Option<(PortId, bool)> {
        self.monitor.poll_carrier()
    }

    /// Takes a packet for a worker, which is asked again if it does not forward it.
    pub fn poll_injection(&mut self) -> Option<Injection> {
        self.prover.poll_injection()
    }

    /// Takes the oldest news for the control engine.
    pub fn poll_news(&mut self) -> Option<LivenessNews> {
        let event = |monitor: &mut Monitor| monitor.poll_event().map(LivenessNews::Event);
        let bfd = |bfd: &mut BfdEngine| bfd.poll_news().map(LivenessNews::Bfd);
        let news = self.news.pop_front().or_else(|| bfd(&mut self.bfd));
        news.or_else(|| event(&mut self.monitor))
    }

    /// Takes the round-trip times of this moment, if they are due: for a control engine that has heard
    /// of everything else, so that what it has not heard yet does not pile up.
    pub fn poll_round_trips(&mut self) -> Option<LivenessNews> {
        let due = std::mem::take(&mut self.round_trips_due);
        due.then(|| LivenessNews::RoundTrips(self.monitor.round_trips()))
    }

    /// Sends the probes that are due.
    pub fn transmit(&mut self, now: Nanos) {
        loop {
            self.batch.clear();
            let snapshot = self.snapshots.load();
            let mut any = false;
            while self.batch.room_to_make().has(1, PACKET_MAX) {
                let Some(transmit) = self.monitor.poll_transmit(now) else { break };
                let exit = transmit.exit;
                self.counters.originated += 1;
                any |= self.batch.transmit_copy(transmit.packet, exit, None, Verdict::Originate);
            }
            if !any {
                break;
            }
            let (counters, scratch) = (&mut self.counters, &mut self.scratch);
            Egress { snapshot, counters, scratch }.send(&mut self.batch, &mut self.outlets);
        }
        // Carrier is heard of from the kernel.
        self.scratch.trouble.clear();
        self.outlets.release();
    }

    /// The snapshot in force.
    pub fn snapshot(&mut self) -> &Snapshot {
        self.snapshots.load()
    }

    /// The monitor's state.
    pub fn monitor(&self) -> &Monitor {
        &self.monitor
    }

    /// The checks of these legs, as far as they are watched.
    pub fn check_stats(&self, paths: &BTreeSet<PathId>) -> BTreeMap<PathId, Vec<CheckStats>> {
        let watched = paths.iter().filter(|path| self.legs.contains_key(*path));
        watched.map(|&path| (path, self.monitor.stats(path))).collect()
    }

    /// Probes that their device did not take.
    pub fn unsent(&self) -> u64 {
        let of_bfd = self.bfd.counters();
        let unsent = |counters: &Counters| counters.originated - counters.of(Verdict::Originate);
        unsent(&self.counters) + unsent(of_bfd)
    }

    fn expect(&mut self, path: PathId, ends: Vec<AnswerEnds>) {
        self.forget(path);
        for &ends in &ends {
            self.fragmented.expect(ends);
        }
        self.legs.insert(path, ends);
    }

    fn forget(&mut self, path: PathId) {
        for ends in self.legs.remove(&path).unwrap_or_default() {
            self.fragmented.forget(ends);
        }
    }

    fn stop(&mut self, stopping: Stopping) {
        for &path in &stopping.legs {
            self.monitor.remove_leg(path);
            self.forget(path);
            self.bfd.forget_path(path);
        }
        stopping.paths.iter().for_each(|&path| self.bfd.forget_path(path));
        for &(exit, path) in &stopping.ports {
            self.monitor.remove_port(exit.port);
            self.bfd.forget_path(path);
            self.bfd.forget_port(exit.port);
        }
        // What happened before comes before.
        if !put_back::is(PutBack::CarrierOlderThanPort) {
            let events = std::iter::from_fn(|| self.monitor.poll_event());
            self.news.extend(events.map(LivenessNews::Event));
            let events = std::iter::from_fn(|| self.bfd.poll_news());
            self.news.extend(events.map(LivenessNews::Bfd));
        }
        self.news.push_back(LivenessNews::Stopped(stopping));
    }
}

/// Where answers to the checks of a leg come from.
fn answer_ends(leg: &LegSpec) -> Vec<AnswerEnds> {
    let ends = |check: &CheckSpec| AnswerEnds {
        from: check.target,
        to: check.source,
        port: check.exit.port,
    };
    leg.checks.iter().filter(|check| !check.is_tcp()).map(ends).collect()
}

/// How often round-trip times are passed on.
pub const ROUND_TRIPS_EVERY: Duration = Duration::from_millis(250);
