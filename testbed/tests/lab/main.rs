//! Labs for real: each case runs in a sandbox of its own, which this program makes by starting
//! itself again; so do the helper processes of the labs.
//!
//! Where user namespaces cannot be had, the cases are listed as ignored, unless
//! NEARHOP_REQUIRE_ALL is 1.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, reason = "a test; clippy.toml knows only those of the usual harness")]

mod faults;
mod guests;
mod sandbox;
mod support;
mod wire;

use std::process::ExitCode;

use libtest_mimic::{Arguments, Trial};
use nearlab::sandbox::{Options, enter};

use support::skip::skip;
use support::{CASE, Case, in_sandbox, unavailable};

fn main() -> ExitCode {
    let args: Vec<_> = std::env::args_os().skip(1).collect();
    let helper = nearlab::dispatch(&args).or_else(|| support::dispatch(&args));
    if let Some(code) = helper {
        return code;
    }
    match std::env::var(CASE) {
        Ok(name) => run_case(&name),
        Err(_) => libtest_mimic::run(&Arguments::from_args(), trials()).exit_code(),
    }
}

/// In the outer process this does not return; in the sandbox it runs the case.
fn run_case(name: &str) -> ExitCode {
    if let Err(error) = enter(&Options::named(name)) {
        eprintln!("{error}");
        return ExitCode::from(3);
    }
    let cases = inside().into_iter().chain(guests::GUESTS.iter().copied());
    match cases.into_iter().find(|case| case.name == name) {
        Some(case) => {
            (case.run)();
            ExitCode::SUCCESS
        }
        None => panic!("no case is called {name}"),
    }
}

fn inside() -> Vec<Case> {
    [sandbox::INSIDE, faults::INSIDE, wire::INSIDE].concat()
}

fn trials() -> Vec<Trial> {
    let missing = unavailable();
    if let Some(why) = &missing {
        skip("lab", &format!("labs cannot be built here: {why}"));
    }
    let inside = inside()
        .into_iter()
        .map(|case| Trial::test(case.name, move || in_sandbox(case.name).map_err(Into::into)));
    let outside = sandbox::OUTSIDE.iter().map(|case| {
        let run = case.run;
        Trial::test(case.name, move || {
            run();
            Ok(())
        })
    });
    inside.chain(outside).map(|trial| trial.with_ignored_flag(missing.is_some())).collect()
}
