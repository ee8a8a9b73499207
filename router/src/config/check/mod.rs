//! Checks that need more than one key: names that must differ or exist, addresses that must not
//! overlap, and what is allowed but probably not intended.
#![forbid(unsafe_code)]

mod addresses;
mod aggregates;
mod announce;
mod bfd;
mod bgp;
mod bgp_links;
mod names;
mod networks;
mod next_hops;
mod playbooks;
mod policies;
mod proven;
mod routes;
mod services;
mod sources;
mod warn;

use std::collections::HashMap;
use std::hash::Hash;
use std::net::IpAddr;
use std::ops::Range;

use ipnetwork::IpNetwork;
use nearhop_fib::IpPrefix;
use toml::Spanned;

use super::finding::Finding;
use super::raw::RawConfig;
use super::report::{Report, list_of};
use super::suggest::did_you_mean;

pub(super) use self::routes::never_forwarded;

/// Runs every check that needs more than one key.
pub(super) fn all(raw: &RawConfig, report: &Report) {
    names::few_enough_ports(raw, report);
    names::unique(raw, report);
    names::resolved(raw, report);
    addresses::check(raw, report);
    routes::check(raw, report);
    services::check(raw, report);
    next_hops::check(raw, report);
    warn::check(raw, report);
    networks::check(raw, report);
    sources::check(raw, report);
    bgp::check(raw, report);
    bfd::check(raw, report);
    policies::check(raw, report);
    announce::check(raw, report);
    proven::check(raw, report);
    aggregates::check(raw, report);
    playbooks::check(raw, report);
}

/// Reports every item whose key occurred before; `message` is made from the key.
fn no_twins<K: Eq + Hash>(
    items: impl Iterator<Item = (K, Range<usize>)>,
    report: &Report,
    message: impl Fn(&K) -> String,
) {
    let mut first: HashMap<K, Range<usize>> = HashMap::new();
    for (key, span) in items {
        if let Some(before) = first.get(&key) {
            let finding = Finding::mistake(message(&key))
                .at(span, "here again")
                .at(before.clone(), "first here");
            report.add(finding);
        } else {
            first.insert(key, span);
        }
    }
}

/// What is said of a name that nothing of its kind has; `expected` leads the list of those that there are.
fn unknown(name: &Spanned<String>, kind: &str, expected: &str, known: &[&str]) -> Finding {
    let text = name.get_ref();
    let finding = Finding::mistake(format!("{text:?} is not a {kind}"))
        .at(name.span(), list_of(expected, known))
        .consequence();
    match did_you_mean(text, known) {
        Some(best) => finding.help(format!("did you mean {best:?}?")),
        None => finding,
    }
}

/// The names of all services.
fn service_names(raw: &RawConfig) -> Vec<&str> {
    let names = raw.services.iter().filter_map(|service| service.name.as_ref());
    names.map(|name| name.get_ref().as_str()).collect()
}

fn is_v6(prefix: IpPrefix) -> bool {
    matches!(prefix, IpPrefix::V6(_))
}

fn family(v6: bool) -> &'static str {
    if v6 { "IPv6" } else { "IPv4" }
}

fn is_link_local(addr: IpAddr) -> bool {
    matches!(addr, IpAddr::V6(v6) if v6.is_unicast_link_local())
}

/// The connected route of an interface address.
fn connected(network: IpNetwork) -> Option<IpPrefix> {
    IpPrefix::around(network.ip(), network.prefix())
}

/// Every address of the router with its position in the file: its own, then its ports'.
fn own_addresses(raw: &RawConfig) -> impl Iterator<Item = &Spanned<IpNetwork>> {
    let ports = raw.ports.iter().flat_map(|port| &port.addresses);
    raw.router.addresses.iter().chain(ports)
}
