//! Neighbours on a link: routers that are known by their advertisements (RFC 4861 section 6), which is how
//! BGP's unnumbered neighbours find each other's link-local address.
//!
//! [`RouterDiscovery`] advertises the router on links, asks there for other routers, and hears of them. It
//! has no socket and no clock. Advertisements have the router lifetime 0: nobody takes the router for a
//! default router because of them.
#![forbid(unsafe_code)]

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::Ipv6Addr;
use std::time::Duration;

use crate::batch::Exit;
use crate::ids::PortId;
use crate::packet::discovery::{Discovery, advertisement, solicitation};
use crate::random::Rng;
use crate::time::Nanos;

/// Router discovery on every link that has it.
pub struct RouterDiscovery {
    links: BTreeMap<PortId, Link>,
    /// Ports without carrier, with or without discovery.
    down: BTreeSet<PortId>,
    outgoing: VecDeque<(Exit, Vec<u8>)>,
    rng: Rng,
    stats: DiscoveryStats,
}

/// A link, as the control plane wants it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct DiscoveryLink {
    /// The way out.
    pub exit: Exit,
    /// The router's link-local address there.
    pub address: Ipv6Addr,
    /// Whether the neighbour is looked for.
    pub listens: bool,
}

/// Counters.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct DiscoveryStats {
    /// Valid advertisements of neighbours that are looked for.
    pub heard: u64,
    /// Messages that RFC 4861 refuses, and advertisements under the router's own address.
    pub refused: u64,
}

/// What became of a packet.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Heard {
    /// It is no message of router discovery, or came in by a port without.
    Other,
    /// It is handled.
    Handled,
    /// The neighbour that is looked for has this address.
    Neighbor(Ipv6Addr),
}

struct Link {
    spec: DiscoveryLink,
    /// The next advertisement, and how many after it come early.
    advertise_at: Nanos,
    early_left: u32,
    advertised_at: Option<Nanos>,
    /// The next solicitation, while some are left.
    solicit_at: Nanos,
    solicitations_left: u32,
    /// Who advertised itself last.
    neighbor: Option<Ipv6Addr>,
}

impl RouterDiscovery {
    /// Without links. `seed` decides when messages are sent, so that routers that start together do not
    /// speak together.
    pub fn new(seed: u64) -> Self {
        Self {
            links: BTreeMap::new(),
            down: BTreeSet::new(),
            outgoing: VecDeque::new(),
            rng: Rng::new(seed),
            stats: DiscoveryStats::default(),
        }
    }

    /// The links are these from now on; one that stays as it is goes on as before.
    pub fn set_links(&mut self, now: Nanos, links: &[DiscoveryLink]) {
        let same = |link: &Link| links.contains(&link.spec);
        self.links.retain(|_, link| same(link));
        for spec in links {
            if !self.links.contains_key(&spec.exit.port) {
                let link = Link::begin(now, *spec, &mut self.rng);
                self.links.insert(spec.exit.port, link);
            }
        }
    }

    /// A port's carrier is there or not. Who is at the other end of one that comes back is to hear of the
    /// router at once.
    pub fn set_carrier(&mut self, now: Nanos, port: PortId, up: bool) {
        if !up {
            self.down.insert(port);
        } else if self.down.remove(&port)
            && let Some(link) = self.links.get_mut(&port)
        {
            let neighbor = link.neighbor;
            *link = Link { neighbor, ..Link::begin(now, link.spec, &mut self.rng) };
        }
    }

    /// Handles a packet to the router, or to a group of the link, that came in by a port.
    pub fn handle_packet(&mut self, now: Nanos, port: PortId, packet: &[u8]) -> Heard {
        let Some(link) = self.links.get_mut(&port) else { return Heard::Other };
        let Some(parsed) = Discovery::parse(packet) else { return Heard::Other };
        match parsed {
            Err(_) => self.stats.refused += 1,
            Ok(Discovery::Solicitation) => link.answer(now, &mut self.rng),
            Ok(Discovery::Advertisement(from)) if from == link.spec.address => {
                self.stats.refused += 1;
            }
            Ok(Discovery::Advertisement(from)) if link.spec.listens => {
                self.stats.heard += 1;
                link.solicitations_left = 0;
                link.neighbor = Some(from);
                return Heard::Neighbor(from);
            }
            Ok(Discovery::Advertisement(_)) => {}
        }
        Heard::Handled
    }

    /// The neighbours that are known, by port.
    pub fn neighbors(&self) -> impl Iterator<Item = (PortId, Ipv6Addr)> + '_ {
        self.links.iter().filter_map(|(&port, link)| Some((port, link.neighbor?)))
    }

    /// Queues what is due.
    pub fn handle_timeout(&mut self, now: Nanos) {
        for (port, link) in &mut self.links {
            if self.down.contains(port) {
                continue;
            }
            let (exit, address) = (link.spec.exit, link.spec.address);
            if link.advertise_at <= now {
                self.outgoing.push_back((exit, advertisement(address)));
                link.advertised(now, &mut self.rng);
            }
            if link.solicitations_left > 0 && link.solicit_at <= now {
                self.outgoing.push_back((exit, solicitation(address)));
                link.solicitations_left -= 1;
                link.solicit_at = now + SOLICITATION_INTERVAL;
            }
        }
    }

    /// When to call [`Self::handle_timeout`] next.
    pub fn poll_timeout(&self) -> Option<Nanos> {
        let up = self.links.iter().filter(|(port, _)| !self.down.contains(port));
        up.map(|(_, link)| link.due()).min()
    }

    /// The next packet to send, and by which way; call until `None` after [`Self::handle_timeout`].
    pub fn poll_transmit(&mut self) -> Option<(Exit, Vec<u8>)> {
        self.outgoing.pop_front()
    }

    /// Counters.
    pub const fn stats(&self) -> DiscoveryStats {
        self.stats
    }
}

impl Link {
    /// Advertises at once: neighbours wait for it.
    fn begin(now: Nanos, spec: DiscoveryLink, rng: &mut Rng) -> Self {
        Self {
            spec,
            advertise_at: now,
            early_left: INITIAL_ADVERTISEMENTS,
            advertised_at: None,
            solicit_at: now + between(rng, Duration::ZERO, SOLICITATION_DELAY_MAX),
            solicitations_left: if spec.listens { SOLICITATIONS } else { 0 },
            neighbor: None,
        }
    }

    fn due(&self) -> Nanos {
        if self.solicitations_left == 0 {
            return self.advertise_at;
        }
        self.advertise_at.min(self.solicit_at)
    }

    /// RFC 4861 section 6.2.4.
    fn advertised(&mut self, now: Nanos, rng: &mut Rng) {
        self.advertised_at = Some(now);
        self.early_left = self.early_left.saturating_sub(1);
        let wait = between(rng, INTERVAL_MIN, INTERVAL_MAX);
        let wait = if self.early_left > 0 { wait.min(INITIAL_INTERVAL_MAX) } else { wait };
        self.advertise_at = now + wait;
    }

    /// RFC 4861 section 6.2.6: soon, but never two in [`BETWEEN_ADVERTISEMENTS_MIN`].
    fn answer(&mut self, now: Nanos, rng: &mut Rng) {
        let wanted = now + between(rng, Duration::ZERO, ANSWER_DELAY_MAX);
        let earliest = self.advertised_at.map(|at| at + BETWEEN_ADVERTISEMENTS_MIN);
        let at = earliest.map_or(wanted, |earliest| earliest.max(wanted));
        self.advertise_at = self.advertise_at.min(at);
    }
}

fn between(rng: &mut Rng, least: Duration, most: Duration) -> Duration {
    let span = u64::try_from(most.saturating_sub(least).as_nanos()).unwrap_or(u64::MAX);
    least + Duration::from_nanos(rng.below(span.saturating_add(1).max(1)))
}

/// MaxRtrAdvInterval and MinRtrAdvInterval: shorter than RFC 4861's usual ten minutes, as FRR's are for its
/// unnumbered neighbours. Whoever starts later without asking waits for so long.
const INTERVAL_MAX: Duration = Duration::from_secs(10);
const INTERVAL_MIN: Duration = Duration::from_millis(3_300);

/// MAX_INITIAL_RTR_ADVERTISEMENTS and the longest time between them. RFC 4861 allows 16 s.
const INITIAL_ADVERTISEMENTS: u32 = 3;
const INITIAL_INTERVAL_MAX: Duration = Duration::from_secs(4);

/// MIN_DELAY_BETWEEN_RAS.
const BETWEEN_ADVERTISEMENTS_MIN: Duration = Duration::from_secs(3);

/// MAX_RA_DELAY_TIME.
const ANSWER_DELAY_MAX: Duration = Duration::from_millis(500);

/// MAX_RTR_SOLICITATIONS, RTR_SOLICITATION_INTERVAL and MAX_RTR_SOLICITATION_DELAY.
const SOLICITATIONS: u32 = 3;
const SOLICITATION_INTERVAL: Duration = Duration::from_secs(4);
const SOLICITATION_DELAY_MAX: Duration = Duration::from_secs(1);
