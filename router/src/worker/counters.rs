//! What a worker counts besides verdicts: by port, and how it waits.
#![forbid(unsafe_code)]

use std::collections::BTreeMap;

use crate::forward::Counters;
use crate::ids::PortId;
use crate::port::counters::PortCounters;

/// Counters of one worker.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct WorkerReport {
    /// By verdict and path.
    pub counters: Counters,
    /// By port.
    pub ports: BTreeMap<PortId, PortCounters>,
    /// How it waits.
    pub polling: Polling,
    /// By which code it looks up IPv4 and IPv6 now.
    pub lookup_codes: [&'static str; 2],
}

/// How a worker waits for packets.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Polling {
    /// How often it slept.
    pub sleeps: u64,
    /// How often packets came while it looked, so that it need not sleep.
    pub found: u64,
    /// How long it looked in all.
    pub busy_ns: u64,
}

impl WorkerReport {
    /// Adds another worker's.
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
