//! The network of one trial, and the faults in force.
#![forbid(unsafe_code)]

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use super::config::{client_addresses, client_name, router_name, site_name};
use super::layout::Layout;
use super::{StoryLine, TrialError};
use crate::port::memory::LinkState;
use crate::probe::Rng;
use crate::sim::{Action, Impairment, LinkEnd, LinkId, Net, Power, RouterThread, SERVICES, Site};
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
    /// When every first verdict was there.
    pub(super) warm_since: Nanos,
    /// When the first fault came that can lose packets.
    pub(super) lossy_since: Option<Nanos>,
    /// When routers did not run, or were stalled and then killed.
    pub(super) absences: Vec<Absence>,
    pub(super) story: Vec<StoryLine>,
}

/// A time in which a router emitted no events.
pub(super) struct Absence {
    pub(super) node: usize,
    pub(super) from: Nanos,
    pub(super) to: Nanos,
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
        let served = services().map(|service| service.ip());
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
        let (absences, story) = (Vec::new(), Vec::new());
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
            story,
        })
    }

    /// Starts flows of every client to the service in both families.
    pub(super) fn start_flows(&mut self) {
        for client in 0..self.layout.clients.len() {
            for service in services() {
                for _ in 0..FLOWS {
                    self.net.add_flow(client, service, FLOW_INTERVAL, Nanos(u64::MAX));
                }
            }
        }
    }

    pub(super) fn run_for(&mut self, time: Duration) -> Result<(), TrialError> {
        Ok(self.net.run_until(self.net.now() + time)?)
    }

    pub(super) fn act(&mut self, action: Action) {
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

fn services() -> [SocketAddr; 2] {
    SERVICES.map(parsed)
}

/// Parses text written in this module or its siblings.
fn parsed<T: std::str::FromStr<Err: std::fmt::Debug>>(text: impl AsRef<str>) -> T {
    text.as_ref().parse().expect("an address written here can be read")
}

/// Delay of each link in one direction.
const LINK_DELAY: Duration = Duration::from_micros(200);

/// Flows per client and family.
const FLOWS: usize = 2;

/// Time between two packets of a flow.
const FLOW_INTERVAL: Duration = Duration::from_millis(20);
