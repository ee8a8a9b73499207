//! What the service manager is told, and when the watchdog is fed.
#![allow(clippy::disallowed_methods, reason = "part of a thread's shell")]

use super::ControlThread;

/// What was last seen of the threads.
#[derive(Default)]
pub(super) struct Watchdog {
    /// Their turns when it was fed last.
    fed_at: Vec<u64>,
    /// Looks since then.
    missed: u64,
}

impl ControlThread {
    /// Feeds the watchdog if every thread has taken a turn since it was last fed, this one by being here;
    /// and wakes them all, so that one with nothing to do takes a turn before the next look.
    pub(super) fn look_after_threads(&mut self) {
        let daemon = &self.daemon;
        let turns: Vec<(String, u64)> = daemon.turns().collect();
        // The first look has nothing to compare with.
        let is_first = self.watchdog.fed_at.is_empty();
        let since_fed = turns.iter().zip(&self.watchdog.fed_at);
        let idle: Vec<&str> = since_fed
            .filter(|((_, now), fed)| now <= fed)
            .map(|((name, _), _)| &name[..])
            .collect();
        if idle.is_empty() {
            if !is_first {
                self.manager.feed();
            }
            self.watchdog.missed = 0;
            self.watchdog.fed_at = turns.iter().map(|(_, turns)| *turns).collect();
        } else {
            self.watchdog.missed += 1;
            // At the first it may only be about to run.
            if self.watchdog.missed > 1 {
                log::warn!("the watchdog is not fed: no turn of {}", idle.join(", "));
            }
        }
        self.wake_workers();
        daemon.liveness.wake();
        daemon.host.wake();
        daemon.kernel.wake();
    }

    /// Tells the manager in words what the router is at.
    pub(super) fn tell_status(&mut self) {
        if !self.manager.is_there() {
            return;
        }
        let ports = self.daemon.control.ports();
        let (all, up) = ports.fold((0, 0), |(all, up), port| {
            (all + 1, up + u32::from(port.carrier && port.fault.is_none()))
        });
        let ports = format!("{up} of {all} port(s) up");
        let refused = self.refused.as_ref().map(|why| format!("; not reloaded: {why}"));
        let status = match self.why_not_ready() {
            None => format!("ready; {ports}{}", refused.unwrap_or_default()),
            Some(why) => format!("not ready: {why}; {ports}"),
        };
        self.manager.status(status);
    }
}
