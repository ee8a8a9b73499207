//! Rows of prefixes: what is installed, and the routes of every source.

use std::net::IpAddr;

use nearhop_fib::{GroupId, IpPrefix, Member};

use super::groups::name_for;
use super::members::{chain, group_members, is_alive, kind, members, port_name};
use super::paths::{advertised_after, advertised_rows, neighbor_named, path_rows};
use super::{Facts, owned};
use crate::api::ApiError;
use crate::api::column::Text;
use crate::api::pages::{Only, PER_PAGE, Page, PageRequest, RoutesOf, prefix_of};
use crate::api::rows::{FibRow, RouteRow};
use crate::control::Control;
use crate::ids::NeighborId;
use crate::rib::{Lead, NextHop, NextHops, RankedHop, SetId, Source, Way};

/// A page of what is installed.
pub(super) fn page_of_fib(
    facts: &Facts<'_>,
    request: &PageRequest,
) -> Result<Page<Vec<FibRow>>, ApiError> {
    let writer = facts.control.writer();
    let following = |after: Option<IpPrefix>| -> Prefixes<'_> {
        match after {
            Some(after) => Box::new(writer.iter_after(after).map(|(prefix, _)| prefix)),
            None => Box::new(writer.iter().map(|(prefix, _)| prefix)),
        }
    };
    let is_there = |prefix: &IpPrefix| writer.get(*prefix).is_some();
    page_of_prefixes(facts, request, is_there, following, |prefix, rows| {
        if let Some(group) = writer.get(prefix) {
            fib_rows(facts, prefix, group, rows);
        }
    })
}

/// A page of the routes of every source.
pub(super) fn page_of_routes(
    facts: &Facts<'_>,
    request: &PageRequest,
) -> Result<Page<Vec<RouteRow>>, ApiError> {
    let (control, of) = (facts.control, request.of);
    let (rib, paths) = (control.rib(), control.bgp_paths());
    let neighbor = request.neighbor.as_deref();
    let neighbor = neighbor.map(|name| neighbor_named(control, name)).transpose()?;
    let following = |after: Option<IpPrefix>| -> Prefixes<'_> {
        match of {
            RoutesOf::Advertised => Box::new(advertised_after(control, after, neighbor)),
            RoutesOf::All | RoutesOf::Best if neighbor.is_none() => {
                let of_paths = paths.prefixes_after(after, None);
                Box::new(merged(rib.prefixes_after(after), of_paths))
            }
            _ => Box::new(paths.prefixes_after(after, neighbor)),
        }
    };
    let is_there = |prefix: &IpPrefix| match of {
        RoutesOf::Advertised => control.bgp_neighbors().any(|(_, one)| one.announced.has(*prefix)),
        _ => !rib.candidates(*prefix).is_empty() || paths.of(*prefix).next().is_some(),
    };
    page_of_prefixes(facts, request, is_there, following, |prefix, rows| match of {
        RoutesOf::Advertised => advertised_rows(facts, prefix, neighbor, rows),
        _ => route_rows(facts, (prefix, of), neighbor, rows),
    })
}

/// Both, in their order, each once.
fn merged(
    one: impl Iterator<Item = IpPrefix>,
    other: impl Iterator<Item = IpPrefix>,
) -> impl Iterator<Item = IpPrefix> {
    let (mut one, mut other) = (one.peekable(), other.peekable());
    std::iter::from_fn(move || {
        let first = match (one.peek(), other.peek()) {
            (Some(one), Some(other)) => *one.min(other),
            (first, None) | (None, first) => *first?,
        };
        one.next_if_eq(&first);
        other.next_if_eq(&first);
        Some(first)
    })
}

/// Prefixes in their order.
type Prefixes<'a> = Box<dyn Iterator<Item = IpPrefix> + 'a>;

/// The rows of the prefixes that a page has: those of `following`, and `only` if `is_there`.
fn page_of_prefixes<'a, T>(
    facts: &Facts<'a>,
    request: &PageRequest,
    is_there: impl Fn(&IpPrefix) -> bool,
    following: impl Fn(Option<IpPrefix>) -> Prefixes<'a>,
    mut rows: impl FnMut(IpPrefix, &mut Vec<T>),
) -> Result<Page<Vec<T>>, ApiError> {
    let after = request.after.as_deref().map(|text| prefix_of("after", text)).transpose()?;
    let found: Prefixes<'a> = match (request.only, after) {
        (Some(Only::Covering(_)), Some(_)) => Box::new(std::iter::empty()),
        (Some(Only::Covering(addr)), None) => {
            let of_fib = || facts.control.writer().longest_match(addr).map(|(prefix, _)| prefix);
            let lengths = (0..=if addr.is_ipv4() { 32 } else { 128 }).rev();
            let mut around = lengths.filter_map(|len| IpPrefix::around(addr, len));
            let longest = match request.of {
                RoutesOf::All | RoutesOf::Best => of_fib(),
                _ => around.find(is_there),
            };
            Box::new(longest.into_iter())
        }
        (Some(Only::In(prefix)), None) => {
            let itself = Some(prefix).filter(is_there);
            Box::new(itself.into_iter().chain(following(Some(prefix))))
        }
        (_, after) => following(after),
    };
    // What a prefix covers stands right behind it.
    let is_in = |prefix: IpPrefix| match request.only {
        Some(Only::In(outer)) => outer.len() <= prefix.len() && outer.contains(prefix.addr()),
        _ => true,
    };
    let mut page = Page::default();
    // A prefix may have many rows, or none that is wanted.
    for (looked_at, prefix) in (1..).zip(found.take_while(|&prefix| is_in(prefix))) {
        let before = page.rows.len();
        rows(prefix, &mut page.rows);
        page.count += usize::from(page.rows.len() > before);
        let is_full = page.count >= request.count || page.rows.len() >= PER_PAGE;
        if is_full || looked_at >= PER_PAGE {
            page.next = Some(prefix.to_string());
            break;
        }
    }
    Ok(page)
}

/// The routes to a prefix that are asked for, the best source's first.
fn route_rows(
    facts: &Facts<'_>,
    (prefix, of): (IpPrefix, RoutesOf),
    neighbor: Option<NeighborId>,
    items: &mut Vec<RouteRow>,
) {
    let control = facts.control;
    // The row of the route that BGP offers becomes that of its path.
    let mut of_bgp = None;
    let (rib, writer) = (control.rib(), control.writer());
    let (used, lead) = (rib.used(prefix), rib.lead(prefix));
    let next = lead.and_then(|lead| lead.next);
    let is_led_on = next.is_some() && is_led_on(control, prefix);
    for candidate in rib.candidates(prefix) {
        let is_used = used == Some(candidate);
        let is_next = !is_used && next == Some(candidate.set);
        let own = Lead::to(candidate.set);
        let group = control.group_of(lead.filter(|_| is_used).unwrap_or(own));
        let is_installed = is_used && group.is_some() && writer.get(prefix) == group;
        let members = group.map(|group| group_members(control, group)).unwrap_or_default();
        let lives = members.is_empty() || members.iter().any(|one| is_alive(control, one));
        let state = match (is_installed || is_next && is_led_on, lives) {
            (false, _) => "unused",
            (true, true) => "up",
            (true, false) => "down",
        };
        let why = match (is_used, is_installed) {
            (true, true) if is_led_on => Some("no site is left: the next best route leads".into()),
            (true, true) => None,
            (true, false) if control.is_unpublished() => Some("not installed yet".into()),
            (true, false) => Some("not installed: no room in the FIB".into()),
            _ if is_next && is_led_on => Some("leads, as no site of the service is left".into()),
            _ if is_next => Some("leads once no site of the service is left".into()),
            _ => why_not_used(control, candidate.set),
        };
        let row = RouteRow {
            prefix: prefix.to_string().into(),
            best: is_used,
            source: source_text(control, candidate.source),
            via: next_hop_names(control, candidate.set, &members),
            kind: kind_of_set(rib.next_hops(candidate.set)).into(),
            state: state.into(),
            path: None,
            why,
        };
        let is_wanted = match of {
            RoutesOf::All => true,
            RoutesOf::Best => is_used,
            _ => false,
        };
        if candidate.source == Source::Bgp {
            of_bgp = Some(row);
        } else if is_wanted && neighbor.is_none() {
            items.push(row);
        }
    }
    path_rows(facts, (prefix, of), neighbor, of_bgp, items);
}

/// Whether packets to a prefix follow another route than that of its service, whose sites take none.
fn is_led_on(control: &Control, prefix: IpPrefix) -> bool {
    control.writer().get(prefix).is_some_and(|group| chain(control, group).len() > 1)
}

/// A route is not used because its next hops lead nowhere, or because another source's is better.
fn why_not_used(control: &Control, set: SetId) -> Option<Text> {
    let rib = control.rib();
    let leads_on = matches!(rib.next_hops(set), Some(NextHops::Via(_) | NextHops::Ranked(_)));
    if !leads_on || !rib.members(set).is_empty() {
        return Some("another source's is better".into());
    }
    let mut addresses = rib.next_hops(set)?.addresses();
    addresses.find_map(|address| {
        rib.why_nowhere(address).map(|why| format!("next hop {address}: {why}").into())
    })
}

/// Next hops as they were configured; of a service, the ports of its sites.
pub(super) fn next_hop_names(control: &Control, set: SetId, members: &[Member]) -> Vec<Text> {
    let name = |hop: &NextHop| -> Text {
        match hop {
            NextHop::Address(address) => address.to_string().into(),
            NextHop::Way(way) => {
                control.port_of(way.path).map_or("-".into(), |port| owned(port.name()))
            }
        }
    };
    let mut names: Vec<Text> = match control.rib().next_hops(set) {
        Some(NextHops::Via(hops)) => hops.iter().map(name).collect(),
        Some(NextHops::Ranked(hops)) => {
            let best = hops.iter().filter(|hop| hop.tier == 0);
            best.map(|hop| ranked_hop_name(control, hop).into()).collect()
        }
        _ => members.iter().map(|member| port_name(control, member)).collect(),
    };
    names.sort_unstable();
    names.dedup();
    names
}

/// An address; a link-local one with the port whose link it is on.
pub(super) fn ranked_hop_name(control: &Control, hop: &RankedHop) -> String {
    hop_name(control, (hop.address, hop.way))
}

/// As [`ranked_hop_name`], of a next hop as it resolves.
pub(super) fn hop_name(control: &Control, (address, way): (IpAddr, Option<Way>)) -> String {
    let port = way.and_then(|way| control.port_of(way.path));
    port.map_or(address.to_string(), |port| format!("{address}%{}", port.name()))
}

fn kind_of_set(hops: Option<&NextHops>) -> &'static str {
    match hops {
        Some(NextHops::Via(_) | NextHops::Ranked(_) | NextHops::Service(_)) => "forward",
        Some(NextHops::Local) => "local",
        Some(NextHops::Blackhole) => "blackhole",
        Some(NextHops::Unreachable) => "unreachable",
        Some(NextHops::Prohibit) => "prohibit",
        None => "none",
    }
}

fn fib_rows(facts: &Facts<'_>, prefix: IpPrefix, group: GroupId, items: &mut Vec<FibRow>) {
    let control = facts.control;
    let members = members(facts, group);
    let name = name_for(control, prefix, group);
    let row = |kind: &'static str, member| FibRow {
        prefix: prefix.to_string().into(),
        source: used_source(control, prefix),
        kind: kind.into(),
        group: name.clone(),
        member,
    };
    if members.is_empty() {
        items.push(row(kind(control.writer().group(group).as_ref()), None));
    }
    items.extend(members.into_iter().map(|member| row("forward", Some(member))));
}

/// Where the used route to a prefix comes from.
pub(super) fn used_source(control: &Control, prefix: IpPrefix) -> Option<Text> {
    Some(source_text(control, control.source(prefix)?))
}

/// A file is told by its name.
fn source_text(control: &Control, source: Source) -> Text {
    let file = match source {
        Source::File(index) => control.config().route_files.get(usize::from(index)),
        _ => None,
    };
    let label = source.label();
    file.map_or(label.into(), |file| format!("{label} {}", file.name).into())
}
