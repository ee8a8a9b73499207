//! Publication and reclamation under the model checker, on the real types:
//! `RUSTFLAGS="--cfg loom" cargo test -p nearhop-fib --release --test loom`.
#![allow(clippy::unwrap_used, reason = "a test may panic")]
#![allow(unsafe_code, reason = "the cells that loom watches for races")]
#![cfg(loom)]

mod checked;

use std::net::IpAddr;

use loom::cell::UnsafeCell;
use loom::sync::Arc;
use loom::sync::atomic::{AtomicUsize, Ordering};
use loom::thread;
use nearhop_fib::{
    ACCEPT_ALL, AdjacencyId, Group, GroupId, Member, Online, PathId, Reason, Selected, Spread,
    WhenDead, Writer, fib,
};

use checked::{FLOW, model, prefix, reader_thread};

fn leg(writer: &mut Writer, n: u16) -> (PathId, AdjacencyId) {
    let adjacency = writer.add_adjacency(n, u64::from(n)).unwrap();
    (writer.add_path(u64::from(n), ACCEPT_ALL).unwrap(), adjacency)
}

fn group_of(legs: &[(PathId, AdjacencyId)]) -> Group {
    let members = legs
        .iter()
        .enumerate()
        .map(|(tier, &(path, adjacency))| Member {
            path,
            adjacency,
            tier: tier as u8,
            weight: 1,
            link_weight: 1,
        })
        .collect();
    Group::Forward { members, when_dead: WhenDead::Drop, spread: Spread::Flow }
}

fn addr(text: &str) -> IpAddr {
    text.parse().unwrap()
}

/// Looks up and selects as a worker does: all lookups of the batch first.
fn ask(online: &Online<'_>, addr: IpAddr) -> Selected {
    let found = online.lookup(addr);
    select(online, found)
}

fn select(online: &Online<'_>, group: GroupId) -> Selected {
    let mut chosen = [Selected::NoRoute];
    online.select_batch(&[group], |_, _| FLOW, &mut chosen);
    chosen[0]
}

/// A new leg, its group and its longer prefix appear: old or new, never anything else.
#[test]
fn a_new_route_is_seen_whole_or_not_at_all() {
    model(|| {
        let (mut writer, handle) = fib(1);
        let old = leg(&mut writer, 1);
        let covering = writer.add_group(&group_of(&[old])).unwrap();
        writer.insert(prefix("192.0.0.0/2"), covering).unwrap();
        let reader = reader_thread(&handle, move |online| {
            let got = ask(&online, addr("208.0.0.0"));
            let Selected::Member { path, adjacency } = got else { panic!("{got:?}") };
            assert!((path, adjacency) == old || (path.0, adjacency.0) == (1, 1), "{got:?}");
            assert_eq!(online.port(adjacency), Some(adjacency.0 as u16 + 1));
        });
        let new = leg(&mut writer, 2);
        assert_eq!((new.0.0, new.1.0), (1, 1));
        let longer = writer.add_group(&group_of(&[new])).unwrap();
        writer.insert(prefix("208.0.0.0/4"), longer).unwrap();
        reader.join().unwrap();
    });
}

/// A group is replaced and its old lines are used for another group: a reader never sees the other
/// group's members under the first one's id.
#[test]
fn lines_are_not_reused_under_a_reader() {
    model(|| {
        let (mut writer, handle) = fib(1);
        let (a, b, c) = (leg(&mut writer, 1), leg(&mut writer, 2), leg(&mut writer, 3));
        let group = writer.add_group(&group_of(&[a])).unwrap();
        writer.insert(prefix("192.0.0.0/2"), group).unwrap();
        let reader = reader_thread(&handle, move |mut online| {
            for _ in 0..2 {
                let got = ask(&online, addr("192.0.0.0"));
                let Selected::Member { path, adjacency } = got else { panic!("{got:?}") };
                assert!((path, adjacency) == a || (path, adjacency) == b, "{got:?}");
                online.quiescent();
            }
        });
        writer.replace_group(group, &group_of(&[b])).unwrap();
        writer.reclaim();
        writer.add_group(&group_of(&[c])).unwrap();
        reader.join().unwrap();
    });
}

/// A chunk is emptied, unlinked and used for another prefix: a reader that is inside it never sees
/// the other prefix's answers.
#[test]
fn chunks_are_not_reused_under_a_reader() {
    model(|| {
        let (mut writer, handle) = fib(1);
        let groups: Vec<GroupId> = [Group::Local, Group::Blackhole, Group::Prohibit]
            .iter()
            .map(|group| writer.add_group(group).unwrap())
            .collect();
        writer.insert(prefix("192.0.0.0/2"), groups[0]).unwrap();
        writer.insert(prefix("192.0.0.0/4"), groups[1]).unwrap();
        let reader = reader_thread(&handle, |online| {
            let got = ask(&online, addr("192.0.0.0"));
            assert!(matches!(got, Selected::Local | Selected::Blackhole), "{got:?}");
        });
        writer.remove(prefix("192.0.0.0/4")).unwrap();
        writer.reclaim();
        writer.insert(prefix("64.0.0.0/4"), groups[2]).unwrap();
        reader.join().unwrap();
    });
}

/// A route moves to another group and its old group is removed: who found the old one gets what it
/// said, not nothing.
#[test]
fn a_removed_group_is_there_for_who_found_it() {
    model(|| {
        let (mut writer, handle) = fib(1);
        let old = writer.add_group(&Group::Local).unwrap();
        let new = writer.add_group(&Group::Blackhole).unwrap();
        writer.insert(prefix("192.0.0.0/2"), old).unwrap();
        let reader = reader_thread(&handle, |mut online| {
            for _ in 0..2 {
                let got = ask(&online, addr("192.0.0.0"));
                assert!(matches!(got, Selected::Local | Selected::Blackhole), "{got:?}");
                online.quiescent();
            }
        });
        writer.insert(prefix("192.0.0.0/2"), new).unwrap();
        writer.remove_group(old).unwrap();
        writer.reclaim();
        writer.add_group(&Group::Prohibit).unwrap();
        reader.join().unwrap();
    });
}

/// A reader that goes offline and online again holds nothing, and misses nothing.
#[test]
fn going_online_sees_what_was_unlinked_before() {
    model(|| {
        let (mut writer, handle) = fib(1);
        let (a, b) = (leg(&mut writer, 1), leg(&mut writer, 2));
        let group = writer.add_group(&group_of(&[a])).unwrap();
        writer.insert(prefix("192.0.0.0/2"), group).unwrap();
        let mut reader = handle.reader().unwrap();
        let worker = thread::spawn(move || {
            for _ in 0..2 {
                let online = reader.online();
                let got = ask(&online, addr("192.0.0.0"));
                let Selected::Member { path, .. } = got else { panic!("{got:?}") };
                // A path id that was reused would be alive again under another site's key.
                assert!(path == a.0 || path == b.0, "{got:?}");
            }
        });
        writer.replace_group(group, &group_of(&[b])).unwrap();
        writer.remove_path(a.0).unwrap();
        if writer.reclaim() == 0 {
            // Nobody holds `a` now: whoever looks from here on finds `b`.
            writer.add_path(9, ACCEPT_ALL).unwrap();
        }
        worker.join().unwrap();
    });
}

/// A down-reason stored by one thread while another selects: the member or its successor.
#[test]
fn a_down_reason_moves_to_the_next_member_and_to_nothing_else() {
    model(|| {
        let (mut writer, handle) = fib(1);
        let (a, b) = (leg(&mut writer, 1), leg(&mut writer, 2));
        let group = writer.add_group(&group_of(&[a, b])).unwrap();
        let reader = reader_thread(&handle, move |online| {
            let mut moved = false;
            for _ in 0..2 {
                let got = select(&online, group);
                let Selected::Member { path, .. } = got else { panic!("{got:?}") };
                assert!(path == b.0 || !moved, "moved back although nothing came up");
                moved = path == b.0;
            }
        });
        handle.set_path_down(a.0, Reason::Probe);
        assert_eq!(writer.select(group, FLOW), Selected::Member { path: b.0, adjacency: b.1 });
        reader.join().unwrap();
    });
}

/// What a caller reclaims by a grace period of its own: the reader's last look at it, in a section
/// before the one the writer sees, is done before the caller overwrites it.
#[test]
fn a_reader_that_went_offline_and_online_again_is_done_with_what_it_read_before() {
    model(|| {
        let (writer, handle) = fib(1);
        let cells = Arc::new([UnsafeCell::new(1), UnsafeCell::new(2)]);
        let current = Arc::new(AtomicUsize::new(0));
        let mut reader = handle.reader().unwrap();
        let worker = {
            let (cells, current) = (Arc::clone(&cells), Arc::clone(&current));
            thread::spawn(move || {
                for _ in 0..2 {
                    let _online = reader.online();
                    let cell = &cells[current.load(Ordering::Acquire)];
                    // SAFETY: no reader is at a cell that the writer overwrites; loom checks it.
                    let read = cell.with(|cell| unsafe { *cell });
                    assert!(read == 1 || read == 2, "{read}: reclaimed under a reader");
                }
            })
        };
        current.store(1, Ordering::Release);
        let grace = writer.begin_grace();
        if writer.is_over(grace) {
            // SAFETY: every reader has let go of it; loom checks it.
            cells[0].with_mut(|cell| unsafe { *cell = 3 });
        }
        worker.join().unwrap();
    });
}
