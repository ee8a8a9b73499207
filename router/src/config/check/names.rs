//! Checks of names: those that must be unique, and those that must exist.
#![forbid(unsafe_code)]

use std::collections::BTreeSet;

use toml::Spanned;

use super::no_twins;
use crate::address_text::{is_like_an_address, why_no_address};
use crate::config::finding::Finding;
use crate::config::model::Via;
use crate::config::raw::{RawConfig, RawTarget, RawVia, via_of};
use crate::config::report::{Report, list_of};
use crate::config::suggest::did_you_mean;
use crate::ids::PORTS_MAX;
use crate::kernel::netns::NetNs;

/// Names of ports, devices and services must be unique, and names of sites within their service.
pub(super) fn unique(raw: &RawConfig, report: &Report) {
    let ports = raw.ports.iter().filter_map(|port| port.name.as_ref());
    for name in ports.clone().filter(|name| matches!(via_of(name.get_ref()), Via::Address(_))) {
        let finding = Finding::mistake(format!("a port cannot be named {:?}", name.get_ref()))
            .at(name.span(), "a via of this name would be an address");
        report.add(finding);
    }
    no_twins(ports.map(keyed), report, |name| format!("two ports are named {name:?}"));

    let devices = raw.ports.iter().filter_map(|port| {
        let tun = port.tun.as_ref()?;
        let netns = port.netns.as_ref().map_or(&NetNs::Here, Spanned::get_ref);
        Some(((netns, tun.get_ref()), tun.span()))
    });
    no_twins(devices, report, |(_, tun)| format!("two ports use the device {tun:?} in one netns"));

    let services = raw.services.iter().filter_map(|service| service.name.as_ref());
    no_twins(services.map(keyed), report, |name| format!("two services are named {name:?}"));

    for service in &raw.services {
        let sites = service.sites.iter().filter_map(|site| site.name.as_ref());
        no_twins(sites.map(keyed), report, |name| {
            format!("the service has two sites named {name:?}")
        });
    }
}

/// Every port needs its own number.
pub(super) fn few_enough_ports(raw: &RawConfig, report: &Report) {
    if let Some(port) = raw.ports.get(PORTS_MAX) {
        let finding = Finding::mistake(format!("{} ports", raw.ports.len())).at(
            port.span.clone(),
            format!("one too many from here on: expected at most {PORTS_MAX}"),
        );
        report.add(finding);
    }
}

/// Every next hop must be a port, and no list may name one twice.
pub(super) fn resolved(raw: &RawConfig, report: &Report) {
    let known: BTreeSet<&str> =
        raw.ports.iter().filter_map(|port| port.known_as.as_deref()).collect();
    let known = Vec::from_iter(known);
    let routes = raw.routes.iter().filter_map(|route| match &route.target {
        RawTarget::Via(vias) => Some((vias, true)),
        RawTarget::Word(_) => None,
    });
    let sites = raw.services.iter().flat_map(|service| &service.sites);
    let sites = sites.map(|site| (&site.via, false));
    for (vias, may_be_addresses) in routes.chain(sites) {
        for via in vias {
            let is_address = || matches!(via_of(via.get_ref()), Via::Address(_));
            let is_known = known.contains(&via.get_ref().as_str());
            if !(is_known || may_be_addresses && is_address()) {
                unknown_port(raw, via, &known, report);
            }
        }
        no_twins(vias.iter().map(keyed), report, |name| format!("via names {name:?} twice"));
    }
}

fn unknown_port(raw: &RawConfig, via: &RawVia, known: &[&str], report: &Report) {
    let name = via.get_ref();
    let finding = Finding::mistake(format!("{name:?} is not a port"))
        .at(via.span(), list_of("known ports", known))
        .consequence();
    let by_device = raw
        .ports
        .iter()
        .find(|port| port.tun.as_ref().is_some_and(|tun| tun.get_ref() == name))
        .and_then(|port| port.known_as.as_deref());
    report.add(match by_device.or_else(|| did_you_mean(name, known)) {
        Some(port) if by_device.is_some() => {
            finding.help(format!("{name:?} is the device of port {port:?}: write {port:?}"))
        }
        Some(port) => finding.help(format!("did you mean {port:?}?")),
        None if name.parse::<std::net::IpAddr>().is_ok() => {
            finding.help("a site is reached by ports: write the name of one, not an address")
        }
        None if is_like_an_address(name) => {
            finding.help(format!("if an address is meant: {}", why_no_address(name)))
        }
        None => finding,
    });
}

fn keyed(name: &Spanned<String>) -> (&str, std::ops::Range<usize>) {
    (name.get_ref(), name.span())
}
