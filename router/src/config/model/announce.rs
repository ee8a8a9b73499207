//! What is announced by BGP, when, and what is said of it.
#![forbid(unsafe_code)]

use std::fmt;
use std::time::Duration;

use nearhop_fib::IpPrefix;

use crate::bgp::{Community, LargeCommunity};

/// When a service is announced.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct AnnounceRules {
    /// By what it is announced.
    pub when: AnnounceWhen,
    /// How long it waits to be proven; then it is announced like a healthy one.
    pub prove_timeout: Duration,
    /// Sites that have to be well: up, and neither damped, drained nor disabled. At least 1.
    pub min_sites: usize,
    /// What becomes of the service with fewer.
    pub below_min: BelowMin,
    /// From when it may be announced again until it is, after the first withdrawal; doubled by each other
    /// one. Zero is at once, always.
    pub delay: Duration,
}

/// By what a service is announced.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum AnnounceWhen {
    /// Always, whatever becomes of its sites.
    Always,
    /// While enough of its sites are well.
    #[default]
    Healthy,
    /// As healthy ones, but first once a packet that came in by the neighbour's port was answered by a site.
    Proven,
}

/// What becomes of a service that has fewer sites than it needs.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum BelowMin {
    /// It is withdrawn.
    #[default]
    Withdraw,
    /// It is announced as what is taken only where there is nothing else, while any site takes its packets.
    Deprioritise,
}

/// What is added to the attributes of what is announced.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Additions {
    /// Communities (RFC 1997), none twice.
    pub communities: Vec<Community>,
    /// Large communities (RFC 8092), none twice.
    pub large_communities: Vec<LargeCommunity>,
    /// How many times more the router's AS is in front of the path, for neighbors in other ASes.
    pub prepend: u8,
    /// MULTI_EXIT_DISC.
    pub med: Option<u32>,
}

/// As a configuration has it, such as `65001:100, prepend 2`; `none` if nothing is added.
impl fmt::Display for Additions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let plain = self.communities.iter().map(ToString::to_string);
        let large = self.large_communities.iter().map(ToString::to_string);
        let prepend = Some(self.prepend).filter(|&times| times > 0);
        let prepend = prepend.map(|times| format!("prepend {times}"));
        let med = self.med.map(|med| format!("med {med}"));
        let all: Vec<String> = plain.chain(large).chain(prepend).chain(med).collect();
        f.write_str(if all.is_empty() { "none" } else { "" })?;
        f.write_str(&all.join(", "))
    }
}

/// What a neighbor hears of all that is announced to it.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct NeighborTerms {
    /// For every prefix, besides what the prefix itself has.
    pub additions: Additions,
    /// LOCAL_PREF, for a neighbor in the same AS.
    pub local_pref: Option<u32>,
    /// Whether the weights of the sites that are well are announced.
    pub link_bandwidth: LinkBandwidth,
    /// Whether it hears of blocked prefixes (RFC 7999).
    pub takes_blackholes: bool,
    /// Whether it hears of other neighbors' routes.
    pub takes_learned: bool,
}

/// Whether and as what the weight of a prefix is announced (draft-ietf-idr-link-bandwidth).
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum LinkBandwidth {
    /// It is not.
    #[default]
    Off,
    /// Non-transitive to neighbors in the same AS, and transitive to others.
    Auto,
    /// As a community that goes on to other ASes.
    Transitive,
    /// As a community that ends at the border of an AS, as the draft first had it.
    NonTransitive,
}

/// A prefix that is announced while services are.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Aggregate {
    /// The prefix; no service and no other aggregate has it.
    pub prefix: IpPrefix,
    /// How many of the services have to be announced.
    pub condition: AggregateWhile,
    /// The services, at least one, each with a prefix of the family.
    pub services: Vec<String>,
    /// What is said of it.
    pub additions: Additions,
}

/// How many services of an aggregate have to be announced.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum AggregateWhile {
    /// All of them.
    All,
    /// One of them.
    #[default]
    Any,
}

/// A named set of changes to announcements, which an operator applies and undoes.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Playbook {
    /// Its name.
    pub name: String,
    /// What it does, at least one.
    pub steps: Vec<PlaybookStep>,
}

/// What a playbook does to some prefixes for some neighbors.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct PlaybookStep {
    /// Names of the neighbors; all if empty.
    pub neighbors: Vec<String>,
    /// Names of the services; with `prefixes`, all if both are empty.
    pub services: Vec<String>,
    /// Prefixes of services or aggregates.
    pub prefixes: Vec<IpPrefix>,
    /// Whether they are withdrawn.
    pub withdraw: bool,
    /// What is said of them besides.
    pub additions: Additions,
}

/// How the router takes back what it announces.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Leaving {
    /// For how long a router that is drained announces what nobody should prefer, before it withdraws it.
    pub drain_wait: Duration,
    /// What becomes of announcements before the process ends.
    pub on_exit: OnExit,
    /// For how long the router forwards on after each step of that.
    pub exit_wait: Duration,
}

/// What becomes of announcements before the process ends.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum OnExit {
    /// Nothing: sessions end.
    End,
    /// They are deprioritised, then withdrawn.
    GracefulShutdown,
    /// They are withdrawn.
    #[default]
    Withdraw,
}

impl Default for Leaving {
    fn default() -> Self {
        let (drain_wait, exit_wait) = (Duration::from_secs(30), Duration::from_secs(1));
        Self { drain_wait, on_exit: OnExit::default(), exit_wait }
    }
}

impl Default for AnnounceRules {
    fn default() -> Self {
        Self {
            when: AnnounceWhen::default(),
            prove_timeout: Duration::from_secs(10),
            min_sites: 1,
            below_min: BelowMin::default(),
            delay: Duration::from_secs(10),
        }
    }
}
