//! A whole table of the Internet, beside two other crates: at the first and the last address of
//! every prefix, and at their neighbours, all three find the same.
#![allow(clippy::unwrap_used, reason = "a test may panic")]
#![cfg(not(loom))]

mod common;

use std::io::{BufRead as _, BufReader};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use common::{Numbers, bits_of, boundaries, prefix_of};
use flate2::read::GzDecoder;
use ip_network_table_deps_treebitmap::IpLookupTable;
use nearhop_fib::{Group, GroupId, IpPrefix, Online, Writer, fib};
use prefix_trie::PrefixMap;

#[test]
fn every_boundary_as_two_other_crates_have_it() {
    let prefixes = whole_table();
    let (mut writer, handle) = fib(1);
    let groups: Vec<GroupId> =
        (0..4096).map(|_| writer.add_group(&Group::Local).unwrap()).collect();
    let mut peers = Peers::default();
    let mut numbers = Numbers(1);
    for &prefix in &prefixes {
        insert(&mut writer, &mut peers, prefix, numbers.pick(&groups));
    }
    let mut reader = handle.reader().unwrap();
    compare(&prefixes, &reader.online(), &peers);

    // Every other prefix goes, as do a few of those that most are in; a default route comes.
    let (gone, left): (Vec<_>, Vec<_>) = prefixes.iter().partition(|_| numbers.below(2) == 0);
    for &prefix in gone {
        assert_eq!(writer.remove(prefix).unwrap(), peers.remove(prefix), "{prefix}");
    }
    for v6 in [false, true] {
        for len in [0, 1, 2, 3] {
            let prefix = prefix_of(v6, 0x2000 << if v6 { 112 } else { 16 }, len);
            insert(&mut writer, &mut peers, prefix, numbers.pick(&groups));
        }
    }
    compare(&prefixes, &reader.online(), &peers);

    for &prefix in left {
        assert_eq!(writer.remove(prefix).unwrap(), peers.remove(prefix), "{prefix}");
    }
    compare(&prefixes, &reader.online(), &peers);
    assert_eq!(writer.len(), (4, 4));
}

/// Looks up all in batches of a family, by each code there is, and one by one, in all three.
fn compare(prefixes: &[IpPrefix], table: &Online<'_>, peers: &Peers) {
    let addrs: Vec<IpAddr> = prefixes.iter().flat_map(|&prefix| boundaries(prefix)).collect();
    let (mut v4, mut v6) = (Vec::new(), Vec::new());
    for &addr in &addrs {
        match addr {
            IpAddr::V4(addr) => v4.push(addr),
            IpAddr::V6(addr) => v6.push(addr),
        }
    }
    let mut found_v4 = vec![GroupId(0); v4.len()];
    for (addrs, found) in v4.chunks(BATCH).zip(found_v4.chunks_mut(BATCH)) {
        table.lookup_batch_v4(addrs, found);
    }
    for (&addr, found) in v4.iter().zip(found_v4) {
        let want = peers.find_v4(addr);
        assert_eq!((found, table.lookup(addr.into())), (want, want), "{addr}");
    }
    let mut found_v6 = vec![GroupId(0); v6.len()];
    for (addrs, found) in v6.chunks(BATCH).zip(found_v6.chunks_mut(BATCH)) {
        table.lookup_batch_v6(addrs, found);
    }
    for (&addr, found) in v6.iter().zip(found_v6) {
        let want = peers.find_v6(addr);
        assert_eq!((found, table.lookup(addr.into())), (want, want), "{addr}");
    }
}

/// The same routes in two other crates, which have to agree.
#[derive(Default)]
struct Peers {
    trie_v4: PrefixMap<(u32, u8), GroupId>,
    trie_v6: PrefixMap<(u128, u8), GroupId>,
    bitmap_v4: IpLookupTable<Ipv4Addr, GroupId>,
    bitmap_v6: IpLookupTable<Ipv6Addr, GroupId>,
}

impl Peers {
    fn insert(&mut self, prefix: IpPrefix, group: GroupId) -> Option<GroupId> {
        let (len, bits) = (prefix.len(), bits_of(prefix.addr()));
        let both = match prefix.addr() {
            IpAddr::V4(addr) => (
                self.trie_v4.insert((bits as u32, len), group),
                self.bitmap_v4.insert(addr, len.into(), group),
            ),
            IpAddr::V6(addr) => (
                self.trie_v6.insert((bits, len), group),
                self.bitmap_v6.insert(addr, len.into(), group),
            ),
        };
        agreed(both, prefix)
    }

    fn remove(&mut self, prefix: IpPrefix) -> Option<GroupId> {
        let (len, bits) = (prefix.len(), bits_of(prefix.addr()));
        let both = match prefix.addr() {
            IpAddr::V4(addr) => {
                (self.trie_v4.remove(&(bits as u32, len)), self.bitmap_v4.remove(addr, len.into()))
            }
            IpAddr::V6(addr) => {
                (self.trie_v6.remove(&(bits, len)), self.bitmap_v6.remove(addr, len.into()))
            }
        };
        agreed(both, prefix)
    }

    fn find_v4(&self, addr: Ipv4Addr) -> GroupId {
        let trie = self.trie_v4.get_lpm(&(addr.to_bits(), 32)).map(|(_, &group)| group);
        let bitmap = self.bitmap_v4.longest_match(addr).map(|(_, _, &group)| group);
        agreed((trie, bitmap), addr).unwrap_or(GroupId::NONE)
    }

    fn find_v6(&self, addr: Ipv6Addr) -> GroupId {
        let trie = self.trie_v6.get_lpm(&(addr.to_bits(), 128)).map(|(_, &group)| group);
        let bitmap = self.bitmap_v6.longest_match(addr).map(|(_, _, &group)| group);
        agreed((trie, bitmap), addr).unwrap_or(GroupId::NONE)
    }
}

fn agreed(
    (trie, bitmap): (Option<GroupId>, Option<GroupId>),
    of: impl std::fmt::Display,
) -> Option<GroupId> {
    assert_eq!(trie, bitmap, "prefix-trie and treebitmap differ on {of}");
    trie
}

fn insert(writer: &mut Writer, peers: &mut Peers, prefix: IpPrefix, group: GroupId) {
    assert_eq!(writer.insert(prefix, group).unwrap(), peers.insert(prefix, group), "{prefix}");
}

/// 901,899 IPv4 and 160,147 IPv6 prefixes.
fn whole_table() -> Vec<IpPrefix> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../benches/testdata/bart-prefixes.txt.gz");
    let file = std::fs::File::open(path).unwrap();
    let lines = BufReader::new(GzDecoder::new(file)).lines();
    let prefixes: Vec<IpPrefix> = lines.map(|line| line.unwrap().parse().unwrap()).collect();
    assert_eq!(prefixes.len(), 1_062_046);
    prefixes
}

/// Addresses of a batch.
const BATCH: usize = 256;
