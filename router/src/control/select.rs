//! Which sites a service's packets go to first: reported when it changes, with the cause.

use std::borrow::Cow;
use std::collections::BTreeSet;

use super::Control;
use super::cost::{Rule, compare};
use super::wanted::families;
use crate::config::model::{Service, Site};
use crate::event::{EventKind, MoveCause};
use crate::ids::Family;
use crate::time::Nanos;

impl Control {
    /// Every service is to be looked at, by [`Self::reselect_some`].
    pub(super) fn reselect_all(&mut self, cause: MoveCause, member: &str) {
        let all = self.families_of(|_| true);
        self.selected.retain(|key, _| all.contains(key));
        self.reselecting = all.into_iter().map(|key| (key, cause, member.to_owned())).collect();
    }

    /// Each family of each of these services.
    pub(super) fn families_of(
        &self,
        is_meant: impl Fn(&Service) -> bool,
    ) -> BTreeSet<(String, Family)> {
        let meant = self.config.services.iter().filter(|service| is_meant(service));
        let each = meant
            .flat_map(|service| families(service).into_iter().map(|f| (service.name.clone(), f)));
        each.collect()
    }

    /// Looks at up to `budget` of the services that are to be looked at. Returns whether that was all.
    pub(super) fn reselect_some(&mut self, now: Nanos, budget: usize) -> bool {
        for _ in 0..budget {
            let Some((key, cause, member)) = self.reselecting.pop_front() else { return true };
            self.reselect_one(now, key, cause, &member);
        }
        self.reselecting.is_empty()
    }

    pub(super) fn reselect_one(
        &mut self,
        now: Nanos,
        key: (String, Family),
        cause: MoveCause,
        member: &str,
    ) {
        let Some(service) = self.services().get(&key.0) else { return };
        if !self.rankings.contains_key(&key) {
            let ranking = self.services().ranking(service, key.1);
            self.rankings.insert(key.clone(), ranking);
        }
        let Some(service) = self.services().get(&key.0) else { return };
        let to = self.best_sites(service, key.1);
        let from = self.selected.get(&key).cloned().unwrap_or_default();
        if from == to {
            return;
        }
        let (service, family) = key.clone();
        self.selected.insert(key, to.clone());
        let member = match cause {
            MoveCause::CheaperUp => cheaper(&from, &to, member).to_owned(),
            _ => member.to_owned(),
        };
        let kind = EventKind::Select { service, family, from, to, cause, member };
        self.events.push_back((now, kind));
    }

    /// By which rule the sites that packets go to, as [`Self::best_sites`] says, are better than this one.
    pub fn against(&self, best: &[String], service: &Service, family: Family, site: &Site) -> Rule {
        let winner = service.sites.iter().find(|site| best.first() == Some(&site.name));
        let of = |site| self.services().candidate(service, family, site);
        winner.map_or(Rule::Equal, |winner| compare(&of(winner), &of(site)).1)
    }

    /// The sites of the cheapest tier that lives and is not drained; of the cheapest that lives, if
    /// all are drained; sorted by name.
    pub fn best_sites(&self, service: &Service, family: Family) -> Vec<String> {
        let key = (service.name.clone(), family);
        let ranking = match self.rankings.get(&key) {
            Some(ranking) => Cow::Borrowed(ranking),
            None => Cow::Owned(self.services().ranking(service, family)),
        };
        let best = |drained_too: bool| {
            let mut tier = None;
            let mut sites = Vec::new();
            for place in ranking.iter() {
                if tier.is_some_and(|tier| tier != place.tier) {
                    break;
                }
                let site = &service.sites[place.index];
                let up = self
                    .services()
                    .site_legs(&service.name, family, &site.name)
                    .any(|(_, leg)| leg.up);
                let takes = drained_too || !self.drained.contains(&site.name);
                if up && takes {
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
