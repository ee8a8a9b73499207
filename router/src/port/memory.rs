//! A port without a device, for simulations and tests: one end of a link in memory.
//!
//! Deterministic: it reads no clock and makes no random choice.
#![forbid(unsafe_code)]

use std::collections::VecDeque;
use std::io;
use std::os::fd::BorrowedFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::{Port, PortError};
use crate::batch::{Batch, Frame, PACKET_MAX};
use crate::packet::offload::{Offload, Offloads};

/// One end of a link in memory. Each end receives what the other sends, in order.
#[derive(Debug)]
pub struct MemoryPort {
    wire: Arc<Mutex<Wire>>,
    end: usize,
    offloads: Offloads,
}

/// The state of a link, common to both ends.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum LinkState {
    /// Packets pass.
    #[default]
    Up,
    /// Cut, and both ends notice: they get [`PortError::Down`].
    Down,
    /// Packets are lost in both directions without an error.
    Silent,
}

impl MemoryPort {
    /// Both ends of a new link that holds up to `capacity` packets in each direction.
    pub fn pair(capacity: usize) -> (Arc<Self>, Arc<Self>) {
        Self::pair_with(capacity, Offloads::NONE)
    }

    /// Both ends of a new link that holds up to `capacity` packets in each direction and supports
    /// these offloads.
    pub fn pair_with(capacity: usize, offloads: Offloads) -> (Arc<Self>, Arc<Self>) {
        let wire = Wire { capacity, ..Wire::default() };
        let wire = Arc::new(Mutex::new(wire));
        let end = |end| Arc::new(Self { wire: Arc::clone(&wire), end, offloads });
        (end(0), end(1))
    }

    /// Queues a packet for this end as if the other had sent it.
    pub fn inject(&self, packet: &[u8]) -> Result<(), PortError> {
        self.wire().send(self.end, packet, Offload::NONE)
    }

    /// Queues a packet with this offload header for this end as if the other had sent it.
    pub fn inject_frame(&self, packet: &[u8], offload: Offload) -> Result<(), PortError> {
        self.wire().send(self.end, packet, offload)
    }

    /// Takes the packets that this end sent and the other has not received yet, oldest first.
    pub fn drain(&self) -> Vec<Vec<u8>> {
        self.drain_frames().into_iter().map(|(packet, _)| packet).collect()
    }

    /// Takes the same packets as [`Self::drain`], each with its offload header.
    pub fn drain_frames(&self) -> Vec<(Vec<u8>, Offload)> {
        let end = self.other_end();
        self.wire().queues[end].drain(..).collect()
    }

    /// Whether packets wait to be received by this end.
    pub fn has_unread(&self) -> bool {
        !self.wire().queues[self.end].is_empty()
    }

    /// Sets the state of the link. Packets in transit are lost unless it is [`LinkState::Up`].
    pub fn set_link(&self, link: LinkState) {
        self.wire().set_link(link);
    }

    /// Number of packets lost while silent or when the link was cut, in both directions.
    pub fn swallowed(&self) -> u64 {
        self.wire().swallowed
    }

    fn other_end(&self) -> usize {
        1 - self.end
    }

    fn wire(&self) -> MutexGuard<'_, Wire> {
        // No code panics in the middle of a change, so a poisoned lock protects a consistent state.
        self.wire.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Port for MemoryPort {
    fn engine(&self) -> &'static str {
        "memory"
    }

    fn queues(&self) -> usize {
        1
    }

    fn rx(&self, _queue: usize, batch: &mut Batch) -> Result<usize, PortError> {
        let mut wire = self.wire();
        if wire.link == LinkState::Down {
            return Err(PortError::Down);
        }
        let before = batch.len();
        while batch.room() > 0
            && let Some((packet, offload)) = wire.queues[self.end].pop_front()
        {
            batch.push_frame(&packet, offload);
        }
        Ok(batch.len() - before)
    }

    fn tx(&self, _queue: usize, packet: &[u8]) -> Result<(), PortError> {
        self.wire().send(self.other_end(), packet, Offload::NONE)
    }

    fn offloads(&self) -> Offloads {
        self.offloads
    }

    fn send(&self, _queue: usize, frame: Frame<'_>) -> Result<(), PortError> {
        let (packet, offload) = (frame.packet(), frame.offload());
        if !self.offloads.take(offload, super::is_ipv6(packet)) {
            return Err(PortError::Refused(io::ErrorKind::InvalidInput.into()));
        }
        self.wire().send(self.other_end(), packet, offload)
    }

    fn fd(&self, _queue: usize) -> Option<BorrowedFd<'_>> {
        None
    }
}

/// The state that both ends share.
#[derive(Debug, Default)]
struct Wire {
    /// Packets in transit to end 0 and to end 1.
    queues: [VecDeque<(Vec<u8>, Offload)>; 2],
    capacity: usize,
    link: LinkState,
    swallowed: u64,
}

impl Wire {
    fn send(&mut self, to: usize, packet: &[u8], offload: Offload) -> Result<(), PortError> {
        let is_ip = matches!(packet.first().map(|first| first >> 4), Some(4 | 6));
        if !is_ip || packet.len() > PACKET_MAX {
            // A TUN device returns the same error.
            return Err(PortError::Refused(io::Error::from_raw_os_error(libc::EINVAL)));
        }
        match self.link {
            LinkState::Down => Err(PortError::Down),
            LinkState::Silent => {
                self.swallowed += 1;
                Ok(())
            }
            LinkState::Up if self.queues[to].len() >= self.capacity => Err(PortError::Full),
            LinkState::Up => {
                self.queues[to].push_back((packet.to_vec(), offload));
                Ok(())
            }
        }
    }

    fn set_link(&mut self, link: LinkState) {
        self.link = link;
        if link != LinkState::Up {
            self.swallowed += self.queues.iter().map(|queue| queue.len() as u64).sum::<u64>();
            self.queues.iter_mut().for_each(VecDeque::clear);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::batch::BURST;
    use crate::ids::PortId;

    fn received(port: &MemoryPort) -> Vec<Vec<u8>> {
        let mut batch = Batch::new();
        port.rx(0, &mut batch).unwrap();
        (0..batch.len()).map(|index| batch.packet(index).1.to_vec()).collect()
    }

    #[test]
    fn what_one_end_sends_the_other_receives_in_order() {
        let (a, b) = MemoryPort::pair(4);
        a.tx(0, &[0x45, 1]).unwrap();
        a.tx(0, &[0x60, 2]).unwrap();
        b.tx(0, &[0x45, 3]).unwrap();
        assert_eq!(received(&b), [[0x45, 1], [0x60, 2]]);
        assert_eq!(received(&a), [[0x45, 3]]);
        assert!(received(&a).is_empty());
    }

    #[test]
    fn a_test_can_stand_at_either_end() {
        let (a, _b) = MemoryPort::pair(4);
        a.inject(&[0x45, 1]).unwrap();
        assert_eq!(received(&a), [[0x45, 1]]);
        a.tx(0, &[0x45, 2]).unwrap();
        assert_eq!(a.drain(), [[0x45, 2]]);
        assert!(a.drain().is_empty());
    }

    #[test]
    fn a_full_queue_refuses_and_keeps_what_it_has() {
        let (a, b) = MemoryPort::pair(2);
        a.tx(0, &[0x45, 1]).unwrap();
        a.tx(0, &[0x45, 2]).unwrap();
        assert!(matches!(a.tx(0, &[0x45, 3]), Err(PortError::Full)));
        b.tx(0, &[0x45, 4]).unwrap();
        assert_eq!(received(&b), [[0x45, 1], [0x45, 2]]);
    }

    #[test]
    fn a_batch_takes_what_fits_and_names_the_port() {
        let (a, b) = MemoryPort::pair(BURST + 1);
        for _ in 0..=BURST {
            a.tx(0, &[0x45]).unwrap();
        }
        let mut batch = Batch::new();
        batch.from_port(PortId(3));
        assert_eq!(b.rx(0, &mut batch).unwrap(), BURST);
        assert_eq!(batch.packet(BURST - 1).0.port, PortId(3));
        assert_eq!(b.rx(0, &mut batch).unwrap(), 0);
        assert_eq!(received(&b).len(), 1);
    }

    #[test]
    fn a_cut_link_fails_at_both_ends_and_loses_what_was_on_it() {
        let (a, b) = MemoryPort::pair(4);
        a.tx(0, &[0x45, 1]).unwrap();
        b.set_link(LinkState::Down);
        for end in [&a, &b] {
            assert!(matches!(end.tx(0, &[0x45]), Err(PortError::Down)));
            assert!(matches!(end.rx(0, &mut Batch::new()), Err(PortError::Down)));
        }
        a.set_link(LinkState::Up);
        assert!(received(&b).is_empty());
        assert_eq!(a.swallowed(), 1);
    }

    #[test]
    fn a_silent_link_reports_no_error_and_counts() {
        let (a, b) = MemoryPort::pair(1);
        a.tx(0, &[0x45, 1]).unwrap();
        a.set_link(LinkState::Silent);
        for _ in 0..3 {
            a.tx(0, &[0x45]).unwrap();
            b.tx(0, &[0x45]).unwrap();
        }
        assert!(received(&a).is_empty() && received(&b).is_empty());
        assert_eq!(b.swallowed(), 7);
        b.set_link(LinkState::Up);
        a.tx(0, &[0x45, 2]).unwrap();
        assert_eq!(received(&b), [[0x45, 2]]);
    }

    #[test]
    fn what_is_no_ip_packet_is_refused() {
        let (a, b) = MemoryPort::pair(4);
        for bad in [vec![], vec![0x50; 20], vec![0x45; PACKET_MAX + 1]] {
            assert!(matches!(a.tx(0, &bad), Err(PortError::Refused(_))));
        }
        assert!(received(&b).is_empty());
    }
}
