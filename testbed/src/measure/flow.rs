//! One flow round one fault.
#![forbid(unsafe_code)]

use super::moves::{SiteChange, site_changes};
use super::trace::{Arrival, Probe, Trace};

/// The time that is looked at.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Window {
    /// Where looking begins, before the fault.
    pub start_ns: u64,
    /// When the fault happened.
    pub fault_ns: u64,
    /// Where looking ends, after everything has been repaired. Every gap up to here counts, those
    /// of a sleepy machine too: best soon after the last flow was served again.
    pub end_ns: u64,
}

/// Which way packets go.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Direction {
    /// From the client to a site: arrivals at the sites.
    ToSite,
    /// From a site to the client: arrivals at the client.
    ToClient,
}

/// The longest gap of one direction.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Outage {
    /// The last arrival before the gap.
    pub from_ns: u64,
    /// The first arrival after it.
    pub to_ns: u64,
    /// The gap less the sending interval at its edges, in nanoseconds.
    pub length_ns: u64,
    /// The longer sending interval of both edges, in nanoseconds: each end lies somewhere in its own.
    pub resolution_ns: u64,
    /// Nothing arrived any more: the gap lasts until the last probe sent, or longer.
    pub open: bool,
}

/// One direction of one flow.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct DirectionResult {
    /// The longest gap that reaches past the fault; zero length if nothing was sent.
    pub outage: Outage,
    /// Arrivals with a lower number than one that came before (RFC 4737, section 3.3, type P).
    pub reordered: u64,
}

/// One flow round one fault.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct FlowResult {
    /// Index of the flow among the traces.
    pub flow: usize,
    /// Client to site.
    pub to_site: DirectionResult,
    /// Site to client.
    pub to_client: DirectionResult,
    /// Probes sent in the window.
    pub sent: u64,
    /// Of these, without any echo.
    pub lost: u64,
    /// Echoes beyond the first.
    pub duplicated: u64,
    /// Who answered the last probe that arrived before the fault.
    pub site_before: Option<String>,
    /// Who answered the last probe of the window that was answered.
    pub site_after: Option<String>,
    /// Every change of site, in the order of sending.
    pub changes: Vec<SiteChange>,
    /// The first arrival at another site than `site_before` after the fault, at that site.
    pub first_on_new_ns: Option<u64>,
}

impl FlowResult {
    /// The longer outage of both directions.
    pub fn outage(&self) -> Outage {
        let (up, down) = (self.to_site.outage, self.to_client.outage);
        if up.length_ns >= down.length_ns { up } else { down }
    }

    /// Whether nothing came any more in either direction.
    pub fn is_open(&self) -> bool {
        self.to_site.outage.open || self.to_client.outage.open
    }
}

/// Measures one flow.
pub fn measure_flow(index: usize, trace: &Trace, window: Window) -> FlowResult {
    let probes = trace.between(window.start_ns, window.end_ns);
    let answered = || probes.iter().filter_map(|probe| Some((probe, probe.arrival?)));
    let direction = |direction| DirectionResult {
        outage: outage(probes, window, direction),
        reordered: reordered(probes, direction),
    };
    let before = answered().filter(|(_, arrival)| arrival.server_ns < window.fault_ns);
    let site_before = before.max_by_key(|(_, a)| a.server_ns).map(|(_, a)| trace.site(&a));
    let site_after = answered().max_by_key(|(_, a)| a.server_ns).map(|(_, a)| trace.site(&a));
    let on_new = answered().filter(|(_, arrival)| {
        arrival.server_ns >= window.fault_ns
            && site_before.is_some_and(|s| s != trace.site(arrival))
    });
    FlowResult {
        flow: index,
        to_site: direction(Direction::ToSite),
        to_client: direction(Direction::ToClient),
        sent: probes.len() as u64,
        lost: probes.iter().filter(|probe| probe.arrival.is_none()).count() as u64,
        duplicated: probes.iter().map(|probe| u64::from(probe.duplicates)).sum(),
        first_on_new_ns: on_new.map(|(_, arrival)| arrival.server_ns).min(),
        site_before: site_before.map(str::to_owned),
        site_after: site_after.map(str::to_owned),
        changes: site_changes(index, trace, window.start_ns, window.end_ns),
    }
}

/// The longest gap between consecutive arrivals that reaches past the fault.
///
/// Service ended somewhere between the sending of the last probe that arrived and of the next one,
/// and began again somewhere between the sending of the first that arrived and of the one before:
/// on average half of both intervals belongs to the service, and is taken off. At a constant spacing
/// that is one interval; a sender that was late, or changed its spacing, makes no outage.
fn outage(probes: &[Probe], window: Window, direction: Direction) -> Outage {
    let (Some(first), Some(last)) = (probes.first(), probes.last()) else {
        return Outage::default();
    };
    let arrival = |(index, probe): (usize, &Probe)| {
        let t_ns = direction.time(&probe.arrival?);
        Some(Edge { t_ns, before: interval(probes, index), after: interval(probes, index + 1) })
    };
    let mut arrivals: Vec<Edge> = probes.iter().enumerate().filter_map(arrival).collect();
    arrivals.sort_unstable();
    // Before the first arrival a gap begins where looking began; after the last one it lasts as
    // long as probes were sent in vain.
    let starts = std::iter::once(Edge::at(first.sent_ns)).chain(arrivals.iter().copied());
    let ends = arrivals.iter().map(|arrival| (*arrival, false));
    let trailing = last.arrival.is_none().then_some((Edge::at(last.sent_ns), true));
    starts
        .zip(ends.chain(trailing))
        .filter(|(_, (to, _))| to.t_ns > window.fault_ns)
        .map(|(from, (to, open))| Outage {
            from_ns: from.t_ns,
            to_ns: to.t_ns,
            length_ns: to
                .t_ns
                .saturating_sub(from.t_ns)
                .saturating_sub(from.after.midpoint(to.before)),
            resolution_ns: from.after.max(to.before),
            open,
        })
        // Of equal gaps the first.
        .reduce(|best, next| if next.length_ns > best.length_ns { next } else { best })
        .unwrap_or_default()
}

/// An arrival, and how many nanoseconds before and after its probe others were sent.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
struct Edge {
    t_ns: u64,
    before: u64,
    after: u64,
}

impl Edge {
    fn at(t_ns: u64) -> Self {
        Self { t_ns, before: 0, after: 0 }
    }
}

/// The time from the sending of the probe before `index` to that of `index`; 0 at the ends.
fn interval(probes: &[Probe], index: usize) -> u64 {
    let before = index.checked_sub(1).and_then(|before| probes.get(before));
    let both = before.zip(probes.get(index));
    both.map_or(0, |(before, this)| this.sent_ns.saturating_sub(before.sent_ns))
}

/// RFC 4737: an arrival is reordered if its number is below the next expected one, which is one
/// more than the highest seen. First echoes only; further ones are duplicates.
fn reordered(probes: &[Probe], direction: Direction) -> u64 {
    let mut arrivals: Vec<(u64, u64)> =
        probes.iter().filter_map(|p| Some((direction.time(&p.arrival?), p.seq))).collect();
    arrivals.sort_unstable();
    let mut next_expected = 0;
    let mut count = 0;
    for (_, seq) in arrivals {
        count += u64::from(seq < next_expected);
        next_expected = next_expected.max(seq + 1);
    }
    count
}

impl Direction {
    fn time(self, arrival: &Arrival) -> u64 {
        match self {
            Self::ToSite => arrival.server_ns,
            Self::ToClient => arrival.client_ns,
        }
    }
}

#[cfg(test)]
mod tests;
