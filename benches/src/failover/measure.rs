//! From packets to times.
#![forbid(unsafe_code)]

use std::collections::HashSet;
use std::fmt;

use nearhop::time::Nanos;

use super::traffic::{FLOWS, Sent};
use crate::report::BenchError;
use crate::stats::Summary;

/// What one fault did, in milliseconds after the call that set the port down began.
#[derive(Clone, Copy, Debug, PartialEq)]
#[allow(clippy::struct_field_names, reason = "units come last")]
pub struct Fault {
    /// How long the call took.
    pub call_ms: f64,
    /// From the call to the router's news of it, and from there to the stored byte; NaN where the
    /// router reports neither.
    pub event_ms: (f64, f64),
    /// The first packet of any flow at `b`.
    pub first_ms: f64,
    /// The median over the flows of each one's first packet at `b`. A flow is looked at once in a
    /// round, so half a round after the first is what a change of all at once gives.
    pub median_ms: f64,
    /// The flow whose first packet came to `b` last: a round after the first, at best.
    pub last_ms: f64,
    /// The moment from which on every packet sent, of whatever flow, arrived at `b`.
    pub settled_ms: f64,
}

/// Who received what: numbers and times.
#[derive(Clone, Debug, Default)]
pub struct Arrivals {
    /// The cheaper site.
    pub at_a: Vec<(usize, Nanos)>,
    /// The other.
    pub at_b: Vec<(usize, Nanos)>,
}

impl Fault {
    /// Measures one fault.
    ///
    /// # Errors
    /// The traffic was not what it should have been: nothing at `a` before, or a flow that never
    /// came to `b`.
    pub fn measure(
        before: Nanos,
        after: Nanos,
        sent: &Sent,
        arrivals: &Arrivals,
        reported: Option<(Nanos, Nanos)>,
    ) -> Result<Self, BenchError> {
        let wrong = |what: String| BenchError::environment(format!("unusable traffic: {what}"));
        let early = arrivals.at_b.iter().filter(|(_, at)| *at < before).count();
        let usual = arrivals.at_a.iter().filter(|(_, at)| *at < before).count();
        if early > 0 || usual < FLOWS {
            return Err(wrong(format!("before the fault {usual} packets at a, {early} at b")));
        }
        let mut firsts = vec![None; FLOWS];
        for &(number, at) in &arrivals.at_b {
            firsts[number % FLOWS].get_or_insert(at);
        }
        let unmoved = firsts.iter().filter(|first| first.is_none()).count();
        if unmoved > 0 {
            return Err(wrong(format!("{unmoved} flows never came to b")));
        }
        let ms = |at: Nanos| at.0.cast_signed().wrapping_sub(before.0.cast_signed()) as f64 / 1e6;
        let firsts = Summary::of(firsts.into_iter().flatten().map(ms));
        let here: HashSet<usize> = arrivals.at_b.iter().map(|(number, _)| *number).collect();
        let settled = (0..sent.len()).rev().take_while(|number| here.contains(number)).last();
        let settled = settled.ok_or_else(|| wrong("the last packet did not arrive at b".into()))?;
        let event_ms = reported.map_or((f64::NAN, f64::NAN), |(event, stored)| {
            (ms(event), stored.since(event).as_secs_f64() * 1e3)
        });
        Ok(Self {
            call_ms: ms(after),
            event_ms,
            first_ms: firsts.min,
            median_ms: firsts.p50,
            last_ms: firsts.max,
            settled_ms: ms(sent[settled]),
        })
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "call {:.3}, event {:.3} + {:.3}, first {:.3}, median {:.3}, last {:.3}, all moved \
             {:.3} ms",
            self.call_ms,
            self.event_ms.0,
            self.event_ms.1,
            self.first_ms,
            self.median_ms,
            self.last_ms,
            self.settled_ms
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EVERY_NS: u64 = 25_000;

    /// Flows from `linear_from` on move one packet later for each flow; the others at once.
    fn run(linear_from: usize) -> Fault {
        let fault = 3 * FLOWS;
        let sent: Sent = (0..9 * FLOWS).map(|n| Nanos(n as u64 * EVERY_NS)).collect();
        let at = |n: usize| (n, Nanos(sent[n].0 + 5_000));
        let moved = |n: usize| {
            let flow = n % FLOWS;
            let late = if flow < linear_from { 40 } else { 40 + FLOWS };
            n >= fault + late
        };
        let (at_b, rest): (Vec<usize>, Vec<usize>) = (0..sent.len()).partition(|&n| moved(n));
        let at_a = rest.into_iter().filter(|&n| n < fault).map(at).collect();
        let arrivals = Arrivals { at_a, at_b: at_b.into_iter().map(at).collect() };
        let before = sent[fault];
        let reported = Some((Nanos(before.0 + 300_000), Nanos(before.0 + 310_000)));
        Fault::measure(before, Nanos(before.0 + 100_000), &sent, &arrivals, reported).unwrap()
    }

    #[test]
    fn a_change_of_all_at_once_takes_one_round_to_be_seen_and_settles_at_once() {
        let fault = run(FLOWS);
        assert!((fault.first_ms - 1.005).abs() < 1e-6, "{fault}");
        assert!((fault.settled_ms - 1.0).abs() < 1e-6, "{fault}");
        assert!((fault.last_ms - (1.005 + 0.025 * 999.0)).abs() < 1e-6, "{fault}");
        assert!((fault.event_ms.0 - 0.3).abs() < 1e-6 && (fault.event_ms.1 - 0.01).abs() < 1e-6);
    }

    #[test]
    fn one_flow_that_stays_behind_is_seen() {
        let fault = run(FLOWS - 1);
        assert!((fault.first_ms - 1.005).abs() < 1e-6, "{fault}");
        assert!(fault.settled_ms > 24.0 && fault.last_ms > 49.0, "{fault}");
    }
}
