//! Checks of `[bgp]`.
#![forbid(unsafe_code)]

use std::net::IpAddr;

use ipnetwork::IpNetwork;
use toml::Spanned;

use super::{
    bgp_links, connected, family, is_link_local, no_twins, own_addresses, service_names, unknown,
};
use crate::config::finding::Finding;
use crate::config::raw::{RawBgp, RawConfig, RawNeighbor};
use crate::config::report::Report;

pub(super) fn check(raw: &RawConfig, report: &Report) {
    let Some(bgp) = &raw.bgp else { return };
    needs_an_id(raw, bgp, report);
    let called = bgp.neighbors.iter().filter_map(|one| Some((one.called()?, one.called_at())));
    no_twins(called, report, |name| format!("two neighbors are named {name:?}"));
    let addresses = bgp.neighbors.iter().filter(|one| one.port.is_none());
    let addresses = addresses.filter_map(|one| one.address.as_ref());
    let addresses = addresses.map(|address| (*address.get_ref(), address.span()));
    no_twins(addresses, report, |address| format!("two neighbors have the address {address}"));
    let ranges = bgp.neighbors.iter().filter_map(|one| one.range.as_ref());
    let ranges = ranges.map(|range| (*range.get_ref(), range.span()));
    no_twins(ranges, report, |range| format!("two neighbors have the range {range}"));
    bgp_links::check(raw, bgp, report);
    for neighbor in &bgp.neighbors {
        range(neighbor, report);
        range_ends(raw, neighbor, report);
        ends(raw, neighbor, report);
        exported(raw, neighbor, report);
        distance(neighbor, report);
        inner_role(bgp, neighbor, report);
        silence(neighbor, report);
    }
}

/// Routers of one AS tell each other apart by it (RFC 6286).
fn needs_an_id(raw: &RawConfig, bgp: &RawBgp, report: &Report) {
    if raw.router.id.is_none() {
        let example = own_addresses(raw).find_map(|address| match address.get_ref().ip() {
            IpAddr::V4(v4) => Some(v4.to_string()),
            IpAddr::V6(_) => None,
        });
        let example = example.unwrap_or_else(|| "192.0.2.1".into());
        let finding = Finding::mistake("BGP needs a router id")
            .at(bgp.span.clone(), "expected an id in [router]")
            .help(format!("write id = \"{example}\" there, a number that no neighbor has"));
        report.add(finding);
    }
}

/// A range has a limit and no address, and an address the other way round.
fn range(neighbor: &RawNeighbor, report: &Report) {
    if let (Some(range), Some(address)) = (&neighbor.range, &neighbor.address) {
        let finding = Finding::mistake("a neighbor has an address or a range")
            .at(range.span(), "neighbors from all of these addresses")
            .at(address.span(), "one neighbor")
            .help("write two [[bgp.neighbor]]: connections of the address are the one's with it");
        report.add(finding);
    }
    if let (Some(limit), None) = (&neighbor.limit, &neighbor.range) {
        let finding = Finding::mistake("limit is of ranges")
            .at(limit.span(), "this is one neighbor")
            .help("for how many routes it may announce, write max-prefixes");
        report.add(finding);
    }
}

/// The router's end of the sessions with neighbors of a range.
fn range_ends(raw: &RawConfig, neighbor: &RawNeighbor, report: &Report) {
    let Some(range) = &neighbor.range else { return };
    let prefix = *range.get_ref();
    if is_link_local(prefix.addr()) || prefix.addr().is_multicast() {
        let finding = Finding::mistake(format!("{prefix} has no address of a neighbor"))
            .at(range.span(), "expected addresses that routers have beyond their link");
        report.add(finding);
        return;
    }
    if let Some(local) = &neighbor.local_address {
        its_own(raw, (local, prefix.addr().is_ipv6()), report);
        return;
    }
    let holds = |net: &IpNetwork| {
        connected(*net).is_some_and(|net| net.len() <= prefix.len() && net.contains(prefix.addr()))
    };
    if own_addresses(raw).any(|net| holds(net.get_ref())) {
        return;
    }
    let finding = Finding::mistake(format!("{prefix} is in no port's network"))
        .at(range.span(), "expected addresses on a port's link")
        .help("for neighbors further away, add multihop = 2 (or more) and a local-address");
    report.add(finding);
}

/// Both ends have to be addresses of one family, the router's own and somebody else's.
fn ends(raw: &RawConfig, neighbor: &RawNeighbor, report: &Report) {
    let own = |ip: IpAddr| own_addresses(raw).any(|address| address.get_ref().ip() == ip);
    // Of others the link is judged.
    let Some(address) = neighbor.address.as_ref().filter(|_| !bgp_links::is_on_link(neighbor))
    else {
        return;
    };
    if own(*address.get_ref()) {
        let finding = Finding::mistake(format!("{} is this router", address.get_ref()))
            .at(address.span(), "expected the address of another router");
        report.add(finding);
        return;
    }
    let v6 = address.get_ref().is_ipv6();
    if let Some(local) = &neighbor.local_address {
        its_own(raw, (local, v6), report);
        return;
    }
    let is_connected = own_addresses(raw).any(|net| net.get_ref().contains(*address.get_ref()));
    let finding = if is_connected {
        return;
    } else if neighbor.multihop.is_none() {
        Finding::mistake(format!("{} is in no port's network", address.get_ref()))
            .at(address.span(), "expected a neighbor on a port's link")
            .help("for one that is further away, add multihop = 2 (or more) and a local-address")
    } else {
        Finding::mistake("a neighbor that is further away needs a local-address")
            .at(address.span(), "it is in no port's network")
            .help("write local-address = ..., one of [router] addresses")
    };
    report.add(finding);
}

/// The router's end is an address of its own, of the neighbor's family.
fn its_own(raw: &RawConfig, (local, v6): (&Spanned<IpAddr>, bool), report: &Report) {
    let own = |ip: IpAddr| own_addresses(raw).any(|address| address.get_ref().ip() == ip);
    let finding = if local.get_ref().is_ipv6() != v6 {
        let label = format!("expected an {} address, as the neighbor's", family(v6));
        Finding::mistake("local-address is of the other family").at(local.span(), label)
    } else if own(*local.get_ref()) {
        return;
    } else {
        Finding::mistake(format!("{} is not an address of this router", local.get_ref()))
            .at(local.span(), "expected one of [router] addresses or of a port")
    };
    report.add(finding);
}

fn exported(raw: &RawConfig, neighbor: &RawNeighbor, report: &Report) {
    let known = service_names(raw);
    for name in neighbor.exports.iter().filter(|name| !known.contains(&name.get_ref().as_str())) {
        report.add(unknown(name, "service", "known services", &known));
    }
    let names = neighbor.exports.iter().map(|name| (name.get_ref(), name.span()));
    no_twins(names, report, |name| format!("export names {name:?} twice"));
}

/// GTSM is for neighbors one hop away (RFC 5082 section 3 for more is not there).
fn distance(neighbor: &RawNeighbor, report: &Report) {
    let secure = neighbor.ttl_security.as_ref().filter(|secure| *secure.get_ref());
    if let (Some(hops), Some(secure)) = (&neighbor.multihop, secure) {
        let finding = Finding::mistake("ttl-security is for neighbors on a link")
            .at(secure.span(), "its packets have a TTL of 255")
            .at(hops.span(), "this neighbor's may have less");
        report.add(finding);
    }
}

/// Roles are between ASes (RFC 9234 section 4).
fn inner_role(bgp: &RawBgp, neighbor: &RawNeighbor, report: &Report) {
    let same =
        bgp.asn.as_ref().map(Spanned::get_ref) == neighbor.asn.as_ref().map(Spanned::get_ref);
    if let Some(role) = neighbor.role.as_ref().filter(|_| same && bgp.asn.is_some()) {
        let finding = Finding::mistake("a neighbor in the same AS has no role")
            .at(role.span(), "roles are between ASes (RFC 9234)");
        report.add(finding);
    }
}

/// Nothing is accepted or sent without being said (RFC 8212).
fn silence(neighbor: &RawNeighbor, report: &Report) {
    if let Some(keys) = neighbor.silent_about() {
        let finding = Finding::warning(format!("the neighbor says nothing about {keys}"))
            .at(neighbor.called_at(), "what is not said is \"none\" (RFC 8212)")
            .help("write import = \"all\", \"none\" or a policy's name, and export = [\"SERVICE\"], \"services\" or \"none\"");
        report.add(finding);
    }
}
