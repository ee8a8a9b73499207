//! Which of several paths to a prefix is used, and by which rule each other one loses.
#![forbid(unsafe_code)]

use std::cmp::Ordering;
use std::net::{IpAddr, Ipv4Addr};

use super::Attributes;

/// A path to a prefix, that may be used: its next hop resolves, no rule or policy refused it.
#[derive(Clone, Copy, Debug)]
pub struct Path<'a> {
    /// What it says of itself.
    pub attributes: &'a Attributes,
    /// Where it came from.
    pub from: PathSource,
}

/// Where a path came from.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct PathSource {
    /// The neighbour is in another AS.
    pub external: bool,
    /// The neighbour's BGP identifier.
    pub router_id: Ipv4Addr,
    /// The neighbour's address.
    pub address: IpAddr,
    /// Which of its paths (RFC 7911).
    pub path_id: u32,
    /// Cost of the way to the next hop.
    pub next_hop_cost: u32,
}

/// What an operator may decide about the choice.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct ChoiceRules {
    /// MEDs of different neighbouring ASes are compared too.
    pub always_compare_med: bool,
}

/// The rules, in the order in which they are asked.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum ChoiceRule {
    /// Higher local preference; a path without one has 100.
    LocalPref,
    /// Fewer ASes in the path; a set counts as one.
    PathLength,
    /// Lower origin: IGP, EGP, incomplete.
    Origin,
    /// Lower MED, among paths by the same neighbouring AS; a path without one has 0.
    Med,
    /// From another AS before from our own.
    External,
    /// Lower cost of the way to the next hop.
    NextHopCost,
    /// Lower originator, or identifier of the neighbour (RFC 4456, section 9).
    RouterId,
    /// Fewer reflectors (RFC 4456, section 9).
    ClusterList,
    /// Lower address of the neighbour.
    Address,
    /// Lower path identifier, of one neighbour.
    PathId,
}

impl ChoiceRule {
    /// What a path has that loses by it, after "it has".
    pub const fn fault(self) -> &'static str {
        match self {
            Self::LocalPref => "a lower local preference",
            Self::PathLength => "a longer AS path",
            Self::Origin => "a worse origin",
            Self::Med => "a higher MED",
            Self::External => "a neighbour in the router's own AS",
            Self::NextHopCost => "a farther next hop",
            Self::RouterId => "a higher router id",
            Self::ClusterList => "more reflectors",
            Self::Address => "a higher address of the neighbour",
            Self::PathId => "a higher path identifier",
        }
    }
}

/// Which path is used, and why each other one is not.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Choice {
    /// Index of the path that is used.
    pub best: usize,
    /// For each path but the best one: which path beats it, and by which rule.
    pub losses: Vec<Option<Loss>>,
}

/// Why a path is not used.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Loss {
    /// Index of a path that beats it.
    pub to: usize,
    /// By this rule.
    pub rule: ChoiceRule,
}

/// Chooses among paths to one prefix (RFC 4271, section 9.1.2.2); `None` if there is none.
///
/// 1. Paths by the same neighbouring AS are compared first, by all rules.
/// 2. The best of each of these ASes are compared by all rules but [`ChoiceRule::Med`], unless
///    [`ChoiceRules::always_compare_med`] says otherwise.
///
/// So the order in which paths came decides nothing ("deterministic MED"). Takes time for each path and each
/// neighbouring AS among them.
pub fn choose(paths: &[Path<'_>], rules: ChoiceRules) -> Option<Choice> {
    // The best of each neighbouring AS so far.
    let mut winners: Vec<(Option<u32>, usize)> = Vec::new();
    let mut losses = vec![None; paths.len()];
    let group = |path: &Path<'_>| {
        if rules.always_compare_med { None } else { path.attributes.as_path.first() }
    };
    for (at, path) in paths.iter().enumerate() {
        let asn = group(path);
        match winners.iter_mut().find(|(other, _)| *other == asn) {
            None => winners.push((asn, at)),
            Some((_, best)) => duel(paths, best, at, true, &mut losses),
        }
    }
    let mut winners = winners.into_iter().map(|(_, at)| at);
    let mut best = winners.next()?;
    for at in winners {
        duel(paths, &mut best, at, false, &mut losses);
    }
    // Of a path that lost to one that lost later, the reason still holds.
    Some(Choice { best, losses })
}

/// The paths that packets go by, each with its tier: 0 is used while one of it lives, then the next.
///
/// * Tier 0: the best path, and up to `multipath` in all of those that only a tie-break puts behind it
///   ([`ChoiceRule::is_tie_break`]).
/// * Then the next best path over another neighbour than those of tier 0; before it, if it is better still, the
///   next best path of one of these with a next hop of its own. So the loss of a next hop and the loss of a
///   neighbour each leave a path.
///
/// A neighbour is known by its address. At most `multipath` and 2 paths.
pub fn rank(paths: &[Path<'_>], rules: ChoiceRules, multipath: usize) -> Vec<(u8, usize)> {
    let Some(Choice { best, losses }) = choose(paths, rules) else { return Vec::new() };
    let mut ranked = vec![(0, best)];
    let is_as_good = |at: usize| {
        let (one, other) = (&paths[best], &paths[at]);
        let with_med = rules.always_compare_med
            || one.attributes.as_path.first() == other.attributes.as_path.first();
        losses[at].is_some_and(|loss| loss.rule.is_tie_break())
            && compare(one, other, with_med).1.is_tie_break()
    };
    if multipath > 1 {
        let mut equal: Vec<usize> = (0..paths.len()).filter(|&at| is_as_good(at)).collect();
        equal.sort_by(|&one, &other| compare(&paths[one], &paths[other], false).0);
        ranked.extend(equal.into_iter().take(multipath - 1).map(|at| (0, at)));
    }
    let neighbors: Vec<IpAddr> = ranked.iter().map(|(_, at)| paths[*at].from.address).collect();
    let is_first = |at: usize| neighbors.contains(&paths[at].from.address);
    let next_hop = |at: usize| paths[at].attributes.next_hop;
    let is_new = |at: usize| {
        !ranked
            .iter()
            .any(|(_, other)| *other == at || is_first(at) && next_hop(*other) == next_hop(at))
    };
    let mut left: Vec<usize> = (0..paths.len()).filter(|&at| is_new(at)).collect();
    for tier in 1.. {
        let compared: Vec<Path<'_>> = left.iter().map(|at| paths[*at]).collect();
        let Some(next) = choose(&compared, rules) else { break };
        let next = left[next.best];
        ranked.push((tier, next));
        if !is_first(next) {
            break;
        }
        left.retain(|&at| !is_first(at));
    }
    ranked
}

/// Which of two different paths is preferred, and the rule by which.
///
/// Among paths by the same neighbouring AS, `with_med`, it is a strict order, as it is among any without MED.
pub fn compare(one: &Path<'_>, other: &Path<'_>, with_med: bool) -> (Ordering, ChoiceRule) {
    use ChoiceRule as Rule;
    let (a, b) = (one.attributes, other.attributes);
    let local_pref = |path: &Attributes| path.local_pref.unwrap_or(LOCAL_PREF_DEFAULT);
    let med = |path: &Attributes| if with_med { path.med.unwrap_or(0) } else { 0 };
    let id = |path: &Path<'_>| path.attributes.originator_id().unwrap_or(path.from.router_id);
    let (from, other_from) = (one.from, other.from);
    let asked: [(Rule, Ordering); 10] = [
        (Rule::LocalPref, local_pref(b).cmp(&local_pref(a))),
        (Rule::PathLength, a.as_path.len().cmp(&b.as_path.len())),
        (Rule::Origin, a.origin.cmp(&b.origin)),
        (Rule::Med, med(a).cmp(&med(b))),
        (Rule::External, other_from.external.cmp(&from.external)),
        (Rule::NextHopCost, from.next_hop_cost.cmp(&other_from.next_hop_cost)),
        (Rule::RouterId, id(one).cmp(&id(other))),
        (Rule::ClusterList, a.cluster_list().len().cmp(&b.cluster_list().len())),
        (Rule::Address, from.address.cmp(&other_from.address)),
        (Rule::PathId, from.path_id.cmp(&other_from.path_id)),
    ];
    let decided = asked.into_iter().find(|(_, order)| order.is_ne());
    let (rule, order) = decided.unwrap_or((Rule::PathId, Ordering::Equal));
    (order, rule)
}

/// The better of two becomes `best`; the other one's loss is noted. Of equal ones the first stays.
fn duel(
    paths: &[Path<'_>],
    best: &mut usize,
    at: usize,
    with_med: bool,
    losses: &mut [Option<Loss>],
) {
    let (order, rule) = compare(&paths[at], &paths[*best], with_med);
    let (winner, loser) = if order.is_lt() { (at, *best) } else { (*best, at) };
    losses[loser] = Some(Loss { to: winner, rule });
    *best = winner;
}

impl ChoiceRule {
    /// Kebab-case, never renamed.
    pub const fn label(self) -> &'static str {
        match self {
            Self::LocalPref => "local-pref",
            Self::PathLength => "path-length",
            Self::Origin => "origin",
            Self::Med => "med",
            Self::External => "external",
            Self::NextHopCost => "next-hop-cost",
            Self::RouterId => "router-id",
            Self::ClusterList => "cluster-list",
            Self::Address => "address",
            Self::PathId => "path-id",
        }
    }

    /// Whether a path that lost by it costs as much as the winner: traffic may go both ways.
    pub fn is_tie_break(self) -> bool {
        self >= Self::RouterId
    }
}

/// RFC 4271 leaves it open; all implementations use this.
const LOCAL_PREF_DEFAULT: u32 = 100;

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;
    use crate::bgp::{AsPath, NextHop, Origin};

    #[derive(Clone, Debug)]
    struct Owned(Attributes, PathSource);

    impl Owned {
        fn path(&self) -> Path<'_> {
            Path { attributes: &self.0, from: self.1 }
        }
    }

    fn base() -> Owned {
        let next_hop = NextHop::new(Ipv4Addr::new(192, 0, 2, 1).into());
        let as_path = AsPath::sequence(&[1, 9]);
        let attributes = Attributes { as_path, ..Attributes::originated(next_hop) };
        let from = PathSource {
            external: true,
            router_id: Ipv4Addr::new(10, 0, 0, 5),
            address: Ipv4Addr::new(10, 0, 0, 5).into(),
            path_id: 5,
            next_hop_cost: 5,
        };
        Owned(attributes, from)
    }

    fn changed(change: impl FnOnce(&mut Owned)) -> Owned {
        let mut path = base();
        change(&mut path);
        path
    }

    fn best(paths: &[Owned], rules: ChoiceRules) -> Choice {
        let paths: Vec<_> = paths.iter().map(Owned::path).collect();
        choose(&paths, rules).unwrap()
    }

    #[test]
    fn each_rule_decides_when_those_before_it_do_not() {
        use ChoiceRule as Rule;
        let set_rare = |path: &mut Owned, clusters: usize| {
            path.0.change_rare(|rare| {
                rare.originator_id = Some(Ipv4Addr::new(10, 0, 0, 5));
                rare.cluster_list = vec![Ipv4Addr::new(1, 1, 1, 1); clusters].into();
            });
        };
        // What is better, and what is worse than the base by the same rule.
        let table: [(Rule, Owned, Owned); 10] = [
            (
                Rule::LocalPref,
                changed(|path| path.0.local_pref = Some(101)),
                changed(|path| path.0.local_pref = Some(99)),
            ),
            (
                Rule::PathLength,
                changed(|path| path.0.as_path = AsPath::sequence(&[1])),
                changed(|path| path.0.as_path = AsPath::sequence(&[1, 1, 9])),
            ),
            (Rule::Origin, base(), changed(|path| path.0.origin = Origin::Egp)),
            (Rule::Med, base(), changed(|path| path.0.med = Some(1))),
            (Rule::External, base(), changed(|path| path.1.external = false)),
            (
                Rule::NextHopCost,
                changed(|path| path.1.next_hop_cost = 4),
                changed(|path| path.1.next_hop_cost = 6),
            ),
            (
                Rule::RouterId,
                changed(|path| path.1.router_id = Ipv4Addr::new(10, 0, 0, 4)),
                changed(|path| path.1.router_id = Ipv4Addr::new(10, 0, 0, 6)),
            ),
            (
                Rule::ClusterList,
                changed(|path| set_rare(path, 0)),
                changed(|path| set_rare(path, 1)),
            ),
            (
                Rule::Address,
                changed(|path| path.1.address = Ipv4Addr::new(10, 0, 0, 4).into()),
                changed(|path| path.1.address = Ipv4Addr::new(10, 0, 0, 6).into()),
            ),
            (Rule::PathId, changed(|path| path.1.path_id = 4), changed(|path| path.1.path_id = 6)),
        ];
        for (rule, better, worse) in table {
            let (order, decided) = compare(&better.path(), &worse.path(), true);
            assert_eq!((order, decided), (Ordering::Less, rule));
            let choice = best(&[worse.clone(), better.clone()], ChoiceRules::default());
            assert_eq!(choice.best, 1);
            assert_eq!(choice.losses, [Some(Loss { to: 1, rule }), None]);
            // Every rule after it says the opposite.
            let mut against = worse;
            if rule < Rule::RouterId {
                against.1.router_id = Ipv4Addr::new(1, 0, 0, 0);
                against.1.address = Ipv4Addr::new(1, 0, 0, 0).into();
                against.1.path_id = 0;
            }
            if rule < Rule::NextHopCost {
                against.1.next_hop_cost = 0;
            }
            assert_eq!(compare(&better.path(), &against.path(), true).1, rule);
        }
    }

    #[test]
    fn the_next_best_is_over_another_neighbour() {
        let path = |neighbor: u8, path_id: u32, hop: u8, med: u32| {
            changed(|path| {
                path.0.next_hop = NextHop::new(Ipv4Addr::new(192, 0, 2, hop).into());
                path.0.med = Some(med);
                path.1.address = Ipv4Addr::new(10, 0, 0, neighbor).into();
                path.1.router_id = Ipv4Addr::new(10, 0, 0, neighbor);
                path.1.path_id = path_id;
            })
        };
        let ranked = |paths: &[Owned], multipath| {
            let compared: Vec<_> = paths.iter().map(Owned::path).collect();
            rank(&compared, ChoiceRules::default(), multipath)
        };
        let (one, two, three) = (path(1, 0, 1, 0), path(2, 0, 2, 0), path(3, 0, 3, 1));
        let all = [three.clone(), two.clone(), one.clone()];
        assert_eq!(ranked(&all, 1), [(0, 2), (1, 1)], "two are enough");
        assert_eq!(ranked(&all, 2), [(0, 2), (0, 1), (1, 0)], "and the next over a third");
        assert_eq!(ranked(&all, 64), [(0, 2), (0, 1), (1, 0)], "MED is no tie-break");
        // Several paths of one neighbour (RFC 7911): one with another next hop counts, one with the same not.
        let second = path(1, 1, 4, 0);
        let same = path(1, 2, 1, 0);
        let all = [one.clone(), same.clone(), second.clone(), two.clone(), three.clone()];
        assert_eq!(ranked(&all, 1), [(0, 0), (1, 2), (2, 3)]);
        assert_eq!(ranked(&all, 2), [(0, 0), (0, 2), (1, 3)]);
        let worse = path(1, 1, 4, 9);
        assert_eq!(ranked(&[one.clone(), worse, two.clone()], 1), [(0, 0), (1, 2)]);
        assert_eq!(ranked(&[one], 4), [(0, 0)]);
        assert_eq!(ranked(&[], 4), []);
        // One that another of its AS beats by MED is not as good as one that only a tie-break beats.
        let of_as = |asn: u32, mut path: Owned| {
            path.0.as_path = AsPath::sequence(&[asn, 9]);
            path
        };
        let all =
            [of_as(7, path(1, 0, 1, 0)), of_as(8, path(2, 0, 2, 5)), of_as(8, path(3, 0, 3, 0))];
        assert_eq!(ranked(&all, 8), [(0, 0), (0, 2), (1, 1)]);
    }

    #[test]
    fn med_counts_within_a_neighbouring_as_unless_always() {
        let path = |asn: u32, med: u32, id: u8| {
            changed(|path| {
                path.0.as_path = AsPath::sequence(&[asn, 9]);
                path.0.med = Some(med);
                path.1.router_id = Ipv4Addr::new(10, 0, 0, id);
            })
        };
        // The well-known circle: without groups the answer depends on the order of arrival.
        let circle = [path(1, 10, 3), path(2, 0, 2), path(1, 0, 9)];
        for order in [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]] {
            let shuffled = order.map(|at| circle[at].clone());
            let choice = best(&shuffled, ChoiceRules::default());
            assert_eq!(order[choice.best], 1, "{order:?}");
            let first = order.iter().position(|at| *at == 0).unwrap();
            assert_eq!(choice.losses[first].map(|loss| loss.rule), Some(ChoiceRule::Med));
        }
        let always = ChoiceRules { always_compare_med: true };
        let two = [path(1, 10, 1), path(2, 0, 2)];
        assert_eq!(best(&two, ChoiceRules::default()).best, 0);
        assert_eq!(best(&two, always).best, 1);
        assert_eq!(choose(&[], always), None);
    }

    prop_compose! {
        fn any_path()(
            path in vec(1..4u32, 1..4),
            local_pref in proptest::option::of(99..102u32),
            (med, cost) in (proptest::option::of(0..3u32), 0..2u32),
            (origin, external) in (0..2usize, any::<bool>()),
            (id, originator) in (0..3u8, proptest::option::of(0..3u8)),
            clusters in 0..3usize,
            (address, path_id) in (0..3u8, 0..3u32),
        ) -> Owned {
            changed(|owned| {
                owned.0.as_path = AsPath::sequence(&path);
                owned.0.local_pref = local_pref;
                owned.0.med = med;
                owned.0.origin = [Origin::Igp, Origin::Incomplete][origin];
                owned.0.change_rare(|rare| {
                    rare.originator_id = originator.map(|id| Ipv4Addr::new(10, 0, 0, id));
                    rare.cluster_list = vec![Ipv4Addr::new(1, 1, 1, 1); clusters].into();
                });
                owned.1 = PathSource {
                    external,
                    router_id: Ipv4Addr::new(10, 0, 0, id),
                    address: Ipv4Addr::new(10, 0, 0, address).into(),
                    path_id,
                    next_hop_cost: cost,
                };
            })
        }
    }

    proptest! {
        #[test]
        fn it_is_a_strict_order_within_a_neighbouring_as(
            one in any_path(), two in any_path(), three in any_path(), with_med: bool,
        ) {
            let (one, two, three) = (one.path(), two.path(), three.path());
            let less = |a, b| compare(a, b, with_med).0;
            prop_assert_eq!(less(&one, &two), less(&two, &one).reverse());
            prop_assert_eq!(compare(&one, &two, with_med).1, compare(&two, &one, with_med).1);
            prop_assert_eq!(less(&one, &one), Ordering::Equal);
            if less(&one, &two).is_le() && less(&two, &three).is_le() {
                prop_assert!(less(&one, &three).is_le());
            }
        }

        #[test]
        fn the_order_of_arrival_decides_nothing(
            paths in vec(any_path(), 1..8), seed: u64, always_compare_med: bool,
        ) {
            let rules = ChoiceRules { always_compare_med };
            let mut shuffled: Vec<usize> = (0..paths.len()).collect();
            let mut rng = crate::random::Rng::new(seed);
            for at in (1..shuffled.len()).rev() {
                shuffled.swap(at, rng.below(at as u64 + 1) as usize);
            }
            let other: Vec<Owned> = shuffled.iter().map(|at| paths[*at].clone()).collect();
            let (first, second) = (best(&paths, rules), best(&other, rules));
            let (a, b) = (&paths[first.best], &other[second.best]);
            prop_assert_eq!(compare(&a.path(), &b.path(), false).0, Ordering::Equal);
            // Nobody of its own AS beats it, and each loser is beaten by whom it says.
            for (at, loss) in first.losses.iter().enumerate() {
                prop_assert_eq!(loss.is_none(), at == first.best);
                let Some(Loss { to, rule }) = *loss else { continue };
                let (winner, loser) = (paths[to].path(), paths[at].path());
                let same = winner.attributes.as_path.first() == loser.attributes.as_path.first();
                let (order, decided) = compare(&winner, &loser, same || always_compare_med);
                prop_assert!(order.is_le());
                prop_assert!(decided == rule || order.is_eq());
            }
        }
    }
}
