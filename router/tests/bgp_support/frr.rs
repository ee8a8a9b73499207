//! FRR's bgpd, without zebra.

use std::fs::{self, File};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use nearhop::kernel::netns::NetNs;
use serde_json::Value;

use crate::support;

/// A running bgpd.
pub struct Frr {
    child: Child,
    folder: PathBuf,
}

impl Frr {
    /// Starts one in a namespace, and waits until it answers.
    pub fn start(netns: &NetNs, name: &str, config: &str) -> Self {
        let folder = PathBuf::from(format!("/run/frr-{name}"));
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("bgpd.conf"), config).unwrap();
        // Ends with the thread that starts it: with the test, however that ends.
        let mut command = Command::new("setpriv");
        command
            .args(["--pdeathsig", "KILL", "nsenter"])
            .arg(format!("--net={netns}"))
            .args(["/usr/lib/frr/bgpd", "--no_zebra", "--skip_runas", "-f"])
            .arg(folder.join("bgpd.conf"))
            .arg("-i")
            .arg(folder.join("pid"))
            .arg("--vty_socket")
            .arg(&folder)
            .stdin(Stdio::null())
            .stdout(File::create(folder.join("out")).unwrap())
            .stderr(File::create(folder.join("log")).unwrap());
        let child = command.spawn().unwrap();
        let frr = Self { child, folder };
        support::wait_for("bgpd to answer", || frr.try_ask("show bgp ipv4 unicast json"));
        frr
    }

    /// What it answers to a command that answers with JSON.
    pub fn ask(&self, command: &str) -> Value {
        self.try_ask(command).unwrap()
    }

    fn try_ask(&self, command: &str) -> Option<Value> {
        let output = Command::new("vtysh")
            .arg("--vty_socket")
            .arg(&self.folder)
            .args(["-d", "bgpd", "-c", command])
            .stdin(Stdio::null())
            .output()
            .unwrap();
        serde_json::from_slice(&output.stdout).ok()
    }
}

impl Drop for Frr {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            for file in ["log", "out"] {
                eprintln!("{}", fs::read_to_string(self.folder.join(file)).unwrap_or_default());
            }
        }
    }
}
