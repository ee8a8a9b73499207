//! Rows of BGP's paths: what neighbours announce and why it is used or not, and what is announced to them.

use std::borrow::Cow;

use nearhop_fib::IpPrefix;

use super::Facts;
use super::routes::hop_name;
use crate::api::column::Text;
use crate::api::pages::RoutesOf;
use crate::api::rows::{PathPart, RouteRow};
use crate::api::{ApiError, known};
use crate::bgp::table::{Found, choice};
use crate::bgp::{Attributes, ChoiceRule, Negotiated, NextHop};
use crate::control::Control;
use crate::ids::{Family, NeighborId};

/// A path to a prefix, and why it is not used.
pub(super) struct Judged<'a> {
    pub(super) found: Found<'a>,
    /// By which rule it loses, and to which neighbour.
    pub(super) loss: Option<(ChoiceRule, NeighborId)>,
    /// Packets go by it too (`multipath`), although a tie-break puts it behind the best one.
    pub(super) shares: bool,
}

/// Every path to a prefix: the best one first, then those that share its packets, those that lose, and those that
/// are refused.
pub(super) fn judged(control: &Control, prefix: IpPrefix) -> Vec<Judged<'_>> {
    let (usable, refused): (Vec<_>, Vec<_>) =
        control.bgp_paths().of(prefix).partition(Found::is_accepted);
    let choice = choice(&usable);
    let loss = |at: usize| {
        let loss = choice.as_ref()?.losses.get(at).copied()??;
        Some((loss.rule, usable.get(loss.to)?.neighbor))
    };
    let multipath = control.config().bgp.as_ref().map_or(1, |bgp| usize::from(bgp.multipath));
    let ranked = control.bgp_paths().ranked(control.bgp_paths().chain(prefix), multipath);
    let is_first = |found: &Found<'_>| {
        let is_it = |(tier, one): &(u8, Found<'_>)| {
            *tier == 0 && (one.neighbor, one.path_id) == (found.neighbor, found.path_id)
        };
        ranked.iter().any(is_it)
    };
    let accepted = usable.iter().enumerate().map(|(at, found)| {
        let loss = loss(at);
        Judged { found: *found, loss, shares: loss.is_some() && is_first(found) }
    });
    let mut all: Vec<Judged<'_>> = accepted.collect();
    all.sort_by_key(|one| (one.loss.is_some(), !one.shares));
    all.extend(refused.into_iter().map(|found| Judged { found, loss: None, shares: false }));
    all
}

impl Judged<'_> {
    /// Why it is not used as BGP's path; `None` for the best one and those that share its packets.
    pub(super) fn why(&self, control: &Control, prefix: IpPrefix) -> Option<String> {
        if self.shares {
            return None;
        }
        if let Some((rule, to)) = self.loss {
            return Some(format!("loses to {}: it has {}", name_of(control, to), rule.fault()));
        }
        self.found.why_not(prefix).map(|why| format!("refused: {why}"))
    }
}

/// The rows of paths that a request is about. `best` is the row of the route that the best path is.
pub(super) fn path_rows(
    facts: &Facts<'_>,
    (prefix, of): (IpPrefix, RoutesOf),
    neighbor: Option<NeighborId>,
    best: Option<RouteRow>,
    rows: &mut Vec<RouteRow>,
) {
    let control = facts.control;
    let (mut best, shared) = (best.clone(), best);
    for one in judged(control, prefix) {
        let found = one.found;
        let is_accepted = found.is_accepted();
        // Of the route that BGP offers, its row says whether it is used.
        let route = if one.shares {
            shared.clone()
        } else {
            best.take_if(|_| is_accepted && one.loss.is_none())
        };
        let is_wanted = match of {
            RoutesOf::All | RoutesOf::Received => true,
            RoutesOf::Accepted => is_accepted,
            RoutesOf::Refused => !is_accepted,
            RoutesOf::Best => route.as_ref().is_some_and(|route| route.best),
            RoutesOf::Advertised => false,
        };
        if !is_wanted || neighbor.is_some_and(|id| id != found.neighbor) {
            continue;
        }
        let as_it_came = of == RoutesOf::Received || !is_accepted;
        let attributes = if as_it_came { Cow::Borrowed(&**found.attributes) } else { found.used() };
        let why_not = found.why_not(prefix);
        let rule = why_not.map(|why| why.label()).or_else(|| Some(found.accepted_by()?.into()));
        let via = via_of(control, found.neighbor, attributes.next_hop);
        let neighbor = name_of(control, found.neighbor);
        let about = About { neighbor, path_id: found.path_id, via, rule };
        let why = one.why(control, prefix).map(Text::from);
        let state = if is_accepted { "unused" } else { "refused" };
        let row = path_row(prefix, state, about, &attributes, why);
        rows.push(match route {
            // Of several paths that share the packets, each leads by its own next hop.
            Some(route) => RouteRow { path: row.path, via: row.via, ..route },
            None => row,
        });
    }
}

/// What is announced to neighbours of a prefix.
pub(super) fn advertised_rows(
    facts: &Facts<'_>,
    prefix: IpPrefix,
    neighbor: Option<NeighborId>,
    rows: &mut Vec<RouteRow>,
) {
    let family = Family::of(prefix.addr());
    for (id, state) in facts.control.bgp_neighbors() {
        if neighbor.is_some_and(|one| one != id) {
            continue;
        }
        let several = |negotiated: &Negotiated| negotiated.add_path.of(family).send;
        let is_several = state.negotiated.as_deref().is_some_and(several);
        for (nlri, attributes) in state.announced.of(prefix) {
            let path_id = if is_several { nlri.path_id } else { 0 };
            let via = attributes.next_hop.addr.to_string();
            let about = About { neighbor: state.config.name.clone(), path_id, via, rule: None };
            rows.push(path_row(prefix, "advertised", about, attributes, None));
        }
    }
}

/// The prefixes that are announced after one, in their order.
pub(super) fn advertised_after(
    control: &Control,
    after: Option<IpPrefix>,
    neighbor: Option<NeighborId>,
) -> impl Iterator<Item = IpPrefix> + '_ {
    let mut last = after;
    std::iter::from_fn(move || {
        let of = control.bgp_neighbors().filter(|(id, _)| neighbor.is_none_or(|one| one == *id));
        last = of.filter_map(|(_, state)| state.announced.following(last)).min();
        last
    })
}

/// The neighbour with this name.
///
/// # Errors
/// There is none.
pub(super) fn neighbor_named(control: &Control, name: &str) -> Result<NeighborId, ApiError> {
    let found = control.bgp_neighbors().find(|(_, state)| state.config.name == name);
    found.map(|(id, _)| id).ok_or_else(|| {
        let names: Vec<&str> =
            control.bgp_neighbors().map(|(_, state)| state.config.name.as_str()).collect();
        let error = format!("no BGP neighbour is named {name:?}");
        ApiError::not_found(error).with_help(known("neighbours", name, &names))
    })
}

pub(super) fn name_of(control: &Control, id: NeighborId) -> String {
    let found = control.bgp_neighbors().find(|(one, _)| *one == id);
    found.map_or_else(|| "a neighbour that is gone".into(), |(_, state)| state.config.name.clone())
}

/// A next hop of a neighbour, by what it resolves by.
fn via_of(control: &Control, neighbor: NeighborId, next_hop: NextHop) -> String {
    let state = control.bgp_neighbors().find(|(id, _)| *id == neighbor).map(|(_, state)| state);
    let hop = state.and_then(|state| state.hop_of(next_hop));
    hop_name(control, hop.unwrap_or((next_hop.addr, None)))
}

/// Whose path it is.
struct About {
    neighbor: String,
    path_id: u32,
    via: String,
    rule: Option<Text>,
}

fn path_row(
    prefix: IpPrefix,
    state: &'static str,
    about: About,
    attributes: &Attributes,
    why: Option<Text>,
) -> RouteRow {
    let plain = attributes.communities.iter().map(ToString::to_string);
    let large = attributes.large().iter().map(ToString::to_string);
    let extended = attributes.extended().iter().map(ToString::to_string);
    let path = PathPart {
        neighbor: about.neighbor.into(),
        path_id: about.path_id.into(),
        as_path: attributes.as_path.to_string().into(),
        origin: attributes.origin.label().into(),
        local_pref: attributes.local_pref.map(u64::from),
        med: attributes.med.map(u64::from),
        communities: plain.chain(large).chain(extended).map(Text::from).collect(),
        rule: about.rule,
    };
    RouteRow {
        prefix: prefix.to_string().into(),
        best: false,
        source: "bgp".into(),
        kind: "forward".into(),
        via: vec![about.via.into()],
        state: state.into(),
        path: Some(path),
        why,
    }
}
