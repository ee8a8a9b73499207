//! Who has to serve, by what was done to the network alone.
//!
//! It knows links, sites, drains, costs and routes. It knows nothing of probes, verdicts, groups and
//! hashes: a router knows the same things only by these.
#![forbid(unsafe_code)]

use std::collections::BTreeSet;

use super::plan::{Leg, Plan, To, site_name};
use super::world::World;
use crate::port::memory::LinkState;
use crate::sim::{LinkId, Power};

pub(super) struct Oracle<'w> {
    world: &'w World,
    plan: &'w Plan,
    /// Told the wrong costs: the dearest is the cheapest.
    wrong: bool,
}

impl<'w> Oracle<'w> {
    pub(super) fn new(world: &'w World, wrong: bool) -> Self {
        Self { world, plan: &world.plan, wrong }
    }

    /// The sites of which one has to answer this client; nobody if packets to the site that the
    /// costs choose, or its answers, have no way.
    pub(super) fn sites(&self, client: usize) -> BTreeSet<String> {
        let at = self.plan.clients[client];
        let Some((last, legs)) = self.last(at, &mut Vec::new()) else { return BTreeSet::new() };
        if !self.leads(last, at, None) {
            return BTreeSet::new();
        }
        let site = |leg: &&Leg| match leg.to {
            To::Site(site) => Some(site_name(site)),
            To::Trunk(_) => None,
        };
        legs.iter().filter_map(site).collect()
    }

    /// The router whose own sites serve what comes to `router` by way of `seen`, and its legs to
    /// these.
    fn last(&self, router: usize, seen: &mut Vec<usize>) -> Option<(usize, Vec<&'w Leg>)> {
        let legs = self.choice(router, seen);
        match legs.first()?.to {
            To::Site(_) => Some((router, legs)),
            To::Trunk(trunk) => {
                seen.push(router);
                let last = self.last(self.plan.across(trunk, router), seen);
                seen.pop();
                last
            }
        }
    }

    /// The cheapest tier of the living legs of a router that are not drained; of all living ones if
    /// every one is drained.
    fn choice(&self, router: usize, seen: &mut Vec<usize>) -> Vec<&'w Leg> {
        let legs = self.plan.legs[router].iter();
        let alive: Vec<&Leg> = legs.filter(|leg| self.lives(router, leg.to, seen)).collect();
        let drained = |leg: &&&Leg| {
            let name = self.plan.leg_name(router, leg.to);
            self.world.drained.contains(&(router, name))
        };
        let open: Vec<&Leg> = alive.iter().filter(|leg| !drained(leg)).copied().collect();
        let legs = if open.is_empty() { alive } else { open };
        let cost = |leg: &&Leg| if self.wrong { u32::MAX - leg.cost } else { leg.cost };
        let cheapest = legs.iter().map(cost).min();
        legs.into_iter().filter(|leg| Some(cost(leg)) == cheapest).collect()
    }

    /// Whether packets to the service that a router sends by this leg are answered: its own probes
    /// too.
    fn lives(&self, router: usize, to: To, seen: &mut Vec<usize>) -> bool {
        match to {
            To::Site(site) => {
                let works = self.world.net.site(site).power == Power::On;
                works && self.up(self.world.site_links[site])
            }
            To::Trunk(trunk) => {
                let next = self.plan.across(trunk, router);
                if !self.up(self.world.trunk_links[trunk]) || seen.contains(&next) {
                    return false;
                }
                seen.push(router);
                let last = self.last(next, seen);
                seen.pop();
                last.is_some_and(|(last, _)| self.leads(last, next, Some(router)))
            }
        }
    }

    /// Whether the static routes lead from one router to another over links that are up.
    fn leads(&self, from: usize, to: usize, without: Option<usize>) -> bool {
        let mut at = from;
        while at != to {
            let Some(trunk) = self.plan.towards(at, to, without) else { return false };
            if !self.up(self.world.trunk_links[trunk]) {
                return false;
            }
            at = self.plan.across(trunk, at);
        }
        true
    }

    fn up(&self, link: LinkId) -> bool {
        self.world.net.link(link) == LinkState::Up
    }
}
