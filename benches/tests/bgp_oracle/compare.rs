//! What nearhop and netgauze-bgp-pkt make of the same UPDATE. The fuzz target `bgp_wire` uses it too.

use std::collections::{BTreeSet, HashMap};
use std::net::IpAddr;

use nearhop::bgp::{
    AttributeStore, Attributes, EXTENDED_MAX, Frame, FrameKind, NextHop, Nlri, PerFamily, Segment,
    Update, UpdateContext, decode_update,
};
use netgauze_bgp_pkt::BgpMessage;
use netgauze_bgp_pkt::community::LargeCommunity;
use netgauze_bgp_pkt::nlri::{Ipv4UnicastAddress, Ipv6UnicastAddress};
use netgauze_bgp_pkt::path_attribute::{
    Aggregator, AsPath, AsPathSegmentType, ClusterId, MpReach, MpUnreach, Origin,
    PathAttributeValue,
};
use netgauze_bgp_pkt::update::BgpUpdateMessage;
use netgauze_bgp_pkt::wire::deserializer::BgpParsingContext;
use netgauze_iana::address_family::AddressType;
use netgauze_parse_utils::reader::SliceReader;
use netgauze_parse_utils::traits::ParseFromWithOneInput;

/// What both know of a session, as an internal neighbour's.
pub fn context(four_octet_as: bool, path_ids: bool) -> UpdateContext {
    UpdateContext {
        four_octet_as,
        internal: true,
        first_as: None,
        families: PerFamily::BOTH,
        path_ids: PerFamily { ipv4: path_ids, ipv6: path_ids },
        extended_next_hop: true,
        link_local_next_hop: true,
    }
}

/// Whether both read it without complaint; then they have to agree. What only one of them complains of is
/// told apart by the tests of each rule, not here: netgauze reports what it reads, nearhop what may be used.
pub fn agree(message: &[u8], context: &UpdateContext) -> Result<bool, String> {
    let Ok(Some(frame)) = Frame::first(message, EXTENDED_MAX) else { return Ok(false) };
    if frame.kind != FrameKind::Update || frame.message.len() != message.len() {
        return Ok(false);
    }
    let mut store = AttributeStore::default();
    let Ok(ours) = decode_update(frame.body(), context, &mut store) else { return Ok(false) };
    if !ours.faults.is_empty() {
        return Ok(false);
    }
    let mut reader = SliceReader::new(message);
    let ids = [AddressType::Ipv4Unicast, AddressType::Ipv6Unicast];
    let ids: HashMap<_, _> = ids.map(|family| (family, context.path_ids.ipv4)).into();
    let mut theirs =
        BgpParsingContext::new(context.four_octet_as, HashMap::new(), ids, true, true, true, true);
    let Ok(BgpMessage::Update(update)) = BgpMessage::parse(&mut reader, &mut theirs) else {
        return Ok(false);
    };
    let (Some(theirs), ours) = (said_by_them(&update), said_by_us(&ours)) else { return Ok(false) };
    if ours == theirs {
        Ok(true)
    } else {
        Err(format!("nearhop: {ours:#?}\nnetgauze: {theirs:#?}"))
    }
}

fn said_by_us(update: &Update) -> BTreeSet<String> {
    let mut facts = BTreeSet::new();
    for announced in &update.announced {
        for nlri in &announced.nlri {
            facts.insert(format!(
                "announce {} {}",
                text(*nlri),
                hop(announced.attributes.next_hop)
            ));
        }
        attributes_of(&announced.attributes, &mut facts);
    }
    facts.extend(update.withdrawn.iter().map(|nlri| format!("withdraw {}", text(*nlri))));
    facts
}

fn text(nlri: Nlri) -> String {
    format!("{} {}", nlri.prefix, nlri.path_id)
}

fn hop(next_hop: NextHop) -> String {
    let second = next_hop.link_local.map(|addr| addr.to_string()).unwrap_or_default();
    format!("{} {second}", next_hop.addr)
}

fn attributes_of(attributes: &Attributes, facts: &mut BTreeSet<String>) {
    let segments = attributes.as_path.segments().map(|segment| match segment {
        Segment::Sequence(ases) | Segment::Set(ases) => format!("{ases:?}"),
    });
    facts.insert(format!("origin {}", attributes.origin.label()));
    facts.insert(format!("path {}", segments.collect::<Vec<_>>().concat().replace("][", ", ")));
    facts.extend(attributes.med.map(|med| format!("med {med}")));
    facts.extend(attributes.local_pref.map(|value| format!("local-pref {value}")));
    facts.extend(attributes.communities.iter().map(|one| format!("community {}", one.0)));
    facts.extend(attributes.large().iter().map(|one| format!("large {one}")));
    facts.insert(format!("extended {}", attributes.extended().len()));
    facts.extend(attributes.originator_id().map(|id| format!("originator {id}")));
    facts.insert(format!("clusters {:?}", attributes.cluster_list()));
    facts.extend(attributes.only_to_customer().map(|asn| format!("otc {asn}")));
    facts.extend(
        attributes.aggregator().map(|by| format!("aggregator {} {}", by.asn, by.router_id)),
    );
    facts.extend(attributes.atomic_aggregate.then(|| "atomic".into()));
}

/// `None` if there is something that it leaves to whoever reads it.
fn said_by_them(update: &BgpUpdateMessage) -> Option<BTreeSet<String>> {
    let mut facts = BTreeSet::new();
    let mut attributes = BTreeSet::new();
    let (mut clusters, mut extended) = (Vec::new(), 0);
    let mut hop_of_ipv4 = String::new();
    let mut announces = !update.nlri().is_empty();
    for attribute in update.path_attributes() {
        match attribute.value() {
            PathAttributeValue::AsPath(path) => {
                attributes.insert(format!("path {}", path_of(path)?));
            }
            PathAttributeValue::NextHop(next_hop) => {
                hop_of_ipv4 = format!("{} ", next_hop.next_hop());
            }
            PathAttributeValue::ExtendedCommunities(list) => extended = list.communities().len(),
            PathAttributeValue::ClusterList(list) => {
                clusters = list.cluster_list().iter().map(ClusterId::id).collect();
            }
            PathAttributeValue::MpReach(reach) => announces |= reached(reach, &mut facts),
            PathAttributeValue::MpUnreach(MpUnreach::Ipv4Unicast { nlri }) => {
                facts.extend(nlri.iter().map(|one| format!("withdraw {}", text4(one))));
            }
            PathAttributeValue::MpUnreach(MpUnreach::Ipv6Unicast { nlri }) => {
                facts.extend(nlri.iter().map(|one| format!("withdraw {}", text6(one))));
            }
            // RFC 6793: put together by whoever uses them.
            PathAttributeValue::As4Path(_) => return None,
            PathAttributeValue::UnknownAttribute(unknown) if unknown.code() == 18 => return None,
            other => attributes.extend(plain(other)),
        }
    }
    for one in update.nlri() {
        facts.insert(format!("announce {} {hop_of_ipv4}", text4(one)));
    }
    facts.extend(update.withdraw_routes().iter().map(|one| format!("withdraw {}", text4(one))));
    if announces {
        attributes.insert(format!("clusters {clusters:?}"));
        attributes.insert(format!("extended {extended}"));
        facts.extend(attributes);
    }
    Some(facts)
}

/// Attributes that are a fact, or a list of facts.
fn plain(value: &PathAttributeValue) -> Vec<String> {
    let fact = match value {
        PathAttributeValue::Origin(Origin::IGP) => "origin igp".to_owned(),
        PathAttributeValue::Origin(Origin::EGP) => "origin egp".to_owned(),
        PathAttributeValue::Origin(Origin::Incomplete) => "origin incomplete".to_owned(),
        PathAttributeValue::MultiExitDiscriminator(med) => format!("med {}", med.metric()),
        PathAttributeValue::LocalPreference(value) => format!("local-pref {}", value.metric()),
        PathAttributeValue::AtomicAggregate(_) => "atomic".to_owned(),
        PathAttributeValue::Aggregator(Aggregator::As4Aggregator(by)) => {
            format!("aggregator {} {}", by.asn(), by.origin())
        }
        PathAttributeValue::Aggregator(Aggregator::As2Aggregator(by)) => {
            format!("aggregator {} {}", by.asn(), by.origin())
        }
        PathAttributeValue::Communities(list) => {
            let all = list.communities().iter();
            return all.map(|one| format!("community {}", one.value())).collect();
        }
        PathAttributeValue::LargeCommunities(list) => {
            let text = |one: &LargeCommunity| {
                let (one, two) = (one.global_admin(), (one.local_data1(), one.local_data2()));
                format!("large {one}:{}:{}", two.0, two.1)
            };
            return list.communities().iter().map(text).collect();
        }
        PathAttributeValue::Originator(id) => format!("originator {}", id.id()),
        PathAttributeValue::OnlyToCustomer(otc) => format!("otc {}", otc.asn()),
        _ => return Vec::new(),
    };
    vec![fact]
}

/// Adds what is announced; returns whether that is something.
fn reached(reach: &MpReach, facts: &mut BTreeSet<String>) -> bool {
    match reach {
        MpReach::Ipv4Unicast { next_hop, next_hop_local, nlri } => {
            let hop = hop(usable(*next_hop, *next_hop_local));
            facts.extend(nlri.iter().map(|one| format!("announce {} {hop}", text4(one))));
            !nlri.is_empty()
        }
        MpReach::Ipv6Unicast { next_hop_global, next_hop_local, nlri } => {
            let hop = hop(usable((*next_hop_global).into(), *next_hop_local));
            facts.extend(nlri.iter().map(|one| format!("announce {} {hop}", text6(one))));
            !nlri.is_empty()
        }
        _ => false,
    }
}

/// A link-local address that stands alone may be written in several ways.
fn usable(addr: IpAddr, second: Option<std::net::Ipv6Addr>) -> NextHop {
    match (addr, second) {
        (IpAddr::V6(first), Some(second))
            if first.is_unspecified() || first.is_unicast_link_local() =>
        {
            NextHop::new(second.into())
        }
        (addr, link_local) => NextHop { addr, link_local },
    }
}

fn path_of(path: &AsPath) -> Option<String> {
    let mut all: Vec<u32> = Vec::new();
    match path {
        AsPath::As2PathSegments(segments) => {
            for segment in segments {
                // RFC 9774.
                if segment.segment_type() != AsPathSegmentType::AsSequence {
                    return None;
                }
                all.extend(segment.as_numbers().iter().map(|asn| u32::from(*asn)));
            }
        }
        AsPath::As4PathSegments(segments) => {
            for segment in segments {
                if segment.segment_type() != AsPathSegmentType::AsSequence {
                    return None;
                }
                all.extend(segment.as_numbers());
            }
        }
    }
    Some(if all.is_empty() { String::new() } else { format!("{all:?}") })
}

fn text4(one: &Ipv4UnicastAddress) -> String {
    format!("{} {}", one.network().address().trunc(), one.path_id().unwrap_or(0))
}

fn text6(one: &Ipv6UnicastAddress) -> String {
    format!("{} {}", one.network().address().trunc(), one.path_id().unwrap_or(0))
}
