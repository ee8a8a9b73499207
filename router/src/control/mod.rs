//! From configuration and events to what the workers read.
//!
//! * [`cost`]: which site is cheaper, and why: one pure function.
//! * [`damping`]: how long a flapping leg waits.
//! * [`monitor`]: carrier and checks to down-reasons; all that stands between a fault and the byte
//!   that moves packets away from it. Runs on the heartbeat thread.
//! * [`core`]: configuration to adjacencies, paths, groups and routes. Runs on the control thread.
#![forbid(unsafe_code)]

pub mod core;
pub mod cost;
pub mod damping;
pub mod monitor;
