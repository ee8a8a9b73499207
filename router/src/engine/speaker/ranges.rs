//! Connections from ranges of addresses, held until the control plane begins a neighbour for each, or refuses it.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use crossbeam_channel::Sender;

use crate::bgp::lane::{Knock, RangeSpec, longest};
use crate::host::{Host, SocketId};
use crate::time::Nanos;

/// The ranges, and connections from them that are no neighbour's yet: at most as many as a range has room for.
#[derive(Default)]
pub(super) struct Ranges {
    all: Vec<RangeSpec>,
    knocks: Option<Sender<Knock>>,
    /// By both ends, the neighbour's first.
    held: BTreeMap<(IpAddr, IpAddr), (SocketId, Nanos)>,
    refused: Refused,
}

/// Connections from addresses that no neighbour has, that were refused.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Refused {
    /// Their range has as many neighbours as it may.
    pub over_limit: u64,
    /// They came from no range.
    pub stranger: u64,
}

impl Ranges {
    pub(super) fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    pub(super) fn refused(&self) -> Refused {
        self.refused
    }

    /// The router's ends.
    pub(super) fn locals(&self) -> impl Iterator<Item = IpAddr> + '_ {
        self.all.iter().map(|range| range.local)
    }

    /// These are the ranges from now on; connections that wait and are of none are refused.
    pub(super) fn set(&mut self, host: &mut Host, all: Vec<RangeSpec>, knocks: Sender<Knock>) {
        (self.all, self.knocks) = (all, Some(knocks));
        let ends: Vec<(IpAddr, IpAddr)> = self.held.keys().copied().collect();
        for (address, local) in ends {
            if self.of(address).is_none_or(|range| range.local != local) {
                self.drop_held(host, (address, local));
            }
        }
    }

    /// Holds a connection and asks for a neighbour, or refuses it. `dynamic` are the addresses of neighbours that
    /// came from ranges. Returns whether it asked.
    pub(super) fn hold(
        &mut self,
        host: &mut Host,
        (knock, socket): (Knock, SocketId),
        dynamic: impl Iterator<Item = IpAddr>,
    ) -> bool {
        let Knock { address, local, at } = knock;
        let Some(range) = self.of(address).filter(|range| range.local == local) else {
            self.refused.stranger += 1;
            host.tcp_abort(socket);
            return false;
        };
        let is_of = |address: &IpAddr| self.of(*address).is_some_and(|one| one == range);
        let held = self.held.keys().filter(|(address, _)| is_of(address)).count();
        let is_full = held + dynamic.filter(is_of).count() >= usize::from(range.limit);
        let is_twice = self.held.contains_key(&(address, local));
        let ask = || self.knocks.as_ref().is_some_and(|knocks| knocks.try_send(knock).is_ok());
        if is_full || is_twice || !ask() {
            self.refused.over_limit += 1;
            host.tcp_abort(socket);
            return false;
        }
        self.held.insert((address, local), (socket, at));
        true
    }

    /// The connection of a neighbour that begins.
    pub(super) fn take(&mut self, ends: (IpAddr, IpAddr)) -> Option<SocketId> {
        self.held.remove(&ends).map(|(socket, _)| socket)
    }

    /// The control plane begins no neighbour for it.
    pub(super) fn refuse(&mut self, host: &mut Host, knock: Knock) {
        if self.drop_held(host, (knock.address, knock.local)) {
            self.refused.over_limit += 1;
        }
    }

    /// Connections that nobody answered about are refused.
    pub(super) fn expire(&mut self, now: Nanos, host: &mut Host) {
        while let Some((&ends, _)) =
            self.held.iter().find(|(_, (_, since))| *since + HELD_MAX <= now)
        {
            self.drop_held(host, ends);
            self.refused.over_limit += 1;
        }
    }

    /// When [`Self::expire`] has something to do.
    pub(super) fn due(&self) -> Option<Nanos> {
        self.held.values().map(|(_, since)| *since + HELD_MAX).min()
    }

    /// Refuses all that wait.
    pub(super) fn drop_all(&mut self, host: &mut Host) {
        while let Some((_, (socket, _))) = self.held.pop_first() {
            host.tcp_abort(socket);
        }
    }

    fn of(&self, address: IpAddr) -> Option<&RangeSpec> {
        longest(&self.all, |range| range.prefix, address)
    }

    /// Whether there was one.
    fn drop_held(&mut self, host: &mut Host, ends: (IpAddr, IpAddr)) -> bool {
        let socket = self.take(ends);
        socket.is_some_and(|socket| {
            host.tcp_abort(socket);
            true
        })
    }
}

/// The control plane answers within a step, unless it stands still.
const HELD_MAX: Duration = Duration::from_secs(5);
