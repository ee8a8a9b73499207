//! Prefixes whose packets an operator discards (remotely triggered blackholing, RFC 5635 and RFC 7999).

use std::collections::BTreeSet;
use std::net::IpAddr;

use nearhop_fib::IpPrefix;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::Control;
use crate::event::EventKind;
use crate::rib::Source;
use crate::time::Nanos;

/// Blocked prefixes, over restarts.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Blocks(BTreeSet<IpPrefix>);

impl Blocks {
    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// All of them, in order.
    pub fn iter(&self) -> impl Iterator<Item = IpPrefix> + '_ {
        self.0.iter().copied()
    }

    /// Blocks a prefix or unblocks it; `false` if it was so before.
    pub fn set(&mut self, prefix: IpPrefix, is_blocked: bool) -> bool {
        if is_blocked { self.0.insert(prefix) } else { self.0.remove(&prefix) }
    }

    pub(super) fn as_set(&self) -> &BTreeSet<IpPrefix> {
        &self.0
    }
}

impl Serialize for Blocks {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.0.iter().map(ToString::to_string))
    }
}

impl<'de> Deserialize<'de> for Blocks {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let texts = Vec::<String>::deserialize(deserializer)?;
        let parse = |text: String| {
            text.parse().map_err(|why| {
                serde::de::Error::custom(format!("expected a prefix, found {text:?}: {why}"))
            })
        };
        texts.into_iter().map(parse).collect::<Result<_, _>>().map(Self)
    }
}

impl Control {
    /// Discards the packets of a prefix, or no more; `false` if it was so before.
    pub fn block(&mut self, now: Nanos, prefix: IpPrefix, blocked: bool, by: &str) -> bool {
        if !self.selection.block(prefix, blocked) {
            return false;
        }
        self.blocks_changed([prefix]);
        let kind = EventKind::Block { by: by.to_owned(), prefix: prefix.to_string(), blocked };
        self.events.push_back((now, kind));
        true
    }

    /// What in a prefix the router cannot do without, a phrase for each.
    pub fn needed_in(&self, prefix: IpPrefix) -> Vec<String> {
        let config = &self.config;
        let ports = config.ports.iter().flat_map(|port| &port.addresses);
        let own = config.router.addresses.iter().chain(ports).map(|net| (net.ip(), "the router's"));
        let neighbors = config.bgp.iter().flat_map(|bgp| &bgp.neighbors);
        let from_ranges = self.bgp.neighbors().map(|(_, state)| &state.config);
        let from_ranges = from_ranges.filter(|neighbor| neighbor.template.is_some());
        let neighbors = neighbors.chain(from_ranges);
        let neighbors = neighbors.filter_map(|one| Some((one.address?, "a BGP neighbour's")));
        let peers = config.ports.iter().flat_map(|port| &port.peer_addresses);
        let peers = peers.map(|net| (net.ip(), "the other end of a port's link"));
        let services =
            config.services.iter().flat_map(|service| {
                service.prefixes.iter().filter(|inner| prefix.len() <= inner.len()).map(
                    move |inner| (inner.addr(), format!("{inner} is of service {}", service.name)),
                )
            });
        let is_in = |addr: &IpAddr| prefix.contains(*addr);
        let mut all: Vec<String> = own
            .chain(neighbors)
            .chain(peers)
            .filter(|(addr, _)| is_in(addr))
            .map(|(addr, what)| format!("{addr} is {what}"))
            .collect();
        all.extend(services.filter(|(addr, _)| is_in(addr)).map(|(_, text)| text));
        all.dedup();
        all
    }

    /// Other prefixes are blocked now.
    pub(super) fn blocks_changed(&mut self, changed: impl IntoIterator<Item = IpPrefix>) {
        let blocks = &self.selection.overrides().blocks;
        self.discards.set(Source::Block, blocks.as_set());
        self.bgp.set_blocks(&self.config, blocks.as_set(), changed);
    }
}

/// Blocked prefixes there can be: each is a route here and for neighbours, which take few of them.
pub const BLOCKS_MAX: usize = 1024;
