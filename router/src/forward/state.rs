//! What a worker owns: counters, error budgets, and what it has seen since things last changed.
#![forbid(unsafe_code)]

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use nearhop_fib::{Fib, FlowHash, PathId, Spread};

use super::admit::Admitted;
use super::limit::TokenBucket;
use crate::batch::{BURST, Batch, PACKET_MAX};
use crate::packet::error::ErrorKind;
use crate::time::Nanos;
use crate::verdict::Verdict;

/// Everything the forwarding step changes besides the batch. One for each worker.
pub struct WorkerState {
    /// Counted since the worker began.
    pub counters: Counters,
    /// First packets since liveness last changed, to be taken by the worker's shell; bounded by
    /// [`FIRST_PACKETS_MAX`].
    pub first_packets: Vec<FirstPacket>,
    pub(super) too_big_errors: TokenBucket,
    pub(super) other_errors: TokenBucket,
    /// Of the batch that is under way.
    pub(super) admitted: Admitted,
    /// Packets of that batch whose senders are to be told, and what.
    pub(super) owed: Vec<(usize, ErrorKind)>,
    spreader: Spreader,
    pub(super) fragment_buffer: Box<[u8]>,
    /// One segment of a superframe.
    pub(super) segment_buffer: Box<[u8]>,
    /// Packets that got an IP identification.
    identified: u64,
    changes: Arc<AtomicU64>,
    change_seen: u64,
    /// A bit for each path id that there are counters for.
    paths_seen: Vec<u64>,
}

/// Spreads packets one by one, where that is asked for.
struct Spreader {
    count: u64,
    /// Makes workers spread packets differently.
    salt: u64,
}

impl Spreader {
    #[inline]
    fn hash(&mut self, flow: FlowHash, spread: Spread) -> FlowHash {
        match spread {
            Spread::Flow => flow,
            Spread::Packet => {
                self.count += 1;
                // The flow's hash has the configured seed in it.
                FlowHash::of_packet(self.count, flow.site ^ self.salt)
            }
        }
    }
}

/// The first packet that left by a path since something last changed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct FirstPacket {
    /// The path.
    pub path: PathId,
    /// When.
    pub t: Nanos,
}

impl WorkerState {
    /// Worker `index` of `workers`. `changes` is raised by whoever changes liveness or groups.
    pub fn new(index: usize, workers: usize, changes: Arc<AtomicU64>) -> Self {
        let share = |total: u32| (total / workers.max(1) as u32).max(1);
        Self {
            counters: Counters::default(),
            first_packets: Vec::with_capacity(FIRST_PACKETS_MAX),
            too_big_errors: TokenBucket::new(share(ERRORS_PER_SECOND), share(ERRORS_BURST)),
            other_errors: TokenBucket::new(share(ERRORS_PER_SECOND), share(ERRORS_BURST)),
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

    /// An IP identification that nobody guesses who does not know `seed` (RFC 7739).
    pub(super) fn next_id(&mut self, seed: u64) -> u32 {
        self.identified += 1;
        FlowHash::of_packet(self.identified, seed ^ self.spreader.salt).site as u32
    }

    /// Chooses a member for each packet that was admitted.
    pub(super) fn select_all(&mut self, batch: &Batch, fib: &Fib) {
        let Self { admitted, spreader, .. } = self;
        admitted.select(batch, fib, |flow, spread| spreader.hash(flow, spread));
    }

    /// What a packet's member is chosen by.
    #[inline]
    pub(super) fn hash(&mut self, flow: FlowHash, spread: Spread) -> FlowHash {
        self.spreader.hash(flow, spread)
    }

    /// Looks whether something changed since the last batch: then packets are the first again.
    pub(super) fn follow_changes(&mut self) {
        let change = self.changes.load(Ordering::Acquire);
        if change != self.change_seen {
            self.change_seen = change;
            self.paths_seen.fill(0);
        }
    }

    /// Counts packets of `bytes` in all on a path, and notes whether they are the first since
    /// something changed.
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

/// Plain counters of one worker. A superframe counts as the packets it stands for, so that they
/// balance whatever is joined or taken apart:
/// received + originated + split = the sum of [`Self::verdicts`].
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Counters {
    /// Packets read from ports.
    pub received: u64,
    /// Packets made here.
    pub originated: u64,
    /// Fragments made of larger packets.
    pub split: u64,
    /// ICMP errors that rate limits held back.
    pub errors_limited: u64,
    /// ICMP errors for which there was no way back or no source address.
    pub errors_unroutable: u64,
    /// By [`Verdict`].
    pub verdicts: [u64; Verdict::COUNT],
    /// By path id.
    pub paths: Vec<PathCount>,
    /// Rounds in which packets came: with `received`, how many packets a wake-up brings.
    pub batches: u64,
}

/// What went out by one path.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct PathCount {
    /// Packets.
    pub packets: u64,
    /// Bytes of IP packets.
    pub bytes: u64,
}

impl Counters {
    /// Counts one packet's end.
    #[inline]
    pub fn count(&mut self, verdict: Verdict) {
        self.verdicts[verdict as usize] += 1;
    }

    /// Counts the end of a superframe's packets.
    #[inline]
    pub fn count_all(&mut self, verdict: Verdict, packets: u64) {
        self.verdicts[verdict as usize] += packets;
    }

    /// How many packets ended so.
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

/// First packets kept between two visits of the worker's shell.
pub const FIRST_PACKETS_MAX: usize = 256;

/// ICMP errors a second that the whole router sends, of each of the two kinds.
const ERRORS_PER_SECOND: u32 = 1000;

/// ICMP errors it sends at once.
const ERRORS_BURST: u32 = 100;
