//! The router of a stage, over its control socket.
#![forbid(unsafe_code)]

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use nearhop::client::Client;
use nearhop::event::Event;

use super::StageError;

/// A client of the router, and every event it tells.
pub(crate) struct Router {
    client: Client,
    events: Arc<Mutex<Vec<Event>>>,
    /// Events already given out.
    given: usize,
}

impl Router {
    /// Follows the router that answers at `socket`, from its first event on.
    pub(crate) fn follow(socket: &Path) -> Result<Self, StageError> {
        let events: Arc<Mutex<Vec<Event>>> = Arc::default();
        let (path, into) = (socket.to_owned(), Arc::clone(&events));
        thread::Builder::new()
            .name("watch".into())
            .spawn(move || watch(path, &into))
            .map_err(StageError::lab)?;
        let client = Client::new(socket.to_owned()).map_err(StageError::lab)?;
        Ok(Self { client, events, given: 0 })
    }

    pub(crate) fn post(&self, path: &str) -> Result<(), StageError> {
        self.client.post(path).map(drop).map_err(StageError::lab)
    }

    /// Events that were not given out yet.
    pub(crate) fn take_new(&mut self) -> Vec<Event> {
        let events = self.events.lock().unwrap_or_else(PoisonError::into_inner);
        let new = events[self.given..].to_vec();
        self.given = events.len();
        new
    }

    /// Whether an event that came at `since_ns` or later fits.
    pub(crate) fn told(&self, since_ns: u64, fits: impl Fn(&Event) -> bool) -> bool {
        let events = self.events.lock().unwrap_or_else(PoisonError::into_inner);
        events.iter().rev().take_while(|event| event.t_ns >= since_ns).any(fits)
    }
}

/// Collects events until the router ends.
fn watch(socket: PathBuf, into: &Mutex<Vec<Event>>) {
    let Ok(client) = Client::new(socket) else { return };
    let mut rest = Vec::new();
    let ended = client.follow("/v1/watch?since=0", std::future::pending(), |chunk| {
        rest.extend_from_slice(chunk);
        while let Some(end) = rest.iter().position(|&byte| byte == b'\n') {
            let line: Vec<u8> = rest.drain(..=end).collect();
            match serde_json::from_slice(&line) {
                Ok(event) => into.lock().unwrap_or_else(PoisonError::into_inner).push(event),
                Err(error) => log::error!("an event of the router cannot be read: {error}"),
            }
        }
        ControlFlow::Continue(())
    });
    if let Err(error) = ended {
        log::debug!("the router's events ended: {error}");
    }
}
