//! The control plane by what workers find in the FIB, and by its events and orders.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::net::IpAddr;
use std::time::Duration;

use nearhop_fib::{Group, GroupId, IpPrefix, Reader, Reason, Selected, Spread, WhenDead, fib};

use super::sources::set_of;
use super::*;
use crate::config;
use crate::config::model::Service;
use crate::event::Resort;
use crate::forward::FirstPacket;
use crate::ids::{Family, PortId};
use crate::liveness::event::{MonitorEvent, MonitorEventKind};
use crate::port::memory::MemoryPort;
use crate::rib::{Lead, NextHops, Source};

mod announcements;
mod bgp;
mod last_resorts;
mod links;
mod next_routes;
mod onward;
mod ports;
mod publication;
mod ranges;
mod withdrawals;

const NOW: Nanos = Nanos(1_000_000_000);
const SERVICE: &str = "198.51.100.53";

struct Rig {
    control: Control,
    reader: Reader,
}

impl Rig {
    fn new(text: &str) -> (Self, Orders) {
        let (writer, handle) = fib(2);
        let reader = handle.reader().unwrap();
        let snapshot = Arc::new(ArcSwap::from_pointee(Control::empty_snapshot()));
        let changes = Arc::new(AtomicU64::new(0));
        let control = Control::new(writer, handle, snapshot, changes, parse(text), || Nanos::ZERO);
        let mut rig = Self { control, reader };
        let orders = rig.apply(text).unwrap();
        (rig, orders)
    }

    /// All legs come up, in the order of their names.
    fn up(text: &str) -> Self {
        let (mut rig, _) = Self::new(text);
        let paths: Vec<PathId> = rig.control.legs().map(|(_, leg)| leg.path).collect();
        for path in paths {
            rig.set_path(path, true);
        }
        rig.events();
        rig
    }

    /// Applies, and new ports have carrier.
    fn apply(&mut self, text: &str) -> Result<Orders, Box<(Orders, WriteError)>> {
        let outcome = self.apply_config(parse(text));
        let orders = outcome.as_ref().unwrap_or_else(|refused| &refused.0);
        for Exit { adjacency, .. } in &orders.ports {
            self.control.handle.clear_adjacency_down(*adjacency, Reason::Carrier);
        }
        outcome
    }

    /// Applies, and publishes all of it.
    fn apply_config(&mut self, config: Config) -> Result<Orders, Box<(Orders, WriteError)>> {
        let mut orders = self.begin(config);
        match self.control.publish(NOW) {
            Ok(()) => {
                orders.stop = self.control.take_stopping();
                Ok(orders)
            }
            Err(error) => Err(Box::new((orders, error))),
        }
    }

    /// Applies, and publishes nothing yet.
    fn begin(&mut self, config: Config) -> Orders {
        let open = self.control.ports_to_open(&config).unwrap();
        let device = || MemoryPort::pair(1).0 as Arc<dyn Port>;
        let devices = open.iter().map(|port| (port.name.clone(), device())).collect();
        self.control.apply(Arc::new(config), devices, NOW)
    }

    fn path(&self, site: &str, port: &str) -> PathId {
        let legs = self.control.legs().filter(|(key, _)| key.site == site && key.port == port);
        let paths: Vec<PathId> = legs.map(|(_, leg)| leg.path).collect();
        let [path] = paths[..] else { panic!("{site} by {port}: {paths:?}") };
        path
    }

    /// As the monitor does: the bytes first, then the news.
    fn set(&mut self, site: &str, port: &str, up: bool) {
        let path = self.path(site, port);
        self.set_path(path, up);
    }

    fn set_path(&mut self, path: PathId, up: bool) {
        for reason in [Reason::Probe, Reason::Health] {
            if up {
                self.control.handle.clear_path_down(path, reason);
            } else {
                self.control.handle.set_path_down(path, reason);
            }
        }
        let kind = MonitorEventKind::Leg { path, up, reason: "probe".into(), rtt: None };
        self.control.handle_monitor(&MonitorEvent { t: NOW, stored: NOW, kind });
    }

    /// As the monitor does for a leg that is well again, and has flapped.
    fn damp(&mut self, site: &str, port: &str) {
        let path = self.path(site, port);
        self.control.handle.set_path_down(path, Reason::Damped);
        for reason in [Reason::Probe, Reason::Health] {
            self.control.handle.clear_path_down(path, reason);
        }
        let kind = MonitorEventKind::Damped { path, hold: Duration::from_secs(1) };
        self.control.handle_monitor(&MonitorEvent { t: NOW, stored: NOW, kind });
    }

    /// What the packets of the service are left to, if to anything.
    fn resort(&self) -> Option<Resort> {
        let service = self.control.services().get("www").unwrap();
        self.control.serving(service, Family::Ipv4).resort
    }

    fn measure(&mut self, site: &str, port: &str, us: u64) {
        let path = self.path(site, port);
        self.control.handle_round_trips(NOW, [(path, Duration::from_micros(us))]).unwrap();
    }

    fn group_id(&mut self, address: &str) -> GroupId {
        self.reader.online().lookup(address.parse().unwrap())
    }

    fn group(&mut self, address: &str) -> Option<Group> {
        let id = self.group_id(address);
        self.control.writer().group(id)
    }

    /// The sites that a hundred flows to the service get.
    fn serving(&mut self) -> BTreeSet<String> {
        let dst: IpAddr = SERVICE.parse().unwrap();
        let id = self.group_id(SERVICE);
        let mut sites = BTreeSet::new();
        for flow in 0..100_u64 {
            let hash = nearhop_fib::FlowHash::of_packet(flow, 7);
            sites.insert(match self.reader.online().select(id, hash) {
                Selected::Member { path, .. } => {
                    self.control.leg_of(path).map_or("?".into(), |(key, _)| key.site.clone())
                }
                other => format!("{other:?} for {dst}"),
            });
        }
        sites
    }

    /// The port that a flow to this address leaves by.
    fn port_for(&mut self, address: &str, flow: nearhop_fib::FlowHash) -> String {
        let id = self.group_id(address);
        let online = self.reader.online();
        let selected = online.select(id, flow);
        let Selected::Member { adjacency, .. } = selected else { panic!("{selected:?}") };
        let port = online.port(adjacency).and_then(|port| self.control.name_of(PortId(port)));
        port.unwrap().to_owned()
    }

    fn events(&mut self) -> Vec<EventKind> {
        std::iter::from_fn(|| self.control.poll_event()).map(|(_, kind)| kind).collect()
    }

    /// What was selected: sites before, sites after, cause, member.
    fn selects(&mut self) -> Vec<(String, String, MoveCause, String)> {
        let selects = self.events().into_iter().filter_map(|kind| match kind {
            EventKind::Select { from, to, cause, member, .. } => {
                Some((from.join(" "), to.join(" "), cause, member))
            }
            _ => None,
        });
        selects.collect()
    }
}

fn parse(text: &str) -> Config {
    config::parse("test.toml", text).unwrap_or_else(|errors| panic!("{errors}")).0
}

const PORTS: &str = r#"
[router]
name = "r1"
addresses = ["192.0.2.1/32"]
[[port]]
name = "client"
tun = "nh-client"
addresses = ["10.0.0.1/24"]
[[port]]
name = "ams"
tun = "nh-ams"
addresses = ["10.1.0.1/24"]
[[port]]
name = "fra"
tun = "nh-fra"
addresses = ["10.2.0.1/24"]
"#;

/// A service with sites `(name, via, more keys)`, after the ports.
fn with_service(keys: &str, sites: &[(&str, &str, &str)]) -> String {
    let sites: Vec<String> = sites
        .iter()
        .map(|(name, via, keys)| {
            let health = r#"health = { icmp = {}, interval = "10ms" }"#;
            let health = if keys.contains("health") { "" } else { health };
            format!("[[service.site]]\nname = \"{name}\"\nvia = {via}\n{keys}\n{health}\n")
        })
        .collect();
    let service = format!("[[service]]\nname = \"www\"\nprefixes = [\"{SERVICE}/32\"]\n{keys}\n");
    format!("{PORTS}{service}{}", sites.concat())
}

fn two_sites(ams: u32, fra: u32) -> String {
    let [ams, fra] = [ams, fra].map(|cost| format!("cost = {cost}"));
    with_service("", &[("ams", "\"ams\"", &ams), ("fra", "\"fra\"", &fra)])
}

#[test]
fn a_port_that_changes_plans_the_legs_that_leave_by_it_and_no_others() {
    let before = two_sites(10, 20) + &other_service();
    let (mut rig, _) = Rig::new(&before);
    let orders = rig.apply(&before.replace("10.2.0.1/24", "10.2.0.9/24")).unwrap();
    let fra = rig.control.ports.get("fra").unwrap().exit();
    assert_eq!(orders.legs.iter().map(|leg| leg.exit).collect::<Vec<_>>(), [fra]);
    assert!(orders.legs[0].checks.iter().all(|check| check.source.to_string() == "10.2.0.9"));
    let config = parse(&before);
    let changed =
        |text: &str| wanted::changed(&config, |name| service(&config, name), &parse(text));
    assert_eq!(changed(&before), [0_usize; 0]);
    assert_eq!(changed(&before.replace("10.2.0.1/24", "10.2.0.9/24")), [0]);
    assert_eq!(changed(&before.replace("10.1.0.1/24", "10.1.0.9/24")), [0, 1]);
    assert_eq!(changed(&before.replace("192.0.2.1/32", "192.0.2.9/32")), [0, 1]);
    assert_eq!(changed(&before.replace("198.51.100.54", "198.51.100.55")), [1]);
}

fn service<'a>(config: &'a Config, name: &str) -> Option<&'a Service> {
    config.services.iter().find(|service| service.name == name)
}

/// One more service, with a site by port ams alone.
fn other_service() -> String {
    let health = r#"health = { icmp = {}, interval = "10ms" }"#;
    format!(
        "[[service]]\nname = \"dns\"\nprefixes = [\"198.51.100.54/32\"]\n\
         [[service.site]]\nname = \"par\"\nvia = \"ams\"\ncost = 10\n{health}\n"
    )
}

fn set(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(|&name| name.to_owned()).collect()
}

fn moved(
    from: &str,
    to: &str,
    cause: MoveCause,
    member: &str,
) -> (String, String, MoveCause, String) {
    (from.into(), to.into(), cause, member.into())
}

fn prefix(text: &str) -> IpPrefix {
    text.parse().unwrap()
}

#[test]
fn a_configuration_becomes_routes_and_orders() {
    let text = two_sites(10, 20)
        + "[[route]]\nprefix = \"10.9.0.0/16\"\nvia = \"ams\"\n\
           [[route]]\nprefix = \"10.8.0.0/16\"\nvia = \"blackhole\"\n\
           [[route]]\nprefix = \"10.7.0.0/16\"\nvia = [\"ams\", \"fra\"]\n";
    let (mut rig, orders) = Rig::new(&text);
    for (route, source) in [
        ("192.0.2.1/32", "local"),
        ("10.1.0.1/32", "local"),
        ("10.1.0.0/24", "connected"),
        ("198.51.100.53/32", "service"),
        ("10.9.0.0/16", "static"),
    ] {
        let of = rig.control.source(prefix(route)).map(Source::label);
        assert_eq!(of, Some(source), "{route}");
    }
    assert_eq!(rig.control.source(prefix("10.6.0.0/16")), None);
    assert_eq!(rig.group("10.8.1.1"), Some(Group::Blackhole));
    assert_eq!(rig.group("192.0.2.1"), Some(Group::Local));
    assert!(
        matches!(rig.group("10.7.0.9"), Some(Group::Forward { members, .. }) if members.len() == 2)
    );
    assert_eq!(rig.group_id("10.9.0.9"), rig.group_id("10.1.0.9"), "the same contents");
    assert_eq!((orders.ports.len(), orders.legs.len()), (3, 2));
    assert!(orders.stop.legs.is_empty() && orders.stop.ports.is_empty());
    let legs: Vec<_> = orders.legs.iter().map(|leg| leg.checks[0].target.to_string()).collect();
    assert_eq!(legs, [SERVICE, SERVICE], "the service's own address, by each site's port");
    assert_eq!(
        rig.control.port_of(rig.control.ports.get("ams").unwrap().path).map(PortState::name),
        Some("ams")
    );
    assert!(rig.serving().iter().all(|site| site.starts_with("AllDead")));
    let published = |kind: &EventKind| matches!(kind, EventKind::Publish { prefixes: 11, .. });
    assert!(rig.events().iter().any(published));
}

/// Two routers with the same seed, ports and sites: flows that the first sends by one link spread
/// over both links of the second, inside a site and where a route has several ways.
#[test]
fn routers_in_a_row_do_not_put_all_flows_on_one_link() {
    let text = with_service("", &[("ams", r#"["ams", "fra"]"#, "")])
        + "[[route]]\nprefix = \"10.7.0.0/16\"\nvia = [\"ams\", \"fra\"]\n";
    let next = text.replace(r#"name = "r1""#, r#"name = "r2""#);
    assert_ne!(text, next);
    let (mut first, mut second) = (Rig::up(&text), Rig::up(&next));
    for address in [SERVICE, "10.7.0.9"] {
        let flows = (0..20_000).map(|n| nearhop_fib::FlowHash::of_packet(n, 7));
        let by_ams: Vec<_> = flows.filter(|&flow| first.port_for(address, flow) == "ams").collect();
        let again = by_ams.iter().filter(|&&flow| second.port_for(address, flow) == "ams").count();
        let shares = [by_ams.len() as f64 / 20_000.0, again as f64 / by_ams.len() as f64];
        for share in shares {
            assert!((0.47..0.53).contains(&share), "{address}: {shares:?}");
        }
    }
}

#[test]
fn flows_follow_what_lives_and_each_move_has_its_cause() {
    let (mut rig, _) = Rig::new(&two_sites(10, 20));
    rig.set("fra", "fra", true);
    assert_eq!(rig.serving(), set(&["fra"]));
    rig.set("ams", "ams", true);
    assert_eq!(rig.serving(), set(&["ams"]));
    rig.set("fra", "fra", false);
    rig.set("fra", "fra", true);
    rig.set("ams", "ams", false);
    assert_eq!(rig.serving(), set(&["fra"]));
    assert_eq!(
        rig.selects(),
        [
            moved("", "fra", MoveCause::CheaperUp, "fra"),
            moved("fra", "ams", MoveCause::CheaperUp, "ams"),
            moved("ams", "fra", MoveCause::MemberDied, "ams"),
        ]
    );
    let (_, leg) = rig.control.leg_of(rig.path("ams", "ams")).unwrap();
    assert_eq!((leg.up, leg.known, &*leg.reason, leg.since), (false, true, "probe", NOW));
}

#[test]
fn equal_sites_share_the_flows() {
    let mut rig = Rig::up(&two_sites(10, 10));
    assert_eq!(rig.serving(), set(&["ams", "fra"]));
    rig.set("ams", "ams", false);
    assert_eq!(rig.selects(), [moved("ams fra", "fra", MoveCause::MemberDied, "ams")]);
}

#[test]
fn a_reload_moves_what_it_changes_and_watches_nothing_anew() {
    let mut rig = Rig::up(&two_sites(10, 20));
    let before = (rig.group_id(SERVICE), rig.path("ams", "ams"));
    let orders = rig.apply(&two_sites(30, 20)).unwrap();
    assert!(orders.legs.is_empty() && orders.ports.is_empty() && orders.stop.legs.is_empty());
    assert_eq!((rig.group_id(SERVICE), rig.path("ams", "ams")), before, "ids are kept");
    assert_eq!(rig.serving(), set(&["fra"]));
    assert_eq!(rig.selects(), [moved("ams", "fra", MoveCause::Configuration, "reload")]);
    rig.apply(&two_sites(30, 20)).unwrap();
    assert_eq!(rig.events(), [], "the same once more is nothing");
}

#[test]
fn other_checks_or_another_combination_of_them_are_watched_anew() {
    let sites = |health: &str| {
        let health = format!(
            "cost = 10\nhealth = [{{ icmp = {{}} }}, {{ tcp = {{ port = 80 }} }}]\n{health}"
        );
        with_service("", &[("ams", "\"ams\"", &health), ("fra", "\"fra\"", "cost = 20")])
    };
    let mut rig = Rig::up(&sites(""));
    for (change, watched) in [("", 0), ("combine = \"any\"", 1), ("combine = \"any\"", 0), ("", 1)]
    {
        let orders = rig.apply(&sites(change)).unwrap();
        assert_eq!(orders.legs.len(), watched, "{change:?}");
        for leg in orders.legs {
            assert_eq!(leg.path, rig.path("ams", "ams"));
            assert!(leg.checks.iter().all(|check| check.initial_up), "as it was");
        }
    }
    assert_eq!(rig.serving(), set(&["ams"]));
}

#[test]
fn a_leg_without_a_source_for_its_checks_asks_from_the_routers_address_or_stays_down() {
    let v6 = "2001:db8:53::53";
    let text = with_service("", &[("ams", "\"ams\"", ""), ("fra", "\"fra\"", "health = []")])
        .replace(&format!("\"{SERVICE}/32\""), &format!("\"{SERVICE}/32\", \"{v6}/128\""));
    let router = |address: &str| {
        text.replace("\"192.0.2.1/32\"", &format!("\"192.0.2.1/32\", \"{address}\""))
    };
    let of_v6 = |rig: &Rig, site: &str| {
        let mut legs = rig.control.legs().filter(|(key, _)| key.family == Family::Ipv6);
        legs.find(|(key, _)| key.site == site).map(|(_, leg)| leg.clone()).unwrap()
    };
    let (mut rig, orders) = Rig::new(&text);
    let leg = of_v6(&rig, "ams");
    let why = "no check is possible: neither port ams nor [router] has an IPv6 address";
    assert_eq!((leg.checks().len(), leg.impossible.as_deref()), (0, Some(why)));
    assert!(!rig.control.writer().path_reasons(leg.path).is_alive(), "not by its carrier alone");
    let order = orders.legs.iter().find(|spec| spec.path == leg.path).unwrap();
    assert_eq!(order.impossible.as_deref(), Some(why));
    let free = of_v6(&rig, "fra");
    assert!(rig.control.writer().path_reasons(free.path).is_alive(), "it has no checks");
    // A link-local address of the router is nobody's to answer.
    let orders = rig.apply(&router("fe80::1/128")).unwrap();
    assert!(orders.legs.is_empty() && of_v6(&rig, "ams").impossible.is_some());
    let orders = rig.apply(&router("fd00::1/128")).unwrap();
    let [order] = &orders.legs[..] else { panic!("{:?}", orders.legs) };
    assert_eq!((order.path, &order.impossible), (leg.path, &None));
    assert_eq!(order.checks[0].source, "fd00::1".parse::<IpAddr>().unwrap());
    // The port's own comes first, and a global one before all.
    let both = router("fd00::1/128").replace("\"10.1.0.1/24\"", "\"fe80::9/64\", \"fd00:1::1/64\"");
    let orders = rig.apply(&both).unwrap();
    let sources: Vec<String> =
        orders.legs.iter().map(|leg| leg.checks[0].source.to_string()).collect();
    assert_eq!(sources, ["192.0.2.1", "fd00:1::1"]);
}

#[test]
fn when_all_are_dead_packets_end_as_configured() {
    for (keys, when_dead) in [
        ("", WhenDead::Unreachable),
        ("when-all-dead = \"drop\"", WhenDead::Drop),
        ("when-all-dead = \"fail-open\"", WhenDead::FailOpen),
    ] {
        let (mut rig, _) = Rig::new(&with_service(keys, &[("ams", "\"ams\"", "")]));
        let Some(Group::Forward { when_dead: got, .. }) = rig.group(SERVICE) else { panic!() };
        assert_eq!(got, when_dead, "{keys}");
    }
}

#[test]
fn a_covering_route_that_goes_is_replaced_by_what_covers_next() {
    let service = with_service("when-all-dead = \"covering\"", &[("ams", "\"ams\"", "")]);
    let wide = "[[route]]\nprefix = \"198.51.0.0/16\"\nvia = \"blackhole\"\n";
    let near = "[[route]]\nprefix = \"198.51.100.0/24\"\nvia = \"prohibit\"\n";
    let (mut rig, _) = Rig::new(&format!("{service}{wide}{near}"));
    assert!(rig.serving().first().unwrap().starts_with("Prohibit"));
    rig.apply(&format!("{service}{wide}")).unwrap();
    assert!(rig.serving().first().unwrap().starts_with("Blackhole"), "{:?}", rig.serving());
    rig.apply(&service).unwrap();
    assert!(rig.serving().first().unwrap().starts_with("AllDead"), "{:?}", rig.serving());
    rig.apply(&format!("{service}{near}")).unwrap();
    assert!(rig.serving().first().unwrap().starts_with("Prohibit"));
    rig.set("ams", "ams", true);
    assert_eq!(rig.serving(), set(&["ams"]));
}

#[test]
fn affinity_none_spreads_packets() {
    for (keys, want) in [("", Spread::Flow), ("affinity = \"none\"", Spread::Packet)] {
        let (mut rig, _) = Rig::new(&with_service(keys, &[("ams", "\"ams\"", "")]));
        let Some(Group::Forward { spread, .. }) = rig.group(SERVICE) else { panic!() };
        assert_eq!(spread, want, "{keys}");
    }
}

#[test]
fn latency_moves_sites_between_tiers_but_noise_does_not() {
    let sites = [("ams", "\"ams\"", "cost = 10"), ("fra", "\"fra\"", "cost = 10")];
    let mut rig = Rig::up(&with_service("latency-unit = \"1ms\"", &sites));
    assert_eq!(rig.serving(), set(&["ams", "fra"]));
    rig.measure("ams", "ams", 3_500);
    assert_eq!(rig.serving(), set(&["fra"]));
    // Not the one that got slower.
    assert_eq!(rig.selects(), [moved("ams fra", "fra", MoveCause::CheaperUp, "fra")]);
    for us in [3_900, 4_100, 2_900, 3_500] {
        rig.measure("ams", "ams", us);
    }
    assert_eq!(rig.events(), [], "within a quarter of a unit");
    rig.measure("fra", "fra", 8_200);
    assert_eq!(rig.serving(), set(&["ams"]));
    rig.measure("ams", "ams", 8_500);
    assert_eq!(rig.serving(), set(&["ams", "fra"]));
    assert_eq!(
        rig.selects(),
        [
            moved("fra", "ams", MoveCause::CheaperUp, "ams"),
            moved("ams", "ams fra", MoveCause::CheaperUp, "fra"),
        ]
    );
    // Without a unit, latency is shown and nothing more.
    let mut rig = Rig::up(&with_service("latency-unit = \"off\"", &sites));
    rig.measure("ams", "ams", 50_000);
    assert_eq!((rig.serving(), rig.events()), (set(&["ams", "fra"]), vec![]));
    assert!(rig.control.legs().any(|(_, leg)| leg.rtt == Some(Duration::from_millis(50))));
}

/// A site whose first link is far, and whose second is not up; another serves.
fn with_a_far_link() -> Rig {
    let sites = [("ams", "[\"ams\", \"client\"]", "cost = 10"), ("fra", "\"fra\"", "cost = 12")];
    let (mut rig, _) = Rig::new(&with_service("latency-unit = \"1ms\"", &sites));
    rig.set("ams", "ams", true);
    rig.set("fra", "fra", true);
    rig.measure("ams", "ams", 5_500);
    assert_eq!(rig.serving(), set(&["fra"]));
    rig.events();
    rig
}

#[test]
fn a_nearer_link_that_comes_up_unmeasured_moves_packets_as_events_say() {
    let mut rig = with_a_far_link();
    rig.set("ams", "client", true);
    assert_eq!(rig.selects(), [moved("fra", "ams", MoveCause::CheaperUp, "ams")]);
    assert_eq!(rig.serving(), set(&["ams"]));
}

/// A second link, measured before it is up, at less than a unit.
#[test]
fn a_link_that_is_known_to_be_near_brings_its_site_nearer() {
    let mut rig = with_a_far_link();
    rig.measure("ams", "client", 300);
    rig.set("ams", "client", true);
    assert_eq!(rig.serving(), set(&["ams"]));
}

#[test]
fn a_stalled_reader_delays_publication_and_nothing_else() {
    let mut rig = Rig::up(&two_sites(10, 20));
    // More groups than may wait for a reader: one for each prefix that leads on to its cover.
    let mut config = parse(&two_sites(10, 20));
    let mut many = config.services[0].clone();
    many.name = "many".into();
    many.when_all_dead = config::model::WhenAllDead::Covering;
    many.sites.truncate(1);
    many.prefixes = (0..70_000_u32)
        .map(|i| IpPrefix::host(std::net::Ipv4Addr::from(0x6440_0000 + i).into()))
        .collect();
    config.services.push(many);
    let orders = rig.apply_config(config).unwrap();
    let [leg] = &orders.legs[..] else { panic!("{:?}", orders.legs) };
    let mut stalled = rig.control.handle().reader().unwrap();
    let guard = stalled.online();
    rig.events();
    let (_, error) = *rig.apply(&two_sites(10, 20)).unwrap_err();
    assert_eq!(error, WriteError::Stalled { reader: 1 });
    assert!(rig.control.is_unpublished() && rig.control.take_stopping().legs.is_empty());
    assert_eq!(rig.selects(), [], "nothing has moved");
    // Further updates are taken in, and bytes go on to move packets.
    let (orders, _) = *rig.apply(&two_sites(30, 20)).unwrap_err();
    assert!(orders.stop.legs.is_empty());
    assert_eq!(rig.serving(), set(&["ams"]));
    rig.set("ams", "ams", false);
    assert_eq!(rig.serving(), set(&["fra"]));
    rig.set("ams", "ams", true);
    assert!(rig.control.publish(NOW).is_err());
    drop(guard);
    rig.control.publish(NOW).unwrap();
    assert!(!rig.control.is_unpublished());
    assert_eq!(rig.serving(), set(&["fra"]), "the last configuration");
    assert_eq!(rig.control.source(prefix("100.64.0.0/32")), None);
    let stop = rig.control.take_stopping();
    assert_eq!(stop.legs, [leg.path], "what no group leads to any more");
    rig.control.release(&stop);
    assert!(rig.control.take_stopping().legs.is_empty(), "once");
    rig.control.publish(NOW).unwrap();
}

#[test]
fn the_ranking_says_why_each_loser_lost() {
    let sites = [
        ("ams", "\"ams\"", "cost = 10"),
        ("fra", "\"fra\"", "cost = 20"),
        ("far", "\"client\"", "cost = 1\npreference = 50"),
    ];
    let rig = Rig::up(&with_service("", &sites));
    let service = &rig.control.config().services[0];
    let places = rig.control.services().ranking(service, Family::Ipv4);
    let reported: Vec<_> = places
        .iter()
        .map(|place| (&*service.sites[place.index].name, place.tier, place.rule.loser_text()))
        .collect();
    assert_eq!(
        reported,
        [("ams", 0, "equal cost"), ("fra", 1, "higher cost"), ("far", 2, "lower preference")]
    );
    assert_eq!(rig.control.best_sites(service, Family::Ipv4), ["ams"]);
    assert_eq!(rig.control.services().distance(service, Family::Ipv4, "fra", 20), 20);
    let set = set_of(service, prefix("198.51.100.53/32"));
    let set = rig.control.rib().find(&NextHops::Service(set)).unwrap();
    let id = rig.control.group_of(Lead::to(set)).unwrap();
    assert_eq!(rig.control.writer().get(prefix("198.51.100.53/32")), Some(id));
}

proptest::proptest! {
    /// Of every site that packets do not go to although it is up and takes them, the reason is the rule by
    /// which each of those that they go to is better.
    #[test]
    fn a_losers_reason_is_the_rule_by_which_the_winners_beat_it(
        drawn in proptest::collection::vec((0..3_u32, 0..3_u32, proptest::bool::ANY, proptest::bool::ANY), 3)
    ) {
        let ports = ["ams", "fra", "client"];
        let keys: Vec<String> = drawn
            .iter()
            .map(|(cost, preference, ..)| format!("cost = {cost}\npreference = {preference}"))
            .collect();
        let via = ports.map(|port| format!("{port:?}"));
        let sites: Vec<(&str, &str, &str)> =
            (0..3).map(|n| (ports[n], &*via[n], &*keys[n])).collect();
        let mut rig = Rig::up(&with_service("", &sites));
        for (site, (_, _, up, drained)) in ports.iter().zip(&drawn) {
            rig.set(site, site, *up);
            rig.control.drain(NOW, site, *drained, "uid 0");
        }
        let service = &rig.control.config().services[0];
        let best = rig.control.best_sites(service, Family::Ipv4);
        for (site, (cost, preference, up, drained)) in service.sites.iter().zip(&drawn) {
            if best.contains(&site.name) || !up || (*drained && !best.is_empty()) {
                continue;
            }
            let rule = rig.control.against(&best, service, Family::Ipv4, site);
            for winner in service.sites.iter().filter(|site| best.contains(&site.name)) {
                let is_so = match rule {
                    cost::Rule::Preference => winner.preference > *preference,
                    cost::Rule::Distance => {
                        winner.preference == *preference && winner.cost < *cost
                    }
                    cost::Rule::Equal => false,
                };
                proptest::prop_assert!(is_so, "{} against {}: {rule:?}", site.name, winner.name);
            }
        }
    }
}

#[test]
fn carrier_and_first_packets_are_reported_by_name() {
    let mut rig = Rig::up(&two_sites(10, 20));
    let port = rig.control.ports.get("fra").unwrap().id;
    let kind = MonitorEventKind::Carrier { port, up: true };
    rig.control.handle_monitor(&MonitorEvent { t: NOW, stored: NOW, kind });
    let path = rig.path("fra", "fra");
    rig.control.handle_first_packet(3, FirstPacket { path, t: NOW });
    let hold = Duration::from_millis(200);
    let kind = MonitorEventKind::Damped { path, hold };
    rig.control.handle_monitor(&MonitorEvent { t: NOW, stored: NOW, kind });
    // What is no leg, or none any more, is nobody's news.
    rig.control.handle_first_packet(3, FirstPacket { path: PathId(999), t: NOW });
    let (service, site, family) = ("www".to_owned(), "fra".to_owned(), Family::Ipv4);
    assert_eq!(
        rig.events(),
        [
            EventKind::Carrier { port: "fra".into(), up: true },
            EventKind::FirstPacket {
                service: service.clone(),
                site: site.clone(),
                family,
                worker: 3
            },
            EventKind::Damped { service, site, family, hold_ms: 200 },
        ]
    );
    assert!(rig.control.ports().any(|port| port.name() == "fra" && port.carrier));
}

/// What flows to some addresses get, at a moment.
fn answers(reader: &mut Reader, addresses: &[IpAddr]) -> Vec<Vec<String>> {
    let online = reader.online();
    let of = |&address: &IpAddr| {
        let group = online.lookup(address);
        let selected =
            |flow| format!("{:?}", online.select(group, nearhop_fib::FlowHash::of_packet(flow, 7)));
        (0..1).map(selected).collect()
    };
    addresses.iter().map(of).collect()
}

#[test]
#[expect(clippy::too_many_lines, reason = "most of it is the configurations")]
fn no_step_of_a_publication_shows_a_third_answer() {
    // Prefixes of three lengths, each at one of two services, a static route, or nowhere.
    const PREFIXES: [&str; 5] = [
        "198.51.100.0/24",
        "198.51.100.0/28",
        "198.51.100.0/30",
        "198.51.100.64/26",
        "198.51.100.1/32",
    ];
    let addresses: Vec<IpAddr> =
        [0, 1, 2, 5, 9, 17, 65, 100, 200].map(|n| IpAddr::from([198, 51, 100, n])).into();
    let text = |places: [usize; 5], costs: [u32; 2], covering: bool| {
        let mut text = two_sites(10, 20);
        let head = text.find("[[service]]").unwrap();
        text.truncate(head);
        let of = |place: usize| {
            let at = PREFIXES.iter().zip(places).filter(move |&(_, at)| at == place);
            at.map(|(prefix, _)| format!("{prefix:?}")).collect::<Vec<_>>().join(", ")
        };
        for (place, name) in [(1, "one"), (2, "two")] {
            let when = if covering && place == 1 { "when-all-dead = \"covering\"\n" } else { "" };
            let prefixes = of(place);
            if prefixes.is_empty() {
                continue;
            }
            let _ = write!(text, "[[service]]\nname = \"{name}\"\n{when}prefixes = [{prefixes}]\n");
            // The second service has the sites in the other order.
            for (index, site) in ["ams", "fra"].into_iter().enumerate() {
                let cost = costs[(index + place) % 2];
                let _ = write!(
                    text,
                    "[[service.site]]\nname = \"{site}\"\nvia = \"{site}\"\ncost = {cost}\n"
                );
            }
        }
        for (prefix, _) in PREFIXES.iter().zip(places).filter(|&(_, at)| at == 3) {
            let _ = write!(text, "[[route]]\nprefix = {prefix:?}\nvia = \"blackhole\"\n");
        }
        text
    };
    let (mut rig, _) = Rig::new(&text([1, 2, 3, 0, 1], [10, 20], false));
    let mut seed = 1_u64;
    let mut draw = move |below: u64| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (seed >> 33) % below
    };
    let mut was = String::new();
    let mut steps = 0;
    for round in 0..200 {
        let places = std::array::from_fn(|_| draw(4) as usize);
        let costs = if draw(2) == 0 { [10, 20] } else { [20, 10] };
        let covering = draw(2) == 0;
        let next = text(places, costs, covering);
        // Dead members of one service: its flows go on to what covers it, where that is its policy.
        let dead = draw(2) == 0;
        for (_, leg) in rig.control.legs().filter(|(key, _)| key.service == "one") {
            if dead {
                rig.control.handle.set_path_down(leg.path, Reason::Probe);
            } else {
                rig.control.handle.clear_path_down(leg.path, Reason::Probe);
            }
        }
        let now = format!("{places:?} {costs:?} covering {covering} dead {dead}");
        let before = answers(&mut rig.reader, &addresses);
        let seen: Arc<std::sync::Mutex<Vec<Vec<Vec<String>>>>> = Arc::default();
        let mut reader = rig.control.handle().reader().unwrap();
        let (collected, watched) = (Arc::clone(&seen), addresses.clone());
        rig.control.publication.publisher.after_step = Some(Box::new(move || {
            collected.lock().unwrap().push(answers(&mut reader, &watched));
        }));
        rig.apply(&next).unwrap();
        rig.control.publication.publisher.after_step = None;
        let after = answers(&mut rig.reader, &addresses);
        for step in seen.lock().unwrap().iter() {
            for (index, answer) in step.iter().enumerate() {
                assert!(
                    *answer == before[index] || *answer == after[index],
                    "round {round}: {} got {answer:?}, not {:?} nor {:?}, on the way from {was} to {now}",
                    addresses[index],
                    before[index],
                    after[index],
                );
            }
            steps += 1;
        }
        was = now;
    }
    assert!(steps > 400, "{steps} steps");
}

#[test]
fn a_latency_step_touches_its_own_groups_however_many_routes_there_are() {
    let mut text = two_sites(10, 20);
    const { assert!(CHANGES_PER_STEP < 5000) };
    for n in 0..5000 {
        let (a, b) = (n / 256, n % 256);
        let _ = write!(text, "[[route]]\nprefix = \"100.64.{a}.{b}/32\"\nvia = \"fra\"\n");
    }
    let mut rig = Rig::up(&text);
    rig.events();
    let steps = Arc::new(std::sync::atomic::AtomicU64::new(0));
    let counted = Arc::clone(&steps);
    rig.control.publication.publisher.after_step = Some(Box::new(move || {
        counted.fetch_add(1, Ordering::Relaxed);
    }));
    rig.measure("ams", "ams", 50_000);
    assert_eq!(steps.load(Ordering::Relaxed), 1, "one group");
    assert!(!rig.control.is_unpublished(), "by one step, whose budget is smaller than the table");
    let publish = |kind: &EventKind| match kind {
        EventKind::Publish { groups, prefixes, .. } => Some((*groups, *prefixes)),
        _ => None,
    };
    assert_eq!(rig.events().iter().find_map(publish), Some((1, 0)));
}
