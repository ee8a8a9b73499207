//! Which sites a service's packets go to first: reported when it changes, with the cause.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};

use nearhop_fib::IpPrefix;
use serde::{Deserialize, Serialize};

use super::LegState;
use super::bgp::announce::standing::Health;
use super::blocks::Blocks;
use super::cost::{Ranked, Rule, compare};
use super::services::Services;
use super::wanted::families;
use crate::config::model::{Service, Site, WhenAllDead};
use crate::event::{EventKind, MoveCause, Resort};
use crate::ids::Family;
use crate::rib::Rib;
use crate::time::Nanos;

/// The sites that packets go to, and those that an operator keeps them from.
#[derive(Default)]
pub(super) struct Selection {
    overrides: Overrides,
    /// As last reported.
    selected: BTreeMap<ServiceKey, Serving>,
    /// Services that are to be looked at, and why their best sites may be others.
    unsure: VecDeque<(ServiceKey, MoveCause, String)>,
    /// The order of the sites of services, as far as it was asked for since it last changed.
    rankings: HashMap<ServiceKey, Vec<Ranked>>,
}

/// A service in one family.
pub(super) type ServiceKey = (String, Family);

/// What operators have taken out of service, over restarts.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Overrides {
    /// Sites that serve only where nobody else is left.
    pub drained: BTreeSet<String>,
    /// Sites that never serve.
    pub disabled: BTreeSet<String>,
    /// Whether the router announces nothing.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub router: bool,
    /// Names of the playbooks that are applied.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub playbooks: BTreeSet<String>,
    /// Prefixes whose packets are discarded.
    #[serde(default, skip_serializing_if = "Blocks::is_empty")]
    pub blocks: Blocks,
}

impl Overrides {
    /// Drains a site or undrains it; `false` if it was so before.
    pub fn drain(&mut self, site: &str, drained: bool) -> bool {
        put(&mut self.drained, site, drained)
    }

    /// Disables a site or enables it; `false` if it was so before.
    pub fn disable(&mut self, site: &str, disabled: bool) -> bool {
        put(&mut self.disabled, site, disabled)
    }
}

/// Where a service's packets go.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Serving {
    /// The sites of the cheapest tier that serves, sorted by name.
    pub sites: Vec<String>,
    /// Why it is not the cheapest that is up and not drained, if so.
    pub resort: Option<Resort>,
}

/// What is known of services and routes.
#[derive(Clone, Copy)]
pub(super) struct Known<'a> {
    pub(super) services: Services<'a>,
    pub(super) rib: &'a Rib,
}

impl Selection {
    /// What operators have taken out of service.
    pub(super) fn overrides(&self) -> &Overrides {
        &self.overrides
    }

    /// As they were before a restart.
    pub(super) fn restore(&mut self, overrides: Overrides) {
        self.overrides = overrides;
    }

    /// Drains a site or undrains it; `false` if it was so before.
    pub(super) fn drain(&mut self, site: &str, drained: bool) -> bool {
        self.overrides.drain(site, drained)
    }

    /// Applies a playbook or undoes it; `false` if it was so before.
    pub(super) fn play(&mut self, playbook: &str, applied: bool) -> bool {
        put(&mut self.overrides.playbooks, playbook, applied)
    }

    /// Blocks a prefix or unblocks it; `false` if it was so before.
    pub(super) fn block(&mut self, prefix: IpPrefix, blocked: bool) -> bool {
        self.overrides.blocks.set(prefix, blocked)
    }

    /// Drains the router or undrains it; `false` if it was so before.
    pub(super) fn drain_router(&mut self, drained: bool) -> bool {
        std::mem::replace(&mut self.overrides.router, drained) != drained
    }

    /// Disables a site or enables it; `false` if it was so before.
    pub(super) fn disable(&mut self, site: &str, disabled: bool) -> bool {
        self.overrides.disable(site, disabled)
    }

    /// Every service is to be looked at, and no other.
    pub(super) fn look_at_all(
        &mut self,
        services: Services<'_>,
        (cause, member): (MoveCause, &str),
    ) {
        let all = services.keys(|_| true);
        self.selected.retain(|key, _| all.contains(key));
        self.unsure.clear();
        self.look_at(all, (cause, member));
    }

    /// These services are to be looked at.
    pub(super) fn look_at(
        &mut self,
        keys: impl IntoIterator<Item = ServiceKey>,
        (cause, member): (MoveCause, &str),
    ) {
        self.unsure.extend(keys.into_iter().map(|key| (key, cause, member.to_owned())));
    }

    /// Whether nothing waits for [`Self::step`].
    pub(super) fn is_settled(&self) -> bool {
        self.unsure.is_empty()
    }

    /// The order of the sites of every service may be another.
    pub(super) fn forget_rankings(&mut self) {
        self.rankings.clear();
    }

    /// The order of the sites of a service may be another.
    pub(super) fn forget_ranking(&mut self, key: &ServiceKey) {
        self.rankings.remove(key);
    }

    /// Looks at up to `budget` of the services that are to be looked at; returns what changed.
    pub(super) fn step(
        &mut self,
        known: Known<'_>,
        now: Nanos,
        budget: usize,
    ) -> Vec<(Nanos, EventKind)> {
        let some = budget.min(self.unsure.len());
        let looked_at: Vec<_> = self.unsure.drain(..some).collect();
        let each = looked_at.into_iter();
        let changed =
            each.filter_map(|(key, cause, member)| self.look(known, key, (cause, &member)));
        changed.map(|kind| (now, kind)).collect()
    }

    /// Looks at one service now; returns what changed.
    pub(super) fn look(
        &mut self,
        known: Known<'_>,
        key: ServiceKey,
        (cause, member): (MoveCause, &str),
    ) -> Option<EventKind> {
        let service = known.services.get(&key.0)?;
        let ranking = || known.services.ranking(service, key.1);
        self.rankings.entry(key.clone()).or_insert_with(ranking);
        let to = self.serving(known, service, key.1);
        let from = self.selected.get(&key).cloned().unwrap_or_default();
        if from == to {
            return None;
        }
        let (service, family) = key.clone();
        let resort = to.resort;
        self.selected.insert(key, to.clone());
        let (from, to) = (from.sites, to.sites);
        let member = match cause {
            MoveCause::CheaperUp => cheaper(&from, &to, member).to_owned(),
            _ => member.to_owned(),
        };
        Some(EventKind::Select { service, family, from, to, resort, cause, member })
    }

    /// Where a service's packets go, in the order of the FIB's own choice (`nearhop_fib::select`).
    pub(super) fn serving(&self, known: Known<'_>, service: &Service, family: Family) -> Serving {
        let services = known.services;
        let key = (service.name.clone(), family);
        let ranking = match self.rankings.get(&key) {
            Some(ranking) => Cow::Borrowed(ranking),
            None => Cow::Owned(services.ranking(service, family)),
        };
        let best = |eligible: &dyn Fn(&str, &LegState) -> bool| {
            let mut tier = None;
            let mut sites = Vec::new();
            for place in ranking.iter() {
                if tier.is_some_and(|tier| tier != place.tier) {
                    break;
                }
                let site = &service.sites[place.index].name;
                let mut legs = services.site_legs(&service.name, family, site);
                if legs.any(|(_, leg)| eligible(site, leg)) {
                    tier = Some(place.tier);
                    sites.push(site.clone());
                }
            }
            sites.sort_unstable();
            sites
        };
        let is_drained = |site: &str| self.overrides.drained.contains(site);
        let sites = best(&|site, leg| leg.up && !is_drained(site));
        if !sites.is_empty() {
            return Serving { sites, resort: None };
        }
        let sites = best(&|site, leg| leg.is_damped() && !is_drained(site));
        if !sites.is_empty() {
            return Serving { sites, resort: Some(Resort::Damped) };
        }
        if let Some(resort) = routes_left(known, service, family) {
            return Serving { sites, resort: Some(resort) };
        }
        let sites = best(&|_, leg| leg.up || leg.is_damped());
        let resort = (!sites.is_empty()).then_some(Resort::Drained);
        Serving { sites, resort }
    }

    /// How many sites of a service are up, and neither drained nor disabled.
    pub(super) fn sites_left(&self, known: Known<'_>, service: &Service, family: Family) -> usize {
        let Overrides { drained, disabled, .. } = &self.overrides;
        let is_left = |site: &&Site| {
            let mut legs = known.services.site_legs(&service.name, family, &site.name);
            let is_out = drained.contains(&site.name) || disabled.contains(&site.name);
            !is_out && legs.any(|(_, leg)| leg.up)
        };
        service.sites.iter().filter(is_left).count()
    }

    /// What counts for the announcement of a service: sites that are up, and neither damped, drained nor
    /// disabled.
    pub(super) fn health(&self, known: Known<'_>, service: &Service, family: Family) -> Health {
        let Overrides { drained, disabled, .. } = &self.overrides;
        let is_well = |site: &&Site| {
            let mut legs = known.services.site_legs(&service.name, family, &site.name);
            let is_out = drained.contains(&site.name) || disabled.contains(&site.name);
            !is_out && legs.any(|(_, leg)| leg.up && !leg.is_damped())
        };
        let weights = service.sites.iter().filter(is_well).map(|site| u64::from(site.weight));
        let (well, weight) = weights.fold((0, 0), |(well, sum), weight| (well + 1, sum + weight));
        let is_served = well > 0 || !self.serving(known, service, family).sites.is_empty();
        Health { well, weight, is_served }
    }

    /// The services, each in the families, that are served now, and would have nobody left but drained sites
    /// if this one were taken out too.
    pub(super) fn served_by_last(&self, known: Known<'_>, site: &str) -> BTreeSet<String> {
        let with = known.services.keys(|service| service.sites.iter().any(|s| s.name == site));
        let is_last = |(name, family): &ServiceKey| {
            let Some(service) = known.services.get(name) else { return false };
            let takes = |one: &&Site| {
                let mut legs = known.services.site_legs(name, *family, &one.name);
                !self.overrides.drained.contains(&one.name)
                    && legs.any(|(_, leg)| leg.up || leg.is_damped())
            };
            let mut takers = service.sites.iter().filter(takes);
            let is_alone = takers.next().is_some_and(|one| one.name == site);
            let is_last = is_alone && takers.next().is_none();
            is_last && routes_left(known, service, *family).is_none()
        };
        with.into_iter().filter(is_last).map(|(name, _)| name).collect()
    }

    /// Services that have a site that is neither drained nor disabled, and would have none by another
    /// configuration that still has them.
    pub(super) fn left_without(&self, old: &[Service], new: &[Service]) -> Vec<String> {
        let is_open = |site: &Site| {
            let Overrides { drained, disabled, .. } = &self.overrides;
            !drained.contains(&site.name) && !disabled.contains(&site.name)
        };
        let has_open = |service: &Service| service.sites.iter().any(is_open);
        let before: HashMap<&str, &Service> =
            old.iter().map(|service| (&*service.name, service)).collect();
        let had_open = |name: &str| before.get(name).is_some_and(|service| has_open(service));
        let left = new.iter().filter(|new| !has_open(new) && had_open(&new.name));
        left.map(|service| service.name.clone()).collect()
    }
}

/// What packets follow that no site of the service takes, if there is such a route for every prefix.
fn routes_left(known: Known<'_>, service: &Service, family: Family) -> Option<Resort> {
    let of_family = |prefix: &&IpPrefix| Family::of(prefix.addr()) == family;
    let prefixes = || service.prefixes.iter().filter(of_family);
    if !service.when_all_dead.follows_routes() {
        return None;
    }
    let has_next = |prefix: &IpPrefix| known.rib.next_best(*prefix).is_some();
    if prefixes().all(has_next) {
        return Some(Resort::NextRoute);
    }
    let is_covered = |prefix: &IpPrefix| known.rib.used_covering(*prefix).is_some();
    let follows_shorter = service.when_all_dead == WhenAllDead::Covering;
    (follows_shorter && prefixes().all(|prefix| has_next(prefix) || is_covered(prefix)))
        .then_some(Resort::Covering)
}

fn put(set: &mut BTreeSet<String>, site: &str, is_in: bool) -> bool {
    if is_in { set.insert(site.to_owned()) } else { set.remove(site) }
}

/// By which rule the sites that packets go to, as [`Selection::serving`] says, are better than this one.
pub(super) fn against(
    services: Services<'_>,
    best: &[String],
    (service, family): (&Service, Family),
    site: &Site,
) -> Rule {
    let winner = service.sites.iter().find(|site| best.first() == Some(&site.name));
    let of = |site| services.candidate(service, family, site);
    winner.map_or(Rule::Equal, |winner| compare(&of(winner), &of(site)).1)
}

impl Services<'_> {
    /// Each family of each of these services.
    pub(super) fn keys(self, is_meant: impl Fn(&Service) -> bool) -> BTreeSet<ServiceKey> {
        let meant = self.configured.iter().filter(|service| is_meant(service));
        let each = meant
            .flat_map(|service| families(service).into_iter().map(|f| (service.name.clone(), f)));
        each.collect()
    }
}

/// The member that is cheaper now: one that packets go to again, else one that they still go to. Of
/// these the one that changed, where it is among them: a site that got slower is not.
fn cheaper<'a>(from: &[String], to: &'a [String], changed: &'a str) -> &'a str {
    let new: Vec<&String> = to.iter().filter(|site| !from.contains(site)).collect();
    let candidates = if new.is_empty() { to.iter().collect() } else { new };
    match candidates.first() {
        Some(first) if candidates.iter().all(|site| *site != changed) => first,
        _ => changed,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cheaper_member_is_one_that_packets_go_to() {
        let sites = |text: &str| text.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
        for (from, to, changed, want) in [
            ("ams", "fra", "fra", "fra"),
            ("ams", "fra", "ams", "fra"),
            ("ams fra", "fra", "ams", "fra"),
            ("ams fra", "ams", "ams", "ams"),
            ("ams", "ams fra", "ams", "fra"),
            ("ams", "ams fra par", "par", "par"),
            ("ams", "fra par", "lon", "fra"),
            ("ams", "", "ams", "ams"),
        ] {
            let got = cheaper(&sites(from), &sites(to), changed).to_owned();
            assert_eq!(got, want, "{from} -> {to} by {changed}");
        }
    }
}
