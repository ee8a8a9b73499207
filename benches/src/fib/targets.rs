//! What is to be reached, as rows of the report.
#![forbid(unsafe_code)]

use super::contestant::Maker;
use super::contestants::{dpdk, planb};
use super::keys::Workload;
use super::readers::Round;
use super::speed::{Column, Mode};
use super::table::Known;
use super::updates::OfLength;
use crate::report::Row;
use crate::stats::Summary;

/// Lookups beside DPDK's best, column by column.
pub fn lookups(columns: &[Column]) -> Vec<Row> {
    columns.iter().filter_map(|column| against_dpdk(column, least(column))).collect()
}

/// Lookups beside PlanB's, in tables of prefixes that it can hold.
pub fn planb(columns: &[Column]) -> Vec<Row> {
    let row = |column: &Column| {
        let least = matches!(column.workload, Workload::Traffic | Workload::Zipf)
            .then_some(PLANB)
            .filter(|_| column.mode != Mode::Dependent);
        against(column, |maker| maker == Maker::PlanB, least)
    };
    columns.iter().filter_map(row).collect()
}

/// A row that says that PlanB is missing.
pub fn no_planb() -> Row {
    let why = format!("its code is not part of this project; {} names its library", planb::LIBRARY);
    Row::missing(format!("{} lookups", planb::PART), "PlanB", &why)
}

/// A row that says that DPDK is missing, if it is.
pub fn no_dpdk(alone: bool) -> Option<Row> {
    let why = if alone { Some("left out by --alone") } else { dpdk::MISSING };
    why.map(|why| Row::missing("lookups, build, changes", "DPDK", why))
}

/// The ratio to reach in a column.
fn least(column: &Column) -> Option<f64> {
    let Mode::Batch(batch) = column.mode else { return None };
    match (column.family, column.workload) {
        ("IPv4", Workload::Uniform | Workload::Traffic) => {
            Some(if batch == 32 { 1.3 } else { 1.5 })
        }
        ("IPv4", Workload::Zipf) => Some(1.35),
        ("IPv4", Workload::Rep1k) => Some(1.15),
        (_, Workload::Traffic | Workload::Zipf) => Some(1.7),
        _ => None,
    }
}

fn against_dpdk(column: &Column, least: Option<f64>) -> Option<Row> {
    let v4 = column.family == "IPv4";
    let is = move |maker| maker == Maker::DpdkFib || (v4 && maker == Maker::DpdkLpm);
    against(column, is, least)
}

fn against(column: &Column, is: impl Fn(Maker) -> bool, least: Option<f64>) -> Option<Row> {
    let ours = column.best(|maker| maker == Maker::Nearhop)?.summary();
    let (how, unit) = match column.mode {
        Mode::Batch(batch) => (format!("batch {batch}"), "M/s"),
        Mode::Dependent => ("dependent".to_owned(), "ns"),
    };
    let name = format!("{} {}, {how}", column.family, column.workload);
    let row = Row::figure(name, unit, &ours);
    let Some(peer) = column.best(is) else { return Some(row) };
    let row = row.against(&peer.name, Some(peer.summary().p50));
    let Some((least, ratio)) = least.zip(row.ratio) else { return Some(row) };
    Some(row.judged(format!("ratio at least {least}"), ratio >= least))
}

/// Build and memory, judged, then beside each peer's.
pub fn known(family: &str, all: &[Known], builds: &Summary) -> Vec<Row> {
    let Some(ours) = all.iter().find(|known| known.name == "nearhop") else { return Vec::new() };
    let v4 = family == "IPv4";
    let build = Row::figure(format!("{family} build"), "s", builds);
    let build = if v4 {
        build.judged(format!("at most {BUILD_S} s"), builds.p50 <= BUILD_S)
    } else {
        build
    };
    let megabytes = ours.facts.bytes.unwrap_or_default() as f64 / 1e6;
    let most = if v4 { 40.0 } else { 16.0 };
    let memory = Row::figure(format!("{family} memory"), "MB", &Summary::of([megabytes]))
        .judged(format!("at most {most} MB"), megabytes <= most);
    let mut rows = vec![build, memory];
    rows.extend(all.iter().filter_map(|known| alone(family, known)));
    for peer in all.iter().filter(|known| known.name != "nearhop" && !known.facts.shared) {
        let build = Row::figure(format!("{family} build"), "s", builds);
        rows.push(build.against(&peer.name, Some(peer.facts.build_s)));
        if let Some((ours, theirs)) = ours.changes.as_ref().zip(peer.changes.as_ref()) {
            let pairs = format!("{family} del+add, nobody reading");
            let row = Row::figure(pairs, "M/s", &ours.pairs_m);
            rows.push(row.against(&peer.name, Some(theirs.pairs_m.p50)));
        }
    }
    rows
}

/// Our changes of random routes.
fn alone(family: &str, known: &Known) -> Option<Row> {
    let worst = known.changes.as_ref().filter(|of| of.maker == Maker::Nearhop)?.worst;
    let name = format!("{family} worst change, random routes");
    Some(Row::figure(name, "µs", &Summary::of([worst.own_us])).judged(
        format!("at most {WORST_US} µs ({:.1} with interruptions)", worst.any_us),
        worst.own_us <= WORST_US,
    ))
}

/// The slowest change of each length, each a row of its own, and the slowest of all.
pub fn lengths(family: &str, all: &[OfLength]) -> Vec<Row> {
    let own = |of: &OfLength| of.insert.own_us.max(of.remove.own_us);
    let judged = |name: String, of: &OfLength| {
        let any = of.insert.any_us.max(of.remove.any_us);
        let target = format!(
            "at most {WORST_US} µs (insert {:.1}, remove {:.1}; {any:.1} with interruptions)",
            of.insert.own_us, of.remove.own_us
        );
        Row::figure(name, "µs", &Summary::of([own(of)])).judged(target, own(of) <= WORST_US)
    };
    let worst = all.iter().max_by(|a, b| own(a).total_cmp(&own(b)));
    let summary =
        worst.map(|of| judged(format!("{family} worst change, all lengths: /{}", of.len), of));
    let row = |of: &OfLength| judged(format!("{family} worst change, /{}", of.len), of).in_detail();
    summary.into_iter().chain(all.iter().map(row)).collect()
}

/// Our table while it changes.
pub fn readers(family: &str, rounds: &[Round]) -> Vec<Row> {
    let summary = |figure: fn(&Round) -> f64| Summary::of(rounds.iter().map(figure));
    let pairs = summary(|round| round.pairs_m);
    let slowed = summary(|round| (1.0 - round.paced_m / round.alone_m) * 100.0);
    let made = summary(|round| round.paced_changes_m);
    let reported = |name: &str, figure| Row::figure(format!("{family} {name}"), "M/s", figure);
    vec![
        reported("del+add beside a reader at full speed", &pairs)
            .judged(format!("at least {PAIRS_M} M/s"), pairs.p50 >= PAIRS_M),
        Row::figure(format!("{family} reader slowed by 1 M changes/s"), "%", &slowed).judged(
            format!("at most {SLOWED} %, of {:.2} M changes/s", made.p50),
            slowed.p50 <= SLOWED && made.p50 >= PACED_LEAST_M,
        ),
        reported("reader, no writer", &summary(|round| round.alone_m)),
        reported("reader beside 1 M changes/s", &summary(|round| round.paced_m)),
        reported("reader beside a writer at full speed", &summary(|round| round.beside_m)),
    ]
}

/// The ratio to PlanB.
const PLANB: f64 = 1.2;
const BUILD_S: f64 = 0.1;
const WORST_US: f64 = 100.0;
const PAIRS_M: f64 = 2.0;
const SLOWED: f64 = 10.0;

/// A writer that made fewer changes than these did not make a million.
const PACED_LEAST_M: f64 = 0.98;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fib::speed::Cell;
    use crate::fib::updates::Worst;

    fn column(family: &'static str, workload: Workload, batch: usize) -> Column {
        let cell = |name: &str, maker, figure| Cell {
            name: name.to_owned(),
            maker,
            samples: vec![figure],
            code: None,
        };
        let cells = vec![
            cell("nearhop", Maker::Nearhop, 140.0),
            cell("fib", Maker::DpdkFib, 80.0),
            cell("lpm", Maker::DpdkLpm, 100.0),
            cell("crate", Maker::Crate, 1000.0),
        ];
        Column { family, workload, mode: Mode::Batch(batch), cells }
    }

    #[test]
    fn the_best_of_dpdk_is_the_measure_and_for_ipv6_its_fib() {
        let cases = [
            ("IPv4", Workload::Uniform, 32, Some(true), "lpm", 1.4),
            ("IPv4", Workload::Uniform, 256, Some(false), "lpm", 1.4),
            ("IPv4", Workload::Zipf, 32, Some(true), "lpm", 1.4),
            ("IPv4", Workload::Rep1k, 256, Some(true), "lpm", 1.4),
            ("IPv6", Workload::Uniform, 256, None, "fib", 1.75),
            ("IPv6", Workload::Zipf, 256, Some(true), "fib", 1.75),
        ];
        for (family, workload, batch, met, peer, ratio) in cases {
            let rows = lookups(&[column(family, workload, batch)]);
            assert_eq!((rows[0].met, rows[0].peer_name.as_str()), (met, peer), "{}", rows[0].name);
            assert!((rows[0].ratio.unwrap() - ratio).abs() < 1e-9);
        }
    }

    #[test]
    fn a_writer_too_slow_for_the_question_does_not_meet_it() {
        let round = |paced_changes_m| Round {
            alone_m: 100.0,
            paced_m: 95.0,
            paced_changes_m,
            ..Round::default()
        };
        assert_eq!(readers("IPv4", &[round(1.0)])[1].met, Some(true));
        assert_eq!(readers("IPv4", &[round(0.5)])[1].met, Some(false));
    }

    #[test]
    fn every_length_is_judged_by_its_slower_change() {
        let of = |len, own_us| OfLength {
            len,
            insert: Worst { own_us, any_us: 1e6 },
            remove: Worst::default(),
        };
        let rows = lengths("IPv4", &[of(0, 5600.0), of(1, 3.0)]);
        let met: Vec<_> = rows.iter().map(|row| row.met).collect();
        assert_eq!(met, [Some(false), Some(false), Some(true)]);
        assert_eq!(rows[0].name, "IPv4 worst change, all lengths: /0");
    }
}
