//! The model of a configuration that passed every check. Only [`crate::config`] makes one from
//! text.
#![forbid(unsafe_code)]

mod announce;
mod bfd;

use std::fmt;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use ipnetwork::IpNetwork;
use nearhop_fib::IpPrefix;

pub use self::announce::{
    Additions, Aggregate, AggregateWhile, AnnounceRules, AnnounceWhen, BelowMin, Leaving,
    LinkBandwidth, NeighborTerms, OnExit, Playbook, PlaybookStep,
};
pub use self::bfd::{Bfd, SiteBfd};
use crate::bgp::Role;
use crate::bgp::lease::LeaseRules;
use crate::bgp::policy::Policy;
pub use crate::bgp::{AddPath, Import};
use crate::kernel::netns::NetNs;
use crate::policy::{CheckKind, Combine, Facing, LastSiteGuard, Martians, ReversePath};
use crate::port::EngineChoice;
use crate::rib::table::RouteTable;

/// One router.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// `[router]`.
    pub router: Router,
    /// `[[port]]`, in file order; names are unique.
    pub ports: Vec<Port>,
    /// `[[route]]`, in file order; prefixes are unique.
    pub routes: Vec<Route>,
    /// `[[routes]]`, in file order: the first file that has a prefix wins. Names are unique.
    pub route_files: Vec<RouteFile>,
    /// `[[service]]`, in file order; names and prefixes are unique.
    pub services: Vec<Service>,
    /// `[bgp]`.
    pub bgp: Option<Bgp>,
    /// `[api]`.
    pub api: Api,
}

/// The router itself.
#[derive(Clone, Debug, PartialEq)]
pub struct Router {
    /// Its name, used for the control socket and in events.
    pub name: String,
    /// Router ID, a dotted quad.
    pub id: Option<std::net::Ipv4Addr>,
    /// Worker threads; `None` means one per core.
    pub workers: Option<usize>,
    /// The router's own addresses, besides those of its ports.
    pub addresses: Vec<IpNetwork>,
    /// Which source and destination addresses are refused.
    pub martians: Martians,
    /// Seed of the flow hash; the same on every router that must make the same choices.
    pub hash_seed: u64,
    /// How long an idle worker polls before it sleeps; zero means not at all.
    pub busy_poll: Duration,
    /// What becomes of a command that would leave a service without a site.
    pub last_site_guard: LastSiteGuard,
    /// Where drained and disabled sites are kept over restarts.
    pub state_dir: Option<PathBuf>,
}

/// A port: a device with queues.
#[derive(Clone, Debug, PartialEq)]
pub struct Port {
    /// The name that routes and sites refer to.
    pub name: String,
    /// The device.
    pub device: Device,
    /// The network namespace of the device.
    pub netns: NetNs,
    /// The router's addresses on the link; each also makes a connected route.
    pub addresses: Vec<IpNetwork>,
    /// Addresses to set on the kernel's side of the link.
    pub peer_addresses: Vec<IpNetwork>,
    /// Destinations to route through the link on the kernel's side.
    pub peer_routes: Vec<IpPrefix>,
    /// Bytes of the largest IP packet, 68 to 65,535 (at least 1,280 with IPv6 addresses).
    pub mtu: u16,
    /// Reverse-path check of packets that come in by this port.
    pub reverse_path: ReversePath,
    /// Who is behind it: from clients, packets whose source is a service's address are refused.
    pub facing: Facing,
    /// The I/O engine that moves packets.
    pub engine: EngineChoice,
    /// Whether small packets of a flow are joined into superframes before they leave.
    pub join: bool,
}

impl Port {
    /// The router's first IPv6 link-local address on the link.
    pub fn link_local(&self) -> Option<Ipv6Addr> {
        self.addresses.iter().find_map(|network| match network.ip() {
            IpAddr::V6(v6) if v6.is_unicast_link_local() => Some(v6),
            _ => None,
        })
    }
}

/// The kind of a port's device.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Device {
    /// A TUN device, created if absent.
    Tun {
        /// Its interface name, 1 to 15 bytes.
        name: String,
        /// Whether the device remains after nearhop ends.
        persist: bool,
        /// Number of queues: `None` means one per worker, `Some(1)` a single-queue device.
        queues: Option<usize>,
        /// Whether checksums and segmentation may be left to the receiver of a packet.
        offloads: bool,
    },
}

/// A static route.
#[derive(Clone, Debug, PartialEq)]
pub struct Route {
    /// Canonical prefix.
    pub prefix: IpPrefix,
    /// What happens to its packets.
    pub target: RouteTarget,
    /// How its next hops that are addresses are watched by BFD, if they are.
    pub bfd: Option<Bfd>,
}

/// A file of static routes.
#[derive(Clone, Debug, PartialEq)]
pub struct RouteFile {
    /// What it is called where routes are shown.
    pub name: String,
    /// Where it was read.
    pub path: PathBuf,
    /// Its routes.
    pub routes: RouteTable<RouteTarget>,
}

/// What happens to packets of a static route.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub enum RouteTarget {
    /// They leave by one of these next hops, which have equal cost.
    Via(Vec<Via>),
    /// They are dropped silently.
    Blackhole,
    /// They are dropped and answered with unreachable.
    Unreachable,
    /// They are dropped and answered with administratively prohibited.
    Prohibit,
}

/// A next hop. Gateways on Ethernet and tunnels will be further variants.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub enum Via {
    /// An address: packets go where the longest route to it leads. Not of sites.
    Address(IpAddr),
    /// A point-to-point port, by its name.
    Port(String),
}

/// An anycast service.
#[derive(Clone, Debug, PartialEq)]
pub struct Service {
    /// Its name.
    pub name: String,
    /// Its prefixes.
    pub prefixes: Vec<IpPrefix>,
    /// How flows stick to sites.
    pub affinity: Affinity,
    /// What happens to packets when no site is alive.
    pub when_all_dead: WhenAllDead,
    /// The round-trip time that counts as one unit of cost; `None` leaves latency out.
    pub latency_unit: Option<Duration>,
    /// So many percent of its sites may be called dead by checks within a second; later ones are used until a
    /// second burst of checks agrees. 100: all are believed.
    pub panic_threshold: u8,
    /// When it is announced by BGP.
    pub announce: AnnounceRules,
    /// What BGP neighbors hear of its prefixes.
    pub additions: Additions,
    /// Its sites, in file order; names are unique within the service.
    pub sites: Vec<Site>,
}

/// How the packets of a flow keep to one site.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Affinity {
    /// Not at all: each packet is assigned separately.
    None,
    /// By a hash of the flow, without state.
    #[default]
    Hash,
}

/// What happens to packets of a service whose sites are all down.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum WhenAllDead {
    /// They follow the next best route to the prefix, or are answered with unreachable if there is none.
    #[default]
    Unreachable,
    /// They are dropped silently.
    Drop,
    /// They are sent to the best site although it is down.
    FailOpen,
    /// They follow the next best route to the prefix, or the next shorter one that covers it.
    Covering,
}

impl WhenAllDead {
    /// Whether packets follow another route to the prefix, if there is one.
    pub const fn follows_routes(self) -> bool {
        matches!(self, Self::Covering | Self::Unreachable)
    }
}

/// One site of a service.
#[derive(Clone, Debug, PartialEq)]
pub struct Site {
    /// Its name. Together with the seed it is the site's key in the flow hash.
    pub name: String,
    /// Links to it, at least one.
    pub via: Vec<Via>,
    /// The operator's preference: a higher one wins before any cost (like BGP's local preference).
    pub preference: u32,
    /// Configured cost.
    pub cost: u32,
    /// Share of flows among sites of equal cost, 1 to 65,535.
    pub weight: u16,
    /// Its capacity; flows beyond it spill over to the next site.
    pub capacity: Option<Capacity>,
    /// Checks that decide whether it is up; if empty, the carrier of its links alone decides.
    pub health: Vec<Check>,
    /// How the checks are combined.
    pub combine: Combine,
    /// How its hosts are watched by BFD, if they are.
    pub bfd: Option<SiteBfd>,
}

/// A site's capacity.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Capacity {
    /// Packets per second.
    pub packets_per_second: u64,
}

/// One check of a site, run for each family of the service separately.
#[derive(Clone, Debug, PartialEq)]
pub struct Check {
    /// What it sends and expects.
    pub kind: CheckKind,
    /// Address to check instead of the service's own; either is pinned to the site's adjacency.
    pub target: Option<IpAddr>,
    /// Time between two requests.
    pub interval: Duration,
    /// The site is down after `interval × fall` without an answer.
    pub fall: u32,
    /// The site is up again after this many answers in a row.
    pub rise: u32,
    /// Whether the site is up before the first result.
    pub initial_up: bool,
}

/// BGP.
#[derive(Clone, Debug, PartialEq)]
pub struct Bgp {
    /// The router's AS.
    pub asn: u32,
    /// How many paths to a prefix that are as good share its packets, at least 1.
    pub multipath: u8,
    /// Its policies, in file order; names are unique.
    pub policies: Vec<Arc<Policy>>,
    /// `[[bgp.aggregate]]`, in file order; prefixes are unique.
    pub aggregates: Vec<Arc<Aggregate>>,
    /// `[[bgp.playbook]]`, in file order; names are unique.
    pub playbooks: Vec<Arc<Playbook>>,
    /// How it takes back what it announces.
    pub leaving: Leaving,
    /// When what it announces is deprioritised because a part of the router stands still.
    pub lease: LeaseRules,
    /// Its neighbors, in file order; names and addresses are unique.
    pub neighbors: Vec<Neighbor>,
    /// Where neighbors may come from that are not configured one by one, in file order; prefixes are unique.
    pub ranges: Vec<NeighborRange>,
}

/// Addresses whose connections become neighbors.
#[derive(Clone, Debug, PartialEq)]
pub struct NeighborRange {
    /// The addresses.
    pub prefix: IpPrefix,
    /// How many neighbors there may be at once.
    pub limit: u16,
    /// What each of them is, but for its name and address: the address is the prefix's.
    pub template: Neighbor,
}

impl NeighborRange {
    /// The neighbor with this address, which is in the range.
    pub fn neighbor(&self, address: IpAddr) -> Neighbor {
        let template = Some(self.template.name.clone());
        let name = address.to_string();
        Neighbor { name, template, address: Some(address), ..self.template.clone() }
    }
}

/// A BGP neighbor.
#[derive(Clone, Debug, PartialEq)]
pub struct Neighbor {
    /// Its name; its address unless another is configured.
    pub name: String,
    /// The name of the range that it came from; `None` is configured by itself.
    pub template: Option<String>,
    /// Its address; `None` is learned from its router advertisements on `port`.
    pub address: Option<IpAddr>,
    /// The port that its link-local address is on.
    pub port: Option<String>,
    /// Its AS.
    pub asn: u32,
    /// The router's end; `None` is its address on the link to the neighbor.
    pub local_address: Option<IpAddr>,
    /// Which of its routes are accepted.
    pub import: Import,
    /// Whether bogons of it are refused, besides martians.
    pub refuses_bogons: bool,
    /// What is announced to it.
    pub export: Export,
    /// What is made of that, and what of it is announced.
    pub export_policy: Option<Arc<Policy>>,
    /// What it hears of that.
    pub terms: NeighborTerms,
    /// What this router is to it (RFC 9234).
    pub role: Option<Role>,
    /// How many hops away it may be; `None` is on a link.
    pub multihop: Option<u8>,
    /// Whether its packets need a TTL of 255 (RFC 5082).
    pub ttl_security: bool,
    /// Whether only the neighbor opens connections.
    pub passive: bool,
    /// The hold time to propose; zero is never.
    pub hold_time: Duration,
    /// The most prefixes that are accepted of it, both families together.
    pub max_prefixes: u32,
    /// How long after that its session is tried again; `None` is when an operator clears it.
    pub restart_after: Option<Duration>,
    /// How often the router's own AS may be in a path.
    pub allow_own_as: u8,
    /// Which ways several paths of a prefix may be sent (RFC 7911).
    pub add_path: AddPath,
    /// How it is watched by BFD, if it is.
    pub bfd: Option<Bfd>,
    /// Octets of its session's last messages that are kept.
    pub transcript: usize,
}

/// What is announced to a neighbor (RFC 8212).
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Export {
    /// The prefixes of these services, by name; none if empty.
    Services(Vec<String>),
    /// Those of all services, and all aggregates.
    AllServices,
    /// All aggregates, and no service.
    Aggregates,
}

impl Neighbor {
    /// What is done with bogons, as the configuration writes it.
    pub const fn bogons(&self) -> &'static str {
        if self.refuses_bogons { "refuse" } else { "accept" }
    }
}

/// As the configuration writes it; names of services one after the other.
impl fmt::Display for Export {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Services(names) if names.is_empty() => f.write_str("none"),
            Self::Services(names) => f.write_str(&names.join(", ")),
            Self::AllServices => f.write_str("services"),
            Self::Aggregates => f.write_str("aggregates"),
        }
    }
}

/// Where the router serves its API.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Api {
    /// Control socket; `None` is the default path.
    pub socket: Option<PathBuf>,
    /// Address of the read-only HTTP server.
    pub http: Option<SocketAddr>,
}
