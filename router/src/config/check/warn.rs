//! Warnings: what is allowed, but probably not intended.
#![forbid(unsafe_code)]

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;
use std::time::Duration;

use nearhop_fib::IpPrefix;
use toml::Spanned;

use super::addresses::has_family;
use super::{connected, family, is_v6};
use crate::config::finding::Finding;
use crate::config::model::{RouteTarget, Via, WhenAllDead};
use crate::config::raw::{RawCheck, RawConfig, RawPort, RawService, RawSite, RawTarget, RawVia};
use crate::config::report::Report;
use crate::rib::table::RouteTable;

pub(super) fn check(raw: &RawConfig, report: &Report) {
    if raw.ports.is_empty() {
        let finding = Finding::warning("no [[port]]: the router cannot receive or send packets");
        report.add(finding.at(0..0, "").consequence());
    }
    unused_ports(raw, report);
    idle_queues(raw, report);
    for service in &raw.services {
        no_site(service, report);
        families_checkable(raw, service, report);
        shared_links(service, report);
        covering_covers(raw, service, report);
        for site in &service.sites {
            checks(service, site, report);
        }
    }
    built_in_seed(raw, report);
    public_api(raw, report);
}

/// Flows are spread, by a hash that anybody who reads the source can compute.
fn built_in_seed(raw: &RawConfig, report: &Report) {
    let spreads = |service: &&RawService| {
        service.sites.len() > 1 || service.sites.iter().any(|site| site.via.len() > 1)
    };
    let Some(service) = raw.services.iter().find(spreads) else { return };
    let Some(name) = service.name.as_ref().filter(|_| raw.router.hash_seed == 0) else { return };
    let finding = Finding::warning("the built-in hash-seed is used")
        .at(name.span(), "its flows can be aimed at one site or link by whoever knows the seed")
        .help(
            "set a secret hash-seed in [router], the same on routers that serve the same address",
        );
    report.add(finding);
}

/// Ports with no route, no site and no address.
fn unused_ports(raw: &RawConfig, report: &Report) {
    let routes = raw.routes.iter().flat_map(|route| match &route.target {
        RawTarget::Via(vias) => vias.as_slice(),
        RawTarget::Word(_) => &[],
    });
    let sites = raw.services.iter().flat_map(|s| &s.sites).flat_map(|site| &site.via);
    let mut used: HashSet<&str> = routes.chain(sites).map(|via| via.get_ref().as_str()).collect();
    let neighbors = raw.bgp.iter().flat_map(|bgp| &bgp.neighbors);
    used.extend(neighbors.filter_map(|one| Some(one.port.as_ref()?.get_ref().as_str())));
    let targets = raw.route_files.iter().flat_map(|file| &file.routes.targets);
    for target in targets {
        if let RouteTarget::Via(vias) = target {
            used.extend(vias.iter().filter_map(|via| match via {
                Via::Port(name) => Some(name.as_str()),
                Via::Address(_) => None,
            }));
        }
    }
    for port in &raw.ports {
        let Some(name) = &port.name else { continue };
        if port.addresses.is_empty() && !used.contains(name.get_ref().as_str()) {
            let finding = Finding::warning(format!("port {:?} is not used", name.get_ref()))
                .at(name.span(), "no address, no route, no site")
                .help("give it addresses, or name it in a via");
            report.add(finding);
        }
    }
}

fn idle_queues(raw: &RawConfig, report: &Report) {
    let Some(workers) = raw.router.workers else { return };
    for queues in raw.ports.iter().filter_map(|port| port.queues.as_ref()) {
        if *queues.get_ref() > workers {
            let label = format!("a worker reads one queue of each port, and workers = {workers}");
            let text = format!("{} queues, but fewer workers to read them", queues.get_ref());
            report.add(Finding::warning(text).at(queues.span(), label));
        }
    }
}

fn no_site(service: &RawService, report: &Report) {
    let Some(name) = &service.name else { return };
    if service.sites.is_empty() {
        let finding = Finding::warning(format!("service {:?} has no site", name.get_ref()))
            .at(name.span(), "its packets are always handled as when-all-dead says")
            .help("add a [[service.site]] below it");
        report.add(finding);
    }
}

/// Families of the service for which some or all checked links to its sites have no source address.
fn families_checkable(raw: &RawConfig, service: &RawService, report: &Report) {
    for v6 in [false, true] {
        let of_router = raw.router.addresses.iter().map(|address| address.get_ref().ip());
        if of_router.into_iter().any(|ip| ip.is_ipv6() == v6 && !is_any_link_local(ip)) {
            continue;
        }
        let mut prefixes = service.prefixes.iter();
        let Some(prefix) = prefixes.find(|prefix| is_v6(*prefix.get_ref()) == v6) else { continue };
        let (with, without): (Vec<_>, Vec<_>) = checked_links(service, v6)
            .filter_map(|via| port_of(raw, via))
            .partition(|port| has_family(port, v6));
        let family = family(v6);
        if with.is_empty() && !without.is_empty() {
            let finding = Finding::warning(format!("no port of a site has an {family} address"))
                .at(
                    prefix.span(),
                    format!("{family} checks have no source address, so the sites stay down"),
                )
                .help("add one to the ports that lead to sites, or to addresses of [router]");
            report.add(finding);
            continue;
        }
        let named = without.into_iter().filter_map(|port| port.name.as_ref());
        for name in named.collect::<HashSet<_>>() {
            let finding = Finding::warning(format!(
                "port {:?} has no {family} address",
                name.get_ref()
            ))
            .at(name.span(), format!("it leads to a site that serves {}", prefix.get_ref()))
            .help(format!(
                "{family} checks through it have no source, and it stays down for {family}: \
                         add an address to it, or to addresses of [router]"
            ));
            report.add(finding);
        }
    }
}

/// The links of sites that have a check of this family.
fn checked_links(service: &RawService, v6: bool) -> impl Iterator<Item = &RawVia> {
    let fits = move |check: &RawCheck| {
        check.target.as_ref().is_none_or(|target| target.get_ref().is_ipv6() == v6)
    };
    let checked = move |site: &&RawSite| site.health.checks.iter().any(fits);
    service.sites.iter().filter(checked).flat_map(|site| &site.via)
}

pub(super) fn is_any_link_local(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => ip.is_link_local(),
        IpAddr::V6(ip) => ip.is_unicast_link_local(),
    }
}

/// Two sites behind one port look like one site: checks cannot distinguish them.
fn shared_links(service: &RawService, report: &Report) {
    let mut first: HashMap<&str, (&RawVia, usize)> = HashMap::new();
    for (index, site) in service.sites.iter().enumerate() {
        for via in &site.via {
            let (before, owner) = *first.entry(via.get_ref()).or_insert((via, index));
            if owner != index {
                let finding = Finding::warning(format!("two sites share port {:?}", via.get_ref()))
                    .at(via.span(), "here again: checks cannot distinguish the two sites")
                    .at(before.span(), "first here");
                report.add(finding);
            }
        }
    }
}

fn covering_covers(raw: &RawConfig, service: &RawService, report: &Report) {
    let Some(choice) = &service.when_all_dead else { return };
    if *choice.get_ref() != WhenAllDead::Covering {
        return;
    }
    let routes = raw.routes.iter().filter_map(|route| route.prefix.as_ref()).map(Spanned::get_ref);
    let services = raw.services.iter().flat_map(|s| &s.prefixes).map(Spanned::get_ref);
    let ports = raw.ports.iter().flat_map(|port| &port.addresses);
    let mut all: Vec<IpPrefix> = routes.chain(services).copied().collect();
    all.extend(ports.filter_map(|address| connected(*address.get_ref())));
    for prefix in &service.prefixes {
        let prefix = prefix.get_ref();
        let covers = |other: &IpPrefix| other.len() < prefix.len() && other.contains(prefix.addr());
        let files = raw.route_files.iter().map(|file| &file.routes);
        if !all.iter().any(covers) && !files.into_iter().any(|table| covered_by(table, *prefix)) {
            let finding = Finding::warning(format!("no configured route covers {prefix}"))
                .at(choice.span(), "so its packets are answered with unreachable");
            report.add(finding);
        }
    }
}

/// Whether a route of the file covers this prefix and is shorter.
fn covered_by(table: &RouteTable<RouteTarget>, prefix: IpPrefix) -> bool {
    let shorter = (0..prefix.len()).filter_map(|len| IpPrefix::around(prefix.addr(), len));
    shorter.into_iter().any(|prefix| table.get(prefix).is_some())
}

fn checks(service: &RawService, site: &RawSite, report: &Report) {
    for check in &site.health.checks {
        if let Some(interval) = &check.interval
            && *interval.get_ref() < INTERVAL_LEAST
        {
            let finding = Finding::warning("a check interval below 1 ms")
                .at(interval.span(), "scheduling jitter exceeds it, and makes sites flap")
                .help("10ms detects a silent loss in 30 ms with fall = 3");
            report.add(finding);
        }
    }
    for v6 in [false, true] {
        unchecked_family(service, site, v6, report);
        no_single_address(service, site, v6, report);
    }
}

/// A check without a target uses the first address of the prefix, but a network is not one address.
fn no_single_address(service: &RawService, site: &RawSite, v6: bool, report: &Report) {
    let of_family = |prefix: &&Spanned<IpPrefix>| is_v6(*prefix.get_ref()) == v6;
    let Some(first) = service.prefixes.iter().find(of_family) else { return };
    let host = first.get_ref().len() == if v6 { 128 } else { 32 };
    if !host && site.health.checks.iter().any(|check| check.target.is_none()) {
        let text = format!("{} is checked at its first address", first.get_ref());
        let finding = Finding::warning(text)
            .at(first.span(), "a check without target uses the service's first address")
            .help("if sites answer at another one, add target = \"ADDRESS\" to the check");
        report.add(finding);
    }
}

/// Every check of the site has a target, and none of them is of this family of the service.
fn unchecked_family(service: &RawService, site: &RawSite, v6: bool, report: &Report) {
    let served = service.prefixes.iter().any(|prefix| is_v6(*prefix.get_ref()) == v6);
    let targets: Option<Vec<_>> =
        site.health.checks.iter().map(|check| check.target.as_ref()).collect();
    let Some(targets) = targets.filter(|targets| served && !targets.is_empty()) else { return };
    let other = |target: &&Spanned<std::net::IpAddr>| target.get_ref().is_ipv6() != v6;
    if targets.iter().all(other) {
        let finding = Finding::warning(format!("{} of this site is not checked", family(v6)))
            .at(targets[0].span(), format!("no check has an {} target", family(v6)))
            .help("leave target out to check the service's own addresses, or add a check");
        report.add(finding);
    }
}

fn public_api(raw: &RawConfig, report: &Report) {
    if let Some(http) = raw.api.http.as_ref().filter(|http| !http.get_ref().ip().is_loopback()) {
        let finding = Finding::warning("the HTTP API is open to other machines")
            .at(http.span(), "anyone who can reach this address can read the router's state")
            .help("\"127.0.0.1:7780\" restricts it to this machine");
        report.add(finding);
    }
}

fn port_of<'r>(raw: &'r RawConfig, via: &RawVia) -> Option<&'r RawPort> {
    raw.ports.iter().find(|port| port.known_as.as_ref() == Some(via.get_ref()))
}

const INTERVAL_LEAST: Duration = Duration::from_millis(1);
