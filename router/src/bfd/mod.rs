//! BFD: whether a neighbour's forwarding plane is heard, and hears, within milliseconds (RFC 5880). Without
//! sockets and without a clock.
//!
//! ```text
//! payload of a datagram ─▶ packet ─▶ machine (which session?) ─▶ session ─▶ Event
//!                                        │                          │
//!                                     timers ◀──────────────────────┘ poll_transmit ─▶ payload
//! ```
//!
//! * [`packet`] reads and writes control packets; [`auth`] says whether they are the neighbour's.
//! * [`session`] is the machine of one neighbour, and its timers.
//! * [`machine`] has all sessions: to which one a packet belongs, and which is due.
//!
//! Whether a packet came over one hop only (RFC 5881, section 5), and over a port that is the session's, is
//! known by whoever hands it in.
#![forbid(unsafe_code)]

pub mod auth;
pub mod machine;
pub mod packet;
pub mod session;
#[cfg(test)]
mod tests;
mod timing;

pub use timing::Intervals;
