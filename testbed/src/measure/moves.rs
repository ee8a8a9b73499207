//! Which site answers a flow, and whether there was a reason for it to change.
#![forbid(unsafe_code)]

use serde::Serialize;

use super::trace::Trace;

/// A flow went from one site to another.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct SiteChange {
    /// Index of the flow among the traces.
    pub flow: usize,
    /// When the last probe that the old site answered was sent.
    pub after_ns: u64,
    /// When the first probe arrived at the new site.
    pub t_ns: u64,
    /// The old site.
    pub from: String,
    /// The new site.
    pub to: String,
}

/// A reason for flows to move, and how long it holds.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct Cause {
    /// From when on.
    pub from_ns: u64,
    /// Until when.
    pub to_ns: u64,
    /// In words.
    pub why: String,
    /// Only flows that leave this site have this reason.
    pub leaves: Option<String>,
    /// Only flows that go to this site have this reason.
    pub enters: Option<String>,
}

/// Every change of site among the probes sent in the given time, in the order of sending: a router
/// decides as packets come in, so packets that overtake each other later are no change.
pub fn site_changes(index: usize, trace: &Trace, from_ns: u64, to_ns: u64) -> Vec<SiteChange> {
    let probes = trace.between(from_ns, to_ns);
    let answered: Vec<_> = probes.iter().filter_map(|p| Some((p, p.arrival?))).collect();
    let moved = |pair: &&[(_, super::Arrival)]| pair[0].1.site != pair[1].1.site;
    let change = |pair: &[(&super::Probe, super::Arrival)]| SiteChange {
        flow: index,
        after_ns: pair[0].0.sent_ns,
        t_ns: pair[1].1.server_ns,
        from: trace.site(&pair[0].1).to_owned(),
        to: trace.site(&pair[1].1).to_owned(),
    };
    answered.windows(2).filter(moved).map(change).collect()
}

/// The changes that no cause covers.
pub fn unexplained<'a>(
    changes: &'a [SiteChange],
    causes: &'a [Cause],
) -> impl Iterator<Item = &'a SiteChange> {
    changes.iter().filter(|change| !causes.iter().any(|cause| cause.explains(change)))
}

impl Cause {
    /// Whether `change` may have happened for this reason: it lies in its time, at least in part,
    /// and concerns its sites.
    pub fn explains(&self, change: &SiteChange) -> bool {
        let concerns = |site: &Option<String>, actual| site.as_deref().is_none_or(|s| s == actual);
        change.t_ns >= self.from_ns
            && change.after_ns <= self.to_ns
            && concerns(&self.leaves, change.from.as_str())
            && concerns(&self.enters, change.to.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn change(after_ns: u64, t_ns: u64, from: &str, to: &str) -> SiteChange {
        SiteChange { flow: 0, after_ns, t_ns, from: from.into(), to: to.into() }
    }

    #[test]
    fn a_cause_explains_only_its_own_time_and_sites() {
        let cause = Cause {
            from_ns: 100,
            to_ns: 200,
            why: "fra died".into(),
            leaves: Some("fra".into()),
            enters: None,
        };
        let cases = [
            (change(90, 110, "fra", "ams"), true, "straddles the beginning"),
            (change(150, 160, "fra", "par"), true, "inside"),
            (change(199, 250, "fra", "ams"), true, "straddles the end"),
            (change(80, 99, "fra", "ams"), false, "before"),
            (change(201, 250, "fra", "ams"), false, "after"),
            (change(150, 160, "ams", "fra"), false, "the way back has another cause"),
        ];
        for (change, expected, case) in cases {
            assert_eq!(cause.explains(&change), expected, "{case}");
            let unexplained = unexplained(std::slice::from_ref(&change), &[]).count();
            assert_eq!(unexplained, 1, "nothing explains {case}");
        }
    }
}
