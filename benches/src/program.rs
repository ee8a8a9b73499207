//! Other routers as processes: BIRD, and what FRR's daemons need, each in a namespace with a folder of its own.
#![forbid(unsafe_code)]

use std::fs::{self, File};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use nearhop::kernel::netns::NetNs;
use nearlab::lab::wait_for;

use crate::report::BenchError;

/// A process in a namespace. It ends with this value, or with this program.
pub struct Program {
    child: Child,
}

impl Program {
    /// Starts it; what it prints goes to the file `log`.
    pub fn start(netns: &NetNs, log: &PathBuf, words: &[&str]) -> Result<Self, BenchError> {
        let log = File::create(log).map_err(BenchError::environment)?;
        let output = log.try_clone().map_err(BenchError::environment)?;
        let mut command = inside(netns, words);
        command.stdout(output).stderr(log);
        Ok(Self { child: command.spawn().map_err(BenchError::environment)? })
    }

    /// Its number.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// SIGKILL; returns once the process is gone.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        self.kill();
    }
}

/// A running BIRD 2.
pub struct Bird {
    program: Program,
    netns: NetNs,
    folder: PathBuf,
}

impl Bird {
    /// Starts one, in real time if that is wished, and waits until it answers.
    pub fn start(
        netns: &NetNs,
        name: &str,
        config: &str,
        in_real_time: bool,
    ) -> Result<Self, BenchError> {
        let folder = folder(name)?;
        let path = |file: &str| folder.join(file).display().to_string();
        fs::write(path("bird.conf"), config).map_err(BenchError::environment)?;
        let (conf, socket, pid) = (path("bird.conf"), path("bird.ctl"), path("bird.pid"));
        let first: &[&str] = if in_real_time { &["chrt", "-f", "1"] } else { &[] };
        let bird = ["bird", "-f", "-c", &conf, "-s", &socket, "-P", &pid];
        let words = [first, &bird].concat();
        let program = Program::start(netns, &folder.join("out"), &words)?;
        let bird = Self { program, netns: netns.clone(), folder };
        wait_for("BIRD to answer", ANSWERS_WITHIN, || bird.ask("show status")).map_err(
            |error| BenchError::environment(format!("{error}; it said: {}", bird.said())),
        )?;
        Ok(bird)
    }

    /// What it answers to a command of birdc.
    pub fn ask(&self, command: &str) -> Result<String, String> {
        let socket = self.folder.join("bird.ctl").display().to_string();
        let mut words = vec!["birdc", "-s", &socket];
        words.extend(command.split(' '));
        ask(&self.netns, &words)
    }

    /// How many routes of both families it has.
    ///
    /// # Errors
    /// It does not answer.
    pub fn routes(&self) -> Result<usize, String> {
        let text = self.ask("show route count")?;
        let counts = text.lines().filter_map(|line| {
            // 849191 of 849191 routes for 849191 networks in table master4
            line.split_whitespace()
                .next()?
                .parse::<usize>()
                .ok()
                .filter(|_| line.contains(" in table "))
        });
        Ok(counts.sum())
    }

    /// Everything it has printed, and logged if its configuration begins with [`LOG`].
    pub fn said(&self) -> String {
        fs::read_to_string(self.folder.join("out")).unwrap_or_default()
    }

    /// Its process.
    pub fn pid(&self) -> u32 {
        self.program.pid()
    }

    /// As [`Program::kill`].
    pub fn kill(&mut self) {
        self.program.kill();
    }
}

/// The line of BIRD's configuration by which [`Bird::said`] has what it logs.
pub const LOG: &str = "log stderr all;\n";

/// A folder for the files of a program, empty.
pub fn folder(name: &str) -> Result<PathBuf, BenchError> {
    let folder = PathBuf::from("/run").join(name);
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir_all(&folder).map_err(BenchError::environment)?;
    Ok(folder)
}

/// What a command prints in a namespace.
pub fn ask(netns: &NetNs, words: &[&str]) -> Result<String, String> {
    let output = inside(netns, words).output().map_err(|error| error.to_string())?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    if output.status.success() { Ok(text) } else { Err(text + &error) }
}

fn inside(netns: &NetNs, words: &[&str]) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL", "nsenter"]).arg(format!("--net={netns}")).args(words);
    command.env("PATH", PATH).stdin(Stdio::null());
    command
}

/// Where daemons are too.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin:/usr/lib/frr";
const ANSWERS_WITHIN: Duration = Duration::from_secs(20);
