//! A full table with made-up attributes, as the UPDATEs that carry it.
//!
//! The prefixes are those of `testdata/bart-prefixes.txt.gz` (a table of the Internet of 2025), without
//! those that nobody may announce, thinned evenly to as many as are asked for. Nobody may publish the
//! attributes of such a table, so they are made from a seed: a prefix has the set of the one before it
//! with a chance of one half, as neighbouring prefixes mostly come from one AS; else a set that no prefix
//! has yet, while there is one, or one drawn with the square of a uniform number, so that few sets have
//! many prefixes. A set has a path of two to seven ASes, the neighbour's first, and half of the sets
//! have up to six communities, a fifth a MED, a twentieth ORIGIN incomplete.
#![forbid(unsafe_code)]

use std::fs::File;
use std::io::{BufRead as _, BufReader};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::Path;

use flate2::read::GzDecoder;
use nearhop_fib::IpPrefix;

use crate::fib::random::Random;
use crate::report::BenchError;

/// Prefixes, each with the number of its attributes.
pub struct Table {
    /// In the order of their sets, which is random.
    pub routes: Vec<(IpPrefix, u32)>,
    /// How many sets there are.
    pub sets: usize,
}

/// Who announces a table.
#[derive(Clone, Copy, Debug)]
pub struct Announcer {
    /// Its AS, the first of every path.
    pub asn: u32,
    /// The next hop of IPv4.
    pub v4: Ipv4Addr,
    /// The next hop of IPv6.
    pub v6: Ipv6Addr,
}

impl Table {
    /// So many routes.
    ///
    /// # Errors
    /// The file cannot be read, or has fewer.
    pub fn load(count: usize) -> Result<Self, BenchError> {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/bart-prefixes.txt.gz");
        let broken = |error: &dyn std::fmt::Display| {
            BenchError::environment(format!("{}: {error}", path.display()))
        };
        let file = File::open(&path).map_err(|error| broken(&error))?;
        let mut prefixes = Vec::new();
        for line in BufReader::new(GzDecoder::new(file)).lines() {
            let line = line.map_err(|error| broken(&error))?;
            let prefix: IpPrefix = line.parse().map_err(|error| broken(&error))?;
            if may_be_announced(prefix) {
                prefixes.push(prefix);
            }
        }
        let have = prefixes.len();
        if have < count {
            return Err(BenchError::usage(format!("the table has {have} prefixes, not {count}")));
        }
        let chosen = (0..count).map(|index| prefixes[index * have / count]);
        Ok(Self::with_sets(chosen, count * 4 / 25))
    }

    fn with_sets(prefixes: impl Iterator<Item = IpPrefix>, sets_max: usize) -> Self {
        let mut random = Random(SEED);
        let mut sets = 0;
        let mut last: Option<(bool, u32)> = None;
        let mut routes: Vec<(u64, IpPrefix, u32)> = prefixes
            .map(|prefix| {
                let is_v4 = matches!(prefix, IpPrefix::V4(_));
                let set = match last {
                    Some((family, set)) if family == is_v4 && random.bits() & 1 == 0 => set,
                    _ if sets < sets_max => {
                        sets += 1;
                        sets as u32 - 1
                    }
                    _ => {
                        let (one, two) = (random.below(1 << 20), random.below(1 << 20));
                        ((one * two * sets_max as u64) >> 40) as u32
                    }
                };
                last = Some((is_v4, set));
                (0, prefix, set)
            })
            .collect();
        for (key, prefix, set) in &mut routes {
            // By set and family, in an order that has nothing to do with that of the prefixes.
            let family = u64::from(matches!(prefix, IpPrefix::V6(_)));
            *key = Random(u64::from(*set)).bits() & !1 | family;
        }
        routes.sort_unstable();
        let routes = routes.into_iter().map(|(_, prefix, set)| (prefix, set)).collect();
        Self { routes, sets }
    }

    /// The UPDATEs for some of the routes, each as full as the attributes that its prefixes share allow.
    pub fn encode(routes: &[(IpPrefix, u32)], from: Announcer) -> Vec<u8> {
        let mut out = Vec::new();
        let same = |a: &(IpPrefix, u32), b: &(IpPrefix, u32)| {
            a.1 == b.1 && matches!(a.0, IpPrefix::V4(_)) == matches!(b.0, IpPrefix::V4(_))
        };
        for run in routes.chunk_by(same) {
            for some in run.chunks(PREFIXES_PER_UPDATE) {
                put_update(some, from, &mut out);
            }
        }
        out
    }
}

/// Whether a prefix is outside of blocks that no network forwards for another (RFC 6890).
fn may_be_announced(prefix: IpPrefix) -> bool {
    match prefix.addr() {
        IpAddr::V4(addr) => {
            let [a, b, c, _] = addr.octets();
            let is_special =
                matches!(
                    (a, b),
                    (0 | 10 | 127 | 224.., _)
                        | (100, 64..=127)
                        | (169, 254)
                        | (172, 16..=31)
                        | (192, 168)
                        | (198, 18 | 19)
                ) || matches!((a, b, c), (192, 0, 0 | 2) | (198, 51, 100) | (203, 0, 113));
            !is_special && (8..=24).contains(&prefix.len())
        }
        IpAddr::V6(addr) => {
            let [first, second, ..] = addr.segments();
            let is_special = matches!((first, second), (0x2001, 0..=0x1ff | 0xdb8) | (0x2002, _));
            first >> 13 == 1 && !is_special && (16..=48).contains(&prefix.len())
        }
    }
}

fn put_update(routes: &[(IpPrefix, u32)], from: Announcer, out: &mut Vec<u8>) {
    let Some(&(first, set)) = routes.first() else { return };
    let is_v4 = matches!(first, IpPrefix::V4(_));
    let mut nlri = Vec::new();
    for (prefix, _) in routes {
        put_prefix(*prefix, &mut nlri);
    }
    let mut attributes = Vec::new();
    put_attributes(set, from, is_v4, &mut attributes);
    if !is_v4 {
        let mut value = vec![0, 2, 1, 16];
        value.extend_from_slice(&from.v6.octets());
        value.push(0);
        value.append(&mut nlri);
        put_attribute(0x90, 14, &value, &mut attributes);
    }
    let len = 19 + 2 + 2 + attributes.len() + nlri.len();
    out.extend_from_slice(&[0xff; 16]);
    out.extend_from_slice(&(len as u16).to_be_bytes());
    out.extend_from_slice(&[2, 0, 0]);
    out.extend_from_slice(&(attributes.len() as u16).to_be_bytes());
    out.extend_from_slice(&attributes);
    out.extend_from_slice(&nlri);
}

fn put_prefix(prefix: IpPrefix, out: &mut Vec<u8>) {
    let octets = usize::from(prefix.len().div_ceil(8));
    out.push(prefix.len());
    match prefix.addr() {
        IpAddr::V4(addr) => out.extend_from_slice(&addr.octets()[..octets]),
        IpAddr::V6(addr) => out.extend_from_slice(&addr.octets()[..octets]),
    }
}

/// All of a set but MP_REACH_NLRI.
fn put_attributes(set: u32, from: Announcer, is_v4: bool, out: &mut Vec<u8>) {
    let mut random = Random(SEED ^ u64::from(set) << 20);
    let origin = if random.below(20) == 0 { 2 } else { 0 };
    put_attribute(0x40, 1, &[origin], out);
    let hops = 1 + (random.below(3) + random.below(4)) as u8;
    let mut path = vec![2, 1 + hops];
    path.extend_from_slice(&from.asn.to_be_bytes());
    // The last two hold the set's number: no two sets are equal.
    for hop in 0..hops {
        let asn = match hops - hop {
            1 => 1_000 + set / 8,
            2 => 40_000 + set % 8,
            _ => 2_000 + random.below(20_000) as u32,
        };
        path.extend_from_slice(&asn.to_be_bytes());
    }
    put_attribute(0x40, 2, &path, out);
    if is_v4 {
        put_attribute(0x40, 3, &from.v4.octets(), out);
    }
    // Of a path of one hop the number's rest is its MED.
    if hops == 1 {
        put_attribute(0x80, 4, &(set % 8).to_be_bytes(), out);
    } else if random.below(5) == 0 {
        put_attribute(0x80, 4, &(random.below(200) as u32).to_be_bytes(), out);
    }
    if random.below(2) == 0 {
        let count = 1 + random.below(6);
        let communities = (0..count).flat_map(|_| {
            let (asn, value) = (from.asn as u16, random.below(4_000) as u16);
            [asn.to_be_bytes(), value.to_be_bytes()].concat()
        });
        let communities: Vec<u8> = communities.collect();
        put_attribute(0xc0, 8, &communities, out);
    }
}

fn put_attribute(flags: u8, code: u8, value: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(&[flags, code]);
    if flags & 0x10 == 0 {
        out.push(value.len() as u8);
    } else {
        out.extend_from_slice(&(value.len() as u16).to_be_bytes());
    }
    out.extend_from_slice(value);
}

/// Decides which attributes there are, and which prefix has which.
const SEED: u64 = 0x6675_6c6c;

/// As many as surely fit into 4,096 octets.
const PREFIXES_PER_UPDATE: usize = 200;

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use nearhop::bgp::{AttributeStore, PerFamily, UpdateContext, decode_update};

    use super::*;

    #[test]
    fn it_decodes_to_the_prefixes_and_as_many_sets_as_it_says() {
        let table = Table::load(1_000_000).unwrap();
        let from = Announcer {
            asn: 63_000,
            v4: Ipv4Addr::new(10, 1, 0, 2),
            v6: Ipv6Addr::new(0xfd00, 1, 0, 0, 0, 0, 0, 2),
        };
        let bytes = Table::encode(&table.routes, from);
        let context = UpdateContext {
            four_octet_as: true,
            internal: false,
            first_as: Some(from.asn),
            families: PerFamily::with(|_| true),
            path_ids: PerFamily::with(|_| false),
            extended_next_hop: false,
            link_local_next_hop: false,
        };
        let (mut store, mut rest) = (AttributeStore::default(), &bytes[..]);
        let (mut prefixes, mut sets) = (HashSet::new(), Vec::new());
        while !rest.is_empty() {
            let len = usize::from(u16::from_be_bytes([rest[16], rest[17]]));
            let (message, more) = rest.split_at(len);
            rest = more;
            let update = decode_update(&message[19..], &context, &mut store).unwrap();
            assert!(update.faults.is_empty(), "{:?}", update.faults);
            for announced in update.announced {
                prefixes.extend(announced.nlri.iter().map(|nlri| nlri.prefix));
                sets.push(announced.attributes);
            }
        }
        assert_eq!(prefixes.len(), 1_000_000);
        let wanted: HashSet<IpPrefix> = table.routes.iter().map(|(prefix, _)| *prefix).collect();
        assert!(prefixes == wanted);
        assert!(store.len() >= 150_000 && table.sets >= 150_000, "{} sets", store.len());
    }
}
