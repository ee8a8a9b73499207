//! What is announced by BGP, when, and what is said of it.
#![forbid(unsafe_code)]

use std::time::Duration;

/// When a service is announced.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct AnnounceRules {
    /// Sites that have to be well: up, and neither damped, drained nor disabled. At least 1.
    pub min_sites: usize,
    /// What becomes of the service with fewer.
    pub below_min: BelowMin,
    /// From when it may be announced again until it is, after the first withdrawal; doubled by each other
    /// one. Zero is at once, always.
    pub delay: Duration,
}

/// What becomes of a service that has fewer sites than it needs.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum BelowMin {
    /// It is withdrawn.
    #[default]
    Withdraw,
    /// It is announced as what is taken only where there is nothing else, while any site takes its packets.
    Deprioritise,
}

impl Default for AnnounceRules {
    fn default() -> Self {
        Self { min_sites: 1, below_min: BelowMin::default(), delay: Duration::from_secs(10) }
    }
}
