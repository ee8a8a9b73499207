//! `nearhop run FILE`.
#![forbid(unsafe_code)]

use std::path::PathBuf;
use std::process::ExitCode;

use super::args::RunArgs;
use super::output::{self, Failure};
use crate::config::{self, Config};

/// What the command line says besides the configuration.
#[derive(Clone, Debug)]
pub struct RunOptions {
    /// The configuration's file, to read it again on reload.
    pub file: PathBuf,
    /// Written when the router is ready.
    pub ready_file: Option<PathBuf>,
    /// The control socket; overrides `[api] socket`.
    pub socket: Option<PathBuf>,
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

pub(super) fn run(args: &RunArgs) -> Result<ExitCode, Failure> {
    let (config, warnings) = config::load(&args.file).map_err(Failure::Config)?;
    output::warn(&warnings);
    let options = RunOptions {
        file: args.file.clone(),
        ready_file: args.ready_file.clone(),
        socket: args.socket.socket.clone(),
    };
    match start(&config, &options) {
        Ok(()) => Ok(ExitCode::SUCCESS),
        Err(RunError { message, help }) => Err(Failure::Environment { message, help }),
    }
}

/// The seam to the daemon.
fn start(config: &Config, options: &RunOptions) -> Result<(), RunError> {
    let file = options.file.display();
    Err(RunError {
        message: format!("router {:?} cannot run: this build has no daemon", config.router.name),
        help: Some(format!("the file is good; `nearhop check {file}` says what is in it")),
    })
}
