//! Warnings about source addresses: those that packets come in with, and those of errors.
#![forbid(unsafe_code)]

use std::collections::HashSet;
use std::net::IpAddr;

use ipnetwork::IpNetwork;
use toml::Spanned;

use super::warn::is_any_link_local;
use super::{family, is_v6};
use crate::config::finding::Finding;
use crate::config::raw::{RawConfig, RawPort};
use crate::config::report::Report;
use crate::policy::{Facing, ReversePath};

pub(super) fn check(raw: &RawConfig, report: &Report) {
    open_to_services(raw, report);
    anycast_of_routers(raw, report);
    for v6 in [false, true] {
        errors_without_address(raw, v6, report);
    }
}

/// Ports that lead to no site, and accept a service's address as source.
fn open_to_services(raw: &RawConfig, report: &Report) {
    let sites = || raw.services.iter().flat_map(|service| &service.sites);
    if sites().next().is_none() {
        return;
    }
    let leading: HashSet<&str> =
        sites().flat_map(|site| &site.via).map(|via| via.get_ref().as_str()).collect();
    let is_open = |port: &&RawPort| {
        let leads = port.known_as.as_deref().is_none_or(|name| leading.contains(name));
        !leads && port.facing == Facing::Any && port.reverse_path != ReversePath::Strict
    };
    let mut open = raw.ports.iter().filter(is_open).filter_map(|port| port.name.as_ref());
    let Some(first) = open.next() else { return };
    let others = others(open.count());
    let text = format!("port {:?}{others} leads to no site", first.get_ref());
    let finding = Finding::warning(text)
        .at(first.span(), "and accepts packets that claim to come from a service")
        .help("if clients are behind it, add facing = \"clients\"");
    report.add(finding);
}

/// The kernel's side of a port has the anycast address of the network's routers, which is nearhop's.
fn anycast_of_routers(raw: &RawConfig, report: &Report) {
    for port in &raw.ports {
        let networks = port.addresses.iter().filter_map(|address| match address.get_ref() {
            IpNetwork::V6(own) if own.prefix() < 127 && own.ip() != own.network() => {
                Some(own.network())
            }
            _ => None,
        });
        let anycast: HashSet<IpAddr> = networks.map(IpAddr::from).collect();
        for peer in &port.peer_addresses {
            let ip = peer.get_ref().ip();
            if anycast.contains(&ip) {
                let finding =
                    Finding::warning(format!("the peer does not receive packets to {ip}"))
                        .at(peer.span(), "the network's routers have this address (RFC 4291 2.6.1)")
                        .help("give the peer another address");
                report.add(finding);
            }
        }
    }
}

/// Ports without an address of a family that is routed, where `[router]` has none either: errors
/// that leave by them need another source.
fn errors_without_address(raw: &RawConfig, v6: bool, report: &Report) {
    let fits = |address: &&Spanned<IpNetwork>| {
        let ip = address.get_ref().ip();
        ip.is_ipv6() == v6 && !is_any_link_local(ip)
    };
    let of_ports = || raw.ports.iter().flat_map(|port| &port.addresses).find(fits);
    let routes = raw.routes.iter().filter_map(|route| route.prefix.as_ref());
    let services = raw.services.iter().flat_map(|service| &service.prefixes);
    let mut prefixes = routes.chain(services).map(|prefix| *prefix.get_ref());
    let is_routed = of_ports().is_some() || prefixes.any(|prefix| is_v6(prefix) == v6);
    if !is_routed || raw.router.addresses.iter().any(|address| fits(&address)) {
        return;
    }
    let lacks = |port: &&RawPort| !port.addresses.iter().any(|address| fits(&address));
    let mut lacking = raw.ports.iter().filter(lacks).filter_map(|port| port.name.as_ref());
    let Some(first) = lacking.next() else { return };
    let others = others(lacking.count());
    let (family, errors) = (family(v6), if v6 { "ICMPv6 errors" } else { "ICMP errors" });
    let text = format!("port {:?}{others} has no {family} address for errors", first.get_ref());
    let label = match (of_ports(), v6) {
        (Some(other), _) => format!("{errors} by it are sent from {}", other.get_ref().ip()),
        (None, false) => format!("{errors} by it are sent from 192.0.0.8 (RFC 7600)"),
        (None, true) => format!("{errors} by it are not sent, so path MTU discovery fails"),
    };
    let finding = Finding::warning(text)
        .at(first.span(), label)
        .help(format!("add an {family} address to it, or to addresses of [router]"));
    report.add(finding);
}

fn others(count: usize) -> String {
    if count == 0 { String::new() } else { format!(" (and {count} more)") }
}
