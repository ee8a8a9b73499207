//! What is still to be said to a neighbour: the newest of each prefix, in messages as full as they get.
#![forbid(unsafe_code)]

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;

use super::super::{Attributes, Nlri, PackError, Packing, RefreshKind, RouteRefresh};
use crate::ids::Family;

/// Changes that wait to be sent. A change replaces an older one of the same prefix and path that was not
/// sent yet, so that a neighbour that reads slowly gets what is, not what was, and the queue has at most
/// one change for each. Withdrawals go first; announcements go in bursts ([`Self::begin_burst`]).
#[derive(Debug, Default)]
pub(super) struct Outbox {
    /// Which queue has the change of a prefix that counts.
    pending: HashMap<Nlri, Place>,
    withdrawn: VecDeque<Nlri>,
    /// Being sent.
    burst: VecDeque<Item>,
    /// Waiting for the next burst.
    waiting: VecDeque<Item>,
    /// Groups of `waiting` that take more prefixes: by the address of their attributes, which the group
    /// keeps alive.
    open: HashMap<(usize, Family), u64>,
    next_id: u64,
    /// Prefixes in queues, whether they count or not.
    queued: usize,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Place {
    Withdrawn,
    Group(u64),
}

#[derive(Debug)]
struct Item {
    id: u64,
    kind: Kind,
}

#[derive(Debug)]
enum Kind {
    EndOfRib(Family),
    Refresh(RouteRefresh),
    Routes { attributes: Arc<Attributes>, nlri: VecDeque<Nlri> },
}

/// Routes that do not go into any message.
#[derive(Debug)]
pub(super) struct Unsendable {
    pub(super) nlri: Vec<Nlri>,
    pub(super) why: PackError,
}

impl Outbox {
    pub(super) fn announce(&mut self, nlri: Nlri, attributes: &Arc<Attributes>) {
        let key = (Arc::as_ptr(attributes) as usize, nlri.family());
        let id = self.open.get(&key).copied().unwrap_or_else(|| {
            let attributes = Arc::clone(attributes);
            let id = self.push(Kind::Routes { attributes, nlri: VecDeque::new() });
            self.open.insert(key, id);
            id
        });
        // Said twice with the same attributes, it is queued once.
        if self.pending.insert(nlri, Place::Group(id)) != Some(Place::Group(id)) {
            let at = self.waiting.partition_point(|item| item.id < id);
            if let Some(Item { kind: Kind::Routes { nlri: list, .. }, .. }) =
                self.waiting.get_mut(at)
            {
                list.push_back(nlri);
                self.queued += 1;
            }
        }
        self.compact();
    }

    pub(super) fn withdraw(&mut self, nlri: Nlri) {
        if self.pending.insert(nlri, Place::Withdrawn) != Some(Place::Withdrawn) {
            self.withdrawn.push_back(nlri);
            self.queued += 1;
        }
        self.compact();
    }

    /// After all that is queued.
    pub(super) fn end_of_rib(&mut self, family: Family) {
        self.open.clear();
        self.push(Kind::EndOfRib(family));
    }

    /// After all that is queued, and before all that will be.
    pub(super) fn refresh(&mut self, family: Family, kind: RefreshKind) {
        self.open.clear();
        self.push(Kind::Refresh(RouteRefresh::of(family, kind)));
    }

    fn push(&mut self, kind: Kind) -> u64 {
        let id = self.next_id;
        self.next_id += 1;
        self.waiting.push_back(Item { id, kind });
        id
    }

    /// Whether something can be sent without another burst.
    pub(super) fn is_ready(&self) -> bool {
        !self.withdrawn.is_empty() || !self.burst.is_empty()
    }

    /// Whether something waits for the next burst.
    pub(super) fn is_waiting(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// Changes that are not sent yet.
    pub(super) fn len(&self) -> usize {
        self.pending.len()
    }

    /// Lets go what waits now. What comes later waits for the next burst.
    pub(super) fn begin_burst(&mut self) {
        if self.burst.is_empty() {
            std::mem::swap(&mut self.burst, &mut self.waiting);
        } else {
            self.burst.append(&mut self.waiting);
        }
        self.open.clear();
    }

    /// Appends at most one message; `false` if there is nothing to send. Looks at no more than `BATCH`
    /// prefixes, besides those that count no more.
    pub(super) fn put_message(
        &mut self,
        packing: &Packing,
        out: &mut Vec<u8>,
    ) -> Result<bool, Unsendable> {
        let batch = take(&mut self.withdrawn, &mut self.queued, &self.pending, Place::Withdrawn);
        if !batch.is_empty() {
            let count = packing.withdraw(&batch, out);
            self.sent(&batch[..count]);
            self.queued += batch.len() - count;
            batch[count..].iter().rev().for_each(|nlri| self.withdrawn.push_front(*nlri));
            return Ok(true);
        }
        while let Some(Item { id, kind }) = self.burst.front_mut() {
            let (attributes, nlri) = match kind {
                Kind::Routes { attributes, nlri } => (attributes, nlri),
                Kind::EndOfRib(family) => {
                    Packing::end_of_rib(*family, out);
                    self.burst.pop_front();
                    return Ok(true);
                }
                Kind::Refresh(refresh) => {
                    refresh.put(out);
                    self.burst.pop_front();
                    return Ok(true);
                }
            };
            let batch = take(nlri, &mut self.queued, &self.pending, Place::Group(*id));
            if batch.is_empty() {
                self.burst.pop_front();
                continue;
            }
            match packing.announce(attributes, &batch, out) {
                Ok(count) => {
                    self.queued += batch.len() - count;
                    batch[count..].iter().rev().for_each(|rest| nlri.push_front(*rest));
                    self.sent(&batch[..count]);
                    return Ok(true);
                }
                Err(why) => {
                    // What the neighbour has of these is out of date.
                    for nlri in &batch {
                        self.withdraw(*nlri);
                    }
                    return Err(Unsendable { nlri: batch, why });
                }
            }
        }
        Ok(false)
    }

    fn sent(&mut self, nlri: &[Nlri]) {
        for nlri in nlri {
            self.pending.remove(nlri);
        }
    }

    /// Drops what counts no more once it is most of what is queued, so that a prefix that flaps while
    /// nothing is sent takes no more and more room.
    fn compact(&mut self) {
        if self.queued <= 2 * self.pending.len() + BATCH {
            return;
        }
        let pending = &self.pending;
        let mut seen = HashSet::with_capacity(pending.len());
        let mut counts =
            |nlri: &Nlri, place| pending.get(nlri) == Some(&place) && seen.insert(*nlri);
        self.withdrawn.retain(|nlri| counts(nlri, Place::Withdrawn));
        for Item { id, kind } in self.burst.iter_mut().chain(&mut self.waiting) {
            if let Kind::Routes { nlri, .. } = kind {
                nlri.retain(|nlri| counts(nlri, Place::Group(*id)));
            }
        }
        self.queued = seen.len();
        let counts = |item: &Item| match &item.kind {
            Kind::Routes { nlri, .. } => !nlri.is_empty(),
            Kind::EndOfRib(_) | Kind::Refresh(_) => true,
        };
        self.burst.retain(counts);
        self.waiting.retain(counts);
        let kept: HashSet<u64> = self.waiting.iter().map(|item| item.id).collect();
        self.open.retain(|_, id| kept.contains(id));
    }
}

/// Takes up to `BATCH` prefixes of one family that count.
fn take(
    queue: &mut VecDeque<Nlri>,
    queued: &mut usize,
    pending: &HashMap<Nlri, Place>,
    place: Place,
) -> Vec<Nlri> {
    let mut batch: Vec<Nlri> = Vec::new();
    while batch.len() < BATCH
        && let Some(nlri) = queue.pop_front()
    {
        if batch.first().is_some_and(|first| first.family() != nlri.family()) {
            queue.push_front(nlri);
            break;
        }
        *queued -= 1;
        if pending.get(&nlri) == Some(&place) {
            batch.push(nlri);
        }
    }
    batch
}

/// More than fit into a message of 4,096 octets, but for the shortest prefixes.
const BATCH: usize = 1024;

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;
    use crate::bgp::{
        AsPath, AttributeStore, Frame, MESSAGE_MAX, NextHop, PerFamily, Update, UpdateContext,
        decode_update,
    };

    const PACKING: Packing = Packing {
        four_octet_as: true,
        path_ids: PerFamily::NONE,
        link_local_next_hop: false,
        max_len: MESSAGE_MAX,
    };

    fn nlri(number: u32) -> Nlri {
        let addr = Ipv4Addr::from(0x0a00_0000 | number << 8);
        Nlri::new(nearhop_fib::IpPrefix::new(addr.into(), 24).unwrap())
    }

    fn route(med: u32) -> Arc<Attributes> {
        let next_hop = NextHop::new(Ipv4Addr::new(192, 0, 2, 1).into());
        Arc::new(Attributes { med: Some(med), ..Attributes::originated(next_hop) })
    }

    fn drain(outbox: &mut Outbox) -> Vec<Update> {
        let context = UpdateContext {
            four_octet_as: true,
            internal: true,
            first_as: None,
            families: PerFamily::BOTH,
            path_ids: PerFamily::NONE,
            extended_next_hop: false,
            link_local_next_hop: false,
        };
        let (mut bytes, mut updates) = (Vec::new(), Vec::new());
        while outbox.put_message(&PACKING, &mut bytes).expect("sendable") {
            let frame = Frame::first(&bytes, MESSAGE_MAX).unwrap().unwrap();
            assert_eq!(frame.message.len(), bytes.len(), "one message at a time");
            let update = decode_update(frame.body(), &context, &mut AttributeStore::default());
            updates.push(update.unwrap());
            bytes.clear();
        }
        updates
    }

    fn announced(updates: &[Update]) -> Vec<(Nlri, Option<u32>)> {
        let of = |update: &Update| {
            let announced = update.announced.first()?;
            Some(announced.nlri.iter().map(|one| (*one, announced.attributes.med)).collect())
        };
        updates.iter().filter_map(of).collect::<Vec<Vec<_>>>().concat()
    }

    #[test]
    fn routes_with_the_same_attributes_share_messages() {
        let mut outbox = Outbox::default();
        let routes = [route(0), route(1)];
        (0..2400).for_each(|number| outbox.announce(nlri(number), &routes[number as usize % 2]));
        outbox.begin_burst();
        let updates = drain(&mut outbox);
        assert_eq!(updates.len(), 4, "2 x 1,200 x 4 octets, 4,096 in each");
        assert_eq!(announced(&updates).len(), 2400);
        assert_eq!((outbox.len(), outbox.queued), (0, 0));
    }

    #[test]
    fn only_the_newest_of_a_prefix_is_sent_and_withdrawals_go_first() {
        let mut outbox = Outbox::default();
        let routes = [route(0), route(1)];
        outbox.announce(nlri(1), &routes[0]);
        outbox.announce(nlri(2), &routes[0]);
        outbox.announce(nlri(3), &routes[0]);
        outbox.begin_burst();
        outbox.announce(nlri(1), &routes[1]);
        outbox.withdraw(nlri(2));
        let updates = drain(&mut outbox);
        assert_eq!(updates[0].withdrawn, [nlri(2)]);
        assert_eq!(announced(&updates), [(nlri(3), Some(0))]);
        assert!(outbox.is_waiting() && !outbox.is_ready());
        outbox.begin_burst();
        assert_eq!(announced(&drain(&mut outbox)), [(nlri(1), Some(1))]);
        // Withdrawn and announced again: only the latter.
        outbox.withdraw(nlri(3));
        outbox.announce(nlri(3), &routes[1]);
        outbox.begin_burst();
        let updates = drain(&mut outbox);
        assert_eq!((updates.len(), announced(&updates)), (1, vec![(nlri(3), Some(1))]));
    }

    #[test]
    fn marks_keep_their_place_between_routes() {
        let mut outbox = Outbox::default();
        let route = route(0);
        outbox.announce(nlri(1), &route);
        outbox.end_of_rib(Family::Ipv4);
        outbox.announce(nlri(2), &route);
        outbox.begin_burst();
        let updates = drain(&mut outbox);
        let ends: Vec<_> = updates.iter().map(|update| update.end_of_rib.is_some()).collect();
        assert_eq!(ends, [false, true, false]);
    }

    #[test]
    fn a_prefix_that_flaps_unsent_takes_no_more_and_more_room() {
        let mut outbox = Outbox::default();
        outbox.announce(nlri(0), &route(0));
        for med in 1..100_000 {
            outbox.announce(nlri(1), &route(med));
            outbox.withdraw(nlri(2));
            outbox.announce(nlri(2), &route(med));
            assert!(outbox.queued <= 3 * BATCH && outbox.waiting.len() <= 3 * BATCH);
        }
        outbox.begin_burst();
        let sent = announced(&drain(&mut outbox));
        let expected = [(nlri(0), Some(0)), (nlri(1), Some(99_999)), (nlri(2), Some(99_999))];
        assert_eq!(sent, expected);
    }

    #[test]
    fn routes_that_fit_into_no_message_are_withdrawn() {
        let path: Vec<u32> = (1..=1100).collect();
        let long = Arc::new(Attributes {
            as_path: AsPath::sequence(&path),
            ..Attributes::clone(&route(0))
        });
        let mut outbox = Outbox::default();
        outbox.announce(nlri(1), &long);
        outbox.announce(nlri(2), &route(0));
        outbox.begin_burst();
        let unsendable = outbox.put_message(&PACKING, &mut Vec::new()).unwrap_err();
        assert_eq!(unsendable.nlri, [nlri(1)]);
        let updates = drain(&mut outbox);
        assert_eq!(updates[0].withdrawn, [nlri(1)]);
        assert_eq!(announced(&updates), [(nlri(2), Some(0))]);
    }
}
