//! Publication and reclamation under the model checker, on the real types:
//! `RUSTFLAGS="--cfg loom" cargo test -p nearhop-fib --release --test loom`.
#![allow(clippy::unwrap_used, reason = "a test may panic")]
#![cfg(loom)]

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use loom::thread;
use nearhop_fib::{
    ACCEPT_ALL, AdjacencyId, FlowHash, Group, GroupId, Handle, IpPrefix, Member, Online, PathId,
    Reason, Selected, Spread, WhenDead, Writer, fib,
};

const FLOW: FlowHash = FlowHash { site: 1, link: 2 };

fn model(check: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(3);
    builder.max_branches = 10_000;
    builder.check(check);
}

fn leg(writer: &mut Writer, n: u16) -> (PathId, AdjacencyId) {
    let adjacency = writer.add_adjacency(n, u64::from(n)).unwrap();
    (writer.add_path(u64::from(n), ACCEPT_ALL).unwrap(), adjacency)
}

fn group_of(legs: &[(PathId, AdjacencyId)]) -> Group {
    let members = legs
        .iter()
        .enumerate()
        .map(|(tier, &(path, adjacency))| Member { path, adjacency, tier: tier as u8, weight: 1 })
        .collect();
    Group::Forward { members, when_dead: WhenDead::Drop, spread: Spread::Flow }
}

fn prefix(text: &str) -> IpPrefix {
    text.parse().unwrap()
}

fn addr(text: &str) -> IpAddr {
    text.parse().unwrap()
}

/// Looks up and selects as a worker does: all lookups of the batch first.
fn ask(online: &Online<'_>, addr: IpAddr) -> Selected {
    let found = online.lookup(addr);
    online.select(found, FLOW)
}

fn reader_thread(
    handle: &Handle,
    work: impl FnOnce(Online<'_>) + 'static,
) -> thread::JoinHandle<()> {
    let mut reader = handle.reader().unwrap();
    thread::spawn(move || work(reader.online()))
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
                let got = online.select(group, FLOW);
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

/// As [`ask`], in a batch as small as one can be here.
fn ask_batch(online: &Online<'_>, addr: IpAddr) -> Selected {
    let mut found = [GroupId::NONE; 2];
    match addr {
        IpAddr::V4(addr) => online.lookup_batch_v4(&[Ipv4Addr::UNSPECIFIED, addr], &mut found),
        IpAddr::V6(addr) => online.lookup_batch_v6(&[Ipv6Addr::UNSPECIFIED, addr], &mut found),
    }
    online.select(found[1], FLOW)
}

/// A writer that goes through `steps`, and a reader of one address that sees only what it may.
fn check_steps(
    before: &'static [(&'static str, usize)],
    steps: &'static [Step],
    place: &'static str,
    allowed: &'static [Selected],
) {
    for ask in [ask, ask_batch] {
        model(move || {
            let (mut writer, handle) = fib(1);
            let groups: Vec<GroupId> = [Group::Local, Group::Blackhole, Group::Prohibit]
                .iter()
                .map(|group| writer.add_group(group).unwrap())
                .collect();
            for &(route, group) in before {
                writer.insert(prefix(route), groups[group]).unwrap();
            }
            let reader = reader_thread(&handle, move |online| {
                let got = ask(&online, addr(place));
                assert!(allowed.contains(&got), "{got:?}");
            });
            for step in steps {
                match *step {
                    Step::Insert(route, group) => {
                        writer.insert(prefix(route), groups[group]).unwrap();
                    }
                    Step::Remove(route) => {
                        writer.remove(prefix(route)).unwrap();
                    }
                }
                writer.reclaim();
            }
            reader.join().unwrap();
        });
    }
}

#[derive(Clone, Copy)]
enum Step {
    Insert(&'static str, usize),
    Remove(&'static str),
}

/// Two nodes, each of them a line, are filled before they are linked: nobody sees an empty one.
#[test]
fn a_new_v6_prefix_is_seen_whole_or_not_at_all() {
    check_steps(
        &[("c000::/4", LOCAL)],
        &[Step::Insert("c400::/6", BLACKHOLE)],
        "c400::",
        &[Selected::Local, Selected::Blackhole],
    );
}

/// A run of a line is divided, and the line that is made anew is linked in its place. What the old
/// one was then serves another prefix, once nobody is in it.
#[test]
fn v6_lines_are_not_reused_under_a_reader() {
    for (place, allowed) in [
        ("c000::", [Selected::Local, Selected::Blackhole].as_slice()),
        ("d000::", &[Selected::Local]),
    ] {
        check_steps(
            &[("c000::/3", LOCAL)],
            &[Step::Insert("c000::/4", BLACKHOLE), Step::Insert("4000::/4", PROHIBIT)],
            place,
            allowed,
        );
    }
}

/// Nodes that no route is in any more go, and serve another prefix.
#[test]
fn a_v6_node_that_vanishes_is_not_reused_under_a_reader() {
    check_steps(
        &[("c000::/2", LOCAL), ("c000::/6", BLACKHOLE)],
        &[
            Step::Remove("c000::/6"),
            Step::Insert("4000::/6", PROHIBIT),
            Step::Insert("4400::/6", PROHIBIT),
        ],
        "c000::",
        &[Selected::Local, Selected::Blackhole],
    );
}

/// A lookup that lasts for two changes: the first makes the longer route, the second takes away the
/// short one it would have found before. It finds one of them.
#[test]
fn a_route_is_there_before_the_one_it_replaces_goes() {
    check_steps(
        &[("0.0.0.0/0", LOCAL)],
        &[Step::Insert("192.0.0.0/3", BLACKHOLE), Step::Remove("0.0.0.0/0")],
        "192.0.0.0",
        &[Selected::Local, Selected::Blackhole],
    );
    check_steps(
        &[("::/0", LOCAL)],
        &[Step::Insert("c000::/2", BLACKHOLE), Step::Remove("::/0")],
        "c000::",
        &[Selected::Local, Selected::Blackhole],
    );
    check_steps(
        &[("c000::/2", LOCAL)],
        &[Step::Insert("c000::/4", BLACKHOLE), Step::Remove("c000::/2")],
        "c000::",
        &[Selected::Local, Selected::Blackhole],
    );
}

/// The other way round: the short route comes, and the longer one goes.
#[test]
fn a_short_route_takes_over_without_a_gap() {
    check_steps(
        &[("192.0.0.0/3", BLACKHOLE)],
        &[Step::Insert("0.0.0.0/0", LOCAL), Step::Remove("192.0.0.0/3")],
        "192.0.0.0",
        &[Selected::Local, Selected::Blackhole],
    );
    check_steps(
        &[("c000::/4", BLACKHOLE)],
        &[Step::Insert("::/0", LOCAL), Step::Remove("c000::/4")],
        "c000::",
        &[Selected::Local, Selected::Blackhole],
    );
}

const LOCAL: usize = 0;
const BLACKHOLE: usize = 1;
const PROHIBIT: usize = 2;
