//! Named network namespaces, in the format of `ip netns`.
#![forbid(unsafe_code)]

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::thread;

use rustix::mount::{UnmountFlags, mount_bind, unmount};
use rustix::thread::UnshareFlags;

use super::LabError;
use crate::sys;

/// A namespace under /run/netns. Dropping this removes its name; the namespace ends with its last
/// process.
#[derive(Debug)]
pub struct Namespace(PathBuf);

impl Namespace {
    /// Creates a namespace of that name.
    ///
    /// # Errors
    /// The name exists, or the kernel refuses.
    pub fn make(name: &str) -> Result<Self, LabError> {
        Self::with(name, || Ok(()))
    }

    /// Creates a namespace whose devices send nothing by themselves, such as router solicitations
    /// or multicast reports: every packet on them comes from a program.
    pub(super) fn make_silent(name: &str) -> Result<Self, LabError> {
        Self::with(name, || fs::write("/proc/sys/net/ipv6/conf/default/disable_ipv6", "1"))
    }

    /// Creates the namespace on a thread of its own, which enters it, prepares it and binds it to
    /// the name.
    fn with(name: &str, prepare: impl FnOnce() -> io::Result<()> + Send) -> Result<Self, LabError> {
        let path = Path::new(FOLDER).join(name);
        let step = || LabError::step::<io::Error>(format!("make the network namespace {name}"));
        File::create_new(&path).map_err(step())?;
        // From here on, dropping `namespace` removes the name.
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
        // If either fails, the name disappears with the sandbox.
        let _ = unmount(&self.0, UnmountFlags::DETACH);
        let _ = fs::remove_file(&self.0);
    }
}

const FOLDER: &str = "/run/netns";
