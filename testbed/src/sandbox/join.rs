//! Enters a running lab from another terminal.
#![forbid(unsafe_code)]

use std::env;
use std::ffi::OsString;
use std::fs::{self, File};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::{Command, ExitStatus};

use rustix::process::{Pid, PidfdFlags, pidfd_open};
use rustix::thread::{
    LinkNameSpaceType, ThreadNameSpaceType, move_into_link_name_space, move_into_thread_name_spaces,
};

use super::outer::WATCHED;
use super::registry::{Entry, running};
use super::{MARK, SandboxError, prompt};
use crate::announcer::bin_of;
use crate::sys::{self, SignalWatch};

/// Runs `command` (the user's shell if empty) at `node` of a running lab and waits for it. The
/// process must have a single thread.
///
/// `lab` is a lab's name or the process ID of its init; if `None`, exactly one lab must be running.
pub fn shell(
    lab: Option<&str>,
    node: &str,
    command: &[OsString],
) -> Result<ExitStatus, SandboxError> {
    let entry = choose(lab, running()?).map_err(SandboxError::NoLab)?;
    let folder = env::current_dir().ok();
    enter(&entry)?;
    enter_node(&entry, node)?;
    if let Some(folder) = folder {
        // The folder may be under the /run that the lab hides.
        let _ = env::set_current_dir(folder);
    }
    // Ctrl-C is meant for the command; this process only waits.
    let _signals = SignalWatch::new(&WATCHED).map_err(SandboxError::step("watch signals"))?;
    let mut command = shell_command(node, command);
    command.env_remove(MARK).env_remove("XDG_RUNTIME_DIR").env("NEARLAB_NODE", node);
    command.env("PATH", path_at(node));
    sys::unblock_in_child(&mut command)
        .status()
        .map_err(SandboxError::step(format!("run {}", command.get_program().display())))
}

fn choose(lab: Option<&str>, mut labs: Vec<Entry>) -> Result<Entry, String> {
    let known = list(&labs);
    if let Some(wanted) = lab {
        labs.retain(|entry| entry.name == wanted || entry.pid.to_string() == wanted);
    }
    match (labs.len(), lab) {
        (1, _) => Ok(labs.remove(0)),
        (0, None) => Err("no lab is running; start one with: nearlab up".to_owned()),
        (0, Some(wanted)) => Err(format!("no lab is named {wanted}; running labs: {known}")),
        _ => Err(format!("more than one lab matches; choose one with --lab PID: {known}")),
    }
}

fn list(labs: &[Entry]) -> String {
    let names: Vec<_> = labs.iter().map(|lab| format!("{} ({})", lab.name, lab.pid)).collect();
    if names.is_empty() { "none".to_owned() } else { names.join(", ") }
}

/// The user namespace first: it grants the right to enter the others.
fn enter(entry: &Entry) -> Result<(), SandboxError> {
    let gone = || SandboxError::NoLab(format!("the lab {} has just ended", entry.name));
    let pid = i32::try_from(entry.pid).ok().and_then(Pid::from_raw).ok_or_else(gone)?;
    let init = pidfd_open(pid, PidfdFlags::empty()).map_err(|_| gone())?;
    let mut kinds =
        ThreadNameSpaceType::MOUNT | ThreadNameSpaceType::PROCESS_ID | ThreadNameSpaceType::NETWORK;
    let own_user = namespace_inode("self", "user");
    if own_user.is_none() || own_user != namespace_inode(&entry.pid.to_string(), "user") {
        kinds |= ThreadNameSpaceType::USER;
    }
    move_into_thread_name_spaces(init.as_fd(), kinds)
        .map_err(SandboxError::step(format!("enter the lab {} ({})", entry.name, entry.pid)))
}

fn namespace_inode(process: &str, kind: &str) -> Option<u64> {
    fs::metadata(format!("/proc/{process}/ns/{kind}")).ok().map(|file| file.ino())
}

fn enter_node(entry: &Entry, node: &str) -> Result<(), SandboxError> {
    let file = match File::open(format!("/run/netns/{node}")) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let lab = &entry.name;
            let known = nodes().join(", ");
            return Err(SandboxError::NoLab(format!(
                "the lab {lab} has no node {node}; its nodes: {known}"
            )));
        }
        other => other.map_err(SandboxError::step(format!("open the namespace of {node}")))?,
    };
    move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network))
        .map_err(SandboxError::step(format!("enter the namespace of {node}")))
}

fn nodes() -> Vec<String> {
    let files = fs::read_dir("/run/netns").into_iter().flatten().flatten();
    let mut names: Vec<_> = files.map(|file| file.file_name().display().to_string()).collect();
    names.sort();
    names
}

/// The search path, with the command of the node's BGP daemon in front.
fn path_at(node: &str) -> OsString {
    let path = env::var_os("PATH").unwrap_or_default();
    let bin = bin_of(node);
    if !bin.exists() {
        return path;
    }
    let folders = std::iter::once(bin).chain(env::split_paths(&path));
    env::join_paths(folders).unwrap_or(path)
}

fn shell_command(node: &str, command: &[OsString]) -> Command {
    if let Some((program, args)) = command.split_first() {
        let mut command = Command::new(program);
        command.args(args);
        return command;
    }
    let shell = env::var_os("SHELL").unwrap_or_else(|| "/bin/sh".into());
    let mut command = Command::new(&shell);
    prompt::set(&mut command, Path::new(&shell), node);
    command
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lab(name: &str, pid: u32) -> Entry {
        Entry { schema: String::new(), name: name.to_owned(), pid, start_ticks: 1 }
    }

    #[test]
    fn a_lab_is_found_by_name_by_pid_or_by_being_the_only_one() {
        let both = || vec![lab("a", 7), lab("b", 8)];
        assert_eq!(choose(None, vec![lab("a", 7)]).unwrap().pid, 7);
        assert_eq!(choose(Some("b"), both()).unwrap().pid, 8);
        assert_eq!(choose(Some("7"), both()).unwrap().name, "a");
        assert!(choose(None, vec![]).unwrap_err().contains("nearlab up"));
        assert!(choose(None, both()).unwrap_err().contains("a (7), b (8)"));
        assert!(choose(Some("c"), both()).unwrap_err().contains("a (7), b (8)"));
    }
}
