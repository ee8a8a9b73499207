//! Tests that cannot run where they are: said, collected, and a failure where all have to run.
//!
//! Every test program of the workspace that needs this, and `cargo xtask test`, includes this file.
#![allow(dead_code)] // each uses its part

use std::env;
use std::fs::File;
use std::io::{self, Write as _};

/// Says that `test` does not run here, and why; the test then returns, and counts as passed. `cargo
/// xtask test` lists these at its end.
///
/// # Panics
/// If every test is required.
pub fn skip(test: &str, why: &str) {
    let why = why.trim().replace('\n', "; ");
    assert!(!all_required(), "{REQUIRE_ALL}=1, and yet {test} cannot run: {why}");
    // Written past `cargo test`'s capture, which would hide it.
    let _ = writeln!(io::stderr(), "{test}: SKIPPED: {why}");
    if let Some(log) = env::var_os(LOG) {
        let log = File::options().create(true).append(true).open(log);
        // It was said already, and is no reason to fail.
        let _ = log.and_then(|mut log| log.write_all(format!("{test}: {why}\n").as_bytes()));
    }
}

/// Whether a test that cannot run is a failure.
pub fn all_required() -> bool {
    env::var_os(REQUIRE_ALL).is_some_and(|value| value == "1")
}

/// Environment: a file to which each test that did not run adds a line, `TEST: WHY`.
pub const LOG: &str = "NEARHOP_SKIP_LOG";

/// Environment: `1` where every test has to run.
pub const REQUIRE_ALL: &str = "NEARHOP_REQUIRE_ALL";
