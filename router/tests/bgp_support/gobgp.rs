//! GoBGP.

use std::fs::{self, File};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use nearhop::kernel::netns::NetNs;
use serde_json::Value;

use crate::support;

/// A running gobgpd.
pub struct GoBgp {
    child: Child,
    folder: PathBuf,
    netns: String,
}

impl GoBgp {
    /// Starts one in a namespace, and waits until it answers.
    pub fn start(netns: &NetNs, name: &str, config: &str) -> Self {
        let folder = PathBuf::from(format!("/run/gobgp-{name}"));
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("gobgpd.toml"), config).unwrap();
        // Ends with the thread that starts it: with the test, however that ends.
        let mut command = Command::new("setpriv");
        command
            .args(["--pdeathsig", "KILL", "nsenter"])
            .arg(format!("--net={netns}"))
            .args(["gobgpd", "--pprof-disable", "--api-hosts", "127.0.0.1:50051", "-f"])
            .arg(folder.join("gobgpd.toml"))
            .stdin(Stdio::null())
            .stdout(File::create(folder.join("log")).unwrap())
            .stderr(File::create(folder.join("err")).unwrap());
        let child = command.spawn().unwrap();
        let gobgp = Self { child, folder, netns: netns.to_string() };
        support::wait_for("gobgpd to answer", || gobgp.try_ask(&["global"]));
        gobgp
    }

    /// What it answers to a command.
    pub fn ask(&self, command: &[&str]) -> Value {
        self.try_ask(command).unwrap()
    }

    fn try_ask(&self, command: &[&str]) -> Option<Value> {
        let output = Command::new("nsenter")
            .arg(format!("--net={}", self.netns))
            .args(["gobgp", "-j"])
            .args(command)
            .stdin(Stdio::null())
            .output()
            .unwrap();
        serde_json::from_slice(&output.stdout).ok()
    }
}

impl Drop for GoBgp {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            for file in ["log", "err"] {
                eprintln!("{}", fs::read_to_string(self.folder.join(file)).unwrap_or_default());
            }
        }
    }
}
