//! The host stack on the router's own addresses, and the TCP checks that run on it.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use arc_swap::ArcSwap;
use nearhop_fib::{AdjacencyId, PathId, Reader};

use super::speaker::Speaker;
use crate::batch::Batch;
use crate::bgp::lane::BgpOrder;
use crate::bgp::lease::Part;
use crate::bgp::session::{Counters as SessionCounters, Said};
use crate::forward::{
    Counters, Egress, Scratch, Snapshot, Snapshots, SyscallOutlets, WorkerState, originate,
};
use crate::host::check::TcpChecker;
use crate::host::{Host, HostConfig, HostStats, Outgoing, OwnAddress};
use crate::ids::{NeighborId, PortId};
use crate::liveness::leg::{LegSpec, TcpCheckKey};
use crate::neighbor::{DiscoveryLink, Heard, RouterDiscovery};
use crate::packet::origin::{clamp_mss, mtu_of_own};
use crate::probe::{CheckEvent, CheckId, CheckStats};
use crate::put_back::{self, PutBack};
use crate::time::Nanos;

/// What others ask of the host engine.
#[derive(Clone, Debug)]
pub enum HostOrder {
    /// The router's own addresses are these from now on.
    Addresses(Vec<OwnAddress>),
    /// A port's carrier changed, and is there now or not; there for a port that is gone.
    Carrier(PortId, bool),
    /// The router advertises itself on these links from now on, and looks for neighbours.
    Discover(Vec<DiscoveryLink>),
    /// To the BGP sessions.
    Bgp(BgpOrder),
    /// Forget a leg.
    Forget(PathId),
    /// Take over the TCP checks of a leg; those that it had before are forgotten.
    Watch(LegSpec),
}

/// What the engine is made of.
pub struct HostEngineParts {
    /// Its reader of the FIB.
    pub reader: Reader,
    /// Where snapshots are published.
    pub snapshots: Arc<ArcSwap<Snapshot>>,
    /// Incremented whenever liveness or a group changes.
    pub changes: Arc<AtomicU64>,
    /// For the ports of connections, their sequence numbers, and the jitter of BGP sessions.
    pub seed: u64,
}

/// The host stack, its TCP checks, and its way out.
pub struct HostEngine {
    host: Host,
    checker: TcpChecker,
    speaker: Speaker,
    discovery: RouterDiscovery,
    checks: HashMap<CheckId, TcpCheckKey>,
    by_path: HashMap<PathId, Vec<CheckId>>,
    verdicts: VecDeque<(TcpCheckKey, CheckEvent)>,
    reader: Reader,
    snapshots: Snapshots,
    batch: Batch,
    state: WorkerState,
    scratch: Scratch,
    outlets: SyscallOutlets,
}

impl HostEngine {
    /// Without addresses and checks.
    pub fn new(now: Nanos, parts: HostEngineParts) -> Self {
        let config = HostConfig { addresses: Vec::new(), mtu: MTU_MAX, seed: parts.seed };
        Self {
            host: Host::new(now, config),
            checker: TcpChecker::new(),
            speaker: Speaker::new(parts.seed),
            discovery: RouterDiscovery::new(parts.seed),
            checks: HashMap::new(),
            by_path: HashMap::new(),
            verdicts: VecDeque::new(),
            reader: parts.reader,
            snapshots: Snapshots::new(parts.snapshots),
            batch: Batch::new(),
            state: WorkerState::new(usize::MAX, 1, parts.changes),
            scratch: Scratch::default(),
            outlets: SyscallOutlets::default(),
        }
    }

    /// Does what others ask.
    pub fn handle_order(&mut self, now: Nanos, order: HostOrder) {
        match order {
            HostOrder::Addresses(addresses) => {
                self.host.set_addresses(addresses);
                self.speaker.listen(&mut self.host);
            }
            HostOrder::Bgp(order) => {
                self.speaker.handle_order(now, &mut self.host, order);
                self.introduce(now);
            }
            HostOrder::Carrier(port, up) => {
                self.checker.set_carrier(now, &mut self.host, port, up);
                self.discovery.set_carrier(now, port, up);
                self.take_verdicts();
            }
            HostOrder::Discover(links) => self.discovery.set_links(now, &links),
            HostOrder::Forget(path) => self.forget(path),
            HostOrder::Watch(leg) => self.watch(now, &leg),
        }
    }

    /// A packet to the router. Its TCP asks for no larger segments than the way back has room for.
    pub fn handle_packet(&mut self, now: Nanos, port: PortId, packet: &mut [u8]) {
        if let Some(mtu) = self.snapshots.load().mtu_of(port) {
            clamp_mss(packet, mtu_of_own(packet, usize::from(mtu)));
        }
        match self.discovery.handle_packet(now, port, packet) {
            Heard::Other => {}
            Heard::Handled => return,
            Heard::Neighbor(address) => {
                return self.speaker.meet(now, &mut self.host, port, address.into());
            }
        }
        self.host.handle_packet(now, port, packet);
    }

    /// Runs the stack and the checks, and sends what they say. No check is called silent while `unread`
    /// says that its answers may lie unread: those by a port, due at a time.
    pub fn poll(&mut self, now: Nanos, mut unread: impl FnMut(&Snapshot, PortId, Nanos) -> bool) {
        self.host.poll(now);
        self.discovery.handle_timeout(now);
        let snapshot = self.snapshots.load();
        self.checker.poll_unless(now, &mut self.host, |port, due| {
            unread(snapshot, port, due) && !put_back::is(PutBack::SilentWhileUnread)
        });
        self.host.poll(now);
        self.send();
        self.take_verdicts();
        // After the checks, which must not wait for a neighbour's table.
        if self.speaker.has_neighbors() {
            self.speaker.poll(now, &mut self.host);
            self.host.poll(now);
            self.send();
        }
    }

    /// When [`Self::look`] is due, if it is ever.
    pub fn next_look(&self) -> Option<Nanos> {
        self.speaker.next_look()
    }

    /// How many turns those have taken who find out and decide what is announced.
    pub fn look(&mut self, now: Nanos, turns: impl IntoIterator<Item = (Part, u64)>) {
        self.speaker.look(now, turns);
    }

    /// Whether a neighbour has news since the last call.
    pub fn take_bgp_news(&mut self) -> bool {
        self.speaker.take_news()
    }

    /// Ends every BGP session; the neighbours hear why.
    pub fn end_sessions(&mut self, now: Nanos, why: &str) {
        self.speaker.stop(now, &mut self.host, why);
        self.host.poll(now);
        self.send();
    }

    /// When to call [`Self::poll`] next.
    pub fn poll_timeout(&mut self, now: Nanos) -> Option<Nanos> {
        let timers = [
            self.host.poll_timeout(now),
            self.checker.poll_timeout(),
            self.speaker.poll_timeout(now),
            self.speaker.next_look(),
            self.discovery.poll_timeout(),
        ];
        timers.into_iter().flatten().min()
    }

    /// Takes the oldest verdict of a check.
    pub fn poll_verdict(&mut self) -> Option<(TcpCheckKey, CheckEvent)> {
        self.verdicts.pop_front()
    }

    /// What was sent, by verdict and path.
    pub fn counters(&self) -> &Counters {
        &self.state.counters
    }

    /// What became of the packets for the router.
    pub fn stats(&self) -> HostStats {
        let refused = self.speaker.refused();
        let discovery = self.discovery.stats();
        HostStats {
            bgp_over_limit: refused.over_limit,
            bgp_strangers: refused.stranger,
            routers_heard: discovery.heard,
            discovery_refused: discovery.refused,
            ..self.host.stats()
        }
    }

    /// What every BGP session has counted.
    pub fn bgp_counters(&self) -> impl Iterator<Item = (NeighborId, SessionCounters)> + '_ {
        self.speaker.counters()
    }

    /// The last messages of a BGP neighbour in both directions.
    pub fn bgp_transcript(&self, id: NeighborId) -> Vec<Said> {
        self.speaker.transcript(id)
    }

    /// Every TCP check.
    pub fn check_stats(&self) -> impl Iterator<Item = (TcpCheckKey, CheckStats)> + '_ {
        self.checks.iter().filter_map(|(&id, &key)| Some((key, self.checker.stats(id)?)))
    }

    fn watch(&mut self, now: Nanos, leg: &LegSpec) {
        self.forget(leg.path);
        for (index, spec) in leg.checks.iter().enumerate() {
            if !spec.is_tcp() {
                continue;
            }
            match self.checker.add(now, &self.host, spec.clone()) {
                Ok(id) => {
                    let LegSpec { path, version, .. } = *leg;
                    self.checks.insert(id, TcpCheckKey { path, version, index });
                    self.by_path.entry(path).or_default().push(id);
                }
                Err(error) => log::error!("a TCP check cannot be done: {error}"),
            }
        }
    }

    fn forget(&mut self, path: PathId) {
        for id in self.by_path.remove(&path).into_iter().flatten() {
            self.checker.remove(&mut self.host, id);
            self.checks.remove(&id);
        }
    }

    fn take_verdicts(&mut self) {
        while let Some(event) = self.checker.poll_event() {
            if let Some(&key) = self.checks.get(&event.check) {
                self.verdicts.push_back((key, event));
            }
        }
    }

    /// Says to new sessions which neighbours are known.
    fn introduce(&mut self, now: Nanos) {
        for (port, address) in self.discovery.neighbors() {
            self.speaker.meet(now, &mut self.host, port, address.into());
        }
    }

    /// The next packet to send.
    fn poll_transmit(&mut self) -> Option<Outgoing> {
        let of_link = |(exit, packet)| Outgoing { packet, pin: Some(exit), by: None };
        self.host.poll_transmit().or_else(|| self.discovery.poll_transmit().map(of_link))
    }

    fn send(&mut self) {
        // Also with nothing to send: an old snapshot keeps the devices of removed ports open.
        self.snapshots.load();
        self.outlets.release();
        while let Some(mut outgoing) = self.poll_transmit() {
            self.batch.clear();
            let snapshot = self.snapshots.load();
            let by = |id| snapshot.port(id).map_or(NO_ADJACENCY, |port| port.adjacency);
            let pin = outgoing.pin.map(|exit| exit.adjacency).or(outgoing.by.map(by));
            // Not longer, for what is sent takes system calls.
            let online = self.reader.online();
            let (snapshots, state) = (&mut self.snapshots, &mut self.state);
            originate(&mut outgoing.packet, pin, &mut self.batch, &online, snapshots, state);
            drop(online);
            let snapshot = self.snapshots.load();
            let (counters, scratch) = (&mut self.state.counters, &mut self.scratch);
            Egress { snapshot, counters, scratch }.send(&mut self.batch, &mut self.outlets);
        }
        // The workers, which read these ports, report the same.
        self.scratch.trouble.clear();
        self.outlets.release();
    }
}

/// That of a port that is gone: what would leave by it is counted as such.
const NO_ADJACENCY: AdjacencyId = AdjacencyId(u32::MAX);

/// The stack may make packets as large as there are: each is fitted to the way out it takes.
const MTU_MAX: u16 = u16::MAX;
