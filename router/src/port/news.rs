//! What a worker has to say of a port's device.
#![forbid(unsafe_code)]

use crate::ids::PortId;

/// A port that answers with errors, seen by a worker before the kernel's notice came.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct PortTrouble {
    /// Which port.
    pub port: PortId,
    /// The device was deleted, not only set down.
    pub gone: bool,
}

/// Which engine a worker has on a port.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct EngineNews {
    /// The worker, from 0.
    pub worker: usize,
    /// The port.
    pub port: PortId,
    /// As `show ports` says it.
    pub engine: &'static str,
    /// Why it is not a faster one.
    pub why: Option<String>,
    /// It had a faster one until now.
    pub failed: bool,
}
