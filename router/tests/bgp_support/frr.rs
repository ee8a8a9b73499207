//! FRR's bgpd, without zebra.

use std::fs;

use nearhop::kernel::netns::NetNs;
use serde_json::Value;

use super::daemon::Daemon;
use crate::support;

/// A running bgpd.
pub struct Frr {
    pub daemon: Daemon,
}

impl Frr {
    /// Starts one in a namespace, and waits until it answers.
    pub fn start(netns: &NetNs, name: &str, config: &str) -> Self {
        Self::start_with(netns, name, config, &[])
    }

    /// As [`Self::start`], with more words on its command line.
    pub fn start_with(netns: &NetNs, name: &str, config: &str, more: &[&str]) -> Self {
        let folder = Daemon::folder(&format!("frr-{name}"));
        let path = |file: &str| folder.join(file).to_str().unwrap().to_owned();
        let (conf, pid, socket) = (path("bgpd.conf"), path("bgpd.pid"), path("zserv.api"));
        fs::write(&conf, config).unwrap();
        let vty = folder.to_str().unwrap().to_owned();
        // As who starts it, without the kernel's table, without zebra, without a port for commands.
        let files = ["-f", &conf, "-i", &pid, "--vty_socket", &vty, "-z", &socket];
        let words =
            [&["/usr/lib/frr/bgpd", "-S", "-n", "-Z", "-P", "0"], &files[..], more].concat();
        let frr = Self { daemon: Daemon::run(netns, folder.clone(), &[], &words) };
        support::wait_for("bgpd to answer", || frr.try_ask(&["show bgp summary json"]));
        frr
    }

    /// What it answers to a command that answers with JSON; null if it does not.
    pub fn ask(&self, command: &str) -> Value {
        let text = self.try_ask(&[command]).unwrap_or_default();
        serde_json::from_str(&text).unwrap_or_default()
    }

    /// What it prints for commands one after the other; `None` if one fails.
    pub fn try_ask(&self, commands: &[&str]) -> Option<String> {
        let vty = self.daemon.folder.to_str().unwrap();
        let mut words = vec!["vtysh", "--vty_socket", vty, "-d", "bgpd"];
        words.extend(commands.iter().flat_map(|command| ["-c", command]));
        self.daemon.ask(&words)
    }
}
