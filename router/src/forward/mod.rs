//! The forwarding step: what becomes of each packet of a batch. No I/O, no clock, no allocation per
//! packet: the same function runs in a worker, a test, a fuzzer and a simulation.
//!
//! ```text
//! admit ─▶ look up ─▶ select ─▶ send ─▶ answer: transmissions, punts, counted drops
//! ```
//!
//! Each stage is gone through for the whole batch before the next, so that the memory it needs is on
//! its way for many packets at once. And the order is what makes it safe: all lookups of a batch come
//! before the first group is read, all groups before the ports are: whatever was published before
//! an id that is found is seen by the time it is needed. Errors, which are looked up anew, come last, and
//! ask for the ports anew.
#![forbid(unsafe_code)]

mod adjacency;
mod admit;
mod answer;
mod cut;
mod egress;
mod limit;
mod local;
mod origin;
mod snapshot;
mod state;
#[cfg(test)]
mod tests;

use nearhop_fib::{AdjacencyId, Online, PathId, Selected};

pub use self::adjacency::{Adjacencies, Adjacency};
use self::admit::Gate;
use self::answer::Answering;
pub use self::egress::{Egress, Outlets, PlainOutlets, Scratch, Trouble};
pub use self::limit::TokenBucket;
pub use self::local::{Local, Locals};
pub use self::origin::originate;
pub use self::snapshot::{Broadcasts, PortEntry, Snapshot, Snapshots};
pub use self::state::{Counters, FIRST_PACKETS_MAX, FirstPacket, PathCount, WorkerState};
use crate::batch::{Batch, Exit};
use crate::packet::error::ErrorKind;
use crate::packet::{Meta, decrement_ttl};
use crate::time::Nanos;
use crate::verdict::Verdict;

/// Decides every packet of `batch`: afterwards its transmissions and punts say what is to be done,
/// and every packet that ends here is counted in `state`.
///
/// Bounded work: [`BURST`](crate::batch::BURST) packets, each looked up at most three times (its
/// source, its destination, an error about it).
pub fn forward(
    batch: &mut Batch,
    fib: &Online<'_>,
    snapshots: &mut Snapshots,
    state: &mut WorkerState,
    now: Nanos,
) {
    forward_watched(batch, fib, snapshots, state, now, |_| ());
}

/// As [`forward`]; `done` is called after each stage, in order. For who wants to know where time goes.
#[inline]
pub fn forward_watched(
    batch: &mut Batch,
    fib: &Online<'_>,
    snapshots: &mut Snapshots,
    state: &mut WorkerState,
    now: Nanos,
    mut done: impl FnMut(Stage),
) {
    let gate = Gate::new(fib, snapshots.load());
    state.admitted.fill(batch, &gate, &mut state.counters);
    done(Stage::Admit);
    state.admitted.look_up(fib);
    done(Stage::LookUp);
    state.select_all(batch, fib);
    done(Stage::Select);
    Step { snapshot: snapshots.load(), state, now }.carry_out(batch);
    done(Stage::Send);
    Answering { fib, snapshots, state, now }.answer_all(batch);
    done(Stage::Answer);
}

/// What the step does, each for all packets of the batch.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Stage {
    /// Headers are read and checked, flows hashed.
    Admit,
    /// Destinations are looked up.
    LookUp,
    /// Each flow's member is chosen.
    Select,
    /// TTL and MTU are checked, headers rewritten, packets queued or dropped.
    Send,
    /// Senders are told of drops.
    Answer,
}

/// How many packets packet `index` stands for. Everything is counted in these.
#[inline]
fn segments(batch: &Batch, index: usize) -> u64 {
    u64::from(batch.slot(index).shape.segments)
}

/// What one batch's decisions are made with.
struct Step<'a> {
    /// Loaded after all groups were read.
    snapshot: &'a Snapshot,
    state: &'a mut WorkerState,
    now: Nanos,
}

/// The way a packet takes.
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

    /// A packet that no member took.
    #[inline(never)]
    fn keep(&mut self, batch: &mut Batch, index: usize, selected: Selected) {
        if selected == Selected::Local {
            let lane = self.snapshot.locals.lane(batch.packet(index).1);
            return batch.punt(index, lane);
        }
        let (verdict, error) = refusal(selected);
        self.drop(batch, index, verdict, error);
    }

    /// The way out is not there any more.
    #[cold]
    fn lose(&mut self, batch: &Batch, index: usize) {
        self.state.counters.count_all(Verdict::NoPort, segments(batch, index));
    }

    /// Checks TTL and MTU, rewrites the packet, and queues it.
    #[inline]
    fn send(&mut self, batch: &mut Batch, index: usize, path: PathId, adjacency: AdjacencyId) {
        let Some(way) = self.snapshot.adjacency(adjacency) else { return self.lose(batch, index) };
        let (exit, mtu) = (Exit { adjacency, port: way.port }, way.mtu);
        // Of a superframe, its segments have to fit.
        if batch.slot(index).shape.segment_len > u32::from(mtu) {
            return self.send_too_big(batch, index, MemberEgress { path, exit, mtu });
        }
        if self.rewrite(batch, index, path) {
            batch.transmit(index, exit, Some(path), Verdict::Forward);
        }
    }

    /// Cuts a packet that lets itself be cut.
    #[cold]
    fn send_too_big(&mut self, batch: &mut Batch, index: usize, way: MemberEgress) {
        let meta = Meta::parse(batch.packet(index).1);
        // One that has come too far is answered for that.
        if meta.is_ok_and(|meta| meta.dont_fragment && meta.ttl > 1) {
            let error = Some(ErrorKind::TooBig { mtu: u32::from(way.mtu) });
            return self.drop(batch, index, Verdict::TooBig, error);
        }
        if self.rewrite(batch, index, way.path) {
            self.send_fragments(batch, index, way);
        }
    }

    /// Takes one from the TTL and counts the packet on its path; or ends it, and says `false`.
    #[inline(always)]
    #[allow(
        clippy::inline_always,
        reason = "once for nearly all packets, once for the few that are cut"
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

    /// Counts a packet that ends here; where that is called for, its sender is to be told.
    #[cold]
    fn drop(&mut self, batch: &Batch, index: usize, verdict: Verdict, error: Option<ErrorKind>) {
        self.state.counters.count_all(verdict, segments(batch, index));
        self.state.owed.extend(error.map(|error| (index, error)));
    }
}

/// How a packet ends that no member took, and what its sender is told.
fn refusal(selected: Selected) -> (Verdict, Option<ErrorKind>) {
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
