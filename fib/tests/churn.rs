//! Dense nodes under thousands of random changes: they grow, are divided, are made again and vanish,
//! and what they leave behind is used again.
#![allow(clippy::unwrap_used, reason = "a test may panic")]
#![cfg(not(loom))]

mod common;

use std::net::IpAddr;
use std::ops::RangeInclusive;

use common::{Golden, Numbers, boundaries, look_up, prefix_of, with_groups};
use nearhop_fib::{GroupId, Handle, IpPrefix, Memory, Reader, Writer};

#[test]
fn a_v6_allocation() {
    churn(&Ground { v6: true, base: 0x2001_0db8 << 96, fixed: 32, lens: 33..=64 });
}

#[test]
fn a_v6_site_down_to_hosts() {
    churn(&Ground { v6: true, base: 0x2001_0db8_ffff << 80, fixed: 48, lens: 45..=128 });
}

/// Numbers of groups that fit 16 bits beside such as do not: lines of both kinds, which become each
/// other.
#[test]
fn a_v6_allocation_of_many_groups() {
    let (writer, handle, groups) = with_groups(1, 0x1_0000 + 40);
    let groups = [&groups[..24], &groups[0xfff0..]].concat();
    let ground = Ground { v6: true, base: 0x2001_0db8 << 96, fixed: 32, lens: 25..=64 };
    churn_with(&ground, writer, &handle, &groups);
}

/// Parts of a window that fill up and empty again one after the other, while one route keeps the
/// window: the memory of each serves the next.
#[test]
fn a_v6_window_that_stays_in_use() {
    let (mut writer, _, groups) = with_groups(1, 64);
    writer.insert(prefix_of(true, 0x2001_ffff << 96, 32), groups[0]).unwrap();
    let mut sizes = vec![writer.memory().v6];
    for part in 0..12_u128 {
        let mut numbers = Numbers(7);
        let prefixes: Vec<IpPrefix> = (0..4000)
            .map(|_| prefix_of(true, ((0x2001_0d00 + part) << 96) | numbers.bits() >> 32, 48))
            .collect();
        for &prefix in &prefixes {
            writer.insert(prefix, numbers.pick(&groups)).unwrap();
        }
        for &prefix in &prefixes {
            writer.remove(prefix).unwrap();
        }
        assert_eq!((writer.reclaim(), writer.len()), (0, (0, 1)));
        sizes.push(writer.memory().v6);
    }
    // Eleven more parts take less than a quarter of what the first did.
    assert!(4 * (sizes[12] - sizes[1]) < sizes[1] - sizes[0], "{sizes:?}");
}

#[test]
fn a_v4_sixteenth_of_the_root() {
    churn(&Ground { v6: false, base: 0x0aff_0000, fixed: 16, lens: 9..=32 });
}

/// A node that fills up from one end, and empties again from either: parts of its table hold more
/// than nine lines' worth before there are enough runs to pay for a wider table.
#[test]
fn neighbours_one_by_one() {
    let (mut writer, handle, groups) = with_groups(1, 5);
    let mut reader = handle.reader().unwrap();
    let neighbour = |nth: usize| prefix_of(true, 0x2001_0db8 << 96 | (nth as u128) << 80, 48);
    let values: Vec<usize> = (0..300).chain((0xff00..=0xffff).rev()).collect();
    let places: Vec<IpAddr> = values.iter().flat_map(|&nth| boundaries(neighbour(nth))).collect();
    let mut golden = Golden::default();
    for backwards in [false, true] {
        for (nth, &value) in values.iter().enumerate() {
            let (prefix, group) = (neighbour(value), groups[value % 5]);
            assert_eq!(writer.insert(prefix, group).unwrap(), golden.insert(prefix, group));
            if nth % 20 == 0 {
                check(&places, &writer, &mut reader, &golden);
            }
        }
        for nth in 0..values.len() {
            let prefix = neighbour(values[if backwards { values.len() - 1 - nth } else { nth }]);
            assert_eq!(writer.remove(prefix).unwrap(), golden.remove(prefix));
            if nth % 20 == 0 {
                check(&places, &writer, &mut reader, &golden);
            }
        }
        assert!(writer.is_empty());
    }
}

/// Where prefixes are put: around addresses that begin with the first `fixed` bits of `base`.
struct Ground {
    v6: bool,
    base: u128,
    fixed: u8,
    lens: RangeInclusive<u8>,
}

fn churn(ground: &Ground) {
    let (writer, handle, groups) = with_groups(1, 64);
    churn_with(ground, writer, &handle, &groups);
}

fn churn_with(ground: &Ground, mut writer: Writer, handle: &Handle, groups: &[GroupId]) {
    let mut reader = handle.reader().unwrap();
    let sizes: Vec<Memory> = (0..3)
        .map(|_| {
            // The same numbers each time: what the first round took must do for the next.
            round(ground, &mut writer, &mut reader, groups, &mut Numbers(0x5eed));
            assert_eq!(writer.reclaim(), 0);
            writer.memory()
        })
        .collect();
    assert_eq!(sizes[0].v4, sizes[2].v4);
    assert!(sizes[1].v6 <= sizes[0].v6 + sizes[0].v6 / 50, "{sizes:?}");
    assert_eq!(sizes[1], sizes[2], "the third round takes no more than the second");
}

/// Grows to thousands of routes, stays there for a while, then shrinks to none.
fn round(
    ground: &Ground,
    writer: &mut Writer,
    reader: &mut Reader,
    groups: &[GroupId],
    numbers: &mut Numbers,
) {
    let mut golden = Golden::default();
    let mut routes: Vec<IpPrefix> = Vec::new();
    let mut most = 0;
    for step in 0..STEPS {
        let insert_of_8 = if step < STEPS / 2 { 7 } else { 4 };
        let prefix = if numbers.below(8) < insert_of_8 || routes.is_empty() {
            let prefix = ground.prefix(numbers);
            let group = numbers.pick(groups);
            let old = golden.insert(prefix, group);
            assert_eq!(writer.insert(prefix, group).unwrap(), old, "{prefix}");
            if old.is_none() {
                routes.push(prefix);
            }
            prefix
        } else {
            let prefix = routes.swap_remove(numbers.below(routes.len()));
            assert_eq!(writer.remove(prefix).unwrap(), golden.remove(prefix), "{prefix}");
            prefix
        };
        most = most.max(routes.len());
        check(&boundaries(prefix), writer, reader, &golden);
        if step % CHECKED_EVERY == 0 {
            let all: Vec<IpAddr> = routes.iter().flat_map(|&prefix| boundaries(prefix)).collect();
            check(&all, writer, reader, &golden);
        }
    }
    assert!(most > STEPS / 8, "{most} routes are not dense");
    let all: Vec<IpAddr> = routes.iter().flat_map(|&prefix| boundaries(prefix)).collect();
    while !routes.is_empty() {
        let prefix = routes.swap_remove(numbers.below(routes.len()));
        assert_eq!(writer.remove(prefix).unwrap(), golden.remove(prefix), "{prefix}");
        if routes.len().is_multiple_of(CHECKED_EVERY) {
            check(&all, writer, reader, &golden);
        }
    }
    assert!(writer.is_empty());
    assert!(look_up(&reader.online(), &all).iter().all(|&group| group == GroupId::NONE));
}

fn check(addrs: &[IpAddr], writer: &Writer, reader: &mut Reader, golden: &Golden) {
    let found = look_up(&reader.online(), addrs);
    for (&addr, found) in addrs.iter().zip(found) {
        let want = golden.longest_match(addr);
        assert_eq!(found, want.map_or(GroupId::NONE, |(_, group)| group), "{addr}");
        assert_eq!(writer.longest_match(addr), want, "{addr}");
    }
}

impl Ground {
    /// Half of them near the ends of what the next sixteen bits can be, where neighbours meet.
    fn prefix(&self, numbers: &mut Numbers) -> IpPrefix {
        let width = if self.v6 { 128_u8 } else { 32 };
        let mut free = numbers.bits() & ((1 << (width - self.fixed)) - 1);
        if numbers.below(2) == 0 {
            let place = width - self.fixed - 16;
            let near = [0, 0x40, 0x7fc0, 0xff80, 0xffc0];
            let value = numbers.pick(&near) + numbers.below(64) as u128;
            free = free & !(0xffff << place) | value << place;
        }
        if numbers.below(4) == 0 {
            // Long prefixes that share their way.
            free &= !0xfff;
        }
        let (least, most) = (usize::from(*self.lens.start()), usize::from(*self.lens.end()));
        // Mostly lengths that end in the dense node.
        let dense = usize::from(self.fixed) + 10 + numbers.below(7);
        let any = least + numbers.below(most - least + 1);
        let len = if numbers.below(3) == 0 { any } else { dense.clamp(least, most) };
        prefix_of(self.v6, self.base | free, len as u8)
    }
}

const STEPS: usize = 12_000;
const CHECKED_EVERY: usize = 800;
