//! One kill, one family: from traces and events to what is reported.
#![forbid(unsafe_code)]

use std::fmt;

use nearhop::event::{Event, EventKind};
use nearhop::ids::Family;
use serde::{Deserialize, Serialize};

use super::flow::{FlowResult, Window, measure_flow};
use super::judge::Conditions;
use super::moves::{Cause, SiteChange, unexplained};
use super::trace::Trace;
use super::{ms, ms_between};

/// How something dies.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum KillKind {
    /// The link is set down: carrier says so.
    Announced,
    /// Packets vanish both ways and nobody is notified.
    Silent,
    /// The site's process gets SIGKILL.
    Server,
    /// Power loss: all its processes killed and its link silent at once.
    Site,
    /// The site's BGP daemon gets SIGKILL; its servers live.
    Daemon,
}

/// A kill, as the one who did it knows it.
#[derive(Clone, Debug)]
pub struct Kill {
    /// How.
    pub kind: KillKind,
    /// Which flows are measured.
    pub family: Family,
    /// Who died.
    pub site: String,
    /// The service whose event counts; `None`: any.
    pub service: Option<String>,
    /// When, and how long around it is looked at.
    pub window: Window,
    /// What the machine was like meanwhile.
    pub conditions: Conditions,
    /// Other reasons for flows to move in the window; the kill itself need not be given.
    pub causes: Vec<Cause>,
}

/// What one kill did to the flows of one family.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct KillResult {
    /// How.
    pub kind: KillKind,
    /// Which flows.
    pub family: Family,
    /// The longest outage over the flows that were hit and both directions.
    pub blackout_ms: f64,
    /// How exactly that is known: the longer sending interval at its two edges.
    pub resolution_ms: f64,
    /// Probes sent in the window, all flows of the family.
    pub sent: u64,
    /// Of these, never answered.
    pub lost: u64,
    /// Echoes beyond the first.
    pub duplicated: u64,
    /// Echoes that arrived after one of a later probe.
    pub reordered: u64,
    /// Who died.
    pub from_site: String,
    /// Who took over; several names are joined by commas.
    pub to_site: String,
    /// From the fault to the router's event.
    pub detect_ms: f64,
    /// From the event to the store of the byte that workers read.
    pub publish_ms: f64,
    /// From that store to the first packet received on the new path, at the site.
    pub repair_ms: f64,
    /// What is left of the blackout, and negative where the parts above are longer: before the fault
    /// the time since the last arrival, after the repair the time until the flow that was hit hardest
    /// sent its next probe and, at the client, its way back; less the sending interval.
    pub rest_ms: f64,
    /// How long the call took that did the harm.
    pub call_ms: f64,
    /// The longest time that a thread waited for its core meanwhile.
    pub wake_ms: f64,
    /// Changes of site without a reason.
    pub unexplained_moves: u64,
}

/// A [`KillResult`] with what it was made from, for reports.
#[derive(Clone, Debug)]
pub struct MeasuredKill {
    /// The figures.
    pub result: KillResult,
    /// Each flow of the family.
    pub flows: Vec<FlowResult>,
    /// Index in `flows` of the one with the longest outage.
    pub worst: usize,
    /// The router's event that counted: when the news came, and when the byte was stored.
    pub event_ns: (u64, u64),
    /// The first arrival on the new path, at the site.
    pub first_on_new_ns: u64,
    /// Changes of site without a reason.
    pub unexplained: Vec<SiteChange>,
}

/// A kill that gives no figure.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum KillError {
    /// Nothing was sent.
    #[error(
        "{kind} kill of {site}, {}: no probe was sent in the window; does the prober run, and has \
         it flows of this family?", .family.label()
    )]
    NoProbes {
        /// How.
        kind: KillKind,
        /// Which flows.
        family: Family,
        /// Who died.
        site: String,
    },
    /// Nobody used what was killed.
    #[error(
        "{kind} kill of {site}, {}: it hit no flow; before the fault these sites answered: {found}; \
         make {site} the cheapest site and wait until it answers", .family.label()
    )]
    NoFlowHit {
        /// How.
        kind: KillKind,
        /// Which flows.
        family: Family,
        /// Who died.
        site: String,
        /// Who answered instead.
        found: String,
    },
    /// A flow was not served any more.
    #[error(
        "{kind} kill of {site}, {}: {flows} flows were still not answered {waited_ms:.1} ms after \
         the fault; is another site up, and is the window long enough?", .family.label()
    )]
    NotRepaired {
        /// How.
        kind: KillKind,
        /// Which flows.
        family: Family,
        /// Who died.
        site: String,
        /// How many flows.
        flows: usize,
        /// How long they were waited for.
        waited_ms: Milliseconds,
    },
    /// The router said nothing.
    #[error(
        "{kind} kill of {site}, {}: the router reported no 'site' event with up = false in the window; \
         is 'watch' connected, and is the site's name the same there?", .family.label()
    )]
    NoEvent {
        /// How.
        kind: KillKind,
        /// Which flows.
        family: Family,
        /// Who died.
        site: String,
    },
}

/// Whole microseconds, printed as milliseconds.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Milliseconds(u64);

/// A repair, as the one who did it knows it.
#[derive(Clone, Debug)]
pub struct Heal {
    /// What was healed.
    pub kind: KillKind,
    /// Which flows are measured.
    pub family: Family,
    /// Who came back.
    pub site: String,
    /// From before the heal until the flows have settled; `fault_ns` is when it was healed.
    pub window: Window,
    /// Other reasons for flows to move in the window; the return itself need not be given.
    pub causes: Vec<Cause>,
}

/// What a heal, or any other change that must lose nothing, did to the flows of one family.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct HealResult {
    /// What was healed.
    pub kind: KillKind,
    /// Which flows.
    pub family: Family,
    /// Probes sent in the window.
    pub sent: u64,
    /// Of these, never answered.
    pub lost: u64,
    /// Echoes beyond the first.
    pub duplicated: u64,
    /// Echoes that arrived after one of a later probe.
    pub reordered: u64,
    /// Changes of site without a reason.
    pub unexplained_moves: u64,
}

/// Measures a kill over the traces of its family; traces of the other are left alone.
pub fn measure_kill(
    kill: &Kill,
    traces: &[Trace],
    events: &[Event],
) -> Result<MeasuredKill, KillError> {
    let flows = measure_family(traces, kill.family, kill.window);
    let hit = kill.hit(&flows)?;
    let (event_ns, stored_ns) = kill.event(events)?;
    let worst = hit.iter().copied().max_by_key(|at| flows[*at].outage().length_ns).unwrap_or(0);
    let outage = flows[worst].outage();
    let firsts = hit.iter().filter_map(|at| flows[*at].first_on_new_ns);
    let first_on_new_ns = firsts.min().ok_or_else(|| kill.not_repaired(hit.len()))?;
    let unexplained = kill.unexplained(&flows);
    let result = KillResult {
        kind: kill.kind,
        family: kill.family,
        blackout_ms: ms(outage.length_ns),
        resolution_ms: ms(outage.resolution_ns),
        sent: flows.iter().map(|flow| flow.sent).sum(),
        lost: flows.iter().map(|flow| flow.lost).sum(),
        duplicated: flows.iter().map(|flow| flow.duplicated).sum(),
        reordered: flows.iter().map(|flow| flow.to_client.reordered).sum(),
        from_site: kill.site.clone(),
        to_site: names(hit.iter().filter_map(|at| flows[*at].site_after.as_deref())),
        detect_ms: ms_between(kill.window.fault_ns, event_ns),
        publish_ms: ms_between(event_ns, stored_ns),
        repair_ms: ms_between(stored_ns, first_on_new_ns),
        // The parts above reach from the fault to the first packet.
        rest_ms: ms_between(first_on_new_ns, kill.window.fault_ns + outage.length_ns),
        call_ms: ms(kill.conditions.call_ns),
        wake_ms: ms(kill.conditions.wake_ns),
        unexplained_moves: unexplained.len() as u64,
    };
    let event_ns = (event_ns, stored_ns);
    Ok(MeasuredKill { result, flows, worst, event_ns, first_on_new_ns, unexplained })
}

/// Measures a heal: what was lost, and whether flows moved for no reason.
pub fn measure_heal(heal: &Heal, traces: &[Trace]) -> HealResult {
    let flows = measure_family(traces, heal.family, heal.window);
    let mut causes = heal.causes.clone();
    causes.push(Cause {
        from_ns: heal.window.fault_ns,
        to_ns: heal.window.end_ns,
        why: format!("{} came back", heal.site),
        leaves: None,
        enters: Some(heal.site.clone()),
    });
    let moves = flows.iter().map(|flow| unexplained(&flow.changes, &causes).count() as u64);
    HealResult {
        kind: heal.kind,
        family: heal.family,
        sent: flows.iter().map(|flow| flow.sent).sum(),
        lost: flows.iter().map(|flow| flow.lost).sum(),
        duplicated: flows.iter().map(|flow| flow.duplicated).sum(),
        reordered: flows.iter().map(|flow| flow.to_client.reordered).sum(),
        unexplained_moves: moves.sum(),
    }
}

impl Kill {
    /// Which flows used what was killed, all of them served again.
    fn hit(&self, flows: &[FlowResult]) -> Result<Vec<usize>, KillError> {
        let (kind, family, site) = (self.kind, self.family, self.site.clone());
        if flows.iter().all(|flow| flow.sent == 0) {
            return Err(KillError::NoProbes { kind, family, site });
        }
        let used = |at: &usize| flows[*at].site_before.as_deref() == Some(&self.site);
        let hit: Vec<usize> = (0..flows.len()).filter(used).collect();
        if hit.is_empty() {
            let found = names(flows.iter().filter_map(|flow| flow.site_before.as_deref()));
            let found = if found.is_empty() { "none".to_owned() } else { found };
            return Err(KillError::NoFlowHit { kind, family, site, found });
        }
        let open = hit.iter().filter(|at| flows[**at].is_open()).count();
        if open > 0 { Err(self.not_repaired(open)) } else { Ok(hit) }
    }

    fn not_repaired(&self, flows: usize) -> KillError {
        let waited = self.window.end_ns.saturating_sub(self.window.fault_ns);
        KillError::NotRepaired {
            kind: self.kind,
            family: self.family,
            site: self.site.clone(),
            flows,
            waited_ms: Milliseconds(waited / 1_000),
        }
    }

    /// When the router heard of it and when it stored what workers read: of the events that take
    /// this site out, the one whose store came first.
    fn event(&self, events: &[Event]) -> Result<(u64, u64), KillError> {
        let window = self.window.fault_ns..=self.window.end_ns;
        let matching = events.iter().filter(|event| window.contains(&event.t_ns));
        let times = matching.filter_map(|event| match &event.kind {
            EventKind::Site { service, site, family, up: false, stored_ns, .. }
                if *site == self.site
                    && *family == self.family
                    && self.service.as_ref().is_none_or(|wanted| wanted == service) =>
            {
                Some((event.t_ns, *stored_ns))
            }
            _ => None,
        });
        times.min_by_key(|(_, stored)| *stored).ok_or_else(|| KillError::NoEvent {
            kind: self.kind,
            family: self.family,
            site: self.site.clone(),
        })
    }

    fn unexplained(&self, flows: &[FlowResult]) -> Vec<SiteChange> {
        let mut causes = self.causes.clone();
        causes.push(Cause {
            from_ns: self.window.fault_ns,
            to_ns: self.window.end_ns,
            why: format!("{} kill of {}", self.kind, self.site),
            leaves: Some(self.site.clone()),
            enters: None,
        });
        flows.iter().flat_map(|flow| unexplained(&flow.changes, &causes)).cloned().collect()
    }
}

impl KillKind {
    /// The kinds of the demo, in the order in which they are shown.
    pub const ALL: [Self; 4] = [Self::Announced, Self::Silent, Self::Server, Self::Site];

    /// Its name in JSON and on the command line.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Announced => "announced",
            Self::Silent => "silent",
            Self::Server => "server",
            Self::Site => "site",
            Self::Daemon => "daemon",
        }
    }
}

impl fmt::Display for KillKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.label())
    }
}

impl fmt::Display for Milliseconds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&(self.0 as f64 / 1e3), f)
    }
}

fn measure_family(traces: &[Trace], family: Family, window: Window) -> Vec<FlowResult> {
    let of_family = traces.iter().enumerate().filter(|(_, trace)| trace.flow.family == family);
    of_family.map(|(index, trace)| measure_flow(index, trace, window)).collect()
}

/// Different names in the order of appearance, joined by commas.
pub(super) fn names<'a>(all: impl Iterator<Item = &'a str>) -> String {
    let mut seen: Vec<&str> = Vec::new();
    for name in all {
        if !seen.contains(&name) {
            seen.push(name);
        }
    }
    seen.join(",")
}

#[cfg(test)]
mod tests;
