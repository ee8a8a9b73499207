//! Sends the router's own packets.
#![forbid(unsafe_code)]

use nearhop_fib::{AdjacencyId, Fib, PathId, Selected};

use super::{Snapshots, WorkerState, refusal};
use crate::batch::{Batch, Exit, Transmission};
use crate::packet::{Meta, origin};
use crate::verdict::Verdict;

/// Queues copies of `packet`, which the router made, or of its fragments in `batch`. It leaves by
/// the adjacency `pin`, or where the FIB directs it. The MSS of a TCP SYN is clamped to the MTU.
///
/// Bounded: one lookup, and at most as many fragments as a batch has room for; all of them or none
/// are queued.
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
    let meta = Meta::parse(packet)?;
    let group = fib.lookup(meta.dst);
    let flow = meta.flow.hash(snapshots.load().hash_seed);
    match fib.select_by(group, |spread| state.hash(flow, spread)) {
        Selected::Member { path, adjacency } => Ok((adjacency, Some(path))),
        // It is delivered to nobody: it came in by no port.
        Selected::Local => Err(Verdict::ToSelf),
        other => Err(refusal(other).0),
    }
}

/// Queues the packet, or returns the verdict that ends it here.
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
    let exit = Exit { adjacency, port: way.port };
    let mtu = origin::mtu_of_own(packet, usize::from(way.mtu));
    origin::clamp_mss(packet, mtu);
    if packet.len() <= mtu {
        let taken = batch.transmit_copy(packet, exit, path, Verdict::Originate);
        return (!taken).then_some(Verdict::NoBuffer);
    }
    let id = state.next_id(snapshot.hash_seed);
    let mut room = batch.room_to_make();
    // The payload of a fragment is at least the MTU less `PIECE_HEADERS`.
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
        // Of those that are whole, what has no room in fragments.
        None => Some(Meta::parse(packet).err().unwrap_or(Verdict::TooBig)),
    }
}

/// The most bytes of the MTU that a fragment does not use for payload: an IPv6 header with a
/// fragment header, or an IPv4 header, and the rounding to units of 8 bytes.
const PIECE_HEADERS: usize = 60 + 8;
