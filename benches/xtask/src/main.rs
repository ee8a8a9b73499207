//! The project's tasks: `cargo xtask test` runs every test there is, `cargo xtask lint` every
//! check of the code itself. Both go on after a failure and end with a summary of what ran.
//! `cargo xtask bench-fib` measures lookups beside DPDK's.
#![forbid(unsafe_code)]

mod bench;
mod build;
mod command;
mod layers;
mod lint;
mod report;
mod shell;
#[path = "../../../router/tests/support/skip.rs"]
mod skip;
mod test;

use std::process::ExitCode;
use std::time::Instant;

use clap::{Parser, Subcommand};
use report::{Outcome, Report};

fn main() -> ExitCode {
    let cli = Cli::parse();
    let (steps, wanted) = match &cli.task {
        Task::BenchFib { arguments } => return bench::fib(arguments),
        Task::Test { steps } => (test::STEPS, steps),
        Task::Lint { steps } => (lint::STEPS, steps),
    };
    match choose(steps, wanted) {
        Ok(chosen) => run(&chosen),
        Err(unknown) => {
            let names: Vec<_> = steps.iter().map(|step| step.name).collect();
            eprintln!("error: no step is named `{unknown}`; there are: {}", names.join(", "));
            ExitCode::from(2)
        }
    }
}

#[derive(Parser)]
#[command(name = "cargo xtask", about = "nearhop's tasks")]
struct Cli {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Install what the tests need, then run them all
    ///
    /// Exit status 0: nothing failed; 1: something did. What could not run here is listed, and is a
    /// failure only if NEARHOP_REQUIRE_ALL=1 is set.
    #[command(after_help = describe(test::STEPS))]
    Test {
        /// Only these steps
        steps: Vec<String>,
    },
    /// Measure lookups beside DPDK's, which is installed first where it is missing
    ///
    /// As `cargo run --profile dist -p nearhop-benches --features dpdk -- fib`. Exit status 3: DPDK is
    /// missing and cannot be installed; else that of the bench (BENCHMARKING.md).
    BenchFib {
        /// A bench's arguments: `--repeat 5 --svg FILE`
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
    /// Check formatting, lints, documentation and dependencies
    #[command(after_help = describe(lint::STEPS))]
    Lint {
        /// Only these steps
        steps: Vec<String>,
    },
}

/// One thing a task does.
struct Step {
    name: &'static str,
    about: &'static str,
    run: fn() -> Outcome,
}

fn choose<'s>(steps: &'s [Step], wanted: &[String]) -> Result<Vec<&'s Step>, String> {
    if wanted.is_empty() {
        return Ok(steps.iter().collect());
    }
    let named = |name: &String| steps.iter().find(|s| s.name == name).ok_or_else(|| name.clone());
    wanted.iter().map(named).collect()
}

fn run(steps: &[&Step]) -> ExitCode {
    if let Err(error) = std::env::set_current_dir(command::root()) {
        eprintln!("error: cannot enter {}: {error}", command::root().display());
        return ExitCode::from(2);
    }
    let mut report = Report::new(skip::all_required());
    for step in steps {
        println!("\n== {}: {}", step.name, step.about);
        #[expect(clippy::disallowed_methods, reason = "this is a shell")]
        let start = Instant::now();
        let outcome = (step.run)();
        report.add(step.name, outcome, start.elapsed());
    }
    println!("\n{report}");
    if report.failed() { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

fn describe(steps: &[Step]) -> String {
    let line = |step: &Step| format!("  {:<10} {}\n", step.name, step.about);
    format!("Steps:\n{}", steps.iter().map(line).collect::<String>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_are_chosen_by_name_in_the_order_given_and_a_wrong_name_is_reported() {
        let names = |wanted: &[&str]| {
            let wanted: Vec<_> = wanted.iter().map(ToString::to_string).collect();
            choose(lint::STEPS, &wanted).map(|s| s.iter().map(|s| s.name).collect::<Vec<_>>())
        };
        assert_eq!(names(&[]).unwrap().len(), lint::STEPS.len());
        assert_eq!(names(&["doc", "fmt"]).unwrap(), ["doc", "fmt"]);
        assert_eq!(names(&["fmt", "frobnicate"]).unwrap_err(), "frobnicate");
    }

    #[test]
    fn the_command_line_is_well_formed() {
        use clap::CommandFactory;
        Cli::command().debug_assert();
    }
}
