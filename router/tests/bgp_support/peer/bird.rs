//! BIRD 2.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use nearhop::kernel::netns::NetNs;

use super::{Offer, Peer, Setup, prefixes_in};
use crate::bgp_support::bird;

/// A running BIRD 2, which speaks with the router as protocol `r1`.
pub(super) struct Bird {
    bird: bird::Bird,
    setup: Setup,
}

impl Bird {
    pub(super) fn start(netns: &NetNs, name: &str, setup: &Setup) -> Self {
        Self { bird: bird::Bird::start(netns, name, &config(setup)), setup: setup.clone() }
    }
}

impl Peer for Bird {
    fn is_up(&self) -> bool {
        self.bird.ask("show protocols r1").contains("Established")
    }

    fn learned(&self) -> BTreeSet<String> {
        prefixes_in(&self.bird.ask("show route protocol r1"))
    }

    fn offer(&mut self, offers: &[Offer]) {
        self.setup.offers = offers.to_vec();
        self.bird.configure(&config(&self.setup));
    }

    fn ask_again(&mut self) -> bool {
        self.bird.ask("reload in r1");
        true
    }

    fn updates(&self) -> u64 {
        // Received, rejected, filtered, ignored, accepted: of each family.
        let state = self.bird.ask("show protocols all r1");
        let lines = state.lines().filter_map(|line| line.trim().strip_prefix("Import updates:"));
        lines.filter_map(|line| line.split_whitespace().next()?.parse::<u64>().ok()).sum()
    }

    fn shut(&mut self, words: &str) -> bool {
        self.bird.try_ask(&["disable", "r1", &format!("\"{words}\"")]).is_some()
    }

    fn report(&self) -> String {
        self.bird.ask("show protocols all r1") + &self.bird.daemon.log()
    }

    fn kill(&mut self) {
        self.bird.daemon.kill();
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
