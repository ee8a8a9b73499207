//! What becomes of sites becomes of announcements: of their services, and of aggregates.

use super::*;
use crate::bgp::lease::{LeaseState, Part};

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
