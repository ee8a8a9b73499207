//! BIRD 2.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;

use nearhop::kernel::netns::NetNs;

use super::{Daemon, Offer, Peer, Setup, prefixes_in};
use crate::support;

/// A running BIRD 2, which speaks with the router as protocol `r1`.
pub(super) struct Bird {
    daemon: Daemon,
    setup: Setup,
}

impl Bird {
    pub(super) fn start(netns: &NetNs, name: &str, setup: &Setup) -> Self {
        let folder = Daemon::folder(&format!("bird-{name}"));
        fs::write(folder.join("bird.conf"), config(setup)).unwrap();
        let path = |file: &str| folder.join(file).to_str().unwrap().to_owned();
        let (conf, ctl, pid) = (path("bird.conf"), path("bird.ctl"), path("bird.pid"));
        let words = ["/usr/sbin/bird", "-f", "-c", &conf, "-s", &ctl, "-P", &pid];
        let daemon = Daemon::run(netns, folder.clone(), &[], &words);
        let bird = Self { daemon, setup: setup.clone() };
        support::wait_for("BIRD to answer", || bird.try_ask(&["show", "status"]).map(drop));
        bird
    }

    fn ask(&self, command: &str) -> String {
        self.try_ask(&command.split(' ').collect::<Vec<_>>()).unwrap()
    }

    fn try_ask(&self, words: &[&str]) -> Option<String> {
        let socket = self.daemon.path("bird.ctl");
        self.daemon.ask(&[&["/usr/sbin/birdc", "-s", &socket], words].concat())
    }
}

impl Peer for Bird {
    fn is_up(&self) -> bool {
        self.ask("show protocols r1").contains("Established")
    }

    fn learned(&self) -> BTreeSet<String> {
        prefixes_in(&self.ask("show route protocol r1"))
    }

    fn offer(&mut self, offers: &[Offer]) {
        self.setup.offers = offers.to_vec();
        fs::write(self.daemon.folder.join("bird.conf"), config(&self.setup)).unwrap();
        self.ask("configure");
    }

    fn ask_again(&mut self) -> bool {
        self.ask("reload in r1");
        true
    }

    fn updates(&self) -> u64 {
        // Received, rejected, filtered, ignored, accepted: of each family.
        let state = self.ask("show protocols all r1");
        let lines = state.lines().filter_map(|line| line.trim().strip_prefix("Import updates:"));
        lines.filter_map(|line| line.split_whitespace().next()?.parse::<u64>().ok()).sum()
    }

    fn shut(&mut self, words: &str) -> bool {
        self.try_ask(&["disable", "r1", &format!("\"{words}\"")]).is_some()
    }

    fn report(&self) -> String {
        self.ask("show protocols all r1") + &self.daemon.log()
    }

    fn kill(&mut self) {
        self.daemon.kill();
    }
}

fn config(setup: &Setup) -> String {
    let Setup { local, local_v6, remote, asn, remote_as, .. } = setup;
    let mut text = format!("router id {local};\nlog stderr all;\nprotocol device {{}}\n");
    for (family, is_v6) in [("ipv4", false), ("ipv6", true)] {
        let _ = writeln!(text, "protocol static s_{family} {{ {family};");
        for offer in setup.offers.iter().filter(|offer| offer.is_v6() == is_v6) {
            let _ = write!(text, "route {} unreachable", offer.prefix);
            if let Some(large) = offer.large_community {
                let large = large.replace(':', ", ");
                let _ = write!(text, " {{ bgp_large_community.add(({large})); }}");
            }
            text.push_str(";\n");
        }
        text.push_str("}\n");
    }
    let _ = write!(
        text,
        "protocol bgp r1 {{ local {local} as {asn}; neighbor {remote} as {remote_as};\n\
         hold time 9; connect delay time 1; connect retry time 2; error wait time 1, 2; debug all;\n"
    );
    if setup.gtsm {
        text.push_str("ttl security on;\n");
    }
    if setup.reflects {
        text.push_str("rr client;\n");
    }
    if let Some(role) = setup.role {
        let role = role.replace('-', "_");
        let _ = writeln!(text, "local role {role};");
    }
    let add_path = if setup.add_path { "add paths on;" } else { "" };
    let limit = setup.max_prefixes.map(|max| format!("receive limit {max} action disable;"));
    let limit = limit.unwrap_or_default();
    for (family, hop) in [("ipv4", local), ("ipv6", local_v6)] {
        let _ = writeln!(
            text,
            "{family} {{ import all; export where proto = \"s_{family}\"; next hop address {hop}; \
             {add_path} {limit} }};"
        );
    }
    text + "}\n"
}
