//! Neighbours that come from ranges of addresses.

use std::net::Ipv4Addr;

use crossbeam_channel::Sender;

use super::bgp::{Peer, nlri};
use super::*;
use crate::bgp::Negotiated;
use crate::bgp::lane::{BgpNews, Knock, NeighborSpec, RangeSpec};
use crate::bgp::session::RemoteAs;

/// Two ranges, one in the other, and a neighbour in both.
fn text(rack: &str) -> String {
    let text = PORTS.replace("name = \"r1\"", "name = \"r1\"\nid = \"192.0.2.1\"");
    let neighbor =
        |keys: &str| format!("[[bgp.neighbor]]\nimport = \"all\"\nexport = \"none\"\n{keys}\n");
    let fixed = neighbor("name = \"fixed\"\naddress = \"10.2.0.17\"\nas = 65009");
    let inner = neighbor("name = \"inner\"\nrange = \"10.2.0.16/28\"\nas = 65003");
    let rack = if rack.is_empty() { String::new() } else { neighbor(rack) };
    format!("{text}[bgp]\nas = 65010\n{rack}{inner}{fixed}")
}

const RACK: &str = "name = \"rack\"\nrange = \"10.2.0.0/24\"\nlimit = 2\nas = 65002";

struct Racked {
    rig: Rig,
    knocks: Sender<Knock>,
}

impl Racked {
    fn new() -> Self {
        let (mut rig, _) = Rig::new(&text(RACK));
        let ranges = rig.control.poll_bgp(NOW).into_iter().find_map(|order| match order {
            BgpOrder::Ranges(specs, knocks) => Some((specs, knocks)),
            _ => None,
        });
        let (specs, knocks) = ranges.unwrap();
        let spec = |prefix: &str, limit| RangeSpec {
            prefix: prefix.parse().unwrap(),
            local: [10, 2, 0, 1].into(),
            limit,
        };
        assert_eq!(specs, [spec("10.2.0.0/24", 2), spec("10.2.0.16/28", 100)]);
        Self { rig, knocks }
    }

    /// A connection; returns its neighbour if it becomes one.
    fn knock(&mut self, last: u8) -> Option<NeighborSpec> {
        let (address, local) = ([10, 2, 0, last].into(), [10, 2, 0, 1].into());
        self.knocks.send(Knock { at: NOW, address, local }).unwrap();
        assert!(self.rig.control.has_bgp_news());
        self.rig.control.publish(NOW).unwrap();
        let mut orders = self.rig.control.poll_bgp(NOW).into_iter();
        match orders.next() {
            Some(BgpOrder::Begin(spec)) => Some(*spec),
            Some(BgpOrder::Refuse(knock)) if knock.address == address => None,
            other => panic!("{other:?}"),
        }
    }

    /// Name and range of every neighbour.
    fn names(&self) -> Vec<(String, Option<String>)> {
        let all = self.rig.control.bgp_neighbors();
        all.map(|(_, state)| (state.config.name.clone(), state.config.template.clone())).collect()
    }
}

fn of(name: &str, range: &str) -> (String, Option<String>) {
    (name.to_owned(), (!range.is_empty()).then(|| range.to_owned()))
}

#[test]
fn a_connection_from_a_range_is_a_neighbor_up_to_the_limit() {
    let mut racked = Racked::new();
    assert_eq!(racked.names(), [of("fixed", "")]);
    let first = racked.knock(5).unwrap();
    assert!(first.peering.session.dynamic && first.peering.session.waits());
    assert_eq!(first.peering.session.remote_as, RemoteAs::Exactly(65_002));
    assert!(racked.knock(5).is_none(), "it is there");
    assert!(racked.knock(17).is_none(), "a neighbour of its own");
    // The longest range counts, and has its own limit.
    let inner = racked.knock(18).unwrap();
    assert_eq!(inner.peering.session.remote_as, RemoteAs::Exactly(65_003));
    let second = racked.knock(6).unwrap();
    assert!(racked.knock(7).is_none(), "no room for a third");
    let all =
        [of("fixed", ""), of("10.2.0.5", "rack"), of("10.2.0.18", "inner"), of("10.2.0.6", "rack")];
    assert_eq!(racked.names(), all);

    // Its routes are used, and gone before it is.
    let peer = Peer::of(first, 65_002, 2);
    peer.establish_as(Negotiated::for_tests(65_002, Ipv4Addr::new(10, 2, 0, 5)));
    let prefix = nlri("203.0.113.0/24");
    peer.announce(vec![prefix], peer.attributes(5));
    racked.rig.control.publish(NOW).unwrap();
    assert_eq!(racked.rig.port_for("203.0.113.1", nearhop_fib::FlowHash::of_packet(1, 7)), "fra");
    peer.die();
    peer.lane.send(BgpNews::Ended).unwrap();
    while racked.rig.control.has_bgp_news() {
        racked.rig.control.publish(NOW).unwrap();
    }
    assert_eq!(racked.rig.group_id("203.0.113.1"), GroupId::NONE);
    assert_eq!(racked.names(), [all[0].clone(), all[2].clone(), all[3].clone()]);
    let orders = racked.rig.control.poll_bgp(NOW);
    assert!(matches!(orders[..], [BgpOrder::End(..)]), "{orders:?}");
    // There is room again, and one that never was established leaves too.
    assert!(racked.knock(7).is_some());
    second.lane.send(BgpNews::Ended).unwrap();
    while racked.rig.control.has_bgp_news() {
        racked.rig.control.publish(NOW).unwrap();
    }
    assert_eq!(racked.names().len(), 3);
}

#[test]
fn a_reload_changes_or_ends_the_neighbors_of_a_range() {
    let mut racked = Racked::new();
    let _one = racked.knock(5).unwrap();
    let _inner = racked.knock(18).unwrap();
    let orders = |racked: &mut Racked, text: &str| -> Vec<String> {
        racked.rig.apply(text).unwrap();
        let words = |order| match order {
            BgpOrder::End(..) => "end".to_owned(),
            BgpOrder::Ranges(specs, _) => format!("{} ranges", specs.len()),
            BgpOrder::Keep(..) => "keep".to_owned(),
            other => format!("{other:?}"),
        };
        racked.rig.control.poll_bgp(NOW).into_iter().map(words).collect()
    };
    // What is no part of the session: it goes on with it.
    let more = format!("{RACK}\ntranscript-kib = 7\nmed = 5");
    assert_eq!(orders(&mut racked, &text(&more)), ["keep"]);
    let meds: Vec<_> = racked.rig.control.bgp_neighbors().collect();
    let med = |name: &str| {
        meds.iter().find(|(_, one)| one.config.name == name).unwrap().1.config.terms.additions.med
    };
    assert_eq!((med("10.2.0.5"), med("10.2.0.18")), (Some(5), None));
    // Another session: those of this range end, and come again by themselves.
    assert_eq!(orders(&mut racked, &text(&format!("{RACK}\nhold-time = \"30s\""))), ["end"]);
    assert_eq!(racked.names(), [of("fixed", ""), of("10.2.0.18", "inner")]);
    assert!(racked.knock(5).is_some());
    // The range is gone, and with it its neighbours.
    assert_eq!(orders(&mut racked, &text("")), ["1 ranges", "end"]);
    assert_eq!(racked.names(), [of("fixed", ""), of("10.2.0.18", "inner")]);
    assert!(racked.knock(5).is_none());
}
