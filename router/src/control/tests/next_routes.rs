//! What packets follow that no site of a service takes, where other sources have a route to its prefix too.

use nearhop_fib::FlowHash;

use super::bgp::{Peer, nlri, rig_of, text};
use super::*;
use crate::bgp::Attributes;
use crate::bgp::Nlri;

/// In each family, with one site behind port client.
const PREFIXES: [&str; 2] = ["198.51.100.53/32", "2001:db8:53::53/128"];

/// Neighbours n1 and n2 by ports ams and fra, and a service.
fn with_local(keys: &str) -> String {
    let service = format!(
        "[[service]]\nname = \"www\"\nprefixes = {PREFIXES:?}\n{keys}\n\
         [[service.site]]\nname = \"local\"\nvia = \"client\"\n"
    );
    text("")
        .replace("addresses = [\"10.0.0.1/24\"]", "addresses = [\"10.0.0.1/24\", \"fd00::1/64\"]")
        + &service
}

/// A static route behind each prefix.
fn routes_by(via: &str) -> String {
    PREFIXES.map(|prefix| format!("[[route]]\nprefix = \"{prefix}\"\nvia = \"{via}\"\n")).concat()
}

fn both() -> Vec<Nlri> {
    PREFIXES.into_iter().map(nlri).collect()
}

/// Everything of these is to be settled.
struct World {
    rig: Rig,
    one: Peer,
    two: Peer,
}

impl World {
    fn new(text: &str) -> Self {
        let (rig, [one, two]) = rig_of(text);
        let mut world = Self { rig, one, two };
        world.local(true);
        world
    }

    /// The site of the service comes up, or dies.
    fn local(&mut self, up: bool) {
        let paths: Vec<PathId> = self.rig.control.legs().map(|(_, leg)| leg.path).collect();
        for path in paths {
            self.rig.set_path(path, up);
        }
    }

    fn publish(&mut self) {
        self.rig.control.publish(NOW).unwrap();
    }

    fn apply(&mut self, text: &str) {
        self.rig.apply(text).unwrap();
    }

    /// The port that packets leave by, or what else becomes of them; the same in both families.
    fn leads_to(&mut self) -> String {
        let of = |prefix: &str| -> String {
            let address = prefix.split_once('/').unwrap().0.parse().unwrap();
            let online = self.rig.reader.online();
            let group = online.lookup(address);
            match online.select(group, FlowHash::of_packet(1, 7)) {
                Selected::Member { adjacency, .. } => {
                    let port = online.port(adjacency).unwrap();
                    self.rig.control.name_of(PortId(port)).unwrap().to_owned()
                }
                other => format!("{other:?}"),
            }
        };
        let [v4, v6] = PREFIXES.map(of);
        assert_eq!(v4, v6);
        v4
    }

    fn groups(&self) -> usize {
        self.rig.control.publication.publisher.group_count()
    }

    /// As [`Rig::serving`], by what is told.
    fn resorts(&self) -> Vec<Option<Resort>> {
        let service = self.rig.control.services().get("www").unwrap();
        let of = |family| self.rig.control.serving(service, family).resort;
        [Family::Ipv4, Family::Ipv6].map(of).to_vec()
    }
}

const DEAD: &str = "AllDead { answer: true }";

#[test]
fn a_dead_service_follows_what_a_neighbour_announces_of_its_prefix() {
    let mut world = World::new(&with_local(""));
    assert_eq!(world.leads_to(), "client");
    let groups = world.groups();
    // It appears while the service's own route is the one used, and stays so.
    world.one.announce(both(), world.one.attributes(2));
    world.publish();
    assert_eq!(world.leads_to(), "client");
    assert_eq!(world.rig.control.source(prefix(PREFIXES[0])), Some(Source::Service));
    // In the forwarding plane alone: nothing is published.
    let publications = |world: &mut World| {
        let published = |kind: &EventKind| matches!(kind, EventKind::Publish { .. });
        world.rig.events().into_iter().filter(published).count()
    };
    publications(&mut world);
    world.local(false);
    assert_eq!(world.leads_to(), "ams");
    assert_eq!(world.resorts(), [Some(Resort::NextRoute); 2]);
    world.local(true);
    assert_eq!(world.leads_to(), "client");
    world.local(false);
    assert_eq!((world.leads_to(), publications(&mut world)), ("ams".to_owned(), 0));
    // It changes, for the better neighbour and back.
    let better = Attributes { local_pref: Some(200), ..world.two.attributes(2) };
    world.two.announce(both(), better);
    world.publish();
    assert_eq!(world.leads_to(), "fra");
    world.two.withdraw(both());
    world.publish();
    assert_eq!(world.leads_to(), "ams");
    // It goes.
    world.one.withdraw(both());
    world.publish();
    assert_eq!(world.leads_to(), DEAD);
    assert_eq!(world.resorts(), [None; 2]);
    assert_eq!(world.groups(), groups, "nothing stays of it");
    // It comes while the site is dead.
    world.one.announce(both(), world.one.attributes(2));
    world.publish();
    assert_eq!(world.leads_to(), "ams");
    // The session ends: one byte, then its routes.
    world.one.die();
    world.publish();
    assert_eq!(world.leads_to(), DEAD);
    world.local(true);
    assert_eq!(world.leads_to(), "client");
}

#[test]
fn the_next_best_neighbour_takes_over_by_one_byte() {
    let mut world = World::new(&with_local(""));
    world.one.announce(both(), world.one.attributes(2));
    world.two.announce(both(), world.two.attributes(2));
    world.publish();
    world.local(false);
    assert_eq!(world.leads_to(), "ams");
    world.one.die();
    world.rig.control.publish_step(NOW).unwrap();
    assert_eq!(world.leads_to(), "fra");
    world.publish();
    assert_eq!(world.leads_to(), "fra");
}

/// A withdrawal that is not the best source's moves its prefix ahead of what waits to be published.
#[test]
fn a_withdrawal_moves_a_dead_service_at_once() {
    let mut world = World::new(&with_local(""));
    for peer in [&world.one, &world.two] {
        peer.announce(both(), peer.attributes(2));
    }
    world.publish();
    world.local(false);
    // Much to be published.
    let many = super::bgp::prefixes(20_000);
    for some in many.chunks(5_000) {
        let nlri = some.iter().map(|prefix| Nlri::new(*prefix)).collect();
        world.two.announce(nlri, world.two.attributes(2));
    }
    while !world.rig.control.publication.is_under_way()
        || !world.rig.control.publication.publisher.is_planned()
    {
        world.rig.control.publish_step(NOW).unwrap();
    }
    world.one.withdraw(both());
    world.rig.control.publish_step(NOW).unwrap();
    assert_eq!(world.leads_to(), "fra");
    assert!(world.rig.control.publication.is_under_way());
    world.publish();
    assert_eq!(world.leads_to(), "fra");
}

#[test]
fn the_service_goes_and_comes_before_a_route_to_its_prefix() {
    let service = with_local("");
    let without = service.split("[[service]]").next().unwrap().to_owned();
    let mut world = World::new(&service);
    world.one.announce(both(), world.one.attributes(2));
    world.publish();
    world.local(false);
    assert_eq!(world.leads_to(), "ams");
    world.apply(&without);
    assert_eq!(world.leads_to(), "ams");
    assert_eq!(world.rig.control.source(prefix(PREFIXES[0])), Some(Source::Bgp));
    world.apply(&service);
    world.local(true);
    assert_eq!(world.leads_to(), "client");
    world.local(false);
    assert_eq!(world.leads_to(), "ams");
    // One of its prefixes leaves.
    world.apply(&service.replace("\"198.51.100.53/32\", ", ""));
    world.local(false);
    assert_eq!(world.leads_to(), "ams");
    assert_eq!(world.rig.control.source(prefix(PREFIXES[0])), Some(Source::Bgp));
}

#[test]
fn what_follows_is_as_when_all_dead_says() {
    let cover = "[[route]]\nprefix = \"198.51.100.0/24\"\nvia = \"fra\"\n\
                 [[route]]\nprefix = \"2001:db8:53::/48\"\nvia = \"fra\"\n";
    for (keys, alone, with_next) in [
        ("", DEAD, "ams"),
        ("when-all-dead = \"unreachable\"", DEAD, "ams"),
        ("when-all-dead = \"covering\"", "fra", "ams"),
        ("when-all-dead = \"drop\"", "AllDead { answer: false }", "AllDead { answer: false }"),
        ("when-all-dead = \"fail-open\"", "client", "client"),
    ] {
        let mut world = World::new(&(with_local(keys) + cover));
        world.local(false);
        assert_eq!(world.leads_to(), alone, "{keys}");
        world.one.announce(both(), world.one.attributes(2));
        world.publish();
        assert_eq!(world.leads_to(), with_next, "{keys}");
        world.one.withdraw(both());
        world.publish();
        assert_eq!(world.leads_to(), alone, "{keys}, withdrawn");
    }
    // A reload changes it while another route is there.
    let mut world = World::new(&with_local("when-all-dead = \"drop\""));
    world.one.announce(both(), world.one.attributes(2));
    world.publish();
    world.local(false);
    for (keys, want) in [
        ("when-all-dead = \"unreachable\"", "ams"),
        ("when-all-dead = \"drop\"", "AllDead { answer: false }"),
        ("when-all-dead = \"covering\"", "ams"),
        ("", "ams"),
    ] {
        world.apply(&with_local(keys));
        assert_eq!(world.leads_to(), want, "{keys}");
    }
}

/// Static routes are ahead of BGP; one without next hops that lead anywhere is none.
#[test]
fn the_next_route_is_what_would_be_used_without_the_service() {
    let mut world = World::new(&with_local(""));
    world.one.announce(both(), world.one.attributes(2));
    world.publish();
    world.local(false);
    for (via, want) in [
        ("fra", "fra"),
        ("10.99.0.1", "ams"),
        ("blackhole", "Blackhole"),
        ("prohibit", "Prohibit"),
        ("10.2.0.77", "fra"),
    ] {
        world.apply(&(with_local("") + &routes_by(via)));
        assert_eq!(world.leads_to(), want, "{via}");
    }
    world.apply(&with_local(""));
    assert_eq!(world.leads_to(), "ams");
}

/// Its next route is dead itself: no chain goes on from there, and drained sites serve, if there are any.
#[test]
fn a_dead_next_route_is_the_end() {
    let mut world = World::new(&(with_local("") + &routes_by("fra")));
    let fra = world.rig.control.ports.get("fra").unwrap().exit().adjacency;
    world.local(false);
    assert_eq!(world.leads_to(), "fra");
    world.rig.control.handle.set_adjacency_down(fra, Reason::Carrier);
    assert_eq!(world.leads_to(), DEAD);
    world.rig.control.handle.clear_adjacency_down(fra, Reason::Carrier);
    world.local(true);
    world.rig.control.drain(NOW, "local", true, "uid 0");
    assert_eq!(world.leads_to(), "fra", "drained sites come after it");
    assert_eq!(world.resorts(), [Some(Resort::NextRoute); 2]);
    assert!(world.rig.control.served_by_last("local").is_empty());
    world.rig.control.handle.set_adjacency_down(fra, Reason::Carrier);
    assert_eq!(world.leads_to(), "client");
}

/// Prefixes with the same next route share a group, and no group is made for those that have none.
#[test]
fn groups_are_as_many_as_next_routes() {
    let hosts: Vec<String> = (0..100).map(|n| format!("198.51.100.{n}/32")).collect();
    let text = with_local("").replace(&format!("{PREFIXES:?}"), &format!("{hosts:?}"));
    let mut world = World::new(&text);
    let groups = world.groups();
    let some = |range: std::ops::Range<usize>| hosts[range].iter().map(|p| nlri(p)).collect();
    world.one.announce(some(0..60), world.one.attributes(2));
    world.publish();
    let of = |world: &World, n: usize| world.rig.control.writer().get(prefix(&hosts[n])).unwrap();
    assert!((1..60).all(|n| of(&world, n) == of(&world, 0)));
    assert!((60..100).all(|n| of(&world, n) != of(&world, 0)));
    // That of the neighbour's routes, and the service's that leads on there.
    assert_eq!(world.groups(), groups + 2);
    // Another neighbour has a part of them.
    world.two.announce(some(50..70), world.two.attributes(2));
    world.publish();
    world.one.withdraw(some(0..60));
    world.publish();
    world.local(false);
    let lead = |world: &mut World, n: usize| {
        let hash = FlowHash::of_packet(1, 7);
        let address = prefix(&hosts[n]).addr();
        let online = world.rig.reader.online();
        let selected = online.select(online.lookup(address), hash);
        matches!(selected, Selected::Member { .. })
    };
    for n in 0..100 {
        assert_eq!(lead(&mut world, n), (50..70).contains(&n), "{n}");
    }
    assert_eq!(world.groups(), groups + 2);
}
