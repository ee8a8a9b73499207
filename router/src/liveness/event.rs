//! What the monitor reports.
#![forbid(unsafe_code)]

use std::time::Duration;

use nearhop_fib::{PathId, Reason};

use crate::ids::PortId;
use crate::probe::Cause;
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
    /// A leg is used although its checks fail, as many others' do; or no longer so.
    Doubted {
        /// Which leg.
        path: PathId,
        /// Until when; `None`: its checks pass, or the port has lost its carrier.
        until: Option<Nanos>,
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

/// Every reason of a leg that goes up or down, but those of checks that cannot be done, which are sentences.
pub fn reasons() -> Vec<String> {
    let of_check = |reason| Cause::ALL.into_iter().map(move |cause| of_check(reason, cause));
    let words = [BFD, DAMPING_OVER, DISABLED, ENABLED].into_iter().map(str::to_owned);
    let mut all: Vec<String> =
        words.chain([Reason::Probe, Reason::Health].into_iter().flat_map(of_check)).collect();
    all.sort_unstable();
    all.dedup();
    all
}

/// What is said of a leg whose check of this kind went up or down.
pub(super) fn of_check(reason: Reason, cause: Cause) -> String {
    match cause {
        // It was not the check that found it out.
        Cause::Carrier => Reason::Carrier.label().to_owned(),
        Cause::Initial => INITIAL.to_owned(),
        _ => format!("{} {}", reason.label(), cause.label()),
    }
}

/// It has no check, or only such as are up from the start.
/// Reason of a leg whose host BFD has lost, or has again.
pub(super) const BFD: &str = "bfd";

pub(super) const INITIAL: &str = "initial";

/// It flapped, and has been well for long enough.
pub(super) const DAMPING_OVER: &str = "damping over";

/// An operator took its site out.
pub(super) const DISABLED: &str = "disabled by an operator";

/// An operator took its site back in, and its checks pass.
pub(super) const ENABLED: &str = "enabled by an operator";
