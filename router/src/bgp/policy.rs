//! Which routes are taken and sent, and what is changed in them.
//!
//! A [`Policy`] is a list of rules. The first rule that a route meets decides, or changes it and lets the next
//! ones decide. A route that no rule decides about is refused, as is every route of an external neighbour
//! without a policy (RFC 8212). Every answer names the rule it comes from.
#![forbid(unsafe_code)]

use std::borrow::Cow;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::LazyLock;

use nearhop_fib::IpPrefix;

use super::{AsPath, Attributes, Community, LargeCommunity, NextHop};

/// What is done with routes in one direction of one neighbour, or several.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Policy {
    /// Asked one after the other.
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

/// Prefixes, each with a range of lengths. The first that covers a prefix of a length in its range decides.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct PrefixList {
    /// In the order in which they are asked.
    pub entries: Vec<PrefixEntry>,
}

/// An entry of a prefix list.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct PrefixEntry {
    /// What covers it.
    pub prefix: IpPrefix,
    /// The least length.
    pub ge: u8,
    /// The greatest length.
    pub le: u8,
    /// Whether a prefix in the range is in the list, or is not.
    pub permit: bool,
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
    /// Next hop.
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
        /// The rule's name.
        by: &'a str,
    },
}

impl Policy {
    /// Accepts every route.
    pub fn accept_all() -> Self {
        let rule = PolicyRule {
            name: "all".into(),
            matches: Vec::new(),
            changes: Vec::new(),
            then: Then::Accept,
        };
        Self { rules: vec![rule] }
    }

    /// What the policy says of a route. `None` in place of a policy refuses, if the neighbour is external
    /// (RFC 8212, section 3), and else accepts.
    pub fn judge<'a>(
        policy: Option<&'a Self>,
        external: bool,
        prefix: IpPrefix,
        attributes: &'a Attributes,
    ) -> Verdict<'a> {
        match policy {
            Some(policy) => policy.verdict(prefix, attributes),
            None if external => Verdict::Refused { by: NO_POLICY },
            None => Verdict::Accepted { attributes: Cow::Borrowed(attributes), by: NO_POLICY },
        }
    }

    fn verdict<'a>(&'a self, prefix: IpPrefix, attributes: &'a Attributes) -> Verdict<'a> {
        let mut attributes = Cow::Borrowed(attributes);
        for rule in &self.rules {
            if !rule.matches.iter().all(|one| one.is_met(prefix, &attributes)) {
                continue;
            }
            if rule.then == Then::Refuse {
                return Verdict::Refused { by: &rule.name };
            }
            for change in &rule.changes {
                change.apply(attributes.to_mut());
            }
            if rule.then == Then::Accept {
                return Verdict::Accepted { attributes, by: &rule.name };
            }
        }
        Verdict::Refused { by: NO_RULE }
    }
}

impl Match {
    fn is_met(&self, prefix: IpPrefix, attributes: &Attributes) -> bool {
        let path: &AsPath = &attributes.as_path;
        match self {
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

impl PrefixList {
    /// Whether the first entry that decides about `prefix` permits it. No entry is no.
    pub fn contains(&self, prefix: IpPrefix) -> bool {
        let decides = self.entries.iter().find(|entry| entry.covers(prefix));
        decides.is_some_and(|entry| entry.permit)
    }
}

impl PrefixEntry {
    /// Exactly this prefix.
    pub fn exactly(prefix: IpPrefix) -> Self {
        Self { prefix, ge: prefix.len(), le: prefix.len(), permit: true }
    }

    /// This prefix and every longer one in it.
    pub fn or_longer(prefix: IpPrefix) -> Self {
        Self { le: bits(prefix), ..Self::exactly(prefix) }
    }

    fn covers(&self, other: IpPrefix) -> bool {
        let is_around = match (self.prefix, other) {
            (IpPrefix::V4(own), IpPrefix::V4(other)) => own.covers(other),
            (IpPrefix::V6(own), IpPrefix::V6(other)) => own.covers(other),
            _ => false,
        };
        is_around && (self.ge..=self.le).contains(&other.len())
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
            Self::NextHop(next_hop) => attributes.next_hop = *next_hop,
            Self::Prepend { asn, times } => {
                attributes.as_path = attributes.as_path.prepend(*asn, *times);
            }
            Self::RemoveCommunity(community) => {
                let old = std::mem::take(&mut attributes.communities);
                attributes.communities = old.into_iter().filter(|one| one != community).collect();
            }
            Self::RemoveCommunities => {
                attributes.communities = Box::default();
                attributes.change_rare(|rare| {
                    (rare.large, rare.extended) = (Box::default(), Box::default());
                });
            }
        }
    }
}

/// A route that no external neighbour should send.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Bogon {
    /// This AS is in its path, and is nobody's (RFC 7607, RFC 4893, RFC 5398, RFC 6996, RFC 7300).
    As(u32),
    /// Its prefix is for special use, or within one that is (RFC 6890), or is all addresses.
    Prefix,
    /// Its prefix is longer than what is exchanged between ASes: /24 or /48.
    TooLong,
}

impl Bogon {
    /// What is wrong with a route, if something is. A prefix of one address to be discarded (RFC 7999) may
    /// be long.
    pub fn of(prefix: IpPrefix, attributes: &Attributes) -> Option<Self> {
        if BOGON_PREFIXES.contains(prefix) || prefix.len() == 0 {
            return Some(Self::Prefix);
        }
        let longest = if bits(prefix) == 32 { 24 } else { 48 };
        if prefix.len() > longest && !attributes.has_community(Community::BLACKHOLE) {
            return Some(Self::TooLong);
        }
        attributes.as_path.ases().find(|asn| is_bogon_as(*asn)).map(Self::As)
    }

    /// Kebab-case, never renamed.
    pub const fn label(self) -> &'static str {
        match self {
            Self::As(_) => "bogon-as",
            Self::Prefix => "bogon-prefix",
            Self::TooLong => "too-long",
        }
    }
}

impl fmt::Display for Bogon {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::As(asn) => write!(f, "AS {asn} in its path is nobody's"),
            Self::Prefix => f.write_str("its addresses are for special use"),
            Self::TooLong => f.write_str("its prefix is longer than what ASes exchange"),
        }
    }
}

fn is_bogon_as(asn: u32) -> bool {
    matches!(
        asn,
        0 | 23_456 | 64_496..=65_551 | 4_200_000_000..=u32::MAX
    )
}

fn bits(prefix: IpPrefix) -> u8 {
    match prefix {
        IpPrefix::V4(_) => 32,
        IpPrefix::V6(_) => 128,
    }
}

static BOGON_PREFIXES: LazyLock<PrefixList> = LazyLock::new(|| {
    let ipv4 = SPECIAL_IPV4.iter().map(|(addr, len)| (IpAddr::V4(Ipv4Addr::from(*addr)), *len));
    let ipv6 = SPECIAL_IPV6.iter().map(|(addr, len)| (IpAddr::V6(Ipv6Addr::from(*addr)), *len));
    let entries = ipv4.chain(ipv6).filter_map(|(addr, len)| IpPrefix::around(addr, len));
    PrefixList { entries: entries.map(PrefixEntry::or_longer).collect() }
});

/// Not globally reachable (registry "IANA IPv4 Special-Purpose Address"), and multicast.
const SPECIAL_IPV4: [([u8; 4], u8); 13] = [
    ([0, 0, 0, 0], 8),
    ([10, 0, 0, 0], 8),
    ([100, 64, 0, 0], 10),
    ([127, 0, 0, 0], 8),
    ([169, 254, 0, 0], 16),
    ([172, 16, 0, 0], 12),
    ([192, 0, 2, 0], 24),
    ([192, 168, 0, 0], 16),
    ([198, 18, 0, 0], 15),
    ([198, 51, 100, 0], 24),
    ([203, 0, 113, 0], 24),
    ([224, 0, 0, 0], 4),
    ([240, 0, 0, 0], 4),
];

/// Not globally reachable (registry "IANA IPv6 Special-Purpose Address"), multicast, and what is not
/// given out at all: everything but 2000::/3.
const SPECIAL_IPV6: [([u16; 8], u8); 9] = [
    ([0, 0, 0, 0, 0, 0, 0, 0], 3),
    ([0x2001, 2, 0, 0, 0, 0, 0, 0], 48),
    ([0x2001, 0x10, 0, 0, 0, 0, 0, 0], 28),
    ([0x2001, 0xdb8, 0, 0, 0, 0, 0, 0], 32),
    ([0x2002, 0, 0, 0, 0, 0, 0, 0], 16),
    ([0x3ffe, 0, 0, 0, 0, 0, 0, 0], 16),
    ([0x3fff, 0, 0, 0, 0, 0, 0, 0], 20),
    ([0x4000, 0, 0, 0, 0, 0, 0, 0], 2),
    ([0x8000, 0, 0, 0, 0, 0, 0, 0], 1),
];

/// Names of verdicts that come from no rule.
const NO_POLICY: &str = "no policy";
const NO_RULE: &str = "no rule";

#[cfg(test)]
mod tests {
    use super::*;

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
    fn a_prefix_list_looks_at_lengths_and_the_first_entry_decides() {
        let entry = |text, ge, le, permit| PrefixEntry { prefix: prefix(text), ge, le, permit };
        let list = PrefixList {
            entries: vec![
                entry("10.1.0.0/16", 16, 32, false),
                entry("10.0.0.0/8", 16, 24, true),
                entry("2001:db8::/32", 48, 48, true),
            ],
        };
        for (text, expected) in [
            ("10.2.0.0/16", true),
            ("10.2.3.0/24", true),
            ("10.0.0.0/8", false),
            ("10.2.3.0/25", false),
            ("10.1.0.0/16", false),
            ("10.1.2.0/24", false),
            ("11.0.0.0/16", false),
            ("2001:db8:1::/48", true),
            ("2001:db8::/32", false),
            ("2001:db9:1::/48", false),
        ] {
            assert_eq!(list.contains(prefix(text)), expected, "{text}");
        }
        assert!(!PrefixList::default().contains(prefix("10.0.0.0/8")));
    }

    #[test]
    fn each_match_is_met_or_not() {
        let own = prefix("10.0.0.0/8");
        let list = PrefixList { entries: vec![PrefixEntry::exactly(own)] };
        let large = |last| LargeCommunity { global: 1, local: [2, last] };
        for (met, not_met) in [
            (Match::AsInPath(2), Match::AsInPath(4)),
            (Match::FirstAs(1), Match::FirstAs(2)),
            (Match::OriginAs(Some(3)), Match::OriginAs(None)),
            (Match::PathLengthMax(3), Match::PathLengthMax(2)),
            (Match::Community(Community::new(1, 1)), Match::Community(Community::NO_EXPORT)),
            (Match::LargeCommunity(large(3)), Match::LargeCommunity(large(4))),
            (Match::Prefix(list), Match::Prefix(PrefixList::default())),
            (Match::Not(vec![Match::AsInPath(4)]), Match::Not(vec![Match::FirstAs(1)])),
        ] {
            assert!(met.is_met(own, &route()), "{met:?}");
            assert!(!not_met.is_met(own, &route()), "{not_met:?}");
        }
    }

    #[test]
    fn the_first_rule_that_decides_is_named_and_those_before_it_change() {
        let policy = Policy {
            rules: vec![
                rule("no 9", vec![Match::AsInPath(9)], vec![], Then::Refuse),
                rule("prefer", vec![Match::FirstAs(1)], vec![Change::LocalPref(200)], Then::Next),
                rule("long", vec![Match::PathLengthMax(2)], vec![], Then::Accept),
                rule("rest", vec![], vec![Change::Med(Some(7))], Then::Accept),
            ],
        };
        let own = prefix("10.0.0.0/8");
        let came = route();
        let Verdict::Accepted { attributes, by } = Policy::judge(Some(&policy), true, own, &came)
        else {
            panic!("refused")
        };
        assert_eq!((by, attributes.local_pref, attributes.med), ("rest", Some(200), Some(7)));
        let bad = Attributes { as_path: AsPath::sequence(&[9]), ..route() };
        let verdict = Policy::judge(Some(&policy), true, own, &bad);
        assert_eq!(verdict, Verdict::Refused { by: "no 9" });
        let empty = Policy::default();
        let verdict = Policy::judge(Some(&empty), false, own, &came);
        assert_eq!(verdict, Verdict::Refused { by: "no rule" });
    }

    #[test]
    fn without_a_policy_an_external_neighbour_neither_sends_nor_receives() {
        let (own, came) = (prefix("10.0.0.0/8"), route());
        let verdict = Policy::judge(None, true, own, &came);
        assert_eq!(verdict, Verdict::Refused { by: "no policy" }, "RFC 8212");
        assert!(matches!(Policy::judge(None, false, own, &came), Verdict::Accepted { .. }));
        let all = Policy::accept_all();
        let Verdict::Accepted { attributes: Cow::Borrowed(same), .. } =
            Policy::judge(Some(&all), true, own, &came)
        else {
            panic!("refused, or copied")
        };
        assert!(std::ptr::eq(same, &raw const came));
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
        Change::RemoveCommunities.apply(&mut changed);
        assert!(changed.communities.is_empty() && changed.rare.is_none());
    }

    #[test]
    fn bogons_are_what_no_external_neighbour_should_send() {
        let good = route();
        for (text, expected) in [
            ("8.8.8.0/24", None),
            ("1.0.0.0/8", None),
            ("2606:4700::/32", None),
            ("0.0.0.0/0", Some(Bogon::Prefix)),
            ("::/0", Some(Bogon::Prefix)),
            ("10.1.0.0/16", Some(Bogon::Prefix)),
            ("192.168.0.0/16", Some(Bogon::Prefix)),
            ("224.0.0.0/8", Some(Bogon::Prefix)),
            ("255.255.255.0/24", Some(Bogon::Prefix)),
            ("2001:db8:1::/48", Some(Bogon::Prefix)),
            ("fe80::/10", Some(Bogon::Prefix)),
            ("fc00::/7", Some(Bogon::Prefix)),
            ("64:ff9b::/96", Some(Bogon::Prefix)),
            ("8.8.8.0/25", Some(Bogon::TooLong)),
            ("2606:4700::/49", Some(Bogon::TooLong)),
        ] {
            assert_eq!(Bogon::of(prefix(text), &good), expected, "{text}");
        }
        let black = Attributes { communities: [Community::BLACKHOLE].into(), ..route() };
        assert_eq!(Bogon::of(prefix("8.8.8.8/32"), &black), None, "RFC 7999");
        for asn in [0, 23_456, 64_496, 64_512, 65_535, 65_551, 4_200_000_000, u32::MAX] {
            let route = Attributes { as_path: AsPath::sequence(&[1, asn]), ..route() };
            assert_eq!(Bogon::of(prefix("8.8.8.0/24"), &route), Some(Bogon::As(asn)));
        }
        for asn in [1, 64_495, 65_552, 4_199_999_999] {
            let route = Attributes { as_path: AsPath::sequence(&[asn]), ..route() };
            assert_eq!(Bogon::of(prefix("8.8.8.0/24"), &route), None, "{asn}");
        }
    }
}
