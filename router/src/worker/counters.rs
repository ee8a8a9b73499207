//! What a worker counts besides verdicts: by port, and how it waits.
#![forbid(unsafe_code)]

use std::collections::BTreeMap;

use crate::forward::Counters;
use crate::ids::PortId;

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

/// Counters of one worker on one port.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct PortCounters {
    /// Packets read; a superframe counts as the packets it stands for.
    pub rx_packets: u64,
    /// Packets and superframes read.
    pub rx_frames: u64,
    /// Bytes read.
    pub rx_bytes: u64,
    /// Reads of a batch that brought at least one packet.
    pub rx_batches: u64,
    /// Packets the device took; a superframe counts as the packets it stands for.
    pub tx_packets: u64,
    /// Packets and superframes it took.
    pub tx_frames: u64,
    /// Bytes the device took.
    pub tx_bytes: u64,
    /// Packets the device did not take.
    pub tx_dropped: u64,
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

impl PortCounters {
    /// Adds another worker's.
    pub fn add(&mut self, other: &Self) {
        self.rx_packets += other.rx_packets;
        self.rx_frames += other.rx_frames;
        self.tx_frames += other.tx_frames;
        self.rx_bytes += other.rx_bytes;
        self.rx_batches += other.rx_batches;
        self.tx_packets += other.tx_packets;
        self.tx_bytes += other.tx_bytes;
        self.tx_dropped += other.tx_dropped;
    }

    /// What was counted since `before`.
    #[must_use]
    pub fn since(&self, before: &Self) -> Self {
        Self {
            rx_packets: self.rx_packets.saturating_sub(before.rx_packets),
            rx_frames: self.rx_frames.saturating_sub(before.rx_frames),
            tx_frames: self.tx_frames.saturating_sub(before.tx_frames),
            rx_bytes: self.rx_bytes.saturating_sub(before.rx_bytes),
            rx_batches: self.rx_batches.saturating_sub(before.rx_batches),
            tx_packets: self.tx_packets.saturating_sub(before.tx_packets),
            tx_bytes: self.tx_bytes.saturating_sub(before.tx_bytes),
            tx_dropped: self.tx_dropped.saturating_sub(before.tx_dropped),
        }
    }
}
