//! The list of labs running on this machine, so that another terminal can enter one.
//!
//! Each lab has one file, written and removed by its outer process, in `$XDG_RUNTIME_DIR/nearlab`
//! or `/tmp/nearlab-UID`. The next reader removes the file of a lab that has died.
#![forbid(unsafe_code)]

use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::SandboxError;

/// A running lab.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Entry {
    /// Always `nearlab.lab.v1`.
    pub schema: String,
    /// Its name, not necessarily unique.
    pub name: String,
    /// Process ID of its init on the host, unique.
    pub pid: u32,
    /// When init started, in clock ticks since boot (proc_pid_stat(5), field 22); distinguishes it
    /// from a later process with the same ID.
    pub start_ticks: u64,
}

/// The running labs, the newest last.
pub fn running() -> Result<Vec<Entry>, SandboxError> {
    running_in(&folder()?)
}

fn running_in(folder: &Path) -> Result<Vec<Entry>, SandboxError> {
    let mut entries = Vec::new();
    for file in fs::read_dir(folder).map_err(SandboxError::step("read the list of labs"))? {
        let path = file.map_err(SandboxError::step("read the list of labs"))?.path();
        // One that is being written is not to be removed under its writer.
        if path.extension().is_none_or(|extension| extension != "json") {
            continue;
        }
        match read(&path) {
            Some(entry) if start_ticks(entry.pid) == Some(entry.start_ticks) => entries.push(entry),
            _ => drop(fs::remove_file(&path)),
        }
    }
    entries.sort_by_key(|entry| (entry.start_ticks, entry.pid));
    Ok(entries)
}

/// Where the lab is listed, determined before the process changes its user and mounts.
#[derive(Debug)]
pub(super) struct Registration {
    folder: PathBuf,
    name: String,
}

impl Registration {
    pub(super) fn prepare(name: &str) -> Result<Self, SandboxError> {
        Ok(Self { folder: folder()?, name: name.to_owned() })
    }

    /// Lists the lab until the returned value is dropped.
    pub(super) fn write(&self, pid: u32) -> Result<Listed, SandboxError> {
        let entry = Entry {
            schema: SCHEMA.to_owned(),
            name: self.name.clone(),
            pid,
            // Init is dead already: the entry is stale from the start and is ignored.
            start_ticks: start_ticks(pid).unwrap_or(0),
        };
        // A process ID may be used again while the file of its last owner is still there.
        let file = format!("{pid}-{}", entry.start_ticks);
        let path = self.folder.join(format!("{file}.json"));
        let whole = self.folder.join(format!(".{file}"));
        serde_json::to_vec(&entry)
            .map_err(io::Error::from)
            .and_then(|text| fs::write(&whole, text))
            .and_then(|()| fs::rename(&whole, &path))
            .map_err(SandboxError::step(format!("list the lab in {}", self.folder.display())))?;
        Ok(Listed(path))
    }
}

/// The entry of a lab; dropping it removes the file.
#[derive(Debug)]
pub(super) struct Listed(PathBuf);

impl Drop for Listed {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

fn folder() -> Result<PathBuf, SandboxError> {
    let uid = rustix::process::geteuid().as_raw();
    let folder = match std::env::var_os("XDG_RUNTIME_DIR") {
        Some(runtime) if is_owned(Path::new(&runtime), uid) => Path::new(&runtime).join("nearlab"),
        _ => PathBuf::from(format!("/tmp/nearlab-{uid}")),
    };
    private_folder(&folder, uid)
        .map_err(SandboxError::step(format!("use {} for the list of labs", folder.display())))?;
    Ok(folder)
}

/// Under sudo the variable may name another user's folder.
fn is_owned(folder: &Path, uid: u32) -> bool {
    fs::metadata(folder).is_ok_and(|found| found.is_dir() && found.uid() == uid)
}

/// Anyone can create folders in /tmp: one of another user is not trusted.
fn private_folder(folder: &Path, uid: u32) -> io::Result<()> {
    match DirBuilder::new().mode(0o700).create(folder) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        _ => {}
    }
    let found = fs::symlink_metadata(folder)?;
    if !found.is_dir() || found.uid() != uid || found.mode() & 0o022 != 0 {
        return Err(io::Error::other("expected a folder that only this user can write to"));
    }
    Ok(())
}

fn read(path: &Path) -> Option<Entry> {
    serde_json::from_slice(&fs::read(path).ok()?).ok()
}

/// The name in field 2 may contain anything, so fields are counted from the last parenthesis.
fn start_ticks(pid: u32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let after_name = &stat[stat.rfind(')')? + 1..];
    after_name.split_ascii_whitespace().nth(START_TIME - 3)?.parse().ok()
}

const SCHEMA: &str = "nearlab.lab.v1";
/// Number of the field, counted from 1. The first field after the name is 3.
const START_TIME: usize = 22;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_others_can_write_to_is_refused() {
        use std::os::unix::fs::PermissionsExt;
        let parent = tempfile::tempdir().unwrap();
        let uid = rustix::process::geteuid().as_raw();
        let folder = parent.path().join("labs");
        private_folder(&folder, uid).unwrap();
        private_folder(&folder, uid).unwrap();
        fs::set_permissions(&folder, fs::Permissions::from_mode(0o777)).unwrap();
        assert!(private_folder(&folder, uid).is_err());
        assert!(private_folder(&parent.path().join("labs"), uid + 1).is_err());
    }

    /// What two labs that start and end beside a reader do to the folder.
    #[test]
    fn a_reader_leaves_files_alone_that_are_being_written() {
        let parent = tempfile::tempdir().unwrap();
        let registration =
            Registration { folder: parent.path().to_owned(), name: "lab".to_owned() };
        let half = parent.path().join(".123-5");
        fs::write(&half, "{").unwrap();
        let listed = registration.write(std::process::id()).unwrap();
        let running = running_in(parent.path()).unwrap();
        assert_eq!(running.iter().map(|lab| lab.pid).collect::<Vec<_>>(), [std::process::id()]);
        assert!(half.exists());
        // Another lab's file stays when this one ends.
        let other = parent.path().join(format!("{}-1.json", std::process::id()));
        fs::copy(&listed.0, &other).unwrap();
        drop(listed);
        assert!(other.exists());
    }

    #[test]
    fn start_ticks_say_a_process_from_none() {
        assert!(start_ticks(std::process::id()).unwrap() > 0);
        assert_eq!(start_ticks(u32::MAX), None);
    }
}
