//! One router: the engines that its threads run, stepped one after the other in an order that the seed
//! draws, with lanes between them that may be slow or full.
#![forbid(unsafe_code)]

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use arc_swap::ArcSwap;

use super::worker::SimWorker;
use crate::batch::LocalLane;
use crate::bgp::lease::Part;
use crate::config::Config;
use crate::control::{Control, ReloadError};
use crate::engine::{
    BfdEngine, ControlEngine, EngineOrder, HostEngine, HostEngineParts, HostOrder, LivenessEngine,
    LivenessNews, LivenessOrder, PlaneEngine, PlaneParts, Sent, StateLane,
};
use crate::event::EventKind;
use crate::forward::{Counters, Snapshot, Snapshots};
use crate::ids::PortId;
use crate::liveness::leg::TcpCheckKey;
use crate::liveness::monitor::Monitor;
use crate::liveness::proof::{Injection, Prover};
use crate::port::Port;
use crate::port::memory::{LinkState, MemoryPort};
use crate::probe::{CheckEvent, Rng};
use crate::time::Nanos;

/// A router without threads, sockets and clock: its worker and the engines beside it, over ports in memory.
/// Deterministic: the same calls produce the same packets and events.
pub struct Node {
    name: String,
    worker: SimWorker,
    liveness: LivenessEngine,
    host: HostEngine,
    control: ControlEngine,
    lanes: Lanes,
    devices: BTreeMap<String, Arc<MemoryPort>>,
    rng: Rng,
    stalled: BTreeSet<RouterThread>,
    /// Threads that get no turn until a time.
    held: BTreeMap<RouterThread, Nanos>,
    /// How many turns each thread has taken.
    turns: BTreeMap<RouterThread, u64>,
}

/// What is on its way from one engine to another.
#[derive(Default)]
struct Lanes {
    /// Packets from the worker to the liveness engine.
    answers: VecDeque<(PortId, Vec<u8>)>,
    /// BFD packets from the worker to the liveness engine, and when they were read.
    bfd: VecDeque<(Nanos, PortId, Vec<u8>)>,
    /// From the liveness engine to the worker.
    injections: VecDeque<Injection>,
    /// Packets from the worker to the host engine.
    packets: VecDeque<(PortId, Vec<u8>)>,
    to_liveness: VecDeque<ToLiveness>,
    to_host: VecDeque<HostOrder>,
    /// From the liveness engine to the host engine: how many of `to_host` may be of this kind is drawn.
    carriers: StateLane<PortId, bool>,
    /// From the host engine to the liveness engine.
    verdicts: StateLane<TcpCheckKey, CheckEvent>,
    news: VecDeque<LivenessNews>,
    /// The next of the news, which did not fit.
    next_news: Option<LivenessNews>,
    /// Room in the lanes of state.
    room: usize,
    /// Room in that of news.
    news_room: usize,
}

/// What the liveness engine hears, in the order in which it was said.
enum ToLiveness {
    Order(LivenessOrder),
    /// The kernel's news.
    Carrier(PortId, bool),
}

/// A thread of a router that can be stalled while the others run.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum RouterThread {
    /// The control thread: nothing is published and no event is emitted. Liveness still reaches the
    /// worker, because the liveness thread stores it.
    Control,
    /// The host thread: TCP checks have no verdict.
    Host,
    /// The liveness thread: nothing is found out.
    Liveness,
    /// The worker: packets, including answers to probes, wait in the ports.
    Worker,
}

impl RouterThread {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Control, Self::Host, Self::Liveness, Self::Worker];
}

/// Why a router does not accept a configuration.
#[derive(Debug, thiserror::Error)]
pub enum NodeError {
    /// The change requires a restart. Nothing was changed.
    #[error(transparent)]
    Ports(#[from] ReloadError),
}

impl Node {
    /// A router with this configuration, whose ports all have carrier. The identifiers and source
    /// ports of its probes, the order of its engines and the room of its lanes follow from `seed`.
    ///
    /// # Errors
    /// See [`Self::apply`].
    ///
    /// # Panics
    /// Never: a FIB for so many readers hands out as many.
    pub fn new(now: Nanos, config: Config, seed: u64) -> Result<Self, NodeError> {
        let (writer, handle) = nearhop_fib::fib(READERS);
        let snapshots = Arc::new(ArcSwap::from_pointee(Control::empty_snapshot()));
        let changes = Arc::new(AtomicU64::new(0));
        let reader = || handle.reader().expect("the FIB was made for so many readers");
        let plane = PlaneParts {
            index: 0,
            workers: 1,
            reader: reader(),
            snapshots: Arc::clone(&snapshots),
            changes: Arc::clone(&changes),
        };
        let host = HostEngineParts {
            reader: reader(),
            snapshots: Arc::clone(&snapshots),
            changes: Arc::clone(&changes),
            seed,
        };
        let monitor = Monitor::new(handle.clone(), Arc::clone(&changes), seed);
        let bfd = BfdEngine::new(handle.clone(), reader(), Arc::clone(&changes), seed);
        let mut rng = Rng::new(seed ^ ORDER_SEED);
        let room = 1 + rng.next_u64() as usize % ROOM_MAX;
        let news_room = 1 + rng.next_u64() as usize % NEWS_ROOM_MAX;
        let step = 1 << (rng.next_u64() % u64::from(STEP_BITS));
        let mut node = Self {
            name: config.router.name.clone(),
            worker: SimWorker::new(PlaneEngine::new(plane)),
            liveness: LivenessEngine::new(
                now,
                (monitor, bfd, Prover::new(1, seed)),
                Snapshots::new(Arc::clone(&snapshots)),
            ),
            host: HostEngine::new(now, host),
            // A simulated publication takes no time.
            control: ControlEngine::new(Control::new(
                writer,
                handle.clone(),
                snapshots,
                changes,
                config.clone(),
                || Nanos::ZERO,
            )),
            lanes: Lanes { room, news_room, ..Lanes::default() },
            devices: BTreeMap::new(),
            rng,
            stalled: BTreeSet::new(),
            held: BTreeMap::new(),
            turns: BTreeMap::new(),
        };
        node.control.set_changes_per_step(step);
        node.apply(now, config)?;
        Ok(node)
    }

    /// Applies another configuration, as a reload does; [`Self::step`] publishes it. New ports have
    /// carrier.
    ///
    /// # Errors
    /// See [`NodeError`].
    pub fn apply(&mut self, now: Nanos, config: Config) -> Result<(), NodeError> {
        self.hear(now);
        let mut devices: BTreeMap<String, Arc<dyn Port>> = BTreeMap::new();
        for port in self.control.ports_to_open(&config)? {
            let (near, _) = MemoryPort::pair(QUEUE);
            devices.insert(port.name.clone(), Arc::clone(&near) as Arc<dyn Port>);
            self.devices.insert(port.name.clone(), near);
        }
        let names: BTreeSet<String> = config.ports.iter().map(|port| port.name.clone()).collect();
        self.control.apply(now, Arc::new(config), devices);
        self.pass_orders_on();
        self.devices.retain(|name, _| names.contains(name));
        Ok(())
    }

    /// Reports that a port's carrier came up or went down; ignores unknown names.
    pub fn set_carrier(&mut self, port: &str, up: bool) {
        let port = self.control.ports().find(|known| known.name() == port);
        let news = port.map(|port| ToLiveness::Carrier(port.id, up));
        self.lanes.to_liveness.extend(news);
    }

    /// Cuts or joins the wire of a port. Its device refuses packets at once; the router learns of
    /// it by [`Self::set_carrier`] or by its checks.
    pub fn set_wire(&mut self, port: &str, up: bool) {
        if let Some(device) = self.devices.get(port) {
            device.set_link(if up { LinkState::Up } else { LinkState::Down });
        }
    }

    /// Drains or undrains a site; `false` if no service has it.
    pub fn drain(&mut self, now: Nanos, site: &str, drained: bool) -> bool {
        self.hear(now);
        self.control.drain(now, site, drained, "the trial")
    }

    /// Ends the damping of every leg.
    pub fn clear_damping(&mut self) {
        self.lanes.to_liveness.push_back(ToLiveness::Order(LivenessOrder::ClearDamping));
    }

    /// Stalls a thread or resumes it.
    pub fn stall(&mut self, part: RouterThread, stalled: bool) {
        if stalled {
            self.stalled.insert(part);
        } else {
            self.stalled.remove(&part);
        }
    }

    /// Whether a thread is stalled.
    pub fn stalls(&self, part: RouterThread) -> bool {
        self.stalled.contains(&part)
    }

    /// Does everything that is due: the engines have their turns in an order that is drawn for each
    /// round, until none has anything to do. Now and then one gets no turn for a moment.
    pub fn step(&mut self, now: Nanos) {
        self.held.retain(|_, until| *until > now);
        if self.rng.next_u64().is_multiple_of(HELD_ONE_IN) {
            let part = HELD[self.rng.next_u64() as usize % HELD.len()];
            let long = Duration::from_nanos(self.rng.next_u64() % HELD_MAX_NS);
            self.held.insert(part, now + long);
        }
        for _ in 0..ROUNDS_MAX {
            let mut order = RouterThread::ALL;
            for left in (1..order.len()).rev() {
                order.swap(left, self.rng.next_u64() as usize % (left + 1));
            }
            let mut any = false;
            for part in order {
                if !self.stalls(part) && !self.held.contains_key(&part) {
                    any |= self.turn(now, part);
                }
            }
            if !any {
                break;
            }
        }
    }

    /// When to call [`Self::step`] next, unless a packet arrives earlier. The value may change
    /// after any call that takes `&mut self`.
    #[must_use]
    pub fn poll_timeout(&mut self, now: Nanos) -> Option<Nanos> {
        let of = |part, due: Option<Nanos>| {
            let until = self.held.get(&part).copied();
            match (self.stalled.contains(&part), until) {
                (true, _) => None,
                // It is late then.
                (_, Some(until)) => Some(until),
                (_, None) => due,
            }
        };
        let again = |behind: bool| behind.then(|| now + RETRY_AFTER);
        let is_behind = self.lanes.carriers.is_behind() || self.lanes.next_news.is_some();
        let liveness = [self.liveness.poll_timeout(), again(is_behind)];
        let host = [self.host.poll_timeout(now), again(self.lanes.verdicts.is_behind())];
        let first = |due: [Option<Nanos>; 2]| due.into_iter().flatten().min();
        let (liveness, host) = (first(liveness), first(host));
        let due = [
            of(RouterThread::Liveness, liveness),
            of(RouterThread::Host, host),
            of(RouterThread::Control, self.control.bgp_timeout()),
        ];
        due.into_iter().flatten().min()
    }

    /// Takes the oldest event: when it happened, and what. Call until `None` after every call that
    /// takes `&mut self`.
    pub fn poll_event(&mut self) -> Option<(Nanos, EventKind)> {
        self.control.poll_event()
    }

    /// The router's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The device of a port: inject packets into it for the router to receive, drain what it sent.
    pub fn device(&self, port: &str) -> Option<&Arc<MemoryPort>> {
        self.devices.get(port)
    }

    /// The control plane's state.
    pub fn control(&self) -> &Control {
        &self.control
    }

    /// The monitor's state.
    pub fn monitor(&self) -> &Monitor {
        self.liveness.monitor()
    }

    /// The BFD sessions.
    pub fn bfd(&self) -> &BfdEngine {
        self.liveness.bfd()
    }

    /// The counters of the worker, and of the host stack's own packets.
    pub fn counters(&self) -> Counters {
        let mut counters = self.worker.plane.counters().clone();
        counters.add(self.host.counters());
        counters
    }

    /// Probes that their port did not take.
    pub fn probes_lost(&self) -> u64 {
        self.liveness.unsent()
    }

    /// A thread's turn; returns whether there was anything to do for it but what the clock brings.
    fn turn(&mut self, now: Nanos, part: RouterThread) -> bool {
        *self.turns.entry(part).or_default() += 1;
        match part {
            RouterThread::Control => self.turn_of_control(now),
            RouterThread::Host => self.turn_of_host(now),
            RouterThread::Liveness => self.turn_of_liveness(now),
            RouterThread::Worker => self.turn_of_worker(now),
        }
    }

    fn turn_of_worker(&mut self, now: Nanos) -> bool {
        let Lanes { answers, bfd, injections, packets, .. } = &mut self.lanes;
        let injected = std::mem::take(injections);
        self.worker.run(now, injected, &mut |lane, port, packet| {
            let push = |lane: &mut VecDeque<(PortId, Vec<u8>)>| {
                let has_room = lane.len() < PACKETS_MAX;
                if has_room {
                    lane.push_back((port, packet.to_vec()));
                }
                has_room
            };
            match lane {
                LocalLane::Bfd => {
                    let has_room = bfd.len() < PACKETS_MAX;
                    bfd.extend(has_room.then(|| (now, port, packet.to_vec())));
                    has_room
                }
                LocalLane::Checks => push(answers),
                LocalLane::Host => push(packets),
                LocalLane::Fragments => {
                    push(answers);
                    push(packets)
                }
            }
        })
    }

    fn turn_of_liveness(&mut self, now: Nanos) -> bool {
        let lanes = &mut self.lanes;
        let mut any = !(lanes.answers.is_empty() && lanes.to_liveness.is_empty());
        any |= !lanes.bfd.is_empty();
        for (received, port, packet) in lanes.bfd.drain(..) {
            self.liveness.handle_bfd(received, port, &packet);
        }
        for (port, packet) in lanes.answers.drain(..) {
            self.liveness.handle_packet(now, port, &packet);
        }
        for said in lanes.to_liveness.drain(..) {
            match said {
                ToLiveness::Order(order) => self.liveness.handle_order(now, order),
                ToLiveness::Carrier(port, up) => self.liveness.handle_carrier(now, port, up),
            }
        }
        let devices = &self.devices;
        self.liveness.serve_bfd(now, |snapshot, port, _| match port {
            Some(port) => has_unread(devices, snapshot, port),
            None => snapshot.ports().any(|(port, _)| has_unread(devices, snapshot, port)),
        });
        self.liveness.handle_timeout(now, |snapshot, port, _| has_unread(devices, snapshot, port));
        self.liveness.transmit(now);
        while let Some(injection) = self.liveness.poll_injection() {
            lanes.injections.push_back(injection);
            any = true;
        }
        while let Some((port, up)) = self.liveness.poll_carrier() {
            lanes.carriers.set(port, up);
        }
        // Now and then others have filled it.
        let room = if self.rng.next_u64().is_multiple_of(FULL_ONE_IN) { 0 } else { lanes.room };
        let to_host = &mut lanes.to_host;
        any |= lanes.carriers.flush(|port, up| put(to_host, room, HostOrder::Carrier(port, up)))
            && !lanes.carriers.is_behind();
        let full = self.rng.next_u64().is_multiple_of(FULL_ONE_IN);
        let room = if full { 0 } else { lanes.news_room };
        while let Some(news) = lanes.next_news.take().or_else(|| self.liveness.poll_news()) {
            if lanes.news.len() >= room {
                lanes.next_news = Some(news);
                break;
            }
            lanes.news.push_back(news);
            any = true;
        }
        if lanes.news.is_empty()
            && lanes.next_news.is_none()
            && let Some(times) = self.liveness.poll_round_trips()
        {
            lanes.news.push_back(times);
            any = true;
        }
        any
    }

    fn turn_of_host(&mut self, now: Nanos) -> bool {
        let lanes = &mut self.lanes;
        let mut any = !(lanes.packets.is_empty() && lanes.to_host.is_empty());
        for order in lanes.to_host.drain(..) {
            self.host.handle_order(now, order);
        }
        for (port, mut packet) in lanes.packets.drain(..) {
            self.host.handle_packet(now, port, &mut packet);
        }
        if self.host.next_look().is_some_and(|at| at <= now) {
            let turns = |part| self.turns.get(&part).copied().unwrap_or_default();
            self.host.look(now, PARTS.map(|(part, thread)| (part, turns(thread))));
        }
        let devices = &self.devices;
        self.host.poll(now, |snapshot, port, _| has_unread(devices, snapshot, port));
        while let Some((key, event)) = self.host.poll_verdict() {
            lanes.verdicts.set(key, event);
        }
        let room = if self.rng.next_u64().is_multiple_of(FULL_ONE_IN) { 0 } else { lanes.room };
        let to_liveness = &mut lanes.to_liveness;
        any |= lanes.verdicts.flush(|key, event| {
            let verdict = LivenessOrder::TcpVerdict(key, event);
            put(to_liveness, room, ToLiveness::Order(verdict))
        }) && !lanes.verdicts.is_behind();
        any | self.host.take_bgp_news()
    }

    /// What the control engine is told; before an order, what happened before that.
    fn hear(&mut self, now: Nanos) -> bool {
        for first in self.worker.plane.first_packets() {
            self.control.handle_first_packet(0, first);
        }
        let news = std::mem::take(&mut self.lanes.news);
        let any = !news.is_empty();
        for news in news {
            self.control.handle_news(now, news);
        }
        any
    }

    fn turn_of_control(&mut self, now: Nanos) -> bool {
        let mut any = self.control.is_unpublished()
            || self.control.has_bgp_news()
            || self.control.is_announcing();
        any |= self.hear(now);
        self.control.announce(now);
        // What a stalled reader holds back is published by a later step.
        any &= self.control.publish_step(now).is_ok();
        if self.control.is_unpublished() || self.control.has_bgp_news() {
            // Others have their turns meanwhile.
            let long = Duration::from_nanos(1 + self.rng.next_u64() % STEP_MAX_NS);
            self.held.insert(RouterThread::Control, now + long);
        }
        self.control.reclaim();
        any | self.pass_orders_on()
    }

    /// Orders to the other engines. A new port has carrier, as its kernel says at once.
    fn pass_orders_on(&mut self) -> bool {
        let mut any = false;
        while let Some(order) = self.control.poll_order() {
            any = true;
            match order {
                EngineOrder::Host(order) => self.lanes.to_host.push_back(order),
                EngineOrder::Liveness(order) => {
                    let port = match &order {
                        LivenessOrder::Port(exit) => Some(exit.port),
                        _ => None,
                    };
                    let lane = &mut self.lanes.to_liveness;
                    lane.push_back(ToLiveness::Order(order));
                    lane.extend(port.map(|port| ToLiveness::Carrier(port, true)));
                }
            }
        }
        any
    }
}

/// Into a lane that holds so much.
fn put<T>(lane: &mut VecDeque<T>, room: usize, item: T) -> Sent {
    if lane.len() >= room {
        return Sent::Full;
    }
    lane.push_back(item);
    Sent::Yes
}

/// Whether packets lie in a port that the worker has not read.
fn has_unread(
    devices: &BTreeMap<String, Arc<MemoryPort>>,
    snapshot: &Snapshot,
    port: PortId,
) -> bool {
    let device = snapshot.port(port).and_then(|entry| devices.get(&entry.name));
    device.is_some_and(|device| device.has_unread())
}

/// Those whose turns the lease of announcements rests on.
const PARTS: [(Part, RouterThread); 3] = [
    (Part::Control, RouterThread::Control),
    (Part::Liveness, RouterThread::Liveness),
    (Part::Worker(0), RouterThread::Worker),
];

/// Threads that get no turn now and then.
const HELD: [RouterThread; 3] = [RouterThread::Control, RouterThread::Host, RouterThread::Liveness];

/// One step in so many begins such a time, of up to so many nanoseconds.
const HELD_ONE_IN: u64 = 256;
const HELD_MAX_NS: u64 = 1_000_000;

/// The worker, the host stack and BFD.
const READERS: usize = 3;

/// One turn in so many finds a lane of state full.
const FULL_ONE_IN: u64 = 4;

/// When what did not fit is sent again.
const RETRY_AFTER: Duration = Duration::from_millis(1);

/// So that the order of engines is another number than those of probes.
const ORDER_SEED: u64 = 0x6f72_6465_7221;

/// The most room of a lane of state.
const ROOM_MAX: usize = 4;

/// A step of a publication does up to 2 to the power of one less units of work, and takes up to so many
/// nanoseconds.
const STEP_BITS: u32 = 8;
const STEP_MAX_NS: u64 = 1_000_000;

/// The most room of the lane of news.
const NEWS_ROOM_MAX: usize = 2;

/// Packets that a lane holds.
const PACKETS_MAX: usize = 65_536;

/// Packets that a port queues in each direction until the network takes them.
const QUEUE: usize = 4096;

/// Rounds in one step: enough to empty a full queue.
const ROUNDS_MAX: usize = QUEUE / crate::batch::BURST + 1000;
