//! How long the steps of a thread take: the longest of each, and those that took too long, which are logged.
#![forbid(unsafe_code)]

use std::time::Duration;

use crate::time::{Nanos, StepTimes};

/// The steps of one thread since it started.
#[derive(Debug)]
pub(super) struct Steps {
    thread: &'static str,
    /// One for each name, of which a thread has a few.
    times: Vec<StepTimes>,
    began: Nanos,
}

impl Steps {
    pub(super) const fn of(thread: &'static str) -> Self {
        Self { thread, times: Vec::new(), began: Nanos::ZERO }
    }

    /// A step begins.
    pub(super) fn begin(&mut self, now: Nanos) {
        self.began = now;
    }

    /// What began last is over, and another step may begin.
    pub(super) fn end(&mut self, step: &'static str, now: Nanos) {
        let took = now.since(self.began);
        self.began = now;
        let thread = self.thread;
        let known = self.times.iter().position(|one| one.step == step);
        let known = known.unwrap_or_else(|| {
            self.times.push(StepTimes { thread, step, ..StepTimes::default() });
            self.times.len() - 1
        });
        let times = &mut self.times[known];
        times.longest = times.longest.max(took);
        if took >= SLOW {
            times.slow += 1;
            log::warn!("the {thread} thread took {} ms for one step: {step}", took.as_millis());
        }
    }

    /// All of them.
    pub(super) fn times(&self) -> &[StepTimes] {
        &self.times
    }
}

/// A step that takes so long is worth knowing of: somebody waited.
const SLOW: Duration = Duration::from_millis(10);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_time_of_each_step_is_kept_and_slow_ones_are_counted() {
        let mut steps = Steps::of("host");
        let ms = |ms: u64| Nanos(ms * 1_000_000);
        steps.begin(ms(0));
        steps.end("checks", ms(9));
        steps.end("packets", ms(29));
        steps.begin(ms(100));
        steps.end("packets", ms(112));
        steps.end("checks", ms(113));
        let times = |step, slow, longest| {
            let longest = Duration::from_millis(longest);
            StepTimes { thread: "host", step, slow, longest }
        };
        assert_eq!(steps.times(), [times("checks", 0, 9), times("packets", 2, 20)]);
    }
}
