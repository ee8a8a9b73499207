//! Ports that lost their device, or whose namespace is another now: opened again, again and again,
//! at growing intervals.
#![allow(clippy::disallowed_methods, reason = "part of a thread's shell")]

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use super::ControlThread;
use crate::control::DeviceFault;
use crate::kernel::netns::{NetNs, NetNsError};
use crate::run::kernel::KernelOrder;
use crate::time::Nanos;

/// When to try which port again.
#[derive(Debug, Default)]
pub(super) struct Reopening {
    ports: BTreeMap<String, Attempts>,
    namespaces_seen: Nanos,
    /// Why some namespace could not be looked at, as it was last logged.
    unknown: Option<String>,
}

/// The attempts on one port.
#[derive(Clone, Copy, Debug, Default)]
struct Attempts {
    /// How often it was tried of late, with success or without.
    tries: u32,
    /// When it is tried next; `None` while it has its device.
    due: Option<Nanos>,
    /// It is being tried.
    trying: bool,
    /// When it was tried last.
    last: Nanos,
}

impl Reopening {
    /// A port is to be opened again: at once, unless that was tried only lately.
    pub(super) fn lost(&mut self, now: Nanos, name: &str) {
        let attempts = self.ports.entry(name.to_owned()).or_default();
        if attempts.due.is_some() || attempts.trying {
            return;
        }
        if now.since(attempts.last) > FORGOTTEN_AFTER {
            attempts.tries = 0;
        }
        attempts.due = Some(match attempts.tries {
            0 => now,
            _ => now.max(attempts.last + attempts.delay()),
        });
    }

    /// The ports to try now, until [`Self::tried`].
    fn due(&mut self, now: Nanos) -> Vec<String> {
        let mut due = Vec::new();
        for (name, attempts) in &mut self.ports {
            if attempts.due.is_some_and(|at| at <= now) {
                (attempts.due, attempts.trying) = (None, true);
                due.push(name.clone());
            }
        }
        due
    }

    /// A port was tried.
    pub(super) fn tried(&mut self, now: Nanos, name: &str, opened: bool) {
        let Some(attempts) = self.ports.get_mut(name) else { return };
        attempts.tries = attempts.tries.saturating_add(1);
        attempts.last = now;
        attempts.trying = false;
        attempts.due = (!opened).then(|| now + attempts.delay());
    }

    /// The port has its device, and no history.
    pub(super) fn forget(&mut self, name: &str) {
        self.ports.remove(name);
    }

    /// When [`ControlThread::reopen_ports`] is to be called next.
    pub(super) fn poll_timeout(&self) -> Option<Nanos> {
        self.ports.values().filter_map(|attempts| attempts.due).min()
    }
}

impl Attempts {
    fn delay(&self) -> Duration {
        let doubled = self.tries.saturating_sub(1).min(DOUBLINGS_MAX);
        (RETRY_FIRST * (1 << doubled)).min(RETRY_MAX)
    }
}

impl ControlThread {
    /// Tries what is due.
    pub(super) fn reopen_ports(&mut self) {
        let now = Nanos::now();
        for name in self.reopening.due(now) {
            let config = &self.daemon.control.config().ports;
            let Some(config) = config.iter().find(|port| port.name == name).cloned() else {
                self.reopening.forget(&name);
                continue;
            };
            self.daemon.kernel.order(KernelOrder::Open(Box::new(config)));
        }
    }

    /// Looks whether the namespaces of ports are still those they were opened in. One that was
    /// deleted lives on as long as a device is open in it, but nobody can enter it any more; its
    /// device stays in use until there is another.
    pub(super) fn look_at_namespaces(&mut self, now: Nanos) {
        if now.since(self.reopening.namespaces_seen) < NAMESPACES_EVERY {
            return;
        }
        self.reopening.namespaces_seen = now;
        let mut identities: HashMap<&NetNs, Result<(u64, u64), NetNsError>> = HashMap::new();
        let (mut same, mut unknown) = (Vec::new(), None);
        for (name, place) in self.opened.iter().filter(|(_, place)| place.netns != NetNs::Here) {
            let found = identities.entry(&place.netns);
            match found.or_insert_with(|| place.netns.identity()) {
                Ok(found) => same.push((name.clone(), *found == place.identity)),
                Err(error) if error.is_absent() => same.push((name.clone(), false)),
                // Whether it is another is not known: all stays as it is.
                Err(error) => unknown = unknown.or_else(|| Some(error.to_string())),
            }
        }
        if unknown != self.reopening.unknown {
            if let Some(why) = &unknown {
                log::error!("{why}: whether it is another by now is not known");
            }
            self.reopening.unknown = unknown;
        }
        for (name, same) in same {
            match (self.fault(&name), same) {
                (None, false) => {
                    self.daemon.control.set_fault(now, &name, DeviceFault::Astray(None));
                    self.reopening.lost(now, &name);
                }
                (Some(DeviceFault::Astray(_)), true) => {
                    self.daemon.control.clear_fault(now, &name, "its network namespace is back");
                    self.reopening.forget(&name);
                }
                _ => {}
            }
        }
    }

    pub(super) fn fault(&self, name: &str) -> Option<&DeviceFault> {
        self.daemon.control.ports().find(|port| port.name() == name)?.fault.as_ref()
    }
}

/// How long after a first failure a port is tried again; doubled by each further one.
const RETRY_FIRST: Duration = Duration::from_millis(250);

/// The longest interval between two tries.
const RETRY_MAX: Duration = Duration::from_secs(8);

/// Those that reach [`RETRY_MAX`].
const DOUBLINGS_MAX: u32 = 5;

/// A port that keeps its device so long is opened at once the next time.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(30);

/// How often namespaces are looked at.
const NAMESPACES_EVERY: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;

    const START: Nanos = Nanos(100_000_000_000);

    #[test]
    fn tries_come_at_growing_intervals_that_are_bounded() {
        let mut reopening = Reopening::default();
        reopening.lost(START, "fra");
        let mut intervals = Vec::new();
        let mut now = START;
        for _ in 0..9 {
            assert_eq!(reopening.due(now), ["fra"]);
            reopening.tried(now, "fra", false);
            reopening.lost(now, "fra");
            assert!(reopening.due(now).is_empty());
            let next = reopening.poll_timeout().unwrap();
            intervals.push(next.since(now).as_millis());
            now = next;
        }
        assert_eq!(intervals, [250, 500, 1000, 2000, 4000, 8000, 8000, 8000, 8000]);
        reopening.tried(now, "fra", true);
        assert_eq!(reopening.poll_timeout(), None);
    }

    /// Somebody who deletes it as soon as it is there does not keep the router busy.
    #[test]
    fn a_device_that_is_deleted_again_and_again_is_made_more_and_more_slowly() {
        let mut reopening = Reopening::default();
        let mut now = START;
        let mut waits = Vec::new();
        for _ in 0..4 {
            reopening.lost(now, "fra");
            let due = reopening.poll_timeout().unwrap();
            waits.push(due.since(now).as_millis());
            now = due;
            assert_eq!(reopening.due(now), ["fra"]);
            reopening.tried(now, "fra", true);
        }
        assert_eq!(waits, [0, 250, 500, 1000]);
        now += FORGOTTEN_AFTER + Duration::from_secs(1);
        reopening.lost(now, "fra");
        assert_eq!(reopening.due(now), ["fra"], "forgotten after a while");
    }

    #[test]
    fn a_port_that_is_being_tried_is_not_tried_beside_that() {
        let mut reopening = Reopening::default();
        reopening.lost(START, "fra");
        assert_eq!(reopening.due(START), ["fra"]);
        reopening.lost(START, "fra");
        assert_eq!((reopening.due(START), reopening.poll_timeout()), (vec![], None));
        reopening.tried(START, "fra", false);
        assert_eq!(reopening.poll_timeout(), Some(START + RETRY_FIRST));
    }
}
