//! Warnings about the networks of ports: hosts that the router would look for behind another port, or
//! nowhere.
#![forbid(unsafe_code)]

use std::net::IpAddr;
use std::ops::Range;

use ipnetwork::IpNetwork;
use nearhop_fib::IpPrefix;
use toml::Spanned;

use super::warn::is_any_link_local;
use super::{connected, is_v6};
use crate::config::finding::Finding;
use crate::config::raw::{RawConfig, RawPort, RawTarget};
use crate::config::report::Report;

pub(super) fn check(raw: &RawConfig, report: &Report) {
    for port in &raw.ports {
        peers_inside(raw, port, report);
    }
    one_inside_another(raw, report);
}

/// What the kernel's side has is reached by the port's network, or by a route that says so.
fn peers_inside(raw: &RawConfig, port: &RawPort, report: &Report) {
    for peer in &port.peer_addresses {
        let ip = peer.get_ref().ip();
        let networks = networks(port, ip.is_ipv6());
        let Some((network, span)) = networks.first().filter(|_| !is_any_link_local(ip)) else {
            continue;
        };
        let is_inside = networks.iter().any(|(network, _)| network.contains(ip));
        if !is_inside && !leads_to(raw, port, ip) {
            let text = format!("{ip} is outside the networks of its port");
            let finding = Finding::warning(text)
                .at(peer.span(), "the router does not find it behind this port")
                .at(span.clone(), format!("the port's network is {network}"))
                .help("give both ends addresses of one network, or add a [[route]] to it by this port");
            report.add(finding);
        }
    }
}

/// The networks of a port in one family.
fn networks(port: &RawPort, v6: bool) -> Vec<(IpPrefix, Range<usize>)> {
    let placed =
        |address: &Spanned<IpNetwork>| Some((connected(*address.get_ref())?, address.span()));
    let all = port.addresses.iter().filter_map(placed);
    all.filter(|(prefix, _)| is_v6(*prefix) == v6 && !is_any_link_local(prefix.addr())).collect()
}

/// Whether a route leads to this address by this port, or it is a service's: sites have these.
fn leads_to(raw: &RawConfig, port: &RawPort, ip: IpAddr) -> bool {
    let routes = raw.routes.iter().filter(|route| match (&route.prefix, &route.target) {
        (Some(prefix), RawTarget::Via(vias)) => {
            let is_by = |name: &str| port.known_as.as_deref() == Some(name);
            prefix.get_ref().contains(ip) && vias.iter().any(|via| is_by(via.get_ref()))
        }
        _ => false,
    });
    let mut services = raw.services.iter().flat_map(|service| &service.prefixes);
    routes.count() > 0 || services.any(|prefix| prefix.get_ref().contains(ip))
}

/// A network inside another port's: its hosts are looked for behind one port, their neighbours in the
/// larger network behind the other.
fn one_inside_another(raw: &RawConfig, report: &Report) {
    let of_port = |(index, port): (usize, &RawPort)| {
        let both = [false, true].into_iter().flat_map(|v6| networks(port, v6)).collect::<Vec<_>>();
        both.into_iter().map(move |(prefix, span)| (prefix, index, span))
    };
    let all = raw.ports.iter().enumerate().flat_map(of_port);
    // A full-length address is no network: unnumbered ports borrow such.
    let host = |prefix: IpPrefix| prefix.len() == if is_v6(prefix) { 128 } else { 32 };
    let mut all: Vec<_> = all.filter(|(prefix, ..)| !host(*prefix)).collect();
    // A prefix comes right before everything that it covers.
    all.sort_by_key(|(prefix, index, _)| (*prefix, *index));
    let mut around: Vec<&(IpPrefix, usize, Range<usize>)> = Vec::new();
    for inner in &all {
        let (prefix, port, span) = inner;
        while around.last().is_some_and(|(outer, ..)| !outer.contains(prefix.addr())) {
            around.pop();
        }
        let is_other = |(outer, of, _): &&&(IpPrefix, usize, Range<usize>)| {
            of != port && outer.len() < prefix.len()
        };
        if let Some((outer, _, first)) = around.iter().rev().find(is_other) {
            let text = format!("{prefix} is inside {outer}, the network of another port");
            let finding = Finding::warning(text)
                .at(span.clone(), "its addresses are looked for behind this port")
                .at(first.clone(), "and not behind this one")
                .help("give the two ports networks that do not overlap");
            report.add(finding);
        }
        around.push(inner);
    }
}
