//! What is announced of a prefix to a neighbour, and why: one pure function, which what is sent and what is
//! shown are made from.

use std::borrow::Cow;
use std::sync::Arc;

use nearhop_fib::IpPrefix;

use super::learned::{Path, onward};
use super::leave::Leave;
use super::playbook::Played;
use super::proof::Proofs;
use super::reason::Reason;
use super::standing::{Level, Standing};
use crate::bgp::lease::LeaseState;
use crate::bgp::policy::Verdict;
use crate::bgp::session::State;
use crate::bgp::{
    AsPath, Attributes, Community, ExtendedCommunity, NextHop as BgpNextHop, PerFamily, Role,
    otc_to_send,
};
use crate::config::model::{
    Additions, Aggregate, AnnounceWhen, Export, LinkBandwidth, Neighbor, Playbook, Service,
};
use crate::ids::{Family, NeighborId};
use crate::time::Nanos;

/// What is announced of a prefix to a neighbour.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Decision {
    /// With these attributes; `None` is not at all.
    pub announce: Option<Attributes>,
    /// Why.
    pub why: Reason,
    /// Playbooks that change what is announced.
    pub playbooks: Vec<String>,
}

/// A prefix that may be announced.
pub(super) struct Subject<'a> {
    pub(super) prefix: IpPrefix,
    pub(super) of: Of<'a>,
    /// As what it may be announced.
    pub(super) level: Level,
    /// The sum of its sites' weights.
    pub(super) weight: u64,
    /// Why at this level.
    pub(super) why: Reason,
    /// What is needed to announce it to a neighbour first, if anything.
    pub(super) proofs: Option<&'a Proofs>,
}

/// What a prefix is of.
#[derive(Clone, Copy)]
pub(super) enum Of<'a> {
    Aggregate(&'a Aggregate),
    Block,
    /// What a neighbour announces.
    Path(Path<'a>),
    Service(&'a Service),
}

impl<'a> Of<'a> {
    fn additions(self) -> Option<&'a Additions> {
        match self {
            Self::Aggregate(aggregate) => Some(&aggregate.additions),
            Self::Block | Self::Path(_) => None,
            Self::Service(service) => Some(&service.additions),
        }
    }

    /// Whether a neighbour may hear of it: of an aggregate, if it may of every service in it.
    pub(super) fn is_exported(self, neighbor: &Neighbor) -> bool {
        match (&neighbor.export, self) {
            (_, Self::Block) => neighbor.terms.takes_blackholes,
            (_, Self::Path(_)) => neighbor.terms.takes_learned,
            (Export::AllServices, _) | (Export::Aggregates, Self::Aggregate(_)) => true,
            (Export::Aggregates, Self::Service(_)) => false,
            (Export::Services(names), Self::Service(service)) => names.contains(&service.name),
            (Export::Services(names), Self::Aggregate(aggregate)) => {
                aggregate.services.iter().all(|name| names.contains(name))
            }
        }
    }
}

impl<'a> Subject<'a> {
    /// A prefix of a service that stands so.
    pub(super) fn of_service(
        prefix: IpPrefix,
        service: &'a Service,
        (standing, proofs): (&Standing, Option<&'a Proofs>),
    ) -> Self {
        let (well, needed) = (standing.health.well, service.announce.min_sites);
        let why = match standing.level.until {
            Some(until) => Reason::Delayed { until },
            None if service.announce.when == AnnounceWhen::Always => Reason::Always { well },
            None if well >= needed => Reason::Enough { well, needed },
            None => Reason::TooFew { well, needed },
        };
        let (level, weight) = (standing.level.value, standing.weight.value);
        let proofs = proofs.filter(|_| service.announce.when == AnnounceWhen::Proven);
        Self { prefix, of: Of::Service(service), level, weight, why, proofs }
    }

    /// Until when a proof for the neighbour is waited for.
    fn unproven_until(&self, audience: &Audience<'_>) -> Option<Nanos> {
        self.proofs?.open_until(self.prefix, audience.port?)
    }
}

/// A neighbour, as far as announcements depend on it.
#[derive(Clone, Copy)]
pub(super) struct Audience<'a> {
    pub(super) config: &'a Neighbor,
    pub(super) state: State,
    /// The families that are exchanged.
    pub(super) families: PerFamily<bool>,
    pub(super) next_hops: PerFamily<Option<BgpNextHop>>,
    /// The port by which packets from it come in.
    pub(super) port: Option<&'a str>,
    /// Which families it takes several paths of.
    pub(super) several_paths: PerFamily<bool>,
    pub(super) id: NeighborId,
    pub(super) is_internal: bool,
    /// The router's AS.
    pub(super) asn: u32,
}

impl Audience<'_> {
    /// What is prepended to paths: nothing within the AS.
    pub(super) fn prepended(&self) -> Option<u32> {
        (!self.is_internal).then_some(self.asn)
    }
}

/// What else an operator or time decides, for all prefixes.
#[derive(Clone, Copy)]
pub(super) struct Scene<'a> {
    pub(super) leave: Leave,
    /// Those that are applied.
    pub(super) playbooks: &'a [Arc<Playbook>],
}

/// Decides. The first of these that applies is the reason: there is no session; the neighbour's `export`,
/// family or next hop; the router has left; how the prefix stands; it is not proven; a playbook withdraws it; the
/// router leaves.
pub(super) fn decide(
    subject: &Subject<'_>,
    audience: &Audience<'_>,
    scene: &Scene<'_>,
) -> Decision {
    let next_hop = match passage(subject, audience) {
        Ok(next_hop) => next_hop,
        Err(why) => return Decision::not(why),
    };
    if let Leave::Gone(why) = scene.leave {
        return Decision::not(Reason::Left(why));
    }
    if subject.level == Level::Withdrawn {
        return Decision::not(subject.why.clone());
    }
    if let Some(until) = subject.unproven_until(audience) {
        return Decision::not(Reason::Unproven { until });
    }
    let playbooks = scene.playbooks.iter().map(|playbook| &**playbook);
    let Played { withdrawn_by, changes } = Played::of(playbooks, subject, audience);
    if let Some(name) = withdrawn_by {
        return Decision::not(Reason::Playbook(name.to_owned()));
    }
    let steps = changes.iter().map(|(_, step)| &step.additions);
    let attributes = match subject.of {
        Of::Block => Ok(blocked(next_hop, audience)),
        _ => with_additions(subject, audience, (next_hop, scene.leave), steps),
    };
    let attributes = match attributes {
        Ok(attributes) => attributes,
        Err(why) => return Decision::not(why),
    };
    let why = match scene.leave {
        Leave::Warned { until, why } => Reason::Leaving { until, why },
        _ => subject.why.clone(),
    };
    let mut playbooks: Vec<String> = changes.iter().map(|(name, _)| (*name).to_owned()).collect();
    playbooks.dedup();
    Decision { announce: Some(attributes), why, playbooks }
}

/// A prefix whose packets the neighbour is to discard.
fn blocked(next_hop: BgpNextHop, audience: &Audience<'_>) -> Attributes {
    let mut attributes = originated(next_hop, audience);
    attributes.add_communities(&[Community::BLACKHOLE, Community::NO_EXPORT]);
    attributes
}

/// What is said of a prefix, with all that is added to it.
fn with_additions<'a>(
    subject: &Subject<'a>,
    audience: &Audience<'a>,
    (next_hop, leave): (BgpNextHop, Leave),
    played: impl Iterator<Item = &'a Additions>,
) -> Result<Attributes, Reason> {
    let mut attributes = match subject.of {
        Of::Path(path) => onward(path, next_hop, audience).map_err(Reason::NotOnward)?,
        _ => originated(next_hop, audience),
    };
    // What is said first counts where there can be only one of it: what an operator applied, what the prefix
    // says of itself, what all of a neighbour's have.
    let own = subject.of.additions();
    for additions in played.chain(own).chain([&audience.config.terms.additions]) {
        add(&mut attributes, additions, audience);
    }
    if !matches!(subject.of, Of::Path(_)) {
        add_link_bandwidth(&mut attributes, subject.weight, audience);
    }
    attributes = exported(subject.prefix, attributes, audience)?;
    // Last, for no policy is to make it better than others again.
    if subject.level == Level::Deprioritised || leave != Leave::No {
        attributes.deprioritise(audience.prepended());
    }
    Ok(attributes)
}

/// The next hop, or what keeps any service of the kind from the neighbour.
fn passage(subject: &Subject<'_>, audience: &Audience<'_>) -> Result<BgpNextHop, Reason> {
    if audience.state != State::Established {
        return Err(Reason::NoSession(audience.state));
    }
    if !subject.of.is_exported(audience.config) {
        let is_blocked = matches!(subject.of, Of::Block);
        return Err(if is_blocked { Reason::NoBlackholes } else { Reason::NotExported });
    }
    let family = Family::of(subject.prefix.addr());
    if !audience.families.of(family) {
        return Err(Reason::FamilyNotNegotiated);
    }
    audience.next_hops.of(family).ok_or(Reason::NoNextHop)
}

/// What the neighbour's export policy makes of it, if it has one.
fn exported(
    prefix: IpPrefix,
    attributes: Attributes,
    audience: &Audience<'_>,
) -> Result<Attributes, Reason> {
    let Some(policy) = audience.config.export_policy.as_deref() else { return Ok(attributes) };
    match policy.verdict(prefix, &attributes) {
        Verdict::Accepted { attributes, .. } => Ok(attributes.into_owned()),
        Verdict::Refused { by } => {
            let (policy, rule) = (policy.name.clone(), by.map(str::to_owned));
            Err(Reason::Policy { policy, rule })
        }
    }
}

/// A route that begins here.
fn originated(next_hop: BgpNextHop, audience: &Audience<'_>) -> Attributes {
    let mut attributes = Attributes::originated(next_hop);
    if audience.is_internal {
        attributes.local_pref = Some(audience.config.terms.local_pref.unwrap_or(LOCAL_PREF));
    } else {
        attributes.as_path = AsPath::sequence(&[audience.asn]);
    }
    if let Some(remote) = audience.config.role.map(Role::counterpart)
        && let Ok(Some(asn)) = otc_to_send(&attributes, remote, audience.asn)
    {
        attributes.change_rare(|rare| rare.only_to_customer = Some(asn));
    }
    attributes
}

/// Adds what is configured: communities and prepends to those there are; a MED only where there is none.
fn add(attributes: &mut Attributes, additions: &Additions, audience: &Audience<'_>) {
    attributes.add_communities(&additions.communities);
    if !additions.large_communities.is_empty() {
        attributes.change_rare(|rare| {
            let new = additions.large_communities.iter().filter(|one| !rare.large.contains(one));
            rare.large = rare.large.iter().chain(new).copied().collect();
        });
    }
    attributes.med = attributes.med.or(additions.med);
    if additions.prepend > 0 && !audience.is_internal {
        attributes.as_path = attributes.as_path.prepend(audience.asn, additions.prepend);
    }
}

/// What neighbours that have several ways to a prefix spread flows by. Only their ratio counts; one of
/// weight is a megabit per second.
fn add_link_bandwidth(attributes: &mut Attributes, weight: u64, audience: &Audience<'_>) {
    let is_transitive = match audience.config.terms.link_bandwidth {
        LinkBandwidth::Off => return,
        LinkBandwidth::Auto => !audience.is_internal,
        LinkBandwidth::Transitive => true,
        LinkBandwidth::NonTransitive => false,
    };
    // Its field for an AS has two octets; RFC 6793 has a number for those that do not fit.
    let asn = u16::try_from(audience.asn).unwrap_or(AS_TRANS);
    let octets_per_second = weight as f32 * OCTETS_PER_WEIGHT;
    let bandwidth = if is_transitive {
        ExtendedCommunity::transitive_link_bandwidth(asn, octets_per_second)
    } else {
        ExtendedCommunity::link_bandwidth(asn, octets_per_second)
    };
    attributes.change_rare(|rare| rare.extended = [bandwidth].into());
}

impl Decision {
    /// What the neighbour hears of it while the lease is in this state: whoever has the sessions sees to it.
    pub(super) fn under(self, lease: LeaseState, audience: &Audience<'_>) -> Self {
        let Some(ordered) = self.announce.as_ref() else { return self };
        let announce = lease.apply(ordered, audience.prepended()).map(Cow::into_owned);
        if announce == self.announce {
            return self;
        }
        Self { announce, why: Reason::Lease(lease), ..self }
    }

    const fn not(why: Reason) -> Self {
        Self { announce: None, why, playbooks: Vec::new() }
    }
}

/// Of what is announced within the AS.
const LOCAL_PREF: u32 = 100;

const OCTETS_PER_WEIGHT: f32 = 125_000.0;

const AS_TRANS: u16 = 23_456;

#[cfg(test)]
mod tests;
