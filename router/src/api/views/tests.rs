//! What `explain` answers about flows.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use arc_swap::ArcSwap;
use nearhop_fib::fib;

use super::*;
use crate::api::ExplainQuery;
use crate::api::pages::{Only, PAGED};
use crate::batch::Exit;
use crate::config;
use crate::control::LegState;
use crate::forward::PathCount;
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

fn explained(control: &Control, from: &str) -> Result<Value, ApiError> {
    let (address, from) = ("198.51.100.53".parse().unwrap(), from.parse().ok());
    let query = ExplainQuery { address, from, proto: Some(17), sport: Some(1), dport: Some(53) };
    answer(control, &query)
}

/// What is known of a router that has not run yet.
fn bare(control: &Control) -> Facts<'_> {
    static OPENED: BTreeMap<String, Place> = BTreeMap::new();
    Facts {
        now: Nanos::ZERO,
        control,
        totals: WorkerReport::default(),
        workers: Vec::new(),
        host: HostStats::default(),
        tcp_checks: Vec::new(),
        slow_steps: Vec::new(),
        opened: &OPENED,
        liveness: &|| None,
    }
}

fn answer(control: &Control, query: &ExplainQuery) -> Result<Value, ApiError> {
    explain(&bare(control), query)
}

/// A document of every noun that the router answers, each with rows of every kind.
pub(crate) fn documents() -> Vec<(&'static str, Value)> {
    let control = core_of(&(text("hash") + CHECKED));
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
    let stats = CheckStats { rtt_ewma: Some(Duration::from_micros(420)), ..CheckStats::default() };
    let checks = |leg: &LegState| vec![stats; leg.checks().len()];
    let checks = control.legs().map(|(_, leg)| (leg.path, checks(leg))).collect();
    let liveness = LivenessReport { checks, ..LivenessReport::default() };
    let facts = Facts {
        totals,
        workers: vec![WorkerFacts { polling: Polling::default(), lookup_codes: ["plain"; 2] }],
        host: HostStats { received: 17, ..HostStats::default() },
        slow_steps: vec![SlowStep { thread: "control", step: "reload", ..SlowStep::default() }],
        liveness: &|| Some(liveness.clone()),
        ..bare(&control)
    };
    let nouns = ["adjacencies", "drops", "host", "ports", "router", "steps", "verdicts", "workers"];
    let mut documents: Vec<_> =
        nouns.into_iter().map(|noun| (noun, show(&facts, noun).unwrap())).collect();
    for noun in PAGED {
        let request = PageRequest { noun, after: None, only: None, count: 256 };
        let schema = format!("nearhop.{noun}.v1");
        let rows = page(&facts, &request).unwrap().rows;
        documents.push((noun, json!({ "schema": schema, "items": rows })));
    }
    documents.push(("explain", explained(&control, "10.0.0.2").unwrap()));
    documents.push(("drain", drained(&control, "ams", true)));
    documents.push(("reload", reloaded(&["router: workers 1 -> 2".into()])));
    documents.push(("undamp", undamped()));
    documents
}

#[test]
fn a_flow_has_one_member_unless_each_packet_has_its_own() {
    let chosen = |document: &Value| {
        let items = document["items"].as_array().unwrap();
        items.iter().filter(|item| item["chosen"] == json!(true)).count()
    };
    let by_flow = explained(&control("hash"), "10.0.0.2").unwrap();
    assert_eq!(chosen(&by_flow), 1);
    let by_packet = explained(&control("none"), "10.0.0.2").unwrap();
    assert_eq!(chosen(&by_packet), 0);
    assert_eq!(by_packet["selected"], "any of the best, packet by packet");
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
        answer(&control, &query).unwrap()["outcome"].as_str().unwrap().to_owned()
    };
    let own = control.config().ports[0].addresses[0].ip().to_string();
    for (address, want) in [
        ("198.51.100.53", "forwarded"),
        (&own, "delivered to the router itself"),
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
    let ask =
        |noun, after, only, count| page(&facts, &PageRequest { noun, after, only, count }).unwrap();
    for noun in PAGED {
        let all = ask(noun, None, None, 256);
        let prefixes = control.writer().iter().count();
        let count = match noun {
            "fib" | "routes" => prefixes,
            "groups" => 6,
            _ => control.config().services.len(),
        };
        assert_eq!((all.count, all.next), (count, None), "{noun}");
        for count in [1, 2, 3] {
            let (mut rows, mut after) = (Vec::new(), None);
            loop {
                let part = ask(noun, after, None, count);
                rows.extend(part.rows);
                after = part.next;
                if after.is_none() {
                    break;
                }
            }
            assert_eq!(rows, all.rows, "{noun}, {count} at a time");
        }
    }
    let shown = |only| -> Vec<String> {
        let rows = ask("routes", None, Some(only), 256).rows;
        rows.iter().map(|row| row["prefix"].as_str().unwrap().to_owned()).collect()
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
    let next = ask("routes", gone, Some(Only::In("203.0.113.0/24".parse().unwrap())), 1);
    assert_eq!(next.rows[0]["prefix"], "203.0.113.128/25");
    // A cursor that is none, or whose service is gone, is an error that says so.
    for (noun, after, says) in [
        ("routes", "nonsense", "prefix"),
        ("groups", "nonsense", "no group"),
        ("services", "gone", "no service is called \"gone\" now"),
        ("checks", "gone", "no service is called \"gone\" now"),
    ] {
        let request = PageRequest { noun, after: Some(after.into()), only: None, count: 1 };
        let error = page(&facts, &request).unwrap_err();
        assert!(error.text().contains(says), "{noun}: {}", error.text());
    }
}

#[test]
fn routes_that_are_not_used_say_why() {
    let routes = "[[route]]\nprefix = \"203.0.113.0/24\"\nvia = \"10.77.0.1\"\n\
                  [[route]]\nprefix = \"203.0.114.0/24\"\nvia = \"blackhole\"\n";
    let control = core_of(&(text("hash") + routes));
    let facts = bare(&control);
    let request = PageRequest { noun: "routes", after: None, only: None, count: 256 };
    let rows = page(&facts, &request).unwrap().rows;
    let of = |prefix: &str| rows.iter().find(|row| row["prefix"] == prefix).unwrap();
    let unresolved = of("203.0.113.0/24");
    assert_eq!((&unresolved["best"], &unresolved["state"]), (&json!(false), &json!("unused")));
    let why = "next hop 10.77.0.1: no route but a default route leads to it";
    assert_eq!((&unresolved["via"], &unresolved["why"]), (&json!(["10.77.0.1"]), &json!(why)));
    let used = of("203.0.114.0/24");
    assert_eq!(
        (&used["best"], &used["state"], &used["why"]),
        (&json!(true), &json!("up"), &json!(null))
    );
}
