//! How a link is built: device names and addresses of its ends.
#![forbid(unsafe_code)]

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnetwork::{IpNetwork, Ipv4Network, Ipv6Network};

use super::{Impairment, Link};

/// A link, with everything that follows from its position in the file.
#[derive(Clone, Debug, PartialEq)]
pub struct LinkPlan {
    /// The node that is not the router; also the name of its network namespace.
    pub host: String,
    /// The router.
    pub router: String,
    /// Name of the host's NIC and of the router's TUN device. On a direct link these are one
    /// device; on an impaired link the router's TUN is in the namespace of the emulator.
    pub device: String,
    /// Namespace of the router's TUN.
    pub router_device_netns: String,
    /// Addresses of the host's end, one per family.
    pub host_addresses: [IpNetwork; 2],
    /// Addresses of the router's end.
    pub router_addresses: [IpNetwork; 2],
    /// Impairment of packets.
    pub impairment: Impairment,
}

impl LinkPlan {
    /// `index` is the link's position in the file, at most 255.
    pub(super) fn new(index: usize, link: &Link) -> Self {
        let host = link.host.clone();
        let router_device_netns =
            if link.impairment.is_none() { host.clone() } else { format!("wire-{host}") };
        Self {
            device: format!("nh-{host}"),
            router_device_netns,
            host,
            router: link.router.clone(),
            host_addresses: addresses(index, 2),
            router_addresses: addresses(index, 1),
            impairment: link.impairment,
        }
    }

    /// Whether the router's TUN is the host's own NIC.
    pub fn is_direct(&self) -> bool {
        self.impairment.is_none()
    }
}

/// 10.0.INDEX.LAST/24 and fd00:INDEX::LAST/64.
fn addresses(index: usize, last: u8) -> [IpNetwork; 2] {
    let v4 = Ipv4Addr::new(10, 0, index as u8, last);
    let v6 = Ipv6Addr::new(0xfd00, index as u16, 0, 0, 0, 0, 0, u16::from(last));
    [network(v4.into(), 24), network(v6.into(), 64)]
}

/// A network with a length that is valid for its family.
pub(super) fn network(address: IpAddr, length: u8) -> IpNetwork {
    let made = match address {
        IpAddr::V4(v4) => Ipv4Network::new(v4, length).map(IpNetwork::V4),
        IpAddr::V6(v6) => Ipv6Network::new(v6, length).map(IpNetwork::V6),
    };
    made.unwrap_or_else(|_| IpNetwork::from(address))
}
