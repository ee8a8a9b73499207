//! Rows of ports and of adjacencies.

use std::collections::{BTreeMap, HashMap, HashSet};

use serde_json::{Value, json};

use super::Facts;
use crate::control::PortState;
use crate::kernel::link::{LinkSetup, LinkStatus};
use crate::kernel::netns::{NetNs, Place};
use crate::packet::offload::offload_names;

/// The ways out, one for each port.
pub(super) fn adjacencies(facts: &Facts<'_>) -> Vec<Value> {
    let control = facts.control;
    let paths = &facts.totals.counters.paths;
    let row = |port: &PortState| {
        let reasons = control.writer().adjacency_reasons(port.adjacency);
        // Of routes that leave by it; services count by leg.
        let own = paths.get(port.path.0 as usize).copied().unwrap_or_default();
        json!({
            "adjacency": port.adjacency.0,
            "port": port.name(),
            "state": if reasons.is_alive() { "up" } else { "down" },
            "reasons": reasons.iter().map(nearhop_fib::Reason::label).collect::<Vec<_>>(),
            "mtu": port.mtu(),
            "packets": own.packets,
            "bytes": own.bytes,
        })
    };
    control.ports().map(row).collect()
}

pub(super) fn ports(facts: &Facts<'_>) -> Vec<Value> {
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
            json!({
                "port": port.name(),
                "device": kernel.map(|link| link.name.clone()),
                "netns": opened.map(|place| place.netns.to_string()),
                "engine": engines(port),
                "kind": port.device.engine(),
                "queues": port.device.queues(),
                "offloads": offload_names(port.device.offloads()),
                "state": if port.carrier { "up" } else { "down" },
                "mtu": port.mtu(),
                "rx_packets": count.rx_packets,
                "rx_bytes": count.rx_bytes,
                "tx_packets": count.tx_packets,
                "tx_bytes": count.tx_bytes,
                "tx_dropped": count.tx_dropped,
                "packets_per_batch": ratio(count.rx_packets, count.rx_batches),
                "packets_per_read": ratio(count.rx_packets, count.rx_frames),
                "packets_per_write": ratio(count.tx_packets, count.tx_frames),
                "device_dropped": kernel.map(|link| link.stats.tx_dropped),
                "device_refused": kernel.map(|link| link.stats.rx_dropped),
                "why": port.why(),
            })
        })
        .collect()
}

/// The kernel's side of every port, from a list of the devices in each namespace.
pub(super) fn devices(opened: &BTreeMap<String, Place>) -> HashMap<(&NetNs, u32), LinkStatus> {
    let mut devices = HashMap::new();
    for netns in opened.values().map(|place| &place.netns).collect::<HashSet<_>>() {
        // A namespace that can no longer be entered shows no devices.
        let links = LinkSetup::open(netns).and_then(|mut links| links.list()).unwrap_or_default();
        devices.extend(links.into_iter().map(|link| ((netns, link.ifindex), link)));
    }
    devices
}

/// The ratio, rounded to one decimal.
pub(super) fn ratio(packets: u64, of: u64) -> Option<f64> {
    (of > 0).then(|| (packets as f64 / of as f64 * 10.0).round() / 10.0)
}

/// The I/O engines that workers use on the port; usually one.
pub(super) fn engines(port: &PortState) -> String {
    let mut names: Vec<&str> = port.engines.values().copied().collect();
    names.sort_unstable();
    names.dedup();
    if names.is_empty() { port.device.engine().to_owned() } else { names.join(", ") }
}
