//! The answer of `explain`: what becomes of a packet to an address, and of a flow, and why.

use std::net::IpAddr;

use nearhop_fib::{FlowHash, FlowKey, GroupId, Member, Selected, Spread};
use serde_json::{Value, json};

use super::Facts;
use super::members::{group_members, is_alive, kind, members};
use super::routes::used_source;
use crate::api::{ApiError, ExplainQuery};
use crate::control::Control;
use crate::forward::refusal;
use crate::packet::error::ErrorKind;
use crate::packet::martian::destination_verdict;
use crate::packet::protocol;
use crate::verdict::Verdict;

/// The answer to `explain ADDRESS`.
pub fn explain(facts: &Facts<'_>, query: &ExplainQuery) -> Result<Value, ApiError> {
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
    let schema = "nearhop.explain.v1";
    let address = query.address.to_string();
    let outcome = outcome(control, query.address, found.map(|(_, group)| group));
    let Some((prefix, group)) = found else {
        return Ok(json!({
            "schema": schema, "address": address, "outcome": outcome, "prefix": null, "items": [],
        }));
    };
    let by_packet = control.writer().spread(group) == Spread::Packet;
    let selected =
        query.from.map(|from| control.writer().select(group, flow(control, from, query)));
    // With per-packet spreading, a flow has no single member.
    let chosen = selected.filter(|selected| !(by_packet && is_member(*selected)));
    let mut items = members(facts, group);
    if let Some(chosen) = chosen {
        for (member, item) in group_members(control, group).iter().zip(&mut items) {
            mark_chosen(item, *member, chosen, control);
        }
    }
    let selected = match (selected, chosen) {
        (Some(_), None) => Some("any of the best, packet by packet".to_owned()),
        _ => chosen.map(|chosen| selected_text(chosen, control)),
    };
    Ok(json!({
        "schema": schema,
        "address": address,
        "outcome": outcome,
        "prefix": prefix.to_string(),
        "group": group.0,
        "kind": kind(control.writer().group(group).as_ref()),
        "source": used_source(control, prefix),
        "selected": selected,
        "items": items,
    }))
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

/// What becomes of a packet to this address, wherever it comes from.
fn outcome(control: &Control, address: IpAddr, group: Option<GroupId>) -> String {
    let snapshot = control.snapshot();
    let is_broadcast = snapshot.directed_broadcasts.has(address);
    let special = is_broadcast.then_some(Verdict::Broadcast);
    let special = special.or_else(|| destination_verdict(address, snapshot.martians));
    if let Some(verdict) = special {
        return format!("dropped: {}; its sender hears nothing", verdict.text());
    }
    let any_flow = FlowHash::of_packet(0, 0);
    let selected =
        group.map_or(Selected::NoRoute, |group| control.writer().select(group, any_flow));
    match selected {
        Selected::Member { .. } => "forwarded".into(),
        Selected::Local => "delivered to the router itself".into(),
        refused => {
            let (verdict, error) = refusal(refused);
            let answer = match error {
                Some(ErrorKind::NetUnreachable) => "gets an ICMP error: no route to the network",
                Some(ErrorKind::HostUnreachable) => "gets an ICMP error: host unreachable",
                Some(ErrorKind::AdminProhibited) => "gets an ICMP error: prohibited",
                Some(_) => "gets an ICMP error",
                None => "hears nothing",
            };
            format!("dropped: {}; its sender {answer}", verdict.text())
        }
    }
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
fn mark_chosen(item: &mut Value, member: Member, chosen: Selected, control: &Control) {
    let Selected::Member { path, adjacency } = chosen else { return };
    let is_chosen = (member.path, member.adjacency) == (path, adjacency);
    item["chosen"] = json!(is_chosen);
    if is_chosen || !is_alive(control, &member) {
        return;
    }
    let same_site = match (control.leg_of(member.path), control.leg_of(path)) {
        (Some((mine, _)), Some((theirs, _))) => mine.site == theirs.site,
        _ => false,
    };
    if same_site {
        item["why"] = json!("another link of the site, by the link hash");
    } else if item["best"] == json!(true) {
        item["why"] = json!("equal cost; the flow's hash ranks another site first");
    }
}

fn selected_text(selected: Selected, control: &Control) -> String {
    match selected {
        Selected::Member { path, .. } => match control.leg_of(path) {
            Some((key, _)) => format!("{} by port {}", key.site, key.port),
            None => control.port_of(path).map_or("a port".into(), |p| format!("port {}", p.name())),
        },
        Selected::Local => "the router itself".into(),
        Selected::NoRoute => "no route".into(),
        Selected::Blackhole => "dropped silently: blackhole".into(),
        Selected::Unreachable => "refused: unreachable".into(),
        Selected::Prohibit => "refused: prohibited".into(),
        Selected::AllDead { answer: true } => "refused: every member is down".into(),
        Selected::AllDead { answer: false } => "dropped: every member is down".into(),
        Selected::UTurn { .. } => {
            "dropped: the remaining members lead back to the ingress port".into()
        }
        Selected::CoveringLoop => "dropped: covering routes refer to each other".into(),
    }
}

fn bits(addr: IpAddr) -> u128 {
    match addr {
        IpAddr::V4(addr) => u128::from(addr.to_bits()),
        IpAddr::V6(addr) => addr.to_bits(),
    }
}
