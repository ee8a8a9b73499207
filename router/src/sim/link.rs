//! Links: their ends, their state, and what they do to packets.
#![forbid(unsafe_code)]

use std::time::Duration;

use crate::packet::Meta;
use crate::port::memory::LinkState;
use crate::probe::Rng;

/// Number of a link of a [`super::Net`].
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct LinkId(pub usize);

/// What a link is attached to.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum LinkEnd {
    /// One of the clients.
    Client(usize),
    /// A port of one of the routers.
    Node(usize, String),
    /// One of the sites.
    Site(usize),
}

/// What a link does to packets in both directions, in packets per thousand.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Impairment {
    /// Delayed by up to [`LATE_MAX`] more, so that later packets overtake them.
    pub reorder: u16,
    /// Delivered twice, the copy late. Only packets that passed few routers are copied.
    pub duplicate: u16,
    /// Delivered with one bit flipped.
    pub corrupt: u16,
}

/// The longest delay that an [`Impairment`] adds to that of the link.
pub const LATE_MAX: Duration = Duration::from_millis(2);

pub(super) struct Link {
    pub(super) ends: [LinkEnd; 2],
    pub(super) delay: Duration,
    pub(super) state: LinkState,
    pub(super) impairment: Impairment,
    pub(super) lost: u64,
}

/// A packet on a link.
pub(super) struct InFlight {
    pub(super) link: LinkId,
    pub(super) to: usize,
    pub(super) packet: Vec<u8>,
}

/// The copies of one packet that a link delivers.
pub(super) struct Copies {
    /// Delay of each copy beyond the link's own.
    pub(super) late: Vec<Duration>,
    /// The bit that is flipped in every copy, if any.
    pub(super) flip: Option<usize>,
}

impl Impairment {
    /// Draws random numbers only if the link is impaired. A packet that passed many routers is not
    /// copied: in a loop, copies of copies would never end.
    pub(super) fn copies(self, packet: &[u8], rng: &mut Rng) -> Copies {
        if self == Self::default() {
            return Copies { late: vec![Duration::ZERO], flip: None };
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
        Copies { late: copies, flip }
    }
}

/// Simulated hosts and routers send with a TTL of 64.
const COPIED_ABOVE_TTL: u8 = 56;
