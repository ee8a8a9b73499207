//! RFC 7606, section by section; RFC 8092, section 6; RFC 9234, section 5; RFC 4271, section 6.3.

use super::*;
use crate::bgp::{Disposition, Notification};
use crate::ids::Family;

/// What becomes of an UPDATE with one good prefix and this attribute.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Fate {
    /// Announced, and nothing wrong.
    Fine,
    /// Announced, something left out.
    Discarded,
    /// Withdrawn.
    Withdrawn,
    /// The session ends with this NOTIFICATION.
    Reset(u8, u8),
}

use Fate::{Discarded, Fine, Reset, Withdrawn};

const PREFIX: [u8; 4] = [24, 203, 0, 113];

fn good() -> [Vec<u8>; 3] {
    [
        attribute(0x40, 1, &[0]),
        attribute(0x40, 2, &[2, 1, 0, 0, 0xfb, 0xf4]),
        attribute(0x40, 3, &NEXT_HOP.octets()),
    ]
}

fn fate(body: &[u8], context: &UpdateContext) -> Fate {
    let update = match decode(body, context) {
        Err(error) => return Reset(error.notification.code, error.notification.subcode),
        Ok(update) => update,
    };
    let worst = update.faults.iter().map(|fault| fault.disposition).max();
    match (worst, update.announced.len(), update.withdrawn.len()) {
        (None, 1.., 0) => Fine,
        (Some(Disposition::DiscardAttribute), 1.., 0) => Discarded,
        (Some(Disposition::TreatAsWithdraw), 0, 1..) => Withdrawn,
        _ => panic!("{update:?}"),
    }
}

/// The good attributes with `changed` in place of the one of its type, or besides.
fn with(changed: Vec<u8>) -> Vec<u8> {
    let mut list: Vec<Vec<u8>> = good().into_iter().filter(|one| one[1] != changed[1]).collect();
    list.push(changed);
    body(&[], &list, &PREFIX)
}

fn check(context: &UpdateContext, table: &[(&str, Vec<u8>, Fate)]) {
    for (rule, attribute, expected) in table {
        let got = std::panic::catch_unwind(|| fate(&with(attribute.clone()), context));
        assert_eq!(got.ok(), Some(*expected), "{rule}: {attribute:02x?}");
    }
}

#[test]
fn each_attribute_is_handled_as_rfc_7606_7_says() {
    let a = attribute;
    check(
        &EXTERNAL,
        &[
            ("a route without fault", a(0x80, 4, &[0, 0, 0, 1]), Fine),
            ("7.1 ORIGIN length", a(0x40, 1, &[0, 0]), Withdrawn),
            ("7.1 ORIGIN length 0", a(0x40, 1, &[]), Withdrawn),
            ("7.1 ORIGIN value", a(0x40, 1, &[9]), Withdrawn),
            ("7.2 AS_PATH segment type", a(0x40, 2, &[7, 1, 0, 0, 0xfb, 0xf4]), Withdrawn),
            ("7.2 AS_PATH overrun", a(0x40, 2, &[2, 2, 0, 0, 0xfb, 0xf4]), Withdrawn),
            ("7.2 AS_PATH underrun", a(0x40, 2, &[2, 1, 0, 0, 0xfb, 0xf4, 2]), Withdrawn),
            ("7.2 AS_PATH empty segment", a(0x40, 2, &[2, 1, 0, 0, 0xfb, 0xf4, 2, 0]), Withdrawn),
            ("7.3 NEXT_HOP length", a(0x40, 3, &[192, 0, 2]), Withdrawn),
            ("7.4 MED length", a(0x80, 4, &[0, 0, 1]), Withdrawn),
            ("7.5 LOCAL_PREF, external", a(0x40, 5, &[0, 0, 0, 100]), Discarded),
            ("7.5 LOCAL_PREF, external, length", a(0x40, 5, &[0]), Discarded),
            ("7.6 ATOMIC_AGGREGATE length", a(0x40, 6, &[0]), Discarded),
            ("7.7 AGGREGATOR length", a(0xc0, 7, &[0, 1, 10, 0, 0, 1]), Discarded),
            ("7.8 COMMUNITIES length", a(0xc0, 8, &[0, 0, 1]), Withdrawn),
            ("7.8 COMMUNITIES length 0", a(0xc0, 8, &[]), Withdrawn),
            ("7.9 ORIGINATOR_ID, external", a(0x80, 9, &[10, 0, 0, 1]), Discarded),
            ("7.9 ORIGINATOR_ID, external, length", a(0x80, 9, &[10]), Discarded),
            ("7.10 CLUSTER_LIST, external", a(0x80, 10, &[10, 0, 0, 1]), Discarded),
            ("7.10 CLUSTER_LIST, external, length", a(0x80, 10, &[10]), Discarded),
            ("7.14 EXTENDED COMMUNITIES length", a(0xc0, 16, &[0; 7]), Withdrawn),
            ("7.14 EXTENDED COMMUNITIES length 0", a(0xc0, 16, &[]), Withdrawn),
            ("7.14 of unknown type", a(0xc0, 16, &[0x3f, 0, 0, 0, 0, 0, 0, 1]), Fine),
            ("7.15 IPv6 extended communities length", a(0xc0, 25, &[0; 19]), Withdrawn),
        ],
    );
    check(
        &INTERNAL,
        &[
            ("7.5 LOCAL_PREF, internal", a(0x40, 5, &[0, 0, 0, 100]), Fine),
            ("7.5 LOCAL_PREF, internal, length", a(0x40, 5, &[0]), Withdrawn),
            ("7.9 ORIGINATOR_ID, internal", a(0x80, 9, &[10, 0, 0, 1]), Fine),
            ("7.9 ORIGINATOR_ID, internal, length", a(0x80, 9, &[10]), Withdrawn),
            ("7.10 CLUSTER_LIST, internal", a(0x80, 10, &[10, 0, 0, 1]), Fine),
            ("7.10 CLUSTER_LIST, internal, length", a(0x80, 10, &[10]), Withdrawn),
            ("7.10 CLUSTER_LIST, internal, length 0", a(0x80, 10, &[]), Withdrawn),
        ],
    );
}

#[test]
fn other_rules_about_attributes() {
    let a = attribute;
    check(
        &EXTERNAL,
        &[
            ("RFC 8092, 6: length", a(0xc0, 32, &[0; 11]), Withdrawn),
            ("RFC 8092, 6: length 0", a(0xc0, 32, &[]), Withdrawn),
            ("RFC 8092, 6: one community", a(0xc0, 32, &[0; 12]), Fine),
            ("RFC 9234, 5: OTC length", a(0xc0, 35, &[0, 0, 1]), Withdrawn),
            ("RFC 9234, 5: OTC", a(0xc0, 35, &[0, 0, 0, 1]), Fine),
            ("3(c): ORIGIN optional", a(0xc0, 1, &[0]), Withdrawn),
            ("3(c): NEXT_HOP not transitive", a(0x00, 3, &NEXT_HOP.octets()), Withdrawn),
            ("3(c): COMMUNITIES not transitive", a(0x80, 8, &[0, 0, 0, 1]), Withdrawn),
            ("3(c): ATOMIC_AGGREGATE optional", a(0xc0, 6, &[]), Withdrawn),
            ("unknown, well-known", a(0x40, 99, &[1]), Withdrawn),
            ("unknown, optional transitive", a(0xc0, 99, &[1]), Fine),
            ("unknown, optional, not transitive", a(0x80, 99, &[1]), Fine),
            ("RFC 9774: a set of ASes", a(0x40, 2, &[1, 1, 0, 0, 0xfb, 0xf4]), Withdrawn),
            ("RFC 7607: AS 0", a(0x40, 2, &[2, 2, 0, 0, 0xfb, 0xf4, 0, 0, 0, 0]), Withdrawn),
            ("first AS", a(0x40, 2, &[2, 1, 0, 0, 0xfb, 0xf5]), Withdrawn),
            ("first AS of an empty path", a(0x40, 2, &[]), Withdrawn),
            ("NEXT_HOP 0.0.0.0", a(0x40, 3, &[0; 4]), Withdrawn),
            ("NEXT_HOP 127.0.0.1", a(0x40, 3, &[127, 0, 0, 1]), Withdrawn),
            ("NEXT_HOP 224.0.0.1", a(0x40, 3, &[224, 0, 0, 1]), Withdrawn),
        ],
    );
    check(&INTERNAL, &[("an empty path within the AS", a(0x40, 2, &[]), Fine)]);
    let lenient = UpdateContext { first_as: None, ..EXTERNAL };
    let another = a(0x40, 2, &[2, 1, 0, 0, 0xfb, 0xf5]);
    check(&lenient, &[("first AS, not enforced", another, Fine)]);
}

#[test]
fn a_missing_attribute_withdraws() {
    for missing in 1..=3 {
        let rest: Vec<_> = good().into_iter().filter(|one| one[1] != missing).collect();
        assert_eq!(fate(&body(&[], &rest, &PREFIX), &INTERNAL), Withdrawn, "type {missing}");
    }
}

#[test]
fn of_several_errors_the_strongest_wins() {
    let [origin, path, next_hop] = good();
    let discard = attribute(0x40, 6, &[0]);
    let withdraw = attribute(0xc0, 8, &[0]);
    let all = [origin, path, next_hop, discard, withdraw];
    assert_eq!(fate(&body(&[], &all, &PREFIX), &EXTERNAL), Withdrawn);
    let update = decode(&body(&[], &all, &PREFIX), &EXTERNAL).unwrap();
    let faults: Vec<_> = update.faults.iter().map(|fault| fault.attribute).collect();
    assert_eq!(faults, [6, 8], "each is named");
}

#[test]
fn of_an_attribute_that_comes_twice_the_first_counts() {
    let mut list = good().to_vec();
    list.push(attribute(0x80, 4, &[0, 0, 0, 1]));
    list.push(attribute(0x80, 4, &[0, 0, 0, 2]));
    list.push(attribute(0xc0, 99, &[1]));
    list.push(attribute(0xc0, 99, &[2]));
    let update = decode(&body(&[], &list, &PREFIX), &EXTERNAL).unwrap();
    let attributes = &update.announced[0].attributes;
    assert_eq!(attributes.med, Some(1));
    assert_eq!(&*attributes.unknown()[0].value, [1]);
    assert_eq!(update.faults.len(), 2);
}

fn reach(next_hop: &[u8], nlri: &[u8]) -> Vec<u8> {
    let value = [&[0, 2, 1, next_hop.len() as u8][..], next_hop, &[0], nlri].concat();
    attribute(0x80, 14, &value)
}

const GLOBAL: [u8; 16] = [0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];
const LINK_LOCAL: [u8; 16] = [0xfe, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2];
const PREFIX6: [u8; 5] = [32, 0x20, 1, 0xd, 0xb8];

#[test]
fn prefixes_that_cannot_be_read_reset_the_session() {
    let [origin, path, next_hop] = good();
    let list = [origin.clone(), path.clone(), next_hop];
    let reach_with = |mp: Vec<u8>| body(&[], &[mp, origin.clone(), path.clone()], &[]);
    let unreach = |value: &[u8]| body(&[], &[attribute(0x80, 15, value)], &[]);
    let twice = |mp: Vec<u8>| body(&[], &[mp.clone(), mp, origin.clone(), path.clone()], &[]);
    let wrong_flags = {
        let mut mp = reach(&GLOBAL, &PREFIX6);
        mp[0] = 0xc0;
        mp
    };
    let table = [
        ("5.3 prefix above 32", body(&[], &list, &[33, 1, 2, 3, 4, 5]), (3, 10)),
        ("5.3 prefix cut", body(&[], &list, &[24, 1, 2]), (3, 10)),
        ("5.3 withdrawn above 32", body(&[33, 1, 2, 3, 4, 5], &[], &[]), (3, 10)),
        ("5.3 withdrawn cut", body(&[24, 1], &[], &[]), (3, 10)),
        ("5.3 MP_REACH above 128", reach_with(reach(&GLOBAL, &[129; 20])), (3, 9)),
        ("5.3 MP_REACH cut", reach_with(reach(&GLOBAL, &[32, 1])), (3, 9)),
        ("5.3 MP_REACH flags", reach_with(wrong_flags), (3, 4)),
        ("5.3 MP_REACH below 5", reach_with(attribute(0x80, 14, &[0, 2, 1, 0])), (3, 5)),
        ("7.11 next hop of 15", reach_with(reach(&GLOBAL[..15], &PREFIX6)), (3, 9)),
        ("7.11 next hop of 4", reach_with(reach(&[192, 0, 2, 1], &PREFIX6)), (3, 9)),
        ("7.12 MP_UNREACH below 3", unreach(&[0, 2]), (3, 5)),
        ("7.12 MP_UNREACH cut", unreach(&[0, 2, 1, 32, 1]), (3, 9)),
        ("7.12 MP_UNREACH above 128", unreach(&[0, 2, 1, 129]), (3, 9)),
        ("3(g) MP_REACH twice", twice(reach(&GLOBAL, &PREFIX6)), (3, 1)),
        ("3(b) withdrawn beyond the end", vec![0, 9, 0, 0], (3, 1)),
        ("3(b) attributes beyond the end", vec![0, 0, 0, 9, 1], (3, 1)),
        ("3(b) no room for lengths", vec![0, 1, 0, 0], (3, 1)),
    ];
    for (rule, body, (code, subcode)) in table {
        assert_eq!(fate(&body, &EXTERNAL), Reset(code, subcode), "{rule}");
    }
}

#[test]
fn an_error_without_any_prefix_resets_the_session() {
    let [_, path, next_hop] = good();
    let bad = attribute(0x40, 1, &[9]);
    let all = [bad.clone(), path.clone(), next_hop.clone()];
    assert_eq!(fate(&body(&[], &all, &[]), &EXTERNAL), Reset(3, 6), "5.2");
    // Of prefixes in another family it is known what they are.
    let flow = attribute(0x80, 14, &[0, 1, 133, 0, 0, 1, 2]);
    let update = decode(&body(&[], &[bad, path, next_hop, flow], &[]), &EXTERNAL).unwrap();
    assert_eq!((update.announced, update.withdrawn), (vec![], vec![]));
    // What is only left out is no error of that kind.
    let [origin, path, next_hop] = good();
    let discard = [origin, path, next_hop, attribute(0x40, 6, &[0])];
    let update = decode(&body(&[], &discard, &[]), &EXTERNAL).unwrap();
    assert_eq!((update.announced.len(), update.faults.len()), (0, 1));
}

#[test]
fn lengths_of_attributes_that_contradict_each_other_withdraw() {
    let overrun = |len: u8| {
        let mut list = good().to_vec();
        list.push(vec![0xc0, 8, len, 0, 0, 0, 1]);
        body(&[], &list, &PREFIX)
    };
    assert_eq!(fate(&overrun(4), &EXTERNAL), Fine);
    assert_eq!(fate(&overrun(5), &EXTERNAL), Withdrawn, "4: beyond the end");
    assert_eq!(fate(&overrun(3), &EXTERNAL), Withdrawn, "4: one octet is left");
    let mut list = good().to_vec();
    list.push(vec![0xd0, 8, 0]);
    assert_eq!(fate(&body(&[], &list, &PREFIX), &EXTERNAL), Withdrawn, "4: half a length");
}

#[test]
fn prefixes_of_other_families_are_no_routes_and_no_errors() {
    let vpn = attribute(0x80, 14, &[0, 1, 128, 12, 0, 0, 0, 0, 0, 0, 0, 0, 1, 2, 3, 4, 0, 99]);
    let unknown = attribute(0x80, 15, &[0x40, 4, 71, 1, 2, 3]);
    let mut list = good().to_vec();
    list.extend([vpn.clone(), unknown, attribute(0x80, 4, &[0, 0, 0, 7])]);
    let update = decode(&body(&[], &list, &PREFIX), &EXTERNAL).unwrap();
    assert_eq!(update.announced.len(), 1);
    assert_eq!(update.announced[0].attributes.med, Some(7), "what follows is read");
    assert_eq!((update.withdrawn, update.faults), (vec![], vec![]));
    let only_ipv4 = UpdateContext { families: PerFamily::only(Family::Ipv4), ..EXTERNAL };
    let [origin, path, _] = good();
    let ipv6 = [reach(&[1, 2, 3], &PREFIX6), origin, path];
    let update = decode(&body(&[], &ipv6, &[]), &only_ipv4).unwrap();
    assert_eq!(update, Update::default());
    let only_ipv6 = UpdateContext { families: PerFamily::only(Family::Ipv6), ..EXTERNAL };
    assert_eq!(decode(&body(&[], &good(), &PREFIX), &only_ipv6), Ok(Update::default()));
    list.push(vpn);
    assert_eq!(fate(&body(&[], &list, &PREFIX), &EXTERNAL), Reset(3, 1), "3(g) all the same");
}

#[test]
fn next_hops_are_what_was_agreed_on() {
    let [origin, path, _] = good();
    let ipv6 = |hop: &[u8]| body(&[], &[reach(hop, &PREFIX6), origin.clone(), path.clone()], &[]);
    let both = [GLOBAL, LINK_LOCAL].concat();
    let alone = UpdateContext { link_local_next_hop: true, ..EXTERNAL };
    let table = [
        ("global", ipv6(&GLOBAL), EXTERNAL, Fine),
        ("global and link-local", ipv6(&both), EXTERNAL, Fine),
        ("global twice", ipv6(&[GLOBAL, GLOBAL].concat()), EXTERNAL, Discarded),
        ("link-local, not agreed on", ipv6(&LINK_LOCAL), EXTERNAL, Withdrawn),
        ("link-local", ipv6(&LINK_LOCAL), alone, Fine),
        ("link-local twice", ipv6(&[LINK_LOCAL, LINK_LOCAL].concat()), alone, Fine),
        ("none and link-local", ipv6(&[[0; 16], LINK_LOCAL].concat()), alone, Fine),
        ("none", ipv6(&[0; 16]), alone, Withdrawn),
        ("multicast", ipv6(&[0xff; 16]), alone, Withdrawn),
    ];
    for (case, body, context, expected) in &table {
        assert_eq!(fate(body, context), *expected, "{case}");
    }
    let hop_of = |body: &[u8]| decode(body, &alone).unwrap().announced[0].attributes.next_hop;
    for (case, body, ..) in &table[4..7] {
        assert_eq!(hop_of(body).to_string(), "fe80::2", "{case}");
    }
    assert_eq!(hop_of(&ipv6(&both)).to_string(), "2001:db8::1 (fe80::2)");

    let mut mp = reach(&GLOBAL, &PREFIX);
    mp[4] = 1;
    let ipv4 = body(&[], &[mp, origin.clone(), path.clone()], &[]);
    assert_eq!(fate(&ipv4, &EXTERNAL), Reset(3, 9), "RFC 8950 not agreed on");
    assert_eq!(fate(&ipv4, &UpdateContext { extended_next_hop: true, ..EXTERNAL }), Fine);
}

#[test]
fn a_withdrawal_needs_no_attributes_and_beats_nothing_announced() {
    let update = decode(&body(&PREFIX, &good(), &PREFIX), &EXTERNAL).unwrap();
    assert_eq!((update.withdrawn.len(), update.announced.len()), (1, 1));
    let update = decode(&body(&PREFIX, &[], &[]), &EXTERNAL).unwrap();
    assert_eq!((update.withdrawn.len(), update.end_of_rib), (1, None));
}

#[test]
fn the_end_of_a_rib_is_an_update_that_says_nothing() {
    let end = |attributes: &[Vec<u8>]| decode(&body(&[], attributes, &[]), &EXTERNAL).unwrap();
    assert_eq!(end(&[]).end_of_rib, Some(Family::Ipv4));
    let unreach = |safi| attribute(0x80, 15, &[0, 2, safi]);
    assert_eq!(end(&[unreach(1)]).end_of_rib, Some(Family::Ipv6));
    assert_eq!(end(&[unreach(2)]).end_of_rib, None);
    let not_alone = [unreach(1), attribute(0x80, 4, &[0, 0, 0, 1])];
    assert_eq!(end(&not_alone).end_of_rib, None);
    let other = UpdateContext { families: PerFamily::only(Family::Ipv6), ..EXTERNAL };
    assert_eq!(decode(&body(&[], &[], &[]), &other).unwrap().end_of_rib, None);
}

#[test]
fn the_data_of_a_notification_is_the_attribute() {
    let bad = [attribute(0x40, 1, &[9])];
    let error = decode(&body(&[], &bad, &[]), &EXTERNAL).unwrap_err();
    assert_eq!(error.notification, Notification::with((3, 6), [0x40, 1, 1, 9]));
}

#[test]
fn a_large_community_that_comes_twice_counts_once() {
    let one: Vec<u8> = (0..12).collect();
    let mut list = good().to_vec();
    list.push(attribute(0xc0, 32, &[one.clone(), vec![0; 12], one].concat()));
    let update = decode(&body(&[], &list, &PREFIX), &EXTERNAL).unwrap();
    assert_eq!(update.announced[0].attributes.large().len(), 2, "RFC 8092, section 3");
}

#[test]
fn optional_parameters_of_an_open_are_checked() {
    let open = |parameters: &[u8]| {
        let fixed = [4, 0xfd, 0xe9, 0, 90, 10, 0, 0, 1, parameters.len() as u8];
        crate::bgp::wire::decode_open(&[&fixed[..], parameters].concat())
    };
    let refused = |parameters: &[u8]| {
        let notification = open(parameters).unwrap_err().notification;
        (notification.code, notification.subcode)
    };
    assert_eq!(open(&[2, 2, 2, 0, 2, 2, 70, 0]).unwrap().capabilities.len(), 2);
    assert_eq!(refused(&[1, 1, 0]), (2, 4), "another parameter than capabilities");
    assert_eq!(refused(&[2, 9, 2, 0]), (2, 0), "a parameter beyond the end");
    assert_eq!(refused(&[2, 2, 65, 4]), (2, 0), "a capability beyond the end");
    assert_eq!(refused(&[2]), (2, 0), "half a parameter");
}
