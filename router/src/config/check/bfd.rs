//! Checks of `bfd`.
#![forbid(unsafe_code)]

use std::collections::HashMap;
use std::net::IpAddr;
use std::ops::Range;

use super::own_addresses;
use crate::config::finding::Finding;
use crate::config::model::{Bfd, Via};
use crate::config::raw::{
    RawBfd, RawConfig, RawNeighbor, RawPort, RawRoute, RawSite, RawTarget, via_of,
};
use crate::config::report::Report;

/// Between whom a session is: by which port, or any, and with which address.
type Ends<'a> = (Option<&'a str>, IpAddr);

/// The parameters of each session, and where they stand first.
type Sessions<'a> = HashMap<Ends<'a>, (&'a Bfd, Range<usize>)>;

pub(super) fn check(raw: &RawConfig, report: &Report) {
    let mut sessions = Sessions::new();
    for one in raw.bgp.iter().flat_map(|bgp| &bgp.neighbors) {
        neighbor(raw, one, &mut sessions, report);
    }
    for one in &raw.routes {
        route(raw, one, &mut sessions, report);
    }
    for one in raw.services.iter().flat_map(|service| &service.sites) {
        site(raw, one, &mut sessions, report);
    }
}

/// A session over one hop is on a port's link.
fn neighbor<'a>(
    raw: &'a RawConfig,
    neighbor: &'a RawNeighbor,
    sessions: &mut Sessions<'a>,
    report: &Report,
) {
    if let (Some(bfd), Some(range)) = (&neighbor.bfd, &neighbor.range) {
        let finding = Finding::mistake("BFD is not available yet for neighbors of a range")
            .at(bfd.span.clone(), "not implemented in this release")
            .at(range.span(), "who will come from there is not known");
        report.add(finding);
    }
    let (Some(bfd), Some(address)) = (&neighbor.bfd, &neighbor.address) else { return };
    let address = *address.get_ref();
    if bfd.model.multihop.unwrap_or(neighbor.multihop.is_some()) {
        return same((None, address), bfd, sessions, report);
    }
    // The network of link-local addresses is on every link.
    let on_link = port_of(raw, address).map(|port| port.known_as.as_deref());
    let named = neighbor.port.as_ref().map(|port| Some(port.get_ref().as_str()));
    if let Some(port) = named.or(on_link) {
        return same((port, address), bfd, sessions, report);
    }
    // A neighbor that is on no link, and should be, is found with its address.
    if neighbor.multihop.is_some() || own_addresses(raw).any(|net| net.get_ref().contains(address))
    {
        let at = bfd.multihop.clone().unwrap_or(bfd.span.clone());
        let finding = Finding::mistake("BFD over one hop is for neighbors on a link")
            .at(at, format!("{address} is in no port's network"))
            .help("leave multihop out, or write multihop = true");
        report.add(finding);
    }
}

/// Of the next hops of a route, those that are addresses on a port's link.
fn route<'a>(
    raw: &'a RawConfig,
    route: &'a RawRoute,
    sessions: &mut Sessions<'a>,
    report: &Report,
) {
    let Some(bfd) = &route.bfd else { return };
    if let Some(at) = bfd.multihop.clone().filter(|_| bfd.model.multihop == Some(true)) {
        let finding = Finding::mistake("BFD of a next hop is over one hop")
            .at(at, "a next hop is on a port's link");
        report.add(finding);
    }
    let vias = match &route.target {
        RawTarget::Via(vias) => &vias[..],
        RawTarget::Word(_) => &[],
    };
    let mut any = false;
    for via in vias {
        let Via::Address(address) = via_of(via.get_ref()) else { continue };
        any = true;
        if let Some(port) = port_of(raw, address) {
            same((port.known_as.as_deref(), address), bfd, sessions, report);
        } else {
            let finding = Finding::mistake(format!("no port's link has {address}"))
                .at(via.span(), "BFD is for next hops on a port's link");
            report.add(finding);
        }
    }
    if !any {
        let finding = Finding::mistake("BFD is for next hops that are addresses")
            .at(bfd.span.clone(), "this route has none")
            .help("write via = \"ADDRESS\", the neighbor's on a port's link");
        report.add(finding);
    }
}

/// The hosts of a site are each on the link of one of its ports.
fn site<'a>(raw: &'a RawConfig, site: &'a RawSite, sessions: &mut Sessions<'a>, report: &Report) {
    let Some(bfd) = &site.bfd else { return };
    if bfd.targets.is_empty() {
        let finding = Finding::mistake("BFD of a site needs a target")
            .at(bfd.span.clone(), "expected the address of the site's host")
            .help("for example bfd = { target = \"10.1.0.2\" }");
        report.add(finding.consequence());
    }
    for target in &bfd.targets {
        let address = *target.get_ref();
        let port = port_of(raw, address).and_then(|port| port.known_as.as_deref());
        let leads = |name: &&str| site.via.iter().any(|via| via.get_ref() == name);
        if let Some(name) = port.filter(leads) {
            same((Some(name), address), bfd, sessions, report);
        } else {
            let finding = Finding::mistake(format!("{address} is on no link of this site"))
                .at(target.span(), "expected an address in the network of a port in its via");
            report.add(finding);
        }
    }
}

/// Whoever names the same two shares their session, and has to want the same of it.
fn same<'a>(ends: Ends<'a>, bfd: &'a RawBfd, sessions: &mut Sessions<'a>, report: &Report) {
    let (wanted, first) = sessions.entry(ends).or_insert((&bfd.model, bfd.span.clone()));
    let plain = |bfd: &Bfd| Bfd { multihop: None, ..bfd.clone() };
    if plain(wanted) != plain(&bfd.model) {
        let finding = Finding::mistake(format!("two BFD sessions with {} are one", ends.1))
            .at(bfd.span.clone(), "here it is to be another")
            .at(first.clone(), "than here")
            .help("write the same for both");
        report.add(finding);
    }
}

/// The port whose link an address is on.
pub(super) fn port_of(raw: &RawConfig, address: IpAddr) -> Option<&RawPort> {
    raw.ports.iter().find(|port| port.addresses.iter().any(|net| net.get_ref().contains(address)))
}
