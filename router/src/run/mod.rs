//! The daemon: opens ports, starts the threads, and is the control thread itself.
//!
//! ```text
//!            ┌──probe lane──▶ liveness thread ──events──▶ control thread
//! workers ───┤                  ▲  │      ▲ ◀──orders──── (tokio, API)
//!            │           verdicts  carrier                     │
//!            └──host lane──▶ host thread ◀──orders─────────────┘
//! ```
#![forbid(unsafe_code)]

mod control;
mod host;
mod kernel;
mod liveness;
mod ports;
mod signals;
mod sleep;
mod state_files;
mod steps;
mod threads;

use std::fs;
use std::io::{self, Write as _};
use std::path::PathBuf;
use std::time::Duration;

use crate::api::socket::default_path;
use crate::api::{self, ClaimError};
use crate::config::Config;

/// What the command line says besides the configuration.
#[derive(Clone, Debug)]
pub struct RunOptions {
    /// The configuration's file, to read it again on reload.
    pub file: PathBuf,
    /// Written when the router is ready.
    pub ready_file: Option<PathBuf>,
    /// The control socket; overrides `[api] socket`.
    pub socket: Option<PathBuf>,
    /// Starts without the drains and disables that were kept.
    pub forget_overrides: bool,
    /// Makes lost carrier known so much late: for tests of what measures failover.
    pub test_carrier_delay: Option<Duration>,
}

/// Why a router did not start or could not go on.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct RunError {
    /// What could not be done, and why.
    pub message: String,
    /// What to type.
    pub help: Option<String>,
}

impl RunError {
    fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), help: None }
    }

    fn with_help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }
}

impl From<ClaimError> for RunError {
    fn from(error: ClaimError) -> Self {
        Self::new(error.message).with_help(error.help)
    }
}

/// Runs a router until SIGTERM or SIGINT. It logs by whatever logger the process has.
///
/// # Errors
/// What kept it from starting. Nothing it made stays behind.
pub fn run(config: Config, options: &RunOptions) -> Result<(), RunError> {
    let failed = |error: io::Error| RunError::new(format!("cannot start a thread: {error}"));
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| RunError::new(format!("cannot start the control thread: {error}")))?;
    let socket = options
        .socket
        .clone()
        .or_else(|| config.api.socket.clone())
        .unwrap_or_else(|| default_path(&config.router.name, |name| std::env::var_os(name)));
    // The socket comes first: a second router of this name must not touch any device.
    let claimed = api::claim(&socket)?;
    // One that was killed may have left its own, which would say what is not so yet.
    retract_ready(options);
    let forced = {
        let (options, socket) = (options.clone(), socket.clone());
        move || {
            retract_ready(&options);
            let _ = fs::remove_file(&socket);
        }
    };
    let signals = signals::start(forced).map_err(failed)?;
    let result = threads::start(&config, options).and_then(|daemon| {
        runtime.block_on(control::run(daemon, config, options.clone(), claimed, signals))
    });
    retract_ready(options);
    let _ = fs::remove_file(&socket);
    result
}

/// Takes back what [`announce_ready`] wrote, if anything.
fn retract_ready(options: &RunOptions) {
    let Some(path) = &options.ready_file else { return };
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            log::error!("cannot remove the ready file {}: {error}", path.display());
        }
        _ => {}
    }
}

/// Tells whoever waits that the router is ready.
fn announce_ready(options: &RunOptions) {
    if let Some(path) = &options.ready_file {
        let written = fs::File::create(path).and_then(|mut file| writeln!(file, "ready"));
        if let Err(error) = written {
            log::error!("cannot write the ready file {}: {error}", path.display());
        }
    }
    if let Err(error) = sd_notify::notify(&[sd_notify::NotifyState::Ready]) {
        log::warn!("cannot notify the service manager: {error}");
    }
}
