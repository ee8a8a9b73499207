//! Fragments packets that exceed the MTU of their adjacency.
#![forbid(unsafe_code)]

use super::{MemberEgress, Step, segments};
use crate::batch::{Batch, MadeRoom, Transmission};
use crate::packet::fragment::{CannotFragment, Fragments};
use crate::packet::offload::segment::Segments;
use crate::verdict::Verdict;

impl Step<'_> {
    /// Queues all fragments or none: a datagram with a fragment missing is useless. A superframe is
    /// first segmented and its checksums completed, then each segment is fragmented.
    pub(super) fn send_fragments(&mut self, batch: &mut Batch, index: usize, way: MemberEgress) {
        let offload = batch.slot(index).offload;
        let segments = segments(batch, index);
        let (packet, mut room) = batch.packet_and_room(index);
        let piece = Transmission::template(way.exit, Some(way.path), Verdict::FragmentSent);
        let mut segment = std::mem::take(&mut self.state.segment_buffer);
        let cut = Segments::plan(packet, offload);
        let cut = cut
            .and_then(|plan| self.cut(&plan, usize::from(way.mtu), &mut segment, &mut room, piece));
        self.state.segment_buffer = segment;
        let verdict = match cut {
            Ok(count) => {
                self.state.counters.split += count;
                Verdict::Fragmented
            }
            Err(verdict) => verdict,
        };
        self.state.counters.count_all(verdict, segments);
    }

    fn cut(
        &mut self,
        plan: &Segments<'_>,
        mtu: usize,
        buffer: &mut [u8],
        room: &mut MadeRoom<'_>,
        piece: Transmission,
    ) -> Result<u64, Verdict> {
        // The first segment is the largest, so no other has more fragments. Each fragment repeats a
        // header of at most 60 bytes.
        let first = plan.write(0, buffer).ok_or(Verdict::NoBuffer)?;
        let pieces = Fragments::plan(first, mtu).map_err(why_not_cut)?.count();
        let most = pieces * plan.count();
        if !room.has(most, plan.bytes() + most * 60) {
            return Err(Verdict::NoBuffer);
        }
        let mut count = 0;
        for index in 0..plan.count() {
            let segment = plan.write(index, buffer).ok_or(Verdict::NoBuffer)?;
            let fragments = Fragments::plan(segment, mtu).map_err(why_not_cut)?;
            let made = fragments
                .each(&mut self.state.fragment_buffer, |bytes| room.put(bytes, piece))
                .map_err(|_| Verdict::NoBuffer)?;
            count += made as u64;
        }
        Ok(count)
    }
}

fn why_not_cut(error: CannotFragment) -> Verdict {
    match error {
        CannotFragment::Malformed(verdict) => verdict,
        CannotFragment::BufferTooSmall { .. } => Verdict::NoBuffer,
        CannotFragment::Ipv6
        | CannotFragment::DontFragment
        | CannotFragment::MtuTooSmall { .. } => Verdict::TooBig,
    }
}
