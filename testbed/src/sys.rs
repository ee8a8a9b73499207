//! All of this crate's calls that Rust cannot check: unshare, the signal mask, a descriptor that
//! came by number.
#![allow(unsafe_code)]

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::process::CommandExt;
use std::process::Command;

use rustix::thread::UnshareFlags;

/// Leaves namespaces for new ones; the calling thread alone, save for a user namespace, which
/// the kernel gives to processes of one thread only.
pub(crate) fn unshare(flags: UnshareFlags) -> io::Result<()> {
    assert!(!flags.contains(UnshareFlags::FILES), "descriptors stay shared between threads");
    // SAFETY: only UnshareFlags::FILES can make a descriptor of another thread unusable, and the
    // assertion above excludes it.
    unsafe { rustix::thread::unshare_unsafe(flags) }?;
    Ok(())
}

/// Takes over a descriptor that was left open for us across an exec.
pub(crate) fn adopt(fd: RawFd) -> io::Result<OwnedFd> {
    // SAFETY: F_GETFD touches no memory and is an error for a number that is not open.
    if fd <= 2 || unsafe { libc::fcntl(fd, libc::F_SETFD, libc::FD_CLOEXEC) } < 0 {
        return Err(io::Error::from(io::ErrorKind::InvalidInput));
    }
    // SAFETY: it is open (just checked) and nobody else owns it: the outer process opened it for
    // this process alone, passed its number in the environment, and this is called once, in init.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Signals taken from a descriptor instead of by handlers.
#[derive(Debug)]
pub(crate) struct SignalWatch(OwnedFd);

/// One signal that came.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Received {
    /// Its number.
    pub(crate) number: i32,
    /// The terminal sent it, to the whole foreground process group, the program included.
    pub(crate) from_terminal: bool,
}

impl SignalWatch {
    /// Blocks `signals` in this thread and makes the descriptor that tells of them. To be called
    /// while this is the only thread.
    pub(crate) fn new(signals: &[i32]) -> io::Result<Self> {
        let set = signal_set(signals);
        // SAFETY: `set` is a valid, initialised signal set; a null old set is allowed.
        let error =
            unsafe { libc::pthread_sigmask(libc::SIG_BLOCK, &raw const set, std::ptr::null_mut()) };
        if error != 0 {
            return Err(io::Error::from_raw_os_error(error));
        }
        // SAFETY: `set` is a valid signal set, -1 asks for a new descriptor.
        let fd = unsafe { libc::signalfd(-1, &raw const set, libc::SFD_CLOEXEC) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: signalfd has just returned this descriptor; nobody else knows it.
        Ok(Self(unsafe { OwnedFd::from_raw_fd(fd) }))
    }

    /// Waits for the next signal.
    pub(crate) fn next(&self) -> io::Result<Received> {
        let mut info = [0; size_of::<libc::signalfd_siginfo>()];
        loop {
            match rustix::io::read(&self.0, &mut info) {
                Err(rustix::io::Errno::INTR) => {}
                other => break other.map(drop)?,
            };
        }
        // signalfd_siginfo starts with ssi_signo (u32), ssi_errno (i32), ssi_code (i32).
        let word =
            |at: usize| i32::from_ne_bytes([info[at], info[at + 1], info[at + 2], info[at + 3]]);
        Ok(Received { number: word(0), from_terminal: word(8) == SI_KERNEL })
    }
}

impl AsFd for SignalWatch {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// The child starts with no signal blocked, although this process blocks some.
pub(crate) fn unblock_in_child(command: &mut Command) -> &mut Command {
    let none = signal_set(&[]);
    let unblock = move || {
        // SAFETY: async-signal-safe (signal-safety(7)); `none` is a valid set owned by the closure.
        let error = unsafe {
            libc::pthread_sigmask(libc::SIG_SETMASK, &raw const none, std::ptr::null_mut())
        };
        if error == 0 { Ok(()) } else { Err(io::Error::from_raw_os_error(error)) }
    };
    // SAFETY: the closure runs between fork and exec; it makes one async-signal-safe call,
    // allocates nothing and takes no lock.
    unsafe { command.pre_exec(unblock) }
}

fn signal_set(signals: &[i32]) -> libc::sigset_t {
    let mut set = MaybeUninit::uninit();
    // SAFETY: sigemptyset initialises the whole set it is given; sigaddset then gets an
    // initialised one, and refuses numbers that are no signals without touching it.
    unsafe {
        libc::sigemptyset(set.as_mut_ptr());
        for signal in signals {
            libc::sigaddset(set.as_mut_ptr(), *signal);
        }
        set.assume_init()
    }
}

/// `si_code` of a signal that the kernel itself sent, such as Ctrl-C (sigaction(2)).
const SI_KERNEL: i32 = 0x80;
