//! Whole networks of routers on a fake clock, from a seed.
//!
//! A [`Net`] is made of [`Node`]s (the forwarding step, the monitor, the core and the host stack
//! that run in a real router, put together without threads, sockets or clock), sites that answer,
//! clients whose numbered packets say where they went, and links that can be cut or silenced. The
//! same seed and the same calls give the same packets and events, to the byte.
//!
//! ```text
//! client ──link── r1 ──link── r2 ──link── site      each link delays, so that nothing is
//!                  └──link── site                   everywhere at once
//! ```
//!
//! [`Net::run_until`] goes from one due time to the next: what was asked for ([`Action`]), then
//! packets that arrive, then packets that clients send, then every router that has something to do.
#![forbid(unsafe_code)]

mod client;
mod draft;
mod link;
mod net;
mod node;
mod plane;
mod site;
mod trail;
pub mod trial;

pub use client::{Arrival, Client, Flow, FlowId};
pub use draft::{Draft, SERVICES};
pub use link::{End, Impairment, LATE_MAX, LinkId};
pub use net::{Action, Happened, Net, Stuck};
pub use node::{Node, NodeError, Part};
pub use site::{Power, Site};
pub use trail::Return;
