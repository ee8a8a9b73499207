//! What the monitor reports.
#![forbid(unsafe_code)]

use std::time::Duration;

use nearhop_fib::PathId;

use crate::ids::PortId;
use crate::time::Nanos;

/// Something that happened; its bytes are stored already.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct MonitorEvent {
    /// When it became known.
    pub t: Nanos,
    /// When the bytes that it called for were stored; as `t` without a clock
    /// ([`Monitor::with_clock`](super::monitor::Monitor::with_clock)).
    pub stored: Nanos,
    /// What it was.
    pub kind: MonitorEventKind,
}

/// What happened.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum MonitorEventKind {
    /// A port's carrier came or went.
    Carrier {
        /// Which port.
        port: PortId,
        /// Whether it is there now.
        up: bool,
    },
    /// A port's device was deleted, or moved to another namespace; its carrier went before.
    Gone {
        /// Which port.
        port: PortId,
        /// The device's interface index, for the port may have another device by now.
        ifindex: u32,
    },
    /// What a port's device is like: reported when it is first seen, and after each change.
    Link {
        /// Which port.
        port: PortId,
        /// The device's interface index.
        ifindex: u32,
        /// Its name.
        name: String,
        /// Bytes of the largest packet it takes.
        mtu: u32,
    },
    /// A leg's checks pass, but it flapped and has to wait.
    Damped {
        /// Which leg.
        path: PathId,
        /// For how long.
        hold: Duration,
    },
    /// A leg went up or down.
    Leg {
        /// Which leg.
        path: PathId,
        /// Whether packets go there now.
        up: bool,
        /// What decided it.
        reason: String,
        /// Its smoothed round-trip time, where it has been measured.
        rtt: Option<Duration>,
    },
}
