//! The tables against a slow and obvious model: a list of prefixes, searched from end to end.

#![allow(clippy::unwrap_used, reason = "a test may panic")]
#![cfg(not(loom))]

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use nearhop_fib::{Group, GroupId, IpPrefix, Writer, fib};
use proptest::prelude::*;

/// The model: every prefix and its group.
#[derive(Default)]
struct Golden(BTreeMap<IpPrefix, GroupId>);

impl Golden {
    fn longest_match(&self, addr: IpAddr) -> Option<(IpPrefix, GroupId)> {
        let covering = self.0.iter().filter(|(prefix, _)| prefix.contains(addr));
        covering.max_by_key(|(prefix, _)| prefix.len()).map(|(&prefix, &group)| (prefix, group))
    }
}

#[derive(Clone, Debug)]
enum Edit {
    Insert(IpPrefix, u8),
    Remove(IpPrefix),
}

/// Addresses that collide often: few bits vary, at places where strides end and begin.
fn address(v6: bool) -> impl Strategy<Value = IpAddr> {
    let picks = prop::collection::vec(any::<bool>(), 12);
    (picks, any::<u128>(), 0..10_u8).prop_map(move |(picks, noise, wild)| {
        let places: &[u32] = if v6 {
            &[127, 113, 112, 111, 104, 103, 96, 65, 64, 8, 1, 0]
        } else {
            &[31, 30, 17, 16, 15, 14, 9, 8, 7, 6, 1, 0]
        };
        let mut bits = if wild == 0 { noise } else { 0 };
        for (pick, place) in picks.iter().zip(places) {
            bits ^= u128::from(*pick) << place;
        }
        if v6 { Ipv6Addr::from_bits(bits).into() } else { Ipv4Addr::from_bits(bits as u32).into() }
    })
}

fn prefix() -> impl Strategy<Value = IpPrefix> {
    any::<bool>().prop_flat_map(|v6| {
        let longest = if v6 { 128_u8 } else { 32 };
        (address(v6), 0..=longest).prop_map(|(addr, len)| IpPrefix::around(addr, len).unwrap())
    })
}

fn edit() -> impl Strategy<Value = Edit> {
    prop_oneof![
        3 => (prefix(), 0..8_u8).prop_map(|(prefix, group)| Edit::Insert(prefix, group)),
        1 => prefix().prop_map(Edit::Remove),
    ]
}

/// The first and last address of a prefix and their neighbours.
fn boundaries(prefix: IpPrefix) -> Vec<IpAddr> {
    match prefix {
        IpPrefix::V4(p) => [p.addr().to_bits(), p.last().to_bits()]
            .iter()
            .flat_map(|&b| [b.wrapping_sub(1), b, b.wrapping_add(1)])
            .map(|bits| Ipv4Addr::from_bits(bits).into())
            .collect(),
        IpPrefix::V6(p) => [p.addr().to_bits(), p.last().to_bits()]
            .iter()
            .flat_map(|&b| [b.wrapping_sub(1), b, b.wrapping_add(1)])
            .map(|bits| Ipv6Addr::from_bits(bits).into())
            .collect(),
    }
}

fn groups(writer: &mut Writer) -> Vec<GroupId> {
    (0..8).map(|_| writer.add_group(&Group::Local).unwrap()).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn the_tables_answer_as_the_model_does(
        edits in prop::collection::vec(edit(), 1..120),
        addrs in prop::collection::vec(any::<bool>().prop_flat_map(address), 20),
    ) {
        let (mut writer, handle) = fib(1);
        let groups = groups(&mut writer);
        let mut reader = handle.reader().unwrap();
        let mut golden = Golden::default();
        let mut touched: Vec<IpAddr> = addrs;
        for edit in edits {
            match edit {
                Edit::Insert(prefix, group) => {
                    let group = groups[usize::from(group)];
                    let old = writer.insert(prefix, group).unwrap();
                    prop_assert_eq!(old, golden.0.insert(prefix, group));
                    touched.extend(boundaries(prefix));
                }
                Edit::Remove(prefix) => {
                    prop_assert_eq!(writer.remove(prefix).unwrap(), golden.0.remove(&prefix));
                    touched.extend(boundaries(prefix));
                }
            }
        }
        let online = reader.online();
        let mut found = vec![GroupId::NONE; touched.len()];
        online.lookup_batch(&touched, &mut found);
        for (&addr, &found) in touched.iter().zip(&found) {
            let want = golden.longest_match(addr);
            prop_assert_eq!(found, want.map_or(GroupId::NONE, |(_, group)| group), "{}", addr);
            prop_assert_eq!(online.lookup(addr), found);
            prop_assert_eq!(writer.longest_match(addr), want, "{}", addr);
        }
        let routes: Vec<_> = golden.0.iter().map(|(&prefix, &group)| (prefix, group)).collect();
        prop_assert_eq!(writer.iter().collect::<Vec<_>>(), routes.clone());
        for (index, &(prefix, group)) in routes.iter().enumerate() {
            prop_assert_eq!(writer.get(prefix), Some(group));
            let rest: Vec<_> = writer.iter_after(prefix).collect();
            prop_assert_eq!(&rest, &routes[index + 1..]);
        }
    }

    #[test]
    fn adding_and_removing_everything_leaves_an_empty_table_of_the_same_size(
        mut prefixes in prop::collection::vec(prefix(), 1..60),
    ) {
        let (mut writer, handle) = fib(1);
        let groups = groups(&mut writer);
        let mut reader = handle.reader().unwrap();
        let mut sizes = Vec::new();
        for _ in 0..3 {
            for &prefix in &prefixes {
                writer.insert(prefix, groups[0]).unwrap();
            }
            prefixes.reverse();
            for &prefix in &prefixes {
                writer.remove(prefix).unwrap();
            }
            let online = reader.online();
            for addr in prefixes.iter().flat_map(|&prefix| boundaries(prefix)) {
                prop_assert_eq!(online.lookup(addr), GroupId::NONE);
            }
            sizes.push(writer.memory());
            drop(online);
            prop_assert_eq!(writer.reclaim(), 0);
        }
        prop_assert!(writer.is_empty());
        prop_assert_eq!(sizes[1], sizes[2]);
    }
}

/// All prefixes of the last three bits before and after a stride's end, all tables of three routes.
#[test]
fn small_universe_exhaustively() {
    let all: Vec<IpPrefix> = (14..=18)
        .flat_map(|len| (0..1_u32 << (len - 13)).map(move |n| (n << (32 - len), len as u8)))
        .map(|(bits, len)| IpPrefix::new(Ipv4Addr::from_bits(bits).into(), len).unwrap())
        .collect();
    let probes: Vec<IpAddr> = (0..32_u32).map(|n| Ipv4Addr::from_bits(n << 14).into()).collect();
    let (mut writer, handle) = fib(1);
    let groups = groups(&mut writer);
    let mut reader = handle.reader().unwrap();
    for a in &all {
        for b in &all {
            for c in all.iter().step_by(3) {
                let mut golden = Golden::default();
                for (group, prefix) in [a, b, c].into_iter().enumerate() {
                    writer.insert(*prefix, groups[group]).unwrap();
                    golden.0.insert(*prefix, groups[group]);
                }
                let online = reader.online();
                for &addr in &probes {
                    let want = golden.longest_match(addr).map_or(GroupId::NONE, |(_, g)| g);
                    assert_eq!(online.lookup(addr), want, "{a} {b} {c} {addr}");
                }
                for prefix in [a, b, c] {
                    writer.remove(*prefix).unwrap();
                }
                assert!(probes.iter().all(|&addr| online.lookup(addr) == GroupId::NONE));
            }
        }
    }
}
