//! PID 1 of the sandbox: mounts, starts the program, reaps processes.
#![forbid(unsafe_code)]

use std::fs;
use std::io;
use std::os::fd::{AsFd, RawFd};

use nearhop::kernel::link::{LinkError, LinkSetup};
use nearhop::kernel::netns::NetNs;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::mount::{MountFlags, MountPropagationFlags, mount, mount_change};
use rustix::process::{Pid, Signal, WaitOptions, WaitStatus, set_parent_process_death_signal};
use rustix::thread::UnshareFlags;

use super::outer::{WATCHED, pass_on, same_command_line};
use super::{MARK, SandboxError, mount_namespace};
use crate::sys::{self, SignalWatch};

/// Runs the program and exits with its exit code; returns only with an error.
pub(super) fn run(lifeline: RawFd) -> Result<(), SandboxError> {
    die_with_the_outer(lifeline)
        .map_err(SandboxError::step("bind the lab's lifetime to its parent"))?;
    let signals = SignalWatch::new(&WATCHED).map_err(SandboxError::step("watch signals"))?;
    sys::unshare(UnshareFlags::NEWNS | UnshareFlags::NEWNET)
        .map_err(SandboxError::refused("mount and network namespaces"))?;
    mounts()?;
    loopback_up()
        .map_err(|error| SandboxError::step("set the loopback up")(io::Error::other(error)))?;
    let program = spawn_program().map_err(SandboxError::step("start the program in the lab"))?;
    let code = reap(program, &signals).map_err(SandboxError::step("wait for the program"))?;
    std::process::exit(code);
}

/// The kernel kills this process when its parent dies. If the parent died before that was set up,
/// the pipe is already closed.
fn die_with_the_outer(lifeline: RawFd) -> io::Result<()> {
    let lifeline = sys::adopt(lifeline)?;
    set_parent_process_death_signal(Some(Signal::KILL))?;
    let mut fds = [PollFd::from_borrowed_fd(lifeline.as_fd(), PollFlags::IN)];
    poll(&mut fds, Some(&Timespec { tv_sec: 0, tv_nsec: 0 }))?;
    if fds[0].revents().contains(PollFlags::HUP) {
        return Err(io::Error::other("the parent has ended"));
    }
    Ok(())
}

/// Makes a mount namespace with a separate /run.
fn mounts() -> Result<(), SandboxError> {
    mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)
        .map_err(SandboxError::refused("private mounts"))?;
    // The kernel refuses a new /proc if parts of the old one are hidden, as container runtimes do.
    // The old one still serves /proc/self, which is all that the lab itself needs.
    let plain = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    if let Err(error) = mount("proc", "/proc", "proc", plain, None) {
        log::warn!("cannot mount a new /proc ({error}): ps shows the process IDs of the host");
    }
    if let Err(error) = mount("sysfs", "/sys", "sysfs", plain, None) {
        log::debug!("cannot mount a new /sys ({error})");
    }
    let run = MountFlags::NOSUID | MountFlags::NODEV;
    mount("tmpfs", "/run", "tmpfs", run, c"mode=0755")
        .map_err(SandboxError::refused("a separate /run"))?;
    for folder in ["/run/netns", "/run/nearhop", "/run/nearlab"] {
        fs::create_dir(folder).map_err(SandboxError::step(format!("make {folder}")))?;
    }
    Ok(())
}

fn loopback_up() -> Result<(), LinkError> {
    LinkSetup::open(&NetNs::Here)?.set_up("lo", true)
}

/// Clears the variables that name runtime folders under the hidden /run.
fn spawn_program() -> io::Result<Pid> {
    let mut command = same_command_line();
    command.env(MARK, format!("inside:{}", mount_namespace()?));
    command.env_remove("XDG_RUNTIME_DIR").env_remove("RUNTIME_DIRECTORY");
    Ok(Pid::from_child(&sys::unblock_in_child(&mut command).spawn()?))
}

/// Passes signals on and reaps every process until the program ends.
fn reap(program: Pid, signals: &SignalWatch) -> io::Result<i32> {
    loop {
        while let Some((pid, status)) = ended()? {
            if pid == program {
                return Ok(exit_code(status));
            }
        }
        pass_on(signals, program)?;
    }
}

fn ended() -> io::Result<Option<(Pid, WaitStatus)>> {
    match rustix::process::wait(WaitOptions::NOHANG) {
        Err(rustix::io::Errno::CHILD) => Ok(None),
        other => Ok(other?),
    }
}

/// Like a shell: 128 plus the number of the signal that killed it.
fn exit_code(status: WaitStatus) -> i32 {
    match (status.exit_status(), status.terminating_signal()) {
        (Some(code), _) => code,
        (None, Some(signal)) => 128 + signal,
        (None, None) => 1,
    }
}
