//! What is looked up, and in which table: the same in each run, from fixed seeds.
#![forbid(unsafe_code)]

use std::collections::HashSet;
use std::fmt;
use std::hash::Hash;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::ops::{BitOr, BitXor};

use nearhop_fib::IpPrefix;

use super::random::{Random, Zipf};

/// An address as a number; the family it belongs to.
pub trait Word:
    Copy
    + Eq
    + Hash
    + Ord
    + Send
    + Sync
    + From<bool>
    + BitOr<Output = Self>
    + BitXor<Output = Self>
    + 'static
{
    /// As nearhop and treebitmap take it.
    type Addr: Copy + Into<IpAddr>;
    /// As DPDK takes it: a number for IPv4, bytes for IPv6.
    type Wire: Copy;
    /// Bits of an address.
    const WIDTH: u8;
    /// `IPv4` or `IPv6`.
    const FAMILY: &'static str;
    /// How many keys a workload has.
    const KEYS: usize;

    /// Any address at all.
    fn random(random: &mut Random) -> Self;
    /// An address of the workload *uniform*.
    fn uniform(random: &mut Random) -> Self;
    /// Ones in all bits behind the first `len`.
    fn host_mask(len: u8) -> Self;
    /// The bits in which both have ones.
    fn and(self, mask: Self) -> Self;
    /// As nearhop takes it.
    fn addr(self) -> Self::Addr;
    /// As DPDK takes it.
    fn wire(self) -> Self::Wire;
    /// The first 64 bits.
    fn top(self) -> u64;
    /// As one reads it.
    fn ip(self) -> IpAddr {
        self.addr().into()
    }
    /// The bits of an address, if it is of this family.
    fn of_ip(ip: IpAddr) -> Option<Self>;
}

/// One route of the table; `hop` is below [`HOPS`].
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Route<W> {
    /// No bit is set behind `len`.
    pub bits: W,
    /// Length of the prefix.
    pub len: u8,
    /// Number of the next hop.
    pub hop: u32,
}

/// The table of one family.
#[derive(Clone, Debug)]
pub struct Routes<W>(pub Vec<Route<W>>);

impl<W: Word> Routes<W> {
    /// The prefixes of this family, each with a random next hop.
    pub fn of(prefixes: &[IpPrefix]) -> Self {
        let mut random = Random(SEED_HOPS);
        let route = |prefix: &IpPrefix| {
            let bits = W::of_ip(prefix.addr())?;
            Some(Route { bits, len: prefix.len(), hop: random.below(HOPS) as u32 })
        };
        Self(prefixes.iter().filter_map(route).collect())
    }

    /// Those of at most so many bits.
    pub fn up_to(&self, len: u8) -> Self {
        Self(self.0.iter().filter(|route| route.len <= len).copied().collect())
    }

    /// `count` addresses, each anywhere in a prefix that is drawn again.
    fn traffic(&self, random: &mut Random, count: usize) -> Vec<W> {
        let inside = |random: &mut Random| {
            let route = self.0[random.below(self.0.len() as u64) as usize];
            route.bits | W::random(random).and(W::host_mask(route.len))
        };
        (0..count).map(|_| inside(random)).collect()
    }

    /// `count` different routes, or all there are.
    pub fn sample(&self, random: &mut Random, count: usize) -> Vec<Route<W>> {
        let mut seen = HashSet::new();
        let wanted = count.min(self.0.len());
        let mut sample = Vec::with_capacity(wanted);
        while sample.len() < wanted {
            let at = random.below(self.0.len() as u64) as usize;
            if seen.insert(at) {
                sample.push(self.0[at]);
            }
        }
        sample
    }
}

/// What keys are like.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Workload {
    /// Each from the whole space; IPv6 from 2000::/3.
    Uniform,
    /// Each anywhere in a random prefix.
    Traffic,
    /// A million such addresses, drawn by Zipf's law with s = 1.
    Zipf,
    /// 1,024 such addresses, each as often.
    Rep1k,
}

impl Workload {
    /// In the order of the table.
    pub const ALL: [Self; 4] = [Self::Uniform, Self::Traffic, Self::Zipf, Self::Rep1k];
}

impl fmt::Display for Workload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Uniform => "uniform",
            Self::Traffic => "traffic",
            Self::Zipf => "zipf",
            Self::Rep1k => "rep1k",
        })
    }
}

/// The keys of a workload, in each form that a contestant takes, so that none converts them in
/// measured time.
pub struct Keys<W: Word> {
    /// As numbers.
    pub bits: Vec<W>,
    /// As `std`'s addresses.
    pub addrs: Vec<W::Addr>,
    /// As DPDK takes them.
    #[cfg_attr(not(feature = "dpdk"), allow(dead_code, reason = "nobody takes them so"))]
    pub wire: Vec<W::Wire>,
    /// The upper halves of IPv6 addresses, for PlanB.
    pub tops: Vec<u64>,
}

impl<W: Word> Keys<W> {
    /// [`Word::KEYS`] keys.
    pub fn new(workload: Workload, routes: &Routes<W>) -> Self {
        Self::some(workload, routes, W::KEYS)
    }

    /// So many keys.
    pub fn some(workload: Workload, routes: &Routes<W>, count: usize) -> Self {
        let mut random = Random(SEED_KEYS ^ workload as u64);
        let flows = |random: &mut Random, count: usize| routes.traffic(random, count);
        let bits: Vec<W> = match workload {
            Workload::Uniform => (0..count).map(|_| W::uniform(&mut random)).collect(),
            Workload::Traffic => flows(&mut random, count),
            Workload::Zipf => {
                let flows = flows(&mut random, ZIPF_FLOWS);
                let zipf = Zipf::new(flows.len());
                (0..count).map(|_| flows[zipf.draw(&mut random)]).collect()
            }
            Workload::Rep1k => {
                let flows = flows(&mut random, REP_FLOWS);
                (0..count).map(|_| flows[random.below(REP_FLOWS as u64) as usize]).collect()
            }
        };
        Self::from(bits)
    }
}

impl<W: Word> From<Vec<W>> for Keys<W> {
    fn from(bits: Vec<W>) -> Self {
        let addrs = bits.iter().map(|bits| bits.addr()).collect();
        let wire = bits.iter().map(|bits| bits.wire()).collect();
        let tops = bits.iter().map(|bits| bits.top()).collect();
        Self { bits, addrs, wire, tops }
    }
}

impl Word for u32 {
    type Addr = Ipv4Addr;
    type Wire = Self;
    const WIDTH: u8 = 32;
    const FAMILY: &'static str = "IPv4";
    const KEYS: usize = 8 << 20;

    fn random(random: &mut Random) -> Self {
        random.bits() as Self
    }
    fn uniform(random: &mut Random) -> Self {
        Self::random(random)
    }
    fn host_mask(len: u8) -> Self {
        Self::MAX.checked_shr(u32::from(len)).unwrap_or(0)
    }
    fn and(self, mask: Self) -> Self {
        self & mask
    }
    fn addr(self) -> Ipv4Addr {
        Ipv4Addr::from_bits(self)
    }
    fn wire(self) -> Self {
        self
    }
    fn top(self) -> u64 {
        u64::from(self) << 32
    }
    fn of_ip(ip: IpAddr) -> Option<Self> {
        match ip {
            IpAddr::V4(ip) => Some(ip.to_bits()),
            IpAddr::V6(_) => None,
        }
    }
}

impl Word for u128 {
    type Addr = Ipv6Addr;
    type Wire = [u8; 16];
    const WIDTH: u8 = 128;
    const FAMILY: &'static str = "IPv6";
    const KEYS: usize = 4 << 20;

    fn random(random: &mut Random) -> Self {
        Self::from(random.bits()) << 64 | Self::from(random.bits())
    }
    fn uniform(random: &mut Random) -> Self {
        Self::random(random) >> 3 | 1 << 125
    }
    fn host_mask(len: u8) -> Self {
        Self::MAX.checked_shr(u32::from(len)).unwrap_or(0)
    }
    fn and(self, mask: Self) -> Self {
        self & mask
    }
    fn addr(self) -> Ipv6Addr {
        Ipv6Addr::from_bits(self)
    }
    fn wire(self) -> [u8; 16] {
        self.to_be_bytes()
    }
    fn top(self) -> u64 {
        (self >> 64) as u64
    }
    fn of_ip(ip: IpAddr) -> Option<Self> {
        match ip {
            IpAddr::V6(ip) => Some(ip.to_bits()),
            IpAddr::V4(_) => None,
        }
    }
}

/// Next hops of the table.
pub const HOPS: u64 = 4096;

const ZIPF_FLOWS: usize = 1_000_000;
const REP_FLOWS: usize = 1024;
const SEED_HOPS: u64 = 0x6e68_0001;
const SEED_KEYS: u64 = 0x6e68_1000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_lie_where_their_workload_says() {
        let mut random = Random(1);
        for _ in 0..1000 {
            assert_eq!(u128::uniform(&mut random) >> 125, 1);
        }
        let route = Route { bits: 0x0a01_0200_u32, len: 24, hop: 1 };
        let flows = Routes(vec![route]).traffic(&mut random, 1000);
        assert!(flows.iter().all(|flow| flow >> 8 == route.bits >> 8));
        assert!(flows.iter().collect::<HashSet<_>>().len() > 200);
        let whole = Routes(vec![Route { bits: 0_u128, len: 0, hop: 0 }]);
        assert!(whole.traffic(&mut random, 100).iter().any(|flow| flow >> 127 == 1));
        let host = Routes(vec![Route { bits: 7_u128, len: 128, hop: 0 }]);
        assert_eq!(host.traffic(&mut random, 1), [7]);
    }

    #[test]
    fn a_sample_has_no_route_twice() {
        let routes =
            Routes((0..100_u32).map(|n| Route { bits: n << 8, len: 24, hop: n }).collect());
        let sample = routes.sample(&mut Random(5), 100);
        let different: HashSet<u32> = sample.iter().map(|route| route.bits).collect();
        assert_eq!((sample.len(), different.len()), (100, 100));
        assert_eq!(routes.sample(&mut Random(5), 1000).len(), 100);
        assert_eq!(routes.up_to(23).0.len(), 0);
    }
}
