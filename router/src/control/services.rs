//! What the sites of services are worth: their order, their distances, the group they make.

use std::collections::HashMap;
use std::ops::Deref;
use std::sync::Arc;

use nearhop_fib::{Group, GroupId, Member, Spread, TIER_MAX, WhenDead};

use super::cost::{Candidate, Ranked, rank};
use super::{LegKey, LegState, Legs, Ports};
use crate::config::Config;
use crate::config::model::{Affinity, Service, Site, WhenAllDead};
use crate::ids::Family;
use crate::rib::ServiceSet;

/// Services with what is known of their legs.
#[derive(Clone, Copy)]
pub struct Services<'a> {
    pub(super) configured: &'a [Service],
    index: &'a HashMap<String, usize>,
    legs: &'a Legs,
    ports: &'a Ports,
}

/// The configuration in force.
pub(super) struct InForce {
    config: Arc<Config>,
    /// The place of each service, by its name.
    index: HashMap<String, usize>,
}

impl InForce {
    pub(super) fn new(config: Arc<Config>) -> Self {
        let names = config.services.iter().map(|service| service.name.clone());
        let index = names.enumerate().map(|(index, name)| (name, index)).collect();
        Self { config, index }
    }

    pub(super) fn config(&self) -> &Arc<Config> {
        &self.config
    }

    /// The service of this name.
    pub(super) fn service(&self, name: &str) -> Option<&Service> {
        self.config.services.get(*self.index.get(name)?)
    }
}

impl Deref for InForce {
    type Target = Config;

    fn deref(&self) -> &Config {
        &self.config
    }
}

impl<'a> Services<'a> {
    pub(super) fn new(config: &'a InForce, legs: &'a Legs, ports: &'a Ports) -> Self {
        Self { configured: &config.services, index: &config.index, legs, ports }
    }

    /// The service of this name.
    pub fn get(self, name: &str) -> Option<&'a Service> {
        self.configured.get(*self.index.get(name)?)
    }

    /// The legs of one site of a service in one family, by port.
    pub fn site_legs(
        self,
        service: &str,
        family: Family,
        site: &str,
    ) -> impl Iterator<Item = (&'a LegKey, &'a LegState)> + Clone + use<'a> {
        let (service, site) = (service.to_owned(), site.to_owned());
        let first = LegKey { service, family, site, port: String::new() };
        self.legs.from(first.clone()).take_while(move |(key, _)| {
            (key.family, &key.service, &key.site) == (first.family, &first.service, &first.site)
        })
    }

    /// The legs of a service, by family, site and port.
    pub fn legs_of(
        self,
        service: &str,
    ) -> impl Iterator<Item = (&'a LegKey, &'a LegState)> + Clone + use<'a> {
        let (service, site) = (service.to_owned(), String::new());
        let first = LegKey { service, family: Family::Ipv4, site, port: String::new() };
        self.legs.from(first.clone()).take_while(move |(key, _)| key.service == first.service)
    }

    /// What a site is compared by.
    pub(super) fn candidate<'s>(
        self,
        service: &Service,
        family: Family,
        site: &'s Site,
    ) -> Candidate<'s> {
        Candidate {
            name: &site.name,
            preference: site.preference,
            distance: self.distance(service, family, &site.name, site.cost),
        }
    }

    /// The service's sites from the best to the worst.
    pub fn ranking(self, service: &Service, family: Family) -> Vec<Ranked> {
        let sites = service.sites.iter();
        let candidates: Vec<Candidate<'_>> =
            sites.map(|site| self.candidate(service, family, site)).collect();
        rank(&candidates)
    }

    /// Whether a site that is ranked below this one is nearer: preference decided, not cost.
    pub fn is_preferred(self, service: &Service, family: Family, place: &Ranked) -> bool {
        let mine = self.candidate(service, family, &service.sites[place.index]);
        let below = service.sites.iter().map(|site| self.candidate(service, family, site));
        let mut below = below.filter(|other| other.preference < mine.preference);
        below.any(|other| other.distance < mine.distance)
    }

    /// Configured cost and latency of a site: that of its nearest link.
    pub fn distance(self, service: &Service, family: Family, site: &str, cost: u32) -> u64 {
        if service.latency_unit.is_none() {
            return u64::from(cost);
        }
        let legs = self.site_legs(&service.name, family, site);
        let nearest = legs.filter(|(_, leg)| leg.rtt.is_some() || leg.up);
        nearest.map(|(_, leg)| leg.distance.total(cost)).min().unwrap_or(u64::from(cost))
    }

    /// `next`: the group of the route that packets follow which no site takes, where there is one.
    pub(super) fn group(self, set: &ServiceSet, next: Option<GroupId>) -> Group {
        let Some(service) = self.get(&set.service) else { return Group::Unreachable };
        let when_dead = match service.when_all_dead {
            WhenAllDead::Drop => WhenDead::Drop,
            WhenAllDead::FailOpen => WhenDead::FailOpen,
            WhenAllDead::Covering | WhenAllDead::Unreachable => {
                next.map_or(WhenDead::Unreachable, WhenDead::Covering)
            }
        };
        let spread = match service.affinity {
            Affinity::None => Spread::Packet,
            Affinity::Hash => Spread::Flow,
        };
        Group::Forward { members: self.members(service, set.family), when_dead, spread }
    }

    /// A service's members: every link of every site, in the tiers of the cost rules.
    fn members(self, service: &Service, family: Family) -> Vec<Member> {
        let mut members = Vec::new();
        for Ranked { index, tier, .. } in self.ranking(service, family) {
            let site = &service.sites[index];
            let (tier, weight) = (tier.min(TIER_MAX), site.weight);
            for (key, leg) in self.site_legs(&service.name, family, &site.name) {
                let Some(port) = self.ports.get(&key.port) else { continue };
                let (path, adjacency) = (leg.path, port.adjacency);
                members.push(Member { path, adjacency, tier, weight, link_weight: 1 });
            }
        }
        members
    }
}
