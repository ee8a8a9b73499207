//! Records the routers that packets of flows pass, and detects when one reaches a router twice.
#![forbid(unsafe_code)]

use std::collections::BTreeMap;

use super::client::{Direction, Flow, FlowId, read_numbers};
use crate::time::Nanos;

/// A packet reached a router that it had passed before.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Revisit {
    /// When.
    pub t: Nanos,
    /// The packet's flow.
    pub flow: FlowId,
    /// Number of the router.
    pub node: usize,
}

/// A router sent a packet on.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Departure {
    /// When.
    pub t: Nanos,
    /// Number of the router.
    pub node: usize,
    /// Name of the port it left by.
    pub port: String,
}

/// The trails of all packets of all flows.
#[derive(Default)]
pub(super) struct Trails {
    of: BTreeMap<(FlowId, usize, Direction), Trail>,
    returns: Vec<Revisit>,
}

/// The trail of one packet.
#[derive(Default)]
struct Trail {
    /// When it reached which router, in order.
    hops: Vec<(Nanos, usize)>,
    departures: Vec<Departure>,
    tainted: bool,
}

impl Trails {
    /// Records that a packet reaches a router. Copied or damaged packets are not checked: two
    /// copies that meet are no loop.
    pub(super) fn visit(&mut self, now: Nanos, node: usize, packet: &[u8], flows: &[Flow]) {
        let Some((flow, seq, way)) = read_numbers(packet, flows) else { return };
        let trail = self.of.entry((flow, seq, way)).or_default();
        if !trail.tainted && trail.hops.iter().any(|&(_, passed)| passed == node) {
            self.returns.push(Revisit { t: now, flow, node });
        }
        trail.hops.push((now, node));
    }

    /// Records that a router sends a packet by one of its ports.
    pub(super) fn depart(
        &mut self,
        now: Nanos,
        (node, port): (usize, &str),
        packet: &[u8],
        flows: &[Flow],
    ) {
        if let Some((flow, seq, Direction::ToSite)) = read_numbers(packet, flows) {
            let trail = self.of.entry((flow, seq, Direction::ToSite)).or_default();
            trail.departures.push(Departure { t: now, node, port: port.to_owned() });
        }
    }

    /// Marks a packet that is about to be copied or damaged, and its answers: every copy is
    /// answered.
    pub(super) fn taint(&mut self, packet: &[u8], flows: &[Flow]) {
        if let Some((flow, seq, _)) = read_numbers(packet, flows) {
            for way in [Direction::ToSite, Direction::ToClient] {
                self.of.entry((flow, seq, way)).or_default().tainted = true;
            }
        }
    }

    /// The routers that a packet of a flow passed on its way to a site; `None` if it was copied or
    /// damaged in either direction.
    pub(super) fn to_site(&self, flow: FlowId, seq: usize) -> Option<Vec<usize>> {
        Some(self.whole(flow, seq)?.hops.iter().map(|&(_, node)| node).collect())
    }

    pub(super) fn departures(&self, flow: FlowId, seq: usize) -> Option<&[Departure]> {
        Some(&self.whole(flow, seq)?.departures)
    }

    pub(super) fn visits(&self, flow: FlowId, seq: usize) -> Option<&[(Nanos, usize)]> {
        Some(&self.whole(flow, seq)?.hops)
    }

    /// One that was neither copied nor damaged.
    fn whole(&self, flow: FlowId, seq: usize) -> Option<&Trail> {
        self.of.get(&(flow, seq, Direction::ToSite)).filter(|trail| !trail.tainted)
    }

    pub(super) fn revisits(&self) -> &[Revisit] {
        &self.returns
    }
}
