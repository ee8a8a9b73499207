//! The processes of a lab. Each starts in the namespace of its node and leads a process group, so
//! that SIGKILL reaches everything it started.
#![forbid(unsafe_code)]

use std::ffi::OsString;
use std::fmt;
use std::fs::File;
use std::io;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, ChildStdout, Command, ExitStatus, Stdio};

use nearhop::kernel::netns::NetNs;
use nearhop::time::Nanos;
use rustix::process::{Pid, Signal, kill_process_group};

use super::LabError;
use super::fault::Act;
use crate::sandbox::own_executable;

/// A program and where it runs, kept for restarts.
#[derive(Clone, Debug)]
pub struct Program {
    /// Its name, unique among running programs.
    pub name: String,
    /// Its node; empty means the sandbox itself.
    pub node: String,
    /// Its role in the lab.
    pub role: ProcessRole,
    /// The executable and its arguments.
    pub command: Vec<OsString>,
    /// Variables added to its environment.
    pub env: Vec<(OsString, OsString)>,
    /// Its standard output.
    pub stdout: Output,
    /// Its standard error.
    pub stderr: Output,
}

/// The role of a process, which decides what fault kills it.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum ProcessRole {
    /// A router.
    Router,
    /// A server, which [`super::Fault::Server`] kills.
    Server,
    /// A BGP daemon, which [`super::Fault::Daemon`] kills.
    Daemon,
    /// A traffic source.
    Client,
    /// The emulator of an impaired link.
    Wire,
    /// Anything else.
    #[default]
    Other,
}

/// Where a program's output goes.
#[derive(Clone, Debug, Default)]
pub enum Output {
    /// To the output of this process.
    #[default]
    Inherit,
    /// Nowhere.
    Null,
    /// Appended to a file.
    File(PathBuf),
    /// To [`super::Lab::stdout_of`]; for standard output only.
    Piped,
}

impl Program {
    /// A program at a node, with the output of this process.
    pub fn new<A: Into<OsString>>(
        name: &str,
        node: &str,
        command: impl IntoIterator<Item = A>,
    ) -> Self {
        Self {
            name: name.to_owned(),
            node: node.to_owned(),
            role: ProcessRole::Other,
            command: command.into_iter().map(Into::into).collect(),
            env: Vec::new(),
            stdout: Output::Inherit,
            stderr: Output::Inherit,
        }
    }

    /// This program itself, with other arguments.
    pub fn own<A: Into<OsString>>(
        name: &str,
        node: &str,
        args: impl IntoIterator<Item = A>,
    ) -> Self {
        let executable = std::iter::once(own_executable().into_os_string());
        Self::new(name, node, executable.chain(args.into_iter().map(Into::into)))
    }
}

/// A process that ended without being killed.
#[derive(Clone, Debug)]
pub struct Exit {
    /// Its name.
    pub name: String,
    /// Its exit status.
    pub status: ExitStatus,
}

impl fmt::Display for Exit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} has ended ({})", self.name, self.status)
    }
}

/// All processes of a lab.
#[derive(Default)]
pub(super) struct Crew(Vec<Process>);

struct Process {
    program: Program,
    /// `None` after it has ended and was reaped.
    child: Option<Child>,
}

impl Crew {
    pub(super) fn start(&mut self, program: Program) -> Result<(), LabError> {
        if self.0.iter().any(|one| one.program.name == program.name && one.child.is_some()) {
            return Err(LabError::NameTaken(program.name));
        }
        self.0.retain(|one| one.program.name != program.name);
        let child = Some(spawn(&program)?);
        self.0.push(Process { program, child });
        Ok(())
    }

    /// Kills the processes that `which` selects, and waits until all are reaped. All signals are
    /// sent before the first wait.
    pub(super) fn kill(&mut self, which: impl Fn(&Program) -> bool) -> Result<Act, LabError> {
        let mut doomed: Vec<_> =
            self.0.iter_mut().filter(|one| one.child.is_some() && which(&one.program)).collect();
        if doomed.is_empty() {
            return Err(LabError::NobodyToKill);
        }
        let before = Nanos::now();
        for one in &doomed {
            one.signal();
        }
        for one in &mut doomed {
            one.reap()?;
        }
        Ok(Act { before, after: Nanos::now() })
    }

    pub(super) fn restart_dead(&mut self, node: &str) -> Result<Act, LabError> {
        let before = Nanos::now();
        let dead = |one: &&mut Process| one.program.node == node && one.child.is_none();
        for one in self.0.iter_mut().filter(dead) {
            one.child = Some(spawn(&one.program)?);
        }
        Ok(Act { before, after: Nanos::now() })
    }

    pub(super) fn exited(&mut self) -> Vec<Exit> {
        let mut exits = Vec::new();
        for one in &mut self.0 {
            let status = one.child.as_mut().and_then(|child| child.try_wait().ok().flatten());
            if let Some(status) = status {
                one.child = None;
                exits.push(Exit { name: one.program.name.clone(), status });
            }
        }
        exits
    }

    pub(super) fn pid_of(&self, name: &str) -> Option<u32> {
        let process = self.0.iter().find(|one| one.program.name == name)?;
        process.child.as_ref().map(Child::id)
    }

    pub(super) fn stdout_of(&mut self, name: &str) -> Option<ChildStdout> {
        let process = self.0.iter_mut().find(|one| one.program.name == name)?;
        process.child.as_mut()?.stdout.take()
    }
}

impl Drop for Crew {
    fn drop(&mut self) {
        // An error means that no process is left to kill.
        let _ = self.kill(|_| true);
    }
}

impl Process {
    fn signal(&self) {
        if let Some(child) = &self.child {
            // A group whose last process has just ended counts as killed.
            let _ = kill_process_group(Pid::from_child(child), Signal::KILL);
        }
    }

    fn reap(&mut self) -> Result<(), LabError> {
        if let Some(mut child) = self.child.take() {
            let name = &self.program.name;
            child.wait().map_err(LabError::step(format!("wait for the end of {name}")))?;
        }
        Ok(())
    }
}

/// Must run on the thread of `within`, which is in the node's namespace; the child inherits it.
fn spawn(program: &Program) -> Result<Child, LabError> {
    let netns = if program.node.is_empty() { NetNs::Here } else { NetNs::named(&program.node) };
    let mut command = command(program)?;
    let name = &program.name;
    netns.within(|| command.spawn())?.map_err(LabError::step(format!("start {name}")))
}

fn command(program: &Program) -> Result<Command, LabError> {
    let name = &program.name;
    let nothing = || {
        io::Error::new(io::ErrorKind::InvalidInput, "the command is empty: expected an executable")
    };
    let step = || LabError::step::<io::Error>(format!("start {name}"));
    let (executable, args) = program.command.split_first().ok_or_else(nothing).map_err(step())?;
    let mut command = Command::new(executable);
    command
        .args(args)
        .envs(program.env.iter().cloned())
        .process_group(0)
        .stdin(Stdio::null())
        .stdout(program.stdout.open().map_err(step())?)
        .stderr(program.stderr.open().map_err(step())?);
    Ok(command)
}

impl Output {
    fn open(&self) -> io::Result<Stdio> {
        Ok(match self {
            Self::Inherit => Stdio::inherit(),
            Self::Null => Stdio::null(),
            Self::File(path) => File::options().create(true).append(true).open(path)?.into(),
            Self::Piped => Stdio::piped(),
        })
    }
}
