//! ICMP errors about packets that cannot be forwarded.
#![forbid(unsafe_code)]

use std::net::IpAddr;

use super::{Snapshots, WorkerState};
use crate::batch::{Batch, Exit};
use crate::ids::PortId;
use crate::packet::error::{self, ErrorKind};
use crate::packet::offload::segment::Segments;
use crate::packet::{Meta, error::ERROR_MAX};
use crate::time::Nanos;
use crate::verdict::Verdict;

/// The inputs of the answer stage, which runs after all packets of a batch were decided.
pub(super) struct Answering<'a> {
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
        let (slot, packet) = batch.packet(index);
        let port = slot.port;
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
        let Some((exit, source)) = self.way_back(port, meta.src) else {
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
        let ident = self.state.next_id(self.snapshots.load().hash_seed) as u16;
        if slot.offload.is_none() {
            return error::build(kind, packet, source, ident, out);
        }
        let plan = Segments::plan(packet, slot.offload).ok()?;
        error::build(kind, plan.write(0, &mut self.state.segment_buffer)?, source, ident, out)
    }

    /// The way back to the sender of a packet that came in by `port`, and the source of an error in
    /// the sender's family: the address of that port, else one of the router's own.
    ///
    /// Not the route to the sender: if that is a service's address, it leads to any of its sites.
    fn way_back(&mut self, port: PortId, sender: IpAddr) -> Option<(Exit, IpAddr)> {
        let snapshot = self.snapshots.load();
        let entry = snapshot.port(port)?;
        let source = match sender {
            IpAddr::V4(_) => entry.address_v4.or(snapshot.address_v4).map(IpAddr::V4),
            IpAddr::V6(_) => entry.address_v6.or(snapshot.address_v6).map(IpAddr::V6),
        };
        Some((Exit { adjacency: entry.adjacency, port }, source?))
    }
}
