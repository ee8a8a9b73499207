//! BGP sessions on the host stack: bytes between its connections and each neighbour's session, and what
//! neighbours announce into a lane for each of them.

mod ordered;
mod ranges;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use crossbeam_channel::{Sender, TrySendError};

use self::ordered::Ordered;
use self::ranges::Ranges;
pub use self::ranges::Refused;
use crate::batch::Exit;
use crate::bgp::lane::{
    BgpNews, BgpOrder, Change, Clear, Knock, Link, NeighborSpec, PREFIXES_WAITING_MAX, Peering,
};
use crate::bgp::lease::{Lease, LeaseState, Part};
use crate::bgp::session::{Action, Counters, Event, Progress, Said, Session, Side, State};
use crate::bgp::{AttributeStore, FAMILIES, Notification, RefreshKind, codes};
use crate::host::{Host, Progress as TcpProgress, SocketId, TcpOptions};
use crate::ids::{Family, NeighborId, PortId};
use crate::time::Nanos;

/// Every session.
#[derive(Default)]
pub struct Speaker {
    neighbors: BTreeMap<NeighborId, Neighbor>,
    /// By local address.
    listeners: BTreeMap<IpAddr, SocketId>,
    store: AttributeStore,
    /// Whether what is announced may stand.
    lease: Lease,
    /// Who is served first.
    first: usize,
    /// The last poll had no time for everybody.
    was_short: bool,
    buffer: Vec<u8>,
    /// Whether something was sent into a lane since it was last asked.
    has_news: bool,
    /// Whether there is work that waits for nobody but its turn.
    is_behind: bool,
    /// Of the sessions' jitter.
    seed: u64,
    ranges: Ranges,
}

struct Neighbor {
    peering: Peering,
    /// As configured or learned; without one there is no session yet.
    address: Option<IpAddr>,
    lane: Sender<BgpNews>,
    lost: Arc<AtomicBool>,
    waiting: Arc<AtomicUsize>,
    session: Session,
    ordered: Ordered,
    incoming: Option<SocketId>,
    outgoing: Option<SocketId>,
    /// Whether the outgoing connection is still being made.
    is_opening: bool,
    /// What did not fit into its lane; while there is any, no routes are read.
    news: VecDeque<BgpNews>,
    /// Whether anything was moved into its lane in this poll.
    has_news: bool,
    /// A message waits for room in the lane.
    is_held: bool,
    /// BFD has lost the neighbour: its session begins again by then, or once BFD is up.
    rests_until: Option<Nanos>,
}

/// What is left of a poll, for all neighbours together.
struct Budget {
    bytes: usize,
    /// A message is one, and so are some prefixes of it.
    work: usize,
}

/// How far the messages that came are read.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Read {
    /// All whole ones.
    All,
    /// The next one waits for room in the lane.
    Held,
    /// The poll has no time left.
    Some,
}

impl Speaker {
    /// Without neighbours. `seed` decides the jitter of their sessions.
    pub fn new(seed: u64) -> Self {
        Self { seed, ..Self::default() }
    }

    /// Whether there is anybody to speak with.
    pub fn has_neighbors(&self) -> bool {
        !self.neighbors.is_empty() || !self.ranges.is_empty()
    }

    /// Does what the control plane asks.
    pub fn handle_order(&mut self, now: Nanos, host: &mut Host, order: BgpOrder) {
        match order {
            BgpOrder::Announce(id, changes, end) => self.announce(id, changes, end),
            BgpOrder::Bfd(id, is_lost) => self.heed_bfd(now, id, is_lost),
            BgpOrder::Begin(spec) => self.set_neighbor(now, host, *spec),
            BgpOrder::Keep(id, octets) => {
                if let Some(neighbor) = self.neighbors.get_mut(&id) {
                    neighbor.session.keep_transcript(octets);
                }
            }
            BgpOrder::End(id, why) => self.remove_neighbor(now, host, id, &why),
            BgpOrder::Lease(rules) => {
                let before = self.lease.state();
                self.lease.set_rules(rules);
                self.follow_lease(now, before);
            }
            BgpOrder::Room => self.is_behind = true,
            BgpOrder::Clear(id, how) => self.clear(now, id, how),
            BgpOrder::Mark(id, family, kind) => self.mark(id, family, kind),
            BgpOrder::Ranges(ranges, knocks) => {
                self.ranges.set(host, ranges, knocks);
                self.listen(host);
                self.is_behind = true;
            }
            BgpOrder::Refuse(knock) => self.ranges.refuse(host, knock),
            BgpOrder::Prefixes(id, family, count) => self.note_prefixes(now, id, family, count),
        }
    }

    /// Begins a session with a neighbour, or another one if what is wanted of it changed.
    fn set_neighbor(&mut self, now: Nanos, host: &mut Host, spec: NeighborSpec) {
        let NeighborSpec { id, peering, lane, transcript, lost, waiting } = spec;
        self.remove_neighbor(now, host, id, "reconfigured");
        let seed = self.seed.wrapping_add(u64::from(id.0));
        let lease = self.lease.state();
        let mut session = Session::new(peering.session.clone(), seed);
        session.keep_transcript(transcript);
        if peering.address.is_some() {
            session.start(now);
        }
        let mut neighbor = Neighbor {
            address: peering.address,
            peering,
            lane,
            lost,
            waiting,
            session,
            ordered: Ordered::default(),
            incoming: None,
            outgoing: None,
            is_opening: false,
            news: (lease != LeaseState::Held)
                .then_some(BgpNews::Lease(now, lease))
                .into_iter()
                .collect(),
            has_news: false,
            is_held: false,
            rests_until: None,
        };
        if neighbor.peering.session.dynamic {
            let address = neighbor.peering.address;
            let held = address.and_then(|one| self.ranges.take((one, neighbor.peering.local)));
            match held {
                Some(socket) => neighbor.take_incoming(now, host, socket),
                // It is gone already.
                None => neighbor.news.push_back(BgpNews::Ended),
            }
        }
        self.neighbors.insert(id, neighbor);
        self.listen(host);
        self.is_behind = true;
    }

    /// A neighbour that advertises itself on a port has this address. Another address than before counts once
    /// the session is not established: of several on a link, none ends the session of one that is well.
    pub fn meet(&mut self, now: Nanos, host: &mut Host, port: PortId, address: IpAddr) {
        for neighbor in self.neighbors.values_mut() {
            let is_looked_for = neighbor.peering.address.is_none()
                && neighbor.peering.link.is_some_and(|link| link.port == port);
            let is_well = neighbor.session.state() == State::Established;
            if !is_looked_for || neighbor.address == Some(address) || is_well {
                continue;
            }
            if neighbor.address.replace(address).is_some() {
                let moved = Notification::shutdown(codes::ADMIN_RESET, "another router is there");
                neighbor.session.stop(now, &moved);
                neighbor.act(now, host);
            }
            neighbor.news.push_back(BgpNews::Found(address));
            neighbor.session.start(now);
            self.is_behind = true;
        }
    }

    /// Ends a neighbour's session; `why` is what the neighbour hears (RFC 9003).
    fn remove_neighbor(&mut self, now: Nanos, host: &mut Host, id: NeighborId, why: &str) {
        let Some(mut neighbor) = self.neighbors.remove(&id) else { return };
        neighbor.session.stop(now, &Notification::shutdown(codes::ADMIN_SHUTDOWN, why));
        neighbor.act(now, host);
        for socket in [neighbor.incoming, neighbor.outgoing].into_iter().flatten() {
            host.tcp_abort(socket);
        }
        self.listen(host);
    }

    /// When [`Self::look`] is due, if it is ever.
    pub fn next_look(&self) -> Option<Nanos> {
        self.lease.poll_timeout().filter(|_| self.has_neighbors())
    }

    /// How many turns those have taken who find out and decide what is to be announced.
    pub fn look(&mut self, now: Nanos, turns: impl IntoIterator<Item = (Part, u64)>) {
        let before = self.lease.state();
        self.lease.look(now, turns);
        self.follow_lease(now, before);
    }

    /// All is said again if the lease is in another state than before.
    fn follow_lease(&mut self, now: Nanos, before: LeaseState) {
        let state = self.lease.state();
        if state == before {
            return;
        }
        log::warn!("bgp: {}", state.text());
        for neighbor in self.neighbors.values_mut() {
            neighbor.ordered.begin_again();
            neighbor.news.push_back(BgpNews::Lease(now, state));
        }
        self.is_behind = true;
    }

    /// What every session has counted.
    pub fn counters(&self) -> impl Iterator<Item = (NeighborId, Counters)> + '_ {
        self.neighbors.iter().map(|(&id, neighbor)| (id, neighbor.session.counters()))
    }

    /// The last messages of a neighbour in both directions; none of one that is not there.
    pub fn transcript(&self, id: NeighborId) -> Vec<Said> {
        self.neighbors.get(&id).map(|neighbor| neighbor.session.transcript()).unwrap_or_default()
    }

    /// Ends all sessions.
    pub fn stop(&mut self, now: Nanos, host: &mut Host, why: &str) {
        for id in self.neighbors.keys().copied().collect::<Vec<_>>() {
            self.remove_neighbor(now, host, id, why);
        }
        self.ranges.drop_all(host);
    }

    /// What became of connections from addresses that no neighbour has.
    pub fn refused(&self) -> Refused {
        self.ranges.refused()
    }

    /// Changes what is announced to a neighbour. Without a session nothing is; the control plane says all
    /// of it again when there is one.
    fn announce(&mut self, id: NeighborId, changes: Vec<Change>, end: bool) {
        let Some(neighbor) = self.neighbors.get_mut(&id) else { return };
        for (nlri, attributes) in changes {
            let how = (&mut self.store, self.lease.state());
            neighbor.ordered.order(&mut neighbor.session, how, nlri, attributes);
        }
        for family in FAMILIES.into_iter().filter(|_| end) {
            let _ = neighbor.session.end_of_rib(family);
        }
        self.is_behind = true;
    }

    /// Marks where a refresh begins or ends, if the neighbour knows such marks.
    fn mark(&mut self, id: NeighborId, family: Family, kind: RefreshKind) {
        let Some(neighbor) = self.neighbors.get_mut(&id) else { return };
        // A session that ended meanwhile takes none.
        let _ = match kind {
            RefreshKind::Begin => neighbor.session.begin_refresh(family),
            _ => neighbor.session.end_refresh(family),
        };
        self.is_behind = true;
    }

    /// Begins a neighbour's session again, or asks for all of its routes.
    fn clear(&mut self, now: Nanos, id: NeighborId, how: Clear) {
        let Some(neighbor) = self.neighbors.get_mut(&id) else { return };
        match how {
            Clear::Restart => {
                neighbor.rests_until = None;
                let reset = Notification::shutdown(codes::ADMIN_RESET, "cleared by the operator");
                neighbor.session.stop(now, &reset);
                if neighbor.address.is_some() {
                    neighbor.session.start(now);
                }
            }
            Clear::Soft => {
                for family in FAMILIES {
                    // One that is not established announces all anyway once it is.
                    let _ = neighbor.session.request_refresh(family);
                }
            }
        }
        self.is_behind = true;
    }

    /// BFD has lost a neighbour: its session ends at once (RFC 9384), and begins again when BFD says so no more.
    /// A neighbour may speak BFD only while the session is there, so it is tried after a while in any case.
    fn heed_bfd(&mut self, now: Nanos, id: NeighborId, is_lost: bool) {
        let Some(neighbor) = self.neighbors.get_mut(&id) else { return };
        let session = &mut neighbor.session;
        let is_going = session.state() != State::Idle || session.poll_timeout().is_some();
        if is_lost && is_going {
            session.stop(now, &Notification::new(codes::BFD_DOWN));
            neighbor.rests_until = Some(now + REST_MAX);
        } else if !is_lost {
            neighbor.rests_until = neighbor.rests_until.map(|_| now);
        }
        self.is_behind = true;
    }

    /// How many prefixes of a family are accepted of a neighbour: its limit may be reached.
    fn note_prefixes(&mut self, now: Nanos, id: NeighborId, family: Family, count: u32) {
        if let Some(neighbor) = self.neighbors.get_mut(&id) {
            neighbor.session.handle_prefix_count(now, family, count);
            self.is_behind = true;
        }
    }

    /// The addresses of the router are others now: it listens where it can.
    pub fn listen(&mut self, host: &mut Host) {
        let of_neighbors = self.neighbors.values().map(|neighbor| neighbor.peering.local);
        let wanted: BTreeSet<IpAddr> = of_neighbors.chain(self.ranges.locals()).collect();
        let gone: Vec<IpAddr> =
            self.listeners.keys().filter(|address| !wanted.contains(address)).copied().collect();
        for address in gone {
            if let Some(listener) = self.listeners.remove(&address) {
                host.tcp_unlisten(listener);
            }
        }
        for local in wanted {
            if self.listeners.contains_key(&local) {
                continue;
            }
            // Whose connections may come from afar is decided once it is known who connects.
            let options = TcpOptions { ttl: u8::MAX, ..TcpOptions::default() };
            if let Ok(listener) = host.tcp_listen(Some(local), BGP_PORT, options) {
                self.listeners.insert(local, listener);
            }
        }
    }

    /// Serves every session in turn, with about so many bytes received for all of them together.
    pub fn poll(&mut self, now: Nanos, host: &mut Host) {
        self.is_behind = false;
        self.accept(now, host);
        self.ranges.expire(now, host);
        let count = self.neighbors.len();
        self.first = if count == 0 { 0 } else { (self.first + 1) % count };
        let mut budget = Budget { bytes: BYTES_PER_POLL, work: WORK_PER_POLL };
        let order: Vec<NeighborId> = {
            let (head, tail) = (self.neighbors.keys().skip(self.first), self.neighbors.keys());
            head.chain(tail.take(self.first)).copied().collect()
        };
        if std::mem::take(&mut self.was_short) {
            self.read_a_little(now, host, &order, &mut budget);
        }
        for id in order {
            let Some(neighbor) = self.neighbors.get_mut(&id) else { continue };
            neighbor.follow(now, host);
            let lease = self.lease.state();
            let behind = neighbor.ordered.say_again(&mut neighbor.session, &mut self.store, lease);
            let more = neighbor.read(now, host, (&mut self.store, &mut self.buffer), &mut budget);
            if neighbor.rests_until.take_if(|until| *until <= now).is_some() {
                neighbor.session.start(now);
            }
            neighbor.session.handle_timeout(now);
            neighbor.act(now, host);
            neighbor.write(now, host);
            neighbor.report(now);
            // A loss is heard of although the lane is full.
            neighbor.flush();
            self.has_news |= std::mem::take(&mut neighbor.has_news);
            self.has_news |= neighbor.lost.load(Ordering::Relaxed);
            self.is_behind |= behind || (more || neighbor.is_held) && neighbor.has_room();
        }
        self.was_short = budget.work == 0 || budget.bytes == 0;
    }

    /// Reads a share of `budget` of everybody: who says little is heard at once, whatever others have to say.
    fn read_a_little(
        &mut self,
        now: Nanos,
        host: &mut Host,
        order: &[NeighborId],
        budget: &mut Budget,
    ) {
        let share = |of: usize| of / (2 * order.len()).max(1);
        let (bytes, work) = (share(budget.bytes).max(BYTES_LEAST), share(budget.work).max(1));
        for id in order {
            let Some(neighbor) = self.neighbors.get_mut(id) else { continue };
            let given = Budget { bytes: bytes.min(budget.bytes), work: work.min(budget.work) };
            let mut left = Budget { bytes: given.bytes, work: given.work };
            neighbor.read(now, host, (&mut self.store, &mut self.buffer), &mut left);
            budget.bytes -= given.bytes - left.bytes;
            budget.work -= given.work - left.work;
        }
    }

    /// When to call [`Self::poll`] next, besides after packets and orders.
    pub fn poll_timeout(&self, now: Nanos) -> Option<Nanos> {
        if self.is_behind && self.has_neighbors() {
            return Some(now);
        }
        let of = |neighbor: &Neighbor| {
            let is_stuck = neighbor.is_held || !neighbor.news.is_empty();
            let retry = is_stuck.then(|| now + LANE_RETRY);
            let timers = [neighbor.session.poll_timeout(), neighbor.rests_until, retry];
            timers.into_iter().flatten().min()
        };
        self.neighbors.values().filter_map(of).chain(self.ranges.due()).min()
    }

    /// Whether a lane has something new since the last call.
    pub fn take_news(&mut self) -> bool {
        std::mem::take(&mut self.has_news)
    }

    /// Takes connections that neighbours opened, and resets those of anybody else.
    fn accept(&mut self, now: Nanos, host: &mut Host) {
        for (local, listener) in &self.listeners {
            for _ in 0..ACCEPTED_PER_POLL {
                let Some((socket, remote)) = host.tcp_accept(*listener) else { break };
                // Link-local addresses are told apart by the port alone.
                let port = host.tcp_port(socket);
                let is_meant = |one: &&mut Neighbor| {
                    (one.address, one.peering.local) == (Some(remote.ip()), *local)
                        && one.peering.link.is_none_or(|link| Some(link.port) == port)
                };
                if let Some(neighbor) = self.neighbors.values_mut().find(is_meant) {
                    neighbor.take_incoming(now, host, socket);
                    continue;
                }
                let dynamic = self.neighbors.values().map(|one| &one.peering);
                let dynamic = dynamic.filter(|one| one.session.dynamic);
                let dynamic = dynamic.filter_map(|one| one.address);
                let knock = Knock { at: now, address: remote.ip(), local: *local };
                self.has_news |= self.ranges.hold(host, (knock, socket), dynamic);
            }
        }
    }
}

impl Neighbor {
    fn socket(&mut self, side: Side) -> &mut Option<SocketId> {
        match side {
            Side::Incoming => &mut self.incoming,
            Side::Outgoing => &mut self.outgoing,
        }
    }

    /// A connection that the neighbour opened, unless there is one that it knows of.
    fn take_incoming(&mut self, now: Nanos, host: &mut Host, socket: SocketId) {
        if self.session.is_forgotten(now, Side::Incoming) {
            self.lose(now, host, Side::Incoming);
        }
        if self.incoming.is_some() || self.session.handle_connected(now, Side::Incoming).is_err() {
            host.tcp_abort(socket);
            return;
        }
        host.tcp_require_ttl(socket, self.session.config().min_ttl.unwrap_or(0));
        self.incoming = Some(socket);
    }

    /// What became of a connection that is being made.
    fn follow(&mut self, now: Nanos, host: &mut Host) {
        let Some(socket) = self.outgoing.filter(|_| self.is_opening) else { return };
        match host.tcp_progress(socket) {
            Some(TcpProgress::Opening) => {}
            Some(TcpProgress::Open(_)) => {
                self.is_opening = false;
                if self.session.handle_connected(now, Side::Outgoing).is_err() {
                    host.tcp_abort(socket);
                    self.outgoing = None;
                }
            }
            _ => self.lose(now, host, Side::Outgoing),
        }
    }

    /// Reads bytes and messages; `true` if there is more to read that has a place to go.
    fn read(
        &mut self,
        now: Nanos,
        host: &mut Host,
        (store, buffer): (&mut AttributeStore, &mut Vec<u8>),
        budget: &mut Budget,
    ) -> bool {
        let mut more = false;
        for side in [Side::Incoming, Side::Outgoing] {
            let Some(socket) = *self.socket(side) else { continue };
            if side == Side::Outgoing && self.is_opening {
                continue;
            }
            let room = self.session.room(side).min(budget.bytes);
            buffer.resize(room, 0);
            match host.tcp_receive(socket, buffer) {
                Ok(len) => {
                    self.session.handle_bytes(side, &buffer[..len]);
                    budget.bytes -= len;
                    more |= len > 0 && len == room;
                }
                // Its last messages are read before the session hears of it.
                Err(_) if self.read_messages(now, store, budget) == Read::All => {
                    self.lose(now, host, side);
                }
                Err(_) => more = true,
            }
        }
        // A message that waits for room is read once there is some, also if no byte comes after it.
        let read = self.read_messages(now, store, budget);
        self.is_held = read == Read::Held;
        more || read == Read::Some
    }

    /// Whether routes may be read: what they say has a place.
    fn has_room(&self) -> bool {
        self.news.len() < NEWS_WAITING_MAX
            && self.waiting.load(Ordering::Relaxed) < PREFIXES_WAITING_MAX
    }

    /// Reads messages while there is room for what they say, and time.
    fn read_messages(
        &mut self,
        now: Nanos,
        store: &mut AttributeStore,
        budget: &mut Budget,
    ) -> Read {
        while budget.work > 0 {
            self.report(now);
            match self.session.receive(now, store, self.has_room()) {
                Progress::Idle => return Read::All,
                Progress::Full => return Read::Held,
                Progress::Handled => budget.work -= 1,
                Progress::Received(received) => {
                    self.report(now);
                    let news = BgpNews::Received(received);
                    let prefixes = news.prefixes();
                    budget.work = budget.work.saturating_sub(1 + prefixes / PREFIXES_PER_WORK);
                    self.waiting.fetch_add(prefixes, Ordering::Relaxed);
                    self.news.push_back(news);
                    self.flush();
                }
            }
        }
        Read::Some
    }

    fn lose(&mut self, now: Nanos, host: &mut Host, side: Side) {
        if let Some(socket) = self.socket(side).take() {
            host.tcp_abort(socket);
        }
        if side == Side::Outgoing {
            self.is_opening = false;
        }
        self.session.handle_closed(now, side);
    }

    /// Does what the session asks for.
    fn act(&mut self, now: Nanos, host: &mut Host) {
        while let Some(action) = self.session.poll_action() {
            match action {
                Action::Connect { min_ttl } => self.connect(now, host, min_ttl),
                Action::Close { side, last } => {
                    let Some(socket) = self.socket(side).take() else { continue };
                    if side == Side::Outgoing {
                        self.is_opening = false;
                    }
                    let is_said = !last.is_empty() && host.tcp_send(socket, &last).is_ok();
                    if is_said { host.tcp_close(socket) } else { host.tcp_abort(socket) }
                }
            }
        }
    }

    fn connect(&mut self, now: Nanos, host: &mut Host, min_ttl: Option<u8>) {
        let options = TcpOptions {
            pin: self.peering.link.map(|Link { port, adjacency }| Exit { adjacency, port }),
            ttl: self.peering.ttl,
            min_ttl: min_ttl.unwrap_or(0),
            ..TcpOptions::default()
        };
        let remote = self.address.map(|address| SocketAddr::new(address, BGP_PORT));
        let opened =
            remote.and_then(|remote| host.tcp_connect(self.peering.local, remote, options).ok());
        match opened {
            Some(socket) => {
                self.outgoing = Some(socket);
                self.is_opening = true;
            }
            // An address whose port is not there; it is tried again.
            None => self.session.handle_closed(now, Side::Outgoing),
        }
    }

    /// Sends what the connections take.
    fn write(&mut self, now: Nanos, host: &mut Host) {
        for side in [Side::Incoming, Side::Outgoing] {
            let Some(socket) = *self.socket(side) else { continue };
            for _ in 0..WRITES_PER_POLL {
                let bytes = self.session.transmit(now, side);
                if bytes.is_empty() {
                    break;
                }
                let Ok(count @ 1..) = host.tcp_send(socket, bytes) else { break };
                self.session.handle_sent(now, side, count);
            }
        }
    }

    /// What happened becomes news.
    fn report(&mut self, now: Nanos) {
        while let Some(event) = self.session.poll_event() {
            self.news.push_back(match event {
                Event::Down { was_established, cause } => {
                    if was_established {
                        self.ordered.clear();
                        self.lost.store(true, Ordering::Release);
                    }
                    BgpNews::Down { at: now, was_established, why: cause.to_string() }
                }
                Event::Established(negotiated) => BgpNews::Established(now, negotiated),
                Event::RefreshRequested(family) => BgpNews::Refresh(family),
                Event::State { to, .. } => BgpNews::State(to),
                Event::NotAnnounced { nlri, why } => {
                    log::error!("{} route(s) cannot be announced: {why}", nlri.len());
                    continue;
                }
                Event::PrefixesNearLimit { family, count } => {
                    let address = self.address.map_or("?".to_owned(), |one| one.to_string());
                    let family = family.label();
                    log::warn!("{address} announces {count} {family} prefixes, nearly too many");
                    continue;
                }
                Event::Ended => BgpNews::Ended,
            });
        }
    }

    /// Moves news into the lane.
    fn flush(&mut self) {
        while let Some(news) = self.news.pop_front() {
            match self.lane.try_send(news) {
                Ok(()) => self.has_news = true,
                Err(TrySendError::Full(news)) => {
                    self.news.push_front(news);
                    break;
                }
                // Nobody keeps this neighbour's routes any more.
                Err(TrySendError::Disconnected(_)) => {}
            }
        }
    }
}

/// How long a session that BFD took down waits for BFD.
const REST_MAX: std::time::Duration = std::time::Duration::from_secs(30);

const BGP_PORT: u16 = 179;

/// More than is read in the time of [`WORK_PER_POLL`].
const BYTES_PER_POLL: usize = 96 * 1024;

/// Room for the longest message: less is not worth a look.
const BYTES_LEAST: usize = 4096;

/// About a third of a millisecond: after that checks have their turn.
const WORK_PER_POLL: usize = 128;

/// Prefixes of a message that are decoded in the time that its attributes take.
const PREFIXES_PER_WORK: usize = 32;

/// Connections taken of each listener between two looks at anything else.
const ACCEPTED_PER_POLL: usize = 8;

/// Fillings of a send buffer.
const WRITES_PER_POLL: usize = 4;

/// News that wait for room in the lane before no more routes are read. Events of a session come besides:
/// few, for none comes while it cannot be told.
const NEWS_WAITING_MAX: usize = 1;

/// When news that did not fit are sent again.
const LANE_RETRY: std::time::Duration = std::time::Duration::from_millis(1);
