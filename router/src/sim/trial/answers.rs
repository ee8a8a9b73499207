//! What packets get while a router publishes a configuration: the old answer or the new one, never a third.
#![forbid(unsafe_code)]

use std::fmt;
use std::time::Duration;

use super::config::router_name;
use super::world::World;
use crate::event::EventKind;
use crate::sim::{FlowId, NodeEvent, Publication};
use crate::time::Nanos;

/// What became of a packet of a flow while a router published.
pub(super) struct Answer {
    node: usize,
    before: Pass,
    now: Pass,
    after: Pass,
}

impl Answer {
    /// Whether it is the answer of before or, unless that is not accepted, of after.
    pub(super) fn is_right(&self, accepts_new: bool) -> bool {
        let port = &self.now.port;
        *port == self.before.port || accepts_new && *port == self.after.port
    }
}

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let way = |pass: &Pass| pass.port.clone().unwrap_or_else(|| "nowhere".to_owned());
        let (node, t) = (self.node, self.now.t);
        let (now, before, after) = (way(&self.now), way(&self.before), way(&self.after));
        write!(f, "r{node} sends it to {now} at {t}, before to {before}, then to {after}")
    }
}

/// A packet passes a router.
#[derive(Clone, Debug)]
struct Pass {
    /// When it left, or when it came in if it never left.
    t: Nanos,
    /// The router it came from.
    from: Option<usize>,
    /// The port it left by.
    port: Option<String>,
}

/// The answers that a flow got during publications which alone can have changed them: at that router nothing
/// else happened from the last packet before one to the first packet after it.
pub(super) fn of(world: &World, flow: FlowId) -> Vec<Answer> {
    let mut passes: Vec<Vec<Pass>> = vec![Vec::new(); world.layout.routers()];
    for seq in 0..world.net.flow(flow).sent.len() {
        pass_on(world, flow, seq, &mut passes);
    }
    for of_router in &mut passes {
        of_router.sort_by_key(|pass| pass.t);
    }
    let publications = world.net.publications().iter();
    publications.flat_map(|one| during(world, *one, &passes[one.node])).collect()
}

/// Notes which routers a packet passed. One that came to a router twice is left out.
fn pass_on(world: &World, flow: FlowId, seq: usize, passes: &mut [Vec<Pass>]) {
    let (Some(visits), Some(left)) = (world.net.visits(flow, seq), world.net.departures(flow, seq))
    else {
        return;
    };
    let mut from = None;
    for &(t, node) in visits {
        if visits.iter().filter(|(_, other)| *other == node).count() > 1 {
            return;
        }
        let departure = left.iter().find(|departure| departure.node == node);
        let (t, port) = departure.map_or((t, None), |one| (one.t, Some(one.port.clone())));
        passes[node].push(Pass { t, from, port });
        from = Some(node);
    }
}

fn during(world: &World, publication: Publication, passes: &[Pass]) -> Vec<Answer> {
    let Publication { node, from, to: Some(to), configs: 1 } = publication else {
        return Vec::new();
    };
    // Where BGP decides, something else can change the answer meanwhile.
    let speaks = !world.layout.speaks.is_empty();
    if !world.layout.hosts(node) {
        return Vec::new();
    }
    let first = passes.partition_point(|pass| pass.t < from);
    let end = passes.partition_point(|pass| pass.t <= to);
    let (Some(before), Some(after)) = (first.checked_sub(1), passes.get(end)) else {
        return Vec::new();
    };
    let before = &passes[before];
    if first == end || !is_alone(world, publication, before.t, after.t) {
        return Vec::new();
    }
    // A packet is not sent back where it came from.
    let like = |pass: &&Pass| pass.from == before.from && pass.from == after.from;
    let neighbors: Vec<String> = world.neighbors(node).map(router_name).collect();
    let is_learned = |pass: &Pass| pass.port.as_ref().is_none_or(|port| neighbors.contains(port));
    if speaks && (is_learned(before) || is_learned(after)) {
        return Vec::new();
    }
    let answer = |now: &Pass| Answer {
        node,
        before: before.clone(),
        now: now.clone(),
        after: after.clone(),
    };
    passes[first..end].iter().filter(like).map(answer).collect()
}

/// Whether nothing else can have changed the answers of the router in this time.
fn is_alone(world: &World, publication: Publication, from: Nanos, to: Nanos) -> bool {
    let node = publication.node;
    let other = |one: &Publication| {
        one.node == node
            && *one != publication
            && one.from <= to
            && one.to.is_none_or(|t| t >= from)
    };
    let (since, until) = (Nanos(from.0.saturating_sub(LATE_MAX.as_nanos() as u64)), to + LATE_MAX);
    let moves = |one: &NodeEvent| {
        let may_move = matches!(
            one.kind,
            EventKind::Carrier { .. }
                | EventKind::Damped { .. }
                | EventKind::Device { .. }
                | EventKind::Drain { .. }
                | EventKind::Site { .. }
        );
        may_move && one.node == node && (since..=until).contains(&one.t)
    };
    let spells = world.absences.iter().chain(&world.unrest);
    !world.net.publications().iter().any(other)
        && !world.net.events().iter().any(moves)
        && !spells.into_iter().any(|one| one.touches(node, since, until))
}

/// What an event reports reaches packets so much later at most, or earlier.
const LATE_MAX: Duration = Duration::from_millis(10);
