//! Limits that only a table of millions of routes reaches.

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
    writer.v6.leave_lines(67_000);
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
    assert_eq!(ids.take(), None, "it is not given back yet");
    ids.give_back(1);
    assert_eq!((ids.take(), ids.take()), (Some(1), None));
    assert!(ids.is_taken(1));
}
