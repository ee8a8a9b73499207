//! ICMP errors about packets that cannot be forwarded.
#![forbid(unsafe_code)]

use std::net::IpAddr;

use nearhop_fib::{Fib, Selected};

use super::{Snapshots, WorkerState};
use crate::batch::{Batch, Exit};
use crate::packet::error::{self, ErrorKind};
use crate::packet::offload::segment::Segments;
use crate::packet::{Meta, error::ERROR_MAX};
use crate::time::Nanos;
use crate::verdict::Verdict;

/// What senders are answered with. After all packets of a batch were decided: the way back is looked up
/// anew, and so has to be the port it leads to.
pub(super) struct Answering<'a> {
    pub(super) fib: &'a Fib,
    pub(super) snapshots: &'a mut Snapshots,
    pub(super) state: &'a mut WorkerState,
    pub(super) now: Nanos,
}

impl Answering<'_> {
    /// Answers what is owed.
    pub(super) fn answer_all(&mut self, batch: &mut Batch) {
        for owed in 0..self.state.owed.len() {
            let (index, kind) = self.state.owed[owed];
            self.answer(batch, index, kind);
        }
        self.state.owed.clear();
    }

    /// Tells the sender of packet `index`, if the rules and the rate limits allow it. Too-big errors
    /// have a bucket of their own: a flood of expiring TTLs must not make a path-MTU black hole.
    fn answer(&mut self, batch: &mut Batch, index: usize, kind: ErrorKind) {
        let packet = batch.packet(index).1;
        let Ok(meta) = Meta::parse(packet) else { return };
        if !error::may_answer(kind, packet, &meta) {
            return;
        }
        let bucket = match kind {
            ErrorKind::TooBig { .. } => &mut self.state.too_big_errors,
            _ => &mut self.state.other_errors,
        };
        if !bucket.take(self.now) {
            self.state.counters.errors_limited += 1;
            return;
        }
        let Some((exit, source)) = self.way_back(&meta) else {
            self.state.counters.errors_unroutable += 1;
            return;
        };
        let mut buffer = [0; ERROR_MAX];
        let Some(len) = self.build(batch, index, kind, source, &mut buffer) else { return };
        self.state.counters.originated += 1;
        if !batch.transmit_copy(&buffer[..len], exit, None, Verdict::Originate) {
            self.state.counters.count(Verdict::NoBuffer);
        }
    }

    /// Builds an error about packet `index`, or about a superframe's first segment: quoted is what
    /// the sender would have sent, its checksum completed.
    fn build(
        &mut self,
        batch: &Batch,
        index: usize,
        kind: ErrorKind,
        source: IpAddr,
        out: &mut [u8],
    ) -> Option<usize> {
        let (slot, packet) = batch.packet(index);
        if slot.offload.is_none() {
            return error::build(kind, packet, source, out);
        }
        let plan = Segments::plan(packet, slot.offload).ok()?;
        error::build(kind, plan.write(0, &mut self.state.segment_buffer)?, source, out)
    }

    /// The way an error to the packet's sender takes, and the address it comes from: that
    /// port's, else the router's own.
    fn way_back(&mut self, meta: &Meta) -> Option<(Exit, IpAddr)> {
        let group = self.fib.lookup(meta.src);
        let mut back = meta.flow;
        std::mem::swap(&mut back.src, &mut back.dst);
        std::mem::swap(&mut back.src_port, &mut back.dst_port);
        let flow = back.hash(self.snapshots.load().hash_seed);
        let selected = self.fib.select_by(group, |spread| self.state.hash(flow, spread));
        let Selected::Member { adjacency, .. } = selected else { return None };
        let snapshot = self.snapshots.load();
        let port = snapshot.adjacency(adjacency)?.port;
        let entry = snapshot.port(port)?;
        let source = match meta.src {
            IpAddr::V4(_) => entry.address_v4.or(snapshot.address_v4).map(IpAddr::V4),
            IpAddr::V6(_) => entry.address_v6.or(snapshot.address_v6).map(IpAddr::V6),
        };
        Some((Exit { adjacency, port }, source?))
    }
}
