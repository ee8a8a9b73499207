//! Checks of services: their size, and that each check has a target of a family of the service.
#![forbid(unsafe_code)]

use ipnetwork::IpNetwork;
use toml::Spanned;

use super::{family, is_v6, own_addresses};
use crate::config::finding::Finding;
use crate::config::raw::{RawConfig, RawService};
use crate::config::report::Report;
use crate::policy::CHECKS_MAX;

pub(super) fn check(raw: &RawConfig, report: &Report) {
    for service in &raw.services {
        few_enough_links(service, report);
        enough_sites(service, report);
        targets_fit(service, report);
        targets_are_elsewhere(raw, service, report);
    }
    few_enough_checks(raw, report);
    few_enough_links_in_all(raw, report);
}

/// Each link of each site is watched and shown, in each family of its service.
fn few_enough_links_in_all(raw: &RawConfig, report: &Report) {
    let mut total = 0;
    let mut first_beyond = None;
    for service in &raw.services {
        let links = service.sites.iter().map(|site| site.via.len());
        total += families(service).count() * links.sum::<usize>();
        if total > LINKS_IN_ALL_MAX {
            first_beyond.get_or_insert(service.span.clone());
        }
    }
    if let Some(span) = first_beyond {
        let text = format!("{total} links to sites, over all services and families, are too many");
        let finding = Finding::mistake(text)
            .at(span, format!("one too many from here on: expected at most {LINKS_IN_ALL_MAX}"))
            .help("use several routers, or fewer sites for each service");
        report.add(finding);
    }
}

/// The number of checks is limited. Each check runs on every link of its site and in every family
/// it fits; TCP checks do not use the prober.
fn few_enough_checks(raw: &RawConfig, report: &Report) {
    let mut total = 0;
    let mut first_beyond = None;
    for service in &raw.services {
        for site in &service.sites {
            for check in &site.health.checks {
                if check.kind.is_tcp() {
                    continue;
                }
                let fits =
                    |v6: bool| check.target.as_ref().is_none_or(|t| t.get_ref().is_ipv6() == v6);
                total += site.via.len() * families(service).filter(|&v6| fits(v6)).count();
                if total > CHECKS_MAX {
                    first_beyond.get_or_insert(check.span.clone());
                }
            }
        }
    }
    if let Some(span) = first_beyond {
        let text = format!("{total} checks over all links and families are too many");
        let finding = Finding::mistake(text)
            .at(span, format!("one too many from here on: expected at most {CHECKS_MAX}"))
            .help("remove checks, or use several routers; TCP checks do not count");
        report.add(finding);
    }
}

/// The families that a service has prefixes of: whether each is IPv6.
fn families(service: &RawService) -> impl Iterator<Item = bool> + '_ {
    let has = |v6: &bool| service.prefixes.iter().any(|p| is_v6(*p.get_ref()) == *v6);
    [false, true].into_iter().filter(has)
}

fn few_enough_links(service: &RawService, report: &Report) {
    let links: usize = service.sites.iter().map(|site| site.via.len()).sum();
    if links > LINKS_MAX {
        let span = service.name.as_ref().map_or(service.span.clone(), Spanned::span);
        let finding = Finding::mistake(format!("the service has {links} links to its sites"))
            .at(span, format!("expected at most {LINKS_MAX} over all its sites"));
        report.add(finding);
    }
}

/// A service that needs more sites than it has would never be announced.
fn enough_sites(service: &RawService, report: &Report) {
    let Some(needed) = &service.announce.min_sites else { return };
    let count = service.sites.len();
    if *needed.get_ref() > count {
        let text = format!("the service needs {} sites and has {count}", needed.get_ref());
        let finding = Finding::mistake(text)
            .at(needed.span(), "it would never be announced")
            .help("lower min-sites, or add a [[service.site]]");
        report.add(finding);
    }
}

fn targets_fit(service: &RawService, report: &Report) {
    for check in service.sites.iter().flat_map(|site| &site.health.checks) {
        let Some(target) = &check.target else { continue };
        let v6 = target.get_ref().is_ipv6();
        let fits = service.prefixes.iter().any(|prefix| is_v6(*prefix.get_ref()) == v6);
        if !fits && !service.prefixes.is_empty() {
            let finding = Finding::mistake("the check applies to no family of the service")
                .at(target.span(), format!("the service has no {} prefix", family(v6)))
                .consequence();
            report.add(finding);
        }
    }
}

/// A check must not target the router's own address: the router answers even if the site is dead.
fn targets_are_elsewhere(raw: &RawConfig, service: &RawService, report: &Report) {
    let checks = service.sites.iter().flat_map(|site| &site.health.checks);
    for target in checks.filter_map(|check| check.target.as_ref()) {
        let same = |own: &&Spanned<IpNetwork>| own.get_ref().ip() == *target.get_ref();
        if let Some(own) = own_addresses(raw).find(same) {
            let finding = Finding::mistake("the check targets the router itself")
                .at(target.span(), "expected an address of the site")
                .at(own.span(), "this is the router's own");
            report.add(finding);
        }
    }
}

/// Links of sites in a configuration: a thousand services of 64 sites in both families, and some.
const LINKS_IN_ALL_MAX: usize = 1 << 17;

/// The most members of a group.
const LINKS_MAX: usize = 64;
