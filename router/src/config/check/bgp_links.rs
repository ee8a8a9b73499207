//! Checks of `[[bgp.neighbor]]` on links: those with a link-local address, and those that are looked for on a port.
#![forbid(unsafe_code)]

use std::net::IpAddr;
use std::ops::Range;

use toml::Spanned;

use super::{is_link_local, no_twins, unknown};
use crate::config::finding::Finding;
use crate::config::raw::{MTU_DEFAULT, RawBgp, RawConfig, RawNeighbor, RawPort};
use crate::config::report::Report;

pub(super) fn check(raw: &RawConfig, bgp: &RawBgp, report: &Report) {
    let on_links = || bgp.neighbors.iter().filter(|one| is_on_link(one));
    on_links().for_each(|neighbor| judge(raw, neighbor, report));
    // The same address on two links is two neighbors.
    let ends = on_links().filter_map(|one| {
        let (address, port) = (one.address.as_ref()?, one.port.as_ref()?);
        Some(((*address.get_ref(), port.get_ref()), address.span()))
    });
    no_twins(ends, report, |(address, port)| {
        format!("two neighbors on port {port:?} have the address {address}")
    });
    let looked_for = on_links().filter(|one| one.is_looked_for());
    let looked_for = looked_for.filter_map(|one| one.port.as_ref());
    let ports = looked_for.map(|port| (port.get_ref(), port.span()));
    no_twins(ports, report, |port| format!("two neighbors are looked for on port {port:?}"));
}

/// Whether a neighbor has a link-local address, or a port that says where it is.
pub(super) fn is_on_link(neighbor: &RawNeighbor) -> bool {
    neighbor.port.is_some() || local_part(neighbor.address.as_ref()).is_some()
}

fn judge(raw: &RawConfig, neighbor: &RawNeighbor, report: &Report) {
    let Some(port) = &neighbor.port else {
        if let Some(address) = local_part(neighbor.address.as_ref()) {
            let finding = Finding::mistake(format!("{} is on some link", address.get_ref()))
                .at(address.span(), "a link-local address means nothing without a port")
                .help(format!("add port = {:?}, the port that the neighbor is on", example(raw)));
            report.add(finding);
        }
        return;
    };
    if let Some(hops) = &neighbor.multihop {
        let finding = Finding::mistake("a neighbor on a port's link is not further away")
            .at(hops.span(), "multihop is for others")
            .at(port.span(), "the neighbor is on this port's link");
        report.add(finding);
    }
    if let Some(address) = neighbor.address.as_ref().filter(|one| !is_link_local(*one.get_ref())) {
        let finding = Finding::mistake(format!("{} is not link-local", address.get_ref()))
            .at(port.span(), "a port is given for link-local addresses")
            .at(address.span(), "the port of this one follows from the ports' networks")
            .help("remove port, or write the neighbor's address in fe80::/10, or no address");
        report.add(finding);
    }
    let Some(there) = raw.ports.iter().find(|one| one.known_as.as_ref() == Some(port.get_ref()))
    else {
        let known: Vec<&str> = raw.ports.iter().filter_map(|one| one.known_as.as_deref()).collect();
        report.add(unknown(port, "port", "known ports", &known));
        return;
    };
    own_end(there, neighbor, report);
    carries_ipv6(there, port.span(), report);
}

/// The router's end is a link-local address of the port, and not the neighbor's.
fn own_end(port: &RawPort, neighbor: &RawNeighbor, report: &Report) {
    let own: Vec<IpAddr> = port.addresses.iter().map(|one| one.get_ref().ip()).collect();
    if let Some(address) = neighbor.address.as_ref().filter(|one| own.contains(one.get_ref())) {
        let finding = Finding::mistake(format!("{} is this router", address.get_ref()))
            .at(address.span(), "expected the address of another router");
        report.add(finding);
    }
    let Some(local) = &neighbor.local_address else { return };
    if !is_link_local(*local.get_ref()) || !own.contains(local.get_ref()) {
        let finding = Finding::mistake(format!("{} is no end of this session", local.get_ref()))
            .at(local.span(), "expected a link-local address of the neighbor's port, or none");
        report.add(finding);
    }
}

/// A link that carries IPv6 needs an MTU of at least 1,280 bytes (RFC 8200 section 5).
fn carries_ipv6(port: &RawPort, because: Range<usize>, report: &Report) {
    let mtu = port.mtu.as_ref().map_or(MTU_DEFAULT, |mtu| *mtu.get_ref());
    if mtu < MTU_MIN_IPV6 && !super::addresses::has_family(port, true) {
        let at = port.mtu.as_ref().map_or(port.span.clone(), Spanned::span);
        let finding = Finding::mistake(format!("an MTU of {mtu} is too small for IPv6"))
            .at(at, format!("expected at least {MTU_MIN_IPV6} (RFC 8200 section 5)"))
            .at(because, "because of this neighbor");
        report.add(finding);
    }
}

/// An address that is link-local.
fn local_part(address: Option<&Spanned<IpAddr>>) -> Option<&Spanned<IpAddr>> {
    address.filter(|address| is_link_local(*address.get_ref()))
}

fn example(raw: &RawConfig) -> &str {
    raw.ports.iter().find_map(|port| port.known_as.as_deref()).unwrap_or("uplink")
}

const MTU_MIN_IPV6: u16 = 1280;
