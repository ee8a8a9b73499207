//! What a route says of itself, shared by all routes that say the same.
#![forbid(unsafe_code)]

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::fmt;
use std::hash::{BuildHasher, BuildHasherDefault, Hasher, RandomState};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use super::{AsPath, Community, ExtendedCommunity, LargeCommunity};
use crate::ids::Family;

/// The path attributes of a route, its next hop included. Two routes with equal attributes share one
/// `Arc` ([`AttributeStore`]).
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct Attributes {
    /// ORIGIN.
    pub origin: Origin,
    /// ATOMIC_AGGREGATE: ASes were left out of the path on the way.
    pub atomic_aggregate: bool,
    /// Of which known optional transitive attributes a router on the way knew nothing.
    pub partial: Partial,
    /// NEXT_HOP, or that of MP_REACH_NLRI.
    pub next_hop: NextHop,
    /// AS_PATH, in four-octet form.
    pub as_path: AsPath,
    /// MULTI_EXIT_DISC.
    pub med: Option<u32>,
    /// LOCAL_PREF; never from an external neighbour.
    pub local_pref: Option<u32>,
    /// COMMUNITIES.
    pub communities: Box<[Community]>,
    /// What most routes have nothing of.
    pub rare: Option<Box<RareAttributes>>,
}

/// Attributes that most routes do not have.
#[derive(Clone, Debug, Default, Eq, Hash, PartialEq)]
pub struct RareAttributes {
    /// LARGE_COMMUNITIES, no value twice.
    pub large: Box<[LargeCommunity]>,
    /// EXTENDED COMMUNITIES.
    pub extended: Box<[ExtendedCommunity]>,
    /// AGGREGATOR.
    pub aggregator: Option<Aggregator>,
    /// ORIGINATOR_ID: who brought the route into this AS; never from an external neighbour.
    pub originator_id: Option<Ipv4Addr>,
    /// CLUSTER_LIST: the reflectors it passed; never from an external neighbour.
    pub cluster_list: Box<[Ipv4Addr]>,
    /// Only to Customer (RFC 9234): the AS that said so.
    pub only_to_customer: Option<u32>,
    /// Optional transitive attributes that mean nothing here and are sent on, in the order of types.
    pub unknown: Box<[UnknownAttribute]>,
}

/// ORIGIN. Lower is preferred.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Origin {
    /// From within the AS.
    Igp,
    /// From EGP.
    Egp,
    /// Otherwise.
    Incomplete,
}

/// Where packets are to go. Link-local addresses count on the session's link only.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct NextHop {
    /// Global address, or the link-local one if there is no global one.
    pub addr: IpAddr,
    /// Link-local address beside a global one (RFC 2545).
    pub link_local: Option<Ipv6Addr>,
}

/// AGGREGATOR: who made one route of several.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct Aggregator {
    /// AS number.
    pub asn: u32,
    /// BGP identifier.
    pub router_id: Ipv4Addr,
}

/// An attribute that is sent on as it came.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct UnknownAttribute {
    /// Flags as received; sent on with the partial bit.
    pub flags: u8,
    /// Type code.
    pub code: u8,
    /// Value.
    pub value: Box<[u8]>,
}

/// A set of known optional transitive attributes: those that came with the partial bit.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq)]
pub struct Partial(u8);

impl Attributes {
    /// Those of a route that begins here: no AS in its path, no MED, no community.
    pub fn originated(next_hop: NextHop) -> Self {
        Self {
            origin: Origin::Igp,
            atomic_aggregate: false,
            partial: Partial::NONE,
            next_hop,
            as_path: AsPath::default(),
            med: None,
            local_pref: None,
            communities: Box::default(),
            rare: None,
        }
    }

    /// Whether it bears this community.
    pub fn has_community(&self, community: Community) -> bool {
        self.communities.contains(&community)
    }

    /// LARGE_COMMUNITIES.
    pub fn large(&self) -> &[LargeCommunity] {
        self.rare.as_ref().map_or(&[], |rare| &rare.large)
    }

    /// EXTENDED COMMUNITIES.
    pub fn extended(&self) -> &[ExtendedCommunity] {
        self.rare.as_ref().map_or(&[], |rare| &rare.extended)
    }

    /// AGGREGATOR.
    pub fn aggregator(&self) -> Option<Aggregator> {
        self.rare.as_ref()?.aggregator
    }

    /// ORIGINATOR_ID.
    pub fn originator_id(&self) -> Option<Ipv4Addr> {
        self.rare.as_ref()?.originator_id
    }

    /// CLUSTER_LIST.
    pub fn cluster_list(&self) -> &[Ipv4Addr] {
        self.rare.as_ref().map_or(&[], |rare| &rare.cluster_list)
    }

    /// Only to Customer.
    pub fn only_to_customer(&self) -> Option<u32> {
        self.rare.as_ref()?.only_to_customer
    }

    /// Attributes that are sent on as they came.
    pub fn unknown(&self) -> &[UnknownAttribute] {
        self.rare.as_ref().map_or(&[], |rare| &rare.unknown)
    }

    /// AS and octets a second of the way that the route leads to, if it says so.
    pub fn link_bandwidth(&self) -> Option<(u16, f32)> {
        self.extended().iter().find_map(|community| community.as_link_bandwidth())
    }

    /// Changes rare attributes. What `change` leaves empty takes no room.
    pub fn change_rare(&mut self, change: impl FnOnce(&mut RareAttributes)) {
        let mut rare = self.rare.take().unwrap_or_default();
        change(&mut rare);
        self.rare = (*rare != RareAttributes::default()).then_some(rare);
    }
}

impl NextHop {
    /// One address.
    pub const fn new(addr: IpAddr) -> Self {
        Self { addr, link_local: None }
    }

    /// The address's family; a route's own may differ (RFC 8950).
    pub const fn family(self) -> Family {
        Family::of(self.addr)
    }
}

impl Origin {
    /// As routers show it.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Igp => "igp",
            Self::Egp => "egp",
            Self::Incomplete => "incomplete",
        }
    }
}

impl Partial {
    /// None came so.
    pub const NONE: Self = Self(0);
    /// AGGREGATOR.
    pub const AGGREGATOR: Self = Self(1);
    /// COMMUNITIES.
    pub const COMMUNITIES: Self = Self(2);
    /// EXTENDED COMMUNITIES.
    pub const EXTENDED: Self = Self(4);
    /// LARGE_COMMUNITIES.
    pub const LARGE: Self = Self(8);
    /// Only to Customer.
    pub const ONLY_TO_CUSTOMER: Self = Self(16);

    /// Both sets.
    #[must_use]
    pub const fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Whether all of `other` are in it.
    pub const fn has(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }
}

impl fmt::Display for NextHop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.link_local {
            Some(link_local) => write!(f, "{} ({link_local})", self.addr),
            None => self.addr.fmt(f),
        }
    }
}

/// Keeps one `Arc` of every distinct set of attributes that is in use.
#[derive(Debug)]
pub struct AttributeStore {
    shards: Vec<Shard>,
    /// Neighbours choose what is hashed: the key is secret.
    hasher: RandomState,
}

/// Sets by their hash. A shard sweeps itself when it has doubled, so that no single call does much.
#[derive(Debug, Default)]
struct Shard {
    sets: HashMap<u64, Arc<Attributes>, BuildHasherDefault<AsIs>>,
    sweep_at: usize,
}

/// Hashes what is a hash already.
#[derive(Clone, Copy, Debug, Default)]
struct AsIs(u64);

impl AttributeStore {
    /// The shared form of `attributes`. Now and then it drops sets that nobody uses any more: at most
    /// those of one shard in a call.
    pub fn intern(&mut self, attributes: Attributes) -> Arc<Attributes> {
        let hash = self.hasher.hash_one(&attributes);
        // Neither the bits that choose a place in a table nor those that tell entries apart.
        let shard = &mut self.shards[(hash >> 40) as usize % SHARDS];
        shard.intern(hash, attributes)
    }

    /// How many sets are kept, in use or not yet swept.
    pub fn len(&self) -> usize {
        self.shards.iter().map(|shard| shard.sets.len()).sum()
    }

    /// Whether none is kept.
    pub fn is_empty(&self) -> bool {
        self.shards.iter().all(|shard| shard.sets.is_empty())
    }
}

impl Shard {
    fn intern(&mut self, hash: u64, attributes: Attributes) -> Arc<Attributes> {
        if self.sets.len() >= self.sweep_at {
            self.sets.retain(|_, set| Arc::strong_count(set) > 1);
            self.sweep_at = (self.sets.len() * 2).max(SWEEP_MIN);
        }
        let mut key = hash;
        loop {
            match self.sets.entry(key) {
                Entry::Occupied(known) if **known.get() == attributes => {
                    return Arc::clone(known.get());
                }
                // Two sets with one hash: the next key is as good.
                Entry::Occupied(_) => key = key.wrapping_add(1),
                Entry::Vacant(place) => return Arc::clone(place.insert(Arc::new(attributes))),
            }
        }
    }
}

impl Hasher for AsIs {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = self.0 << 8 | u64::from(*byte);
        }
    }

    fn write_u64(&mut self, hash: u64) {
        self.0 = hash;
    }
}

impl Default for AttributeStore {
    fn default() -> Self {
        let shards = std::iter::repeat_with(Shard::default).take(SHARDS).collect();
        Self { shards, hasher: RandomState::new() }
    }
}

const SHARDS: usize = 256;

/// Sets of a shard that are not worth sweeping.
const SWEEP_MIN: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;

    fn with_med(med: u32) -> Attributes {
        let next_hop = NextHop::new(Ipv4Addr::new(192, 0, 2, 1).into());
        Attributes { med: Some(med), ..Attributes::originated(next_hop) }
    }

    #[test]
    fn equal_sets_are_one_and_unused_ones_go() {
        let mut store = AttributeStore::default();
        let kept = store.intern(with_med(1));
        assert!(Arc::ptr_eq(&kept, &store.intern(with_med(1))));
        for med in 2..100_000 {
            store.intern(with_med(med));
        }
        let bound = SHARDS * (SWEEP_MIN + 2);
        assert!(store.len() <= bound, "{} of at most {bound}", store.len());
        assert!(Arc::ptr_eq(&kept, &store.intern(with_med(1))));
    }

    #[test]
    fn sets_with_one_hash_stay_apart() {
        let mut shard = Shard::default();
        let [one, two] = [1, 2].map(|med| shard.intern(7, with_med(med)));
        assert_eq!((one.med, two.med), (Some(1), Some(2)));
        assert!(Arc::ptr_eq(&two, &shard.intern(7, with_med(2))));
        assert_eq!(shard.sets.len(), 2);
    }

    #[test]
    fn sets_in_use_stay() {
        let mut store = AttributeStore::default();
        let kept: Vec<_> = (0..20_000).map(|med| store.intern(with_med(med))).collect();
        assert_eq!(store.len(), kept.len());
        let again = |med: &u32| Arc::ptr_eq(&kept[*med as usize], &store.intern(with_med(*med)));
        assert_eq!((0..20_000).filter(again).count(), kept.len());
    }

    #[test]
    fn rare_attributes_take_room_only_if_there_are_some() {
        let mut attributes = with_med(1);
        attributes.change_rare(|rare| rare.only_to_customer = Some(7));
        assert_eq!(attributes.only_to_customer(), Some(7));
        attributes.change_rare(|rare| rare.only_to_customer = None);
        assert_eq!(attributes, with_med(1));
        assert!(size_of::<Attributes>() <= 112, "{}", size_of::<Attributes>());
    }
}
