use super::*;

#[test]
fn reads_that_brought_nothing_leave_no_packet_and_their_buffers_unused() {
    let mut batch = Batch::new();
    for (index, buffer) in batch.next_frames().take(4).enumerate() {
        buffer[..OFFLOAD_LEN].fill(0);
        buffer[OFFLOAD_LEN] = index as u8;
    }
    batch.commit_frames([Some(OFFLOAD_LEN + 1), None, Some(OFFLOAD_LEN + 1), None]);
    let bytes: Vec<_> = (0..batch.len()).map(|index| batch.packet(index).1.to_vec()).collect();
    assert_eq!(bytes, [[0], [2]]);
    assert_eq!(batch.room(), BURST - 3);
    batch.commit_frames([Some(3)]);
    assert!(batch.packet(2).1.is_empty(), "less than a header");
}

#[test]
fn a_full_batch_takes_no_more_and_keeps_each_packet() {
    let mut batch = Batch::new();
    batch.from_port(PortId(7));
    for i in 0..BURST {
        assert!(batch.push(&[i as u8; 20]));
    }
    assert_eq!((batch.room(), batch.push(&[0; 20])), (0, false));
    assert!(batch.next_buffer().is_empty());
    for i in 0..BURST {
        let (slot, bytes) = batch.packet(i);
        assert_eq!((slot.port, bytes), (PortId(7), &[i as u8; 20][..]));
    }
    batch.clear();
    assert!(!batch.push(&vec![0; PACKET_MAX + 1]));
    assert!(batch.push(&vec![1; PACKET_MAX]));
    assert_eq!(batch.packet(0).1.len(), PACKET_MAX);
}
