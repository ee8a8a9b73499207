//! Members of groups, in rows of prefixes and in explanations.

use nearhop_fib::{
    AdjacencyId, COVERING_MAX, FlowHash, Group, GroupId, Member, Selected, WhenDead,
};

use super::services::{TakenOut, Why, distance, state, why};
use super::{Facts, owned};
use crate::api::column::Text;
use crate::api::rows::{LegPart, MemberPart};
use crate::control::{Control, LegKey, LegState, Serving};

/// The members of a group, each with its state and why packets go there or why not.
pub(super) fn members(facts: &Facts<'_>, group: GroupId) -> Vec<MemberPart> {
    let control = facts.control;
    let members = group_members(control, group);
    let living = members.iter().filter(|member| is_alive(control, member));
    let takes = |member: &&Member| control.writer().accept(member.path) != Some(0);
    let best = living.clone().filter(takes).map(|member| member.tier).min();
    let best = best.or_else(|| living.map(|member| member.tier).min());
    let best = best.filter(|_| chain(control, group).len() == 1);
    let part = |member: &Member| {
        let alive = is_alive(control, member);
        let best = alive && best == Some(member.tier);
        let mut part = MemberPart {
            best,
            site: None,
            port: port_name(control, member),
            tier: member.tier.into(),
            weight: member.weight.into(),
            state: if alive { "up" } else { "down" }.into(),
            reasons: reasons(control, member),
            leg: None,
            why: None,
        };
        if let Some(neighbor) = control.neighbor_of(member.path) {
            let when = if alive && !best { ", while no better one lives" } else { "" };
            part.why = Some(format!("over neighbor {}{when}", neighbor.config.name).into());
        }
        if let Some((key, leg)) = control.leg_of(member.path) {
            part.site = Some(owned(&key.site));
            if let Some((state, leg, why)) = leg_of_member(facts, key, leg, best) {
                (part.state, part.leg, part.why) = (state, Some(leg), Some(why));
            }
        }
        part
    };
    members.iter().map(part).collect()
}

/// A leg with its state, and why packets go there or not; `None` if its service is gone.
fn leg_of_member(
    facts: &Facts<'_>,
    key: &LegKey,
    leg: &LegState,
    best: bool,
) -> Option<(Text, LegPart, Text)> {
    let control = facts.control;
    let service = control.services().get(&key.service)?;
    let ranking = control.services().ranking(service, key.family);
    let place = ranking.into_iter().find(|p| service.sites[p.index].name == key.site)?;
    let site = &service.sites[place.index];
    let Serving { sites, resort } = control.serving(service, key.family);
    let rule = control.against(&sites, service, key.family, site);
    let taken_out = TakenOut::of(control, &site.name);
    let by_preference = control.services().is_preferred(service, key.family, &place);
    let part = LegPart {
        distance: distance(facts, service, site, (key, leg)),
        service: owned(&service.name),
        family: key.family.label().into(),
        age_ms: facts.age_ms(leg.since),
    };
    let why = why(
        (leg, control.why_down(key, leg)),
        taken_out,
        Why { place: &place, rule, best, by_preference, resort },
    );
    Some((state(leg, taken_out).into(), part, why))
}

pub(super) fn group_members(control: &Control, group: GroupId) -> Vec<Member> {
    match control.writer().group(group) {
        Some(Group::Forward { members, .. }) => members,
        _ => Vec::new(),
    }
}

/// The groups that packets to a group follow while none of its members takes them, the group itself first.
pub(super) fn chain(control: &Control, group: GroupId) -> Vec<GroupId> {
    let writer = control.writer();
    let mut all = vec![group];
    while let Some(Group::Forward { members, when_dead: WhenDead::Covering(next), .. }) =
        all.last().and_then(|last| writer.group(*last))
        && all.len() < COVERING_MAX
    {
        let takes = |member: &Member| match writer.select(group, FlowHash::of_packet(0, 0)) {
            Selected::Member { path, adjacency } => {
                (path, adjacency) == (member.path, member.adjacency)
            }
            _ => false,
        };
        if members.iter().any(takes) {
            break;
        }
        all.push(next);
    }
    all
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

fn reasons(control: &Control, member: &Member) -> Vec<Text> {
    let adjacency = control.writer().adjacency_reasons(member.adjacency);
    let path = control.writer().path_reasons(member.path);
    adjacency.iter().chain(path.iter()).map(|reason| reason.label().into()).collect()
}

pub(super) fn port_name(control: &Control, member: &Member) -> Text {
    port_by(control, member.adjacency)
}

/// The name of the port that an adjacency leaves by.
pub(super) fn port_by(control: &Control, adjacency: AdjacencyId) -> Text {
    let id = control.writer().port(adjacency);
    let port = control.ports().find(|port| Some(port.id.0) == id);
    port.map_or("-".into(), |port| owned(port.name()))
}
