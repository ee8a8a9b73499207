//! Rows of checks.

use std::collections::BTreeMap;

use nearhop_fib::PathId;
use serde_json::{Value, json};

use super::Facts;
use crate::config::model::Service;
use crate::control::LegKey;
use crate::liveness::leg::TcpCheckKey;
use crate::policy::CheckKind;
use crate::probe::{CheckSpec, CheckStats};

/// What checks have found.
pub(super) struct KnownChecks {
    pub(super) probes: BTreeMap<PathId, Vec<CheckStats>>,
    pub(super) tcp: BTreeMap<TcpCheckKey, CheckStats>,
}

/// Every check of a service: its target and its state.
pub(super) fn check_rows(
    facts: &Facts<'_>,
    known: &KnownChecks,
    service: &Service,
    items: &mut Vec<Value>,
) {
    for (key, leg) in facts.control.services().legs_of(&service.name) {
        let mut probes = known.probes.get(&leg.path).map_or(&[][..], Vec::as_slice).iter();
        for (index, check) in leg.checks().iter().enumerate() {
            let stats = if check.is_tcp() {
                known.tcp.get(&TcpCheckKey { path: leg.path, version: leg.version, index })
            } else {
                probes.next()
            };
            let mut item = check_item(facts, key, check, stats);
            item["check"] = json!(index);
            items.push(item);
        }
    }
}

/// `stats`: `None` until the check has begun.
pub(super) fn check_item(
    facts: &Facts<'_>,
    key: &LegKey,
    check: &CheckSpec,
    stats: Option<&CheckStats>,
) -> Value {
    let state = match stats {
        Some(stats) if !stats.known => "waiting",
        Some(stats) if stats.up => "up",
        Some(_) => "down",
        None => "waiting",
    };
    json!({
        "target": check.target.to_string(),
        "site": key.site,
        "service": key.service,
        "port": key.port,
        "kind": check_label(&check.kind),
        "state": state,
        "latency_us": stats.and_then(|stats| stats.rtt_ewma).map(|rtt| rtt.as_micros() as u64),
        "age_ms": stats.map(|stats| facts.age_ms(stats.since)),
        "sent": stats.map(|stats| stats.sent),
        "answered": stats.map(|stats| stats.answered),
        "lost": stats.map(|stats| stats.lost),
    })
}

pub(super) fn check_label(kind: &CheckKind) -> &'static str {
    match kind {
        CheckKind::Dns { .. } => "dns",
        CheckKind::Icmp => "icmp",
        CheckKind::Tcp { .. } => "tcp",
        CheckKind::Udp { .. } => "udp",
    }
}
