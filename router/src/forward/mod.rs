//! The forwarding step: decides what happens to each packet of a batch. No I/O, no clock, no
//! allocation per packet: the same function runs in a worker, a test, a fuzzer and a simulation.
//!
//! ```text
//! admit ─▶ look up ─▶ select ─▶ send ─▶ answer: transmissions, punts, counted drops
//! ```
//!
//! Each stage runs over the whole batch before the next one begins, so that memory accesses of many
//! packets overlap. The order is also what makes the step safe: all lookups come before the first
//! group is read, and all groups are read before the snapshot with the ports. Everything published
//! before an id is therefore visible when that id is used. Errors come last.
#![forbid(unsafe_code)]

mod addresses;
mod adjacency;
mod admit;
mod answer;
mod bfd;
mod copy;
mod cut;
mod egress;
mod local;
mod origin;
mod snapshot;
mod state;
#[cfg(test)]
mod tests;

use nearhop_fib::{AdjacencyId, Online, PathId, Selected};

pub use self::addresses::AddressSet;
pub use self::adjacency::{Adjacencies, Adjacency};
use self::admit::Gate;
use self::answer::Answering;
pub use self::bfd::{BfdGate, BfdPacket, KnownSession};
use self::copy::Copying;
pub use self::egress::{Egress, Outlets, Scratch, SyscallOutlets};
pub use self::local::{Local, Locals};
pub use self::origin::originate;
pub use self::snapshot::{Broadcasts, PortEntry, Snapshot, Snapshots};
pub use self::state::{Counters, FIRST_PACKETS_MAX, FirstPacket, PathCount, WorkerState};
use crate::batch::{Batch, Exit};
use crate::packet::error::ErrorKind;
use crate::packet::{Meta, decrement_ttl};
use crate::time::Nanos;
use crate::verdict::Verdict;

/// Decides about every packet of `batch`. Afterwards the batch holds its transmissions and punts,
/// and every packet that ends here is counted in `state`.
///
/// Bounded work: at most [`BURST`](crate::batch::BURST) packets with at most two lookups each
/// (source and destination), and as many copies of errors as their rate limit allows.
pub fn forward(
    batch: &mut Batch,
    fib: &Online<'_>,
    snapshots: &mut Snapshots,
    state: &mut WorkerState,
    now: Nanos,
) {
    forward_watched(batch, fib, snapshots, state, now, |_| ());
}

/// [`forward`], calling `done` after each stage, in order: for profiling.
#[inline]
pub fn forward_watched(
    batch: &mut Batch,
    fib: &Online<'_>,
    snapshots: &mut Snapshots,
    state: &mut WorkerState,
    now: Nanos,
    mut done: impl FnMut(Stage),
) {
    let gate = Gate::new(fib, snapshots.load(), batch.is_injected());
    state.admitted.fill(batch, &gate, &mut state.counters);
    done(Stage::Admit);
    state.admitted.look_up(fib);
    done(Stage::LookUp);
    state.select_all(batch, fib, snapshots.load());
    done(Stage::Select);
    if !state.admitted.without_flow.is_empty() {
        Copying { fib, snapshot: snapshots.load(), state, now }.copy_all(batch);
    }
    Step { snapshot: snapshots.load(), state, now }.carry_out(batch);
    done(Stage::Send);
    Answering { snapshots, state, now }.answer_all(batch);
    done(Stage::Answer);
}

/// The stages of the forwarding step. Each handles all packets of the batch.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Stage {
    /// Headers are read and checked, flows hashed.
    Admit,
    /// Destinations are looked up.
    LookUp,
    /// Each flow's member is selected.
    Select,
    /// TTL and MTU are checked, headers rewritten, packets queued or dropped.
    Send,
    /// ICMP errors are sent about dropped packets.
    Answer,
}

/// Number of packets on the wire that packet `index` is. All counters count these.
#[inline]
fn segments(batch: &Batch, index: usize) -> u64 {
    u64::from(batch.slot(index).shape.segments)
}

/// The inputs of the send stage.
struct Step<'a> {
    /// Loaded after all groups were read, so it contains their ports.
    snapshot: &'a Snapshot,
    state: &'a mut WorkerState,
    now: Nanos,
}

/// The selected member, with its port and MTU in bytes.
#[derive(Clone, Copy)]
struct MemberEgress {
    path: PathId,
    exit: Exit,
    mtu: u16,
}

impl Step<'_> {
    fn carry_out(&mut self, batch: &mut Batch) {
        self.state.follow_changes();
        for place in 0..self.state.admitted.len() {
            match self.state.admitted.get(place) {
                (index, Selected::Member { path, adjacency }) => {
                    self.send(batch, index, path, adjacency);
                }
                (index, other) => self.keep(batch, index, other),
            }
        }
    }

    /// Punts or drops a packet for which no member was selected.
    #[inline(never)]
    fn keep(&mut self, batch: &mut Batch, index: usize, selected: Selected) {
        if selected == Selected::Local {
            let lane = self.snapshot.locals.lane(batch.packet(index).1);
            return batch.punt(index, lane);
        }
        let (verdict, error) = refusal(selected);
        self.drop(batch, index, verdict, error);
    }

    /// Drops a packet because its adjacency was removed.
    #[cold]
    fn lose(&mut self, batch: &Batch, index: usize) {
        self.state.counters.count_all(Verdict::NoPort, segments(batch, index));
    }

    /// Checks TTL and MTU, rewrites the packet, and queues it.
    #[inline]
    fn send(&mut self, batch: &mut Batch, index: usize, path: PathId, adjacency: AdjacencyId) {
        let Some(way) = self.snapshot.adjacency(adjacency) else { return self.lose(batch, index) };
        let (exit, mtu) = (Exit { adjacency, port: way.port }, way.mtu);
        // The segments of a superframe have to fit, not the superframe.
        if batch.slot(index).shape.segment_len > u32::from(mtu) {
            return self.send_too_big(batch, index, MemberEgress { path, exit, mtu });
        }
        if self.rewrite(batch, index, path) {
            batch.transmit(index, exit, Some(path), Verdict::Forward);
        }
    }

    /// Fragments a packet that exceeds the MTU, or drops it if its sender forbids that.
    #[cold]
    fn send_too_big(&mut self, batch: &mut Batch, index: usize, way: MemberEgress) {
        let meta = Meta::parse(batch.packet(index).1);
        // An expired TTL takes precedence: `rewrite` reports it.
        if meta.is_ok_and(|meta| meta.dont_fragment && meta.ttl > 1) {
            let error = Some(ErrorKind::TooBig { mtu: u32::from(way.mtu) });
            return self.drop(batch, index, Verdict::TooBig, error);
        }
        if self.rewrite(batch, index, way.path) {
            self.send_fragments(batch, index, way);
        }
    }

    /// Decrements the TTL and counts the packet on its path. Returns `false` if the TTL expired and
    /// the packet was dropped.
    #[inline(always)]
    #[allow(
        clippy::inline_always,
        reason = "one call is for nearly all packets, the other for the few that are fragmented"
    )]
    fn rewrite(&mut self, batch: &mut Batch, index: usize, path: PathId) -> bool {
        let (slot, packet) = batch.packet_mut(index);
        if !decrement_ttl(packet) {
            self.drop(batch, index, Verdict::TtlExpired, Some(ErrorKind::TimeExceeded));
            return false;
        }
        let shape = slot.shape;
        let bytes = shape.bytes(packet.len());
        self.state.note_path(path, u64::from(shape.segments), bytes, self.now);
        true
    }

    /// Drops and counts a packet; `error`, if any, is sent in the answer stage.
    #[cold]
    fn drop(&mut self, batch: &Batch, index: usize, verdict: Verdict, error: Option<ErrorKind>) {
        self.state.counters.count_all(verdict, segments(batch, index));
        self.state.owed.extend(error.map(|error| (index, error)));
    }
}

/// The verdict and the ICMP error for a packet for which no member was selected.
pub fn refusal(selected: Selected) -> (Verdict, Option<ErrorKind>) {
    match selected {
        Selected::NoRoute => (Verdict::NoRoute, Some(ErrorKind::NetUnreachable)),
        Selected::Blackhole => (Verdict::Blackhole, None),
        Selected::Unreachable => (Verdict::Unreachable, Some(ErrorKind::HostUnreachable)),
        Selected::Prohibit => (Verdict::Prohibit, Some(ErrorKind::AdminProhibited)),
        Selected::AllDead { answer } => {
            (Verdict::AllDead, answer.then_some(ErrorKind::HostUnreachable))
        }
        Selected::UTurn { answer } => {
            (Verdict::UTurn, answer.then_some(ErrorKind::HostUnreachable))
        }
        Selected::CoveringLoop => (Verdict::CoveringLoop, None),
        Selected::Local | Selected::Member { .. } => (Verdict::Local, None),
    }
}
