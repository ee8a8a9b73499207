//! Bytes to BGP messages: no panic; what is announced has what RFC 7606 asks for; what is read without
//! complaint can be written and reads back as itself; and another implementation reads the same.
#![no_main]

#[path = "../../benches/tests/bgp_oracle/compare.rs"]
mod compare;

use std::collections::BTreeSet;

use libfuzzer_sys::fuzz_target;
use nearhop::bgp::{
    AttributeStore, Attributes, EXTENDED_MAX, Frame, FrameKind, HEADER_LEN, MESSAGE_MAX, Message,
    Nlri, Packing, Partial, Update, UpdateContext, decode_update, wire,
};
use nearhop::ids::Family;

// The first byte is what both sides agreed on, the rest an UPDATE's or an OPEN's body, or a stream.
fuzz_target!(|bytes: &[u8]| {
    let Some((agreed, bytes)) = bytes.split_first() else { return };
    let mut context = compare::context(agreed & 1 != 0, agreed & 2 != 0);
    context.internal = agreed & 4 != 0;
    context.extended_next_hop = agreed & 8 != 0;
    context.link_local_next_hop = agreed & 16 != 0;
    context.first_as = (agreed & 32 != 0 && !context.internal).then_some(64_500);
    match agreed >> 6 {
        0 | 1 => update(bytes, &context),
        2 => open(bytes),
        _ => stream(bytes, &context),
    }
});

fn update(body: &[u8], context: &UpdateContext) {
    let mut store = AttributeStore::default();
    if let Ok(update) = decode_update(body, context, &mut store) {
        sound(&update, context);
        there_and_back(&update, context);
    }
    if let Ok(len) = u16::try_from(HEADER_LEN + body.len()) {
        let [high, low] = len.to_be_bytes();
        let message = [&[0xff; 16][..], &[high, low, 2], body].concat();
        if let Err(difference) = compare::agree(&message, &compare::context(true, false)) {
            panic!("{difference}");
        }
        if let Err(difference) = compare::agree(&message, &compare::context(false, true)) {
            panic!("{difference}");
        }
    }
}

fn sound(update: &Update, context: &UpdateContext) {
    assert!(update.announced.len() <= 2, "at most NLRI and MP_REACH_NLRI");
    for announced in &update.announced {
        let attributes = &announced.attributes;
        assert!(!announced.nlri.is_empty());
        let families: BTreeSet<Family> = announced.nlri.iter().map(|one| one.family()).collect();
        assert_eq!(families.len(), 1);
        assert!(!attributes.next_hop.addr.is_unspecified());
        assert!(!attributes.as_path.ases().any(|asn| asn == 0));
        if let Some(asn) = context.first_as {
            assert_eq!(attributes.as_path.first(), Some(asn));
        }
        if !context.internal {
            assert_eq!((attributes.local_pref, attributes.originator_id()), (None, None));
            assert!(attributes.cluster_list().is_empty());
        }
    }
    let ids = update.withdrawn.iter().chain(update.announced.iter().flat_map(|one| &one.nlri));
    for nlri in ids {
        assert!(nlri.path_id == 0 || *context.path_ids.of(nlri.family()));
    }
    if update.end_of_rib.is_some() {
        assert!(update.announced.is_empty() && update.withdrawn.is_empty());
    }
}

fn there_and_back(update: &Update, context: &UpdateContext) {
    let packing = Packing {
        four_octet_as: context.four_octet_as,
        path_ids: context.path_ids,
        link_local_next_hop: true,
        max_len: EXTENDED_MAX,
    };
    let reader = UpdateContext { extended_next_hop: true, link_local_next_hop: true, ..*context };
    for announced in &update.announced {
        let mut bytes = Vec::new();
        let Ok(count) = packing.announce(&announced.attributes, &announced.nlri, &mut bytes) else {
            // Written in full, it may be longer than what came.
            continue;
        };
        let back = read(&bytes, &reader);
        assert_eq!(back.announced.len(), 1, "{:?}", back.faults);
        assert_eq!(back.announced[0].nlri, announced.nlri[..count]);
        let came = &back.announced[0].attributes;
        assert_eq!(partial(came), partial(&announced.attributes));
    }
    let (mut rest, mut bytes): (&[Nlri], _) = (&update.withdrawn, Vec::new());
    let one_family = rest.iter().take_while(|one| one.family() == rest[0].family()).count();
    rest = &rest[..one_family];
    if !rest.is_empty() {
        let count = packing.withdraw(rest, &mut bytes);
        assert_eq!(read(&bytes, &reader).withdrawn, rest[..count]);
    }
}

fn read(bytes: &[u8], context: &UpdateContext) -> Update {
    let frame = Frame::first(bytes, EXTENDED_MAX).expect("a good header").expect("a whole message");
    assert_eq!((frame.kind, frame.message.len()), (FrameKind::Update, bytes.len()));
    decode_update(frame.body(), context, &mut AttributeStore::default()).expect("a good UPDATE")
}

/// Unknown attributes go on with the partial bit.
fn partial(attributes: &Attributes) -> Attributes {
    let mut attributes = attributes.clone();
    attributes.change_rare(|rare| rare.unknown.iter_mut().for_each(|one| one.flags |= 0x20));
    // That of an aggregator is lost with AS4_AGGREGATOR.
    if attributes.aggregator().is_some() {
        attributes.partial = attributes.partial.with(Partial::AGGREGATOR);
    }
    attributes
}

fn open(body: &[u8]) {
    let Ok(open) = wire::decode_open(body) else { return };
    let mut bytes = Vec::new();
    if wire::encode_open(&open, &mut bytes).is_ok() {
        let frame = Frame::first(&bytes, MESSAGE_MAX).expect("a good header").expect("whole");
        assert_eq!(wire::decode_open(frame.body()), Ok(open));
    }
}

/// However much of a stream is there, it is the same messages.
fn stream(bytes: &[u8], context: &UpdateContext) {
    let mut rest = bytes;
    while let Ok(Some(frame)) = Frame::first(rest, MESSAGE_MAX) {
        let len = frame.message.len();
        for cut in 0..len {
            assert_eq!(Frame::first(&rest[..cut], MESSAGE_MAX), Ok(None), "{cut} of {len}");
        }
        let _ = Message::decode(frame, context, &mut AttributeStore::default());
        rest = &rest[len..];
    }
}
