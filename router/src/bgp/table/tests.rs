//! Paths by what is best of them, what is refused and why, and what changes in steps.

use proptest::prelude::*;

use super::*;
use crate::bgp::policy::{self, Match, Policy, PolicyRule, Then};
use crate::bgp::{AsPath, Community, NextHop, Origin};

const OWN: LoopRules = LoopRules {
    local_as: 65_001,
    own_as_max: 0,
    router_id: Ipv4Addr::new(192, 0, 2, 1),
    cluster_id: None,
};

fn sender(asn: u32, last: u8) -> Sender {
    let address = Ipv4Addr::new(10, 0, 0, last);
    let internal = asn == OWN.local_as;
    let (address, router_id) = (address.into(), address);
    let (import, refuses_bogons) = (Import::All, false);
    Sender { asn, internal, router_id, address, role: None, loops: OWN, import, refuses_bogons }
}

fn route(path: &[u32]) -> Attributes {
    let next_hop = NextHop::new(Ipv4Addr::new(10, 0, 0, 9).into());
    Attributes { as_path: AsPath::sequence(path), ..Attributes::originated(next_hop) }
}

fn nlri(text: &str) -> Nlri {
    Nlri::new(text.parse().unwrap())
}

/// Each path is worse than the one before by the first rule that tells them apart.
#[test]
fn the_rules_apply_in_their_order() {
    let bases = [
        (sender(65_002, 2), Attributes { local_pref: Some(200), ..route(&[65_002, 1, 2, 3]) }),
        (sender(65_002, 9), route(&[65_002])),
        (sender(65_002, 8), route(&[65_002, 7])),
        (sender(65_002, 7), Attributes { med: Some(5), ..route(&[65_002, 7]) }),
        (sender(65_001, 2), Attributes { origin: Origin::Igp, ..route(&[65_003, 7]) }),
        (sender(65_001, 3), route(&[65_004, 7])),
        (sender(65_002, 1), Attributes { origin: Origin::Egp, ..route(&[65_002, 7]) }),
        (
            sender(65_002, 4),
            Attributes { communities: [Community::GRACEFUL_SHUTDOWN].into(), ..route(&[65_002]) },
        ),
    ];
    let prefix = nlri("203.0.113.0/24");
    for order in [[0, 1, 2, 3, 4, 5, 6, 7], [7, 6, 5, 4, 3, 2, 1, 0], [3, 7, 1, 5, 0, 2, 6, 4]] {
        let mut paths = Paths::default();
        for index in order {
            let (sender, attributes) = &bases[index];
            let id = NeighborId(index as u32);
            paths.begin(id, sender.clone());
            paths.announce(id, prefix, &Arc::new(attributes.clone()));
        }
        for (index, _) in bases.iter().enumerate() {
            let best = paths.best(prefix.prefix).unwrap();
            assert_eq!(best.neighbor, NeighborId(index as u32), "{order:?}");
            assert!(paths.withdraw(best.neighbor, prefix));
        }
        assert!(paths.best(prefix.prefix).is_none());
    }
}

#[test]
fn what_may_not_be_used_is_kept_and_says_why() {
    let mut paths = Paths::default();
    paths.begin(NeighborId(1), sender(65_002, 2));
    let provider = Sender { role: Some(Role::Customer), ..sender(65_003, 3) };
    paths.begin(NeighborId(2), provider);
    paths.begin(NeighborId(3), Sender { import: Import::None, ..sender(65_004, 4) });
    let mut leak = route(&[65_003]);
    leak.change_rare(|rare| rare.only_to_customer = Some(65_009));
    for (id, prefix, attributes, why) in [
        (1, "203.0.113.0/24", route(&[65_002, 65_001]), "our own AS is 1 times in its path"),
        (1, "127.0.0.0/8", route(&[65_002]), "nobody may announce this prefix (RFC 6890)"),
        (1, "fe80::/64", route(&[65_002]), "nobody may announce this prefix (RFC 6890)"),
        (2, "203.0.113.0/24", leak, "a leak: AS 65009 marked it \"only to customers\""),
        (3, "203.0.113.0/24", route(&[65_004]), "import accepts nothing of this neighbour"),
    ] {
        paths.announce(NeighborId(id), nlri(prefix), &Arc::new(attributes));
        let prefix = nlri(prefix).prefix;
        let found = paths.of(prefix).find(|found| found.neighbor == NeighborId(id)).unwrap();
        assert_eq!(found.why_not(prefix).unwrap().to_string(), why);
        assert!(paths.best(prefix).is_none());
    }
    paths.announce(NeighborId(1), nlri("0.0.0.0/0"), &Arc::new(route(&[65_002])));
    assert!(paths.best(nlri("0.0.0.0/0").prefix).is_some(), "a default route is no bogon");
}

/// Another policy acts on what came before it, some paths at a time, and what came is as it was.
#[test]
fn paths_are_judged_again_in_steps_when_a_policy_changes() {
    let rule = |name: &str, asn, changes, then| PolicyRule {
        name: name.into(),
        matches: vec![Match::AsInPath(asn)],
        changes,
        then,
    };
    let prefer = vec![policy::Change::LocalPref(300)];
    let rules = vec![
        rule("no 7", 7, vec![], Then::Refuse),
        rule("prefer 8", 8, prefer, Then::Accept),
        rule("rest", 65_002, vec![], Then::Accept),
    ];
    let policy = Import::Policy(Arc::new(Policy { name: "in".into(), rules }));
    let (mut paths, from) = (Paths::default(), NeighborId(1));
    paths.begin(from, sender(65_002, 2));
    let (plain, seven, eight) = (route(&[65_002]), route(&[65_002, 7]), route(&[65_002, 8]));
    for (last, route) in [plain, seven, eight].into_iter().enumerate() {
        let route = Arc::new(route);
        paths.announce(from, nlri(&format!("203.0.{last}.0/24")), &route);
        paths.announce(from, nlri(&format!("2001:db8:{last}::/48")), &route);
    }
    paths.change_rules(from, |sender| sender.import = policy.clone());
    let mut changed = Vec::new();
    let mut steps = 0;
    while paths.is_judging() {
        paths.judge_some(2, |prefix| changed.push(prefix.to_string()));
        steps += 1;
        assert!(changed.len() <= 2 * steps);
    }
    assert!(steps >= 3, "in steps");
    assert_eq!(changed.len(), 6, "each has another ruling: {changed:?}");
    let refused = nlri("203.0.1.0/24").prefix;
    assert!(paths.best(refused).is_none());
    assert_eq!((paths.refused(from), paths.refusals(from).count()), (2, 1));
    let best = paths.best(nlri("2001:db8:2::/48").prefix).unwrap();
    assert_eq!((best.used().local_pref, best.attributes.local_pref), (Some(300), None));
    assert_eq!(best.accepted_by().as_deref(), Some("in/prefer 8"));

    paths.change_rules(from, |sender| sender.import = Import::All);
    changed.clear();
    assert!(paths.judge_some(100, |prefix| changed.push(prefix.to_string())) > 50);
    assert_eq!((changed.len(), paths.refused(from)), (6, 0));
    assert_eq!(paths.best(refused).unwrap().used().local_pref, None);
    // Nothing that is the same is reported.
    paths.change_rules(from, |sender| sender.refuses_bogons = false);
    assert!(paths.judge_some(100, |prefix| panic!("{prefix} is as it was")) > 50);
    // Another choice concerns all of them.
    paths.change_choice();
    changed.clear();
    while paths.is_judging() {
        paths.judge_some(2, |prefix| changed.push(prefix.to_string()));
    }
    assert_eq!(changed.len(), 6);
}

#[test]
fn prefixes_of_several_neighbours_come_in_order_and_each_once() {
    let mut paths = Paths::default();
    let all = [("10.0.0.0/8", 1), ("10.0.0.0/8", 2), ("10.0.0.0/16", 2), ("2001:db8::/32", 1)];
    for id in [1, 2] {
        paths.begin(NeighborId(id), sender(65_002, id as u8));
    }
    for (prefix, id) in all {
        for path_id in [0, u32::MAX] {
            let one = Nlri { path_id, ..nlri(prefix) };
            paths.announce(NeighborId(id), one, &Arc::new(route(&[65_002])));
        }
    }
    let found = |paths: &Paths, after: Option<&str>, of: Option<u32>| -> Vec<String> {
        let after = after.map(|text| text.parse().unwrap());
        paths.prefixes_after(after, of.map(NeighborId)).map(|one| one.to_string()).collect()
    };
    assert_eq!(found(&paths, None, None), ["10.0.0.0/8", "10.0.0.0/16", "2001:db8::/32"]);
    assert_eq!(found(&paths, Some("10.0.0.0/8"), None), ["10.0.0.0/16", "2001:db8::/32"]);
    assert_eq!(found(&paths, None, Some(2)), ["10.0.0.0/8", "10.0.0.0/16"]);
    assert_eq!(found(&paths, Some("2001:db8::/32"), None), [""; 0]);
    paths.forget(NeighborId(2));
    assert_eq!(found(&paths, None, None), ["10.0.0.0/8", "2001:db8::/32"]);
}

#[test]
fn a_neighbor_is_forgotten_in_steps_and_counts_no_more_at_once() {
    let mut paths = Paths::default();
    paths.begin(NeighborId(1), sender(65_002, 2));
    let route = Arc::new(route(&[65_002]));
    let all: Vec<Nlri> =
        (0..10).map(|n| nlri(&format!("203.0.{n}.0/24"))).chain([nlri("2001:db8::/32")]).collect();
    for nlri in &all {
        paths.announce(NeighborId(1), *nlri, &route);
    }
    assert_eq!(paths.count(NeighborId(1), Family::Ipv4), 10);
    paths.begin(NeighborId(2), sender(65_003, 3));
    paths.announce(NeighborId(2), all[3], &route);
    paths.announce(NeighborId(2), nlri("198.51.100.0/24"), &route);
    paths.forget(NeighborId(1));
    assert!(paths.best(all[9].prefix).is_none());
    assert!(paths.is_leaving(NeighborId(1)) && paths.any_leaving());
    let mut gone = Vec::new();
    assert_eq!(paths.forget_some(4, |prefix| gone.push(prefix)), 0);
    assert!((3..=4).contains(&gone.len()), "about as many: {gone:?}");
    assert!(paths.forget_some(100, |prefix| gone.push(prefix)) > 80);
    assert_eq!(gone, all.iter().map(|nlri| nlri.prefix).collect::<Vec<_>>());
    assert!(!paths.is_leaving(NeighborId(1)) && !paths.any_leaving());
    assert_eq!(paths.best(all[3].prefix).unwrap().neighbor, NeighborId(2));
    // One without paths is gone at once, and its number is another's.
    paths.begin(NeighborId(3), sender(65_004, 4));
    paths.forget(NeighborId(3));
    assert!(!paths.any_leaving());
    paths.begin(NeighborId(4), sender(65_005, 5));
    assert_eq!(paths.neighbors.len(), 2);
}

#[derive(Clone, Debug)]
enum Act {
    Announce(u32, usize, u32, u32),
    Withdraw(u32, usize, u32),
    Forget(u32),
    ForgetSome(usize),
}

const PREFIXES: [&str; 6] =
    ["0.0.0.0/0", "9.0.0.0/8", "9.1.0.0/16", "9.1.1.0/24", "2001:db8::/32", "2001:db8:1::/48"];

fn acts() -> impl Strategy<Value = Act> {
    let (neighbor, prefix, path_id) = (0..3_u32, 0..PREFIXES.len(), 0..3_u32);
    let announce = (neighbor.clone(), prefix.clone(), path_id.clone(), 0..4_u32);
    prop_oneof![
        4 => announce.prop_map(|(n, p, id, med)| Act::Announce(n, p, id, med)),
        2 => (neighbor.clone(), prefix, path_id).prop_map(|(n, p, id)| Act::Withdraw(n, p, id)),
        1 => neighbor.prop_map(Act::Forget),
        1 => (0..4_usize).prop_map(Act::ForgetSome),
    ]
}

proptest! {
    #[test]
    fn it_has_what_a_plain_list_has(acts in proptest::collection::vec(acts(), 1..60)) {
        let mut paths = Paths::default();
        let mut model = BTreeMap::new();
        for act in acts {
            match act {
                Act::Announce(n, ..) if paths.is_leaving(NeighborId(n)) => {}
                Act::Announce(n, prefix, path_id, med) => {
                    let id = NeighborId(n);
                    if paths.incoming(id).is_none() {
                        paths.begin(id, sender(65_002 + n, n as u8));
                    }
                    let prefix = PREFIXES[prefix].parse().unwrap();
                    // A path of which the AS is our own is kept and not used.
                    let own = if med == 3 { OWN.local_as } else { 65_002 };
                    let route = Attributes { med: Some(med), ..route(&[own]) };
                    paths.announce(id, Nlri { prefix, path_id }, &Arc::new(route));
                    model.insert((prefix, n, path_id), med);
                }
                Act::Withdraw(n, ..) if paths.is_leaving(NeighborId(n)) => {}
                Act::Withdraw(n, prefix, path_id) => {
                    let prefix = PREFIXES[prefix].parse().unwrap();
                    let had = model.remove(&(prefix, n, path_id)).is_some();
                    prop_assert_eq!(paths.withdraw(NeighborId(n), Nlri { prefix, path_id }), had);
                }
                Act::Forget(n) => {
                    paths.forget(NeighborId(n));
                    model.retain(|&(_, of, _), _| of != n);
                }
                Act::ForgetSome(budget) => drop(paths.forget_some(budget, |_| {})),
            }
            let mut all = BTreeMap::new();
            for prefix in paths.prefixes_after(None, None) {
                for found in paths.of(prefix) {
                    let key = (prefix, found.neighbor.0, found.path_id);
                    let med = found.attributes.med.unwrap();
                    prop_assert_eq!(!found.is_accepted(), med == 3);
                    prop_assert!(all.insert(key, med).is_none());
                }
            }
            prop_assert_eq!(&all, &model);
            for n in (0..3).filter(|n| !paths.is_leaving(NeighborId(*n))) {
                let of = |wanted: fn(&IpPrefix, u32) -> bool| {
                    let mut count = 0;
                    for ((prefix, of, _), med) in &model {
                        count += usize::from(*of == n && wanted(prefix, *med));
                    }
                    count
                };
                let id = NeighborId(n);
                let v4 = of(|prefix, _| matches!(prefix, IpPrefix::V4(_)));
                let v6 = of(|prefix, _| matches!(prefix, IpPrefix::V6(_)));
                prop_assert_eq!(paths.count(id, Family::Ipv4), v4);
                prop_assert_eq!(paths.count(id, Family::Ipv6), v6);
                prop_assert_eq!(paths.refused(id), of(|_, med| med == 3));
            }
        }
        for n in 0..3 {
            paths.forget(NeighborId(n));
        }
        paths.forget_some(1000, |_| {});
        prop_assert!(!paths.any_leaving());
        prop_assert!(paths.v4.is_empty() && paths.v6.is_empty() && paths.numbers.is_empty());
    }
}
