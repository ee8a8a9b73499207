//! Which of several kernels looks a reader's batches up fastest: found out by timing them in service,
//! and again every now and then.
//!
//! It depends on the processor, on the table, and most on what the addresses hit: to fetch ahead
//! doubles the speed where slots come from far, and costs a third where they come from near. Only a
//! clock can measure. A trial takes a few batches, which are looked up like all others; what it finds
//! stands for some hundred to some thousand batches, the longer the more often it was found.
#![forbid(unsafe_code)]

use core::cell::Cell;

use super::Kernel;
use crate::memory::settled_clock;

/// One reader's kernels for one family, and which of them is in use.
pub(crate) struct Trials {
    kernels: &'static [Kernel],
    now: Cell<usize>,
    /// Batches until the next trial.
    left: Cell<u32>,
    /// Batches from one trial to the next.
    period: Cell<u32>,
    /// How many batches the present trial has had.
    step: Cell<usize>,
    taken: [Cell<Taken>; KERNELS_MAX],
}

/// What a kernel took in the present trial, in fractions of a tick for each address.
#[derive(Clone, Copy, Default)]
struct Taken {
    total: u64,
    /// Left out of account: the core may have been away.
    longest: u64,
}

impl Trials {
    /// Of these kernels the first is used until there is a reason for another.
    pub(crate) fn new(kernels: &'static [Kernel]) -> Self {
        assert!((1..=KERNELS_MAX).contains(&kernels.len()), "one to {KERNELS_MAX} kernels");
        Self {
            kernels,
            now: Cell::new(0),
            left: Cell::new(0),
            period: Cell::new(PERIOD_MIN),
            step: Cell::new(0),
            taken: Default::default(),
        }
    }

    /// The kernel in use.
    #[inline]
    pub(crate) fn now(&self) -> Kernel {
        self.kernels[self.now.get() % self.kernels.len()]
    }

    /// Uses the kernel of this name alone from now on, if it is among these or `others`; whether it
    /// is.
    pub(crate) fn keep(&mut self, name: &str, others: &'static [Kernel]) -> bool {
        let kernels = [self.kernels, others].into_iter().find_map(|kernels| {
            let at = kernels.iter().position(|kernel| kernel.name() == name)?;
            Some(&kernels[at..=at])
        });
        self.step.set(0);
        self.kernels = kernels.unwrap_or(self.kernels);
        kernels.is_some()
    }

    /// Calls `run` for a batch of so many addresses, with the kernel to use.
    #[inline]
    pub(crate) fn batch(&self, len: usize, run: impl FnOnce(Kernel)) {
        let trial = self.on_trial(len);
        let start = trial.map_or(0, |_| settled_clock());
        run(trial.map_or_else(|| self.now(), |kernel| self.kernels[kernel]));
        if let Some(kernel) = trial {
            self.note(kernel, settled_clock().wrapping_sub(start), len);
        }
    }

    /// Whose turn it is, if a batch of so many addresses is to be timed.
    #[inline]
    fn on_trial(&self, len: usize) -> Option<usize> {
        // Of fewer addresses the clock would say little.
        if len < TIMED_MIN || self.kernels.len() == 1 {
            return None;
        }
        let left = self.left.get();
        self.left.set(left.saturating_sub(1));
        (left == 0).then(|| self.step.get() % self.kernels.len())
    }

    #[cold]
    fn note(&self, kernel: usize, ticks: u64, len: usize) {
        // A clock that stood still or ran back is none.
        let per_addr = ticks.min(TICKS_MAX) * FRACTIONS / len as u64;
        let Taken { total, longest } = self.taken[kernel].get();
        self.taken[kernel].set(Taken { total: total + per_addr, longest: longest.max(per_addr) });
        self.step.set(self.step.get() + 1);
        if self.step.get() == ROUNDS * self.kernels.len() {
            self.decide();
        }
    }

    fn decide(&self) {
        let taken = |kernel: usize| {
            let Taken { total, longest } = self.taken[kernel].get();
            // What is in use stays, unless another is faster by more than chance.
            let favour = if kernel == self.now.get() { total / 32 } else { 0 };
            total - longest - favour.min(total - longest)
        };
        let best = (0..self.kernels.len()).min_by_key(|&kernel| taken(kernel)).unwrap_or_default();
        let is_same = best == self.now.replace(best);
        let period = if is_same { self.period.get() * 2 } else { PERIOD_MIN };
        self.period.set(period.min(PERIOD_MAX));
        self.left.set(self.period.get());
        self.step.set(0);
        self.taken.iter().for_each(|taken| taken.set(Taken::default()));
    }
}

/// Batches by each kernel in one trial.
const ROUNDS: usize = 4;

/// Kernels of a family at most.
const KERNELS_MAX: usize = 2;

/// Batches of fewer addresses are neither timed nor counted.
const TIMED_MIN: usize = 16;

/// Batches between two trials: at most a fiftieth of them is in a trial.
const PERIOD_MIN: u32 = 600;
const PERIOD_MAX: u32 = 9600;

/// A batch that took longer was interrupted.
const TICKS_MAX: u64 = 1 << 32;

/// Parts of a tick that are counted.
const FRACTIONS: u64 = 64;

#[cfg(all(test, not(loom), not(miri), target_arch = "x86_64"))]
mod tests {
    use core::hint::black_box;

    use super::*;

    /// Looks nothing up, but for so long.
    fn idle(spins: u32) {
        (0..spins).for_each(|spin| {
            black_box(spin);
        });
    }

    fn run_trial(trials: &Trials, spins: impl Fn(Kernel) -> u32) {
        for _ in 0..PERIOD_MAX as usize + 3 * ROUNDS {
            trials.batch(64, |kernel| idle(spins(kernel)));
        }
    }

    const KERNELS: &[Kernel] = &[Kernel::Portable, Kernel::PortableAhead];

    #[test]
    fn the_faster_kernel_is_used_and_left_again_when_it_is_slower() {
        let trials = Trials::new(KERNELS);
        assert_eq!(trials.now(), Kernel::Portable, "the first until something is known");
        run_trial(&trials, |kernel| if kernel == Kernel::Portable { 4000 } else { 400 });
        assert_eq!(trials.now(), Kernel::PortableAhead);
        run_trial(&trials, |kernel| if kernel == Kernel::Portable { 400 } else { 4000 });
        assert_eq!(trials.now(), Kernel::Portable);
    }

    #[test]
    fn a_single_interruption_decides_nothing() {
        let trials = Trials::new(KERNELS);
        let batches = Cell::new(0);
        for _ in 0..2 * ROUNDS {
            trials.batch(64, |kernel| {
                batches.set(batches.get() + 1);
                let away = if batches.get() == 4 { 1_000_000 } else { 0 };
                idle(away + if kernel == Kernel::Portable { 4000 } else { 400 });
            });
        }
        assert_eq!(trials.now(), Kernel::PortableAhead);
    }

    #[test]
    fn small_batches_are_in_no_trial() {
        let trials = Trials::new(KERNELS);
        for _ in 0..100 {
            trials.batch(TIMED_MIN - 1, |kernel| assert_eq!(kernel, Kernel::Portable));
        }
    }
}
