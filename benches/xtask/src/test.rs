//! `cargo xtask test`.
#![forbid(unsafe_code)]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use crate::command::{cargo, output, program, repository_files, root, run, succeeds};
use crate::report::Outcome;
use crate::{Step, build, shell, skip};

/// In the order in which they run.
pub const STEPS: &[Step] = &[
    Step { name: "packages", about: "Debian packages that the tests need", run: packages },
    Step { name: "shell", about: "shellcheck on every script", run: shell::check },
    Step { name: "build", about: "what a clean build of nearlab costs", run: build::build },
    Step { name: "tests", about: "unit and integration tests", run: tests },
    Step { name: "benches", about: "each bench once, without measuring", run: benches },
    Step { name: "doctests", about: "examples in the documentation", run: doctests },
    Step { name: "sim", about: "random networks and faults on a fake clock", run: sim },
    Step { name: "loom", about: "all interleavings of readers and the writer", run: loom },
    Step { name: "asan", about: "AddressSanitizer on packages with unsafe code", run: asan },
    Step { name: "miri", about: "undefined behaviour in the tables, by interpreting", run: miri },
];

/// The script installs what it may; what is missing afterwards is one line each.
fn packages() -> Outcome {
    let outcome = run(&mut program(PACKAGES));
    let Some(missing) = output(program(PACKAGES).arg("--missing")) else { return outcome };
    if missing.is_empty() {
        return outcome;
    }
    let line = |line: &str| {
        let mut columns = line.split('\t').chain(std::iter::repeat(""));
        let [program, package, reason] = std::array::from_fn(|_| columns.next().unwrap_or(""));
        format!("no `{program}` (package {package}): {reason}")
    };
    Outcome::Lacking(missing.lines().map(line).collect::<Vec<_>>().join("\n"))
}

/// A test that cannot run here for want of something says so in the skip log, and passes.
fn tests() -> Outcome {
    let log = root().join("target/skipped-tests");
    // A file left by an earlier run, or none: both are right.
    let _ = fs::remove_file(&log);
    let mut command = if succeeds(&mut cargo(["nextest", "--version"])) {
        cargo(["nextest", "run", "--workspace", "--no-fail-fast"])
    } else {
        cargo(["test", "--workspace", "--lib", "--bins", "--tests", "--no-fail-fast"])
    };
    // Built for the router's own tests by the same command, beside this program; a test of another
    // package runs it.
    let nearhop = std::env::current_exe().map(|this| this.with_file_name("nearhop"));
    command.envs(nearhop.ok().map(|nearhop| ("NEARHOP", nearhop)));
    match run(command.env(skip::LOG, &log)) {
        Outcome::Passed => passed_but(&fs::read_to_string(&log).unwrap_or_default()),
        other => other,
    }
}

/// One process for each bench binary: each of its benches would build the full table for itself.
fn benches() -> Outcome {
    run(&mut cargo(["test", "--package", "nearhop-benches", "--bench", "*", "--no-fail-fast"]))
}

/// With those of `router/tests/sim_seeds.rs` a thousand; by the optimised build that is there by now.
fn sim() -> Outcome {
    match run(&mut build::nearlab()) {
        Outcome::Passed => {}
        other => return other,
    }
    let sim = ["sim", "--start-seed", "101", "--seeds", "900"];
    run(program(build::nearlab_binary()).args(sim))
}

fn passed_but(log: &str) -> Outcome {
    let skipped: BTreeSet<_> = log.lines().filter(|line| !line.trim().is_empty()).collect();
    if skipped.is_empty() {
        return Outcome::Passed;
    }
    Outcome::PassedBut(skipped.into_iter().map(ToOwned::to_owned).collect())
}

fn doctests() -> Outcome {
    run(&mut cargo(["test", "--workspace", "--doc", "--no-fail-fast"]))
}

/// Its own target folder, for another `--cfg` would make the ordinary one be built again.
fn loom() -> Outcome {
    let is_model = |path: &Path| {
        let name = path.file_stem().unwrap_or_default().to_string_lossy();
        path.parent() == Some(Path::new("fib/tests")) && name.starts_with("loom")
    };
    if !repository_files().unwrap_or_default().iter().any(|path| is_model(path)) {
        return Outcome::Skipped("there is no test named fib/tests/loom*.rs".into());
    }
    let release = ["test", "--package", "nearhop-fib", "--release", "--test", "loom*"];
    run(cargo(release).args(["--target-dir", "target/loom"]).env("RUSTFLAGS", "--cfg loom"))
}

/// Stable compilers carry the runtime, and take the unstable flag when asked to behave as if they
/// were the nightly of that day.
fn asan() -> Outcome {
    let host = match sanitizer_host() {
        Ok(host) => host,
        Err(why) => return Outcome::Skipped(why),
    };
    let packages = packages_with_unsafe(&repository_files().unwrap_or_default());
    if packages.is_empty() {
        return Outcome::Skipped("no file allows unsafe code".into());
    }
    let mut command = cargo(["test", "--lib", "--target", &host, "--target-dir", "target/asan"]);
    command.args(packages.iter().flat_map(|package| ["--package", package]));
    // Trials are long, of safe code alone, and a step of their own.
    command.args(["--", "--skip", "sim::trial::"]);
    run(command
        .env("RUSTC_BOOTSTRAP", "1")
        .env("CARGO_INCREMENTAL", "0")
        .env("RUSTFLAGS", "-Zsanitizer=address")
        .env("PROPTEST_CASES", "64"))
}

/// The target triple to build for, which must be named so that build scripts stay as they are.
fn sanitizer_host() -> Result<String, String> {
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let version = output(program(&rustc).arg("-vV")).unwrap_or_default();
    let host = version.lines().find_map(|line| line.strip_prefix("host: "));
    let host = host.ok_or("rustc does not say for which machine it compiles")?;
    let folder = output(program(&rustc).args(["--print", "target-libdir"])).unwrap_or_default();
    let is_runtime =
        |entry: fs::DirEntry| entry.file_name().to_string_lossy().ends_with("_rt.asan.a");
    let there =
        fs::read_dir(&folder).is_ok_and(|entries| entries.filter_map(Result::ok).any(is_runtime));
    if there {
        Ok(host.to_owned())
    } else {
        Err(format!("this toolchain has no AddressSanitizer runtime in {folder}"))
    }
}

/// Packages with a file under `src` that allows unsafe code, by name.
fn packages_with_unsafe(files: &[PathBuf]) -> BTreeSet<&'static str> {
    let allows_unsafe = |path: &PathBuf| {
        let text = fs::read_to_string(root().join(path)).unwrap_or_default();
        text.lines().any(|line| line.trim_start().starts_with("#![allow(unsafe_code"))
    };
    let package = |path: &PathBuf| {
        let owner = PACKAGES_BY_FOLDER.iter().find(|(folder, _)| path.starts_with(folder));
        owner.filter(|_| allows_unsafe(path)).map(|(_, package)| *package)
    };
    let is_rust = |path: &&PathBuf| path.extension().is_some_and(|extension| extension == "rs");
    files.iter().filter(is_rust).filter_map(package).collect()
}

/// The tables alone: the interpreter knows no namespaces and is a thousand times slower.
fn miri() -> Outcome {
    let toolchains: [&[&str]; 2] = [&[], &["+nightly"]];
    let found =
        toolchains.iter().find(|chosen| succeeds(rustup_cargo(chosen).arg("miri").arg("-V")));
    let Some(chosen) = found else {
        return Outcome::Skipped(
            "Miri is not installed (rustup +nightly component add miri)".into(),
        );
    };
    run(rustup_cargo(chosen)
        .args(["miri", "test", "--package", "nearhop-fib", "--lib", "--target-dir", "target/miri"])
        .env("MIRIFLAGS", "-Zmiri-disable-isolation")
        .env("PROPTEST_CASES", "4"))
}

/// The `cargo` of the PATH, which takes `+TOOLCHAIN` where rustup put it there.
fn rustup_cargo(chosen: &[&str]) -> std::process::Command {
    let mut command = program("cargo");
    // Set by the cargo that runs this task, they would bind the other toolchain's cargo to it.
    command.env_remove("RUSTUP_TOOLCHAIN").env_remove("CARGO").args(chosen);
    command
}

const PACKAGES: &str = "./.ci/packages";
const PACKAGES_BY_FOLDER: [(&str, &str); 3] =
    [("fib/src", "nearhop-fib"), ("router/src", "nearhop"), ("testbed/src", "nearlab")];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_test_that_could_not_run_is_reported_once() {
        assert!(matches!(passed_but("\n"), Outcome::Passed));
        let Outcome::PassedBut(parts) = passed_but("b: no nft\na: no dig\nb: no nft\n") else {
            panic!("two tests did not run");
        };
        assert_eq!(parts, ["a: no dig", "b: no nft"]);
    }

    #[test]
    fn only_files_that_allow_unsafe_code_count() {
        let files = [PathBuf::from("fib/src/prefix.rs"), PathBuf::from("README.md")];
        assert!(packages_with_unsafe(&files).is_empty());
    }

    #[test]
    fn the_packages_script_says_what_is_missing_and_refuses_what_it_does_not_know() {
        assert!(output(program(PACKAGES).arg("--missing")).is_some());
        assert_eq!(program(PACKAGES).arg("--what").status().unwrap().code(), Some(2));
    }
}
