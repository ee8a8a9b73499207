//! What the tests of the tables share: a slow and obvious model, places to look, and numbers.
#![allow(dead_code, reason = "no test uses all of it")]
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use nearhop_fib::{Group, GroupId, Handle, IpPrefix, Online, Writer, fib};

/// The model: for each length that there is, which prefixes have which group. It knows nothing of
/// the crate's own arithmetic on addresses.
#[derive(Clone, Default)]
pub struct Golden {
    v4: BTreeMap<u8, HashMap<u128, GroupId>>,
    v6: BTreeMap<u8, HashMap<u128, GroupId>>,
}

impl Golden {
    pub fn insert(&mut self, prefix: IpPrefix, group: GroupId) -> Option<GroupId> {
        let (routes, bits, _) = self.family(prefix.addr());
        routes.entry(prefix.len()).or_default().insert(bits, group)
    }

    pub fn remove(&mut self, prefix: IpPrefix) -> Option<GroupId> {
        let (routes, bits, _) = self.family(prefix.addr());
        routes.get_mut(&prefix.len())?.remove(&bits)
    }

    pub fn longest_match(&self, addr: IpAddr) -> Option<(IpPrefix, GroupId)> {
        let (routes, width) = if addr.is_ipv6() { (&self.v6, 128) } else { (&self.v4, 32) };
        routes.iter().rev().find_map(|(&len, of_len)| {
            let kept = bits_of(addr) & mask(width, len);
            of_len.get(&kept).map(|&group| (made_of(addr.is_ipv6(), kept, len), group))
        })
    }

    pub fn lookup(&self, addr: IpAddr) -> GroupId {
        self.longest_match(addr).map_or(GroupId::NONE, |(_, group)| group)
    }

    /// IPv4 before IPv6, then by address, the shorter first.
    pub fn routes(&self) -> Vec<(IpPrefix, GroupId)> {
        let of = |v6: bool, routes: &BTreeMap<u8, HashMap<u128, GroupId>>| {
            let mut all: Vec<_> = routes
                .iter()
                .flat_map(|(&len, of_len)| of_len.iter().map(move |(&b, &g)| ((b, len), g)))
                .collect();
            all.sort_by_key(|&(key, _)| key);
            all.into_iter().map(move |((bits, len), group)| (made_of(v6, bits, len), group))
        };
        of(false, &self.v4).chain(of(true, &self.v6)).collect()
    }

    fn family(&mut self, addr: IpAddr) -> (&mut BTreeMap<u8, HashMap<u128, GroupId>>, u128, u8) {
        let bits = bits_of(addr);
        if addr.is_ipv6() { (&mut self.v6, bits, 128) } else { (&mut self.v4, bits, 32) }
    }
}

/// The address as a number.
pub fn bits_of(addr: IpAddr) -> u128 {
    match addr {
        IpAddr::V4(addr) => addr.to_bits().into(),
        IpAddr::V6(addr) => addr.to_bits(),
    }
}

/// The address with this number.
pub fn address_of(v6: bool, bits: u128) -> IpAddr {
    if v6 { Ipv6Addr::from_bits(bits).into() } else { Ipv4Addr::from_bits(bits as u32).into() }
}

/// The prefix of this length that `bits` are in.
pub fn prefix_of(v6: bool, bits: u128, len: u8) -> IpPrefix {
    made_of(v6, bits & mask(if v6 { 128 } else { 32 }, len), len)
}

/// The first and last address of a prefix and their neighbours.
pub fn boundaries(prefix: IpPrefix) -> [IpAddr; 6] {
    let v6 = prefix.addr().is_ipv6();
    let width = if v6 { 128 } else { 32 };
    let first = bits_of(prefix.addr());
    let last = first | mask(width, width) & !mask(width, prefix.len());
    [
        first.wrapping_sub(1),
        first,
        first.wrapping_add(1),
        last.wrapping_sub(1),
        last,
        last.wrapping_add(1),
    ]
    .map(|bits| address_of(v6, bits & mask(width, width)))
}

/// An empty FIB, and as many groups as wanted.
pub fn with_groups(readers: usize, count: usize) -> (Writer, Handle, Vec<GroupId>) {
    let (mut writer, handle) = fib(readers);
    let groups = (0..count).map(|_| writer.add_group(&Group::Local).unwrap()).collect();
    (writer, handle, groups)
}

/// Looks every address up in each way there is; panics unless all say the same.
pub fn look_up(table: &Online<'_>, addrs: &[IpAddr]) -> Vec<GroupId> {
    let mut found = vec![GroupId(0); addrs.len()];
    table.lookup_batch(addrs, &mut found);
    let v4: Vec<(Ipv4Addr, GroupId)> = addrs
        .iter()
        .zip(&found)
        .filter_map(
            |(addr, &group)| if let IpAddr::V4(a) = addr { Some((*a, group)) } else { None },
        )
        .collect();
    let v6: Vec<(Ipv6Addr, GroupId)> = addrs
        .iter()
        .zip(&found)
        .filter_map(
            |(addr, &group)| if let IpAddr::V6(a) = addr { Some((*a, group)) } else { None },
        )
        .collect();
    let (v4, want_v4): (Vec<_>, Vec<_>) = v4.into_iter().unzip();
    let (v6, want_v6): (Vec<_>, Vec<_>) = v6.into_iter().unzip();
    let mut batch = vec![GroupId(0); v4.len()];
    table.lookup_batch_v4(&v4, &mut batch);
    assert_eq!(batch, want_v4, "in a batch of IPv4 and one by one");
    let mut batch = vec![GroupId(0); v6.len()];
    table.lookup_batch_v6(&v6, &mut batch);
    assert_eq!(batch, want_v6, "in a batch of IPv6 and one by one");
    for (&addr, &group) in addrs.iter().zip(&found) {
        assert_eq!(table.lookup(addr), group, "{addr} alone and in a batch");
    }
    found
}

/// Numbers that are the same in every run (Steele, Lea and Flood, "Fast Splittable Pseudorandom
/// Number Generators", 2014).
pub struct Numbers(pub u64);

impl Numbers {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ mixed >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ mixed >> 31
    }

    pub fn below(&mut self, end: usize) -> usize {
        (self.next() % end as u64) as usize
    }

    pub fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len())]
    }

    pub fn bits(&mut self) -> u128 {
        u128::from(self.next()) << 64 | u128::from(self.next())
    }
}

fn made_of(v6: bool, bits: u128, len: u8) -> IpPrefix {
    IpPrefix::new(address_of(v6, bits), len).unwrap()
}

/// The first `len` of `width` bits.
fn mask(width: u8, len: u8) -> u128 {
    let all = if width == 128 { u128::MAX } else { (1 << width) - 1 };
    let host = width - len;
    if len == 0 { 0 } else { all >> host << host }
}
