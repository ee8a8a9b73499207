//! What `explain` answers about flows.

mod bgp;

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use arc_swap::ArcSwap;
use nearhop_fib::fib;

use serde_json::{Value, json};

use super::*;
use crate::api::ExplainQuery;
use crate::api::document::Explanation;
use crate::api::nouns::{Pages, Rows, SHOWN};
use crate::api::pages::{Only, RoutesOf};
use crate::api::rows::{PortRow, RouteRow, ServiceRow, VerdictRow};
use crate::batch::Exit;
use crate::bfd::machine::{Ends, SessionStats};
use crate::bfd::packet::State;
use crate::config;
use crate::control::LegState;
use crate::forward::PathCount;
use crate::ids::PortId;
use crate::liveness::bfd::{BfdReport, BfdView};
use crate::liveness::event::{MonitorEvent, MonitorEventKind};
use crate::port::Port;
use crate::port::counters::PortCounters;
use crate::port::memory::MemoryPort;
use crate::verdict::Verdict;
use crate::worker::Polling;

/// A router with two sites of equal cost, both alive.
fn control(affinity: &str) -> Control {
    core_of(&text(affinity))
}

fn text(affinity: &str) -> String {
    format!(
        r#"
[router]
name = "r1"
[[port]]
name = "ams"
tun = "nh-ams"
addresses = ["10.1.0.1/24"]
[[port]]
name = "fra"
tun = "nh-fra"
addresses = ["10.2.0.1/24"]
[[service]]
name = "dns"
prefixes = ["198.51.100.53/32"]
affinity = "{affinity}"
[[service.site]]
name = "ams"
via = "ams"
[[service.site]]
name = "fra"
via = "fra"
"#
    )
}

fn core_of(text: &str) -> Control {
    let config = config::parse("test.toml", text).unwrap_or_else(|errors| panic!("{errors}")).0;
    let (writer, handle) = fib(1);
    let snapshot = Arc::new(ArcSwap::from_pointee(Control::empty_snapshot()));
    let changes = Arc::new(AtomicU64::new(0));
    let mut control =
        Control::new(writer, handle, snapshot, changes, config.clone(), || Nanos::ZERO);
    let device = || MemoryPort::pair(1).0 as Arc<dyn Port>;
    let devices = config.ports.iter().map(|port| (port.name.clone(), device())).collect();
    let orders = control.apply(Arc::new(config), devices, Nanos::ZERO);
    control.publish(Nanos::ZERO).unwrap();
    for Exit { adjacency, .. } in orders.ports {
        control.handle().clear_adjacency_down(adjacency, nearhop_fib::Reason::Carrier);
    }
    control
}

fn explained(control: &Control, from: &str) -> Result<Explanation, ApiError> {
    let (address, from) = ("198.51.100.53".parse().unwrap(), from.parse().ok());
    let query = ExplainQuery { address, from, proto: Some(17), sport: Some(1), dport: Some(53) };
    answer(control, &query)
}

/// What is known of a router that has not run yet.
fn bare(control: &Control) -> Facts<'_> {
    static OPENED: BTreeMap<String, Place> = BTreeMap::new();
    Facts::of_control(Nanos::ZERO, control, &OPENED)
}

fn answer(control: &Control, query: &ExplainQuery) -> Result<Explanation, ApiError> {
    explain(&bare(control), query)
}

/// A request for all rows.
fn all_of(show: Show) -> PageRequest {
    PageRequest { show, after: None, only: None, of: RoutesOf::All, neighbor: None, count: 256 }
}

/// Calls `use_it` with a router that has rows of every kind.
fn with_facts<T>(use_it: impl FnOnce(&Facts<'_>) -> T) -> T {
    let text = text("hash").replace("name = \"r1\"\n", "name = \"r1\"\nid = \"10.1.0.1\"\n");
    let mut control = bgp::filled(&(text + CHECKED)).0;
    control.block(Nanos::ZERO, "203.0.113.66/32".parse().unwrap(), true, "test");
    let mut totals = WorkerReport::default();
    totals.counters.verdicts = [17; Verdict::COUNT];
    totals.counters.errors_limited = 1;
    totals.counters.paths = vec![PathCount { packets: 17, bytes: 1_700 }; 16];
    for port in control.ports() {
        let count = PortCounters {
            rx_packets: 17,
            rx_frames: 17,
            rx_batches: 2,
            tx_packets: 17,
            tx_frames: 3,
            ..PortCounters::default()
        };
        totals.ports.insert(port.id, count);
    }
    let liveness = |paths: BTreeSet<PathId>| {
        let stats =
            CheckStats { rtt_ewma: Some(Duration::from_micros(420)), ..CheckStats::default() };
        let checks = |leg: &LegState| vec![stats; leg.checks().len()];
        let asked = control.legs().filter(|(_, leg)| paths.contains(&leg.path));
        let checks = asked.map(|(_, leg)| (leg.path, checks(leg))).collect();
        let bfd_dropped = [("auth-hash", 17)].into();
        Some(LivenessReport { checks, bfd: vec![bfd()], bfd_dropped, ..LivenessReport::default() })
    };
    use_it(&Facts {
        totals,
        workers: vec![WorkerFacts { polling: Polling::default(), lookup_codes: ["plain"; 2] }],
        host: HostStats { received: 17, ..HostStats::default() },
        steps: vec![StepTimes { thread: "control", step: "reload", ..StepTimes::default() }],
        liveness: &liveness,
        transcript: &|_| Some(vec![bgp::said()]),
        ..bare(&control)
    })
}

/// A BFD session that is up.
fn bfd() -> BfdReport {
    let ends = |local: &str, remote: &str| {
        let (local, remote) = (local.parse().unwrap(), remote.parse().unwrap());
        Ends { local, remote, link: Some(PortId(0)) }
    };
    BfdReport {
        ends: ends("10.1.0.1", "10.1.0.2"),
        paths: Vec::new(),
        state: State::Up,
        view: BfdView::Up,
        since: Nanos::ZERO,
        diagnostics: ["no diagnostic".into(), "path down".into()],
        remote_state: State::Up,
        interval: Some(Duration::from_millis(10)),
        detection_time: Duration::from_millis(30),
        discriminators: [1, 2],
        multipliers: [3, 3],
        stats: SessionStats { received: 17, sent: 17, ..SessionStats::default() },
        pace: 1,
    }
}

/// A document of every noun that the router answers, each with rows of every kind.
pub(crate) fn documents() -> Vec<(&'static str, Value)> {
    let mut documents: Vec<_> = with_facts(|facts| {
        let document = |&show: &Show| {
            let page = super::show(facts, &all_of(show)).unwrap();
            let mut json =
                format!(r#"{{"schema":"{}","items":["#, show.noun().schema()).into_bytes();
            page.rows.write_json(&mut json).unwrap();
            json.extend_from_slice(b"]}");
            (show.noun().name, serde_json::from_slice(&json).unwrap())
        };
        Show::ALL.iter().map(document).collect()
    });
    // A flow to a service without a site, which is led on.
    let behind = "[[route]]\nprefix = \"198.51.100.53/32\"\nvia = \"fra\"\n";
    let led_on = core_of(&(text("hash") + CHECKED + behind));
    for (_, leg) in led_on.legs() {
        led_on.handle().set_path_down(leg.path, nearhop_fib::Reason::Probe);
    }
    let explained = json!(explained(&led_on, "10.0.0.2").unwrap());
    documents.push(("explain", explained));
    let control = core_of(&(text("hash") + CHECKED));
    documents
        .push(("override", json!(overridden(&control, "ams", crate::api::OverrideKind::Drain))));
    documents.push(("reload", json!(reloaded(&["router: workers 1 -> 2".into()]))));
    documents.push(("clear", json!(cleared())));
    documents.push(("effect", json!(effected("198.51.100.0/24 was not blocked".into()))));
    documents.push(("undamp", json!(undamped())));
    documents
}

/// The rows that `top` reads.
pub(crate) fn counted() -> (Vec<PortRow>, Vec<VerdictRow>, Vec<ServiceRow>) {
    with_facts(|facts| {
        let rows = |show| super::show(facts, &all_of(show)).unwrap().rows;
        match (rows(Show::Ports), rows(Show::Verdicts), rows(Show::Services)) {
            (Rows::Ports(ports), Rows::Verdicts(verdicts), Rows::Services(services)) => {
                (ports, verdicts, services)
            }
            other => panic!("rows of other nouns: {other:?}"),
        }
    })
}

/// Each page asks about its own checks, and about none where it has none.
#[test]
fn pages_of_checks_ask_for_their_own() {
    let more = CHECKED.replace("www", "two").replace(".80/", ".81/");
    let control = core_of(&(text("hash") + CHECKED + &more));
    let asked = std::cell::RefCell::new(Vec::new());
    let liveness = |paths: BTreeSet<PathId>| {
        asked.borrow_mut().push(paths.clone());
        let checks = paths.into_iter().map(|path| (path, vec![CheckStats::default()])).collect();
        Some(LivenessReport { checks, ..LivenessReport::default() })
    };
    let facts = Facts { liveness: &liveness, ..bare(&control) };
    let page = |after: Option<&str>, facts: &Facts<'_>| {
        let after = after.map(str::to_owned);
        let request = PageRequest { after, count: 1, ..all_of(Show::Checks) };
        let page = super::show(facts, &request).unwrap();
        let Rows::Checks(rows) = page.rows else { panic!("other rows") };
        (rows, page.next)
    };
    let path_of = |service: &str| {
        control.legs().find(|(key, _)| key.service == service).map(|(_, leg)| leg.path).unwrap()
    };
    assert_eq!(page(None, &facts), (vec![], Some("dns".into())));
    assert!(asked.borrow().is_empty(), "sites without checks");
    for (after, service) in [("dns", "www"), ("www", "two")] {
        let (rows, _) = page(Some(after), &facts);
        assert_eq!(rows.len(), 1);
        assert_eq!((&*rows[0].service, rows[0].state.as_deref()), (service, Some("waiting")));
        assert_eq!(asked.borrow_mut().pop(), Some(BTreeSet::from([path_of(service)])));
    }
    // An answer that does not come in time is not said to be a check without a result.
    let (rows, _) = page(Some("dns"), &bare(&control));
    assert_eq!((rows[0].state.as_deref(), rows[0].sent), (None, None));
}

#[test]
fn a_flow_has_one_member_unless_each_packet_has_its_own() {
    let chosen = |document: &Explanation| {
        document.items.iter().filter(|row| row.chosen == Some(true)).count()
    };
    let by_flow = explained(&control("hash"), "10.0.0.2").unwrap();
    assert_eq!(chosen(&by_flow), 1);
    let by_packet = explained(&control("none"), "10.0.0.2").unwrap();
    assert_eq!(chosen(&by_packet), 0);
    let selected = by_packet.head.group.unwrap().selected;
    assert_eq!(selected.as_deref(), Some("any of the best, packet by packet"));
}

/// By what leads to them, or what they lead to: a number says nothing to anybody.
#[test]
fn groups_are_named_and_a_winner_says_by_what_it_won() {
    let more = "[[service]]\nname = \"web\"\nprefixes = [\"10.9.1.1/32\"]\n\
                when-all-dead = \"covering\"\n[[service.site]]\nname = \"ams\"\nvia = \"ams\"\n\
                preference = 200\ncost = 30\n[[service.site]]\nname = \"fra\"\nvia = \"fra\"\n\
                cost = 10\n[[route]]\nprefix = \"10.9.0.0/16\"\nvia = [\"ams\", \"fra\"]\n\
                [[route]]\nprefix = \"10.8.0.0/16\"\nvia = \"blackhole\"\n";
    let mut control = core_of(&(text("hash") + more));
    let legs: Vec<PathId> = control.legs().map(|(_, leg)| leg.path).collect();
    for path in legs {
        let kind = MonitorEventKind::Leg { path, up: true, reason: "initial".into(), rtt: None };
        control.handle_monitor(&MonitorEvent { t: Nanos::ZERO, stored: Nanos::ZERO, kind });
    }
    let asked = |address: &str| {
        let (address, from) = (address.parse().unwrap(), None);
        let query = ExplainQuery { address, from, proto: None, sport: None, dport: None };
        serde_json::to_value(answer(&control, &query).unwrap()).unwrap()
    };
    for (address, name) in [
        ("198.51.100.53", "dns/ipv4"),
        ("10.9.1.1", "web/ipv4 10.9.1.1/32"),
        ("10.9.2.2", "via ams, fra"),
        ("10.8.0.1", "blackhole"),
        ("10.1.0.1", "local"),
    ] {
        assert_eq!(asked(address)["group"], name, "{address}");
    }
    let facts = bare(&control);
    let rows = json_of(&show(&facts, &all_of(Show::Groups)).unwrap().rows);
    let web = rows.iter().find(|row| row["group"] == "web/ipv4 10.9.1.1/32").unwrap();
    assert_eq!(web["when_all_dead"], "covering: via ams, fra");
    let fib = json_of(&show(&facts, &all_of(Show::Fib)).unwrap().rows);
    assert!(fib.iter().all(|row| row["group"].as_str().is_some_and(|name| !name.is_empty())));
    // The dearer site serves, because it is preferred.
    let web = asked("10.9.1.1");
    let of = |site: &str| {
        let items = web["items"].as_array().unwrap();
        items.iter().find(|row| row["site"] == site).unwrap()["why"].clone()
    };
    assert_eq!((of("ams"), of("fra")), ("highest preference".into(), "lower preference".into()));
}

#[test]
fn a_flow_between_families_is_refused() {
    let error = explained(&control("hash"), "2001:db8::2").unwrap_err();
    assert!(error.text().contains("one family"), "{}", error.text());
}

/// Ports that the flow hash does not use are refused.
#[test]
fn ports_are_taken_where_a_flow_has_them() {
    let control = control("hash");
    let (v4, v6) = ("198.51.100.53", "2001:db8:53::53");
    for (address, proto, sport, dport, says) in [
        (v4, Some(6), Some(1), Some(2), None),
        (v4, Some(132), Some(1), None, None),
        (v4, None, None, None, None),
        (v4, Some(47), None, None, None),
        (v4, Some(1), Some(7), None, None),
        (v6, Some(58), Some(7), None, None),
        (v4, Some(1), Some(7), Some(1), Some("dport has no meaning for ICMP")),
        (v4, Some(58), Some(7), None, Some("sport has no meaning for protocol 58")),
        (v4, Some(47), None, Some(1), Some("dport has no meaning for protocol 47")),
        (v4, None, Some(1), Some(1), Some("sport has no meaning without a protocol")),
    ] {
        let address: IpAddr = address.parse().unwrap();
        let from = if address.is_ipv4() { "10.0.0.2" } else { "fd00::2" };
        let from = from.parse().ok();
        let query = ExplainQuery { address, from, proto, sport, dport };
        let error = answer(&control, &query).err();
        assert_eq!(error.as_ref().map(ApiError::text), says, "{query:?}");
    }
}

/// A service with a check of its site.
const CHECKED: &str = r#"
[[service]]
name = "www"
prefixes = ["198.51.100.80/32"]
[[service.site]]
name = "ams"
via = "ams"
health = [{ icmp = {} }]
"#;

#[test]
fn every_address_is_said_what_becomes_of_packets_to_it() {
    let routes = "[[route]]\nprefix = \"203.0.113.0/24\"\nvia = \"blackhole\"\n\
                  [[route]]\nprefix = \"203.0.114.0/24\"\nvia = \"prohibit\"\n";
    let control = core_of(&(text("hash") + routes));
    let outcome = |address: &str| {
        let address = address.parse().unwrap();
        let query = ExplainQuery { address, from: None, proto: None, sport: None, dport: None };
        let head = answer(&control, &query).unwrap().head;
        let verdict = Verdict::ALL.iter().find(|one| one.label() == head.verdict).unwrap();
        assert!(head.outcome.starts_with(verdict.outcome().label()), "{head:?}");
        head.outcome.into_owned()
    };
    let own = control.config().ports[0].addresses[0].ip().to_string();
    for (address, want) in [
        ("198.51.100.53", "sent to a member of the group"),
        (&own, "punted to the router itself"),
        ("192.0.2.77", "its sender gets an ICMP error: no route to the network"),
        ("203.0.113.7", "hears nothing"),
        ("203.0.114.7", "its sender gets an ICMP error: prohibited"),
        ("224.0.0.5", "dropped: "),
        ("127.0.0.1", "dropped: "),
        ("255.255.255.255", "dropped: "),
        ("fe80::1", "dropped: "),
    ] {
        let found = outcome(address);
        assert!(found.contains(want), "{address}: {found}");
    }
    let query = ExplainQuery {
        address: "198.51.100.53".parse().unwrap(),
        from: None,
        proto: Some(17),
        sport: None,
        dport: None,
    };
    assert!(answer(&control, &query).unwrap_err().text().contains("a flow needs a source"));
    for (_, leg) in control.legs() {
        control.handle().set_path_down(leg.path, nearhop_fib::Reason::Probe);
    }
    let dead = outcome("198.51.100.53");
    assert!(dead.contains("its sender gets an ICMP error: host unreachable"), "{dead}");
}

#[test]
fn pages_one_after_the_other_have_every_row_once_and_filters_have_theirs() {
    let routes = "[[route]]\nprefix = \"203.0.113.0/24\"\nvia = \"blackhole\"\n\
                  [[route]]\nprefix = \"203.0.113.128/25\"\nvia = \"prohibit\"\n\
                  [[route]]\nprefix = \"203.0.114.0/24\"\nvia = \"prohibit\"\n\
                  [[route]]\nprefix = \"2001:db8:77::/48\"\nvia = \"blackhole\"\n";
    let control = core_of(&(text("hash") + routes));
    let facts = bare(&control);
    let ask = |show, after, only, count| {
        super::show(&facts, &PageRequest { after, only, count, ..all_of(show) }).unwrap()
    };
    let paged = SHOWN.iter().zip(Show::ALL).filter(|(noun, _)| noun.pages != Pages::Whole);
    for noun in paged.map(|(_, show)| *show) {
        let all = ask(noun, None, None, 256);
        let prefixes = control.writer().iter().count();
        let count = match noun {
            Show::Fib | Show::Routes => prefixes,
            Show::Groups => 6,
            Show::BgpAdvertised => 0,
            _ => control.config().services.len(),
        };
        assert_eq!((all.count, all.next), (count, None), "{noun:?}");
        for count in [1, 2, 3] {
            let (mut rows, mut after) = (Vec::new(), None);
            loop {
                let part = ask(noun, after, None, count);
                rows.extend(json_of(&part.rows));
                after = part.next;
                if after.is_none() {
                    break;
                }
            }
            assert_eq!(rows, json_of(&all.rows), "{noun:?}, {count} at a time");
        }
    }
    let shown = |only| -> Vec<String> {
        let rows = routes_of(ask(Show::Routes, None, Some(only), 256).rows);
        rows.into_iter().map(|row| row.prefix.into_owned()).collect()
    };
    let within = |text: &str| shown(Only::In(text.parse().unwrap()));
    let covering = |text: &str| shown(Only::Covering(text.parse().unwrap()));
    assert_eq!(within("203.0.113.0/24"), ["203.0.113.0/24", "203.0.113.128/25"]);
    assert_eq!(within("203.0.112.0/23"), ["203.0.113.0/24", "203.0.113.128/25"]);
    assert_eq!(within("2001:db8::/32"), ["2001:db8:77::/48"]);
    assert_eq!(covering("203.0.113.200"), ["203.0.113.128/25"]);
    assert_eq!(covering("192.0.2.77"), [""; 0]);
    // The page after a prefix that is gone begins behind where it was.
    let gone = Some("203.0.113.64/26".parse().unwrap());
    let next = ask(Show::Routes, gone, Some(Only::In("203.0.113.0/24".parse().unwrap())), 1);
    assert_eq!(routes_of(next.rows)[0].prefix, "203.0.113.128/25");
    // A cursor that is none, or whose service is gone, is an error that says so.
    for (show, after, says) in [
        (Show::Routes, "nonsense", "prefix"),
        (Show::Groups, "nonsense", "no group"),
        (Show::Services, "gone", "no service is called \"gone\" now"),
        (Show::Checks, "gone", "no service is called \"gone\" now"),
    ] {
        let request = PageRequest { after: Some(after.into()), count: 1, ..all_of(show) };
        let error = super::show(&facts, &request).unwrap_err();
        assert!(error.text().contains(says), "{show:?}: {}", error.text());
    }
}

#[test]
fn routes_that_are_not_used_say_why() {
    let routes = "[[route]]\nprefix = \"203.0.113.0/24\"\nvia = \"10.77.0.1\"\n\
                  [[route]]\nprefix = \"203.0.114.0/24\"\nvia = \"blackhole\"\n";
    let control = core_of(&(text("hash") + routes));
    let facts = bare(&control);
    let rows = routes_of(super::show(&facts, &all_of(Show::Routes)).unwrap().rows);
    let of = |prefix: &str| rows.iter().find(|row| row.prefix == prefix).unwrap();
    let unresolved = of("203.0.113.0/24");
    assert_eq!((unresolved.best, &*unresolved.state), (false, "unused"));
    let why = "next hop 10.77.0.1: no route but a default route leads to it";
    assert_eq!(unresolved.via, ["10.77.0.1"]);
    assert_eq!(unresolved.why.as_deref(), Some(why));
    let used = of("203.0.114.0/24");
    assert_eq!((used.best, &*used.state, &used.why), (true, "up", &None));
}

fn routes_of(rows: Rows) -> Vec<RouteRow> {
    match rows {
        Rows::Routes(rows) => rows,
        other => panic!("rows of another noun: {other:?}"),
    }
}

fn json_of(rows: &Rows) -> Vec<Value> {
    let mut json = b"[".to_vec();
    rows.write_json(&mut json).unwrap();
    json.push(b']');
    serde_json::from_slice(&json).unwrap()
}
