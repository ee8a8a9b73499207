//! Doing things in a network namespace without leaving one's own.
#![forbid(unsafe_code)]

use std::fmt;
use std::fs::{self, File};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::thread;

use super::descriptors;
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

/// Which network namespace: this process's own, or the one behind a path.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum NetNs {
    /// The namespace nearhop itself runs in.
    Here,
    /// A bind-mounted or /proc namespace file.
    Path(PathBuf),
}

/// Where an open device has its kernel side.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Place {
    /// By which path its namespace is entered.
    pub netns: NetNs,
    /// [`NetNs::identity`] when the device was opened.
    pub identity: (u64, u64),
    /// Interface index there.
    pub ifindex: u32,
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
        if *self == Self::Here {
            return Ok(work());
        }
        let file = self.open()?;
        let joined = thread::scope(|scope| {
            // Unlike `scope.spawn`, this does not panic where there is no room for a thread.
            let helper = thread::Builder::new().spawn_scoped(scope, move || {
                move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network))?;
                Ok(work())
            })?;
            Ok(helper.join())
        });
        let failed = |step, source| NetNsError { netns: self.clone(), step, source };
        match joined.map_err(|source| failed("start a thread that enters", source))? {
            Ok(result) => result.map_err(|errno: rustix::io::Errno| failed("enter", errno.into())),
            Err(panic) => std::panic::resume_unwind(panic),
        }
    }
}

impl NetNs {
    /// The `ip` command line that does `arguments` in this namespace, for error texts.
    pub fn ip_command(&self, arguments: &str) -> String {
        let Self::Path(path) = self else { return format!("ip {arguments}") };
        match self.name() {
            Some(name) => format!("ip -n {name} {arguments}"),
            None => format!("nsenter --net={} ip {arguments}", path.display()),
        }
    }

    /// What distinguishes it from every other that is there now: device and inode of its file (ioctl_ns(2)).
    /// A path may lead to another namespace than it did before. Opens nothing, so that a want of descriptors
    /// is no obstacle.
    pub fn identity(&self) -> Result<(u64, u64), NetNsError> {
        let failed = |source| NetNsError { netns: self.clone(), step: "open", source };
        let file = fs::metadata(self.path()).map_err(failed)?;
        Ok((file.dev(), file.ino()))
    }

    /// A descriptor that stands for the namespace, as `IFLA_NET_NS_FD` wants it.
    pub(crate) fn open(&self) -> Result<File, NetNsError> {
        File::open(self.path()).map_err(|source| NetNsError {
            netns: self.clone(),
            step: "open",
            source,
        })
    }

    fn path(&self) -> &Path {
        match self {
            Self::Here => Path::new("/proc/thread-self/ns/net"),
            Self::Path(path) => path,
        }
    }

    /// The name `ip netns` knows it by, if it has one.
    fn name(&self) -> Option<&str> {
        let Self::Path(path) = self else { return None };
        let name = path.strip_prefix("/run/netns").ok()?.to_str()?;
        (!name.is_empty() && !name.contains('/')).then_some(name)
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
#[error("cannot {step} network namespace {netns}: {source}{}", self.hint())]
pub struct NetNsError {
    /// Which one.
    pub netns: NetNs,
    /// `open` (does it exist?), `look at` or `enter` (may we?).
    pub step: &'static str,
    /// What the kernel said.
    pub source: io::Error,
}

impl NetNsError {
    /// Whether its path leads nowhere.
    pub fn is_absent(&self) -> bool {
        matches!(self.source.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
    }

    /// What to type, where that is known.
    fn hint(&self) -> String {
        match (self.source.raw_os_error(), self.netns.name()) {
            (Some(libc::ENOENT), Some(name)) => format!("; `ip netns add {name}` makes it"),
            (Some(libc::ENOENT), None) => {
                "; expected the file of a network namespace, as `ip netns add NAME` makes it at \
                 /run/netns/NAME"
                    .into()
            }
            (Some(libc::EINVAL), _) if self.step == "enter" => {
                "; the file is not a network namespace (a leftover of `ip netns` after a restart \
                 is an empty file: delete it and make the namespace again)"
                    .into()
            }
            (Some(libc::EPERM), _) => {
                "; this needs CAP_SYS_ADMIN over that namespace: run as root, or make the \
                 namespace inside `unshare -Urnm` and run nearhop there"
                    .into()
            }
            (Some(libc::EACCES), _) => "; the file's owner must allow reading it".into(),
            _ => descriptors::hint(&self.source),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_for_a_namespace_is_one_that_can_be_typed() {
        for (netns, want) in [
            (NetNs::Here, "ip link del x"),
            (NetNs::named("fra"), "ip -n fra link del x"),
            (NetNs::named("/run/netns/fra"), "ip -n fra link del x"),
            (NetNs::named("/proc/7/ns/net"), "nsenter --net=/proc/7/ns/net ip link del x"),
        ] {
            assert_eq!(netns.ip_command("link del x"), want);
        }
    }

    #[test]
    fn a_missing_namespace_names_the_file_and_the_command() {
        let error = NetNs::named("nh-no-such-netns").within(|| ()).unwrap_err();
        assert_eq!(
            error.to_string(),
            "cannot open network namespace /run/netns/nh-no-such-netns: No such file or directory \
             (os error 2); `ip netns add nh-no-such-netns` makes it"
        );
    }
}
