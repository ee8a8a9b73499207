//! A worker between two ends: what the router's own does in a turn, step by step.
#![forbid(unsafe_code)]

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use arc_swap::ArcSwap;
use nearhop::batch::{Batch, PACKET_MAX};
use nearhop::forward::{
    AddressSet, Adjacency, Locals, PortEntry, Snapshot, Snapshots, WorkerState, forward,
};
use nearhop::ids::PortId;
use nearhop::packet::Meta;
use nearhop::packet::offload::{OFFLOAD_LEN, Offload, Offloads};
use nearhop::policy::{Martians, ReversePath};
use nearhop::port::PortError;
use nearhop::port::queue::send_all;
use nearhop::time::Nanos;
use nearhop::verdict::Verdict;
use nearhop_fib::{
    ACCEPT_ALL, AdjacencyId, Group, Member, Reader, Spread, WhenDead, WriteError, Writer, fib,
    name_key,
};

use super::made::number_of;
use super::wire::{End, Engine};

/// A router, and what came out of it.
pub struct Router {
    _writer: Writer,
    reader: Reader,
    snapshots: Snapshots,
    state: WorkerState,
    batch: Batch,
    ends: [End; 2],
    buffer: Vec<u8>,
    /// Good packets that have arrived, and were not looked at yet.
    pub arrived: Vec<u32>,
}

impl Router {
    /// Between a client that may leave anything out and a site that takes half of it.
    pub fn new(engine: Engine) -> Result<Self, String> {
        let site = Offloads { tso4: false, tso6: false, ..Offloads::ALL };
        let ends = [End::open(engine, Offloads::ALL)?, End::open(engine, site)?];
        let (mut writer, handle) = fib(1);
        let reader = handle.reader().ok_or("no reader")?;
        routes(&mut writer).map_err(|error| error.to_string())?;
        let snapshot = snapshot(&ends);
        Ok(Self {
            _writer: writer,
            reader,
            snapshots: Snapshots::new(Arc::new(ArcSwap::from_pointee(snapshot))),
            state: WorkerState::new(0, 1, Arc::new(AtomicU64::new(0))),
            batch: Batch::new(),
            ends,
            buffer: vec![0; OFFLOAD_LEN + PACKET_MAX],
            arrived: Vec::new(),
        })
    }

    /// One end sends a frame: the client, or the site.
    pub fn put(&mut self, from: usize, frame: &[u8]) {
        self.ends[from].put(frame);
    }

    /// Everything that has come is forwarded, and what leaves looked at.
    pub fn run(&mut self) -> Result<(), String> {
        for from in 0..self.ends.len() {
            loop {
                self.batch.clear();
                self.batch.from_port(PortId(from as u16));
                match self.ends[from].queue.rx(&mut self.batch) {
                    Ok(0) => break,
                    Ok(_) => self.turn()?,
                    Err(error) => return Err(format!("the engine broke: {error}")),
                }
            }
        }
        Ok(())
    }

    /// How many packets ended so.
    pub fn counted(&self, verdict: Verdict) -> u64 {
        self.state.counters.of(verdict)
    }

    fn turn(&mut self) -> Result<(), String> {
        let Self { reader, snapshots, state, batch, .. } = self;
        let mut online = reader.online();
        forward(batch, &online, snapshots, state, Nanos::now());
        online.quiescent();
        drop(online);
        for (index, end) in self.ends.iter_mut().enumerate() {
            let id = PortId(index as u16);
            self.batch.join(id, end.port.offloads());
            let (counters, mut failed) = (&mut self.state.counters, None);
            send_all(
                &mut *end.queue,
                (id, &*end.port),
                &self.batch,
                &mut self.buffer,
                &mut |sent| {
                    let verdict = match &sent.result {
                        Ok(()) => sent.transmission.verdict,
                        // A socket takes as much as the system lets it.
                        Err(PortError::Full) => Verdict::TxFull,
                        Err(error) => {
                            failed = Some(error.to_string());
                            return;
                        }
                    };
                    counters.count_all(verdict, sent.packets - sent.joined);
                    counters.count_all(Verdict::Joined, sent.joined);
                },
            );
            if let Some(why) = failed {
                return Err(format!("what leaves was not taken: {why}"));
            }
            end.take(|packet, offload| {
                check(packet, offload)?;
                self.arrived.extend(number_of(packet));
                Ok(())
            })?;
        }
        for (punt, _, _) in self.batch.punts() {
            let segments = u64::from(self.batch.slot(punt.index).shape.segments);
            self.state.counters.count_all(punt.lane.verdict(), segments);
        }
        self.state.first_packets.clear();
        let counters = &self.state.counters;
        let came = counters.received + counters.originated + counters.split;
        let ended: u64 = counters.verdicts.iter().sum();
        if came == ended { Ok(()) } else { Err(format!("{came} packets came, and {ended} ended")) }
    }
}

/// What leaves has to be a packet that this router would take itself.
fn check(packet: &[u8], offload: Offload) -> Result<(), String> {
    let checked = Meta::parse(packet).and_then(|meta| {
        let is_whole = meta.len == packet.len();
        offload.check(packet, &meta).map(|_| is_whole)
    });
    match checked {
        Ok(true) => Ok(()),
        Ok(false) => Err(format!("padding was sent: {offload:?} {packet:x?}")),
        Err(verdict) => Err(format!("{verdict:?} was sent: {offload:?} {packet:x?}")),
    }
}

/// Networks on both sides, one of the router itself, and the rest of the world by the site.
fn routes(writer: &mut Writer) -> Result<(), WriteError> {
    let mut groups = Vec::new();
    for (port, name) in [(0, "client"), (1, "site")] {
        let key = name_key(name);
        let adjacency = writer.add_adjacency(port, key)?;
        let path = writer.add_path(key, ACCEPT_ALL)?;
        let members = vec![Member { path, adjacency, tier: 0, weight: 1, link_weight: 1 }];
        let (when_dead, spread) = (WhenDead::Unreachable, Spread::Flow);
        groups.push(writer.add_group(&Group::Forward { members, when_dead, spread })?);
    }
    groups.push(writer.add_group(&Group::Local)?);
    groups.push(writer.add_group(&Group::Unreachable)?);
    for (prefix, group) in [
        ("10.0.0.0/24", 0),
        ("fd00::/64", 0),
        ("0.0.0.0/0", 1),
        ("::/0", 1),
        ("10.0.0.1/32", 2),
        ("fd00::1/128", 2),
        ("10.128.0.0/9", 3),
        ("fd80::/9", 3),
    ] {
        let prefix = prefix.parse().map_err(|_| WriteError::IdsExhausted)?;
        writer.insert(prefix, groups[group])?;
    }
    Ok(())
}

fn snapshot(ends: &[End; 2]) -> Snapshot {
    let entry = |(index, end): (usize, &End)| PortEntry {
        address_v4: Some(Ipv4Addr::new(10, index as u8, 0, 1)),
        address_v6: "fd00::1".parse().ok(),
        reverse_path: if index == 0 { ReversePath::Loose } else { ReversePath::Off },
        ..PortEntry::plain(format!("port{index}"), Arc::clone(&end.port), AdjacencyId(index as u32))
    };
    Snapshot {
        generation: 1,
        ports: ends.iter().enumerate().map(entry).map(Some).collect(),
        // By the site's some have to be cut, or refused.
        adjacencies: [(0, 1500), (1, 300)]
            .map(|(id, mtu)| (AdjacencyId(id), Adjacency::point_to_point(PortId(id as u16), mtu)))
            .into_iter()
            .collect(),
        martians: Martians::Default,
        hash_seed: 0,
        address_v4: Some(Ipv4Addr::new(10, 0, 0, 1)),
        address_v6: "fd00::1".parse().ok(),
        directed_broadcasts: [Ipv4Addr::new(10, 0, 0, 255)].into_iter().collect(),
        martian_sources: ["10.0.0.1", "10.1.0.1", "fd00::1", "10.0.0.255"]
            .iter()
            .filter_map(|address| address.parse::<IpAddr>().ok())
            .collect(),
        client_sources: AddressSet::default(),
        services: AddressSet::default(),
        locals: Locals::of_checks(49_152..=65_535),
        bfd: Arc::default(),
        busy_poll: Duration::ZERO,
    }
}

/// Where frames come from.
pub const CLIENT: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 2);
/// Where most go to.
pub const SINK: Ipv4Addr = Ipv4Addr::new(10, 1, 0, 9);
