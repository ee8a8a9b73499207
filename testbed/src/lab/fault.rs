//! The faults of a node, and when each took effect.
#![forbid(unsafe_code)]

use std::fmt;
use std::io;

use nearhop::time::Nanos;

/// A way in which a node fails.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Fault {
    /// Its link is set down; both ends are notified at once.
    Announced,
    /// Its link loses all packets in both directions, and nobody is notified.
    Silent,
    /// Its server processes get SIGKILL; the machine still answers.
    Server,
    /// Its BGP daemon gets SIGKILL, and the kernel closes its sessions; the servers live.
    Daemon,
    /// Power loss: all its processes get SIGKILL and its link loses all packets.
    Site,
}

impl Fault {
    /// The faults of the demo, in its order.
    pub const ALL: [Self; 4] = [Self::Announced, Self::Silent, Self::Server, Self::Site];

    /// The name used in reports.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Announced => "announced",
            Self::Silent => "silent",
            Self::Server => "server",
            Self::Daemon => "daemon",
            Self::Site => "site",
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// When a fault or repair took effect: between CLOCK_MONOTONIC readings right before its first and
/// right after its last system call.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Act {
    /// Reading before.
    pub before: Nanos,
    /// Reading after.
    pub after: Nanos,
}

impl Act {
    /// Runs `act` between two readings of the clock.
    pub(super) fn time<E: From<io::Error>, F: Into<E>>(
        work: impl FnOnce() -> Result<(), F>,
    ) -> Result<Self, E> {
        let before = Nanos::now();
        work().map_err(Into::into)?;
        Ok(Self { before, after: Nanos::now() })
    }
}
