//! Steps of a thread that took too long: named, counted, and logged.
#![forbid(unsafe_code)]

use std::collections::BTreeMap;
use std::time::Duration;

use crate::event::SlowStep;
use crate::time::Nanos;

/// The slow steps of one thread since it started.
#[derive(Debug)]
pub(super) struct Steps {
    thread: &'static str,
    slow: BTreeMap<&'static str, SlowStep>,
    began: Nanos,
}

impl Steps {
    pub(super) const fn of(thread: &'static str) -> Self {
        Self { thread, slow: BTreeMap::new(), began: Nanos::ZERO }
    }

    /// A step begins.
    pub(super) fn begin(&mut self, now: Nanos) {
        self.began = now;
    }

    /// What began last is over, and another step may begin.
    pub(super) fn end(&mut self, step: &'static str, now: Nanos) {
        let took = now.since(self.began);
        self.began = now;
        if took < SLOW {
            return;
        }
        let thread = self.thread;
        let slow =
            self.slow.entry(step).or_insert(SlowStep { thread, step, ..SlowStep::default() });
        slow.count += 1;
        slow.longest = slow.longest.max(took);
        log::warn!("the {thread} thread took {} ms for one step: {step}", took.as_millis());
    }

    /// All of them.
    pub(super) fn slow(&self) -> impl Iterator<Item = SlowStep> + '_ {
        self.slow.values().copied()
    }
}

/// A step that takes so long is worth knowing of: somebody waited.
const SLOW: Duration = Duration::from_millis(10);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_counts_if_it_is_slow_and_its_longest_time_is_kept() {
        let mut steps = Steps::of("host");
        let ms = |ms: u64| Nanos(ms * 1_000_000);
        steps.begin(ms(0));
        steps.end("checks", ms(9));
        steps.end("packets", ms(29));
        steps.begin(ms(100));
        steps.end("packets", ms(112));
        let slow: Vec<SlowStep> = steps.slow().collect();
        let longest = Duration::from_millis(20);
        assert_eq!(slow, [SlowStep { thread: "host", step: "packets", count: 2, longest }]);
    }
}
