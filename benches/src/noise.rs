//! What else the machine does: the processor time of others, and a calibration figure to compare
//! runs by.
#![forbid(unsafe_code)]

use std::fmt;
use std::fs;
use std::hint::black_box;
use std::thread;
use std::time::Duration;

use nearhop::time::Nanos;
use serde::Serialize;

use crate::report::BenchError;
use crate::stats::Summary;

/// The noise of a run.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Measured {
    /// Share of the processors that others used right before, in percent.
    pub foreign_before_percent: f64,
    /// And right after.
    pub foreign_after_percent: f64,
    /// Nanoseconds of one step of a fixed chain of multiplications and loads, before and after.
    pub calibration_ns: [f64; 2],
}

/// A run under way.
pub struct Noise {
    before: Look,
    after: Option<Look>,
}

/// One look at the machine.
#[derive(Clone, Copy)]
struct Look {
    foreign: f64,
    calibration: f64,
}

impl Look {
    /// Takes half a second.
    fn now() -> Self {
        Self { foreign: foreign_percent(LOOK), calibration: calibrate() }
    }
}

impl Noise {
    /// Before the measurement.
    pub fn begin() -> Self {
        Self { before: Look::now(), after: None }
    }

    /// Looks at the machine once the last figure is taken. A bench whose clearing up is work calls
    /// it before that: to take down a namespace of 100,000 routes keeps the kernel busy.
    pub fn look_after(&mut self) {
        self.after = Some(Look::now());
    }

    /// What was seen; looks now if that was not done before.
    pub fn end(self) -> Measured {
        let after = self.after.unwrap_or_else(Look::now);
        Measured {
            foreign_before_percent: self.before.foreign,
            foreign_after_percent: after.foreign,
            calibration_ns: [self.before.calibration, after.calibration],
        }
    }
}

impl Measured {
    /// Whether others used no more than is allowed, before and after.
    pub fn is_quiet(&self) -> bool {
        self.foreign_before_percent.max(self.foreign_after_percent) <= FOREIGN_MAX_PERCENT
    }
}

impl fmt::Display for Measured {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "others used {:.1} % before and {:.1} % after; calibration {:.3} and {:.3} ns",
            self.foreign_before_percent,
            self.foreign_after_percent,
            self.calibration_ns[0],
            self.calibration_ns[1]
        )
    }
}

/// Figures made beside other work would be believed: refuses, unless that is wished.
///
/// # Errors
/// Others use more than [`FOREIGN_MAX_PERCENT`].
pub fn refuse_if_busy(noisy: bool) -> Result<(), BenchError> {
    let foreign = foreign_percent(LOOK);
    if foreign <= FOREIGN_MAX_PERCENT {
        return Ok(());
    }
    if noisy {
        eprintln!(
            "warning: others use {foreign:.1} % of the processors: these figures prove nothing"
        );
        return Ok(());
    }
    Err(BenchError::environment(format!(
        "others use {foreign:.1} % of the processors, more than {FOREIGN_MAX_PERCENT} %: nothing can \
         be concluded; stop them, or say --noisy"
    )))
}

/// Share of all processors that is in use while this process sleeps.
fn foreign_percent(look: Duration) -> f64 {
    let (busy, total) = processor_time();
    let until = Nanos::now() + look;
    while Nanos::now() < until {
        thread::park_timeout(until.since(Nanos::now()));
    }
    let (busy_after, total_after) = processor_time();
    let total = (total_after - total).max(1);
    (busy_after - busy) as f64 * 100.0 / total as f64
}

/// Ticks in use, stolen ones included, and ticks in all: proc_stat(5).
pub fn processor_time() -> (u64, u64) {
    let text = fs::read_to_string("/proc/stat").unwrap_or_default();
    let line = text.lines().next().unwrap_or_default();
    let ticks: Vec<u64> =
        line.split_whitespace().skip(1).take(8).filter_map(|word| word.parse().ok()).collect();
    let total = ticks.iter().sum::<u64>();
    let idle = ticks.iter().skip(3).take(2).sum::<u64>();
    (total - idle, total)
}

/// A chain that depends on the core and its first-level cache alone; the median of some.
fn calibrate() -> f64 {
    let table: Vec<u64> = (0..512).map(|i: u64| i.wrapping_mul(0x9e37_79b9_7f4a_7c15)).collect();
    Summary::of((0..21).map(|_| {
        let start = Nanos::now();
        let mut x = black_box(1_u64);
        for _ in 0..CHAIN {
            x = x.wrapping_mul(0x2545_f491_4f6c_dd1d) ^ table[(x >> 55) as usize];
        }
        black_box(x);
        Nanos::now().since(start).as_nanos() as f64 / f64::from(CHAIN)
    }))
    .p50
}

/// Above this nothing is concluded.
const FOREIGN_MAX_PERCENT: f64 = 8.0;

/// How long others are looked at.
const LOOK: Duration = Duration::from_millis(500);

const CHAIN: u32 = 100_000;
