//! What work of the control plane does to everything else: sites that are checked over TCP, by DNS and by
//! ICMP, flows through the router, and then large reloads, many readers and churn. Nothing may be taken for
//! dead, and no packet may be lost.
#![forbid(unsafe_code)]

mod lab;
mod loads;

use std::time::Duration;

use nearhop::time::Nanos;
use nearlab::calibration::Calibration;

use self::lab::Lab;
use crate::Wish;
use crate::noise::Noise;
use crate::report::{BenchError, Row};
use crate::stats::Summary;

/// Runs every load `repeat` times, the long ones only by name, and then what has a size.
pub fn run(wish: Wish<'_>, _: &mut Noise) -> Result<Vec<Row>, BenchError> {
    let mut rows = Vec::new();
    let is_asked = |load: &&loads::Load| {
        load.name.contains(wish.measure) && !(load.long && wish.measure.is_empty())
    };
    for load in loads::ALL.iter().filter(is_asked) {
        rows.extend(starve(load, wish.repeat)?);
    }
    for size in loads::SIZES.iter().filter(|size| size.name.contains(wish.measure)) {
        rows.extend((size.measure)(size.name, wish.repeat)?);
    }
    if rows.is_empty() {
        return Err(BenchError::usage(format!("no measure has {:?} in its name", wish.measure)));
    }
    Ok(rows)
}

/// What one run of a load did to the rest.
struct Harm {
    /// Sites taken for dead.
    false_alarms: u64,
    sent: u64,
    lost: u64,
    /// The longest time without an answer, of the worst flow, milliseconds.
    gap_ms: f64,
    /// The longest step of any thread of the router, milliseconds.
    step_ms: f64,
    /// Which that was.
    step: String,
    took_s: f64,
}

/// Runs a load until there were `repeat` runs in which the machine itself kept still.
fn starve(load: &loads::Load, repeat: u32) -> Result<Vec<Row>, BenchError> {
    let mut counted = Vec::new();
    let mut stalled = 0;
    while counted.len() < repeat as usize && stalled < 3 * repeat {
        let lab = Lab::start()?;
        let calibration = Calibration::start().map_err(BenchError::environment)?;
        let begun = Nanos::now();
        (load.put_on)(&lab)?;
        let ended = Nanos::now();
        let harm = lab.harm(begun..ended)?;
        let latest = calibration.latest_wake(begun..ended);
        eprintln!(
            "{}: {:.2} s, {} false alarms, {} of {} lost, gap {:.1} ms, longest step {:.0} ms {}; \
             the machine's own longest stall {:.1} ms",
            load.name,
            harm.took_s,
            harm.false_alarms,
            harm.lost,
            harm.sent,
            harm.gap_ms,
            harm.step_ms,
            harm.step,
            latest.as_secs_f64() * 1e3,
        );
        if latest > STALL_MAX {
            stalled += 1;
        } else {
            counted.push(harm);
        }
    }
    let name = |what: &str| format!("{}: {what}", load.name);
    if counted.is_empty() {
        let why = format!("the machine stalled for more than {STALL_MAX:?} in every run");
        return Ok(vec![Row::missing(load.name, "nobody", &why)]);
    }
    let of = |figure: &dyn Fn(&Harm) -> f64| Summary::of(counted.iter().map(figure));
    let most = |figure: &dyn Fn(&Harm) -> f64| counted.iter().map(figure).fold(0.0, f64::max);
    let runs = counted.len();
    let alarms = most(&|harm| harm.false_alarms as f64);
    let lost = most(&|harm| harm.lost as f64);
    let step = most(&|harm| harm.step_ms);
    let in_all = format!("none in {runs} runs");
    Ok(vec![
        Row::figure(name("false alarms"), "", &of(&|harm| harm.false_alarms as f64))
            .judged(in_all.clone(), alarms == 0.0),
        Row::figure(name("lost"), "", &of(&|harm| harm.lost as f64)).judged(in_all, lost == 0.0),
        Row::figure(name("longest gap"), "ms", &of(&|harm| harm.gap_ms)),
        Row::figure(name("longest step"), "ms", &of(&|harm| harm.step_ms))
            .judged("no step above 50 ms", step <= 50.0),
        Row::figure(name("takes"), "s", &of(&|harm| harm.took_s)),
    ])
}

/// A run in which the machine did not wake a thread for longer does not count.
const STALL_MAX: Duration = Duration::from_millis(10);
