//! Limits that only a table of millions of routes reaches.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use alloc::vec;
use alloc::vec::Vec;

use super::*;
use crate::fib::fib;

#[test]
fn a_full_table_says_so_changes_nothing_and_can_be_emptied() {
    let (mut writer, handle) = fib(1);
    let group = writer.add_group(&Group::Local).unwrap();
    let prefix = |nth: u32| -> IpPrefix {
        let bits = 0x2001_0db8_u128 << 96 | u128::from(nth) << 64;
        IpPrefix::new(core::net::Ipv6Addr::from_bits(bits).into(), 64).unwrap()
    };
    // Room for some routes; then a reader stalls, so that no line comes back.
    writer.v6.leave(1500, 1 << 20);
    let mut reader = handle.reader().unwrap();
    let online = reader.online();
    let mut inserted = Vec::new();
    let mut refused = None;
    for nth in 0..2000 {
        match writer.insert(prefix(nth), group) {
            Ok(_) => inserted.push(prefix(nth)),
            Err(error) => {
                refused = Some((prefix(nth), error));
                break;
            }
        }
    }
    let (refused, error) = refused.unwrap();
    assert_eq!(error, WriteError::TableFull);
    assert!(inserted.len() > 100, "{}", inserted.len());
    let memory = writer.memory();
    assert_eq!(writer.insert(refused, group), Err(WriteError::TableFull));
    assert_eq!(writer.get(refused), None);
    assert_eq!(writer.lookup(refused.addr()), GroupId::NONE);
    assert_eq!(writer.memory(), memory);
    assert!(inserted.iter().all(|&prefix| writer.lookup(prefix.addr()) == group));
    // The other family goes on, and so do removals.
    writer.insert("192.0.2.0/24".parse().unwrap(), group).unwrap();
    let last = inserted.pop().unwrap();
    assert_eq!(writer.remove(last).unwrap(), Some(group));
    assert_eq!(writer.lookup(last.addr()), GroupId::NONE);
    drop(online);
    // What was left behind is used again without being asked for.
    assert_eq!(writer.insert(refused, group).unwrap(), None);
    for prefix in inserted.into_iter().chain([refused]) {
        assert_eq!(writer.remove(prefix).unwrap(), Some(group));
        assert_eq!(writer.lookup(prefix.addr()), GroupId::NONE);
    }
}

#[test]
fn a_route_that_is_there_stays_when_it_is_added() {
    let (mut writer, _) = fib(1);
    let [one, two] = [Group::Local, Group::Blackhole].map(|g| writer.add_group(&g).unwrap());
    for text in
        ["192.0.2.0/24", "192.0.2.7/32", "0.0.0.0/0", "2001:db8::/32", "2001:800::/21", "::/0"]
    {
        let prefix: IpPrefix = text.parse().unwrap();
        assert_eq!(writer.add(prefix, one), Ok(None), "{text}");
        assert_eq!(writer.add(prefix, two), Ok(Some(one)), "{text}");
        assert_eq!((writer.get(prefix), writer.lookup(prefix.addr())), (Some(one), one), "{text}");
    }
    assert_eq!((writer.routes_to(one), writer.routes_to(two)), (6, 0));
    assert_eq!(writer.len(), (3, 3));
}

/// Group numbers that do not fit 16 bits have every line under a short route rebuilt as a table of
/// wide lines: far more slots than are kept back for removals.
#[test]
fn a_change_that_needs_more_slots_than_are_left_is_refused_and_changes_nothing() {
    for lines in [true, false] {
        let mut world = Crowded::new();
        let (lines, slots) = if lines { (2000, 1 << 22) } else { (1 << 20, 3000) };
        world.writer.v6.leave(lines, slots);
        let group = *world.groups.last().unwrap();
        let wide: IpPrefix = "2001:d00::/25".parse().unwrap();
        let before = world.answers();
        assert_eq!(world.writer.insert(wide, group), Err(WriteError::TableFull));
        assert_eq!(world.answers(), before);
        assert_eq!(world.writer.get(wide), Some(world.groups[9]));

        // In a transaction the changes before it are undone too, though no room is left.
        let mut changes = vec![("2001:d00:5::/48", Some(group)), ("2001:d00:1::/48", None)];
        changes.extend([("192.0.2.0/24", Some(group)), ("2001:e00::/24", Some(group))]);
        changes.extend([("2001:d00:7::/48", None), ("2001:d00::/25", Some(group))]);
        let changes: Vec<(IpPrefix, _)> =
            changes.into_iter().map(|(text, group)| (text.parse().unwrap(), group)).collect();
        let refused = TransactionError::Refused { at: 5, error: WriteError::TableFull };
        assert_eq!(world.writer.apply(&changes), Err(refused));
        assert_eq!(world.answers(), before);
        assert_eq!(world.routes(), world.inserted);
        // Removals go on, and make room.
        for (prefix, group) in core::mem::take(&mut world.inserted) {
            assert_eq!(world.writer.remove(prefix), Ok(Some(group)), "{prefix}");
        }
        assert!(world.answers().iter().all(|&group| group == GroupId::NONE));
        assert_eq!(world.writer.insert(wide, group), Ok(None));
    }
}

/// Clusters of /48s with small group numbers, and some with large ones.
struct Crowded {
    writer: Writer,
    groups: Vec<GroupId>,
    inserted: Vec<(IpPrefix, GroupId)>,
}

impl Crowded {
    fn new() -> Self {
        let (mut writer, _) = fib(1);
        let groups: Vec<GroupId> =
            (0..66_000).map(|_| writer.add_group(&Group::Local).unwrap()).collect();
        let mut inserted = Vec::new();
        let mut insert = |bits: u128, len: u8, group: GroupId| {
            let prefix = IpPrefix::new(core::net::Ipv6Addr::from_bits(bits).into(), len).unwrap();
            writer.insert(prefix, group).unwrap();
            inserted.push((prefix, group));
        };
        insert(0x2001_0d00 << 96, 25, groups[9]);
        for nth in 0..40_000_u128 {
            let bits = 0x2001_0d00 << 96 | (nth / 3 * 16 + nth % 3) << 80;
            insert(bits, 48, groups[nth as usize % 500]);
        }
        inserted.sort_by_key(|&(prefix, _)| prefix);
        Self { writer, groups, inserted }
    }

    fn routes(&self) -> Vec<(IpPrefix, GroupId)> {
        self.writer.iter().collect()
    }

    /// At and between the routes.
    fn answers(&self) -> Vec<GroupId> {
        let places = (0..220_000_u128).map(|nth| 0x2001_0cff_ff00_u128 << 80 | nth << 80);
        places.map(|bits| self.writer.lookup(core::net::Ipv6Addr::from_bits(bits).into())).collect()
    }
}

/// A lookup that falls back starts again for each change of a short prefix. So every such change
/// counts against a reader that passes no quiescent point, and the writer stalls first.
#[test]
fn changes_that_lookups_fall_back_on_stall_the_writer_before_a_reader_repeats_for_ever() {
    for prefix in ["0.0.0.0/0", "64.0.0.0/7", "::/0", "2000::/3", "2001::/16", "2001:d00::/24"] {
        let (mut writer, handle) = fib(1);
        let groups = [(); 2].map(|()| writer.add_group(&Group::Local).unwrap());
        let prefix: IpPrefix = prefix.parse().unwrap();
        let mut reader = handle.reader().unwrap();
        let mut online = reader.online();
        let mut changes = 0;
        let error = loop {
            let before = writer.falls_back_on(prefix);
            assert!(before, "{prefix} is short");
            match writer.insert(prefix, groups[changes % 2]) {
                Ok(_) => changes += 1,
                Err(error) => break error,
            }
            assert!(changes <= RETIRED_MAX, "{prefix}: no end of changes in one lookup");
        };
        assert_eq!(error, WriteError::Stalled { reader: 0 });
        online.quiescent();
        assert!(writer.insert(prefix, groups[changes % 2]).is_ok());
    }
}

#[test]
fn ids_run_out_and_come_back() {
    let mut ids = Ids::up_to(2);
    assert_eq!([ids.take(), ids.take(), ids.take(), ids.take()], [Some(0), Some(1), Some(2), None]);
    ids.forget(1);
    assert!(!ids.is_taken(1) && ids.is_taken(2) && !ids.is_taken(3));
    assert_eq!(ids.take(), None, "it is not recycled yet");
    ids.recycle(1);
    assert_eq!((ids.take(), ids.take()), (Some(1), None));
    assert!(ids.is_taken(1));
}

#[test]
fn lines_that_small_groups_had_serve_large_ones() {
    let (mut writer, _) = fib(1);
    writer.lines = Space::new(0, 63);
    let path = writer.add_path(1, crate::ACCEPT_ALL).unwrap();
    let adjacency = writer.add_adjacency(1, 1).unwrap();
    let member = Member { path, adjacency, tier: 0, weight: 1, link_weight: 1 };
    let large = Group::Forward {
        members: vec![member; 64],
        when_dead: crate::WhenDead::Drop,
        spread: crate::Spread::Flow,
    };
    let fill = |writer: &mut Writer, group: &Group| -> Vec<GroupId> {
        core::iter::from_fn(|| writer.add_group(group).ok()).collect()
    };
    for _ in 0..2 {
        let small = fill(&mut writer, &Group::Local);
        assert_eq!(small.len(), 63);
        assert_eq!(writer.add_group(&Group::Local), Err(WriteError::IdsExhausted));
        let (even, odd): (Vec<_>, Vec<_>) = small.into_iter().partition(|id| id.0 % 2 == 0);
        even.into_iter().rev().chain(odd).for_each(|id| writer.remove_group(id).unwrap());
        let large = fill(&mut writer, &large);
        assert_eq!(large.len(), 7);
        for id in large {
            writer.remove_group(id).unwrap();
        }
    }
}

/// Changes, alone and in transactions, of which many find no room: the table always answers as the
/// routes do, and is no fuller for what was refused.
#[test]
fn a_table_that_is_nearly_full_agrees_with_its_routes() {
    let (mut writer, handle) = fib(1);
    let groups: Vec<GroupId> =
        (0..66_000).map(|_| writer.add_group(&Group::Local).unwrap()).collect();
    writer.v6.leave(60, 700);
    let mut seed = 1_u64;
    let mut random = |below: u64| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (seed >> 33) % below
    };
    let mut reader = handle.reader().unwrap();
    let mut places = Vec::new();
    let (mut refused, mut done) = (0, 0);
    for step in 0..6_000 {
        let count = if random(4) == 0 { 1 + random(12) } else { 1 };
        let changes: Vec<(IpPrefix, Option<GroupId>)> = (0..count)
            .map(|_| {
                let bits = 0x2001_0db8_u128 << 96
                    | u128::from(random(4)) << 94
                    | u128::from(random(200)) << 80
                    | u128::from(random(3)) << 70;
                let len = [20, 24, 26, 33, 44, 47, 48, 48, 48, 56, 64][random(11) as usize];
                let bits = bits >> (128 - len) << (128 - len);
                let addr = core::net::Ipv6Addr::from_bits(bits);
                places.push(addr);
                let group = if random(3) == 0 { 65_900 + random(50) } else { random(40) };
                let group = (random(8) > 2).then(|| groups[group as usize]);
                (IpPrefix::new(addr.into(), len as u8).unwrap(), group)
            })
            .collect();
        let routes: Vec<_> = changes.iter().map(|&(prefix, _)| writer.get(prefix)).collect();
        // A reader that stalls now and then holds back what was unlinked.
        let online = (step / 40 % 3 == 0).then(|| reader.online());
        let outcome = match changes[..] {
            [(prefix, Some(group))] => writer.insert(prefix, group).map(drop).is_ok(),
            _ => writer.apply(&changes).is_ok(),
        };
        drop(online);
        if outcome {
            done += 1;
        } else {
            refused += 1;
            let after = changes.iter().map(|&(prefix, _)| writer.get(prefix));
            assert!(after.eq(routes), "step {step}");
        }
        let all = if step % 100 == 0 || !outcome { places.len() } else { 20.min(places.len()) };
        for &addr in places.iter().rev().take(all.min(500)) {
            let want = writer.longest_match(addr.into()).map_or(GroupId::NONE, |(_, group)| group);
            assert_eq!(writer.lookup(addr.into()), want, "{addr}, step {step}");
        }
    }
    assert!(refused > 100 && done > 1000, "{refused} refused, {done} done");
}

#[test]
fn room_is_what_can_be_added() {
    let (mut writer, _) = fib(1);
    let before = writer.room();
    let group = writer.add_group(&Group::Local).unwrap();
    writer.add_path(1, crate::ACCEPT_ALL).unwrap();
    writer.add_adjacency(0, 1).unwrap();
    let after = writer.room();
    let one_less = |room: Room| (room.groups - 1, room.adjacencies - 1, room.paths - 1);
    assert_eq!(one_less(before), (after.groups, after.adjacencies, after.paths));
    writer.remove_group(group).unwrap();
    writer.reclaim();
    assert_eq!(writer.room().groups, before.groups);
}
