//! What must hold in a trial.
#![forbid(unsafe_code)]

/// What must hold in a trial.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Invariant {
    /// Every packet that a router handles ends in exactly one verdict.
    Account,
    /// As long as nothing has failed that can lose packets, no leg is called down.
    Alarm,
    /// What a router announces is well: one of its own sites serves it.
    Announce,
    /// While a router publishes a configuration, each packet gets the answer of before or of after.
    Answer,
    /// As long as nothing has failed that can lose packets, no BFD session goes down whose ends are served. After the
    /// budget each is up whose link is, and no other.
    Bfd,
    /// After the budget no packet is lost while there is a path.
    BlackHole,
    /// A port's carrier is reported and shown as it is, or was.
    Carrier,
    /// No flow moves unless the router at which its path changes reported why.
    Cause,
    /// After the budget each session stands whose link is up, and each neighbour has exactly what the oracle
    /// expects to be announced.
    Learn,
    /// After the budget no packet reaches a router twice.
    Loop,
    /// After the budget each flow is served by a site that the oracle expects, always the same one.
    Site,
    /// No route outlives its session, or its withdrawal for longer than the hold time.
    Withdraw,
    /// Routers are stepped only for packets, timers and actions, and never panic.
    Work,
}

impl Invariant {
    /// All of them.
    pub const ALL: [Self; 13] = [
        Self::Account,
        Self::Alarm,
        Self::Announce,
        Self::Answer,
        Self::Bfd,
        Self::BlackHole,
        Self::Carrier,
        Self::Cause,
        Self::Learn,
        Self::Loop,
        Self::Site,
        Self::Withdraw,
        Self::Work,
    ];

    /// The invariant's name on command lines and in JSON.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Account => "account",
            Self::Alarm => "alarm",
            Self::Announce => "announce",
            Self::Answer => "answer",
            Self::Bfd => "bfd",
            Self::BlackHole => "black-hole",
            Self::Carrier => "carrier",
            Self::Cause => "cause",
            Self::Learn => "learn",
            Self::Loop => "loop",
            Self::Site => "site",
            Self::Withdraw => "withdraw",
            Self::Work => "work",
        }
    }

    /// The invariant as a phrase.
    pub const fn text(self) -> &'static str {
        match self {
            Self::Account => "every packet ends in one verdict",
            Self::Alarm => "no false alarm",
            Self::Announce => "nothing announced that is not well",
            Self::Answer => "no third answer amid a publication",
            Self::Bfd => "BFD sessions as their links",
            Self::BlackHole => "no black hole while a path exists",
            Self::Carrier => "carrier as it is",
            Self::Cause => "no flow moves without a cause",
            Self::Learn => "neighbours know what is announced",
            Self::Loop => "no forwarding loop after the budget",
            Self::Site => "the site is the oracle's",
            Self::Withdraw => "no route outlives its withdrawal",
            Self::Work => "bounded work",
        }
    }

    /// The unit of [`TrialResult::checked`](super::TrialResult::checked).
    pub const fn unit(self) -> &'static str {
        match self {
            Self::Account | Self::Answer | Self::BlackHole | Self::Loop => "packets",
            Self::Alarm => "legs",
            Self::Announce | Self::Learn | Self::Withdraw => "routes",
            Self::Carrier => "reports",
            Self::Bfd => "sessions",
            Self::Cause => "moves",
            Self::Site => "flows",
            Self::Work => "steps",
        }
    }
}
