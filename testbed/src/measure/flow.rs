//! One flow round one fault.
#![forbid(unsafe_code)]

use std::time::Duration;

use super::moves::{SiteChange, site_changes};
use super::trace::{Arrival, Probe, Trace};

/// The time that is looked at.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Window {
    /// Where looking begins, before the fault.
    pub start_ns: u64,
    /// When the fault happened.
    pub fault_ns: u64,
    /// Where looking ends, after everything has been repaired.
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
    /// The gap less the sending interval, in nanoseconds.
    pub length_ns: u64,
    /// The longest interval between two sends round the gap, in nanoseconds.
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

/// Measures one flow. `interval` is the nominal time between two of its probes.
pub fn measure_flow(index: usize, trace: &Trace, window: Window, interval: Duration) -> FlowResult {
    let probes = trace.between(window.start_ns, window.end_ns);
    let interval_ns = u64::try_from(interval.as_nanos()).unwrap_or(u64::MAX);
    let answered = || probes.iter().filter_map(|probe| Some((probe, probe.arrival?)));
    let direction = |direction| DirectionResult {
        outage: outage(probes, window, interval_ns, direction),
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
fn outage(probes: &[Probe], window: Window, interval_ns: u64, direction: Direction) -> Outage {
    let (Some(first), Some(last)) = (probes.first(), probes.last()) else {
        return Outage::default();
    };
    let mut arrivals: Vec<(u64, u64)> =
        probes.iter().filter_map(|p| Some((direction.time(&p.arrival?), p.sent_ns))).collect();
    arrivals.sort_unstable();
    // Before the first arrival a gap begins where looking began; after the last one it lasts as
    // long as probes were sent in vain.
    let begin = (first.sent_ns, first.sent_ns);
    let starts = std::iter::once(begin).chain(arrivals.iter().copied());
    let ends = arrivals.iter().map(|arrival| (*arrival, false));
    let trailing = last.arrival.is_none().then_some(((last.sent_ns, last.sent_ns), true));
    starts
        .zip(ends.chain(trailing))
        .filter(|(_, ((to, _), _))| *to > window.fault_ns)
        .map(|((from, sent_from), ((to, sent_to), open))| Outage {
            from_ns: from,
            to_ns: to,
            length_ns: to.saturating_sub(from).saturating_sub(interval_ns),
            resolution_ns: longest_send_interval(probes, sent_from, sent_to).max(interval_ns),
            open,
        })
        // Of equal gaps the first.
        .reduce(|best, next| if next.length_ns > best.length_ns { next } else { best })
        .unwrap_or_default()
}

/// The longest time between two consecutive sends from the probe sent at `from_ns` to the one sent
/// at `to_ns`; the two may come in either order, as packets may.
fn longest_send_interval(probes: &[Probe], from_ns: u64, to_ns: u64) -> u64 {
    let (low, high) = (from_ns.min(to_ns), from_ns.max(to_ns));
    let start = probes.partition_point(|probe| probe.sent_ns < low);
    let end = probes.partition_point(|probe| probe.sent_ns <= high);
    let inside = probes.get(start..end).unwrap_or_default();
    inside.windows(2).map(|pair| pair[1].sent_ns - pair[0].sent_ns).max().unwrap_or(0)
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
