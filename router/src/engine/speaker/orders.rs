//! What comes from outside: the control plane's orders about neighbours, and neighbours that are found on a link.

use std::net::IpAddr;
use std::time::Duration;

use super::Speaker;
use super::neighbor::Neighbor;
use super::ordered::Ordered;
use crate::bgp::lane::{BgpNews, BgpOrder, Change, Clear, NeighborSpec};
use crate::bgp::lease::LeaseState;
use crate::bgp::session::{Session, State};
use crate::bgp::{FAMILIES, Notification, RefreshKind, codes};
use crate::host::Host;
use crate::ids::{Family, NeighborId, PortId};
use crate::time::Nanos;

impl Speaker {
    /// Does what the control plane asks.
    pub fn handle_order(&mut self, now: Nanos, host: &mut Host, order: BgpOrder) {
        match order {
            BgpOrder::Announce(id, changes, end) => self.announce(id, changes, end),
            BgpOrder::Bfd(id, is_lost) => self.heed_bfd(now, id, is_lost),
            BgpOrder::Begin(spec) => self.set_neighbor(now, host, *spec),
            BgpOrder::Keep(id, octets) => {
                if let Some(neighbor) = self.neighbors.get_mut(&id) {
                    neighbor.session.keep_transcript(octets);
                }
            }
            BgpOrder::End(id, why) => self.remove_neighbor(now, host, id, &why),
            BgpOrder::Lease(rules) => {
                let before = self.lease.state();
                self.lease.set_rules(rules);
                self.follow_lease(now, before);
            }
            BgpOrder::Room => self.is_behind = true,
            BgpOrder::Clear(id, how) => self.clear(now, id, how),
            BgpOrder::Mark(id, family, kind) => self.mark(id, family, kind),
            BgpOrder::Ranges(ranges, knocks) => {
                self.ranges.set(host, ranges, knocks);
                self.listen(host);
                self.is_behind = true;
            }
            BgpOrder::Refuse(knock) => self.ranges.refuse(host, knock),
            BgpOrder::Prefixes(id, family, count) => self.note_prefixes(now, id, family, count),
        }
    }

    /// Begins a session with a neighbour, or another one if what is wanted of it changed.
    fn set_neighbor(&mut self, now: Nanos, host: &mut Host, spec: NeighborSpec) {
        let NeighborSpec { id, peering, lane, transcript, lost, waiting } = spec;
        self.remove_neighbor(now, host, id, "reconfigured");
        let seed = self.seed.wrapping_add(u64::from(id.0));
        let lease = self.lease.state();
        let mut session = Session::new(peering.session.clone(), seed);
        session.keep_transcript(transcript);
        if peering.address.is_some() {
            session.start(now);
        }
        let mut neighbor = Neighbor {
            address: peering.address,
            peering,
            lane,
            lost,
            waiting,
            session,
            ordered: Ordered::default(),
            incoming: None,
            outgoing: None,
            is_opening: false,
            news: (lease != LeaseState::Held)
                .then_some(BgpNews::Lease(now, lease))
                .into_iter()
                .collect(),
            has_news: false,
            is_held: false,
            rests_until: None,
        };
        if neighbor.peering.session.dynamic {
            let address = neighbor.peering.address;
            let held = address.and_then(|one| self.ranges.take((one, neighbor.peering.local)));
            match held {
                Some(socket) => neighbor.take_incoming(now, host, socket),
                // It is gone already.
                None => neighbor.news.push_back(BgpNews::Ended),
            }
        }
        self.neighbors.insert(id, neighbor);
        self.listen(host);
        self.is_behind = true;
    }

    /// A neighbour that advertises itself on a port has this address. Another address than before counts once
    /// the session is not established: of several on a link, none ends the session of one that is well.
    pub fn meet(&mut self, now: Nanos, host: &mut Host, port: PortId, address: IpAddr) {
        for neighbor in self.neighbors.values_mut() {
            let is_looked_for = neighbor.peering.address.is_none()
                && neighbor.peering.link.is_some_and(|link| link.port == port);
            let is_well = neighbor.session.state() == State::Established;
            if !is_looked_for || neighbor.address == Some(address) || is_well {
                continue;
            }
            if neighbor.address.replace(address).is_some() {
                let moved = Notification::shutdown(codes::ADMIN_RESET, "another router is there");
                neighbor.session.stop(now, &moved);
                neighbor.act(now, host);
            }
            neighbor.news.push_back(BgpNews::Found(address));
            neighbor.session.start(now);
            self.is_behind = true;
        }
    }

    /// Ends a neighbour's session; `why` is what the neighbour hears (RFC 9003).
    pub(super) fn remove_neighbor(
        &mut self,
        now: Nanos,
        host: &mut Host,
        id: NeighborId,
        why: &str,
    ) {
        let Some(mut neighbor) = self.neighbors.remove(&id) else { return };
        neighbor.session.stop(now, &Notification::shutdown(codes::ADMIN_SHUTDOWN, why));
        neighbor.act(now, host);
        for socket in [neighbor.incoming, neighbor.outgoing].into_iter().flatten() {
            host.tcp_abort(socket);
        }
        self.listen(host);
    }

    /// Changes what is announced to a neighbour. Without a session nothing is; the control plane says all
    /// of it again when there is one.
    fn announce(&mut self, id: NeighborId, changes: Vec<Change>, end: bool) {
        let Some(neighbor) = self.neighbors.get_mut(&id) else { return };
        for (nlri, attributes) in changes {
            let how = (&mut self.store, self.lease.state());
            neighbor.ordered.order(&mut neighbor.session, how, nlri, attributes);
        }
        for family in FAMILIES.into_iter().filter(|_| end) {
            let _ = neighbor.session.end_of_rib(family);
        }
        self.is_behind = true;
    }

    /// Marks where a refresh begins or ends, if the neighbour knows such marks.
    fn mark(&mut self, id: NeighborId, family: Family, kind: RefreshKind) {
        let Some(neighbor) = self.neighbors.get_mut(&id) else { return };
        // A session that ended meanwhile takes none.
        let _ = match kind {
            RefreshKind::Begin => neighbor.session.begin_refresh(family),
            _ => neighbor.session.end_refresh(family),
        };
        self.is_behind = true;
    }

    /// Begins a neighbour's session again, or asks for all of its routes.
    fn clear(&mut self, now: Nanos, id: NeighborId, how: Clear) {
        let Some(neighbor) = self.neighbors.get_mut(&id) else { return };
        match how {
            Clear::Restart => {
                neighbor.rests_until = None;
                let reset = Notification::shutdown(codes::ADMIN_RESET, "cleared by the operator");
                neighbor.session.stop(now, &reset);
                if neighbor.address.is_some() {
                    neighbor.session.start(now);
                }
            }
            Clear::Soft => {
                for family in FAMILIES {
                    // One that is not established announces all anyway once it is.
                    let _ = neighbor.session.request_refresh(family);
                }
            }
        }
        self.is_behind = true;
    }

    /// BFD has lost a neighbour: its session ends at once (RFC 9384), and begins again when BFD says so no more.
    /// A neighbour may speak BFD only while the session is there, so it is tried after a while in any case.
    fn heed_bfd(&mut self, now: Nanos, id: NeighborId, is_lost: bool) {
        let Some(neighbor) = self.neighbors.get_mut(&id) else { return };
        let session = &mut neighbor.session;
        let is_going = session.state() != State::Idle || session.poll_timeout().is_some();
        if is_lost && is_going {
            session.stop(now, &Notification::new(codes::BFD_DOWN));
            neighbor.rests_until = Some(now + REST_MAX);
        } else if !is_lost {
            neighbor.rests_until = neighbor.rests_until.map(|_| now);
        }
        self.is_behind = true;
    }

    /// How many prefixes of a family are accepted of a neighbour: its limit may be reached.
    fn note_prefixes(&mut self, now: Nanos, id: NeighborId, family: Family, count: u32) {
        if let Some(neighbor) = self.neighbors.get_mut(&id) {
            neighbor.session.handle_prefix_count(now, family, count);
            self.is_behind = true;
        }
    }
}

/// How long a session that BFD took down waits for BFD.
const REST_MAX: Duration = Duration::from_secs(30);
