//! How long a blackout may last, and whether this machine was fit to say so.
//!
//! What a router promises is its detection rule. To it comes what this machine added while it was
//! measured: the call that did the harm, the time between two probes, and the wake-ups on the way from
//! the fault to the first packet on the new path. Where these are as long as what is to be seen, or the
//! machine stood still, speed is not judged.
#![forbid(unsafe_code)]

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::kill::{KillKind, KillResult};
use super::summary::Spread;

/// What speed is judged by, kind by kind.
#[derive(Clone, Debug, PartialEq)]
pub enum Standard {
    /// The detection rule, in milliseconds, and what the machine adds to it.
    Machine(BTreeMap<KillKind, f64>),
    /// A median blackout in milliseconds, on whatever machine.
    Absolute(BTreeMap<KillKind, f64>),
}

/// What was done, and what the machine was like meanwhile.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Conditions {
    /// How long the call took that did the harm, in nanoseconds.
    pub call_ns: u64,
    /// The longest time that a thread waited for its core, in nanoseconds.
    pub wake_ns: u64,
}

/// How long a blackout may last, in milliseconds, by its parts.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Serialize)]
pub struct Budget {
    /// The detection rule: so long the router may be in the dark.
    pub rule_ms: f64,
    /// The call that did the harm.
    pub call_ms: f64,
    /// Between two probes: what is shorter cannot be seen.
    pub resolution_ms: f64,
    /// [`WAKE_UPS`] times the longest wake-up seen.
    pub wake_ms: f64,
}

/// What was found of one kind and family.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Verdict {
    /// The median budget.
    pub budget_ms: f64,
    /// `None`: not judged.
    pub met: Option<bool>,
    /// By what it was judged, or why it was not.
    pub why: String,
}

/// Why a repeat says nothing of the router's speed.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Unfit {
    StoodStill(f64),
    Resolution(f64),
    Call(f64),
    WakeUp(f64),
}

impl Standard {
    /// Judges the repeats of one kind and family; there is at least one.
    pub(super) fn judge(&self, kind: KillKind, repeats: &[&KillResult]) -> Verdict {
        let p50 = |of: &dyn Fn(&KillResult) -> f64, among: &[&KillResult]| {
            Spread::of(among.iter().map(|kill| of(kill))).p50
        };
        match self {
            Self::Absolute(budgets) => {
                let Some(&budget_ms) = budgets.get(&kind) else { return Verdict::unknown() };
                let blackout = p50(&|kill| kill.blackout_ms, repeats);
                let why = format!("p50 {blackout:.2} ms of {budget_ms:.2} on any machine");
                Verdict { budget_ms, met: Some(blackout <= budget_ms), why }
            }
            Self::Machine(rules) => {
                let Some(&rule_ms) = rules.get(&kind) else { return Verdict::unknown() };
                let budget = |kill: &KillResult| Budget::of(rule_ms, kill);
                let fit: Vec<&KillResult> =
                    repeats.iter().copied().filter(|kill| budget(kill).unfit().is_none()).collect();
                if fit.len() * 2 <= repeats.len() {
                    let budget_ms = p50(&|kill| budget(kill).total_ms(), repeats);
                    let why = worst(repeats.iter().filter_map(|kill| budget(kill).unfit()));
                    return Verdict { budget_ms, met: None, why };
                }
                let budget_ms = p50(&|kill| budget(kill).total_ms(), &fit);
                let blackout = p50(&|kill| kill.blackout_ms, &fit);
                let part = |of: fn(Budget) -> f64| p50(&|kill| of(budget(kill)), &fit);
                if blackout > budget_ms && fit.len() < REPEATS_MIN {
                    let fit = fit.len();
                    let why = format!("{fit} repeat(s), and a miss needs {REPEATS_MIN}");
                    return Verdict { budget_ms, met: None, why };
                }
                let why = format!(
                    "p50 {blackout:.2} ms of {budget_ms:.2}: rule {rule_ms:.0} and {MARGIN} x \
                     (call {:.2} + resolution {:.2} + wake-ups {:.2}); {} of {} repeats",
                    part(|budget| budget.call_ms),
                    part(|budget| budget.resolution_ms),
                    part(|budget| budget.wake_ms),
                    fit.len(),
                    repeats.len()
                );
                Verdict { budget_ms, met: Some(blackout <= budget_ms), why }
            }
        }
    }
}

impl Budget {
    /// What this machine allows for in one kill.
    pub fn of(rule_ms: f64, kill: &KillResult) -> Self {
        Self {
            rule_ms,
            call_ms: kill.call_ms,
            resolution_ms: kill.resolution_ms,
            wake_ms: f64::from(WAKE_UPS) * kill.wake_ms,
        }
    }

    /// The rule, and one and a half times what the machine added.
    pub fn total_ms(&self) -> f64 {
        let total = self.rule_ms + MARGIN * (self.call_ms + self.resolution_ms + self.wake_ms);
        // To the nanosecond, so that it reads back as it was written.
        (total * 1e6).round() / 1e6
    }

    /// Whether what the machine added is too much for a judgement.
    fn unfit(&self) -> Option<Unfit> {
        let wake_ms = self.wake_ms / f64::from(WAKE_UPS);
        let coarse = COARSE_MS + self.rule_ms / 10.0;
        if wake_ms >= STALL_MS {
            Some(Unfit::StoodStill(wake_ms))
        } else if self.resolution_ms > coarse {
            Some(Unfit::Resolution(self.resolution_ms))
        } else if self.call_ms > coarse {
            Some(Unfit::Call(self.call_ms))
        } else if self.wake_ms > coarse {
            Some(Unfit::WakeUp(wake_ms))
        } else {
            None
        }
    }
}

impl Verdict {
    fn unknown() -> Self {
        Self { budget_ms: 0.0, met: None, why: "nothing is promised of this kind".to_owned() }
    }
}

impl Unfit {
    fn cause(self) -> u8 {
        match self {
            Self::StoodStill(_) => 0,
            Self::Resolution(_) => 1,
            Self::Call(_) => 2,
            Self::WakeUp(_) => 3,
        }
    }

    fn ms(self) -> f64 {
        match self {
            Self::StoodStill(ms) | Self::Resolution(ms) | Self::Call(ms) | Self::WakeUp(ms) => ms,
        }
    }

    fn text(self) -> String {
        match self {
            Self::StoodStill(ms) => format!("the machine stood still for {ms:.0} ms"),
            Self::Resolution(ms) => format!("resolution {ms:.1} ms"),
            Self::Call(ms) => format!("the call that set it down took {ms:.1} ms"),
            Self::WakeUp(ms) => format!("wake-ups {ms:.1} ms late"),
        }
    }
}

/// The cause that most repeats have, by its longest time.
fn worst(unfit: impl Iterator<Item = Unfit>) -> String {
    let mut causes: BTreeMap<u8, Vec<Unfit>> = BTreeMap::new();
    unfit.for_each(|one| causes.entry(one.cause()).or_default().push(one));
    let most = causes.into_values().rev().max_by_key(Vec::len).unwrap_or_default();
    let longest = most.into_iter().max_by(|a, b| a.ms().total_cmp(&b.ms()));
    longest.map(Unfit::text).unwrap_or_default()
}

/// Threads that have to wake between a fault and the first answer by the new way: the router's liveness
/// thread; its worker, when the next probe comes; the site's echo; the worker again. The kernel stamps
/// what arrives at the client.
pub const WAKE_UPS: u32 = 4;

/// What the machine added, as far as it was measured, counts so much: caches that others use, and clocks
/// that others slow down, delay threads that run.
const MARGIN: f64 = 1.5;

/// Fewer repeats than this say nothing against a router: one of them may have met with anything.
const REPEATS_MIN: usize = 3;

/// A machine whose threads waited for so long, in milliseconds, stood still.
const STALL_MS: f64 = 10.0;

/// A part of the budget that is longer than this and a tenth of the rule hides what is to be judged.
const COARSE_MS: f64 = 2.0;

#[cfg(test)]
mod tests;
