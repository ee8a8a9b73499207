//! Which routes are taken and sent, and what is changed in them.
//!
//! A [`Policy`] is a list of rules. The first rule that a route meets decides, or changes it and lets the next
//! ones decide. A route that no rule decides about is refused. Every answer names the rule it comes from.
#![forbid(unsafe_code)]

use std::borrow::Cow;

use nearhop_fib::IpPrefix;

use super::prefix_list::PrefixList;
use super::{AsPath, Attributes, Community, LargeCommunity, NextHop};

/// What is done with routes in one direction of one neighbour, or several.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Policy {
    /// What neighbours refer to it by, and `show` calls it.
    pub name: String,
    /// Asked one after the other; at most 65,536.
    pub rules: Vec<PolicyRule>,
}

/// One rule.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct PolicyRule {
    /// What `show` calls it.
    pub name: String,
    /// A route that meets all of them meets the rule; an empty list is met by every route.
    pub matches: Vec<Match>,
    /// What is changed in a route that meets it, in this order.
    pub changes: Vec<Change>,
    /// What becomes of it.
    pub then: Then,
}

/// What becomes of a route that meets a rule.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Then {
    /// It is accepted.
    Accept,
    /// Later rules decide.
    Next,
    /// It is refused.
    Refuse,
}

/// What a rule asks of a route.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Match {
    /// One of these is met at least.
    Any(Vec<Match>),
    /// The path holds this AS.
    AsInPath(u32),
    /// It bears this community.
    Community(Community),
    /// The neighbour it came from, or begins with: the first AS of its path.
    FirstAs(u32),
    /// It bears this large community.
    LargeCommunity(LargeCommunity),
    /// None of these is met.
    Not(Vec<Match>),
    /// The AS it comes from: the last one of its path; `None` is an empty path.
    OriginAs(Option<u32>),
    /// Its path has at most so many ASes.
    PathLengthMax(usize),
    /// Its prefix is in the list.
    Prefix(PrefixList),
}

/// A change to a route.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Change {
    /// Bears it from now on.
    AddCommunity(Community),
    /// Bears it from now on.
    AddLargeCommunity(LargeCommunity),
    /// LOCAL_PREF.
    LocalPref(u32),
    /// MED, or none.
    Med(Option<u32>),
    /// Next hop, of routes whose next hop is of the same family.
    NextHop(NextHop),
    /// The AS in front of the path, so many times more.
    Prepend {
        /// AS, at least 1.
        asn: u32,
        /// Times.
        times: u8,
    },
    /// No longer bears it.
    RemoveCommunity(Community),
    /// No longer bears it.
    RemoveLargeCommunity(LargeCommunity),
    /// Bears none any more, of any kind.
    RemoveCommunities,
}

/// What a policy says of a route.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Verdict<'a> {
    /// It is used with these attributes.
    Accepted {
        /// As they came, or changed.
        attributes: Cow<'a, Attributes>,
        /// The rule's name.
        by: &'a str,
    },
    /// It is kept and shown, and not used.
    Refused {
        /// The rule's name; `None` if no rule decided.
        by: Option<&'a str>,
    },
}

/// How a policy judged a route.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Judged {
    /// It is accepted with the changes of the rules in the trail, the last of which decided.
    Accepted,
    /// The only rule in the trail refused it.
    Refused,
    /// No rule decided, which refuses it. The trail is empty.
    Undecided,
}

impl Policy {
    /// What the policy says of a route.
    pub fn verdict<'a>(&'a self, prefix: IpPrefix, attributes: &'a Attributes) -> Verdict<'a> {
        let mut trail = Vec::new();
        let judged = self.judge(prefix, attributes, &mut trail);
        let by = trail.last().and_then(|&rule| self.rule_name(rule));
        match (judged, by) {
            (Judged::Accepted, Some(by)) => {
                Verdict::Accepted { attributes: self.changed(&trail, attributes), by }
            }
            (_, by) => Verdict::Refused { by },
        }
    }

    /// The name of a rule, by its place.
    pub fn rule_name(&self, rule: u16) -> Option<&str> {
        self.rules.get(usize::from(rule)).map(|rule| rule.name.as_str())
    }

    /// Judges a route. The rules that make up the answer are put into `trail`, which is emptied before.
    pub(super) fn judge(
        &self,
        prefix: IpPrefix,
        attributes: &Attributes,
        trail: &mut Vec<u16>,
    ) -> Judged {
        trail.clear();
        let mut attributes = Cow::Borrowed(attributes);
        for (at, rule) in (0..=u16::MAX).zip(&self.rules) {
            if !rule.matches.iter().all(|one| one.is_met(prefix, &attributes)) {
                continue;
            }
            match rule.then {
                Then::Accept => {
                    trail.push(at);
                    return Judged::Accepted;
                }
                Then::Refuse => {
                    trail.clear();
                    trail.push(at);
                    return Judged::Refused;
                }
                Then::Next if rule.changes.is_empty() => {}
                Then::Next => {
                    trail.push(at);
                    // Later rules see what this one makes of it.
                    rule.changes.iter().for_each(|change| change.apply(attributes.to_mut()));
                }
            }
        }
        trail.clear();
        Judged::Undecided
    }

    /// What the rules of a trail make of a route.
    pub(super) fn changed<'a>(
        &self,
        trail: &[u16],
        attributes: &'a Attributes,
    ) -> Cow<'a, Attributes> {
        let mut attributes = Cow::Borrowed(attributes);
        let rules = trail.iter().filter_map(|&rule| self.rules.get(usize::from(rule)));
        for change in rules.flat_map(|rule| &rule.changes) {
            change.apply(attributes.to_mut());
        }
        attributes
    }
}

impl Match {
    fn is_met(&self, prefix: IpPrefix, attributes: &Attributes) -> bool {
        let path: &AsPath = &attributes.as_path;
        match self {
            Self::Any(matches) => matches.iter().any(|one| one.is_met(prefix, attributes)),
            Self::AsInPath(asn) => path.count(*asn) > 0,
            Self::Community(community) => attributes.has_community(*community),
            Self::FirstAs(asn) => path.first() == Some(*asn),
            Self::LargeCommunity(community) => attributes.large().contains(community),
            Self::Not(matches) => !matches.iter().any(|one| one.is_met(prefix, attributes)),
            Self::OriginAs(None) => path.is_empty(),
            Self::OriginAs(asn) => path.origin() == *asn,
            Self::PathLengthMax(max) => path.len() <= *max,
            Self::Prefix(list) => list.contains(prefix),
        }
    }
}

impl Change {
    fn apply(&self, attributes: &mut Attributes) {
        match self {
            Self::AddCommunity(community) => {
                if !attributes.has_community(*community) {
                    let old = std::mem::take(&mut attributes.communities);
                    attributes.communities = old.into_iter().chain([*community]).collect();
                }
            }
            Self::AddLargeCommunity(community) => {
                if !attributes.large().contains(community) {
                    attributes.change_rare(|rare| {
                        let old = std::mem::take(&mut rare.large);
                        rare.large = old.into_iter().chain([*community]).collect();
                    });
                }
            }
            Self::LocalPref(value) => attributes.local_pref = Some(*value),
            Self::Med(med) => attributes.med = *med,
            Self::NextHop(next_hop) => {
                if next_hop.family() == attributes.next_hop.family() {
                    attributes.next_hop = *next_hop;
                }
            }
            Self::Prepend { asn, times } => {
                attributes.as_path = attributes.as_path.prepend(*asn, *times);
            }
            Self::RemoveCommunity(community) => {
                let old = std::mem::take(&mut attributes.communities);
                attributes.communities = old.into_iter().filter(|one| one != community).collect();
            }
            Self::RemoveLargeCommunity(community) => attributes.change_rare(|rare| {
                let old = std::mem::take(&mut rare.large);
                rare.large = old.into_iter().filter(|one| one != community).collect();
            }),
            Self::RemoveCommunities => {
                attributes.communities = Box::default();
                attributes.change_rare(|rare| {
                    (rare.large, rare.extended) = (Box::default(), Box::default());
                });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;
    use crate::bgp::PrefixEntry;

    fn prefix(text: &str) -> IpPrefix {
        text.parse().unwrap()
    }

    fn route() -> Attributes {
        let next_hop = NextHop::new(Ipv4Addr::new(192, 0, 2, 1).into());
        let mut route = Attributes {
            as_path: AsPath::sequence(&[1, 2, 3]),
            communities: [Community::new(1, 1)].into(),
            ..Attributes::originated(next_hop)
        };
        route.change_rare(|rare| rare.large = [LargeCommunity { global: 1, local: [2, 3] }].into());
        route
    }

    fn rule(name: &str, matches: Vec<Match>, changes: Vec<Change>, then: Then) -> PolicyRule {
        PolicyRule { name: name.into(), matches, changes, then }
    }

    #[test]
    fn each_match_is_met_or_not() {
        let own = prefix("10.0.0.0/8");
        let list = PrefixList::new([PrefixEntry::exactly(own)]);
        let large = |last| LargeCommunity { global: 1, local: [2, last] };
        for (met, not_met) in [
            (Match::AsInPath(2), Match::AsInPath(4)),
            (Match::FirstAs(1), Match::FirstAs(2)),
            (Match::OriginAs(Some(3)), Match::OriginAs(None)),
            (Match::PathLengthMax(3), Match::PathLengthMax(2)),
            (Match::Community(Community::new(1, 1)), Match::Community(Community::NO_EXPORT)),
            (Match::LargeCommunity(large(3)), Match::LargeCommunity(large(4))),
            (Match::Prefix(list), Match::Prefix(PrefixList::default())),
            (
                Match::Any(vec![Match::AsInPath(4), Match::AsInPath(2)]),
                Match::Any(vec![Match::AsInPath(4)]),
            ),
            (Match::Not(vec![Match::AsInPath(4)]), Match::Not(vec![Match::FirstAs(1)])),
        ] {
            assert!(met.is_met(own, &route()), "{met:?}");
            assert!(!not_met.is_met(own, &route()), "{not_met:?}");
        }
    }

    #[test]
    fn the_first_rule_that_decides_is_named_and_those_before_it_change() {
        let policy = Policy {
            name: "p".into(),
            rules: vec![
                rule("no 9", vec![Match::AsInPath(9)], vec![], Then::Refuse),
                rule("prefer", vec![Match::FirstAs(1)], vec![Change::LocalPref(200)], Then::Next),
                rule("seen", vec![Match::FirstAs(1)], vec![], Then::Next),
                rule("long", vec![Match::PathLengthMax(2)], vec![], Then::Accept),
                rule("rest", vec![], vec![Change::Med(Some(7))], Then::Accept),
            ],
        };
        let own = prefix("10.0.0.0/8");
        let came = route();
        let Verdict::Accepted { attributes, by } = policy.verdict(own, &came) else {
            panic!("refused")
        };
        assert_eq!((by, attributes.local_pref, attributes.med), ("rest", Some(200), Some(7)));
        let bad = Attributes { as_path: AsPath::sequence(&[1, 9]), ..route() };
        assert_eq!(policy.verdict(own, &bad), Verdict::Refused { by: Some("no 9") });
        assert_eq!(Policy::default().verdict(own, &came), Verdict::Refused { by: None });
        let mut trail = vec![9];
        assert_eq!(policy.judge(own, &came, &mut trail), Judged::Accepted);
        assert_eq!(trail, [1, 4], "those that change something, and the one that decides");
        assert_eq!(policy.judge(own, &bad, &mut trail), Judged::Refused);
        assert_eq!(trail, [0]);
    }

    /// A later rule sees what an earlier one made of the route.
    #[test]
    fn a_change_is_seen_by_the_next_rules_and_nothing_is_copied_without_one() {
        let mark = Change::AddCommunity(Community::BLACKHOLE);
        let marked = vec![Match::Community(Community::BLACKHOLE)];
        let policy = Policy {
            name: "p".into(),
            rules: vec![
                rule("mark", vec![Match::AsInPath(2)], vec![mark], Then::Next),
                rule("marked", marked, vec![], Then::Refuse),
                rule("rest", vec![], vec![], Then::Accept),
            ],
        };
        let own = prefix("10.0.0.0/8");
        let (came, other) = (route(), Attributes { as_path: AsPath::sequence(&[1]), ..route() });
        assert_eq!(policy.verdict(own, &came), Verdict::Refused { by: Some("marked") });
        let Verdict::Accepted { attributes: Cow::Borrowed(same), by: "rest" } =
            policy.verdict(own, &other)
        else {
            panic!("refused, or copied")
        };
        assert!(std::ptr::eq(same, &raw const other));
    }

    #[test]
    fn changes_change_what_they_say() {
        let large = LargeCommunity { global: 9, local: [9, 9] };
        let all = [
            Change::AddCommunity(Community::BLACKHOLE),
            Change::AddCommunity(Community::BLACKHOLE),
            Change::RemoveCommunity(Community::new(1, 1)),
            Change::AddLargeCommunity(large),
            Change::Prepend { asn: 7, times: 2 },
            Change::Med(None),
            Change::NextHop(NextHop::new(Ipv4Addr::new(192, 0, 2, 9).into())),
        ];
        let mut changed = route();
        for change in &all {
            change.apply(&mut changed);
        }
        assert_eq!(*changed.communities, [Community::BLACKHOLE]);
        assert_eq!(changed.large().last(), Some(&large));
        assert_eq!(changed.as_path.to_string(), "7 7 1 2 3");
        assert_eq!(changed.next_hop.to_string(), "192.0.2.9");
        Change::NextHop(NextHop::new("2001:db8::9".parse().unwrap())).apply(&mut changed);
        assert_eq!(changed.next_hop.to_string(), "192.0.2.9", "of the other family");
        Change::RemoveLargeCommunity(large).apply(&mut changed);
        assert_eq!(changed.large(), route().large());
        Change::RemoveCommunities.apply(&mut changed);
        assert!(changed.communities.is_empty() && changed.rare.is_none());
    }
}
