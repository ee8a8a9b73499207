//! Rows of ports, packets, and the router's own parts.

use crate::api::column::Scale::{Ms, Us};
use crate::api::column::Text;
use crate::api::column::Unit::{self, Bytes, Count, Duration, List, Number, Ratio, State};
use crate::api::row::rows;

rows! {
    /// A way out.
    pub struct AdjacencyRow {
        /// Its number.
        adjacency: u64 = "ADJACENCY" Number,
        /// The port that packets leave by.
        port: Text = "PORT" Unit::Text,
        /// `up` or `down`.
        state: Text = "STATE" State,
        /// Why it is down: `carrier`, and so on.
        reasons: Vec<Text> = "REASONS" List,
        /// The largest IP packet that it takes, in bytes.
        mtu: u64 = "MTU" Number => 1,
        /// Packets of routes that left by it; a service's count at its legs.
        packets: u64 = "PACKETS" Count,
        /// Bytes of these, as IP packets.
        bytes: u64 = "BYTES" Bytes => 2,
    }

    /// A port.
    #[derive(Deserialize)]
    #[serde(default)]
    pub struct PortRow {
        /// Its name.
        port: Text = "PORT" Unit::Text,
        /// The name that its device has now.
        device: Option<Text> = "DEVICE" Unit::Text => 2,
        /// The network namespace of its device.
        netns: Option<Text> = "NETNS" Unit::Text => 9,
        /// The I/O engines that workers use on it: `io_uring` or `epoll`.
        engine: Text = "ENGINE" Unit::Text => 8,
        /// The kind of its device.
        kind: Text = "KIND" Unit::Text => 10,
        /// How many queues it has.
        queues: u64 = "QUEUES" Number => 11,
        /// The offloads that it supports.
        offloads: Text = "OFFLOADS" Unit::Text => 13,
        /// `up` (it has carrier) or `down`.
        state: Text = "STATE" State,
        /// The MTU in force, in bytes: the smaller of the device's and the configured one.
        mtu: u64 = "MTU" Number => 5,
        /// Packets that came in; a superframe counts as its segments.
        rx_packets: u64 = "RX PACKETS" Count,
        /// Bytes of these, as IP packets.
        rx_bytes: u64 = "RX BYTES" Bytes => 6,
        /// Packets that came in for each wake-up of a worker.
        packets_per_batch: Option<f64> = "PACKETS PER BATCH" Ratio => 14,
        /// Packets for each read; above 1 with superframes.
        packets_per_read: Option<f64> = "PACKETS PER READ" Ratio => 15,
        /// Packets that went out; a superframe counts as its segments.
        tx_packets: u64 = "TX PACKETS" Count,
        /// Bytes of these, as IP packets.
        tx_bytes: u64 = "TX BYTES" Bytes => 7,
        /// Packets for each write; above 1 with superframes or joined packets.
        packets_per_write: Option<f64> = "PACKETS PER WRITE" Ratio => 16,
        /// Packets that the device did not take.
        tx_dropped: u64 = "TX DROPPED" Count => 1,
        /// Packets that the device lost because its own queue was full: their sender gets no error.
        device_dropped: Option<u64> = "DEVICE DROPPED" Count => 3,
        /// Packets that the kernel took and discarded.
        device_refused: Option<u64> = "DEVICE REFUSED" Count => 4,
        /// What is wrong with its device; `null` if nothing is.
        why: Option<Text> = "WHY" Unit::Text,
    }

    /// Packets that were dropped for one reason.
    pub struct DropRow {
        /// The verdict's label, or `errors-limited` or `errors-unroutable` for ICMP errors that were not sent.
        reason: Text = "REASON" Unit::Text,
        /// How many, since the router started.
        packets: u64 = "PACKETS" Count,
        /// What it says of a packet.
        text: Text = "TEXT" Unit::Text,
    }

    /// Packets with one verdict.
    #[derive(Deserialize)]
    #[serde(default)]
    pub struct VerdictRow {
        /// The verdict's label.
        verdict: Text = "VERDICT" Unit::Text,
        /// The verdict's outcome: `sent`, `punted` or `dropped`.
        outcome: Text = "OUTCOME" Unit::Text => 1,
        /// How many, since the router started.
        packets: u64 = "PACKETS" Count,
        /// What it says of a packet.
        text: Text = "TEXT" Unit::Text,
    }

    /// A worker.
    pub struct WorkerRow {
        /// Its number.
        worker: u64 = "WORKER" Number,
        /// How long it polls before it sleeps, in microseconds; 0 if it never polls.
        busy_poll_us: u64 = "BUSY POLL" Duration(Us) => 1,
        /// How often it slept.
        sleeps: u64 = "SLEEPS" Count,
        /// How often packets came while it polled.
        found_awake: u64 = "FOUND AWAKE" Count,
        /// Time spent polling, in milliseconds.
        busy_ms: u64 = "BUSY" Duration(Ms) => 2,
        /// The code that does its batch lookups of IPv4 now.
        lookups_v4_by: Text = "LOOKUPS V4 BY" Unit::Text => 3,
        /// The code that does its batch lookups of IPv6 now.
        lookups_v6_by: Text = "LOOKUPS V6 BY" Unit::Text => 4,
    }

    /// The router.
    pub struct RouterRow {
        /// Its name.
        router: Text = "ROUTER" Unit::Text,
        /// Its id, if one is configured.
        id: Option<Text> = "ID" Unit::Text => 1,
        /// How many workers it has.
        workers: u64 = "WORKERS" Number,
        /// How many ports are configured.
        ports: u64 = "PORTS" Number,
        /// How many services are configured.
        services: u64 = "SERVICES" Number,
        /// Whether announcements are taken back: `announcing`, `draining`, `drained` or `ending`; `null` without `[bgp]`.
        bgp: Option<Text> = "BGP" Unit::Text => 2,
        /// How late the liveness thread's latest timer was handled, in microseconds.
        liveness_late_us: Option<u64> = "LIVENESS LATE" Duration(Us),
        /// Probes that a device did not take.
        probes_unsent: Option<u64> = "PROBES UNSENT" Count,
    }

    /// A step of a thread.
    pub struct StepRow {
        /// The thread: `liveness`, `host` or `control`.
        thread: Text = "THREAD" Unit::Text,
        /// What it did.
        step: Text = "STEP" Unit::Text,
        /// How often that took 10 ms or longer.
        count: u64 = "COUNT" Count,
        /// How long it took at worst, in microseconds.
        longest_us: u64 = "LONGEST" Duration(Us),
    }

    /// A counter of the host stack.
    pub struct HostRow {
        /// Its name.
        counter: Text = "COUNTER" Unit::Text,
        /// How many packets it counted.
        packets: u64 = "PACKETS" Count,
        /// Which packets it counts.
        text: Text = "TEXT" Unit::Text,
    }
}
