//! Which sites a service's packets go to first: reported when it changes, with the cause.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};

use super::cost::{Ranked, Rule, compare};
use super::services::Services;
use super::wanted::families;
use crate::config::model::{Service, Site};
use crate::event::{EventKind, MoveCause};
use crate::ids::Family;
use crate::time::Nanos;

/// The sites that packets go to, and those that an operator keeps them from.
#[derive(Default)]
pub(super) struct Selection {
    drained: BTreeSet<String>,
    /// As last reported.
    selected: BTreeMap<ServiceKey, Vec<String>>,
    /// Services that are to be looked at, and why their best sites may be others.
    unsure: VecDeque<(ServiceKey, MoveCause, String)>,
    /// The order of the sites of services, as far as it was asked for since it last changed.
    rankings: HashMap<ServiceKey, Vec<Ranked>>,
}

/// A service in one family.
pub(super) type ServiceKey = (String, Family);

impl Selection {
    /// The sites that are drained.
    pub(super) fn drained(&self) -> &BTreeSet<String> {
        &self.drained
    }

    /// Drains a site or undrains it; `false` if it was so before.
    pub(super) fn drain(&mut self, site: &str, drained: bool) -> bool {
        if drained { self.drained.insert(site.to_owned()) } else { self.drained.remove(site) }
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
        services: Services<'_>,
        now: Nanos,
        budget: usize,
    ) -> Vec<(Nanos, EventKind)> {
        let some = budget.min(self.unsure.len());
        let looked_at: Vec<_> = self.unsure.drain(..some).collect();
        let each = looked_at.into_iter();
        let changed =
            each.filter_map(|(key, cause, member)| self.look(services, key, (cause, &member)));
        changed.map(|kind| (now, kind)).collect()
    }

    /// Looks at one service now; returns what changed.
    pub(super) fn look(
        &mut self,
        services: Services<'_>,
        key: ServiceKey,
        (cause, member): (MoveCause, &str),
    ) -> Option<EventKind> {
        let service = services.get(&key.0)?;
        let ranking = || services.ranking(service, key.1);
        self.rankings.entry(key.clone()).or_insert_with(ranking);
        let to = self.best_sites(services, service, key.1);
        let from = self.selected.get(&key).cloned().unwrap_or_default();
        if from == to {
            return None;
        }
        let (service, family) = key.clone();
        self.selected.insert(key, to.clone());
        let member = match cause {
            MoveCause::CheaperUp => cheaper(&from, &to, member).to_owned(),
            _ => member.to_owned(),
        };
        Some(EventKind::Select { service, family, from, to, cause, member })
    }

    /// The sites of the cheapest tier that lives and is not drained; of the cheapest that lives, if
    /// all are drained; sorted by name.
    pub(super) fn best_sites(
        &self,
        services: Services<'_>,
        service: &Service,
        family: Family,
    ) -> Vec<String> {
        let key = (service.name.clone(), family);
        let ranking = match self.rankings.get(&key) {
            Some(ranking) => Cow::Borrowed(ranking),
            None => Cow::Owned(services.ranking(service, family)),
        };
        let best = |drained_too: bool| {
            let mut tier = None;
            let mut sites = Vec::new();
            for place in ranking.iter() {
                if tier.is_some_and(|tier| tier != place.tier) {
                    break;
                }
                let site = &service.sites[place.index];
                let mut legs = services.site_legs(&service.name, family, &site.name);
                let takes = drained_too || !self.drained.contains(&site.name);
                if takes && legs.any(|(_, leg)| leg.up) {
                    tier = Some(place.tier);
                    sites.push(site.name.clone());
                }
            }
            sites.sort_unstable();
            sites
        };
        let open = best(false);
        if open.is_empty() { best(true) } else { open }
    }
}

/// By which rule the sites that packets go to, as [`Selection::best_sites`] says, are better than this one.
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
