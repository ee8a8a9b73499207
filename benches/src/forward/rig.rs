//! A router in memory: the real Internet's table, eight sites, and packets for it.
#![forbid(unsafe_code)]

use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use arc_swap::ArcSwap;
use flate2::read::MultiGzDecoder;
use nearhop::batch::{BURST, Batch};
use nearhop::forward::{
    AddressSet, Adjacency, Locals, PortEntry, Snapshot, Snapshots, Stage, WorkerState,
    forward_watched,
};
use nearhop::ids::PortId;
use nearhop::packet::build::Datagram;
use nearhop::policy::Martians;
use nearhop::port::memory::MemoryPort;
use nearhop::time::Nanos;
use nearhop_fib::{
    ACCEPT_ALL, AdjacencyId, Group, GroupId, IpPrefix, Member, Reader, Spread, WhenDead, Writer,
    fib, name_key,
};

/// The routes of a full table.
pub struct Table {
    /// Sorted, without duplicates.
    pub prefixes: Vec<IpPrefix>,
}

impl Table {
    /// Reads `testdata/bart-prefixes.txt.gz` of this package.
    ///
    /// # Errors
    /// The file is not there, or not what it should be.
    pub fn load() -> io::Result<Self> {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/bart-prefixes.txt.gz");
        let lines = BufReader::new(MultiGzDecoder::new(File::open(path)?)).lines();
        let prefixes = lines.map(|line| line?.parse().map_err(io::Error::other));
        Ok(Self { prefixes: prefixes.collect::<io::Result<_>>()? })
    }

    /// `count` addresses inside IPv4 prefixes of the table that a router may forward to, the same
    /// in each run.
    pub fn addresses(&self, count: usize) -> Vec<Ipv4Addr> {
        let v4: Vec<(u32, u32)> = self
            .prefixes
            .iter()
            .filter_map(|prefix| match (prefix.addr(), prefix.len()) {
                (IpAddr::V4(addr), len) => Some((addr.to_bits(), u32::from(len))),
                (IpAddr::V6(_), _) => None,
            })
            .filter(|(addr, _)| !matches!(addr >> 24, 0 | 10 | 127 | 224..=255))
            .collect();
        let mut random = SEED;
        (0..count)
            .map(|_| {
                random = next_random(random);
                let (addr, len) = v4[(random >> 33) as usize % v4.len()];
                let host = ((random as u32) >> 1).checked_shr(len).unwrap_or(0);
                Ipv4Addr::from_bits(addr | host)
            })
            .collect()
    }

    /// UDP packets of 64 bytes, of so many flows, at least a burst; each `apart` bytes from the next.
    pub fn packets(&self, flows: usize, apart: usize) -> Packets {
        let count = flows.max(BURST).next_multiple_of(BURST);
        let to = self.addresses(flows);
        let mut bytes = vec![0; count * apart];
        for (index, packet) in bytes.chunks_exact_mut(apart).enumerate() {
            let src = SocketAddr::from(([10, 0, 0, 2], 1024 + (index % flows % 50_000) as u16));
            let dst = SocketAddr::from((to[index % flows], 53));
            let datagram = Datagram { src, dst, ttl: 64, payload: &[0x5a; 36] };
            assert_eq!(datagram.write(packet), Some(PACKET_LEN));
        }
        Packets { bytes, apart }
    }
}

/// Packets that come one after the other.
pub struct Packets {
    bytes: Vec<u8>,
    apart: usize,
}

impl Packets {
    /// As they come to a worker.
    pub fn bursts(&self) -> impl Iterator<Item = impl Iterator<Item = &[u8]> + Clone> {
        let bursts = self.bytes.chunks_exact(self.apart * BURST);
        bursts.map(|burst| burst.chunks_exact(self.apart).map(|packet| &packet[..PACKET_LEN]))
    }
}

/// A worker without devices.
pub struct Rig {
    /// Who looks up.
    pub reader: Reader,
    _writer: Writer,
    snapshots: Snapshots,
    state: WorkerState,
    batch: Batch,
}

impl Rig {
    /// Every prefix leads to one of 64 groups, each of which ranks all eight sites otherwise.
    pub fn new(table: &Table) -> Self {
        let (mut writer, handle) = fib(1);
        let groups: Vec<GroupId> = groups(&mut writer);
        for (index, &prefix) in table.prefixes.iter().enumerate() {
            let group = groups[index % groups.len()];
            if let Err(error) = writer.insert(prefix, group) {
                unreachable!("an empty FIB takes {prefix}: {error}");
            }
        }
        let snapshot = Arc::new(ArcSwap::from_pointee(snapshot()));
        let Some(reader) = handle.reader() else { unreachable!("one reader was asked for") };
        Self {
            reader,
            _writer: writer,
            snapshots: Snapshots::new(snapshot),
            state: WorkerState::new(0, 1, Arc::new(AtomicU64::new(0))),
            batch: Batch::new(),
        }
    }

    /// Copies a burst into the batch, as a port's read does.
    pub fn fill<'a>(&mut self, burst: impl Iterator<Item = &'a [u8]>) {
        self.batch.clear();
        self.batch.from_port(PortId(0));
        for packet in burst {
            self.batch.push(packet);
        }
    }

    /// The whole step, of the burst that was copied in.
    pub fn step(&mut self) {
        self.step_watched(|_| ());
    }

    /// As [`Self::step`]; `done` is given each stage.
    ///
    /// # Panics
    /// A packet was not forwarded: then something else would have been measured.
    #[inline]
    pub fn step_watched(&mut self, done: impl FnMut(Stage)) {
        let Self { reader, snapshots, state, batch, .. } = self;
        let mut online = reader.online();
        forward_watched(batch, &online, snapshots, state, Nanos(1), done);
        assert_eq!(batch.transmissions().len(), batch.len());
        online.quiescent();
        drop(online);
        self.state.first_packets.clear();
    }
}

fn next_random(random: u64) -> u64 {
    random.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(0x1405_7b7e_f767_814f)
}

fn groups(writer: &mut Writer) -> Vec<GroupId> {
    let ids = (|| {
        let mut sites = Vec::new();
        for site in 0..SITES {
            let key = name_key(&format!("site{site}"));
            let adjacency = writer.add_adjacency(1 + site, key)?;
            sites.push((writer.add_path(key, ACCEPT_ALL)?, adjacency));
        }
        let group = |turn: usize| {
            let member = |(place, &(path, adjacency))| {
                let tier = ((place + turn) % sites.len() / 2) as u8;
                let weight = 1 + (turn / sites.len()) as u16;
                Member { path, adjacency, tier, weight, link_weight: 1 }
            };
            let members = sites.iter().enumerate().map(member).collect();
            let when_dead = WhenDead::Unreachable;
            Group::Forward { members, when_dead, spread: Spread::Flow }
        };
        (0..GROUPS).map(|turn| writer.add_group(&group(turn))).collect()
    })();
    match ids {
        Ok(ids) => ids,
        Err(error) => unreachable!("an empty FIB has room: {error}"),
    }
}

fn snapshot() -> Snapshot {
    let entry = |port: u16| {
        let (device, _) = MemoryPort::pair(1);
        Some(PortEntry {
            address_v4: Some(Ipv4Addr::new(10, port as u8, 0, 1)),
            ..PortEntry::plain(format!("port{port}"), device, AdjacencyId(u32::from(port)))
        })
    };
    Snapshot {
        generation: 1,
        ports: (0..=SITES).map(entry).collect(),
        // Sites' adjacencies are made in this order, from the first on.
        adjacencies: (0..SITES)
            .map(|site| {
                (AdjacencyId(u32::from(site)), Adjacency::point_to_point(PortId(1 + site), 1500))
            })
            .collect(),
        martians: Martians::Default,
        hash_seed: 0,
        address_v4: Some(Ipv4Addr::new(192, 0, 2, 1)),
        address_v6: None,
        directed_broadcasts: (0..=SITES)
            .map(|port| Ipv4Addr::new(10, port as u8, 0, 255))
            .collect(),
        martian_sources: (0..=SITES)
            .flat_map(|port| {
                [1, 255].map(|host| IpAddr::from(Ipv4Addr::new(10, port as u8, 0, host)))
            })
            .collect(),
        client_sources: AddressSet::default(),
        services: AddressSet::default(),
        locals: Locals::of_checks(49_152..=65_535),
        bfd: Arc::default(),
        busy_poll: std::time::Duration::ZERO,
    }
}

/// Bytes of an IP packet.
const PACKET_LEN: usize = 64;

const SITES: u16 = 8;
const GROUPS: usize = 64;
const SEED: u64 = 0x6e68;
