//! A router of three ports, packets to send through it, and the addresses that they have.

use nearhop_fib::{
    ACCEPT_ALL, AdjacencyId, Group, Handle, Member, PathId, Reader, Spread, WhenDead, Writer, fib,
    name_key,
};

use super::*;

/// A router with a client on port 0, sites on ports 1 and 2, and nothing else.
pub(super) struct Rig {
    pub(super) writer: Writer,
    pub(super) reader: Reader,
    pub(super) handle: Handle,
    pub(super) published: Arc<ArcSwap<Snapshot>>,
    pub(super) state: WorkerState,
    pub(super) batch: Batch,
    pub(super) changes: Arc<AtomicU64>,
    pub(super) legs: Vec<(PathId, AdjacencyId)>,
    pub(super) now: Nanos,
}

/// A sent packet: port, verdict once sent, bytes.
pub(super) type Sent = (u16, Verdict, Vec<u8>);

impl Rig {
    pub(super) fn new() -> Self {
        let (mut writer, handle) = fib(1);
        let legs: Vec<_> = (0..3_u16)
            .map(|port| {
                let adjacency = writer.add_adjacency(port, u64::from(port)).unwrap();
                (writer.add_path(name_key(&format!("leg{port}")), ACCEPT_ALL).unwrap(), adjacency)
            })
            .collect();
        let changes = Arc::new(AtomicU64::new(0));
        let mut rig = Self {
            reader: handle.reader().unwrap(),
            handle,
            writer,
            published: Arc::new(ArcSwap::from_pointee(snapshot())),
            state: WorkerState::new(0, 1, Arc::clone(&changes)),
            batch: Batch::new(),
            changes,
            legs,
            now: Nanos(10_000_000_000),
        };
        let ids: Vec<u32> = rig.legs.iter().map(|(_, adjacency)| adjacency.0).collect();
        assert_eq!(ids, [0, 1, 2], "as the snapshot has them");
        rig.route("10.0.0.0/24", &[0]).route("fd00::/64", &[0]);
        rig.route("198.51.100.53/32", &[1, 2]).route("2001:db8:53::53/128", &[1, 2]);
        rig.group("10.0.0.1/32", &Group::Local);
        rig.group("fd00::1/128", &Group::Local);
        rig
    }

    /// A route to these legs, each in a tier of its own.
    pub(super) fn route(&mut self, prefix: &str, legs: &[usize]) -> &mut Self {
        let members = legs
            .iter()
            .enumerate()
            .map(|(tier, &leg)| {
                let (path, adjacency) = self.legs[leg];
                Member { path, adjacency, tier: tier as u8, weight: 1, link_weight: 1 }
            })
            .collect();
        let when_dead = WhenDead::Unreachable;
        self.group(prefix, &Group::Forward { members, when_dead, spread: Spread::Flow })
    }

    pub(super) fn group(&mut self, prefix: &str, group: &Group) -> &mut Self {
        let group = self.writer.add_group(group).unwrap();
        self.writer.insert(prefix.parse().unwrap(), group).unwrap();
        self
    }

    pub(super) fn with_snapshot(&mut self, change: impl FnOnce(&mut Snapshot)) {
        let mut snapshot = (**self.published.load()).clone();
        change(&mut snapshot);
        self.published.store(Arc::new(snapshot));
    }

    /// Runs one batch of packets that came in by `port`.
    pub(super) fn run(&mut self, port: u16, packets: &[Vec<u8>]) -> Vec<Sent> {
        self.batch.clear();
        self.batch.from_port(PortId(port));
        for packet in packets {
            assert!(self.batch.push(packet));
        }
        self.run_batch()
    }

    /// Runs one batch of one packet with this offload header.
    pub(super) fn run_frame(&mut self, port: u16, packet: &[u8], offload: Offload) -> Vec<Sent> {
        self.batch.clear();
        self.batch.from_port(PortId(port));
        assert!(self.batch.push_frame(packet, offload));
        self.run_batch()
    }

    pub(super) fn run_batch(&mut self) -> Vec<Sent> {
        let mut snapshots = Snapshots::new(Arc::clone(&self.published));
        let online = self.reader.online();
        forward(&mut self.batch, &online, &mut snapshots, &mut self.state, self.now);
        drop(online);
        // As the worker's shell does once devices and channels have taken them.
        for (transmission, frame) in (0..3).flat_map(|port| self.batch.frames(PortId(port))) {
            self.state.counters.count_all(transmission.verdict, frame.segments());
        }
        for (punt, _, _) in self.batch.punts() {
            let segments = segments(&self.batch, punt.index);
            self.state.counters.count_all(punt.lane.verdict(), segments);
        }
        self.assert_balance();
        self.batch
            .transmissions()
            .map(|(t, bytes)| (t.exit.port.0, t.verdict, bytes.to_vec()))
            .collect()
    }

    pub(super) fn assert_balance(&self) {
        let counters = &self.state.counters;
        let ended: u64 = counters.verdicts.iter().sum();
        assert_eq!(counters.received + counters.originated + counters.split, ended);
    }

    pub(super) fn of(&self, verdict: Verdict) -> u64 {
        self.state.counters.of(verdict)
    }
}

pub(super) fn snapshot() -> Snapshot {
    let entry = |name: &str, v4: [u8; 4], v6: &str, port| {
        Some(PortEntry {
            address_v4: Some(v4.into()),
            address_v6: v6.parse().ok(),
            ..PortEntry::plain(name, MemoryPort::pair(1).0, AdjacencyId(port))
        })
    };
    let services = [SERVICE, SERVICE6];
    let services = services.map(|ends| ends.parse::<std::net::SocketAddr>().unwrap().ip());
    let plain = |(id, mtu)| (AdjacencyId(id), Adjacency::point_to_point(PortId(id as u16), mtu));
    Snapshot {
        generation: 1,
        ports: vec![
            entry("client", [10, 0, 0, 1], "fd00::1", 0),
            entry("ams", [10, 1, 0, 1], "fd00:1::1", 1),
            entry("fra", [10, 2, 0, 1], "fd00:2::1", 2),
        ],
        adjacencies: [(0, 1500), (1, 1400), (2, 1400)].map(plain).into_iter().collect(),
        martians: Martians::Default,
        hash_seed: 7,
        address_v4: Some(Ipv4Addr::new(192, 0, 2, 1)),
        address_v6: None,
        directed_broadcasts: [Ipv4Addr::new(10, 0, 0, 255)].into_iter().collect(),
        martian_sources: OWN_SOURCES.iter().map(|own| own.parse::<IpAddr>().unwrap()).collect(),
        client_sources: OWN_SOURCES
            .iter()
            .map(|own| own.parse::<IpAddr>().unwrap())
            .chain(services)
            .collect(),
        services: services.into_iter().collect(),
        locals: Locals::of_checks(49_152..=65_535),
        bfd: Arc::default(),
        busy_poll: std::time::Duration::ZERO,
    }
}

pub(super) fn udp(src: &str, dst: &str, payload: usize) -> Vec<u8> {
    udp_ttl(src, dst, payload, 64)
}

pub(super) fn udp_ttl(src: &str, dst: &str, payload: usize, ttl: u8) -> Vec<u8> {
    let mut out = vec![0; 66_000];
    let datagram = Datagram {
        src: src.parse().unwrap(),
        dst: dst.parse().unwrap(),
        ttl,
        payload: &vec![0xa5; payload],
    };
    let len = datagram.write(&mut out).unwrap();
    out.truncate(len);
    out
}

/// Clears DF and updates the checksum.
pub(super) fn may_fragment(mut packet: Vec<u8>) -> Vec<u8> {
    packet[6] &= !0x40;
    packet[10..12].fill(0);
    let sum = crate::packet::checksum::Sum::ZERO.bytes(&packet[..20]).checksum();
    packet[10..12].copy_from_slice(&sum.to_be_bytes());
    packet
}

/// The router's own addresses, and a directed broadcast.
pub(super) const OWN_SOURCES: [&str; 8] = [
    "10.0.0.1",
    "10.1.0.1",
    "10.2.0.1",
    "192.0.2.1",
    "10.0.0.255",
    "fd00::1",
    "fd00:1::1",
    "fd00:2::1",
];

pub(super) const CLIENT: &str = "10.0.0.2:4000";
pub(super) const CLIENT6: &str = "[fd00::2]:4000";
pub(super) const SERVICE: &str = "198.51.100.53:53";
pub(super) const SERVICE6: &str = "[2001:db8:53::53]:53";
