//! Ports: their numbers, adjacencies, and place in the snapshot.

use std::collections::{BTreeMap, HashSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use ipnetwork::IpNetwork;
use nearhop_fib::{ACCEPT_ALL, AdjacencyId, PathId, Reason, WriteError, link_key};

use super::device::{Changed, DeviceFault};
use super::legs::Amid;
use super::sources::sets_max;
use super::{Control, Orders};
use crate::batch::Exit;
use crate::config::{Config, model};
use crate::event::EventKind;
use crate::forward::{Adjacencies, Adjacency, Broadcasts, PortEntry, Snapshot};
use crate::ids::PORTS_MAX;
use crate::ids::PortId;
use crate::policy::CHECKS_MAX;
use crate::port::news::EngineNews;
use crate::port::{EngineChoice, Port};
use crate::time::Nanos;

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
        let changed = || Some(self.changed.to_string()).filter(|text| !text.is_empty());
        self.fault.as_ref().map(ToString::to_string).or_else(changed)
    }

    /// Bytes of the largest packet that is sent by it: what is configured, or what the device was
    /// made smaller to.
    pub fn mtu(&self) -> u16 {
        self.changed.mtu.map_or(self.config.mtu, |mtu| mtu.min(self.config.mtu))
    }
}

/// Why a configuration cannot follow the one in force.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum ReloadError {
    /// The sockets are bound before anything else, and others know where they are.
    #[error("[api] cannot change while nearhop runs; restart it")]
    Api,
    /// The old checks and the new ones do not fit together, which they have to for a moment.
    #[error(
        "the prober would have {0} checks while the old ones give way to the new ones, and there \
         can be {CHECKS_MAX}; change fewer sites at a time, or restart nearhop"
    )]
    Checks(usize),
    /// A port keeps its name but is another device.
    #[error(
        "port {0:?} would become another device; give the new one another name, or restart nearhop"
    )]
    Device(String),
    /// New ports get numbers before those of old ones are free again.
    #[error(
        "{0} new ports, but there are not as many free numbers ({PORTS_MAX} in all) until old ports \
         are gone; change fewer ports at a time"
    )]
    Ports(usize),
    /// Ids are free again only after what had them is gone.
    #[error(
        "the FIB has room for {room} more {what} while the old ones give way to the new ones, and \
         this configuration may need {needed}; change less at a time, or restart nearhop"
    )]
    Room {
        /// Of what.
        what: &'static str,
        /// How many may be needed.
        needed: usize,
        /// How many there can be.
        room: usize,
    },
    /// More workers or fewer need new threads and queues.
    #[error("the number of workers cannot change while nearhop runs; restart it")]
    Workers,
}

impl Control {
    /// The ports of `config` that are not open yet.
    ///
    /// # Errors
    /// What the configuration changes that only a restart can change. Nothing was changed.
    pub fn ports_to_open<'a>(
        &self,
        config: &'a Config,
    ) -> Result<Vec<&'a model::Port>, ReloadError> {
        if config.router.workers != self.config.router.workers {
            return Err(ReloadError::Workers);
        }
        if config.api != self.config.api {
            return Err(ReloadError::Api);
        }
        let mut open = Vec::new();
        for port in &config.ports {
            match self.ports.get(&port.name) {
                None => open.push(port),
                Some(state) => {
                    let same = |a: &model::Port, b: &model::Port| {
                        (&a.device, &a.netns) == (&b.device, &b.netns)
                    };
                    if !same(&state.config, port) {
                        return Err(ReloadError::Device(port.name.clone()));
                    }
                }
            }
        }
        if open.len() > self.numbers.available() {
            return Err(ReloadError::Ports(open.len()));
        }
        let Amid { probes, new_legs } = self.amid(config);
        if probes > CHECKS_MAX {
            return Err(ReloadError::Checks(probes));
        }
        let room = self.writer.room();
        let enough = |what, needed: usize, room: usize| {
            if needed <= room { Ok(()) } else { Err(ReloadError::Room { what, needed, room }) }
        };
        enough("paths", new_legs + open.len(), room.paths)?;
        enough("adjacencies", open.len(), room.adjacencies)?;
        // At most: many of them are those there are already.
        enough("groups", sets_max(config), room.groups)?;
        Ok(open)
    }

    /// Takes new ports in, down until there is carrier; those that stay get their new configuration.
    pub(super) fn add_ports(
        &mut self,
        now: Nanos,
        mut devices: BTreeMap<String, Arc<dyn Port>>,
        orders: &mut Orders,
    ) -> Result<(), WriteError> {
        for config in self.config.ports.clone() {
            if let Some(state) = self.ports.get_mut(&config.name) {
                if state.config.mtu != config.mtu {
                    // It was brought to that just now.
                    state.changed.mtu = None;
                }
                state.config = config;
                continue;
            }
            let Some(device) = devices.remove(&config.name) else { continue };
            let id = self.numbers.take(&self.writer).ok_or(WriteError::IdsExhausted)?;
            let (adjacency, path) = match self.add_way_out(id, &config.name) {
                Ok(ids) => ids,
                Err(error) => {
                    self.numbers.put_back(id);
                    return Err(error);
                }
            };
            orders.ports.push(Exit { adjacency, port: id });
            let (name, since) = (config.name.clone(), now);
            let state = PortState {
                id,
                adjacency,
                path,
                device,
                config,
                since,
                carrier: false,
                fault: None,
                changed: Changed::default(),
                engines: BTreeMap::new(),
            };
            self.ports.insert(name, state);
        }
        Ok(())
    }

    /// What routes that leave by a new port lead to.
    fn add_way_out(&mut self, id: PortId, name: &str) -> Result<(AdjacencyId, PathId), WriteError> {
        let key = link_key(&self.config.router.name, name);
        let adjacency = self.writer.add_adjacency(id.0, key)?;
        // Whoever watches the carrier clears it, once there is one.
        self.handle.set_adjacency_down(adjacency, Reason::Carrier);
        Ok((adjacency, self.writer.add_path(key, ACCEPT_ALL)?))
    }

    /// A worker has opened a queue of a port, or its engine has failed.
    pub fn handle_engine(&mut self, now: Nanos, news: &EngineNews) {
        let Some(state) = self.ports.values_mut().find(|state| state.id == news.port) else {
            return;
        };
        let name = state.name();
        let worker = news.worker;
        match &news.why {
            Some(why) if news.failed || state.config.engine == EngineChoice::Uring => {
                log::error!("port {name}, worker {worker}: {} is used: {why}", news.engine);
            }
            Some(why) => {
                log::info!("port {name}, worker {worker}: {} is used: {why}", news.engine);
            }
            None => log::debug!("port {name}, worker {worker}: {} is used", news.engine),
        }
        if news.failed {
            let kind = EventKind::Engine {
                port: name.to_owned(),
                worker: worker as u16,
                engine: news.engine.to_owned(),
                reason: news.why.clone().unwrap_or_default(),
            };
            self.events.push_back((now, kind));
        }
        state.engines.insert(worker, news.engine);
    }

    /// The name of the port that has this number.
    pub fn name_of(&self, id: PortId) -> Option<&str> {
        self.ports.values().find(|port| port.id == id).map(PortState::name)
    }

    /// Begins to let go of ports that are configured no more, now that no group leads to them.
    pub(super) fn part_with_ports(&mut self) {
        let any = self.gone_ports().next().is_some();
        self.parting = any.then(|| self.writer.begin_grace());
        self.finish_parting();
    }

    /// Takes ports that are configured no more out of the snapshot, once every worker is done with
    /// the batch in which it may have found a group that led to them.
    pub(super) fn finish_parting(&mut self) {
        if !self.parting.is_some_and(|grace| self.writer.is_over(grace)) {
            return;
        }
        self.parting = None;
        for name in self.gone_ports().cloned().collect::<Vec<_>>() {
            if let Some(port) = self.ports.remove(&name) {
                self.stopping.ports.push((port.exit(), port.path));
                self.retired_devices.push(port.device);
            }
        }
        self.publish_snapshot();
    }

    fn gone_ports(&self) -> impl Iterator<Item = &String> {
        let configured: HashSet<&str> = self.config.ports.iter().map(|port| &*port.name).collect();
        self.ports.keys().filter(move |name| !configured.contains(name.as_str()))
    }

    /// Publishes what workers read besides the FIB. Ports that are configured no more stay in it
    /// until [`Self::finish_parting`], for batches and groups may still lead to them.
    pub(super) fn publish_snapshot(&mut self) {
        let mut ports = vec![None; self.numbers.end()];
        for state in self.ports.values() {
            ports[usize::from(state.id.0)] = Some(entry(state));
        }
        let adjacencies = self.adjacencies();
        let router = &self.config.router;
        let own = |network: &&IpNetwork| !is_link_local(network.ip());
        let own: Vec<IpAddr> = router.addresses.iter().filter(own).map(IpNetwork::ip).collect();
        let old = self.snapshot.swap(Arc::new(Snapshot {
            generation: self.snapshot.load().generation + 1,
            ports,
            adjacencies,
            martians: router.martians,
            hash_seed: router.hash_seed,
            address_v4: own.iter().find_map(|&ip| v4(ip)),
            address_v6: own.iter().find_map(|&ip| v6(ip)),
            directed_broadcasts: directed_broadcasts(&self.config),
            busy_poll: router.busy_poll,
            ..Self::empty_snapshot()
        }));
        self.retired_snapshots.push(old);
    }
}

impl Control {
    /// Those of the ports there are; chunks that stay the same are shared with the snapshot in force.
    fn adjacencies(&self) -> Adjacencies {
        let mut adjacencies = self.snapshot.load().adjacencies.clone();
        let of_port =
            |state: &PortState| (state.adjacency, Adjacency::point_to_point(state.id, state.mtu()));
        let wanted: BTreeMap<_, _> = self.ports.values().map(of_port).collect();
        let gone = |(id, _): (AdjacencyId, &Adjacency)| (!wanted.contains_key(&id)).then_some(id);
        for id in adjacencies.iter().filter_map(gone).collect::<Vec<_>>() {
            adjacencies.set(id, None);
        }
        for (id, adjacency) in wanted {
            adjacencies.set(id, Some(adjacency));
        }
        adjacencies
    }
}

fn entry(state: &PortState) -> PortEntry {
    let addresses = &state.config.addresses;
    let own = || addresses.iter().map(IpNetwork::ip).filter(|&ip| !is_link_local(ip));
    PortEntry {
        name: state.config.name.clone(),
        device: Arc::clone(&state.device),
        adjacency: state.adjacency,
        address_v4: own().find_map(v4),
        address_v6: own().find_map(v6),
        reverse_path: state.config.reverse_path,
        engine: state.config.engine,
        join: state.config.join,
        has_link_headers: false,
    }
}

/// RFC 2644: not forwarded. Networks of two addresses or one have none (RFC 3021).
fn directed_broadcasts(config: &Config) -> Broadcasts {
    let networks = config.ports.iter().flat_map(|port| &port.addresses);
    let broadcasts = networks.filter_map(|network| match network {
        IpNetwork::V4(network) if network.prefix() < 31 => Some(network.broadcast()),
        _ => None,
    });
    broadcasts.collect()
}

pub(super) fn is_link_local(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => ip.is_link_local(),
        IpAddr::V6(ip) => ip.is_unicast_link_local(),
    }
}

fn v4(ip: IpAddr) -> Option<Ipv4Addr> {
    match ip {
        IpAddr::V4(ip) => Some(ip),
        IpAddr::V6(_) => None,
    }
}

fn v6(ip: IpAddr) -> Option<Ipv6Addr> {
    match ip {
        IpAddr::V4(_) => None,
        IpAddr::V6(ip) => Some(ip),
    }
}
