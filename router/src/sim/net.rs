//! The network between routers, sites and clients, and its clock.
#![forbid(unsafe_code)]

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use super::client::{Client, Flow, FlowId, read_answer};
use super::node::{Node, NodeError};
use super::site::{Power, Site};
use super::{Arrival, client};
use crate::config::Config;
use crate::event::EventKind;
use crate::port::memory::LinkState;
use crate::probe::Rng;
use crate::time::Nanos;

/// Routers, sites, clients, and the links between them.
pub struct Net {
    now: Nanos,
    rng: Rng,
    nodes: Vec<Node>,
    sites: Vec<Site>,
    clients: Vec<Client>,
    flows: Vec<Flow>,
    links: Vec<Link>,
    /// By router and port: the link there, and which of its ends.
    joined: BTreeMap<(usize, String), (LinkId, usize)>,
    timers: Vec<Option<Nanos>>,
    awake: BTreeSet<usize>,
    agenda: BTreeMap<(Nanos, u64), Action>,
    flying: BTreeMap<(Nanos, u64), Flying>,
    order: u64,
    happened: Vec<Happened>,
    steps: u64,
    carrier_delay: Duration,
}

/// Names a link of a [`Net`].
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct LinkId(pub usize);

/// What a link ends at.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum End {
    /// One of the clients.
    Client(usize),
    /// A port of one of the routers.
    Node(usize, String),
    /// One of the sites.
    Site(usize),
}

/// Something that is done to the network.
#[derive(Clone, Debug)]
pub enum Action {
    /// A router's leg flaps are forgiven.
    ClearDamping {
        /// Which router.
        node: usize,
    },
    /// A site is drained at one router, or taken back.
    Drain {
        /// Which router.
        node: usize,
        /// The site's name there.
        site: String,
        /// Whether it takes no new flows from now on.
        drained: bool,
    },
    /// A link changes.
    Link {
        /// Which link.
        link: LinkId,
        /// How it is from now on.
        state: LinkState,
    },
    /// A router is told of the carrier of a port.
    News {
        /// Which router.
        node: usize,
        /// The port's name.
        port: String,
        /// Whether there is carrier.
        up: bool,
    },
    /// A site, or its server, dies or comes back.
    Power {
        /// Which site.
        site: usize,
        /// What works from now on.
        power: Power,
    },
    /// A router is given another configuration.
    Reload {
        /// Which router.
        node: usize,
        /// The configuration.
        config: Box<Config>,
    },
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
    #[error("at {now} a reload failed: {error}")]
    Reload {
        /// When.
        now: Nanos,
        /// Why.
        error: NodeError,
    },
}

struct Link {
    ends: [End; 2],
    delay: Duration,
    state: LinkState,
    lost: u64,
}

/// A packet on a link.
struct Flying {
    link: LinkId,
    to: usize,
    packet: Vec<u8>,
}

impl Net {
    /// Nothing yet. All that is left to chance follows from `seed`.
    pub fn new(seed: u64) -> Self {
        Self {
            now: START,
            rng: Rng::new(seed),
            nodes: Vec::new(),
            sites: Vec::new(),
            clients: Vec::new(),
            flows: Vec::new(),
            links: Vec::new(),
            joined: BTreeMap::new(),
            timers: Vec::new(),
            awake: BTreeSet::new(),
            agenda: BTreeMap::new(),
            flying: BTreeMap::new(),
            order: 0,
            happened: Vec::new(),
            steps: 0,
            carrier_delay: CARRIER_DELAY,
        }
    }

    /// Adds a router; its number is the place in the order of adding.
    ///
    /// # Errors
    /// As [`Node::new`].
    pub fn add_node(&mut self, config: Config) -> Result<usize, NodeError> {
        let node = Node::new(self.now, config, self.rng.next_u64())?;
        self.nodes.push(node);
        self.timers.push(None);
        self.awake.insert(self.nodes.len() - 1);
        Ok(self.nodes.len() - 1)
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
        self.links.push(Link { ends, delay, state: LinkState::Up, lost: 0 });
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
                let first = self.timers.iter().position(|&at| at == Some(due));
                let waiting = first.map_or("the network", |index| self.nodes[index].name());
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
        &self.nodes[index]
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
        let timers = self.timers.iter().copied().flatten();
        agenda.into_iter().chain(flying).chain(flows).chain(timers).min()
    }

    fn act(&mut self) -> Result<(), Stuck> {
        while let Some(entry) = self.agenda.first_entry().filter(|e| e.key().0 <= self.now) {
            let action = entry.remove();
            self.perform(action)?;
        }
        Ok(())
    }

    fn perform(&mut self, action: Action) -> Result<(), Stuck> {
        let now = self.now;
        match action {
            Action::Link { link, state } => self.set_link(link, state),
            Action::Power { site, power } => self.sites[site].power = power,
            Action::News { node, port, up } => self.wake(node).set_carrier(now, &port, up),
            Action::ClearDamping { node } => self.wake(node).clear_damping(now),
            Action::Drain { node, site, drained } => {
                self.wake(node).drain(now, &site, drained);
            }
            Action::Reload { node, config } => {
                let outcome = self.wake(node).apply(now, *config);
                outcome.map_err(|error| Stuck::Reload { now, error })?;
            }
        }
        Ok(())
    }

    /// A router that has to be stepped in this turn.
    fn wake(&mut self, node: usize) -> &mut Node {
        self.awake.insert(node);
        &mut self.nodes[node]
    }

    /// What is on the link is lost unless it is up. Both ends of a cut or healed link are told
    /// after the carrier delay; their devices refuse packets at once.
    fn set_link(&mut self, id: LinkId, state: LinkState) {
        let link = &mut self.links[id.0];
        let before = std::mem::replace(&mut link.state, state);
        if state != LinkState::Up {
            let flying = self.flying.len();
            self.flying.retain(|_, flying| flying.link != id);
            link.lost += (flying - self.flying.len()) as u64;
        }
        let (was, is) = (before != LinkState::Down, state != LinkState::Down);
        if was == is {
            return;
        }
        for end in self.links[id.0].ends.clone() {
            if let End::Node(node, port) = end {
                self.nodes[node].set_wire(&port, is);
                self.at(self.now + self.carrier_delay, Action::News { node, port, up: is });
            }
        }
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
                End::Node(node, port) => {
                    self.awake.insert(node);
                    let device = self.nodes[node].device(&port);
                    // A port that was removed or is full loses it, as a real one does.
                    if device.is_none_or(|device| device.inject(&packet).is_err()) {
                        self.links[link.0].lost += 1;
                    }
                }
            }
        }
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
            let packet = flow.send(self.now, client::FlowId(index));
            let place = self.links.iter().position(|link| link.ends.contains(&end));
            if let (Some(place), Some(packet)) = (place, packet) {
                let from = usize::from(self.links[place].ends[1] == end);
                self.put(LinkId(place), from, packet);
            }
        }
    }

    /// Sends a packet into a link from one of its ends.
    fn put(&mut self, id: LinkId, from: usize, packet: Vec<u8>) {
        let key = (self.now + self.links[id.0].delay, self.next_order());
        let link = &mut self.links[id.0];
        if link.state == LinkState::Up {
            self.flying.insert(key, Flying { link: id, to: 1 - from, packet });
        } else {
            link.lost += 1;
        }
    }

    fn step_nodes(&mut self) {
        let due = |at: &Option<Nanos>| at.is_some_and(|at| at <= self.now);
        let due: Vec<usize> =
            (0..self.nodes.len()).filter(|index| due(&self.timers[*index])).collect();
        self.awake.extend(due);
        for index in std::mem::take(&mut self.awake) {
            let node = &mut self.nodes[index];
            node.step(self.now);
            self.steps += 1;
            while let Some((t, kind)) = node.poll_event() {
                self.happened.push(Happened { t, node: index, kind });
            }
            self.timers[index] = node.poll_timeout(self.now);
            self.collect(index);
        }
    }

    /// Puts what a router sent into its links.
    fn collect(&mut self, node: usize) {
        let first = (node, String::new());
        let ports = self.joined.range(first..).take_while(|((of, _), _)| *of == node);
        let ports: Vec<_> = ports.map(|((_, port), &place)| (port.clone(), place)).collect();
        for (port, (link, end)) in ports {
            let sent = self.nodes[node].device(&port).map(|device| device.drain());
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
