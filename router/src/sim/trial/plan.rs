//! What a network of a trial looks like, and how its routers are configured.
#![forbid(unsafe_code)]

use std::collections::{BTreeMap, VecDeque};
use std::fmt::Write as _;

use crate::config::{Config, ConfigErrors};
use crate::probe::Rng;
use crate::sim::Draft;

/// How the routers of a trial are linked. In a chain, mesh and ring a router sends to neighbours of
/// higher numbers only, so that nothing ever goes in a circle.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Shape {
    /// In a row.
    Chain,
    /// Three, each of which falls back on the next: when the sites of all die at once, packets go
    /// round until one of them has noticed.
    Circle,
    /// In a row with some more links across.
    Mesh,
    /// Two, each of which falls back on the other: a router that is not to send packets back where
    /// they came from has to see to it that none goes to and fro.
    Pair,
    /// In a row whose ends are linked.
    Ring,
}

impl Shape {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Chain, Self::Circle, Self::Mesh, Self::Pair, Self::Ring];

    /// One word.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Chain => "chain",
            Self::Circle => "circle",
            Self::Mesh => "mesh",
            Self::Pair => "pair",
            Self::Ring => "ring",
        }
    }

    /// Whether a packet can come back to a router by legs alone.
    const fn goes_round(self) -> bool {
        matches!(self, Self::Circle | Self::Pair)
    }
}

/// Routers, sites and clients, all by number, and the costs in force.
#[derive(Clone, Debug)]
pub(super) struct Plan {
    pub(super) shape: Shape,
    /// Of each router.
    pub(super) legs: Vec<Vec<Leg>>,
    /// The two routers of each link between routers; the first sends to the second, but for a pair
    /// not the other way round.
    pub(super) trunks: Vec<[usize; 2]>,
    /// The router of each site.
    pub(super) sites: Vec<usize>,
    /// The router of each client.
    pub(super) clients: Vec<usize>,
    /// Between two echoes to a site, of each router.
    pub(super) every_ms: Vec<u64>,
}

/// Somewhere a router can send the service's packets.
#[derive(Clone, Debug)]
pub(super) struct Leg {
    pub(super) to: To,
    pub(super) cost: u32,
}

/// Where a leg goes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum To {
    /// A site of the router itself.
    Site(usize),
    /// Another router, by this trunk.
    Trunk(usize),
}

impl Plan {
    pub(super) fn draw(rng: &mut Rng, shape: Option<Shape>) -> Self {
        let drawn = Shape::ALL[rng.below(Shape::ALL.len() as u64) as usize];
        let shape = shape.unwrap_or(drawn);
        let routers = match shape {
            Shape::Pair => 2,
            Shape::Circle => 3,
            Shape::Chain => 2 + rng.below(5) as usize,
            Shape::Ring => 3 + rng.below(4) as usize,
            Shape::Mesh => 4 + rng.below(3) as usize,
        };
        let sites = draw_sites(rng, shape, routers);
        let clients = vec![0, rng.below(routers as u64) as usize];
        let every_ms = vec![20; routers];
        let trunks = draw_trunks(rng, shape, routers);
        let legs = vec![Vec::new(); routers];
        let mut plan = Self { shape, legs, trunks, sites, clients, every_ms };
        (0..routers).for_each(|router| plan.deal(router, rng));
        plan
    }

    pub(super) fn routers(&self) -> usize {
        self.legs.len()
    }

    /// Deals costs to the legs of a router anew. Two legs cost the same only if they are its own
    /// sites: which of two neighbours a flow takes would be for its hash to say.
    pub(super) fn deal(&mut self, router: usize, rng: &mut Rng) {
        let mut own = [Vec::new(), Vec::new()];
        for (site, _) in self.sites.iter().enumerate().filter(|(_, at)| **at == router) {
            own[rng.below(2) as usize].push(To::Site(site));
        }
        let mutual = self.shape == Shape::Pair;
        let down = |ends: &[usize; 2]| ends[0] == router || mutual;
        let trunks = self.trunks.iter().enumerate().filter(|(_, ends)| down(ends));
        let trunks = trunks.map(|(trunk, _)| vec![To::Trunk(trunk)]);
        let mut tiers: Vec<Vec<To>> = own.into_iter().chain(trunks).collect();
        // Who goes round in a circle goes to its own sites first, or nothing would ever end that.
        let free = if self.shape.goes_round() { 2 } else { tiers.len() };
        for last in (1..free).rev() {
            tiers.swap(last, rng.below(last as u64 + 1) as usize);
        }
        let costs = (10..).step_by(10);
        let legs = tiers
            .into_iter()
            .zip(costs)
            .flat_map(|(tier, cost)| tier.into_iter().map(move |to| Leg { to, cost }));
        self.legs[router] = legs.collect();
    }

    /// The router at the other end of a trunk.
    pub(super) fn across(&self, trunk: usize, from: usize) -> usize {
        let [a, b] = self.trunks[trunk];
        if a == from { b } else { a }
    }

    /// What a leg is called: its port, and the site in the configuration of that router.
    pub(super) fn leg_name(&self, router: usize, to: To) -> String {
        match to {
            To::Site(site) => site_name(site),
            To::Trunk(trunk) => router_name(self.across(trunk, router)),
        }
    }

    /// The trunk by which a router sends towards another, on a shortest way that does not touch
    /// `without`. Routes are static: they stay as they are whatever happens to links.
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

    /// How a router is configured.
    pub(super) fn config(&self, router: usize) -> Result<Config, ConfigErrors> {
        let mut draft = Draft::new(&router_name(router));
        draft.without_latency();
        for (trunk, ends) in self.trunks.iter().enumerate().filter(|(_, e)| e.contains(&router)) {
            let host = if ends[0] == router { 1 } else { 2 };
            let name = router_name(self.across(trunk, router));
            port(&mut draft, &name, TRUNK, trunk, host);
        }
        for (site, _) in self.sites.iter().enumerate().filter(|(_, at)| **at == router) {
            port(&mut draft, &site_name(site), SITE, site, 1);
        }
        for (client, _) in self.clients.iter().enumerate().filter(|(_, at)| **at == router) {
            port(&mut draft, &client_name(client), CLIENT, client, 1);
        }
        self.routes(router, &mut draft);
        for leg in &self.legs[router] {
            let name = self.leg_name(router, leg.to);
            let health = match leg.cost {
                UNCHECKED => String::new(),
                _ => self.health(router, leg.to),
            };
            draft.site(&name, &name, leg.cost, &health);
        }
        draft.config()
    }

    /// To every client, and to those who probe their neighbour by a trunk: the answers come back by
    /// that trunk, so the way there leads through the neighbour.
    fn routes(&self, router: usize, draft: &mut Draft) {
        let mut route = |net: u8, number: usize, trunk: usize| {
            let via = router_name(self.across(trunk, router));
            draft.route(&format!("10.{net}.{number}.0/24"), &via);
            draft.route(&format!("fd00:{net}:{number:x}::/64"), &via);
        };
        for (client, &at) in self.clients.iter().enumerate().filter(|(_, at)| **at != router) {
            if let Some(trunk) = self.towards(router, at, None) {
                route(CLIENT, client, trunk);
            }
        }
        for (number, &[asks, asked]) in self.trunks.iter().enumerate() {
            if ![asks, asked].contains(&router)
                && let Some(trunk) = self.towards(router, asked, Some(asks))
            {
                route(TRUNK, number, trunk);
            }
        }
    }

    fn health(&self, router: usize, to: To) -> String {
        let mut text = "health = [\n".to_owned();
        let every = self.every_ms[router];
        let checks = match to {
            To::Trunk(_) => vec![("icmp = {}", 2 * every, 4, 3)],
            To::Site(_) => vec![
                ("icmp = {}", every, 3, 5),
                ("dns = { name = \"www.example.\" }", 2 * every, 3, 2),
            ],
        };
        for (check, every, fall, rise) in checks {
            // Writing to a String cannot fail.
            let _ = writeln!(
                text,
                "    {{ {check}, interval = \"{every}ms\", fall = {fall}, rise = {rise} }},"
            );
        }
        text + "]"
    }
}

pub(super) fn router_name(router: usize) -> String {
    format!("r{router}")
}

pub(super) fn site_name(site: usize) -> String {
    format!("s{site}")
}

pub(super) fn client_name(client: usize) -> String {
    format!("c{client}")
}

/// The address that a client has of each family; its router has 1.
pub(super) fn client_addresses(client: usize) -> [String; 2] {
    [format!("10.{CLIENT}.{client}.2"), format!("fd00:{CLIENT}:{client:x}::2")]
}

fn port(draft: &mut Draft, name: &str, net: u8, number: usize, host: u8) {
    let v4 = format!("10.{net}.{number}.{host}/24");
    let v6 = format!("fd00:{net}:{number:x}::{host}/64");
    draft.port(name, &v4, &v6);
}

/// Every router has 2 at most; the last one has one at least, for nobody can help it. So has
/// each that others fall back on.
fn draw_sites(rng: &mut Rng, shape: Shape, routers: usize) -> Vec<usize> {
    let mut sites = Vec::new();
    for router in 0..routers {
        let one = u64::from(shape.goes_round() || router + 1 == routers);
        let count = one + rng.below(3 - one);
        sites.extend((0..count).map(|_| router));
    }
    sites
}

fn draw_trunks(rng: &mut Rng, shape: Shape, routers: usize) -> Vec<[usize; 2]> {
    let mut trunks: Vec<[usize; 2]> = (1..routers).map(|next| [next - 1, next]).collect();
    match shape {
        Shape::Chain | Shape::Pair => {}
        Shape::Circle => trunks.push([routers - 1, 0]),
        Shape::Ring => trunks.push([0, routers - 1]),
        Shape::Mesh => {
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

/// The cost of a leg that is cheaper than all others, and the only one that is not checked.
pub(super) const UNCHECKED: u32 = 1;

/// Second byte of the IPv4 addresses of links between routers.
const TRUNK: u8 = 100;

/// Of links to sites.
const SITE: u8 = 101;

/// Of links to clients.
const CLIENT: u8 = 102;
