//! BGP neighbours on links: where their link-local next hops lead, and what they are told.

use std::net::{Ipv4Addr, Ipv6Addr};

use nearhop_fib::FlowHash;

use super::*;
use crate::bgp::lane::{BgpNews, Change, NeighborSpec};
use crate::bgp::session::{Received, State};
use crate::bgp::{Announced, AsPath, Attributes, Negotiated, NextHop as BgpNextHop, Nlri, Update};
use crate::neighbor::DiscoveryLink;

/// The first port has link-local addresses alone; the second has others too, and its neighbour is looked for.
const LINKS: &str = r#"
[router]
name = "r1"
id = "192.0.2.1"
[[port]]
name = "site"
tun = "nh-site"
addresses = ["10.9.0.1/24", "fd00:9::1/64"]
[[port]]
name = "bare"
tun = "nh-bare"
addresses = ["fe80::1/64"]
[[port]]
name = "full"
tun = "nh-full"
addresses = ["10.2.0.1/24", "fe80::1/64", "fd00:2::1/64"]
[[service]]
name = "www"
prefixes = ["198.51.100.53/32", "2001:db8:53::53/128"]
[[service.site]]
name = "s"
via = "site"
[bgp]
as = 65001
"#;

const BARE: &str = "[[bgp.neighbor]]\naddress = \"fe80::2\"\nport = \"bare\"\nas = 65002\nimport = \"all\"\n\
                    export = \"services\"\n";
const FULL: &str =
    "[[bgp.neighbor]]\nport = \"full\"\nas = 65003\nimport = \"all\"\nexport = \"services\"\n";

struct Links {
    rig: Rig,
    specs: Vec<NeighborSpec>,
}

impl Links {
    fn new(text: &str) -> Self {
        let mut links = Self { rig: Rig::up(text), specs: Vec::new() };
        links.told();
        links
    }

    fn say(&self, neighbor: usize, news: BgpNews) {
        let spec = &self.specs[neighbor];
        spec.waiting.fetch_add(news.prefixes(), std::sync::atomic::Ordering::Relaxed);
        spec.lane.send(news).unwrap();
    }

    fn establish(&mut self, neighbor: usize, extended_next_hop: bool) {
        let usual = Negotiated::for_tests(
            65_002 + neighbor as u32,
            Ipv4Addr::new(10, 0, 0, neighbor as u8),
        );
        let negotiated = Negotiated { extended_next_hop, ..usual };
        self.say(neighbor, BgpNews::State(State::Established));
        self.say(neighbor, BgpNews::Established(NOW, Box::new(negotiated)));
        self.rig.control.publish(NOW).unwrap();
    }

    fn announce(&mut self, neighbor: usize, prefix: &str, next_hop: BgpNextHop) {
        self.announce_all(neighbor, &[Nlri::new(prefix.parse().unwrap())], next_hop);
    }

    fn announce_all(&mut self, neighbor: usize, nlri: &[Nlri], next_hop: BgpNextHop) {
        let as_path = AsPath::sequence(&[65_002 + neighbor as u32]);
        let attributes = Attributes { as_path, ..Attributes::originated(next_hop) };
        let announced = vec![Announced { attributes: Arc::new(attributes), nlri: nlri.to_vec() }];
        let update = Update { announced, ..Update::default() };
        self.say(neighbor, BgpNews::Received(Received::Update(update)));
        self.rig.control.publish(NOW).unwrap();
    }

    /// The prefixes that are announced now, each with its next hop; new sessions are noted.
    fn told(&mut self) -> Vec<String> {
        let mut told = Vec::new();
        loop {
            for order in self.rig.control.poll_bgp(NOW) {
                match order {
                    BgpOrder::Begin(spec) => self.specs.push(*spec),
                    BgpOrder::Announce(_, changes, _) => {
                        let line = |(nlri, attributes): Change| {
                            format!("{} {}", nlri.prefix, attributes.unwrap().next_hop)
                        };
                        told.extend(changes.into_iter().map(line));
                    }
                    _ => {}
                }
            }
            if !self.rig.control.is_announcing() {
                return told;
            }
        }
    }

    /// The port that packets to an address leave by, if any does.
    fn port_to(&mut self, address: &str) -> Option<String> {
        let leads = matches!(self.rig.group(address), Some(Group::Forward { .. }));
        leads.then(|| self.rig.port_for(address, FlowHash::of_packet(1, 7)))
    }
}

fn v6(text: &str) -> Ipv6Addr {
    text.parse().unwrap()
}

fn hop(text: &str) -> BgpNextHop {
    BgpNextHop::new(text.parse().unwrap())
}

#[test]
fn a_link_local_next_hop_leads_by_the_port_of_its_neighbor() {
    let mut links = Links::new(&[LINKS, BARE, FULL].concat());
    links.say(1, BgpNews::Found(v6("fe80::2").into()));
    (0..2).for_each(|neighbor| links.establish(neighbor, true));
    let found: Vec<_> = links.rig.control.bgp_neighbors().map(|(_, one)| one.address).collect();
    assert_eq!(found, [Some(v6("fe80::2").into()); 2]);
    // The same address is another router on each; of two addresses, the one on the link counts.
    let both = BgpNextHop { addr: v6("2001:db8::9").into(), link_local: Some(v6("fe80::2")) };
    for (neighbor, prefix, next_hop) in [
        (0, "203.0.1.0/24", hop("fe80::2")),
        (0, "2001:db8:1::/48", hop("fe80::3")),
        (1, "203.0.2.0/24", both),
        (1, "2001:db8:2::/48", hop("fe80::2")),
        (0, "2001:db8:3::/48", hop("fd00:2::9")),
    ] {
        links.announce(neighbor, prefix, next_hop);
    }
    for (address, port) in [
        ("203.0.1.1", "bare"),
        ("2001:db8:1::1", "bare"),
        ("203.0.2.1", "full"),
        ("2001:db8:2::1", "full"),
        // A global one is looked up as ever.
        ("2001:db8:3::1", "full"),
    ] {
        assert_eq!(links.port_to(address).as_deref(), Some(port), "{address}");
    }
    // The router itself is no next hop, and an address that no route leads to is none without a link.
    links.announce(0, "203.0.1.0/24", hop("fe80::1"));
    links.announce(0, "2001:db8:1::/48", hop("2001:db8:9::9"));
    assert_eq!((links.port_to("203.0.1.1"), links.port_to("2001:db8:1::1")), (None, None));
}

/// What leads by a port goes before the port does, however long that takes.
#[test]
fn a_link_that_is_removed_takes_its_routes_with_it() {
    let mut links = Links::new(&[LINKS, BARE, FULL].concat());
    links.establish(0, true);
    // More than are forgotten between two publications.
    let prefix = |n: u32| IpPrefix::around(Ipv4Addr::from_bits(0x0b00_0000 + n * 256).into(), 24);
    let all: Vec<Nlri> = (0..100_000).map(|n| Nlri::new(prefix(n).unwrap())).collect();
    all.chunks(1000).for_each(|some| links.announce_all(0, some, hop("fe80::2")));
    let last = all.last().unwrap().prefix.addr().to_string();
    assert_eq!(links.port_to(&last).as_deref(), Some("bare"));
    let (from, to) =
        (LINKS.find("[[port]]\nname = \"bare\"").unwrap(), LINKS.find("[[port]]\nname = \"full\""));
    let without = [&LINKS[..from], &LINKS[to.unwrap()..], FULL].concat();
    links.rig.begin(parse(&without));
    let stopping = loop {
        let done = links.rig.control.publish_step(NOW).unwrap();
        let stopping = links.rig.control.take_stopping();
        if !stopping.ports.is_empty() {
            let leads = |nlri: &&Nlri| {
                let address = nlri.prefix.addr().to_string();
                matches!(links.rig.group(&address), Some(Group::Forward { .. }))
            };
            assert_eq!(all.iter().filter(leads).count(), 0, "the port goes last");
            break stopping;
        }
        if done {
            links.rig.reader.online();
        }
    };
    assert_eq!(stopping.ports.len(), 1);
}

#[test]
fn a_neighbor_is_told_an_address_that_it_can_reach() {
    let mut links = Links::new(&[LINKS, BARE, FULL].concat());
    links.establish(0, true);
    let own = "198.51.100.53/32 fe80::1";
    assert_eq!(links.told(), [own, "2001:db8:53::53/128 fe80::1"]);
    links.establish(1, true);
    let beside =
        ["198.51.100.53/32", "2001:db8:53::53/128"].map(|p| format!("{p} fd00:2::1 (fe80::1)"));
    assert_eq!(links.told(), beside);

    // Without RFC 8950, IPv4 needs an IPv4 address.
    let mut plain = Links::new(&[LINKS, BARE, FULL].concat());
    plain.establish(0, false);
    assert_eq!(plain.told(), ["2001:db8:53::53/128 fe80::1"]);
    plain.establish(1, false);
    assert_eq!(plain.told(), ["198.51.100.53/32 10.2.0.1", beside[1].as_str()]);
}

#[test]
fn sessions_are_pinned_to_their_links_which_advertise_the_router() {
    let links = Links::new(&[LINKS, BARE, FULL].concat());
    let exits = ["bare", "full"].map(|name| {
        let port = links.rig.control.ports().find(|port| port.name() == name).unwrap();
        port.exit()
    });
    let wanted = [Some(v6("fe80::2").into()), None];
    for ((spec, exit), address) in links.specs.iter().zip(exits).zip(wanted) {
        let peering = &spec.peering;
        let link = peering.link.unwrap();
        assert_eq!((link.port, link.adjacency), (exit.port, exit.adjacency));
        assert_eq!((peering.address, peering.local), (address, v6("fe80::1").into()));
        let session = &peering.session;
        let offers = (session.extended_next_hop, session.link_local_next_hop, session.link_scoped);
        assert_eq!(offers, (true, true, true));
    }
    let address = v6("fe80::1");
    let [bare, full] = exits.map(|exit| DiscoveryLink { exit, address, listens: false });
    let full = DiscoveryLink { listens: true, ..full };
    assert_eq!(links.rig.control.discovery_links(), [bare, full]);
    let snapshot = links.rig.control.snapshots.in_force().load();
    let with: Vec<&str> = snapshot
        .ports()
        .filter(|(_, port)| port.has_discovery)
        .map(|(_, port)| &*port.name)
        .collect();
    assert_eq!(with, ["bare", "full"]);
}
