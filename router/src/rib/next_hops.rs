//! Sets of next hops: what routes lead to, each kept once.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::sync::Arc;

use nearhop_fib::{AdjacencyId, IpPrefix, Member, PathId};

use crate::ids::Family;

/// The number of a set of next hops. It is not used again.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct SetId(pub u32);

/// What a route leads to.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub enum NextHops {
    /// The router itself.
    Local,
    /// Nowhere: dropped silently.
    Blackhole,
    /// Nowhere: answered with unreachable.
    Unreachable,
    /// Nowhere: answered with administratively prohibited.
    Prohibit,
    /// One of these, all as good.
    Via(Vec<NextHop>),
    /// Those of the first tier that has a living one: the best paths of BGP, and the next best ones.
    Ranked(Vec<RankedHop>),
    /// The sites of a service.
    Service(ServiceSet),
}

/// The sites of a service in one family, as one prefix of it, or all, are served by them.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct ServiceSet {
    /// The service's name.
    pub service: String,
    /// The family.
    pub family: Family,
    /// The prefix, of a service whose dead packets follow what covers it.
    pub prefix: Option<IpPrefix>,
    /// Whether packets that no site takes follow the next best route to the prefix.
    pub leads_on: bool,
}

/// One next hop.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum NextHop {
    /// An adjacency.
    Way(Way),
    /// An address: whatever the route to it leads to.
    Address(IpAddr),
}

/// A next hop of a path that a session brought.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct RankedHop {
    /// 0 is the best.
    pub tier: u8,
    /// The session's path: down once the session is.
    pub path: PathId,
    /// Whatever the route to it leads to, unless `way` is given.
    pub address: IpAddr,
    /// The link that a link-local address is on, to which no route leads.
    pub way: Option<Way>,
    /// Its share among those of its tier, at least 1.
    pub weight: u16,
}

/// An adjacency, with the path that its packets are counted by.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Way {
    /// The path.
    pub path: PathId,
    /// The adjacency.
    pub adjacency: AdjacencyId,
}

/// Every set that is in use.
#[derive(Default)]
pub(super) struct Sets {
    ids: HashMap<Arc<NextHops>, SetId>,
    states: BTreeMap<SetId, SetState>,
    next: u32,
}

pub(super) struct SetState {
    pub(super) hops: Arc<NextHops>,
    /// How many hold it.
    holders: usize,
    /// Of `Via` and `Ranked`: what its next hops lead to.
    pub(super) members: Vec<Member>,
}

impl Sets {
    /// The set of these next hops, held once more; and whether it is new.
    pub(super) fn hold(&mut self, hops: NextHops) -> (SetId, bool) {
        if let Some(&id) = self.ids.get(&hops) {
            if let Some(state) = self.states.get_mut(&id) {
                state.holders += 1;
            }
            return (id, false);
        }
        let id = SetId(self.next);
        self.next += 1;
        let hops = Arc::new(hops);
        self.ids.insert(Arc::clone(&hops), id);
        self.states.insert(id, SetState { hops, holders: 1, members: Vec::new() });
        (id, true)
    }

    /// A set that is held is held once more; `false` if it is held no more.
    pub(super) fn hold_again(&mut self, id: SetId) -> bool {
        let state = self.states.get_mut(&id);
        state.map(|state| state.holders += 1).is_some()
    }

    /// Held once less. Returns the next hops of a set that is held no more, and is gone.
    pub(super) fn release(&mut self, id: SetId) -> Option<Arc<NextHops>> {
        let state = self.states.get_mut(&id)?;
        state.holders -= 1;
        if state.holders > 0 {
            return None;
        }
        let state = self.states.remove(&id)?;
        self.ids.remove(&state.hops);
        Some(state.hops)
    }

    pub(super) fn find(&self, hops: &NextHops) -> Option<SetId> {
        self.ids.get(hops).copied()
    }

    pub(super) fn get(&self, id: SetId) -> Option<&SetState> {
        self.states.get(&id)
    }

    pub(super) fn get_mut(&mut self, id: SetId) -> Option<&mut SetState> {
        self.states.get_mut(&id)
    }

    /// Whether a route that leads there can be used.
    pub(super) fn leads_somewhere(&self, id: SetId) -> bool {
        self.states.get(&id).is_some_and(|state| match &*state.hops {
            NextHops::Via(_) | NextHops::Ranked(_) => !state.members.is_empty(),
            _ => true,
        })
    }
}

impl NextHops {
    /// The next hops that are addresses to which a route has to lead.
    pub fn addresses(&self) -> impl Iterator<Item = IpAddr> + '_ {
        let (via, ranked) = match self {
            Self::Via(hops) => (&hops[..], &[][..]),
            Self::Ranked(hops) => (&[][..], &hops[..]),
            _ => (&[][..], &[][..]),
        };
        let via = via.iter().filter_map(|hop| match hop {
            NextHop::Address(address) => Some(*address),
            NextHop::Way(_) => None,
        });
        via.chain(ranked.iter().filter(|hop| hop.way.is_none()).map(|hop| hop.address))
    }
}
