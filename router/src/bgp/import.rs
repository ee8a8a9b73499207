//! What becomes of a path that a neighbour announces, before it is compared with others.
//!
//! A path is kept as it came, with a [`Ruling`]: a number of its neighbour's [`Rulings`], of which there is
//! one for each way through the rules that some path took. So a path costs four bytes more, whatever a policy
//! says of it, and another policy can judge all paths again.
#![forbid(unsafe_code)]

use std::borrow::Cow;
use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use nearhop_fib::IpPrefix;

use super::policy::{Judged, Policy};
use super::table::Sender;
use super::{Attributes, Bogon, Community, Refusal, otc_received};

/// Which routes of a neighbour are accepted (RFC 8212).
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub enum Import {
    /// None.
    #[default]
    None,
    /// All that are sane.
    All,
    /// Those that are sane and that a policy accepts, as it changes them.
    Policy(Arc<Policy>),
}

/// As the configuration writes it.
impl fmt::Display for Import {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::None => "none",
            Self::All => "all",
            Self::Policy(policy) => &policy.name,
        })
    }
}

/// Why a path is not used.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum NotUsed {
    /// Nothing of this neighbour is accepted.
    Import,
    /// Nobody, or no external neighbour, may announce it.
    Bogon(Bogon),
    /// A loop or a leak.
    Refused(Refusal),
    /// A policy refuses it.
    Policy {
        /// Its name.
        policy: String,
        /// The rule's name; `None` if no rule decided.
        rule: Option<String>,
    },
}

/// What became of a path: which of its neighbour's rulings.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Ruling(u32);

/// What became of a neighbour's paths, and of how many.
#[derive(Debug)]
pub(super) struct Rulings {
    /// How many paths have each.
    counts: Vec<usize>,
    /// Those of policies; their numbers begin behind the fixed ones.
    by_policy: Vec<Option<ByPolicy>>,
    /// Numbers of these that no path has.
    free: Vec<u32>,
    /// Those of the policy in force.
    known: HashMap<Box<[u16]>, Ruling>,
    trail: Vec<u16>,
}

/// A way through the rules of a policy. It holds its policy, so that it still means something while paths are
/// judged again by another.
#[derive(Debug)]
struct ByPolicy {
    policy: Arc<Policy>,
    /// As [`Policy::judge`] says; a route that it does not accept has the rule that refuses it, or none.
    trail: Box<[u16]>,
}

impl Ruling {
    /// It may be used as it came.
    const ACCEPTED: Self = Self(0);

    /// Whether the path may be used.
    pub const fn is_accepted(self) -> bool {
        self.0 & REFUSED == 0
    }

    const fn index(self) -> usize {
        (self.0 & !REFUSED) as usize
    }
}

impl Rulings {
    /// Judges a path, and counts it.
    pub(super) fn judge(
        &mut self,
        sender: &Sender,
        prefix: IpPrefix,
        attributes: &Attributes,
    ) -> Ruling {
        let ruling = match (sender.why_not(prefix, attributes), &sender.import) {
            (Some(why), _) => Ruling(why.fixed() | REFUSED),
            (None, Import::Policy(policy)) => self.by_policy(policy, prefix, attributes),
            (None, _) => Ruling::ACCEPTED,
        };
        self.counts[ruling.index()] += 1;
        ruling
    }

    /// A path has this ruling no more.
    pub(super) fn drop(&mut self, ruling: Ruling) {
        let index = ruling.index();
        self.counts[index] -= 1;
        let Some(place) = index.checked_sub(FIXED).filter(|_| self.counts[index] == 0) else {
            return;
        };
        let Some(gone) = self.by_policy[place].take() else { return };
        self.free.push(index as u32);
        if self.known.get(&gone.trail) == Some(&ruling) {
            self.known.remove(&gone.trail);
        }
    }

    /// Paths are judged by other rules from now on.
    pub(super) fn change(&mut self) {
        self.known.clear();
    }

    /// How many paths may not be used.
    pub(super) fn refused(&self) -> usize {
        let fixed: usize = self.counts[1..FIXED].iter().sum();
        let of = self.by_policy.iter().zip(&self.counts[FIXED..]);
        let refused = of.filter(|(one, _)| one.as_ref().is_some_and(|one| !one.accepts()));
        fixed + refused.map(|(_, count)| count).sum::<usize>()
    }

    /// How many paths are refused why: by the labels of reasons, or `POLICY/RULE`.
    pub(super) fn refusals(&self) -> impl Iterator<Item = (Cow<'static, str>, usize)> {
        let fixed = LABELS.into_iter().map(Cow::Borrowed).zip(self.counts[1..FIXED].iter());
        let of = self.by_policy.iter().zip(&self.counts[FIXED..]);
        let by_policy = of.filter_map(|(one, count)| {
            let one = one.as_ref().filter(|one| !one.accepts())?;
            Some((Cow::Owned(one.to_string()), count))
        });
        fixed.chain(by_policy).map(|(label, count)| (label, *count)).filter(|(_, count)| *count > 0)
    }

    /// The attributes that a path is used with.
    pub(super) fn used<'a>(
        &self,
        sender: &Sender,
        ruling: Ruling,
        attributes: &'a Attributes,
    ) -> Cow<'a, Attributes> {
        let mut used = match self.of_policy(ruling) {
            Some(ByPolicy { policy, trail }) => policy.changed(trail, attributes),
            None => Cow::Borrowed(attributes),
        };
        if !sender.internal && used.has_community(Community::GRACEFUL_SHUTDOWN) {
            // It is about to go: any other path is better (RFC 8326, section 4.2).
            used.to_mut().local_pref = Some(0);
        }
        used
    }

    /// Why a path is not used; `None` if it may be.
    pub(super) fn why(
        &self,
        sender: &Sender,
        (prefix, ruling): (IpPrefix, Ruling),
        attributes: &Attributes,
    ) -> Option<NotUsed> {
        if ruling.is_accepted() {
            return None;
        }
        if let Some(ByPolicy { policy, trail }) = self.of_policy(ruling) {
            let rule = trail.first().and_then(|&rule| policy.rule_name(rule));
            let rule = rule.map(str::to_owned);
            return Some(NotUsed::Policy { policy: policy.name.clone(), rule });
        }
        // Of a path that is yet to be judged again, the reason may be gone.
        Some(sender.why_not(prefix, attributes).unwrap_or(NotUsed::Import))
    }

    /// Policy and rule that accepted a path, if one did.
    pub(super) fn accepted_by(&self, ruling: Ruling) -> Option<String> {
        let by = self.of_policy(ruling).filter(|_| ruling.is_accepted())?;
        Some(by.to_string())
    }

    fn of_policy(&self, ruling: Ruling) -> Option<&ByPolicy> {
        self.by_policy.get(ruling.index().checked_sub(FIXED)?)?.as_ref()
    }

    fn by_policy(
        &mut self,
        policy: &Arc<Policy>,
        prefix: IpPrefix,
        attributes: &Attributes,
    ) -> Ruling {
        let mut trail = std::mem::take(&mut self.trail);
        let accepted = policy.judge(prefix, attributes, &mut trail) == Judged::Accepted;
        let known = self.known.get(trail.as_slice()).copied();
        let ruling = known.unwrap_or_else(|| self.add(policy, &trail, accepted));
        self.trail = trail;
        ruling
    }

    fn add(&mut self, policy: &Arc<Policy>, trail: &[u16], accepted: bool) -> Ruling {
        let one = ByPolicy { policy: Arc::clone(policy), trail: trail.into() };
        let index = self.free.pop().unwrap_or_else(|| {
            self.by_policy.push(None);
            self.counts.push(0);
            (self.counts.len() - 1) as u32
        });
        self.by_policy[index as usize - FIXED] = Some(one);
        let ruling = Ruling(if accepted { index } else { index | REFUSED });
        self.known.insert(trail.into(), ruling);
        ruling
    }
}

impl Default for Rulings {
    fn default() -> Self {
        Self {
            counts: vec![0; FIXED],
            by_policy: Vec::new(),
            free: Vec::new(),
            known: HashMap::new(),
            trail: Vec::new(),
        }
    }
}

impl ByPolicy {
    /// A rule decides in one way only.
    fn accepts(&self) -> bool {
        let last = self.trail.last().and_then(|&rule| self.policy.rules.get(usize::from(rule)));
        last.is_some_and(|rule| rule.then == super::policy::Then::Accept)
    }
}

/// `POLICY/RULE`, or `POLICY/no rule`.
impl fmt::Display for ByPolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rule = self.trail.last().and_then(|&rule| self.policy.rule_name(rule));
        write!(f, "{}/{}", self.policy.name, rule.unwrap_or("no rule"))
    }
}

impl Sender {
    /// Why a path may not be used, policies apart.
    fn why_not(&self, prefix: IpPrefix, attributes: &Attributes) -> Option<NotUsed> {
        if self.import == Import::None {
            return Some(NotUsed::Import);
        }
        if let Some(bogon) = Bogon::martian(prefix, attributes) {
            return Some(NotUsed::Bogon(bogon));
        }
        if let Some(refusal) = self.loops.refusal(attributes) {
            return Some(NotUsed::Refused(refusal));
        }
        let role = self.role.filter(|_| !self.internal);
        let leak = role.and_then(|role| otc_received(attributes, role, self.asn).err());
        if let Some(leak) = leak {
            return Some(NotUsed::Refused(leak));
        }
        let bogon = self.refuses_bogons.then(|| Bogon::of(prefix, attributes)).flatten();
        bogon.map(NotUsed::Bogon)
    }
}

impl NotUsed {
    /// Kebab-case, never renamed; of a policy `POLICY/RULE`.
    pub fn label(&self) -> Cow<'static, str> {
        match self {
            Self::Import => "import-none".into(),
            Self::Bogon(bogon) => bogon.label().into(),
            Self::Refused(refusal) => refusal.label().into(),
            Self::Policy { policy, rule } => {
                format!("{policy}/{}", rule.as_deref().unwrap_or("no rule")).into()
            }
        }
    }

    /// The number of its ruling.
    fn fixed(&self) -> u32 {
        let label = self.label();
        let place = LABELS.iter().position(|one| *one == label);
        place.map_or(0, |place| place as u32) + 1
    }
}

impl fmt::Display for NotUsed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Import => f.write_str("import accepts nothing of this neighbour"),
            Self::Bogon(bogon) => bogon.fmt(f),
            Self::Refused(refusal) => refusal.fmt(f),
            Self::Policy { policy, rule: Some(rule) } => {
                write!(f, "policy {policy} refuses it by rule {rule}")
            }
            Self::Policy { policy, rule: None } => {
                write!(f, "no rule of policy {policy} accepts it")
            }
        }
    }
}

/// The reasons that no policy gives, in the order of their rulings: behind that of what is accepted.
const LABELS: [&str; 10] = [
    "import-none",
    "martian-prefix",
    "martian-as",
    "bogon-prefix",
    "bogon-as",
    "too-long",
    "own-as",
    "originator-loop",
    "cluster-loop",
    "route-leak",
];

/// Rulings that need no policy.
const FIXED: usize = LABELS.len() + 1;

/// Bit of a ruling.
const REFUSED: u32 = 1 << 31;

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;
    use crate::bgp::policy::{Change, Match, PolicyRule, Then};
    use crate::bgp::{AsPath, LoopRules, NextHop, Role};

    fn sender(import: Import) -> Sender {
        let address = Ipv4Addr::new(10, 0, 0, 2);
        let loops = LoopRules {
            local_as: 65_001,
            own_as_max: 0,
            router_id: Ipv4Addr::new(192, 0, 2, 1),
            cluster_id: None,
        };
        Sender {
            asn: 65_002,
            internal: false,
            router_id: address,
            address: address.into(),
            role: None,
            loops,
            import,
            refuses_bogons: false,
        }
    }

    fn route(path: &[u32]) -> Attributes {
        let next_hop = NextHop::new(Ipv4Addr::new(10, 0, 0, 9).into());
        Attributes { as_path: AsPath::sequence(path), ..Attributes::originated(next_hop) }
    }

    fn rule(name: &str, asn: u32, changes: Vec<Change>, then: Then) -> PolicyRule {
        PolicyRule { name: name.into(), matches: vec![Match::AsInPath(asn)], changes, then }
    }

    fn policy() -> Arc<Policy> {
        let rules = vec![
            rule("bad", 9, vec![], Then::Refuse),
            rule("good", 7, vec![Change::LocalPref(300)], Then::Next),
            rule("rest", 65_002, vec![], Then::Accept),
        ];
        Arc::new(Policy { name: "in".into(), rules })
    }

    /// Every reason has its own ruling: a label that the table lacks would count for another.
    #[test]
    fn every_reason_that_needs_no_policy_has_its_number() {
        let reasons = [
            NotUsed::Import,
            NotUsed::Bogon(Bogon::MartianPrefix),
            NotUsed::Bogon(Bogon::MartianAs(0)),
            NotUsed::Bogon(Bogon::Prefix),
            NotUsed::Bogon(Bogon::As(64_512)),
            NotUsed::Bogon(Bogon::TooLong),
            NotUsed::Refused(Refusal::OwnAs { count: 1 }),
            NotUsed::Refused(Refusal::OriginatorLoop),
            NotUsed::Refused(Refusal::ClusterLoop),
            NotUsed::Refused(Refusal::RouteLeak { marked_by: 1 }),
        ];
        let labels: Vec<_> = reasons.iter().map(NotUsed::label).collect();
        assert_eq!(labels, LABELS);
        let numbers: Vec<u32> = reasons.iter().map(NotUsed::fixed).collect();
        assert_eq!(numbers, (1..FIXED as u32).collect::<Vec<_>>());
    }

    #[test]
    fn a_ruling_is_shared_by_all_paths_of_one_way_and_goes_with_the_last() {
        let (mut rulings, from) = (Rulings::default(), sender(Import::Policy(policy())));
        let prefix: IpPrefix = "203.0.113.0/24".parse().unwrap();
        let (good, bad, odd) = (route(&[65_002, 7]), route(&[65_002, 9]), route(&[5]));
        let plain = route(&[65_002]);
        let ruling = rulings.judge(&from, prefix, &good);
        assert_eq!(rulings.judge(&from, prefix, &good), ruling);
        assert_eq!(rulings.used(&from, ruling, &good).local_pref, Some(300));
        assert_eq!(rulings.accepted_by(ruling).as_deref(), Some("in/rest"));
        let other = rulings.judge(&from, prefix, &plain);
        assert_ne!(other, ruling, "not changed on its way");
        assert!(matches!(rulings.used(&from, other, &plain), Cow::Borrowed(_)));
        let refused = rulings.judge(&from, prefix, &bad);
        let why = rulings.why(&from, (prefix, refused), &bad).unwrap();
        assert_eq!(why.to_string(), "policy in refuses it by rule bad");
        let undecided = rulings.judge(&from, prefix, &odd);
        let why = rulings.why(&from, (prefix, undecided), &odd).unwrap();
        assert_eq!(why.to_string(), "no rule of policy in accepts it");
        let all: Vec<_> = rulings.refusals().collect();
        assert_eq!(all, [("in/bad".into(), 1), ("in/no rule".into(), 1)]);
        assert_eq!(rulings.refused(), 2);

        // By another policy all are judged again; the rulings of the first go with its last path.
        rulings.change();
        let all = sender(Import::All);
        for (route, old) in [(&good, ruling), (&good, ruling), (&plain, other), (&bad, refused)] {
            assert_eq!(rulings.judge(&all, prefix, route), Ruling::ACCEPTED);
            rulings.drop(old);
        }
        assert_eq!((rulings.refused(), rulings.by_policy.iter().flatten().count()), (1, 1));
        rulings.drop(undecided);
        assert_eq!((rulings.refused(), rulings.free.len()), (0, 4), "their numbers are used again");
        let again = rulings.judge(&from, prefix, &good);
        assert!(again.index() < FIXED + 4);
    }

    #[test]
    fn what_is_not_sane_is_refused_whatever_the_policy_says() {
        let mut rulings = Rulings::default();
        let all = || sender(Import::All);
        let strict = Sender { refuses_bogons: true, ..all() };
        let customer = Sender { role: Some(Role::Customer), ..all() };
        let mut leak = route(&[65_002]);
        leak.change_rare(|rare| rare.only_to_customer = Some(65_009));
        let long = "203.0.113.0/25";
        for (from, prefix, route, why) in [
            (&all(), "203.0.113.0/24", route(&[65_002, 65_001]), "own-as"),
            (&all(), "127.0.0.0/8", route(&[65_002]), "martian-prefix"),
            (&all(), "203.0.113.0/24", route(&[65_002, 23_456]), "martian-as"),
            (&sender(Import::Policy(policy())), "fe80::/64", route(&[7]), "martian-prefix"),
            (&customer, "203.0.113.0/24", leak, "route-leak"),
            (&sender(Import::None), "203.0.113.0/24", route(&[65_002]), "import-none"),
            (&strict, "10.0.0.0/8", route(&[3_356]), "bogon-prefix"),
            (&strict, "8.8.8.0/25", route(&[3_356]), "too-long"),
            (&strict, "8.8.8.0/24", route(&[3_356, 64_512]), "bogon-as"),
            (&strict, "8.8.8.0/24", route(&[3_356]), ""),
            (&strict, "0.0.0.0/0", route(&[3_356]), ""),
            (&all(), long, route(&[64_512]), ""),
        ] {
            let prefix: IpPrefix = prefix.parse().unwrap();
            let ruling = rulings.judge(from, prefix, &route);
            let found = rulings.why(from, (prefix, ruling), &route);
            assert_eq!(found.map_or("".into(), |found| found.label()), why, "{prefix} {route:?}");
            assert_eq!(ruling.is_accepted(), why.is_empty());
        }
    }
}
