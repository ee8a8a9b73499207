//! Withdrawals ahead of their turn: packets that still go to a neighbour whose path is gone are lost, so that what
//! others announce, and a publication that is under way, have to wait.

use nearhop_fib::IpPrefix;

use super::{Bgp, NeighborState};
use crate::bgp::Nlri;
use crate::bgp::lane::{BgpNews, BgpOrder};
use crate::bgp::session::Received;
use crate::ids::NeighborId;
use crate::rib::Rib;

impl Bgp {
    /// Takes up to `budget` withdrawals, each of a neighbour of which nothing waits that came before it, and
    /// appends the prefixes whose paths are others now. Returns how many it took.
    pub(in crate::control) fn take_withdrawals(
        &mut self,
        rib: &mut Rib,
        budget: usize,
        changed: &mut Vec<IpPrefix>,
    ) -> usize {
        let mut left = budget;
        let mut ids: Vec<NeighborId> = self.neighbors.keys().copied().collect();
        ids.retain(|id| self.may_withdraw(*id));
        if ids.is_empty() || budget == 0 {
            return 0;
        }
        // None that always has some keeps the others waiting.
        self.withdraws_first = self.withdraws_first.wrapping_add(1);
        let first = self.withdraws_first % ids.len();
        ids.rotate_left(first);
        for id in ids {
            let was_full = self.neighbors.get(&id).is_some_and(NeighborState::is_full);
            while left > 0 {
                let state = self.neighbors.get_mut(&id);
                let Some(nlri) = state.and_then(NeighborState::next_withdrawal) else { break };
                left -= 1;
                if self.paths.withdraw(id, nlri) {
                    self.choose(rib, nlri.prefix, self.paths.chain(nlri.prefix));
                    changed.push(nlri.prefix);
                }
            }
            if was_full && self.neighbors.get(&id).is_some_and(|state| !state.is_full()) {
                self.orders.push(BgpOrder::Room);
            }
        }
        self.units += budget - left;
        budget - left
    }

    /// Whether a withdrawal of a neighbour may be next.
    fn may_withdraw(&self, id: NeighborId) -> bool {
        let is_read = !self.paths.is_leaving(id) && !self.sweeping.contains(&id);
        is_read && self.neighbors.get(&id).is_some_and(NeighborState::may_withdraw)
    }
}

impl NeighborState {
    fn may_withdraw(&self) -> bool {
        match &self.rest {
            Some(rest) => rest.withdraws(),
            None => self.held.is_none() && !self.lane.is_empty(),
        }
    }

    /// The next prefix, if it is withdrawn. What else is next keeps its place.
    fn next_withdrawal(&mut self) -> Option<Nlri> {
        loop {
            if let Some(rest) = &mut self.rest {
                let next = rest.next_withdrawn();
                if next.is_some() || !rest.is_over() {
                    return next;
                }
                self.rest = None;
            }
            if self.held.is_some() {
                return None;
            }
            match self.take_news()? {
                BgpNews::Received(Received::Update(update)) => self.begin_update(update),
                news => self.held = Some(news),
            }
        }
    }
}
