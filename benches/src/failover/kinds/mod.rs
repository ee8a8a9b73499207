//! Kinds of failures, and what each of them does to the traffic of nearhop and its peers.
//!
//! Two sites announce the same prefixes by BGP, with BFD; one's paths are shorter. A client sends to them
//! through the router under test, and something happens to the better site.
#![forbid(unsafe_code)]

mod config;
mod false_downs;
mod figure;
mod frr;
mod loader;
mod probe;
mod router;
mod stall;
mod stand;
mod table;

use std::time::Duration;

use clap::Args;

use self::config::Setup;
use self::figure::Trial;
use self::loader::Loader;
use self::router::Kind;
use self::stand::{Fault, Stand};
use self::table::{Cell, NOT_MEASURED, Table};
use crate::Wish;
use crate::report::{BenchError, Row};

/// What is asked of the failures.
#[derive(Args, Clone, Copy, Debug)]
pub struct Failures {
    /// Failures of each kind and router (`failover`).
    #[arg(long, default_value_t = 7, value_parser = clap::value_parser!(u32).range(1..=1000))]
    trials: u32,
    /// False BFD downs are counted for so long (`failover`); 20 seconds by default.
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=600))]
    minutes: Option<u32>,
    /// Move 500,000 prefixes too (`failover`).
    #[arg(long)]
    half_million: bool,
}

/// Measures all of them; `measure` chooses by name.
/// What a router cannot do is a row that says so, and for nearhop a target that is missed.
pub fn run(wish: Wish<'_>) -> Vec<Row> {
    let mut table = Table::default();
    for kind in Kind::ALL {
        let name = kind.name();
        let left_out = wish.without.iter().any(|without| name.starts_with(&**without));
        if left_out || (wish.alone && kind != Kind::Nearhop) {
            continue;
        }
        match kind.missing() {
            Some(why) => table.note("every failure", kind, why),
            None => measure(kind, wish, &mut table),
        }
    }
    table.rows()
}

/// Everything of one router. What cannot be measured is a row that says so, and ends nothing else.
fn measure(kind: Kind, wish: Wish<'_>, table: &mut Table) {
    let enter = |table: &mut Table, name: &str, measured: Result<(), BenchError>| {
        if let Err(error) = measured {
            table.note(name, kind, format!("{NOT_MEASURED}{error}"));
        }
    };
    let measured = few_prefixes(kind, wish, table);
    enter(table, "failures with one prefix", measured);
    if kind == Kind::Nearhop && LOADED.contains(wish.measure) {
        let measured = withdraw_under_load(kind, wish, table);
        enter(table, LOADED, measured);
    }
    if matches!(kind, Kind::Nearhop | Kind::Bird) && FAST.contains(wish.measure) {
        let measured = in_real_time(kind, wish, table);
        enter(table, FAST, measured);
    }
    let sizes: &[usize] = if wish.failures.half_million { &SIZES } else { &SIZES[..2] };
    for &prefixes in sizes {
        let name = format!("{prefixes} prefixes moved, until the last");
        if name.contains(wish.measure) {
            let measured = many_prefixes(kind, prefixes, &name, wish, table);
            enter(table, &name, measured);
        }
    }
}

/// The failures of [`MEASURES`], and false BFD downs.
fn few_prefixes(kind: Kind, wish: Wish<'_>, table: &mut Table) -> Result<(), BenchError> {
    let wanted: Vec<&Measure> = MEASURES.iter().filter(|m| m.is_for(kind, wish)).collect();
    let with_downs = kind != Kind::Kernel && FALSE_DOWNS.contains(wish.measure);
    if wanted.is_empty() && !with_downs {
        return Ok(());
    }
    let mut stand = Stand::build(kind, &lab(kind, "p"), PLAIN, false)?;
    for measure in wanted {
        let trials = repeat(&mut stand, measure.fault, wish.failures.trials)?;
        table.add(measure.name, kind, Cell::of(&trials, measure.of));
        if measure.with_losses {
            let lost = |trial: &Trial| trial.lost as f64;
            table.add(&format!("{}: lost", measure.name), kind, Cell::of(&trials, lost).packets());
        }
    }
    if with_downs {
        count_downs(&mut stand, wish, table)?;
    }
    Ok(())
}

/// Silent drops that are to be seen within 3 ms.
fn in_real_time(kind: Kind, wish: Wish<'_>, table: &mut Table) -> Result<(), BenchError> {
    if !may_run_in_real_time() {
        let why = "not measured: real-time scheduling is not permitted here";
        table.note(FAST, kind, why.into());
        return Ok(());
    }
    let mut stand = Stand::build(kind, &lab(kind, "f"), Setup { bfd_ms: 1, ..PLAIN }, false)?;
    let trials = repeat(&mut stand, Fault::Silent, wish.failures.trials)?;
    table.add(FAST, kind, Cell::of(&trials, |trial| trial.blackout_ms));
    Ok(())
}

/// A link that goes down under so many prefixes.
fn many_prefixes(
    kind: Kind,
    prefixes: usize,
    name: &str,
    wish: Wish<'_>,
    table: &mut Table,
) -> Result<(), BenchError> {
    let setup = Setup { prefixes, ..PLAIN };
    let mut stand = Stand::build(kind, &lab(kind, &prefixes.to_string()), setup, false)?;
    let trials = repeat(&mut stand, Fault::FarDown, wish.failures.trials)?;
    table.add(name, kind, Cell::of(&trials, |trial| trial.settled_ms));
    Ok(())
}

/// So many failures that count, or as many as a few times more give.
fn repeat(stand: &mut Stand, fault: Fault, trials: u32) -> Result<Vec<Option<Trial>>, BenchError> {
    let mut all = Vec::new();
    for round in 0..trials * PATIENCE {
        all.push(stand.trial(fault, round)?);
        if all.iter().flatten().count() >= trials as usize {
            break;
        }
    }
    Ok(all)
}

/// Withdrawals that come while another neighbour's table does.
fn withdraw_under_load(kind: Kind, wish: Wish<'_>, table: &mut Table) -> Result<(), BenchError> {
    let mut stand = Stand::build(kind, &lab(kind, "l"), PLAIN, true)?;
    let mut loader = Loader::open(&stand)?;
    let mut all = Vec::new();
    for round in 0..wish.failures.trials * PATIENCE {
        let (trial, in_time) = loader.during(|| stand.trial(Fault::Withdraw, round))?;
        // What came once the table was in is nothing that this is about.
        all.push(trial?.filter(|_| in_time));
        if all.iter().flatten().count() >= wish.failures.trials as usize {
            break;
        }
    }
    table.add(LOADED, kind, Cell::of(&all, |trial| trial.moved_ms));
    let lost = |trial: &Trial| trial.lost as f64;
    table.add(&format!("{LOADED}: lost"), kind, Cell::of(&all, lost).packets());
    Ok(())
}

fn count_downs(stand: &mut Stand, wish: Wish<'_>, table: &mut Table) -> Result<(), BenchError> {
    let time = wish
        .failures
        .minutes
        .map_or(Duration::from_secs(20), |minutes| Duration::from_secs(u64::from(minutes) * 60));
    let downs = false_downs::count(stand, time)?;
    eprintln!("{}: {downs:?} in {} s", stand.kind.name(), time.as_secs());
    let name = format!("{FALSE_DOWNS} in {} s", time.as_secs());
    table.add(&name, stand.kind, Cell::count(downs.counted, downs.excused));
    Ok(())
}

/// One kind of failure.
struct Measure {
    name: &'static str,
    fault: Fault,
    of: fn(&Trial) -> f64,
    with_losses: bool,
}

impl Measure {
    /// How long nothing arrives.
    const fn of_blackouts(name: &'static str, fault: Fault) -> Self {
        Self { name, fault, of: |trial| trial.blackout_ms, with_losses: false }
    }

    /// How long it takes to move, and what is lost.
    const fn of_moves(name: &'static str, fault: Fault) -> Self {
        Self { name, fault, of: |trial| trial.moved_ms, with_losses: true }
    }

    fn is_for(&self, kind: Kind, wish: Wish<'_>) -> bool {
        let can = match kind {
            Kind::Nearhop => self.fault != Fault::NearDown,
            // Nobody there notices anything but carriers.
            Kind::Kernel => matches!(self.fault, Fault::NearDown | Fault::FarDown),
            Kind::Bird | Kind::Frr => true,
        };
        can && self.name.contains(wish.measure)
    }
}

/// Whether this process may use SCHED_FIFO, as nearhop's liveness thread wishes to.
fn may_run_in_real_time() -> bool {
    std::thread::spawn(|| nearhop::kernel::realtime::enter().is_ok()).join().unwrap_or(false)
}

/// A name for namespaces, short as devices' names are.
fn lab(kind: Kind, of: &str) -> String {
    let first = match kind {
        Kind::Nearhop => 'n',
        Kind::Kernel => 'k',
        Kind::Bird => 'b',
        Kind::Frr => 'f',
    };
    format!("{first}{of}")
}

/// What all but one of the failures are made with.
const PLAIN: Setup = Setup { bfd_ms: 10, prefixes: 1 };

const MEASURES: [Measure; 5] = [
    Measure::of_blackouts("link down, near end", Fault::NearDown),
    Measure::of_blackouts("link down, far end", Fault::FarDown),
    Measure::of_blackouts("silent drop, BFD 10 ms x 3", Fault::Silent),
    Measure::of_moves("site's daemon killed", Fault::Killed),
    Measure::of_moves("site withdraws", Fault::Withdraw),
];

const LOADED: &str = "site withdraws, a full table comes in";

const FAST: &str = "silent drop, BFD 1 ms x 3";

const FALSE_DOWNS: &str = "false BFD downs";

const SIZES: [usize; 3] = [10_000, 100_000, 500_000];

/// Times as many failures as wished are made where the machine stands still now and then.
const PATIENCE: u32 = 3;
