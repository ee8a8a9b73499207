//! Links: what they end at, how they are, and what they do to packets.
#![forbid(unsafe_code)]

use std::time::Duration;

use crate::packet::Meta;
use crate::port::memory::LinkState;
use crate::probe::Rng;

/// Names a link of a [`super::Net`].
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct LinkId(pub usize);

/// What a link ends at.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum End {
    /// One of the clients.
    Client(usize),
    /// A port of one of the routers.
    Node(usize, String),
    /// One of the sites.
    Site(usize),
}

/// What a link does to packets that it lets pass, both ways: how many of a thousand.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Impairment {
    /// Are late, by at most [`LATE_MAX`], so that others overtake them.
    pub reorder: u16,
    /// Arrive twice, the copy late; only packets that have passed a few routers at most.
    pub duplicate: u16,
    /// Arrive with one bit another than was sent.
    pub corrupt: u16,
}

/// The most that an [`Impairment`] adds to the delay of a link.
pub const LATE_MAX: Duration = Duration::from_millis(2);

pub(super) struct Link {
    pub(super) ends: [End; 2],
    pub(super) delay: Duration,
    pub(super) state: LinkState,
    pub(super) impairment: Impairment,
    pub(super) lost: u64,
}

/// A packet on a link.
pub(super) struct Flying {
    pub(super) link: LinkId,
    pub(super) to: usize,
    pub(super) packet: Vec<u8>,
}

/// What becomes of one packet.
pub(super) struct Fate {
    /// What each copy takes longer than the link's delay.
    pub(super) late: Vec<Duration>,
    /// The bit that is turned, if one is.
    pub(super) flip: Option<usize>,
}

impl Impairment {
    /// Draws numbers only if there is something to be drawn. A packet that has been on its way for
    /// long is not copied any more: in a loop copies of copies would be without end.
    pub(super) fn fate(self, packet: &[u8], rng: &mut Rng) -> Fate {
        if self == Self::default() {
            return Fate { late: vec![Duration::ZERO], flip: None };
        }
        let young = Meta::parse(packet).is_ok_and(|meta| meta.ttl > COPIED_ABOVE_TTL);
        let mut hits = |permille: u16| permille > 0 && rng.below(1000) < u64::from(permille);
        let (reorder, duplicate, corrupt) =
            (hits(self.reorder), hits(self.duplicate), hits(self.corrupt));
        let mut late = || Duration::from_nanos(rng.below(LATE_MAX.as_nanos() as u64));
        let mut copies = vec![if reorder { late() } else { Duration::ZERO }];
        if duplicate && young {
            copies.push(late());
        }
        let bits = packet.len() as u64 * 8;
        let flip = (corrupt && bits > 0).then(|| rng.below(bits) as usize);
        Fate { late: copies, flip }
    }
}

/// Of the 64 that everybody here begins with.
const COPIED_ABOVE_TTL: u8 = 56;
