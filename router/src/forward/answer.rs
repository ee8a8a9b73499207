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

/// The inputs of the answer stage. It runs after all packets of a batch were decided, so it does a
/// lookup for each error and loads the snapshot again, which then contains the port found.
pub(super) struct Answering<'a> {
    pub(super) fib: &'a Fib,
    pub(super) snapshots: &'a mut Snapshots,
    pub(super) state: &'a mut WorkerState,
    pub(super) now: Nanos,
}

impl Answering<'_> {
    /// Sends the ICMP errors that earlier stages queued.
    pub(super) fn answer_all(&mut self, batch: &mut Batch) {
        for owed in 0..self.state.owed.len() {
            let (index, kind) = self.state.owed[owed];
            self.answer(batch, index, kind);
        }
        self.state.owed.clear();
    }

    /// Sends an ICMP error about packet `index` if the rules and the rate limits allow it. Too-big
    /// errors have a token bucket of their own: a flood of packets with expiring TTLs must not
    /// break path MTU discovery.
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

    /// Builds an error about packet `index`. For a superframe it quotes the first segment, its
    /// checksum complete, as the sender would have sent it.
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

    /// The adjacency by which an error to the packet's sender leaves, and the error's source
    /// address: that of the port, else one of the router's own.
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
