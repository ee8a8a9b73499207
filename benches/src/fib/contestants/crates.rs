//! Rust crates. They look up one key at a time, and no other thread may read while they change.
#![forbid(unsafe_code)]

use ip_network_table_deps_treebitmap::IpLookupTable;
use ip_network_table_deps_treebitmap::address::Address;
use nearhop::time::Nanos;
use prefix_trie::{Prefix, PrefixMap};

use crate::fib::contestant::{Contestant, Facts, Maker, NONE, batches, chained, touch};
use crate::fib::keys::{Keys, Route, Routes, Word};
use crate::report::BenchError;

/// `prefix-trie`: prefixes are pairs of a number and a length.
pub struct PrefixTrie<W>
where
    (W, u8): Prefix,
{
    map: PrefixMap<(W, u8), u32>,
    build_s: f64,
}

impl<W: Word> PrefixTrie<W>
where
    (W, u8): Prefix,
{
    /// Builds the table.
    pub fn new(routes: &Routes<W>) -> Self {
        let start = Nanos::now();
        let map = routes.0.iter().map(|route| ((route.bits, route.len), route.hop)).collect();
        Self { map, build_s: Nanos::now().since(start).as_secs_f64() }
    }

    #[inline]
    fn one(&self, key: W) -> u64 {
        self.map.get_lpm(&(key, W::WIDTH)).map_or(MISS, |(_, &hop)| u64::from(hop))
    }
}

impl<W: Word> Contestant<W> for PrefixTrie<W>
where
    (W, u8): Prefix,
{
    fn name(&self) -> &'static str {
        "prefix-trie 0.10"
    }

    fn maker(&self) -> Maker {
        Maker::Crate
    }

    fn pass(&mut self, keys: &Keys<W>, batch: usize, out: &mut [u64]) {
        batches(&keys.bits, batch, out, |keys, out| {
            for (&key, slot) in keys.iter().zip(out) {
                *slot = self.one(key);
            }
        });
    }

    fn chain(&mut self, keys: &Keys<W>, out: &mut [u64]) {
        chained(&keys.bits, out, |key| self.one(key));
    }

    fn number(&self, stored: u64) -> u32 {
        u32::try_from(stored).unwrap_or(NONE)
    }

    fn insert(&mut self, route: &Route<W>) -> Result<(), BenchError> {
        self.map.insert((route.bits, route.len), route.hop);
        Ok(())
    }

    fn touch(&self, keys: &Keys<W>) {
        touch(&keys.bits);
    }

    fn remove(&mut self, route: &Route<W>) -> Result<(), BenchError> {
        self.map.remove(&(route.bits, route.len));
        Ok(())
    }

    fn facts(&self) -> Facts {
        Facts { build_s: self.build_s, pairs_max: usize::MAX, ..Facts::default() }
    }
}

/// `ip_network_table-deps-treebitmap`, the fork of `treebitmap` that is kept up.
pub struct Treebitmap<W: Word> {
    table: IpLookupTable<W::Addr, u32>,
    build_s: f64,
}

impl<W: Word<Addr: Address>> Treebitmap<W> {
    /// Builds the table.
    pub fn new(routes: &Routes<W>) -> Self {
        let start = Nanos::now();
        let mut table = IpLookupTable::with_capacity(routes.0.len());
        for route in &routes.0 {
            table.insert(route.bits.addr(), u32::from(route.len), route.hop);
        }
        Self { table, build_s: Nanos::now().since(start).as_secs_f64() }
    }

    #[inline]
    fn one(&self, addr: W::Addr) -> u64 {
        self.table.longest_match(addr).map_or(MISS, |(_, _, &hop)| u64::from(hop))
    }
}

impl<W: Word<Addr: Address>> Contestant<W> for Treebitmap<W> {
    fn name(&self) -> &'static str {
        "treebitmap 0.5"
    }

    fn maker(&self) -> Maker {
        Maker::Crate
    }

    fn pass(&mut self, keys: &Keys<W>, batch: usize, out: &mut [u64]) {
        batches(&keys.addrs, batch, out, |keys, out| {
            for (&key, slot) in keys.iter().zip(out) {
                *slot = self.one(key);
            }
        });
    }

    fn chain(&mut self, keys: &Keys<W>, out: &mut [u64]) {
        chained(&keys.bits, out, |key| self.one(key.addr()));
    }

    fn number(&self, stored: u64) -> u32 {
        u32::try_from(stored).unwrap_or(NONE)
    }

    fn insert(&mut self, route: &Route<W>) -> Result<(), BenchError> {
        self.table.insert(route.bits.addr(), u32::from(route.len), route.hop);
        Ok(())
    }

    fn touch(&self, keys: &Keys<W>) {
        touch(&keys.addrs);
    }

    fn remove(&mut self, route: &Route<W>) -> Result<(), BenchError> {
        self.table.remove(route.bits.addr(), u32::from(route.len));
        Ok(())
    }

    fn facts(&self) -> Facts {
        let (nodes, results) = self.table.mem_usage();
        Facts {
            build_s: self.build_s,
            bytes: Some(nodes + results),
            pairs_max: usize::MAX,
            shared: false,
        }
    }
}

const MISS: u64 = u64::MAX;
