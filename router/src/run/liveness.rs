//! The liveness thread: a shell around [`LivenessEngine`] that hears of carrier from the kernel. Nothing
//! else runs here, so that nothing else stands between a fault and the byte that moves packets away from it.
#![forbid(unsafe_code)]
#![allow(clippy::disallowed_methods, reason = "this is a thread's shell")]

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender};
use nearhop_fib::PathId;

use super::host::HostCall;
use super::orders::Orders;
use super::sleep::Sleeper;
use super::steps::Steps;
use super::threads::sent;
use super::turns::Turns;
use super::watched::Watched;
use crate::batch::Exit;
use crate::engine::{HostOrder, LivenessEngine, LivenessNews, LivenessOrder, StateLane};
use crate::ids::PortId;
use crate::kernel::carrier::{CarrierError, CarrierMonitor, LinkEvent};
use crate::kernel::netns::Place;
use crate::kernel::realtime;
use crate::liveness::LivenessReport;
use crate::liveness::bfd::BfdOrder;
use crate::liveness::proof::Injection;
use crate::port::gone::is_gone;
use crate::port::news::PortTrouble;
use crate::time::Nanos;
use crate::worker::{Lane, LanePacket, Reading, Wake};

/// What others ask of the liveness thread.
pub enum Order {
    /// Something of the engine.
    Engine(LivenessOrder),
    /// End the thread.
    End,
    /// Watch a port; one that is watched already has a new device.
    Port {
        /// The port and its own adjacency.
        exit: Exit,
        /// Where the device lives.
        place: Place,
    },
    /// Answer with what is known, and of the checks of these paths.
    Report(BTreeSet<PathId>, Sender<LivenessReport>),
}

/// What the thread is made of.
pub struct LivenessParts {
    /// What it runs.
    pub engine: LivenessEngine,
    /// Woken by orders and by the workers' lanes.
    pub wake: OwnedFd,
    /// BFD packets, from the workers, and how far these have read their ports.
    pub bfd: (Receiver<LanePacket>, Reading),
    /// Answers to probes, from the workers.
    pub packets: Receiver<LanePacket>,
    /// How far the workers have read their ports.
    pub reading: Reading,
    /// Ports in trouble, from the workers.
    pub trouble: Receiver<PortTrouble>,
    /// From the control thread and the host thread.
    pub orders: Receiver<Order>,
    /// To the host thread: the carrier of ports.
    pub host: (Orders<HostCall>, Wake),
    /// To the control thread: what happened.
    pub news: Lane<LivenessNews>,
    /// To each worker: packets that it is to forward as if they had come in by a port.
    pub injections: Vec<Lane<Injection>>,
    /// Its turns, for the watchdog.
    pub turns: Turns,
    /// Which ports it watches, for the control thread, and what wakes that.
    pub watched: (Watched, Wake),
    /// Lost carrier is handled so much late; zero but in tests of what measures failover.
    pub test_carrier_delay: Duration,
}

/// The thread's state.
pub struct LivenessThread {
    parts: LivenessParts,
    sleeper: Sleeper,
    carriers: Vec<Carrier>,
    /// The carrier of ports, on its way to the host thread.
    to_host: StateLane<PortId, bool>,
    /// Ports that lost carrier, and when that is to be handled; empty but in tests.
    delayed: VecDeque<(Nanos, PortId)>,
    /// Ports whose carrier cannot be watched; tried again.
    unwatched: HashMap<PortId, Place>,
    /// When they are.
    watch_again: Option<Nanos>,
    lateness_max: Duration,
    steps: Steps,
    /// Why it does not run in real time, until that was said of a BFD session that wants it.
    not_in_real_time: Option<io::Error>,
}

/// A namespace that is watched, and which of its devices are ports.
struct Carrier {
    /// By this, for a path may lead to a new namespace when a port is added later.
    netns: (u64, u64),
    monitor: CarrierMonitor,
    ports: HashMap<u32, PortId>,
    /// What was last heard of each device: a port may be added later.
    known: HashMap<u32, LinkEvent>,
}

impl LivenessThread {
    /// Prepares the thread.
    pub fn new(parts: LivenessParts) -> io::Result<Self> {
        Ok(Self {
            sleeper: Sleeper::new(parts.wake.try_clone()?)?,
            parts,
            carriers: Vec::new(),
            to_host: StateLane::default(),
            delayed: VecDeque::new(),
            unwatched: HashMap::new(),
            watch_again: None,
            lateness_max: Duration::ZERO,
            steps: Steps::of("liveness"),
            not_in_real_time: None,
        })
    }

    /// Watches until it is to end.
    pub fn run(mut self) -> io::Result<()> {
        match realtime::enter() {
            Ok(()) => log::info!("the liveness thread runs in real time"),
            Err(error) => {
                log::info!("the liveness thread is scheduled as any other: {error}");
                self.not_in_real_time = Some(error);
            }
        }
        loop {
            self.sleep()?;
            self.parts.turns.take();
            self.steps.begin(Nanos::now());
            self.serve_bfd();
            self.handle_carriers();
            self.watch_what_is_not(Nanos::now());
            self.steps.end("carrier", Nanos::now());
            self.handle_packets();
            self.steps.end("packets", Nanos::now());
            self.pass_news_on();
            if !self.handle_orders() {
                self.parts.engine.end(Nanos::now());
                return Ok(());
            }
            self.steps.end("orders", Nanos::now());
            // Whatever came in before this moment is handled before a timer may call it missing.
            self.serve_bfd();
            self.handle_packets();
            let now = Nanos::now();
            let (due, put_off) = self.parts.engine.next_check();
            if let Some(due) = due.filter(|&due| due <= now && !put_off) {
                self.lateness_max = self.lateness_max.max(now.since(due));
            }
            self.handle_timeout(now);
            self.pass_news_on();
            self.parts.engine.transmit(now);
            self.inject();
            self.steps.end("timers", Nanos::now());
        }
    }

    /// Until a device, a worker, the control thread or the clock has something.
    fn sleep(&mut self) -> io::Result<()> {
        if !self.parts.orders.is_empty() {
            return Ok(());
        }
        let delayed = self.delayed.front().map(|&(at, _)| at);
        let retry = self.to_host.is_behind().then(|| Nanos::now() + RETRY_AFTER);
        let due = [self.parts.engine.poll_timeout(), delayed, retry, self.watch_again];
        let due = due.into_iter().flatten().min();
        self.sleeper.sleep(due)
    }

    fn handle_carriers(&mut self) {
        self.handle_delayed();
        let LivenessParts { engine, trouble, test_carrier_delay, .. } = &mut self.parts;
        for carrier in &mut self.carriers {
            while let Some(event) = carrier.monitor.poll_event() {
                let now = Nanos::now();
                if event.deleted {
                    carrier.known.remove(&event.ifindex);
                    if let Some(port) = carrier.ports.remove(&event.ifindex) {
                        engine.handle_gone(now, port, event.ifindex);
                    }
                    continue;
                }
                let before = carrier.known.insert(event.ifindex, event.clone());
                if let Some(&port) = carrier.ports.get(&event.ifindex) {
                    if test_carrier_delay.is_zero() {
                        engine.handle_carrier(now, port, event.up);
                    } else if event.up {
                        self.delayed.retain(|&(_, lost)| lost != port);
                        engine.handle_carrier(now, port, true);
                    } else {
                        self.delayed.push_back((now + *test_carrier_delay, port));
                    }
                    let like =
                        |link: &LinkEvent| (link.mtu, &link.name) == (event.mtu, &event.name);
                    if !before.as_ref().is_some_and(like) {
                        engine.handle_link(now, port, &event);
                    }
                }
            }
        }
        for trouble in trouble.try_iter() {
            // One that is only set down is reported by netlink too, and may be up again by the time
            // this is read; as the port of one that was deleted may have a new device.
            let device = engine.snapshot().port(trouble.port).map(|port| &*port.device);
            if trouble.gone && device.is_none_or(is_gone) {
                engine.handle_carrier(Nanos::now(), trouble.port, false);
            }
        }
        self.let_go();
    }

    /// Carrier that was lost some time ago, under [`LivenessParts::test_carrier_delay`].
    fn handle_delayed(&mut self) {
        let now = Nanos::now();
        while let Some(&(_, port)) = self.delayed.front().filter(|&&(at, _)| at <= now) {
            self.delayed.pop_front();
            self.parts.engine.handle_carrier(now, port, false);
        }
    }

    /// A namespace without ports is watched no more: that would keep it from ending.
    fn let_go(&mut self) {
        self.carriers.retain(|carrier| !carrier.ports.is_empty());
    }

    /// BFD has its turn before all others: it counts in milliseconds. Its packets come before its timers.
    fn serve_bfd(&mut self) {
        let LivenessParts { engine, bfd: (packets, reading), .. } = &mut self.parts;
        let mut count = 0;
        for packet in packets.try_iter().take(BFD_PACKETS_MAX) {
            engine.handle_bfd(packet.received, packet.port, &packet.bytes);
            count += 1;
        }
        if count < BFD_PACKETS_MAX {
            reading.lane_was_emptied();
        }
        let now = Nanos::now();
        engine.serve_bfd(now, |snapshot, port, due| {
            let mut by =
                |port| reading.may_be_unread(now, (snapshot, port), due, || packets.is_empty());
            match port {
                Some(port) => by(port),
                None => snapshot.ports().any(|(port, _)| by(port)),
            }
        });
    }

    fn handle_packets(&mut self) {
        for _ in 0..PACKETS_MAX / PACKETS_PER_TURN {
            let mut count = 0;
            for packet in self.parts.packets.try_iter().take(PACKETS_PER_TURN) {
                self.parts.engine.handle_packet(packet.received, packet.port, &packet.bytes);
                count += 1;
            }
            if count < PACKETS_PER_TURN {
                return self.parts.reading.lane_was_emptied();
            }
            self.serve_bfd();
        }
    }

    /// A worker that got no turn on a core must not pass for a dead site: no check is called
    /// silent while its answers may lie unread.
    fn handle_timeout(&mut self, now: Nanos) {
        let LivenessParts { engine, packets, reading, .. } = &mut self.parts;
        engine.handle_timeout(now, |snapshot, port, due| {
            reading.may_be_unread(now, (snapshot, port), due, || packets.is_empty())
        });
    }

    /// What finds no room is asked for again.
    fn inject(&mut self) {
        let LivenessParts { engine, injections, .. } = &mut self.parts;
        while let Some(injection) = engine.poll_injection() {
            if let Some(lane) = injections.get_mut(injection.worker) {
                lane.push(injection);
            }
        }
        injections.iter_mut().for_each(Lane::flush);
    }

    /// Passes news on. None may be lost, for what the control thread shows rests on it: what finds no room
    /// waits in the engine until there is some.
    fn pass_news_on(&mut self) {
        let LivenessParts { engine, news: lane, host: (host, wake), .. } = &mut self.parts;
        while let Some((port, up)) = engine.poll_carrier() {
            self.to_host.set(port, up);
        }
        let order = |port, up| HostCall::Order(HostOrder::Carrier(port, up));
        if self.to_host.flush(|port, up| sent(&host.try_send(order(port, up)))) {
            wake.wake();
        }
        while !lane.is_full()
            && let Some(news) = engine.poll_news()
        {
            lane.push(news);
        }
        if lane.is_empty()
            && let Some(times) = engine.poll_round_trips()
        {
            lane.push(times);
        }
        lane.flush();
    }

    /// `false` when it is to end.
    fn handle_orders(&mut self) -> bool {
        // Timers and packets have their turn between many.
        for index in 0..ORDERS_PER_TURN {
            if index % ORDERS_PER_BFD_TURN == ORDERS_PER_BFD_TURN - 1 {
                self.serve_bfd();
            }
            let Ok(order) = self.parts.orders.try_recv() else { break };
            let now = Nanos::now();
            match order {
                Order::Engine(order) => {
                    if let LivenessOrder::Stop(stopping) = &order {
                        for &(exit, _) in &stopping.ports {
                            self.unwatch_port(exit.port);
                            self.parts.watched.0.forget(exit.port);
                        }
                        self.let_go();
                    }
                    self.note_fast_bfd(&order);
                    self.parts.engine.handle_order(now, order);
                }
                Order::End => return false,
                Order::Port { exit, place } => {
                    self.unwatch_port(exit.port);
                    self.parts.engine.handle_order(now, LivenessOrder::Port(exit));
                    self.try_to_watch(now, exit.port, place);
                    self.let_go();
                }
                Order::Report(paths, answer) => {
                    // Nobody waits for it any more: nothing to do.
                    let _ = answer.send(self.report(&paths));
                }
            }
            self.pass_news_on();
        }
        true
    }

    /// Short intervals want a thread that runs in real time.
    fn note_fast_bfd(&mut self, order: &LivenessOrder) {
        let LivenessOrder::Bfd(BfdOrder::Set(spec)) = order else { return };
        let us = spec.config.intervals.desired_min_tx_us;
        if us < BFD_WANTS_REAL_TIME_US
            && let Some(error) = self.not_in_real_time.take()
        {
            log::warn!(
                "bfd {}: an interval of {us} us wants a liveness thread in real time, which is \
                 refused ({error}): grant CAP_SYS_NICE or RLIMIT_RTPRIO; packets that are late make \
                 intervals longer",
                spec.ends.remote
            );
        }
    }

    /// Watches a port, or notes that it has to be tried again: without, a cut would go unnoticed.
    fn try_to_watch(&mut self, now: Nanos, id: PortId, place: Place) {
        let outcome = self.watch_port(now, id, &place).map_err(|error| error.to_string());
        let (watched, control) = &self.parts.watched;
        if watched.set(id, outcome.clone()) {
            if let Err(why) = &outcome {
                log::error!("the carrier of a port is not watched: {why}");
            }
            control.wake();
        }
        if outcome.is_err() {
            self.unwatched.insert(id, place);
            self.watch_again.get_or_insert(now + WATCH_AGAIN_AFTER);
        }
    }

    fn watch_what_is_not(&mut self, now: Nanos) {
        if self.watch_again.take_if(|at| *at <= now).is_some() {
            for (id, place) in std::mem::take(&mut self.unwatched) {
                self.try_to_watch(now, id, place);
            }
        }
    }

    /// Finds or opens the namespace's monitor, and says what it knows of the port already.
    fn watch_port(&mut self, now: Nanos, id: PortId, place: &Place) -> Result<(), CarrierError> {
        let Place { netns, ifindex, .. } = place;
        let identity = netns.identity()?;
        let found = self.carriers.iter().position(|carrier| carrier.netns == identity);
        let index = if let Some(index) = found {
            index
        } else {
            let monitor = CarrierMonitor::open(netns)?;
            let added = self.sleeper.add(monitor.as_fd());
            added.map_err(|source| CarrierError::Socket { netns: netns.clone(), source })?;
            let (ports, known) = (HashMap::new(), HashMap::new());
            self.carriers.push(Carrier { netns: identity, monitor, ports, known });
            self.carriers.len() - 1
        };
        let carrier = &mut self.carriers[index];
        carrier.ports.insert(*ifindex, id);
        // What is known may be older than what waits to be read.
        self.handle_carriers();
        let known = self.carriers.iter().find(|carrier| carrier.netns == identity);
        if let Some(link) = known.and_then(|carrier| carrier.known.get(ifindex)) {
            self.parts.engine.handle_carrier(now, id, link.up);
            self.parts.engine.handle_link(now, id, link);
        }
        Ok(())
    }

    fn unwatch_port(&mut self, id: PortId) {
        self.unwatched.remove(&id);
        for carrier in &mut self.carriers {
            carrier.ports.retain(|_, port| *port != id);
        }
    }

    fn report(&self, paths: &BTreeSet<PathId>) -> LivenessReport {
        LivenessReport {
            checks: self.parts.engine.check_stats(paths),
            lateness_max: self.lateness_max,
            steps: self.steps.times().to_vec(),
            unsent: self.parts.engine.unsent(),
            bfd: self.parts.engine.bfd().reports(),
            bfd_dropped: self.parts.engine.bfd().dropped().clone(),
        }
    }
}

/// When carrier that did not fit into the lane is sent again.
const RETRY_AFTER: Duration = Duration::from_millis(1);

/// When it is tried again to watch a port.
const WATCH_AGAIN_AFTER: Duration = Duration::from_millis(500);

/// Orders taken before timers and packets get their turn.
const ORDERS_PER_TURN: usize = 256;

/// An ordinary thread may wait so long for its turn on a busy machine.
const BFD_WANTS_REAL_TIME_US: u32 = 20_000;

/// Orders carried out before BFD gets its turn.
const ORDERS_PER_BFD_TURN: usize = 32;

/// Packets taken from the workers' lane before timers get their turn.
const PACKETS_MAX: usize = 65_536;

/// Packets taken from it before BFD gets its turn.
const PACKETS_PER_TURN: usize = 256;

/// BFD packets taken before what is due is looked at.
const BFD_PACKETS_MAX: usize = 1024;
