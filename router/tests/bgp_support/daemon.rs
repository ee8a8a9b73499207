//! A program that runs in a namespace, with all its files in a folder of its own.

use std::fs;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use nearhop::kernel::netns::NetNs;

/// A process in a namespace, with a folder for its files and its log.
pub struct Daemon {
    child: Child,
    pub folder: PathBuf,
    netns: String,
}

impl Daemon {
    /// A folder of its own under /run, which is the test's.
    pub fn folder(name: &str) -> PathBuf {
        let folder = PathBuf::from("/run").join(name);
        fs::create_dir_all(&folder).unwrap();
        folder
    }

    /// Runs a program; it ends with the thread that starts it: with the test, however that ends.
    pub fn run(netns: &NetNs, folder: PathBuf, env: &[(&str, &str)], words: &[&str]) -> Self {
        let log = fs::File::create(folder.join("log")).unwrap();
        let netns = netns.to_string();
        let mut command = inside(&netns, words);
        command.envs(env.iter().copied()).stdin(Stdio::null());
        command.stdout(log.try_clone().unwrap()).stderr(log);
        Self { child: command.spawn().unwrap(), folder, netns }
    }

    /// What a command in the same namespace prints; `None` if it fails.
    pub fn ask(&self, words: &[&str]) -> Option<String> {
        let output = inside(&self.netns, words).stdin(Stdio::null()).output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        output.status.success().then_some(text)
    }

    pub fn log(&self) -> String {
        fs::read_to_string(self.folder.join("log")).unwrap_or_default()
    }

    /// The process.
    pub fn child(&self) -> &Child {
        &self.child
    }

    pub fn path(&self, name: &str) -> String {
        self.folder.join(name).to_str().unwrap().to_owned()
    }

    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        self.kill();
        if std::thread::panicking() {
            eprintln!("{}", self.log());
        }
    }
}

/// A command in a namespace.
pub fn inside(netns: &str, words: &[&str]) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL", "nsenter"]).arg(format!("--net={netns}")).args(words);
    command
}
