//! Doing things in a network namespace without leaving one's own.
#![forbid(unsafe_code)]

use std::fmt;
use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::thread;

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

/// Which network namespace: this process's own, or the one behind a path.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum NetNs {
    /// The namespace nearhop itself runs in.
    Here,
    /// A bind-mounted or /proc namespace file.
    Path(PathBuf),
}

impl NetNs {
    /// `name` is a name under /run/netns, or a path if it has a slash.
    pub fn named(name: &str) -> Self {
        if name.contains('/') {
            Self::Path(PathBuf::from(name))
        } else {
            Self::Path(Path::new("/run/netns").join(name))
        }
    }

    /// Runs `work` on a helper thread that has entered the namespace, and waits for it. What it
    /// opens (sockets, devices) stays in that namespace and works from anywhere.
    pub fn within<T: Send>(&self, work: impl FnOnce() -> T + Send) -> Result<T, NetNsError> {
        let Self::Path(path) = self else { return Ok(work()) };
        let file = File::open(path).map_err(|source| NetNsError {
            netns: self.clone(),
            step: "open",
            source,
        })?;
        let joined = thread::scope(|scope| {
            let helper = scope.spawn(move || {
                move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network))?;
                Ok(work())
            });
            helper.join()
        });
        match joined {
            Ok(result) => result.map_err(|errno: rustix::io::Errno| NetNsError {
                netns: self.clone(),
                step: "enter",
                source: errno.into(),
            }),
            Err(panic) => std::panic::resume_unwind(panic),
        }
    }
}

impl fmt::Display for NetNs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Here => f.write_str("(own)"),
            Self::Path(path) => write!(f, "{}", path.display()),
        }
    }
}

/// A namespace that could not be opened or entered.
#[derive(Debug, thiserror::Error)]
#[error("cannot {step} network namespace {netns}: {source}")]
pub struct NetNsError {
    /// Which one.
    pub netns: NetNs,
    /// `open` (does it exist?) or `enter` (may we?).
    pub step: &'static str,
    /// What the kernel said.
    pub source: io::Error,
}
