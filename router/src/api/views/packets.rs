//! Rows of what became of packets.

use super::Facts;
use crate::api::rows::{DropRow, VerdictRow};
use crate::verdict::{Outcome, Verdict};

/// Counters of every verdict.
pub(super) fn verdicts(facts: &Facts<'_>) -> Vec<VerdictRow> {
    let counters = &facts.totals.counters;
    let seen = Verdict::ALL.iter().filter(|verdict| counters.of(**verdict) > 0);
    seen.map(|verdict| VerdictRow {
        verdict: verdict.label().into(),
        outcome: verdict.outcome().label().into(),
        packets: counters.of(*verdict),
        text: verdict.text().into(),
    })
    .collect()
}

/// Counters of what was dropped, and of ICMP errors that were not sent.
pub(super) fn drops(facts: &Facts<'_>) -> Vec<DropRow> {
    let counters = &facts.totals.counters;
    let dropped = Verdict::ALL.iter().filter(|verdict| verdict.outcome() == Outcome::Dropped);
    let dropped = dropped.map(|verdict| (verdict.label(), counters.of(*verdict), verdict.text()));
    let errors = [
        ("errors-limited", counters.errors_limited, "ICMP errors not sent or copied: rate limits"),
        ("errors-unroutable", counters.errors_unroutable, "ICMP errors without a port or a source"),
    ];
    let seen = dropped.chain(errors).filter(|(_, packets, _)| *packets > 0);
    let row = |(reason, packets, text): (&'static str, u64, &'static str)| DropRow {
        reason: reason.into(),
        packets,
        text: text.into(),
    };
    seen.map(row).collect()
}
