//! ExaBGP, which says what it is given by lines.

use std::fs::{self, File};
use std::io::Write as _;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use nearhop::kernel::netns::NetNs;

/// A running ExaBGP.
pub struct ExaBgp {
    child: Child,
    commands: File,
    folder: PathBuf,
}

impl ExaBgp {
    /// Starts one in a namespace. `neighbors` is the text of its neighbours, each of which has an
    /// `api { processes [ test ]; }`.
    pub fn start(netns: &NetNs, name: &str, neighbors: &str) -> Self {
        let folder = PathBuf::from(format!("/run/exabgp-{name}"));
        fs::create_dir_all(&folder).unwrap();
        let pipe = folder.join("commands");
        rustix::fs::mkfifoat(rustix::fs::CWD, &pipe, 0o600.into()).unwrap();
        let text = format!(
            "process test {{ run /bin/cat {}; encoder text; }}\n{neighbors}",
            pipe.display()
        );
        fs::write(folder.join("exabgp.conf"), text).unwrap();
        // Ends with the thread that starts it: with the test, however that ends.
        let mut command = Command::new("setpriv");
        command
            .args(["--pdeathsig", "KILL", "nsenter"])
            .arg(format!("--net={netns}"))
            .args(["/usr/sbin/exabgp".into(), folder.join("exabgp.conf")])
            .env("exabgp_daemon_user", "root")
            .env("exabgp_daemon_drop", "false")
            .env("exabgp_api_cli", "false")
            .env("exabgp_api_ack", "false")
            .env("exabgp_cache_attributes", "false")
            .env("exabgp_log_destination", "stderr")
            .stdin(Stdio::null())
            .stdout(File::create(folder.join("out")).unwrap())
            .stderr(File::create(folder.join("log")).unwrap());
        let child = command.spawn().unwrap();
        // Opens once its process reads.
        let commands = File::options().write(true).open(pipe).unwrap();
        Self { child, commands, folder }
    }

    /// Gives it a command of its API.
    pub fn say(&mut self, command: &str) {
        writeln!(self.commands, "{command}").unwrap();
    }
}

impl Drop for ExaBgp {
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
