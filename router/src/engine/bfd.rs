//! BFD sessions in the liveness engine: their beginning and end, and what they are told.

mod packets;
mod paths;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use nearhop_fib::{Handle, PathId, Reader};

use crate::batch::Exit;
use crate::bfd::machine::{Ends, Machine, SessionId, SessionStats};
use crate::bfd::packet::PACKET_LEN_MAX;
use crate::bfd::session::Session;
use crate::forward::{BfdPacket, Counters, Snapshot, WorkerState};
use crate::ids::PortId;
use crate::liveness::bfd::{BfdNews, BfdOrder, BfdReport, BfdSpec, BfdView};
use crate::time::Nanos;

/// All sessions, and their way out.
pub struct BfdEngine {
    machine: Machine,
    sessions: BTreeMap<SessionId, Watched>,
    by_path: HashMap<PathId, BTreeSet<SessionId>>,
    /// When those that are removed have said so for long enough.
    leaving: BTreeSet<(Nanos, SessionId)>,
    news: VecDeque<BfdNews>,
    /// Paths whose byte was stored.
    moved: VecDeque<PathId>,
    fib: Handle,
    changes: Arc<AtomicU64>,
    clock: Option<fn() -> Nanos>,
    reader: Reader,
    state: WorkerState,
    payload: Vec<u8>,
    /// Packets that workers handed over.
    packets: u64,
    /// Workers know other sessions than there are. Of many orders they hear at once.
    is_stale: bool,
}

/// What a session is for.
struct Watched {
    ends: Ends,
    exit: Option<Exit>,
    /// Paths, and whether the session was up since each is watched.
    paths: BTreeMap<PathId, bool>,
    view: BfdView,
    since: Nanos,
    pace: u32,
    leaves_at: Option<Nanos>,
}

impl BfdEngine {
    /// Without sessions. Stores reasons through `fib` and raises `changes` after each; packets over several
    /// hops go where `reader` finds.
    pub fn new(fib: Handle, reader: Reader, changes: Arc<AtomicU64>, seed: u64) -> Self {
        Self {
            machine: Machine::new(seed),
            sessions: BTreeMap::new(),
            by_path: HashMap::new(),
            leaving: BTreeSet::new(),
            news: VecDeque::new(),
            moved: VecDeque::new(),
            state: WorkerState::new(usize::MAX, 1, Arc::clone(&changes)),
            fib,
            changes,
            clock: None,
            reader,
            payload: Vec::with_capacity(PACKET_LEN_MAX),
            packets: 0,
            is_stale: false,
        }
    }

    /// Looks at `clock` to know when bytes were stored.
    #[must_use]
    pub fn with_clock(self, clock: fn() -> Nanos) -> Self {
        Self { clock: Some(clock), ..self }
    }

    /// Does what others ask. Workers know of it by the next [`Self::handle_timeout`].
    pub fn handle_order(&mut self, now: Nanos, order: BfdOrder) {
        match order {
            BfdOrder::Set(spec) => self.set(now, *spec),
            BfdOrder::Remove(ends) => self.begin_leaving(now, ends),
            BfdOrder::Watch { ends, path, heeds_past } => self.watch(ends, path, heeds_past),
            BfdOrder::Unwatch(ends, path) => {
                if let Some(id) = self.machine.find(&ends) {
                    self.unwatch(id, path);
                }
            }
        }
        self.settle(now);
        self.is_stale = true;
    }

    /// A packet that a worker let pass, which it read at `received`.
    pub fn handle_packet(&mut self, received: Nanos, port: PortId, packet: &[u8]) {
        self.packets += 1;
        let Some(packet) = BfdPacket::parse(port, packet).filter(|packet| packet.is_intact) else {
            return;
        };
        if let Ok(id) = self.machine.handle_packet(received, packet.ends, packet.payload) {
            self.settle(received);
            self.forgive(received, id);
        }
    }

    /// A port's carrier is lost.
    pub fn handle_carrier_lost(&mut self, now: Nanos, port: PortId) {
        self.machine.handle_carrier_lost(now, port);
        self.settle(now);
    }

    /// What is due. No neighbour is called silent while `unread` says that its packets may lie unread: those
    /// by a port, or any, due at a time.
    pub fn handle_timeout(
        &mut self,
        now: Nanos,
        snapshot: &Snapshot,
        mut unread: impl FnMut(Option<PortId>, Nanos) -> bool,
    ) {
        self.machine.handle_timeout(now, |ends, due| unread(ends.link, due));
        self.settle(now);
        while let Some(&(at, id)) = self.leaving.first().filter(|(at, _)| *at <= now) {
            self.leaving.remove(&(at, id));
            self.remove(id);
        }
        if std::mem::take(&mut self.is_stale) {
            self.publish(snapshot);
        }
    }

    /// When to call [`Self::handle_timeout`] next.
    pub fn poll_timeout(&self) -> Option<Nanos> {
        let leaving = self.leaving.first().map(|&(at, _)| at);
        [self.machine.poll_timeout(), leaving].into_iter().flatten().min()
    }

    /// Whether there is no session, and nothing left of one.
    pub fn is_empty(&self) -> bool {
        self.sessions.is_empty() && self.machine.poll_timeout().is_none() && !self.is_stale
    }

    /// Takes a path whose byte was stored since it was last taken.
    pub fn poll_moved(&mut self) -> Option<PathId> {
        self.moved.pop_front()
    }

    /// Takes the oldest news.
    pub fn poll_news(&mut self) -> Option<BfdNews> {
        self.news.pop_front()
    }

    /// A port is gone, and with it the sessions on its link.
    pub fn forget_port(&mut self, port: PortId) {
        let on = |(&id, watched): (&SessionId, &Watched)| {
            (watched.ends.link == Some(port)).then_some(id)
        };
        for id in self.sessions.iter().filter_map(on).collect::<Vec<_>>() {
            self.remove(id);
        }
    }

    /// The router ends, and with it what it forwards: every neighbour hears that the path is down.
    pub fn end(&mut self, now: Nanos) {
        for id in self.machine.ids().collect::<Vec<_>>() {
            self.machine.handle_path_down(now, id);
        }
        self.news.clear();
    }

    /// Every session.
    pub fn reports(&self) -> Vec<BfdReport> {
        let report = |(&id, watched): (&SessionId, &Watched)| {
            let (ends, session, stats) = self.machine.get(id)?;
            Some(report(*ends, watched, session, *stats))
        };
        self.sessions.iter().filter_map(report).collect()
    }

    /// Packets that the sessions did not use, by reason.
    pub fn dropped(&self) -> &BTreeMap<&'static str, u64> {
        self.machine.dropped()
    }

    /// Packets that workers handed over.
    pub fn received(&self) -> u64 {
        self.packets
    }

    /// What became of the packets that were sent.
    pub fn counters(&self) -> &Counters {
        &self.state.counters
    }

    fn set(&mut self, now: Nanos, spec: BfdSpec) {
        let BfdSpec { ends, exit, config } = spec;
        let Some(id) = self.machine.add(now, ends, config) else {
            log::error!("bfd {}: there are as many sessions as source ports", ends.remote);
            return;
        };
        let watched = self.sessions.entry(id).or_insert_with(|| Watched {
            ends,
            exit,
            paths: BTreeMap::new(),
            view: BfdView::Unknown,
            since: now,
            pace: 1,
            leaves_at: None,
        });
        watched.exit = exit;
        if let Some(at) = watched.leaves_at.take() {
            self.leaving.remove(&(at, id));
            self.machine.set_admin_down(now, id, false);
        }
    }

    /// The neighbour hears for some time that an operator wants the session down (RFC 5880, section 6.8.16).
    fn begin_leaving(&mut self, now: Nanos, ends: Ends) {
        let Some(id) = self.machine.find(&ends) else { return };
        self.machine.set_admin_down(now, id, true);
        let Some(watched) = self.sessions.get_mut(&id) else { return };
        if watched.leaves_at.is_none() {
            let at = now + LEAVING;
            watched.leaves_at = Some(at);
            self.leaving.insert((at, id));
        }
        for path in std::mem::take(&mut watched.paths).into_keys() {
            self.unwatch(id, path);
        }
    }

    fn remove(&mut self, id: SessionId) {
        self.is_stale = true;
        self.machine.remove(id);
        let Some(watched) = self.sessions.remove(&id) else { return };
        if let Some(at) = watched.leaves_at {
            self.leaving.remove(&(at, id));
        }
        for path in watched.paths.into_keys() {
            self.unwatch(id, path);
        }
    }
}

fn report(ends: Ends, watched: &Watched, session: &Session, stats: SessionStats) -> BfdReport {
    let remote = session.remote();
    BfdReport {
        ends,
        paths: watched.paths.keys().copied().collect(),
        state: session.state(),
        view: watched.view,
        since: watched.since,
        diagnostics: [session.diagnostic().to_string(), remote.diagnostic.to_string()],
        remote_state: remote.state,
        interval: session.interval(),
        detection_time: session.detection_time(),
        discriminators: [session.discriminator(), remote.discriminator],
        multipliers: [session.config().multiplier, remote.multiplier],
        stats,
        pace: watched.pace,
    }
}

/// How long a session that is removed says so: three packets.
const LEAVING: Duration = Duration::from_millis(2_500);
