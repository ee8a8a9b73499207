//! Sets of addresses that every packet's source is looked up in.
#![forbid(unsafe_code)]

use std::net::IpAddr;

use nearhop_fib::IpPrefix;

/// A set of prefixes of both families. Nearly every address that is not in it is ruled out by one
/// bit of a table of hashes; the others cost a binary search. A set never changes.
#[derive(Clone, Debug)]
pub struct AddressSet {
    v4: Ranges,
    v6: Ranges,
}

impl AddressSet {
    /// Whether a prefix of the set contains `address`.
    #[inline]
    pub fn has(&self, address: IpAddr) -> bool {
        match address {
            IpAddr::V4(address) => self.v4.has(address.to_bits().into()),
            IpAddr::V6(address) => self.v6.has(address.to_bits()),
        }
    }
}

impl Default for AddressSet {
    fn default() -> Self {
        std::iter::empty::<IpPrefix>().collect()
    }
}

impl FromIterator<IpPrefix> for AddressSet {
    fn from_iter<I: IntoIterator<Item = IpPrefix>>(prefixes: I) -> Self {
        let (mut v4, mut v6) = (Vec::new(), Vec::new());
        for prefix in prefixes {
            match prefix {
                IpPrefix::V4(p) => v4.push((p.addr().to_bits().into(), p.last().to_bits().into())),
                IpPrefix::V6(p) => v6.push((p.addr().to_bits(), p.last().to_bits())),
            }
        }
        Self { v4: Ranges::new(v4), v6: Ranges::new(v6) }
    }
}

impl FromIterator<IpAddr> for AddressSet {
    fn from_iter<I: IntoIterator<Item = IpAddr>>(addresses: I) -> Self {
        addresses.into_iter().map(IpPrefix::host).collect()
    }
}

/// The prefixes of one family, as ranges of addresses.
#[derive(Clone, Debug)]
struct Ranges {
    /// The bits of an address that the shortest prefix has; the hash covers these.
    mask: u128,
    /// Low bits of a hash that the filter does not use.
    unused: u32,
    /// A bit for each hash, a power of two of words: whether a range has addresses of this hash.
    filter: Box<[u64]>,
    /// First and last addresses, in order, without overlaps.
    sorted: Box<[(u128, u128)]>,
}

impl Ranges {
    /// A set of prefixes, each as its first and last address.
    fn new(mut all: Vec<(u128, u128)>) -> Self {
        all.sort_unstable();
        // Two prefixes are disjoint, or one contains the other and comes first.
        all.dedup_by(|later, earlier| later.1 <= earlier.1);
        let widest = all.iter().map(|(first, last)| last - first).max().unwrap_or(0);
        // A prefix's addresses differ in the low bits, as many as its size says.
        let mask = !widest;
        let words = (all.len() * WORDS_PER_RANGE).next_power_of_two().min(WORDS_MAX);
        let mut filter = vec![0; words].into_boxed_slice();
        let unused = u64::BITS - 6 - words.trailing_zeros();
        for &(first, _) in &all {
            let (word, bit) = place(first & mask, unused);
            filter[word] |= bit;
        }
        Self { mask, unused, filter, sorted: all.into() }
    }

    #[inline]
    fn has(&self, address: u128) -> bool {
        self.may_have(address) && self.search(address)
    }

    /// Whether the filter has addresses with the hash of this one.
    #[inline]
    fn may_have(&self, address: u128) -> bool {
        let (word, bit) = place(address & self.mask, self.unused);
        // The filter has as many words as a hash has places.
        self.filter[word & (self.filter.len() - 1)] & bit != 0
    }

    #[cold]
    #[inline(never)]
    fn search(&self, address: u128) -> bool {
        let after = self.sorted.partition_point(|&(first, _)| first <= address);
        after > 0 && self.sorted[after - 1].1 >= address
    }
}

/// The word and the bit of an address, by the high bits of its hash: all but so many.
#[inline]
fn place(address: u128, unused: u32) -> (usize, u64) {
    let key = address as u64 ^ ((address >> 64) as u64).rotate_left(32);
    let place = key.wrapping_mul(MIX) >> unused;
    ((place >> 6) as usize, 1 << (place & 63))
}

/// 256 bits for each range: one of 256 other addresses costs a search.
const WORDS_PER_RANGE: usize = 4;

/// 64 KiB, which stay in a second-level cache.
const WORDS_MAX: usize = 1 << 13;

/// An odd number, the golden ratio's fraction, which spreads neighbours over the high bits.
const MIX: u64 = 0x9e37_79b9_7f4a_7c15;

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, Ipv6Addr};

    use proptest::prelude::*;

    use super::*;

    fn prefix() -> impl Strategy<Value = IpPrefix> {
        let near = |bits: u128| prop_oneof![Just(bits), any::<u128>()];
        prop_oneof![
            (any::<u8>(), 0..=32_u8).prop_map(|(low, len)| {
                let address = Ipv4Addr::new(10, 0, low & 3, low).into();
                IpPrefix::around(address, len).unwrap()
            }),
            (near(0xfd00 << 112), any::<u8>(), 0..=128_u8).prop_map(|(high, low, len)| {
                let address = Ipv6Addr::from_bits(high | u128::from(low)).into();
                IpPrefix::around(address, len).unwrap()
            }),
        ]
    }

    proptest! {
        #[test]
        fn has_what_its_prefixes_contain(
            prefixes in prop::collection::vec(prefix(), 0..12),
            v4: u32,
            low: u8,
            v6: u128,
        ) {
            let set: AddressSet = prefixes.iter().copied().collect();
            let ends = prefixes.iter().flat_map(|prefix| match prefix {
                IpPrefix::V4(p) => {
                    let (first, last) = (p.addr().to_bits(), p.last().to_bits());
                    [first, last, first.wrapping_sub(1), last.wrapping_add(1)]
                        .map(|bits| IpAddr::from(Ipv4Addr::from_bits(bits)))
                }
                IpPrefix::V6(p) => {
                    let (first, last) = (p.addr().to_bits(), p.last().to_bits());
                    [first, last, first.wrapping_sub(1), last.wrapping_add(1)]
                        .map(|bits| IpAddr::from(Ipv6Addr::from_bits(bits)))
                }
            });
            let others = [
                Ipv4Addr::from_bits(v4).into(),
                Ipv4Addr::new(10, 0, low & 3, low).into(),
                IpAddr::from(Ipv6Addr::from_bits(v6)),
            ];
            for address in ends.chain(others) {
                let want = prefixes.iter().any(|prefix| prefix.contains(address));
                prop_assert_eq!(set.has(address), want, "{} in {:?}", address, &prefixes);
            }
        }
    }

    #[test]
    fn an_empty_set_and_a_full_one_answer_for_every_address() {
        let addresses = ["0.0.0.0", "255.255.255.255", "::", "ffff::1"];
        let full: AddressSet =
            ["0.0.0.0/0", "::/0"].iter().map(|p| p.parse::<IpPrefix>().unwrap()).collect();
        for address in addresses.map(|address| address.parse().unwrap()) {
            assert!(!AddressSet::default().has(address), "{address}");
            assert!(full.has(address), "{address}");
        }
    }

    #[test]
    fn nearly_every_other_address_is_ruled_out_by_the_filter() {
        let own =
            (0..1000_u32).map(|port| IpAddr::from(Ipv4Addr::from_bits(0x0a00_0001 | port << 8)));
        let set: AddressSet = own.collect();
        let passes = (0..100_000_u128).filter(|client| set.v4.may_have(0x0a00_0002 + client * 7));
        assert!(passes.count() < 2_000);
    }
}
