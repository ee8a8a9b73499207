//! Packets of the router's own: where they leave, and what is done to them for that.
#![forbid(unsafe_code)]

use nearhop_fib::{AdjacencyId, Fib, PathId, Selected};

use super::{Snapshots, WorkerState, refusal};
use crate::batch::{Batch, Exit, Transmission};
use crate::packet::{Meta, origin};
use crate::verdict::Verdict;

/// Sends `packet`, made by the router itself, by `pin`, or where the FIB says; it, or its fragments,
/// are put in `batch` as copies. Its TCP asks for no larger segments than the way out has room for.
///
/// Bounded: one lookup, and as many fragments as a batch has room for, all of them or none.
pub fn originate(
    packet: &mut [u8],
    pin: Option<AdjacencyId>,
    batch: &mut Batch,
    fib: &Fib,
    snapshots: &mut Snapshots,
    state: &mut WorkerState,
) {
    state.counters.originated += 1;
    let way = match pin {
        Some(adjacency) => Ok((adjacency, None)),
        None => choose(packet, fib, snapshots, state),
    };
    let verdict = match way {
        Ok((adjacency, path)) => emit(packet, adjacency, path, batch, snapshots, state),
        Err(verdict) => Some(verdict),
    };
    if let Some(verdict) = verdict {
        state.counters.count(verdict);
    }
}

fn choose(
    packet: &[u8],
    fib: &Fib,
    snapshots: &mut Snapshots,
    state: &mut WorkerState,
) -> Result<(AdjacencyId, Option<PathId>), Verdict> {
    let meta = Meta::parse(packet).map_err(|_| Verdict::Truncated)?;
    let group = fib.lookup(meta.dst);
    let flow = meta.flow.hash(snapshots.load().hash_seed);
    match fib.select_by(group, |spread| state.hash(flow, spread)) {
        Selected::Member { path, adjacency } => Ok((adjacency, Some(path))),
        other => Err(refusal(other).0),
    }
}

/// How the packet ends here, if it does.
fn emit(
    packet: &mut [u8],
    adjacency: AdjacencyId,
    path: Option<PathId>,
    batch: &mut Batch,
    snapshots: &mut Snapshots,
    state: &mut WorkerState,
) -> Option<Verdict> {
    let snapshot = snapshots.load();
    let Some(way) = snapshot.adjacency(adjacency) else { return Some(Verdict::NoPort) };
    let (exit, mtu) = (Exit { adjacency, port: way.port }, usize::from(way.mtu));
    origin::clamp_mss(packet, mtu);
    if packet.len() <= mtu {
        let taken = batch.transmit_copy(packet, exit, path, Verdict::Originate);
        return (!taken).then_some(Verdict::NoBuffer);
    }
    let id = state.next_id(snapshot.hash_seed);
    let mut room = batch.room_to_make();
    // A piece has at least the smallest MTU of IPv4 less a header of its own.
    let pieces = packet.len().div_ceil(mtu.saturating_sub(PIECE_HEADERS).max(1)) + 1;
    if !room.has(pieces, packet.len() + pieces * PIECE_HEADERS) {
        return Some(Verdict::NoBuffer);
    }
    let like = Transmission::template(exit, path, Verdict::FragmentSent);
    let mut buffer = std::mem::take(&mut state.fragment_buffer);
    let count = origin::split(packet, mtu, id, &mut buffer, |piece| room.put(piece, like));
    state.fragment_buffer = buffer;
    match count {
        Some(count) => {
            state.counters.split += count as u64;
            Some(Verdict::Fragmented)
        }
        None => Some(Verdict::TooBig),
    }
}

/// What each fragment repeats at most: an IPv6 header and a fragment header, or an IPv4 header; and the
/// bytes by which it falls short of the MTU.
const PIECE_HEADERS: usize = 60 + 8;
