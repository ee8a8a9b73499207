//! What must hold in a trial.
#![forbid(unsafe_code)]

/// What must hold in a trial.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Invariant {
    /// Every packet that a router handles ends in exactly one verdict.
    Account,
    /// As long as nothing has failed that can lose packets, no leg is called down.
    Alarm,
    /// While a router publishes a configuration, each packet gets the answer of before or of after.
    Answer,
    /// After the budget no packet is lost while there is a path.
    BlackHole,
    /// A port's carrier is reported and shown as it is, or was.
    Carrier,
    /// No flow moves unless the router at which its path changes reported why.
    Cause,
    /// After the budget no packet reaches a router twice.
    Loop,
    /// After the budget each flow is served by a site that the oracle expects, always the same one.
    Site,
    /// Routers are stepped only for packets, timers and actions, and never panic.
    Work,
}

impl Invariant {
    /// All of them.
    pub const ALL: [Self; 9] = [
        Self::Account,
        Self::Alarm,
        Self::Answer,
        Self::BlackHole,
        Self::Carrier,
        Self::Cause,
        Self::Loop,
        Self::Site,
        Self::Work,
    ];

    /// The invariant's name on command lines and in JSON.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Account => "account",
            Self::Alarm => "alarm",
            Self::Answer => "answer",
            Self::BlackHole => "black-hole",
            Self::Carrier => "carrier",
            Self::Cause => "cause",
            Self::Loop => "loop",
            Self::Site => "site",
            Self::Work => "work",
        }
    }

    /// The invariant as a phrase.
    pub const fn text(self) -> &'static str {
        match self {
            Self::Account => "every packet ends in one verdict",
            Self::Alarm => "no false alarm",
            Self::Answer => "no third answer amid a publication",
            Self::BlackHole => "no black hole while a path exists",
            Self::Carrier => "carrier as it is",
            Self::Cause => "no flow moves without a cause",
            Self::Loop => "no forwarding loop after the budget",
            Self::Site => "the site is the oracle's",
            Self::Work => "bounded work",
        }
    }

    /// The unit of [`TrialResult::checked`](super::TrialResult::checked).
    pub const fn unit(self) -> &'static str {
        match self {
            Self::Account | Self::Answer | Self::BlackHole | Self::Loop => "packets",
            Self::Alarm => "legs",
            Self::Carrier => "reports",
            Self::Cause => "moves",
            Self::Site => "flows",
            Self::Work => "steps",
        }
    }
}
