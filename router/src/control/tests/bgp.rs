//! What BGP neighbours announce, up to what workers find in the FIB.

use std::net::Ipv4Addr;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::AtomicUsize;

use nearhop_fib::FlowHash;

use super::*;
use crate::bgp::lane::BgpNews;
use crate::bgp::session::{Received, State};
use crate::bgp::{
    Announced, AsPath, Attributes, ExtendedCommunity, Negotiated, NextHop, Nlri, Update,
};

/// A neighbour by each of two ports.
pub(super) fn text(keys: &str) -> String {
    let ports = PORTS.replace("name = \"r1\"", "name = \"r1\"\nid = \"192.0.2.1\"");
    let v6 = |net: u8| format!("addresses = [\"10.{net}.0.1/24\", \"fd00:{net}::1/64\"]");
    let ports = [1, 2].into_iter().fold(ports, |text, net| {
        text.replace(&format!("addresses = [\"10.{net}.0.1/24\"]"), &v6(net))
    });
    let neighbor = |name: &str, net: u8| {
        format!(
            "[[bgp.neighbor]]\nname = \"{name}\"\naddress = \"10.{net}.0.2\"\nas = 6500{net}\n\
             import = \"all\"\nexport = \"none\"\nadd-path = \"receive\"\n"
        )
    };
    format!("{ports}[bgp]\nas = 65010\n{keys}{}{}", neighbor("n1", 1), neighbor("n2", 2))
}

/// The session's end of a neighbour's lane.
pub(super) struct Peer {
    pub(super) lane: crossbeam_channel::Sender<BgpNews>,
    lost: Arc<AtomicBool>,
    waiting: Arc<AtomicUsize>,
    asn: u32,
    net: u8,
}

impl Peer {
    pub(super) fn of(spec: crate::bgp::lane::NeighborSpec, asn: u32, net: u8) -> Self {
        let crate::bgp::lane::NeighborSpec { lane, lost, waiting, .. } = spec;
        Self { lane, lost, waiting, asn, net }
    }

    pub(super) fn establish(&self) {
        self.establish_as(Negotiated::for_tests(self.asn, Ipv4Addr::new(10, self.net, 0, 2)));
    }

    pub(super) fn establish_as(&self, negotiated: Negotiated) {
        self.lane.send(BgpNews::State(State::Established)).unwrap();
        self.lane.send(BgpNews::Established(NOW, Box::new(negotiated))).unwrap();
    }

    /// As the session says it: the flag at once, the news behind all others.
    pub(super) fn die(&self) {
        self.lost.store(true, Ordering::Release);
        let why = "hold timer expired".to_owned();
        self.lane.send(BgpNews::Down { at: NOW, was_established: true, why }).unwrap();
    }

    pub(super) fn attributes(&self, host: u8) -> Attributes {
        let next_hop = NextHop::new(Ipv4Addr::new(10, self.net, 0, host).into());
        Attributes { as_path: AsPath::sequence(&[self.asn]), ..Attributes::originated(next_hop) }
    }

    pub(super) fn announce(&self, nlri: Vec<Nlri>, attributes: Attributes) {
        let announced = vec![Announced { attributes: Arc::new(attributes), nlri }];
        self.send(Update { announced, ..Update::default() });
    }

    pub(super) fn withdraw(&self, nlri: Vec<Nlri>) {
        self.send(Update { withdrawn: nlri, ..Update::default() });
    }

    fn send(&self, update: Update) {
        let news = BgpNews::Received(Received::Update(update));
        self.waiting.fetch_add(news.prefixes(), Ordering::Relaxed);
        self.lane.send(news).unwrap();
    }
}

/// A router whose neighbours are established.
pub(super) fn rig(keys: &str) -> (Rig, [Peer; 2]) {
    rig_of(&text(keys))
}

pub(super) fn rig_of(text: &str) -> (Rig, [Peer; 2]) {
    let (mut rig, _) = Rig::new(text);
    let orders = rig.control.poll_bgp(NOW);
    let specs = orders.into_iter().filter_map(|order| match order {
        BgpOrder::Begin(spec) => Some(*spec),
        _ => None,
    });
    let peer = |(net, spec): (u8, crate::bgp::lane::NeighborSpec)| {
        let peer = Peer::of(spec, 65_000 + u32::from(net), net);
        peer.establish();
        peer
    };
    let peers: Vec<Peer> = (1..).zip(specs).map(peer).collect();
    rig.control.publish(NOW).unwrap();
    rig.events();
    (rig, peers.try_into().ok().unwrap())
}

pub(super) fn nlri(text: &str) -> Nlri {
    Nlri::new(text.parse().unwrap())
}

/// So many prefixes of both families.
pub(super) fn prefixes(count: u32) -> Vec<IpPrefix> {
    let v4 = (0..count / 2).map(|n| {
        let addr = Ipv4Addr::from_bits(0x0b00_0000 + n * 256);
        IpPrefix::around(addr.into(), 24).unwrap()
    });
    let v6 = (0..count / 2).map(|n| {
        let addr = std::net::Ipv6Addr::from_bits(0x2a00 << 112 | u128::from(n) << 80);
        IpPrefix::around(addr.into(), 48).unwrap()
    });
    v4.chain(v6).collect()
}

impl Rig {
    /// The ports that flows to an address leave by.
    fn ports_to(&mut self, address: IpAddr) -> BTreeSet<String> {
        let address = address.to_string();
        let flows = (0..64).map(|flow| FlowHash::of_packet(flow, 7));
        flows.map(|flow| self.port_for(&address, flow)).collect()
    }

    pub(super) fn only_port_to(&mut self, address: IpAddr) -> String {
        let flow = FlowHash::of_packet(1, 7);
        self.port_for(&address.to_string(), flow)
    }

    /// Every member that leads there: tier, weight and weight among its links, by port.
    fn members_of(&mut self, address: &str) -> Vec<(String, u8, u16, u16)> {
        let Some(Group::Forward { members, .. }) = self.group(address) else { return Vec::new() };
        let of = |member: &nearhop_fib::Member| {
            let port = self.control.writer().port(member.adjacency).unwrap();
            let port = self.control.name_of(PortId(port)).unwrap().to_owned();
            (port, member.tier, member.weight, member.link_weight)
        };
        members.iter().map(of).collect()
    }
}

/// The session's end is one byte: before anything is published, all packets go by the other neighbour.
#[test]
fn a_lost_neighbour_moves_a_hundred_thousand_prefixes_in_one_step() {
    let (mut rig, [one, two]) = rig("");
    let all = prefixes(100_000);
    for some in all.chunks(10_000) {
        for peer in [&one, &two] {
            let nlri = some.iter().map(|prefix| Nlri::new(*prefix)).collect();
            peer.announce(nlri, peer.attributes(2));
        }
    }
    rig.control.publish(NOW).unwrap();
    let leads = |rig: &Rig| -> Vec<Option<GroupId>> {
        all.iter().map(|prefix| rig.control.writer().get(*prefix)).collect()
    };
    let before = leads(&rig);
    assert_eq!(before.iter().collect::<BTreeSet<_>>().len(), 1, "all share one group");
    assert!(all.iter().all(|prefix| rig.only_port_to(prefix.addr()) == "ams"));
    let group = rig.group("11.0.0.1");
    rig.events();

    one.die();
    assert!(rig.control.has_bgp_news());
    rig.control.publish_step(NOW).unwrap();
    assert!(all.iter().all(|prefix| rig.only_port_to(prefix.addr()) == "fra"));
    assert!(leads(&rig) == before && rig.group("11.0.0.1") == group, "nothing was republished");
    let published = |kind: &EventKind| matches!(kind, EventKind::Publish { .. });
    assert!(!rig.events().iter().any(published));

    // At leisure they are forgotten, in steps, and no packet goes astray meanwhile.
    let paths = rig.control.writer().room().paths;
    let mut steps = 0;
    while !rig.control.publish_step(NOW).unwrap() {
        steps += 1;
        let some = all[steps * 37 % all.len()];
        assert_eq!(rig.only_port_to(some.addr()), "fra");
    }
    assert!(steps > all.len() / 1000, "{steps} steps");
    assert_eq!(rig.members_of("11.0.0.1"), [("fra".to_owned(), 0, 1, 1)]);
    // Nobody watches it any more.
    let stop = rig.control.take_stopping();
    assert_eq!(stop.paths.len(), 1);
    rig.control.release(&stop);
    drop(rig.reader.online());
    rig.control.reclaim();
    assert_eq!(rig.control.writer().room().paths, paths + 1, "the session's path is free");

    // It comes back, with a path of its own.
    one.establish();
    let some = Nlri::new(all[5]);
    one.announce(vec![some], one.attributes(2));
    rig.control.publish(NOW).unwrap();
    assert_eq!(rig.only_port_to(all[5].addr()), "ams");
    assert_eq!(rig.only_port_to(all[6].addr()), "fra");
}

/// What came of a session that is gone does not live again with the next one.
#[test]
fn a_neighbour_that_is_back_at_once_revives_nothing() {
    let (mut rig, [one, two]) = rig("");
    let prefix = nlri("203.0.113.0/24");
    let other = nlri("198.51.100.0/24");
    one.announce(vec![prefix, other], one.attributes(2));
    two.announce(vec![prefix], two.attributes(2));
    rig.control.publish(NOW).unwrap();
    one.die();
    one.establish();
    one.announce(vec![other], one.attributes(2));
    loop {
        let done = rig.control.publish_step(NOW).unwrap();
        assert_eq!(rig.only_port_to(prefix.prefix.addr()), "fra");
        if done {
            break;
        }
    }
    assert_eq!(rig.only_port_to(other.prefix.addr()), "ams");
    assert_eq!(rig.members_of("203.0.113.1").len(), 1);
}

#[test]
fn a_message_with_thousands_of_prefixes_is_many_steps() {
    let (mut rig, [one, two]) = rig("");
    rig.control.set_changes_per_step(50);
    let all = prefixes(2000);
    one.announce(all.iter().map(|prefix| Nlri::new(*prefix)).collect(), one.attributes(2));
    two.announce(vec![nlri("203.0.113.0/24")], two.attributes(2));
    let len = |rig: &Rig| {
        let (v4, v6) = rig.control.rib().len();
        v4 + v6
    };
    let mut most = 0;
    let mut steps = 0;
    let mut until = |rig: &mut Rig, wanted: usize| {
        while len(rig) != wanted {
            let before = len(rig);
            assert!(!rig.control.publish_step(NOW).unwrap());
            most = most.max(len(rig).abs_diff(before));
            steps += 1;
        }
    };
    let connected = len(&rig);
    until(&mut rig, connected + 2001);
    one.withdraw(all[..1000].iter().map(|prefix| Nlri::new(*prefix)).collect());
    until(&mut rig, connected + 1001);
    one.die();
    until(&mut rig, connected + 1);
    assert!(most <= 50 && steps >= 4000 / 50, "{steps} steps, the largest of {most} prefixes");
}

/// One that never stops does not keep what another said from being published.
#[test]
fn a_neighbour_that_never_stops_holds_no_publication_up() {
    let (mut rig, [one, two]) = rig("");
    let gone = nlri("203.0.113.0/24");
    one.announce(vec![gone], one.attributes(2));
    rig.control.publish(NOW).unwrap();
    one.withdraw(vec![gone]);
    let flood: Vec<Nlri> = prefixes(20_000).into_iter().map(Nlri::new).collect();
    for round in 0_u32.. {
        let med = Some(round);
        if two.lane.is_empty() {
            two.announce(flood.clone(), Attributes { med, ..two.attributes(2) });
        }
        rig.control.publish_step(NOW).unwrap();
        if rig.control.writer().get(gone.prefix).is_none() {
            break;
        }
        assert!(round < 2000, "the withdrawal is not published");
    }
}

#[test]
fn paths_that_are_as_good_share_packets_by_their_links_bandwidth() {
    let (mut rig, [one, two]) = rig("multipath = 4\n");
    let (prefix, address) = (nlri("203.0.113.0/24"), "203.0.113.1");
    let with_bandwidth = |peer: &Peer, octets: f32| {
        let mut attributes = peer.attributes(2);
        let community = ExtendedCommunity::link_bandwidth(peer.asn as u16, octets);
        attributes.change_rare(|rare| rare.extended = [community].into());
        attributes
    };
    one.announce(vec![prefix], one.attributes(2));
    two.announce(vec![prefix], two.attributes(2));
    rig.control.publish(NOW).unwrap();
    let equal = [("ams".to_owned(), 0, 1, 1), ("fra".to_owned(), 0, 1, 1)];
    let members = |rig: &mut Rig| {
        let mut members = rig.members_of(address);
        members.sort();
        members
    };
    assert_eq!(members(&mut rig), equal);
    assert_eq!(rig.ports_to(address.parse().unwrap()).len(), 2);
    one.announce(vec![prefix], with_bandwidth(&one, 1e9));
    rig.control.publish(NOW).unwrap();
    assert_eq!(members(&mut rig), equal, "only one says it");
    two.announce(vec![prefix], with_bandwidth(&two, 4e9));
    rig.control.publish(NOW).unwrap();
    let shares = [("ams".to_owned(), 0, 25, 1), ("fra".to_owned(), 0, 100, 1)];
    assert_eq!(members(&mut rig), shares);

    // A reload to one path looks at all prefixes again.
    rig.apply(&text("")).unwrap();
    assert_eq!(rig.ports_to(address.parse().unwrap()).len(), 1);
    let tiers: Vec<u8> = rig.members_of(address).into_iter().map(|(_, tier, ..)| tier).collect();
    assert_eq!(tiers, [0, 1]);
}

/// The paths of one neighbour are members of one group too (RFC 7911): the second is there when the first
/// one's next hop is not.
#[test]
fn several_paths_of_a_neighbour_are_members() {
    let (mut rig, [one, two]) = rig("");
    let (prefix, address) = (nlri("203.0.113.0/24"), "203.0.113.1");
    let second = Nlri { path_id: 2, ..prefix };
    one.announce(vec![prefix], one.attributes(2));
    // By a next hop behind the other port, and a little worse.
    let next_hop = NextHop::new(Ipv4Addr::new(10, 2, 0, 9).into());
    one.announce(vec![second], Attributes { next_hop, med: Some(1), ..one.attributes(2) });
    rig.control.publish(NOW).unwrap();
    let both = [("ams".to_owned(), 0, 1, 1), ("fra".to_owned(), 1, 1, 1)];
    assert_eq!(rig.members_of(address), both);
    two.announce(vec![prefix], two.attributes(2));
    rig.control.publish(NOW).unwrap();
    let reached: BTreeSet<u8> = rig.members_of(address).iter().map(|(_, tier, ..)| *tier).collect();
    assert!(reached.len() >= 2, "{reached:?}");
    let ams = rig.control.ports.get("ams").unwrap().exit();
    rig.control.handle.set_adjacency_down(ams.adjacency, Reason::Carrier);
    assert_eq!(rig.only_port_to(address.parse().unwrap()), "fra");
    one.withdraw(vec![prefix, second]);
    two.withdraw(vec![prefix]);
    rig.control.publish(NOW).unwrap();
    assert_eq!(rig.group_id(address), GroupId::NONE);
}
