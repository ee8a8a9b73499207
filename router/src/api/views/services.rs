//! Rows of services: legs, what they cost, and why packets go there or not.

use nearhop_fib::IpPrefix;
use serde_json::{Value, json};

use super::Facts;
use crate::api::ApiError;
use crate::api::pages::{PER_PAGE, Page};
use crate::config::model::{Service, Site};
use crate::control::cost::{Ranked, Rule};
use crate::control::{LegKey, LegState};
use crate::ids::Family;

/// Rows of services, about as many as are asked for.
pub(super) fn page_of_services(
    facts: &Facts<'_>,
    after: Option<&str>,
    count: usize,
    rows: impl Fn(&Facts<'_>, &Service, &mut Vec<Value>),
) -> Result<Page, ApiError> {
    let services = &facts.control.config().services;
    let first = match after {
        None => 0,
        Some(name) => {
            let found = services.iter().position(|service| service.name == name);
            let gone = || ApiError::not_found(format!("after: no service is called {name:?} now"));
            1 + found.ok_or_else(|| gone().with_help("begin again without after"))?
        }
    };
    let mut page = Page::default();
    for service in services.iter().skip(first) {
        if page.count >= count || page.rows.len() >= PER_PAGE {
            page.next = services.get(first + page.count - 1).map(|last| last.name.clone());
            break;
        }
        rows(facts, service, &mut page.rows);
        page.count += 1;
    }
    Ok(page)
}

/// Every leg of a service, best first.
pub(super) fn service_rows(facts: &Facts<'_>, service: &Service, items: &mut Vec<Value>) {
    let control = facts.control;
    let counters = &facts.totals.counters;
    for family in [Family::Ipv4, Family::Ipv6] {
        let of_family = |prefix: &&IpPrefix| Family::of(prefix.addr()) == family;
        let prefixes: Vec<String> =
            service.prefixes.iter().filter(of_family).map(IpPrefix::to_string).collect();
        if prefixes.is_empty() {
            continue;
        }
        let best = control.best_sites(service, family);
        for place in control.services().ranking(service, family) {
            let site = &service.sites[place.index];
            for (key, leg) in control.services().site_legs(&service.name, family, &site.name) {
                let is_best = best.contains(&site.name) && leg.up;
                let rule = control.against(&best, service, family, site);
                let why = Why { place: &place, rule, best: is_best };
                let mut item = leg_item(facts, service, site, (key, leg), why);
                let count = counters.paths.get(leg.path.0 as usize).copied();
                let count = count.unwrap_or_default();
                item["prefix"] = json!(prefixes);
                item["packets"] = json!(count.packets);
                item["bytes"] = json!(count.bytes);
                items.push(item);
            }
        }
    }
}

/// What a leg's place rests on.
#[derive(Clone, Copy)]
pub(super) struct Why<'a> {
    pub(super) place: &'a Ranked,
    /// By which rule the sites that packets go to are better.
    pub(super) rule: Rule,
    /// Whether packets go there.
    pub(super) best: bool,
}

pub(super) fn leg_item(
    facts: &Facts<'_>,
    service: &Service,
    site: &Site,
    (key, leg): (&LegKey, &LegState),
    why_so: Why<'_>,
) -> Value {
    let Why { place, best, .. } = why_so;
    let control = facts.control;
    let drained = control.drained().contains(&site.name);
    json!({
        "service": service.name,
        "family": key.family,
        "best": best,
        "site": site.name,
        "port": key.port,
        "state": state(leg, drained),
        "cost": control.services().distance(service, key.family, &site.name, site.cost),
        "tier": place.tier,
        "latency_us": leg.rtt.map(|rtt| u64::try_from(rtt.as_micros()).unwrap_or(u64::MAX)),
        "accept": control.writer().accept(leg.path).map(|accept| f64::from(accept) / 65_535.0),
        "age_ms": facts.age_ms(leg.since),
        "why": why(leg, drained, why_so),
    })
}

pub(super) fn state(leg: &LegState, drained: bool) -> &'static str {
    match (leg.known, leg.up, drained) {
        (false, ..) => "waiting",
        (_, false, _) => "down",
        (_, true, true) => "drained",
        (_, true, false) => "up",
    }
}

/// Why packets go to this leg, or why not.
pub(super) fn why(leg: &LegState, drained: bool, Why { place, rule, best }: Why<'_>) -> String {
    if !leg.up {
        return format!("unreachable: {}", leg.impossible.as_ref().unwrap_or(&leg.reason));
    }
    match (drained, best, place.tier) {
        (true, false, _) => "drained by an operator".into(),
        (true, true, _) => "every site that is up is drained".into(),
        (false, true, 0) if place.rule == Rule::Equal => "lowest cost".into(),
        (false, true, _) => "lowest cost of the sites that are up".into(),
        (false, false, _) => rule.loser_text().into(),
    }
}
