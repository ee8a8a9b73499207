//! What it costs to build what a newcomer runs first, `cargo run --release --bin nearlab`.
//!
//! Processor time, for a build has as many cores as there are, and in units of another crate's
//! build, for processors and compilers differ: the unit is built right before and right after, by the same
//! compiler with the same profile, and no change here makes it dearer.
#![forbid(unsafe_code)]

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use crate::command::{cargo, root, run};
use crate::report::Outcome;

/// Builds `nearlab` from nothing; fails if that took more than [`UNITS_MAX`] times the unit. Later steps
/// find the build by [`nearlab()`].
pub fn build() -> Outcome {
    let measured = (|| {
        let before = unit()?;
        let clean = folder();
        remove(&clean)?;
        let whole = processor_time(&mut nearlab())?;
        Ok((whole, (before + unit()?) / 2))
    })();
    match measured {
        Ok((whole, unit)) => judge(whole, unit),
        Err(failed) => failed,
    }
}

/// The command that builds `nearlab` optimised, or finds it built.
pub fn nearlab() -> Command {
    let mut command = cargo(["build", "--release", "--bin", "nearlab", "--target-dir"]);
    command.arg(folder());
    // A cache of compiled crates, or another compiler in front, would be measured instead.
    command.env_remove("RUSTC_WRAPPER").env_remove("RUSTC_WORKSPACE_WRAPPER");
    command
}

/// Where it is once it is built.
pub fn nearlab_binary() -> PathBuf {
    folder().join("release/nearlab")
}

/// Apart from `target/release`, so that nobody's own build is removed.
fn folder() -> PathBuf {
    root().join("target/clean")
}

/// Processor time of one build of [`UNIT`] alone.
fn unit() -> Result<Duration, Outcome> {
    let folder = root().join("target/unit");
    remove(&folder)?;
    let mut command = cargo(["build", "--release", "--package", UNIT, "--target-dir"]);
    command.arg(&folder).env_remove("RUSTC_WRAPPER").env_remove("RUSTC_WORKSPACE_WRAPPER");
    processor_time(&mut command)
}

fn remove(folder: &PathBuf) -> Result<(), Outcome> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(Outcome::Failed(format!("cannot remove {}: {error}", folder.display())))
        }
        _ => Ok(()),
    }
}

/// Runs the command; the processor time of it and of all that it waited for.
fn processor_time(command: &mut Command) -> Result<Duration, Outcome> {
    let before = of_children()?;
    match run(command) {
        Outcome::Passed => Ok(of_children()?.saturating_sub(before)),
        other => Err(other),
    }
}

/// User and system time of the children of this process that have ended: proc_pid_stat(5).
fn of_children() -> Result<Duration, Outcome> {
    let stat = fs::read_to_string("/proc/self/stat")
        .map_err(|error| Outcome::Failed(format!("cannot read /proc/self/stat: {error}")))?;
    children_ticks(&stat)
        .map(|ticks| {
            Duration::from_secs_f64(ticks as f64 / rustix::param::clock_ticks_per_second() as f64)
        })
        .ok_or_else(|| Outcome::Failed(format!("/proc/self/stat has no cutime and cstime: {stat}")))
}

/// `cutime` + `cstime`, fields 16 and 17. The name before them, in parentheses, may hold anything.
fn children_ticks(stat: &str) -> Option<u64> {
    let (_, after_name) = stat.rsplit_once(')')?;
    let mut fields = after_name.split_whitespace().skip(13);
    let mut field = || fields.next()?.parse::<u64>().ok();
    Some(field()? + field()?)
}

fn judge(whole: Duration, unit: Duration) -> Outcome {
    let units = whole.as_secs_f64() / unit.as_secs_f64();
    let reported = format!(
        "building nearlab took {:.0} s of processor time, {units:.1} times that of {UNIT} ({:.2} s); \
         at most {UNITS_MAX} times is allowed",
        whole.as_secs_f64(),
        unit.as_secs_f64()
    );
    if units <= UNITS_MAX {
        println!("{reported}");
        return Outcome::Passed;
    }
    Outcome::Failed(format!(
        "{reported}\nwhat takes it: cargo build --release --bin nearlab --target-dir target/clean --timings"
    ))
}

/// A crate of Cargo.lock, built with the few that it needs: some seconds of ordinary code.
const UNIT: &str = "toml";
/// A tenth above what it takes since BGP is in it with all that is announced and shown: the ratio moves by so much.
const UNITS_MAX: f64 = 50.0;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_of_children_is_found_whatever_the_name() {
        let stat = "7 (a) b 1 (c) S 1 7 7 0 -1 4194560 100 200 0 0 3 4 500 60 20 0 1 0 9 8 7";
        assert_eq!(children_ticks(stat), Some(560));
        assert_eq!(children_ticks("7 (x) S 1"), None);
    }

    #[test]
    fn work_of_a_child_counts_once_it_has_ended() {
        let script = "i=0; while [ $i -lt 200000 ]; do i=$((i+1)); done";
        let took = processor_time(Command::new("sh").args(["-c", script])).unwrap();
        assert!(took > Duration::from_millis(10), "{took:?}");
        assert!(matches!(processor_time(&mut Command::new("false")), Err(Outcome::Failed(_))));
    }

    #[test]
    fn a_build_beyond_the_limit_fails_and_says_what_to_type() {
        let unit = Duration::from_secs(2);
        assert!(matches!(judge(unit.mul_f64(UNITS_MAX * 0.99), unit), Outcome::Passed));
        let Outcome::Failed(why) = judge(unit.mul_f64(UNITS_MAX * 1.01), unit) else {
            panic!("it is above the limit");
        };
        assert!(why.contains("--timings"), "{why}");
    }
}
