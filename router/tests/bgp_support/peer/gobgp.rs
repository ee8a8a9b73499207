//! GoBGP: gobgpd, and its command gobgp.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use nearhop::kernel::netns::NetNs;

use super::{Offer, Peer, Setup, prefixes_in};
use crate::bgp_support::gobgp;

/// A running gobgpd.
pub(super) struct GoBgp {
    gobgp: gobgp::GoBgp,
    setup: Setup,
}

impl GoBgp {
    pub(super) fn start(netns: &NetNs, name: &str, setup: &Setup) -> Self {
        let gobgp = gobgp::GoBgp::start(netns, name, &config(setup));
        let peer = Self { gobgp, setup: setup.clone() };
        setup.offers.iter().for_each(|offer| peer.change("add", offer));
        peer
    }

    fn ask(&self, command: &str) -> Option<String> {
        self.gobgp.try_ask(&command.split(' ').collect::<Vec<_>>())
    }

    fn change(&self, verb: &str, offer: &Offer) {
        let (family, hop) =
            if offer.is_v6() { ("ipv6", self.setup.local_v6) } else { ("ipv4", self.setup.local) };
        let mut command = format!("global rib -a {family} {verb} {}", offer.prefix);
        if verb == "add" {
            let _ = write!(command, " nexthop {hop}");
        }
        if let Some(large) = offer.large_community.filter(|_| verb == "add") {
            let _ = write!(command, " large-community {large}");
        }
        self.ask(&command).unwrap();
    }

    fn neighbor(&self) -> serde_json::Value {
        self.gobgp.ask(&["neighbor"])[0].clone()
    }
}

impl Peer for GoBgp {
    fn is_up(&self) -> bool {
        // 6 is Established in its API.
        self.neighbor()["state"]["session_state"] == 6
    }

    fn learned(&self) -> BTreeSet<String> {
        let table = |family| {
            let remote = self.setup.remote;
            self.ask(&format!("neighbor {remote} adj-in -a {family}")).unwrap_or_default()
        };
        prefixes_in(&(table("ipv4") + &table("ipv6")))
    }

    fn offer(&mut self, offers: &[Offer]) {
        let gone = self.setup.offers.iter().filter(|offer| !offers.contains(offer));
        gone.for_each(|offer| self.change("del", offer));
        for offer in offers {
            self.change("add", offer);
        }
        self.setup.offers = offers.to_vec();
    }

    /// Its `softresetin` judges what it has again, and asks nobody.
    fn ask_again(&mut self) -> bool {
        false
    }

    fn updates(&self) -> u64 {
        let received = &self.neighbor()["state"]["messages"]["received"]["update"];
        let text = received.as_str().and_then(|text| text.parse().ok());
        received.as_u64().or(text).unwrap_or(0)
    }

    fn shut(&mut self, words: &str) -> bool {
        let remote = self.setup.remote;
        let reason = format!("--reason={words}");
        self.gobgp.try_ask(&["neighbor", remote, "shutdown", &reason]).is_some()
    }

    fn report(&self) -> String {
        self.neighbor().to_string() + &self.gobgp.daemon.log()
    }

    fn kill(&mut self) {
        self.gobgp.daemon.kill();
    }
}

fn config(setup: &Setup) -> String {
    let Setup { local, remote, asn, remote_as, .. } = setup;
    let mut text = format!(
        "[global.config]\nas = {asn}\nrouter-id = \"{local}\"\n\
         [[neighbors]]\n[neighbors.config]\nneighbor-address = \"{remote}\"\npeer-as = {remote_as}\n\
         [neighbors.timers.config]\nhold-time = 9\nkeepalive-interval = 3\nconnect-retry = 1\n\
         idle-hold-time-after-reset = 1\n\
         [neighbors.transport.config]\nlocal-address = \"{local}\"\n"
    );
    if setup.gtsm {
        text.push_str("[neighbors.ttl-security.config]\nenabled = true\nttl-min = 255\n");
    }
    if setup.reflects {
        let _ = write!(
            text,
            "[neighbors.route-reflector.config]\nroute-reflector-client = true\n\
             route-reflector-cluster-id = \"{local}\"\n"
        );
    }
    for family in ["ipv4", "ipv6"] {
        let _ = write!(
            text,
            "[[neighbors.afi-safis]]\n[neighbors.afi-safis.config]\n\
             afi-safi-name = \"{family}-unicast\"\n"
        );
        if setup.add_path {
            text.push_str("[neighbors.afi-safis.add-paths.config]\nreceive = true\nsend-max = 8\n");
        }
        if let Some(max) = setup.max_prefixes {
            let _ =
                write!(text, "[neighbors.afi-safis.prefix-limit.config]\nmax-prefixes = {max}\n");
        }
    }
    text
}
