//! GoBGP.

use std::fs;

use nearhop::kernel::netns::NetNs;
use serde_json::Value;

use super::daemon::Daemon;
use crate::support;

/// A running gobgpd.
pub struct GoBgp {
    pub daemon: Daemon,
}

impl GoBgp {
    /// Starts one in a namespace, and waits until it answers.
    pub fn start(netns: &NetNs, name: &str, config: &str) -> Self {
        let folder = Daemon::folder(&format!("gobgp-{name}"));
        let conf = folder.join("gobgpd.toml").to_str().unwrap().to_owned();
        fs::write(&conf, config).unwrap();
        let words = "-t toml -l debug --pprof-disable --api-hosts 127.0.0.1:50051";
        let words: Vec<&str> =
            ["gobgpd", "-f", &conf].into_iter().chain(words.split(' ')).collect();
        let gobgp = Self { daemon: Daemon::run(netns, folder, &[], &words) };
        support::wait_for("gobgpd to answer", || gobgp.try_ask(&["neighbor"]));
        gobgp
    }

    /// What it answers to a command, as JSON; null if it does not.
    pub fn ask(&self, command: &[&str]) -> Value {
        let text = self.try_ask(&[&["-j"], command].concat()).unwrap_or_default();
        serde_json::from_str(&text).unwrap_or_default()
    }

    /// What it prints for a command; `None` if that fails.
    pub fn try_ask(&self, command: &[&str]) -> Option<String> {
        self.daemon.ask(&[&["gobgp"], command].concat())
    }
}
