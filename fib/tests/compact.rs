//! The compact form of the IPv4 table: against a list of prefixes searched from end to end, against
//! the direct form, and in its memory.
#![allow(clippy::unwrap_used, reason = "a test may panic")]
#![cfg(not(loom))]

use std::collections::BTreeMap;
use std::io::Read;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::atomic::{AtomicBool, Ordering};

use nearhop_fib::{
    Group, GroupId, Handle, IpPrefix, Options, Prefix, V4Form, WriteError, Writer, fib, fib_with,
};
use proptest::prelude::*;

type V4 = Prefix<Ipv4Addr>;

fn compact() -> (Writer, Handle) {
    fib_with(2, Options { v4: V4Form::Compact })
}

fn groups(writer: &mut Writer, count: usize) -> Vec<GroupId> {
    (0..count).map(|_| writer.add_group(&Group::Local).unwrap()).collect()
}

fn v4(addr: u32, len: u8) -> V4 {
    Prefix::around(Ipv4Addr::from_bits(addr), len).unwrap()
}

/// The first and last address of a prefix and their neighbours.
fn boundaries(prefix: V4) -> impl Iterator<Item = Ipv4Addr> {
    let ends = [prefix.addr().to_bits(), prefix.last().to_bits()];
    let around = |bits: u32| [bits.wrapping_sub(1), bits, bits.wrapping_add(1)];
    ends.into_iter().flat_map(around).map(Ipv4Addr::from_bits)
}

/// Every route of a test.
#[derive(Default)]
struct Golden(BTreeMap<V4, GroupId>);

impl Golden {
    fn lookup(&self, addr: Ipv4Addr) -> GroupId {
        let covering = self.0.iter().filter(|(prefix, _)| prefix.contains(addr));
        covering.max_by_key(|(prefix, _)| prefix.len()).map_or(GroupId::NONE, |(_, &group)| group)
    }
}

#[derive(Clone, Copy, Debug)]
enum Edit {
    Insert(V4, u8),
    Remove(V4),
}

/// Prefixes that end at a stride's end or beside it, whose bits vary there too.
fn at_the_edges() -> impl Strategy<Value = V4> {
    let len = prop::sample::select(vec![0, 1, 7, 8, 9, 10, 15, 16, 17, 18, 23, 24, 25, 26, 31, 32]);
    (prop::collection::vec(any::<bool>(), 9), len).prop_map(|(picks, len)| {
        let places = [31, 24, 23, 22, 16, 15, 8, 7, 0];
        let bits = picks.iter().zip(places).map(|(&pick, place)| u32::from(pick) << place);
        v4(bits.sum(), len)
    })
}

/// Many prefixes of one /16, so that its node grows and shrinks through every size.
fn in_a_cluster() -> impl Strategy<Value = V4> {
    let len = prop_oneof![6 => Just(24_u8), 2 => 17..24_u8, 1 => 25..=32_u8, 1 => 9..17_u8];
    (any::<u16>(), len).prop_map(|(host, len)| v4(0x0a01_0000 | u32::from(host), len))
}

fn edit() -> impl Strategy<Value = Edit> {
    let prefix = || prop_oneof![at_the_edges(), in_a_cluster()];
    prop_oneof![
        3 => (prefix(), 0..4_u8).prop_map(|(prefix, group)| Edit::Insert(prefix, group)),
        1 => prefix().prop_map(Edit::Remove),
        // What is there already, or was: most others are removed in vain.
        2 => any::<u8>().prop_map(|nth| Edit::Remove(v4(0, nth % 33))),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn it_answers_as_the_model_does(edits in prop::collection::vec(edit(), 1..300)) {
        let (mut writer, handle) = compact();
        let groups = groups(&mut writer, 4);
        let mut golden = Golden::default();
        let mut touched: Vec<Ipv4Addr> = Vec::new();
        for (nth, edit) in edits.into_iter().enumerate() {
            let prefix = match edit {
                Edit::Insert(prefix, group) => {
                    let group = groups[usize::from(group)];
                    let old = writer.insert(prefix.into(), group).unwrap();
                    prop_assert_eq!(old, golden.0.insert(prefix, group));
                    prefix
                }
                Edit::Remove(prefix) => {
                    // One that is there, if there is any: the first after this.
                    let there = golden.0.range(prefix..).next().map_or(prefix, |(&there, _)| there);
                    let old = writer.remove(there.into()).unwrap();
                    prop_assert_eq!(old, golden.0.remove(&there));
                    there
                }
            };
            touched.extend(boundaries(prefix));
            for addr in boundaries(prefix) {
                prop_assert_eq!(writer.lookup(addr.into()), golden.lookup(addr), "{}", addr);
            }
            if nth % 16 == 0 {
                writer.reclaim();
            }
        }
        let mut reader = handle.reader().unwrap();
        let online = reader.online();
        let mut found = vec![GroupId::NONE; touched.len()];
        online.lookup_batch_v4(&touched, &mut found);
        for (&addr, &found) in touched.iter().zip(&found) {
            prop_assert_eq!(found, golden.lookup(addr), "{}", addr);
            prop_assert_eq!(online.lookup(addr.into()), found);
            let longest = writer.longest_match(addr.into()).map(|(_, group)| group);
            prop_assert_eq!(longest.unwrap_or(GroupId::NONE), found);
        }
        prop_assert_eq!(online.v4_form(), V4Form::Compact);
    }

    #[test]
    fn adding_and_removing_everything_leaves_nothing_and_takes_no_more_each_time(
        prefixes in prop::collection::vec(prop_oneof![at_the_edges(), in_a_cluster()], 1..200),
    ) {
        let (mut writer, _handle) = compact();
        let groups = groups(&mut writer, 3);
        let mut sizes = Vec::new();
        for _ in 0..3 {
            for (nth, &prefix) in prefixes.iter().enumerate() {
                writer.insert(prefix.into(), groups[nth % 3]).unwrap();
            }
            for &prefix in &prefixes {
                writer.remove(prefix.into()).unwrap();
            }
            for addr in prefixes.iter().flat_map(|&prefix| boundaries(prefix)) {
                prop_assert_eq!(writer.lookup(addr.into()), GroupId::NONE);
            }
            prop_assert_eq!(writer.reclaim(), 0);
            sizes.push(writer.memory());
        }
        prop_assert_eq!(sizes[1], sizes[0]);
        prop_assert_eq!(sizes[2], sizes[0]);
    }
}

/// A node of every size from 2 runs to 256 and back.
#[test]
fn a_node_of_every_size_says_what_each_of_its_values_says() {
    let (mut writer, _handle) = compact();
    let groups = groups(&mut writer, 300);
    let addr = |value: u32| 0x0a01_0000 | value << 8;
    // 167 is prime to 256: neighbours come late, so that runs are divided and joined at all places.
    let values: Vec<u32> = (0..256).map(|nth| nth * 167 % 256).collect();
    let mut want = [GroupId::NONE; 256];
    let mut check = |writer: &Writer, value: u32, group: GroupId| {
        want[value as usize] = group;
        for (value, &want) in (0..).zip(&want) {
            let found = writer.lookup(Ipv4Addr::from_bits(addr(value) | 0x4d).into());
            assert_eq!(found, want, "{value}");
        }
    };
    for round in 0..2 {
        for &value in &values {
            let group = groups[value as usize + round];
            writer.insert(v4(addr(value), 24).into(), group).unwrap();
            check(&writer, value, group);
        }
    }
    for &value in &values {
        writer.remove(v4(addr(value), 24).into()).unwrap();
        check(&writer, value, GroupId::NONE);
    }
}

/// Readers look up while a writer replaces every node over and over: each answer is one of those
/// its address had.
#[test]
fn readers_find_the_old_or_the_new_answer_while_nodes_are_replaced() {
    let (mut writer, handle) = compact();
    let groups = groups(&mut writer, 40);
    let block = |nth: u32| 0x0a00_0000 | nth << 16;
    for nth in 0..8 {
        writer.insert(v4(block(nth), 16).into(), groups[nth as usize]).unwrap();
    }
    let is_done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                let mut reader = handle.reader().unwrap();
                let mut online = reader.online();
                let mut noise = 1_u32;
                while !is_done.load(Ordering::Relaxed) {
                    for _ in 0..256 {
                        noise = noise.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                        let nth = noise >> 29;
                        let addr = Ipv4Addr::from_bits(block(nth) | noise >> 8 & 0xffff);
                        let found = online.lookup(addr.into());
                        let own = [nth, 8 + nth, 16 + nth].map(|group| groups[group as usize]);
                        assert!(own.contains(&found), "{addr}: {found:?}");
                    }
                    online.quiescent();
                }
            });
        }
        let mut noise = 7_u32;
        for _ in 0..60_000 {
            noise = noise.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let nth = noise >> 29;
            let len = [17, 20, 22, 24, 24, 24, 24, 28][(noise >> 5 & 7) as usize];
            let prefix = v4(block(nth) | noise >> 8 & 0xffff, len);
            if noise >> 4 & 1 == 0 {
                let group = groups[(8 + (noise >> 3 & 8) + nth) as usize];
                retry(&mut writer, |writer| writer.insert(prefix.into(), group));
            } else {
                retry(&mut writer, |writer| writer.remove(prefix.into()));
            }
        }
        is_done.store(true, Ordering::Relaxed);
    });
}

/// Until the readers, which others keep from running, have let go of enough.
fn retry(
    writer: &mut Writer,
    mut change: impl FnMut(&mut Writer) -> Result<Option<GroupId>, WriteError>,
) {
    while let Err(error) = change(writer) {
        assert!(matches!(error, WriteError::Stalled { .. }), "{error}");
        std::thread::yield_now();
    }
}

/// Some of everything: whole blocks, nodes, chunks, and a default route.
fn mixture() -> Vec<V4> {
    let mut noise = 3_u32;
    let mut next = || {
        noise = noise.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        noise
    };
    let mut all: Vec<V4> =
        (0..3000).map(|_| v4(next() & 0xf0ff_ffff, 8 + (next() >> 8) as u8 % 25)).collect();
    all.push(v4(0, 0));
    all
}

fn answers(fib: &Writer, prefixes: &[V4]) -> Vec<GroupId> {
    let addrs = prefixes.iter().flat_map(|&prefix| boundaries(prefix));
    addrs.map(|addr| fib.lookup(addr.into())).collect()
}

#[test]
fn it_goes_on_in_the_direct_form_when_group_ids_outgrow_it() {
    let (mut writer, handle) = compact();
    let groups = groups(&mut writer, 1 << 15);
    let prefixes = mixture();
    for (&prefix, &group) in prefixes.iter().zip(&groups) {
        writer.insert(prefix.into(), group).unwrap();
    }
    let before = answers(&writer, &prefixes);
    writer.insert(v4(0xef77_0000, 24).into(), groups[(1 << 15) - 2]).unwrap();
    assert_eq!((writer.v4_form(), writer.v4_slot_bits()), (V4Form::Compact, 16));
    let mut reader = handle.reader().unwrap();
    let online = reader.online();
    writer.insert(v4(0xef77_0100, 24).into(), groups[(1 << 15) - 1]).unwrap();
    assert_eq!((writer.v4_form(), writer.v4_slot_bits()), (V4Form::Direct, 32));
    assert!(answers(&writer, &prefixes) == before, "no answer changes");
    let highest = groups[(1 << 15) - 1];
    assert_eq!(online.lookup(IpAddr::from([239, 119, 1, 9])), highest);
    drop(online);
    let held = writer.memory().v4;
    assert_eq!(writer.reclaim(), 0);
    assert!(writer.memory().v4 < held, "what it began as is given back");
    assert!(answers(&writer, &prefixes) == before, "no answer changes");
    for &prefix in &prefixes {
        writer.remove(prefix.into()).unwrap();
    }
    assert_eq!(writer.lookup(IpAddr::from([239, 119, 1, 9])), highest);
    assert!(answers(&writer, &prefixes).iter().all(|&group| group == GroupId::NONE));
}

#[test]
fn it_goes_on_in_the_direct_form_when_there_are_too_many_divided_24s() {
    let (mut writer, _handle) = compact();
    let groups = groups(&mut writer, 3);
    writer.insert(v4(0, 0).into(), groups[0]).unwrap();
    let host = |nth: u32| v4(0x0a00_0000 | nth << 8 | 9, 32);
    for nth in 1..1 << 15 {
        writer.insert(host(nth).into(), groups[1 + nth as usize % 2]).unwrap();
    }
    assert_eq!(writer.v4_form(), V4Form::Compact);
    writer.insert(host(1 << 15).into(), groups[1]).unwrap();
    assert_eq!((writer.v4_form(), writer.v4_slot_bits()), (V4Form::Direct, 32));
    for nth in 1..=1 << 15 {
        let addr = host(nth).addr();
        assert_eq!(writer.lookup(addr.into()), groups[1 + nth as usize % 2]);
        let beside = Ipv4Addr::from_bits(addr.to_bits() + 1);
        assert_eq!(writer.lookup(beside.into()), groups[0]);
    }
}

fn real_table() -> Vec<V4> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../benches/testdata/bart-prefixes.txt.gz");
    let mut text = String::new();
    let file = std::fs::File::open(path).unwrap();
    flate2::read::GzDecoder::new(file).read_to_string(&mut text).unwrap();
    let all = text.lines().map(|line| line.parse().unwrap());
    all.filter_map(|prefix| if let IpPrefix::V4(v4) = prefix { Some(v4) } else { None }).collect()
}

/// In the order of the file, and in one that has nothing to do with addresses.
#[test]
fn the_real_table_fits_6_mb_and_answers_as_the_direct_form_does() {
    let mut prefixes = real_table();
    assert_eq!(prefixes.len(), 901_899);
    for is_shuffled in [false, true] {
        if is_shuffled {
            prefixes.sort_by_key(|prefix| prefix.addr().to_bits().wrapping_mul(0x9e37_79b1));
        }
        let (mut small, _small) = compact();
        let (mut direct, _direct) = fib(1);
        let groups = groups(&mut small, 4096);
        assert_eq!(self::groups(&mut direct, 4096), groups);
        let mut noise = 1_u32;
        for &prefix in &prefixes {
            noise = noise.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let group = groups[(noise >> 20) as usize];
            small.insert(prefix.into(), group).unwrap();
            direct.insert(prefix.into(), group).unwrap();
        }
        assert_eq!(small.v4_form(), V4Form::Compact);
        let bytes = small.memory().v4;
        assert!(bytes <= 6_000_000, "{bytes} bytes, shuffled: {is_shuffled}");
        let random =
            (0..1_000_000_u32).map(|nth| Ipv4Addr::from_bits(nth.wrapping_mul(0x9e37_79b1)));
        for addr in random.chain(prefixes.iter().flat_map(|&prefix| boundaries(prefix))) {
            assert_eq!(small.lookup(addr.into()), direct.lookup(addr.into()), "{addr}");
        }
    }
}
