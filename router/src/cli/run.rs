//! `nearhop run FILE`.
#![forbid(unsafe_code)]

use std::process::ExitCode;
use std::time::Duration;

use super::args::RunArgs;
use super::output::{self, Failure};
use crate::config;
use crate::run::{self, RunError, RunOptions};

pub(super) fn run(args: &RunArgs) -> Result<ExitCode, Failure> {
    let (config, warnings) = config::load(&args.file).map_err(Failure::Config)?;
    output::warn(&warnings);
    let options = RunOptions {
        file: args.file.clone(),
        ready_file: args.ready_file.clone(),
        socket: args.socket.socket.clone(),
        forget_overrides: args.forget_overrides,
        test_carrier_delay: args.test_carrier_delay_ms.map(|ms| Duration::from_millis(ms.into())),
    };
    match run::run(config, &options) {
        Ok(()) => Ok(ExitCode::SUCCESS),
        Err(RunError { message, help }) => Err(Failure::Environment { message, help }),
    }
}
