//! bgpd of FRRouting, without zebra.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use nearhop::kernel::netns::NetNs;

use super::{Offer, Peer, Setup, prefixes_in};
use crate::bgp_support::frr;

/// A running bgpd.
pub(super) struct Frr {
    frr: frr::Frr,
    setup: Setup,
}

impl Frr {
    pub(super) fn start(netns: &NetNs, name: &str, setup: &Setup) -> Self {
        Self { frr: frr::Frr::start(netns, name, &config(setup)), setup: setup.clone() }
    }

    fn neighbor(&self) -> serde_json::Value {
        let remote = self.setup.remote;
        self.frr.ask(&format!("show bgp neighbors {remote} json"))[remote].clone()
    }
}

impl Peer for Frr {
    fn is_up(&self) -> bool {
        self.neighbor()["bgpState"] == "Established"
    }

    fn learned(&self) -> BTreeSet<String> {
        let mut all = BTreeSet::new();
        for family in ["ipv4", "ipv6"] {
            let table = self.frr.ask(&format!("show bgp {family} unicast json"));
            for (prefix, paths) in table["routes"].as_object().into_iter().flatten() {
                let mut paths = paths.as_array().into_iter().flatten();
                if paths.any(|path| path["peerId"] == self.setup.remote) {
                    all.extend(prefixes_in(prefix));
                }
            }
        }
        all
    }

    fn offer(&mut self, offers: &[Offer]) {
        let mut lines = vec!["configure terminal".into(), format!("router bgp {}", self.setup.asn)];
        for (no, offers) in [("no ", &self.setup.offers[..]), ("", offers)] {
            for offer in offers {
                let family = if offer.is_v6() { "ipv6" } else { "ipv4" };
                lines.push(format!("address-family {family} unicast"));
                lines.push(format!("{no}network {}{}", offer.prefix, map_of(offer)));
                lines.push("exit-address-family".into());
            }
        }
        let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
        self.frr.try_ask(&lines).unwrap();
        self.setup.offers = offers.to_vec();
    }

    fn ask_again(&mut self) -> bool {
        for family in ["ipv4", "ipv6"] {
            let remote = self.setup.remote;
            self.frr.try_ask(&[&format!("clear bgp {family} unicast {remote} soft in")]).unwrap();
        }
        true
    }

    fn updates(&self) -> u64 {
        self.neighbor()["messageStats"]["updatesRecv"].as_u64().unwrap_or(0)
    }

    fn shut(&mut self, words: &str) -> bool {
        let (asn, remote) = (self.setup.asn, self.setup.remote);
        let lines = [
            "configure terminal",
            &format!("router bgp {asn}"),
            &format!("neighbor {remote} shutdown message {words}"),
        ];
        self.frr.try_ask(&lines).is_some()
    }

    fn report(&self) -> String {
        self.neighbor().to_string() + &self.frr.daemon.log()
    }

    fn kill(&mut self) {
        self.frr.daemon.kill();
    }
}

fn config(setup: &Setup) -> String {
    let Setup { local, local_v6, remote, asn, remote_as, .. } = setup;
    let mut text = format!(
        "log stdout debugging\ndebug bgp updates\ndebug bgp neighbor-events\n\
         route-map v6 permit 10\n set ipv6 next-hop global {local_v6}\n!\n"
    );
    let larges: BTreeSet<&str> =
        setup.offers.iter().filter_map(|offer| offer.large_community).collect();
    for large in larges {
        let name = large.replace(':', "-");
        let _ = write!(text, "route-map l{name} permit 10\n set large-community {large}\n!\n");
    }
    let _ = write!(
        text,
        "router bgp {asn}\n bgp router-id {local}\n no bgp ebgp-requires-policy\n \
         no bgp default ipv4-unicast\n no bgp network import-check\n \
         neighbor {remote} remote-as {remote_as}\n neighbor {remote} timers 3 9\n \
         neighbor {remote} timers connect 1\n neighbor {remote} advertisement-interval 0\n"
    );
    if setup.gtsm {
        let _ = writeln!(text, " neighbor {remote} ttl-security hops 1");
    }
    if let Some(role) = setup.role {
        let role =
            role.replace("route-server", "rs-server").replace("rs-server-client", "rs-client");
        let _ = writeln!(text, " neighbor {remote} local-role {role}");
    }
    for (family, is_v6) in [("ipv4", false), ("ipv6", true)] {
        let _ = write!(text, " address-family {family} unicast\n  neighbor {remote} activate\n");
        if is_v6 {
            let _ = writeln!(text, "  neighbor {remote} route-map v6 out");
        }
        if setup.reflects {
            let _ = writeln!(text, "  neighbor {remote} route-reflector-client");
        }
        if setup.add_path {
            let _ = writeln!(text, "  neighbor {remote} addpath-tx-all-paths");
        }
        if let Some(max) = setup.max_prefixes {
            let _ = writeln!(text, "  neighbor {remote} maximum-prefix {max}");
        }
        for offer in setup.offers.iter().filter(|offer| offer.is_v6() == is_v6) {
            let _ = writeln!(text, "  network {}{}", offer.prefix, map_of(offer));
        }
        text.push_str(" exit-address-family\n");
    }
    text + "!\n"
}

/// The route map that a route's large community needs.
fn map_of(offer: &Offer) -> String {
    let name = |large: &str| format!(" route-map l{}", large.replace(':', "-"));
    offer.large_community.map(name).unwrap_or_default()
}
