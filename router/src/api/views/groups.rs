//! Rows of groups.

use nearhop_fib::{Group, GroupId, Spread, WhenDead};

use super::members::{group_members, is_alive, kind, port_name};
use super::{Facts, owned};
use crate::api::ApiError;
use crate::api::column::Text;
use crate::api::pages::{Page, PageRequest};
use crate::api::rows::GroupRow;
use crate::rib::{NextHops, SetId};

/// Groups, by the order in which their sets of next hops were first used.
pub(super) fn page_of_groups(
    facts: &Facts<'_>,
    request: &PageRequest,
) -> Result<Page<Vec<GroupRow>>, ApiError> {
    let no_group =
        |text: &str| ApiError::bad_request(format!("after: no group ends with {text:?}"));
    let after = request.after.as_deref();
    let after = after.map(|text| text.parse().map_err(|_| no_group(text))).transpose()?;
    let mut page = Page::default();
    for (number, set, group) in facts.control.groups_after(after).take(request.count) {
        page.rows.push(group_row(facts, set, group));
        page.count += 1;
        page.next = Some(number.to_string());
    }
    if page.count < request.count {
        page.next = None;
    }
    Ok(page)
}

fn group_row(facts: &Facts<'_>, set: SetId, id: GroupId) -> GroupRow {
    let control = facts.control;
    let group = control.writer().group(id);
    let of = match control.rib().next_hops(set) {
        Some(NextHops::Service(of)) => Some(of),
        _ => None,
    };
    let members = group_members(control, id);
    let mut via: Vec<Text> = members.iter().map(|member| port_name(control, member)).collect();
    via.sort_unstable();
    via.dedup();
    let (when_dead, spread) = match &group {
        Some(Group::Forward { when_dead, spread, .. }) => {
            (Some(when_dead_text(*when_dead)), Some(*spread))
        }
        _ => (None, None),
    };
    GroupRow {
        group: id.0.into(),
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

fn when_dead_text(when_dead: WhenDead) -> Text {
    match when_dead {
        WhenDead::Unreachable => "unreachable".into(),
        WhenDead::Drop => "drop".into(),
        WhenDead::FailOpen => "fail-open".into(),
        WhenDead::Covering(group) => format!("covering: group {}", group.0).into(),
    }
}
