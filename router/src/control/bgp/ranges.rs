//! Neighbours that come from ranges of addresses: each begins with its connection, and is forgotten once its
//! session has ended.

use std::net::IpAddr;

use crossbeam_channel::{Receiver, Sender, bounded};

use super::{Bgp, local_of, peering_of};
use crate::bgp::lane::{BgpOrder, Knock, Peering, RangeSpec, longest};
use crate::config::Config;
use crate::config::model::{Neighbor, NeighborRange};
use crate::ids::NeighborId;

/// What connections may become neighbours, and those that ask to.
pub(super) struct Ranges {
    specs: Vec<RangeSpec>,
    knocks: (Sender<Knock>, Receiver<Knock>),
}

impl Default for Ranges {
    fn default() -> Self {
        Self { specs: Vec::new(), knocks: bounded(KNOCKS) }
    }
}

impl Ranges {
    /// Whether anybody asks to become a neighbour.
    pub(super) fn is_asked(&self) -> bool {
        !self.knocks.1.is_empty()
    }
}

impl Bgp {
    /// The ranges are others.
    pub(super) fn set_ranges(&mut self, config: &Config) {
        let spec = |range: &NeighborRange| {
            let local = local_of(config, &range.template)?;
            Some(RangeSpec { prefix: range.prefix, local, limit: range.limit })
        };
        let specs: Vec<RangeSpec> = ranges(config).iter().filter_map(spec).collect();
        if self.ranges.specs != specs {
            self.ranges.specs.clone_from(&specs);
            self.orders.push(BgpOrder::Ranges(specs, self.ranges.knocks.0.clone()));
        }
    }

    /// What a neighbour that came from a range is by now; `None` if it is none any more.
    pub(super) fn still_of_range(
        &self,
        config: &Config,
        id: NeighborId,
    ) -> Option<(Neighbor, Peering)> {
        let state = self.neighbors.get(&id)?;
        let (neighbor, peering) = from_range(config, state.config.address?)?;
        let is_same = neighbor.template == state.config.template && peering == state.peering;
        is_same.then_some((neighbor, peering))
    }

    /// Begins a neighbour for each connection that may become one; at most [`KNOCKS`] of them.
    pub(super) fn admit(&mut self, config: &Config) {
        let knocks: Vec<Knock> = self.ranges.knocks.1.try_iter().take(KNOCKS).collect();
        for knock in knocks {
            let found = from_range(config, knock.address).filter(|(neighbor, peering)| {
                let mut others = self.neighbors.values();
                let of_range = self.neighbors.values().filter(|state| {
                    state.config.template.is_some() && state.config.template == neighbor.template
                });
                let limit = longest(ranges(config), |range| range.prefix, knock.address)
                    .map_or(0, |range| usize::from(range.limit));
                peering.local == knock.local
                    && of_range.count() < limit
                    && others.all(|state| state.config.address != Some(knock.address))
            });
            let Some((neighbor, peering)) = found else {
                self.orders.push(BgpOrder::Refuse(knock));
                continue;
            };
            let asn = config.bgp.as_ref().map_or(0, |bgp| bgp.asn);
            let template = neighbor.template.as_deref().unwrap_or_default();
            log::info!("bgp {}: a neighbour from range {template}", neighbor.name);
            self.begin(knock.at, &neighbor, (peering, None), neighbor.asn == asn);
        }
    }

    /// The session of a neighbour that came from a range has ended, and its routes are forgotten.
    pub(super) fn end_dynamic(&mut self, id: NeighborId) {
        let is_dynamic = |state: &super::NeighborState| state.config.template.is_some();
        if !self.neighbors.get(&id).is_some_and(is_dynamic) {
            return;
        }
        let state = self.neighbors.remove(&id);
        self.forget(id, state.and_then(|state| state.path));
        self.orders.push(BgpOrder::End(id, "its session has ended".into()));
    }
}

/// The neighbour that a connection from an address would be: none of those configured by themselves.
fn from_range(config: &Config, address: IpAddr) -> Option<(Neighbor, Peering)> {
    let (bgp, router_id) = (config.bgp.as_ref()?, config.router.id?);
    if bgp.neighbors.iter().any(|neighbor| neighbor.address == Some(address)) {
        return None;
    }
    let range = longest(&bgp.ranges, |range| range.prefix, address)?;
    let local = local_of(config, &range.template)?;
    let neighbor = range.neighbor(address);
    let peering = peering_of(bgp, router_id, &neighbor, (local, None));
    Some((neighbor, peering))
}

fn ranges(config: &Config) -> &[NeighborRange] {
    config.bgp.as_ref().map_or(&[], |bgp| &bgp.ranges)
}

/// Connections that may wait for an answer; more are refused.
const KNOCKS: usize = 64;
