//! Changes of routes: how many in a second, and how long the slowest takes.
#![forbid(unsafe_code)]

use std::collections::HashSet;
use std::time::Duration;

use nearhop::time::Nanos;

use super::contestant::{Contestant, Maker};
use super::keys::{HOPS, Route, Routes, Word};
use super::random::Random;
use crate::report::BenchError;
use crate::stats::Summary;

/// One contestant's changes, with nobody reading.
#[derive(Clone, Debug)]
pub struct Changes {
    /// Who made it.
    pub maker: Maker,
    /// Millions of pairs of a removal and the insertion of the same route, in a second.
    pub pairs_m: Summary,
    /// The slowest single change.
    pub worst: Worst,
}

/// Microseconds of the slowest change.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Worst {
    /// Each change was repeated; the largest of their medians: what the change itself takes.
    pub own_us: f64,
    /// The largest of all, interruptions by the machine included.
    pub any_us: f64,
}

/// The slowest changes of one prefix length.
#[derive(Clone, Copy, Debug)]
pub struct OfLength {
    /// The length.
    pub len: u8,
    /// Of insertions.
    pub insert: Worst,
    /// Of removals.
    pub remove: Worst,
}

/// Removes and inserts random routes of the table, which is afterwards as it was before.
///
/// # Errors
/// A change was refused.
pub fn measure<W: Word>(
    contestant: &mut dyn Contestant<W>,
    routes: &Routes<W>,
    rounds: usize,
) -> Result<Changes, BenchError> {
    let sample = routes.sample(&mut Random(SEED), SAMPLE);
    let pairs_max = contestant.facts().pairs_max;
    let pairs_m = rate(contestant, &sample, rounds, pairs_max / 2)?;
    // As many as take some two seconds, for the slowest contestants' sake.
    let timed = ((pairs_m.p50 * 1e6) as usize * 2).min(pairs_max / 2) / REPEATS;
    let timed = timed.clamp(16, TIMED).min(sample.len());
    let mut removals = Times::default();
    let mut insertions = Times::default();
    for repeat in 0..REPEATS {
        for (place, route) in sample[..timed].iter().enumerate() {
            removals.add(place, repeat, time(|| contestant.remove(route))?);
            insertions.add(place, repeat, time(|| contestant.insert(route))?);
        }
    }
    let (removed, inserted) = (removals.worst(), insertions.worst());
    let worst = Worst {
        own_us: removed.own_us.max(inserted.own_us),
        any_us: removed.any_us.max(inserted.any_us),
    };
    Ok(Changes { maker: contestant.maker(), pairs_m, worst })
}

/// Millions of pairs in a second, over rounds that end early where the contestant bears no more.
fn rate<W: Word>(
    contestant: &mut dyn Contestant<W>,
    sample: &[Route<W>],
    rounds: usize,
    pairs_max: usize,
) -> Result<Summary, BenchError> {
    let mut at = sample.iter().cycle();
    let mut rates = Vec::with_capacity(rounds);
    let slice_max = pairs_max / rounds.max(1);
    for _ in 0..rounds {
        let start = Nanos::now();
        let mut pairs = 0;
        while Nanos::now().since(start) < SLICE && pairs + PAIRS <= slice_max {
            for route in at.by_ref().take(PAIRS) {
                contestant.remove(route)?;
                contestant.insert(route)?;
            }
            pairs += PAIRS;
        }
        rates.push(pairs as f64 / Nanos::now().since(start).as_secs_f64() / 1e6);
    }
    Ok(Summary::of(rates))
}

/// For each length from 0 to the longest: routes that the table has are removed and inserted
/// again, and ones that it lacks are inserted and removed.
///
/// # Errors
/// A change was refused.
pub fn lengths<W: Word>(
    contestant: &mut dyn Contestant<W>,
    routes: &Routes<W>,
) -> Result<Vec<OfLength>, BenchError> {
    let known: HashSet<(W, u8)> = routes.0.iter().map(|route| (route.bits, route.len)).collect();
    let mut random = Random(SEED);
    let mut all = Vec::with_capacity(usize::from(W::WIDTH) + 1);
    for len in 0..=W::WIDTH {
        let ours = Routes(routes.0.iter().filter(|route| route.len == len).copied().collect());
        let ours = ours.sample(&mut random, OF_LENGTH);
        let (mut insert, mut remove) = (Times::default(), Times::default());
        for repeat in 0..REPEATS {
            for (place, route) in ours.iter().enumerate() {
                remove.add(place, repeat, time(|| contestant.remove(route))?);
                insert.add(place, repeat, time(|| contestant.insert(route))?);
            }
        }
        let new = strangers(&known, &mut random, len);
        for repeat in 0..REPEATS {
            for (place, route) in new.iter().enumerate() {
                insert.add(place + ours.len(), repeat, time(|| contestant.insert(route))?);
                remove.add(place + ours.len(), repeat, time(|| contestant.remove(route))?);
            }
        }
        all.push(OfLength { len, insert: insert.worst(), remove: remove.worst() });
    }
    Ok(all)
}

/// Routes of one length that the table lacks: half of them anywhere, half around known ones, where
/// they cover many.
fn strangers<W: Word>(known: &HashSet<(W, u8)>, random: &mut Random, len: u8) -> Vec<Route<W>> {
    let mut new = Vec::new();
    let among: Vec<W> = known.iter().take(OF_LENGTH).map(|(bits, _)| *bits).collect();
    for place in 0..OF_LENGTH {
        let host = W::host_mask(len);
        let near = among.get(place / 2).copied().filter(|_| place % 2 == 1);
        let bits = near.unwrap_or_else(|| W::uniform(random));
        // The bits in front of the host's: those of `bits` that stay when the host's are all set,
        // less the host's.
        let bits = (bits | host) ^ host;
        let route = Route { bits, len, hop: random.below(HOPS) as u32 };
        let twice = new.iter().any(|other: &Route<W>| other.bits == bits);
        if !twice && !known.contains(&(bits, len)) {
            new.push(route);
        }
    }
    new
}

fn time(change: impl FnOnce() -> Result<(), BenchError>) -> Result<f64, BenchError> {
    let start = Nanos::now();
    change()?;
    Ok(Nanos::now().since(start).as_nanos() as f64 / 1e3)
}

/// Microseconds of changes, each repeated.
#[derive(Debug, Default)]
struct Times(Vec<[f64; REPEATS]>);

impl Times {
    fn add(&mut self, place: usize, repeat: usize, taken_us: f64) {
        if self.0.len() <= place {
            self.0.resize(place + 1, [0.0; REPEATS]);
        }
        self.0[place][repeat] = taken_us;
    }

    fn worst(&self) -> Worst {
        let largest = |values: &mut dyn Iterator<Item = f64>| values.fold(0.0, f64::max);
        Worst {
            own_us: largest(&mut self.0.iter().map(|times| Summary::of(*times).p50)),
            any_us: largest(&mut self.0.iter().flatten().copied()),
        }
    }
}

/// Routes that are changed in turn.
const SAMPLE: usize = 1 << 16;

/// Changes that are timed one by one, at most.
const TIMED: usize = 1 << 14;

/// Of each length: routes of the table, and routes that it lacks.
const OF_LENGTH: usize = 8;

/// How often a timed change is repeated.
const REPEATS: usize = 5;

/// Pairs between two looks at the clock.
const PAIRS: usize = 16;

const SLICE: Duration = Duration::from_millis(200);
const SEED: u64 = 0x6e68_2000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_interruption_is_not_the_changes_own_time() {
        let mut times = Times::default();
        for repeat in 0..REPEATS {
            times.add(0, repeat, if repeat == 3 { 500.0 } else { 2.0 });
            times.add(1, repeat, 7.0);
        }
        assert_eq!(times.worst(), Worst { own_us: 7.0, any_us: 500.0 });
    }

    #[test]
    fn strangers_are_unknown_and_have_no_host_bits() {
        let known = HashSet::from([(0x8000_0000_u32, 1), (0x0a00_0000, 8)]);
        for len in 0..=32 {
            let new = strangers(&known, &mut Random(7), len);
            assert!(len == 1 || !new.is_empty(), "/{len}");
            for route in new {
                assert_eq!(route.bits & u32::host_mask(len), 0);
                assert!(!known.contains(&(route.bits, len)));
            }
        }
    }
}
