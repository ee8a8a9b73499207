//! Waits for a condition, never for a fixed time.
#![forbid(unsafe_code)]

use std::thread;
use std::time::Duration;

use nearhop::time::Nanos;

/// A condition that did not become true in time.
#[derive(Clone, Debug, thiserror::Error)]
#[error("waited {:.1} s for {what}{}", budget.as_secs_f64(), last.as_deref().map(|last| format!("; last: {last}")).unwrap_or_default())]
pub struct Overdue {
    /// The condition.
    pub what: String,
    /// How long it was waited for.
    pub budget: Duration,
    /// The last state that the condition reported.
    pub last: Option<String>,
}

/// Calls `condition` until it returns `Ok`, for at most `budget`. `Err(seen)` means that it does
/// not hold yet; `seen` may describe the current state. Prints the condition to standard error once
/// a second while it waits.
pub fn wait_for<T>(
    what: &str,
    budget: Duration,
    mut condition: impl FnMut() -> Result<T, String>,
) -> Result<T, Overdue> {
    let start = Nanos::now();
    let mut reported = 0;
    loop {
        let seen = match condition() {
            Ok(found) => return Ok(found),
            Err(seen) => seen,
        };
        let waited = Nanos::now().since(start);
        if waited >= budget {
            let last = (!seen.is_empty()).then_some(seen);
            return Err(Overdue { what: what.to_owned(), budget, last });
        }
        if waited.as_secs() > reported {
            reported = waited.as_secs();
            eprintln!("still waiting for {what} ({reported} s of {} s) {seen}", budget.as_secs());
        }
        // Nobody unparks this thread: the timeout is the polling interval.
        thread::park_timeout(ASK_EVERY);
    }
}

/// Like [`wait_for`], with a condition that is true or false.
pub fn wait_until(
    what: &str,
    budget: Duration,
    mut condition: impl FnMut() -> bool,
) -> Result<(), Overdue> {
    wait_for(what, budget, || if condition() { Ok(()) } else { Err(String::new()) })
}

/// Short compared with what is waited for, long compared with one poll.
const ASK_EVERY: Duration = Duration::from_millis(1);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_seen_last_is_reported() {
        let mut asked = 0;
        let error = wait_for::<()>("the end", Duration::from_millis(5), || {
            asked += 1;
            Err(format!("asked {asked} times"))
        });
        let error = error.unwrap_err().to_string();
        assert_eq!(error, format!("waited 0.0 s for the end; last: asked {asked} times"));
        assert!(asked > 1);
    }

    #[test]
    fn a_condition_that_holds_is_asked_once() {
        let mut asked = 0;
        wait_until("now", Duration::ZERO, || {
            asked += 1;
            true
        })
        .unwrap();
        assert_eq!(asked, 1);
    }
}
