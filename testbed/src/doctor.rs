//! Tests whether this machine can run labs, by doing what a lab does.
#![forbid(unsafe_code)]

mod probes;

use std::ffi::OsStr;
use std::fmt;
use std::io;
use std::process::{Command, ExitCode, Stdio};

use serde::{Deserialize, Serialize};

use crate::sandbox::{self, Options, own_executable};

/// The result of all tests.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Report {
    /// Always `nearlab.doctor.v1`.
    pub schema: String,
    /// One item per requirement.
    pub items: Vec<Item>,
}

/// One requirement.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct Item {
    /// Its name.
    pub name: String,
    /// Whether it is met.
    pub ok: bool,
    /// Whether labs need it.
    pub required: bool,
    /// What the test found.
    pub found: String,
    /// The consequence, if it is not met.
    pub follows: String,
    /// The command that fixes it, if it is not met and there is one.
    pub mend: String,
}

/// Tests the machine. Outside a sandbox this starts one for the tests, in which the program's
/// `main` must call [`dispatch`]; inside, it runs the tests directly.
///
/// # Errors
/// This program cannot be started again. An unmet requirement is not an error.
pub fn run() -> io::Result<Report> {
    if sandbox::is_inside() {
        return Ok(Report::new(probes::all()));
    }
    let output = Command::new(own_executable())
        .arg(COMMAND)
        .stdin(Stdio::null())
        .stderr(Stdio::piped())
        .output()?;
    // An error of the sandbox, or a truncated report, is not valid JSON.
    Ok(serde_json::from_slice(&output.stdout).unwrap_or_else(|_| {
        let reported = String::from_utf8_lossy(&output.stderr);
        Report::new(probes::without_a_sandbox(reported.trim()))
    }))
}

/// Runs the tests if the arguments (without the program's name) request it. See [`run`].
pub fn dispatch<A: AsRef<OsStr>>(args: &[A]) -> Option<ExitCode> {
    let [command] = args else { return None };
    if command.as_ref() != COMMAND {
        return None;
    }
    if let Err(error) = sandbox::enter(&Options::named("doctor")) {
        eprintln!("{error}");
        return Some(ExitCode::from(CANNOT));
    }
    match serde_json::to_string(&Report::new(probes::all())) {
        Ok(text) => println!("{text}"),
        Err(error) => eprintln!("{error}"),
    }
    Some(ExitCode::SUCCESS)
}

impl Report {
    fn new(items: Vec<Item>) -> Self {
        Self { schema: SCHEMA.to_owned(), items }
    }

    /// Whether every requirement of labs is met.
    pub fn ok(&self) -> bool {
        self.items.iter().all(|item| item.ok || !item.required)
    }
}

/// One aligned line per requirement.
impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let width = self.items.iter().map(|item| item.name.len()).max().unwrap_or(0);
        for item in &self.items {
            let state = if item.ok { "ok" } else { "missing" };
            write!(f, "{:width$}  {state:7}  {}", item.name, item.found)?;
            if !item.ok {
                write!(f, " -> {}", item.follows)?;
                if !item.mend.is_empty() {
                    write!(f, "; type: {}", item.mend)?;
                }
            }
            writeln!(f)?;
        }
        Ok(())
    }
}

const COMMAND: &str = "__doctor";
const SCHEMA: &str = "nearlab.doctor.v1";
/// Exit code: this machine cannot run labs.
const CANNOT: u8 = 3;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_says_what_follows_and_what_to_type() {
        let met = Item { name: "tun".into(), ok: true, found: "here".into(), ..Item::default() };
        let unmet = Item {
            name: "veth pairs".into(),
            required: true,
            found: "not available".into(),
            follows: "no Ethernet".into(),
            mend: "sudo modprobe veth".into(),
            ..Item::default()
        };
        let report = Report::new(vec![met, unmet]);
        assert!(!report.ok());
        assert_eq!(
            report.to_string(),
            "tun         ok       here\n\
             veth pairs  missing  not available -> no Ethernet; type: sudo modprobe veth\n"
        );
    }
}
