//! IPv4 slots become wider while readers look up.
#![allow(clippy::unwrap_used, reason = "a test may panic")]
#![cfg(not(loom))]

mod common;

use std::net::{IpAddr, Ipv4Addr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use common::{Golden, look_up, prefix_of};
use nearhop_fib::{Group, GroupId, Handle, IpPrefix, Writer, fib};

/// More groups than fit 16 bits, half of which are one mark.
#[test]
fn by_the_number_of_groups() {
    let (mut writer, handle) = fib(4);
    let groups: Vec<GroupId> =
        (0..NARROW_MAX + 100).map(|_| writer.add_group(&Group::Local).unwrap()).collect();
    let mut golden = settle(&mut writer, &groups[..100]);
    // The highest number that fits, and the first that does not.
    let edge = |nth: u32| (prefix_of(false, 0xcb00_7100 + u128::from(nth) * 64, 26), nth);
    let fits = NARROW_MAX - 1;
    insert(&mut writer, &mut golden, edge(0).0, groups[fits - 1]);
    let narrow = writer.memory().v4;
    assert!(narrow < 40 << 20, "{narrow} bytes");
    while_read(&handle, &golden.clone(), || {
        for (nth, &group) in (1..).zip(&groups[fits..fits + 3]) {
            insert(&mut writer, &mut golden, edge(nth).0, group);
        }
    });
    check_wide(&mut writer, &handle, &golden, narrow);
}

/// More /24s that longer prefixes divide than fit as well.
#[test]
fn by_the_number_of_chunks() {
    let (mut writer, handle) = fib(4);
    let groups: Vec<GroupId> = (0..500).map(|_| writer.add_group(&Group::Local).unwrap()).collect();
    let mut golden = settle(&mut writer, &groups[..100]);
    let divided = |nth: usize| prefix_of(false, 0x1400_0080 + ((nth as u128) << 8), 25);
    let fits = NARROW_MAX - SETTLED_CHUNKS;
    for nth in 0..fits {
        insert(&mut writer, &mut golden, divided(nth), groups[100 + nth % 400]);
    }
    let narrow = writer.memory().v4;
    assert!(narrow < ROOT_BYTES + (34 << 20), "{narrow} bytes");
    while_read(&handle, &golden.clone(), || {
        for nth in fits..fits + 3 {
            insert(&mut writer, &mut golden, divided(nth), groups[100 + nth % 400]);
        }
    });
    check_wide(&mut writer, &handle, &golden, narrow);
}

/// Routes of every length from the default route on, and chunks that came and went.
fn settle(writer: &mut Writer, groups: &[GroupId]) -> Golden {
    let mut golden = Golden::default();
    for len in 0..=32_u8 {
        insert(writer, &mut golden, prefix_of(false, 0x0a01_0203, len), groups[usize::from(len)]);
    }
    for nth in 0..40_u32 {
        let prefix = prefix_of(false, 0x0c00_0000 + (u128::from(nth) << 8), 28);
        insert(writer, &mut golden, prefix, groups[40 + nth as usize]);
        if nth % 2 == 0 {
            assert_eq!(writer.remove(prefix).unwrap(), golden.remove(prefix));
        }
    }
    writer.reclaim();
    golden
}

fn insert(writer: &mut Writer, golden: &mut Golden, prefix: IpPrefix, group: GroupId) {
    assert_eq!(writer.insert(prefix, group).unwrap(), golden.insert(prefix, group), "{prefix}");
}

/// Readers check what no insertion changes, before, meanwhile and after.
fn while_read(handle: &Handle, golden: &Golden, change: impl FnOnce()) {
    let places = places();
    let want: Vec<GroupId> = places.iter().map(|&addr| golden.lookup(addr)).collect();
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                let mut reader = handle.reader().unwrap();
                let mut is_last = false;
                while !is_last {
                    is_last = done.load(Ordering::Acquire);
                    assert_eq!(look_up(&reader.online(), &places), want);
                }
            });
        }
        change();
        done.store(true, Ordering::Release);
    });
}

/// The answers are the same, the wider table takes twice the memory, and the narrow one none.
fn check_wide(writer: &mut Writer, handle: &Handle, golden: &Golden, narrow: usize) {
    assert_eq!(writer.reclaim(), 0);
    let wide = writer.memory().v4;
    assert!(wide > narrow, "{wide} bytes: nothing became wider");
    // Chunks' memory grows by doubling: at most half of it is not in use yet.
    let chunks = 2 * (narrow - ROOT_BYTES);
    assert!(wide <= 2 * ROOT_BYTES + 2 * chunks + (1 << 20), "{wide} bytes, of {narrow} before");
    let mut reader = handle.reader().unwrap();
    for (prefix, group) in golden.routes() {
        let addrs = common::boundaries(prefix);
        let want = addrs.map(|addr| golden.lookup(addr));
        assert_eq!(look_up(&reader.online(), &addrs), want, "{prefix}");
        assert_eq!(writer.get(prefix), Some(group));
    }
    for (prefix, group) in golden.routes() {
        assert_eq!(writer.remove(prefix).unwrap(), Some(group));
    }
    assert!(look_up(&reader.online(), &places()).iter().all(|&group| group == GroupId::NONE));
}

/// Around what [`settle`] adds, and of what nothing else covers.
fn places() -> Vec<IpAddr> {
    let settled = (0..40_u32).map(|nth| 0x0c00_0000 + (nth << 8) + nth % 32);
    let nested = (0..32).map(|bit| 0x0a01_0203 ^ 1 << bit);
    settled
        .chain(nested)
        .chain([0x0a01_0203])
        .map(|bits| Ipv4Addr::from_bits(bits).into())
        .collect()
}

/// The highest number that a slot of 16 bits holds besides its mark.
const NARROW_MAX: usize = 0x7fff;

/// Bytes of a root with slots of 16 bits.
const ROOT_BYTES: usize = 2 << 24;

/// Chunks that [`settle`] leaves in use.
const SETTLED_CHUNKS: usize = 21;
