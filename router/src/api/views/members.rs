//! Members of groups, in rows of prefixes and in explanations.

use nearhop_fib::{Group, GroupId, Member};
use serde_json::{Value, json};

use super::Facts;
use super::services::{Why, leg_item};
use crate::control::{Control, LegKey, LegState};

/// The members of a group, each with its state and why packets go there or why not.
pub(super) fn members(facts: &Facts<'_>, group: GroupId) -> Vec<Value> {
    let control = facts.control;
    let members = group_members(control, group);
    let living = members.iter().filter(|member| is_alive(control, member));
    let takes = |member: &&Member| control.writer().accept(member.path) != Some(0);
    let best = living.clone().filter(takes).map(|member| member.tier).min();
    let best = best.or_else(|| living.map(|member| member.tier).min());
    members
        .iter()
        .map(|member| {
            let alive = is_alive(control, member);
            let mut item = match control.leg_of(member.path) {
                Some((key, leg)) => {
                    leg_of_member(facts, key, leg, alive && best == Some(member.tier))
                }
                None => json!({ "best": alive && best == Some(member.tier) }),
            };
            item["port"] = json!(port_name(control, member));
            item["tier"] = json!(member.tier);
            item["weight"] = json!(member.weight);
            item["reasons"] = json!(reasons(control, member));
            if item.get("state").is_none() {
                item["state"] = json!(if alive { "up" } else { "down" });
            }
            item
        })
        .collect()
}

pub(super) fn leg_of_member(facts: &Facts<'_>, key: &LegKey, leg: &LegState, best: bool) -> Value {
    let control = facts.control;
    let found = control.services().get(&key.service).and_then(|service| {
        let ranking = control.services().ranking(service, key.family);
        let place = ranking.into_iter().find(|p| service.sites[p.index].name == key.site)?;
        Some((service, &service.sites[place.index], place))
    });
    match found {
        Some((service, site, place)) => {
            let sites = control.best_sites(service, key.family);
            let rule = control.against(&sites, service, key.family, site);
            leg_item(facts, service, site, (key, leg), Why { place: &place, rule, best })
        }
        None => json!({ "site": key.site, "best": best }),
    }
}

pub(super) fn group_members(control: &Control, group: GroupId) -> Vec<Member> {
    match control.writer().group(group) {
        Some(Group::Forward { members, .. }) => members,
        _ => Vec::new(),
    }
}

pub(super) fn kind(group: Option<&Group>) -> &'static str {
    match group {
        Some(Group::Blackhole) => "blackhole",
        Some(Group::Forward { .. }) => "forward",
        Some(Group::Local) => "local",
        Some(Group::Prohibit) => "prohibit",
        Some(Group::Unreachable) => "unreachable",
        None => "none",
    }
}

pub(super) fn is_alive(control: &Control, member: &Member) -> bool {
    control.writer().path_reasons(member.path).is_alive()
        && control.writer().adjacency_reasons(member.adjacency).is_alive()
}

pub(super) fn reasons(control: &Control, member: &Member) -> Vec<&'static str> {
    let adjacency = control.writer().adjacency_reasons(member.adjacency);
    let path = control.writer().path_reasons(member.path);
    adjacency.iter().chain(path.iter()).map(nearhop_fib::Reason::label).collect()
}

pub(super) fn port_name(control: &Control, member: &Member) -> String {
    let id = control.writer().port(member.adjacency);
    let port = control.ports().find(|port| Some(port.id.0) == id);
    port.map_or_else(|| "-".into(), |port| port.name().to_owned())
}
