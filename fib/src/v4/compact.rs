//! The compact form: a word for each /16, and a node of a few cache lines for those /16s that
//! longer prefixes divide, in which equal neighbours share an answer (after poptrie: Asai and Ohara,
//! "Poptrie: A Compressed Trie with Population Count for Fast and Scalable Software IP Routing
//! Table Lookup", 2015).
//!
//! ```text
//! address ─▶ root: a word for each /16 ─▶ answer
//!                                       ─▶ node: rank of the /24 among its runs ─▶ answer
//!                                                                               ─▶ chunk
//! ```
//!
//! A node is one run of 64-byte lines, so that what follows its first is on the same page:
//!
//! ```text
//! 256 bits       bit v: the answer of value v differs from that of v - 1; bit 0 is set
//! 4 × 8 bits     for each word of those bits, how many are set before it, and FIRST_ANSWER - 1
//! n × 16 bits    the answers; 14 of them are in the first line
//! ```
//!
//! Where the runs begin never changes in a node: a change that moves them makes a new one, links it
//! by one store, and the old one is reused after its grace period. A change that moves none stores
//! the new answers where the old ones were.
#![forbid(unsafe_code)]

use core::net::Ipv4Addr;

use super::slot::{Chunks, widen};
use super::{Answers, BLOCKS, CHILD, VALUES, chunk_slot, short_slot};
use crate::group::GroupId;
use crate::memory::{Slab, prefetch};
use crate::popcount::Popcount;
use crate::rib::{STRIDE, for_each};
use crate::short::Short;
use crate::sync::{AtomicU16, AtomicU32, AtomicU64, Ordering};

/// The root, the nodes and the chunks.
pub(super) struct Compact {
    /// For each /16 its answer, or the word of its node: see [`node_word`].
    root: Slab<AtomicU32, BLOCKS>,
    /// All lines, one after the other.
    words: Slab<AtomicU64, { LINES * LINE_WORDS }>,
    pub(super) chunks: Chunks<AtomicU16>,
    /// Lines below this have been in use. Written by the writer, for [`Self::bytes`] alone.
    used: AtomicU32,
    popcount: Popcount,
}

impl Compact {
    pub(super) fn new() -> Self {
        Self {
            root: Slab::new(),
            words: Slab::new(),
            chunks: Chunks::new(),
            used: AtomicU32::new(0),
            popcount: Popcount::detect(),
        }
    }

    #[inline]
    pub(super) fn lookup(&self, addr: u32, short: &Short) -> u32 {
        let word = self.load_block(block_of(addr));
        // Where the answer is likely to be need not wait for the first line to say where it is.
        // Of a word that is an answer, whatever this fetches: to tell would cost more.
        prefetch(self.word(first_word(word) + likely_word(word, value_of(addr))));
        self.resolve(word, addr, short)
    }

    /// The root runs [`ROOT_AHEAD`] addresses ahead of the answers, and the nodes [`NODE_AHEAD`].
    #[inline(always)]
    #[allow(clippy::inline_always, reason = "compiled anew for each set of instructions")]
    pub(super) fn lookup_each<T: Copy>(
        &self,
        addrs: &[Ipv4Addr],
        short: &Short,
        found: &mut [T],
        make: impl Fn(GroupId) -> T,
    ) {
        let fetch_root = |addr: &Ipv4Addr| prefetch(&self.root[block_of(addr.to_bits())]);
        let fetch_node = |addr: &Ipv4Addr| self.fetch_node(addr.to_bits());
        addrs.iter().take(ROOT_AHEAD).for_each(fetch_root);
        addrs.iter().take(NODE_AHEAD).for_each(fetch_node);
        for (index, (addr, found)) in addrs.iter().zip(found).enumerate() {
            addrs.get(index + ROOT_AHEAD).into_iter().for_each(fetch_root);
            addrs.get(index + NODE_AHEAD).into_iter().for_each(fetch_node);
            let addr = addr.to_bits();
            let word = self.resolve(self.load_block(block_of(addr)), addr, short);
            *found = make(GroupId::of_word(word));
        }
    }

    /// What is said of a /24: its answer, or its chunk.
    pub(super) fn root(&self, slot: usize) -> u32 {
        let word = self.load_block(slot >> STRIDE);
        if word & CHILD == 0 { word } else { self.find(word, slot & (VALUES - 1)) }
    }

    /// What the values of a block say.
    pub(super) fn answers(&self, block: usize, answers: &mut Answers) {
        let word = self.load_block(block);
        if word & CHILD == 0 {
            return answers.fill(word as u16);
        }
        let mut of_runs = [0; VALUES];
        self.unpack(word, &mut of_runs);
        let mut run = usize::MAX;
        let starts = self.starts(word);
        for (values, mut bits) in answers.chunks_mut(64).zip(starts) {
            for answer in values {
                run = run.wrapping_add((bits & 1) as usize);
                *answer = of_runs[run % VALUES];
                bits >>= 1;
            }
        }
    }

    /// The answers of a node's runs.
    fn unpack(&self, word: u32, answers: &mut Answers) {
        let node = first_word(word);
        let first = self.word(node + STARTS).load(Ordering::Relaxed);
        let mut left = answers.iter_mut();
        let mut put = |word: u64, from: usize| {
            let parts = [word, word >> 16, word >> 32, word >> 48];
            parts[from..].iter().zip(&mut left).for_each(|(&part, answer)| *answer = part as u16);
        };
        put(first, FIRST_ANSWER % 4);
        for at in STARTS + 1..(FIRST_ANSWER + runs_of(word)).div_ceil(4) {
            put(self.word(node + at).load(Ordering::Relaxed), 0);
        }
    }

    /// Where the runs of a node begin.
    pub(super) fn starts(&self, word: u32) -> [u64; STARTS] {
        let node = first_word(word);
        core::array::from_fn(|nth| self.word(node + nth).load(Ordering::Relaxed))
    }

    /// The word of a block.
    #[inline]
    pub(super) fn load_block(&self, block: usize) -> u32 {
        // Acquire: who sees a node's line sees its words, who sees a group's number its lines.
        self.root[block].load(Ordering::Acquire)
    }

    pub(super) fn link_block(&self, block: usize, word: u32) {
        self.root[block].store(word, Ordering::Release);
    }

    /// Makes the words from a line on these, one after the other. Lines that readers can reach
    /// may differ from them in answers alone.
    pub(super) fn write(&self, line: u32, words: &[u64]) {
        let first = line as usize * LINE_WORDS;
        for (place, &new) in self.words[first..].iter().zip(words) {
            if place.load(Ordering::Relaxed) != new {
                place.store(new, Ordering::Release);
            }
        }
    }

    pub(super) fn note_use(&self, lines: u32) {
        self.used.store(lines, Ordering::Relaxed);
    }

    /// Bytes of what has been in use.
    pub(super) fn bytes(&self) -> usize {
        let lines = self.used.load(Ordering::Relaxed) as usize;
        self.root.bytes() + lines * LINE_WORDS * size_of::<AtomicU64>() + self.chunks.bytes()
    }

    pub(super) fn use_huge_pages(&self) {
        self.words.use_huge_pages();
    }

    pub(super) fn let_go(&self) {
        self.words.let_go();
        self.note_use(0);
    }

    /// What the word of a block says of `addr`.
    #[inline]
    fn resolve(&self, mut word: u32, addr: u32, short: &Short) -> u32 {
        if word & CHILD != 0 {
            word = self.find(word, value_of(addr));
            if word & CHILD != 0 {
                word = self.chunks.get(word & !CHILD, chunk_slot(addr));
            }
        }
        let short = short.get(short_slot(addr));
        if word == 0 { short } else { word }
    }

    /// What a node says of a value. The same steps for a node of any size.
    #[inline]
    fn find(&self, word: u32, value: usize) -> u32 {
        let node = first_word(word);
        let (nth, bit) = (value / 64 % STARTS, value % 64);
        let starts = self.word(node + nth).load(Ordering::Relaxed);
        let before = self.word(node + STARTS).load(Ordering::Relaxed) >> (8 * nth) & 0xff;
        let rank = self.popcount.of(starts << (63 - bit));
        widen(self.answer(node, before as usize + rank))
    }

    /// Answer `at`, in 16-bit steps from the node's start.
    #[inline]
    fn answer(&self, node: usize, at: usize) -> u16 {
        // Acquire: an answer may be newer than the node.
        let word = self.word(node + at / 4).load(Ordering::Acquire);
        (word >> (16 * (at % 4))) as u16
    }

    #[inline]
    fn word(&self, index: usize) -> &AtomicU64 {
        &self.words[index % (LINES * LINE_WORDS)]
    }

    #[inline]
    fn fetch_node(&self, addr: u32) {
        prefetch(self.word(first_word(self.load_block(block_of(addr)))));
    }
}

/// What the root says of a block that has a node: where it is, and how many runs it has, from
/// which follows where about the answer for a value is.
#[inline]
pub(super) fn node_word(line: u32, runs: usize) -> u32 {
    CHILD | (runs as u32 - 1) << LINE_BITS | line
}

/// The first line of a node.
#[inline]
pub(super) fn line_of(word: u32) -> u32 {
    word & (LINES as u32 - 1)
}

/// How many runs a node has.
#[inline]
pub(super) fn runs_of(word: u32) -> usize {
    (word >> LINE_BITS & 0xff) as usize + 1
}

/// The word of a node that has the answer for a value, were its runs equally long.
#[inline]
fn likely_word(word: u32, value: usize) -> usize {
    (FIRST_ANSWER + ((value * runs_of(word)) >> STRIDE)) / 4
}

/// The words of a node with these runs, for [`Compact::write`]; gives back how many there are.
pub(super) fn pack(
    starts: &[u64; STARTS],
    answers: &Answers,
    words: &mut [u64; NODE_WORDS_MAX],
) -> usize {
    words[..STARTS].copy_from_slice(starts);
    words[STARTS..].fill(0);
    let mut before = FIRST_ANSWER as u64 - 1;
    for (nth, bits) in starts.iter().enumerate() {
        words[STARTS] |= before << (8 * nth);
        before += u64::from(bits.count_ones());
    }
    let mut of_runs = [0; FIRST_ANSWER % 4 + VALUES + 3];
    let mut end = FIRST_ANSWER % 4;
    for_each(starts, |value| {
        of_runs[end] = answers[value];
        end += 1;
    });
    let count = end.div_ceil(4);
    for (word, parts) in words[STARTS..].iter_mut().zip(of_runs[..4 * count].as_chunks().0) {
        let [a, b, c, d] = parts.map(u64::from);
        *word |= a | b << 16 | c << 32 | d << 48;
    }
    STARTS + count
}

/// How many lines a node with so many runs takes.
pub(super) const fn lines_for(runs: usize) -> usize {
    (FIRST_ANSWER + runs).div_ceil(4 * LINE_WORDS)
}

#[inline]
fn block_of(addr: u32) -> usize {
    (addr >> (32 - 2 * u32::from(STRIDE))) as usize
}

#[inline]
fn value_of(addr: u32) -> usize {
    (addr >> (32 - 3 * u32::from(STRIDE))) as usize % VALUES
}

#[inline]
fn first_word(word: u32) -> usize {
    line_of(word) as usize * LINE_WORDS
}

/// 64-bit words of a line.
const LINE_WORDS: usize = 8;

/// Words of a node that say where its runs begin.
pub(super) const STARTS: usize = 4;

/// Where the answers of a node begin, in 16-bit steps from its start.
const FIRST_ANSWER: usize = 4 * STARTS + 2;

/// Words of the largest node.
pub(super) const NODE_WORDS_MAX: usize = (FIRST_ANSWER + VALUES).div_ceil(4);

/// Lines there is address space for: 64 MB.
pub(super) const LINES: usize = 1 << LINE_BITS;

const LINE_BITS: u32 = if cfg!(loom) { 3 } else { 20 };

/// Addresses by which fetching a node runs ahead of reading it.
const NODE_AHEAD: usize = 8;

/// Addresses by which fetching a word of the root runs ahead of reading the answer.
const ROOT_AHEAD: usize = 16;
