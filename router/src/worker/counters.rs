//! A worker's counters: by verdict, path and port, and of how it waits.
#![forbid(unsafe_code)]

use std::collections::BTreeMap;

use crate::forward::Counters;
use crate::ids::PortId;
use crate::port::counters::PortCounters;

/// Counters of one worker.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct WorkerReport {
    /// Counters by verdict and path.
    pub counters: Counters,
    /// Counters by port.
    pub ports: BTreeMap<PortId, PortCounters>,
    /// How the worker waits for packets.
    pub polling: Polling,
    /// Name of the code that looks up IPv4, and of that for IPv6.
    pub lookup_codes: [&'static str; 2],
}

/// How a worker waits for packets.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Polling {
    /// How often the worker slept.
    pub sleeps: u64,
    /// How often packets came while it polled, so that it did not sleep.
    pub found: u64,
    /// Time spent polling, in nanoseconds.
    pub busy_ns: u64,
}

impl WorkerReport {
    /// Adds another worker's counters.
    pub fn add(&mut self, other: &Self) {
        self.counters.add(&other.counters);
        for (&id, count) in &other.ports {
            self.ports.entry(id).or_default().add(count);
        }
        self.polling.sleeps += other.polling.sleeps;
        self.polling.found += other.polling.found;
        self.polling.busy_ns += other.polling.busy_ns;
    }
}
