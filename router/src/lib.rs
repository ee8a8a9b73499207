//! nearhop: a userspace router for anycast.
//!
//! One address is served by many sites; every packet goes to the lowest-cost site that can be
//! reached now. Read the modules in the order a packet meets them:
//!
//! * [`port`]: packets in and out of devices; [`batch`]: the buffers they travel in.
//! * [`packet`]: checked views of bytes; [`verdict`]: every way a packet can end.
//! * [`forward`]: the pure forwarding step; [`worker`]: the thread that runs it.
//! * [`host`]: the router's own addresses; [`probe`]: is the site there, and how far.
//! * [`control`]: from configuration and events to groups in the FIB; [`heartbeat`]: the thread
//!   that hears of faults; [`run`]: the daemon and its control thread.
//! * [`config`], [`event`], [`api`], [`cli`]: what people and scripts see.
//! * [`sim`]: whole routers on a fake clock.
//!
//! Everything but [`run`], [`worker`] and the devices of [`port`] is sans-IO: it takes bytes and
//! `now` and returns values, so that a whole network of routers runs in one deterministic test.
#![deny(unsafe_code)]

pub mod api;
pub mod batch;
pub mod cli;
pub mod client;
pub mod config;
pub mod control;
pub mod event;
pub mod forward;
pub mod heartbeat;
pub mod host;
pub mod logging;
pub mod packet;
pub mod port;
pub mod probe;
pub mod realtime;
pub mod run;
pub mod sim;
pub mod time;
pub mod utc;
pub mod verdict;
pub mod worker;
