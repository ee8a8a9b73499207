//! PID 1 of the sandbox: makes the rest of it, starts the program, reaps.
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

/// Runs the program and exits as it does; comes back with an error only.
pub(super) fn run(lifeline: RawFd) -> Result<(), SandboxError> {
    die_with_the_outer(lifeline).map_err(SandboxError::step("tie the lab's life to its parent"))?;
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

/// The kernel kills this process when its parent dies. If the parent was dead before that was
/// agreed, the pipe has hung up.
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

/// A view of the files in which /run is the lab's own.
fn mounts() -> Result<(), SandboxError> {
    mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)
        .map_err(SandboxError::refused("private mounts"))?;
    // Where something hides parts of /proc (container runtimes do), the kernel refuses a new one.
    // The old one still answers for /proc/self, which is all that the lab itself needs.
    let plain = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    if let Err(error) = mount("proc", "/proc", "proc", plain, None) {
        log::warn!("no /proc of the lab's own ({error}): ps will show foreign numbers");
    }
    if let Err(error) = mount("sysfs", "/sys", "sysfs", plain, None) {
        log::debug!("no /sys of the lab's own ({error})");
    }
    let run = MountFlags::NOSUID | MountFlags::NODEV;
    mount("tmpfs", "/run", "tmpfs", run, c"mode=0755")
        .map_err(SandboxError::refused("a /run of the lab's own"))?;
    for folder in ["/run/netns", "/run/nearhop", "/run/nearlab"] {
        fs::create_dir(folder).map_err(SandboxError::step(format!("make {folder}")))?;
    }
    Ok(())
}

fn loopback_up() -> Result<(), LinkError> {
    LinkSetup::open(&NetNs::Here)?.set_up("lo", true)
}

/// The user's runtime folders lie under the /run that is hidden now.
fn spawn_program() -> io::Result<Pid> {
    let mut command = same_command_line();
    command.env(MARK, format!("inside:{}", mount_namespace()?));
    command.env_remove("XDG_RUNTIME_DIR").env_remove("RUNTIME_DIRECTORY");
    Ok(Pid::from_child(&sys::unblock_in_child(&mut command).spawn()?))
}

/// Passes signals to the program and collects every process that ends, until the program does.
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

/// As shells do: 128 and the number of the signal that killed it.
fn exit_code(status: WaitStatus) -> i32 {
    match (status.exit_status(), status.terminating_signal()) {
        (Some(code), _) => code,
        (None, Some(signal)) => 128 + signal,
        (None, None) => 1,
    }
}
