//! Copies of ICMP errors that do not say which flow they are about.
#![forbid(unsafe_code)]

use nearhop_fib::{AdjacencyId, Fib, PathId, Selected};

use super::{Snapshot, WorkerState};
use crate::batch::{Batch, Exit};
use crate::ids::PortId;
use crate::packet::decrement_ttl;
use crate::packet::offload::segment::Segments;
use crate::time::Nanos;
use crate::verdict::Verdict;

/// The inputs for copying.
pub(super) struct Copying<'a> {
    pub(super) fib: &'a Fib,
    /// Loaded after all groups were selected from.
    pub(super) snapshot: &'a Snapshot,
    pub(super) state: &'a mut WorkerState,
    pub(super) now: Nanos,
}

impl Copying<'_> {
    /// Copies the errors to services that quote a later fragment to every living site but the one
    /// that was selected, which gets the error itself. Without state nobody knows which site the
    /// fragment came from. Rate-limited, for a copy may be one of 64.
    pub(super) fn copy_all(&mut self, batch: &mut Batch) {
        let mut buffer = std::mem::take(&mut self.state.segment_buffer);
        for nth in 0..self.state.admitted.without_flow.len() {
            let place = usize::from(self.state.admitted.without_flow[nth]);
            let index = self.state.admitted.get(place).0;
            let (slot, packet) = batch.packet(index);
            let port = slot.port;
            // A checksum that was left out is completed.
            let whole = Segments::plan(packet, slot.offload).ok();
            let Some(len) = whole.and_then(|plan| Some(plan.write(0, &mut buffer)?.len())) else {
                continue;
            };
            // If its TTL expired, it is answered when it is sent.
            if decrement_ttl(&mut buffer[..len]) {
                self.copy(batch, place, port, &buffer[..len]);
            }
        }
        self.state.segment_buffer = buffer;
    }

    fn copy(&mut self, batch: &mut Batch, place: usize, ingress: PortId, packet: &[u8]) {
        let Self { fib, snapshot, state, now } = self;
        let (group, flow) = state.admitted.group_and_flow(place);
        let selected = state.admitted.get(place).1;
        fib.each_living_site(group, flow, |path: PathId, adjacency: AdjacencyId| {
            let Some(way) = snapshot.adjacency(adjacency) else { return };
            let is_selected = matches!(selected, Selected::Member { path: to, .. } if to == path);
            if is_selected || way.port == ingress || packet.len() > usize::from(way.mtu) {
                return;
            }
            if !state.copied_errors.take(*now) {
                state.counters.errors_limited += 1;
                return;
            }
            state.counters.originated += 1;
            let exit = Exit { adjacency, port: way.port };
            if !batch.transmit_copy(packet, exit, None, Verdict::Originate) {
                state.counters.count(Verdict::NoBuffer);
            }
        });
    }
}
