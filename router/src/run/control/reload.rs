//! Reloads: the file is read by a thread of its own, put in force in one step and published in many, and
//! whoever asked is answered after the last.
#![allow(clippy::disallowed_methods, reason = "part of a thread's shell")]

use std::path::Path;
use std::sync::{Arc, mpsc as sync};
use std::thread;

use tokio::sync::{mpsc, oneshot};

use super::super::RunError;
use super::super::ports::{adjust_all, open_all};
use super::ControlThread;
use crate::api::document::Reloaded;
use crate::api::{ApiError, Reply, Who, views};
use crate::config::{self, Config};
use crate::control::{DeviceFault, PortState};
use crate::event::EventKind;
use crate::time::Nanos;

/// Who wants a reload.
pub(super) struct Asker {
    pub(super) who: Who,
    /// Whether also where it leaves a service without a site.
    pub(super) force: bool,
    /// Where the answer goes, if anywhere.
    pub(super) reply: Option<Reply<Reloaded>>,
}

/// Reloads that are under way.
pub(super) struct Reloads {
    loaded: mpsc::Sender<Loaded>,
    /// They want the file to be read from now on.
    waiting: Vec<Asker>,
    /// The file is being read for them.
    reading: Option<Vec<Asker>>,
    /// Their configuration is in force, and is being published.
    publishing: Vec<(Vec<Asker>, Vec<String>)>,
}

/// What the file says by now.
pub(super) struct Loaded {
    outcome: Result<Change, ApiError>,
    /// The reader keeps both configurations until this is dropped, so that it is the one who takes the
    /// time to free what is not needed any more.
    _release: Option<sync::Sender<()>>,
}

struct Change {
    config: Arc<Config>,
    /// What is different, as text.
    lines: Vec<String>,
}

impl Reloads {
    /// None yet; what is read arrives at the other end.
    pub(super) fn new() -> (Self, mpsc::Receiver<Loaded>) {
        let (loaded, arriving) = mpsc::channel(1);
        (Self { loaded, waiting: Vec::new(), reading: None, publishing: Vec::new() }, arriving)
    }

    /// Whether somebody waits for a publication.
    pub(super) fn any_publishing(&self) -> bool {
        !self.publishing.is_empty()
    }
}

impl ControlThread {
    /// Somebody wants a reload. Who asks while the file is read gets it read once more.
    pub(super) fn ask_reload(&mut self, asker: Asker) {
        self.reloads.waiting.push(asker);
        self.read_again();
    }

    /// All or nothing: what cannot be put in force whole changes nothing.
    pub(super) fn handle_loaded(&mut self, loaded: Loaded) {
        let askers = self.reloads.reading.take().unwrap_or_default();
        let force = askers.iter().any(|asker| asker.force);
        let changed = loaded.outcome.and_then(|Change { config, lines }| {
            if !force {
                self.guard("reload", &self.daemon.control.left_without(&config))?;
            }
            self.put_loaded_in_force(config)?;
            Ok(lines)
        });
        match changed {
            Ok(lines) => self.reloads.publishing.push((askers, lines)),
            Err(error) => {
                for Asker { reply, .. } in askers {
                    match reply {
                        // One who asked and went away is not waited for.
                        Some(reply) => drop(reply.send(Err(error.clone()))),
                        None => log::error!("not reloaded: {}", error.text()),
                    }
                }
            }
        }
        self.read_again();
    }

    /// All is published: answers.
    pub(super) fn finish_reloads(&mut self) {
        for (askers, lines) in std::mem::take(&mut self.reloads.publishing) {
            let mut by: Vec<String> = Vec::new();
            for Asker { who: Who(who), reply, .. } in askers {
                by.push(who);
                if let Some(reply) = reply {
                    drop(reply.send(Ok(views::reloaded(&lines))));
                }
            }
            let by = by.join(", ");
            self.emit(Nanos::now(), EventKind::Reload { by, changes: lines });
        }
    }

    fn read_again(&mut self) {
        if self.reloads.reading.is_some() || self.reloads.waiting.is_empty() {
            return;
        }
        self.reloads.reading = Some(std::mem::take(&mut self.reloads.waiting));
        let (answer, wait) = oneshot::channel();
        let (file, in_force) = (self.options.file.clone(), self.daemon.control.config_in_force());
        let reader = thread::Builder::new().name("nh-reload".into());
        let begun = reader.spawn(move || read(&file, &in_force, answer));
        let loaded = self.reloads.loaded.clone();
        tokio::spawn(async move {
            let failed = |why: String| Loaded {
                outcome: Err(ApiError::environment(format!(
                    "cannot read the configuration: {why}"
                ))),
                _release: None,
            };
            let outcome = match begun {
                Ok(_) => wait.await.unwrap_or_else(|_| failed("its reader has failed".into())),
                Err(error) => failed(error.to_string()),
            };
            // The other end goes with the router.
            let _ = loaded.send(outcome).await;
        });
    }

    fn put_loaded_in_force(&mut self, config: Arc<Config>) -> Result<(), ApiError> {
        let control = &self.daemon.control;
        let open = control
            .ports_to_open(&config)
            .map_err(|change| ApiError::conflict(change.to_string()))?;
        // The file is right; a namespace, a device or a privilege is missing.
        let failed = |error: RunError| ApiError::environment(error.message);
        let devices = open_all(open, self.daemon.workers.len()).map_err(failed)?;
        // A device that is gone is made again, by the configuration in force then.
        let gone = |port: &&PortState| matches!(port.fault, Some(DeviceFault::Gone(_)));
        let there = control.ports().filter(|port| !gone(port)).map(|port| port.config.clone());
        adjust_all(&there.collect::<Vec<_>>(), &config.ports, &self.opened).map_err(failed)?;
        self.put_in_force(config, devices);
        Ok(())
    }
}

fn read(file: &Path, in_force: &Arc<Config>, answer: oneshot::Sender<Loaded>) {
    let outcome = config::load(file).map_err(|errors| ApiError::conflict(errors.to_string()));
    let outcome = outcome.map(|(config, _)| {
        let lines = config::diff(in_force, &config);
        Change { config: Arc::new(config), lines }
    });
    let _kept = outcome.as_ref().ok().map(|change| Arc::clone(&change.config));
    let (release, released) = sync::channel();
    if answer.send(Loaded { outcome, _release: Some(release) }).is_ok() {
        // Ends when the other end is dropped.
        let _ = released.recv();
    }
}
