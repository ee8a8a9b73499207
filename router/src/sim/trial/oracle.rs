//! Derives which sites must serve a client, from what was done to the network alone.
//!
//! The oracle knows links, sites, drains, costs and routes. It does not use probes, verdicts,
//! groups or hashes, which are all that a router has.
#![forbid(unsafe_code)]

use std::collections::BTreeSet;

use super::config::site_name;
use super::layout::{Layout, Leg, LegTarget};
use super::world::World;
use crate::port::memory::LinkState;
use crate::sim::{LinkId, Power};

pub(super) struct Oracle<'w> {
    world: &'w World,
    layout: &'w Layout,
    /// Use wrong costs: the most expensive leg counts as the cheapest.
    wrong: bool,
}

impl<'w> Oracle<'w> {
    pub(super) fn new(world: &'w World, wrong: bool) -> Self {
        Self { world, layout: &world.layout, wrong }
    }

    /// The sites of which one must answer packets of this client to an address; empty if packets to the site
    /// that the costs select, or its answers, cannot get through.
    pub(super) fn sites(&self, client: usize, address: usize) -> BTreeSet<String> {
        let at = self.layout.clients[client];
        let Some((last, legs)) = self.last(at, address, &mut Vec::new()) else {
            return BTreeSet::new();
        };
        if !self.leads(last, at, None) {
            return BTreeSet::new();
        }
        let site = |leg: &&Leg| match leg.to {
            LegTarget::Site(site) => Some(site_name(site)),
            LegTarget::Trunk(_) => None,
        };
        legs.iter().filter_map(site).collect()
    }

    /// The router whose own sites serve what reaches `router` by way of `seen`, and its legs to
    /// them. One whose sites are all dead or drained follows a neighbour that announces the address, or else takes
    /// drained ones.
    fn last(
        &self,
        router: usize,
        address: usize,
        seen: &mut Vec<usize>,
    ) -> Option<(usize, Vec<&'w Leg>)> {
        let service = self.layout.homes[router][address];
        let follows = !self.layout.speaks.is_empty() && !self.is_left(router, service, seen);
        let next = if follows { self.announcer(router, address) } else { None };
        let router = next.unwrap_or(router);
        let legs = self.choice(router, self.layout.homes[router][address], seen);
        match legs.first()?.to {
            LegTarget::Site(_) => Some((router, legs)),
            LegTarget::Trunk(trunk) => {
                seen.push(router);
                let last = self.last(self.layout.across(trunk, router), address, seen);
                seen.pop();
                last
            }
        }
    }

    /// Whether any leg of a service is alive and not drained.
    fn is_left(&self, router: usize, service: usize, seen: &mut Vec<usize>) -> bool {
        self.layout.legs[router][service].iter().any(|leg| {
            let name = self.layout.leg_name(router, leg.to);
            let is_drained = self.world.drained.contains(&(router, name));
            !is_drained && self.lives(router, service, leg.to, seen)
        })
    }

    /// The neighbour whose path to an address a router uses of which no site is left. All paths are one AS long: the
    /// lowest identifier decides, which grows with the number.
    fn announcer(&self, router: usize, address: usize) -> Option<usize> {
        let trunks = self.layout.trunks.iter().enumerate().filter(|(_, e)| e.contains(&router));
        let open = trunks.filter(|(trunk, _)| self.up(self.world.trunk_links[*trunk]));
        let others = open.map(|(trunk, _)| self.layout.across(trunk, router));
        let announcing = others.filter(|&other| self.announces(other, address));
        if self.wrong { announcing.max() } else { announcing.min() }
    }

    /// Whether a router announces an address to those it is linked with.
    pub(super) fn announces(&self, router: usize, address: usize) -> bool {
        let exports = self.layout.speaks.get(router).is_some_and(|speaks| speaks.exports);
        exports && self.world.net.runs(router) && self.serves(router, address)
    }

    /// Whether as many of a router's own sites for an address as it takes are well and not drained.
    pub(super) fn serves(&self, router: usize, address: usize) -> bool {
        let service = self.layout.homes[router][address];
        let legs = self.layout.legs[router][service].iter();
        let well = legs.filter(|leg| {
            let name = self.layout.leg_name(router, leg.to);
            let is_drained = self.world.drained.contains(&(router, name));
            !is_drained && self.lives(router, service, leg.to, &mut Vec::new())
        });
        let needed = self.layout.speaks.get(router).map_or(1, |speaks| speaks.min_sites);
        well.count() >= needed
    }

    /// The cheapest tier among a service's living legs at a router that are not drained; among all living
    /// ones if every one is drained.
    fn choice(&self, router: usize, service: usize, seen: &mut Vec<usize>) -> Vec<&'w Leg> {
        let legs = self.layout.legs[router][service].iter();
        let lives = |leg: &&Leg| self.lives(router, service, leg.to, seen);
        let alive: Vec<&Leg> = legs.filter(lives).collect();
        let drained = |leg: &&&Leg| {
            let name = self.layout.leg_name(router, leg.to);
            self.world.drained.contains(&(router, name))
        };
        let open: Vec<&Leg> = alive.iter().filter(|leg| !drained(leg)).copied().collect();
        let legs = if open.is_empty() { alive } else { open };
        let cost = |leg: &&Leg| if self.wrong { u32::MAX - leg.cost } else { leg.cost };
        let cheapest = legs.iter().map(cost).min();
        legs.into_iter().filter(|leg| Some(cost(leg)) == cheapest).collect()
    }

    /// Whether the router's own probes of this leg are answered: they go to the service's first address.
    fn lives(&self, router: usize, service: usize, to: LegTarget, seen: &mut Vec<usize>) -> bool {
        match to {
            LegTarget::Site(site) => {
                let works = self.world.net.site(site).power == Power::On;
                works && self.up(self.world.site_links[site])
            }
            LegTarget::Trunk(trunk) => {
                let next = self.layout.across(trunk, router);
                if !self.up(self.world.trunk_links[trunk]) || seen.contains(&next) {
                    return false;
                }
                let probed = self.layout.addresses(router, service).next();
                seen.push(router);
                let last = probed.and_then(|address| self.last(next, address, seen));
                seen.pop();
                last.is_some_and(|(last, _)| self.leads(last, next, Some(router)))
            }
        }
    }

    /// Whether the static routes reach one router from another over links that are up.
    fn leads(&self, from: usize, to: usize, without: Option<usize>) -> bool {
        let mut at = from;
        while at != to {
            let Some(trunk) = self.layout.towards(at, to, without) else { return false };
            if !self.up(self.world.trunk_links[trunk]) {
                return false;
            }
            at = self.layout.across(trunk, at);
        }
        true
    }

    pub(super) fn up(&self, link: LinkId) -> bool {
        self.world.net.link(link) == LinkState::Up
    }
}
