//! Reports of a worker about a port's device.
#![forbid(unsafe_code)]

use crate::ids::PortId;

/// A port whose device returned errors to a worker, possibly before the kernel's notification
/// arrived.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct PortTrouble {
    /// The port.
    pub port: PortId,
    /// Whether the device was deleted, not only set down.
    pub gone: bool,
}

/// The I/O engine that a worker uses on a port.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct EngineNews {
    /// The worker, from 0.
    pub worker: usize,
    /// The port.
    pub port: PortId,
    /// Name of the engine, for `show ports`.
    pub engine: &'static str,
    /// Why a faster engine is not used, if one was tried.
    pub why: Option<String>,
    /// Whether a faster engine failed just now.
    pub failed: bool,
}
