//! Rows of what is announced by BGP.

use std::fmt::Display;

use super::{Facts, owned};
use crate::api::ApiError;
use crate::api::column::Text;
use crate::api::pages::{Page, PageRequest, prefix_of};
use crate::api::rows::{AdvertisedRow, BlockRow, PlaybookRow};
use crate::bgp::Attributes;
use crate::control::{Advertised, Decided};

/// What is decided about every prefix that may be announced, for each neighbour. A page has about as many
/// rows as others have prefixes.
pub(super) fn page_of_advertised(
    facts: &Facts<'_>,
    request: &PageRequest,
) -> Result<Page<Vec<AdvertisedRow>>, ApiError> {
    let after = request.after.as_deref().map(|text| prefix_of("after", text)).transpose()?;
    let neighbors = facts.control.bgp_neighbors().count().max(1);
    let count = request.count.div_ceil(neighbors);
    let mut page = Page::default();
    for advertised in facts.control.bgp_advertised(after).take(count) {
        page.count += 1;
        page.next = Some(advertised.prefix.to_string());
        page.rows.extend(rows(facts, &advertised));
    }
    if page.count < count {
        page.next = None;
    }
    Ok(page)
}

/// Every blocked prefix.
pub(super) fn blocks(facts: &Facts<'_>) -> Vec<BlockRow> {
    let row = |prefix| {
        let all = facts.control.bgp_neighbors();
        let of = all.filter(|(_, neighbor)| neighbor.announced.has(prefix));
        BlockRow {
            prefix: prefix.to_string().into(),
            announced_to: of.map(|(_, neighbor)| owned(&neighbor.config.name)).collect(),
        }
    };
    facts.control.overrides().blocks.iter().map(row).collect()
}

/// Every playbook, step by step, as configured; one that is applied and configured no more has a row without
/// a step.
pub(super) fn playbooks(facts: &Facts<'_>) -> Vec<PlaybookRow> {
    let applied = &facts.control.overrides().playbooks;
    let configured = facts.control.config().bgp.iter().flat_map(|bgp| &bgp.playbooks);
    let steps = configured.clone().flat_map(|playbook| {
        playbook.steps.iter().map(|step| {
            let services = step.services.iter().map(|name| owned(name));
            PlaybookRow {
                playbook: owned(&playbook.name),
                applied: applied.contains(&playbook.name),
                neighbors: step.neighbors.iter().map(|name| owned(name)).collect(),
                of: services
                    .chain(step.prefixes.iter().map(|prefix| prefix.to_string().into()))
                    .collect(),
                does: if step.withdraw {
                    "withdraw".into()
                } else {
                    step.additions.to_string().into()
                },
            }
        })
    });
    let gone = applied.iter().filter(|name| configured.clone().all(|one| one.name != **name));
    let gone = gone.map(|name| PlaybookRow {
        playbook: owned(name),
        applied: true,
        does: "nothing: it is configured no more".into(),
        ..PlaybookRow::default()
    });
    steps.chain(gone).collect()
}

fn rows(facts: &Facts<'_>, advertised: &Advertised<'_>) -> Vec<AdvertisedRow> {
    let row = |Decided { neighbor, of, decision }: &Decided<'_>| {
        let attributes = decision.announce.as_ref();
        AdvertisedRow {
            prefix: advertised.prefix.to_string().into(),
            neighbor: owned(&neighbor.config.name),
            of: owned(of),
            state: decision.label().into(),
            next_hop: attributes.map(|all| all.next_hop.to_string().into()),
            as_path: attributes.map(|all| all.as_path.to_string().into()),
            med: attributes.and_then(|all| all.med).map(u64::from),
            local_pref: attributes.and_then(|all| all.local_pref).map(u64::from),
            communities: attributes.map(communities).unwrap_or_default(),
            why: decision.text(facts.now).into(),
        }
    };
    advertised.decisions.iter().map(row).collect()
}

/// Those of every kind, the short ones first.
fn communities(attributes: &Attributes) -> Vec<Text> {
    fn texts<T: Display>(all: &[T]) -> impl Iterator<Item = Text> + '_ {
        all.iter().map(|one| one.to_string().into())
    }
    texts(&attributes.communities)
        .chain(texts(attributes.large()))
        .chain(texts(attributes.extended()))
        .collect()
}
