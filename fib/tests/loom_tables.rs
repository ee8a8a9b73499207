//! Changes of the tables under the model checker, one after the other, while one address is looked
//! up, alone and in a batch:
//! `RUSTFLAGS="--cfg loom" cargo test -p nearhop-fib --release --test loom_tables`.
#![allow(clippy::unwrap_used, reason = "a test may panic")]
#![cfg(loom)]

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use loom::thread;
use nearhop_fib::{FlowHash, Group, GroupId, IpPrefix, Online, Selected, fib};

/// A line is filled before it is linked: nobody sees an empty one.
#[test]
fn a_new_v6_prefix_is_seen_whole_or_not_at_all() {
    check_steps(
        &[("c000::/4", LOCAL)],
        &[Step::Insert("c400::/6", BLACKHOLE)],
        "c400::",
        &[Selected::Local, Selected::Blackhole],
    );
}

/// A run of a line is divided, and the line that is made again is linked in its place. What the old
/// one was then serves another prefix, once nobody is in it.
#[test]
fn v6_lines_are_not_reused_under_a_reader() {
    check_steps(
        &[("c000::/4", LOCAL)],
        &[Step::Insert("d000::/4", BLACKHOLE), Step::Insert("4000::/4", PROHIBIT)],
        "c000::",
        &[Selected::Local],
    );
}

/// What prefixes say that end in the stride after the root's is in a table that comes and goes.
#[test]
fn a_v6_table_of_short_prefixes_is_not_reused_under_a_reader() {
    check_steps(
        &[("::/0", BLACKHOLE), ("c000::/3", LOCAL)],
        &[Step::Remove("c000::/3"), Step::Insert("4000::/3", PROHIBIT)],
        "c000::",
        &[Selected::Local, Selected::Blackhole],
    );
}

/// A window that no route is in any more goes, and its line serves another prefix.
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

/// Slots become wider, and the narrow ones are given back once nobody is in them: the answers stay.
#[test]
fn slots_that_become_wider_keep_their_answers() {
    check_steps(
        &[("0.0.0.0/0", BLACKHOLE), ("192.0.0.0/2", LOCAL)],
        &[Step::Insert("64.0.0.0/3", UNREACHABLE), Step::Insert("64.0.0.0/2", PROHIBIT)],
        "192.0.0.0",
        &[Selected::Local],
    );
    check_steps(
        &[("192.0.0.0/2", LOCAL)],
        &[Step::Insert("192.0.0.0/3", UNREACHABLE), Step::Remove("192.0.0.0/2")],
        "192.0.0.0",
        &[Selected::Local, Selected::Unreachable],
    );
    check_steps(
        &[("192.0.0.0/4", LOCAL)],
        &[Step::Insert("192.0.0.0/3", UNREACHABLE), Step::Remove("192.0.0.0/4")],
        "192.0.0.0",
        &[Selected::Local, Selected::Unreachable],
    );
}

/// A writer that goes through `steps`, and a reader of one address that sees only what it may.
fn check_steps(
    before: &'static [(&'static str, usize)],
    steps: &'static [Step],
    place: &'static str,
    allowed: &'static [Selected],
) {
    for look_up in [alone, in_a_batch] {
        let mut builder = loom::model::Builder::new();
        builder.preemption_bound = Some(3);
        builder.max_branches = 10_000;
        builder.check(move || run(look_up, before, steps, place, allowed));
    }
}

fn run(
    look_up: fn(&Online<'_>, IpAddr) -> GroupId,
    before: &[(&str, usize)],
    steps: &[Step],
    place: &'static str,
    allowed: &'static [Selected],
) {
    let (mut writer, handle) = fib(1);
    let groups: Vec<GroupId> =
        [Group::Local, Group::Blackhole, Group::Prohibit, Group::Unreachable]
            .iter()
            .map(|group| writer.add_group(group).unwrap())
            .collect();
    for &(route, group) in before {
        writer.insert(prefix(route), groups[group]).unwrap();
    }
    let mut reader = handle.reader().unwrap();
    let reader = thread::spawn(move || {
        let online = reader.online();
        let found = look_up(&online, place.parse().unwrap());
        let got = online.select(found, FlowHash { site: 1, label: 2 });
        assert!(allowed.contains(&got), "{got:?}");
    });
    for step in steps {
        match *step {
            Step::Insert(route, group) => writer.insert(prefix(route), groups[group]).unwrap(),
            Step::Remove(route) => writer.remove(prefix(route)).unwrap(),
        };
        writer.reclaim();
    }
    reader.join().unwrap();
}

#[derive(Clone, Copy)]
enum Step {
    Insert(&'static str, usize),
    Remove(&'static str),
}

fn alone(online: &Online<'_>, addr: IpAddr) -> GroupId {
    online.lookup(addr)
}

/// As small as a batch can be here.
fn in_a_batch(online: &Online<'_>, addr: IpAddr) -> GroupId {
    let mut found = [GroupId::NONE; 2];
    match addr {
        IpAddr::V4(addr) => online.lookup_batch_v4(&[Ipv4Addr::UNSPECIFIED, addr], &mut found),
        IpAddr::V6(addr) => online.lookup_batch_v6(&[Ipv6Addr::UNSPECIFIED, addr], &mut found),
    }
    found[1]
}

fn prefix(text: &str) -> IpPrefix {
    text.parse().unwrap()
}

const LOCAL: usize = 0;
const BLACKHOLE: usize = 1;
const PROHIBIT: usize = 2;
/// The first whose number does not fit the slots that a table begins with here.
const UNREACHABLE: usize = 3;
