//! nearhop: a userspace router for anycast.
//!
//! One address is served by many sites; every packet goes to the lowest-cost reachable site. Read
//! the modules in the order in which a packet passes through them:
//!
//! * [`port`]: devices that receive and send packets; [`batch`]: the buffers that hold them.
//! * [`packet`]: checked views of bytes; [`verdict`]: every way a packet can end.
//! * [`forward`]: the pure forwarding step; [`worker`]: the thread that runs it.
//! * [`host`]: the host stack on the router's own addresses; [`probe`]: checks whether a site is
//!   reachable, and its latency.
//! * [`liveness`]: turns carrier and outcomes of checks into down-reasons; [`control`]: turns
//!   configuration and events into groups in the FIB; [`run`]: the daemon and its threads.
//! * [`config`], [`event`], [`api`], [`cli`], [`client`]: the interfaces for people and programs.
//! * [`bgp`]: sessions with other routers; [`bfd`]: whether a neighbour is there, within milliseconds.
//! * [`sim`]: whole routers on a fake clock.
//!
//! Everything but [`run`], [`worker`] and the devices of [`port`] is sans-IO: it takes bytes
//! and `now` and returns values, so a network of routers runs in one deterministic test.
#![deny(unsafe_code)]

pub mod address_text;
pub mod api;
pub mod batch;
pub mod bfd;
pub mod bgp;
pub mod cli;
pub mod client;
pub mod config;
pub mod control;
pub mod engine;
pub mod event;
pub mod forward;
pub mod host;
pub mod ids;
pub mod kernel;
pub mod limit;
pub mod liveness;
pub mod logging;
pub mod neighbor;
pub mod packet;
pub mod policy;
pub mod port;
pub mod printable;
pub mod probe;
mod put_back;
mod random;
pub mod regular_file;
pub mod rib;
pub mod route_file;
pub mod run;
mod secret;
pub mod sim;
pub mod time;
mod timers;
pub mod utc;
pub mod verdict;
pub mod worker;
