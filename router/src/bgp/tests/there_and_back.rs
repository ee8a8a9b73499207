//! What is packed reads back as itself, in messages that are not too long.

use std::net::{IpAddr, Ipv6Addr};

use nearhop_fib::IpPrefix;
use proptest::collection::vec;
use proptest::prelude::*;

use super::*;
use crate::bgp::{
    Aggregator, AsPath, Attributes, Community, EXTENDED_MAX, ExtendedCommunity, Frame, FrameKind,
    LargeCommunity, MESSAGE_MAX, NextHop, Nlri, Origin, PackError, Packing, UnknownAttribute,
};
use crate::ids::Family;

/// What two routers agree on that know nothing but AS numbers of four octets.
const PACKING: Packing = Packing {
    four_octet_as: true,
    path_ids: PerFamily::NONE,
    link_local_next_hop: false,
    max_len: MESSAGE_MAX,
};

/// How a receiver reads what `packing` writes.
fn reader(packing: &Packing) -> UpdateContext {
    UpdateContext {
        four_octet_as: packing.four_octet_as,
        path_ids: packing.path_ids,
        extended_next_hop: true,
        link_local_next_hop: true,
        ..INTERNAL
    }
}

/// All messages of `bytes`, none of them too long.
fn read(bytes: &[u8], packing: &Packing) -> Vec<Update> {
    let (mut rest, mut updates) = (bytes, Vec::new());
    while let Some(frame) = Frame::first(rest, packing.max_len).expect("a good header") {
        assert_eq!(frame.kind, FrameKind::Update);
        updates.push(decode(frame.body(), &reader(packing)).expect("a good UPDATE"));
        rest = &rest[frame.message.len()..];
    }
    assert!(rest.is_empty(), "half a message");
    updates
}

fn nlri(family: Family) -> impl Strategy<Value = Nlri> {
    (any::<u128>(), 0..=128u8, any::<u32>()).prop_map(move |(bits, len, path_id)| {
        let prefix = match family {
            Family::Ipv4 => IpPrefix::around(Ipv4Addr::from(bits as u32).into(), len % 33),
            Family::Ipv6 => IpPrefix::around(Ipv6Addr::from(bits).into(), len),
        };
        Nlri { prefix: prefix.expect("a length that fits"), path_id }
    })
}

fn next_hop(family: Family) -> impl Strategy<Value = NextHop> {
    let global = |low: u16| Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, low);
    let link = |low: u16| Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, low);
    let new = |addr: IpAddr| NextHop::new(addr);
    (any::<u16>(), 0..4u8).prop_map(move |(low, kind)| match (family, kind) {
        (Family::Ipv4, 0 | 1) => new(Ipv4Addr::from(0xc000_0000 | u32::from(low)).into()),
        (_, 0 | 1) => new(global(low).into()),
        (_, 2) => new(link(low).into()),
        _ => NextHop { addr: global(low).into(), link_local: Some(link(low)) },
    })
}

prop_compose! {
    fn attributes(family: Family)(
        next_hop in next_hop(family),
        path in vec(1..=u32::MAX, 0..300),
        (med, local_pref, otc) in any::<(Option<u32>, Option<u32>, Option<u32>)>(),
        communities in vec(any::<u32>(), 0..80),
        extended in vec(any::<u64>(), 0..4),
        large in proptest::collection::btree_set(any::<[u32; 3]>(), 0..4),
        clusters in vec(any::<u32>(), 0..4),
        aggregator in proptest::option::of((1..=u32::MAX, any::<u32>())),
        (origin, atomic) in (0..3usize, any::<bool>()),
        unknown in proptest::option::of(vec(any::<u8>(), 0..300)),
    ) -> Attributes {
        let mut attributes = Attributes {
            origin: [Origin::Igp, Origin::Egp, Origin::Incomplete][origin],
            atomic_aggregate: atomic,
            as_path: AsPath::sequence(&path),
            med,
            local_pref,
            communities: communities.into_iter().map(Community).collect(),
            ..Attributes::originated(next_hop)
        };
        attributes.change_rare(|rare| {
            let large_of = |[global, one, two]: [u32; 3]| {
                LargeCommunity { global, local: [one, two] }
            };
            rare.large = large.into_iter().map(large_of).collect();
            rare.extended = extended.into_iter().map(ExtendedCommunity).collect();
            rare.cluster_list = clusters.into_iter().map(Ipv4Addr::from).collect();
            rare.only_to_customer = otc;
            rare.aggregator = aggregator
                .map(|(asn, id)| Aggregator { asn, router_id: Ipv4Addr::from(id) });
            // With the partial bit, since that is how it goes on.
            rare.unknown = unknown.into_iter()
                .map(|value| UnknownAttribute { flags: 0xe0, code: 99, value: value.into() })
                .collect();
        });
        attributes
    }
}

prop_compose! {
    fn packing()(
        four_octet_as: bool,
        (ipv4, ipv6) in any::<(bool, bool)>(),
        link_local_next_hop: bool,
        is_extended: bool,
    ) -> Packing {
        Packing {
            four_octet_as,
            path_ids: PerFamily { ipv4, ipv6 },
            link_local_next_hop,
            max_len: if is_extended { EXTENDED_MAX } else { MESSAGE_MAX },
        }
    }
}

fn routes() -> impl Strategy<Value = (Attributes, Vec<Nlri>)> {
    prop_oneof![Just(Family::Ipv4), Just(Family::Ipv6)]
        .prop_flat_map(|family| (attributes(family), vec(nlri(family), 1..2000)))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn announcements_read_back_as_themselves((attributes, nlri) in routes(), packing in packing()) {
        let (mut bytes, mut at) = (Vec::new(), 0);
        while at < nlri.len() {
            let count = packing.announce(&attributes, &nlri[at..], &mut bytes);
            let count = count.expect("attributes that fit");
            prop_assert!(count > 0);
            at += count;
        }
        let updates = read(&bytes, &packing);
        let with_ids = *packing.path_ids.of(nlri[0].family());
        let sent = nlri.iter().map(|one| Nlri { path_id: if with_ids { one.path_id } else { 0 }, ..*one });
        let came = updates.iter().flat_map(|update| update.announced[0].nlri.iter().copied());
        prop_assert!(came.eq(sent));
        for update in &updates {
            prop_assert_eq!(&update.faults, &[]);
            prop_assert_eq!(&*update.announced[0].attributes, &attributes);
        }
        // Full but for the last: the next prefix would not have fitted.
        let longest = 4 + 17;
        let full = bytes.len() as f64 / updates.len() as f64 + longest as f64;
        prop_assert!(updates.len() < 2 || full > packing.max_len as f64 / 2.0);
    }

    #[test]
    fn withdrawals_read_back_as_themselves((_, nlri) in routes(), packing in packing()) {
        let (mut bytes, mut at) = (Vec::new(), 0);
        while at < nlri.len() {
            at += packing.withdraw(&nlri[at..], &mut bytes);
        }
        let with_ids = *packing.path_ids.of(nlri[0].family());
        let sent = nlri.iter().map(|one| Nlri { path_id: if with_ids { one.path_id } else { 0 }, ..*one });
        let updates = read(&bytes, &packing);
        prop_assert!(updates.iter().flat_map(|update| update.withdrawn.iter().copied()).eq(sent));
        let octets: usize = nlri.iter().map(|one| one.wire_len(with_ids)).sum();
        // At least all but one prefix's room is used.
        prop_assert!(updates.len() <= 1 + octets / (packing.max_len - 64));
    }
}

#[test]
fn what_does_not_fit_is_said_and_nothing_is_sent() {
    let path: Vec<u32> = (1..=1100).collect();
    let next_hop = NextHop::new(NEXT_HOP.into());
    let attributes =
        Attributes { as_path: AsPath::sequence(&path), ..Attributes::originated(next_hop) };
    let nlri = [Nlri::new("203.0.113.0/24".parse().unwrap())];
    let mut bytes = Vec::new();
    let error = PACKING.announce(&attributes, &nlri, &mut bytes).unwrap_err();
    assert!(matches!(error, PackError::TooLong { len: 4401.., max: MESSAGE_MAX }), "{error}");
    assert!(bytes.is_empty());
    let extended = Packing { max_len: EXTENDED_MAX, ..PACKING };
    assert_eq!(extended.announce(&attributes, &nlri, &mut bytes), Ok(1));
    assert_eq!(read(&bytes, &extended)[0].announced[0].attributes.as_path.len(), 1100);

    let zero = Attributes { as_path: AsPath::sequence(&[0]), ..Attributes::originated(next_hop) };
    let error = PACKING.announce(&zero, &nlri, &mut Vec::new()).unwrap_err();
    assert!(matches!(error, PackError::Encode(_)), "{error}");
}

#[test]
fn an_unknown_attribute_goes_on_with_the_partial_bit() {
    let next_hop = NextHop::new(NEXT_HOP.into());
    let mut attributes = Attributes::originated(next_hop);
    attributes.change_rare(|rare| {
        rare.unknown = [UnknownAttribute { flags: 0xc0, code: 99, value: [7].into() }].into();
    });
    let nlri = [Nlri::new("203.0.113.0/24".parse().unwrap())];
    let mut bytes = Vec::new();
    PACKING.announce(&attributes, &nlri, &mut bytes).unwrap();
    assert_eq!(read(&bytes, &PACKING)[0].announced[0].attributes.unknown()[0].flags, 0xe0);
}

#[test]
fn an_end_of_rib_reads_back_as_one() {
    let packing = Packing { path_ids: PerFamily::BOTH, ..PACKING };
    for family in [Family::Ipv4, Family::Ipv6] {
        let mut bytes = Vec::new();
        Packing::end_of_rib(family, &mut bytes);
        assert_eq!(
            read(&bytes, &packing),
            [Update { end_of_rib: Some(family), ..Update::default() }]
        );
    }
}

#[test]
fn an_open_with_many_capabilities_takes_the_form_of_rfc_9072() {
    use crate::bgp::{Capability, Open, wire};
    let value = vec![7; 200];
    let many = |count: usize| Open {
        as_field: 65_001,
        hold_time_s: 90,
        router_id: Ipv4Addr::new(10, 0, 0, 1),
        capabilities: vec![Capability::Other { code: 200, value: value.clone() }; count],
    };
    for (count, is_extended) in [(0, false), (1, false), (2, true), (19, true)] {
        let mut bytes = Vec::new();
        wire::encode_open(&many(count), &mut bytes).unwrap();
        let frame = Frame::first(&bytes, MESSAGE_MAX).unwrap().unwrap();
        let marks = frame.body()[9] == 255 && frame.body()[10] == 255;
        assert_eq!(marks, is_extended, "{count} capabilities");
        assert_eq!(wire::decode_open(frame.body()), Ok(many(count)));
    }
    assert!(wire::encode_open(&many(30), &mut Vec::new()).is_err(), "no OPEN has so many octets");
}
