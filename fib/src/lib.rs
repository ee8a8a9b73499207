//! Longest-prefix match and anycast selection: one writer, any number of wait-free readers.
//!
//! ```text
//! prefix ──LPM──▶ group id ──▶ group: members by tier ──▶ tier, then site by hash, then link
//!                              (cache lines that never     skipping members that are down
//!                               change)                    (two bytes each)
//! ```
//!
//! * [`fib()`] makes an empty FIB: a [`Writer`] for the control plane and a [`Handle`] that makes a
//!   [`Reader`] for each forwarding thread.
//! * Readers take no lock, retry nothing and count nothing per lookup. A lookup that runs during
//!   an update finds the old or the new answer for its address.
//! * What is unlinked is reused only after every reader has passed a quiescent point.
//! * A change of liveness is one byte, and moves every prefix of every group at once.
//!
//! Everything is `#![forbid(unsafe_code)]`: what readers see is made of atomics, so that a mistake
//! here could give a wrong answer, but never undefined behaviour.
#![cfg_attr(not(feature = "std"), no_std)]
#![forbid(unsafe_code)]

extern crate alloc;

mod addr;
mod fib;
mod flow;
mod group;
mod lpm;
mod prefix;
mod qsbr;
mod segments;
mod select;
mod state;
mod sync;
mod writer;

pub use addr::Addr;
pub use fib::{Fib, Handle, Memory, Online, Reader, fib};
pub use flow::{FlowHash, FlowKey, name_key};
pub use group::{
    ADJACENCY_MAX, Group, GroupError, GroupId, MEMBERS_MAX, Member, PATH_MAX, Spread, TIER_MAX,
    WhenDead,
};
pub use prefix::{IpPrefix, Prefix, PrefixError};
pub use select::{COVERING_MAX, Selected};
pub use state::{ACCEPT_ALL, ACCEPT_NONE, AdjacencyId, PathId, Reason, Reasons};
pub use writer::{Grace, RETIRED_MAX, WriteError, Writer};
