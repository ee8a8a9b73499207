//! What leaves: packets of the batch as they are, and packets that are made during the step.
#![forbid(unsafe_code)]

use nearhop_fib::PathId;

use super::BURST;
use crate::ids::PortId;
use crate::packet::offload::OFFLOAD_LEN;
use crate::verdict::Verdict;

/// A packet that is to leave by a port.
#[derive(Clone, Copy, Debug)]
pub struct Transmission {
    /// The way out.
    pub port: PortId,
    /// The path it was chosen for; `None` for the router's own.
    pub path: Option<PathId>,
    /// How it is counted once the device has taken it.
    pub verdict: Verdict,
    pub(super) place: Place,
}

/// Where its bytes are.
#[derive(Clone, Copy, Debug)]
pub(super) enum Place {
    Slot(u32),
    Made { start: u32, len: u32 },
}

impl Transmission {
    /// A transmission whose bytes are yet to be made.
    pub fn template(port: PortId, path: Option<PathId>, verdict: Verdict) -> Self {
        Self { port, path, verdict, place: Place::Slot(0) }
    }
}

/// Room for packets that the step makes.
pub struct MadeRoom<'a> {
    pub(super) made: &'a mut Vec<u8>,
    pub(super) transmissions: &'a mut Vec<Transmission>,
}

impl MadeRoom<'_> {
    /// Whether `packets` more with `bytes` in all fit.
    pub fn has(&self, packets: usize, bytes: usize) -> bool {
        self.made.len() + bytes + packets * OFFLOAD_LEN <= MADE_MAX
            && self.transmissions.len() + packets + BURST <= TRANSMISSIONS_MAX
    }

    /// Adds one; the caller asked [`Self::has`] before.
    pub fn put(&mut self, packet: &[u8], like: Transmission) {
        let (start, len) = (self.made.len() as u32, (OFFLOAD_LEN + packet.len()) as u32);
        self.made.extend_from_slice(&[0; OFFLOAD_LEN]);
        self.made.extend_from_slice(packet);
        self.transmissions.push(Transmission { place: Place::Made { start, len }, ..like });
    }
}

/// Bytes of packets made in one round: two of the largest packets in small fragments, or an error
/// about each packet received.
pub(super) const MADE_MAX: usize = 256 * 1024;

/// Packets sent in one round at most: each received one, and what is made of them.
pub(super) const TRANSMISSIONS_MAX: usize = 4096;
