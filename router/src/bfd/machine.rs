//! All sessions: to which one a packet belongs, and which has something to do.
#![forbid(unsafe_code)]

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::net::IpAddr;
use std::time::Duration;

use super::packet::{Malformed, Received};
use super::session::{Discarded, Event, Session, SessionConfig};
use crate::ids::PortId;
use crate::secret::SecretRng;
use crate::time::Nanos;
use crate::timers::Timers;

/// Number of a session, until it is removed.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct SessionId(u32);

/// Between whom a session is: there is one for each of these.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Ends {
    /// The router's address.
    pub local: IpAddr,
    /// The neighbour's.
    pub remote: IpAddr,
    /// Over which link, or any (RFC 5883).
    pub link: Option<PortId>,
}

/// Every session of the router.
#[derive(Debug)]
pub struct Machine {
    slots: Vec<Option<Slot>>,
    free: Vec<u32>,
    by_discriminator: HashMap<u32, u32>,
    by_ends: HashMap<Ends, u32>,
    timers: Timers,
    /// Those that may have something to send.
    ready: VecDeque<u32>,
    events: VecDeque<(SessionId, Event)>,
    dropped: BTreeMap<&'static str, u64>,
    rng: SecretRng,
}

#[derive(Debug)]
struct Slot {
    ends: Ends,
    session: Session,
    stats: SessionStats,
    is_ready: bool,
    /// Not asked before, for its packets may lie unread.
    put_off: Nanos,
}

/// What a session has counted.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct SessionStats {
    /// Packets that were used.
    pub received: u64,
    /// Packets that were sent.
    pub sent: u64,
    /// Packets that were for it and were not used.
    pub discarded: u64,
    /// How late the latest of its packets was sent since it is up.
    pub late_max: Duration,
}

/// Why a packet is dropped.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Dropped {
    /// It is no control packet.
    Malformed(Malformed),
    /// No session has this discriminator, or none is between these two.
    NoSession,
    /// The session with this discriminator is between others.
    OtherEnds,
    /// The session does not use it.
    Discarded(Discarded),
}

/// A packet to send.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Transmit {
    /// Of this session.
    pub session: SessionId,
    /// From whom to whom.
    pub ends: Ends,
    /// UDP port it is sent from: the session's own (RFC 5881, section 4).
    pub source_port: u16,
}

/// UDP port of control packets over one hop (RFC 5881, section 4).
pub const PORT: u16 = 3784;

/// UDP port of control packets over several hops (RFC 5883, section 5).
pub const PORT_MULTIHOP: u16 = 4784;

impl Machine {
    /// Without sessions. Discriminators and sequence numbers are as secret as `seed`.
    pub fn new(seed: u64) -> Self {
        Self {
            slots: Vec::new(),
            free: Vec::new(),
            by_discriminator: HashMap::new(),
            by_ends: HashMap::new(),
            timers: Timers::default(),
            ready: VecDeque::new(),
            events: VecDeque::new(),
            dropped: BTreeMap::new(),
            rng: SecretRng::new(seed),
        }
    }

    /// Begins a session, or gives the one between these two another configuration. `None`: there are as many as
    /// there are source ports.
    pub fn add(&mut self, now: Nanos, ends: Ends, config: SessionConfig) -> Option<SessionId> {
        if let Some(&slot) = self.by_ends.get(&ends) {
            if let Some(found) = &mut self.slots[slot as usize] {
                found.session.set_config(now, config);
            }
            self.settle(slot);
            return Some(SessionId(slot));
        }
        let slot = match self.free.pop() {
            Some(slot) => slot,
            None if self.slots.len() < SESSIONS_MAX => {
                self.slots.push(None);
                u32::try_from(self.slots.len() - 1).ok()?
            }
            None => return None,
        };
        let discriminator = loop {
            let drawn = self.rng.next_u32();
            if drawn != 0 && !self.by_discriminator.contains_key(&drawn) {
                break drawn;
            }
        };
        let session = Session::new(now, config, discriminator, self.rng.next_u64());
        let stats = SessionStats::default();
        self.slots[slot as usize] =
            Some(Slot { ends, session, stats, is_ready: false, put_off: now });
        self.by_discriminator.insert(discriminator, slot);
        self.by_ends.insert(ends, slot);
        self.settle(slot);
        Some(SessionId(slot))
    }

    /// Ends a session without a word; [`Self::set_admin_down`] says it to the neighbour.
    pub fn remove(&mut self, id: SessionId) {
        let Some(slot) = self.slots.get_mut(id.0 as usize).and_then(Option::take) else { return };
        self.by_discriminator.remove(&slot.session.discriminator());
        self.by_ends.remove(&slot.ends);
        self.timers.disarm(id.0);
        self.ready.retain(|&ready| ready != id.0);
        self.events.retain(|(of, _)| *of != id);
        self.free.push(id.0);
    }

    /// The payload of a datagram to [`PORT`], or to [`PORT_MULTIHOP`] where `ends` has no link.
    ///
    /// # Errors
    /// Why it changes nothing. It is counted.
    pub fn handle_packet(
        &mut self,
        now: Nanos,
        ends: Ends,
        payload: &[u8],
    ) -> Result<SessionId, Dropped> {
        let outcome = self.take_packet(now, ends, payload);
        if let Err(dropped) = &outcome {
            *self.dropped.entry(dropped.label()).or_default() += 1;
        }
        outcome
    }

    fn take_packet(
        &mut self,
        now: Nanos,
        ends: Ends,
        payload: &[u8],
    ) -> Result<SessionId, Dropped> {
        let packet = Received::parse(payload).map_err(Dropped::Malformed)?;
        let slot = match packet.control.your_discriminator {
            0 => self.by_ends.get(&ends),
            discriminator => self.by_discriminator.get(&discriminator),
        };
        let slot = *slot.ok_or(Dropped::NoSession)?;
        let found = self.slots[slot as usize].as_mut().ok_or(Dropped::NoSession)?;
        if found.ends != ends {
            return Err(Dropped::OtherEnds);
        }
        if let Err(discarded) = found.session.handle_packet(now, &packet) {
            found.stats.discarded += 1;
            return Err(Dropped::Discarded(discarded));
        }
        found.stats.received += 1;
        self.settle(slot);
        Ok(SessionId(slot))
    }

    /// The clock moved. A neighbour is not called silent while `unread` says that what came over a session's
    /// link by the given time may not have been handed in.
    pub fn handle_timeout(&mut self, now: Nanos, mut unread: impl FnMut(&Ends, Nanos) -> bool) {
        while let Some(slot) = self.timers.pop_due(now) {
            let Some(found) = self.slots[slot as usize].as_mut() else { continue };
            match found.session.detection_due() {
                Some(due) if due <= now && unread(&found.ends, due) => {
                    found.put_off = now + UNREAD_RETRY;
                }
                _ => found.session.handle_timeout(now),
            }
            self.settle(slot);
        }
    }

    /// When to call [`Self::handle_timeout`] next.
    pub fn poll_timeout(&self) -> Option<Nanos> {
        self.timers.next()
    }

    /// Writes the next packet that is due into `out`. To be called until `None` after every other call.
    pub fn poll_transmit(&mut self, now: Nanos, out: &mut Vec<u8>) -> Option<Transmit> {
        while let Some(&slot) = self.ready.front() {
            if let Some(found) = self.slots[slot as usize].as_mut() {
                let late = found.session.lateness(now);
                if found.session.poll_transmit(now, out) {
                    found.stats.sent += 1;
                    found.stats.late_max = found.stats.late_max.max(late);
                    let (ends, source_port) = (found.ends, source_port(slot));
                    // A stranger's turn before this one's next packet.
                    self.ready.rotate_left(1);
                    self.take_events(slot);
                    return Some(Transmit { session: SessionId(slot), ends, source_port });
                }
                found.is_ready = false;
                let due = found.session.poll_timeout().map(|due| due.max(found.put_off));
                self.timers.arm(slot, due);
            }
            self.ready.pop_front();
        }
        None
    }

    /// Takes the oldest event.
    pub fn poll_event(&mut self) -> Option<(SessionId, Event)> {
        self.events.pop_front()
    }

    /// An operator wants a session down, or up again.
    pub fn set_admin_down(&mut self, now: Nanos, id: SessionId, is_down: bool) {
        self.change(id, |session| session.set_admin_down(now, is_down));
    }

    /// The path of a session is down, as something else knows.
    pub fn handle_path_down(&mut self, now: Nanos, id: SessionId) {
        self.change(id, |session| session.handle_path_down(now));
    }

    /// The carrier of a port is lost.
    pub fn handle_carrier_lost(&mut self, now: Nanos, port: PortId) {
        for slot in 0..self.slots.len() {
            let is_on = |found: &Slot| found.ends.link == Some(port);
            if self.slots[slot].as_ref().is_some_and(is_on) {
                self.change(SessionId(slot as u32), |session| session.handle_path_down(now));
            }
        }
    }

    /// The session between these two.
    pub fn find(&self, ends: &Ends) -> Option<SessionId> {
        self.by_ends.get(ends).copied().map(SessionId)
    }

    /// A session with its ends and what it has counted.
    pub fn get(&self, id: SessionId) -> Option<(&Ends, &Session, &SessionStats)> {
        let slot = self.slots.get(id.0 as usize)?.as_ref()?;
        Some((&slot.ends, &slot.session, &slot.stats))
    }

    /// Every session.
    pub fn ids(&self) -> impl Iterator<Item = SessionId> + '_ {
        let taken = self.slots.iter().enumerate().filter(|(_, slot)| slot.is_some());
        taken.map(|(slot, _)| SessionId(slot as u32))
    }

    /// Packets that were dropped, by reason.
    pub fn dropped(&self) -> &BTreeMap<&'static str, u64> {
        &self.dropped
    }

    fn change(&mut self, id: SessionId, change: impl FnOnce(&mut Session)) {
        let Some(found) = self.slots.get_mut(id.0 as usize).and_then(Option::as_mut) else {
            return;
        };
        change(&mut found.session);
        self.settle(id.0);
    }

    /// What follows from whatever happened to a session. Its timer is armed once it has nothing to send.
    fn settle(&mut self, slot: u32) {
        self.take_events(slot);
        let Some(found) = &mut self.slots[slot as usize] else { return };
        if !std::mem::replace(&mut found.is_ready, true) {
            self.ready.push_back(slot);
        }
    }

    fn take_events(&mut self, slot: u32) {
        let Some(found) = &mut self.slots[slot as usize] else { return };
        let events = std::iter::from_fn(|| found.session.poll_event());
        self.events.extend(events.map(|event| (SessionId(slot), event)));
    }
}

impl Dropped {
    /// Kebab-case, never renamed.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Malformed(why) => why.label(),
            Self::NoSession => "no-such-session",
            Self::OtherEnds => "other-ends",
            Self::Discarded(why) => why.label(),
        }
    }
}

/// RFC 5881, section 4: from 49152 on, the same for all packets of a session.
fn source_port(slot: u32) -> u16 {
    FIRST_SOURCE_PORT.saturating_add(u16::try_from(slot).unwrap_or(u16::MAX))
}

const FIRST_SOURCE_PORT: u16 = 49_152;

/// As many as there are source ports.
const SESSIONS_MAX: usize = (u16::MAX - FIRST_SOURCE_PORT) as usize + 1;

/// When a session is looked at again whose packets may lie unread.
const UNREAD_RETRY: Duration = Duration::from_millis(1);
