//! Route refresh (RFC 7313): what a neighbour asks for again, and what is stale when it announces all again.

use super::*;
use crate::bgp::lane::Clear;
use crate::bgp::session::Received;
use crate::bgp::{Announced, AsPath, Attributes, NextHop as BgpNextHop, Nlri, Update};

/// The only neighbour announces these.
fn update(prefixes: &[&str]) -> BgpNews {
    let next_hop = BgpNextHop::new(Ipv4Addr::new(10, 0, 0, 2).into());
    let as_path = AsPath::sequence(&[65_002]);
    let attributes = Arc::new(Attributes { as_path, ..Attributes::originated(next_hop) });
    let nlri = prefixes.iter().map(|prefix| Nlri::new(prefix.parse().unwrap())).collect();
    let announced = vec![Announced { attributes, nlri }];
    BgpNews::Received(Received::Update(Update { announced, ..Update::default() }))
}

#[test]
fn what_a_neighbor_asks_for_again_goes_between_marks() {
    let mut speaking = speaking("");
    speaking.orders();
    speaking.hear(BgpNews::Refresh(Family::Ipv4));
    assert_eq!(speaking.orders(), ["Begin ipv4", "1 route(s)", "End ipv4"]);
    speaking.hear(BgpNews::Refresh(Family::Ipv6));
    assert_eq!(speaking.orders(), ["Begin ipv6", "End ipv6"], "nothing of the other family");

    // An operator's wish is both sides' refresh, or another session.
    let address = "10.0.0.2";
    assert!(speaking.rig.control.clear_bgp(address, Clear::Soft));
    let soft = ["Soft", "Begin ipv4", "Begin ipv6", "1 route(s)", "End ipv4", "End ipv6"];
    assert_eq!(speaking.orders(), soft);
    assert!(speaking.rig.control.clear_bgp(address, Clear::Restart));
    assert_eq!(speaking.orders(), ["Restart"]);
    assert!(!speaking.rig.control.clear_bgp("10.0.0.3", Clear::Restart));
    assert!(speaking.orders().is_empty());
}

/// A refresh that has no end does not keep what is stale for ever.
#[test]
fn a_refresh_without_an_end_ends_by_itself() {
    let mut speaking = speaking("");
    let prefixes = ["203.0.113.0/24", "203.0.114.0/24"];
    let kept = |speaking: &mut Speaking| -> Vec<usize> {
        speaking.told();
        while speaking.rig.control.has_bgp_news() {
            speaking.rig.control.publish(speaking.now).unwrap();
        }
        let paths = speaking.rig.control.bgp_paths();
        prefixes.iter().map(|prefix| paths.of(prefix.parse().unwrap()).count()).collect()
    };
    speaking.hear(update(&prefixes));
    assert!(speaking.rig.control.bgp_timeout().is_none());
    speaking.hear(BgpNews::Received(Received::RefreshBegin(Family::Ipv4)));
    speaking.hear(update(&prefixes[..1]));
    assert_eq!(kept(&mut speaking), [1, 1]);
    let due = speaking.rig.control.bgp_timeout().unwrap();
    assert_eq!(due.since(speaking.now), Duration::from_mins(10));
    speaking.pass(Duration::from_mins(10) - Duration::from_nanos(1));
    assert_eq!(kept(&mut speaking), [1, 1]);
    speaking.pass(Duration::from_nanos(1));
    assert_eq!(kept(&mut speaking), [1, 0]);
    assert!(speaking.rig.control.bgp_timeout().is_none());
    // One that has its end in time has no other.
    speaking.hear(update(&prefixes));
    speaking.hear(BgpNews::Received(Received::RefreshBegin(Family::Ipv4)));
    speaking.hear(BgpNews::Received(Received::RefreshEnd(Family::Ipv4)));
    assert_eq!(kept(&mut speaking), [0, 0]);
    assert!(speaking.rig.control.bgp_timeout().is_none());
}

/// RFC 7313: only of the family that was refreshed, and only at the end.
#[test]
fn what_a_neighbor_does_not_announce_between_marks_is_gone() {
    let kept = |speaking: &Speaking, prefixes: &[&str]| -> Vec<usize> {
        let paths = speaking.rig.control.bgp_paths();
        prefixes.iter().map(|prefix| paths.of(prefix.parse().unwrap()).count()).collect()
    };
    let all = ["203.0.113.0/24", "203.0.114.0/24", "203.0.115.0/24", "2001:db8::/48"];
    let mut speaking = speaking("");
    speaking.hear(update(&all[..3]));
    speaking.hear(update(&all[3..]));
    let [begin, end] = [Received::RefreshBegin, Received::RefreshEnd]
        .map(|mark| move || BgpNews::Received(mark(Family::Ipv4)));
    speaking.hear(end());
    assert_eq!(kept(&speaking, &all), [1, 1, 1, 1], "an end without a begin is none");

    speaking.hear(begin());
    speaking.hear(update(&all[..1]));
    // It begins again: what came before does not count.
    speaking.hear(begin());
    speaking.hear(update(&all[1..2]));
    assert_eq!(kept(&speaking, &all), [1, 1, 1, 1]);
    speaking.hear(end());
    assert_eq!(kept(&speaking, &all), [0, 1, 0, 1]);
    speaking.hear(end());
    assert_eq!(kept(&speaking, &all), [0, 1, 0, 1]);
}
