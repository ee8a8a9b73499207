//! Labs are never on the host: the program runs again inside namespaces of its own.
//!
//! ```text
//! outer    the process the user started: waits, passes signals on, returns the exit code
//! └ init   PID 1 of the new PID namespace: mounts, loopback; reaps; dies when outer dies
//!   └ program   the same command line once more, root in its own user namespace
//! ```
//!
//! Nothing needs cleaning up afterwards. When init ends, for whatever reason, the kernel kills
//! every process of the PID namespace, and with the last of them go the mounts, the network
//! namespaces and the devices.
#![forbid(unsafe_code)]

mod blame;
mod init;
pub mod join;
mod outer;
pub mod registry;

use std::fs;
use std::io;
use std::os::fd::RawFd;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

pub use blame::Blame;

/// How the sandbox is made.
#[derive(Clone, Debug)]
pub struct Options {
    /// The lab's name in the registry; `nearlab shell --lab NAME` finds it by that.
    pub name: String,
    /// Make a user namespace. Only root can do without; without it all users exist in the lab,
    /// so that programs that change their user work.
    pub user_namespace: bool,
}

impl Options {
    /// A lab of that name, with a user namespace unless root has set `NEARLAB_USERNS=off`.
    pub fn named(name: &str) -> Self {
        let off = std::env::var_os(USERNS).is_some_and(|value| value == "off");
        Self { name: name.to_owned(), user_namespace: !off }
    }
}

/// Makes sure that this process is inside a sandbox; to be called first thing in `main`, before
/// any thread exists.
///
/// Returns only in the program inside. The outer process and init stay in here until the program
/// has ended, and exit with its exit code (128 + the signal's number if a signal killed it).
///
/// # Errors
/// The machine does not let us make the namespaces; the error says which, and what mends it.
pub fn enter(options: &Options) -> Result<(), SandboxError> {
    match Role::of_this_process() {
        Role::Outer => outer::run(options),
        Role::Init { lifeline } => init::run(lifeline),
        Role::Program => Ok(()),
    }
}

/// Is this process inside a sandbox?
pub fn is_inside() -> bool {
    Role::of_this_process() == Role::Program
}

/// Why there is no sandbox.
#[derive(Debug, thiserror::Error)]
pub enum SandboxError {
    /// A namespace that the kernel refuses.
    #[error("cannot make {what}: {source}; {blame}; try: {}", blame.mend())]
    Refused {
        /// Which.
        what: &'static str,
        /// What the kernel said.
        source: io::Error,
        /// What is in the way.
        blame: Blame,
    },
    /// Another step that failed.
    #[error("cannot {step}: {source}")]
    Step {
        /// Which step.
        step: String,
        /// What the kernel said.
        source: io::Error,
    },
    /// No such lab to enter.
    #[error("{0}")]
    NoLab(String),
}

impl SandboxError {
    /// For `map_err`: names the step.
    fn step<E: Into<io::Error>>(step: impl Into<String>) -> impl FnOnce(E) -> Self {
        move |source| Self::Step { step: step.into(), source: source.into() }
    }

    /// For `map_err`: names the namespace and looks for what is in the way.
    fn refused<E: Into<io::Error>>(what: &'static str) -> impl FnOnce(E) -> Self {
        move |source| Self::Refused { what, source: source.into(), blame: Blame::find() }
    }
}

/// Which of the three processes this is.
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
    /// The mark alone is not believed: one left in somebody's environment must not make us build
    /// a lab on the host. "Inside" counts only in the mount namespace that init made.
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

/// This program, also when its file was replaced meanwhile.
pub fn own_executable() -> PathBuf {
    PathBuf::from("/proc/self/exe")
}

/// Environment: which role the process plays.
const MARK: &str = "NEARLAB_SANDBOX";
/// Environment: `off` lets root do without a user namespace.
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
