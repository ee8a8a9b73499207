//! Which ports have their carrier watched: what the liveness thread says of it, and the control thread asks
//! before the router is ready.
#![forbid(unsafe_code)]

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::ids::PortId;

/// Ports whose carrier is watched, or why it is not. Cheap to clone.
#[derive(Clone, Default)]
pub struct Watched(Arc<Mutex<BTreeMap<PortId, Result<(), String>>>>);

impl Watched {
    /// The port is watched, or why not. Returns whether that is news.
    pub(super) fn set(&self, port: PortId, outcome: Result<(), String>) -> bool {
        let before = self.lock().insert(port, outcome.clone());
        before != Some(outcome)
    }

    /// The port is gone.
    pub(super) fn forget(&self, port: PortId) {
        self.lock().remove(&port);
    }

    /// Why the carrier of a port is not watched, if so.
    pub(super) fn why_not(&self, port: PortId) -> Option<String> {
        match self.lock().get(&port) {
            Some(Ok(())) => None,
            Some(Err(why)) => Some(why.clone()),
            None => Some("nobody has looked at it yet".into()),
        }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<PortId, Result<(), String>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
