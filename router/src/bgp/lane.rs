//! What the sessions and the control plane say to each other.
#![forbid(unsafe_code)]

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize};

use crossbeam_channel::Sender;
use nearhop_fib::{AdjacencyId, IpPrefix};

use super::lease::{LeaseRules, LeaseState};
use super::session::{Received, SessionConfig, State};
use super::{Attributes, Negotiated, Nlri, RefreshKind};
use crate::ids::{Family, NeighborId, PortId};
use crate::time::Nanos;

/// A neighbour, as the control plane wants it.
#[derive(Clone, Debug)]
pub struct NeighborSpec {
    /// Its number.
    pub id: NeighborId,
    /// What its session is to be like.
    pub peering: Peering,
    /// Where its news go.
    pub lane: Sender<BgpNews>,
    /// Octets of the last messages that are kept.
    pub transcript: usize,
    /// Set once a session with routes ends: ahead of all that waits in the lane.
    pub lost: Arc<AtomicBool>,
    /// Prefixes of the messages in the lane.
    pub waiting: Arc<AtomicUsize>,
}

/// What a session begins with: when it is to be another, another session begins.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Peering {
    /// The neighbour's address; `None` is learned from its router advertisements on `link`.
    pub address: Option<IpAddr>,
    /// The link that its link-local address is of.
    pub link: Option<Link>,
    /// The router's end.
    pub local: IpAddr,
    /// TTL of packets to the neighbour.
    pub ttl: u8,
    /// The session itself.
    pub session: SessionConfig,
}

/// The link to a neighbour with a link-local address.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Link {
    /// By which packets come.
    pub port: PortId,
    /// By which they leave.
    pub adjacency: AdjacencyId,
}

/// What a session has to say to the control plane, in order.
#[derive(Clone, Debug)]
pub enum BgpNews {
    /// Routes that came are gone.
    Down {
        /// When.
        at: Nanos,
        /// Whether there were any.
        was_established: bool,
        /// Why.
        why: String,
    },
    /// A neighbour that came from a range is gone.
    Ended,
    /// The neighbour, which was looked for, has this address.
    Found(IpAddr),
    /// Routes can be exchanged.
    Established(Nanos, Box<Negotiated>),
    /// Routes, or marks between them.
    Received(Received),
    /// All routes of a family are to be announced again.
    Refresh(Family),
    /// As what all is announced from now on, whatever is ordered.
    Lease(Nanos, LeaseState),
    /// The session changed its state.
    State(State),
}

impl BgpNews {
    /// How many prefixes are announced or withdrawn by it.
    pub fn prefixes(&self) -> usize {
        let Self::Received(Received::Update(update)) = self else { return 0 };
        let announced = update.announced.iter().map(|announced| announced.nlri.len());
        update.withdrawn.len() + announced.sum::<usize>()
    }
}

/// A change of what is announced to a neighbour: the attributes of a path, or `None` for a withdrawal.
pub type Change = (Nlri, Option<Arc<Attributes>>);

/// What the host engine is asked for.
#[derive(Clone, Debug)]
pub enum BgpOrder {
    /// Change what is announced; `true` once that is all to begin with.
    Announce(NeighborId, Vec<Change>, bool),
    /// Announce all as ordered only while these rules hold.
    Lease(LeaseRules),
    /// BFD has lost the neighbour, or says so no more.
    Bfd(NeighborId, bool),
    /// There is room again in a lane that was full.
    Room,
    /// A neighbour's session begins again, or goes on and both sides announce all once more.
    Clear(NeighborId, Clear),
    /// What a neighbour asked to hear again begins or ends here (RFC 7313).
    Mark(NeighborId, Family, RefreshKind),
    /// So many prefixes of a family are accepted of a neighbour.
    Prefixes(NeighborId, Family, u32),
    /// Keep so many octets of the last messages.
    Keep(NeighborId, usize),
    /// Speak with a neighbour.
    Begin(Box<NeighborSpec>),
    /// Speak with a neighbour no more.
    End(NeighborId, String),
    /// Connections from these ranges, and no others, may become neighbours: each is held, and asked about.
    Ranges(Vec<RangeSpec>, Sender<Knock>),
    /// A connection that was asked about becomes none.
    Refuse(Knock),
}

/// Addresses whose connections may become neighbours.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct RangeSpec {
    /// The addresses; of ranges that overlap the longest counts.
    pub prefix: IpPrefix,
    /// The router's end.
    pub local: IpAddr,
    /// How many neighbours there may be at once.
    pub limit: u16,
}

/// A connection from an address of a range.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Knock {
    /// When it came.
    pub at: Nanos,
    /// From where.
    pub address: IpAddr,
    /// The router's end.
    pub local: IpAddr,
}

/// The longest range that an address is in.
pub fn longest<T>(ranges: &[T], prefix_of: impl Fn(&T) -> IpPrefix, address: IpAddr) -> Option<&T> {
    let around = ranges.iter().filter(|range| prefix_of(range).contains(address));
    around.max_by_key(|range| prefix_of(range).len())
}

/// How a session is cleared.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Clear {
    /// It ends and begins again at once, also one that had ended for good.
    Restart,
    /// It goes on, and the neighbour is asked for all routes again (RFC 2918).
    Soft,
}

/// Prefixes that may wait in a lane, besides those of one message: a neighbour of which more wait is not read.
/// About two steps of the control plane, so that it is not idle while the session reads on.
pub const PREFIXES_WAITING_MAX: usize = 2048;
