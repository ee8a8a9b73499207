//! The network between routers, sites and clients, and its clock.
#![forbid(unsafe_code)]

mod action;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

pub use action::Action;

use super::client::{Arrival, Client, Flow, FlowId, read_answer};
use super::link::{End, Fate, Flying, Impairment, Link, LinkId};
use super::node::{Node, NodeError};
use super::site::Site;
use super::trail::{Return, Trails};
use crate::config::Config;
use crate::event::EventKind;
use crate::port::memory::LinkState;
use crate::probe::Rng;
use crate::time::Nanos;

/// Routers, sites, clients, and the links between them.
pub struct Net {
    now: Nanos,
    rng: Rng,
    routers: Vec<Router>,
    sites: Vec<Site>,
    clients: Vec<Client>,
    flows: Vec<Flow>,
    links: Vec<Link>,
    /// By router and port: the link there, and which of its ends.
    joined: BTreeMap<(usize, String), (LinkId, usize)>,
    awake: BTreeSet<usize>,
    agenda: BTreeMap<(Nanos, u64), Action>,
    flying: BTreeMap<(Nanos, u64), Flying>,
    order: u64,
    happened: Vec<Happened>,
    trails: Trails,
    steps: u64,
    delivered: u64,
    carrier_delay: Duration,
}

/// An event of one of the routers.
#[derive(Clone, Debug, PartialEq)]
pub struct Happened {
    /// When.
    pub t: Nanos,
    /// Which router.
    pub node: usize,
    /// What.
    pub kind: EventKind,
}

/// Why a run ended early.
#[derive(Debug, thiserror::Error)]
pub enum Stuck {
    /// A router asks again and again to be stepped at the same time.
    #[error("at {now} the clock stands still: {waiting} is due without end")]
    Clock {
        /// When.
        now: Nanos,
        /// The router that is due first, by name.
        waiting: String,
    },
    /// A configuration was not taken.
    #[error("at {now} a configuration was not taken: {error}")]
    Reload {
        /// When.
        now: Nanos,
        /// Why.
        error: NodeError,
    },
}

/// A router and what surrounds its process.
struct Router {
    node: Node,
    /// When to step it next.
    timer: Option<Nanos>,
    /// What it was given last.
    config: Config,
    running: bool,
    /// What its control part was asked for while it stood still.
    postponed: Vec<Action>,
}

impl Router {
    fn new(node: Node, config: Config) -> Self {
        Self { node, timer: None, config, running: true, postponed: Vec::new() }
    }
}

impl Net {
    /// Nothing yet. All that is left to chance follows from `seed`.
    pub fn new(seed: u64) -> Self {
        Self {
            now: START,
            rng: Rng::new(seed),
            routers: Vec::new(),
            sites: Vec::new(),
            clients: Vec::new(),
            flows: Vec::new(),
            links: Vec::new(),
            joined: BTreeMap::new(),
            awake: BTreeSet::new(),
            agenda: BTreeMap::new(),
            flying: BTreeMap::new(),
            order: 0,
            happened: Vec::new(),
            trails: Trails::default(),
            steps: 0,
            delivered: 0,
            carrier_delay: CARRIER_DELAY,
        }
    }

    /// Adds a router; its number is the place in the order of adding.
    ///
    /// # Errors
    /// As [`Node::new`].
    pub fn add_node(&mut self, config: Config) -> Result<usize, NodeError> {
        let node = Node::new(self.now, config.clone(), self.rng.next_u64())?;
        self.routers.push(Router::new(node, config));
        self.awake.insert(self.routers.len() - 1);
        Ok(self.routers.len() - 1)
    }

    /// Adds a site.
    pub fn add_site(&mut self, site: Site) -> usize {
        self.sites.push(site);
        self.sites.len() - 1
    }

    /// Adds a client.
    pub fn add_client(&mut self, addresses: &[IpAddr]) -> usize {
        self.clients.push(Client { addresses: addresses.to_vec(), errors: 0 });
        self.clients.len() - 1
    }

    /// Adds a link that delays each packet by `delay`, one nanosecond at least: nothing crosses it
    /// in no time.
    pub fn join(&mut self, a: End, b: End, delay: Duration) -> LinkId {
        let id = LinkId(self.links.len());
        let ends = [a, b];
        for (index, end) in ends.iter().enumerate() {
            if let End::Node(node, port) = end {
                self.joined.insert((*node, port.clone()), (id, index));
            }
        }
        let delay = delay.max(Duration::from_nanos(1));
        let (state, impairment) = (LinkState::Up, Impairment::default());
        self.links.push(Link { ends, delay, state, impairment, lost: 0 });
        id
    }

    /// Adds a flow of a client to a service, from now (or a part of the interval later, as the seed
    /// says) until `until`; `None` if the client has no address of that family.
    pub fn add_flow(
        &mut self,
        client: usize,
        dst: SocketAddr,
        interval: Duration,
        until: Nanos,
    ) -> Option<FlowId> {
        let same_family = |ip: &&IpAddr| ip.is_ipv4() == dst.is_ipv4();
        let src = *self.clients.get(client)?.addresses.iter().find(same_family)?;
        let id = FlowId(self.flows.len());
        let src = SocketAddr::new(src, FIRST_PORT + u16::try_from(id.0).ok()?);
        let nanos = u64::try_from(interval.as_nanos()).ok()?.max(1);
        let next = self.now + Duration::from_nanos(self.rng.next_u64() % nanos);
        let (sent, arrivals) = (Vec::new(), Vec::new());
        self.flows.push(Flow { client, src, dst, interval, until, sent, arrivals, next });
        Some(id)
    }

    /// Does `action` at `t`, before anything else that is due then; at once if that is past.
    pub fn at(&mut self, t: Nanos, action: Action) {
        let key = (t.max(self.now), self.next_order());
        self.agenda.insert(key, action);
    }

    /// Runs the clock to `until`.
    ///
    /// # Errors
    /// See [`Stuck`].
    pub fn run_until(&mut self, until: Nanos) -> Result<(), Stuck> {
        let mut turns = 0;
        while let Some(due) = self.next_due().filter(|&due| due <= until) {
            turns = if due > self.now { 0 } else { turns + 1 };
            if turns > TURNS_MAX {
                let first = self.routers.iter().find(|router| router.timer == Some(due));
                let waiting = first.map_or("the network", |router| router.node.name());
                return Err(Stuck::Clock { now: self.now, waiting: waiting.to_owned() });
            }
            self.now = self.now.max(due);
            self.act()?;
            self.deliver();
            self.send_flows();
            self.step_nodes();
        }
        self.now = self.now.max(until);
        Ok(())
    }

    /// The time.
    pub fn now(&self) -> Nanos {
        self.now
    }

    /// The router with this number.
    pub fn node(&self, index: usize) -> &Node {
        &self.routers[index].node
    }

    /// The site with this number.
    pub fn site(&self, index: usize) -> &Site {
        &self.sites[index]
    }

    /// The client with this number.
    pub fn client(&self, index: usize) -> &Client {
        &self.clients[index]
    }

    /// One flow.
    pub fn flow(&self, id: FlowId) -> &Flow {
        &self.flows[id.0]
    }

    /// Every flow, in the order of adding.
    pub fn flows(&self) -> &[Flow] {
        &self.flows
    }

    /// How a link is.
    pub fn link(&self, id: LinkId) -> LinkState {
        self.links[id.0].state
    }

    /// What a link does to packets.
    pub fn impairment(&self, id: LinkId) -> Impairment {
        self.links[id.0].impairment
    }

    /// Packets that a link has swallowed.
    pub fn lost(&self, id: LinkId) -> u64 {
        self.links[id.0].lost
    }

    /// Everything that routers said, in order.
    pub fn happened(&self) -> &[Happened] {
        &self.happened
    }

    /// How often a router was stepped.
    pub fn steps(&self) -> u64 {
        self.steps
    }

    /// How many packets came to routers.
    pub fn delivered(&self) -> u64 {
        self.delivered
    }

    /// Packets of flows that came to a router again, in the order of time.
    pub fn returns(&self) -> &[Return] {
        self.trails.returns()
    }

    /// The routers that a packet of a flow passed on its way to a site; `None` if it was copied or
    /// damaged by a link, or came to no router.
    pub fn trail(&self, flow: FlowId, seq: usize) -> Option<Vec<usize>> {
        self.trails.to_site(flow, seq)
    }

    /// How long after a cut or heal both ends are told.
    pub fn set_carrier_delay(&mut self, delay: Duration) {
        self.carrier_delay = delay;
    }

    fn next_due(&self) -> Option<Nanos> {
        if !self.awake.is_empty() {
            return Some(self.now);
        }
        let agenda = self.agenda.first_key_value().map(|(key, _)| key.0);
        let flying = self.flying.first_key_value().map(|(key, _)| key.0);
        let flows = self.flows.iter().map(|flow| flow.next).filter(|&t| t < Nanos(u64::MAX));
        let timers = self.routers.iter().filter_map(|router| router.timer);
        agenda.into_iter().chain(flying).chain(flows).chain(timers).min()
    }

    fn deliver(&mut self) {
        while let Some(entry) = self.flying.first_entry().filter(|e| e.key().0 <= self.now) {
            let Flying { link, to, packet } = entry.remove();
            match self.links[link.0].ends[to].clone() {
                End::Client(client) => self.receive(client, &packet),
                End::Site(site) => {
                    if let Some(answer) = self.sites[site].answer(&packet) {
                        self.put(link, to, answer);
                    }
                }
                End::Node(node, port) => self.hand_in(link, node, &port, &packet),
            }
        }
    }

    fn hand_in(&mut self, link: LinkId, index: usize, port: &str, packet: &[u8]) {
        let router = &self.routers[index];
        let device = router.node.device(port).filter(|_| router.running);
        // A port that was removed or is full loses it, as a real one does.
        if device.is_none_or(|device| device.inject(packet).is_err()) {
            self.links[link.0].lost += 1;
            return;
        }
        self.delivered += 1;
        self.trails.visit(self.now, index, packet, &self.flows);
        self.awake.insert(index);
    }

    fn receive(&mut self, client: usize, packet: &[u8]) {
        match read_answer(packet) {
            Some((flow, seq, site)) => {
                if let Some(flow) = self.flows.get_mut(flow.0) {
                    flow.arrivals.push(Arrival { t: self.now, seq, site });
                }
            }
            None => self.clients[client].errors += 1,
        }
    }

    fn send_flows(&mut self) {
        for index in 0..self.flows.len() {
            let flow = &mut self.flows[index];
            if flow.next > self.now {
                continue;
            }
            if self.now >= flow.until {
                flow.next = Nanos(u64::MAX);
                continue;
            }
            let end = End::Client(flow.client);
            let packet = flow.send(self.now, FlowId(index));
            let place = self.links.iter().position(|link| link.ends.contains(&end));
            if let (Some(place), Some(packet)) = (place, packet) {
                let from = usize::from(self.links[place].ends[1] == end);
                self.put(LinkId(place), from, packet);
            }
        }
    }

    /// Sends a packet into a link from one of its ends.
    fn put(&mut self, id: LinkId, from: usize, mut packet: Vec<u8>) {
        let link = &mut self.links[id.0];
        if link.state != LinkState::Up {
            link.lost += 1;
            return;
        }
        let due = self.now + link.delay;
        let Fate { late, flip } = link.impairment.fate(&packet, &mut self.rng);
        if late.len() > 1 || flip.is_some() {
            self.trails.taint(&packet, &self.flows);
        }
        if let Some(bit) = flip {
            packet[bit / 8] ^= 1 << (bit % 8);
        }
        for late in late {
            let key = (due + late, self.next_order());
            self.flying.insert(key, Flying { link: id, to: 1 - from, packet: packet.clone() });
        }
    }

    fn step_nodes(&mut self) {
        let due = |index: &usize| self.routers[*index].timer.is_some_and(|at| at <= self.now);
        let due: Vec<usize> = (0..self.routers.len()).filter(due).collect();
        self.awake.extend(due);
        for index in std::mem::take(&mut self.awake) {
            let Router { node, timer, .. } = &mut self.routers[index];
            node.step(self.now);
            self.steps += 1;
            while let Some((t, kind)) = node.poll_event() {
                self.happened.push(Happened { t, node: index, kind });
            }
            *timer = node.poll_timeout(self.now);
            self.collect(index);
        }
    }

    /// Puts what a router sent into its links.
    fn collect(&mut self, node: usize) {
        let first = (node, String::new());
        let ports = self.joined.range(first..).take_while(|((of, _), _)| *of == node);
        let ports: Vec<_> = ports.map(|((_, port), &place)| (port.clone(), place)).collect();
        for (port, (link, end)) in ports {
            let sent = self.routers[node].node.device(&port).map(|device| device.drain());
            for packet in sent.into_iter().flatten() {
                self.put(link, end, packet);
            }
        }
    }

    fn next_order(&mut self) -> u64 {
        self.order += 1;
        self.order
    }
}

impl fmt::Display for Happened {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} node {}: {:?}", self.t, self.node, self.kind)
    }
}

/// When the clock starts: late enough that going back from it does not reach zero.
const START: Nanos = Nanos(1_000_000_000);

/// Turns at one time before the clock counts as stuck.
const TURNS_MAX: usize = 1000;

/// First source port of flows; below the prober's.
const FIRST_PORT: u16 = 20_000;

/// How long the news of a cut takes to both ends.
const CARRIER_DELAY: Duration = Duration::from_millis(1);
