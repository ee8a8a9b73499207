//! What is refused: a clear error, and everything as it was.
#![allow(clippy::unwrap_used, reason = "a test may panic")]
#![cfg(not(loom))]

mod common;

use common::with_groups;
use nearhop_fib::{
    ACCEPT_ALL, ADJACENCY_MAX, AdjacencyId, CHANGES_MAX, Group, GroupError, GroupId, IpPrefix,
    MEMBERS_MAX, Member, PATH_MAX, PathId, RETIRED_MAX, Reason, Selected, Spread, TIER_MAX,
    TransactionError, WhenDead, WriteError, Writer,
};

fn prefix(text: &str) -> IpPrefix {
    text.parse().unwrap()
}

/// Everything a refused change could have changed.
fn state(writer: &Writer) -> impl PartialEq + std::fmt::Debug + use<> {
    let routes: Vec<_> = writer.iter().collect();
    let found: Vec<_> = routes.iter().map(|(prefix, _)| writer.lookup(prefix.addr())).collect();
    (routes, found, writer.len(), writer.memory())
}

#[test]
fn a_transaction_with_a_change_that_is_refused() {
    let (mut writer, _handle, groups) = with_groups(1, 3);
    for text in ["0.0.0.0/0", "192.0.2.0/24", "192.0.2.128/25", "2001:db8::/32", "2001:db8:1::/48"]
    {
        writer.insert(prefix(text), groups[0]).unwrap();
    }
    writer.remove_group(groups[2]).unwrap();
    writer.reclaim();
    let (routes, len) = (writer.iter().collect::<Vec<_>>(), writer.len());
    let changes = [
        (prefix("192.0.2.128/25"), None),
        (prefix("0.0.0.0/0"), Some(groups[1])),
        (prefix("2001:db8::/33"), Some(groups[1])),
        (prefix("2001:db8:1::/48"), None),
        (prefix("198.51.100.7/32"), Some(groups[1])),
        (prefix("203.0.113.0/24"), None),
        (prefix("2001:db8:1::/48"), Some(groups[1])),
    ];
    let mut refused = changes.to_vec();
    refused.push((prefix("192.0.2.0/24"), Some(groups[2])));
    let reported = TransactionError::Refused { at: 7, error: WriteError::UnknownGroup };
    assert_eq!(writer.apply(&refused), Err(reported));
    assert_eq!((writer.iter().collect::<Vec<_>>(), writer.len()), (routes.clone(), len));
    for (prefix, _) in routes.iter().chain(&changes.map(|(prefix, _)| (prefix, groups[0]))) {
        for addr in common::boundaries(*prefix) {
            let want = writer.longest_match(addr).map_or(GroupId::NONE, |(_, group)| group);
            assert_eq!(writer.lookup(addr), want, "{addr}");
        }
    }
    assert_eq!(writer.remove_group(groups[1]), Ok(()), "no route is counted as leading there");

    let too_many = vec![changes[0]; CHANGES_MAX + 1];
    assert_eq!(writer.apply(&too_many), Err(TransactionError::TooMany));
    let lasting = changes.map(|(prefix, group)| (prefix, group.map(|_| groups[0])));
    assert_eq!(writer.apply(&lasting), Ok(()));
    assert_eq!(writer.get(prefix("192.0.2.128/25")), None);
    assert_eq!(writer.get(prefix("198.51.100.7/32")), Some(groups[0]));
    assert_eq!(writer.lookup("2001:db8:1::".parse().unwrap()), groups[0]);
    assert_eq!(writer.len(), (3, 3));
}

#[test]
fn a_route_to_a_group_that_is_not_there() {
    let (mut writer, _handle, groups) = with_groups(1, 2);
    for text in ["0.0.0.0/0", "192.0.2.0/24", "192.0.2.128/25", "::/0", "2001:db8::/32"] {
        writer.insert(prefix(text), groups[0]).unwrap();
    }
    writer.remove_group(groups[1]).unwrap();
    let before = state(&writer);
    for id in [groups[1].0, 2, 3, 0x7fff, 0x8000, 1 << 21, 1 << 30, u32::MAX - 1, u32::MAX] {
        for text in ["0.0.0.0/0", "192.0.2.0/24", "192.0.2.192/26", "2001:db8::/48"] {
            let refused = writer.insert(prefix(text), GroupId(id));
            assert_eq!(refused, Err(WriteError::UnknownGroup), "{id}");
        }
        assert_eq!(writer.replace_group(GroupId(id), &Group::Local), Err(WriteError::UnknownGroup));
        assert_eq!(writer.remove_group(GroupId(id)), Err(WriteError::UnknownGroup));
    }
    assert_eq!(state(&writer), before);
}

#[test]
fn a_group_that_routes_lead_to_stays() {
    let (mut writer, _handle, groups) = with_groups(1, 2);
    let [v4, v6] = ["192.0.2.0/24", "2001:db8::/48"].map(prefix);
    for route in [v4, v6, v4] {
        writer.insert(route, groups[0]).unwrap();
    }
    let in_use = |routes| Err(WriteError::GroupInUse { routes });
    assert_eq!(writer.remove_group(groups[0]), in_use(2));
    assert_eq!(
        WriteError::GroupInUse { routes: 2 }.to_string(),
        "2 routes lead to the group: remove or replace them first"
    );
    writer.insert(v4, groups[1]).unwrap();
    assert_eq!(writer.remove_group(groups[0]), in_use(1));
    assert_eq!(writer.lookup(v6.addr()), groups[0]);
    assert!(writer.group(groups[0]).is_some());
    writer.remove(v6).unwrap();
    writer.remove(v6).unwrap();
    assert_eq!(writer.remove_group(groups[0]), Ok(()));
    assert_eq!(writer.remove_group(groups[0]), Err(WriteError::UnknownGroup), "once");
    // The id comes back once, and nothing leads to it.
    writer.reclaim();
    assert_eq!(writer.add_group(&Group::Blackhole), Ok(groups[0]));
    assert_ne!(writer.add_group(&Group::Blackhole), Ok(groups[0]));
    assert_eq!(writer.remove_group(groups[0]), Ok(()));
}

#[test]
fn paths_and_adjacencies_go_once_and_only_if_they_were_there() {
    let (mut writer, handle, _) = with_groups(1, 0);
    let (path, other) = (writer.add_path(1, ACCEPT_ALL).unwrap(), writer.add_path(2, 9).unwrap());
    let adjacency = writer.add_adjacency(7, 1).unwrap();
    for id in [2, PATH_MAX, PATH_MAX + 1, u32::MAX] {
        assert_eq!(writer.remove_path(PathId(id)), Err(WriteError::UnknownPath), "{id}");
        assert!(!handle.set_path_down(PathId(id), Reason::Probe) || id <= PATH_MAX);
        handle.set_accept(PathId(id), 3);
    }
    for id in [1, ADJACENCY_MAX, ADJACENCY_MAX + 1, u32::MAX] {
        let refused = writer.remove_adjacency(AdjacencyId(id));
        assert_eq!(refused, Err(WriteError::UnknownAdjacency), "{id}");
        assert!(!handle.set_adjacency_down(AdjacencyId(id), Reason::Probe) || id <= ADJACENCY_MAX);
    }
    assert_eq!((writer.accept(path), writer.accept(other)), (Some(ACCEPT_ALL), Some(9)));
    assert!(writer.path_reasons(path).is_alive() && writer.adjacency_reasons(adjacency).is_alive());
    writer.remove_path(path).unwrap();
    assert_eq!(writer.remove_path(path), Err(WriteError::UnknownPath));
    writer.remove_adjacency(adjacency).unwrap();
    assert_eq!(writer.remove_adjacency(adjacency), Err(WriteError::UnknownAdjacency));
    writer.reclaim();
    // Each id is handed out once more, and not twice.
    assert_eq!(writer.add_path(3, ACCEPT_ALL), Ok(path));
    assert_eq!(writer.add_path(4, ACCEPT_ALL), Ok(PathId(2)));
    assert_eq!(writer.add_adjacency(7, 1), Ok(adjacency));
    assert_eq!(writer.add_adjacency(7, 1), Ok(AdjacencyId(1)));
}

#[test]
fn groups_that_cannot_be_stored() {
    let (mut writer, _handle, groups) = with_groups(1, 1);
    let good =
        Member { path: PathId(0), adjacency: AdjacencyId(0), tier: 0, weight: 1, link_weight: 1 };
    let of = |members| Group::Forward { members, when_dead: WhenDead::Drop, spread: Spread::Flow };
    let before = state(&writer);
    for (members, why) in [
        (vec![good; MEMBERS_MAX + 1], GroupError::TooManyMembers(MEMBERS_MAX + 1)),
        (vec![good, Member { tier: TIER_MAX + 1, ..good }], GroupError::TierTooHigh(TIER_MAX + 1)),
        (vec![Member { weight: 0, ..good }], GroupError::ZeroWeight),
        (vec![Member { path: PathId(PATH_MAX + 1), ..good }], GroupError::IdTooLarge),
        (vec![Member { adjacency: AdjacencyId(u32::MAX), ..good }], GroupError::IdTooLarge),
    ] {
        assert_eq!(writer.add_group(&of(members.clone())), Err(WriteError::Group(why)));
        assert_eq!(writer.replace_group(groups[0], &of(members)), Err(WriteError::Group(why)));
    }
    assert_eq!(state(&writer), before);
    assert_eq!(writer.group(groups[0]), Some(Group::Local));
    // An id that was not handed out yet is one that is down.
    let unknown = writer.add_group(&of(vec![good])).unwrap();
    assert_eq!(unknown, GroupId(1), "what was refused took no id");
    let flow = nearhop_fib::FlowHash { site: 1, label: 2 };
    assert_eq!(writer.select(unknown, flow), Selected::AllDead { answer: false });
    assert_eq!(writer.select(GroupId(77), flow), writer.select(GroupId::NONE, flow));
}

#[test]
fn a_reader_that_stalls_is_named_and_holds_back_no_more_than_it_may() {
    let (mut writer, handle, groups) = with_groups(2, 2);
    let mut awake = handle.reader().unwrap();
    let mut stalled = handle.reader().unwrap();
    let number = stalled.slot();
    let online = stalled.online();
    let routes = ["192.0.2.128/25", "2001:db8::/48"].map(prefix);
    let mut steps = 0;
    let error = loop {
        // Each of these leaves something behind: a chunk, and lines.
        let route = routes[steps / 2 % 2];
        let group = groups[steps / 4 % 2];
        let changed =
            if steps % 2 == 0 { writer.insert(route, group) } else { writer.remove(route) };
        awake.online().quiescent();
        match changed {
            Ok(_) => steps += 1,
            Err(error) => break error,
        }
    };
    assert_eq!(error, WriteError::Stalled { reader: number });
    assert_eq!(writer.slowest_reader(), Some(number));
    assert!((RETIRED_MAX / 2..2 * RETIRED_MAX).contains(&steps), "{steps} steps");
    // A route's change may need two places in the list; a group's needs one.
    while writer.replace_group(groups[1], &Group::Local).is_ok() {}
    let before = state(&writer);
    for route in routes.into_iter().chain(["0.0.0.0/0", "::/0"].map(prefix)) {
        assert_eq!(writer.insert(route, groups[0]), Err(error));
        assert_eq!(writer.remove(route), Err(error));
    }
    assert_eq!(writer.remove_group(groups[1]), Err(error));
    assert_eq!(writer.replace_group(groups[1], &Group::Blackhole), Err(error));
    assert_eq!(state(&writer), before);
    assert_eq!(writer.group(groups[1]), Some(Group::Local));
    drop(online);
    assert_eq!(writer.reclaim(), 0);
    assert_eq!(writer.slowest_reader(), None);
    writer.insert(routes[0], groups[0]).unwrap();
}

#[test]
fn text_that_is_no_prefix() {
    for (text, why) in [
        ("10.0.0.1/8", "host bits are set: the prefix is 10.0.0.0/8"),
        ("2001:db8::1/127", "host bits are set: the prefix is 2001:db8::/127"),
        ("10.0.0.0/33", "the prefix length must be 0 to 32"),
        ("10.0.0.0/256", "the prefix length must be 0 to 32"),
        ("10.0.0.0/4294967304", "the prefix length must be 0 to 32"),
        ("10.0.0.0/-1", "the prefix length must be 0 to 32"),
        ("2001:db8::/129", "the prefix length must be 0 to 128"),
        ("2001:db8::/ 32", "the prefix length must be 0 to 128"),
        ("10.0.0.0/8/8", "the prefix length must be 0 to 32"),
        ("10.0.0/8", "not an IP address"),
        ("::ffff:10.0.0.0.0/96", "not an IP address"),
        ("/8", "not an IP address"),
        ("\u{661}0.0.0.0/8", "not an IP address"),
    ] {
        assert_eq!(text.parse::<IpPrefix>().unwrap_err().to_string(), why, "{text:?}");
    }
    assert_eq!(IpPrefix::around("10.0.0.0".parse().unwrap(), 33), None);
    assert!(IpPrefix::new("::".parse().unwrap(), 129).is_err());
}
