//! Taking the control socket's path: one router at a time, and nobody else's file is removed.
//!
//! A lock file beside the socket says who has it, `r1.sock.lock` for `r1.sock`. The kernel releases the lock
//! with the process, however that ends; a process that is stopped holds it still.
#![forbid(unsafe_code)]

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use rustix::fs::{FlockOperation, Mode, OFlags, fchmod, flock};
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, SocketAddrUnix, SocketFlags, SocketType, bind, connect, listen, socket_with,
};

/// Why the control socket could not be created.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("{message}")]
pub struct ClaimError {
    /// What failed, and why.
    pub message: String,
    /// What to do about it.
    pub help: &'static str,
}

/// A control socket's path that this process has. Dropping it gives the path to others.
#[derive(Debug)]
pub struct Claim {
    socket: OwnFile,
    lock: OwnFile,
}

/// A file that this process has made.
#[derive(Debug)]
pub struct OwnFile {
    path: PathBuf,
    /// Its identity, and what keeps that from being used again; `None` once it is removed.
    made: Mutex<Option<(Identity, Option<File>)>>,
}

/// Device and inode.
type Identity = (u64, u64);

/// Binds the control socket, with mode 0600 from its first moment. Replaces a stale socket.
///
/// # Errors
/// Another router has the path, or something that is no socket is there, or the system refuses.
pub fn claim(path: &Path) -> Result<(UnixListener, Claim), ClaimError> {
    let failed = |what: &str, error: io::Error| ClaimError {
        message: format!("control socket {}: cannot {what}: {error}", path.display()),
        help: "choose another path with --socket PATH or NEARHOP_SOCKET",
    };
    if let Some(dir) = path.parent() {
        fs::create_dir_all(dir).map_err(|error| failed("create its directory", error))?;
    }
    let lock = match take_lock(&lock_path(path)) {
        Ok(Ok(lock)) => lock,
        Ok(Err(holder)) => return Err(taken(path, &holder)),
        Err(error) => return Err(failed("lock it", error)),
    };
    match is_listening(path) {
        // One that has no lock: not a nearhop, or an old one.
        Ok(true) => return Err(taken(path, "")),
        // The kernel returns the same error for other kinds of file, which must not be removed.
        Ok(false) if !fs::metadata(path).is_ok_and(|file| file.file_type().is_socket()) => {
            let message = format!(
                "control socket {}: expected a socket, found another kind of file",
                path.display()
            );
            let help = "move it away, or choose another path with --socket PATH";
            return Err(ClaimError { message, help });
        }
        Ok(false) => {
            fs::remove_file(path).map_err(|error| failed("remove the stale socket", error))?;
        }
        // What else is wrong with the path is said when it is bound.
        Err(_) => {}
    }
    let listener = listen_on(path).map_err(|error| failed("bind it", error))?;
    let socket = OwnFile::existing(path).map_err(|error| failed("look at it", error))?;
    Ok((listener, Claim { socket, lock }))
}

/// Whether somebody listens on this socket. Does not wait, whatever the listener does.
///
/// # Errors
/// There is nothing at this path, or it cannot be asked.
pub fn is_listening(path: &Path) -> io::Result<bool> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    match connect(&socket, &SocketAddrUnix::new(path)?) {
        // Those who wait to be accepted fill its queue.
        Ok(()) | Err(Errno::AGAIN) => Ok(true),
        Err(Errno::CONNREFUSED) => Ok(false),
        Err(errno) => Err(errno.into()),
    }
}

impl Claim {
    /// Gives the path to others, once.
    pub fn release(&self) {
        self.socket.remove();
        // While the lock is held: whoever finds the file gone makes a new one.
        self.lock.remove();
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        self.release();
    }
}

impl OwnFile {
    /// The file at this path, which this process has made and keeps open otherwise.
    fn existing(path: &Path) -> io::Result<Self> {
        let found = identity(&fs::symlink_metadata(path)?);
        Ok(Self { path: path.to_owned(), made: Mutex::new(Some((found, None))) })
    }

    /// As `path` leads to `file`.
    pub fn of(path: &Path, file: File) -> io::Result<Self> {
        let made = identity(&file.metadata()?);
        Ok(Self { path: path.to_owned(), made: Mutex::new(Some((made, Some(file)))) })
    }

    /// Removes it, once, if the path leads to it still: what others put there stays.
    pub fn remove(&self) {
        let made = self.made.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some((made, _open)) = made else { return };
        match fs::symlink_metadata(&self.path).map(|found| identity(&found)) {
            Ok(found) if found == made => {}
            Ok(_) => return log::warn!("{} is somebody else's now", self.path.display()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return,
            Err(error) => {
                return log::error!("cannot look at {}: {error}", self.path.display());
            }
        }
        if let Err(error) = fs::remove_file(&self.path) {
            log::error!("cannot remove {}: {error}", self.path.display());
        }
    }
}

fn identity(found: &fs::Metadata) -> Identity {
    (found.dev(), found.ino())
}

fn lock_path(socket: &Path) -> PathBuf {
    let mut path = socket.as_os_str().to_owned();
    path.push(".lock");
    path.into()
}

/// Takes the lock, or returns who has it, as far as it is known.
fn take_lock(path: &Path) -> io::Result<Result<OwnFile, String>> {
    let flags = (OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC).bits();
    loop {
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .custom_flags(flags.cast_signed())
            .open(path)?;
        if !file.metadata()?.is_file() {
            let why = format!("{} is not a regular file", path.display());
            return Err(io::Error::new(io::ErrorKind::InvalidInput, why));
        }
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(Errno::WOULDBLOCK) => {
                let mut holder = String::new();
                // Only said: whoever holds it may be about to write it.
                let _ = (&file).take(PID_LEN_MAX).read_to_string(&mut holder);
                return Ok(Err(holder.trim().to_owned()));
            }
            Err(errno) => return Err(errno.into()),
        }
        // Who had it may have removed it after it was opened here.
        let is_there = fs::symlink_metadata(path).is_ok_and(|found| {
            file.metadata().is_ok_and(|locked| identity(&found) == identity(&locked))
        });
        if is_there {
            file.set_len(0)?;
            writeln!(file, "{}", std::process::id())?;
            return Ok(Ok(OwnFile::of(path, file)?));
        }
    }
}

fn taken(path: &Path, holder: &str) -> ClaimError {
    let is_number = !holder.is_empty() && holder.bytes().all(|byte| byte.is_ascii_digit());
    let process = if is_number { format!(" (process {holder})") } else { String::new() };
    let message = format!("another router{process} already listens on {}", path.display());
    let help = "stop it, or start this one with another name or --socket PATH";
    ClaimError { message, help }
}

/// A listener that only the owner may connect to: the kernel makes the file with the mode of the socket.
fn listen_on(path: &Path) -> io::Result<UnixListener> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket: OwnedFd = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    fchmod(&socket, Mode::RUSR | Mode::WUSR)?;
    bind(&socket, &SocketAddrUnix::new(path)?)?;
    listen(&socket, BACKLOG)?;
    Ok(socket.into())
}

/// Clients that may wait to be accepted.
const BACKLOG: i32 = 128;

/// Bytes of a lock file that are read.
const PID_LEN_MAX: u64 = 16;

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;
    use std::os::unix::net::UnixStream;
    use std::sync::Barrier;
    use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
    use std::thread;

    use super::*;

    fn mode(path: &Path) -> Option<u32> {
        Some(fs::symlink_metadata(path).ok()?.permissions().mode() & 0o777)
    }

    #[test]
    fn a_file_that_is_no_socket_is_not_removed() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("notes");
        fs::write(&file, "mine").unwrap();
        let error = claim(&file).unwrap_err();
        assert!(error.message.contains("another kind of file"), "{error}");
        assert_eq!(fs::read_to_string(&file).unwrap(), "mine");
        // Nor is what a link leads to made or taken.
        let (linked, socket) = (dir.path().join("linked"), dir.path().join("r2.sock"));
        std::os::unix::fs::symlink(&linked, lock_path(&socket)).unwrap();
        assert!(claim(&socket).is_err() && !linked.exists());
    }

    #[test]
    fn a_socket_is_taken_by_one_and_a_stale_one_by_the_next() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("r1.sock");
        let first = claim(&path).unwrap();
        let error = claim(&path).unwrap_err();
        let holder = format!("(process {}) already listens", std::process::id());
        assert!(error.message.contains(&holder), "{error}");
        drop(first);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0, "nothing stays behind");
        drop(UnixListener::bind(&path).unwrap());
        let again = claim(&path).unwrap();
        assert!(UnixStream::connect(&path).is_ok());
        drop(again);
        let other = UnixListener::bind(&path).unwrap();
        assert!(claim(&path).unwrap_err().message.contains("already listens"));
        drop(other);
    }

    #[test]
    fn of_many_who_begin_at_once_one_has_it_and_it_answers() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("r1.sock");
        for round in 0..50 {
            // A stale one, which each of them would remove.
            drop(UnixListener::bind(&path));
            let (begin, end, had) = (Barrier::new(8), Barrier::new(8), AtomicU32::new(0));
            thread::scope(|scope| {
                for _ in 0..8 {
                    scope.spawn(|| {
                        begin.wait();
                        let claimed = claim(&path);
                        had.fetch_add(u32::from(claimed.is_ok()), Ordering::Relaxed);
                        end.wait();
                        if claimed.is_ok() {
                            assert!(UnixStream::connect(&path).is_ok(), "round {round}");
                        }
                    });
                }
            });
            assert_eq!(had.load(Ordering::Relaxed), 1, "round {round}");
        }
    }

    #[test]
    fn only_what_it_made_is_removed_and_once() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("r1.sock");
        let (_listener, first) = claim(&path).unwrap();
        fs::remove_file(&path).unwrap();
        fs::write(&path, "another's").unwrap();
        first.release();
        assert_eq!(fs::read_to_string(&path).unwrap(), "another's");
        fs::remove_file(&path).unwrap();
        let (_listener, _second) = claim(&path).unwrap();
        drop(first);
        assert!(UnixStream::connect(&path).is_ok() && lock_path(&path).exists());
    }

    #[test]
    fn who_listens_and_accepts_nobody_is_asked_without_waiting() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("r1.sock");
        let _listener = listen_on(&path).unwrap();
        // Each stays in the queue, also when it is closed; at the end one who connects would wait.
        for _ in 0..2 * BACKLOG {
            assert!(is_listening(&path).unwrap());
        }
        assert!(claim(&path).unwrap_err().message.contains("already listens"));
        assert!(is_listening(&dir.path().join("absent")).is_err());
    }

    #[test]
    fn nobody_else_may_connect_at_any_moment() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("r1.sock");
        let over = AtomicBool::new(false);
        thread::scope(|scope| {
            let watcher = scope.spawn(|| {
                let mut modes = std::collections::BTreeSet::new();
                while !over.load(Ordering::Relaxed) {
                    modes.extend(mode(&path));
                }
                modes
            });
            for _ in 0..2000 {
                let claimed = claim(&path).unwrap();
                assert_eq!(mode(&path), Some(0o600));
                assert_eq!(mode(&lock_path(&path)), Some(0o600));
                drop(claimed);
            }
            over.store(true, Ordering::Relaxed);
            let modes: Vec<u32> = watcher.join().unwrap().into_iter().collect();
            assert_eq!(modes, [0o600], "{modes:?}");
        });
    }
}
