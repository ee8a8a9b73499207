//! Skips tests that cannot run here: reports and records them, or fails where all must run.
//!
//! Every test program of the workspace that needs it includes this file, and so does `cargo xtask
//! test`.
#![allow(dead_code)] // each uses its part

use std::env;
use std::fs::File;
use std::io::{self, Write as _};

/// Reports that `test` cannot run here, and why; the test then returns and counts as passed. `cargo
/// xtask test` lists these tests at its end.
///
/// # Panics
/// Every test is required to run.
pub fn skip(test: &str, why: &str) {
    let why = why.trim().replace('\n', "; ");
    assert!(!all_required(), "{REQUIRE_ALL}=1, and yet {test} cannot run: {why}");
    // Written past the capture of `cargo test`, which would hide it.
    let _ = writeln!(io::stderr(), "{test}: SKIPPED: {why}");
    if let Some(log) = env::var_os(LOG) {
        let log = File::options().create(true).append(true).open(log);
        // The reason was already printed, so an error here is no failure.
        let _ = log.and_then(|mut log| log.write_all(format!("{test}: {why}\n").as_bytes()));
    }
}

/// Whether a test that cannot run is a failure.
pub fn all_required() -> bool {
    env::var_os(REQUIRE_ALL).is_some_and(|value| value == "1")
}

/// Environment variable: a file to which each skipped test appends a line, `TEST: WHY`.
pub const LOG: &str = "NEARHOP_SKIP_LOG";

/// Environment variable: `1` where every test must run.
pub const REQUIRE_ALL: &str = "NEARHOP_REQUIRE_ALL";
