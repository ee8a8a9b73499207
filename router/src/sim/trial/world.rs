//! The network of one trial, and the faults in force.
#![forbid(unsafe_code)]

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use super::config::{SOCKETS, client_addresses, client_name, router_name, site_name};
use super::layout::{Layout, NetShape};
use super::watch::{LOOK_EVERY, Watch};
use super::{StoryLine, TrialError};
use crate::port::memory::LinkState;
use crate::probe::Rng;
use crate::sim::{
    Action, Impairment, LinkEnd, LinkId, Net, Power, Publication, RouterThread, Site,
};
use crate::time::Nanos;

pub(super) struct World {
    pub(super) net: Net,
    pub(super) layout: Layout,
    pub(super) rng: Rng,
    pub(super) trunk_links: Vec<LinkId>,
    pub(super) site_links: Vec<LinkId>,
    /// By router and site name.
    pub(super) drained: BTreeSet<(usize, String)>,
    /// When each router's control thread stalled last.
    pub(super) mute_since: BTreeMap<usize, Nanos>,
    /// When every first result was there.
    pub(super) warm_since: Nanos,
    /// When the first fault came that can lose packets.
    pub(super) lossy_since: Option<Nanos>,
    /// When routers did not run, or were stalled and then killed.
    pub(super) absences: Vec<Spell>,
    /// When cables of routers were moved, or threads of theirs stalled by which liveness reaches packets.
    pub(super) unrest: Vec<Spell>,
    /// When routers' liveness threads stalled.
    pub(super) mute: Vec<Spell>,
    /// When control threads stalled.
    pub(super) deaf: Vec<Spell>,
    /// Addresses that reloads moved to another service.
    pub(super) rehomed: Vec<Rehomed>,
    /// When which router was told to reload: later than that if its control thread stalls.
    reloads: Vec<(Nanos, usize)>,
    pub(super) story: Vec<StoryLine>,
    pub(super) watch: Watch,
}

/// A time in which something was so at a router.
#[derive(Clone, Copy)]
pub(super) struct Spell {
    pub(super) node: usize,
    pub(super) from: Nanos,
    pub(super) to: Nanos,
}

impl Spell {
    /// Whether it was so at this router at a time between these.
    pub(super) fn touches(&self, node: usize, from: Nanos, to: Nanos) -> bool {
        self.node == node && self.from <= to && self.to >= from
    }
}

/// An address that a router was told to count to another service.
pub(super) struct Rehomed {
    pub(super) t: Nanos,
    pub(super) node: usize,
    pub(super) address: usize,
}

impl World {
    /// Builds the network; nothing runs yet.
    pub(super) fn new(seed: u64, layout: Layout, rng: Rng) -> Result<Self, TrialError> {
        let mut net = Net::new(seed);
        for router in 0..layout.routers() {
            net.add_node(layout.config(router)?)?;
        }
        let node = |router: usize, port: String| LinkEnd::Node(router, port);
        let trunk_links = layout
            .trunks
            .iter()
            .map(|&[a, b]| net.join(node(a, router_name(b)), node(b, router_name(a)), LINK_DELAY));
        let trunk_links = trunk_links.collect();
        let served: Vec<IpAddr> = sockets().map(|(_, socket)| socket.ip()).collect();
        let mut site_links = Vec::new();
        for (index, &router) in layout.sites.iter().enumerate() {
            let site = net.add_site(Site::new(&site_name(index), &served));
            let end = node(router, site_name(index));
            site_links.push(net.join(end, LinkEnd::Site(site), LINK_DELAY));
        }
        for (index, &router) in layout.clients.iter().enumerate() {
            let addresses = client_addresses(index).map(|text| parsed::<IpAddr>(&text));
            let client = net.add_client(&addresses);
            let end = node(router, client_name(index));
            net.join(LinkEnd::Client(client), end, LINK_DELAY);
        }
        let (drained, mute_since) = (BTreeSet::new(), BTreeMap::new());
        let (absences, unrest, rehomed) = (Vec::new(), Vec::new(), Vec::new());
        Ok(Self {
            net,
            layout,
            rng,
            trunk_links,
            site_links,
            drained,
            mute_since,
            warm_since: Nanos(u64::MAX),
            lossy_since: None,
            absences,
            unrest,
            mute: Vec::new(),
            deaf: Vec::new(),
            rehomed,
            reloads: Vec::new(),
            story: Vec::new(),
            watch: Watch::default(),
        })
    }

    /// Starts a flow of every client to every address.
    pub(super) fn start_flows(&mut self) {
        let interval = match self.layout.shape {
            // Its trials are long.
            NetShape::Peers => 5 * FLOW_INTERVAL,
            _ => FLOW_INTERVAL,
        };
        for client in 0..self.layout.clients.len() {
            for (_, socket) in sockets() {
                self.net.add_flow(client, socket, interval, Nanos(u64::MAX));
            }
        }
    }

    /// The services that an address may have belonged to at a router in a time.
    pub(super) fn homes(&self, node: usize, address: usize, from: Nanos) -> Vec<usize> {
        let home = self.layout.homes[node][address];
        // A reload waits for a control thread that stalls.
        let since = Nanos(from.0.saturating_sub(STALL_MAX.as_nanos() as u64));
        let moved = |one: &Rehomed| (one.node, one.address) == (node, address) && one.t >= since;
        if self.rehomed.iter().any(moved) {
            (0..self.layout.services()).collect()
        } else {
            vec![home]
        }
    }

    /// When a router has reported at the latest why flows moved between these times. What a reload moves is
    /// reported once it is published; so is what the control thread had not heard of when it was told to
    /// reload, about legs that go.
    pub(super) fn reported_by(&self, node: usize, from: Nanos, to: Nanos) -> Nanos {
        let stalls = self.deaf.iter().filter(|stall| stall.touches(node, from, to));
        let heard = stalls.map(|stall| stall.to).fold(to, Nanos::max) + HEARD_AFTER;
        let told = self.reloads.iter().filter(|(told, of)| *of == node && *told <= heard);
        let published = told.filter_map(|&(told, _)| {
            let after =
                |one: &&Publication| one.node == node && one.to.is_none_or(|end| end >= told);
            let publication = self.net.publications().iter().find(after)?;
            Some(publication.to.unwrap_or_else(|| self.net.now()))
        });
        published.fold(to, Nanos::max)
    }

    /// How many reloads a router was told in a time.
    pub(super) fn reloads_of(&self, node: usize, from: Nanos, to: Nanos) -> usize {
        let of = |one: &&(Nanos, usize)| one.1 == node && (from..=to).contains(&one.0);
        self.reloads.iter().filter(of).count()
    }

    /// Since when what moved flows between these times may have been found out, which is the time that events
    /// have: a thread that stalls acts on it later.
    pub(super) fn found_since(&self, node: usize, from: Nanos, to: Nanos) -> Nanos {
        let since = Nanos(from.0.saturating_sub(ACTED_AFTER.as_nanos() as u64));
        let stalls = self.unrest.iter().filter(|stall| stall.touches(node, since, to));
        // Also a thread that only waits for its turn.
        let just_before = Nanos(from.0.saturating_sub(HEARD_AFTER.as_nanos() as u64));
        let found = stalls.map(|stall| stall.from).fold(just_before, Nanos::min);
        // Events go by the costs in force, packets by those that are published.
        let publications = self.net.publications().iter().filter(|one| {
            one.node == node && one.from <= to && one.to.is_none_or(|end| end >= since)
        });
        let Some(begun) = publications.map(|one| one.from).min() else { return found };
        let since = Nanos(begun.0.saturating_sub(ACTED_AFTER.as_nanos() as u64));
        let deaf = self.deaf.iter().filter(|stall| stall.touches(node, since, to));
        deaf.map(|stall| stall.from).fold(found.min(begun), Nanos::min)
    }

    /// Gives a router the configuration that the layout has by now.
    pub(super) fn reload(&mut self, node: usize, how: &str) -> Result<(), TrialError> {
        self.note(format!("reload of {} {how}", router_name(node)));
        let config = Box::new(self.layout.config(node)?);
        self.reloads.push((self.net.now(), node));
        self.act(Action::Reload { node, config });
        Ok(())
    }

    pub(super) fn run_for(&mut self, time: Duration) -> Result<(), TrialError> {
        let end = self.net.now() + time;
        if self.layout.speaks.is_empty() {
            return Ok(self.net.run_until(end)?);
        }
        while self.net.now() < end {
            let before = self.net.now();
            self.net.run_until(end.min(before + LOOK_EVERY))?;
            self.watch(self.net.now().since(before));
        }
        Ok(())
    }

    pub(super) fn act(&mut self, action: Action) {
        match &action {
            Action::Drain { node, .. }
            | Action::Plug { node, .. }
            | Action::Reload { node, .. }
            | Action::Start { node } => self.forgive(*node),
            Action::Power { site, .. } => self.forgive(self.layout.sites[*site]),
            Action::Link { link, .. } => {
                if let Some(site) = self.site_links.iter().position(|one| one == link) {
                    self.forgive(self.layout.sites[site]);
                }
            }
            _ => {}
        }
        self.net.at(self.net.now(), action);
    }

    pub(super) fn note(&mut self, what: String) {
        self.story.push(StoryLine { t: self.net.now(), who: "trial".into(), what });
    }

    pub(super) fn set_link(&mut self, link: LinkId, state: LinkState) {
        self.act(Action::Link { link, state });
    }

    pub(super) fn set_power(&mut self, site: usize, power: Power) {
        self.act(Action::Power { site, power });
    }

    /// Draws a link between routers or to a site.
    pub(super) fn any_link(&mut self) -> (LinkId, String) {
        let trunks = self.trunk_links.len();
        let index = self.rng.below((trunks + self.site_links.len()) as u64) as usize;
        if let Some(&link) = self.trunk_links.get(index) {
            let [a, b] = self.layout.trunks[index].map(router_name);
            return (link, format!("{a}-{b}"));
        }
        let site = index - trunks;
        let router = router_name(self.layout.sites[site]);
        (self.site_links[site], format!("{router}-{}", site_name(site)))
    }

    /// Ends stalls, corruption and damping. Links, sites and drains stay as they are; links go on
    /// delaying and duplicating packets.
    pub(super) fn settle(&mut self) {
        for node in 0..self.layout.routers() {
            for part in RouterThread::ALL {
                self.act(Action::Stall { node, part, stalled: false });
            }
            self.act(Action::ClearDamping { node });
        }
        let links = self.trunk_links.iter().chain(&self.site_links).copied();
        for link in links.collect::<Vec<_>>() {
            let impairment = Impairment { corrupt: 0, ..self.net.impairment(link) };
            self.act(Action::Impair { link, impairment });
        }
    }
}

/// The address that a packet is for, by its number.
pub(super) fn address_of(ip: IpAddr) -> Option<usize> {
    sockets().find(|(_, socket)| socket.ip() == ip).map(|(address, _)| address)
}

/// Every address with its number, and the port of its echo server.
fn sockets() -> impl Iterator<Item = (usize, SocketAddr)> {
    let each = |(address, texts): (usize, [&str; 2])| texts.map(|text| (address, parsed(text)));
    SOCKETS.into_iter().enumerate().flat_map(each)
}

/// Parses text written in this module or its siblings.
fn parsed<T: std::str::FromStr<Err: std::fmt::Debug>>(text: impl AsRef<str>) -> T {
    text.as_ref().parse().expect("an address written here can be read")
}

/// Delay of each link in one direction.
const LINK_DELAY: Duration = Duration::from_micros(200);

/// A thread gets its turn so much later at most, but for when it stalls.
const HEARD_AFTER: Duration = Duration::from_millis(5);

/// A thread that stalled has done by then what waited for it.
const ACTED_AFTER: Duration = Duration::from_millis(20);

/// A thread stalls for no longer.
pub(super) const STALL_MAX: Duration = Duration::from_millis(500);

/// Time between two packets of a flow.
const FLOW_INTERVAL: Duration = Duration::from_millis(20);
