//! Three routers: one with the client, which has a way to a site of each of the others.
//!
//! ```text
//! client ── r1 ──── r2 ── near
//!            └───── r3 ── far
//! ```

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use nearhop::bgp::session::State;
use nearhop::sim::{Action, Draft, FlowId, LinkEnd, LinkId, Net, SERVICES, Site};
use nearhop::time::Nanos;

pub const R1: usize = 0;
pub const R2: usize = 1;
pub const R3: usize = 2;

/// The routers besides the first, and their sites.
pub const OTHERS: [(usize, &str); 2] = [(R2, "near"), (R3, "far")];

pub const DELAY: Duration = Duration::from_micros(200);

/// Keys of a neighbour.
pub const HOLD: &str = "import = \"all\"\nexport = \"services\"\nhold-time = \"3s\"\n";

/// A key of a site.
pub const HEALTH: &str = "health = { icmp = {}, interval = \"50ms\", fall = 3, rise = 3 }\n";

pub struct Star {
    pub net: Net,
    /// The link between r1 and r2.
    pub near: LinkId,
    pub flows: Vec<FlowId>,
    client: usize,
}

/// Gives r1 its ports.
pub fn with_ports_of_r1(mut r1: Draft) -> Draft {
    r1.port("client", "10.0.0.1/24", "fd00::1/64");
    for (node, _) in OTHERS {
        let number = node + 1;
        let (v4, v6) = (format!("10.1{number}.0.1/24"), format!("fd00:1{number}::1/64"));
        r1.port(&format!("r{number}"), &v4, &v6);
    }
    r1
}

/// r2 or r3, with its ports.
pub fn other_with_ports(node: usize, site: &str) -> Draft {
    let number = node + 1;
    let mut draft = Draft::new(&format!("r{number}"));
    let (v4, v6) = (format!("10.1{number}.0.2/24"), format!("fd00:1{number}::2/64"));
    draft.port("r1", &v4, &v6);
    draft.port(site, &format!("10.{number}.0.1/24"), &format!("fd00:{number}::1/64"));
    draft
}

/// r1 of those that speak BGP; the keys of its neighbours r2 and r3 besides [`HOLD`].
pub fn first(keys: [&str; 2]) -> Draft {
    let mut r1 = with_ports_of_r1(Draft::without_services("r1"));
    r1.bgp(65_001, "10.255.0.1");
    for (number, keys) in [2, 3].into_iter().zip(keys) {
        let (name, address) = (format!("r{number}"), format!("10.1{number}.0.2"));
        r1.neighbor(&name, &address, 65_000 + number, &format!("{HOLD}{keys}"));
    }
    r1
}

/// r2 or r3 of those that speak BGP; the keys of its neighbour r1 besides [`HOLD`].
pub fn other(node: usize, site: &str, keys: &str) -> Draft {
    let number = node + 1;
    let mut draft = other_with_ports(node, site);
    draft.route("10.0.0.0/24", "r1").route("fd00::/64", "r1");
    draft.site(site, site, 10, HEALTH);
    draft.bgp(65_000 + number as u32, &format!("10.255.0.{number}"));
    draft.neighbor("r1", &format!("10.1{number}.0.1"), 65_001, &format!("{HOLD}{keys}"));
    draft
}

impl Star {
    /// Joins r1 with r2 and r3, these with their sites, and r1 with the client.
    pub fn join(seed: u64, r1: &Draft, others: [Draft; 2]) -> Self {
        let mut net = Net::new(seed);
        let end = |of: usize, port: &str| LinkEnd::Node(of, port.to_owned());
        assert_eq!(net.add_node(r1.config().unwrap()).unwrap(), R1);
        let links = OTHERS.into_iter().zip(others).map(|((node, site), draft)| {
            assert_eq!(net.add_node(draft.config().unwrap()).unwrap(), node);
            let link = net.join(end(R1, &format!("r{}", node + 1)), end(node, "r1"), DELAY);
            let served: Vec<IpAddr> =
                SERVICES.iter().map(|text| text.parse::<SocketAddr>().unwrap().ip()).collect();
            let behind = net.add_site(Site::new(site, &served));
            net.join(end(node, site), LinkEnd::Site(behind), DELAY);
            link
        });
        let near = links.collect::<Vec<_>>()[0];
        let client = net.add_client(&["10.0.0.2".parse().unwrap(), "fd00::2".parse().unwrap()]);
        net.join(LinkEnd::Client(client), end(R1, "client"), DELAY);
        Self { net, near, flows: Vec::new(), client }
    }

    /// Once all has settled, the client sends a packet to each service in each `every`, and r2's site answers.
    pub fn serve(&mut self, settles: Duration, every: Duration) {
        self.run(settles);
        self.flows = SERVICES
            .map(|service| {
                let service = service.parse().unwrap();
                self.net.add_flow(self.client, service, every, Nanos(u64::MAX)).unwrap()
            })
            .into();
        self.run(Duration::from_secs(1));
        assert_eq!(self.sites(), ["near", "near"]);
    }

    pub fn run(&mut self, time: Duration) {
        self.net.run_until(self.net.now() + time).unwrap();
    }

    pub fn act(&mut self, action: Action) {
        self.net.at(self.net.now(), action);
    }

    /// Whether r1 has a session with another.
    pub fn stands(&self, other: usize) -> bool {
        let name = format!("r{}", other + 1);
        let mut sessions = self.net.node(R1).control().bgp_neighbors();
        sessions.any(|(_, one)| one.config.name == name && one.state == State::Established)
    }

    /// The sites that serve the flows now.
    pub fn sites(&self) -> Vec<&str> {
        let before = self.net.now() - Duration::from_millis(2);
        let site = |flow: &FlowId| self.net.flow(*flow).site_before(before).unwrap_or("");
        self.flows.iter().map(site).collect()
    }
}
