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
mod needs;
mod notify;
mod orders;
mod placed;
mod ports;
mod signals;
mod sleep;
mod state_files;
mod steps;
mod threads;
mod turns;
mod watched;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use self::control::Shell;
use self::placed::{Placed, PlacedGuard};
pub use self::signals::{Caught, Signals};
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
    /// Makes the control thread panic when it is asked for a summary: for tests of what stays behind.
    pub test_panic: bool,
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

/// Runs a router until SIGTERM or SIGINT, of which it hears by `signals`. It logs by whatever logger the process has.
///
/// # Errors
/// What kept it from starting. Nothing it made stays behind.
pub fn run(signals: Signals, config: Config, options: &RunOptions) -> Result<(), RunError> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| RunError::new(format!("cannot start the control thread: {error}")))?;
    let socket = options
        .socket
        .clone()
        .or_else(|| config.api.socket.clone())
        .unwrap_or_else(|| default_path(&config.router.name, |name| std::env::var_os(name)));
    let placed = Arc::new(Placed::new(options.ready_file.clone()));
    let _placed = PlacedGuard(Arc::clone(&placed));
    let forced = {
        let placed = Arc::clone(&placed);
        move || placed.retract()
    };
    let (signals, patience) = signals.begin(forced);
    // The socket comes first: a second router of this name must not touch any device.
    let (listener, claim) = api::claim(&socket)?;
    placed.claim.get_or_init(|| claim);
    placed.forget_last();
    let workers = threads::workers(&config);
    needs::check_descriptors(&config.ports, workers)?;
    needs::check_address_space(workers)?;
    threads::start(&config, options).and_then(|daemon| {
        let shell = Shell { options: options.clone(), placed, listener, signals, patience };
        runtime.block_on(control::run(daemon, config, shell))
    })
}
