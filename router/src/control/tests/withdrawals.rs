//! Withdrawals ahead of what waits to be published.

use proptest::prelude::*;

use super::bgp::{Peer, nlri, prefixes, rig};
use super::*;
use crate::bgp::Nlri;

fn all_of(prefixes: &[IpPrefix]) -> Vec<Nlri> {
    prefixes.iter().map(|prefix| Nlri::new(*prefix)).collect()
}

/// Both announce `prefix`; then the second announces very many, of which the first step that `done` finds good is
/// the last one.
fn loading(
    prefix: Nlri,
    done: impl Fn(&Rig, &[IpPrefix]) -> bool,
) -> (Rig, [Peer; 2], Vec<IpPrefix>) {
    let (mut rig, peers) = rig("");
    for peer in &peers {
        peer.announce(vec![prefix], peer.attributes(2));
    }
    rig.control.publish(NOW).unwrap();
    assert_eq!(rig.only_port_to(prefix.prefix.addr()), "ams");
    rig.events();
    let all = prefixes(40_000);
    for some in all.chunks(200) {
        peers[1].announce(all_of(some), peers[1].attributes(2));
    }
    while !done(&rig, &all) {
        assert!(!rig.control.publish_step(NOW).unwrap(), "it was over before");
    }
    (rig, peers, all)
}

fn in_fib(rig: &Rig, all: &[IpPrefix]) -> usize {
    all.iter().filter(|prefix| rig.control.writer().get(**prefix).is_some()).count()
}

#[test]
fn a_withdrawal_moves_its_prefix_at_once_amid_and_before_a_publication() {
    let prefix = nlri("203.0.113.0/24");
    let address = prefix.prefix.addr();
    let is_amid: fn(&Rig, &[IpPrefix]) -> bool = |rig, all| in_fib(rig, all) > 1000;
    let is_before: fn(&Rig, &[IpPrefix]) -> bool = |rig, _| rig.control.rib().len().0 > 5000;
    for (case, done) in [("amid", is_amid), ("before", is_before)] {
        let (mut rig, [one, _], all) = loading(prefix, done);
        let published = in_fib(&rig, &all);
        assert!(published < all.len() && (case == "amid") == (published > 0), "{published}");
        one.withdraw(vec![prefix]);
        assert!(!rig.control.publish_step(NOW).unwrap());
        assert_eq!(rig.only_port_to(address), "fra", "{case}");
        assert!(in_fib(&rig, &all) < all.len(), "{case}: the others are not all there yet");

        rig.control.publish(NOW).unwrap();
        assert_eq!((in_fib(&rig, &all), &*rig.only_port_to(address)), (all.len(), "fra"));
        let count = |kind: EventKind| match kind {
            EventKind::Publish { prefixes, .. } => prefixes,
            _ => 0,
        };
        let counted: u64 = rig.events().into_iter().map(count).sum();
        assert_eq!(counted, all.len() as u64 + 1, "{case}: each once");
        // Nothing holds the group that it left.
        one.withdraw(vec![prefix]);
        rig.control.publish(NOW).unwrap();
        assert_eq!(rig.control.publication.publisher.group_count(), groups(&rig));
    }
}

/// Groups that some prefix leads to.
fn groups(rig: &Rig) -> usize {
    let writer = rig.control.writer();
    writer.iter().map(|(_, group)| group).collect::<BTreeSet<_>>().len()
}

/// A prefix whose new next hops were withdrawn too before its turn came does not keep a group that says the path
/// of a session that is gone, beyond the publication that takes this from all others.
#[test]
fn nothing_leads_to_a_path_that_is_released() {
    let (mut rig, [one, two]) = rig("");
    rig.control.set_changes_per_step(64);
    let all = prefixes(4_000);
    for peer in [&one, &two] {
        for some in all.chunks(200) {
            peer.announce(all_of(some), peer.attributes(2));
            rig.control.publish(NOW).unwrap();
        }
    }
    let before = rig.control.writer().get(all[0]).unwrap();
    let stay = |rig: &Rig| {
        all.iter().filter(|prefix| rig.control.writer().get(**prefix) == Some(before)).count()
    };
    assert_eq!(stay(&rig), all.len());
    rig.events();
    one.die();
    while stay(&rig) == all.len() {
        assert!(!rig.control.publish_step(NOW).unwrap());
    }
    assert!(stay(&rig) > all.len() / 2, "some have moved");
    for some in all.chunks(200) {
        two.withdraw(all_of(some));
    }
    let mut released = 0;
    loop {
        let done = rig.control.publish_step(NOW).unwrap();
        let paths = rig.control.take_stopping().paths.len();
        released += paths;
        let is_published = |kind: &EventKind| matches!(kind, EventKind::Publish { .. });
        if released > 0 || rig.events().iter().any(is_published) {
            assert_eq!(stay(&rig), 0, "some lead to the path of a session that is gone");
        }
        if done {
            break;
        }
    }
    assert_eq!(released, 1);
    assert_eq!(in_fib(&rig, &all), 0);
}

/// What a neighbour says of a prefix.
#[derive(Clone, Copy, Debug)]
enum Deed {
    Announce(usize, usize),
    Withdraw(usize, usize),
    /// So many steps pass.
    Pass(usize),
}

fn deed() -> impl Strategy<Value = Deed> {
    prop_oneof![
        3 => (0..2_usize, 0..PREFIXES).prop_map(|(peer, prefix)| Deed::Announce(peer, prefix)),
        3 => (0..2_usize, 0..PREFIXES).prop_map(|(peer, prefix)| Deed::Withdraw(peer, prefix)),
        2 => (1..4_usize).prop_map(Deed::Pass),
    ]
}

const PREFIXES: usize = 6;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever comes when, and however far a publication is: in the end each prefix leads where it should.
    #[test]
    fn all_that_is_withdrawn_and_announced_ends_as_it_was_said(
        deeds in proptest::collection::vec(deed(), 1..60),
    ) {
        let (mut rig, peers) = rig("");
        rig.control.set_changes_per_step(16);
        let all = prefixes(2 * PREFIXES as u32);
        let mut said = [[false; PREFIXES]; 2];
        for deed in deeds {
            match deed {
                Deed::Announce(peer, at) => {
                    said[peer][at] = true;
                    peers[peer].announce(all_of(&all[at..=at]), peers[peer].attributes(2));
                }
                Deed::Withdraw(peer, at) => {
                    said[peer][at] = false;
                    peers[peer].withdraw(all_of(&all[at..=at]));
                }
                Deed::Pass(steps) => {
                    for _ in 0..steps {
                        rig.control.publish_step(NOW).unwrap();
                    }
                }
            }
        }
        rig.control.publish(NOW).unwrap();
        for (at, prefix) in all[..PREFIXES].iter().enumerate() {
            if said.iter().any(|of| of[at]) {
                let port = if said[0][at] { "ams" } else { "fra" };
                prop_assert_eq!(rig.only_port_to(prefix.addr()), port);
            } else {
                prop_assert_eq!(rig.control.writer().get(*prefix), None);
            }
        }
        prop_assert_eq!(rig.control.publication.publisher.group_count(), groups(&rig));
    }
}
