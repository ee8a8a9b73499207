//! A lab never runs on the host: the program starts itself again inside new namespaces.
//!
//! ```text
//! outer    the process the user started: waits, passes signals on, returns the exit code
//! └ init   PID 1 of the new PID namespace: mounts, loopback; reaps; dies when outer dies
//!   └ program   the same command line once more, root in its own user namespace
//! ```
//!
//! No cleanup is needed. When init ends, for whatever reason, the kernel kills every process of the
//! PID namespace; with the last one it removes mounts, network namespaces and devices.
#![forbid(unsafe_code)]

mod blame;
mod init;
pub mod join;
mod outer;
mod prompt;
pub mod registry;

use std::fs;
use std::io;
use std::os::fd::RawFd;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

pub use blame::Blame;

/// Options of the sandbox.
#[derive(Clone, Debug)]
pub struct Options {
    /// The lab's name in the registry, for `nearlab shell --lab NAME`.
    pub name: String,
    /// Whether to make a user namespace. Only root can do without one; then all users exist in the
    /// lab, so that programs that change their user work.
    pub user_namespace: bool,
}

impl Options {
    /// A sandbox of that name, with a user namespace unless root has set `NEARLAB_USERNS=off`.
    pub fn named(name: &str) -> Self {
        let off = std::env::var_os(USERNS).is_some_and(|value| value == "off");
        Self { name: name.to_owned(), user_namespace: !off }
    }
}

/// Ensures that this process is inside a sandbox. Call it first in `main`, before any thread
/// exists.
///
/// Returns only in the program inside. The outer process and init wait in this call until the
/// program ends, and exit with its exit code (128 + signal number if a signal killed it).
///
/// # Errors
/// The machine refuses a namespace; the error says which, and how to fix that.
pub fn enter(options: &Options) -> Result<(), SandboxError> {
    match Role::of_this_process() {
        Role::Outer => outer::run(options),
        Role::Init { lifeline } => init::run(lifeline),
        Role::Program => Ok(()),
    }
}

/// Whether this process is inside a sandbox.
pub fn is_inside() -> bool {
    Role::of_this_process() == Role::Program
}

/// Why the sandbox could not be made.
#[derive(Debug, thiserror::Error)]
pub enum SandboxError {
    /// The kernel refuses a namespace.
    #[error("cannot make {what}: {source}; {blame}; try: {}", blame.mend())]
    Refused {
        /// The namespace.
        what: &'static str,
        /// The kernel's error.
        source: io::Error,
        /// The likely reason.
        blame: Blame,
    },
    /// Another step failed.
    #[error("cannot {step}: {source}")]
    Step {
        /// The step.
        step: String,
        /// The kernel's error.
        source: io::Error,
    },
    /// There is no such lab to enter.
    #[error("{0}")]
    NoLab(String),
}

impl SandboxError {
    /// For `map_err`: names the step.
    fn step<E: Into<io::Error>>(step: impl Into<String>) -> impl FnOnce(E) -> Self {
        move |source| Self::Step { step: step.into(), source: source.into() }
    }

    /// For `map_err`: names the namespace and looks for the reason.
    fn refused<E: Into<io::Error>>(what: &'static str) -> impl FnOnce(E) -> Self {
        move |source| Self::Refused { what, source: source.into(), blame: Blame::find() }
    }
}

/// The role of this process.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Role {
    Outer,
    Init {
        /// Read end of a pipe whose write end only the outer process holds.
        lifeline: RawFd,
    },
    Program,
}

impl Role {
    /// The environment variable alone is not trusted: inherited by accident, it would make a lab on
    /// the host. The role is "inside" only in the mount namespace that init made.
    fn of_this_process() -> Self {
        let mark = std::env::var(MARK).unwrap_or_default();
        let Some((role, number)) = mark.split_once(':') else { return Self::Outer };
        match (role, number.parse::<u64>()) {
            ("init", Ok(fd)) if std::process::id() == 1 => Self::Init { lifeline: fd as RawFd },
            ("inside", Ok(inode)) if mount_namespace().is_ok_and(|own| own == inode) => {
                Self::Program
            }
            _ => Self::Outer,
        }
    }
}

/// Inode of this process's mount namespace.
fn mount_namespace() -> io::Result<u64> {
    Ok(fs::metadata("/proc/self/ns/mnt")?.ino())
}

/// This program, even if its file was replaced since it started.
pub fn own_executable() -> PathBuf {
    PathBuf::from("/proc/self/exe")
}

/// Environment variable: the role of the process.
const MARK: &str = "NEARLAB_SANDBOX";
/// Environment variable: with `off`, root makes no user namespace.
const USERNS: &str = "NEARLAB_USERNS";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_without_a_believable_mark_is_outside() {
        assert_eq!(Role::of_this_process(), Role::Outer);
        assert!(!is_inside());
    }
}
