//! The engines of a router, and what they say to each other: written once, for the daemon, where each runs
//! on a thread of its own, and for the simulator, which steps them in any order.
//!
//! ```text
//!                ┌─answers to probes─▶ LivenessEngine ──LivenessNews──▶ ControlEngine
//!  PlaneEngines ─┤                       │ ▲      ▲ ◀──LivenessOrder──    │
//!                │              carrier  ▼ │ verdicts                     │
//!                └─other packets────▶ HostEngine ◀─────HostOrder──────────┘
//! ```
//!
//! Each owns its state, and hears from the others only what stands above the arrows. None waits for
//! another: whatever is on its way when the world changes says of what it speaks (the version of a leg's
//! checks, the time of a verdict), and is ignored if that is gone.
#![forbid(unsafe_code)]

mod bfd;
mod control;
mod host;
mod lane;
mod liveness;
mod plane;
mod speaker;

pub use self::bfd::BfdEngine;
pub use self::control::{ControlEngine, EngineOrder};
pub use self::host::{HostEngine, HostEngineParts, HostOrder};
pub use self::lane::{Sent, StateLane};
pub use self::liveness::{LivenessEngine, LivenessNews, LivenessOrder, ROUND_TRIPS_EVERY};
pub use self::plane::{PlaneEngine, PlaneParts, PlaneShell, ROUNDS_MAX};
