//! BGP sessions on the host stack: bytes between its connections and each neighbour's session, and what
//! neighbours announce into a lane for each of them.

mod accept;
mod neighbor;
mod news;
mod ordered;
mod orders;
mod ranges;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::atomic::Ordering;
use std::time::Duration;

use self::neighbor::Neighbor;
use self::news::Budget;
use self::ranges::Ranges;
pub use self::ranges::Refused;
use crate::bgp::AttributeStore;
use crate::bgp::lane::BgpNews;
use crate::bgp::lease::{Lease, LeaseState, Part};
use crate::bgp::session::{Counters, Said};
use crate::host::{Host, SocketId};
use crate::ids::NeighborId;
use crate::time::Nanos;

/// Every session.
#[derive(Default)]
pub struct Speaker {
    neighbors: BTreeMap<NeighborId, Neighbor>,
    /// By local address.
    listeners: BTreeMap<IpAddr, SocketId>,
    store: AttributeStore,
    /// Whether what is announced may stand.
    lease: Lease,
    /// Who is served first.
    first: usize,
    /// The last poll had no time for everybody.
    was_short: bool,
    buffer: Vec<u8>,
    /// Whether something was sent into a lane since it was last asked.
    has_news: bool,
    /// Whether there is work that waits for nobody but its turn.
    is_behind: bool,
    /// Of the sessions' jitter.
    seed: u64,
    ranges: Ranges,
}

impl Speaker {
    /// Without neighbours. `seed` decides the jitter of their sessions.
    pub fn new(seed: u64) -> Self {
        Self { seed, ..Self::default() }
    }

    /// Whether there is anybody to speak with.
    pub fn has_neighbors(&self) -> bool {
        !self.neighbors.is_empty() || !self.ranges.is_empty()
    }

    /// Serves every session in turn, with about so many bytes received for all of them together.
    pub fn poll(&mut self, now: Nanos, host: &mut Host) {
        self.is_behind = false;
        self.accept(now, host);
        self.ranges.expire(now, host);
        let count = self.neighbors.len();
        self.first = if count == 0 { 0 } else { (self.first + 1) % count };
        let mut budget = Budget { bytes: BYTES_PER_POLL, work: WORK_PER_POLL };
        let order: Vec<NeighborId> = {
            let (head, tail) = (self.neighbors.keys().skip(self.first), self.neighbors.keys());
            head.chain(tail.take(self.first)).copied().collect()
        };
        if std::mem::take(&mut self.was_short) {
            self.read_a_little(now, host, &order, &mut budget);
        }
        for id in order {
            let Some(neighbor) = self.neighbors.get_mut(&id) else { continue };
            neighbor.follow(now, host);
            let lease = self.lease.state();
            let behind = neighbor.ordered.say_again(&mut neighbor.session, &mut self.store, lease);
            let more = neighbor.read(now, host, (&mut self.store, &mut self.buffer), &mut budget);
            if neighbor.rests_until.take_if(|until| *until <= now).is_some() {
                neighbor.session.start(now);
            }
            neighbor.session.handle_timeout(now);
            neighbor.act(now, host);
            neighbor.write(now, host);
            neighbor.report(now);
            // A loss is heard of although the lane is full.
            neighbor.flush();
            self.has_news |= std::mem::take(&mut neighbor.has_news);
            self.has_news |= neighbor.lost.load(Ordering::Relaxed);
            self.is_behind |= behind || (more || neighbor.is_held) && neighbor.has_room();
        }
        self.was_short = budget.work == 0 || budget.bytes == 0;
    }

    /// Reads a share of `budget` of everybody: who says little is heard at once, whatever others have to say.
    fn read_a_little(
        &mut self,
        now: Nanos,
        host: &mut Host,
        order: &[NeighborId],
        budget: &mut Budget,
    ) {
        let share = |of: usize| of / (2 * order.len()).max(1);
        let (bytes, work) = (share(budget.bytes).max(BYTES_LEAST), share(budget.work).max(1));
        for id in order {
            let Some(neighbor) = self.neighbors.get_mut(id) else { continue };
            let given = Budget { bytes: bytes.min(budget.bytes), work: work.min(budget.work) };
            let mut left = Budget { bytes: given.bytes, work: given.work };
            neighbor.read(now, host, (&mut self.store, &mut self.buffer), &mut left);
            budget.bytes -= given.bytes - left.bytes;
            budget.work -= given.work - left.work;
        }
    }

    /// When to call [`Self::poll`] next, besides after packets and orders.
    pub fn poll_timeout(&self, now: Nanos) -> Option<Nanos> {
        if self.is_behind && self.has_neighbors() {
            return Some(now);
        }
        let of = |neighbor: &Neighbor| {
            let is_stuck = neighbor.is_held || !neighbor.news.is_empty();
            let retry = is_stuck.then(|| now + LANE_RETRY);
            let timers = [neighbor.session.poll_timeout(), neighbor.rests_until, retry];
            timers.into_iter().flatten().min()
        };
        self.neighbors.values().filter_map(of).chain(self.ranges.due()).min()
    }

    /// Whether a lane has something new since the last call.
    pub fn take_news(&mut self) -> bool {
        std::mem::take(&mut self.has_news)
    }

    /// When [`Self::look`] is due, if it is ever.
    pub fn next_look(&self) -> Option<Nanos> {
        self.lease.poll_timeout().filter(|_| self.has_neighbors())
    }

    /// How many turns those have taken who find out and decide what is to be announced.
    pub fn look(&mut self, now: Nanos, turns: impl IntoIterator<Item = (Part, u64)>) {
        let before = self.lease.state();
        self.lease.look(now, turns);
        self.follow_lease(now, before);
    }

    /// All is said again if the lease is in another state than before.
    fn follow_lease(&mut self, now: Nanos, before: LeaseState) {
        let state = self.lease.state();
        if state == before {
            return;
        }
        log::warn!("bgp: {}", state.text());
        for neighbor in self.neighbors.values_mut() {
            neighbor.ordered.begin_again();
            neighbor.news.push_back(BgpNews::Lease(now, state));
        }
        self.is_behind = true;
    }

    /// What every session has counted.
    pub fn counters(&self) -> impl Iterator<Item = (NeighborId, Counters)> + '_ {
        self.neighbors.iter().map(|(&id, neighbor)| (id, neighbor.session.counters()))
    }

    /// The last messages of a neighbour in both directions; none of one that is not there.
    pub fn transcript(&self, id: NeighborId) -> Vec<Said> {
        self.neighbors.get(&id).map(|neighbor| neighbor.session.transcript()).unwrap_or_default()
    }

    /// Ends all sessions.
    pub fn stop(&mut self, now: Nanos, host: &mut Host, why: &str) {
        for id in self.neighbors.keys().copied().collect::<Vec<_>>() {
            self.remove_neighbor(now, host, id, why);
        }
        self.ranges.drop_all(host);
    }

    /// What became of connections from addresses that no neighbour has.
    pub fn refused(&self) -> Refused {
        self.ranges.refused()
    }
}

const BGP_PORT: u16 = 179;

/// More than is read in the time of [`WORK_PER_POLL`].
const BYTES_PER_POLL: usize = 96 * 1024;

/// Room for the longest message: less is not worth a look.
const BYTES_LEAST: usize = 4096;

/// About a third of a millisecond: after that checks have their turn.
const WORK_PER_POLL: usize = 128;

/// When news that did not fit are sent again.
const LANE_RETRY: Duration = Duration::from_millis(1);
