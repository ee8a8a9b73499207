//! The ports there are: their numbers, ways out and devices.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use nearhop_fib::{
    ACCEPT_ALL, AdjacencyId, Grace, Handle, PathId, Reason, WriteError, Writer, link_key,
};

use super::device::{Changed, DeviceFault};
use super::numbers::PortNumbers;
use crate::batch::Exit;
use crate::config::{Config, model};
use crate::ids::PortId;
use crate::port::Port;
use crate::time::Nanos;

/// Every port, from when its device is open until no worker can hold its number any more.
#[derive(Default)]
pub struct Ports {
    by_name: BTreeMap<String, PortState>,
    numbers: PortNumbers,
    /// Ports are configured no more, and stay until every batch that may lead to them is done.
    parting: Option<Grace>,
    /// Kept until nobody else has them, so that they end here and not on a worker: closing a TUN takes
    /// milliseconds.
    retired: Vec<Arc<dyn Port>>,
}

/// A port in use.
pub struct PortState {
    /// Its number.
    pub id: PortId,
    /// The way out by it.
    pub adjacency: AdjacencyId,
    /// The path of routes that leave by it, as opposed to the legs of services.
    pub path: PathId,
    /// What moves its packets.
    pub device: Arc<dyn Port>,
    /// What is configured.
    pub config: model::Port,
    /// Since when.
    pub since: Nanos,
    /// Whether there is carrier.
    pub carrier: bool,
    /// What is wrong with the device, while the router tries to open it again.
    pub fault: Option<DeviceFault>,
    /// What somebody has changed about the device.
    pub changed: Changed,
    /// What of the kernel's side is not as it is configured, and why.
    pub side: Option<String>,
    /// What the device's MTU may be besides the configured one, while a reload is prepared.
    pub(super) expected_mtu: Option<u16>,
    /// How each worker that reads the device does so.
    pub engines: BTreeMap<usize, &'static str>,
}

impl PortState {
    /// Its name.
    pub fn name(&self) -> &str {
        &self.config.name
    }

    /// The way out by it.
    pub fn exit(&self) -> Exit {
        Exit { adjacency: self.adjacency, port: self.id }
    }

    /// What is not as it should be about its device.
    pub fn why(&self) -> Option<String> {
        self.why_beside(None)
    }

    /// As [`Self::why`], where it is known whether the device is set up.
    pub fn why_beside(&self, set_up: Option<bool>) -> Option<String> {
        if let Some(fault) = &self.fault {
            return Some(fault.to_string());
        }
        let carrier = match set_up {
            _ if self.carrier => None,
            Some(false) => Some("the device is set down".to_owned()),
            _ => Some("no carrier".to_owned()),
        };
        let changed = Some(self.changed.to_string()).filter(|text| !text.is_empty());
        let said = [carrier, changed, self.side.clone()];
        let said: Vec<String> = said.into_iter().flatten().collect();
        (!said.is_empty()).then(|| said.join("; "))
    }

    /// Bytes of the largest packet that is sent by it: what is configured, or what the device was
    /// made smaller to.
    pub fn mtu(&self) -> u16 {
        self.changed.mtu.map_or(self.config.mtu, |mtu| mtu.min(self.config.mtu))
    }
}

impl Ports {
    /// The port of this name.
    pub fn get(&self, name: &str) -> Option<&PortState> {
        self.by_name.get(name)
    }

    pub(super) fn get_mut(&mut self, name: &str) -> Option<&mut PortState> {
        self.by_name.get_mut(name)
    }

    /// Every port, by name.
    pub fn iter(&self) -> impl Iterator<Item = &PortState> {
        self.by_name.values()
    }

    /// The port that has this number.
    pub fn by_id(&self, id: PortId) -> Option<&PortState> {
        self.iter().find(|port| port.id == id)
    }

    pub(super) fn by_id_mut(&mut self, id: PortId) -> Option<&mut PortState> {
        self.by_name.values_mut().find(|port| port.id == id)
    }

    /// The way out by the port of this name.
    pub(super) fn exit(&self, name: &str) -> Option<Exit> {
        self.get(name).map(PortState::exit)
    }

    /// Gives a port that there is its new configuration; `false` if there is none of this name.
    pub(super) fn configure(&mut self, config: &model::Port) -> bool {
        let Some(state) = self.by_name.get_mut(&config.name) else { return false };
        if state.config.mtu != config.mtu {
            // It was brought to that just now.
            state.changed.mtu = None;
        }
        state.expected_mtu = None;
        state.config = config.clone();
        true
    }

    /// Takes a new port in, down until there is carrier. `router`: the name of this router.
    pub(super) fn add(
        &mut self,
        now: Nanos,
        (router, config): (&str, &model::Port),
        device: Arc<dyn Port>,
        (writer, handle): (&mut Writer, &Handle),
    ) -> Result<Exit, WriteError> {
        let id = self.numbers.take(writer).ok_or(WriteError::IdsExhausted)?;
        let key = link_key(router, &config.name);
        let way_out = writer.add_adjacency(id.0, key).and_then(|adjacency| {
            // Whoever watches the carrier clears it, once there is one.
            handle.set_adjacency_down(adjacency, Reason::Carrier);
            Ok((adjacency, writer.add_path(key, ACCEPT_ALL)?))
        });
        let (adjacency, path) = match way_out {
            Ok(ids) => ids,
            Err(error) => {
                self.numbers.put_back(id);
                return Err(error);
            }
        };
        let state = PortState {
            id,
            adjacency,
            path,
            device,
            config: config.clone(),
            since: now,
            carrier: false,
            fault: None,
            changed: Changed::default(),
            side: None,
            expected_mtu: None,
            engines: BTreeMap::new(),
        };
        let exit = state.exit();
        self.by_name.insert(config.name.clone(), state);
        Ok(exit)
    }

    /// Replaces a port's device.
    pub(super) fn replace_device(&mut self, name: &str, device: Arc<dyn Port>) {
        if let Some(state) = self.by_name.get_mut(name) {
            self.retired.push(std::mem::replace(&mut state.device, device));
        }
    }

    /// Begins to let go of ports that are configured no more, now that no group leads to them.
    pub(super) fn begin_parting(&mut self, config: &Config, writer: &Writer) {
        let any = !self.gone(config).is_empty();
        self.parting = any.then(|| writer.begin_grace());
    }

    /// Takes out the ports that are configured no more, once every worker is done with the batch in which
    /// it may have found a group that led to them. Returns their ways out, and the paths of routes by them.
    pub(super) fn finish_parting(
        &mut self,
        config: &Config,
        writer: &Writer,
    ) -> Option<Vec<(Exit, PathId)>> {
        self.parting.filter(|grace| writer.is_over(*grace))?;
        self.parting = None;
        let gone = self.gone(config);
        let ports = gone.iter().filter_map(|name| self.by_name.remove(name));
        let ports: Vec<PortState> = ports.collect();
        let ways_out = ports.iter().map(|port| (port.exit(), port.path)).collect();
        self.retired.extend(ports.into_iter().map(|port| port.device));
        Some(ways_out)
    }

    fn gone(&self, config: &Config) -> Vec<String> {
        let configured: HashSet<&str> = config.ports.iter().map(|port| &*port.name).collect();
        let names = self.by_name.keys();
        names.filter(|name| !configured.contains(name.as_str())).cloned().collect()
    }

    /// Nothing leads to this number any more: it is free after a grace period.
    pub(super) fn release(&mut self, writer: &Writer, id: PortId) {
        self.numbers.retire(writer, id);
    }

    /// Makes reusable what nobody else has any more.
    pub(super) fn reclaim(&mut self, writer: &Writer) {
        self.retired.retain(|device| Arc::strong_count(device) > 1);
        self.numbers.reclaim(writer);
    }

    /// How many new ports there can be now.
    pub(super) fn numbers_available(&self) -> usize {
        self.numbers.available()
    }

    /// Above every number in use.
    pub(super) fn numbers_end(&self) -> usize {
        self.numbers.end()
    }
}
