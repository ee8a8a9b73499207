//! BIRD 2.

use std::fs;

use nearhop::kernel::netns::NetNs;

use super::daemon::Daemon;
use crate::support;

/// A running BIRD 2.
pub struct Bird {
    pub daemon: Daemon,
}

impl Bird {
    /// Starts one in a namespace, with this configuration, and waits until it answers.
    pub fn start(netns: &NetNs, name: &str, config: &str) -> Self {
        let folder = Daemon::folder(&format!("bird-{name}"));
        fs::write(folder.join("bird.conf"), config).unwrap();
        let path = |file: &str| folder.join(file).to_str().unwrap().to_owned();
        let (conf, ctl, pid) = (path("bird.conf"), path("bird.ctl"), path("bird.pid"));
        let words = ["/usr/sbin/bird", "-f", "-c", &conf, "-s", &ctl, "-P", &pid];
        let bird = Self { daemon: Daemon::run(netns, folder.clone(), &[], &words) };
        support::wait_for("BIRD to answer", || bird.try_ask(&["show", "status"]).map(drop));
        bird
    }

    /// What it answers to a command of birdc.
    pub fn ask(&self, command: &str) -> String {
        self.try_ask(&command.split(' ').collect::<Vec<_>>()).unwrap()
    }

    /// As [`Self::ask`]; `None` if it does not answer.
    pub fn try_ask(&self, words: &[&str]) -> Option<String> {
        let socket = self.daemon.path("bird.ctl");
        self.daemon.ask(&[&["/usr/sbin/birdc", "-s", &socket], words].concat())
    }

    /// Reads another configuration.
    pub fn configure(&self, config: &str) {
        fs::write(self.daemon.folder.join("bird.conf"), config).unwrap();
        self.ask("configure");
    }

    /// Dies without a word.
    pub fn kill(&mut self) {
        self.daemon.kill();
    }
}
