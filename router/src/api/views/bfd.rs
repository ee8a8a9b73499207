//! Rows of BFD sessions.

use std::collections::BTreeSet;

use super::{Facts, micros, owned};
use crate::api::column::Text;
use crate::api::rows::{BfdDropRow, BfdRow};
use crate::liveness::bfd::{BfdReport, BfdView};

/// Every session; none while the liveness thread does not answer.
pub(super) fn bfd(facts: &Facts<'_>) -> Vec<BfdRow> {
    let report = (facts.liveness)(BTreeSet::new()).unwrap_or_default();
    report.bfd.iter().map(|session| row(facts, session)).collect()
}

/// What the sessions did not use.
pub(super) fn bfd_drops(facts: &Facts<'_>) -> Vec<BfdDropRow> {
    let report = (facts.liveness)(BTreeSet::new()).unwrap_or_default();
    let row = |(&reason, &packets): (&&'static str, &u64)| BfdDropRow {
        reason: Text::Borrowed(reason),
        packets,
    };
    report.bfd_dropped.iter().map(row).collect()
}

fn row(facts: &Facts<'_>, session: &BfdReport) -> BfdRow {
    let ends = &session.ends;
    let [diagnostic, remote_diagnostic] = &session.diagnostics;
    let [multiplier, remote_multiplier] = session.multipliers;
    BfdRow {
        neighbor: ends.remote.to_string().into(),
        local_address: ends.local.to_string().into(),
        port: ends.link.and_then(|link| facts.control.name_of(link)).map(owned),
        state: session.state.label().into(),
        remote_state: session.remote_state.label().into(),
        age_ms: facts.age_ms(session.since),
        path: path(session.view).into(),
        bgp_neighbors: facts.control.bfd_neighbors(ends).map(owned).collect(),
        interval_us: session.interval.map(micros),
        detection_us: micros(session.detection_time),
        multiplier: multiplier.into(),
        remote_multiplier: remote_multiplier.into(),
        pace: session.pace.into(),
        late_us: micros(session.stats.late_max),
        received: session.stats.received,
        sent: session.stats.sent,
        discarded: session.stats.discarded,
        diagnostic: owned(diagnostic),
        remote_diagnostic: owned(remote_diagnostic),
    }
}

const fn path(view: BfdView) -> &'static str {
    match view {
        BfdView::Unknown => "unknown",
        BfdView::Up => "yes",
        BfdView::Failed => "no",
    }
}
