//! How promptly this machine wakes a thread that waits, watched all the time that a run is measured.
//!
//! One thread on each core sleeps from one deadline to the next and notes how late it wakes. What is
//! measured beside it waits no less: a router, a site and a prober are threads that wait too.
#![forbid(unsafe_code)]

use std::collections::VecDeque;
use std::io;
use std::num::NonZeroU64;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use nearhop::time::Nanos;
use rustix::thread::CpuSet;

use crate::traffic::probe::sleep_until;

/// Threads that watch. Dropping it ends them.
pub struct Calibration {
    ending: Arc<AtomicBool>,
    cores: Vec<Control>,
}

/// One core's thread, and what it noted.
struct Control {
    log: Arc<Mutex<WakeLog>>,
    thread: Option<JoinHandle<()>>,
}

/// The last wake-ups of one thread; the oldest are forgotten.
#[derive(Debug, Default)]
struct WakeLog(VecDeque<Wake>);

/// A thread that was to wake at `due`, and woke at `woke`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
struct Wake {
    due: Nanos,
    woke: Nanos,
}

impl Calibration {
    /// Starts a thread on each core that this process may use, on 16 of them at most.
    ///
    /// # Errors
    /// The kernel does not say which cores there are, or refuses a thread.
    pub fn start() -> io::Result<Self> {
        let allowed = rustix::thread::sched_getaffinity(None)?;
        let cores = (0..CpuSet::MAX_CPU).filter(|&core| allowed.is_set(core)).take(CORES_MAX);
        let mut calibration = Self { ending: Arc::new(AtomicBool::new(false)), cores: Vec::new() };
        for core in cores {
            let log = Arc::new(Mutex::new(WakeLog::default()));
            let (into, ending) = (Arc::clone(&log), Arc::clone(&calibration.ending));
            let thread = thread::Builder::new()
                .name(format!("calibrate-{core}"))
                .spawn(move || watch(core, &into, &ending))?;
            calibration.cores.push(Control { log, thread: Some(thread) });
        }
        Ok(calibration)
    }

    /// The longest time that a thread waited for its core among those that were to run in `range`.
    /// A thread that still waits is not counted: ask when `range` is over for a while.
    pub fn latest_wake(&self, range: Range<Nanos>) -> Duration {
        let of_core = |core: &Control| {
            let log = core.log.lock().unwrap_or_else(PoisonError::into_inner);
            log.latest(&range)
        };
        self.cores.iter().map(of_core).max().unwrap_or_default()
    }
}

impl Drop for Calibration {
    fn drop(&mut self) {
        // Only a flag: what the threads wrote is behind a lock.
        self.ending.store(true, Ordering::Relaxed);
        for thread in self.cores.iter_mut().filter_map(|core| core.thread.take()) {
            // A thread that panicked has printed why.
            let _ = thread.join();
        }
    }
}

impl WakeLog {
    fn note(&mut self, wake: Wake) {
        if self.0.len() == WAKES_MAX {
            self.0.pop_front();
        }
        self.0.push_back(wake);
    }

    /// The longest wait that lies in `range`, at least in part.
    fn latest(&self, range: &Range<Nanos>) -> Duration {
        let first = self.0.partition_point(|wake| wake.woke < range.start);
        let waits = self.0.iter().skip(first).take_while(|wake| wake.due < range.end);
        waits.map(|wake| wake.woke.since(wake.due)).max().unwrap_or_default()
    }
}

fn watch(core: usize, log: &Mutex<WakeLog>, ending: &AtomicBool) {
    let mut only = CpuSet::new();
    only.set(core);
    // Best effort, both: without them the thread watches whatever core it gets, somewhat late.
    let _ = rustix::thread::sched_setaffinity(None, &only);
    let _ = rustix::thread::set_current_timer_slack(NonZeroU64::new(1));
    let mut due = Nanos::now();
    while !ending.load(Ordering::Relaxed) {
        due += PERIOD;
        sleep_until(due);
        let woke = Nanos::now();
        log.lock().unwrap_or_else(PoisonError::into_inner).note(Wake { due, woke });
        // Deadlines that passed meanwhile are the same wait.
        due = due.max(woke);
    }
}

/// From one wake-up to the next: a thousandth of a core's time on most machines.
const PERIOD: Duration = Duration::from_millis(1);

/// Wake-ups kept for each core: a minute's.
const WAKES_MAX: usize = 60_000;

/// More cores than this are not watched: the lab's processes are fewer.
const CORES_MAX: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lab::wait_until;

    #[test]
    fn a_wait_counts_where_it_reaches_into_the_range() {
        let mut log = WakeLog::default();
        for (due, woke) in [(10, 11), (20, 60), (70, 75), (80, 81)] {
            log.note(Wake { due: Nanos(due), woke: Nanos(woke) });
        }
        for (range, expected) in
            [(0..100, 40), (0..20, 1), (50..55, 40), (61..80, 5), (82..90, 0), (78..90, 1)]
        {
            let latest = log.latest(&(Nanos(range.start)..Nanos(range.end)));
            assert_eq!(latest, Duration::from_nanos(expected), "{range:?}");
        }
    }

    #[test]
    fn the_oldest_wakes_are_forgotten() {
        let mut log = WakeLog::default();
        for due in 0..WAKES_MAX as u64 + 5 {
            log.note(Wake { due: Nanos(due), woke: Nanos(due + 1) });
        }
        assert_eq!((log.0.len(), log.0[0].due), (WAKES_MAX, Nanos(5)));
    }

    /// That a late wake-up is noted as late: the machine decides how late, so only that one is seen.
    #[test]
    fn every_core_is_watched() {
        let calibration = Calibration::start().unwrap();
        let begun = Nanos::now();
        wait_until("a wake-up on every core", Duration::from_secs(10), || {
            let seen = |core: &Control| core.log.lock().unwrap().latest(&(begun..Nanos(u64::MAX)));
            calibration.cores.iter().all(|core| !seen(core).is_zero())
        })
        .unwrap();
        assert!(!calibration.latest_wake(begun..Nanos::now()).is_zero());
    }
}
