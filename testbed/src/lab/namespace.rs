//! Named network namespaces, as `ip netns` knows them.
#![forbid(unsafe_code)]

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::thread;

use rustix::mount::{UnmountFlags, mount_bind, unmount};
use rustix::thread::UnshareFlags;

use super::LabError;
use crate::sys;

/// A namespace under /run/netns; its name goes when this is dropped, and the namespace itself
/// with its last process.
#[derive(Debug)]
pub struct Namespace(PathBuf);

impl Namespace {
    /// Makes one of that name.
    ///
    /// # Errors
    /// The name is taken, or the kernel refuses.
    pub fn make(name: &str) -> Result<Self, LabError> {
        Self::with(name, || Ok(()))
    }

    /// One whose devices never speak on their own (no router solicitations, no multicast
    /// reports): everything on them is somebody's packet.
    pub(super) fn make_silent(name: &str) -> Result<Self, LabError> {
        Self::with(name, || fs::write("/proc/sys/net/ipv6/conf/default/disable_ipv6", "1"))
    }

    /// A thread leaves for a namespace of its own, prepares it and binds it to the name.
    fn with(name: &str, prepare: impl FnOnce() -> io::Result<()> + Send) -> Result<Self, LabError> {
        let path = Path::new(FOLDER).join(name);
        let step = || LabError::step::<io::Error>(format!("make the network namespace {name}"));
        File::create_new(&path).map_err(step())?;
        // From here on the name is ours to remove.
        let namespace = Self(path);
        let work = || -> io::Result<()> {
            sys::unshare(UnshareFlags::NEWNET)?;
            prepare()?;
            Ok(mount_bind("/proc/thread-self/ns/net", &namespace.0)?)
        };
        let made = match thread::scope(|scope| scope.spawn(work).join()) {
            Ok(made) => made,
            Err(panic) => std::panic::resume_unwind(panic),
        };
        made.map_err(step())?;
        Ok(namespace)
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        // If either fails, the sandbox takes the name with it when it ends.
        let _ = unmount(&self.0, UnmountFlags::DETACH);
        let _ = fs::remove_file(&self.0);
    }
}

const FOLDER: &str = "/run/netns";
