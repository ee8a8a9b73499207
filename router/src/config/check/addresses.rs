//! Checks of the ports' addresses and MTU.
#![forbid(unsafe_code)]

use std::net::IpAddr;
use std::ops::Range;

use ipnetwork::IpNetwork;
use toml::Spanned;

use super::{connected, is_link_local, is_v6, no_twins, own_addresses};
use crate::config::finding::Finding;
use crate::config::raw::{MTU_DEFAULT, PeerRoute, RawConfig, RawPort};
use crate::config::report::Report;
use crate::kernel::netns::NetNs;

pub(super) fn check(raw: &RawConfig, report: &Report) {
    // A port may repeat an address of `[router]`, but two ports must not share one.
    let of_router = raw.router.addresses.iter().map(placed);
    no_twins(of_router, report, |addr| format!("the router has {addr} twice"));
    let of_ports = raw.ports.iter().flat_map(|port| &port.addresses).map(placed);
    let routable = of_ports.filter(|(addr, _)| !is_link_local(*addr));
    no_twins(routable, report, |addr| format!("the router's ports have {addr} twice"));
    one_port_for_each_network(raw, report);
    for port in &raw.ports {
        peers_differ(port, report);
        mtu_carries_ipv6(port, report);
        default_has_family(port, report);
    }
    one_way_for_each_peer_route(raw, report);
    outside_services(raw, report);
}

/// Two ports must not connect the same prefix: hosts behind one of them would be unreachable.
fn one_port_for_each_network(raw: &RawConfig, report: &Report) {
    let networks = raw.ports.iter().flat_map(|port| {
        let mut seen = Vec::new();
        let of_port = port.addresses.iter().filter_map(|address| {
            let prefix = connected(*address.get_ref())?;
            let again = seen.contains(&prefix) || is_link_local(prefix.addr());
            seen.push(prefix);
            (!again).then(|| (prefix, address.span()))
        });
        of_port.collect::<Vec<_>>()
    });
    no_twins(networks, report, |prefix| format!("{prefix} is connected through two ports"));
}

/// The two ends of a link must have different addresses.
fn peers_differ(port: &RawPort, report: &Report) {
    for peer in &port.peer_addresses {
        let same = |own: &&Spanned<_>| own_ip(own) == own_ip(peer);
        if let Some(own) = port.addresses.iter().find(same) {
            let finding = Finding::mistake(format!("both ends have {}", own_ip(peer)))
                .at(peer.span(), "the kernel's side")
                .at(own.span(), "the router's side");
            report.add(finding);
        }
    }
}

fn own_ip(address: &Spanned<IpNetwork>) -> IpAddr {
    address.get_ref().ip()
}

fn placed(address: &Spanned<IpNetwork>) -> (IpAddr, Range<usize>) {
    (address.get_ref().ip(), address.span())
}

/// A link that carries IPv6 needs an MTU of at least 1,280 bytes (RFC 8200 section 5).
fn mtu_carries_ipv6(port: &RawPort, report: &Report) {
    let (mtu, span) = match &port.mtu {
        Some(mtu) => (*mtu.get_ref(), mtu.span()),
        None => (MTU_DEFAULT, port.span.clone()),
    };
    let addresses = port.addresses.iter().chain(&port.peer_addresses);
    let addresses = addresses.filter(|address| address.get_ref().is_ipv6());
    let routes = port.routes_of_peer().into_iter().filter(|(prefix, _)| is_v6(*prefix));
    let mut v6 = addresses
        .map(|address| (address.span(), "because of this address"))
        .chain(routes.map(|(_, span)| (span, "because of this route")));
    if let Some((of, because)) = v6.next()
        && mtu < MTU_MIN_IPV6
    {
        let finding = Finding::mistake(format!("an MTU of {mtu} is too small for IPv6"))
            .at(span, format!("expected at least {MTU_MIN_IPV6} (RFC 8200 section 5)"))
            .at(of, because);
        report.add(finding);
    }
}

/// A default route is of a family.
fn default_has_family(port: &RawPort, report: &Report) {
    let of_default = |route: &&Spanned<PeerRoute>| matches!(route.get_ref(), PeerRoute::Default);
    if let Some(route) = port.peer_routes.iter().find(of_default)
        && port.default_routes().is_empty()
    {
        let finding = Finding::mistake("peer-routes: \"default\" of no family")
            .at(route.span(), "the port has neither peer-addresses nor addresses to take it from")
            .help("add peer-addresses, or write \"0.0.0.0/0\" or \"::/0\"");
        report.add(finding);
    }
}

/// A kernel has one route to a prefix: a second port's would be refused.
fn one_way_for_each_peer_route(raw: &RawConfig, report: &Report) {
    let routes = raw.ports.iter().flat_map(|port| {
        let netns = port.netns.as_ref().map_or(&NetNs::Here, Spanned::get_ref);
        let routes = port.routes_of_peer().into_iter();
        routes.map(move |(prefix, span)| ((netns, prefix), span))
    });
    no_twins(routes, report, |(_, prefix)| {
        format!("{prefix} is in peer-routes twice in one network namespace")
    });
}

/// An address must not be both the router's own and inside a service's prefix.
fn outside_services(raw: &RawConfig, report: &Report) {
    for address in own_addresses(raw) {
        let addr = address.get_ref().ip();
        let prefixes = raw.services.iter().flat_map(|service| &service.prefixes);
        for prefix in prefixes.filter(|prefix| prefix.get_ref().contains(addr)) {
            let text = format!("{addr} is inside a service's prefix, {}", prefix.get_ref());
            let finding = Finding::mistake(text)
                .at(address.span(), "the router would answer for the service")
                .at(prefix.span(), "the service's prefix")
                .help("give the router another address; a service's addresses belong to its sites");
            report.add(finding);
        }
    }
}

/// Whether `port` has an address of this family.
pub(super) fn has_family(port: &RawPort, v6: bool) -> bool {
    let prefixes = port.addresses.iter().filter_map(|address| connected(*address.get_ref()));
    prefixes.into_iter().any(|prefix| is_v6(prefix) == v6)
}

const MTU_MIN_IPV6: u16 = 1280;
