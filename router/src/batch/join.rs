//! Joins small packets of a flow, so that a batch sends them as one superframe.
#![forbid(unsafe_code)]

use super::{BURST, Batch, PACKET_MAX, PacketLocation};
use crate::ids::PortId;
use crate::packet::offload::join::Joined;
use crate::packet::offload::{Offloads, Shape};
use crate::verdict::Verdict;

impl Batch {
    /// Joins packets that leave by `port` into the superframes it supports. A superframe takes the
    /// place of its first packet. A packet that cannot be joined to its flow's open superframe
    /// closes it, so packets of a flow keep their order.
    pub fn join(&mut self, port: PortId, offloads: Offloads) {
        if !(offloads.uso4 || offloads.uso6 || offloads.tso4 || offloads.tso6) {
            return;
        }
        self.heads.clear();
        let mut open = [NOBODY; BUCKETS];
        for at in 0..self.transmissions.len() {
            let sent = self.transmissions[at];
            if sent.exit.port != port {
                continue;
            }
            let Some(mut next) = self.joinable(sent.location, sent.verdict, offloads) else {
                // Its flow is not known: no later packet may be sent before it.
                open = [NOBODY; BUCKETS];
                continue;
            };
            let PacketLocation::Slot(index) = sent.location else { continue };
            let (_, packet) = self.packet(index as usize);
            let bucket = &mut open[next.flow_bits(packet) as usize % BUCKETS];
            // Joined packets share a link header, so they need the same exit, not only the same
            // port.
            let exit = sent.exit;
            let open = *bucket != NOBODY && self.heads[usize::from(*bucket)].0 == exit;
            if open && self.join_to(usize::from(*bucket), index, &mut next) {
                self.transmissions[at].verdict = Verdict::Joined;
            } else {
                *bucket = self.heads.len() as u8;
                self.heads.push((exit, index, next));
            }
        }
        self.finish_heads();
    }

    fn joinable(
        &self,
        location: PacketLocation,
        verdict: Verdict,
        offloads: Offloads,
    ) -> Option<Joined> {
        let PacketLocation::Slot(index) = location else { return None };
        let (slot, packet) = self.packet(index as usize);
        let joined = Joined::new(packet, slot.offload).filter(|_| verdict == Verdict::Forward)?;
        let (tcp, ipv6) = joined.kind();
        let taken = if tcp { offloads.tso(ipv6) } else { offloads.uso(ipv6) };
        taken.then_some(joined)
    }

    /// Joins packet `index` to the head, which is in an earlier buffer.
    fn join_to(&mut self, head: usize, index: u32, next: &mut Joined) -> bool {
        let (_, head_index, head) = &mut self.heads[head];
        let (first, second) = (self.slots[*head_index as usize], self.slots[index as usize]);
        debug_assert!(first.l3 < second.l3);
        let (before, after) = self.bytes.split_at_mut(second.l3 as usize);
        let buffer = before.get_mut(first.l3 as usize..).unwrap_or_default();
        let len = buffer.len().min(PACKET_MAX);
        head.join(&mut buffer[..len], next, &after[..second.len as usize])
    }

    fn finish_heads(&mut self) {
        let mut any = false;
        for at in 0..self.heads.len() {
            let (_, index, head) = self.heads[at];
            if head.segments() == 1 {
                continue;
            }
            any = true;
            let start = self.slots[index as usize].l3 as usize;
            let (len, offload) = head.finish(&mut self.bytes[start..start + PACKET_MAX]);
            let slot = &mut self.slots[index as usize];
            slot.len = len as u32;
            slot.joined = (head.segments() - 1) as u16;
            slot.shape = Shape {
                segments: head.segments() as u16,
                segment_len: u32::from(offload.hdr_len + offload.gso_size),
                headers_len: offload.hdr_len,
            };
            self.set_offload(index as usize, offload);
        }
        if any {
            self.transmissions.retain(|sent| sent.verdict != Verdict::Joined);
        }
    }
}

/// Number of flows that can be open at once. Two flows in one bucket close each other.
const BUCKETS: usize = 2 * BURST;

/// An empty bucket.
const NOBODY: u8 = u8::MAX;

#[cfg(test)]
mod tests;
