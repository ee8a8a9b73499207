//! What the control plane changes in place: why an adjacency or a path is down, and how much a
//! site takes. One byte stored here moves every prefix of every group at once.

use crate::group::{ADJACENCY_MAX, PATH_MAX};
use crate::memory::Slab;
use crate::sync::{AtomicU8, AtomicU16, AtomicU64, Ordering};

/// A way out of the router.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct AdjacencyId(pub u32);

/// One use of an adjacency: one leg (service, site, family), or one route's next hop.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct PathId(pub u32);

/// Why an adjacency or a path is not used. Each reason has one owner, who alone sets and clears
/// it: that the carrier is back never revives what BFD took down.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
#[repr(u8)]
pub enum Reason {
    /// The device has no carrier or is set down.
    Carrier = 1,
    /// BFD lost the neighbour.
    Bfd = 1 << 1,
    /// Probes go unanswered.
    Probe = 1 << 2,
    /// A health check of the service fails.
    Health = 1 << 3,
    /// The BGP session it was learned by is down.
    Session = 1 << 4,
    /// The next hop does not resolve.
    Resolution = 1 << 5,
    /// An operator disabled it.
    Operator = 1 << 6,
    /// It flapped, and has not been well for long enough since.
    Damped = 1 << 7,
}

impl Reason {
    /// Every reason, from the lowest bit.
    pub const ALL: [Self; 8] = [
        Self::Carrier,
        Self::Bfd,
        Self::Probe,
        Self::Health,
        Self::Session,
        Self::Resolution,
        Self::Operator,
        Self::Damped,
    ];

    /// Its name for people and JSON.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Carrier => "carrier",
            Self::Bfd => "bfd",
            Self::Probe => "probe",
            Self::Health => "health",
            Self::Session => "session",
            Self::Resolution => "resolution",
            Self::Operator => "operator",
            Self::Damped => "damped",
        }
    }
}

/// A set of reasons; empty is alive.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq)]
pub struct Reasons(u8);

impl Reasons {
    /// No reason: alive.
    pub const NONE: Self = Self(0);

    /// Whether there is no reason to be down.
    pub const fn is_alive(self) -> bool {
        self.0 == 0
    }

    /// Whether this reason is among them.
    pub const fn has(self, reason: Reason) -> bool {
        self.0 & reason as u8 != 0
    }

    /// These and one more.
    #[must_use]
    pub const fn with(self, reason: Reason) -> Self {
        Self(self.0 | reason as u8)
    }

    /// The reasons, from the lowest bit.
    pub fn iter(self) -> impl Iterator<Item = Reason> {
        Reason::ALL.into_iter().filter(move |&reason| self.has(reason))
    }
}

impl From<Reason> for Reasons {
    fn from(reason: Reason) -> Self {
        Self::NONE.with(reason)
    }
}

/// All flows go there that its weight gives it.
pub const ACCEPT_ALL: u16 = u16::MAX;

/// Drained: no flow goes there while another site, or what covers the prefix, can take it.
pub const ACCEPT_NONE: u16 = 0;

/// A set of reasons that its owners change in place. Zero, as of an id that was never handed out, is
/// down for want of resolution: that bit is stored inverted.
///
/// Relaxed to read: the byte stands for itself, and nothing else is published by it.
#[derive(Default)]
pub(crate) struct ReasonByte(AtomicU8);

impl ReasonByte {
    #[inline]
    pub(crate) fn load(&self) -> Reasons {
        Reasons(self.0.load(Ordering::Relaxed) ^ INVERTED)
    }

    #[inline]
    pub(crate) fn is_alive(&self) -> bool {
        self.0.load(Ordering::Relaxed) == INVERTED
    }

    /// Whether there is no reason but damping, or none at all.
    pub(crate) fn is_well(&self) -> bool {
        (self.0.load(Ordering::Relaxed) ^ INVERTED) & !(Reason::Damped as u8) == 0
    }

    pub(crate) fn store(&self, reasons: Reasons) {
        self.0.store(reasons.0 ^ INVERTED, Ordering::Release);
    }

    /// Returns whether it was clear before.
    pub(crate) fn set(&self, reason: Reason) -> bool {
        !self.change(reason, true)
    }

    /// Returns whether it was set before.
    pub(crate) fn clear(&self, reason: Reason) -> bool {
        self.change(reason, false)
    }

    /// Returns whether it was set before.
    fn change(&self, reason: Reason, is_set: bool) -> bool {
        let bit = reason as u8;
        let is_one = is_set != (INVERTED & bit != 0);
        let before = if is_one {
            self.0.fetch_or(bit, Ordering::AcqRel)
        } else {
            self.0.fetch_and(!bit, Ordering::AcqRel)
        };
        (before ^ INVERTED) & bit != 0
    }
}

/// The reason whose bit is stored inverted.
const INVERTED: u8 = Reason::Resolution as u8;

/// One adjacency, as the workers see it. 16 bytes.
#[derive(Default)]
#[cfg_attr(not(loom), repr(C))]
pub(crate) struct AdjacencyState {
    /// Down-reasons: written by their owners, read for each packet.
    pub(crate) reasons: ReasonByte,
    /// The port it leaves by. Written before the id is published, constant while it is in use.
    pub(crate) port: AtomicU16,
    /// What the link hash knows it by; as `port`.
    pub(crate) key: AtomicU64,
}

/// One path, as the workers see it. 16 bytes: four share a cache line.
#[derive(Default)]
#[cfg_attr(not(loom), repr(C))]
pub(crate) struct PathState {
    /// As [`AdjacencyState::reasons`].
    pub(crate) reasons: ReasonByte,
    /// The share of flows its site takes now, in 65,535ths. Written by the control plane.
    pub(crate) accept: AtomicU16,
    /// What the site hash knows its site by. Written before the id is published.
    pub(crate) site_key: AtomicU64,
}

/// All adjacencies and paths: what `select` reads besides the group.
pub(crate) struct Liveness {
    adjacencies: Slab<AdjacencyState, { ADJACENCY_MAX as usize + 1 }>,
    paths: Slab<PathState, { PATH_MAX as usize + 1 }>,
}

impl Liveness {
    pub(crate) fn new() -> Self {
        Self { adjacencies: Slab::new(), paths: Slab::new() }
    }

    /// Its state; that of an id no member can name is the first's.
    #[inline]
    pub(crate) fn adjacency(&self, id: AdjacencyId) -> &AdjacencyState {
        &self.adjacencies[(id.0 & ADJACENCY_MAX) as usize]
    }

    /// Whether packets can go by this path and this way out.
    #[inline]
    pub(crate) fn is_alive(&self, path: PathId, adjacency: AdjacencyId) -> bool {
        // Both are read in any case: to guess would cost more.
        self.path(path).reasons.is_alive() & self.adjacency(adjacency).reasons.is_alive()
    }

    /// Whether packets could go by this path and this way out: they are kept from it by damping at most.
    pub(crate) fn is_well(&self, path: PathId, adjacency: AdjacencyId) -> bool {
        self.path(path).reasons.is_well() && self.adjacency(adjacency).reasons.is_alive()
    }

    /// As [`Self::adjacency`].
    #[inline]
    pub(crate) fn path(&self, id: PathId) -> &PathState {
        &self.paths[(id.0 & PATH_MAX) as usize]
    }

    /// Bytes of the first so many paths and adjacencies.
    pub(crate) fn bytes(paths: u32, adjacencies: u32) -> usize {
        paths as usize * size_of::<PathState>() + adjacencies as usize * size_of::<AdjacencyState>()
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use alloc::vec::Vec;

    use super::*;

    #[test]
    fn each_reason_has_a_bit_of_its_own() {
        let mut all = Reasons::NONE;
        for reason in Reason::ALL {
            assert!(!all.has(reason));
            all = all.with(reason);
        }
        assert_eq!(all.iter().collect::<Vec<_>>(), Reason::ALL);
    }

    #[test]
    fn states_are_as_small_as_they_say() {
        assert_eq!((size_of::<PathState>(), size_of::<AdjacencyState>()), (16, 16));
    }

    #[test]
    fn setting_twice_or_clearing_what_is_not_set_changes_nothing() {
        let byte = ReasonByte::default();
        assert_eq!(byte.load(), Reason::Resolution.into(), "never handed out");
        byte.store(Reasons::NONE);
        for reason in Reason::ALL {
            assert!(byte.is_alive());
            assert!(byte.set(reason));
            assert!(!byte.set(reason));
            assert_eq!(byte.load(), reason.into());
            assert!(Reason::ALL.iter().all(|&other| other == reason || !byte.clear(other)));
            assert!(!byte.is_alive());
            assert!(byte.clear(reason));
        }
    }
}
