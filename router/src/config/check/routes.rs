//! Checks of prefixes: each must have one owner, and must be one that can be forwarded.
#![forbid(unsafe_code)]

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::ops::Range;

use nearhop_fib::IpPrefix;

use super::{connected, no_twins};
use crate::config::finding::Finding;
use crate::config::raw::{RawConfig, RawTarget};
use crate::config::report::Report;
use crate::policy::Martians;

pub(super) fn check(raw: &RawConfig, report: &Report) {
    one_owner(raw, report);
    let names = raw.route_files.iter().map(|routes| (routes.name(), routes.name_span()));
    no_twins(names, report, |name| format!("two route files are named {name:?}"));
    for (prefix, span) in steered(raw) {
        if let Some(kind) = never_forwarded(prefix, raw.router.martians) {
            let finding = Finding::mistake(format!("{prefix} cannot be forwarded"))
                .at(span, format!("{kind} addresses are never forwarded"));
            report.add(finding);
        }
    }
}

/// Connected networks, static routes and services must not claim the same prefix; but a route may stand behind
/// a service whose packets follow it when no site is left.
fn one_owner(raw: &RawConfig, report: &Report) {
    let mut owners: HashMap<IpPrefix, (&str, Range<usize>)> = HashMap::new();
    for (prefix, owner, span) in claims(raw) {
        match owners.get(&prefix) {
            // Two ports with one network, and router addresses inside a service's prefix, are
            // reported with the addresses.
            Some(("a port", _)) if owner != "a route" => {}
            Some(("a route", _)) if owner == "a service" && follows_routes(raw, &span) => {
                owners.insert(prefix, (owner, span));
            }
            Some((before, first)) => {
                let by = if *before == owner { "twice" } else { "by two owners" };
                let finding = Finding::mistake(format!("{prefix} is claimed {by}"))
                    .at(span, format!("here by {owner}"))
                    .at(first.clone(), format!("here by {before}"));
                report.add(finding);
            }
            None => {
                owners.insert(prefix, (owner, span));
            }
        }
    }
}

/// Whether packets follow another route when no site of the service is left whose prefix stands here.
fn follows_routes(raw: &RawConfig, prefix: &Range<usize>) -> bool {
    let mut services = raw.services.iter();
    let service = services.find(|one| one.prefixes.iter().any(|own| own.span() == *prefix));
    let choice = service.and_then(|service| service.when_all_dead.as_ref());
    choice.is_none_or(|choice| choice.get_ref().follows_routes())
}

fn claims(raw: &RawConfig) -> impl Iterator<Item = (IpPrefix, &'static str, Range<usize>)> {
    let ports = raw
        .ports
        .iter()
        .flat_map(|port| &port.addresses)
        .filter_map(|address| Some((connected(*address.get_ref())?, "a port", address.span())));
    let routes = raw.routes.iter().filter_map(|route| route.prefix.as_ref());
    let services = raw.services.iter().flat_map(|service| &service.prefixes);
    ports
        .chain(routes.map(|prefix| (*prefix.get_ref(), "a route", prefix.span())))
        .chain(services.map(|prefix| (*prefix.get_ref(), "a service", prefix.span())))
}

/// The prefixes of routes and services, whose packets are forwarded.
fn steered(raw: &RawConfig) -> impl Iterator<Item = (IpPrefix, Range<usize>)> {
    let via = |target: &RawTarget| matches!(target, RawTarget::Via(_));
    let routes =
        raw.routes.iter().filter(move |r| via(&r.target)).filter_map(|route| route.prefix.as_ref());
    let services = raw.services.iter().flat_map(|service| &service.prefixes);
    routes.chain(services).map(|prefix| (*prefix.get_ref(), prefix.span()))
}

/// Why no address of `prefix` is ever forwarded; `None` if one may be. Multicast and link-local
/// addresses are not forwarded even with `martians = "off"`.
pub(in crate::config) fn never_forwarded(
    prefix: IpPrefix,
    martians: Martians,
) -> Option<&'static str> {
    let covered = |block: IpPrefix| block.len() <= prefix.len() && block.contains(prefix.addr());
    let martian: &[_] = if martians == Martians::Off { &[] } else { &MARTIANS };
    ALWAYS
        .iter()
        .chain(martian)
        .find(|&&(addr, len, _)| IpPrefix::around(addr, len).is_some_and(covered))
        .map(|&(_, _, kind)| kind)
}

const ALWAYS: [(IpAddr, u8, &str); 4] = [
    (IpAddr::V4(Ipv4Addr::new(224, 0, 0, 0)), 4, "multicast"),
    (IpAddr::V4(Ipv4Addr::new(169, 254, 0, 0)), 16, "link-local"),
    (IpAddr::V6(Ipv6Addr::new(0xff00, 0, 0, 0, 0, 0, 0, 0)), 8, "multicast"),
    (IpAddr::V6(Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0)), 10, "link-local"),
];

/// Further martian destinations with `martians = "default"`.
const MARTIANS: [(IpAddr, u8, &str); 6] = [
    (IpAddr::V4(Ipv4Addr::UNSPECIFIED), 8, "this-network"),
    (IpAddr::V4(Ipv4Addr::new(127, 0, 0, 0)), 8, "loopback"),
    (IpAddr::V4(Ipv4Addr::new(240, 0, 0, 0)), 4, "reserved"),
    (IpAddr::V6(Ipv6Addr::UNSPECIFIED), 128, "unspecified"),
    (IpAddr::V6(Ipv6Addr::LOCALHOST), 128, "loopback"),
    (IpAddr::V6(Ipv6Addr::new(0, 0, 0, 0, 0, 0xffff, 0, 0)), 96, "IPv4-mapped"),
];

#[cfg(test)]
mod tests {
    use super::super::announce::tests::{file, said};

    #[test]
    fn a_route_may_stand_behind_a_service_whose_packets_follow_it() {
        let route = "[[route]]\nprefix = \"198.51.100.53/32\"\nvia = \"blackhole\"\n";
        for (keys, is_refused) in [
            ("", false),
            ("when-all-dead = \"unreachable\"", false),
            ("when-all-dead = \"covering\"", false),
            ("when-all-dead = \"drop\"", true),
            ("when-all-dead = \"fail-open\"", true),
        ] {
            let drawn = said(&(file(keys, "as = 65002") + route));
            let has = drawn.contains("198.51.100.53/32 is claimed by two owners");
            assert_eq!(has, is_refused, "{keys}: {drawn}");
        }
        let twice = said(&(file("", "as = 65002") + route + route));
        assert!(twice.contains("198.51.100.53/32 is claimed twice"), "{twice}");
    }
}
