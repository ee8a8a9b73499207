//! What neighbours hear of each other's paths.

use std::net::Ipv4Addr;

use super::bgp::{Peer, nlri};
use super::*;
use crate::bgp::{AddPath, Attributes, Community, Negotiated, Nlri, PerFamily};
use crate::ids::NeighborId;

/// Two neighbours that announce, and three that hear: of several paths, of one, and inside the AS.
struct Onward {
    rig: Rig,
    peers: Vec<Peer>,
    names: BTreeMap<NeighborId, &'static str>,
}

const NAMES: [&str; 5] = ["a", "b", "inside", "one", "several"];

/// AS, net and host of each.
const AT: [(u32, u8, u8); 5] =
    [(65_001, 1, 2), (65_002, 2, 2), (65_010, 2, 5), (65_003, 2, 3), (65_004, 2, 4)];

fn text(keys: &str) -> String {
    let mut text = PORTS.replace("name = \"r1\"", "name = \"r1\"\nid = \"192.0.2.1\"");
    text.push_str("[bgp]\nas = 65010\n");
    for (name, (asn, net, host)) in NAMES.into_iter().zip(AT) {
        let add_path = if name == "several" { "both" } else { "receive" };
        let more = if asn < 65_003 { "export-learned = false" } else { keys };
        let _ = write!(
            text,
            "[[bgp.neighbor]]\nname = \"{name}\"\naddress = \"10.{net}.0.{host}\"\nas = {asn}\n\
             import = \"all\"\nexport = \"none\"\nadd-path = \"{add_path}\"\n{more}\n"
        );
    }
    text
}

impl Onward {
    fn new() -> Self {
        let (mut rig, _) = Rig::new(&text("export-learned = true"));
        let mut peers = Vec::new();
        let mut names = BTreeMap::new();
        for order in rig.control.poll_bgp(NOW) {
            let BgpOrder::Begin(spec) = order else { continue };
            let at = peers.len();
            let ((asn, net, host), id) = (AT[at], spec.id);
            names.insert(id, NAMES[at]);
            let peer = Peer::of(*spec, asn, net);
            let several = AddPath { send: NAMES[at] == "several", receive: true };
            peer.establish_as(Negotiated {
                internal: asn == 65_010,
                add_path: PerFamily::with(|_| several),
                ..Negotiated::for_tests(asn, Ipv4Addr::new(10, net, 0, host))
            });
            peers.push(peer);
        }
        let mut onward = Self { rig, peers, names };
        assert!(onward.heard().is_empty());
        onward
    }

    /// All that is heard now: the neighbour, `+` and the path or `-`, the path's identifier.
    fn heard(&mut self) -> Vec<String> {
        let mut heard = Vec::new();
        loop {
            self.rig.control.publish(NOW).unwrap();
            for order in self.rig.control.poll_bgp(NOW) {
                let BgpOrder::Announce(id, changes, _) = order else { continue };
                let name = self.names[&id];
                let line = |(nlri, attributes): (Nlri, Option<Arc<Attributes>>)| match attributes {
                    Some(attributes) => format!("{name} +{} {}", nlri.path_id, attributes.as_path),
                    None => format!("{name} -{}", nlri.path_id),
                };
                heard.extend(changes.into_iter().map(line));
            }
            if !self.rig.control.is_announcing() && !self.rig.control.has_bgp_news() {
                heard.sort();
                return heard;
            }
        }
    }
}

#[test]
fn a_neighbor_hears_of_the_best_path_or_of_several_by_identifier() {
    let mut onward = Onward::new();
    let prefix = nlri("203.0.113.0/24");
    let [a, b] = [0, 1].map(|at| Attributes { med: Some(7), ..onward.peers[at].attributes(2) });
    onward.peers[0].announce(vec![prefix], a);
    let one = "65010 65001";
    let all = ["inside +1 65001".to_owned(), format!("one +1 {one}"), format!("several +1 {one}")];
    assert_eq!(onward.heard(), all);
    onward.peers[1].announce(vec![prefix], b.clone());
    assert_eq!(onward.heard(), ["several +2 65010 65002"], "the best is the same");
    // A third, by the second neighbour's second identifier.
    let longer = Attributes { as_path: b.as_path.prepend(65_002, 1), ..b.clone() };
    onward.peers[1].announce(vec![Nlri { path_id: 9, ..prefix }], longer);
    assert_eq!(onward.heard(), ["several +3 65010 65002 65002"]);
    // The best goes: one neighbour hears of the next, the other only that it is gone.
    onward.peers[0].withdraw(vec![prefix]);
    assert_eq!(onward.heard(), ["inside +1 65002", "one +1 65010 65002", "several -1"]);
    // By identifier, of one neighbour's two.
    onward.peers[1].withdraw(vec![prefix]);
    let next = ["inside +1 65002 65002", "one +1 65010 65002 65002", "several -2"];
    assert_eq!(onward.heard(), next);
    // A session that ends takes its path along.
    onward.peers[1].die();
    assert_eq!(onward.heard(), ["inside -1", "one -1", "several -3"]);
}

#[test]
fn what_does_not_go_onward_is_not_announced() {
    let mut onward = Onward::new();
    let prefix = nlri("203.0.113.0/24");
    let route = |onward: &Onward, communities: &[Community]| Attributes {
        communities: communities.into(),
        ..onward.peers[0].attributes(2)
    };
    // Outside nobody, inside it does.
    let attributes = route(&onward, &[Community::NO_EXPORT]);
    onward.peers[0].announce(vec![prefix], attributes);
    assert_eq!(onward.heard(), ["inside +1 65001"]);
    let attributes = route(&onward, &[Community::NO_ADVERTISE]);
    onward.peers[0].announce(vec![prefix], attributes);
    assert_eq!(onward.heard(), ["inside -1"]);
    onward.peers[0].withdraw(vec![prefix]);
    assert!(onward.heard().is_empty());

    // Neither back to where it came from, nor inside what came from inside.
    let several = onward.peers[4].attributes(4);
    onward.peers[4].announce(vec![prefix], several);
    assert_eq!(onward.heard(), ["inside +1 65004", "one +1 65010 65004"]);
    onward.peers[4].withdraw(vec![prefix]);
    assert_eq!(onward.heard(), ["inside -1", "one -1"]);
    let inside = Attributes { local_pref: Some(300), ..onward.peers[2].attributes(5) };
    onward.peers[2].announce(vec![prefix], inside);
    assert!(
        onward.heard().is_empty(),
        "with the router's AS in its path it is a loop, and refused"
    );
    let inside =
        Attributes { as_path: crate::bgp::AsPath::default(), ..onward.peers[2].attributes(5) };
    onward.peers[2].announce(vec![prefix], inside);
    assert_eq!(onward.heard(), ["one +1 65010", "several +1 65010"]);
}

/// Packets have to go by what is announced: a route that beats it, or a next hop that leads nowhere, takes it back.
#[test]
fn only_what_packets_go_by_is_announced() {
    let mut onward = Onward::new();
    let prefix = nlri("203.0.113.0/24");
    let nowhere = Attributes {
        next_hop: crate::bgp::NextHop::new(Ipv4Addr::new(192, 0, 2, 99).into()),
        ..onward.peers[0].attributes(2)
    };
    onward.peers[0].announce(vec![prefix], nowhere);
    assert!(onward.heard().is_empty(), "its next hop leads nowhere");
    let attributes = onward.peers[0].attributes(2);
    onward.peers[0].announce(vec![prefix], attributes);
    assert_eq!(onward.heard().len(), 3);
    // Another source's route to the prefix comes by a reload, and goes by another.
    let route = "[[route]]\nprefix = \"203.0.113.0/24\"\nvia = \"fra\"\n";
    let with = text("export-learned = true").replace("[bgp]", &format!("{route}[bgp]"));
    onward.rig.apply(&with).unwrap();
    assert_eq!(onward.heard(), ["inside -1", "one -1", "several -1"]);
    onward.rig.apply(&text("export-learned = true")).unwrap();
    assert_eq!(onward.heard().len(), 3);
    onward.rig.apply(&text("export-learned = false")).unwrap();
    assert_eq!(onward.heard(), ["inside -1", "one -1", "several -1"]);
}

/// Sixteen paths are eight at most, and the order is that of merit.
#[test]
fn a_neighbor_hears_of_eight_paths_at_most() {
    let mut onward = Onward::new();
    let prefix = nlri("203.0.113.0/24");
    for path_id in (1..=16).rev() {
        let attributes = Attributes { med: Some(path_id), ..onward.peers[0].attributes(2) };
        onward.peers[0].announce(vec![Nlri { path_id, ..prefix }], attributes);
    }
    onward.heard();
    let shown = |onward: &Onward| -> Vec<String> {
        let all = onward.rig.control.bgp_advertised(None);
        let decided = all.flat_map(|one| one.decisions);
        let of = decided.filter(|one| one.neighbor.config.name == "several");
        of.map(|one| one.of).collect()
    };
    let best: Vec<String> = (1..=8).map(|id| format!("path {id} of a")).collect();
    assert_eq!(shown(&onward), best);
    onward.peers[0].withdraw(vec![Nlri { path_id: 1, ..prefix }]);
    let heard = onward.heard();
    let of_several = heard.iter().filter(|line| line.starts_with("several"));
    assert_eq!(of_several.count(), 2, "one goes and the ninth comes: {heard:?}");
}
