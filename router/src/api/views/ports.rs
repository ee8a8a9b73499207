//! Rows of ports and of adjacencies.

use std::collections::{BTreeMap, HashMap, HashSet};

use super::{Facts, owned};
use crate::api::column::Text;
use crate::api::rows::{AdjacencyRow, PortRow};
use crate::control::PortState;
use crate::kernel::link::{LinkSetup, LinkStatus};
use crate::kernel::netns::{NetNs, Place};
use crate::packet::offload::offload_names;

/// The ways out, one for each port.
pub(super) fn adjacencies(facts: &Facts<'_>) -> Vec<AdjacencyRow> {
    let control = facts.control;
    let paths = &facts.totals.counters.paths;
    let row = |port: &PortState| {
        let reasons = control.writer().adjacency_reasons(port.adjacency);
        // Of routes that leave by it; services count by leg.
        let own = paths.get(port.path.0 as usize).copied().unwrap_or_default();
        AdjacencyRow {
            adjacency: port.adjacency.0.into(),
            port: owned(port.name()),
            state: if reasons.is_alive() { "up" } else { "down" }.into(),
            reasons: reasons.iter().map(|reason| reason.label().into()).collect(),
            mtu: port.mtu().into(),
            packets: own.packets,
            bytes: own.bytes,
        }
    };
    control.ports().map(row).collect()
}

pub(super) fn ports(facts: &Facts<'_>) -> Vec<PortRow> {
    let control = facts.control;
    let totals = &facts.totals.ports;
    let devices = devices(facts.opened);
    control
        .ports()
        .map(|port| {
            let count = totals.get(&port.id).copied().unwrap_or_default();
            let opened = facts.opened.get(port.name());
            // A device found under its name now may be another one.
            let place = opened.filter(|_| port.fault.is_none());
            let kernel = place.and_then(|place| devices.get(&(&place.netns, place.ifindex)));
            PortRow {
                port: owned(port.name()),
                device: kernel.map(|link| owned(&link.name)),
                netns: opened.map(|place| place.netns.to_string().into()),
                engine: engines(port),
                kind: port.device.engine().into(),
                queues: port.device.queues() as u64,
                offloads: offload_names(port.device.offloads()).into(),
                state: if port.carrier { "up" } else { "down" }.into(),
                mtu: port.mtu().into(),
                rx_packets: count.rx_packets,
                rx_bytes: count.rx_bytes,
                tx_packets: count.tx_packets,
                tx_bytes: count.tx_bytes,
                tx_dropped: count.tx_dropped,
                packets_per_batch: ratio(count.rx_packets, count.rx_batches),
                packets_per_read: ratio(count.rx_packets, count.rx_frames),
                packets_per_write: ratio(count.tx_packets, count.tx_frames),
                device_dropped: kernel.map(|link| link.stats.tx_dropped),
                device_refused: kernel.map(|link| link.stats.rx_dropped),
                why: port.why_beside(kernel.map(|link| link.admin_up)).map(Text::Owned),
            }
        })
        .collect()
}

/// The kernel's side of every port, from a list of the devices in each namespace.
fn devices(opened: &BTreeMap<String, Place>) -> HashMap<(&NetNs, u32), LinkStatus> {
    let mut devices = HashMap::new();
    for netns in opened.values().map(|place| &place.netns).collect::<HashSet<_>>() {
        // A namespace that can no longer be entered shows no devices.
        let links = LinkSetup::open(netns).and_then(|mut links| links.list()).unwrap_or_default();
        devices.extend(links.into_iter().map(|link| ((netns, link.ifindex), link)));
    }
    devices
}

/// The ratio, rounded to one decimal.
fn ratio(packets: u64, of: u64) -> Option<f64> {
    (of > 0).then(|| (packets as f64 / of as f64 * 10.0).round() / 10.0)
}

/// The I/O engines that workers use on the port; usually one.
fn engines(port: &PortState) -> Text {
    let mut names: Vec<&str> = port.engines.values().copied().collect();
    names.sort_unstable();
    names.dedup();
    if names.is_empty() { port.device.engine().into() } else { names.join(", ").into() }
}
