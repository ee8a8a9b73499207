//! What other neighbours announce, as far as it is announced onward.

use std::collections::BTreeMap;
use std::fmt;

use nearhop_fib::IpPrefix;

use super::super::{NeighborState, Paths};
use super::decide::{Audience, Decision, Of, Scene, Subject, decide};
use super::reason::Reason;
use super::standing::Level;
use super::told::PathKey;
use crate::bgp::table::Found;
use crate::bgp::{Attributes, Community, NextHop, Role, otc_to_send};
use crate::ids::{Family, NeighborId};
use crate::rib::{Rib, Source};

/// The paths of all neighbours, and which of them packets go by.
#[derive(Clone, Copy)]
pub(super) struct Learned<'a> {
    pub(super) paths: &'a Paths,
    pub(super) rib: &'a Rib,
    pub(super) neighbors: &'a BTreeMap<NeighborId, NeighborState>,
}

/// A path that may be announced onward.
#[derive(Clone, Copy)]
pub(super) struct Path<'a> {
    pub(super) found: Found<'a>,
}

/// Why a path is not announced onward to a neighbour, whatever is configured of it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum NotOnward {
    /// It bears a community that says so (RFC 1997).
    Community(Community),
    /// Both neighbours are in the router's own AS, which is no reflector (RFC 4271, section 9.2).
    Internal,
    /// Only customers may hear of it (RFC 9234).
    Leak,
    /// The neighbour announces it.
    Own,
}

impl fmt::Display for NotOnward {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Community(community) => write!(f, "its path bears {community}"),
            Self::Internal => f.write_str("it came from the router's own AS, as this neighbour is"),
            Self::Leak => f.write_str("only customers may hear of it (RFC 9234)"),
            Self::Own => f.write_str("the neighbour announces it itself"),
        }
    }
}

impl Learned<'_> {
    /// What is decided about paths to a prefix that the router itself does not announce, the best first: about the
    /// best one, or about those of which the neighbour hears and the better ones if it takes several.
    pub(super) fn decide(
        self,
        prefix: IpPrefix,
        audience: &Audience<'_>,
        scene: &Scene<'_>,
    ) -> Vec<(PathKey, Decision)> {
        let is_used = self.rib.used(prefix).is_some_and(|used| used.source == Source::Bgp);
        if !audience.config.terms.takes_learned || !is_used {
            return Vec::new();
        }
        let is_several = *audience.several_paths.of(Family::of(prefix.addr()));
        let (examined, announced_max) =
            if is_several { (PATHS_EXAMINED, PATHS_MAX) } else { (1, 1) };
        let (mut decisions, mut announced) = (Vec::new(), 0);
        for found in self.paths.best_first(prefix, examined) {
            let from = self.neighbors.get(&found.neighbor);
            let from = from.map(|state| state.config.name.clone()).unwrap_or_default();
            let subject = Subject {
                prefix,
                of: Of::Path(Path { found }),
                level: Level::Full,
                weight: 0,
                why: Reason::Learned { from },
                proofs: None,
            };
            let decision = decide(&subject, audience, scene);
            announced += usize::from(decision.announce.is_some());
            decisions.push(((found.neighbor, found.path_id), decision));
            if announced == announced_max {
                break;
            }
        }
        decisions
    }

    /// The first prefix after one to which a neighbour announces a path.
    pub(super) fn following(self, after: Option<IpPrefix>) -> Option<IpPrefix> {
        self.paths.prefixes_after(after, None).next()
    }
}

/// A path as another neighbour hears of it: the router is its next hop.
pub(super) fn onward(
    Path { found }: Path<'_>,
    next_hop: NextHop,
    audience: &Audience<'_>,
) -> Result<Attributes, NotOnward> {
    if found.neighbor == audience.id {
        return Err(NotOnward::Own);
    }
    if found.is_internal() && audience.is_internal {
        return Err(NotOnward::Internal);
    }
    let mut attributes = found.used().into_owned();
    // Without confederations NO_EXPORT_SUBCONFED means the same as NO_EXPORT.
    let outward = [Community::NO_EXPORT, Community::NO_EXPORT_SUBCONFED];
    let outward = outward.into_iter().filter(|_| !audience.is_internal);
    let mut forbidding = [Community::NO_ADVERTISE].into_iter().chain(outward);
    if let Some(community) = forbidding.find(|one| attributes.has_community(*one)) {
        return Err(NotOnward::Community(community));
    }
    let mut only_to_customer = attributes.only_to_customer();
    if let Some(remote) = audience.config.role.map(Role::counterpart) {
        only_to_customer =
            otc_to_send(&attributes, remote, audience.asn).map_err(|_| NotOnward::Leak)?;
    }
    attributes.next_hop = next_hop;
    if audience.is_internal {
        attributes.local_pref =
            audience.config.terms.local_pref.or(attributes.local_pref).or(Some(LOCAL_PREF));
    } else {
        (attributes.local_pref, attributes.med) = (None, None);
        attributes.as_path = attributes.as_path.prepend(audience.asn, 1);
    }
    attributes.change_rare(|rare| {
        // Nobody here knows them.
        rare.unknown.iter_mut().for_each(|unknown| unknown.flags |= FLAG_PARTIAL);
        rare.only_to_customer = only_to_customer;
        // They count inside the AS that they came from.
        (rare.originator_id, rare.cluster_list) = (None, Box::default());
        if !audience.is_internal {
            let kept = rare.extended.iter().filter(|one| one.is_transitive());
            rare.extended = kept.copied().collect();
        }
    });
    Ok(attributes)
}

/// Of an attribute's flags (RFC 4271, section 4.3).
const FLAG_PARTIAL: u8 = 0x20;

/// Paths to a prefix that a neighbour hears of at most.
const PATHS_MAX: usize = 8;

/// Paths to a prefix that are looked at for these: some may not be announced to it.
const PATHS_EXAMINED: usize = 16;

/// Of a path that says none.
const LOCAL_PREF: u32 = 100;
