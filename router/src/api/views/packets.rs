//! Rows of what became of packets.

use serde_json::{Value, json};

use super::Facts;
use crate::verdict::{Outcome, Verdict};

/// Counters of every verdict.
pub(super) fn verdicts(facts: &Facts<'_>) -> Vec<Value> {
    let counters = &facts.totals.counters;
    let seen = Verdict::ALL.iter().filter(|verdict| counters.of(**verdict) > 0);
    seen.map(|verdict| {
        let outcome = match verdict.outcome() {
            Outcome::Tx => "sent",
            Outcome::Punt => "punted",
            Outcome::Drop => "dropped",
        };
        let (label, text) = (verdict.label(), verdict.text());
        let packets = counters.of(*verdict);
        json!({ "verdict": label, "outcome": outcome, "packets": packets, "text": text })
    })
    .collect()
}

pub(super) fn drops(facts: &Facts<'_>) -> Vec<Value> {
    let counters = &facts.totals.counters;
    let mut items: Vec<Value> = Verdict::ALL
        .iter()
        .filter(|verdict| verdict.outcome() == Outcome::Drop && counters.of(**verdict) > 0)
        .map(|verdict| {
            json!({
                "reason": verdict.label(),
                "packets": counters.of(*verdict),
                "text": verdict.text(),
            })
        })
        .collect();
    let errors = [
        ("errors-limited", counters.errors_limited, "ICMP errors not sent because of rate limits"),
        ("errors-unroutable", counters.errors_unroutable, "ICMP errors without a route back"),
    ];
    let held_back = errors.into_iter().filter(|(_, packets, _)| *packets > 0);
    items.extend(held_back.map(
        |(reason, packets, text)| json!({ "reason": reason, "packets": packets, "text": text }),
    ));
    items
}
