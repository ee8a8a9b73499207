//! `cargo xtask lint`.
#![forbid(unsafe_code)]

use crate::command::{cargo, run, succeeds};
use crate::report::Outcome;
use crate::{Step, layers};

/// In the order in which they run.
pub const STEPS: &[Step] = &[
    Step { name: "fmt", about: "formatting", run: fmt },
    Step { name: "clippy", about: "compiler and clippy, warnings refused", run: clippy },
    Step { name: "layers", about: "no module uses what stands above it", run: layers::check },
    Step {
        name: "no-std",
        about: "the forwarding tables without the standard library",
        run: no_std,
    },
    Step { name: "doc", about: "documentation builds, links resolve", run: doc },
    Step { name: "fuzz", about: "the fuzz targets: formatting, warnings refused", run: fuzz },
    Step { name: "deny", about: "bans, licences and sources of all dependencies", run: deny },
    Step { name: "advisories", about: "known vulnerabilities of dependencies", run: advisories },
];

fn fmt() -> Outcome {
    run(&mut cargo(["fmt", "--all", "--", "--check"]))
}

fn clippy() -> Outcome {
    run(&mut cargo(["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"]))
}

/// The crate says `no_std`, so that whatever needs the standard library in it fails to compile where the
/// feature of that name is off.
fn no_std() -> Outcome {
    let crate_alone = ["--package", "nearhop-fib", "--no-default-features", "--lib"];
    run(cargo(["clippy"]).args(crate_alone).args(["--", "-D", "warnings"]))
}

fn doc() -> Outcome {
    run(cargo(["doc", "--workspace", "--no-deps"]).env("RUSTDOCFLAGS", "-D warnings"))
}

/// The fuzz crate is a workspace of its own, so nothing above sees it. Without its default feature
/// libFuzzer, which is C++, need not be compiled.
fn fuzz() -> Outcome {
    let own = ["--manifest-path", "fuzz/Cargo.toml", "--target-dir", "target"];
    let linted = ["--no-default-features", "--all-targets", "--", "-D", "warnings"];
    match run(&mut cargo(["fmt", "--manifest-path", "fuzz/Cargo.toml", "--", "--check"])) {
        Outcome::Passed => run(cargo(["clippy"]).args(own).args(linted)),
        failed => failed,
    }
}

fn deny() -> Outcome {
    if let Err(missing) = have_cargo_deny() {
        return missing;
    }
    run(&mut cargo(["deny", "check", "--hide-inclusion-graph", "bans", "licenses", "sources"]))
}

/// Needs the advisory database from the network; a stale copy would give false comfort.
fn advisories() -> Outcome {
    if let Err(missing) = have_cargo_deny() {
        return missing;
    }
    if !succeeds(&mut cargo(["deny", "fetch", "db"])) {
        return Outcome::Skipped("the advisory database cannot be fetched from here".into());
    }
    run(&mut cargo(["deny", "check", "--disable-fetch", "advisories"]))
}

/// Installs it into cargo's own folder, outside the checkout, unless it is there.
fn have_cargo_deny() -> Result<(), Outcome> {
    if succeeds(&mut cargo(["deny", "--version"])) {
        return Ok(());
    }
    match run(&mut cargo(["install", "cargo-deny", "--locked"])) {
        Outcome::Failed(why) => {
            Err(Outcome::Lacking(format!("cargo-deny is missing and cannot be installed: {why}")))
        }
        _ => Ok(()),
    }
}
