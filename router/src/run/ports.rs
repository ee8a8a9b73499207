//! Opening the devices of configured ports.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::RunError;
use crate::config::model::{Device, Port as PortConfig};
use crate::kernel::link::{LinkError, LinkSetup};
use crate::kernel::netns::Place;
use crate::packet::offload::{Offloads, offload_names};
use crate::port::Port;
use crate::port::tun::{self, TunError, TunSpec};

/// An open device and where its kernel side is.
pub(super) struct Opened {
    pub(super) device: Arc<dyn Port>,
    pub(super) place: Place,
}

/// Why a device cannot be opened.
#[derive(Debug, thiserror::Error)]
pub(super) enum OpenError {
    #[error(transparent)]
    Link(#[from] LinkError),
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

/// Brings the kernel's side of ports that stay open to their new configuration: all or none, for a
/// failure puts those done so far back.
pub(super) fn adjust_all(
    old: &[PortConfig],
    new: &[PortConfig],
    places: &BTreeMap<String, Place>,
) -> Result<(), RunError> {
    let before = |port: &PortConfig| old.iter().find(|old| old.name == port.name);
    let changed = new
        .iter()
        .filter_map(|port| Some((before(port)?, port)))
        .filter(|(old, new)| (old.mtu, &old.peer_addresses) != (new.mtu, &new.peer_addresses));
    let mut done: Vec<(&PortConfig, &PortConfig)> = Vec::new();
    for (old, new) in changed {
        let place = places.get(&new.name);
        if let Err(error) = adjust(old, new, place) {
            for (old, new) in done.into_iter().chain([(old, new)]) {
                if let Err(error) = adjust(new, old, places.get(&new.name)) {
                    log::error!("port {:?} cannot be put back: {error}", old.name);
                }
            }
            return Err(RunError::new(format!("port {:?} cannot be changed: {error}", new.name)));
        }
        done.push((old, new));
    }
    Ok(())
}

fn adjust(old: &PortConfig, new: &PortConfig, place: Option<&Place>) -> Result<(), LinkError> {
    let Device::Tun { name, .. } = &new.device;
    let mut links = LinkSetup::open(&new.netns)?;
    // Somebody may have given it another name, and that name to another device.
    let link =
        place.and_then(|place| links.list().ok()?.into_iter().find(|l| l.ifindex == place.ifindex));
    let name = link.as_ref().map_or(name, |link| &link.name);
    if old.mtu != new.mtu {
        links.set_mtu(name, u32::from(new.mtu))?;
    }
    for address in new.peer_addresses.iter().filter(|one| !old.peer_addresses.contains(one)) {
        links.replace_address(name, *address)?;
    }
    for address in old.peer_addresses.iter().filter(|one| !new.peer_addresses.contains(one)) {
        links.delete_address(name, *address)?;
    }
    Ok(())
}

/// Opens one device, with its MTU and addresses, and sets it up.
pub(super) fn open(port: &PortConfig, workers: usize) -> Result<Opened, OpenError> {
    let Device::Tun { name, persist, queues, offloads } = &port.device;
    let spec = TunSpec {
        name: name.clone(),
        netns: port.netns.clone(),
        // Each queue has a worker that reads it: what the kernel puts in another is never seen.
        queues: queues.unwrap_or(workers).min(workers).clamp(1, tun::QUEUES_MAX),
        persist: *persist,
        offloads: if *offloads { Offloads::ALL } else { Offloads::NONE },
    };
    // First, so that a namespace that is replaced meanwhile is noticed.
    let identity = port.netns.identity().map_err(TunError::from)?;
    let opened = tun::open(&spec)?;
    opened.bring_up(u32::from(port.mtu), &port.peer_addresses)?;
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
    Ok(Opened { device: opened.port, place })
}
