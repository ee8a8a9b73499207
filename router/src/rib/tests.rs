//! The RIB against a model that makes everything again after each change, and single cases.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use nearhop_fib::{AdjacencyId, IpPrefix, Member, PathId};
use proptest::prelude::*;

use super::table::RouteTable;
use super::*;

fn way(number: u32) -> Way {
    Way { path: PathId(number), adjacency: AdjacencyId(number) }
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn prefix(text: &str) -> IpPrefix {
    text.parse().unwrap()
}

fn via_way(number: u32) -> NextHops {
    NextHops::Via(vec![NextHop::Way(way(number))])
}

fn via(addresses: &[&str]) -> NextHops {
    NextHops::Via(addresses.iter().map(|text| NextHop::Address(ip(text))).collect())
}

fn forget_dirty(rib: &mut Rib) {
    rib.dirty().take_sets();
    while rib.dirty().take_longest().is_some() {}
}

/// A RIB to which single routes are offered, each holding its set.
#[derive(Default)]
struct Rig {
    rib: Rib,
    held: BTreeMap<(IpPrefix, Source), SetId>,
}

impl Rig {
    fn offer(&mut self, prefix: IpPrefix, source: Source, hops: NextHops) {
        let set = self.rib.hold(hops);
        self.rib.offer(prefix, Candidate { source, set });
        if let Some(old) = self.held.insert((prefix, source), set) {
            self.rib.release(old);
        }
    }

    fn withdraw(&mut self, prefix: IpPrefix, source: Source) {
        self.rib.withdraw(prefix, source);
        if let Some(old) = self.held.remove(&(prefix, source)) {
            self.rib.release(old);
        }
    }

    fn settle(&mut self) {
        self.rib.resolve();
        while !self.rib.sweep(3) {}
    }

    fn leads_to(&self, text: &str) -> Option<Vec<u32>> {
        let used = self.rib.used(prefix(text))?;
        Some(self.rib.members(used.set).iter().map(|way| way.path.0).collect())
    }

    fn why(&self, address: &str) -> Option<Unresolved> {
        self.rib.unresolved().find(|(of, _)| *of == ip(address)).map(|(_, why)| why)
    }
}

#[test]
fn a_next_hop_leads_to_what_the_longest_route_to_it_leads_to() {
    let mut rig = Rig::default();
    rig.offer(prefix("10.1.0.0/24"), Source::Connected, via_way(1));
    rig.offer(prefix("10.2.0.0/24"), Source::Connected, via_way(2));
    rig.offer(prefix("192.0.2.0/24"), Source::Static, via(&["10.1.0.9", "10.2.0.9"]));
    rig.offer(prefix("203.0.113.0/24"), Source::Static, via(&["192.0.2.7"]));
    rig.settle();
    assert_eq!(rig.leads_to("203.0.113.0/24"), Some(vec![1, 2]), "by way of both");
    forget_dirty(&mut rig.rib);
    // A longer route to one of them: the sets are dirty, no prefix but its own is.
    rig.offer(prefix("10.2.0.8/29"), Source::Static, via_way(3));
    rig.settle();
    assert_eq!(rig.leads_to("203.0.113.0/24"), Some(vec![1, 3]));
    assert_eq!(rig.rib.dirty().take_longest(), Some(prefix("10.2.0.8/29")));
    assert_eq!(rig.rib.dirty().take_longest(), None);
    assert_eq!(rig.rib.dirty().take_sets().len(), 3, "the new one, and the two that lead on");
    // IPv6 routes over IPv4 next hops too (RFC 8950 the other way round).
    rig.offer(prefix("2001:db8::/32"), Source::Static, via(&["10.1.0.1"]));
    rig.settle();
    assert_eq!(rig.leads_to("2001:db8::/32"), Some(vec![1]));
}

#[test]
fn a_route_whose_next_hops_lead_nowhere_gives_way_to_the_next_source() {
    let mut rig = Rig::default();
    rig.offer(prefix("0.0.0.0/0"), Source::Static, via_way(9));
    rig.offer(prefix("192.0.2.0/24"), Source::Static, via(&["10.1.0.9"]));
    rig.offer(prefix("192.0.2.0/24"), Source::File(0), via_way(2));
    rig.settle();
    assert_eq!(rig.leads_to("192.0.2.0/24"), Some(vec![2]));
    assert_eq!(rig.why("10.1.0.9"), Some(Unresolved::NoRoute), "a default route does not count");
    rig.offer(prefix("10.0.0.0/8"), Source::Static, via_way(1));
    rig.settle();
    assert_eq!(rig.leads_to("192.0.2.0/24"), Some(vec![1]), "it is used once it leads somewhere");
    for (hops, why) in [
        (NextHops::Local, Unresolved::Own),
        (NextHops::Blackhole, Unresolved::Discarded),
        (
            NextHops::Service(ServiceSet {
                service: "www".into(),
                family: crate::ids::Family::Ipv4,
                prefix: None,
                leads_on: true,
            }),
            Unresolved::Service,
        ),
    ] {
        rig.offer(prefix("10.1.0.9/32"), Source::Local, hops);
        rig.settle();
        assert_eq!(rig.why("10.1.0.9"), Some(why));
        assert_eq!(rig.leads_to("192.0.2.0/24"), Some(vec![2]));
    }
}

#[test]
fn loops_resolve_nothing_also_those_that_arise_later() {
    let mut rig = Rig::default();
    rig.offer(prefix("10.1.0.0/24"), Source::Connected, via_way(1));
    rig.offer(prefix("192.0.2.0/24"), Source::Static, via(&["10.1.0.9"]));
    rig.offer(prefix("203.0.113.0/24"), Source::Static, via(&["192.0.2.7"]));
    rig.settle();
    assert_eq!(rig.leads_to("203.0.113.0/24"), Some(vec![1]));
    rig.offer(prefix("10.1.0.9/32"), Source::Static, via(&["203.0.113.1"]));
    rig.settle();
    for text in ["203.0.113.0/24", "192.0.2.0/24", "10.1.0.9/32"] {
        assert_eq!(rig.leads_to(text), None, "{text}");
    }
    assert_eq!(rig.why("203.0.113.1"), Some(Unresolved::Loop));
    rig.withdraw(prefix("10.1.0.9/32"), Source::Static);
    rig.settle();
    assert_eq!(rig.leads_to("203.0.113.0/24"), Some(vec![1]), "as before");
    // A prefix that would be reached through itself.
    rig.offer(prefix("172.16.0.0/12"), Source::Static, via(&["172.16.0.1"]));
    rig.settle();
    assert_eq!(rig.leads_to("172.16.0.0/12"), None);
    assert_eq!(rig.why("172.16.0.1"), Some(Unresolved::Loop));
}

#[test]
fn a_table_takes_the_place_of_another_in_steps() {
    let routes = |texts: &[(&str, u32)]| -> RouteTable<NextHops> {
        texts.iter().map(|&(text, number)| (prefix(text), via_way(number))).collect()
    };
    let mut rib = Rib::default();
    let hold = |rib: &mut Rib, table: &RouteTable<NextHops>| Offered {
        prefixes: Arc::clone(&table.prefixes),
        sets: table.targets.iter().map(|hops| rib.hold(hops.clone())).collect(),
    };
    let first = routes(&[("10.0.0.0/8", 1), ("10.1.0.0/16", 2), ("2001:db8::/32", 1)]);
    let second = routes(&[
        ("10.0.0.0/8", 1),
        ("10.1.0.0/16", 3),
        ("10.2.0.0/16", 1),
        ("10.2.0.0/16", 2),
        ("2001:db8:1::/48", 1),
    ]);
    let (old, new) = (hold(&mut rib, &first), hold(&mut rib, &second));
    let mut feed = Feed::new(Source::Static, Offered::default(), old.clone());
    while !feed.step(&mut rib, 2) {}
    assert_eq!(rib.len(), (2, 1));
    forget_dirty(&mut rib);
    let mut feed = Feed::new(Source::Static, old, new);
    let mut steps = 1;
    while !feed.step(&mut rib, 2) {
        steps += 1;
    }
    assert_eq!(steps, 3);
    assert_eq!(rib.len(), (3, 1));
    let mut dirty: Vec<String> =
        std::iter::from_fn(|| rib.dirty().take_longest()).map(|p| p.to_string()).collect();
    dirty.sort();
    let want = ["10.1.0.0/16", "10.2.0.0/16", "2001:db8:1::/48", "2001:db8::/32"];
    assert_eq!(dirty, want, "what differs, and nothing else");
    let of = |text: &str| rib.used(prefix(text)).map(|used| rib.members(used.set)[0].path.0);
    assert_eq!(of("10.2.0.0/16"), Some(2), "the last of two");
    assert_eq!(rib.find(&via_way(2)), rib.used(prefix("10.2.0.0/16")).map(|used| used.set));
}

use std::sync::Arc;

/// What happens in a random history.
#[derive(Clone, Debug)]
enum Change {
    Offer(IpPrefix, Source, NextHops),
    Withdraw(IpPrefix, Source),
}

/// Nested prefixes, so that covers change.
const PREFIXES: [&str; 12] = [
    "0.0.0.0/0",
    "10.0.0.0/8",
    "10.0.0.0/24",
    "10.0.0.0/30",
    "10.0.0.1/32",
    "10.0.0.2/32",
    "10.0.1.0/24",
    "10.0.1.1/32",
    "10.0.1.128/25",
    "2001:db8::/32",
    "2001:db8::1/128",
    "2001:db8:1::/48",
];

const ADDRESSES: [&str; 6] =
    ["10.0.0.1", "10.0.0.2", "10.0.1.1", "10.0.1.200", "2001:db8::1", "2001:db8:1::9"];

fn sources() -> impl Strategy<Value = Source> {
    let all = [Source::Local, Source::Connected, Source::Service, Source::Static, Source::File(3)];
    proptest::sample::select(all.to_vec())
}

fn next_hops() -> impl Strategy<Value = NextHops> {
    let hop = prop_oneof![
        (1..4_u32).prop_map(|number| NextHop::Way(way(number))),
        proptest::sample::select(ADDRESSES.to_vec()).prop_map(|text| NextHop::Address(ip(text))),
        proptest::sample::select(ADDRESSES.to_vec()).prop_map(|text| NextHop::Address(ip(text))),
    ];
    prop_oneof![
        Just(NextHops::Local),
        Just(NextHops::Prohibit),
        Just(NextHops::Service(ServiceSet {
            service: "www".into(),
            family: crate::ids::Family::Ipv4,
            prefix: None,
            leads_on: true,
        })),
        proptest::collection::vec(hop.clone(), 1..3).prop_map(NextHops::Via),
        proptest::collection::vec(hop.clone(), 1..3).prop_map(NextHops::Via),
        proptest::collection::vec(hop, 1..2).prop_map(NextHops::Via),
    ]
}

fn changes() -> impl Strategy<Value = Change> {
    let prefix = || proptest::sample::select(PREFIXES.to_vec()).prop_map(prefix);
    prop_oneof![
        (prefix(), sources(), next_hops()).prop_map(|(p, s, h)| Change::Offer(p, s, h)),
        (prefix(), sources(), next_hops()).prop_map(|(p, s, h)| Change::Offer(p, s, h)),
        (prefix(), sources()).prop_map(|(p, s)| Change::Withdraw(p, s)),
    ]
}

type Model = BTreeMap<IpPrefix, BTreeMap<Source, NextHops>>;

/// For every address that is a next hop, the adjacencies it leads to: grown from nothing until nothing
/// is added.
fn resolved(model: &Model) -> BTreeMap<IpAddr, BTreeSet<u32>> {
    let mut resolved: BTreeMap<IpAddr, BTreeSet<u32>> =
        ADDRESSES.iter().map(|text| (ip(text), BTreeSet::new())).collect();
    loop {
        let mut next = resolved.clone();
        for (&address, ways) in &mut next {
            let covers = model.iter().filter(|(prefix, by_source)| {
                prefix.len() > 0 && prefix.contains(address) && !by_source.is_empty()
            });
            let Some((_, by_source)) = covers.max_by_key(|(prefix, _)| prefix.len()) else {
                continue;
            };
            let best = by_source.values().next().unwrap();
            ways.extend(flat(best, &resolved).unwrap_or_default());
        }
        if next == resolved {
            return resolved;
        }
        resolved = next;
    }
}

/// The adjacencies that next hops lead to; `None` for what is no `Via`.
fn flat(hops: &NextHops, resolved: &BTreeMap<IpAddr, BTreeSet<u32>>) -> Option<BTreeSet<u32>> {
    let NextHops::Via(hops) = hops else { return None };
    let of = |hop: &NextHop| match hop {
        NextHop::Way(way) => BTreeSet::from([way.path.0]),
        NextHop::Address(address) => resolved[address].clone(),
    };
    Some(hops.iter().flat_map(of).collect())
}

/// What packets follow that the used route's service does not take.
fn next_of_model(model: &Model, prefix: IpPrefix) -> Option<String> {
    if !matches!(model.get(&prefix)?.get(&Source::Service), Some(NextHops::Service(_))) {
        return None;
    }
    let mut without = model.clone();
    without.get_mut(&prefix)?.remove(&Source::Service);
    // What it resolves by is as it is with the service.
    let resolved = resolved(model);
    without[&prefix].iter().find_map(|(source, hops)| match flat(hops, &resolved) {
        None => Some(format!("{source:?} {hops:?}")),
        Some(ways) if ways.is_empty() => None,
        Some(ways) => Some(format!("{source:?} {ways:?}")),
    })
}

/// What a prefix's used route leads to, as text; `None` without one.
fn of_model(model: &Model, prefix: IpPrefix) -> Option<String> {
    let resolved = resolved(model);
    model.get(&prefix)?.iter().find_map(|(source, hops)| match flat(hops, &resolved) {
        None => Some(format!("{source:?} {hops:?}")),
        Some(ways) if ways.is_empty() => None,
        Some(ways) => Some(format!("{source:?} {ways:?}")),
    })
}

fn of_rib(rib: &Rib, prefix: IpPrefix) -> Option<String> {
    Some(text_of(rib, rib.used(prefix)?))
}

fn text_of(rib: &Rib, used: Candidate) -> String {
    let source = used.source;
    match rib.next_hops(used.set).unwrap() {
        NextHops::Via(_) => {
            let ways: BTreeSet<u32> = rib.members(used.set).iter().map(|way| way.path.0).collect();
            format!("{source:?} {ways:?}")
        }
        hops => format!("{source:?} {hops:?}"),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn it_is_as_a_model_that_makes_everything_again(
        history in proptest::collection::vec(proptest::collection::vec(changes(), 1..6), 1..12)
    ) {
        let mut rig = Rig::default();
        let mut model = Model::new();
        // What a reader of what is dirty believes of each prefix: which set it leads to, and that set to what.
        let mut believed: BTreeMap<IpPrefix, Option<Lead>> = BTreeMap::new();
        let mut contents: BTreeMap<SetId, Vec<Member>> = BTreeMap::new();
        for batch in history {
            for change in batch {
                match change {
                    Change::Offer(prefix, source, hops) => {
                        rig.offer(prefix, source, hops.clone());
                        model.entry(prefix).or_default().insert(source, hops);
                    }
                    Change::Withdraw(prefix, source) => {
                        rig.withdraw(prefix, source);
                        model.entry(prefix).or_default().remove(&source);
                    }
                }
            }
            rig.settle();
            for set in rig.rib.dirty().take_sets() {
                contents.insert(set, rig.rib.members(set).to_vec());
            }
            while let Some(prefix) = rig.rib.dirty().take_longest() {
                let lead = rig.rib.lead(prefix);
                believed.insert(prefix, lead);
                if let Some(Lead { set, .. }) = lead {
                    contents.entry(set).or_insert_with(|| rig.rib.members(set).to_vec());
                }
            }
            for prefix in PREFIXES.map(prefix) {
                prop_assert_eq!(of_rib(&rig.rib, prefix), of_model(&model, prefix), "{}", prefix);
                let next = rig.rib.next_best(prefix).map(|next| text_of(&rig.rib, next));
                let is_service = rig.rib.used(prefix).is_some_and(|used| used.source == Source::Service);
                if is_service {
                    prop_assert_eq!(next, next_of_model(&model, prefix), "{} leads on", prefix);
                }
                let lead = rig.rib.lead(prefix);
                prop_assert_eq!(believed.get(&prefix).copied().flatten(), lead, "{} is dirty", prefix);
                if let Some(Lead { set, .. }) = lead {
                    prop_assert_eq!(&contents[&set][..], rig.rib.members(set), "{:?} is dirty", set);
                }
            }
            // What is unresolved is so in the model, and has a reason.
            let resolved = resolved(&model);
            for (address, why) in rig.rib.unresolved() {
                prop_assert!(resolved[&address].is_empty(), "{} {:?}", address, why);
            }
        }
        // Nothing stays of what nobody offers any more.
        for (prefix, source) in rig.held.clone().into_keys() {
            rig.withdraw(prefix, source);
        }
        rig.settle();
        prop_assert!(rig.rib.is_empty() && rig.rib.tracked.is_empty() && rig.rib.over.is_empty());
        prop_assert!(rig.rib.v4.others.is_empty() && rig.rib.v6.others.is_empty());
    }
}
