//! Rows of groups.

use nearhop_fib::{Group, GroupId, IpPrefix, Spread, WhenDead};

use super::members::{group_members, is_alive, kind, port_name};
use super::routes::{next_hop_names, ranked_hop_name};
use super::{Facts, owned};
use crate::api::ApiError;
use crate::api::column::Text;
use crate::api::pages::{Page, PageRequest};
use crate::api::rows::GroupRow;
use crate::control::Control;
use crate::rib::{Lead, NextHops, SetId};

/// Groups, by the order in which their sets of next hops were first used.
pub(super) fn page_of_groups(
    facts: &Facts<'_>,
    request: &PageRequest,
) -> Result<Page<Vec<GroupRow>>, ApiError> {
    let no_group =
        |text: &str| ApiError::bad_request(format!("after: no group ends with {text:?}"));
    let after = request.after.as_deref();
    let after = after.map(|text| lead_of(text).ok_or_else(|| no_group(text))).transpose()?;
    let mut page = Page::default();
    for (lead, group) in facts.control.groups_after(after).take(request.count) {
        page.rows.push(group_row(facts, lead, group));
        page.count += 1;
        let next = lead.next.map(|next| format!(".{}", next.0)).unwrap_or_default();
        page.next = Some(format!("{}{next}", lead.set.0));
    }
    if page.count < request.count {
        page.next = None;
    }
    Ok(page)
}

/// What the last group of a page stands for: the number of its set and, if it leads on, of the next one.
fn lead_of(text: &str) -> Option<Lead> {
    let number = |text: &str| text.parse().ok().map(SetId);
    let (set, next) = text.split_once('.').map_or((text, None), |(set, next)| (set, Some(next)));
    let next = match next {
        Some(next) => Some(number(next)?),
        None => None,
    };
    Some(Lead { set: number(set)?, next })
}

fn group_row(facts: &Facts<'_>, lead: Lead, id: GroupId) -> GroupRow {
    let control = facts.control;
    let group = control.writer().group(id);
    let of = match control.rib().next_hops(lead.set) {
        Some(NextHops::Service(of)) => Some(of),
        _ => None,
    };
    let members = group_members(control, id);
    let mut via: Vec<Text> = members.iter().map(|member| port_name(control, member)).collect();
    via.sort_unstable();
    via.dedup();
    let (when_dead, spread) = match &group {
        Some(Group::Forward { when_dead, spread, .. }) => {
            (Some(when_dead_text(control, lead, *when_dead)), Some(*spread))
        }
        _ => (None, None),
    };
    GroupRow {
        group: name_of_lead(control, lead, id),
        kind: kind(group.as_ref()).into(),
        service: of.map(|of| owned(&of.service)),
        family: of.map(|of| of.family.label().into()),
        via,
        prefixes: control.writer().routes_to(id) as u64,
        members: members.len() as u64,
        alive: members.iter().filter(|member| is_alive(control, member)).count() as u64,
        spread: spread.map(|spread| if spread == Spread::Flow { "flow" } else { "packet" }.into()),
        when_all_dead: when_dead,
    }
}

/// The name of the group that a prefix leads to.
pub(super) fn name_for(control: &Control, prefix: IpPrefix, id: GroupId) -> Text {
    // Until a publication ends, a prefix may lead to another group than its route's.
    match control.rib().lead(prefix).filter(|&lead| control.group_of(lead) == Some(id)) {
        Some(lead) => name_of_lead(control, lead, id),
        None => name_of(control, id),
    }
}

/// The name of the group that packets are led on to that none of a prefix's sites takes.
pub(super) fn name_led_on(control: &Control, prefix: IpPrefix, id: GroupId) -> Text {
    let next = control.rib().lead(prefix).and_then(|lead| lead.next);
    match next.filter(|&next| control.group_of(Lead::to(next)) == Some(id)) {
        Some(next) => name_of_set(control, next, id),
        None => name_of(control, id),
    }
}

/// As [`name_of_set`], with what packets are led on to.
fn name_of_lead(control: &Control, lead: Lead, id: GroupId) -> Text {
    let own = name_of_set(control, lead.set, id);
    match lead.next {
        Some(next) => format!("{own}, else {}", name_of_next(control, next)).into(),
        None => own,
    }
}

fn name_of_next(control: &Control, next: SetId) -> Text {
    match control.group_of(Lead::to(next)) {
        Some(id) => name_of_set(control, next, id),
        None => "none".into(),
    }
}

/// What a group is called: by what leads to it, a service in a family (with the prefix, where each has a
/// group of its own), or else by what it leads to.
fn name_of_set(control: &Control, set: SetId, id: GroupId) -> Text {
    match control.rib().next_hops(set) {
        Some(NextHops::Service(of)) => {
            let name = format!("{}/{}", of.service, of.family.label());
            of.prefix.map_or(name.clone(), |prefix| format!("{name} {prefix}")).into()
        }
        Some(NextHops::Via(_)) => {
            let hops = next_hop_names(control, set, &group_members(control, id));
            format!("via {}", hops.join(", ")).into()
        }
        Some(NextHops::Ranked(hops)) => {
            // "via 10.1.0.2, else 10.2.0.2": a group for each order of next hops.
            let mut text = String::from("via ");
            for (index, hop) in hops.iter().enumerate() {
                let before = index.checked_sub(1).map(|before| hops[before].tier);
                text.push_str(match before {
                    None => "",
                    Some(tier) if tier == hop.tier => ", ",
                    Some(_) => ", else ",
                });
                text.push_str(&ranked_hop_name(control, hop));
            }
            text.into()
        }
        _ => name_of(control, id),
    }
}

/// As [`name_of_set`], by nothing but its members.
fn name_of(control: &Control, id: GroupId) -> Text {
    let members = group_members(control, id);
    let leg = members.iter().find_map(|member| control.leg_of(member.path));
    if let Some((key, _)) = leg {
        return format!("{}/{}", key.service, key.family.label()).into();
    }
    if members.is_empty() {
        return kind(control.writer().group(id).as_ref()).into();
    }
    let mut ports: Vec<Text> = members.iter().map(|member| port_name(control, member)).collect();
    ports.sort_unstable();
    ports.dedup();
    format!("via {}", ports.join(", ")).into()
}

fn when_dead_text(control: &Control, lead: Lead, when_dead: WhenDead) -> Text {
    match when_dead {
        WhenDead::Covering(_) if let Some(next) = lead.next => {
            format!("next route: {}", name_of_next(control, next)).into()
        }
        WhenDead::Unreachable => "unreachable".into(),
        WhenDead::Drop => "drop".into(),
        WhenDead::FailOpen => "fail-open".into(),
        WhenDead::Covering(group) => format!("covering: {}", name_of(control, group)).into(),
    }
}
