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
//! * Readers take no lock and count nothing per lookup. A lookup that runs during an update finds
//!   the old or the new answer for its address. One that falls back on a short prefix starts again
//!   if a short prefix changes meanwhile; the writer stalls before that can go on for ever.
//! * What is unlinked is reused only after every reader has passed a quiescent point.
//! * A change of liveness is one byte, and moves every prefix of every group at once.
//!
//! What readers see is made of atomics, so that a mistake here could give a wrong answer, but never
//! undefined behaviour. `unsafe` is in four small files: one gives out zeroed memory and prefetches,
//! the others use instructions that not every processor has, or that have no safe name.
#![no_std]
#![cfg_attr(test, allow(clippy::duplicate_mod, reason = "kernels, for registers and for arrays"))]

extern crate alloc;
#[cfg(feature = "std")]
extern crate std;

mod addr;
mod fib;
mod flow;
mod group;
mod kernel;
mod map;
mod memory;
mod prefix;
mod qsbr;
mod segments;
mod select;
mod short;
mod space;
mod state;
mod sync;
mod v4;
mod v6;
mod writer;

pub use addr::Addr;
pub use fib::{Fib, Handle, Memory, Online, Reader, fib};
pub use flow::{FlowHash, FlowKey, link_key, name_key};
pub use group::{
    ADJACENCY_MAX, Group, GroupError, GroupId, MEMBERS_MAX, Member, PATH_MAX, Spread, TIER_MAX,
    WhenDead,
};
pub use map::{PrefixMap, PrefixMapIter};
pub use prefix::{IpPrefix, Prefix, PrefixError};
pub use select::{COVERING_MAX, Selected};
pub use state::{ACCEPT_ALL, ACCEPT_NONE, AdjacencyId, PathId, Reason, Reasons};
pub use writer::{CHANGES_MAX, Grace, RETIRED_MAX, Room, TransactionError, WriteError, Writer};
