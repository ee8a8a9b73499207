//! OpenBGPD: bgpd, and its command bgpctl.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;

use nearhop::kernel::netns::NetNs;

use super::{Daemon, Offer, Peer, Setup, prefixes_in};
use crate::support;

/// A running bgpd of OpenBGPD.
pub(super) struct OpenBgpd {
    daemon: Daemon,
    setup: Setup,
}

impl OpenBgpd {
    pub(super) fn start(netns: &NetNs, name: &str, setup: &Setup) -> Self {
        // Its engines have this as their root.
        fs::create_dir_all("/run/openbgpd").unwrap();
        let folder = Daemon::folder(&format!("openbgpd-{name}"));
        let conf = folder.join("bgpd.conf").to_str().unwrap().to_owned();
        let socket = folder.join("bgpd.sock").to_str().unwrap().to_owned();
        write(&conf, &config(setup, &socket));
        let daemon = Daemon::run(netns, folder, &[], &["/usr/sbin/bgpd", "-d", "-v", "-f", &conf]);
        let peer = Self { daemon, setup: setup.clone() };
        support::wait_for("bgpd to answer", || peer.ask(&["show", "summary"]));
        peer
    }

    fn ask(&self, words: &[&str]) -> Option<String> {
        let socket = self.daemon.path("bgpd.sock");
        self.daemon.ask(&[&["/usr/sbin/bgpctl", "-s", &socket], words].concat())
    }

    fn neighbor(&self) -> serde_json::Value {
        let text = self.ask(&["-j", "show", "neighbor", self.setup.remote]).unwrap_or_default();
        let value: serde_json::Value = serde_json::from_str(&text).unwrap_or_default();
        value["neighbors"][0].clone()
    }
}

impl Peer for OpenBgpd {
    fn is_up(&self) -> bool {
        self.neighbor()["state"] == "Established"
    }

    fn learned(&self) -> BTreeSet<String> {
        let words = ["-j", "show", "rib", "neighbor", self.setup.remote];
        let text = self.ask(&words).unwrap_or_default();
        let value: serde_json::Value = serde_json::from_str(&text).unwrap_or_default();
        let routes = value["rib"].as_array().into_iter().flatten();
        routes.flat_map(|route| prefixes_in(route["prefix"].as_str().unwrap_or(""))).collect()
    }

    fn offer(&mut self, offers: &[Offer]) {
        self.setup.offers = offers.to_vec();
        write(&self.daemon.path("bgpd.conf"), &config(&self.setup, &self.daemon.path("bgpd.sock")));
        self.ask(&["reload"]).unwrap();
    }

    fn ask_again(&mut self) -> bool {
        self.ask(&["neighbor", self.setup.remote, "refresh"]).unwrap();
        true
    }

    fn updates(&self) -> u64 {
        self.neighbor()["stats"]["update"]["received"]["updates"].as_u64().unwrap_or(0)
    }

    fn shut(&mut self, words: &str) -> bool {
        self.ask(&["neighbor", self.setup.remote, "down", words]).is_some()
    }

    fn report(&self) -> String {
        self.neighbor().to_string() + &self.daemon.log()
    }

    fn kill(&mut self) {
        self.daemon.kill();
    }
}

/// It takes no configuration that others may read or write.
fn write(path: &str, text: &str) {
    use std::os::unix::fs::PermissionsExt as _;
    fs::write(path, text).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
}

fn config(setup: &Setup, socket: &str) -> String {
    let Setup { local, local_v6, remote, asn, remote_as, .. } = setup;
    let mut text = format!(
        "AS {asn}\nsocket \"{socket}\"\nrouter-id {local}\nfib-update no\nholdtime 9\n\
         connect-retry 2\nlisten on {local}\n"
    );
    for offer in &setup.offers {
        let hop = if offer.is_v6() { local_v6 } else { local };
        let large = offer.large_community.map(|large| format!(" large-community {large}"));
        let large = large.unwrap_or_default();
        let _ = writeln!(text, "network {} set {{ nexthop {hop}{large} }}", offer.prefix);
    }
    let _ = write!(
        text,
        "neighbor {remote} {{\n remote-as {remote_as}\n local-address {local}\n \
         announce IPv4 unicast\n announce IPv6 unicast\n announce refresh yes\n \
         announce enhanced refresh yes\n"
    );
    if setup.gtsm {
        text.push_str(" ttl-security yes\n");
    }
    if setup.reflects {
        text.push_str(" route-reflector\n");
    }
    if let Some(role) = setup.role {
        let _ = writeln!(text, " announce policy {}", role.replace("route-server", "rs"));
    }
    if setup.add_path {
        text.push_str(" announce add-path recv yes\n announce add-path send all\n");
    }
    if let Some(max) = setup.max_prefixes {
        let _ = writeln!(text, " max-prefix {max}");
    }
    text + "}\nallow from any\nallow to any\n"
}
