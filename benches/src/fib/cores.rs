//! Which processor cores the bench runs on.
#![forbid(unsafe_code)]

use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

use crate::report::BenchError;

/// The cores of a run.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Cores {
    /// Where lookups run: the last one that we may use, for interrupts are often on the first.
    pub measured: usize,
    /// Where the writer runs, if there is a second.
    pub other: Option<usize>,
}

impl Cores {
    /// Chooses among the cores this process may use.
    ///
    /// # Errors
    /// The kernel does not say.
    pub fn choose() -> Result<Self, BenchError> {
        let set = sched_getaffinity(None).map_err(BenchError::environment)?;
        let mut ours = (0..CpuSet::MAX_CPU).filter(|&core| set.is_set(core)).rev();
        let measured = ours.next().ok_or_else(|| BenchError::environment("no core is ours"))?;
        Ok(Self { measured, other: ours.next_back() })
    }
}

/// The cores that the calling thread may use.
pub struct Binding(CpuSet);

impl Binding {
    /// Those of now.
    ///
    /// # Errors
    /// The kernel does not say.
    pub fn save() -> Result<Self, BenchError> {
        sched_getaffinity(None).map(Self).map_err(BenchError::environment)
    }

    /// Binds the thread to them again.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn restore(self) -> Result<(), BenchError> {
        sched_setaffinity(None, &self.0).map_err(BenchError::environment)
    }
}

/// Binds the calling thread to a core.
///
/// # Errors
/// The kernel refuses.
pub fn pin(core: usize) -> Result<(), BenchError> {
    let mut set = CpuSet::new();
    set.set(core);
    sched_setaffinity(None, &set).map_err(|error| {
        BenchError::environment(format!("cannot bind a thread to core {core}: {error}"))
    })
}
