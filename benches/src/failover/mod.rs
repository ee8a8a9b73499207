//! Does a failover take longer when there are more routes?
//!
//! Two routers stand side by side, one with 10 prefixes in one group, one with 100,000 in 10,000
//! groups, every group with the same two ways out; the one that does not run is stopped. A
//! client sends numbered packets round robin to a thousand flows spread from the first prefix to
//! the last; the port of the cheaper site is set down; the kernel's stamps at the other site say
//! when each flow came there first. Linux itself, with the same prefixes at two metrics, is
//! measured in between.
#![forbid(unsafe_code)]

mod bare;
mod config;
mod kinds;
mod linux;
mod measure;
mod nearhop;
mod subject;
mod traffic;

pub use self::kinds::Failures;
pub use self::traffic::pass;

use self::config::Size;
use self::measure::Fault;
use self::subject::Subject;
use crate::Wish;
use crate::noise::Noise;
use crate::report::{BenchError, Row};
use crate::stats::Summary;

/// Runs the bench.
pub fn run(wish: Wish<'_>, noise: &mut Noise) -> Result<Vec<Row>, BenchError> {
    let mut rows = if SCALE.contains(wish.measure) { scale(wish)? } else { Vec::new() };
    rows.extend(kinds::run(wish));
    noise.look_after();
    Ok(rows)
}

/// Few and many routes.
fn scale(wish: Wish<'_>) -> Result<Vec<Row>, BenchError> {
    let mut ours = [Size::SMALL, Size::LARGE].map(|size| nearhop::build(size).map(Series::new));
    let mut linux = if wish.alone || !linux::is_here() {
        None
    } else {
        Some([linux::build(Size::SMALL)?, linux::build(Size::LARGE)?].map(Series::new))
    };
    let mut bare = Vec::new();
    for round in 0..wish.repeat {
        for series in ours.iter_mut().map(Result::as_mut) {
            series.map_err(|error| error.clone())?.fail_over(round)?;
        }
        if let Ok(small) = &mut ours[0] {
            let heard = small.subject.hear_bare(&nearhop::netns_a(Size::SMALL))?;
            eprintln!("a bare program hears of the fault after {heard:.3} ms");
            bare.push(heard);
        }
        for series in linux.iter_mut().flatten() {
            series.fail_over(round)?;
        }
    }
    let bare = Summary::of(bare);
    let [small, large] = ours;
    let (small, large) = (small?, large?);
    let mut rows = compare(&small, &large, linux.as_ref());
    let heard = Row::figure("fault to event, 10 routes", "ms", &small.summary(|f| f.event_ms.0));
    rows.push(heard.against("a bare program in its place", Some(bare.p50)));
    rows.extend(detail(&small));
    rows.extend(detail(&large));
    rows.extend(peers(wish, linux.as_ref()));
    Ok(rows)
}

/// One subject and what its faults did.
struct Series {
    subject: Subject,
    faults: Vec<Fault>,
}

impl Series {
    fn new(subject: Subject) -> Self {
        Self { subject, faults: Vec::new() }
    }

    fn fail_over(&mut self, round: u32) -> Result<(), BenchError> {
        let fault = self.subject.fail_over(round)?;
        eprintln!("{}: {fault}", self.subject.name);
        self.faults.push(fault);
        Ok(())
    }

    fn summary(&self, of: fn(&Fault) -> f64) -> Summary {
        Summary::of(self.faults.iter().map(of))
    }
}

/// The question itself: the same time for both sizes?
fn compare(small: &Series, large: &Series, linux: Option<&[Series; 2]>) -> Vec<Row> {
    let figures: [Figure; 2] =
        [("first flow moved", |f| f.first_ms), ("all flows moved", |f| f.settled_ms)];
    let mut rows = Vec::new();
    for (what, of) in figures {
        let (few, many) = (small.summary(of), large.summary(of));
        let allowed = few.half_spread().max(many.half_spread()).max(ALLOWED_MS);
        let apart = (many.p50 - few.p50).abs();
        let target = format!("100,000 as 10 routes: {apart:.3} ms apart, at most {allowed:.3}");
        let row = Row::figure(format!("{what}, 100,000 routes"), "ms", &many)
            .against("nearhop with 10 routes", Some(few.p50))
            .judged(target, apart <= allowed);
        rows.push(row);
        if let Some([_, linux]) = linux {
            let row = Row::figure(format!("{what}, 100,000 routes"), "ms", &many)
                .against("Linux, two metrics", Some(linux.summary(of).p50));
            rows.push(row);
        }
    }
    rows
}

/// A name, and where it is in a fault.
type Figure = (&'static str, fn(&Fault) -> f64);

/// Everything about one subject.
fn detail(series: &Series) -> Vec<Row> {
    let name = &series.subject.name;
    let figures: [Figure; 8] = [
        ("set-down call", |f| f.call_ms),
        ("fault to event", |f| f.event_ms.0),
        ("event to stored byte", |f| f.event_ms.1),
        ("first flow at b", |f| f.first_ms),
        ("median flow at b", |f| f.median_ms),
        ("last flow at b", |f| f.last_ms),
        ("last to move after the first", |f| f.last_ms - f.first_ms),
        ("all flows moved", |f| f.settled_ms),
    ];
    let reported = |(what, of): Figure| {
        let summary = series.summary(of);
        summary.p50.is_finite().then(|| Row::figure(format!("{name}: {what}"), "ms", &summary))
    };
    figures.into_iter().filter_map(reported).collect()
}

fn peers(wish: Wish<'_>, linux: Option<&[Series; 2]>) -> Vec<Row> {
    let mut rows = Vec::new();
    match linux {
        Some(linux) => rows.extend(linux.iter().flat_map(detail)),
        None if wish.alone => {}
        None => rows.push(Row::missing("all flows moved", "Linux", "missing: no program ip")),
    }
    rows
}

/// What `--measure` calls the comparison of few and many routes.
const SCALE: &str = "scale";

/// Medians may be so far apart, however small the spread.
const ALLOWED_MS: f64 = 0.05;
