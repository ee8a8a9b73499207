//! The behaviour of tests that cannot run.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, reason = "a test may panic")]

#[path = "support/skip.rs"]
mod skip;

use std::env;
use std::process::{Command, Output};

#[test]
#[ignore = "the other test runs it, in a process of its own"]
fn wants_what_nobody_has() {
    skip::skip("wants_what_nobody_has", "no unicorn:\nthe stable is empty\n");
}

#[test]
fn it_passes_and_is_listed_unless_all_are_required() {
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("log");
    let run = |required: &str| -> Output {
        Command::new(env::current_exe().unwrap())
            .args(["--exact", "wants_what_nobody_has", "--include-ignored"])
            .envs([(skip::LOG, log.as_os_str()), (skip::REQUIRE_ALL, required.as_ref())])
            .output()
            .unwrap()
    };
    let line = "wants_what_nobody_has: no unicorn:; the stable is empty\n";
    for times in 1..=2 {
        let output = run("0");
        assert!(output.status.success(), "{output:?}");
        assert!(String::from_utf8_lossy(&output.stderr).contains("SKIPPED: no unicorn"));
        assert_eq!(std::fs::read_to_string(&log).unwrap(), line.repeat(times));
    }
    let output = run("1");
    assert!(!output.status.success());
    assert!(String::from_utf8_lossy(&output.stdout).contains("no unicorn"), "{output:?}");
    assert_eq!(std::fs::read_to_string(&log).unwrap(), line.repeat(2), "it failed, not skipped");
}
