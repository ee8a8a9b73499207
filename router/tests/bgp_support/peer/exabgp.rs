//! ExaBGP: announces what a test says, and says what it hears, by lines of its API.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::io::Write as _;

use nearhop::kernel::netns::NetNs;
use serde_json::Value;

use super::{Daemon, Offer, Peer, Setup, prefixes_in};
use crate::support;

/// A running ExaBGP.
pub(super) struct ExaBgp {
    daemon: Daemon,
    setup: Setup,
}

impl ExaBgp {
    /// Starts one, and waits until its API takes commands.
    pub(super) fn start(netns: &NetNs, name: &str, setup: &Setup) -> Self {
        let folder = Daemon::folder(&format!("exabgp-{name}"));
        let path = |file: &str| folder.join(file).to_str().unwrap().to_owned();
        let conf = path("exabgp.conf");
        support::run(&format!("mkfifo {}", path("in")));
        // Open both ways, the pipe has no end that closes. The reader ends with the shell.
        let script = format!(
            "exec 3<>{}\nsetpriv --pdeathsig KILL cat <&3 &\nexec cat >>{}\n",
            path("in"),
            path("events")
        );
        fs::write(path("api.sh"), script).unwrap();
        fs::write(&conf, config(setup, &path("api.sh"))).unwrap();
        let env = [
            ("exabgp.daemon.user", "root"),
            ("exabgp.api.cli", "false"),
            ("exabgp.api.ack", "false"),
            ("exabgp.log.destination", "stderr"),
            ("exabgp.tcp.bind", setup.local),
            ("exabgp.tcp.port", "179"),
        ];
        let daemon = Daemon::run(netns, folder.clone(), &env, &["exabgp", &conf]);
        support::wait_for("ExaBGP's API", || folder.join("events").exists().then_some(()));
        Self { daemon, setup: setup.clone() }
    }

    /// Says a line to its API, such as `announce route ...`.
    fn say(&self, line: &str) {
        let mut pipe = fs::File::options().write(true).open(self.daemon.folder.join("in")).unwrap();
        writeln!(pipe, "{line}").unwrap();
    }

    /// What it heard, oldest first.
    fn events(&self) -> Vec<Value> {
        let text = fs::read_to_string(self.daemon.folder.join("events")).unwrap_or_default();
        text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
    }

    fn change(&self, verb: &str, offer: &Offer) {
        let hop = if offer.is_v6() { self.setup.local_v6 } else { self.setup.local };
        let mut line = format!("{verb} route {} next-hop {hop}", offer.prefix);
        if let Some(large) = offer.large_community {
            let _ = write!(line, " large-community [ {large} ]");
        }
        self.say(&line);
    }
}

impl Peer for ExaBgp {
    fn is_up(&self) -> bool {
        let mut states = self.events().into_iter().filter(|event| event["type"] == "state");
        states.next_back().is_some_and(|event| event["neighbor"]["state"] == "up")
    }

    fn learned(&self) -> BTreeSet<String> {
        let mut all = BTreeSet::new();
        for event in self.events() {
            if event["type"] == "state" {
                all.clear();
            }
            let update = &event["neighbor"]["message"]["update"];
            for (_, gone) in update["withdraw"].as_object().into_iter().flatten() {
                let gone = prefixes_in(&gone.to_string());
                all.retain(|prefix| !gone.contains(prefix));
            }
            for (_, came) in update["announce"].as_object().into_iter().flatten() {
                all.extend(prefixes_in(&came.to_string()));
            }
        }
        all
    }

    fn offer(&mut self, offers: &[Offer]) {
        let gone = self.setup.offers.iter().filter(|offer| !offers.contains(offer));
        gone.for_each(|offer| self.change("withdraw", offer));
        for offer in offers {
            self.change("announce", offer);
        }
        self.setup.offers = offers.to_vec();
    }

    fn ask_again(&mut self) -> bool {
        self.say("announce route-refresh ipv4 unicast");
        self.say("announce route-refresh ipv6 unicast");
        true
    }

    fn updates(&self) -> u64 {
        let is_route = |event: &&Value| {
            event["neighbor"]["message"]["update"]["announce"].as_object().is_some()
        };
        self.events().iter().filter(is_route).count() as u64
    }

    /// It sends no text.
    fn shut(&mut self, _words: &str) -> bool {
        false
    }

    fn report(&self) -> String {
        let events = fs::read_to_string(self.daemon.folder.join("events")).unwrap_or_default();
        events + &self.daemon.log()
    }

    fn kill(&mut self) {
        self.daemon.kill();
    }
}

fn config(setup: &Setup, script: &str) -> String {
    let Setup { local, local_v6, remote, asn, remote_as, .. } = setup;
    let mut text = format!(
        "process api {{ run /bin/sh {script}; encoder json; }}\n\
         neighbor {remote} {{ router-id {local}; local-address {local}; local-as {asn}; \
         peer-as {remote_as}; hold-time 9;\n\
         family {{ ipv4 unicast; ipv6 unicast; }}\n"
    );
    let add_path = if setup.add_path { "add-path send/receive;" } else { "" };
    let _ = writeln!(text, "capability {{ route-refresh; {add_path} }}");
    if setup.gtsm {
        text.push_str("outgoing-ttl 255; incoming-ttl 255;\n");
    }
    text.push_str(
        "api { processes [ api ]; neighbor-changes; \
         receive { parsed; update; notification; refresh; } }\nstatic {\n",
    );
    for offer in &setup.offers {
        let hop = if offer.is_v6() { local_v6 } else { local };
        let large = offer.large_community.map(|large| format!(" large-community [ {large} ]"));
        let large = large.unwrap_or_default();
        let originator = offer.originator.map(|id| format!(" originator-id {id}"));
        let originator = originator.unwrap_or_default();
        let path = if setup.add_path { " path-information 0.0.0.1" } else { "" };
        let _ = writeln!(text, "route {} next-hop {hop}{large}{originator}{path};", offer.prefix);
    }
    text + "}\n}\n"
}
