//! Rows of groups.

use nearhop_fib::{Group, GroupId, Spread, WhenDead};
use serde_json::{Value, json};

use super::Facts;
use super::members::{group_members, is_alive, kind, port_name};
use crate::api::ApiError;
use crate::api::pages::Page;
use crate::rib::{NextHops, SetId};

/// Groups, by the order in which their sets of next hops were first used.
pub(super) fn page_of_groups(
    facts: &Facts<'_>,
    after: Option<&str>,
    count: usize,
) -> Result<Page, ApiError> {
    let no_group =
        |text: &str| ApiError::bad_request(format!("after: no group ends with {text:?}"));
    let after = after.map(|text| text.parse().map_err(|_| no_group(text))).transpose()?;
    let mut page = Page::default();
    for (number, set, group) in facts.control.groups_after(after).take(count) {
        page.rows.push(group_row(facts, set, group));
        page.count += 1;
        page.next = Some(number.to_string());
    }
    if page.count < count {
        page.next = None;
    }
    Ok(page)
}

pub(super) fn group_row(facts: &Facts<'_>, set: SetId, id: GroupId) -> Value {
    let control = facts.control;
    let group = control.writer().group(id);
    let of = match control.rib().next_hops(set) {
        Some(NextHops::Service(of)) => Some(of),
        _ => None,
    };
    let members = group_members(control, id);
    let mut via: Vec<String> = members.iter().map(|member| port_name(control, member)).collect();
    via.sort_unstable();
    via.dedup();
    let (when_dead, spread) = match &group {
        Some(Group::Forward { when_dead, spread, .. }) => {
            (Some(when_dead_text(*when_dead)), Some(*spread))
        }
        _ => (None, None),
    };
    json!({
        "group": id.0,
        "kind": kind(group.as_ref()),
        "service": of.map(|of| &of.service),
        "family": of.map(|of| of.family),
        "via": via,
        "prefixes": control.writer().routes_to(id),
        "members": members.len(),
        "alive": members.iter().filter(|member| is_alive(control, member)).count(),
        "spread": spread.map(|spread| if spread == Spread::Flow { "flow" } else { "packet" }),
        "when_all_dead": when_dead,
    })
}

pub(super) fn when_dead_text(when_dead: WhenDead) -> String {
    match when_dead {
        WhenDead::Unreachable => "unreachable".into(),
        WhenDead::Drop => "drop".into(),
        WhenDead::FailOpen => "fail-open".into(),
        WhenDead::Covering(group) => format!("covering: group {}", group.0),
    }
}
