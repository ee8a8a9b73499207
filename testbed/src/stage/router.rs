//! The router of a stage, over its control socket.
#![forbid(unsafe_code)]

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::thread;

use nearhop::client::Client;

use super::StageError;
use crate::report::EventLog;

/// A client of the router.
pub(crate) struct Router(Client);

impl Router {
    /// The router that answers at `socket`. Its events go to `log`, from its first one on.
    pub(crate) fn follow(socket: &Path, log: EventLog) -> Result<Self, StageError> {
        let path = socket.to_owned();
        thread::Builder::new()
            .name("watch".into())
            .spawn(move || watch(path, &log))
            .map_err(StageError::lab)?;
        Client::new(socket.to_owned()).map(Self).map_err(StageError::lab)
    }

    pub(crate) fn get(&self, path: &str) -> Result<Vec<u8>, StageError> {
        self.0.get(path).map(|answer| answer.to_vec()).map_err(StageError::lab)
    }

    pub(crate) fn post(&self, path: &str) -> Result<(), StageError> {
        self.0.post(path).map(drop).map_err(StageError::lab)
    }
}

/// Collects events until the router ends.
fn watch(socket: PathBuf, into: &EventLog) {
    let Ok(client) = Client::new(socket) else { return };
    let mut rest = Vec::new();
    let ended = client.follow("/v1/watch?since=0", std::future::pending(), |chunk| {
        rest.extend_from_slice(chunk);
        while let Some(end) = rest.iter().position(|&byte| byte == b'\n') {
            let line: Vec<u8> = rest.drain(..=end).collect();
            match serde_json::from_slice(&line) {
                Ok(event) => {
                    if let Err(error) = into.router(event) {
                        log::error!("{error}");
                    }
                }
                Err(error) => log::error!("an event of the router cannot be read: {error}"),
            }
        }
        ControlFlow::Continue(())
    });
    if let Err(error) = ended {
        log::debug!("the router's events ended: {error}");
    }
}
