//! Longest-prefix match: our table, DPDK's, Rust crates', on the same keys in one run.
#![deny(unsafe_code)]

mod contestant;
mod contestants;
mod cores;
mod ffi;
mod keys;
mod lookup;
pub mod random;
mod readers;
mod speed;
mod svg;
mod table;
mod targets;
mod updates;

use std::path::Path;

use self::contestant::{Contestant, Maker};
use self::contestants::crates::{PrefixTrie, Treebitmap};
use self::contestants::nearhop::Nearhop;
use self::contestants::planb::PlanB;
use self::contestants::{dpdk, planb};
use self::cores::Cores;
use self::keys::{Keys, Routes, Word, Workload};
use self::lookup::Lookup;
use self::speed::{Column, Field};
use self::table::Known;
use crate::Wish;
use crate::forward::rig::Table;
use crate::noise::Noise;
use crate::report::{BenchError, Row};
use crate::stats::Summary;

/// Runs the bench.
pub fn run(wish: Wish<'_>, _: &mut Noise) -> Result<Vec<Row>, BenchError> {
    check_names(wish.without)?;
    let before = cores::Binding::save()?;
    let rows = bound(wish);
    before.restore()?;
    rows
}

/// On one core from here on.
fn bound(wish: Wish<'_>) -> Result<Vec<Row>, BenchError> {
    let prefixes = Table::load().map_err(BenchError::environment)?.prefixes;
    let (v4, v6) = (Routes::<u32>::of(&prefixes), Routes::<u128>::of(&prefixes));
    let cores = Cores::choose()?;
    let wanted = |name: &str| !wish.without.iter().any(|without| is_named(name, without));
    if !wish.alone {
        dpdk::start(cores.measured)?;
    }
    cores::pin(cores.measured)?;

    let mut rows: Vec<Row> = targets::no_dpdk(wish.alone).into_iter().collect();
    rows.extend(wish.without.iter().map(|name| Row::missing("", name, "left out by --without")));
    let field = field(&v4, wish, &wanted, dpdk::all)?;
    let columns_v4 = family(field, &v4, wish, cores, &mut rows)?;
    let field = self::field(&v6, wish, &wanted, dpdk::all)?;
    let columns_v6 = family(field, &v6, wish, cores, &mut rows)?;
    beside_planb(&v6, wish, &wanted, &mut rows)?;
    if let Some(path) = wish.svg {
        draw(path, &[&columns_v4, &columns_v6])?;
    }
    Ok(rows)
}

/// Builds everybody's table: ours, DPDK's, then the crates'.
fn field<W>(
    routes: &Routes<W>,
    wish: Wish<'_>,
    wanted: &dyn Fn(&str) -> bool,
    dpdk: impl FnOnce(&Routes<W>, &dyn Fn(&str) -> bool) -> Result<Field<W>, BenchError>,
) -> Result<Field<W>, BenchError>
where
    W: Lookup<Addr: ip_network_table_deps_treebitmap::address::Address>,
    (W, u8): prefix_trie::Prefix,
{
    let mut field: Field<W> = vec![Box::new(Nearhop::new(routes)?)];
    if wish.alone {
        return Ok(field);
    }
    field.extend(dpdk(routes, wanted)?);
    field.push(Box::new(PrefixTrie::new(routes)));
    field.push(Box::new(Treebitmap::new(routes)));
    field.retain(|contestant| contestant.maker() == Maker::Nearhop || wanted(contestant.name()));
    Ok(field)
}

/// Everything of one family: prints its tables, adds its rows.
fn family<W: Lookup>(
    mut field: Field<W>,
    routes: &Routes<W>,
    wish: Wish<'_>,
    cores: Cores,
    rows: &mut Vec<Row>,
) -> Result<Vec<Column>, BenchError> {
    let (family, rounds) = (W::FAMILY, wish.repeat as usize);
    println!("\n{family}: {} routes", routes.0.len());
    let columns = speed::measure(&mut field, routes, family, rounds)?;
    eprintln!("changing {family} routes");
    let known = changes(&mut field, routes, rounds)?;
    let lengths = updates::lengths(field[0].as_mut(), routes)?;
    // Whoever changed its routes must have the same table as before.
    speed::agree(&mut field, &Keys::new(Workload::Traffic, routes))?;
    println!("\n{}\n{}", table::lookups(&columns), table::latencies(&columns));
    println!("{}", table::codes(&columns));
    println!("{}", table::known(family, &known));
    if !wish.alone && dpdk::MISSING.is_none() {
        println!("{}", dpdk::note());
    }
    drop(field);
    rows.extend(targets::lookups(&columns));
    rows.extend(targets::known(family, &known, &builds(routes, rounds)?));
    rows.extend(targets::lengths(family, &lengths));
    eprintln!("reading {family} beside a writer");
    match cores.other {
        Some(_) => rows.extend(targets::readers(family, &readers::measure(routes, cores, rounds)?)),
        None => rows.push(Row::missing(
            format!("{family} reader beside a writer"),
            "second core",
            "this process may use one alone",
        )),
    }
    Ok(columns)
}

fn changes<W: Word>(
    field: &mut Field<W>,
    routes: &Routes<W>,
    rounds: usize,
) -> Result<Vec<Known>, BenchError> {
    let known = |contestant: &mut Box<dyn Contestant<W>>| {
        let (name, facts) = (contestant.name().to_owned(), contestant.facts());
        let changes = (facts.pairs_max > 0 && !facts.shared)
            .then(|| updates::measure(contestant.as_mut(), routes, rounds))
            .transpose()?;
        Ok(Known { name, facts, changes })
    };
    field.iter_mut().map(known).collect()
}

/// Seconds to build our table, again and again.
fn builds<W: Lookup>(routes: &Routes<W>, rounds: usize) -> Result<Summary, BenchError> {
    let build = |_| Ok(Contestant::<W>::facts(&Nearhop::new(routes)?).build_s);
    let seconds: Vec<f64> = (0..rounds).map(build).collect::<Result<_, BenchError>>()?;
    Ok(Summary::of(seconds))
}

/// Our table and PlanB's of the IPv6 prefixes that it can hold.
fn beside_planb(
    v6: &Routes<u128>,
    wish: Wish<'_>,
    wanted: &dyn Fn(&str) -> bool,
    rows: &mut Vec<Row>,
) -> Result<(), BenchError> {
    let library = std::env::var_os(planb::LIBRARY).filter(|_| !wish.alone && wanted("PlanB"));
    let Some(library) = library else {
        rows.push(targets::no_planb());
        return Ok(());
    };
    let routes = v6.up_to(planb::LEN_MAX);
    let ours: Box<dyn Contestant<u128>> = Box::new(Nearhop::new(&routes)?);
    let mut field: Field<u128> = vec![ours, Box::new(PlanB::new(Path::new(&library), &routes)?)];
    println!("\n{}: {} routes", planb::PART, routes.0.len());
    let columns = speed::measure(&mut field, &routes, planb::PART, wish.repeat as usize)?;
    println!("\n{}\n{}", table::lookups(&columns), table::latencies(&columns));
    rows.extend(targets::planb(&columns));
    Ok(())
}

fn draw(path: &Path, families: &[&[Column]]) -> Result<(), BenchError> {
    let machine = nearlab::report::Machine::this();
    let title = format!("{}; full table, medians; nearhop-benches fib", machine.cpu);
    std::fs::write(path, svg::chart(&title, families)).map_err(|error| {
        BenchError::environment(format!("cannot write {}: {error}", path.display()))
    })
}

/// Whether `wish` names this contestant: all of its name, or its first word.
fn is_named(name: &str, wish: &str) -> bool {
    name == wish || name.split(' ').next() == Some(wish)
}

fn check_names(without: &[String]) -> Result<(), BenchError> {
    let known = |wish: &&String| PEERS.iter().any(|name| is_named(name, wish));
    match without.iter().find(|wish| !known(wish)) {
        None => Ok(()),
        Some(wish) => Err(BenchError::usage(format!(
            "--without {wish}: there is no such peer; there are: {}",
            PEERS.join(", ")
        ))),
    }
}

/// Every name that may be left out.
const PEERS: [&str; 9] = [
    "rte_fib AVX-512",
    "rte_fib scalar",
    "rte_lpm",
    "rte_fib6 AVX-512",
    "rte_fib6 scalar",
    "rte_lpm6",
    "prefix-trie 0.10",
    "treebitmap 0.5",
    "PlanB",
];
