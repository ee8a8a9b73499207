//! Moves of flows, and what the routers reported of them.
#![forbid(unsafe_code)]

use super::world::World;
use crate::event::EventKind;
use crate::ids::Family;
use crate::sim::{Arrival, Flow, FlowId, NodeEvent};

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
        let restarted = self.world.absences.iter().any(|absence| {
            absence.node == node && absence.from <= *window.end() && absence.to >= *window.start()
        });
        let mut selects = reported.iter().filter(|one| one.node == node && window.contains(&one.t));
        let (mut left, mut came) = (false, false);
        let named = selects.any(|one| {
            let EventKind::Select { family: of, member, from, to, .. } = &one.kind else {
                return false;
            };
            if *of != family {
                return false;
            }
            // By way of one that served no packet meanwhile.
            left |= before.get(fork).is_some_and(|member| from.contains(member));
            came |= after.get(fork).is_some_and(|member| to.contains(member));
            member == "reload" || members.contains(&Some(member)) || (left && came)
        });
        restarted || named
    }
}
