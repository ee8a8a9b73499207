//! What was said and heard: counted, and the last of it kept for whoever reports a fault.
#![forbid(unsafe_code)]

use std::collections::VecDeque;

use super::super::frame::{FrameKind, HEADER_LEN};
use crate::time::Nanos;

/// What a session counts, from its beginning on.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Counters {
    /// Times it became established.
    pub established: u64,
    /// Connections that were refused.
    pub refused: u64,
    /// What the neighbour said.
    pub received: Messages,
    /// What was said to the neighbour, or waits for its connection to take it.
    pub sent: Messages,
}

/// Messages by their type.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Messages {
    /// OPENs.
    pub opens: u64,
    /// UPDATEs, End-of-RIBs among them.
    pub updates: u64,
    /// NOTIFICATIONs.
    pub notifications: u64,
    /// KEEPALIVEs.
    pub keepalives: u64,
    /// ROUTE-REFRESHs.
    pub refreshes: u64,
    /// Octets of all of them.
    pub bytes: u64,
}

/// A message of a transcript.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Said {
    /// When it was read, or put into what is to be sent.
    pub at: Nanos,
    /// Whether the router said it; else the neighbour did.
    pub is_own: bool,
    /// The octets, as far as they were kept.
    pub bytes: Vec<u8>,
    /// How many octets it had.
    pub len: usize,
}

/// Counters and transcript of a session. The transcript goes on over the connections of a neighbour: why the
/// last one ended is what is asked for.
#[derive(Debug, Default)]
pub(super) struct Record {
    pub(super) counters: Counters,
    /// OPENs, NOTIFICATIONs and ROUTE-REFRESHs, which the many others do not push out.
    talk: Ring,
    /// UPDATEs and KEEPALIVEs.
    routes: Ring,
}

/// The last messages, as many as have room.
#[derive(Debug, Default)]
struct Ring {
    items: VecDeque<Item>,
    bytes: VecDeque<u8>,
    max: usize,
}

#[derive(Clone, Copy, Debug)]
struct Item {
    at: Nanos,
    is_own: bool,
    kept: u32,
    len: u32,
}

impl Said {
    /// Its type; `None` if it is no message.
    pub fn kind(&self) -> Option<FrameKind> {
        FrameKind::of_message(&self.bytes).filter(|_| self.bytes.starts_with(&[0xff; 16]))
    }
}

impl Messages {
    /// All of them.
    pub const fn all(&self) -> u64 {
        self.opens + self.updates + self.notifications + self.keepalives + self.refreshes
    }

    fn count(&mut self, message: &[u8]) {
        self.bytes += message.len() as u64;
        match FrameKind::of_message(message) {
            Some(FrameKind::Open) => self.opens += 1,
            Some(FrameKind::Update) => self.updates += 1,
            Some(FrameKind::Notification) => self.notifications += 1,
            Some(FrameKind::Keepalive) => self.keepalives += 1,
            Some(FrameKind::RouteRefresh) => self.refreshes += 1,
            None => {}
        }
    }
}

impl Record {
    /// Keeps the last messages in about so many octets; none if zero.
    pub(super) fn keep(&mut self, max: usize) {
        self.talk.keep(max / 4);
        self.routes.keep(max - max / 4);
    }

    /// The neighbour said this.
    pub(super) fn heard(&mut self, now: Nanos, message: &[u8]) {
        self.counters.received.count(message);
        self.note(now, false, message);
    }

    /// The neighbour said something that is no message.
    pub(super) fn heard_nonsense(&mut self, now: Nanos, bytes: &[u8]) {
        self.talk.push(now, false, bytes);
    }

    /// The router said these messages.
    pub(super) fn said(&mut self, now: Nanos, mut messages: &[u8]) {
        while let Some(&[high, low]) = messages.get(HEADER_LEN - 3..HEADER_LEN - 1) {
            let len = usize::from(u16::from_be_bytes([high, low]));
            let Some((message, rest)) = messages.split_at_checked(len.max(1)) else { return };
            self.counters.sent.count(message);
            self.note(now, true, message);
            messages = rest;
        }
    }

    /// The last messages, the oldest first.
    pub(super) fn transcript(&self) -> Vec<Said> {
        let mut all: Vec<Said> = self.talk.iter().chain(self.routes.iter()).collect();
        all.sort_by_key(|said| said.at);
        all
    }

    fn note(&mut self, now: Nanos, is_own: bool, message: &[u8]) {
        let is_talk = !matches!(
            FrameKind::of_message(message),
            Some(FrameKind::Update | FrameKind::Keepalive)
        );
        let ring = if is_talk { &mut self.talk } else { &mut self.routes };
        ring.push(now, is_own, message);
    }
}

impl Ring {
    fn keep(&mut self, max: usize) {
        self.max = max;
        self.make_room(0);
        self.bytes.shrink_to(max);
    }

    fn push(&mut self, at: Nanos, is_own: bool, bytes: &[u8]) {
        let kept = bytes.len().min(self.max.saturating_sub(ITEM));
        if kept == 0 {
            return;
        }
        self.make_room(kept + ITEM);
        self.bytes.extend(&bytes[..kept]);
        self.items.push_back(Item { at, is_own, kept: kept as u32, len: bytes.len() as u32 });
    }

    fn make_room(&mut self, wanted: usize) {
        while self.bytes.len() + self.items.len() * ITEM + wanted > self.max {
            let Some(oldest) = self.items.pop_front() else { return };
            self.bytes.drain(..oldest.kept as usize);
        }
    }

    fn iter(&self) -> impl Iterator<Item = Said> + '_ {
        let mut start = 0;
        self.items.iter().map(move |item| {
            let end = start + item.kept as usize;
            let bytes = self.bytes.range(start..end).copied().collect();
            start = end;
            Said { at: item.at, is_own: item.is_own, bytes, len: item.len as usize }
        })
    }
}

/// What a message costs besides its octets.
const ITEM: usize = size_of::<Item>();

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bgp::{Frame, MESSAGE_MAX, Message, Notification, codes};

    fn keepalive() -> Vec<u8> {
        let mut bytes = Vec::new();
        Message::put_keepalive(&mut bytes);
        bytes
    }

    #[test]
    fn the_last_messages_are_kept_whole_and_within_their_room() {
        let mut record = Record::default();
        record.keep(4096);
        let mut notification = Vec::new();
        Notification::with(codes::ADMIN_SHUTDOWN, [7; 100]).put(&mut notification);
        record.heard(Nanos(1), &notification);
        let mut two = keepalive();
        two.extend(keepalive());
        for n in 2..10_000 {
            record.said(Nanos(n), &two);
        }
        let said = record.transcript();
        assert_eq!((said[0].is_own, &said[0].bytes), (false, &notification), "the rare one stays");
        assert!(said.len() > 50, "{}", said.len());
        assert_eq!(said.last().unwrap().at, Nanos(9_999));
        let bytes: usize = said.iter().map(|one| one.bytes.len() + ITEM).sum();
        assert!(bytes <= 4096, "{bytes}");
        for one in &said {
            let frame = Frame::first(&one.bytes, MESSAGE_MAX).unwrap().unwrap();
            assert_eq!(frame.message.len(), one.len);
        }
        let Counters { received, sent, .. } = record.counters;
        assert_eq!((received.notifications, received.bytes), (1, 121));
        assert_eq!((sent.keepalives, sent.all()), (2 * 9_998, 2 * 9_998));

        record.keep(0);
        assert_eq!(record.transcript(), []);
        record.said(Nanos(1), &keepalive());
        assert_eq!(record.transcript(), []);
    }

    #[test]
    fn a_message_longer_than_its_room_is_cut_and_says_so() {
        let mut record = Record::default();
        record.keep(400);
        let mut notification = Vec::new();
        Notification::with(codes::ADMIN_SHUTDOWN, [7; 1_000]).put(&mut notification);
        record.heard(Nanos(1), &notification);
        let said = record.transcript();
        assert_eq!((said.len(), said[0].len), (1, 1_021));
        assert_eq!(said[0].bytes, notification[..100 - ITEM]);
    }
}
