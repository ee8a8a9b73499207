//! Wrong attributes, one by one, to the running daemon and to BIRD: each has to be handled as the rule says
//! that is about it (RFC 7606, sections 3 and 7, RFC 8092, section 6, RFC 9234, section 5, RFC 6793, section 6).
//! ExaBGP sends those that it can, by attributes given in octets; a speaker of this test sends the rest.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod bgp_support;
mod daemon_support;
mod support;

use std::fmt::Write as _;
use std::net::Ipv4Addr;

use bgp_support::bird::Bird;
use bgp_support::exabgp::ExaBgp;
use bgp_support::missing;
use bgp_support::speaker::{End, Ends, Speaker, as_path, attribute, nlri};
use daemon_support::Rig;
use daemon_support::bgp::{SITES, established, routes, with_neighbors};
use nearhop::kernel::link::LinkSetup;
use nearhop::kernel::netns::NetNs;
use support::skip::skip;
use support::{in_namespaces, wait_for};

/// What becomes of a route that came before, and of a new one, both with the wrong attribute.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Outcome {
    /// Both are there: the attribute is left out, or is none that anybody must know.
    Kept,
    /// Neither is there (treat-as-withdraw).
    Withdrawn,
}

use Outcome::{Kept, Withdrawn};

/// A wrong attribute by which both outcomes are possible.
struct Case {
    /// What says what becomes of it.
    rule: &'static str,
    from: From,
    /// As ExaBGP takes it: type, flags, value.
    attribute: &'static str,
    expected: Outcome,
}

/// Which of ExaBGP's sessions.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum From {
    External,
    Internal,
}

const fn case(rule: &'static str, attribute: &'static str, expected: Outcome) -> Case {
    Case { rule, from: From::External, attribute, expected }
}

const fn internal(rule: &'static str, attribute: &'static str, expected: Outcome) -> Case {
    Case { rule, from: From::Internal, attribute, expected }
}

const CASES: &[Case] = &[
    case("7606 7.1: ORIGIN 9", "0x01 0x40 0x09", Withdrawn),
    case("7606 7.1: ORIGIN of 2 octets", "0x01 0x40 0x0000", Withdrawn),
    case("7606 3(c): ORIGIN that is optional", "0x01 0xc0 0x00", Withdrawn),
    case("7606 7.2: AS_PATH with a segment of type 9", "0x02 0x40 0x09010000fdea", Withdrawn),
    case("7606 7.2: AS_PATH that ends within a segment", "0x02 0x40 0x02020000fdea", Withdrawn),
    case("7606 7.2: AS_PATH with one octet left", "0x02 0x40 0x02010000fdea02", Withdrawn),
    case("7606 7.2: AS_PATH with a segment of no AS", "0x02 0x40 0x02010000fdea0200", Withdrawn),
    case("7606 7.4: MED of 3 octets", "0x04 0x80 0x000001", Withdrawn),
    case("7606 3(c): MED that is transitive", "0x04 0xc0 0x00000001", Withdrawn),
    case("7606 7.6: ATOMIC_AGGREGATE of 1 octet", "0x06 0x40 0x01", Kept),
    case("7606 7.7: AGGREGATOR of 6 octets", "0x07 0xc0 0xfdea0a000001", Kept),
    case("7606 7.8: COMMUNITY of 3 octets", "0x08 0xc0 0xfdea00", Withdrawn),
    case("7606 7.8: COMMUNITY of no octet", "0x08 0xc0 0x", Withdrawn),
    case("7606 7.9: ORIGINATOR_ID of an external neighbour", "0x09 0x80 0x0a0000", Kept),
    case("7606 7.10: CLUSTER_LIST of an external neighbour", "0x0a 0x80 0x0a0000", Kept),
    case("7606 7.14: extended community of 7 octets", "0x10 0xc0 0x0002fdea000000", Withdrawn),
    case("8092 6: LARGE_COMMUNITY of 2 octets", "0x20 0xc0 0xfdea", Withdrawn),
    case(
        "8092 6: LARGE_COMMUNITY of 13 octets",
        "0x20 0xc0 0x0000fdea000000010000000200",
        Withdrawn,
    ),
    case("9234 5: OTC of 3 octets", "0x23 0xc0 0x00fdea", Withdrawn),
    case("6793 6: AS4_PATH that ends within a segment", "0x11 0xc0 0x02020000fdea", Kept),
    case("6793 6: AS4_AGGREGATOR of 7 octets", "0x12 0xc0 0x0000fdea0a0000", Kept),
    case("4271 9: unknown and transitive", "0xe0 0xc0 0x0102", Kept),
    case("4271 9: unknown and not transitive", "0xe1 0x80 0x0102", Kept),
    internal("7606 7.5: LOCAL_PREF of 3 octets", "0x05 0x40 0x000064", Withdrawn),
    internal("7606 7.9: ORIGINATOR_ID of 3 octets", "0x09 0x80 0x0a0000", Withdrawn),
    internal("7606 7.10: CLUSTER_LIST of 5 octets", "0x0a 0x80 0x0a00000105", Withdrawn),
    internal("7606 7.10: CLUSTER_LIST of no octet", "0x0a 0x80 0x", Withdrawn),
];

#[test]
fn attributes_by_exabgp_are_handled_as_the_rules_say() {
    let test = "attributes_by_exabgp_are_handled_as_the_rules_say";
    if let Some(why) = missing("bird", "bird2").or_else(|| missing("exabgp", "exabgp")) {
        return skip(test, &why);
    }
    in_namespaces(test, || {
        let rig = Rig::start_with(SITES, &with_neighbors(2..4, &[3], PASSIVE));
        let netns = rig.site_netns("peer");
        give_addresses(netns, 1..4);
        let bird = Bird::start(netns, "peer", &bird(2..4, &[3]));
        let mut exabgp = ExaBgp::start(netns, "peer", &(exabgp(2, 65_002) + &exabgp(3, 65_001)));

        // Every route once as it should be, so that what is withdrawn was there.
        for (index, case) in CASES.iter().enumerate() {
            announce(&mut exabgp, case.from, &prefix(OLD, index), "");
        }
        let all = (0..CASES.len()).map(|index| prefix(OLD, index));
        let all: Vec<String> = all.collect();
        wait_for("every route at nearhop and BIRD", || {
            let (here, there) = (routes(&rig), bird.ask("show route"));
            all.iter().all(|one| here.contains(one) && there.contains(one)).then_some(())
        });

        for (index, case) in CASES.iter().enumerate() {
            let attribute = format!("attribute [ {} ]", case.attribute);
            for which in [OLD, NEW] {
                announce(&mut exabgp, case.from, &prefix(which, index), &attribute);
            }
        }
        // What is said last is heard last.
        for (from, last) in [(From::External, "5.2.0.0/24"), (From::Internal, "5.3.0.0/24")] {
            announce(&mut exabgp, from, last, "");
        }
        wait_for("the last routes at nearhop and BIRD", || {
            let (here, there) = (routes(&rig), bird.ask("show route"));
            let has = |last| here.contains(&String::from(last)) && there.contains(last);
            ["5.2.0.0/24", "5.3.0.0/24"].into_iter().all(has).then_some(())
        });
        let (here, there) = (routes(&rig), bird.ask("show route"));
        let outcome = |index, is_there: &dyn Fn(&String) -> bool| match [OLD, NEW]
            .map(|which| is_there(&prefix(which, index)))
        {
            [true, true] => Ok(Kept),
            [false, false] => Ok(Withdrawn),
            mixed => Err(mixed),
        };
        let mut wrong = String::new();
        for (index, Case { rule, expected, .. }) in CASES.iter().enumerate() {
            let nearhop = outcome(index, &|one| here.contains(one));
            let of_bird = outcome(index, &|one| there.contains(one));
            if (nearhop, of_bird) != (Ok(*expected), Ok(*expected)) {
                let _ = writeln!(wrong, "{rule}: nearhop {nearhop:?}, BIRD {of_bird:?}");
            }
        }
        assert!(wrong.is_empty(), "expected otherwise:\n{wrong}");
        assert_eq!(established(&rig), 2, "no session ended:\n{}", rig.log());
    });
}

/// A whole UPDATE that ExaBGP does not send.
struct Said {
    rule: &'static str,
    attributes: Vec<u8>,
    expected: Outcome,
}

fn said(rule: &'static str, attributes: &[&[u8]], expected: Outcome) -> Said {
    Said { rule, attributes: attributes.concat(), expected }
}

/// By an external neighbour.
fn by_speaker() -> Vec<Said> {
    let origin = attribute(0x40, 1, &[0]);
    let path = as_path(&[65_002]);
    let next_hop = attribute(0x40, 3, &[10, 2, 0, 2]);
    let local_pref = attribute(0x40, 5, &[0, 0, 0, 200, 0]);
    let all: [&[u8]; 3] = [&origin, &path, &next_hop];
    let long = [&all[..], &[&[0xc0, 8, 200, 1, 2, 3, 4][..]]].concat();
    vec![
        said(
            "7606 7.3: NEXT_HOP of 3 octets",
            &[&origin, &path, &attribute(0x40, 3, &[10, 2, 0])],
            Withdrawn,
        ),
        said("7606 3(d): no ORIGIN", &[&path, &next_hop], Withdrawn),
        said("7606 3(d): no AS_PATH", &[&origin, &next_hop], Withdrawn),
        said("7606 3(d): no NEXT_HOP", &[&origin, &path], Withdrawn),
        said(
            "7606 3(g): ORIGIN twice, the first counts",
            &[&origin, &path, &next_hop, &attribute(0x40, 1, &[9])],
            Kept,
        ),
        said("7606 4: an attribute longer than all of them", &long, Withdrawn),
        said(
            "7606 7.5: LOCAL_PREF of an external neighbour",
            &[&origin, &path, &next_hop, &local_pref],
            Kept,
        ),
    ]
}

#[test]
fn what_exabgp_cannot_say_is_handled_as_the_rules_say() {
    let test = "what_exabgp_cannot_say_is_handled_as_the_rules_say";
    if let Some(why) = missing("bird", "bird2") {
        return skip(test, &why);
    }
    in_namespaces(test, || {
        let resets = resets();
        let first = 4;
        let neighbors = 2..first + u8::try_from(resets.len()).unwrap();
        let rig = Rig::start_with(SITES, &with_neighbors(neighbors.clone(), &[], PASSIVE));
        let netns = rig.site_netns("peer");
        give_addresses(netns, 1..neighbors.end);
        let bird = Bird::start(netns, "peer", &bird(neighbors, &[]));
        let open = |last| [to_nearhop(last), to_bird(last)].map(|ends| Speaker::open(netns, ends));

        let mut both = open(2);
        let right =
            [attribute(0x40, 1, &[0]), as_path(&[65_002]), attribute(0x40, 3, &[10, 2, 0, 2])];
        let cases = by_speaker();
        for speaker in &mut both {
            for (index, case) in cases.iter().enumerate() {
                speaker.update(&[], &right.concat(), &nlri(&prefix(OLD, index)));
                for which in [OLD, NEW] {
                    speaker.update(&[], &case.attributes, &nlri(&prefix(which, index)));
                }
            }
            speaker.update(&[], &right.concat(), &nlri("5.2.0.0/24"));
        }
        wait_for("the last route at nearhop and BIRD", || {
            let here = routes(&rig).contains(&"5.2.0.0/24".into());
            (here && bird.ask("show route").contains("5.2.0.0/24")).then_some(())
        });
        let (here, there) = (routes(&rig), bird.ask("show route"));
        for (index, Said { rule, expected, .. }) in cases.iter().enumerate() {
            for which in [OLD, NEW] {
                let prefix = prefix(which, index);
                assert_eq!(here.contains(&prefix), *expected == Kept, "{rule}: nearhop, {prefix}");
                assert_eq!(there.contains(&prefix), *expected == Kept, "{rule}: BIRD, {prefix}");
            }
        }

        for (last, (rule, update, expected, of_bird)) in (first..).zip(resets) {
            let [mut here, mut there] = open(last);
            let ends = [(&mut here, expected), (&mut there, of_bird)].map(|(speaker, expected)| {
                speaker.send(&update);
                (expected, wait_for(rule, || speaker.poll_end()))
            });
            assert!(ends.iter().all(|(expected, end)| expected == end), "{rule}: {ends:?}");
        }
        assert_eq!(established(&rig), 1, "the others are unharmed:\n{}", rig.log());
    });
}

/// What the session does not survive, each with its end at nearhop and at BIRD.
fn resets() -> Vec<(&'static str, Vec<u8>, End, End)> {
    let right = [attribute(0x40, 1, &[0]), as_path(&[65_002]), attribute(0x40, 3, &[10, 2, 0, 2])];
    let right = right.concat();
    let with = |more: &[&[u8]]| update(&[], &[&right[..], &more.concat()].concat(), &[]);
    let next_hop = [0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2];
    let reach = |next_hop: &[u8], nlri: &[u8]| {
        let len = u8::try_from(next_hop.len()).unwrap();
        attribute(0x80, 14, &[&[0, 2, 1, len], next_hop, &[0], nlri].concat())
    };
    let net = [32, 0x2a, 0, 0, 1];
    let list_error = End::Notified(3, 1);
    let optional_error = End::Notified(3, 9);
    vec![
        (
            "7606 3(g): MP_REACH_NLRI twice",
            with(&[&reach(&next_hop, &net), &reach(&next_hop, &net)]),
            list_error,
            list_error,
        ),
        (
            "7606 3(j): a prefix of 33 bits",
            update(&[], &right, &[33, 5, 1, 1, 1, 1]),
            End::Notified(3, 10),
            End::Notified(3, 10),
        ),
        (
            "7606 7.11: MP_REACH_NLRI with a next hop of 5 octets",
            with(&[&reach(&next_hop[..5], &net)]),
            optional_error,
            optional_error,
        ),
        (
            "7606 7.12: MP_UNREACH_NLRI of 2 octets",
            with(&[&attribute(0x80, 15, &[0, 2])]),
            // "Attribute length error" and "optional attribute error" are both said of it.
            End::Notified(3, 5),
            optional_error,
        ),
    ]
}

fn update(withdrawn: &[u8], attributes: &[u8], nlri: &[u8]) -> Vec<u8> {
    bgp_support::speaker::update(withdrawn, attributes, nlri)
}

/// BIRD with the same neighbours, at addresses of the loopback device.
fn bird(lasts: std::ops::Range<u8>, internal: &[u8]) -> String {
    let mut text = "router id 192.0.2.1;\nprotocol device {}\n".to_owned();
    for last in lasts {
        let asn = if internal.contains(&last) { 65_001 } else { 65_002 };
        let _ = writeln!(
            text,
            "protocol bgp e{last} {{ local 192.0.2.1 as 65001; neighbor 192.0.2.{last} as {asn}; \
             multihop; passive; ipv4 {{ import all; export none; }}; \
             ipv6 {{ import all; export none; }}; }}"
        );
    }
    text
}

/// ExaBGP's sessions from one address to nearhop and to BIRD.
fn exabgp(last: u8, asn: u32) -> String {
    let mut text = String::new();
    for (to, from) in
        [("10.2.0.1", format!("10.2.0.{last}")), ("192.0.2.1", format!("192.0.2.{last}"))]
    {
        let _ = writeln!(
            text,
            "neighbor {to} {{ local-address {from}; router-id {from}; local-as {asn}; peer-as 65001; \
             hold-time 240; group-updates false; api {{ processes [ test ]; }} \
             family {{ ipv4 unicast; }} }}"
        );
    }
    text
}

fn announce(exabgp: &mut ExaBgp, from: From, prefix: &str, attribute: &str) {
    let last = match from {
        From::External => 2,
        From::Internal => 3,
    };
    for (to, from) in [("10.2.0.1", "10.2.0"), ("192.0.2.1", "192.0.2")] {
        exabgp.say(&format!(
            "neighbor {to} local-ip {from}.{last} announce route {prefix} next-hop {from}.{last} {attribute}"
        ));
    }
}

fn to_nearhop(last: u8) -> Ends {
    let from = Ipv4Addr::new(10, 2, 0, last);
    Ends { from, to: Ipv4Addr::new(10, 2, 0, 1), asn: 65_002, id: from, hold_s: 0 }
}

fn to_bird(last: u8) -> Ends {
    let from = Ipv4Addr::new(192, 0, 2, last);
    Ends { from, to: Ipv4Addr::new(192, 0, 2, 1), asn: 65_002, id: from, hold_s: 0 }
}

/// The addresses of BIRD and its neighbours.
fn give_addresses(netns: &NetNs, lasts: std::ops::Range<u8>) {
    let mut links = LinkSetup::open(netns).unwrap();
    for last in lasts {
        links.replace_address("lo", format!("192.0.2.{last}/32").parse().unwrap()).unwrap();
    }
}

/// The prefix of a case.
fn prefix(which: u8, index: usize) -> String {
    format!("5.{which}.{index}.0/24")
}

/// BIRD listens at the same port, and is not to be connected to.
const PASSIVE: &str = "passive = true\nexport = \"none\"\n";

/// Routes that were there before.
const OLD: u8 = 10;

/// Routes that come with the wrong attribute.
const NEW: u8 = 11;
