//! Moves of flows, and what the routers reported of them.
#![forbid(unsafe_code)]

use std::ops::RangeInclusive;
use std::time::Duration;

use super::config::{router_name, service_name};
use super::world::{World, address_of};
use crate::event::EventKind;
use crate::ids::Family;
use crate::sim::{Arrival, Flow, FlowId, NodeEvent};
use crate::time::Nanos;

/// Two answers to one flow from different sites.
pub(super) struct FlowMove<'m> {
    pub(super) world: &'m World,
    pub(super) id: usize,
    pub(super) flow: &'m Flow,
    pub(super) before: &'m Arrival,
    pub(super) after: &'m Arrival,
}

impl FlowMove<'_> {
    /// Whether the router at which the two ways part reported why.
    pub(super) fn is_explained(&self, events: &[NodeEvent]) -> bool {
        let Some(fork) = self.fork() else { return false };
        let sent = &self.flow.sent;
        let (from, to) = (sent[self.before.seq.min(self.after.seq)], self.after.t);
        if self.world.absences.iter().any(|one| one.touches(fork.node, from, to)) {
            return true;
        }
        let Some(address) = address_of(self.flow.dst.ip()) else { return false };
        let homes = self.world.homes(fork.node, address, from);
        let since = self.world.found_since(fork.node, from, to);
        let by = self.world.reported_by(fork.node, from, to);
        let reports = Reports {
            homes: homes.into_iter().map(service_name).collect(),
            family: Family::of(self.flow.dst.ip()),
            is_superseded: self.world.reloads_of(fork.node, since, by) > 1,
            window: since..=by,
            is_learned: !self.world.layout.hosts(fork.node) || self.is_led_on(&fork),
            events,
            fork,
        };
        reports.explain()
    }

    /// Whether a packet that none of the router's sites took followed what a neighbour announces.
    fn is_led_on(&self, fork: &Fork) -> bool {
        let is_router =
            |name: &String| (0..self.world.layout.routers()).any(|n| router_name(n) == *name);
        let mut ways = fork.before.iter().chain(&fork.after);
        !self.world.layout.speaks.is_empty() && ways.any(is_router)
    }

    /// Where the ways of the two packets part. Every flow of a client reaches the same router first.
    fn fork(&self) -> Option<Fork> {
        let way = |one: &Arrival| {
            let routers = self.world.net.trail(FlowId(self.id), one.seq).unwrap_or_default();
            let mut names: Vec<String> = routers.iter().map(|at| format!("r{at}")).collect();
            names.push(one.site.clone());
            (routers, names)
        };
        let ((routers, before), (_, after)) = (way(self.before), way(self.after));
        let fork = before.iter().zip(&after).take_while(|(a, b)| a == b).count();
        let node = *routers.get(fork.checked_sub(1)?)?;
        Some(Fork { node, before: before.get(fork).cloned(), after: after.get(fork).cloned() })
    }
}

/// The router at which two ways part, and its members that they lead to.
struct Fork {
    node: usize,
    before: Option<String>,
    after: Option<String>,
}

impl Fork {
    fn leads_to(&self, member: &String) -> bool {
        self.before.as_ref() == Some(member) || self.after.as_ref() == Some(member)
    }
}

/// What the router at a fork reported about the time in which a flow moved.
struct Reports<'m> {
    events: &'m [NodeEvent],
    fork: Fork,
    /// The services that the address may have belonged to.
    homes: Vec<String>,
    family: Family,
    /// When what moved the flow is reported.
    window: RangeInclusive<Nanos>,
    /// Whether a reload came in that time while another was being published.
    is_superseded: bool,
    /// Whether the routes of neighbours may decide, where no site of the router is left.
    is_learned: bool,
}

impl Reports<'_> {
    fn explain(&self) -> bool {
        let published = self.published_by(*self.window.end());
        // What is reported at the end of a publication is what differs from before it: not what the first of
        // several configurations moved, and the last moved back.
        let rehomed = published && (self.homes.len() > 1 || self.is_superseded);
        // By the costs that are to be, news of a member may change nothing, while packets follow those that
        // are published until the publication's last step.
        let heard = published && self.heard_of_a_member();
        rehomed || heard || self.relearned() || self.unplugged() || self.selected(published)
    }

    fn published_by(&self, end: Nanos) -> bool {
        self.until(end).any(|kind| matches!(kind, EventKind::Publish { .. }))
    }

    /// What the routes of neighbours decide is no choice among sites: it is published, and packets move before
    /// the last step of that; or a session ends or a carrier comes or goes, by which they move to the next best
    /// neighbour, or back, before anything is published.
    fn relearned(&self) -> bool {
        let is_switch =
            |kind: &EventKind| matches!(kind, EventKind::Bgp { .. } | EventKind::Carrier { .. });
        let soon = self.soon();
        self.is_learned && (self.until(soon).any(is_switch) || self.published_by(soon))
    }

    /// A port that was lost says it of its site, also where what is chosen next is heard of late and at once.
    fn unplugged(&self) -> bool {
        self.until(self.soon()).any(|kind| {
            let EventKind::Carrier { port, up: false } = kind else { return false };
            let site = port.split('-').next().unwrap_or(port);
            self.fork.before.as_deref() == Some(site)
        })
    }

    fn heard_of_a_member(&self) -> bool {
        self.until(*self.window.end()).any(|kind| {
            let EventKind::Site { service, site, family, .. } = kind else { return false };
            self.is_of(service, *family) && self.fork.leads_to(site)
        })
    }

    fn selected(&self, published: bool) -> bool {
        let (mut left, mut came) = (false, false);
        self.until(*self.window.end()).any(|kind| {
            let EventKind::Select { service, family, member, from, to, .. } = kind else {
                return false;
            };
            if !self.is_of(service, *family) {
                return false;
            }
            // By way of one that served no packet meanwhile.
            left |= self.fork.before.as_ref().is_some_and(|member| from.contains(member));
            came |= self.fork.after.as_ref().is_some_and(|member| to.contains(member));
            // What it heard amid a publication it reports by the costs that are to be.
            let passed = came && (left || published);
            member == "reload" || self.fork.leads_to(member) || passed
        })
    }

    fn is_of(&self, service: &String, family: Family) -> bool {
        family == self.family && self.homes.contains(service)
    }

    /// What the fork's router reported from the window's begin to this time.
    fn until(&self, end: Nanos) -> impl Iterator<Item = &EventKind> {
        let window = *self.window.start()..=end;
        let node = self.fork.node;
        let is_in = move |one: &&NodeEvent| one.node == node && window.contains(&one.t);
        self.events.iter().filter(is_in).map(|one| &one.kind)
    }

    fn soon(&self) -> Nanos {
        *self.window.end() + PUBLISHED_WITHIN
    }
}

/// The steps in which a neighbour's routes are published take no longer.
const PUBLISHED_WITHIN: Duration = Duration::from_millis(50);
