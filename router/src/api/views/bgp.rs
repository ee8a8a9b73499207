//! Rows of BGP neighbours.

use super::{Facts, owned};
use crate::api::column::Text;
use crate::api::rows::BgpRow;
use crate::ids::Family;

/// Every neighbour, by the order in which they were configured first.
pub(super) fn bgp(facts: &Facts<'_>) -> Vec<BgpRow> {
    let paths = facts.control.bgp_paths();
    let row = |(id, state): (_, &crate::control::NeighborState)| BgpRow {
        neighbor: owned(&state.config.name),
        address: state.config.address.to_string().into(),
        remote_as: state.config.asn.into(),
        local_address: state.local().to_string().into(),
        state: state.state.label().into(),
        age_ms: facts.age_ms(state.since),
        received_ipv4: paths.count(id, Family::Ipv4) as u64,
        received_ipv6: paths.count(id, Family::Ipv6) as u64,
        refused: paths.refused(id) as u64,
        announced: state.announced.keys().map(|prefix| prefix.to_string().into()).collect(),
        why: state.last_error.as_ref().map(|why| Text::Owned(why.clone())),
    };
    facts.control.bgp_neighbors().map(row).collect()
}
