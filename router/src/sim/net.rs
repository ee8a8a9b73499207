//! The network between routers, sites and clients, and its clock.
#![forbid(unsafe_code)]

mod action;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

pub use action::Action;

use super::client::{Arrival, Client, Flow, FlowId, read_answer};
use super::link::{Copies, Impairment, InFlight, Link, LinkEnd, LinkId};
use super::node::{Node, NodeError};
use super::records::{CarrierNews, Records};
use super::site::Site;
use super::trail::{Departure, Revisit, Trails};
use crate::config::Config;
use crate::event::EventKind;
use crate::port::memory::LinkState;
use crate::probe::Rng;
use crate::time::Nanos;

/// Routers, sites, clients, and the links between them.
pub struct Net {
    pub(super) now: Nanos,
    rng: Rng,
    pub(super) routers: Vec<Router>,
    sites: Vec<Site>,
    clients: Vec<Client>,
    flows: Vec<Flow>,
    links: Vec<Link>,
    /// The link at each router's port, and which of its two ends that is.
    joined: BTreeMap<(usize, String), (LinkId, usize)>,
    pub(super) awake: BTreeSet<usize>,
    agenda: BTreeMap<(Nanos, u64), Action>,
    flying: BTreeMap<(Nanos, u64), InFlight>,
    order: u64,
    events: Vec<NodeEvent>,
    trails: Trails,
    pub(super) records: Records,
    steps: u64,
    delivered: u64,
    carrier_delay: Duration,
}

/// An event of one of the routers.
#[derive(Clone, Debug, PartialEq)]
pub struct NodeEvent {
    /// When.
    pub t: Nanos,
    /// Which router.
    pub node: usize,
    /// What.
    pub kind: EventKind,
}

/// Why a run ended early.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// A router asks again and again to be stepped at the same time.
    #[error(
        "at {now} the clock does not advance: {waiting} asks to be stepped again and again at this time"
    )]
    Clock {
        /// The time.
        now: Nanos,
        /// Name of the router that is due first.
        waiting: String,
    },
    /// A router refused a configuration.
    #[error("at {now} a router refused its configuration: {error}")]
    Reload {
        /// The time.
        now: Nanos,
        /// Why.
        error: NodeError,
    },
}

/// A router and the state of its process.
pub(super) struct Router {
    pub(super) node: Node,
    /// When to step it next.
    timer: Option<Nanos>,
    /// The last configuration it was given.
    config: Config,
    pub(super) running: bool,
    /// Orders to its control thread that wait until that thread runs again.
    postponed: Vec<Action>,
}

impl Router {
    fn new(node: Node, config: Config) -> Self {
        Self { node, timer: None, config, running: true, postponed: Vec::new() }
    }
}

impl Net {
    /// An empty network. Everything random follows from `seed`.
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
            events: Vec::new(),
            trails: Trails::default(),
            records: Records::default(),
            steps: 0,
            delivered: 0,
            carrier_delay: CARRIER_DELAY,
        }
    }

    /// Adds a router and returns its number, counted from 0 in order of addition.
    ///
    /// # Errors
    /// See [`Node::new`].
    pub fn add_node(&mut self, config: Config) -> Result<usize, NodeError> {
        let node = Node::new(self.now, config.clone(), self.rng.next_u64())?;
        let index = self.routers.len();
        self.routers.push(Router::new(node, config));
        self.awake.insert(index);
        self.records.begin(self.now, index);
        for port in self.routers[index].node.control().ports() {
            let (t, port) = (self.now, port.name().to_owned());
            let news = CarrierNews { t, node: index, port, up: true, opened: true };
            self.records.carriers.push(news);
        }
        Ok(index)
    }

    /// Adds a site and returns its number.
    pub fn add_site(&mut self, site: Site) -> usize {
        self.sites.push(site);
        self.sites.len() - 1
    }

    /// Adds a client and returns its number.
    pub fn add_client(&mut self, addresses: &[IpAddr]) -> usize {
        self.clients.push(Client { addresses: addresses.to_vec(), errors: 0 });
        self.clients.len() - 1
    }

    /// Adds a link with a delay of at least one nanosecond per packet: a packet never arrives at
    /// the time it is sent.
    pub fn join(&mut self, a: LinkEnd, b: LinkEnd, delay: Duration) -> LinkId {
        let id = LinkId(self.links.len());
        let ends = [a, b];
        for (index, end) in ends.iter().enumerate() {
            if let LinkEnd::Node(node, port) = end {
                self.joined.insert((*node, port.clone()), (id, index));
            }
        }
        let delay = delay.max(Duration::from_nanos(1));
        let (state, impairment) = (LinkState::Up, Impairment::default());
        self.links.push(Link { ends, delay, state, impairment, lost: 0 });
        id
    }

    /// Adds a flow of a client to a service, which ends at `until`. It starts now, or up to one
    /// interval later, as the seed decides. `None` if the client has no address of that family.
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

    /// Schedules `action` at `t`, before everything else due then; at once if `t` has passed.
    pub fn at(&mut self, t: Nanos, action: Action) {
        let key = (t.max(self.now), self.next_order());
        self.agenda.insert(key, action);
    }

    /// Advances the clock to `until`.
    ///
    /// # Errors
    /// See [`RunError`].
    pub fn run_until(&mut self, until: Nanos) -> Result<(), RunError> {
        let mut turns = 0;
        while let Some(due) = self.next_due().filter(|&due| due <= until) {
            turns = if due > self.now { 0 } else { turns + 1 };
            if turns > TURNS_MAX {
                let first = self.routers.iter().find(|router| router.timer == Some(due));
                let waiting = first.map_or("the network", |router| router.node.name());
                return Err(RunError::Clock { now: self.now, waiting: waiting.to_owned() });
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

    /// The current time.
    pub fn now(&self) -> Nanos {
        self.now
    }

    /// The router with this number.
    pub fn node(&self, index: usize) -> &Node {
        &self.routers[index].node
    }

    /// Whether a router runs, or was killed.
    pub fn runs(&self, node: usize) -> bool {
        self.routers[node].running
    }

    /// The site with this number.
    pub fn site(&self, index: usize) -> &Site {
        &self.sites[index]
    }

    /// The client with this number.
    pub fn client(&self, index: usize) -> &Client {
        &self.clients[index]
    }

    /// The flow with this number.
    pub fn flow(&self, id: FlowId) -> &Flow {
        &self.flows[id.0]
    }

    /// Every flow, in order of addition.
    pub fn flows(&self) -> &[Flow] {
        &self.flows
    }

    /// Whether a router's port has carrier, by the cable that is in it.
    pub fn has_carrier(&self, node: usize, port: &str) -> bool {
        let place = self.joined.get(&(node, port.to_owned()));
        place.is_some_and(|&(link, _)| self.link(link) != LinkState::Down)
    }

    /// State of a link.
    pub fn link(&self, id: LinkId) -> LinkState {
        self.links[id.0].state
    }

    /// What a link does to packets.
    pub fn impairment(&self, id: LinkId) -> Impairment {
        self.links[id.0].impairment
    }

    /// Packets that a link lost.
    pub fn lost(&self, id: LinkId) -> u64 {
        self.links[id.0].lost
    }

    /// Every event of the routers, in the order in which they were emitted.
    pub fn events(&self) -> &[NodeEvent] {
        &self.events
    }

    /// How often routers were stepped.
    pub fn steps(&self) -> u64 {
        self.steps
    }

    /// How many packets were delivered to routers.
    pub fn delivered(&self) -> u64 {
        self.delivered
    }

    /// Packets of flows that reached the same router again, in order of time.
    pub fn revisits(&self) -> &[Revisit] {
        self.trails.revisits()
    }

    /// The routers that a packet of a flow passed on its way to a site; `None` if a link copied or
    /// damaged it, or if it reached no router.
    pub fn trail(&self, flow: FlowId, seq: usize) -> Option<Vec<usize>> {
        self.trails.to_site(flow, seq)
    }

    /// When and by which port each router sent each packet of a flow on towards a site, in the order of time;
    /// `None` as for [`Self::trail`].
    pub fn departures(&self, flow: FlowId, seq: usize) -> Option<&[Departure]> {
        self.trails.departures(flow, seq)
    }

    /// When a packet of a flow reached each router on its way to a site; `None` as for [`Self::trail`].
    pub fn visits(&self, flow: FlowId, seq: usize) -> Option<&[(Nanos, usize)]> {
        self.trails.visits(flow, seq)
    }

    /// Sets how long after a cut or heal both ends learn of it.
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
            let InFlight { link, to, packet } = entry.remove();
            match self.links[link.0].ends[to].clone() {
                LinkEnd::Client(client) => self.receive(client, &packet),
                LinkEnd::Site(site) => {
                    if let Some(answer) = self.sites[site].answer(&packet) {
                        self.put(link, to, answer);
                    }
                }
                LinkEnd::Node(node, port) => self.hand_in(link, node, &port, &packet),
            }
        }
    }

    fn hand_in(&mut self, link: LinkId, index: usize, port: &str, packet: &[u8]) {
        let router = &self.routers[index];
        let device = router.node.device(port).filter(|_| router.running);
        // A removed or full port loses the packet, like a real one.
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
            let end = LinkEnd::Client(flow.client);
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
        let Copies { late, flip } = link.impairment.copies(&packet, &mut self.rng);
        if late.len() > 1 || flip.is_some() {
            self.trails.taint(&packet, &self.flows);
        }
        if let Some(bit) = flip {
            packet[bit / 8] ^= 1 << (bit % 8);
        }
        for late in late {
            let key = (due + late, self.next_order());
            self.flying.insert(key, InFlight { link: id, to: 1 - from, packet: packet.clone() });
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
                self.events.push(NodeEvent { t, node: index, kind });
            }
            *timer = node.poll_timeout(self.now);
            if !node.control().is_unpublished() {
                self.records.end(self.now, index);
            }
            self.collect(index);
        }
    }

    /// Moves the packets that a router sent onto its links.
    fn collect(&mut self, node: usize) {
        let first = (node, String::new());
        let ports = self.joined.range(first..).take_while(|((of, _), _)| *of == node);
        let ports: Vec<_> = ports.map(|((_, port), &place)| (port.clone(), place)).collect();
        for (port, (link, end)) in ports {
            let sent = self.routers[node].node.device(&port).map(|device| device.drain());
            for packet in sent.into_iter().flatten() {
                self.trails.depart(self.now, (node, &port), &packet, &self.flows);
                self.put(link, end, packet);
            }
        }
    }

    fn next_order(&mut self) -> u64 {
        self.order += 1;
        self.order
    }
}

impl fmt::Display for NodeEvent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} node {}: {:?}", self.t, self.node, self.kind)
    }
}

/// Initial time: large enough that subtracting from it does not saturate at zero.
const START: Nanos = Nanos(1_000_000_000);

/// Steps at one time before the clock counts as stuck.
const TURNS_MAX: usize = 1000;

/// First source port of flows; below the prober's range.
const FIRST_PORT: u16 = 20_000;

/// Delay until both ends of a link learn that it was cut or healed.
const CARRIER_DELAY: Duration = Duration::from_millis(1);
