//! Faults that were mended, or that a protocol's rules are there to prevent, to be put back by tests that show that
//! somebody notices them. Outside of this crate's own tests none ever is.
#![forbid(unsafe_code)]

/// A fault.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum PutBack {
    /// What was announced before a session ended counts as announced in the next one.
    AnnouncedBefore,
    /// News of a port's carrier may come after the port is released, and counts for whichever port has the
    /// number by now.
    CarrierOlderThanPort,
    /// The routes of a session that went down stay.
    DeadSessionStays,
    /// A full lane of state loses what does not fit.
    FullLaneLoses,
    /// Groups are replaced in place while prefixes leave them or come to them.
    GroupInPlace,
    /// A site that goes down is no reason to look at what is announced.
    IllStaysAnnounced,
    /// A BFD session's other intervals count at once, and not only when its neighbour has confirmed that it knows
    /// them (RFC 5880, section 6.8.3).
    IntervalsUnconfirmed,
    /// Verdicts about checks that are no more count for those that there are.
    OldVerdicts,
    /// Checks are called silent while their answers lie unread.
    SilentWhileUnread,
    /// A session that stands is no reason to look at what is announced, unless its news come at once.
    StateUnnoticed,
}

#[cfg(not(test))]
pub(crate) const fn is(_: PutBack) -> bool {
    false
}

#[cfg(test)]
pub(crate) fn is(fault: PutBack) -> bool {
    for_tests::WHICH.get() == Some(fault)
}

#[cfg(test)]
pub(crate) mod for_tests {
    use std::cell::Cell;

    use super::PutBack;

    thread_local! {
        pub(super) static WHICH: Cell<Option<PutBack>> = const { Cell::new(None) };
    }

    /// Does something on this thread with a fault put back.
    pub(crate) fn with<T>(fault: PutBack, work: impl FnOnce() -> T) -> T {
        WHICH.set(Some(fault));
        let done = work();
        WHICH.set(None);
        done
    }
}
