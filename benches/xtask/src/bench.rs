//! `cargo xtask bench-fib`.
#![forbid(unsafe_code)]

use std::process::ExitCode;

use crate::command::{cargo, program, run};
use crate::report::Outcome;

/// Installs DPDK where it is missing and may be installed, then runs the bench with it.
pub fn fib(arguments: &[String]) -> ExitCode {
    if !matches!(run(program(PACKAGES).arg("dpdk")), Outcome::Passed) {
        eprintln!(
            "error: DPDK is missing; without it: cargo run --profile dist -p nearhop-benches -- fib"
        );
        return ExitCode::from(MISSING);
    }
    let mut command = cargo([
        "run",
        "--profile",
        "dist",
        "-p",
        "nearhop-benches",
        "--features",
        "dpdk",
        "--",
        "fib",
    ]);
    match command.args(arguments).status() {
        // Ended by a signal, it has no code.
        Ok(status) => ExitCode::from(status.code().and_then(|n| u8::try_from(n).ok()).unwrap_or(1)),
        Err(error) => {
            eprintln!("error: cargo: {error}");
            ExitCode::from(MISSING)
        }
    }
}

const PACKAGES: &str = "./.ci/packages";
const MISSING: u8 = 3;
