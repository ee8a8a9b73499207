//! Reloads: the file is read by a thread of its own, put in force in one step and published in many, and
//! whoever asked is answered after the last.
#![allow(clippy::disallowed_methods, reason = "part of a thread's shell")]

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, mpsc as sync};
use std::thread;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};

use super::super::RunError;
use super::super::kernel::KernelOrder;
use super::super::needs;
use super::super::ports::{Opened, side_of};
use super::ControlThread;
use crate::api::document::Reloaded;
use crate::api::{ApiError, Reply, Who, views};
use crate::config::model::Port;
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
    /// What was read waits for devices that ports which go have still.
    deferred: Option<Change>,
    /// Devices are being opened and changed for it.
    preparing: Option<Change>,
    /// Their configuration is in force, and is being published.
    publishing: Vec<(Vec<Asker>, Vec<String>)>,
    /// Since when all is published, while devices are not free yet.
    published: Option<Nanos>,
}

/// What the file says by now.
pub(super) struct Loaded {
    outcome: Result<Change, ApiError>,
}

struct Change {
    config: Arc<Config>,
    /// What is different, as text.
    lines: Vec<String>,
    /// The reader keeps both configurations until this is dropped, so that it is the one who takes the
    /// time to free what is not needed any more.
    _release: sync::Sender<()>,
}

impl Reloads {
    /// None yet; what is read arrives at the other end.
    pub(super) fn new() -> (Self, mpsc::Receiver<Loaded>) {
        let (loaded, arriving) = mpsc::channel(1);
        let reloads = Self {
            loaded,
            waiting: Vec::new(),
            reading: None,
            deferred: None,
            preparing: None,
            publishing: Vec::new(),
            published: None,
        };
        (reloads, arriving)
    }

    /// Whether somebody waits for a publication.
    pub(super) fn any_publishing(&self) -> bool {
        !self.publishing.is_empty()
    }

    /// Whether nobody waits for any.
    pub(super) fn is_idle(&self) -> bool {
        self.waiting.is_empty()
            && self.reading.is_none()
            && self.deferred.is_none()
            && self.preparing.is_none()
            && self.publishing.is_empty()
    }

    /// All is published: whether those who asked are to be answered, which they are once what goes is
    /// free for others, or takes too long.
    pub(super) fn may_end(&mut self, now: Nanos, all_free: bool) -> bool {
        let since = *self.published.get_or_insert(now);
        all_free || now.since(since) >= FREE_WITHIN
    }
}

impl ControlThread {
    /// Somebody wants a reload. Who asks while the file is read gets it read once more.
    pub(super) fn ask_reload(&mut self, asker: Asker) {
        if self.ready {
            self.manager.reloading();
        }
        self.reloads.waiting.push(asker);
        self.read_again();
    }

    /// All or nothing: what cannot be put in force whole changes nothing.
    pub(super) fn handle_loaded(&mut self, loaded: Loaded) {
        let mut asked = self.reloads.reading.iter().flatten();
        let force = asked.any(|asker| asker.force);
        let allowed = loaded.outcome.and_then(|change| {
            if !force {
                self.guard("reload", &self.daemon.control.left_without(&change.config))?;
                let left = self.daemon.control.left_by_playbooks_of(&change.config);
                let left: Vec<String> = left.into_iter().collect();
                self.guard_services(&left, |names| {
                    format!("reload withdraws {names} from all neighbours, by applied playbooks")
                })?;
            }
            self.move_overrides(&change.config)?;
            Ok(change)
        });
        match allowed {
            Ok(change) => self.prepare(change),
            Err(error) => self.refuse(&error),
        }
    }

    /// Has devices opened and changed, if any are to be; else the configuration is put in force at once.
    fn prepare(&mut self, change: Change) {
        let control = &self.daemon.control;
        let open: Vec<Port> = match control.ports_to_open(&change.config) {
            Ok(open) => open.into_iter().cloned().collect(),
            Err(error) => return self.refuse(&ApiError::conflict(error.to_string())),
        };
        let workers = self.daemon.workers.len();
        if let Err(RunError { message, help }) =
            needs::check_descriptors(&change.config.ports, workers)
        {
            let help = help.unwrap_or_default();
            return self.refuse(&ApiError::environment(message).with_help(help));
        }
        if open.iter().any(|port| self.is_leaving(port)) {
            self.reloads.deferred = Some(change);
            return;
        }
        // A device that is gone is made again, by the configuration in force then.
        let gone = |state: &PortState| matches!(state.fault, Some(DeviceFault::Gone(_)));
        let before = |port: &Port| control.ports().find(|state| state.name() == port.name);
        let differs = |port: &&Port| {
            let state = before(port).filter(|state| !gone(state));
            state.is_some_and(|state| side_of(&state.config, true) != side_of(port, true))
        };
        let differing: Vec<Port> = change.config.ports.iter().filter(differs).cloned().collect();
        if open.is_empty() && differing.is_empty() {
            return self.put_changed_in_force(change, BTreeMap::new());
        }
        for port in &differing {
            self.daemon.control.expect_mtu(&port.name, Some(port.mtu));
        }
        self.daemon.kernel.order(KernelOrder::Prepare { open, change: differing });
        self.reloads.preparing = Some(change);
    }

    /// What waited for devices that are free by now.
    pub(super) fn prepare_deferred(&mut self) {
        if self.leaving.is_empty()
            && let Some(change) = self.reloads.deferred.take()
        {
            self.prepare(change);
        }
    }

    /// Devices are open and changed, or all is as before.
    pub(super) fn handle_prepared(&mut self, prepared: Result<BTreeMap<String, Opened>, RunError>) {
        let Some(change) = self.reloads.preparing.take() else { return };
        match prepared {
            Ok(devices) => self.put_changed_in_force(change, devices),
            // The file is right; a namespace, a device or a privilege is missing.
            Err(error) => {
                for port in &change.config.ports {
                    self.daemon.control.expect_mtu(&port.name, None);
                }
                self.refuse(&ApiError::environment(error.message));
            }
        }
    }

    fn put_changed_in_force(&mut self, change: Change, devices: BTreeMap<String, Opened>) {
        let Change { config, lines, _release } = change;
        self.put_in_force(config, devices);
        let askers = self.reloads.reading.take().unwrap_or_default();
        self.reloads.publishing.push((askers, lines));
        self.read_again();
    }

    fn refuse(&mut self, error: &ApiError) {
        let askers = self.reloads.reading.take().unwrap_or_default();
        let by: Vec<&str> = askers.iter().map(|asker| asker.who.0.as_str()).collect();
        log::error!("{}: not reloaded: all is as before", by.join(", "));
        self.refused = error.text().lines().next().map(str::to_owned);
        error.log_text().lines().for_each(|line| log::error!("not reloaded: {line}"));
        for Asker { reply, .. } in askers {
            // One who asked and went away is not waited for.
            if let Some(reply) = reply {
                drop(reply.send(Err(error.clone())));
            }
        }
        self.read_again();
    }

    /// All is published: answers.
    pub(super) fn finish_reloads(&mut self) {
        self.reloads.published = None;
        self.refused = None;
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
            };
            let outcome = match begun {
                Ok(_) => wait.await.unwrap_or_else(|_| failed("its reader has failed".into())),
                Err(error) => failed(error.to_string()),
            };
            // The other end goes with the router.
            let _ = loaded.send(outcome).await;
        });
    }
}

fn read(file: &Path, in_force: &Arc<Config>, answer: oneshot::Sender<Loaded>) {
    let name = file.display().to_string();
    let outcome = config::load(file).map_err(|errors| ApiError::mistakes(&name, &errors));
    let (release, released) = sync::channel();
    let outcome = outcome.map(|(config, _)| {
        let lines = config::diff(in_force, &config);
        Change { config: Arc::new(config), lines, _release: release }
    });
    let _kept = outcome.as_ref().ok().map(|change| Arc::clone(&change.config));
    if answer.send(Loaded { outcome }).is_ok() {
        // Ends when the other end is dropped.
        let _ = released.recv();
    }
}

/// How long devices may take to be free before those who asked are answered all the same.
const FREE_WITHIN: Duration = Duration::from_secs(4);
