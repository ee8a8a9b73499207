//! `nearhop run FILE`.
#![forbid(unsafe_code)]

use std::process::ExitCode;
use std::time::Duration;

use super::args::{LogArgs, RunArgs};
use super::output::{self, Failure};
use crate::config;
use crate::kernel::descriptors;
use crate::logging::{self, LogFormat};
use crate::run::{self, Caught, RunError, RunOptions, Signals};

pub(super) fn run(args: &RunArgs) -> Result<ExitCode, Failure> {
    // First, so that no signal ends the process meanwhile.
    let caught = Caught::catch()
        .map_err(|error| Failure::environment(format!("cannot catch signals: {error}")))?;
    let filter = filter(&args.log)?;
    // Ends last.
    let _log = logging::start_beside(&filter, args.log.log_format)
        .map_err(|error| Failure::environment(format!("cannot start the log's thread: {error}")))?;
    let signals = caught.watch().map_err(|error| {
        Failure::environment(format!("cannot start the signals' thread: {error}"))
    })?;
    let limit = descriptors::raise_limit();
    log::debug!("limit of open files: {}", limit.map_or("none".into(), |limit| limit.to_string()));
    let ended = start(args, signals);
    match (ended, args.log.log_format) {
        (Err(failure), LogFormat::Json) => Ok(failure.log()),
        (ended, _) => ended,
    }
}

fn start(args: &RunArgs, signals: Signals) -> Result<ExitCode, Failure> {
    let (config, warnings) = config::load(&args.file).map_err(Failure::Config)?;
    match args.log.log_format {
        LogFormat::Text => output::warn(&warnings),
        LogFormat::Json => output::log_warnings(&warnings),
    }
    let options = RunOptions {
        file: args.file.clone(),
        ready_file: args.ready_file.clone(),
        socket: args.socket.socket.clone(),
        forget_overrides: args.forget_overrides,
        test_panic: args.test_panic,
        test_carrier_delay: args.test_carrier_delay_ms.map(|ms| Duration::from_millis(ms.into())),
    };
    match run::run(signals, config, &options) {
        Ok(()) => Ok(ExitCode::SUCCESS),
        Err(RunError { message, help }) => Err(Failure::Environment { message, help }),
    }
}

/// What is logged.
fn filter(args: &LogArgs) -> Result<String, Failure> {
    if let Some(level) = &args.log_level {
        return Ok(level.clone());
    }
    let Some(filter) = std::env::var_os(FILTER).filter(|filter| !filter.is_empty()) else {
        return Ok("info".into());
    };
    let filter = filter.to_string_lossy().into_owned();
    logging::check_filter(&filter).map_err(|error| {
        Failure::usage(format!("{FILTER}: expected levels, found {filter:?}: {error}"))
            .with_help("for example `debug`, or `info,nearhop::run=debug`")
    })?;
    Ok(filter)
}

/// Environment variable: what is logged.
const FILTER: &str = "NEARHOP_LOG";
