//! Rows of checks.

use std::collections::{BTreeMap, BTreeSet};

use nearhop_fib::PathId;

use super::services::services_of_page;
use super::{Facts, micros, owned};
use crate::api::ApiError;
use crate::api::pages::{Page, PageRequest};
use crate::api::rows::CheckRow;
use crate::config::model::Service;
use crate::control::LegKey;
use crate::liveness::leg::TcpCheckKey;
use crate::policy::CheckKind;
use crate::probe::{CheckSpec, CheckStats, Ignore};

/// A page of checks. Only about these are the threads asked that do them.
pub(super) fn page_of_checks(
    facts: &Facts<'_>,
    request: &PageRequest,
) -> Result<Page<Vec<CheckRow>>, ApiError> {
    let (mut probed, mut asked_by_tcp, mut count) = (BTreeSet::new(), BTreeSet::new(), 0);
    let services = services_of_page(facts, request, |service| {
        for (_, leg) in facts.control.services().legs_of(&service.name) {
            count += leg.checks().len();
            let by_tcp = leg.checks().iter().filter(|check| check.is_tcp()).count();
            if by_tcp > 0 {
                asked_by_tcp.insert(leg.path);
            }
            if by_tcp < leg.checks().len() {
                probed.insert(leg.path);
            }
        }
        count
    })?;
    // Where nothing is to be known, nobody is asked.
    let probes = if probed.is_empty() {
        Some(BTreeMap::new())
    } else {
        (facts.liveness)(probed).map(|report| report.checks)
    };
    let known = KnownChecks { probes, tcp: (facts.tcp_checks)(&asked_by_tcp) };
    let mut rows = Vec::with_capacity(count);
    for service in services.rows {
        check_rows(facts, &known, service, &mut rows);
    }
    Ok(Page { rows, count: services.count, next: services.next })
}

/// What the checks of a page have found.
struct KnownChecks {
    /// `None`: the liveness thread did not answer in time.
    probes: Option<BTreeMap<PathId, Vec<CheckStats>>>,
    tcp: BTreeMap<TcpCheckKey, CheckStats>,
}

/// What is known of one check.
#[derive(Clone, Copy)]
enum Known<'a> {
    /// It has not begun.
    NotBegun,
    Stats(&'a CheckStats),
    /// The thread that does it did not answer.
    Nothing,
}

/// Every check of a service: its target and its state.
fn check_rows(facts: &Facts<'_>, known: &KnownChecks, service: &Service, rows: &mut Vec<CheckRow>) {
    for (key, leg) in facts.control.services().legs_of(&service.name) {
        let probes = known.probes.as_ref().map(|probes| probes.get(&leg.path));
        let mut probes = probes.map(|probes| probes.map_or(&[][..], Vec::as_slice).iter());
        for (index, check) in leg.checks().iter().enumerate() {
            let stats = if check.is_tcp() {
                Some(known.tcp.get(&TcpCheckKey { path: leg.path, version: leg.version, index }))
            } else {
                probes.as_mut().map(Iterator::next)
            };
            let known = match stats {
                None => Known::Nothing,
                Some(stats) => stats.map_or(Known::NotBegun, Known::Stats),
            };
            rows.push(check_row(facts, key, (index, check), known));
        }
    }
}

fn check_row(
    facts: &Facts<'_>,
    key: &LegKey,
    (index, check): (usize, &CheckSpec),
    known: Known<'_>,
) -> CheckRow {
    let state = match known {
        Known::Nothing => None,
        Known::Stats(stats) if stats.known => Some(if stats.up { "up" } else { "down" }),
        Known::NotBegun | Known::Stats(_) => Some("waiting"),
    };
    let stats = match known {
        Known::Stats(stats) => Some(stats),
        _ => None,
    };
    let ignored = |reason| stats.map(|stats| stats.ignored.of(reason));
    CheckRow {
        target: check.target.to_string().into(),
        site: owned(&key.site),
        service: owned(&key.service),
        port: owned(&key.port),
        check: index as u64,
        kind: check_label(&check.kind).into(),
        state: state.map(Into::into),
        latency_us: stats.and_then(|stats| stats.rtt_ewma).map(micros),
        sent: stats.map(|stats| stats.sent),
        answered: stats.map(|stats| stats.answered),
        lost: stats.map(|stats| stats.lost),
        age_ms: stats.map(|stats| facts.age_ms(stats.since)),
        ignored_unreachable: ignored(Ignore::Unreachable),
        ignored_transit: ignored(Ignore::Transit),
        ignored_mismatch: ignored(Ignore::Mismatch),
        ignored_short_quote: ignored(Ignore::ShortQuote),
        ignored_other_port: ignored(Ignore::OtherPort),
        ignored_stale: ignored(Ignore::Stale),
        ignored_answer: ignored(Ignore::Answer),
        last_error: stats.and_then(|stats| stats.last_error).map(|error| error.to_string().into()),
    }
}

fn check_label(kind: &CheckKind) -> &'static str {
    match kind {
        CheckKind::Dns { .. } => "dns",
        CheckKind::Icmp => "icmp",
        CheckKind::Tcp { .. } => "tcp",
        CheckKind::Udp { .. } => "udp",
    }
}
