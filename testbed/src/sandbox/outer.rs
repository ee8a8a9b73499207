//! The process that the user started: makes the user and PID namespaces, starts init, waits.
#![forbid(unsafe_code)]

use std::env;
use std::fs;
use std::io::{self, PipeReader, PipeWriter};
use std::os::fd::AsRawFd;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus};

use rustix::io::FdFlags;
use rustix::process::{Pid, Signal, getegid, geteuid, kill_process};
use rustix::thread::UnshareFlags;

use super::registry::Registration;
use super::{MARK, Options, SandboxError, own_executable};
use crate::sys::{self, SignalWatch};

/// Runs the program in a sandbox and exits with its exit code; returns only with an error.
pub(super) fn run(options: &Options) -> Result<(), SandboxError> {
    let registration = Registration::prepare(&options.name);
    leave_the_host(options)?;
    sys::heed_interrupts().map_err(SandboxError::step("heed interrupts"))?;
    let signals = SignalWatch::new(&WATCHED).map_err(SandboxError::step("watch signals"))?;
    let (lifeline, held) = lifeline().map_err(SandboxError::step("make a pipe"))?;
    let mut init = spawn_init(&lifeline).map_err(SandboxError::step("start the lab's init"))?;
    drop(lifeline);
    let listed = registration.and_then(|place| place.write(init.id()));
    if let Err(error) = &listed {
        log::warn!("another terminal cannot enter this lab: {error}");
    }
    let status = wait(&mut init, &signals).map_err(SandboxError::step("wait for the lab"))?;
    drop((listed, held));
    std::process::exit(status.code().unwrap_or(128 + Signal::KILL.as_raw()));
}

/// After this, children are in a new PID namespace and are root in a new user namespace. Init makes
/// the mount and network namespaces, so this process keeps its view of the files.
fn leave_the_host(options: &Options) -> Result<(), SandboxError> {
    if !options.user_namespace {
        return sys::unshare(UnshareFlags::NEWPID)
            .map_err(SandboxError::refused("a PID namespace without a user namespace"));
    }
    let (uid, gid) = (geteuid().as_raw(), getegid().as_raw());
    sys::unshare(UnshareFlags::NEWUSER | UnshareFlags::NEWPID)
        .map_err(SandboxError::refused("a user namespace"))?;
    // A process without privileges on the host may map only its own IDs, and its group only after
    // denying setgroups(2) (user_namespaces(7)).
    for (file, text) in [
        ("setgroups", "deny".to_owned()),
        ("uid_map", format!("0 {uid} 1")),
        ("gid_map", format!("0 {gid} 1")),
    ] {
        fs::write(format!("/proc/self/{file}"), text)
            .map_err(SandboxError::refused("the map of users of a user namespace"))?;
    }
    Ok(())
}

/// A pipe: init inherits the read end, and only this process holds the write end. It is closed when
/// this process is gone.
fn lifeline() -> io::Result<(PipeReader, PipeWriter)> {
    let (reader, writer) = io::pipe()?;
    rustix::io::fcntl_setfd(&reader, FdFlags::empty())?;
    Ok((reader, writer))
}

fn spawn_init(lifeline: &PipeReader) -> io::Result<Child> {
    same_command_line().env(MARK, format!("init:{}", lifeline.as_raw_fd())).spawn()
}

/// This program with its own arguments.
pub(super) fn same_command_line() -> Command {
    let mut args = env::args_os();
    let mut command = Command::new(own_executable());
    if let Some(name) = args.next() {
        command.arg0(name);
    }
    command.args(args);
    command
}

fn wait(init: &mut Child, signals: &SignalWatch) -> io::Result<ExitStatus> {
    let pid = Pid::from_child(init);
    loop {
        if let Some(status) = init.try_wait()? {
            return Ok(status);
        }
        pass_on(signals, pid)?;
    }
}

/// Receives one signal and passes it to `to`, unless the terminal has already sent it there.
pub(super) fn pass_on(signals: &SignalWatch, to: Pid) -> io::Result<()> {
    let received = signals.next()?;
    if received.from_terminal {
        return Ok(());
    }
    match Signal::from_named_raw(received.number) {
        None | Some(Signal::CHILD) => Ok(()),
        // The process may have ended just now; the next wait reports that.
        Some(signal) => kill_process(to, signal).or_else(|error| match error {
            rustix::io::Errno::SRCH => Ok(()),
            other => Err(other.into()),
        }),
    }
}

/// Signals that are passed to the program; SIGCHLD reports its end.
pub(super) const WATCHED: [i32; 7] = [
    libc::SIGCHLD,
    libc::SIGHUP,
    libc::SIGINT,
    libc::SIGQUIT,
    libc::SIGTERM,
    libc::SIGUSR1,
    libc::SIGUSR2,
];
