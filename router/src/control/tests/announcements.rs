//! What sessions are ordered to announce, by what becomes of sites, operators and time.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use crossbeam_channel::Sender;

use super::*;
use crate::bgp::lane::{BgpNews, Clear, NeighborSpec};
use crate::bgp::lease::{LeaseState, Part};
use crate::bgp::session::{Received, State};
use crate::bgp::{Announced, AsPath, Attributes, Negotiated, NextHop as BgpNextHop, Nlri, Update};
use crate::ids::NeighborId;
use crate::liveness::proof::{ProofId, ProofOrder, ProofSpec};

/// A router whose neighbours are played by the test.
struct Speaking {
    rig: Rig,
    lanes: BTreeMap<IpAddr, (NeighborId, Sender<BgpNews>)>,
    now: Nanos,
}

/// What a neighbour was told: the prefix, and its attributes or none.
type Told = (NeighborId, IpPrefix, Option<Arc<Attributes>>);

impl Speaking {
    /// Every leg is up, every session established; what that announces was told.
    fn new(text: &str) -> Self {
        Self::of(Rig::up(text))
    }

    /// With legs of both families.
    fn of_both_families(text: &str) -> Self {
        let (mut rig, _) = Rig::new(text);
        let paths: Vec<_> = rig.control.legs().map(|(_, leg)| leg.path).collect();
        for path in paths {
            let kind = MonitorEventKind::Leg { path, up: true, reason: "up".into(), rtt: None };
            rig.control.handle_monitor(&MonitorEvent { t: NOW, stored: NOW, kind });
        }
        rig.control.publish(NOW).unwrap();
        Self::of(rig)
    }

    fn of(rig: Rig) -> Self {
        let mut speaking = Self { rig, lanes: BTreeMap::new(), now: NOW };
        speaking.told();
        let lanes: Vec<IpAddr> = speaking.lanes.keys().copied().collect();
        for address in lanes {
            speaking.establish(address);
        }
        speaking
    }

    fn establish(&mut self, address: IpAddr) {
        let (_, lane) = &self.lanes[&address];
        lane.send(BgpNews::State(State::Established)).unwrap();
        lane.send(BgpNews::Established(self.now, Box::new(negotiated()))).unwrap();
        self.rig.control.publish(self.now).unwrap();
    }

    /// All that there is to tell now, in any number of steps.
    fn told(&mut self) -> Vec<Told> {
        let mut told = Vec::new();
        loop {
            for order in self.rig.control.poll_bgp(self.now) {
                match order {
                    BgpOrder::Announce(id, changes, _) => {
                        assert!(changes.len() <= 512, "an order is a part of a step");
                        told.extend(changes.into_iter().map(|(nlri, one)| (id, nlri.prefix, one)));
                    }
                    BgpOrder::Begin(spec) => {
                        let NeighborSpec { id, peering, lane, .. } = *spec;
                        self.lanes.insert(peering.address.unwrap(), (id, lane));
                    }
                    BgpOrder::Bfd(..)
                    | BgpOrder::Clear(..)
                    | BgpOrder::End(..)
                    | BgpOrder::Keep(..)
                    | BgpOrder::Lease(..)
                    | BgpOrder::Mark(..)
                    | BgpOrder::Prefixes(..)
                    | BgpOrder::Ranges(..)
                    | BgpOrder::Refuse(..)
                    | BgpOrder::Room => {}
                }
            }
            if !self.rig.control.is_announcing() {
                return told;
            }
        }
    }

    /// As [`Self::told`], a line for each: `+` or `-`, the prefix, the path.
    fn lines(&mut self) -> Vec<String> {
        let line = |(_, prefix, attributes): Told| match attributes {
            Some(attributes) => format!("+{prefix} {}", attributes.as_path),
            None => format!("-{prefix}"),
        };
        self.told().into_iter().map(line).collect()
    }

    /// All orders that there are now, in words.
    fn orders(&mut self) -> Vec<String> {
        let word = |order| match order {
            BgpOrder::Announce(_, changes, _) => format!("{} route(s)", changes.len()),
            BgpOrder::Clear(_, how) => format!("{how:?}"),
            BgpOrder::Mark(_, family, kind) => format!("{kind:?} {}", family.label()),
            other => format!("{other:?}"),
        };
        let mut all = Vec::new();
        loop {
            all.extend(self.rig.control.poll_bgp(self.now).into_iter().map(word));
            if !self.rig.control.is_announcing() {
                return all;
            }
        }
    }

    /// The only neighbour says this.
    fn hear(&mut self, news: BgpNews) {
        let (_, lane) = self.lanes.values().next().unwrap();
        lane.send(news).unwrap();
        while self.rig.control.has_bgp_news() {
            self.rig.control.publish(self.now).unwrap();
        }
    }

    fn pass(&mut self, span: Duration) {
        self.now += span;
    }
}

fn negotiated() -> Negotiated {
    let usual = Negotiated::for_tests(65_002, Ipv4Addr::new(10, 0, 0, 2));
    Negotiated { enhanced_refresh: true, ..usual }
}

/// The only neighbour announces these.
fn update(prefixes: &[&str]) -> BgpNews {
    let next_hop = BgpNextHop::new(Ipv4Addr::new(10, 0, 0, 2).into());
    let as_path = AsPath::sequence(&[65_002]);
    let attributes = Arc::new(Attributes { as_path, ..Attributes::originated(next_hop) });
    let nlri = prefixes.iter().map(|prefix| Nlri::new(prefix.parse().unwrap())).collect();
    let announced = vec![Announced { attributes, nlri }];
    BgpNews::Received(Received::Update(Update { announced, ..Update::default() }))
}

fn speaking(service: &str) -> Speaking {
    speaking_with(service, "")
}

/// With these keys of the service and of `[bgp]`.
fn speaking_with(service: &str, bgp: &str) -> Speaking {
    Speaking::new(&speaking_text(service, bgp))
}

fn speaking_text(service: &str, bgp: &str) -> String {
    let router = PORTS.replace("name = \"r1\"\n", "name = \"r1\"\nid = \"192.0.2.1\"\n");
    let sites = "[[service.site]]\nname = \"ams\"\nvia = \"ams\"\n\
                 [[service.site]]\nname = \"fra\"\nvia = \"fra\"\n";
    format!(
        "{router}[[service]]\nname = \"www\"\nprefixes = [\"{SERVICE}/32\"]\n{service}\n{sites}\
         [bgp]\nas = 65001\n{bgp}\n\
         [[bgp.neighbor]]\naddress = \"10.0.0.2\"\nas = 65002\nimport = \"none\"\nexport = \"services\"\n"
    )
}

/// A site that is up and down twenty times a second for five minutes is one announcement and one withdrawal.
#[test]
fn a_flap_of_twenty_a_second_is_two_changes_for_a_neighbour() {
    let mut speaking = speaking("");
    assert_eq!(speaking.lines(), ["+198.51.100.53/32 65001"]);
    speaking.rig.set("fra", "fra", false);
    assert!(speaking.lines().is_empty(), "the other site is enough");
    let mut changes = Vec::new();
    for _ in 0..20 * 300 {
        for up in [false, true] {
            speaking.pass(Duration::from_millis(25));
            speaking.rig.set("ams", "ams", up);
            changes.extend(speaking.lines());
        }
    }
    assert_eq!(changes, ["-198.51.100.53/32"]);
    // Without a flap it comes back, once.
    let due = speaking.rig.control.bgp_timeout().unwrap();
    speaking.pass(due.since(speaking.now));
    assert_eq!(speaking.lines(), ["+198.51.100.53/32 65001"]);
    assert_eq!(speaking.rig.control.bgp_timeout(), None);
}

/// Those that are drained, damped or disabled do not count.
#[test]
fn below_min_sites_a_service_is_withdrawn() {
    for out in ["down", "drain", "disable", "damp"] {
        let mut speaking = speaking("min-sites = 2");
        assert_eq!(speaking.lines(), ["+198.51.100.53/32 65001"]);
        let rig = &mut speaking.rig;
        match out {
            "down" => rig.set("fra", "fra", false),
            "drain" => drop(rig.control.drain(NOW, "fra", true, "test")),
            "disable" => drop(rig.control.disable(NOW, "fra", true, "test")),
            _ => {
                rig.set("fra", "fra", false);
                rig.damp("fra", "fra");
            }
        }
        assert_eq!(speaking.lines(), ["-198.51.100.53/32"], "{out}");
    }
}

/// Both ends connect at once: that one of the connections is lost is no end of the session on the other.
#[test]
fn a_connection_that_lost_to_the_session_takes_nothing_back() {
    let mut speaking = speaking("");
    assert_eq!(speaking.lines(), ["+198.51.100.53/32 65001"]);
    let (_, lane) = speaking.lanes.values().next().unwrap();
    let why = "the other connection stays".to_owned();
    lane.send(BgpNews::Down { at: speaking.now, was_established: false, why }).unwrap();
    speaking.rig.control.publish(speaking.now).unwrap();
    assert!(speaking.lines().is_empty());
    let (_, neighbor) = speaking.rig.control.bgp_neighbors().next().unwrap();
    assert_eq!(neighbor.last_error, None);
    for site in ["ams", "fra"] {
        speaking.rig.set(site, site, false);
    }
    assert_eq!(speaking.lines(), ["-198.51.100.53/32"], "the neighbour has it still");
}

#[test]
fn a_service_that_is_to_be_deprioritised_stays_announced() {
    let mut speaking =
        speaking("min-sites = 2\nbelow-min = \"deprioritise\"\nannounce-delay = \"1s\"");
    assert_eq!(speaking.lines(), ["+198.51.100.53/32 65001"]);
    speaking.rig.set("fra", "fra", false);
    assert_eq!(speaking.lines(), ["+198.51.100.53/32 65001 65001 65001 65001"]);
    speaking.rig.set("fra", "fra", true);
    assert!(speaking.lines().is_empty(), "it waits");
    speaking.pass(Duration::from_secs(1));
    assert_eq!(speaking.lines(), ["+198.51.100.53/32 65001"]);
}

/// A thousand services to four neighbours: each step decides about a part, and all of them come.
#[test]
fn many_announcements_are_many_steps() {
    let mut text = PORTS.replace("name = \"r1\"\n", "name = \"r1\"\nid = \"192.0.2.1\"\n");
    for n in 0..1000 {
        let _ = write!(
            text,
            "[[service]]\nname = \"s{n}\"\nprefixes = [\"198.18.{}.{}/32\"]\n\
             [[service.site]]\nname = \"s{n}\"\nvia = \"ams\"\n",
            n / 256,
            n % 256
        );
    }
    text.push_str("[bgp]\nas = 65001\n");
    for n in 2..6 {
        let _ = write!(
            text,
            "[[bgp.neighbor]]\naddress = \"10.0.0.{n}\"\nas = 65002\nimport = \"none\"\n\
             export = \"services\"\n"
        );
    }
    let mut speaking = Speaking::new(&text);
    let told = speaking.told();
    assert_eq!(told.len(), 4000);
    let shared: BTreeSet<usize> =
        told.iter().map(|(_, _, one)| Arc::as_ptr(one.as_ref().unwrap()) as usize).collect();
    assert_eq!(shared.len(), 1, "equal attributes are one, and so are their UPDATEs");
    speaking.rig.set("s7", "ams", false);
    assert_eq!(speaking.told().len(), 4, "one service's change is one for each neighbour");
}

/// Neighbours hear first that they should take another way, and then that this one is gone.
#[test]
fn a_drained_router_warns_waits_and_withdraws() {
    let mut speaking = speaking("");
    assert_eq!(speaking.lines(), ["+198.51.100.53/32 65001"]);
    assert!(speaking.rig.control.drain_router(speaking.now, true, "test"));
    assert!(!speaking.rig.control.drain_router(speaking.now, true, "test"), "it is already");
    assert_eq!(speaking.lines(), ["+198.51.100.53/32 65001 65001 65001 65001"]);
    let due = speaking.rig.control.bgp_timeout().unwrap();
    assert_eq!(due.since(speaking.now), Duration::from_secs(30));
    speaking.pass(Duration::from_secs(30));
    assert_eq!(speaking.lines(), ["-198.51.100.53/32"]);
    assert_eq!(speaking.rig.control.bgp_timeout(), None);
    // Whatever becomes of sites and sessions.
    speaking.rig.set("fra", "fra", false);
    speaking.establish([10, 0, 0, 2].into());
    assert!(speaking.lines().is_empty());
    assert!(speaking.rig.control.drain_router(speaking.now, false, "test"));
    assert_eq!(speaking.lines(), ["+198.51.100.53/32 65001"]);
    // What was withdrawn before a restart is not announced first.
    speaking.rig.control.restore(Overrides { router: true, ..Overrides::default() });
    assert_eq!(speaking.lines(), ["-198.51.100.53/32"]);
}

#[test]
fn before_the_end_announcements_are_taken_back_if_there_are_any() {
    let bgp = |keys: &str| {
        let mut speaking = speaking_with("", keys);
        assert_eq!(speaking.lines(), ["+198.51.100.53/32 65001"]);
        speaking
    };
    let mut speaking = bgp("");
    let ends = speaking.rig.control.begin_exit(speaking.now).unwrap();
    assert_eq!(ends.since(speaking.now), Duration::from_secs(1));
    assert_eq!(speaking.lines(), ["-198.51.100.53/32"]);
    speaking.rig.control.drain_router(speaking.now, false, "test");
    assert!(speaking.lines().is_empty(), "nothing brings it back");

    let mut speaking = bgp("on-exit = \"graceful-shutdown\"\nexit-wait = \"3s\"");
    let ends = speaking.rig.control.begin_exit(speaking.now).unwrap();
    assert_eq!(ends.since(speaking.now), Duration::from_secs(6));
    assert_eq!(speaking.lines(), ["+198.51.100.53/32 65001 65001 65001 65001"]);
    speaking.pass(Duration::from_secs(3));
    assert_eq!(speaking.lines(), ["-198.51.100.53/32"]);

    assert_eq!(bgp("on-exit = \"end\"").rig.control.begin_exit(NOW), None);
    let mut speaking = bgp("");
    speaking.rig.set("ams", "ams", false);
    speaking.rig.set("fra", "fra", false);
    assert_eq!(speaking.lines(), ["-198.51.100.53/32"]);
    assert_eq!(speaking.rig.control.begin_exit(NOW), None, "nobody waits for anything");
}

/// An aggregate follows its services, with a route that discards what none of them has.
#[test]
fn an_aggregate_is_announced_while_its_services_are() {
    let text = |condition: &str, export: &str| {
        let router = PORTS.replace("name = \"r1\"\n", "name = \"r1\"\nid = \"192.0.2.1\"\n");
        let service = |name: &str, last: u8, site: &str| {
            format!(
                "[[service]]\nname = \"{name}\"\nprefixes = [\"198.51.100.{last}/32\"]\n\
                 [[service.site]]\nname = \"{site}\"\nvia = \"{site}\"\n"
            )
        };
        format!(
            "{router}{}{}[bgp]\nas = 65001\n\
             [[bgp.aggregate]]\nprefix = \"198.51.100.0/24\"\nwhile = \"{condition}\"\n\
             services = [\"one\", \"two\"]\nmed = 5\n\
             [[bgp.neighbor]]\naddress = \"10.0.0.2\"\nas = 65002\nimport = \"none\"\nexport = {export}\n",
            service("one", 1, "ams"),
            service("two", 2, "fra"),
        )
    };
    let source = |speaking: &mut Speaking| {
        speaking.rig.control.publish(speaking.now).unwrap();
        let prefix = "198.51.100.0/24".parse().unwrap();
        let group = speaking.rig.group("198.51.100.77");
        (speaking.rig.control.source(prefix).map(Source::label), group)
    };
    for (condition, first, both) in [("any", false, true), ("all", true, true)] {
        let mut speaking = Speaking::new(&text(condition, "\"aggregates\""));
        assert_eq!(speaking.lines(), ["+198.51.100.0/24 65001"], "{condition}");
        assert_eq!(source(&mut speaking), (Some("aggregate"), Some(Group::Blackhole)));
        speaking.rig.set("ams", "ams", false);
        assert_eq!(!speaking.lines().is_empty(), first, "{condition}");
        speaking.rig.set("fra", "fra", false);
        let lines = speaking.lines();
        assert_eq!(first || !lines.is_empty(), both, "{condition}: {lines:?}");
        let (label, group) = source(&mut speaking);
        assert_eq!(label, None, "{condition}: it discards no longer");
        assert_ne!(group, Some(Group::Blackhole));
    }
    // Whoever hears of one service hears of none but that one; of all of them, of the aggregate too.
    let mut speaking = Speaking::new(&text("any", "[\"two\"]"));
    assert_eq!(speaking.lines(), ["+198.51.100.2/32 65001"]);
    let mut speaking = Speaking::new(&text("any", "[\"two\", \"one\"]"));
    let all = ["+198.51.100.0/24 65001", "+198.51.100.1/32 65001", "+198.51.100.2/32 65001"];
    assert_eq!(speaking.lines(), all);
    // Without its configuration there is none.
    let mut speaking = Speaking::new(&text("any", "\"aggregates\""));
    assert_eq!(speaking.lines(), ["+198.51.100.0/24 65001"]);
    let whole = text("any", "\"aggregates\"");
    let (begin, end) =
        (whole.find("[[bgp.aggregate]]").unwrap(), whole.find("[[bgp.neighbor]]").unwrap());
    speaking.rig.apply(&format!("{}{}", &whole[..begin], &whole[end..])).unwrap();
    assert_eq!(speaking.lines(), ["-198.51.100.0/24"]);
    assert_eq!(source(&mut speaking).0, None);
}

/// Here at once, and at neighbours that take such routes, whatever else they hear of.
#[test]
fn a_blocked_prefix_is_discarded_and_announced_to_those_who_are_asked_to() {
    let router = PORTS.replace("name = \"r1\"\n", "name = \"r1\"\nid = \"192.0.2.1\"\n");
    let text = format!(
        "{router}[[route]]\nprefix = \"203.0.113.0/24\"\nvia = \"fra\"\n\
         [[service]]\nname = \"www\"\nprefixes = [\"{SERVICE}/32\"]\n\
         [[service.site]]\nname = \"ams\"\nvia = \"ams\"\n[bgp]\nas = 65001\n\
         [[bgp.neighbor]]\naddress = \"10.0.0.2\"\nas = 65002\nimport = \"none\"\n\
         export = \"none\"\nblackhole = true\nprepend = 3\n\
         [[bgp.neighbor]]\naddress = \"10.0.0.3\"\nas = 65003\nimport = \"none\"\nexport = \"services\"\n"
    );
    let mut speaking = Speaking::new(&text);
    assert_eq!(speaking.lines(), [format!("+{SERVICE}/32 65001")]);
    let attacked: IpPrefix = "203.0.113.7/32".parse().unwrap();
    let block = |speaking: &mut Speaking, prefix: IpPrefix, blocked| {
        assert!(speaking.rig.control.block(speaking.now, prefix, blocked, "test"));
        assert!(!speaking.rig.control.block(speaking.now, prefix, blocked, "test"), "it is so");
        speaking.rig.control.publish(speaking.now).unwrap();
        speaking.told()
    };
    let told = block(&mut speaking, attacked, true);
    let [(id, prefix, Some(attributes))] = &told[..] else { panic!("{told:?}") };
    assert_eq!((*prefix, *id), (attacked, speaking.lanes[&IpAddr::from([10, 0, 0, 2])].0));
    let communities: Vec<_> = attributes.communities.iter().map(ToString::to_string).collect();
    assert_eq!(communities, ["blackhole", "no-export"]);
    assert_eq!(attributes.as_path.to_string(), "65001", "a prepend means nothing here");
    assert_eq!(speaking.rig.group("203.0.113.7"), Some(Group::Blackhole));
    assert_eq!(speaking.rig.control.source(attacked).map(Source::label), Some("block"));
    let forwards = |group| matches!(group, Some(Group::Forward { .. }));
    assert!(forwards(speaking.rig.group("203.0.113.8")));

    // It is kept over a reload; a service's own prefix is announced to nobody else.
    speaking.rig.apply(&text).unwrap();
    assert!(speaking.told().is_empty());
    assert_eq!(speaking.rig.group("203.0.113.7"), Some(Group::Blackhole));
    let service: IpPrefix = format!("{SERVICE}/32").parse().unwrap();
    let needed = speaking.rig.control.needed_in(service);
    assert_eq!(needed, [format!("{SERVICE}/32 is of service www")]);
    let mut lines: Vec<_> = block(&mut speaking, service, true)
        .into_iter()
        .map(|(id, _, attributes)| (id.0, attributes.is_some()))
        .collect();
    lines.sort_unstable();
    assert_eq!(lines, [(0, true), (1, false)]);
    assert_eq!(speaking.rig.group(SERVICE), Some(Group::Blackhole));
    assert_eq!(block(&mut speaking, service, false).len(), 2, "as before");
    assert!(forwards(speaking.rig.group(SERVICE)));
    assert!(block(&mut speaking, attacked, false)[0].2.is_none());
    assert!(forwards(speaking.rig.group("203.0.113.7")));

    let own = speaking.rig.control.needed_in("10.0.0.0/24".parse().unwrap());
    assert_eq!(
        own,
        [
            "10.0.0.1 is the router's",
            "10.0.0.2 is a BGP neighbour's",
            "10.0.0.3 is a BGP neighbour's",
        ]
    );
    assert!(speaking.rig.control.needed_in(attacked).is_empty());
}

/// All of a playbook's steps at once, kept over a reload, and undone without a trace.
#[test]
fn a_playbook_is_applied_and_undone_and_says_what_it_would_leave_unannounced() {
    let router = PORTS.replace("name = \"r1\"\n", "name = \"r1\"\nid = \"192.0.2.1\"\n");
    let neighbor = |last: u8| {
        format!(
            "[[bgp.neighbor]]\nname = \"n{last}\"\naddress = \"10.0.0.{last}\"\nas = 65002\n\
             import = \"none\"\nexport = \"services\"\n"
        )
    };
    let text = format!(
        "{router}[[service]]\nname = \"www\"\nprefixes = [\"{SERVICE}/32\"]\n\
         [[service.site]]\nname = \"ams\"\nvia = \"ams\"\n[bgp]\nas = 65001\n{}{}\
         [[bgp.playbook]]\nname = \"away\"\n\
         [[bgp.playbook.step]]\nneighbors = [\"n2\"]\nwithdraw = true\n\
         [[bgp.playbook.step]]\nneighbors = [\"n3\"]\nprepend = 2\n\
         [[bgp.playbook]]\nname = \"gone\"\n[[bgp.playbook.step]]\nwithdraw = true\n",
        neighbor(2),
        neighbor(3)
    );
    let mut speaking = Speaking::new(&text);
    let announced = format!("+{SERVICE}/32 65001");
    assert_eq!(speaking.lines(), [announced.clone(), announced.clone()]);
    let left = |speaking: &Speaking, names: &[&str]| {
        let names = names.iter().map(|name| (*name).to_owned()).collect();
        speaking.rig.control.left_unannounced(&names).into_iter().collect::<Vec<_>>()
    };
    assert_eq!(left(&speaking, &["away"]), [""; 0]);
    assert_eq!(left(&speaking, &["gone"]), ["www"]);
    // Of one family alone.
    let both = text.replace(
        &format!("prefixes = [\"{SERVICE}/32\"]"),
        &format!("prefixes = [\"{SERVICE}/32\", \"2001:db8:53::53/128\"]"),
    );
    let both = both
        .replace("addresses = [\"10.0.0.1/24\"", "addresses = [\"10.0.0.1/24\", \"fd00::1/64\"");
    let v6 = "[[bgp.playbook.step]]\nprefixes = [\"2001:db8:53::53/128\"]\nwithdraw = true\n";
    let both = both.replace(
        "name = \"gone\"\n[[bgp.playbook.step]]\nwithdraw = true\n",
        &format!("name = \"gone\"\n{v6}"),
    );
    let mut of_both = Speaking::of_both_families(&both);
    assert_eq!(of_both.lines().len(), 4, "both families to both neighbours");
    assert_eq!(left(&of_both, &["gone"]), ["www/ipv6"]);
    assert_eq!(left(&of_both, &["away"]), [""; 0]);
    // What a reload makes of a playbook that is applied.
    assert!(of_both.rig.control.play(NOW, "gone", true, "test"));
    of_both.lines();
    let by_reload = |text: &str| of_both.rig.control.left_by_playbooks_of(&parse(text));
    assert!(by_reload(&both).is_empty(), "nothing changes");
    let all = both.replace(v6, "[[bgp.playbook.step]]\nwithdraw = true\n");
    assert_eq!(by_reload(&all).into_iter().collect::<Vec<_>>(), ["www"]);
    assert!(speaking.rig.control.play(NOW, "away", true, "test"));
    assert!(!speaking.rig.control.play(NOW, "away", true, "test"), "it is already");
    let mut lines = speaking.lines();
    lines.sort_unstable();
    assert_eq!(lines, [format!("+{SERVICE}/32 65001 65001 65001"), format!("-{SERVICE}/32")]);
    speaking.rig.apply(&text).unwrap();
    assert!(speaking.lines().is_empty(), "a reload changes nothing of it");
    assert!(speaking.rig.control.play(NOW, "away", false, "test"));
    assert_eq!(speaking.lines(), [announced.clone(), announced]);
    let applied: Vec<bool> = speaking
        .rig
        .events()
        .into_iter()
        .filter_map(|kind| match kind {
            EventKind::Playbook { applied, .. } => Some(applied),
            _ => None,
        })
        .collect();
    assert_eq!(applied, [true, false]);
}

#[test]
fn what_a_neighbor_asks_for_again_goes_between_marks() {
    let mut speaking = speaking("");
    speaking.orders();
    speaking.hear(BgpNews::Refresh(Family::Ipv4));
    assert_eq!(speaking.orders(), ["Begin ipv4", "1 route(s)", "End ipv4"]);
    speaking.hear(BgpNews::Refresh(Family::Ipv6));
    assert_eq!(speaking.orders(), ["Begin ipv6", "End ipv6"], "nothing of the other family");

    // An operator's wish is both sides' refresh, or another session.
    let address = "10.0.0.2";
    assert!(speaking.rig.control.clear_bgp(address, Clear::Soft));
    let soft = ["Soft", "Begin ipv4", "Begin ipv6", "1 route(s)", "End ipv4", "End ipv6"];
    assert_eq!(speaking.orders(), soft);
    assert!(speaking.rig.control.clear_bgp(address, Clear::Restart));
    assert_eq!(speaking.orders(), ["Restart"]);
    assert!(!speaking.rig.control.clear_bgp("10.0.0.3", Clear::Restart));
    assert!(speaking.orders().is_empty());
}

/// A refresh that has no end does not keep what is stale for ever.
#[test]
fn a_refresh_without_an_end_ends_by_itself() {
    let mut speaking = speaking("");
    let prefixes = ["203.0.113.0/24", "203.0.114.0/24"];
    let kept = |speaking: &mut Speaking| -> Vec<usize> {
        speaking.told();
        while speaking.rig.control.has_bgp_news() {
            speaking.rig.control.publish(speaking.now).unwrap();
        }
        let paths = speaking.rig.control.bgp_paths();
        prefixes.iter().map(|prefix| paths.of(prefix.parse().unwrap()).count()).collect()
    };
    speaking.hear(update(&prefixes));
    assert!(speaking.rig.control.bgp_timeout().is_none());
    speaking.hear(BgpNews::Received(Received::RefreshBegin(Family::Ipv4)));
    speaking.hear(update(&prefixes[..1]));
    assert_eq!(kept(&mut speaking), [1, 1]);
    let due = speaking.rig.control.bgp_timeout().unwrap();
    assert_eq!(due.since(speaking.now), Duration::from_mins(10));
    speaking.pass(Duration::from_mins(10) - Duration::from_nanos(1));
    assert_eq!(kept(&mut speaking), [1, 1]);
    speaking.pass(Duration::from_nanos(1));
    assert_eq!(kept(&mut speaking), [1, 0]);
    assert!(speaking.rig.control.bgp_timeout().is_none());
    // One that has its end in time has no other.
    speaking.hear(update(&prefixes));
    speaking.hear(BgpNews::Received(Received::RefreshBegin(Family::Ipv4)));
    speaking.hear(BgpNews::Received(Received::RefreshEnd(Family::Ipv4)));
    assert_eq!(kept(&mut speaking), [0, 0]);
    assert!(speaking.rig.control.bgp_timeout().is_none());
}

/// RFC 7313: only of the family that was refreshed, and only at the end.
#[test]
fn what_a_neighbor_does_not_announce_between_marks_is_gone() {
    let kept = |speaking: &Speaking, prefixes: &[&str]| -> Vec<usize> {
        let paths = speaking.rig.control.bgp_paths();
        prefixes.iter().map(|prefix| paths.of(prefix.parse().unwrap()).count()).collect()
    };
    let all = ["203.0.113.0/24", "203.0.114.0/24", "203.0.115.0/24", "2001:db8::/48"];
    let mut speaking = speaking("");
    speaking.hear(update(&all[..3]));
    speaking.hear(update(&all[3..]));
    let [begin, end] = [Received::RefreshBegin, Received::RefreshEnd]
        .map(|mark| move || BgpNews::Received(mark(Family::Ipv4)));
    speaking.hear(end());
    assert_eq!(kept(&speaking, &all), [1, 1, 1, 1], "an end without a begin is none");

    speaking.hear(begin());
    speaking.hear(update(&all[..1]));
    // It begins again: what came before does not count.
    speaking.hear(begin());
    speaking.hear(update(&all[1..2]));
    assert_eq!(kept(&speaking, &all), [1, 1, 1, 1]);
    speaking.hear(end());
    assert_eq!(kept(&speaking, &all), [0, 1, 0, 1]);
    speaking.hear(end());
    assert_eq!(kept(&speaking, &all), [0, 1, 0, 1]);
}

/// Whoever has the sessions sees to it, and the control plane says what is so.
#[test]
fn what_is_announced_under_a_lost_lease_is_shown_with_the_part_that_stood_still() {
    let mut speaking = speaking("");
    let shown = |speaking: &Speaking| {
        let mut all = speaking.rig.control.bgp_advertised(None);
        let one = all.next().unwrap();
        let decision = &one.decisions[0].decision;
        let path = decision.announce.as_ref().map(|attributes| attributes.as_path.to_string());
        (decision.label(), decision.text(speaking.now), path)
    };
    let before = speaking.lines();
    assert_eq!(before.len(), 1);
    let part = Part::Worker(1);
    for (lease, label, text, path) in [
        (
            LeaseState::Deprioritised(part),
            "announced",
            "deprioritised: worker 1 stood still",
            Some("65001 65001 65001 65001"),
        ),
        (LeaseState::Withdrawn(part), "withdrawn", "withdrawn: worker 1 stood still", None),
        (LeaseState::Held, "announced", "2 sites are well, 1 needed", Some("65001")),
    ] {
        speaking.hear(BgpNews::Lease(speaking.now, lease));
        let want = (label, text.to_owned(), path.map(str::to_owned));
        assert_eq!(shown(&speaking), want);
        let events: Vec<String> = std::iter::from_fn(|| speaking.rig.control.poll_event())
            .filter(|(_, kind)| matches!(kind, EventKind::Lease { .. }))
            .map(|(_, kind)| kind.to_string())
            .collect();
        assert_eq!(events, [format!("bgp 10.0.0.2: {}", lease.text())]);
        assert_eq!(speaking.lines(), Vec::<String>::new(), "nothing else is ordered");
    }
}

/// What the liveness engine is to prove now; what it is to forget, too.
fn proofs(speaking: &mut Speaking) -> (Vec<ProofSpec>, Vec<ProofId>) {
    let (mut begun, mut ended) = (Vec::new(), Vec::new());
    for order in speaking.rig.control.take_proof_orders() {
        match order {
            ProofOrder::Begin(spec) => begun.push(spec),
            ProofOrder::End(id) => ended.push(id),
        }
    }
    (begun, ended)
}

fn proof_events(speaking: &mut Speaking) -> Vec<(String, bool, u64)> {
    let events = std::iter::from_fn(|| speaking.rig.control.poll_event());
    let proofs = events.filter_map(|(_, kind)| match kind {
        EventKind::Proof { port, proven, waited_ms, .. } => Some((port, proven, waited_ms)),
        _ => None,
    });
    proofs.collect()
}

/// The reasons that are shown for the only prefix.
fn reason(speaking: &Speaking) -> String {
    let control = &speaking.rig.control;
    let advertised = control.bgp_advertised(None).next().unwrap();
    advertised.decisions[0].decision.text(speaking.now)
}

#[test]
fn a_service_is_announced_once_packets_by_the_neighbors_port_reach_a_site() {
    let mut speaking = speaking("announce = \"proven\"\nprove-timeout = \"2s\"");
    assert!(speaking.lines().is_empty(), "nothing is proven");
    let (begun, _) = proofs(&mut speaking);
    let client = speaking.rig.control.ports.get("client").unwrap().id;
    let [spec] = begun[..] else { panic!("{begun:?}") };
    let ends = ("10.0.0.1".parse().unwrap(), SERVICE.parse().unwrap());
    assert_eq!((spec.port, (spec.source, spec.target)), (client, ends));
    assert!(reason(&speaking).starts_with("unproven: "), "{}", reason(&speaking));
    speaking.pass(Duration::from_millis(30));
    speaking.rig.control.handle_proof(speaking.now, spec.id);
    assert_eq!(speaking.lines(), ["+198.51.100.53/32 65001"]);
    assert_eq!(proof_events(&mut speaking), [("client".into(), true, 30)]);

    // It dies and comes back: proven again.
    for up in [false, true] {
        for site in ["ams", "fra"] {
            speaking.rig.set(site, site, up);
        }
        let lines = speaking.lines();
        assert_eq!(lines, if up { &[][..] } else { &["-198.51.100.53/32"] });
    }
    speaking.pass(Duration::from_secs(10));
    assert!(speaking.lines().is_empty());
    let (begun, ended) = proofs(&mut speaking);
    assert_eq!((begun.len(), ended.len()), (1, 0));
    speaking.rig.control.handle_proof(speaking.now, spec.id);
    assert!(speaking.lines().is_empty(), "that was the last one's");

    // In any case at last, and said so.
    let due = speaking.rig.control.bgp_timeout().unwrap();
    assert_eq!(due.since(speaking.now), Duration::from_secs(2));
    speaking.pass(Duration::from_secs(2));
    assert_eq!(speaking.lines(), ["+198.51.100.53/32 65001"]);
    assert_eq!(proof_events(&mut speaking), [("client".into(), false, 2000)]);
    assert_eq!(proofs(&mut speaking).1, [begun[0].id]);
}

/// A step asks for some of them, and all are asked for in the end.
#[test]
fn many_proofs_are_many_steps() {
    let prefixes: Vec<String> =
        (0..1000).map(|n| format!("\"198.18.{}.{}/32\"", n / 256, n % 256)).collect();
    let text = speaking_text("announce = \"proven\"\nannounce-delay = \"0s\"", "");
    let text = text.replace("\"198.51.100.53/32\"", &prefixes.join(", "));
    let mut speaking = Speaking::new(&text);
    assert_eq!(proofs(&mut speaking).0.len(), 1000, "in any number of steps");
    for site in ["ams", "fra"] {
        speaking.rig.set(site, site, false);
    }
    assert!(speaking.told().is_empty());
    assert_eq!(proofs(&mut speaking).1.len(), 1000, "nobody needs them now");
    speaking.rig.set("ams", "ams", true);
    let mut asked = Vec::new();
    while asked.is_empty() || speaking.rig.control.is_announcing() {
        assert!(speaking.rig.control.poll_bgp(speaking.now).is_empty());
        let (begun, _) = proofs(&mut speaking);
        assert!(begun.len() <= 64, "{} in a step", begun.len());
        asked.extend(begun);
    }
    for spec in &asked {
        speaking.rig.control.handle_proof(speaking.now, spec.id);
    }
    assert_eq!((asked.len(), speaking.told().len()), (1000, 1000));
}

#[test]
fn a_reload_proves_what_is_new_and_takes_nothing_back() {
    let mut speaking = speaking("");
    assert_eq!(speaking.lines(), ["+198.51.100.53/32 65001"]);
    let text = |announce: &str, prefixes: &str| {
        let text = speaking_text(announce, "");
        text.replace("\"198.51.100.53/32\"", prefixes)
    };
    let both = "\"198.51.100.53/32\", \"198.51.100.54/32\"";
    speaking.rig.apply(&text("announce = \"proven\"", both)).unwrap();
    assert!(speaking.lines().is_empty(), "one is announced, the other has to be proven");
    let (begun, _) = proofs(&mut speaking);
    assert_eq!(begun.len(), 2, "also of what is announced, for when it is withdrawn");
    let new = begun.iter().find(|spec| spec.target.to_string() == "198.51.100.54").unwrap();
    speaking.rig.control.handle_proof(speaking.now, new.id);
    assert_eq!(speaking.lines(), ["+198.51.100.54/32 65001"]);
    // Nobody waits for proofs of what is not to be proven any more.
    speaking.rig.apply(&text("", both)).unwrap();
    assert!(speaking.lines().is_empty());
    assert_eq!(proofs(&mut speaking).1.len(), 1);
    speaking.pass(Duration::from_mins(1));
    assert!(speaking.lines().is_empty() && proof_events(&mut speaking).len() == 1);
}

#[test]
fn what_is_always_announced_asks_for_no_site() {
    let mut speaking = speaking("announce = \"always\"");
    assert_eq!(speaking.lines(), ["+198.51.100.53/32 65001"]);
    for site in ["ams", "fra"] {
        speaking.rig.set(site, site, false);
    }
    assert!(speaking.lines().is_empty());
    assert_eq!(reason(&speaking), "always; no site is well");
}
