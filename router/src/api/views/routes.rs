//! Rows of prefixes: what is installed, and the routes of every source.

use nearhop_fib::{GroupId, IpPrefix, Member};
use serde_json::{Value, json};

use super::Facts;
use super::members::{group_members, is_alive, kind, members, port_name};
use crate::api::ApiError;
use crate::api::pages::{Only, PER_PAGE, Page, PageRequest, prefix_of};
use crate::control::Control;
use crate::rib::{NextHop, NextHops, SetId, Source};

/// Rows of `show fib`, which are those of what is installed, and of `show routes`, which are those of every
/// source.
pub(super) fn page_of_prefixes(facts: &Facts<'_>, request: &PageRequest) -> Result<Page, ApiError> {
    let after = request.after.as_deref().map(|text| prefix_of("after", text)).transpose()?;
    let (writer, rib) = (facts.control.writer(), facts.control.rib());
    let of_fib = request.noun == "fib";
    let is_there = |prefix: &IpPrefix| {
        if of_fib { writer.get(*prefix).is_some() } else { !rib.candidates(*prefix).is_empty() }
    };
    let following = |after: Option<IpPrefix>| -> Box<dyn Iterator<Item = IpPrefix> + '_> {
        match after {
            _ if !of_fib => Box::new(rib.prefixes_after(after)),
            Some(after) => Box::new(writer.iter_after(after).map(|(prefix, _)| prefix)),
            None => Box::new(writer.iter().map(|(prefix, _)| prefix)),
        }
    };
    let found: Box<dyn Iterator<Item = IpPrefix> + '_> = match (request.only, after) {
        (Some(Only::Covering(_)), Some(_)) => Box::new(std::iter::empty()),
        (Some(Only::Covering(addr)), None) => {
            Box::new(writer.longest_match(addr).map(|(prefix, _)| prefix).into_iter())
        }
        (Some(Only::In(prefix)), None) => {
            Box::new(Some(prefix).filter(is_there).into_iter().chain(following(Some(prefix))))
        }
        (_, after) => following(after),
    };
    // What a prefix covers stands right behind it.
    let is_in = |prefix: IpPrefix| match request.only {
        Some(Only::In(outer)) => outer.len() <= prefix.len() && outer.contains(prefix.addr()),
        _ => true,
    };
    let mut page = Page::default();
    for prefix in found.take_while(|&prefix| is_in(prefix)).take(request.count) {
        match writer.get(prefix) {
            Some(group) if of_fib => fib_rows(facts, prefix, group, &mut page.rows),
            _ => route_rows(facts, prefix, &mut page.rows),
        }
        page.count += 1;
        page.next = Some(prefix.to_string());
        // A prefix may have many rows.
        if page.rows.len() >= PER_PAGE {
            return Ok(page);
        }
    }
    if page.count < request.count {
        page.next = None;
    }
    Ok(page)
}

/// Every route to a prefix, the best source's first.
pub(super) fn route_rows(facts: &Facts<'_>, prefix: IpPrefix, items: &mut Vec<Value>) {
    let control = facts.control;
    let (rib, writer) = (control.rib(), control.writer());
    let used = rib.used(prefix);
    for candidate in rib.candidates(prefix) {
        let group = control.group_of(candidate.set);
        let is_used = used == Some(candidate);
        let is_installed = is_used && group.is_some() && writer.get(prefix) == group;
        let members = group.map(|group| group_members(control, group)).unwrap_or_default();
        let lives = members.is_empty() || members.iter().any(|one| is_alive(control, one));
        let state = match (is_installed, lives) {
            (false, _) => "unused",
            (true, true) => "up",
            (true, false) => "down",
        };
        let why = match (is_used, is_installed) {
            (true, true) => None,
            (true, false) if control.is_unpublished() => Some("not installed yet".to_owned()),
            (true, false) => Some("not installed: no room in the FIB".to_owned()),
            (false, _) => why_not_used(control, candidate.set),
        };
        items.push(json!({
            "prefix": prefix.to_string(),
            "best": is_used,
            "source": source_text(control, candidate.source),
            "via": next_hop_names(control, candidate.set, &members),
            "kind": kind_of_set(rib.next_hops(candidate.set)),
            "state": state,
            "why": why,
        }));
    }
}

/// A route is not used because its next hops lead nowhere, or because another source's is better.
pub(super) fn why_not_used(control: &Control, set: SetId) -> Option<String> {
    let rib = control.rib();
    let Some(NextHops::Via(hops)) = rib.next_hops(set) else {
        return Some("another source's is better".into());
    };
    if !rib.ways(set).is_empty() {
        return Some("another source's is better".into());
    }
    hops.iter().find_map(|hop| match hop {
        NextHop::Address(address) => {
            rib.why_nowhere(*address).map(|why| format!("next hop {address}: {why}"))
        }
        NextHop::Way(_) => None,
    })
}

/// Next hops as they were configured; of a service, the ports of its sites.
pub(super) fn next_hop_names(control: &Control, set: SetId, members: &[Member]) -> Vec<String> {
    let name = |hop: &NextHop| match hop {
        NextHop::Address(address) => address.to_string(),
        NextHop::Way(way) => {
            control.port_of(way.path).map_or_else(|| "-".into(), |port| port.name().to_owned())
        }
    };
    let mut names: Vec<String> = match control.rib().next_hops(set) {
        Some(NextHops::Via(hops)) => hops.iter().map(name).collect(),
        _ => members.iter().map(|member| port_name(control, member)).collect(),
    };
    names.sort_unstable();
    names.dedup();
    names
}

pub(super) fn kind_of_set(hops: Option<&NextHops>) -> &'static str {
    match hops {
        Some(NextHops::Via(_) | NextHops::Service(_)) => "forward",
        Some(NextHops::Local) => "local",
        Some(NextHops::Blackhole) => "blackhole",
        Some(NextHops::Unreachable) => "unreachable",
        Some(NextHops::Prohibit) => "prohibit",
        None => "none",
    }
}

pub(super) fn fib_rows(
    facts: &Facts<'_>,
    prefix: IpPrefix,
    group: GroupId,
    items: &mut Vec<Value>,
) {
    let control = facts.control;
    let source = used_source(control, prefix);
    let rows = members(facts, group);
    if rows.is_empty() {
        items.push(json!({
            "prefix": prefix.to_string(),
            "group": group.0,
            "kind": kind(control.writer().group(group).as_ref()),
            "source": source,
        }));
    }
    for mut row in rows {
        row["prefix"] = json!(prefix.to_string());
        row["group"] = json!(group.0);
        row["kind"] = json!("forward");
        row["source"] = json!(source);
        items.push(row);
    }
}

/// Where the used route to a prefix comes from.
pub(super) fn used_source(control: &Control, prefix: IpPrefix) -> Option<String> {
    Some(source_text(control, control.source(prefix)?))
}

/// A file is told by its name.
pub(super) fn source_text(control: &Control, source: Source) -> String {
    let file = match source {
        Source::File(index) => control.config().route_files.get(usize::from(index)),
        _ => None,
    };
    let label = source.label();
    file.map_or_else(|| label.to_owned(), |file| format!("{label} {}", file.name))
}
