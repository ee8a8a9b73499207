//! What a vnet_hdr claims of any bytes is refused, or segments can be made of it that all parse;
//! and whatever is joined comes out again as it went in.
#![no_main]

use libfuzzer_sys::fuzz_target;
use nearhop::batch::{Batch, Exit, PACKET_MAX};
use nearhop::ids::PortId;
use nearhop::packet::Meta;
use nearhop::packet::offload::segment::Segments;
use nearhop::packet::offload::{OFFLOAD_LEN, Offload, Offloads, complete};
use nearhop::verdict::Verdict;

fuzz_target!(|data: &[u8]| {
    let Some((header, rest)) = data.split_first_chunk::<OFFLOAD_LEN>() else { return };
    let offload = Offload::from_bytes(*header);
    assert_eq!(&offload.to_bytes(), header);
    let mut buffer = vec![0; PACKET_MAX];
    if let Ok(plan) = Segments::plan(rest, offload) {
        let mut count = 0;
        plan.each(&mut buffer, |segment| {
            let meta = Meta::parse(segment).expect("a segment of an admitted packet parses");
            assert_eq!(meta.len, segment.len());
            count += 1;
        });
        assert_eq!(count, plan.count());
    }
    complete(&mut rest.to_vec(), offload);
    join(rest, &mut buffer);
});

/// Cuts the input into packets of one size, and joins those that a router would forward.
fn join(data: &[u8], buffer: &mut [u8]) {
    let Some((&size, data)) = data.split_first() else { return };
    let out = PortId(1);
    let mut batch = Batch::new();
    let mut before = Vec::new();
    for packet in data.chunks(usize::from(size).max(20)) {
        if Meta::parse(packet).is_ok_and(|meta| meta.len == packet.len()) && batch.push(packet) {
            let exit = Exit { port: out, ..Exit::default() };
            batch.transmit(batch.len() - 1, exit, None, Verdict::Forward);
            before.push(packet.len());
        }
    }
    batch.join(out, Offloads::ALL);
    let mut after = Vec::new();
    for (_, frame) in batch.frames(out) {
        let plan =
            Segments::plan(frame.packet(), frame.offload()).expect("joined packets are right");
        plan.each(buffer, |segment| after.push(segment.len()));
    }
    before.sort_unstable();
    after.sort_unstable();
    assert_eq!(before, after);
}
