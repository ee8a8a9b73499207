//! The part of the configuration that workers read: small, immutable, replaced whole.
#![forbid(unsafe_code)]

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;
use std::time::Duration;

use arc_swap::{ArcSwap, Cache};
use nearhop_fib::AdjacencyId;

use super::adjacency::{Adjacencies, Adjacency};
use super::local::Locals;

use crate::ids::PortId;
use crate::policy::{Martians, ReversePath};
use crate::port::{EngineChoice, Port};

/// What workers need to know besides the FIB.
#[derive(Clone)]
pub struct Snapshot {
    /// Counts up by one with each snapshot.
    pub generation: u64,
    /// By [`PortId`]; `None` where a port was removed.
    pub ports: Vec<Option<PortEntry>>,
    /// Ways out.
    pub adjacencies: Adjacencies,
    /// Which addresses are refused.
    pub martians: Martians,
    /// Seed of the flow hash.
    pub hash_seed: u64,
    /// Source of ICMP errors that leave by a port without an address.
    pub address_v4: Option<Ipv4Addr>,
    /// As `address_v4`.
    pub address_v6: Option<Ipv6Addr>,
    /// The broadcast addresses of connected networks.
    pub directed_broadcasts: Broadcasts,
    /// Where packets to the router go.
    pub locals: Locals,
    /// How long a worker that has nothing to do looks again before it sleeps.
    pub busy_poll: Duration,
}

/// A port as workers see it.
#[derive(Clone)]
pub struct PortEntry {
    /// Its name.
    pub name: String,
    /// Where packets come from and go.
    pub device: Arc<dyn Port>,
    /// Its own adjacency, by which packets leave that are for no neighbour.
    pub adjacency: AdjacencyId,
    /// Its first IPv4 address.
    pub address_v4: Option<Ipv4Addr>,
    /// Its first IPv6 address that is not link-local.
    pub address_v6: Option<Ipv6Addr>,
    /// How sources are checked.
    pub reverse_path: ReversePath,
    /// How packets are moved.
    pub engine: EngineChoice,
    /// Small packets of a flow leave in superframes.
    pub join: bool,
    /// Some of its adjacencies put something in front.
    pub has_link_headers: bool,
}

/// Broadcast addresses of networks (RFC 922).
#[derive(Clone, Debug)]
pub struct Broadcasts {
    sorted: Vec<Ipv4Addr>,
    /// The bits that all of them have: what lacks one is none, as are nearly all addresses.
    common: u32,
}

impl Broadcasts {
    /// Whether `addr` is one.
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

    /// The adjacency of a port's own; one that leads nowhere if there is no such port.
    pub fn adjacency_of(&self, port: PortId) -> AdjacencyId {
        self.port(port).map_or(AdjacencyId(u32::MAX), |port| port.adjacency)
    }

    /// Every port and its id.
    pub fn ports(&self) -> impl Iterator<Item = (PortId, &PortEntry)> {
        let indexed = self.ports.iter().enumerate();
        indexed.filter_map(|(index, port)| Some((PortId(index as u16), port.as_ref()?)))
    }
}

/// One worker's view of the newest snapshot: two loads and a comparison while nothing changes.
pub struct Snapshots {
    cache: Cache<Arc<ArcSwap<Snapshot>>, Arc<Snapshot>>,
}

impl Snapshots {
    /// Follows `published`.
    pub fn new(published: Arc<ArcSwap<Snapshot>>) -> Self {
        Self { cache: Cache::new(published) }
    }

    /// The newest snapshot.
    #[inline]
    pub fn load(&mut self) -> &Snapshot {
        self.cache.load()
    }
}
