//! What the BFD sessions are asked for, and what they say.
#![forbid(unsafe_code)]

use std::time::Duration;

use nearhop_fib::PathId;

use crate::batch::Exit;
use crate::bfd::machine::{Ends, SessionStats};
use crate::bfd::packet::State;
use crate::bfd::session::{Event, SessionConfig};
use crate::time::Nanos;

/// What others ask of the BFD sessions.
#[derive(Clone, Debug)]
pub enum BfdOrder {
    /// Begin a session, or give the one between these two another configuration.
    Set(Box<BfdSpec>),
    /// Say to the neighbour that an operator wants the session down, and forget it.
    Remove(Ends),
    /// A path that is down while the session has failed.
    Watch {
        /// The session.
        ends: Ends,
        /// The path.
        path: PathId,
        /// Whether a failure from before counts; else the session has to be up first.
        heeds_past: bool,
    },
    /// A path that is watched no more by this session.
    Unwatch(Ends, PathId),
}

/// A session, as the control plane wants it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct BfdSpec {
    /// Between whom.
    pub ends: Ends,
    /// By which way out its packets leave; `None`: where the FIB leads (RFC 5883).
    pub exit: Option<Exit>,
    /// Its timers and authentication.
    pub config: SessionConfig,
}

/// What a session says of its path.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq)]
pub enum BfdView {
    /// Nothing: it was not up yet, or an operator of either side wants it down, which is no failure
    /// (RFC 5882, section 3.2).
    #[default]
    Unknown,
    /// Both ends hear each other.
    Up,
    /// It was up, and is down.
    Failed,
}

/// Something that happened to a session.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct BfdNews {
    /// The session.
    pub ends: Ends,
    /// What it says of its path from now on.
    pub view: BfdView,
    /// When the bytes that follow from it were stored.
    pub stored: Nanos,
    /// What happened; `None`: its view alone changed.
    pub event: Option<Event>,
}

/// A session, for those who show it.
#[derive(Clone, Debug)]
pub struct BfdReport {
    /// Between whom.
    pub ends: Ends,
    /// The paths that are down while it has failed.
    pub paths: Vec<PathId>,
    /// Its state.
    pub state: State,
    /// What it says of its path.
    pub view: BfdView,
    /// Since when it is in that state.
    pub since: Nanos,
    /// Why it left Up last, and the neighbour's end.
    pub diagnostics: [String; 2],
    /// State of the neighbour's end.
    pub remote_state: State,
    /// In which interval it sends; `None`: not.
    pub interval: Option<Duration>,
    /// How long the neighbour may be silent.
    pub detection_time: Duration,
    /// Its number for the session, and the neighbour's.
    pub discriminators: [u32; 2],
    /// Its multiplier, and the neighbour's.
    pub multipliers: [u8; 2],
    /// What it counted.
    pub stats: SessionStats,
    /// So many times slower than configured.
    pub pace: u32,
}
