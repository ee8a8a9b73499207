//! Answers to UDP and DNS checks that come in fragments.
#![forbid(unsafe_code)]

use std::collections::HashMap;
use std::net::IpAddr;

use super::fragment::Reassembler;
use super::header::Header;
use crate::ids::PortId;
use crate::time::Nanos;

/// Reassembles the fragments of those who are asked. Others' are ignored, so that they take no room.
#[derive(Debug, Default)]
pub struct FragmentedAnswers {
    /// How many checks ask from one end of a way to the other.
    asked: HashMap<AnswerEnds, usize>,
    reassembler: Reassembler,
}

/// Where an answer comes from, where it goes to, and by which port.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct AnswerEnds {
    /// The target of the check.
    pub from: IpAddr,
    /// The source of the check.
    pub to: IpAddr,
    /// The port it leaves by.
    pub port: PortId,
}

impl FragmentedAnswers {
    /// Expects answers of one more check.
    pub fn expect(&mut self, ends: AnswerEnds) {
        *self.asked.entry(ends).or_default() += 1;
    }

    /// Expects answers of one check less.
    pub fn forget(&mut self, ends: AnswerEnds) {
        if let Some(count) = self.asked.get_mut(&ends) {
            *count -= 1;
            if *count == 0 {
                self.asked.remove(&ends);
            }
        }
    }

    /// Handles a fragment that came in by `port`. Returns the whole packet, if this completes it.
    /// Bounded as the reassembly of other packets is.
    pub fn add(&mut self, now: Nanos, port: PortId, packet: &[u8]) -> Option<Vec<u8>> {
        let header = Header::parse(packet)?;
        let fragment = header.fragment?;
        if !self.asked.contains_key(&AnswerEnds { from: header.src, to: header.dst, port }) {
            return None;
        }
        self.reassembler.add(now, port, packet, &header, fragment)
    }

    /// Whether a packet to the router is a fragment.
    pub fn is_fragment(packet: &[u8]) -> bool {
        Header::parse(packet).is_some_and(|header| header.fragment.is_some())
    }
}
