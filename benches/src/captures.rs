//! Is what the demo reports true? One kill of each kind while the kernel captures at the NICs of
//! the client and of all sites; the blackout is computed once more, from these packets alone, and
//! compared with what the demo made of its probes' records.
#![forbid(unsafe_code)]

use std::collections::BTreeMap;
use std::path::Path;

use nearhop::ids::Family;
use nearhop::kernel::link::LinkSetup;
use nearhop::time::Nanos;
use nearlab::demo::{DemoError, Observed, observe};
use nearlab::lab::Lab;
use nearlab::measure::Window;

use crate::Wish;
use crate::noise::Noise;
use crate::report::{BenchError, Row};
use crate::stats::Summary;
use crate::sys::{Capture, Captured};

/// Runs the check.
pub fn run(_: Wish<'_>, _noise: &mut Noise) -> Result<Vec<Row>, BenchError> {
    let mut nics = Vec::new();
    let mut rows = Vec::new();
    let mut built = |lab: &Lab| {
        nics = open(lab)?;
        Ok(())
    };
    let mut seen = Vec::new();
    let mut killed = |observed: Observed| {
        seen.push(observed);
        Ok(())
    };
    // The rings have room for the whole run, so nothing is read while it goes on.
    observe(SEED, Path::new("/tmp/nearhop-captures"), &mut built, &mut killed)
        .map_err(BenchError::environment)?;
    let flows = read(&mut nics)?;
    for observed in &seen {
        rows.extend(compare(observed, &flows));
    }
    Ok(rows)
}

/// One NIC under capture.
struct Nic {
    client: bool,
    capture: Capture,
}

/// What was captured of one flow: times by number.
#[derive(Default)]
struct Flow {
    /// Probes that left the client.
    sent: BTreeMap<u64, Nanos>,
    /// Probes that came to a site.
    at_site: BTreeMap<u64, Nanos>,
    /// First echoes that came to the client.
    at_client: BTreeMap<u64, Nanos>,
}

type Flows = BTreeMap<(Family, u32), Flow>;

fn open(lab: &Lab) -> Result<Vec<Nic>, DemoError> {
    let mut nics = Vec::new();
    for plan in lab.topology().plans() {
        let netns = lab.netns(&plan.host);
        let failed = |error: &dyn std::fmt::Display| {
            DemoError::Lab(format!("cannot capture at {}: {error}", plan.host))
        };
        let mut links = LinkSetup::open(&netns).map_err(|error| failed(&error))?;
        let ifindex = links.status(&plan.device).map_err(|error| failed(&error))?.ifindex;
        let opened =
            netns.within(|| Capture::open(ifindex, RING)).map_err(|error| failed(&error))?;
        let capture = opened.map_err(|error| failed(&error))?;
        let is_site = lab.topology().service_addresses(&plan.host).next().is_some();
        nics.push(Nic { client: !is_site, capture });
    }
    Ok(nics)
}

fn read(nics: &mut [Nic]) -> Result<Flows, BenchError> {
    let mut flows = Flows::new();
    for nic in nics {
        let client = nic.client;
        nic.capture.drain(|packet| note(client, &packet, &mut flows));
        match nic.capture.dropped() {
            Ok(0) => {}
            Ok(lost) => {
                return Err(BenchError::environment(format!(
                    "{lost} packets found a capture full"
                )));
            }
            Err(error) => return Err(BenchError::environment(error)),
        }
    }
    Ok(flows)
}

/// Takes a packet in, if it is a probe or an echo.
fn note(client: bool, packet: &Captured<'_>, flows: &mut Flows) {
    let Some((family, udp)) = udp(packet.bytes) else { return };
    let Some(payload) = udp.get(8..24) else { return };
    let (magic, rest) = payload.split_at(4);
    let flow = u32::from_be_bytes([rest[0], rest[1], rest[2], rest[3]]);
    let number = rest[4..].iter().fold(0, |number, &byte| number << 8 | u64::from(byte));
    let flow = flows.entry((family, flow)).or_default();
    let times = match (magic, client, packet.outgoing) {
        (b"NLPQ", true, true) => &mut flow.sent,
        (b"NLPQ", false, false) => &mut flow.at_site,
        (b"NLPA", true, false) => &mut flow.at_client,
        _ => return,
    };
    times.entry(number).or_insert(packet.at);
}

/// The UDP datagram in an IP packet without options or extension headers.
fn udp(packet: &[u8]) -> Option<(Family, &[u8])> {
    match (packet.first()? >> 4, packet.get(6)?, packet.get(9)?) {
        (4, _, 17) => Some((Family::Ipv4, packet.get(20..)?)),
        (6, 17, _) => Some((Family::Ipv6, packet.get(40..)?)),
        _ => None,
    }
}

/// The demo's figures beside those of the captures.
fn compare(observed: &Observed, flows: &Flows) -> Vec<Row> {
    let mut rows = Vec::new();
    for kill in &observed.kills {
        let Ok(kill) = kill else { continue };
        let name = format!("{} kill of {}, {}", observed.kind, observed.site, kill.family.label());
        let captured = flows
            .iter()
            .filter(|((family, _), _)| *family == kill.family)
            .map(|(_, flow)| blackout_ms(flow, observed.window))
            .fold(0.0, f64::max);
        let allowed = kill.resolution_ms + ALLOWED_MS;
        let apart = (kill.blackout_ms - captured).abs();
        let demo = Summary::of([kill.blackout_ms]);
        let target = format!("{apart:.3} ms apart, at most {allowed:.3}");
        let row = Row::figure(name, "ms", &demo).against("captures", Some(captured));
        rows.push(row.judged(target, apart <= allowed));
    }
    rows
}

/// The longest time between two arrivals that reaches past the fault, less the time between the
/// sending of neighbours; of both directions the longer. A probe counts at a site only if it was
/// echoed: a machine whose server is dead still receives.
fn blackout_ms(flow: &Flow, window: Window) -> f64 {
    let within = |at: &Nanos| (window.start_ns..window.end_ns).contains(&at.0);
    let spacing = Summary::of(
        flow.sent
            .values()
            .filter(|at| within(at))
            .zip(flow.sent.values().filter(|at| within(at)).skip(1))
            .map(|(one, next)| next.since(*one).as_secs_f64() * 1e3),
    );
    let echoed = |number: &u64| flow.at_client.contains_key(number);
    let at_site = flow.at_site.iter().filter(|(number, _)| echoed(number)).map(|(_, at)| *at);
    let longest = |arrivals: Vec<Nanos>| {
        let mut arrivals: Vec<u64> = arrivals.into_iter().filter(within).map(|at| at.0).collect();
        arrivals.sort_unstable();
        let gaps = arrivals.windows(2).filter(|pair| pair[1] > window.fault_ns);
        gaps.map(|pair| (pair[1] - pair[0]) as f64 / 1e6).fold(0.0, f64::max)
    };
    let gap = longest(at_site.collect()).max(longest(flow.at_client.values().copied().collect()));
    (gap - spacing.p50).max(0.0)
}

/// The captures' own inaccuracy, and that of stamps taken at different places of the kernel.
const ALLOWED_MS: f64 = 0.2;

/// Packets of a whole run at one NIC, some 100,000, and room.
const RING: usize = 1 << 18;

const SEED: u64 = 7;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_blackout_is_found_in_either_direction() {
        let ms = |ms: f64| Nanos((ms * 1e6) as u64);
        let window = Window { start_ns: 0, fault_ns: ms(10.0).0, end_ns: ms(40.0).0 };
        let flow = |lost: std::ops::Range<u64>, late: f64| {
            let mut flow = Flow::default();
            for number in 0..150_u64 {
                let sent = number as f64 * 0.2;
                flow.sent.insert(number, ms(sent));
                if !lost.contains(&number) {
                    flow.at_site.insert(number, ms(sent + 0.05));
                    let back = if number >= lost.end { late } else { 0.1 };
                    flow.at_client.insert(number, ms(sent + back));
                }
            }
            flow
        };
        assert!((blackout_ms(&flow(60..80, 0.1), window) - 4.0).abs() < 1e-6);
        // What came back late was away for longer.
        assert!((blackout_ms(&flow(60..80, 1.1), window) - 5.0).abs() < 1e-6);
        assert!(blackout_ms(&flow(0..0, 0.1), window) < 1e-6);
    }
}
