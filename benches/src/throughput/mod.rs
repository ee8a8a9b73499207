//! What goes through: nearhop, bare loops that only copy, the kernel itself, and an XDP program,
//! interleaved.
//!
//! Each contestant stands between two namespaces of its own, a client's and a site's. They are
//! measured in turn, a fraction of a second each, by the same sockets; whoever is not measured has
//! nothing to do and sleeps.
#![forbid(unsafe_code)]

mod copy;
mod kernel;
mod load;
mod nearhop;
mod pairs;
mod subject;
mod svg;
mod xdp;

use std::collections::BTreeMap;

use self::load::Figures;
use self::pairs::Pairs;
use self::subject::Subject;
use crate::Wish;
use crate::noise::Noise;
use crate::report::{BenchError, Row};
use crate::stats::Summary;

/// Runs the bench.
pub fn run(wish: Wish<'_>, noise: &mut Noise) -> Result<Vec<Row>, BenchError> {
    let mut subjects = contestants(wish)?;
    let mut seen = Series::new();
    for round in 0..wish.repeat {
        eprintln!("round {} of {}", round + 1, wish.repeat);
        for (measure, load) in measures(wish) {
            // Who begins moves on, so that nobody is always the one after somebody.
            let len = subjects.len();
            for turn in 0..len {
                let subject = &mut subjects[(turn + round as usize) % len];
                let figures = load(subject)?;
                seen.entry((measure, subject.name)).or_default().push(figures);
            }
        }
    }
    noise.look_after();
    if let Some(path) = wish.svg {
        std::fs::write(path, svg::chart(&charted(&subjects, &seen))).map_err(|error| {
            BenchError::environment(format!("cannot write {}: {error}", path.display()))
        })?;
    }
    Ok(rows(&subjects, &seen))
}

fn measures(wish: Wish<'_>) -> impl Iterator<Item = (&'static str, load::Load)> {
    let is_judged = |measure| TARGETS.iter().any(|target| target.measure == measure);
    load::ALL
        .into_iter()
        .filter(move |(name, _)| name.contains(wish.measure) && (!wish.judged || is_judged(*name)))
}

/// By measure and contestant, a figure of each round.
type Series = BTreeMap<(&'static str, &'static str), Vec<Figures>>;

fn contestants(wish: Wish<'_>) -> Result<Vec<Subject>, BenchError> {
    let mut all = vec![nearhop::build(NEARHOP, "")?];
    all.push(nearhop::build(ALONE, "join = false\n")?);
    all.push(nearhop::build(BUSY, "busy")?);
    if !wish.alone {
        all.push(copy::build(COPY_URING, copy::Engine::Uring)?);
        all.push(copy::build(COPY_EPOLL, copy::Engine::Epoll)?);
        all.push(copy::build(COPY_PLAIN, copy::Engine::Plain)?);
        if kernel::is_here() {
            all.push(kernel::build(KERNEL, false)?);
            for (name, built) in [(RPS, kernel::build(RPS, true)), (XDP, xdp::build(XDP))] {
                match built {
                    Ok(subject) => all.push(subject),
                    Err(error) => eprintln!(
                        "warning: no {name}, which takes root outside of a user namespace: {error}"
                    ),
                }
            }
        }
    }
    let named = |subject: &Subject| {
        TARGETS.iter().any(|target| target.ours == subject.name || target.peer == subject.name)
    };
    all.retain(|subject| !wish.without.iter().any(|name| name == subject.name));
    all.retain(|subject| !wish.judged || named(subject));
    Ok(all)
}

fn rows(subjects: &[Subject], seen: &Series) -> Vec<Row> {
    let mut rows = Vec::new();
    for (measure, _) in load::ALL {
        for subject in subjects {
            let Some(figures) = seen.get(&(measure, subject.name)) else { continue };
            rows.extend(reported(measure, subject.name, figures));
        }
    }
    for target in TARGETS {
        rows.push(judge(target, seen));
    }
    if !subjects.iter().any(|subject| subject.name == XDP) {
        rows.push(Row::missing(load::UDP_64, XDP, "left out or missing"));
    }
    rows
}

/// What was seen of one contestant in one measure.
fn reported(measure: &str, subject: &str, figures: &[Figures]) -> Vec<Row> {
    let row = |what: &str, unit: &str, of: &dyn Fn(&Figures) -> Option<f64>| {
        let values: Vec<f64> = figures.iter().filter_map(of).collect();
        let name = format!("{measure}{what}: {subject}");
        (!values.is_empty()).then(|| Row::figure(name, unit, &Summary::of(values)))
    };
    let percent = |share: Option<f64>| share.map(|share| share * 100.0);
    [
        row("", figures.first().map_or("", |one| one.unit), &|one| Some(one.figure)),
        row(", p99", "us", &|one| one.p99),
        row(", CPU of the machine", "ns/packet", &|one| one.cpu_ns),
        row(", lost", "%", &|one| percent(one.lost)),
        row(", out of order", "packets", &|one| one.reordered),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// What nearhop has to reach beside somebody, as the median of the ratios of each round.
struct Target {
    measure: &'static str,
    ours: &'static str,
    peer: &'static str,
    ratio: f64,
    /// Less is better.
    at_most: bool,
}

fn judge(target: &Target, seen: &Series) -> Row {
    let Target { measure, ours, peer, ratio, at_most } = *target;
    let figures = |name| seen.get(&(measure, name)).map(|all| all.iter().map(|one| one.figure));
    let name = format!("{measure}: {ours} / {peer}");
    let (Some(mine), Some(theirs)) = (figures(ours), figures(peer)) else {
        return Row::missing(name, peer, "left out or missing");
    };
    let ours: Vec<f64> = mine.collect();
    let theirs: Vec<f64> = theirs.collect();
    let pairs = Pairs::of(&ours, &theirs);
    let (met, words) = pairs.judge(ratio, at_most);
    let mut row =
        Row::figure(name, "", &Summary::of(ours)).against(peer, Some(Summary::of(theirs).p50));
    row.ratio = Some(pairs.median());
    row.judged(words, met)
}

/// For the chart: each measure with the medians of all contestants.
fn charted(subjects: &[Subject], seen: &Series) -> Vec<svg::Group> {
    let groups = load::ALL.iter().map(|(measure, _)| {
        let bars: Vec<(String, f64)> = subjects
            .iter()
            .filter_map(|subject| {
                let figures = seen.get(&(*measure, subject.name))?;
                let median = Summary::of(figures.iter().map(|one| one.figure)).p50;
                Some((subject.name.to_owned(), median))
            })
            .collect();
        let unit = seen.iter().find(|((name, _), _)| name == measure);
        let unit = unit.and_then(|(_, all)| all.first()).map_or("", |one| one.unit);
        svg::Group { name: format!("{measure}, {unit}"), bars }
    });
    groups.collect()
}

const NEARHOP: &str = "nearhop";
const ALONE: &str = "nearhop join=false";
const BUSY: &str = "nearhop busy-poll=50us";
const COPY_URING: &str = "copy io_uring";
const COPY_EPOLL: &str = "copy epoll";
const COPY_PLAIN: &str = "copy plain";
const KERNEL: &str = "kernel";
const RPS: &str = "kernel RPS";
const XDP: &str = "XDP redirect";

const fn at_least(
    measure: &'static str,
    ours: &'static str,
    peer: &'static str,
    ratio: f64,
) -> Target {
    Target { measure, ours, peer, ratio, at_most: false }
}

const fn at_most(
    measure: &'static str,
    ours: &'static str,
    peer: &'static str,
    ratio: f64,
) -> Target {
    Target { measure, ours, peer, ratio, at_most: true }
}

const TARGETS: &[Target] = &[
    at_least(load::UDP_64, ALONE, COPY_URING, 0.95),
    at_least(load::SUPERFRAMES, NEARHOP, COPY_URING, 0.95),
    at_least(load::TCP_1, NEARHOP, COPY_URING, 0.95),
    at_least(load::UDP_64, NEARHOP, KERNEL, 1.6),
    at_least(load::UDP_64, ALONE, RPS, 0.85),
    at_least(load::UDP_64, NEARHOP, RPS, 0.95),
    at_least(load::TCP_1, NEARHOP, KERNEL, 0.75),
    at_least(load::DELIVERED, NEARHOP, COPY_URING, 1.3),
    at_most(load::ROUND_TRIP, NEARHOP, KERNEL, 1.1),
    at_most(load::ROUND_TRIP, BUSY, KERNEL, 0.65),
];

#[cfg(test)]
mod tests {
    use super::*;

    fn series(ours: f64, theirs: f64) -> Series {
        let figures = |figure| vec![Figures { figure, ..Figures::default() }; 21];
        let ours = ((load::UDP_64, NEARHOP), figures(ours));
        Series::from([ours, ((load::UDP_64, KERNEL), figures(theirs))])
    }

    #[test]
    fn a_target_is_met_or_missed_by_its_ratio_and_a_missing_peer_is_named() {
        let target = at_least(load::UDP_64, NEARHOP, KERNEL, 1.6);
        assert_eq!(judge(&target, &series(1.7, 1.0)).met, Some(true));
        assert_eq!(judge(&target, &series(1.5, 1.0)).met, Some(false));
        let less = at_most(load::UDP_64, NEARHOP, KERNEL, 1.1);
        assert_eq!(judge(&less, &series(1.0, 1.0)).met, Some(true));
        assert_eq!(judge(&less, &series(1.2, 1.0)).met, Some(false));
        let row = judge(&at_least(load::UDP_64, NEARHOP, RPS, 1.0), &series(1.0, 1.0));
        assert!(row.met.is_none() && row.peer_name.contains(RPS));
    }

    #[test]
    fn every_target_is_of_a_measure_that_is_made() {
        for target in TARGETS {
            assert!(load::ALL.iter().any(|(name, _)| *name == target.measure));
        }
    }
}
