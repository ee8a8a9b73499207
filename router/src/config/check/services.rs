//! Services: size, and checks whose target has a family of the service.
#![forbid(unsafe_code)]

use ipnetwork::IpNetwork;
use toml::Spanned;

use super::{family, is_v6, own_addresses};
use crate::config::finding::Finding;
use crate::config::raw::{RawConfig, RawService};
use crate::config::report::Report;

pub(super) fn check(raw: &RawConfig, report: &Report) {
    for service in &raw.services {
        few_enough_links(service, report);
        targets_fit(service, report);
        targets_are_elsewhere(raw, service, report);
    }
}

fn few_enough_links(service: &RawService, report: &Report) {
    let links: usize = service.sites.iter().map(|site| site.via.len()).sum();
    if links > LINKS_MAX {
        let span = service.name.as_ref().map_or(service.span.clone(), Spanned::span);
        let finding = Finding::mistake(format!("the service has {links} links to its sites"))
            .at(span, format!("expected at most {LINKS_MAX}, counted over all its sites"));
        report.add(finding);
    }
}

fn targets_fit(service: &RawService, report: &Report) {
    for check in service.sites.iter().flat_map(|site| &site.health.checks) {
        let Some(target) = &check.target else { continue };
        let v6 = target.get_ref().is_ipv6();
        let fits = service.prefixes.iter().any(|prefix| is_v6(*prefix.get_ref()) == v6);
        if !fits && !service.prefixes.is_empty() {
            let finding = Finding::mistake("the check would decide nothing")
                .at(target.span(), format!("the service has no {} prefix", family(v6)))
                .consequence();
            report.add(finding);
        }
    }
}

/// The router answers for its own addresses, whatever became of the site.
fn targets_are_elsewhere(raw: &RawConfig, service: &RawService, report: &Report) {
    let checks = service.sites.iter().flat_map(|site| &site.health.checks);
    for target in checks.filter_map(|check| check.target.as_ref()) {
        let same = |own: &&Spanned<IpNetwork>| own.get_ref().ip() == *target.get_ref();
        if let Some(own) = own_addresses(raw).find(same) {
            let finding = Finding::mistake("the check would ask the router itself")
                .at(target.span(), "expected an address of the site")
                .at(own.span(), "this is the router's own");
            report.add(finding);
        }
    }
}

/// Members of a group.
const LINKS_MAX: usize = 64;
