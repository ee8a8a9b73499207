//! Each expectation of a scenario beside what was found.
#![forbid(unsafe_code)]

use serde::Serialize;

use super::{Expect, Outcome};

/// An expectation, and whether it held.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct Expectation {
    /// Its key in `[expect]`; after the number of the step if it is a step's.
    pub expect: String,
    /// What was expected.
    pub wanted: String,
    /// What was found.
    pub found: String,
    /// Whether it held.
    pub held: bool,
}

/// Every expectation, those that hold unless the file says otherwise among them.
pub(super) fn expectations(expect: &Expect, outcome: &Outcome) -> Vec<Expectation> {
    let most = |most: u64| format!("{most} at most");
    let mut all = Vec::new();
    let mut add = |expect: &str, wanted: String, found: String| {
        let failure = outcome.failures.iter().find(|failure| failure.expect == expect);
        let found = failure.map_or(found, |failure| failure.what.clone());
        let expect = expect.to_owned();
        all.push(Expectation { expect, wanted, found, held: failure.is_none() });
    };
    if let Some(longest) = expect.outage_max {
        add("outage-max", format!("{longest:?} at most"), format!("{:.2} ms", outcome.outage_ms));
    }
    for (key, limit, found) in [
        ("lost-max", expect.lost_max, outcome.lost),
        ("duplicated-max", expect.duplicated_max, outcome.duplicated),
        ("reordered-max", expect.reordered_max, outcome.reordered),
        ("moves-max", expect.moves_max, outcome.moves),
        ("unexplained-moves", Some(expect.unexplained_moves), outcome.unexplained_moves),
    ] {
        if let Some(limit) = limit {
            add(key, most(limit), found.to_string());
        }
    }
    if expect.every_client_served {
        add("every-client-served", "every flow answered at the end".into(), "all are".into());
    }
    if !expect.served_by.is_empty() {
        let wanted = format!("{} at the end", expect.served_by.join(" or "));
        add("served-by", wanted, "all flows are".into());
    }
    if !expect.damped.is_empty() {
        let wanted = format!("{} held down by the router", expect.damped.join(", "));
        add("damped", wanted, "so it did".into());
    }
    all
}
