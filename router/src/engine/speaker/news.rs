//! From the bytes of a neighbour to news in its lane, as far as there is room and time.

use std::sync::atomic::Ordering;

use crossbeam_channel::TrySendError;

use super::neighbor::Neighbor;
use crate::bgp::AttributeStore;
use crate::bgp::lane::{BgpNews, PREFIXES_WAITING_MAX};
use crate::bgp::session::{Event, Progress, Side};
use crate::host::Host;
use crate::time::Nanos;

/// What is left of a poll, for all neighbours together.
pub(super) struct Budget {
    pub(super) bytes: usize,
    /// A message is one, and so are some prefixes of it.
    pub(super) work: usize,
}

/// How far the messages that came are read.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Read {
    /// All whole ones.
    All,
    /// The next one waits for room in the lane.
    Held,
    /// The poll has no time left.
    Some,
}

impl Neighbor {
    /// Reads bytes and messages; `true` if there is more to read that has a place to go.
    pub(super) fn read(
        &mut self,
        now: Nanos,
        host: &mut Host,
        (store, buffer): (&mut AttributeStore, &mut Vec<u8>),
        budget: &mut Budget,
    ) -> bool {
        let mut more = false;
        for side in [Side::Incoming, Side::Outgoing] {
            let Some(socket) = *self.socket(side) else { continue };
            if side == Side::Outgoing && self.is_opening {
                continue;
            }
            let room = self.session.room(side).min(budget.bytes);
            buffer.resize(room, 0);
            match host.tcp_receive(socket, buffer) {
                Ok(len) => {
                    self.session.handle_bytes(side, &buffer[..len]);
                    budget.bytes -= len;
                    more |= len > 0 && len == room;
                }
                // Its last messages are read before the session hears of it.
                Err(_) if self.read_messages(now, store, budget) == Read::All => {
                    self.lose(now, host, side);
                }
                Err(_) => more = true,
            }
        }
        // A message that waits for room is read once there is some, also if no byte comes after it.
        let read = self.read_messages(now, store, budget);
        self.is_held = read == Read::Held;
        more || read == Read::Some
    }

    /// Whether routes may be read: what they say has a place.
    pub(super) fn has_room(&self) -> bool {
        self.news.len() < NEWS_WAITING_MAX
            && self.waiting.load(Ordering::Relaxed) < PREFIXES_WAITING_MAX
    }

    /// Reads messages while there is room for what they say, and time.
    fn read_messages(
        &mut self,
        now: Nanos,
        store: &mut AttributeStore,
        budget: &mut Budget,
    ) -> Read {
        while budget.work > 0 {
            self.report(now);
            match self.session.receive(now, store, self.has_room()) {
                Progress::Idle => return Read::All,
                Progress::Full => return Read::Held,
                Progress::Handled => budget.work -= 1,
                Progress::Received(received) => {
                    self.report(now);
                    let news = BgpNews::Received(received);
                    let prefixes = news.prefixes();
                    budget.work = budget.work.saturating_sub(1 + prefixes / PREFIXES_PER_WORK);
                    self.waiting.fetch_add(prefixes, Ordering::Relaxed);
                    self.news.push_back(news);
                    self.flush();
                }
            }
        }
        Read::Some
    }

    /// What happened becomes news.
    pub(super) fn report(&mut self, now: Nanos) {
        while let Some(event) = self.session.poll_event() {
            self.news.push_back(match event {
                Event::Down { was_established, cause } => {
                    if was_established {
                        self.ordered.clear();
                        self.lost.store(true, Ordering::Release);
                    }
                    BgpNews::Down { at: now, was_established, why: cause.to_string() }
                }
                Event::Established(negotiated) => BgpNews::Established(now, negotiated),
                Event::RefreshRequested(family) => BgpNews::Refresh(family),
                Event::State { to, .. } => BgpNews::State(to),
                Event::NotAnnounced { nlri, why } => {
                    log::error!("{} route(s) cannot be announced: {why}", nlri.len());
                    continue;
                }
                Event::PrefixesNearLimit { family, count } => {
                    let address = self.address.map_or("?".to_owned(), |one| one.to_string());
                    let family = family.label();
                    log::warn!("{address} announces {count} {family} prefixes, nearly too many");
                    continue;
                }
                Event::Ended => BgpNews::Ended,
            });
        }
    }

    /// Moves news into the lane.
    pub(super) fn flush(&mut self) {
        while let Some(news) = self.news.pop_front() {
            match self.lane.try_send(news) {
                Ok(()) => self.has_news = true,
                Err(TrySendError::Full(news)) => {
                    self.news.push_front(news);
                    break;
                }
                // Nobody keeps this neighbour's routes any more.
                Err(TrySendError::Disconnected(_)) => {}
            }
        }
    }
}

/// Prefixes of a message that are decoded in the time that its attributes take.
const PREFIXES_PER_WORK: usize = 32;

/// News that wait for room in the lane before no more routes are read. Events of a session come besides:
/// few, for none comes while it cannot be told.
const NEWS_WAITING_MAX: usize = 1;
