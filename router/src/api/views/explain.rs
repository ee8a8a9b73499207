//! The answer of `explain`: what becomes of a packet to an address, and of a flow, and why.

use std::net::IpAddr;

use nearhop_fib::{FlowHash, FlowKey, GroupId, IpPrefix, Member, Selected, Spread};

use super::Facts;
use super::groups::{name_for, name_led_on};
use super::members::{chain, group_members, is_alive, kind, members, port_by};
use super::paths::{Judged, judged, name_of};
use super::routes::used_source;
use crate::api::column::Text;
use crate::api::document::{Document, Explanation};
use crate::api::rows::{ExplainHead, ExplainRow, ExplainedGroup};
use crate::api::{ApiError, ExplainQuery};
use crate::control::Control;
use crate::forward::refusal;
use crate::packet::error::ErrorKind;
use crate::packet::martian::destination_verdict;
use crate::packet::protocol;
use crate::rib::Source;
use crate::verdict::Verdict;

/// The answer to `explain ADDRESS`.
pub fn explain(facts: &Facts<'_>, query: &ExplainQuery) -> Result<Explanation, ApiError> {
    if let Some(from) = query.from.filter(|from| from.is_ipv4() != query.address.is_ipv4()) {
        let error = format!(
            "expected addresses of one family, found a flow from {from} to {}",
            query.address
        );
        return Err(ApiError::bad_request(error));
    }
    ports_fit(query)?;
    if query.from.is_none() && query.proto.is_some() {
        let error = "a protocol describes a flow, and a flow needs a source";
        return Err(
            ApiError::bad_request(error).with_help("add the source, such as --from 192.0.2.1")
        );
    }
    let control = facts.control;
    let found = control.writer().longest_match(query.address);
    let followed = found.map(|(_, group)| chain(control, group)).unwrap_or_default();
    let led_on_to = followed.iter().skip(1);
    let led_on_to: Vec<Text> = found
        .map(|(prefix, _)| led_on_to.map(|&next| name_led_on(control, prefix, next)).collect())
        .unwrap_or_default();
    let fate = fate(control, query.address, (found.map(|(_, group)| group), led_on_to.last()));
    let mut head = ExplainHead {
        address: query.address.to_string().into(),
        outcome: fate.text,
        verdict: fate.verdict.label().into(),
        prefix: None,
        group: None,
    };
    let Some((prefix, group)) = found else {
        return Ok(Document::new("explain", head, Vec::new()));
    };
    let by_packet = control.writer().spread(group) == Spread::Packet;
    let selected =
        query.from.map(|from| control.writer().select(group, flow(control, from, query)));
    // With per-packet spreading, a flow has no single member.
    let chosen = selected.filter(|selected| !(by_packet && is_member(*selected)));
    let parts = followed.iter().flat_map(|&one| members(facts, one));
    let mut rows: Vec<_> = parts.map(|member| ExplainRow { chosen: None, member }).collect();
    let is_of_bgp = control.source(prefix) == Some(Source::Bgp);
    let why = if is_of_bgp { why_best(control, prefix) } else { None };
    for row in rows.iter_mut().filter(|row| row.member.best) {
        let both = [row.member.why.take(), why.clone()];
        let both: Vec<Text> = both.into_iter().flatten().collect();
        row.member.why = (!both.is_empty()).then(|| both.join("; ").into());
    }
    if let Some(chosen) = chosen {
        let all = followed.iter().flat_map(|&one| group_members(control, one));
        for (member, row) in all.zip(&mut rows) {
            mark_chosen(row, member, chosen, control);
        }
    }
    let selected = match (selected, chosen) {
        (Some(_), None) => Some("any of the best, packet by packet".into()),
        _ => chosen.map(|chosen| selected_text(chosen, control)),
    };
    head.prefix = Some(prefix.to_string().into());
    head.group = Some(ExplainedGroup {
        source: used_source(control, prefix),
        kind: kind(control.writer().group(group).as_ref()).into(),
        group: name_for(control, prefix, group),
        led_on_to,
        selected,
    });
    Ok(Document::new("explain", head, rows))
}

/// Refuses ports, or an echo's identifier, for protocols in which the forwarding step reads none.
fn ports_fit(query: &ExplainQuery) -> Result<(), ApiError> {
    let refused = |what: &str, found: String, help: &str| {
        Err(ApiError::bad_request(format!("{what} has no meaning {found}")).with_help(help))
    };
    let given = [(query.sport.is_some(), "sport"), (query.dport.is_some(), "dport")];
    let Some((_, first)) = given.iter().find(|(given, _)| *given) else { return Ok(()) };
    let Some(proto) = query.proto else {
        return refused(
            first,
            "without a protocol".into(),
            "add the protocol, such as --proto udp",
        );
    };
    if protocol::has_ports(proto) {
        return Ok(());
    }
    if protocol::is_icmp(proto, query.address.is_ipv6()) {
        return match query.dport {
            None => Ok(()),
            Some(_) => refused("dport", "for ICMP".into(), "sport is the identifier of an echo"),
        };
    }
    refused(first, format!("for protocol {proto}"), "it has no ports: leave them out")
}

/// What becomes of a packet.
struct Fate {
    verdict: Verdict,
    /// The verdict's outcome, and what its sender hears.
    text: Text,
}

/// What becomes of a packet to this address, wherever it comes from: by its group, and by the one that it is led
/// on to, if so.
fn fate(
    control: &Control,
    address: IpAddr,
    (group, led_on_to): (Option<GroupId>, Option<&Text>),
) -> Fate {
    let snapshot = control.snapshot();
    let mut owners = snapshot.ports().filter(|(_, port)| port.link_locals.contains(&address));
    if let Some((_, port)) = owners.next() {
        let verdict = Verdict::Local;
        let outcome = verdict.outcome().label();
        let text = format!("{outcome} to the router itself, if it came in by port {}", port.name);
        return Fate { verdict, text: text.into() };
    }
    let is_broadcast = snapshot.directed_broadcasts.has(address);
    let special = is_broadcast.then_some(Verdict::Broadcast);
    let special = special.or_else(|| destination_verdict(address, snapshot.martians));
    if let Some(verdict) = special {
        return dropped(verdict, None);
    }
    let any_flow = FlowHash::of_packet(0, 0);
    let selected =
        group.map_or(Selected::NoRoute, |group| control.writer().select(group, any_flow));
    match (selected, led_on_to) {
        (Selected::Member { .. }, Some(name)) => {
            let verdict = Verdict::Forward;
            let outcome = verdict.outcome().label();
            let text = format!("{outcome} {name}, as no site of the service takes it");
            Fate { verdict, text: text.into() }
        }
        _ => fate_of(selected),
    }
}

fn fate_of(selected: Selected) -> Fate {
    let fate = |verdict: Verdict, whereto| {
        let text = format!("{} {whereto}", verdict.outcome().label()).into();
        Fate { verdict, text }
    };
    match selected {
        Selected::Member { .. } => fate(Verdict::Forward, "to a member of the group"),
        Selected::Local => fate(Verdict::Local, "to the router itself"),
        refused => {
            let (verdict, error) = refusal(refused);
            dropped(verdict, error)
        }
    }
}

fn dropped(verdict: Verdict, error: Option<ErrorKind>) -> Fate {
    let answer = match error {
        Some(ErrorKind::NetUnreachable) => "gets an ICMP error: no route to the network",
        Some(ErrorKind::HostUnreachable) => "gets an ICMP error: host unreachable",
        Some(ErrorKind::AdminProhibited) => "gets an ICMP error: prohibited",
        Some(_) => "gets an ICMP error",
        None => "hears nothing",
    };
    let outcome = verdict.outcome().label();
    Fate { verdict, text: format!("{outcome}: {}; its sender {answer}", verdict.text()).into() }
}

fn flow(control: &Control, from: IpAddr, query: &ExplainQuery) -> FlowHash {
    let key = FlowKey {
        src: bits(from),
        dst: bits(query.address),
        protocol: query.proto.unwrap_or(0),
        src_port: query.sport.unwrap_or(0),
        dst_port: query.dport.unwrap_or(0),
        label: 0,
    };
    key.hash(control.snapshot().hash_seed)
}

fn is_member(selected: Selected) -> bool {
    matches!(selected, Selected::Member { .. })
}

/// Sets whether a flow goes to this member, and why not.
fn mark_chosen(row: &mut ExplainRow, member: Member, chosen: Selected, control: &Control) {
    let Selected::Member { path, adjacency } = chosen else { return };
    let is_chosen = (member.path, member.adjacency) == (path, adjacency);
    row.chosen = Some(is_chosen);
    if is_chosen || !is_alive(control, &member) {
        return;
    }
    let same_site = match (control.leg_of(member.path), control.leg_of(path)) {
        (Some((mine, _)), Some((theirs, _))) => mine.site == theirs.site,
        _ => false,
    };
    if same_site {
        row.member.why = Some("another link of the site, by the link hash".into());
    } else if row.member.best {
        row.member.why = Some("equal cost; the flow's hash ranks another site first".into());
    }
}

fn selected_text(selected: Selected, control: &Control) -> Text {
    match selected {
        Selected::Member { path, adjacency } => match control.leg_of(path) {
            Some((key, _)) => format!("{} by port {}", key.site, key.port).into(),
            None => format!("port {}", port_by(control, adjacency)).into(),
        },
        other => fate_of(other).text,
    }
}

/// By which rules the best path of BGP won, and what other paths are refused.
fn why_best(control: &Control, prefix: IpPrefix) -> Option<Text> {
    let all = judged(control, prefix);
    let (_, others) = all.split_first().filter(|(best, _)| best.found.is_accepted())?;
    let other = |one: &Judged<'_>| {
        let name = name_of(control, one.found.neighbor);
        match one.loss {
            Some(_) if one.shares => format!("{name} shares its packets"),
            Some((rule, _)) => format!("{name} has {}", rule.fault()),
            None => format!("{name} is {}", one.why(control, prefix).unwrap_or_default()),
        }
    };
    let others: Vec<String> = others.iter().map(other).collect();
    Some(if others.is_empty() {
        "BGP's only path".into()
    } else {
        format!("BGP's best path: {}", others.join(", ")).into()
    })
}

fn bits(addr: IpAddr) -> u128 {
    match addr {
        IpAddr::V4(addr) => u128::from(addr.to_bits()),
        IpAddr::V6(addr) => addr.to_bits(),
    }
}
