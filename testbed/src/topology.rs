//! The network of a lab, read from a short TOML file.
//!
//! ```toml
//! name = "two-sites"
//! [[node]]
//! name = "client"
//! kind = "client"
//! # … a router "r1", sites "ams" and "fra" …
//! [[link]]
//! ends = ["ams", "r1"]
//! delay = "20ms"
//! [[service]]
//! name = "dns"
//! router = "r1"
//! addresses = ["198.51.100.53", "2001:db8:53::53"]
//! sites = [{ name = "ams", cost = 10 }, { name = "fra", cost = 20 }]
//! ```
//!
//! The addresses of a link follow from its position in the file. A site may announce the addresses by
//! BGP instead of having a cost: `{ name = "ams", announce = { by = "bird", as = 65001 } }`.
#![forbid(unsafe_code)]

mod announce;
mod check;
mod plan;
mod quantity;
mod router;

use std::net::IpAddr;
use std::time::Duration;

pub use announce::{Announce, Daemon, ROUTER_AS};
use nearhop::config::reader::ConfigErrors;
pub use plan::LinkPlan;
pub use router::HOLD_TIME_S;

/// A lab.
#[derive(Clone, Debug, PartialEq)]
pub struct Topology {
    /// Its name, for `nearlab shell --lab`.
    pub name: String,
    /// Nodes, in file order; names are unique.
    pub nodes: Vec<Node>,
    /// Links, each between a router and another node.
    pub links: Vec<Link>,
    /// Anycast services.
    pub services: Vec<Service>,
}

/// A node: one network namespace.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Node {
    /// Its name: 1 to 12 letters, digits, hyphens.
    pub name: String,
    /// Its kind.
    pub kind: NodeKind,
}

/// The kind of a node.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum NodeKind {
    /// Sends requests.
    Client,
    /// Serves requests at the addresses of its services.
    Site,
    /// Runs nearhop.
    Router,
    /// Anything else.
    Plain,
}

/// A point-to-point link.
#[derive(Clone, Debug, PartialEq)]
pub struct Link {
    /// The node that is not the router.
    pub host: String,
    /// The router.
    pub router: String,
    /// Impairment of packets, in each direction.
    pub impairment: Impairment,
}

/// Impairment of packets on a link, the same in both directions. The default is a perfect link.
#[derive(Clone, Copy, Debug, Default, PartialEq, serde::Deserialize, serde::Serialize)]
pub struct Impairment {
    /// Added to every packet.
    pub delay: Duration,
    /// The delay varies uniformly by up to this much either way, which reorders packets.
    pub jitter: Duration,
    /// Share of packets that are lost, 0 to 1.
    pub loss: f64,
    /// Bits of IP packets per second; `None` is unlimited.
    pub rate: Option<u64>,
}

impl Impairment {
    /// Whether packets pass unchanged and without delay.
    pub fn is_none(&self) -> bool {
        *self == Self::default()
    }
}

/// An anycast service.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Service {
    /// Its name.
    pub name: String,
    /// The router that chooses among the sites.
    pub router: String,
    /// The addresses that every site serves.
    pub addresses: Vec<IpAddr>,
    /// The sites.
    pub sites: Vec<ServiceSite>,
    /// How the router checks the sites.
    pub health: Health,
}

/// How the router checks the sites of a service; `None` selects the demo's value.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Health {
    /// Time between two requests of a check; default 10 ms.
    pub interval: Option<Duration>,
    /// Missed answers in a row after which a site is down; default 3.
    pub fall: Option<u32>,
    /// Answers in a row after which a site is up; default 5 echoes and 3 queries.
    pub rise: Option<u32>,
}

impl Health {
    /// The longest time until the router detects an unannounced fault.
    pub fn detection(&self) -> Duration {
        self.interval.unwrap_or(router::INTERVAL) * self.fall.unwrap_or(router::FALL)
    }
}

/// A site of a service.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ServiceSite {
    /// The site's node.
    pub name: String,
    /// How the router learns of it, and what it is worth.
    pub known_by: KnownBy,
}

/// How the router learns of a site of a service, and what it is worth; of one service, all in the
/// same way.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum KnownBy {
    /// By its configuration, with checks: the cheapest living site gets the packets.
    Cost(u32),
    /// By BGP: the site announces the addresses itself.
    Bgp(Announce),
}

impl ServiceSite {
    /// Its cost, if it has one.
    pub fn cost(&self) -> Option<u32> {
        match self.known_by {
            KnownBy::Cost(cost) => Some(cost),
            KnownBy::Bgp(_) => None,
        }
    }

    /// What it announces, if it does.
    pub fn announce(&self) -> Option<&Announce> {
        match &self.known_by {
            KnownBy::Cost(_) => None,
            KnownBy::Bgp(announce) => Some(announce),
        }
    }

    /// Its place among the sites of its service: the smallest is the nearest. Of announced sites the
    /// length of the path counts first, then the MED.
    pub fn rank(&self) -> (u32, u32) {
        match &self.known_by {
            KnownBy::Cost(cost) => (*cost, 0),
            KnownBy::Bgp(announce) => (announce.prepend.into(), announce.med),
        }
    }
}

impl Service {
    /// Whether its sites announce it by BGP; else they have costs.
    pub fn is_announced(&self) -> bool {
        self.sites.iter().any(|site| site.announce().is_some())
    }

    /// The sites that may serve while all are well: a router cannot prefer any other.
    pub fn nearest(&self) -> Vec<&str> {
        let shortest = self.sites.iter().map(|site| site.rank().0).min();
        let near = || self.sites.iter().filter(|site| Some(site.rank().0) == shortest);
        // MEDs of different neighbouring ASes are not compared (RFC 4271, section 9.1.2.2).
        let is_beaten = |site: &ServiceSite| {
            let asn = |site: &ServiceSite| site.announce().map(|announce| announce.asn);
            near().any(|other| asn(other) == asn(site) && other.rank() < site.rank())
        };
        near().filter(|site| !is_beaten(site)).map(|site| site.name.as_str()).collect()
    }
}

impl Topology {
    /// The lab of the demo: a client, a router, and three sites of one service.
    pub fn three_sites() -> Self {
        match Self::parse("three-sites.toml", THREE_SITES) {
            Ok(topology) => topology,
            Err(error) => unreachable!("a test parses the built-in lab: {error}"),
        }
    }

    /// Reads a topology from TOML; errors refer to the file as `file`.
    pub fn parse(file: &str, text: &str) -> Result<Self, ConfigErrors> {
        check::parse(file, text)
    }

    /// The node of this name.
    pub fn node(&self, name: &str) -> Option<&Node> {
        self.nodes.iter().find(|node| node.name == name)
    }

    /// The nodes of one kind, in file order.
    pub fn nodes_of(&self, kind: NodeKind) -> impl Iterator<Item = &Node> {
        self.nodes.iter().filter(move |node| node.kind == kind)
    }

    /// The addresses of all services that the node serves.
    pub fn service_addresses<'a>(&'a self, site: &'a str) -> impl Iterator<Item = IpAddr> + 'a {
        let serves = move |service: &&Service| service.sites.iter().any(|one| one.name == site);
        self.services.iter().filter(serves).flat_map(|service| service.addresses.iter().copied())
    }

    /// Each site that announces prefixes, with what it announces, in file order.
    pub fn announcing(&self) -> impl Iterator<Item = (&str, &Announce)> {
        let sites = self.services.iter().flat_map(|service| &service.sites);
        sites.filter_map(|site| Some((site.name.as_str(), site.announce()?)))
    }

    /// The same lab with the costs of every service reassigned: the sites in `order` get the lowest
    /// ones in that order, the others keep their order after them.
    #[must_use]
    pub fn reordered(&self, order: &[&str]) -> Self {
        let mut changed = self.clone();
        let rank = |site: &str| order.iter().position(|name| *name == site).unwrap_or(usize::MAX);
        for service in &mut changed.services {
            let mut costs: Vec<_> = service.sites.iter().filter_map(ServiceSite::cost).collect();
            costs.sort_unstable();
            let costed = service.sites.iter_mut().filter(|site| site.cost().is_some());
            let mut sites: Vec<_> = costed.collect();
            sites.sort_by_key(|site| (rank(&site.name), site.cost()));
            for (site, cost) in sites.into_iter().zip(costs) {
                site.known_by = KnownBy::Cost(cost);
            }
        }
        changed
    }

    /// How each link is built and addressed, in file order.
    pub fn plans(&self) -> Vec<LinkPlan> {
        self.links.iter().enumerate().map(|(index, link)| LinkPlan::new(index, link)).collect()
    }

    /// The link of a node that is not a router.
    pub fn plan_of(&self, host: &str) -> Option<LinkPlan> {
        self.plans().into_iter().find(|plan| plan.host == host)
    }

    /// The configuration of a router, as `nearhop run` reads it.
    pub fn router_config(&self, router: &str) -> String {
        router::config(self, router)
    }
}

const THREE_SITES: &str = include_str!("../labs/three-sites.toml");

#[cfg(test)]
mod tests;
