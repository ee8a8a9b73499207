//! The files by which others find the router and know that it is ready: gone when it ends, however it does.
#![forbid(unsafe_code)]

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use crate::api::{Claim, OwnFile};

/// Where the router says that it is there, and ready.
#[derive(Default)]
pub(super) struct Placed {
    /// The control socket.
    pub(super) claim: OnceLock<Claim>,
    ready_path: Option<PathBuf>,
    ready: Mutex<Option<OwnFile>>,
}

/// Takes the ready file back when it is dropped, also by a panic.
pub(super) struct ReadyGuard(pub(super) Arc<Placed>);

/// Takes back everything when it is dropped, also by a panic.
pub(super) struct PlacedGuard(pub(super) Arc<Placed>);

impl Placed {
    pub(super) fn new(ready_path: Option<PathBuf>) -> Self {
        Self { ready_path, ..Self::default() }
    }

    /// Removes the ready file of a router that was killed, which would say what is not so yet.
    pub(super) fn forget_last(&self) {
        let Some(path) = &self.ready_path else { return };
        match fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                log::error!("cannot remove the ready file {}: {error}", path.display());
            }
            _ => {}
        }
    }

    /// Writes the ready file, if one is wanted.
    pub(super) fn announce_ready(&self) {
        let Some(path) = &self.ready_path else { return };
        let written = File::create(path).and_then(|mut file| {
            writeln!(file, "ready")?;
            OwnFile::of(path, file)
        });
        match written {
            Ok(file) => {
                *self.ready.lock().unwrap_or_else(PoisonError::into_inner) = Some(file);
            }
            Err(error) => log::error!("cannot write the ready file {}: {error}", path.display()),
        }
    }

    /// Takes back what [`Self::announce_ready`] wrote, if anything.
    fn retract_ready(&self) {
        if let Some(file) = self.ready.lock().unwrap_or_else(PoisonError::into_inner).take() {
            file.remove();
        }
    }

    /// Takes back everything.
    pub(super) fn retract(&self) {
        self.retract_ready();
        if let Some(claim) = self.claim.get() {
            claim.release();
        }
    }
}

impl Drop for ReadyGuard {
    fn drop(&mut self) {
        self.0.retract_ready();
    }
}

impl Drop for PlacedGuard {
    fn drop(&mut self) {
        self.0.retract();
    }
}
