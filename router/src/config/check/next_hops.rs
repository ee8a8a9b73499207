//! Checks of next hops that are addresses: each has to lead somewhere.
#![forbid(unsafe_code)]

use std::collections::HashMap;
use std::net::IpAddr;
use std::ops::Range;
use std::sync::Arc;

use nearhop_fib::{AdjacencyId, IpPrefix, PathId};

use super::own_addresses;
use crate::config::finding::Finding;
use crate::config::model::{RouteTarget, Via};
use crate::config::raw::{RawConfig, RawTarget, via_of};
use crate::config::report::Report;
use crate::ids::Family;
use crate::rib::table::RouteTable;
use crate::rib::{
    Candidate, Feed, NextHop, NextHops, Offered, Rib, ServiceSet, Source, Unresolved, Way,
};

pub(super) fn check(raw: &RawConfig, report: &Report) {
    let places = addresses(raw);
    if places.is_empty() {
        return;
    }
    let mut rib = rib_of(raw);
    rib.resolve();
    for (address, why) in rib.unresolved() {
        let Some(span) = places.get(&address) else { continue };
        let finding = match why {
            Unresolved::Loop => {
                Finding::mistake(format!("next hop {address} leads back to itself"))
                    .at(span.clone(), "the routes to it lead to each other, and to no port")
                    .help("add a route to it, or to one of the others, that leads to a port")
            }
            _ => Finding::warning(format!("next hop {address} leads nowhere"))
                .at(span.clone(), format!("{why}: no packet takes it")),
        };
        report.add(finding.consequence());
    }
}

/// Where each next hop that is an address stands first.
fn addresses(raw: &RawConfig) -> HashMap<IpAddr, Range<usize>> {
    let mut places = HashMap::new();
    for route in &raw.routes {
        let RawTarget::Via(vias) = &route.target else { continue };
        for via in vias {
            if let Via::Address(address) = via_of(via.get_ref()) {
                places.entry(address).or_insert_with(|| via.span());
            }
        }
    }
    for file in &raw.route_files {
        for target in &file.routes.targets {
            let RouteTarget::Via(vias) = target else { continue };
            for via in vias {
                if let Via::Address(address) = via {
                    places.entry(*address).or_insert_with(|| file.name_span());
                }
            }
        }
    }
    places
}

/// What the configuration offers, with ports by their number.
fn rib_of(raw: &RawConfig) -> Rib {
    let ports = raw.ports.iter().enumerate();
    let ways: HashMap<&str, Way> = ports
        .filter_map(|(index, port)| {
            let id = index as u32;
            let way = Way { path: PathId(id), adjacency: AdjacencyId(id) };
            Some((port.known_as.as_deref()?, way))
        })
        .collect();
    let hop = |via: &Via| match via {
        Via::Address(address) => Some(NextHop::Address(*address)),
        Via::Port(name) => ways.get(name.as_str()).copied().map(NextHop::Way),
    };
    let hops = |target: &RouteTarget| match target {
        RouteTarget::Via(vias) => NextHops::Via(vias.iter().filter_map(hop).collect()),
        _ => NextHops::Blackhole,
    };
    let mut rib = Rib::default();
    let mut offer = |prefix: IpPrefix, source: Source, hops: NextHops| {
        let set = rib.hold(hops);
        rib.offer(prefix, Candidate { source, set });
    };
    for address in own_addresses(raw) {
        offer(IpPrefix::host(address.get_ref().ip()), Source::Local, NextHops::Local);
    }
    for port in &raw.ports {
        let Some(way) = port.known_as.as_deref().and_then(|name| ways.get(name)) else { continue };
        for prefix in port.addresses.iter().filter_map(|own| super::connected(*own.get_ref())) {
            offer(prefix, Source::Connected, NextHops::Via(vec![NextHop::Way(*way)]));
        }
    }
    for prefix in raw.services.iter().flat_map(|service| &service.prefixes) {
        let prefix = *prefix.get_ref();
        let family = Family::of(prefix.addr());
        let of = ServiceSet { service: String::new(), family, prefix: None, leads_on: true };
        offer(prefix, Source::Service, NextHops::Service(of));
    }
    for route in &raw.routes {
        let Some(prefix) = &route.prefix else { continue };
        let hops = match &route.target {
            RawTarget::Via(vias) => {
                let vias = vias.iter().map(|via| via_of(via.get_ref()));
                NextHops::Via(vias.filter_map(|via| hop(&via)).collect())
            }
            RawTarget::Word(target) => hops(target),
        };
        offer(*prefix.get_ref(), Source::Static, hops);
    }
    for (index, file) in raw.route_files.iter().enumerate() {
        let RouteTable { prefixes, targets } = &file.routes;
        let sets = targets.iter().map(|target| rib.hold(hops(target))).collect();
        let new = Offered { prefixes: Arc::clone(prefixes), sets };
        let source = Source::File(u16::try_from(index).unwrap_or(u16::MAX));
        Feed::new(source, Offered::default(), new).step(&mut rib, usize::MAX);
    }
    rib
}
