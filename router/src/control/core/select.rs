//! Which sites a service's packets go to first: told when it changes, with the cause.

use std::collections::BTreeSet;

use super::Core;
use super::wanted::families;
use crate::config::model::Service;
use crate::event::{EventKind, Family, MoveCause};
use crate::time::Nanos;

impl Core {
    /// Looks at every service.
    pub(super) fn reselect(&mut self, now: Nanos, cause: MoveCause, member: &str) {
        let all: BTreeSet<(String, Family)> = self
            .config
            .services
            .iter()
            .flat_map(|service| families(service).into_iter().map(|f| (service.name.clone(), f)))
            .collect();
        self.selected.retain(|key, _| all.contains(key));
        for key in all {
            self.reselect_one(now, key, cause, member);
        }
    }

    pub(super) fn reselect_one(
        &mut self,
        now: Nanos,
        key: (String, Family),
        cause: MoveCause,
        member: &str,
    ) {
        let Some(service) = self.service(&key.0) else { return };
        let to = self.best_sites(service, key.1);
        let from = self.selected.get(&key).cloned().unwrap_or_default();
        if from == to {
            return;
        }
        let (service, family) = key.clone();
        self.selected.insert(key, to.clone());
        let member = member.to_owned();
        let kind = EventKind::Select { service, family, from, to, cause, member };
        self.events.push_back((now, kind));
    }

    /// The sites of the cheapest tier that lives and is not drained; of the cheapest that lives, if
    /// all are drained; sorted by name.
    pub fn best_sites(&self, service: &Service, family: Family) -> Vec<String> {
        let best = |drained_too: bool| {
            let mut tier = None;
            let mut sites = Vec::new();
            for place in self.ranking(service, family) {
                let site = &service.sites[place.index];
                let up = self.site_legs(&service.name, family, &site.name).any(|(_, leg)| leg.up);
                let takes = drained_too || !self.drained.contains(&site.name);
                if up && takes && tier.is_none_or(|tier| tier == place.tier) {
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
