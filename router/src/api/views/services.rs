//! Rows of services: legs, what they cost, and why packets go there or not.

use nearhop_fib::IpPrefix;

use super::{Facts, micros, owned};
use crate::api::ApiError;
use crate::api::column::Text;
use crate::api::pages::{PER_PAGE, Page, PageRequest};
use crate::api::rows::{Distance, ServiceRow};
use crate::config::model::{Service, Site};
use crate::control::cost::{Ranked, Rule};
use crate::control::{Caution, Control, LegKey, LegState, Serving};
use crate::event::Resort;
use crate::ids::Family;

/// A page of legs.
pub(super) fn page_of_services(
    facts: &Facts<'_>,
    request: &PageRequest,
) -> Result<Page<Vec<ServiceRow>>, ApiError> {
    let mut rows = Vec::new();
    let page = services_of_page(facts, request, |service| {
        service_rows(facts, service, &mut rows);
        rows.len()
    })?;
    Ok(Page { rows, count: page.count, next: page.next })
}

/// The services of a page: as many as are asked for, or fewer, when there are [`PER_PAGE`] rows. `rows` is
/// called with each, and returns how many rows there are by then.
pub(super) fn services_of_page<'a>(
    facts: &Facts<'a>,
    request: &PageRequest,
    mut rows: impl FnMut(&'a Service) -> usize,
) -> Result<Page<&'a [Service]>, ApiError> {
    let services = &facts.control.config().services;
    let first = match &request.after {
        None => 0,
        Some(name) => {
            let found = services.iter().position(|service| service.name == *name);
            let gone = || ApiError::not_found(format!("after: no service is called {name:?} now"));
            1 + found.ok_or_else(|| gone().with_help("begin again without after"))?
        }
    };
    let (mut count, mut made) = (0, 0);
    for service in &services[first..] {
        if count >= request.count || made >= PER_PAGE {
            let next = services.get(first + count - 1).map(|last| last.name.clone());
            return Ok(Page { rows: &services[first..first + count], count, next });
        }
        made = rows(service);
        count += 1;
    }
    Ok(Page { rows: &services[first..], count, next: None })
}

/// Every leg of a service, best first.
fn service_rows(facts: &Facts<'_>, service: &Service, items: &mut Vec<ServiceRow>) {
    let control = facts.control;
    let counters = &facts.totals.counters;
    for family in [Family::Ipv4, Family::Ipv6] {
        let of_family = |prefix: &&IpPrefix| Family::of(prefix.addr()) == family;
        let prefixes = service.prefixes.iter().filter(of_family);
        let prefixes: Vec<Text> = prefixes.map(|prefix| prefix.to_string().into()).collect();
        if prefixes.is_empty() {
            continue;
        }
        let Serving { sites: best, resort } = control.serving(service, family);
        for place in control.services().ranking(service, family) {
            let site = &service.sites[place.index];
            for (key, leg) in control.services().site_legs(&service.name, family, &site.name) {
                let is_best = best.contains(&site.name) && (leg.up || leg.is_damped());
                let rule = control.against(&best, service, family, site);
                let by_preference = control.services().is_preferred(service, family, &place);
                let why_so = Why { place: &place, rule, best: is_best, by_preference, resort };
                let taken_out = TakenOut::of(control, &site.name);
                let count = counters.paths.get(leg.path.0 as usize).copied();
                let count = count.unwrap_or_default();
                items.push(ServiceRow {
                    service: owned(&service.name),
                    family: family.label().into(),
                    prefix: prefixes.clone(),
                    best: is_best,
                    site: owned(&site.name),
                    port: owned(&key.port),
                    state: state(leg, taken_out).into(),
                    tier: place.tier.into(),
                    distance: distance(facts, service, site, (key, leg)),
                    packets: count.packets,
                    bytes: count.bytes,
                    age_ms: facts.age_ms(leg.since),
                    why: why((leg, control.why_down(key, leg)), taken_out, why_so),
                });
            }
        }
    }
}

/// How far away a leg's site is.
pub(super) fn distance(
    facts: &Facts<'_>,
    service: &Service,
    site: &Site,
    (key, leg): (&LegKey, &LegState),
) -> Distance {
    let control = facts.control;
    let accept = control.writer().accept(leg.path);
    Distance {
        cost: Some(control.services().distance(service, key.family, &site.name, site.cost)),
        latency_us: leg.rtt.map(micros),
        accept: accept.map(|accept| f64::from(accept) / 65_535.0),
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
    /// Whether a site that is ranked below it costs less.
    pub(super) by_preference: bool,
    /// Why they go where they go although nobody there is up and not drained.
    pub(super) resort: Option<Resort>,
}

/// What an operator has done to a site.
#[derive(Clone, Copy)]
pub(super) struct TakenOut {
    drained: bool,
    disabled: bool,
}

impl TakenOut {
    pub(super) fn of(control: &Control, site: &str) -> Self {
        let overrides = control.overrides();
        let (drained, disabled) = (&overrides.drained, &overrides.disabled);
        Self { drained: drained.contains(site), disabled: disabled.contains(site) }
    }
}

pub(super) fn state(leg: &LegState, TakenOut { drained, disabled }: TakenOut) -> &'static str {
    match (leg.known, leg.up, drained) {
        _ if disabled => "disabled",
        _ if leg.is_damped() && drained => "drained",
        _ if leg.is_damped() => "damped",
        _ if leg.caution == Caution::Doubted => "doubted",
        (false, ..) => "waiting",
        (_, false, _) => "down",
        (_, true, true) => "drained",
        (_, true, false) => "up",
    }
}

/// Why packets go to this leg, or why not.
pub(super) fn why(
    (leg, down): (&LegState, String),
    TakenOut { drained, disabled }: TakenOut,
    Why { place, rule, best, by_preference, resort }: Why<'_>,
) -> Text {
    if disabled {
        return "disabled by an operator".into();
    }
    if let Some(resort) = resort.filter(|_| best) {
        return resort.text().into();
    }
    if !leg.up && !leg.is_damped() {
        return format!("unreachable: {down}").into();
    }
    let winner = if by_preference { "highest preference" } else { "lowest cost" };
    match (drained, best, place.tier) {
        (true, ..) => "drained by an operator".into(),
        _ if leg.is_damped() => "it flapped, and has to be well for longer".into(),
        _ if leg.caution == Caution::Doubted && best => {
            "checks fail at too many sites at once".into()
        }
        (false, true, 0) if place.rule == Rule::Equal => winner.into(),
        (false, true, _) => format!("{winner} of the sites that are up").into(),
        (false, false, _) => rule.loser_text().into(),
    }
}
