//! Opening the devices of configured ports.

use std::collections::BTreeMap;
use std::sync::Arc;

use ipnetwork::IpNetwork;
use nearhop_fib::IpPrefix;

use super::RunError;
use crate::config::model::{Device, Port as PortConfig};
use crate::kernel::link::LinkError;
use crate::kernel::netns::Place;
use crate::kernel::side::{Side, SideError};
use crate::packet::offload::{Offloads, offload_names};
use crate::port::Port;
use crate::port::tun::{self, TunError, TunSpec};

/// An open device and where its kernel side is.
pub(super) struct Opened {
    pub(super) device: Arc<dyn Port>,
    pub(super) place: Place,
    /// Whether the kernel is kept from making link-local addresses on it.
    pub(super) quiet: bool,
}

/// Why a device cannot be opened.
#[derive(Debug, thiserror::Error)]
pub(super) enum OpenError {
    #[error(transparent)]
    Link(#[from] LinkError),
    #[error(transparent)]
    Side(#[from] SideError),
    #[error(transparent)]
    Tun(#[from] TunError),
}

/// Opens all or none: on an error, those that were opened close again.
pub(super) fn open_all<'a>(
    ports: impl IntoIterator<Item = &'a PortConfig>,
    workers: usize,
) -> Result<BTreeMap<String, Opened>, RunError> {
    let opened = |port: &PortConfig| match open(port, workers) {
        Ok(opened) => Ok((port.name.clone(), opened)),
        Err(error) => Err(RunError::new(format!("port {:?} cannot be opened: {error}", port.name))),
    };
    ports.into_iter().map(opened).collect()
}

/// Opens one device, with its MTU and addresses, and sets it up.
pub(super) fn open(port: &PortConfig, workers: usize) -> Result<Opened, OpenError> {
    let Device::Tun { name, persist, offloads, .. } = &port.device;
    let spec = TunSpec {
        name: name.clone(),
        netns: port.netns.clone(),
        queues: queues_of(port, workers),
        persist: *persist,
        offloads: if *offloads { Offloads::ALL } else { Offloads::NONE },
    };
    // First, so that a namespace that is replaced meanwhile is noticed.
    let identity = port.netns.identity().map_err(TunError::from)?;
    let opened = tun::open(&spec)?;
    let quiet = opened.is_quiet()?;
    opened.bring_to(&side_of(port, quiet))?;
    log::info!(
        "port {} is {} in {}, {} queue(s), {}, offloads {}",
        port.name,
        opened.name,
        opened.netns,
        opened.queues,
        opened.port.engine(),
        offload_names(opened.port.offloads())
    );
    for what in &opened.missing {
        log::warn!("port {} is without {what}", port.name);
    }
    let place = Place { netns: opened.netns, identity, ifindex: opened.ifindex };
    Ok(Opened { device: opened.port, place, quiet })
}

/// How many queues its device gets. Each has a worker that reads it: what the kernel puts in another is
/// never seen.
pub(super) fn queues_of(port: &PortConfig, workers: usize) -> usize {
    let Device::Tun { queues, .. } = &port.device;
    queues.unwrap_or(workers).min(workers).clamp(1, tun::QUEUES_MAX)
}

/// What is configured of the kernel's side of a port.
pub(super) fn side_of(port: &PortConfig, quiet: bool) -> Side {
    let network = |prefix: &IpPrefix| IpNetwork::new(prefix.addr(), prefix.len()).ok();
    let routes = port.peer_routes.iter().filter_map(network).collect();
    Side { mtu: u32::from(port.mtu), quiet, addresses: port.peer_addresses.clone(), routes }
}
