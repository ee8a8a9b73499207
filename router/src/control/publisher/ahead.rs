//! Prefixes that move ahead of all that is to be published.

use nearhop_fib::IpPrefix;

use super::{GroupState, Parts, Phase, Publisher};
use crate::rib::{Lead, NextHops};

impl Publisher {
    /// Whether it is found out what is to be done, and only doing it is left.
    pub(in crate::control) const fn is_planned(&self) -> bool {
        matches!(self.phase, Phase::Add | Phase::Change | Phase::Remove | Phase::Drop)
    }

    /// Points a prefix that the FIB has at what it is to lead to by now, ahead of all others; with them it is
    /// looked at once more. One whose next group is to change itself waits with the others, as does one that is to
    /// go, or that is led by no route of BGP now.
    pub(in crate::control) fn move_at_once(&mut self, parts: &mut Parts<'_>, prefix: IpPrefix) {
        let (Some(now), Some(lead)) = (parts.fib.get(prefix), parts.rib.lead(prefix)) else {
            return;
        };
        let of_bgp = Lead::to(lead.next.unwrap_or(lead.set));
        if !matches!(parts.rib.next_hops(of_bgp.set), Some(NextHops::Ranked(_))) {
            return;
        }
        for lead in [of_bgp, lead] {
            let content = self.content(parts, lead);
            let is_changing = |state: &GroupState| !matches!(&content, Ok(Some(content)) if *content == state.content);
            if self.groups.get(&lead).is_some_and(is_changing) {
                return;
            }
        }
        let next = self.group_for(parts, lead);
        let moved = next.and_then(|next| match next {
            next if next == now => Ok(()),
            next => self.insert(parts, prefix, next),
        });
        if let Err(error) = moved {
            // It is tried again with the others, and told then.
            log::debug!("{prefix} waits: {error}");
        }
    }
}
