//! The network of one trial, and what was done to it so far.
#![forbid(unsafe_code)]

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use super::plan::{Plan, client_addresses, client_name, router_name, site_name};
use super::{Told, TrialError};
use crate::port::memory::LinkState;
use crate::probe::Rng;
use crate::sim::{Action, End, Impairment, LinkId, Net, Part, Power, SERVICES, Site};
use crate::time::Nanos;

pub(super) struct World {
    pub(super) net: Net,
    pub(super) plan: Plan,
    pub(super) rng: Rng,
    pub(super) trunk_links: Vec<LinkId>,
    pub(super) site_links: Vec<LinkId>,
    /// Router and site.
    pub(super) drained: BTreeSet<(usize, String)>,
    /// Since when a router's control thread stands still, or stood the last time.
    pub(super) mute_since: BTreeMap<usize, Nanos>,
    /// When a router did not run, or told nothing and then was killed.
    pub(super) absences: Vec<Absence>,
    pub(super) story: Vec<Told>,
}

/// A router told nothing of what it did.
pub(super) struct Absence {
    pub(super) node: usize,
    pub(super) from: Nanos,
    pub(super) to: Nanos,
}

impl World {
    /// Everything is there; nothing runs yet.
    pub(super) fn new(seed: u64, plan: Plan, rng: Rng) -> Result<Self, TrialError> {
        let mut net = Net::new(seed);
        for router in 0..plan.routers() {
            net.add_node(plan.config(router)?)?;
        }
        let node = |router: usize, port: String| End::Node(router, port);
        let trunk_links = plan
            .trunks
            .iter()
            .map(|&[a, b]| net.join(node(a, router_name(b)), node(b, router_name(a)), LINK_DELAY));
        let trunk_links = trunk_links.collect();
        let served = services().map(|service| service.ip());
        let mut site_links = Vec::new();
        for (index, &router) in plan.sites.iter().enumerate() {
            let site = net.add_site(Site::new(&site_name(index), &served));
            let end = node(router, site_name(index));
            site_links.push(net.join(end, End::Site(site), LINK_DELAY));
        }
        for (index, &router) in plan.clients.iter().enumerate() {
            let addresses = client_addresses(index).map(|text| parsed::<IpAddr>(&text));
            let client = net.add_client(&addresses);
            let end = node(router, client_name(index));
            net.join(End::Client(client), end, LINK_DELAY);
        }
        let (drained, mute_since) = (BTreeSet::new(), BTreeMap::new());
        let (absences, story) = (Vec::new(), Vec::new());
        Ok(Self { net, plan, rng, trunk_links, site_links, drained, mute_since, absences, story })
    }

    /// Starts flows of every client to the service in both families.
    pub(super) fn start_flows(&mut self) {
        for client in 0..self.plan.clients.len() {
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

    pub(super) fn tell(&mut self, what: String) {
        self.story.push(Told { t: self.net.now(), who: "trial".into(), what });
    }

    pub(super) fn set_link(&mut self, link: LinkId, state: LinkState) {
        self.act(Action::Link { link, state });
    }

    pub(super) fn set_power(&mut self, site: usize, power: Power) {
        self.act(Action::Power { site, power });
    }

    /// A link between routers or to a site.
    pub(super) fn any_link(&mut self) -> (LinkId, String) {
        let trunks = self.trunk_links.len();
        let index = self.rng.below((trunks + self.site_links.len()) as u64) as usize;
        if let Some(&link) = self.trunk_links.get(index) {
            let [a, b] = self.plan.trunks[index].map(router_name);
            return (link, format!("{a}-{b}"));
        }
        let site = index - trunks;
        let router = router_name(self.plan.sites[site]);
        (self.site_links[site], format!("{router}-{}", site_name(site)))
    }

    /// Whatever stands still goes on, nothing is damaged any more, and flaps are forgiven. Links,
    /// sites and drains stay as they are, and late and copied packets go on being so.
    pub(super) fn settle(&mut self) {
        for node in 0..self.plan.routers() {
            for part in [Part::Worker, Part::Control] {
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

/// Texts that this module and its siblings wrote.
fn parsed<T: std::str::FromStr<Err: std::fmt::Debug>>(text: impl AsRef<str>) -> T {
    text.as_ref().parse().expect("an address written here can be read")
}

/// Of each link, one way.
const LINK_DELAY: Duration = Duration::from_micros(200);

/// Of each client, in each family.
const FLOWS: usize = 2;

/// Between two packets of a flow.
const FLOW_INTERVAL: Duration = Duration::from_millis(20);
