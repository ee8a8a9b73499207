//! What neighbours announce becomes routes of the RIB.

use std::collections::BTreeSet;

use nearhop_fib::IpPrefix;

use super::Bgp;
use crate::bgp::lane::{BgpNews, BgpOrder};
use crate::bgp::session::Received;
use crate::bgp::table::Sender;
use crate::bgp::{LoopRules, Role, Update};
use crate::config::Config;
use crate::event::EventKind;
use crate::ids::{Family, NeighborId};
use crate::put_back::{self, PutBack};
use crate::rib::{Candidate, NextHop, NextHops, Rib, Source};
use crate::time::Nanos;

impl Bgp {
    /// Takes news of neighbours in turn, up to about so many prefixes, and returns whether any route
    /// changed. Not while a publication is under way: what it publishes must not change.
    pub(in crate::control) fn step(
        &mut self,
        rib: &mut Rib,
        config: &Config,
        budget: usize,
        events: &mut impl Extend<(Nanos, EventKind)>,
    ) -> bool {
        let mut left = budget;
        let mut any = false;
        for id in self.leaving.iter().copied().collect::<Vec<_>>() {
            let mut changed = Vec::new();
            let done = self.paths.forget_some(id, left, |prefix| changed.push(prefix));
            left = left.saturating_sub(changed.len());
            any |= !changed.is_empty();
            for prefix in changed {
                self.choose(rib, prefix);
            }
            if done {
                self.leaving.remove(&id);
            }
        }
        for id in self.judging.iter().copied().collect::<Vec<_>>() {
            let (mut changed, looked_at) = (Vec::new(), left);
            let done = self.paths.judge_some(id, looked_at, |prefix| changed.push(prefix));
            // Those that stay as they are cost a look at each.
            left = if done { left.saturating_sub(changed.len()) } else { 0 };
            any |= !changed.is_empty();
            for prefix in changed {
                self.choose(rib, prefix);
            }
            if done {
                self.judging.remove(&id);
            }
        }
        let count = self.neighbors.len();
        self.turn = if count == 0 { 0 } else { (self.turn + 1) % count };
        let ids: Vec<NeighborId> = self.neighbors.keys().copied().collect();
        for &id in ids[self.turn..].iter().chain(&ids[..self.turn]) {
            while left > 0 && !self.leaving.contains(&id) {
                let Some(state) = self.neighbors.get_mut(&id) else { break };
                let Ok(news) = state.lane.try_recv() else { break };
                left -= 1;
                match news {
                    BgpNews::Received(Received::Update(update)) => {
                        left = left.saturating_sub(self.receive(rib, id, update));
                        any = true;
                    }
                    // Without stale routes there is nothing to mark.
                    BgpNews::Received(_) => {}
                    news => self.handle(config, id, news, events),
                }
            }
        }
        any
    }

    fn handle(
        &mut self,
        config: &Config,
        id: NeighborId,
        news: BgpNews,
        events: &mut impl Extend<(Nanos, EventKind)>,
    ) {
        let Some(state) = self.neighbors.get_mut(&id) else { return };
        let neighbor = state.config.name.clone();
        match news {
            BgpNews::State(now) => state.state = now,
            BgpNews::Down { at, was_established, why } => {
                state.last_error = Some(why.clone());
                state.negotiated = None;
                state.since = at;
                state.end_announcing();
                if was_established {
                    events.extend([(at, EventKind::Bgp { neighbor, up: false, reason: why })]);
                    if !put_back::is(PutBack::DeadSessionStays) {
                        self.forget(id);
                    }
                }
            }
            BgpNews::Established(at, negotiated) => {
                state.since = at;
                state.last_error = None;
                state.families = negotiated.families;
                state.begin_announcing();
                let sender = Sender {
                    asn: negotiated.remote_as,
                    internal: state.is_internal,
                    router_id: negotiated.remote_id,
                    address: state.config.address,
                    role: state.config.role.map(Role::counterpart),
                    loops: LoopRules {
                        local_as: config.bgp.as_ref().map_or(0, |bgp| bgp.asn),
                        own_as_max: state.config.allow_own_as,
                        router_id: state.peering.session.router_id,
                        cluster_id: None,
                    },
                    import: state.config.import.clone(),
                    refuses_bogons: state.config.refuses_bogons,
                };
                self.paths.begin(id, sender);
                state.negotiated = Some(negotiated);
                let reason = "established".to_owned();
                events.extend([(at, EventKind::Bgp { neighbor, up: true, reason })]);
            }
            BgpNews::Refresh(family) => state.announce_again(family),
            BgpNews::Received(_) => {}
        }
    }

    /// Returns how many prefixes it was about.
    fn receive(&mut self, rib: &mut Rib, id: NeighborId, update: Update) -> usize {
        for fault in &update.faults {
            log::warn!("bgp {}: {fault}", self.neighbors[&id].config.name);
        }
        let mut prefixes: Vec<IpPrefix> = Vec::new();
        for nlri in update.withdrawn {
            if self.paths.withdraw(id, nlri) {
                prefixes.push(nlri.prefix);
            }
        }
        for announced in &update.announced {
            for &nlri in &announced.nlri {
                self.paths.announce(id, nlri, &announced.attributes);
                prefixes.push(nlri.prefix);
            }
        }
        let families: BTreeSet<Family> =
            prefixes.iter().map(|prefix| Family::of(prefix.addr())).collect();
        for family in families {
            let count = u32::try_from(self.paths.count(id, family)).unwrap_or(u32::MAX);
            if count > self.neighbors[&id].config.max_prefixes {
                self.orders.push(BgpOrder::Prefixes(id, family, count));
            }
        }
        prefixes.sort_unstable();
        prefixes.dedup();
        for &prefix in &prefixes {
            self.choose(rib, prefix);
        }
        prefixes.len()
    }

    /// The best path to a prefix becomes the route that BGP offers.
    fn choose(&self, rib: &mut Rib, prefix: IpPrefix) {
        let before = rib.candidates(prefix).into_iter().find(|one| one.source == Source::Bgp);
        let best = self.paths.best(prefix);
        let hops =
            best.map(|best| NextHops::Via(vec![NextHop::Address(best.used().next_hop.addr)]));
        match hops {
            Some(hops) => {
                let set = rib.hold(hops);
                match before {
                    Some(before) if before.set == set => rib.release(set),
                    before => {
                        rib.offer(prefix, Candidate { source: Source::Bgp, set });
                        if let Some(before) = before {
                            rib.release(before.set);
                        }
                    }
                }
            }
            None => {
                if let Some(before) = before {
                    rib.withdraw(prefix, Source::Bgp);
                    rib.release(before.set);
                }
            }
        }
    }
}
