//! `nearlab sim`: trials of whole simulated routers, one per seed.
#![forbid(unsafe_code)]

mod summary;

use std::io::{IsTerminal as _, Write as _};
use std::num::NonZero;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use nearhop::sim::trial::{Invariant, NetShape, Options, TrialResult, run as run_trial};
use nearhop::time::Nanos;

use summary::Totals;

/// Options of `nearlab sim`.
#[derive(Clone, Debug, clap::Args)]
pub struct SimOptions {
    /// Number of seeds to try.
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u64).range(1..))]
    pub seeds: u64,
    /// The first seed.
    #[arg(long, default_value_t = 1, value_name = "S")]
    pub start_seed: u64,
    /// Replay only this seed, and print everything that happens.
    #[arg(long, value_name = "S", conflicts_with_all = ["seeds", "start_seed"])]
    pub seed: Option<u64>,
    /// Only networks of this shape.
    #[arg(long)]
    pub shape: Option<ShapeArg>,
    /// Break an invariant on purpose, to test that the judge notices.
    #[arg(long = "break", value_name = "INVARIANT")]
    pub spoil: Option<InvariantArg>,
    /// Print only one line of JSON on standard output (nearlab.sim.v1).
    #[arg(long)]
    pub json: bool,
}

/// How routers are linked, as an argument.
#[derive(Clone, Copy, Debug, Eq, PartialEq, clap::ValueEnum)]
pub enum ShapeArg {
    /// Two to six in a row.
    Chain,
    /// Three, each of which falls back on the next.
    Circle,
    /// Four to six in a row, with links across.
    Mesh,
    /// Two, each of which falls back on the other.
    Pair,
    /// Four to six in a mesh, which announce their services to each other by BGP.
    Peers,
    /// Three to six in a ring.
    Ring,
}

/// An invariant, as an argument.
#[derive(Clone, Copy, Debug, Eq, PartialEq, clap::ValueEnum)]
pub enum InvariantArg {
    /// Every packet ends in one verdict; broken by counting one packet more.
    Account,
    /// No false alarm; broken by counting what came after a fault too.
    Alarm,
    /// Nothing announced that is not well; broken by calling every site dead.
    Announce,
    /// No third answer while a configuration is published; broken by accepting only the old one.
    Answer,
    /// BFD sessions are as their links; broken by counting what came after a fault too.
    Bfd,
    /// No black hole while a path exists; broken by the death of every site before judgement.
    BlackHole,
    /// A port's carrier is reported as it is; broken by ignoring what routers were told.
    Carrier,
    /// No flow moves without a cause; broken by ignoring the routers' events.
    Cause,
    /// Neighbours know what is announced; broken by an oracle that expects nothing.
    Learn,
    /// No forwarding loop after the budget; broken by two routers that send to one another.
    Loop,
    /// The site is one of the oracle's; broken by an oracle with wrong costs.
    Site,
    /// No route outlives its withdrawal; broken by counting every route as withdrawn.
    Withdraw,
    /// Bounded work; broken by a bound of zero steps.
    Work,
}

/// Runs the trials; `true` if every invariant held in all of them.
///
/// # Errors
/// Writing to standard output failed.
pub fn run(options: &SimOptions) -> std::io::Result<bool> {
    let trial = options.trial();
    let (first, seeds) = options.seed.map_or((options.start_seed, options.seeds), |seed| (seed, 1));
    let mut out = std::io::stdout().lock();
    if let Some(seed) = options.seed {
        let outcome = run_trial(seed, trial);
        if !options.json {
            summary::story(&mut out, &outcome)?;
        }
        return finish(&mut out, options, &Totals::of(seed, vec![outcome]));
    }
    let totals = Totals::of(first, try_all(first, seeds, trial));
    finish(&mut out, options, &totals)
}

impl SimOptions {
    fn trial(&self) -> Options {
        let shape = self.shape.map(|shape| match shape {
            ShapeArg::Chain => NetShape::Chain,
            ShapeArg::Circle => NetShape::Circle,
            ShapeArg::Mesh => NetShape::Mesh,
            ShapeArg::Pair => NetShape::Pair,
            ShapeArg::Peers => NetShape::Peers,
            ShapeArg::Ring => NetShape::Ring,
        });
        let spoil = self.spoil.map(|invariant| match invariant {
            InvariantArg::Account => Invariant::Account,
            InvariantArg::Alarm => Invariant::Alarm,
            InvariantArg::Announce => Invariant::Announce,
            InvariantArg::Answer => Invariant::Answer,
            InvariantArg::Bfd => Invariant::Bfd,
            InvariantArg::BlackHole => Invariant::BlackHole,
            InvariantArg::Carrier => Invariant::Carrier,
            InvariantArg::Cause => Invariant::Cause,
            InvariantArg::Learn => Invariant::Learn,
            InvariantArg::Loop => Invariant::Loop,
            InvariantArg::Site => Invariant::Site,
            InvariantArg::Withdraw => Invariant::Withdraw,
            InvariantArg::Work => Invariant::Work,
        });
        Options { shape, spoil }
    }

    /// The command line that repeats the trial of a seed.
    fn replay(&self, seed: u64) -> String {
        let trial = self.trial();
        let shape = trial.shape.map(|shape| format!(" --shape {}", shape.label()));
        let spoil = trial.spoil.map(|invariant| format!(" --break {}", invariant.label()));
        let (shape, spoil) = (shape.unwrap_or_default(), spoil.unwrap_or_default());
        format!("nearlab sim --seed {seed}{shape}{spoil}")
    }
}

fn finish(
    out: &mut impl std::io::Write,
    options: &SimOptions,
    totals: &Totals,
) -> std::io::Result<bool> {
    let replay = |seed| options.replay(seed);
    if options.json {
        writeln!(out, "{}", summary::json(totals, replay))?;
        for (seed, what) in totals.failures() {
            // Standard output has only the one line of JSON.
            let _ = writeln!(std::io::stderr(), "replay: {}  # {what}", replay(seed));
        }
        return Ok(totals.ok());
    }
    summary::table(out, totals)?;
    for (seed, what) in totals.failures() {
        writeln!(out, "replay: {}  # {what}", replay(seed))?;
    }
    Ok(totals.ok())
}

/// Runs trials on every core; results are in the order of seeds, without their stories.
fn try_all(first: u64, seeds: u64, options: Options) -> Vec<TrialResult> {
    let next = AtomicU64::new(0);
    let done: Mutex<Vec<TrialResult>> = Mutex::default();
    let progress = Mutex::new(Progress::begin(seeds));
    let work = || {
        loop {
            // Results do not depend on which thread runs which seed.
            let index = next.fetch_add(1, Ordering::Relaxed);
            if index >= seeds {
                return;
            }
            let mut outcome = run_trial(first.wrapping_add(index), options);
            outcome.story = Vec::new();
            let mut done = done.lock().unwrap_or_else(PoisonError::into_inner);
            done.push(outcome);
            let count = done.len() as u64;
            drop(done);
            progress.lock().unwrap_or_else(PoisonError::into_inner).note(count);
        }
    };
    let threads = thread::available_parallelism().map_or(1, NonZero::get);
    thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(work);
        }
    });
    let mut outcomes = done.into_inner().unwrap_or_else(PoisonError::into_inner);
    outcomes.sort_by_key(|outcome| outcome.seed.wrapping_sub(first));
    outcomes
}

/// How far the trials are, on standard error: on a terminal one line, which is cleared at the end; else a
/// line every ten seconds, so that a log shows that something happens.
struct Progress {
    seeds: u64,
    terminal: bool,
    printed: Nanos,
}

impl Progress {
    fn begin(seeds: u64) -> Self {
        Self { seeds, terminal: std::io::stderr().is_terminal(), printed: Nanos::now() }
    }

    fn note(&mut self, done: u64) {
        let (mut err, of) = (std::io::stderr(), self.seeds);
        // Who does not read it misses nothing but this.
        if self.terminal {
            let _ = if done == of {
                write!(err, "\r{:40}\r", "")
            } else {
                write!(err, "\r{done} of {of} seeds")
            };
            let _ = err.flush();
        } else if Nanos::now().since(self.printed) >= PRINT_EVERY {
            self.printed = Nanos::now();
            let _ = writeln!(err, "{done} of {of} seeds");
        }
    }
}

/// Between two lines in a log.
const PRINT_EVERY: Duration = Duration::from_secs(10);
