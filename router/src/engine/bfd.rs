//! BFD sessions in the liveness engine: what they say to the bytes of paths, and their packets.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use nearhop_fib::{Handle, PathId, Reader, Reason};

use crate::batch::{Batch, Exit, PACKET_MAX};
use crate::bfd::machine::{Ends, Machine, PORT, PORT_MULTIHOP, SessionId, SessionStats, Transmit};
use crate::bfd::packet::{PACKET_LEN_MAX, State};
use crate::bfd::session::{Event, Session, SessionConfig, Why};
use crate::forward::{
    BfdPacket, Counters, Egress, KnownSession, Outlets, Scratch, Snapshot, Snapshots, WorkerState,
    originate,
};
use crate::ids::PortId;
use crate::liveness::bfd::{BfdNews, BfdOrder, BfdReport, BfdSpec, BfdView};
use crate::packet::build::Datagram;
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

    /// Sends the packets that are due.
    pub fn transmit(
        &mut self,
        now: Nanos,
        snapshots: &mut Snapshots,
        (batch, scratch): (&mut Batch, &mut Scratch),
        outlets: &mut impl Outlets,
    ) {
        loop {
            batch.clear();
            let mut any = false;
            while batch.room_to_make().has(1, PACKET_MAX) {
                self.payload.clear();
                let transmit = self.machine.poll_transmit(now, &mut self.payload);
                let Some(transmit) = transmit else { break };
                any = true;
                self.queue(&transmit, snapshots, batch);
            }
            self.settle(now);
            if !any {
                break;
            }
            let (snapshot, counters) = (snapshots.load(), &mut self.state.counters);
            Egress { snapshot, counters, scratch }.send(batch, outlets);
        }
    }

    fn queue(&mut self, transmit: &Transmit, snapshots: &mut Snapshots, batch: &mut Batch) {
        let Some(watched) = self.sessions.get(&transmit.session) else { return };
        let Ends { local, remote, link } = transmit.ends;
        let to = if link.is_some() { PORT } else { PORT_MULTIHOP };
        let datagram = Datagram {
            src: SocketAddr::new(local, transmit.source_port),
            dst: SocketAddr::new(remote, to),
            ttl: u8::MAX,
            payload: &self.payload,
        };
        let mut packet = [0; HEADERS_MAX + PACKET_LEN_MAX];
        let Some(len) = datagram.write_classed(CS6, &mut packet) else { return };
        let pin = watched.exit.map(|exit| exit.adjacency);
        let online = self.reader.online();
        originate(&mut packet[..len], pin, batch, &online, snapshots, &mut self.state);
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

    /// Nothing is known of a path any more: its number may become another's.
    pub fn forget_path(&mut self, path: PathId) {
        for id in self.by_path.remove(&path).unwrap_or_default() {
            if let Some(watched) = self.sessions.get_mut(&id) {
                watched.paths.remove(&path);
            }
            self.fib.clear_path_down(path, Reason::Bfd);
        }
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

    fn watch(&mut self, ends: Ends, path: PathId, heeds_past: bool) {
        let Some(id) = self.machine.find(&ends) else { return };
        let Some(watched) = self.sessions.get_mut(&id) else { return };
        let was_up = heeds_past || watched.view == BfdView::Up;
        *watched.paths.entry(path).or_default() |= was_up;
        self.by_path.entry(path).or_default().insert(id);
        self.store(path);
    }

    fn unwatch(&mut self, id: SessionId, path: PathId) {
        if let Some(watched) = self.sessions.get_mut(&id) {
            watched.paths.remove(&path);
        }
        if let Some(of) = self.by_path.get_mut(&path) {
            of.remove(&id);
            let is_over = of.is_empty();
            self.store(path);
            if is_over {
                self.by_path.remove(&path);
            }
        }
    }

    /// Stores whether one of a path's sessions has failed.
    fn store(&mut self, path: PathId) {
        let failed = |id: &SessionId| {
            let watched = self.sessions.get(id);
            watched.is_some_and(|one| {
                one.view == BfdView::Failed && one.paths.get(&path) == Some(&true)
            })
        };
        let changed = if self.by_path.get(&path).is_some_and(|of| of.iter().any(failed)) {
            self.fib.set_path_down(path, Reason::Bfd)
        } else {
            self.fib.clear_path_down(path, Reason::Bfd)
        };
        if changed {
            self.changes.fetch_add(1, Ordering::Release);
            self.moved.push_back(path);
        }
    }

    /// What sessions did becomes bytes and news.
    fn settle(&mut self, now: Nanos) {
        while let Some((id, event)) = self.machine.poll_event() {
            match event {
                Event::State { at, from, to, why } => {
                    let view = self.sessions.get(&id).map_or(BfdView::Unknown, |one| one.view);
                    let view = view_after(view, (from, to), why);
                    if let Some(watched) = self.sessions.get_mut(&id) {
                        (watched.since, watched.pace) = (at, 1);
                    }
                    self.note(now, id, view, Some(event));
                }
                Event::Pace { factor, .. } => {
                    if let Some(watched) = self.sessions.get_mut(&id) {
                        watched.pace = factor;
                        let view = watched.view;
                        self.note(now, id, view, Some(event));
                    }
                }
            }
        }
    }

    /// A neighbour that says after a failure that an operator wants the session down says nothing of the path.
    fn forgive(&mut self, now: Nanos, id: SessionId) {
        let is_failed = self.sessions.get(&id).is_some_and(|one| one.view == BfdView::Failed);
        let says = self.machine.get(id).map(|(_, session, _)| session.remote().state);
        if is_failed && says == Some(State::AdminDown) {
            self.note(now, id, BfdView::Unknown, None);
        }
    }

    fn note(&mut self, now: Nanos, id: SessionId, view: BfdView, event: Option<Event>) {
        let Some(watched) = self.sessions.get_mut(&id) else { return };
        let ends = watched.ends;
        if std::mem::replace(&mut watched.view, view) != view {
            if view == BfdView::Up {
                watched.paths.values_mut().for_each(|was_up| *was_up = true);
            }
            let paths: Vec<PathId> = watched.paths.keys().copied().collect();
            for path in paths {
                self.store(path);
            }
        }
        let stored = self.clock.map_or(now, |clock| clock());
        self.news.push_back(BfdNews { ends, view, stored, event });
    }

    /// Workers know these sessions from now on; those that stay keep their policers.
    fn publish(&self, snapshot: &Snapshot) {
        let before = snapshot.bfd.sessions();
        let mut known = HashMap::with_capacity(self.sessions.len());
        for (&id, watched) in &self.sessions {
            let Some((_, session, _)) = self.machine.get(id) else { continue };
            let (discriminator, rate) = (session.discriminator(), rate_of(session.config()));
            let same = before.get(&watched.ends);
            let same = same.filter(|one| (one.discriminator, one.rate) == (discriminator, rate));
            let entry =
                same.map_or_else(|| Arc::new(KnownSession::new(discriminator, rate)), Arc::clone);
            known.insert(watched.ends, entry);
        }
        snapshot.bfd.publish(known);
    }
}

/// What a session says of its path after a change of its state.
fn view_after(before: BfdView, (from, to): (State, State), why: Why) -> BfdView {
    match (from, to, why) {
        (_, State::Up, _) => BfdView::Up,
        (_, State::AdminDown, _) | (_, _, Why::NeighborAdminDown) => BfdView::Unknown,
        (State::Up, ..) => BfdView::Failed,
        _ => before,
    }
}

/// Packets a second that the neighbour may send: it keeps to the interval that the session can receive in,
/// less up to a quarter (RFC 5880, section 6.8.7).
fn rate_of(config: &SessionConfig) -> u32 {
    let interval_us = config.intervals.required_min_rx_us.max(1);
    1_000_000_u32.div_ceil(interval_us).saturating_mul(4) / 3 + 1
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

/// Class selector 6, of what holds a network together (RFC 2474, RFC 4594).
const CS6: u8 = 48 << 2;

/// IPv6 and UDP.
const HEADERS_MAX: usize = 40 + 8;

/// How long a session that is removed says so: three packets.
const LEAVING: Duration = Duration::from_millis(2_500);
