//! The configuration that workers read: small, immutable, replaced as a whole.
#![forbid(unsafe_code)]

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;
use std::time::Duration;

use arc_swap::{ArcSwap, Cache};
use nearhop_fib::{AdjacencyId, IpPrefix};

use super::addresses::AddressSet;
use super::adjacency::{Adjacencies, Adjacency};
use super::bfd::BfdGate;
use super::local::Locals;

use crate::ids::PortId;
use crate::policy::{Facing, Martians, ReversePath};
use crate::port::{EngineChoice, Port};

/// Everything workers read besides the FIB.
#[derive(Clone)]
pub struct Snapshot {
    /// Increases by one with each snapshot.
    pub generation: u64,
    /// Ports by [`PortId`]; `None` if the port was removed.
    pub ports: Vec<Option<PortEntry>>,
    /// Adjacencies by id.
    pub adjacencies: Adjacencies,
    /// Which addresses are refused.
    pub martians: Martians,
    /// Seed of the flow hash.
    pub hash_seed: u64,
    /// Source of ICMP errors that leave by a port without an IPv4 address.
    pub address_v4: Option<Ipv4Addr>,
    /// Source of ICMPv6 errors that leave by a port without an IPv6 address.
    pub address_v6: Option<Ipv6Addr>,
    /// The broadcast addresses of connected networks.
    pub directed_broadcasts: Broadcasts,
    /// Sources that no packet from a port may have: the router's own addresses, and broadcasts.
    pub martian_sources: AddressSet,
    /// Those that none from a port that faces clients may have: the services' too, unless one of
    /// their sites is behind it.
    pub client_sources: AddressSet,
    /// The prefixes of services.
    pub services: AddressSet,
    /// The rules for packets addressed to the router.
    pub locals: Locals,
    /// The BFD sessions, which change in place: all snapshots have the same.
    pub bfd: Arc<BfdGate>,
    /// How long an idle worker polls before it sleeps.
    pub busy_poll: Duration,
}

/// A port as workers see it.
#[derive(Clone)]
pub struct PortEntry {
    /// Its name.
    pub name: String,
    /// The device that carries its packets.
    pub device: Arc<dyn Port>,
    /// Its own adjacency, for packets that are not sent to a neighbour.
    pub adjacency: AdjacencyId,
    /// Its first IPv4 address.
    pub address_v4: Option<Ipv4Addr>,
    /// Its first IPv6 address that is not link-local.
    pub address_v6: Option<Ipv6Addr>,
    /// Its link-local addresses: packets to them, and from its neighbours', are never forwarded, but
    /// those that came in by this port are delivered.
    pub link_locals: Box<[IpAddr]>,
    /// Messages of router discovery that came in by it are delivered.
    pub has_discovery: bool,
    /// Its networks: a packet that came in by it and is for another of their addresses has nowhere to go.
    pub networks: Box<[IpPrefix]>,
    /// How source addresses are checked.
    pub reverse_path: ReversePath,
    /// Who is behind it.
    pub facing: Facing,
    /// The configured I/O engine.
    pub engine: EngineChoice,
    /// Whether small packets of a flow are joined into superframes.
    pub join: bool,
    /// Whether any of its adjacencies has a link header.
    pub has_link_headers: bool,
}

impl PortEntry {
    /// A port without addresses, by which packets from anybody may come.
    pub fn plain(name: impl Into<String>, device: Arc<dyn Port>, adjacency: AdjacencyId) -> Self {
        Self {
            name: name.into(),
            device,
            adjacency,
            address_v4: None,
            address_v6: None,
            link_locals: Box::default(),
            has_discovery: false,
            networks: Box::default(),
            reverse_path: ReversePath::Off,
            facing: Facing::Any,
            engine: EngineChoice::Auto,
            join: true,
            has_link_headers: false,
        }
    }
}

/// Broadcast addresses of networks (RFC 922).
#[derive(Clone, Debug)]
pub struct Broadcasts {
    sorted: Vec<Ipv4Addr>,
    /// The bits set in all of them. Nearly every other address lacks one of these bits, which one
    /// comparison shows.
    common: u32,
}

impl Broadcasts {
    /// Whether `addr` is one of them.
    #[inline]
    pub fn has(&self, addr: IpAddr) -> bool {
        match addr {
            IpAddr::V4(addr) if addr.to_bits() & self.common == self.common => {
                self.sorted.binary_search(&addr).is_ok()
            }
            _ => false,
        }
    }
}

impl Default for Broadcasts {
    fn default() -> Self {
        [].into_iter().collect()
    }
}

impl FromIterator<Ipv4Addr> for Broadcasts {
    fn from_iter<I: IntoIterator<Item = Ipv4Addr>>(addrs: I) -> Self {
        let mut sorted: Vec<Ipv4Addr> = addrs.into_iter().collect();
        sorted.sort_unstable();
        let common = sorted.iter().fold(u32::MAX, |common, addr| common & addr.to_bits());
        Self { sorted, common }
    }
}

impl Snapshot {
    /// The port with this id.
    #[inline]
    pub fn port(&self, id: PortId) -> Option<&PortEntry> {
        self.ports.get(usize::from(id.0))?.as_ref()
    }

    /// The adjacency with this id.
    #[inline]
    pub fn adjacency(&self, id: AdjacencyId) -> Option<&Adjacency> {
        self.adjacencies.get(id)
    }

    /// Bytes of the largest packet that leaves by the port's own adjacency.
    pub fn mtu_of(&self, port: PortId) -> Option<u16> {
        Some(self.adjacency(self.port(port)?.adjacency)?.mtu)
    }

    /// Every port and its id.
    pub fn ports(&self) -> impl Iterator<Item = (PortId, &PortEntry)> {
        let indexed = self.ports.iter().enumerate();
        indexed.filter_map(|(index, port)| Some((PortId(index as u16), port.as_ref()?)))
    }
}

/// One reader's access to the newest snapshot; costs two loads and a comparison while it does not
/// change.
pub struct Snapshots {
    cache: Cache<Arc<ArcSwap<Snapshot>>, Arc<Snapshot>>,
}

impl Snapshots {
    /// A reader of `published`.
    pub fn new(published: Arc<ArcSwap<Snapshot>>) -> Self {
        Self { cache: Cache::new(published) }
    }

    /// The newest snapshot.
    #[inline]
    pub fn load(&mut self) -> &Snapshot {
        self.cache.load()
    }
}
