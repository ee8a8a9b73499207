//! Warnings about source addresses: those that packets come in with, and those of errors.
#![forbid(unsafe_code)]

use std::collections::HashSet;

use crate::config::finding::Finding;
use crate::config::raw::{RawConfig, RawPort};
use crate::config::report::Report;
use crate::policy::{Facing, ReversePath};

pub(super) fn check(raw: &RawConfig, report: &Report) {
    open_to_services(raw, report);
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
    let others = match open.count() {
        0 => String::new(),
        count => format!(" (and {count} more)"),
    };
    let text = format!("port {:?}{others} leads to no site", first.get_ref());
    let finding = Finding::warning(text)
        .at(first.span(), "and accepts packets that claim to come from a service")
        .help("if clients are behind it, add facing = \"clients\"");
    report.add(finding);
}
