//! A configuration that passed every check. Only [`crate::config`] makes one from text.
#![forbid(unsafe_code)]

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use ipnetwork::IpNetwork;
use nearhop_fib::IpPrefix;

use crate::kernel::netns::NetNs;
use crate::policy::CheckKind;
use crate::policy::Combine;
use crate::policy::Martians;
use crate::policy::ReversePath;
use crate::port::EngineChoice;

/// One router.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// `[router]`.
    pub router: Router,
    /// `[[port]]`, in file order; names are unique.
    pub ports: Vec<Port>,
    /// `[[route]]`, in file order; prefixes are unique.
    pub routes: Vec<Route>,
    /// `[[service]]`, in file order; names and prefixes are unique.
    pub services: Vec<Service>,
    /// `[api]`.
    pub api: Api,
}

/// The router itself.
#[derive(Clone, Debug, PartialEq)]
pub struct Router {
    /// Its name: socket, events.
    pub name: String,
    /// Router id, dotted quad.
    pub id: Option<std::net::Ipv4Addr>,
    /// Worker threads; `None` is one for each core.
    pub workers: Option<usize>,
    /// Its own addresses besides its ports'.
    pub addresses: Vec<IpNetwork>,
    /// Which addresses are never forwarded.
    pub martians: Martians,
    /// Seed of the site hash, the same on every router that must agree.
    pub hash_seed: u64,
    /// How long a worker that has nothing to do looks again before it sleeps; zero: not at all.
    pub busy_poll: Duration,
    /// Where drains and overrides are kept over a restart.
    pub state_dir: Option<PathBuf>,
}

/// A way in and out.
#[derive(Clone, Debug, PartialEq)]
pub struct Port {
    /// Name, as routes and sites use it.
    pub name: String,
    /// The device.
    pub device: Device,
    /// Where the device lives.
    pub netns: NetNs,
    /// The router's own side; connected routes follow.
    pub addresses: Vec<IpNetwork>,
    /// Put on the kernel side.
    pub peer_addresses: Vec<IpNetwork>,
    /// Bytes of the largest IP packet, 68 to 65,535 (1,280 at least with IPv6 addresses).
    pub mtu: u16,
    /// Reverse-path check of packets that come in here.
    pub reverse_path: ReversePath,
    /// How packets are moved.
    pub engine: EngineChoice,
    /// Small packets of a flow leave in superframes.
    pub join: bool,
}

/// What kind of device a port is.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Device {
    /// A TUN device, made if absent.
    Tun {
        /// Its interface name, 1 to 15 bytes.
        name: String,
        /// Leave it behind when nearhop ends.
        persist: bool,
        /// Queues wanted: `None` is one for each worker; `Some(1)` the single-queue device.
        queues: Option<usize>,
        /// Checksums and segments may be left to whoever takes a packet.
        offloads: bool,
    },
}

/// A static route.
#[derive(Clone, Debug, PartialEq)]
pub struct Route {
    /// Canonical prefix.
    pub prefix: IpPrefix,
    /// Where packets go.
    pub target: RouteTarget,
}

/// Where a static route leads.
#[derive(Clone, Debug, PartialEq)]
pub enum RouteTarget {
    /// Any of these next hops, equal in cost.
    Via(Vec<Via>),
    /// Dropped silently.
    Blackhole,
    /// Dropped and answered with unreachable.
    Unreachable,
    /// Dropped and answered with administratively prohibited.
    Prohibit,
}

/// A next hop. Gateways on Ethernet and tunnels will be further variants.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub enum Via {
    /// Out of a point-to-point port, by name.
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
    /// How much of probed latency counts as one unit of cost; `None` leaves latency out.
    pub latency_unit: Option<Duration>,
    /// Its sites, in file order; names are unique within the service.
    pub sites: Vec<Site>,
}

/// How flows stick to sites.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Affinity {
    /// Each packet anew.
    None,
    /// By flow hash, without state.
    #[default]
    Hash,
}

/// What happens to packets for a service whose sites are all down.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum WhenAllDead {
    /// Answered with unreachable.
    #[default]
    Unreachable,
    /// Dropped silently.
    Drop,
    /// Sent to the best site all the same.
    FailOpen,
    /// Treated by the next shorter route that covers the prefix.
    Covering,
}

/// One site of a service.
#[derive(Clone, Debug, PartialEq)]
pub struct Site {
    /// Its name; with the seed it is the site's key in the flow hash.
    pub name: String,
    /// Links to it, at least one.
    pub via: Vec<Via>,
    /// Operator's preference: higher wins before any cost (BGP's local preference).
    pub preference: u32,
    /// Configured cost.
    pub cost: u32,
    /// Share of flows among sites of equal cost, 1 to 65,535.
    pub weight: u16,
    /// What it can take; above it flows spill to the next site.
    pub capacity: Option<Capacity>,
    /// Checks that decide whether it is up; empty: only its links decide.
    pub health: Vec<Check>,
    /// How the checks are combined.
    pub combine: Combine,
}

/// A site's capacity.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Capacity {
    /// Packets a second.
    pub packets_per_second: u64,
}

/// One check of a site, done for each family of the service on its own.
#[derive(Clone, Debug, PartialEq)]
pub struct Check {
    /// What is sent and expected.
    pub kind: CheckKind,
    /// Address to check instead of the service's own (which is pinned to the site's adjacency).
    pub target: Option<IpAddr>,
    /// Between two requests.
    pub interval: Duration,
    /// Silent for `interval × fall` is down.
    pub fall: u32,
    /// As many answers in a row are up again.
    pub rise: u32,
    /// Up before the first verdict.
    pub initial_up: bool,
}

/// Where the router answers people and scripts.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Api {
    /// Control socket; `None` is the default place.
    pub socket: Option<PathBuf>,
    /// Read-only HTTP.
    pub http: Option<SocketAddr>,
}
