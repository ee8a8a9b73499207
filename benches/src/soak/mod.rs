//! Proof by endurance: readers look up while a writer replays real churn and random storms over a
//! whole table, and every answer is judged.
//!
//! `cargo run --profile dist -p nearhop-benches -- soak [--seconds N]`. Ends with status 1 at the first
//! answer that was never right.
#![forbid(unsafe_code)]

mod churn;
mod model;
mod places;
mod readers;
mod writing;

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::io::Write as _;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use clap::Parser;
use nearhop::time::Nanos;
use nearhop_fib::{Group, GroupId, Handle, IpPrefix, Writer, fib};

use self::churn::Update;
use self::model::{Model, bits_of};
use self::places::{Both, Places};
use self::readers::{Count, Watch};
use self::writing::{End, Writing};
use crate::fib::random::Random;
use crate::forward::rig::Table;
use crate::report::BenchError;

/// Readers look up while a writer replays real churn and random storms; every answer is judged.
#[derive(Clone, Copy, Debug, Parser)]
#[command(name = "nearhop-benches soak")]
struct Cli {
    /// For how long.
    #[arg(long, default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    seconds: u64,
    /// How many readers; by default one for each processor but one, and at least two.
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..=64))]
    readers: Option<u64>,
    /// Where its random numbers begin.
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

/// Runs it with the arguments after its name.
pub fn main(args: &[OsString]) -> ExitCode {
    let options = Cli::parse_from(args);
    match run(options) {
        Ok(Ok(())) => ExitCode::SUCCESS,
        Ok(Err(why)) => {
            let _ = writeln!(std::io::stderr(), "soak: FAILED: {why}");
            ExitCode::FAILURE
        }
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "error: {error}");
            ExitCode::from(error.status())
        }
    }
}

/// What was wrong, if it could be run.
fn run(options: Cli) -> Result<Result<(), String>, BenchError> {
    let table = Table::load().map_err(BenchError::environment)?;
    let updates = Update::load().map_err(BenchError::environment)?;
    let processors = thread::available_parallelism().map_or(2, |count| count.get() as u64);
    let readers = options.readers.unwrap_or((processors - 1).max(2)) as usize;
    let mut random = Random(options.seed);
    let places = places(&table, &updates, &mut random);
    let (mut writer, handle) = fib(readers);
    let groups = add_groups(&mut writer)?;
    let watch = Watch { places: &places, stop: AtomicBool::new(false), wrong: Mutex::new(None) };
    println!(
        "soak: {} routes, {} real updates, {} + {} places, {readers} readers, {} s, seed {}",
        table.prefixes.len(),
        updates.len(),
        places.v4.len(),
        places.v6.len(),
        options.seconds,
        options.seed
    );
    let mut writing = Writing {
        writer: &mut writer,
        model: Model::default(),
        longest: [vec![0; places.v4.len()], vec![0; places.v6.len()]],
        groups: &groups,
        in_use: NARROW,
        watch: &watch,
        until: Nanos::now() + Duration::from_secs(options.seconds),
        random,
        changes: [0; 3],
    };
    let (end, counts) = both(&mut writing, &handle, readers, &table, &updates);
    let ended = match (end, watch.wrong.lock().ok().and_then(|mut wrong| wrong.take())) {
        (_, Some(wrong)) => Err(wrong),
        (End::Broken(why), None) => Err(why),
        (End::Stopped, None) => sweep(&mut writing, &table),
    };
    print(&writing, &counts);
    Ok(ended)
}

/// Loads the table and goes on until it is time, while readers read.
fn both(
    writing: &mut Writing<'_>,
    handle: &Handle,
    readers: usize,
    table: &Table,
    updates: &[Update],
) -> (End, Vec<Count>) {
    let watch = writing.watch;
    thread::scope(|scope| {
        let readers: Vec<_> = (1..)
            .zip(std::iter::from_fn(|| handle.reader()).take(readers))
            .map(|(seed, reader)| scope.spawn(move || watch.read(reader, seed)))
            .collect();
        let end = writing.load(&table.prefixes).map_or_else(|end| end, |()| writing.go_on(updates));
        watch.stop.store(true, Ordering::Relaxed);
        let joined: Result<Vec<Count>, _> =
            readers.into_iter().map(thread::ScopedJoinHandle::join).collect();
        match joined {
            Ok(counts) => (end, counts),
            Err(_) => (End::Broken("a reader panicked".into()), Vec::new()),
        }
    })
}

/// Around what is announced and withdrawn, and around some routes of the table.
fn places(table: &Table, updates: &[Update], random: &mut Random) -> Both {
    let mut v4: BTreeSet<Ipv4Addr> = BTreeSet::new();
    let mut v6: BTreeSet<Ipv6Addr> = BTreeSet::new();
    while v4.len() < PLACES || v6.len() < PLACES {
        let prefix = if random.below(4) == 0 {
            table.prefixes[random.below(table.prefixes.len() as u64) as usize]
        } else {
            updates[random.below(updates.len() as u64) as usize].prefix
        };
        for addr in boundaries(prefix) {
            match addr {
                IpAddr::V4(addr) if v4.len() < PLACES => drop(v4.insert(addr)),
                IpAddr::V6(addr) if v6.len() < PLACES => drop(v6.insert(addr)),
                _ => {}
            }
        }
    }
    Both { v4: Places::new(v4.into_iter().collect()), v6: Places::new(v6.into_iter().collect()) }
}

/// The first and last address of a prefix, and their neighbours outside.
fn boundaries(prefix: IpPrefix) -> [IpAddr; 4] {
    let first = bits_of(prefix.addr());
    match prefix {
        IpPrefix::V4(prefix) => {
            let last = prefix.last().to_bits();
            [first as u32, (first as u32).wrapping_sub(1), last, last.wrapping_add(1)]
                .map(|bits| Ipv4Addr::from_bits(bits).into())
        }
        IpPrefix::V6(prefix) => {
            let last = prefix.last().to_bits();
            [first, first.wrapping_sub(1), last, last.wrapping_add(1)]
                .map(|bits| Ipv6Addr::from_bits(bits).into())
        }
    }
}

fn add_groups(writer: &mut Writer) -> Result<Vec<GroupId>, BenchError> {
    let added = (0..WIDE).map(|_| writer.add_group(&Group::Local).map_err(BenchError::environment));
    added.collect()
}

/// With nobody reading: every boundary of every route says what the model says.
fn sweep(writing: &mut Writing<'_>, table: &Table) -> Result<(), String> {
    let mut wrong = None;
    for addr in table.prefixes.iter().flat_map(|&prefix| boundaries(prefix)) {
        let want = writing.model.find(addr).map_or(GroupId::NONE, |(_, group)| group);
        let found = writing.writer.lookup(addr);
        if found != want {
            wrong = wrong.or(Some(format!("{addr} has {found:?} at the end, not {want:?}")));
        }
    }
    let waiting = writing.writer.reclaim();
    match wrong {
        Some(wrong) => Err(wrong),
        None if waiting > 0 => Err(format!("{waiting} things wait for no reader")),
        None => {
            println!("soak: at the end all {} routes are right", table.prefixes.len());
            Ok(())
        }
    }
}

fn print(writing: &Writing<'_>, counts: &[Count]) {
    let sum = |of: fn(&Count) -> u64| counts.iter().map(of).sum::<u64>();
    let [churn, storms, groups] = writing.changes;
    println!("soak: {churn} changes of real churn, {storms} of storms, {groups} groups replaced");
    println!(
        "soak: {} answers were right at some moment ({} amid a change, {} of no route); {} were \
         overtaken by several changes and not judged",
        sum(|count| count.right),
        sum(|count| count.amid),
        sum(|count| count.nothing),
        sum(|count| count.overtaken)
    );
    println!("soak: {:?}", writing.writer.memory());
}

/// Places of each family.
const PLACES: usize = 2048;

/// Groups at first, and later: their numbers no longer fit 16 bits.
const NARROW: usize = 4096;
const WIDE: usize = 40_000;
