//! BGP routers that nobody here wrote, in the namespaces of one test.
#![allow(dead_code)] // each test binary uses its own part

pub mod exabgp;
pub mod frr;
pub mod gobgp;
pub mod peer;
pub mod speaker;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use nearhop::kernel::netns::NetNs;

use crate::support;

/// Why a program cannot be used; `None` if it is there.
pub fn missing(program: &str, package: &str) -> Option<String> {
    let path = "/usr/local/sbin:/usr/sbin:/sbin:/usr/local/bin:/usr/bin:/bin";
    let is_there = path.split(':').any(|folder| Path::new(folder).join(program).exists());
    (!is_there).then(|| format!("{program} is not there (package {package})"))
}

/// A running BIRD 2.
pub struct Bird {
    child: Child,
    folder: PathBuf,
}

impl Bird {
    /// Starts one in a namespace, with this configuration, and waits until it answers.
    pub fn start(netns: &NetNs, name: &str, config: &str) -> Self {
        let folder = PathBuf::from(format!("/run/bird-{name}"));
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("bird.conf"), config).unwrap();
        let log = fs::File::create(folder.join("log")).unwrap();
        // Ends with the thread that starts it: with the test, however that ends.
        let mut command = Command::new("setpriv");
        command
            .args(["--pdeathsig", "KILL", "nsenter"])
            .arg(format!("--net={netns}"))
            .args(["/usr/sbin/bird", "-f"])
            .arg("-c")
            .arg(folder.join("bird.conf"))
            .arg("-s")
            .arg(folder.join("bird.ctl"))
            .arg("-P")
            .arg(folder.join("bird.pid"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log);
        let child = command.spawn().unwrap();
        let bird = Self { child, folder };
        support::wait_for("BIRD to answer", || bird.try_ask("show status").map(drop));
        bird
    }

    /// What it answers to a command of birdc.
    pub fn ask(&self, command: &str) -> String {
        self.try_ask(command).unwrap()
    }

    fn try_ask(&self, command: &str) -> Option<String> {
        let output = Command::new("/usr/sbin/birdc")
            .arg("-s")
            .arg(self.folder.join("bird.ctl"))
            .args(command.split(' '))
            .stdin(Stdio::null())
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        output.status.success().then_some(text)
    }

    /// Reads another configuration.
    pub fn configure(&self, config: &str) {
        fs::write(self.folder.join("bird.conf"), config).unwrap();
        self.ask("configure");
    }

    /// Dies without a word.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Bird {
    fn drop(&mut self) {
        self.kill();
        if std::thread::panicking() {
            eprintln!("{}", fs::read_to_string(self.folder.join("log")).unwrap_or_default());
        }
    }
}
