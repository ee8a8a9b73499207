//! What is configured for one neighbour.
#![forbid(unsafe_code)]

use std::net::Ipv4Addr;
use std::time::Duration;

use super::super::{AddPath, PerFamily, Role};
use crate::ids::Family;

/// A neighbour, as configured. A template of dynamic neighbours is one of these too: a copy of it begins a
/// session with each of them.
#[derive(Clone, Debug, Eq, PartialEq)]
#[allow(clippy::struct_excessive_bools, reason = "each is a key of its own")]
pub struct SessionConfig {
    /// Our AS, at least 1.
    pub local_as: u32,
    /// Our BGP identifier, not 0.0.0.0.
    pub router_id: Ipv4Addr,
    /// Which AS the neighbour may be in.
    pub remote_as: RemoteAs,
    /// Never connects; waits for the neighbour to do so.
    pub passive: bool,
    /// The neighbour came from a template: when its session ends, nobody waits for it to come back.
    /// Implies `passive`.
    pub dynamic: bool,
    /// Families that are offered.
    pub families: PerFamily<bool>,
    /// Several paths to a prefix (RFC 7911), from our point of view.
    pub add_path: PerFamily<AddPath>,
    /// Offers IPv4 prefixes with IPv6 next hops (RFC 8950).
    pub extended_next_hop: bool,
    /// Offers next hops that are only link-local (draft-ietf-idr-linklocal-capability).
    pub link_local_next_hop: bool,
    /// The session runs between link-local addresses: such next hops have a meaning even if the neighbour
    /// does not offer the capability.
    pub link_scoped: bool,
    /// Offers messages of up to 65,535 octets (RFC 8654).
    pub extended_message: bool,
    /// Paths of an external neighbour have to begin with its AS (RFC 4271, section 6.3). Off towards route
    /// servers.
    pub enforce_first_as: bool,
    /// What we are to the neighbour (RFC 9234); external neighbours only.
    pub role: Option<Role>,
    /// The neighbour has to say its role.
    pub strict_role: bool,
    /// Proposed hold time in seconds: 0 is none, else at least 3.
    pub hold_time_s: u16,
    /// From one attempt to connect to the next.
    pub connect_retry: Duration,
    /// Time without any attempt after a session that failed; doubled each time it fails again.
    pub idle_hold: Duration,
    /// The longest such time. A session that stood for as long counts as good.
    pub idle_hold_max: Duration,
    /// A neighbour that takes nothing for so long is given up (RFC 9687); `None` is 8 minutes, or twice
    /// the hold time if that is longer.
    pub send_hold: Option<Duration>,
    /// At least so long between two announcements of a prefix (RFC 4271, section 9.2.1.1). Withdrawals do
    /// not wait: an address that nobody serves any more must not be announced for longer.
    pub min_route_advertisement: Duration,
    /// How many prefixes the neighbour may announce.
    pub max_prefixes: PerFamily<Option<PrefixLimit>>,
    /// The TTL of packets from the neighbour has to be at least this (RFC 5082). For whoever carries the
    /// connection: it comes with [`super::Action::Connect`].
    pub min_ttl: Option<u8>,
}

/// Which AS a neighbour may be in.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum RemoteAs {
    /// Any.
    Any,
    /// This one.
    Exactly(u32),
    /// Any but ours.
    External,
    /// Ours.
    Internal,
    /// One of these.
    OneOf(Box<[u32]>),
}

/// How many prefixes a neighbour may announce.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct PrefixLimit {
    /// More than these end the session.
    pub max: u32,
    /// From so many on there is a warning.
    pub warn_at: u32,
    /// Until the session is tried again; `None` is until somebody starts it.
    pub restart_after: Option<Duration>,
}

impl SessionConfig {
    /// Both families, no several paths, and the usual times.
    pub fn new(local_as: u32, router_id: Ipv4Addr, remote_as: RemoteAs) -> Self {
        Self {
            local_as,
            router_id,
            remote_as,
            passive: false,
            dynamic: false,
            families: PerFamily::BOTH,
            add_path: PerFamily::default(),
            extended_next_hop: false,
            link_local_next_hop: false,
            link_scoped: false,
            extended_message: true,
            enforce_first_as: true,
            role: None,
            strict_role: false,
            hold_time_s: 90,
            connect_retry: Duration::from_secs(30),
            idle_hold: Duration::from_secs(1),
            idle_hold_max: Duration::from_mins(2),
            send_hold: None,
            min_route_advertisement: Duration::ZERO,
            max_prefixes: PerFamily::default(),
            min_ttl: None,
        }
    }

    /// Whether it never connects.
    pub const fn waits(&self) -> bool {
        self.passive || self.dynamic
    }

    /// The send hold time, once the hold time is known.
    pub fn send_hold(&self, hold: Duration) -> Duration {
        self.send_hold.unwrap_or_else(|| SEND_HOLD_MIN.max(hold * 2))
    }

    /// Families that may be spoken without any capability: IPv4 alone (RFC 4760).
    pub(in crate::bgp) fn bare_families(&self) -> PerFamily<bool> {
        PerFamily::with(|family| family == Family::Ipv4 && self.families.ipv4)
    }
}

impl RemoteAs {
    /// Whether a neighbour in `asn` is meant.
    pub fn allows(&self, asn: u32, local_as: u32) -> bool {
        match self {
            Self::Any => true,
            Self::Exactly(one) => *one == asn,
            Self::External => asn != local_as,
            Self::Internal => asn == local_as,
            Self::OneOf(all) => all.contains(&asn),
        }
    }
}

/// RFC 9687, section 3.
const SEND_HOLD_MIN: Duration = Duration::from_mins(8);
