//! A host's NIC: its addresses, its routes, its faults.
#![forbid(unsafe_code)]

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr};

use ipnetwork::IpNetwork;
use nearhop::kernel::link::{KernelRoute, LinkError, LinkSetup};
use nearhop::kernel::netns::NetNs;

use super::fault::Act;
use super::silence::{Silencer, Way};
use super::{LabError, LinkPlan};

/// The NIC of a host, which the router (or a wire) makes, in the host's namespace.
pub(super) struct Nic {
    plan: LinkPlan,
    links: LinkSetup,
    silencer: Option<Silencer>,
    /// Whether a fault keeps it silent.
    is_silent: bool,
}

impl Nic {
    pub(super) fn new(plan: LinkPlan) -> Result<Self, LabError> {
        let links = LinkSetup::open(&NetNs::named(&plan.host))?;
        Ok(Self { plan, links, silencer: None, is_silent: false })
    }

    pub(super) fn device(&self) -> &str {
        &self.plan.device
    }

    pub(super) fn exists(&mut self) -> Result<bool, LinkError> {
        Ok(self.links.find(&self.plan.device)?.is_some())
    }

    pub(super) fn silence(&self) -> Option<Way> {
        self.silencer.as_ref().map(Silencer::way)
    }

    /// Sets it up with addresses and default routes, and prepares its silence. May be repeated; a
    /// device that is new is not silent.
    pub(super) fn configure(&mut self) -> Result<(), LabError> {
        // What the host's kernel would send of its own accord is noise in every count.
        self.links.keep_quiet(&self.plan.device)?;
        self.links.set_queue_len(&self.plan.device, QUEUE_PACKETS)?;
        self.links.set_up(&self.plan.device, true)?;
        self.address()?;
        let ifindex = self.links.status(&self.plan.device)?.ifindex;
        if self.silencer.as_ref().is_none_or(|silencer| silencer.ifindex() != ifindex) {
            let netns = NetNs::named(&self.plan.host);
            let silencer = Silencer::new(&netns, &self.plan.device, ifindex);
            self.silencer = Some(silencer.map_err(LabError::step("prepare silent faults"))?);
            self.is_silent = false;
        }
        Ok(())
    }

    pub(super) fn set_down(&mut self) -> Result<Act, LabError> {
        Act::time(|| self.links.set_up(&self.plan.device, false))
    }

    /// The kernel has forgotten the IPv6 addresses and all routes while it was down. They take
    /// time, on a busy machine much, and a host that has its address but no default route yet
    /// passes the router's checks and cannot answer its clients. So it stays silent until it has
    /// everything, and comes back whole.
    pub(super) fn set_up(&mut self) -> Result<Act, LabError> {
        Act::time(|| -> Result<(), LabError> {
            self.drop_packets(true)?;
            self.links.set_up(&self.plan.device, true)?;
            self.address()?;
            self.drop_packets(self.is_silent)
        })
    }

    pub(super) fn set_silent(&mut self, silent: bool) -> Result<Act, LabError> {
        let act = Act::time::<LabError, _>(|| self.drop_packets(silent))?;
        self.is_silent = silent;
        Ok(act)
    }

    fn drop_packets(&mut self, silent: bool) -> Result<(), LabError> {
        let absent =
            || LabError::NoNic { host: self.plan.host.clone(), device: self.plan.device.clone() };
        let silencer = self.silencer.as_mut().ok_or_else(absent)?;
        silencer.set(silent).map_err(LabError::step("silence a link"))
    }

    fn address(&mut self) -> Result<(), LinkError> {
        for address in self.plan.host_addresses {
            self.links.replace_address(&self.plan.device, address)?;
        }
        for to in default_destinations() {
            let interface = self.plan.device.clone();
            self.links.replace_route(&KernelRoute { to, gateway: None, interface })?;
        }
        Ok(())
    }
}

impl From<io::Error> for LabError {
    fn from(source: io::Error) -> Self {
        Self::Step { step: "change a link".to_owned(), source }
    }
}

fn default_destinations() -> [IpNetwork; 2] {
    let v4 = ipnetwork::Ipv4Network::new(Ipv4Addr::UNSPECIFIED, 0).map(IpNetwork::V4);
    let v6 = ipnetwork::Ipv6Network::new(Ipv6Addr::UNSPECIFIED, 0).map(IpNetwork::V6);
    [v4, v6].map(|network| network.unwrap_or_else(|_| unreachable!("0 is a length of both")))
}

/// A quarter of a second of what the demo's flows send at their finest: a worker of the router
/// that gets no turn on a core must not look like a network that loses packets. The kernel's
/// default of 500 lasts 12 ms.
pub(crate) const QUEUE_PACKETS: u32 = 10_000;
