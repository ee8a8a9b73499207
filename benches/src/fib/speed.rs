//! Lookups: all contestants, round by round, on the same keys; their answers compared.
#![forbid(unsafe_code)]

use nearhop::time::Nanos;

use super::contestant::{Answers, Contestant, Maker};
use super::keys::{Keys, Routes, Word, Workload};
use crate::report::BenchError;
use crate::stats::Summary;

/// The contestants of one family, in the order of the table.
pub type Field<W> = Vec<Box<dyn Contestant<W>>>;

/// One column of the table.
#[derive(Clone, Debug)]
pub struct Column {
    /// `IPv4`, `IPv6`, or which part of it.
    pub family: &'static str,
    /// What the keys were like.
    pub workload: Workload,
    /// How they were looked up.
    pub mode: Mode,
    /// In the order of the contestants.
    pub cells: Vec<Cell>,
}

/// How keys are looked up.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Mode {
    /// So many at a time; figures are millions of lookups in a second.
    Batch(usize),
    /// One after the other, each waiting for the one before; figures are nanoseconds.
    Dependent,
}

/// One contestant's figures.
#[derive(Clone, Debug)]
pub struct Cell {
    /// The contestant.
    pub name: String,
    /// Who made it.
    pub maker: Maker,
    /// One for each round.
    pub samples: Vec<f64>,
    /// The code it chose, where it chooses among several.
    pub code: Option<&'static str>,
}

impl Cell {
    /// Median and spread.
    pub fn summary(&self) -> Summary {
        Summary::of(self.samples.iter().copied())
    }
}

impl Column {
    /// The contestant that `is` so, and whose median is the best.
    pub fn best(&self, is: impl Fn(Maker) -> bool) -> Option<&Cell> {
        let median = |cell: &&Cell| {
            let sign = if self.mode == Mode::Dependent { -1.0 } else { 1.0 };
            cell.summary().p50 * sign
        };
        let cells = self.cells.iter().filter(|cell| is(cell.maker));
        cells.max_by(|a, b| median(a).total_cmp(&median(b)))
    }
}

/// All columns of a family, and the checksum of the answers to each workload.
///
/// # Errors
/// Two contestants gave different answers.
pub fn measure<W: Word>(
    field: &mut Field<W>,
    routes: &Routes<W>,
    family: &'static str,
    rounds: usize,
) -> Result<Vec<Column>, BenchError> {
    let mut columns = Vec::new();
    for workload in Workload::ALL {
        eprintln!("measuring {family} {workload}");
        let keys = Keys::new(workload, routes);
        let answers = agree(field, &keys)?;
        println!(
            "{family} {workload}: {} keys, checksum {:016x} by all {} contestants",
            keys.bits.len(),
            answers.checksum,
            field.len()
        );
        for mode in MODES {
            let cells = cells(field, &keys, &answers, mode, rounds)?;
            columns.push(Column { family, workload, mode, cells });
        }
    }
    Ok(columns)
}

/// Fails unless all contestants answer all keys alike, with every size of batch.
///
/// # Errors
/// Names the first key for which two differ.
pub fn agree<W: Word>(field: &mut Field<W>, keys: &Keys<W>) -> Result<Answers, BenchError> {
    let Some(first) = field.first_mut() else {
        return Err(BenchError::usage("every contestant was left out"));
    };
    let answers = Answers::of(first.as_mut(), keys);
    for contestant in field {
        for batch in BATCHES {
            answers.compare(contestant.as_mut(), keys, batch)?;
        }
    }
    Ok(answers)
}

fn cells<W: Word>(
    field: &mut Field<W>,
    keys: &Keys<W>,
    answers: &Answers,
    mode: Mode,
    rounds: usize,
) -> Result<Vec<Cell>, BenchError> {
    let cell = |contestant: &dyn Contestant<W>| Cell {
        name: contestant.name().to_owned(),
        maker: contestant.maker(),
        samples: Vec::with_capacity(rounds),
        code: None,
    };
    let mut cells: Vec<Cell> = field.iter().map(|one| cell(one.as_ref())).collect();
    let count = field.len();
    for round in 0..rounds {
        // Nobody always comes after the same neighbour's leavings in the caches first.
        for turn in 0..count {
            let who = (round + turn) % count;
            let sample = sample(field[who].as_mut(), keys, answers, mode)?;
            cells[who].samples.push(sample);
            cells[who].code = field[who].code();
        }
    }
    Ok(cells)
}

fn sample<W: Word>(
    contestant: &mut dyn Contestant<W>,
    keys: &Keys<W>,
    answers: &Answers,
    mode: Mode,
) -> Result<f64, BenchError> {
    match mode {
        Mode::Batch(batch) => {
            let mut out = vec![0; batch];
            contestant.touch(keys);
            let start = Nanos::now();
            contestant.pass(keys, batch, &mut out);
            let taken = Nanos::now().since(start);
            answers.check_end(contestant, &out)?;
            Ok(keys.bits.len() as f64 / taken.as_secs_f64() / 1e6)
        }
        Mode::Dependent => {
            let mut out = vec![0; CHAIN];
            let start = Nanos::now();
            contestant.chain(keys, &mut out);
            let taken = Nanos::now().since(start);
            answers.check_start(contestant, &out)?;
            Ok(taken.as_nanos() as f64 / CHAIN as f64)
        }
    }
}

/// Keys in one call: 64 is what a worker of nearhop looks up together.
pub const BATCHES: [usize; 3] = [32, 64, 256];

const MODES: [Mode; 4] =
    [Mode::Batch(BATCHES[0]), Mode::Batch(BATCHES[1]), Mode::Batch(BATCHES[2]), Mode::Dependent];

/// Lookups of a chain: some ten milliseconds.
const CHAIN: usize = 1 << 18;
