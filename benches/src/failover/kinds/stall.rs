//! Sees when the whole machine stands still: a thread that does nothing but wake up.
#![forbid(unsafe_code)]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use nearhop::time::Nanos;
use nearlab::traffic::batch_io::sharpen_timers;
use nearlab::traffic::probe::sleep_until;

/// A watch that goes on until it is asked for what it saw.
pub struct Watch {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Vec<Stall>>,
}

/// From when to when the thread should have run and did not.
pub type Stall = (Nanos, Nanos);

impl Watch {
    /// Begins. Any processor will do for the thread: late is only what finds none.
    pub fn begin() -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = thread::spawn(move || {
            sharpen_timers();
            let mut stalls = Vec::new();
            while !stopped.load(Ordering::Acquire) {
                let due = Nanos::now() + EVERY;
                sleep_until(due);
                let now = Nanos::now();
                if now.since(due) >= LATE {
                    stalls.push((due, now));
                }
            }
            stalls
        });
        Self { stop, thread }
    }

    /// Ends it.
    pub fn end(self) -> Vec<Stall> {
        self.stop.store(true, Ordering::Release);
        self.thread.join().unwrap_or_default()
    }
}

/// Whether one of them overlaps with a span of time.
pub fn touches(stalls: &[Stall], from: Nanos, to: Nanos) -> bool {
    stalls.iter().any(|(begin, end)| *begin <= to && *end >= from)
}

const EVERY: Duration = Duration::from_micros(500);
/// What is shorter is ordinary scheduling, which is part of what is measured.
pub const LATE: Duration = Duration::from_millis(3);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stall_touches_what_it_overlaps_with() {
        let stalls = [(Nanos(10), Nanos(20))];
        for (from, to, expected) in
            [(0, 9, false), (0, 10, true), (12, 13, true), (20, 30, true), (21, 30, false)]
        {
            assert_eq!(touches(&stalls, Nanos(from), Nanos(to)), expected, "{from} to {to}");
        }
    }
}
