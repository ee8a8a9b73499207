//! What can befall a node, and when exactly it did.
#![forbid(unsafe_code)]

use std::fmt;
use std::io;

use nearhop::time::Nanos;

/// A way for a node to fail.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Fault {
    /// Its link is set down; both ends can know at once.
    Announced,
    /// Packets of its link vanish in both directions, and nobody is told.
    Silent,
    /// Its server processes get SIGKILL; the machine answers on.
    Server,
    /// Power loss: all its processes get SIGKILL and its link falls silent.
    Site,
}

impl Fault {
    /// All kinds, in the order of the demo.
    pub const ALL: [Self; 4] = [Self::Announced, Self::Silent, Self::Server, Self::Site];

    /// The word that reports use.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Announced => "announced",
            Self::Silent => "silent",
            Self::Server => "server",
            Self::Site => "site",
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// When something was done: CLOCK_MONOTONIC right before the first and right after the last of
/// its system calls. It took effect between the two.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Act {
    /// Before.
    pub before: Nanos,
    /// After.
    pub after: Nanos,
}

impl Act {
    /// Does it, looking at the clock before and after.
    pub(super) fn time<E: From<io::Error>, F: Into<E>>(
        work: impl FnOnce() -> Result<(), F>,
    ) -> Result<Self, E> {
        let before = Nanos::now();
        work().map_err(Into::into)?;
        Ok(Self { before, after: Nanos::now() })
    }
}
