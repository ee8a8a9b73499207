//! What the requests of a check bear that nobody else knows, and which check a packet is about.
#![forbid(unsafe_code)]

use std::collections::{BTreeSet, HashMap};
use std::net::IpAddr;
use std::time::Duration;

use super::SOURCE_PORTS;
use crate::ids::PortId;
use crate::secret::SecretRng;
use crate::time::Nanos;

/// What the requests of a check have in common until the next draw.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Draw {
    /// UDP source port, or echo identifier.
    pub(super) number: u16,
    /// IPv6 flow label, 20 bits.
    pub(super) label: u32,
    /// Data of echo requests.
    pub(super) cookie: [u8; 8],
}

/// A check's draws: the one in use, and the one before while answers to it may come.
#[derive(Debug)]
pub(super) struct Draws {
    pub(super) now: Draw,
    pub(super) before: Option<Draw>,
    drawn: Nanos,
    /// Somebody knows the number, but not the rest.
    mismatched: bool,
}

/// The two ends of a check. Numbers are unique among the checks of the same ends.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub(super) struct Ends {
    pub(super) source: IpAddr,
    pub(super) target: IpAddr,
    /// Whether the number is a UDP port, or else an echo identifier.
    pub(super) udp: bool,
}

/// The checks by their ends and numbers.
#[derive(Debug, Default)]
pub(super) struct Numbers {
    slots: HashMap<(Ends, u16), u32>,
    /// For packets with a wrong number.
    by_way: BTreeSet<(IpAddr, bool, PortId, u32)>,
}

impl Draws {
    pub(super) fn new(now: Nanos, draw: Draw) -> Self {
        Self { now: draw, before: None, drawn: now, mismatched: false }
    }

    /// The draw with this number.
    pub(super) fn of_number(&self, number: u16) -> Option<&Draw> {
        [Some(&self.now), self.before.as_ref()]
            .into_iter()
            .flatten()
            .find(|draw| draw.number == number)
    }

    /// A packet had the right number and nothing else.
    pub(super) fn mismatch(&mut self) {
        self.mismatched = true;
    }

    /// Takes the draw before, once answers to it come too late: they may take `budget`.
    pub(super) fn take_old(&mut self, now: Nanos, budget: Duration) -> Option<Draw> {
        self.before.take_if(|_| self.drawn + budget <= now)
    }

    /// Whether it is time to draw again. Never while the draw before is in use, so that a check has
    /// two numbers at most.
    pub(super) fn is_due(&self, now: Nanos) -> bool {
        let age = if self.mismatched { REDRAW_LIMIT } else { REDRAW_EVERY };
        self.before.is_none() && self.drawn + age <= now
    }

    /// Uses `draw` from now on, or goes on with the old one if there is none.
    pub(super) fn replace(&mut self, now: Nanos, draw: Option<Draw>) {
        (self.drawn, self.mismatched) = (now, false);
        if let Some(draw) = draw {
            self.before = Some(std::mem::replace(&mut self.now, draw));
        }
    }
}

impl Numbers {
    /// Draws for the check `slot` and reserves the number; `None` if none of `tries` is free.
    pub(super) fn draw(
        &mut self,
        ends: Ends,
        slot: u32,
        tries: u16,
        rng: &mut SecretRng,
    ) -> Option<Draw> {
        let first = rng.next_u16();
        let number_of = |step: u16| {
            let number = first.wrapping_add(step);
            if ends.udp { SOURCE_PORTS.start() | number } else { number }
        };
        let free = |number: &u16| !self.slots.contains_key(&(ends, *number));
        let number = (0..tries).map(number_of).find(free)?;
        self.slots.insert((ends, number), slot);
        let label = rng.next_label();
        Some(Draw { number, label, cookie: rng.next_u64().to_be_bytes() })
    }

    /// Frees a number.
    pub(super) fn free(&mut self, ends: Ends, number: u16) {
        self.slots.remove(&(ends, number));
    }

    /// The check with these ends and this number.
    pub(super) fn slot(&self, ends: Ends, number: u16) -> Option<u32> {
        self.slots.get(&(ends, number)).copied()
    }

    #[cfg(test)]
    pub(super) fn in_use(&self) -> usize {
        self.slots.len() + self.by_way.len()
    }

    /// Checks of `target` by `port` include `slot` from now on.
    pub(super) fn add_way(&mut self, ends: Ends, port: PortId, slot: u32) {
        self.by_way.insert((ends.target, ends.udp, port, slot));
    }

    /// Undoes [`Self::add_way`].
    pub(super) fn remove_way(&mut self, ends: Ends, port: PortId, slot: u32) {
        self.by_way.remove(&(ends.target, ends.udp, port, slot));
    }

    /// A check of `target` by `port`, of any number.
    pub(super) fn slot_by_way(&self, target: IpAddr, udp: bool, port: PortId) -> Option<u32> {
        let first = (target, udp, port, 0);
        let last = (target, udp, port, u32::MAX);
        self.by_way.range(first..=last).next().map(|&(.., slot)| slot)
    }
}

/// How often a check draws. Not for each request: frequent ones would fill the tables of firewalls.
pub(crate) const REDRAW_EVERY: Duration = Duration::from_mins(1);

/// How often a check draws at most, when others seem to know its number.
pub(crate) const REDRAW_LIMIT: Duration = Duration::from_secs(10);

/// Numbers tried by a check that has one already.
pub(super) const REDRAW_TRIES: u16 = 64;

/// The range of source ports is the numbers with these bits set.
const _: () = assert!(
    *SOURCE_PORTS.start() == 0xc000 && *SOURCE_PORTS.end() == 0xffff,
    "source ports begin with two set bits"
);
