//! Our table while it changes: a reader at full speed on one core, the writer on another.
#![forbid(unsafe_code)]

use std::hint::spin_loop;
use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use nearhop::time::Nanos;
use nearhop_fib::{GroupId, Reader, Writer};

use super::contestants::nearhop::{Hops, Nearhop};
use super::cores::{self, Cores};
use super::keys::{Keys, Route, Routes, Workload};
use super::lookup::{Lookup, prefix};
use super::random::Random;
use crate::report::BenchError;

/// What one round gave.
#[derive(Clone, Copy, Debug, Default)]
#[allow(clippy::struct_field_names, reason = "the unit, millions, comes last")]
pub struct Round {
    /// Millions of lookups in a second, with no writer.
    pub alone_m: f64,
    /// With a writer that was to make a million changes in a second.
    pub paced_m: f64,
    /// Millions of changes in a second that this writer made.
    pub paced_changes_m: f64,
    /// Millions of lookups in a second with a writer at full speed.
    pub beside_m: f64,
    /// Millions of pairs of a removal and an insertion that this writer made in a second.
    pub pairs_m: f64,
}

/// Measures the three, in turn, so many times.
///
/// # Errors
/// A change was refused, or a core is not ours.
pub fn measure<W: Lookup>(
    routes: &Routes<W>,
    cores: Cores,
    rounds: usize,
) -> Result<Vec<Round>, BenchError> {
    let Some(other) = cores.other else {
        return Err(BenchError::environment("a writer beside a reader needs a second core"));
    };
    let table = Nearhop::new(routes)?;
    let hops = table.hops().clone();
    let Nearhop { mut writer, mut reader, .. } = table;
    let keys = Keys::new(Workload::Traffic, routes);
    let sample = routes.sample(&mut Random(SEED), SAMPLE);
    let mut beside = |pace| {
        let changes = Changer { writer: &mut writer, hops: &hops, sample: &sample, pace };
        run_both(&mut reader, &keys, changes, other)
    };
    let mut all = Vec::with_capacity(rounds);
    for _ in 0..rounds {
        let (alone_m, _) = beside(Pace::Idle)?;
        let (paced_m, paced_changes_m) = beside(Pace::PerSecond(PACED))?;
        let (beside_m, changes_m) = beside(Pace::Full)?;
        let pairs_m = changes_m / 2.0;
        all.push(Round { alone_m, paced_m, paced_changes_m, beside_m, pairs_m });
    }
    Ok(all)
}

/// How fast a writer goes.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Pace {
    Idle,
    PerSecond(f64),
    Full,
}

struct Changer<'a, W> {
    writer: &'a mut Writer,
    hops: &'a Hops,
    sample: &'a [Route<W>],
    pace: Pace,
}

/// Millions of lookups, and of changes, in a second.
fn run_both<W: Lookup>(
    reader: &mut Reader,
    keys: &Keys<W>,
    changer: Changer<'_, W>,
    other: usize,
) -> Result<(f64, f64), BenchError> {
    let (stop, ready) = (AtomicBool::new(false), Barrier::new(2));
    if changer.pace == Pace::Idle {
        return Ok((read(reader, keys), 0.0));
    }
    thread::scope(|scope| {
        let changing = scope.spawn(|| {
            let pinned = cores::pin(other);
            ready.wait();
            pinned.and_then(|()| changer.run(&stop))
        });
        ready.wait();
        let read = read(reader, keys);
        stop.store(true, Ordering::Relaxed);
        let changes = changing.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
        Ok((read, changes))
    })
}

/// Looks up for a while as a worker does, quiescent after each batch.
fn read<W: Lookup>(reader: &mut Reader, keys: &Keys<W>) -> f64 {
    let mut online = reader.online();
    let mut found = [GroupId::NONE; BATCH];
    let mut batches = keys.addrs.chunks_exact(BATCH).cycle();
    let start = Nanos::now();
    let mut lookups = 0_u64;
    while Nanos::now().since(start) < SLICE {
        for addrs in batches.by_ref().take(BATCHES) {
            W::batch(&online, addrs, &mut found);
            std::hint::black_box(&found);
            online.quiescent();
        }
        lookups += (BATCH * BATCHES) as u64;
    }
    lookups as f64 / Nanos::now().since(start).as_secs_f64() / 1e6
}

impl<W: Lookup> Changer<'_, W> {
    /// Until it is stopped; millions of changes in a second.
    fn run(self, stop: &AtomicBool) -> Result<f64, BenchError> {
        let start = Nanos::now();
        let mut changes = 0_u64;
        for route in self.sample.iter().cycle() {
            self.writer.remove(prefix(route)).map_err(BenchError::environment)?;
            let group = self.hops.group(route.hop);
            self.writer.insert(prefix(route), group).map_err(BenchError::environment)?;
            changes += 2;
            if changes.is_multiple_of(CHANGES) && stop.load(Ordering::Relaxed) {
                break;
            }
            if let Pace::PerSecond(rate) = self.pace {
                let due = Duration::from_secs_f64(changes as f64 / rate);
                while Nanos::now().since(start) < due && !stop.load(Ordering::Relaxed) {
                    spin_loop();
                }
            }
        }
        Ok(changes as f64 / Nanos::now().since(start).as_secs_f64() / 1e6)
    }
}

/// Changes in a second beside which the reader may be slowed only so much.
const PACED: f64 = 1e6;

const SAMPLE: usize = 1 << 16;
const BATCH: usize = 256;

/// Batches between two looks at the clock.
const BATCHES: usize = 64;

/// Changes between two looks at the flag that stops the writer.
const CHANGES: u64 = 16;

const SLICE: Duration = Duration::from_millis(400);
const SEED: u64 = 0x6e68_3000;
