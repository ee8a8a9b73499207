use std::io;
use std::os::fd::BorrowedFd;
use std::sync::Mutex;

use nearhop_fib::AdjacencyId;

use super::*;
use crate::batch::{Exit, Frame};
use crate::control::Control;
use crate::forward::{Adjacencies, Adjacency};
use crate::packet::build::Datagram;
use crate::packet::offload::{Offload, Offloads};
use crate::port::Port;

/// A device that keeps the packets it gets, or refuses them with this error.
struct Wire {
    frames: Mutex<Vec<Vec<u8>>>,
    offloads: Offloads,
    refuse: Option<fn() -> PortError>,
}

impl Wire {
    fn new(offloads: Offloads, refuse: Option<fn() -> PortError>) -> Arc<Self> {
        Arc::new(Self { frames: Mutex::default(), offloads, refuse })
    }

    fn take(&self) -> Vec<Vec<u8>> {
        std::mem::take(&mut *self.frames.lock().unwrap())
    }
}

impl Port for Wire {
    fn engine(&self) -> &'static str {
        "wire"
    }

    fn queues(&self) -> usize {
        1
    }

    fn rx(&self, _queue: usize, _batch: &mut Batch) -> Result<usize, PortError> {
        Ok(0)
    }

    fn tx(&self, _queue: usize, _packet: &[u8]) -> Result<(), PortError> {
        Err(PortError::Refused(io::ErrorKind::Unsupported.into()))
    }

    fn offloads(&self) -> Offloads {
        self.offloads
    }

    fn send(&self, _queue: usize, frame: Frame<'_>) -> Result<(), PortError> {
        if let Some(refuse) = self.refuse {
            return Err(refuse());
        }
        self.frames.lock().unwrap().push(frame.bytes().to_vec());
        Ok(())
    }

    fn fd(&self, _queue: usize) -> Option<BorrowedFd<'_>> {
        None
    }
}

const OUT: PortId = PortId(1);
const NEAR: AdjacencyId = AdjacencyId(4);
const FAR: AdjacencyId = AdjacencyId(5);

/// A port with two neighbours, each with a link header or with none.
fn snapshot(device: &Arc<Wire>, headers: [&[u8]; 2]) -> Snapshot {
    let entry = PortEntry {
        has_link_headers: headers.iter().any(|header| !header.is_empty()),
        ..PortEntry::plain("out", Arc::<Wire>::clone(device), NEAR)
    };
    let adjacency = |(id, header): (AdjacencyId, &[u8])| {
        (id, Adjacency { prepend: header.into(), ..Adjacency::point_to_point(OUT, 1500) })
    };
    let adjacencies: Adjacencies = [NEAR, FAR].into_iter().zip(headers).map(adjacency).collect();
    Snapshot { ports: vec![None, Some(entry)], adjacencies, ..Control::empty_snapshot() }
}

fn udp(payload: usize) -> Vec<u8> {
    let (src, dst) = ("10.0.0.2:4000".parse().unwrap(), "10.1.0.2:53".parse().unwrap());
    let mut out = vec![0; 2_000];
    let datagram = Datagram { src, dst, ttl: 64, payload: &vec![0xa5; payload] };
    let len = datagram.write(&mut out).unwrap();
    out.truncate(len);
    out
}

/// Sends these packets in one batch by these adjacencies; returns how they were counted.
fn send(snapshot: &Snapshot, packets: &[(&[u8], AdjacencyId)]) -> Counters {
    let mut batch = Batch::new();
    for (index, (packet, adjacency)) in packets.iter().enumerate() {
        assert!(batch.push(packet));
        let exit = Exit { adjacency: *adjacency, port: OUT };
        batch.transmit(index, exit, None, Verdict::Forward);
    }
    send_batch(snapshot, &mut batch).0
}

fn send_batch(snapshot: &Snapshot, batch: &mut Batch) -> (Counters, Vec<PortTrouble>) {
    let (mut counters, mut scratch) = (Counters::default(), Scratch::default());
    let mut outlets = SyscallOutlets::default();
    Egress { snapshot, counters: &mut counters, scratch: &mut scratch }.send(batch, &mut outlets);
    (counters, scratch.trouble)
}

#[test]
fn what_a_device_says_decides_how_its_packet_is_counted() {
    type Refuse = fn() -> PortError;
    let cases: [(Refuse, Verdict, Option<bool>); 5] = [
        (|| PortError::Full, Verdict::TxFull, None),
        (|| PortError::Down, Verdict::TxDown, Some(false)),
        (|| PortError::Gone, Verdict::TxDown, Some(true)),
        (|| PortError::Refused(io::ErrorKind::InvalidInput.into()), Verdict::TxRefused, None),
        (|| PortError::Engine(io::ErrorKind::OutOfMemory.into()), Verdict::TxRefused, None),
    ];
    for (refuse, verdict, gone) in cases {
        let device = Wire::new(Offloads::NONE, Some(refuse));
        let mut batch = Batch::new();
        for index in 0..2 {
            assert!(batch.push(&udp(10)));
            batch.transmit(index, Exit { adjacency: NEAR, port: OUT }, None, Verdict::Forward);
        }
        let (counters, trouble) = send_batch(&snapshot(&device, [&[]; 2]), &mut batch);
        assert_eq!((counters.of(verdict), counters.of(Verdict::Forward)), (2, 0));
        // Reported once.
        let reported: Vec<bool> = trouble.iter().map(|trouble| trouble.gone).collect();
        assert_eq!(reported, Vec::from_iter(gone));
    }
}

#[test]
fn a_packet_for_a_port_that_is_gone_is_counted_as_such() {
    let mut nowhere = snapshot(&Wire::new(Offloads::NONE, None), [&[]; 2]);
    nowhere.ports.clear();
    let counters = send(&nowhere, &[(&udp(10), NEAR)]);
    assert_eq!(counters.of(Verdict::NoPort), 1);
}

#[test]
fn each_neighbour_gets_its_link_header_in_front() {
    let device = Wire::new(Offloads::NONE, None);
    let headers: [&[u8]; 2] = [&[0x11; 14], &[0x22; 18]];
    let snapshot = snapshot(&device, headers);
    let packet = udp(100);
    let counters = send(&snapshot, &[(&packet, NEAR), (&packet, FAR)]);
    assert_eq!(counters.of(Verdict::Forward), 2);
    let nothing = [0; OFFLOAD_LEN];
    let framed = |header: &[u8]| [&nothing[..], header, &packet].concat();
    assert_eq!(device.take(), headers.map(framed));
    // Also in front of what the router makes.
    let mut batch = Batch::new();
    let exit = Exit { adjacency: FAR, port: OUT };
    assert!(batch.transmit_copy(&packet, exit, None, Verdict::Originate));
    assert!(batch.transmit_copy(&packet, exit, None, Verdict::Originate));
    send_batch(&snapshot, &mut batch);
    assert_eq!(device.take(), [framed(headers[1]), framed(headers[1])]);
}

#[test]
fn a_checksum_left_out_is_counted_from_the_link_header_on() {
    let offloads = Offloads { checksum: true, ..Offloads::NONE };
    let device = Wire::new(offloads, None);
    let snapshot = snapshot(&device, [&[0x11; 14], &[]]);
    let left_out = Offload { flags: 1, csum_start: 20, csum_offset: 6, ..Offload::NONE };
    let mut batch = Batch::new();
    assert!(batch.push_frame(&udp(100), left_out));
    batch.transmit(0, Exit { adjacency: NEAR, port: OUT }, None, Verdict::Forward);
    send_batch(&snapshot, &mut batch);
    let sent = device.take();
    let header = Offload::from_bytes(*sent[0].first_chunk().unwrap());
    assert_eq!((header.csum_start, header.csum_offset), (34, 6));
    assert_eq!(sent[0][OFFLOAD_LEN..OFFLOAD_LEN + 14], [0x11; 14]);
}

#[test]
fn packets_of_different_neighbours_are_never_joined() {
    let device = Wire::new(Offloads::ALL, None);
    let snapshot = snapshot(&device, [&[0x11; 14], &[0x22; 14]]);
    let packet = udp(100);
    let counters = send(&snapshot, &[(&packet, NEAR), (&packet, FAR), (&packet, FAR)]);
    // The first alone, the others as one.
    assert_eq!(device.take().len(), 2);
    assert_eq!((counters.of(Verdict::Forward), counters.of(Verdict::Joined)), (2, 1));
}
