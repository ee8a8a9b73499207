//! ExaBGP, which says what it is given by lines.

use std::fs::{self, File};
use std::io::Write as _;

use nearhop::kernel::netns::NetNs;

use super::daemon::Daemon;

/// A running ExaBGP.
pub struct ExaBgp {
    _daemon: Daemon,
    commands: File,
}

impl ExaBgp {
    /// Starts one in a namespace. `neighbors` is the text of its neighbours, each of which has an
    /// `api { processes [ test ]; }`.
    pub fn start(netns: &NetNs, name: &str, neighbors: &str) -> Self {
        let folder = Daemon::folder(&format!("exabgp-{name}"));
        let pipe = folder.join("commands");
        rustix::fs::mkfifoat(rustix::fs::CWD, &pipe, 0o600.into()).unwrap();
        let text = format!(
            "process test {{ run /bin/cat {}; encoder text; }}\n{neighbors}",
            pipe.display()
        );
        fs::write(folder.join("exabgp.conf"), text).unwrap();
        let env = [
            ("exabgp_daemon_user", "root"),
            ("exabgp_daemon_drop", "false"),
            ("exabgp_api_cli", "false"),
            ("exabgp_api_ack", "false"),
            ("exabgp_cache_attributes", "false"),
            ("exabgp_log_destination", "stderr"),
        ];
        let conf = folder.join("exabgp.conf").to_str().unwrap().to_owned();
        let daemon = Daemon::run(netns, folder, &env, &["/usr/sbin/exabgp", &conf]);
        // Opens once its process reads.
        let commands = File::options().write(true).open(pipe).unwrap();
        Self { _daemon: daemon, commands }
    }

    /// Gives it a command of its API.
    pub fn say(&mut self, command: &str) {
        writeln!(self.commands, "{command}").unwrap();
    }
}
