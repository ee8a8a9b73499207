//! The tables against a slow and obvious model, with edits that shrink.
#![allow(clippy::unwrap_used, reason = "a test may panic")]
#![cfg(not(loom))]

mod common;

use std::cell::RefCell;
use std::net::IpAddr;

use common::{Golden, address_of, boundaries, look_up, prefix_of, with_groups};
use nearhop_fib::{GroupId, Handle, IpPrefix, Writer};
use proptest::prelude::*;
use proptest::test_runner::{TestCaseError, TestRunner};

#[derive(Clone, Debug)]
enum Edit {
    Insert(IpPrefix, u8),
    Remove(IpPrefix),
}

/// Any prefixes that collide often: few bits vary, at places where nodes end and begin.
#[test]
fn the_tables_answer_as_the_model_does() {
    let addrs = prop::collection::vec(any::<bool>().prop_flat_map(address), 20);
    check(400, &(prop::collection::vec(edit(prefix()), 1..120), addrs));
}

/// Hundreds of neighbours in one node: lines overflow, tables are made and widened, and where slots
/// run out, a line leads to lines.
#[test]
fn crowded_nodes_answer_as_the_model_does() {
    let addrs = prop::collection::vec(crowded_address(), 20);
    check(60, &(prop::collection::vec(edit(crowded_prefix()), 100..1200), addrs));
}

/// As above, then everything goes and comes again in the other order.
#[test]
fn adding_and_removing_everything_leaves_an_empty_table_of_the_same_size() {
    let prefixes = prop_oneof![
        2 => prop::collection::vec(prefix(), 1..60),
        1 => prop::collection::vec(crowded_prefix(), 1..400),
    ];
    run(150, &prefixes, |mut prefixes, table| {
        let mut reader = table.handle.reader().unwrap();
        let mut sizes = Vec::new();
        for _ in 0..3 {
            for &prefix in &prefixes {
                table.writer.insert(prefix, table.groups[0]).unwrap();
            }
            prefixes.reverse();
            for &prefix in &prefixes {
                table.writer.remove(prefix).unwrap();
            }
            let online = reader.online();
            for addr in prefixes.iter().flat_map(|&prefix| boundaries(prefix)) {
                prop_assert_eq!(online.lookup(addr), GroupId::NONE);
            }
            drop(online);
            prop_assert_eq!(table.writer.reclaim(), 0);
            sizes.push(table.writer.memory());
        }
        prop_assert!(table.writer.is_empty());
        prop_assert_eq!(sizes[1], sizes[2]);
        Ok(())
    });
}

fn check(cases: u32, edits: &impl Strategy<Value = (Vec<Edit>, Vec<IpAddr>)>) {
    run(cases, edits, |(edits, addrs), table| {
        let mut golden = Golden::default();
        let mut touched: Vec<IpAddr> = addrs;
        for edit in edits {
            let prefix = match edit {
                Edit::Insert(prefix, group) => {
                    let group = table.groups[usize::from(group)];
                    let old = table.writer.insert(prefix, group).unwrap();
                    prop_assert_eq!(old, golden.insert(prefix, group));
                    prefix
                }
                Edit::Remove(prefix) => {
                    let old = table.writer.remove(prefix).unwrap();
                    prop_assert_eq!(old, golden.remove(prefix));
                    prefix
                }
            };
            for addr in boundaries(prefix) {
                prop_assert_eq!(table.writer.lookup(addr), golden.lookup(addr), "{}", addr);
                touched.push(addr);
            }
        }
        let mut reader = table.handle.reader().unwrap();
        let found = look_up(&reader.online(), &touched);
        for (&addr, &found) in touched.iter().zip(&found) {
            let want = golden.longest_match(addr);
            prop_assert_eq!(found, want.map_or(GroupId::NONE, |(_, group)| group), "{}", addr);
            prop_assert_eq!(table.writer.longest_match(addr), want, "{}", addr);
        }
        check_order(&table.writer, &golden.routes())
    });
}

/// The routes are all there and in order, from each of them on.
fn check_order(writer: &Writer, routes: &[(IpPrefix, GroupId)]) -> Result<(), TestCaseError> {
    prop_assert_eq!(&writer.iter().collect::<Vec<_>>(), routes);
    for (index, &(prefix, group)) in routes.iter().enumerate() {
        prop_assert_eq!(writer.get(prefix), Some(group));
        let next: Vec<_> = writer.iter_after(prefix).take(9).collect();
        let rest = &routes[index + 1..];
        prop_assert_eq!(&next[..], &rest[..rest.len().min(9)]);
    }
    Ok(())
}

/// What one case leaves to the next, for an empty table costs milliseconds.
struct Table {
    writer: Writer,
    handle: Handle,
    groups: Vec<GroupId>,
}

fn run<S: Strategy>(
    cases: u32,
    input: &S,
    test: impl Fn(S::Value, &mut Table) -> Result<(), TestCaseError>,
) {
    let used: RefCell<Option<Table>> = RefCell::new(None);
    let config = ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(cases) };
    let ended = TestRunner::new(config).run(input, |input| {
        // A case that fails leaves none, so that its smaller ones begin again.
        let mut table = used.take().unwrap_or_else(|| {
            let (writer, handle, groups) = with_groups(1, 8);
            Table { writer, handle, groups }
        });
        test(input, &mut table)?;
        let left: Vec<IpPrefix> = table.writer.iter().map(|(prefix, _)| prefix).collect();
        for &prefix in &left {
            table.writer.remove(prefix).unwrap();
        }
        for addr in left.into_iter().flat_map(boundaries) {
            prop_assert_eq!(table.writer.lookup(addr), GroupId::NONE, "{}", addr);
        }
        used.replace(Some(table));
        Ok(())
    });
    ended.unwrap_or_else(|failure| panic!("{failure}"));
}

fn edit(prefix: impl Strategy<Value = IpPrefix> + Clone) -> impl Strategy<Value = Edit> {
    prop_oneof![
        3 => (prefix.clone(), 0..8_u8).prop_map(|(prefix, group)| Edit::Insert(prefix, group)),
        1 => prefix.prop_map(Edit::Remove),
    ]
}

/// Few bits vary, on both sides of every edge.
fn address(v6: bool) -> impl Strategy<Value = IpAddr> {
    let picks = prop::collection::vec(any::<bool>(), 14);
    (picks, any::<u128>(), 0..10_u8).prop_map(move |(picks, noise, wild)| {
        let (edges, width): (&[u32], _) = if v6 {
            (&[0, 7, 8, 15, 16, 31, 32, 47, 48, 63, 64, 111, 112, 127], 128)
        } else {
            (&[0, 1, 6, 7, 8, 9, 14, 15, 16, 22, 23, 24, 30, 31], 32)
        };
        let mut bits = if wild == 0 { noise } else { 0 };
        for (pick, nth) in picks.iter().zip(edges) {
            bits ^= u128::from(*pick) << (width - 1 - nth);
        }
        address_of(v6, bits)
    })
}

fn prefix() -> impl Strategy<Value = IpPrefix> + Clone {
    let edges = prop::sample::select(vec![
        (8, 8),
        (9, 9),
        (16, 16),
        (17, 17),
        (24, 32),
        (25, 33),
        (31, 48),
        (32, 49),
        (7, 64),
        (30, 65),
        (15, 112),
        (23, 113),
        (0, 0),
        (1, 127),
        (32, 128),
        (24, 45),
    ]);
    let lens = prop_oneof![1 => edges, 1 => (0..=32_u8, 0..=128_u8)];
    (any::<bool>(), lens).prop_flat_map(|(v6, (len4, len6))| {
        address(v6).prop_map(move |addr| {
            prefix_of(v6, common::bits_of(addr), if v6 { len6 } else { len4 })
        })
    })
}

/// One /32 or /16 and what is below: neighbours at both ends of a node, and children here and
/// there.
fn crowded_address() -> impl Strategy<Value = IpAddr> + Clone {
    (any::<bool>(), value(), value(), value()).prop_map(|(v6, a, b, c)| {
        let v6_bits = 0x2001_0db8_u128 << 96 | a << 80 | b << 64 | c;
        address_of(v6, if v6 { v6_bits } else { 10 << 24 | (a & 3) << 16 | b })
    })
}

/// Sixteen bits: mostly near the least or the highest.
fn value() -> impl Strategy<Value = u128> + Clone {
    prop_oneof![
        3 => 0..48_u128,
        2 => 0xffd0..=0xffff_u128,
        2 => 0x7ff0..0x8010_u128,
        1 => 0..=0xffff_u128,
    ]
}

fn crowded_prefix() -> impl Strategy<Value = IpPrefix> + Clone {
    let lens = prop_oneof![
        6 => (24..=32_u8, 44..=48_u8),
        2 => (17..=24_u8, 33..=48_u8),
        2 => (14..=32_u8, 46..=64_u8),
        1 => (25..=32_u8, 64..=128_u8),
        1 => (6..=18_u8, 14..=33_u8),
    ];
    (crowded_address(), lens).prop_map(|(addr, (len4, len6))| {
        let len = if addr.is_ipv6() { len6 } else { len4 };
        prefix_of(addr.is_ipv6(), common::bits_of(addr), len)
    })
}
