//! The layout of a trial's network, and what reloads change of it.
#![forbid(unsafe_code)]

use std::collections::{BTreeMap, VecDeque};

use super::config::{router_name, site_name};
use crate::probe::Rng;

/// How the routers of a trial are linked. In a chain, mesh and ring a router sends only to
/// neighbours with higher numbers, so no packet ever loops.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum NetShape {
    /// In a row.
    Chain,
    /// Three in a circle, each of which falls back on the next. When all their sites die at once,
    /// packets loop until one router notices.
    Circle,
    /// In a row, with more links across.
    Mesh,
    /// Linked as a mesh. Nobody falls back on anybody: each router announces by BGP what its own sites serve,
    /// and sends what it has no sites for to one that announces it.
    Peers,
    /// Two, each of which falls back on the other. Only the rule against sending a packet back
    /// where it came from prevents a loop.
    Pair,
    /// In a row whose ends are linked.
    Ring,
}

impl NetShape {
    /// All of them.
    pub const ALL: [Self; 6] =
        [Self::Chain, Self::Circle, Self::Mesh, Self::Pair, Self::Peers, Self::Ring];

    /// The shape's name on command lines and in JSON.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Chain => "chain",
            Self::Circle => "circle",
            Self::Mesh => "mesh",
            Self::Pair => "pair",
            Self::Peers => "peers",
            Self::Ring => "ring",
        }
    }

    /// The shortest interval of echo checks, milliseconds. Where BGP's timers decide, a trial takes a minute:
    /// fewer checks do.
    pub(super) const fn every_ms(self) -> u64 {
        match self {
            Self::Peers => 40,
            _ => 20,
        }
    }

    /// Whether legs alone can lead a packet back to a router.
    const fn goes_round(self) -> bool {
        matches!(self, Self::Circle | Self::Pair)
    }
}

/// Routers, sites and clients, all by number, and the costs in force.
#[derive(Clone, Debug)]
pub(super) struct Layout {
    pub(super) shape: NetShape,
    /// The legs of each service of each router.
    pub(super) legs: Vec<Vec<Vec<Leg>>>,
    /// The service that each address belongs to, by router.
    pub(super) homes: Vec<[usize; ADDRESSES]>,
    /// The two routers of each link between routers. The first sends to the second, and only in a
    /// pair also the second to the first.
    pub(super) trunks: Vec<[usize; 2]>,
    /// The router of each site.
    pub(super) sites: Vec<usize>,
    /// The router of each client.
    pub(super) clients: Vec<usize>,
    /// Interval of each router's echo checks of sites, milliseconds.
    pub(super) every_ms: Vec<u64>,
    /// How many failures in a row of a site's server its router takes for its death.
    pub(super) falls: Vec<u64>,
    /// Whether each site is checked over TCP beside its echo, else by DNS.
    pub(super) over_tcp: Vec<bool>,
    /// How often each site's cable was moved to another port.
    pub(super) plugs: Vec<u32>,
    /// What each router says by BGP; empty if none speaks it.
    pub(super) speaks: Vec<Speaks>,
}

/// What a router says by BGP.
#[derive(Clone, Copy, Debug)]
pub(super) struct Speaks {
    /// Its hold time, seconds.
    pub(super) hold_s: u64,
    /// Whether it announces its services.
    pub(super) exports: bool,
    /// How many of its sites have to be well for that.
    pub(super) min_sites: usize,
    /// How long a service that can be announced again is not, milliseconds; longer each time.
    pub(super) delay_ms: u64,
    /// In which interval it sends BFD packets, and wants to receive them, milliseconds.
    pub(super) bfd_ms: u64,
}

/// A way for a router to send the service's packets.
#[derive(Clone, Debug)]
pub(super) struct Leg {
    pub(super) to: LegTarget,
    pub(super) cost: u32,
}

/// What a leg leads to.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum LegTarget {
    /// A site of the router itself.
    Site(usize),
    /// Another router, by this trunk.
    Trunk(usize),
}

impl Layout {
    pub(super) fn draw(rng: &mut Rng, shape: Option<NetShape>) -> Self {
        let drawn = NetShape::ALL[rng.below(NetShape::ALL.len() as u64) as usize];
        let shape = shape.unwrap_or(drawn);
        let routers = match shape {
            NetShape::Pair => 2,
            NetShape::Circle => 3,
            NetShape::Chain => 2 + rng.below(5) as usize,
            NetShape::Ring => 3 + rng.below(4) as usize,
            NetShape::Mesh | NetShape::Peers => 4 + rng.below(3) as usize,
        };
        let sites = draw_sites(rng, shape, routers);
        let clients = vec![0, rng.below(routers as u64) as usize];
        let trunks = draw_trunks(rng, shape, routers);
        let services = 1 + rng.below(SERVICES as u64) as usize;
        let mut layout = Self {
            shape,
            legs: vec![vec![Vec::new(); services]; routers],
            homes: vec![[0; ADDRESSES]; routers],
            trunks,
            clients,
            every_ms: vec![shape.every_ms(); routers],
            falls: vec![3; routers],
            over_tcp: sites.iter().map(|_| rng.below(2) == 0).collect(),
            plugs: vec![0; sites.len()],
            sites,
            speaks: Vec::new(),
        };
        if shape == NetShape::Peers {
            let speaks = Speaks {
                hold_s: HOLD_S,
                exports: true,
                min_sites: 1,
                delay_ms: 0,
                bfd_ms: BFD_MS[0],
            };
            layout.speaks = vec![speaks; routers];
            for speaks in &mut layout.speaks {
                speaks.delay_ms = DELAYS_MS[rng.below(DELAYS_MS.len() as u64) as usize];
            }
        }
        for router in 0..routers {
            for service in 0..services {
                layout.deal(router, service, rng);
                // Each has one at least.
                layout.homes[router][service] = service;
            }
        }
        layout
    }

    pub(super) fn routers(&self) -> usize {
        self.legs.len()
    }

    /// How many services each router has.
    pub(super) fn services(&self) -> usize {
        self.legs.first().map_or(0, Vec::len)
    }

    /// The addresses of a service.
    pub(super) fn addresses(&self, router: usize, service: usize) -> impl Iterator<Item = usize> {
        let homes = self.homes[router];
        (0..ADDRESSES).filter(move |&address| homes[address] == service)
    }

    /// Whether a router has sites of its own, or others to fall back on.
    pub(super) fn hosts(&self, router: usize) -> bool {
        self.legs[router].iter().any(|legs| !legs.is_empty())
    }

    /// Draws what a router says by BGP from now on, if it speaks it: as before, more often than not. By BFD it goes from
    /// one interval to the other.
    pub(super) fn speak(&mut self, router: usize, rng: &mut Rng) {
        let sites = self.sites.iter().filter(|at| **at == router).count();
        if let Some(speaks) = self.speaks.get_mut(router) {
            if sites > 0 {
                speaks.min_sites = 1 + rng.below(sites as u64) as usize;
            }
            speaks.exports = rng.below(4) > 0;
            speaks.bfd_ms = if speaks.bfd_ms == BFD_MS[0] { BFD_MS[1] } else { BFD_MS[0] };
            if rng.below(4) == 0 {
                speaks.hold_s = HOLD_S + rng.below(2);
            }
        }
    }

    /// Draws new costs for the legs of a service. Two legs have equal costs only if both lead to the router's
    /// own sites: between two neighbours a flow's choice would depend on the hash.
    pub(super) fn deal(&mut self, router: usize, service: usize, rng: &mut Rng) {
        let mut own = [Vec::new(), Vec::new()];
        for (site, _) in self.sites.iter().enumerate().filter(|(_, at)| **at == router) {
            own[rng.below(2) as usize].push(LegTarget::Site(site));
        }
        let mutual = self.shape == NetShape::Pair;
        let down = |ends: &[usize; 2]| ends[0] == router || mutual;
        let falls_back = self.shape != NetShape::Peers;
        let trunks = self.trunks.iter().enumerate().filter(|(_, ends)| falls_back && down(ends));
        let trunks = trunks.map(|(trunk, _)| vec![LegTarget::Trunk(trunk)]);
        let mut tiers: Vec<Vec<LegTarget>> = own.into_iter().chain(trunks).collect();
        // Routers that can form a loop prefer their own sites, or a loop would never end.
        let free = if self.shape.goes_round() { 2 } else { tiers.len() };
        for last in (1..free).rev() {
            tiers.swap(last, rng.below(last as u64 + 1) as usize);
        }
        let costs = (10..).step_by(10);
        let legs = tiers
            .into_iter()
            .zip(costs)
            .flat_map(|(tier, cost)| tier.into_iter().map(move |to| Leg { to, cost }));
        self.legs[router][service] = legs.collect();
    }

    /// Moves an address of a router to another service; in exchange for one of that service's, if it is the
    /// last one. Returns the addresses that moved.
    pub(super) fn move_address(&mut self, router: usize, rng: &mut Rng) -> Vec<usize> {
        if self.services() < 2 {
            return Vec::new();
        }
        let address = rng.below(ADDRESSES as u64) as usize;
        let from = self.homes[router][address];
        let to = (from + 1) % self.services();
        let mut moved = vec![address];
        if self.addresses(router, from).count() == 1 {
            moved.extend(self.addresses(router, to).next());
        }
        for &address in &moved {
            let home = &mut self.homes[router][address];
            *home = if *home == from { to } else { from };
        }
        moved
    }

    /// The router at the other end of a trunk.
    pub(super) fn across(&self, trunk: usize, from: usize) -> usize {
        let [a, b] = self.trunks[trunk];
        if a == from { b } else { a }
    }

    /// Name of a leg: its port, and its site in that router's configuration.
    pub(super) fn leg_name(&self, router: usize, to: LegTarget) -> String {
        match to {
            LegTarget::Site(site) => site_name(site),
            LegTarget::Trunk(trunk) => router_name(self.across(trunk, router)),
        }
    }

    /// The trunk by which a router sends towards another, on a shortest path that avoids `without`.
    /// Routes are static: they do not change with the state of links.
    pub(super) fn towards(&self, from: usize, to: usize, without: Option<usize>) -> Option<usize> {
        let open = |trunk: &usize| !self.trunks[*trunk].iter().any(|end| Some(*end) == without);
        let at = |router: usize| {
            let all = 0..self.trunks.len();
            all.filter(move |trunk| self.trunks[*trunk].contains(&router)).filter(open)
        };
        let mut distance = BTreeMap::from([(to, 0)]);
        let mut queue = VecDeque::from([to]);
        while let Some(router) = queue.pop_front() {
            for trunk in at(router) {
                let next = self.across(trunk, router);
                if !distance.contains_key(&next) {
                    distance.insert(next, distance[&router] + 1);
                    queue.push_back(next);
                }
            }
        }
        let far = |trunk: &usize| distance.get(&self.across(*trunk, from)).copied();
        at(from).filter(|trunk| far(trunk).is_some()).min_by_key(|trunk| (far(trunk), *trunk))
    }
}

/// Draws up to 2 sites per router. The last router, which has nowhere to fall back, and every
/// router that others fall back on has at least one.
fn draw_sites(rng: &mut Rng, shape: NetShape, routers: usize) -> Vec<usize> {
    let mut sites = Vec::new();
    for router in 0..routers {
        // The clients of the first of such routers have BGP alone.
        if shape == NetShape::Peers && router == 0 {
            continue;
        }
        let one = u64::from(shape.goes_round() || router + 1 == routers);
        let count = one + rng.below(3 - one);
        sites.extend((0..count).map(|_| router));
    }
    sites
}

fn draw_trunks(rng: &mut Rng, shape: NetShape, routers: usize) -> Vec<[usize; 2]> {
    let mut trunks: Vec<[usize; 2]> = (1..routers).map(|next| [next - 1, next]).collect();
    match shape {
        NetShape::Chain | NetShape::Pair => {}
        NetShape::Circle => trunks.push([routers - 1, 0]),
        NetShape::Ring => trunks.push([0, routers - 1]),
        NetShape::Mesh | NetShape::Peers => {
            for low in 0..routers {
                for high in low + 2..routers {
                    if rng.below(3) == 0 {
                        trunks.push([low, high]);
                    }
                }
            }
        }
    }
    trunks
}

/// Among which the wait of what is announced again is drawn, milliseconds.
const DELAYS_MS: [u64; 3] = [0, 200, 2000];

/// The intervals of BFD, milliseconds. Four of the first are longer than most stalls of a thread, which are up to
/// 300 ms; who is silent for one of the second has sent none of these four.
const BFD_MS: [u64; 2] = [60, 360];

/// The shortest hold time that a router may propose, seconds (RFC 4271, section 4.2).
const HOLD_S: u64 = 3;

/// How many services a network has at most.
const SERVICES: usize = 2;

/// How many addresses the services share, in each family.
pub(super) const ADDRESSES: usize = 3;
