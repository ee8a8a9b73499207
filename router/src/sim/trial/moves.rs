//! Moves of flows, and what the routers reported of them.
#![forbid(unsafe_code)]

use std::time::Duration;

use super::config::service_name;
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
    pub(super) fn is_explained(&self, reported: &[NodeEvent]) -> bool {
        let way = |one: &Arrival| {
            let routers = self.world.net.trail(FlowId(self.id), one.seq).unwrap_or_default();
            let mut names: Vec<String> = routers.iter().map(|at| format!("r{at}")).collect();
            names.push(one.site.clone());
            (routers, names)
        };
        let ((routers, before), (_, after)) = (way(self.before), way(self.after));
        let fork = before.iter().zip(&after).take_while(|(a, b)| a == b).count();
        // Every flow of a client reaches the same router first.
        let Some(&node) = fork.checked_sub(1).and_then(|last| routers.get(last)) else {
            return false;
        };
        let members = [before.get(fork), after.get(fork)];
        let sent = &self.flow.sent;
        let window = sent[self.before.seq.min(self.after.seq)]..=self.after.t;
        let family = Family::of(self.flow.dst.ip());
        let (from, to) = (*window.start(), *window.end());
        let restarted = self.world.absences.iter().any(|one| one.touches(node, from, to));
        let since = self.world.found_since(node, from, to);
        let window = since..=self.world.reported_by(node, from, to);
        let Some(address) = address_of(self.flow.dst.ip()) else { return false };
        let homes: Vec<String> =
            self.world.homes(node, address, from).into_iter().map(service_name).collect();
        let published_by = |end: Nanos| {
            reported.iter().any(|one| {
                let is_some = matches!(one.kind, EventKind::Publish { .. });
                is_some && one.node == node && (since..=end).contains(&one.t)
            })
        };
        let published = published_by(*window.end());
        // What the routes of neighbours decide is no choice among sites: it is published, and packets move
        // before the last step of that; or a session ends or a carrier comes or goes, by which they move to the
        // next best neighbour, or back, before anything is published.
        let soon = *window.end() + PUBLISHED_WITHIN;
        let switched = reported.iter().any(|one| {
            let is_one = matches!(one.kind, EventKind::Bgp { .. } | EventKind::Carrier { .. });
            is_one && one.node == node && (since..=soon).contains(&one.t)
        });
        let relearned = !self.world.layout.hosts(node) && (switched || published_by(soon));
        // A port that was lost says it of its site, also where what is chosen next is heard of late and at once.
        let unplugged = reported.iter().any(|one| {
            let EventKind::Carrier { port, up: false } = &one.kind else { return false };
            let site = port.split('-').next().unwrap_or(port);
            one.node == node
                && (since..=soon).contains(&one.t)
                && before.get(fork).is_some_and(|member| member == site)
        });
        let rehomed = published && homes.len() > 1;
        let mut selects = reported.iter().filter(|one| one.node == node && window.contains(&one.t));
        let (mut left, mut came) = (false, false);
        let named = selects.any(|one| {
            let EventKind::Select { service, family: of, member, from, to, .. } = &one.kind else {
                return false;
            };
            if *of != family || !homes.contains(service) {
                return false;
            }
            // By way of one that served no packet meanwhile.
            left |= before.get(fork).is_some_and(|member| from.contains(member));
            came |= after.get(fork).is_some_and(|member| to.contains(member));
            // What it heard amid a publication it reports by the costs that are to be.
            let passed = came && (left || published);
            member == "reload" || members.contains(&Some(member)) || passed
        });
        restarted || rehomed || relearned || unplugged || named
    }
}

/// The steps in which a neighbour's routes are published take no longer.
const PUBLISHED_WITHIN: Duration = Duration::from_millis(50);
