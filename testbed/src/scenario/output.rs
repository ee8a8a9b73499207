//! What a person reads of a scenario's run.
#![forbid(unsafe_code)]

use std::fmt;

use super::{Deed, Failure, Outcome};
use crate::console::Console;
use crate::measure::ms_between;
use crate::report::Line;

impl fmt::Display for Deed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Kill { site, how } => write!(f, "kill {site} ({how})"),
            Self::Heal { site } => write!(f, "heal {site}"),
            Self::Flap { site, how, every, lasts, .. } => {
                write!(f, "flap {site} ({how}) every {every:?} for {lasts:?}")
            }
            Self::Drain(site) => write!(f, "drain {site}"),
            Self::Undrain(site) => write!(f, "undrain {site}"),
            Self::Withdraw(site) => write!(f, "withdraw {site}"),
            Self::Announce(site) => write!(f, "announce {site}"),
            Self::Reorder(order) => write!(f, "reorder {}", order.join(", ")),
            Self::Undamp => f.write_str("undamp"),
        }
    }
}

/// A table of the steps, and what came of the whole.
pub(super) fn outcome(console: &Console, outcome: &Outcome) {
    console.line("");
    let width = outcome.steps.iter().map(|step| step.what.len()).max().unwrap_or(0).max(4);
    console.line(format_args!(
        "       AT  {:width$}      OUTAGE        LOST  MOVES  SERVED BY",
        "STEP"
    ));
    for step in &outcome.steps {
        console.line(format_args!(
            "{:>7.3} s  {:width$}  {:>7.2} ms  {:>4}/{:<5}  {:>5}  {}",
            step.at_ms / 1e3,
            step.what,
            step.outage_ms,
            step.lost,
            step.sent,
            step.moves,
            step.served_by.join(", ")
        ));
    }
    console.line("");
    console.line(format_args!(
        "longest outage {:.2} ms · lost {} of {} · reordered {} · moves {}, {} without a reason",
        outcome.outage_ms,
        outcome.lost,
        outcome.sent,
        outcome.reordered,
        outcome.moves,
        outcome.unexplained_moves
    ));
}

/// Each failure with the events round its moment; `lines` are in the order of time.
pub(super) fn failures(console: &Console, failures: &[Failure], lines: &[Line], begin_ns: u64) {
    for failure in failures {
        let text = format!("FAILED   {}: {}", failure.expect, failure.what);
        console.line(console.paint("31", text));
        let at = lines.partition_point(|line| line.t_ns() < failure.t_ns);
        let from = at.saturating_sub(ROUND);
        for (index, line) in lines.iter().enumerate().take(at + ROUND).skip(from) {
            if index == at {
                console.line(moment(failure.t_ns, begin_ns));
            }
            let json = serde_json::to_string(line).unwrap_or_default();
            console.line(format_args!(
                "  {:>+9.4} s  {json}",
                ms_between(begin_ns, line.t_ns()) / 1e3
            ));
        }
        if at == lines.len() {
            console.line(moment(failure.t_ns, begin_ns));
        }
    }
}

fn moment(t_ns: u64, begin_ns: u64) -> String {
    format!("  {:>+9.4} s  <<< here", ms_between(begin_ns, t_ns) / 1e3)
}

/// Events shown before and after a moment.
const ROUND: usize = 8;
