//! Which routers the packets of flows pass, and whether they come to one again.
#![forbid(unsafe_code)]

use std::collections::BTreeMap;

use super::client::{Flow, FlowId, Way, read_numbers};
use crate::time::Nanos;

/// A packet came to a router that it had been to before.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Return {
    /// When.
    pub t: Nanos,
    /// Whose packet.
    pub flow: FlowId,
    /// The router.
    pub node: usize,
}

/// The way of every packet of every flow.
#[derive(Default)]
pub(super) struct Trails {
    of: BTreeMap<(FlowId, usize, Way), Trail>,
    returns: Vec<Return>,
}

/// The way of one packet.
#[derive(Default)]
struct Trail {
    /// The routers in order.
    hops: Vec<usize>,
    tainted: bool,
}

impl Trails {
    /// A packet comes to a router. What was copied or damaged on its way counts no more: two copies
    /// that meet are no loop.
    pub(super) fn visit(&mut self, now: Nanos, node: usize, packet: &[u8], flows: &[Flow]) {
        let Some((flow, seq, way)) = read_numbers(packet, flows) else { return };
        let trail = self.of.entry((flow, seq, way)).or_default();
        if !trail.tainted && trail.hops.contains(&node) {
            self.returns.push(Return { t: now, flow, node });
        }
        trail.hops.push(node);
    }

    /// A packet is about to be copied or damaged. Every copy is answered, so the answers are copies
    /// too.
    pub(super) fn taint(&mut self, packet: &[u8], flows: &[Flow]) {
        if let Some((flow, seq, _)) = read_numbers(packet, flows) {
            for way in [Way::ToSite, Way::ToClient] {
                self.of.entry((flow, seq, way)).or_default().tainted = true;
            }
        }
    }

    /// The routers that a packet of a flow passed on its way to a site; `None` if it was copied or
    /// damaged in either direction.
    pub(super) fn to_site(&self, flow: FlowId, seq: usize) -> Option<Vec<usize>> {
        let trail = self.of.get(&(flow, seq, Way::ToSite))?;
        (!trail.tainted).then(|| trail.hops.clone())
    }

    pub(super) fn returns(&self) -> &[Return] {
        &self.returns
    }
}
