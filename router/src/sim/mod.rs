//! Networks of simulated routers on a fake clock, from a seed.
//!
//! A [`Net`] consists of [`Node`]s, sites that answer, clients that send numbered packets, and
//! links that can be cut or silenced. A node runs the forwarding step, the monitor, the control
//! plane and the host stack of a real router without threads, sockets or clock. The same seed and
//! the same calls produce the same packets and events, byte for byte.
//!
//! ```text
//! client ──link── r1 ──link── r2 ──link── site      every link has a delay
//!                  └──link── site
//! ```
//!
//! [`Net::run_until`] advances from one due time to the next. At each it performs what was
//! scheduled ([`Action`]), then delivers packets, then lets clients send, then steps every router
//! that has work.
#![forbid(unsafe_code)]

mod client;
mod draft;
mod link;
mod net;
mod node;
mod records;
mod site;
mod trail;
pub mod trial;
mod worker;

pub use client::{Arrival, Client, Flow, FlowId};
pub use draft::{Draft, SERVICES};
pub use link::{Impairment, LATE_MAX, LinkEnd, LinkId};
pub use net::{Action, Net, NodeEvent, RunError};
pub use node::{Node, NodeError, RouterThread};
pub use records::{CarrierNews, Publication};
pub use site::{Power, Site};
pub use trail::{Departure, Revisit};
