//! What a session asks for, and what it reports.
#![forbid(unsafe_code)]

use std::fmt;

use super::super::{Negotiated, Nlri, Notification, PackError, Update};
use crate::ids::Family;

/// State of a session (RFC 4271, section 8.2.2): of the more advanced of its two connections, if both
/// sides connected at once.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum State {
    /// Neither connects nor takes connections.
    Idle,
    /// Waits for its own connection.
    Connect,
    /// Waits for the neighbour's connection.
    Active,
    /// Waits for the neighbour's OPEN.
    OpenSent,
    /// Waits for the neighbour's first KEEPALIVE.
    OpenConfirm,
    /// Exchanges routes.
    Established,
}

/// Which connection: a session has at most one of each.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Side {
    /// The neighbour's.
    Incoming,
    /// Ours.
    Outgoing,
}

/// What whoever carries the connections has to do.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Action {
    /// Close the connection, or give up connecting. `last` goes out before, as far as there is room for
    /// it at once; after an empty one the connection is reset. Nothing about it has to be said any more.
    Close {
        /// Which.
        side: Side,
        /// What was not sent yet, and a NOTIFICATION.
        last: Vec<u8>,
    },
    /// Connect to the neighbour; then say [`super::Session::handle_connected`] or
    /// [`super::Session::handle_closed`].
    Connect {
        /// The least TTL of packets from the neighbour (RFC 5082).
        min_ttl: Option<u8>,
    },
}

/// Something that happened.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Event {
    /// A session, or an attempt at one, ended.
    Down {
        /// Whether routes had been exchanged: all that came are gone.
        was_established: bool,
        /// Why.
        cause: Cause,
    },
    /// A dynamic neighbour is gone; its session can be dropped.
    Ended,
    /// Routes can be exchanged.
    Established(Box<Negotiated>),
    /// Routes that go into no message the neighbour takes; they are withdrawn instead.
    NotAnnounced {
        /// The routes.
        nlri: Vec<Nlri>,
        /// Why.
        why: PackError,
    },
    /// The neighbour announces almost as many prefixes as it may.
    PrefixesNearLimit {
        /// Of this family.
        family: Family,
        /// So many.
        count: u32,
    },
    /// The neighbour wants all routes of a family again: [`super::Session::begin_refresh`], the routes, and
    /// [`super::Session::end_refresh`].
    RefreshRequested(Family),
    /// The session changed its state.
    State {
        /// Before.
        from: State,
        /// Now.
        to: State,
    },
}

/// Why a session ended.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Cause {
    /// The connection was closed without a NOTIFICATION.
    Closed,
    /// Both sides had connected, and the other connection is kept.
    Collision,
    /// The neighbour said so.
    Received(Notification),
    /// The neighbour took nothing for the send hold time.
    SendHold,
    /// We said so.
    Sent {
        /// What the neighbour was told.
        notification: Notification,
        /// What we know besides.
        why: String,
    },
}

/// Something for whoever keeps the neighbour's routes.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Received {
    /// A refresh begins: what is not announced until its end is gone.
    RefreshBegin(Family),
    /// A refresh is complete.
    RefreshEnd(Family),
    /// Routes.
    Update(Update),
}

/// How far [`super::Session::receive`] got.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Progress {
    /// The next message is for whoever keeps routes, and there is no room. It waits unread.
    Full,
    /// A message that concerns the session alone.
    Handled,
    /// No whole message is there.
    Idle,
    /// A message with routes.
    Received(Received),
}

impl State {
    /// As the RFC writes it.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Idle => "Idle",
            Self::Connect => "Connect",
            Self::Active => "Active",
            Self::OpenSent => "OpenSent",
            Self::OpenConfirm => "OpenConfirm",
            Self::Established => "Established",
        }
    }
}

impl Side {
    /// The other one.
    #[must_use]
    pub const fn other(self) -> Self {
        match self {
            Self::Incoming => Self::Outgoing,
            Self::Outgoing => Self::Incoming,
        }
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Closed => f.write_str("the neighbour closed the connection"),
            Self::Collision => f.write_str("the other connection of the two is kept"),
            Self::Received(notification) => write!(f, "the neighbour says: {notification}"),
            Self::SendHold => f.write_str("the neighbour takes nothing any more"),
            Self::Sent { notification, why } if why.is_empty() => notification.fmt(f),
            Self::Sent { notification, why } => write!(f, "{notification}: {why}"),
        }
    }
}
