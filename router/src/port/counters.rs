//! Counters of a port.
#![forbid(unsafe_code)]

/// Counters of one port, kept by one thread that reads and sends.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct PortCounters {
    /// Packets read; a superframe counts as its segments.
    pub rx_packets: u64,
    /// Packets and superframes read.
    pub rx_frames: u64,
    /// Bytes read.
    pub rx_bytes: u64,
    /// Batch reads that returned at least one packet.
    pub rx_batches: u64,
    /// Packets the device took; a superframe counts as its segments.
    pub tx_packets: u64,
    /// Packets and superframes the device took.
    pub tx_frames: u64,
    /// Bytes the device took.
    pub tx_bytes: u64,
    /// Packets the device did not take.
    pub tx_dropped: u64,
}

impl PortCounters {
    /// Adds another thread's counters.
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

    /// The difference to an earlier state of the same counters.
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
