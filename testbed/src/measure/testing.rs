//! Synthetic traces, for the tests of this module and of the report.
#![forbid(unsafe_code)]

use nearhop::event::{Event, EventKind, SCHEMA};
use nearhop::ids::Family;

use super::kill::{HealResult, KillKind, KillResult};
use super::trace::{Arrival, Flow, Probe, Trace};

/// A flow of `family` over the sites `fra`, `ams`, `par`.
pub fn trace(family: Family, probes: Vec<Probe>) -> Trace {
    let destination = match family {
        Family::Ipv4 => "198.51.100.53:7",
        Family::Ipv6 => "[2001:db8:53::53]:7",
    };
    Trace {
        flow: Flow {
            client: "oslo".into(),
            id: 0,
            family,
            source_port: 40_000,
            destination: destination.parse().unwrap(),
        },
        sites: vec!["fra".into(), "ams".into(), "par".into()],
        probes,
    }
}

/// A probe sent at `sent_us`, which `site` answers after 100 µs each way.
pub fn answered(seq: u64, sent_us: u64, site: u16) -> Probe {
    let sent_ns = sent_us * 1_000;
    let arrival = Arrival { server_ns: sent_ns + LEG_NS, client_ns: sent_ns + 2 * LEG_NS, site };
    Probe { seq, sent_ns, arrival: Some(arrival), duplicates: 0 }
}

/// A probe nobody answers.
pub fn lost(seq: u64, sent_us: u64) -> Probe {
    Probe { seq, sent_ns: sent_us * 1_000, arrival: None, duplicates: 0 }
}

/// `count` probes every `every_us`, answered by site 0 until `fault_us`, by nobody until
/// `repair_us`, and by site 1 from then on.
pub fn failover(count: u64, every_us: u64, fault_us: u64, repair_us: u64) -> Vec<Probe> {
    let probe = |seq| match seq * every_us {
        sent if sent < fault_us => answered(seq, sent, 0),
        sent if sent < repair_us => lost(seq, sent),
        sent => answered(seq, sent, 1),
    };
    (0..count).map(probe).collect()
}

/// A router's event that takes a site out.
pub fn site_down(site: &str, family: Family, t_us: u64, stored_us: u64) -> Event {
    Event {
        schema: SCHEMA.into(),
        t_ns: t_us * 1_000,
        seq: 1,
        node: "r1".into(),
        kind: EventKind::Site {
            service: "dns".into(),
            site: site.into(),
            family,
            port: site.into(),
            up: false,
            reason: "carrier".into(),
            stored_ns: stored_us * 1_000,
        },
    }
}

/// A kill of `fra` that `ams` took over from, on a quiet machine.
pub fn kill_result(kind: KillKind, family: Family, blackout_ms: f64) -> KillResult {
    KillResult {
        kind,
        family,
        blackout_ms,
        resolution_ms: 0.2,
        sent: 1_000,
        lost: 3,
        duplicated: 0,
        reordered: 1,
        from_site: "fra".into(),
        to_site: "ams".into(),
        detect_ms: blackout_ms / 2.0,
        publish_ms: 0.0,
        repair_ms: blackout_ms / 4.0,
        rest_ms: blackout_ms / 4.0,
        call_ms: 0.3,
        wake_ms: 0.1,
        unexplained_moves: 0,
    }
}

/// A heal, among whose 500 probes `lost` were lost.
pub fn heal_result(lost: u64) -> HealResult {
    HealResult {
        kind: KillKind::Silent,
        family: Family::Ipv4,
        sent: 500,
        lost,
        duplicated: 0,
        reordered: 0,
        unexplained_moves: 0,
    }
}

/// One way, in nanoseconds.
pub const LEG_NS: u64 = 100_000;
