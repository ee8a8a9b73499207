//! Opening the devices of configured ports.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::RunError;
use crate::config::model::{Device, Port as PortConfig};
use crate::port::Port;
use crate::port::netns::NetNs;
use crate::port::tun::{self, Offloads, TunSpec};

/// An open device and where its kernel side is.
pub(super) struct Opened {
    pub(super) device: Arc<dyn Port>,
    pub(super) netns: NetNs,
    pub(super) ifindex: u32,
}

/// Opens all or none: on an error, those that were opened close again.
pub(super) fn open_all<'a>(
    ports: impl IntoIterator<Item = &'a PortConfig>,
    workers: usize,
) -> Result<BTreeMap<String, Opened>, RunError> {
    ports.into_iter().map(|port| Ok((port.name.clone(), open(port, workers)?))).collect()
}

fn open(port: &PortConfig, workers: usize) -> Result<Opened, RunError> {
    let Device::Tun { name, persist, queues } = &port.device;
    let spec = TunSpec {
        name: name.clone(),
        netns: port.netns.clone(),
        queues: queues.unwrap_or(workers).clamp(1, tun::QUEUES_MAX),
        persist: *persist,
        offloads: Offloads::None,
    };
    let failed = |error: &dyn std::fmt::Display| {
        RunError::new(format!("port {:?} cannot be opened: {error}", port.name))
    };
    let opened = tun::open(&spec).map_err(|error| failed(&error))?;
    opened.bring_up(u32::from(port.mtu), &port.peer_addresses).map_err(|error| failed(&error))?;
    log::info!(
        "port {} is {} in {}, {} queue(s), {}",
        port.name,
        opened.name,
        opened.netns,
        opened.queues,
        opened.port.engine()
    );
    Ok(Opened { device: opened.port, netns: opened.netns, ifindex: opened.ifindex })
}
