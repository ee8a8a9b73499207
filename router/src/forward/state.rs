//! A worker's forwarding state: counters, rate limits of errors, and the paths seen since the last
//! change.
#![forbid(unsafe_code)]

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use nearhop_fib::{Fib, FlowHash, PathId, Spread};

use super::admit::Admitted;
use super::snapshot::Snapshot;
use crate::batch::{BURST, Batch, PACKET_MAX};
use crate::limit::TokenBucket;
use crate::packet::error::ErrorKind;
use crate::time::Nanos;
use crate::verdict::Verdict;

/// Everything that the forwarding step changes besides the batch. Each worker has one.
pub struct WorkerState {
    /// Counters since the worker started.
    pub counters: Counters,
    /// First packets on each path since liveness or a group last changed, which the worker's shell
    /// takes out; at most [`FIRST_PACKETS_MAX`].
    pub first_packets: Vec<FirstPacket>,
    pub(super) too_big_errors: TokenBucket,
    pub(super) other_errors: TokenBucket,
    pub(super) copied_errors: TokenBucket,
    /// The packets of the current batch that were admitted.
    pub(super) admitted: Admitted,
    /// ICMP errors to send about packets of that batch, by index.
    pub(super) owed: Vec<(usize, ErrorKind)>,
    spreader: Spreader,
    pub(super) fragment_buffer: Box<[u8]>,
    /// Room for one segment of a superframe.
    pub(super) segment_buffer: Box<[u8]>,
    /// Number of IP identifications given out.
    identified: u64,
    changes: Arc<AtomicU64>,
    change_seen: u64,
    /// A bit for each path id: whether a packet left by it since the last change.
    paths_seen: Vec<u64>,
}

/// Hashes flows or, with per-packet spreading, packets.
struct Spreader {
    count: u64,
    /// Differs between workers, so that they spread packets differently.
    salt: u64,
}

impl Spreader {
    #[inline]
    fn hash(&mut self, flow: FlowHash, spread: Spread) -> FlowHash {
        match spread {
            Spread::Flow => flow,
            Spread::Packet => {
                self.count += 1;
                // The flow's hash contains the configured seed.
                FlowHash::of_packet(self.count, flow.site ^ self.salt)
            }
        }
    }
}

/// The first packet that left by a path since liveness or a group last changed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct FirstPacket {
    /// The path.
    pub path: PathId,
    /// When it was forwarded.
    pub t: Nanos,
}

impl WorkerState {
    /// State of worker `index` of `workers`. Threads that change liveness or groups increment
    /// `changes`.
    pub fn new(index: usize, workers: usize, changes: Arc<AtomicU64>) -> Self {
        let share = |total: u32| (total / workers.max(1) as u32).max(1);
        Self {
            counters: Counters::default(),
            first_packets: Vec::with_capacity(FIRST_PACKETS_MAX),
            too_big_errors: TokenBucket::new(share(ERRORS_PER_SECOND), share(ERRORS_BURST)),
            other_errors: TokenBucket::new(share(ERRORS_PER_SECOND), share(ERRORS_BURST)),
            copied_errors: TokenBucket::new(share(ERRORS_PER_SECOND), share(ERRORS_BURST)),
            admitted: Admitted::new(),
            owed: Vec::with_capacity(BURST),
            spreader: Spreader { count: 0, salt: index as u64 },
            fragment_buffer: vec![0; PACKET_MAX].into_boxed_slice(),
            segment_buffer: vec![0; PACKET_MAX].into_boxed_slice(),
            identified: 0,
            changes,
            change_seen: u64::MAX,
            paths_seen: Vec::new(),
        }
    }

    /// An IP identification that cannot be predicted without `seed` (RFC 7739).
    pub(super) fn next_id(&mut self, seed: u64) -> u32 {
        self.identified += 1;
        FlowHash::of_packet(self.identified, seed ^ self.spreader.salt).site as u32
    }

    /// Selects a member for each admitted packet.
    pub(super) fn select_all(&mut self, batch: &Batch, fib: &Fib, snapshot: &Snapshot) {
        let Self { admitted, spreader, .. } = self;
        admitted.select(batch, (fib, snapshot), |flow, spread| spreader.hash(flow, spread));
    }

    /// The hash by which a packet's member is selected.
    #[inline]
    pub(super) fn hash(&mut self, flow: FlowHash, spread: Spread) -> FlowHash {
        self.spreader.hash(flow, spread)
    }

    /// Starts noting first packets again if liveness or a group changed since the last batch.
    pub(super) fn follow_changes(&mut self) {
        let change = self.changes.load(Ordering::Acquire);
        if change != self.change_seen {
            self.change_seen = change;
            self.paths_seen.fill(0);
        }
    }

    /// Counts `packets` of `bytes` together on a path, and notes the first since the last change.
    #[inline]
    pub(super) fn note_path(&mut self, path: PathId, packets: u64, bytes: usize, now: Nanos) {
        let index = path.0 as usize;
        let (word, bit) = (index / 64, 1 << (index % 64));
        if self.counters.paths.len() <= index || self.paths_seen.len() <= word {
            self.make_room(index);
        }
        let count = &mut self.counters.paths[index];
        count.packets += packets;
        count.bytes += bytes as u64;
        if self.paths_seen[word] & bit == 0 {
            self.paths_seen[word] |= bit;
            self.note_first(path, now);
        }
    }

    #[cold]
    fn make_room(&mut self, index: usize) {
        let paths = self.counters.paths.len().max(index + 1);
        self.counters.paths.resize(paths, PathCount::default());
        self.paths_seen.resize(paths.div_ceil(64), 0);
    }

    #[cold]
    fn note_first(&mut self, path: PathId, t: Nanos) {
        if self.first_packets.len() < FIRST_PACKETS_MAX {
            self.first_packets.push(FirstPacket { path, t });
        }
    }
}

/// Counters of one worker. A superframe counts as its segments, so that the balance holds whatever
/// is joined or segmented: received + originated + split = the sum of [`Self::verdicts`].
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Counters {
    /// Packets read from ports.
    pub received: u64,
    /// Packets that the router made.
    pub originated: u64,
    /// Fragments made from larger packets.
    pub split: u64,
    /// ICMP errors not sent, or not copied to a site, because of rate limits.
    pub errors_limited: u64,
    /// ICMP errors not sent for lack of a port or a source address.
    pub errors_unroutable: u64,
    /// Packets by [`Verdict`].
    pub verdicts: [u64; Verdict::COUNT],
    /// Counters by path id.
    pub paths: Vec<PathCount>,
    /// Batches that contained packets: `received` divided by it is the mean batch size.
    pub batches: u64,
}

/// Packets that left by one path.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct PathCount {
    /// Packets.
    pub packets: u64,
    /// Bytes of IP packets.
    pub bytes: u64,
}

impl Counters {
    /// Counts one packet that ended with this verdict.
    #[inline]
    pub fn count(&mut self, verdict: Verdict) {
        self.verdicts[verdict as usize] += 1;
    }

    /// Counts `packets` that ended with this verdict.
    #[inline]
    pub fn count_all(&mut self, verdict: Verdict, packets: u64) {
        self.verdicts[verdict as usize] += packets;
    }

    /// Number of packets that ended with this verdict.
    pub fn of(&self, verdict: Verdict) -> u64 {
        self.verdicts[verdict as usize]
    }

    /// Adds another worker's counters.
    pub fn add(&mut self, other: &Self) {
        self.received += other.received;
        self.originated += other.originated;
        self.split += other.split;
        self.errors_limited += other.errors_limited;
        self.errors_unroutable += other.errors_unroutable;
        self.batches += other.batches;
        for (mine, theirs) in self.verdicts.iter_mut().zip(&other.verdicts) {
            *mine += theirs;
        }
        if self.paths.len() < other.paths.len() {
            self.paths.resize(other.paths.len(), PathCount::default());
        }
        for (mine, theirs) in self.paths.iter_mut().zip(&other.paths) {
            mine.packets += theirs.packets;
            mine.bytes += theirs.bytes;
        }
    }
}

impl Default for Counters {
    fn default() -> Self {
        Self {
            received: 0,
            originated: 0,
            split: 0,
            errors_limited: 0,
            errors_unroutable: 0,
            verdicts: [0; Verdict::COUNT],
            paths: Vec::new(),
            batches: 0,
        }
    }
}

/// The most first packets kept until the worker's shell takes them.
pub const FIRST_PACKETS_MAX: usize = 256;

/// ICMP errors per second that the whole router sends, or copies, for each of the three buckets.
const ERRORS_PER_SECOND: u32 = 1000;

/// ICMP errors in a burst, for each of the three buckets.
const ERRORS_BURST: u32 = 100;
