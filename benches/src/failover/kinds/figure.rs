//! From probes to times, by the terms of RFC 7747 and RFC 6412.
#![forbid(unsafe_code)]

use std::collections::HashSet;
use std::fmt;
use std::time::Duration;

use nearhop::time::Nanos;

use super::probe::Seen;
use crate::report::BenchError;

/// One failure, in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Trial {
    /// The longest time between two arrivals, of whatever site, that ends after the failure, less the time
    /// between two sends: the packet-based route convergence time as the receiver sees it.
    pub blackout_ms: f64,
    /// From the failure, or from the UPDATE if there is one, to the first arrival at `b`: first route
    /// convergence.
    pub moved_ms: f64,
    /// From the failure to the first send from which on nothing was lost: full convergence.
    pub settled_ms: f64,
    /// Datagrams sent that no site was given.
    pub lost: usize,
    /// From the failure to the end of the blackout, for those who ask what else happened then.
    pub window: (Nanos, Nanos),
}

/// What was seen of one failure.
pub struct Evidence {
    /// When each datagram was sent.
    pub sent: Vec<Nanos>,
    /// Time between two sends.
    pub every: Duration,
    /// Right before the call that made the failure.
    pub before: Nanos,
    /// Numbers given to the application, and what the device saw: at `a`.
    pub at_a: (HashSet<usize>, Seen),
    /// And at `b`.
    pub at_b: (HashSet<usize>, Seen),
    /// Whether the failure is an UPDATE: times count from it then.
    pub by_update: bool,
}

impl Trial {
    /// Measures one failure; `None` if the traffic was not at `a` before it, as after a session that went down
    /// for nothing. Times are infinite if no packet came to `b`.
    ///
    /// # Errors
    /// No UPDATE where one should be.
    pub fn measure(seen: &Evidence) -> Result<Option<Self>, BenchError> {
        let wrong = |what: String| BenchError::environment(format!("unusable traffic: {what}"));
        let mut arrivals = delivered(&seen.at_a);
        let usual = arrivals.iter().filter(|at| **at < seen.before).count();
        let at_b = delivered(&seen.at_b);
        let early = at_b.iter().filter(|at| **at < seen.before).count();
        if usual < USUAL || early > 0 {
            eprintln!("before the failure {usual} packets at a, {early} at b");
            return Ok(None);
        }
        let updates = seen.at_a.1.updates.iter().copied().find(|at| *at >= seen.before);
        let fault = match (seen.by_update, updates) {
            (true, None) => return Err(wrong("no UPDATE left the site".into())),
            (true, Some(at)) => at,
            (false, _) => seen.before,
        };
        let ms = |at: Nanos| at.0.cast_signed().wrapping_sub(fault.0.cast_signed()) as f64 / 1e6;
        let first_at_b = at_b.iter().min().copied();
        arrivals.extend(at_b);
        arrivals.sort_unstable();
        let gaps = arrivals.windows(2).filter(|pair| pair[1] >= seen.before);
        let longest = gaps.max_by_key(|pair| pair[1].since(pair[0])).map(|pair| (pair[0], pair[1]));
        let given = |number: &usize| seen.at_a.0.contains(number) || seen.at_b.0.contains(number);
        let lost: Vec<usize> = (0..seen.sent.len()).filter(|number| !given(number)).collect();
        let Some((first_at_b, (last, next))) = first_at_b.zip(longest) else {
            return Ok(Some(Self::never(seen.before, lost.len())));
        };
        let settled = lost.last().map_or(0.0, |number| ms(seen.sent[*number] + seen.every));
        let blackout = next.since(last).saturating_sub(seen.every);
        Ok(Some(Self {
            blackout_ms: blackout.as_secs_f64() * 1e3,
            moved_ms: ms(first_at_b),
            settled_ms: settled.max(0.0),
            lost: lost.len(),
            window: (seen.before, next.max(first_at_b)),
        }))
    }

    fn never(before: Nanos, lost: usize) -> Self {
        let never = f64::INFINITY;
        Self {
            blackout_ms: never,
            moved_ms: never,
            settled_ms: never,
            lost,
            window: (before, before),
        }
    }
}

/// When those datagrams came that the application was given.
fn delivered((given, seen): &(HashSet<usize>, Seen)) -> Vec<Nanos> {
    seen.probes.iter().filter(|(number, _)| given.contains(number)).map(|(_, at)| *at).collect()
}

impl fmt::Display for Trial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "blackout {:.3}, moved {:.3}, settled {:.3} ms, lost {}",
            self.blackout_ms, self.moved_ms, self.settled_ms, self.lost
        )
    }
}

/// Fewer datagrams before a failure are no traffic.
const USUAL: usize = 100;

#[cfg(test)]
mod tests {
    use super::*;

    const EVERY: Duration = Duration::from_micros(200);

    /// 1,000 datagrams; the failure at the 500th, those of `lost` given to nobody, later ones to `b`.
    fn evidence(lost: std::ops::Range<usize>, by_update: bool) -> Evidence {
        let sent: Vec<Nanos> = (0..1_000).map(|n| Nanos(200_000 * n)).collect();
        let seen = |numbers: std::ops::Range<usize>, updates: Vec<Nanos>| {
            let probes = numbers.clone().map(|n| (n, Nanos(sent[n].0 + 10_000))).collect();
            (numbers.collect(), Seen { probes, updates })
        };
        let mut at_a = seen(0..lost.start, vec![Nanos(1), Nanos(sent[500].0 + 50_000)]);
        // The device sees one that the filter drops.
        at_a.1.probes.push((lost.start, Nanos(sent[lost.start].0 + 10_000)));
        let at_b = seen(lost.end..1_000, vec![]);
        Evidence { before: sent[500], sent, every: EVERY, at_a, at_b, by_update }
    }

    #[test]
    fn a_blackout_is_what_the_lost_ones_took() {
        let trial = Trial::measure(&evidence(502..520, false)).unwrap().unwrap();
        assert_eq!(trial.lost, 18);
        assert!((trial.blackout_ms - 3.6).abs() < 1e-6, "{trial}");
        assert!((trial.moved_ms - 4.01).abs() < 1e-6, "{trial}");
        assert!((trial.settled_ms - 4.0).abs() < 1e-6, "{trial}");
    }

    #[test]
    fn a_withdrawal_counts_from_its_update() {
        let trial = Trial::measure(&evidence(505..505, true)).unwrap().unwrap();
        assert_eq!(trial.lost, 0);
        assert!((trial.moved_ms - 0.96).abs() < 1e-6 && trial.blackout_ms == 0.0, "{trial}");
        let mut silent = evidence(505..505, true);
        silent.at_a.1.updates.truncate(1);
        assert!(Trial::measure(&silent).is_err());
    }

    #[test]
    fn what_never_comes_back_is_infinite_and_what_was_elsewhere_is_no_trial() {
        let mut gone = evidence(502..520, false);
        gone.at_b = Default::default();
        assert!(Trial::measure(&gone).unwrap().unwrap().blackout_ms.is_infinite());
        let mut early = evidence(502..520, false);
        early.at_b.0.insert(3);
        early.at_b.1.probes.push((3, Nanos(10)));
        assert_eq!(Trial::measure(&early).unwrap(), None);
    }
}
