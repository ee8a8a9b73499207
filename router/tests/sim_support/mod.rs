//! Two routers in a row, a client before the first, sites behind both.
//!
//! ```text
//! client ── r1 ──────── r2 ──┬── ams  (cost 10)
//!            └── home         ├── fra  (cost 20)
//!   far (r2): cost 10         └── par  (cost 20)
//!   home:     cost 20
//! ```
#![forbid(unsafe_code)]
#![allow(dead_code)] // each test file uses a part
#![allow(clippy::unwrap_used)] // it is all for tests

pub mod star;

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use nearhop::config::Config;
use nearhop::event::{EventKind, MoveCause};
use nearhop::ids::Family;
use nearhop::port::memory::LinkState;
use nearhop::sim::{
    Action, Draft, Flow, FlowId, LinkEnd, LinkId, Net, NodeEvent, Power, SERVICES, Site,
};
use nearhop::time::Nanos;
use nearhop::verdict::Verdict;

pub const R1: usize = 0;
pub const R2: usize = 1;
pub const LINK_DELAY: Duration = Duration::from_micros(200);

/// A site: its number, its link, and the router it is behind.
#[derive(Clone, Copy, Debug)]
pub struct SimSite {
    pub name: &'static str,
    pub site: usize,
    pub link: LinkId,
    pub node: usize,
}

pub struct Lab {
    pub net: Net,
    pub home: SimSite,
    pub ams: SimSite,
    pub fra: SimSite,
    pub par: SimSite,
    pub trunk: LinkId,
    pub flows: Vec<FlowId>,
}

/// How the routers check and rank.
#[derive(Clone, Copy, Debug)]
pub struct CheckPlan {
    pub icmp_ms: u64,
    pub dns_ms: u64,
    pub far_ms: u64,
    pub ams_cost: u32,
    /// Whether servers are checked by TCP instead of DNS.
    pub tcp: bool,
    /// Whether fra has checks, or only its carrier counts.
    pub fra_checked: bool,
}

impl Default for CheckPlan {
    fn default() -> Self {
        Self { icmp_ms: 10, dns_ms: 20, far_ms: 20, ams_cost: 10, tcp: false, fra_checked: true }
    }
}

impl CheckPlan {
    fn health(self) -> String {
        let Self { icmp_ms, dns_ms, .. } = self;
        let server =
            if self.tcp { "tcp = { port = 80 }" } else { "dns = { name = \"www.example.\" }" };
        format!(
            r#"health = [
    {{ icmp = {{}}, interval = "{icmp_ms}ms", fall = 3, rise = 5 }},
    {{ {server}, interval = "{dns_ms}ms", fall = 3, rise = 2 }},
]"#
        )
    }

    pub fn r1(self) -> Config {
        let far_ms = self.far_ms;
        let far =
            format!(r#"health = {{ icmp = {{}}, interval = "{far_ms}ms", fall = 4, rise = 3 }}"#);
        Draft::new("r1")
            .port("client", "10.0.0.1/24", "fd00::1/64")
            .port("home", "10.1.0.1/24", "fd00:1::1/64")
            .port("r2", "10.12.0.1/24", "fd00:12::1/64")
            .route("10.2.0.0/16", "r2")
            .route("fd00:2::/32", "r2")
            .site("far", "r2", 10, &far)
            .site("home", "home", 20, &self.health())
            .config()
            .unwrap()
    }

    pub fn r2(self) -> Config {
        let health = self.health();
        let fra = if self.fra_checked { &*health } else { "" };
        Draft::new("r2")
            .port("r1", "10.12.0.2/24", "fd00:12::2/64")
            .port("ams", "10.2.1.1/24", "fd00:2:1::1/64")
            .port("fra", "10.2.2.1/24", "fd00:2:2::1/64")
            .port("par", "10.2.3.1/24", "fd00:2:3::1/64")
            .route("10.0.0.0/24", "r1")
            .route("fd00::/64", "r1")
            .site("ams", "ams", self.ams_cost, &health)
            .site("fra", "fra", 20, fra)
            .site("par", "par", 20, &health)
            .config()
            .unwrap()
    }
}

impl Lab {
    /// Everything is up, every site's first outcome is known, and no flow runs yet.
    pub fn new(seed: u64, plan: CheckPlan) -> Self {
        let mut net = Net::new(seed);
        assert_eq!(net.add_node(plan.r1()).unwrap(), R1);
        assert_eq!(net.add_node(plan.r2()).unwrap(), R2);
        let client = net.add_client(&["10.0.0.2".parse().unwrap(), "fd00::2".parse().unwrap()]);
        net.join(LinkEnd::Client(client), LinkEnd::Node(R1, "client".into()), LINK_DELAY);
        let trunk =
            net.join(LinkEnd::Node(R1, "r2".into()), LinkEnd::Node(R2, "r1".into()), LINK_DELAY);
        let served: Vec<IpAddr> =
            SERVICES.iter().map(|text| text.parse::<SocketAddr>().unwrap().ip()).collect();
        let mut place = |name: &'static str, node: usize| {
            let site = net.add_site(Site::new(name, &served));
            let link = net.join(LinkEnd::Node(node, name.into()), LinkEnd::Site(site), LINK_DELAY);
            SimSite { name, site, link, node }
        };
        let [home, ams] = [place("home", R1), place("ams", R2)];
        let [fra, par] = [place("fra", R2), place("par", R2)];
        let mut lab = Self { net, home, ams, fra, par, trunk, flows: Vec::new() };
        lab.run_ms(600);
        lab
    }

    pub fn places(&self) -> [SimSite; 4] {
        [self.home, self.ams, self.fra, self.par]
    }

    /// Starts `count` flows of each family and runs them for a moment.
    pub fn flow(mut self, count: usize, interval_ms: u64) -> Self {
        for _ in 0..count {
            for service in SERVICES {
                let interval = Duration::from_millis(interval_ms);
                let service = service.parse().unwrap();
                let flow = self.net.add_flow(0, service, interval, Nanos(u64::MAX));
                self.flows.push(flow.unwrap());
            }
        }
        self.run_ms(100);
        self
    }

    pub fn now(&self) -> Nanos {
        self.net.now()
    }

    pub fn run_ms(&mut self, ms: u64) {
        self.net.run_until(self.net.now() + Duration::from_millis(ms)).unwrap();
    }

    pub fn link(&mut self, link: LinkId, state: LinkState) -> Nanos {
        self.act(Action::Link { link, state })
    }

    pub fn power(&mut self, place: SimSite, power: Power) -> Nanos {
        self.act(Action::Power { site: place.site, power })
    }

    pub fn drain(&mut self, place: SimSite, drained: bool) -> Nanos {
        let site = place.name.to_owned();
        self.act(Action::Drain { node: place.node, site, drained })
    }

    /// Performs the action now; returns the time.
    pub fn act(&mut self, action: Action) -> Nanos {
        let now = self.net.now();
        self.net.at(now, action);
        now
    }

    pub fn each_flow(&self) -> impl Iterator<Item = &Flow> {
        self.flows.iter().map(|&id| self.net.flow(id))
    }

    /// The sites that serve the flows now, sorted; "" for flows that are not served.
    pub fn sites_now(&self) -> Vec<&str> {
        // Packets of the last millisecond may still be on their way.
        let before = self.now() - Duration::from_millis(5);
        let mut sites: Vec<&str> =
            self.each_flow().map(|flow| flow.site_before(before).unwrap_or("")).collect();
        sites.sort_unstable();
        sites.dedup();
        sites
    }

    /// Packets sent since `from` and not answered; the last ones are left out.
    pub fn lost_since(&self, from: Nanos) -> usize {
        let to = self.now() - Duration::from_millis(5);
        self.each_flow().map(|flow| flow.lost(from, to)).sum()
    }

    pub fn events_since(&self, from: Nanos) -> impl Iterator<Item = &NodeEvent> {
        self.net.events().iter().filter(move |event| event.t >= from)
    }

    /// When each leg of a site went up or down since `from`: time, family, up, reason.
    pub fn site_events(&self, name: &str, from: Nanos) -> Vec<(Nanos, Family, bool, String)> {
        let events = self.events_since(from).filter_map(|event| match &event.kind {
            EventKind::Site { site, family, up, reason, .. } if site == name => {
                Some((event.t, *family, *up, reason.clone()))
            }
            _ => None,
        });
        events.collect()
    }

    /// Causes and members of the `select` events of one router since `from`.
    pub fn selects(&self, node: usize, from: Nanos) -> Vec<(MoveCause, String)> {
        let events = self.events_since(from).filter(|event| event.node == node);
        let events = events.filter_map(|event| match &event.kind {
            EventKind::Select { cause, member, .. } => Some((*cause, member.clone())),
            _ => None,
        });
        events.collect()
    }

    /// Invariants that hold after any scenario.
    pub fn assert_sound(&self) {
        for node in [R1, R2] {
            let counters = self.net.node(node).counters();
            let ended: u64 = counters.verdicts.iter().sum();
            let begun = counters.received + counters.originated + counters.split;
            assert_eq!(begun, ended, "{} counts {begun} begun, {ended} ended", names(node));
            assert_eq!(counters.of(Verdict::TtlExpired), 0, "a loop at {}", names(node));
            assert!(!self.net.node(node).control().is_unpublished());
        }
        self.assert_moves_explained();
        // Each router is stepped for a packet, a timer or an action: a few times per millisecond.
        let ms = self.now().since(Nanos(1_000_000_000)).as_millis();
        assert!(u128::from(self.net.steps()) < 50 * ms, "{} steps in {ms} ms", self.net.steps());
    }

    /// Each flow that moved to another site did so for a cause that names its old or its new site.
    pub fn assert_moves_explained(&self) {
        for flow in self.each_flow() {
            let family = Family::of(flow.dst.ip());
            for (before, after) in flow.moves() {
                let window = flow.sent[before.seq.min(after.seq)]..=after.t;
                let node = if [&before.site, &after.site].iter().any(|site| *site == "home") {
                    R1
                } else {
                    R2
                };
                let name = |site: &str| match (node, site) {
                    (R1, "home") => "home".to_owned(),
                    (R1, _) => "far".to_owned(),
                    (_, site) => site.to_owned(),
                };
                let members = [name(&before.site), name(&after.site), "reload".into()];
                let explained = self.net.events().iter().any(|event| {
                    event.node == node
                        && window.contains(&event.t)
                        && matches!(&event.kind, EventKind::Select { family: of, member, .. }
                            if *of == family && members.contains(member))
                });
                assert!(explained, "nothing explains {before:?} to {after:?} of {}", flow.src);
            }
        }
    }

    /// Everything that is visible from outside, as text.
    pub fn transcript(&self) -> String {
        let events = self.net.events().iter().map(|event| format!("{event}\n"));
        let flows = self.each_flow().map(|flow| format!("{flow:?}\n"));
        let nodes = [R1, R2].map(|node| format!("{:?}\n", self.net.node(node).counters()));
        events.chain(flows).chain(nodes).collect()
    }
}

fn names(node: usize) -> &'static str {
    ["r1", "r2"][node]
}
