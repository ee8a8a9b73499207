//! What every table must be able to do to be measured, and how its answers are checked.
#![forbid(unsafe_code)]

use std::hint::black_box;

use super::keys::{Keys, Route, Word};
use crate::report::BenchError;

/// A table under measurement.
pub trait Contestant<W: Word> {
    /// Its name, with the way it looks up.
    fn name(&self) -> &str;

    /// Who made it.
    fn maker(&self) -> Maker;

    /// Looks all keys up, `batch` at a time, and stores a word for each into `out`, which is used
    /// from the beginning again when it is full (as a router's buffer for one burst is). The
    /// number of keys is a multiple of `batch`, and `out` holds a multiple of it.
    fn pass(&mut self, keys: &Keys<W>, batch: usize, out: &mut [u64]);

    /// Looks up as many keys as `out` has room for, one after the other: each waits for the answer
    /// before it.
    fn chain(&mut self, keys: &Keys<W>, out: &mut [u64]);

    /// The number of the next hop that a stored word means, or [`NONE`].
    fn number(&self, stored: u64) -> u32;

    /// Adds a route.
    fn insert(&mut self, route: &Route<W>) -> Result<(), BenchError>;

    /// Reads the keys of a pass, in the form it takes, to the end: whoever has its keys to itself
    /// would otherwise find them further away than those who share theirs.
    fn touch(&self, keys: &Keys<W>);

    /// The code it looks up by now, if it chooses among several.
    fn code(&self) -> Option<&'static str> {
        None
    }

    /// Removes a route.
    fn remove(&mut self, route: &Route<W>) -> Result<(), BenchError>;

    /// What is known of it besides speed.
    fn facts(&self) -> Facts;
}

/// Who made a contestant.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Maker {
    /// This project.
    Nearhop,
    /// DPDK: `rte_fib` and `rte_fib6`.
    DpdkFib,
    /// DPDK: `rte_lpm` and `rte_lpm6`.
    DpdkLpm,
    /// A Rust crate.
    Crate,
    /// PlanB.
    PlanB,
}

/// What is known when a table has been built.
#[derive(Clone, Copy, Debug, Default)]
pub struct Facts {
    /// Seconds to put all routes into an empty table.
    pub build_s: f64,
    /// Bytes, where it says.
    pub bytes: Option<usize>,
    /// How many pairs of a removal and an insertion it bears; 0 where routes cannot be changed.
    pub pairs_max: usize,
    /// It shares its table with a contestant before it, whose figures of changes stand for both.
    pub shared: bool,
}

/// No route covers the key.
pub const NONE: u32 = u32::MAX;

/// Reads these keys.
pub fn touch<K: Copy>(keys: &[K]) {
    for &key in keys {
        black_box(key);
    }
}

/// Calls `lookup` for each batch, with the part of `out` where its answers belong.
#[inline(always)]
#[allow(clippy::inline_always, reason = "the loop is measured, and is each contestant's own")]
pub fn batches<K>(
    keys: &[K],
    batch: usize,
    out: &mut [u64],
    mut lookup: impl FnMut(&[K], &mut [u64]),
) {
    let mut at = 0;
    for keys in keys.chunks_exact(batch) {
        if at + batch > out.len() {
            at = 0;
        }
        lookup(keys, &mut out[at..at + batch]);
        at += batch;
    }
    black_box(out);
}

/// Calls `lookup` with each key, into which a zero was mixed that only the answer before decides.
#[inline(always)]
#[allow(clippy::inline_always, reason = "the loop is measured, and is each contestant's own")]
pub fn chained<W: Word>(keys: &[W], out: &mut [u64], mut lookup: impl FnMut(W) -> u64) {
    let mut last = 0_u64;
    for (&key, slot) in keys.iter().zip(&mut *out) {
        // No contestant's words reach half of their range, but for a miss of all ones. Black boxes,
        // for a compiler that sees words of 32 bits knows this, and else might make of it a branch,
        // which the processor guesses and runs ahead.
        let is_miss = black_box(black_box(last).wrapping_add(1) >> 63 != 0);
        last = lookup(key ^ W::from(is_miss));
        *slot = last;
    }
    black_box(out);
}

/// The answers that all contestants must give, as the first of them gave them.
pub struct Answers {
    /// A number of a next hop for each key.
    numbers: Vec<u32>,
    /// Of all numbers.
    pub checksum: u64,
    /// Who gave them.
    by: String,
}

impl Answers {
    /// Those of `first`, by a pass that keeps every answer.
    pub fn of<W: Word>(first: &mut dyn Contestant<W>, keys: &Keys<W>) -> Self {
        let numbers = answer(first, keys, BATCH_FIRST);
        Self { checksum: checksum(&numbers), numbers, by: first.name().to_owned() }
    }

    /// Fails unless `contestant` answers every key as the first did.
    ///
    /// # Errors
    /// Names the first key for which it does not.
    pub fn compare<W: Word>(
        &self,
        contestant: &mut dyn Contestant<W>,
        keys: &Keys<W>,
        batch: usize,
    ) -> Result<(), BenchError> {
        let numbers = answer(contestant, keys, batch);
        if checksum(&numbers) == self.checksum && numbers == self.numbers {
            return Ok(());
        }
        let differ = |(a, b): (&u32, &u32)| a != b;
        let wrong = numbers.iter().zip(&self.numbers).filter(|&pair| differ(pair)).count();
        let at = numbers.iter().zip(&self.numbers).position(differ).unwrap_or_default();
        Err(BenchError::environment(format!(
            "{} and {} differ for {wrong} of {} keys, checksums {:016x} and {:016x}; first for {}: {} \
             and {}",
            self.by,
            contestant.name(),
            numbers.len(),
            self.checksum,
            checksum(&numbers),
            keys.bits[at].ip(),
            shown(self.numbers[at]),
            shown(numbers[at]),
        )))
    }

    /// Fails unless what a measured pass left in `out` are the answers to the last keys.
    ///
    /// # Errors
    /// As [`Self::compare`].
    pub fn check_end<W: Word>(
        &self,
        contestant: &dyn Contestant<W>,
        out: &[u64],
    ) -> Result<(), BenchError> {
        self.check(contestant, out, self.numbers.len() - out.len())
    }

    /// The same for the answers to the first keys.
    ///
    /// # Errors
    /// As [`Self::compare`].
    pub fn check_start<W: Word>(
        &self,
        contestant: &dyn Contestant<W>,
        out: &[u64],
    ) -> Result<(), BenchError> {
        self.check(contestant, out, 0)
    }

    fn check<W: Word>(
        &self,
        contestant: &dyn Contestant<W>,
        out: &[u64],
        first: usize,
    ) -> Result<(), BenchError> {
        let expected = &self.numbers[first..first + out.len()];
        if out.iter().zip(expected).all(|(&stored, &n)| contestant.number(stored) == n) {
            return Ok(());
        }
        Err(BenchError::environment(format!(
            "{} stored other answers in a measured pass than {} gave",
            contestant.name(),
            self.by
        )))
    }
}

/// The very pass that is measured, into an array that is large enough for all answers.
fn answer<W: Word>(contestant: &mut dyn Contestant<W>, keys: &Keys<W>, batch: usize) -> Vec<u32> {
    let mut out = vec![UNWRITTEN; keys.bits.len()];
    contestant.pass(keys, batch, &mut out);
    out.into_iter().map(|stored| contestant.number(stored)).collect()
}

fn checksum(numbers: &[u32]) -> u64 {
    let step = |sum: u64, &number: &u32| {
        (sum ^ u64::from(number)).wrapping_mul(0x0000_0100_0000_01b3).rotate_left(23)
    };
    numbers.iter().fold(0xcbf2_9ce4_8422_2325, step)
}

fn shown(number: u32) -> String {
    if number == NONE { "none".to_owned() } else { format!("next hop {number}") }
}

/// No contestant's answer: a key that was left out shows.
const UNWRITTEN: u64 = 0x5a5a_5a5a_5a5a_5a5a;
const BATCH_FIRST: usize = 32;
