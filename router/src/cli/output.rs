//! The two output streams, and how a command ends.
//!
//! Nothing here uses `println!` or `eprintln!`, which panic when the reader has closed the stream.
#![forbid(unsafe_code)]

use std::fmt::Display;
use std::io::{self, Write};
use std::process::ExitCode;

use crate::config::{ConfigErrors, FINDINGS_SHOWN, Finding, Style, more_than_shown};
use crate::printable;

/// Exit status for wrong usage or configuration.
pub(super) const USAGE: u8 = 2;

/// Exit status if the environment cannot do what was asked.
pub(super) const ENVIRONMENT: u8 = 3;

/// Exit status of `watch`, if the router has ended.
pub(super) const ROUTER_ENDED: u8 = 4;

/// Why a command ended early.
#[derive(Debug)]
pub(super) enum Failure {
    /// The reader closed standard output.
    Closed,
    /// The configuration has errors.
    Config(ConfigErrors),
    /// The environment cannot do what was asked: status 3.
    Environment { message: String, help: Option<String> },
    /// The usage is wrong: status 2.
    Usage { message: String, help: Option<String> },
}

impl Failure {
    pub(super) fn environment(message: impl Into<String>) -> Self {
        Self::Environment { message: message.into(), help: None }
    }

    pub(super) fn usage(message: impl Into<String>) -> Self {
        Self::Usage { message: message.into(), help: None }
    }

    pub(super) fn with_help(mut self, text: impl Into<String>) -> Self {
        if let Self::Environment { help, .. } | Self::Usage { help, .. } = &mut self {
            *help = Some(text.into());
        }
        self
    }

    /// Prints the failure on standard error and returns the exit status.
    pub(super) fn report(self) -> ExitCode {
        match self {
            Self::Closed => ExitCode::SUCCESS,
            Self::Config(errors) => {
                let style = Style::of_stderr();
                complain(&errors.render(style));
                let count = errors.mistakes.len();
                complain(&format!("{count} {}\n", if count == 1 { "error" } else { "errors" }));
                ExitCode::from(USAGE)
            }
            Self::Environment { message, help } => report(ENVIRONMENT, &message, help),
            Self::Usage { message, help } => report(USAGE, &message, help),
        }
    }
}

impl Failure {
    /// Logs the failure and returns the exit status: where standard error is the log's.
    pub(super) fn log(self) -> ExitCode {
        match self {
            Self::Closed => ExitCode::SUCCESS,
            Self::Config(errors) => {
                let findings = errors.warnings.iter().chain(&errors.mistakes);
                log_findings(findings, errors.mistakes.len() + errors.warnings.len());
                ExitCode::from(USAGE)
            }
            Self::Environment { message, help } => log_error(ENVIRONMENT, &message, help),
            Self::Usage { message, help } => log_error(USAGE, &message, help),
        }
    }
}

/// Failing to write an answer is the only I/O error that converts implicitly.
impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        if error.kind() == io::ErrorKind::BrokenPipe {
            Self::Closed
        } else {
            Self::environment(format!("cannot write the answer: {error}"))
        }
    }
}

/// Prints an answer and a newline on standard output.
pub(super) fn answer(text: impl Display) -> Result<(), Failure> {
    answer_after("", text)
}

/// As [`answer`], after what is meant for the terminal itself.
pub(super) fn answer_after(control: &str, text: impl Display) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    writeln!(out, "{control}{}", printable::lines(&text.to_string()))?;
    Ok(out.flush()?)
}

/// Prints a JSON document and a newline on standard output.
pub(super) fn answer_json(text: impl Display) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    writeln!(out, "{}", printable::json(&text.to_string()))?;
    Ok(out.flush()?)
}

/// Writes to standard error, unescaped. Failures are ignored: there is no other stream to report them on.
pub(super) fn complain(text: &str) {
    let _ = io::stderr().lock().write_all(text.as_bytes());
}

/// Prints warnings on standard error.
pub(super) fn warn(warnings: &[Finding]) {
    let style = Style::of_stderr();
    for warning in warnings.iter().take(FINDINGS_SHOWN) {
        complain(&warning.render(style));
        complain("\n");
    }
    if let Some(more) = more_than_shown(warnings, "warnings") {
        complain(&more);
    }
}

/// As [`warn`], to the log.
pub(super) fn log_warnings(warnings: &[Finding]) {
    log_findings(warnings.iter(), warnings.len());
}

fn log_findings<'a>(findings: impl Iterator<Item = &'a Finding>, count: usize) {
    for finding in findings.take(FINDINGS_SHOWN) {
        let level = if finding.is_warning() { log::Level::Warn } else { log::Level::Error };
        log::log!(level, "{finding}");
    }
    if let Some(more) = count.checked_sub(FINDINGS_SHOWN).filter(|&more| more > 0) {
        log::error!("{more} more findings are not shown");
    }
}

fn log_error(status: u8, message: &str, help: Option<String>) -> ExitCode {
    match help {
        Some(help) => log::error!("{message} (help: {help})"),
        None => log::error!("{message}"),
    }
    ExitCode::from(status)
}

fn report(status: u8, message: &str, help: Option<String>) -> ExitCode {
    complain(&format!("error: {}\n", printable::lines(message)));
    if let Some(help) = help {
        complain(&format!("  help: {}\n", printable::lines(&help)));
    }
    ExitCode::from(status)
}
