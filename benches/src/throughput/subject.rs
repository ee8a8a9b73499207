//! A contestant and the namespaces on both sides of it.
#![forbid(unsafe_code)]

use std::any::Any;
use std::net::Ipv4Addr;
use std::process::Command;

use nearhop::kernel::link::{KernelRoute, LinkSetup, LinkStats};
use nearhop::kernel::netns::NetNs;
use nearlab::lab::Namespace;

use crate::report::BenchError;

/// What packets are sent through.
pub struct Subject {
    pub name: &'static str,
    pub client: NetNs,
    pub site: NetNs,
    /// The site's NIC.
    nic: String,
    /// Bytes that the site's NIC counts of a packet besides the packet.
    pub link_header: u64,
    links: LinkSetup,
    /// Ends the contestant when it is dropped.
    _runs: Box<dyn Any>,
    _namespaces: Vec<Namespace>,
}

impl Subject {
    /// `nics` are the client's and the site's; both have their address already.
    pub fn new(
        name: &'static str,
        lab: &Lab,
        nics: [&str; 2],
        link_header: u64,
        runs: Box<dyn Any>,
        namespaces: Vec<Namespace>,
    ) -> Result<Self, BenchError> {
        for (netns, nic, gateway) in
            [(&lab.client, nics[0], CLIENT_GATEWAY), (&lab.site, nics[1], SITE_GATEWAY)]
        {
            let mut links = LinkSetup::open(netns).map_err(BenchError::environment)?;
            let to = "10.0.0.0/14".parse().map_err(BenchError::environment)?;
            let gateway = Some(gateway.into());
            let route = KernelRoute { to, gateway, interface: nic.into() };
            links.replace_route(&route).map_err(BenchError::environment)?;
        }
        let subject = Self {
            name,
            client: lab.client.clone(),
            site: lab.site.clone(),
            nic: nics[1].to_owned(),
            link_header,
            links: LinkSetup::open(&lab.site).map_err(BenchError::environment)?,
            _runs: runs,
            _namespaces: namespaces,
        };
        super::load::warm(&subject)?;
        Ok(subject)
    }

    /// What the site's NIC has counted.
    pub fn site_stats(&mut self) -> Result<LinkStats, BenchError> {
        let status = self.links.status(&self.nic).map_err(BenchError::environment)?;
        Ok(status.stats)
    }
}

/// The namespaces of a contestant.
pub struct Lab {
    pub client: NetNs,
    pub site: NetNs,
    pub router: NetNs,
}

impl Lab {
    /// Makes them; they go with what is returned.
    pub fn make(id: &str) -> Result<(Self, Vec<Namespace>), BenchError> {
        let names = ["c", "s", "r"].map(|end| format!("{id}-{end}"));
        let made = names.iter().map(|name| Namespace::make(name)).collect::<Result<_, _>>();
        let made = made.map_err(BenchError::environment)?;
        let [client, site, router] = names.map(|name| NetNs::named(&name));
        Ok((Self { client, site, router }, made))
    }
}

/// Runs a command line in a namespace; it has to succeed.
pub fn run_in(netns: &NetNs, program: &str, arguments: &[&str]) -> Result<(), BenchError> {
    let run = || Command::new(program).args(arguments).output();
    let output = netns.within(run).map_err(BenchError::environment)?;
    let output = output.map_err(|error| {
        BenchError::environment(format!("cannot run {program} in {netns}: {error}"))
    })?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(BenchError::environment(format!("{program} {arguments:?} in {netns}: {}", said.trim())))
}

/// Where the client is.
pub const CLIENT: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 2);
/// Where the site is.
pub const SITE: Ipv4Addr = Ipv4Addr::new(10, 1, 0, 2);
/// An address behind the site, which throws such packets away as soon as it has looked them up.
pub const SINK: Ipv4Addr = Ipv4Addr::new(10, 2, 0, 9);

const CLIENT_GATEWAY: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);
const SITE_GATEWAY: Ipv4Addr = Ipv4Addr::new(10, 1, 0, 1);
