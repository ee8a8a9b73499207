//! The kernel's side of a device: made, addressed, routed, read, deleted, by netlink.
//!
//! [`LinkSetup`] is a blocking socket in one namespace. A request takes some microseconds, for the
//! kernel does the work before it returns; nothing here belongs on a worker.
#![forbid(unsafe_code)]
#![allow(clippy::disallowed_methods, reason = "waits for the kernel")]

pub(super) mod requests;
mod status;

use std::fmt;
use std::io;
use std::net::IpAddr;
use std::os::fd::AsRawFd;
use std::thread;
use std::time::Duration;

use ipnetwork::IpNetwork;
use netlink_packet_core::{NLM_F_ACK, NLM_F_CREATE, NLM_F_DUMP, NLM_F_EXCL, NLM_F_REPLACE};

use super::netlink::{Netlink, Refusal, Request};
use super::netns::{NetNs, NetNsError};
use crate::time::Nanos;

pub(super) use requests::any_link;
pub use status::{LinkStats, LinkStatus, TunStatus};

/// Changes and reads the devices of one namespace.
pub struct LinkSetup {
    pub(super) netlink: Netlink,
    pub(super) netns: NetNs,
}

/// One end of a veth pair to be made.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct VethEnd {
    /// Interface name, 1 to 15 bytes.
    pub name: String,
    /// Interface index; `None` lets the kernel choose. Two ends of *different* index see each
    /// other's carrier at once, ends of the same index only after the kernel's link watch.
    pub ifindex: Option<u32>,
    /// Where it lives.
    pub netns: NetNs,
}

/// A route of the kernel, in its main table.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct KernelRoute {
    /// Which destinations; `0.0.0.0/0` and `::/0` are the default routes.
    pub to: IpNetwork,
    /// The router to send to; `None` for destinations on the link itself.
    pub gateway: Option<IpAddr>,
    /// The interface to send by.
    pub interface: String,
}

impl LinkSetup {
    /// Opens a socket in the namespace.
    pub fn open(netns: &NetNs) -> Result<Self, LinkError> {
        let netlink = netns
            .within(Netlink::open)?
            .map_err(|source| LinkError::new("open a netlink socket", netns, source.into()))?;
        Ok(Self { netlink, netns: netns.clone() })
    }

    /// Which namespace it is.
    pub fn netns(&self) -> &NetNs {
        &self.netns
    }

    /// The device of that name, or an error that says it is not there.
    pub fn status(&mut self, interface: &str) -> Result<LinkStatus, LinkError> {
        let mut found = None;
        let request = requests::named(libc::RTM_GETLINK, interface);
        self.request(format_args!("read the state of {interface}"), 0, request, |status| {
            found = Some(status);
        })?;
        found.ok_or_else(|| {
            let nothing = io::Error::new(io::ErrorKind::InvalidData, "the kernel sent no state");
            LinkError::new(format!("read the state of {interface}"), &self.netns, nothing.into())
        })
    }

    /// The device of that name, if there is one.
    pub fn find(&mut self, interface: &str) -> Result<Option<LinkStatus>, LinkError> {
        match self.status(interface) {
            Ok(status) => Ok(Some(status)),
            Err(error) if error.errno() == Some(libc::ENODEV) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// All devices, by rising index.
    pub fn list(&mut self) -> Result<Vec<LinkStatus>, LinkError> {
        let mut links = Vec::new();
        for _ in 0..LIST_TRIES {
            links.clear();
            let push = |link| links.push(link);
            let changed = self.request("list the devices", NLM_F_DUMP, any_link(), push)?;
            if !changed {
                break;
            }
        }
        links.sort_by_key(|link| link.ifindex);
        Ok(links)
    }

    /// Sets the device up or down.
    pub fn set_up(&mut self, interface: &str, up: bool) -> Result<(), LinkError> {
        let state = if up { "up" } else { "down" };
        let request = requests::admin_state(interface, up);
        self.change(format_args!("set {interface} {state}"), 0, request)
    }

    /// Sets the MTU in bytes.
    pub fn set_mtu(&mut self, interface: &str, mtu: u32) -> Result<(), LinkError> {
        let operation = format_args!("set the MTU of {interface} to {mtu}");
        self.change(operation, 0, requests::mtu(interface, mtu))
    }

    /// Sets how many packets wait in the device's queue, for a TUN device in each of its queues,
    /// while nobody reads it.
    pub fn set_queue_len(&mut self, interface: &str, packets: u32) -> Result<(), LinkError> {
        let operation = format_args!("set the queue of {interface} to {packets} packets");
        self.change(operation, 0, requests::queue_len(interface, packets))
    }

    /// Has the kernel make no IPv6 link-local address of its own for the device, and so solicit
    /// no routers (RFC 4861, section 6.3.7) there. Takes effect when the device is set up.
    pub fn keep_quiet(&mut self, interface: &str) -> Result<(), LinkError> {
        let operation = format_args!("turn off link-local addresses on {interface}");
        self.change(operation, 0, requests::no_link_local(interface))
    }

    /// Adds an address, or changes it if it is there. If the device is up, packets to the address
    /// are delivered once this returns; an IPv6 address is not probed for duplicates.
    pub fn replace_address(
        &mut self,
        interface: &str,
        address: IpNetwork,
    ) -> Result<(), LinkError> {
        let status = self.status(interface)?;
        let request = requests::address(libc::RTM_NEWADDR, status.ifindex, address);
        let operation = format_args!("add address {address} to {interface}");
        self.change(operation, NLM_F_CREATE | NLM_F_REPLACE, request)?;
        if status.up() { self.wait_until_local(interface, address.ip()) } else { Ok(()) }
    }

    /// Deletes an address.
    pub fn delete_address(&mut self, interface: &str, address: IpNetwork) -> Result<(), LinkError> {
        let ifindex = self.status(interface)?.ifindex;
        let request = requests::address(libc::RTM_DELADDR, ifindex, address);
        self.change(format_args!("delete address {address} from {interface}"), 0, request)
    }

    /// Adds a route, or replaces the one to the same prefix.
    pub fn replace_route(&mut self, route: &KernelRoute) -> Result<(), LinkError> {
        let ifindex = self.status(&route.interface)?.ifindex;
        let request = requests::route(libc::RTM_NEWROUTE, ifindex, route);
        self.change(format_args!("add route {route}"), NLM_F_CREATE | NLM_F_REPLACE, request)
    }

    /// Deletes a route.
    pub fn delete_route(&mut self, route: &KernelRoute) -> Result<(), LinkError> {
        let ifindex = self.status(&route.interface)?.ifindex;
        let request = requests::route(libc::RTM_DELROUTE, ifindex, route);
        self.change(format_args!("delete route {route}"), 0, request)
    }

    /// Makes a veth pair, each end at once in its own namespace and set down.
    pub fn create_veth(one: &VethEnd, other: &VethEnd) -> Result<(), LinkError> {
        let other_netns = other.netns.open()?;
        let link = requests::veth(one, other, other_netns.as_raw_fd());
        Self::open(&one.netns)?.change(
            format_args!("make veth pair {one} and {other}"),
            NLM_F_CREATE | NLM_F_EXCL,
            link,
        )
    }

    /// Moves a device to another namespace. The kernel sets it down and flushes its addresses.
    pub fn move_to(&mut self, interface: &str, netns: &NetNs) -> Result<(), LinkError> {
        let target = netns.open()?;
        let request = requests::namespace(interface, target.as_raw_fd());
        self.change(format_args!("move {interface} to network namespace {netns}"), 0, request)
    }

    /// Deletes a device; the other end of a veth pair goes with it.
    pub fn delete(&mut self, interface: &str) -> Result<(), LinkError> {
        let request = requests::named(libc::RTM_DELLINK, interface);
        self.change(format_args!("delete {interface}"), 0, request)
    }

    /// Linux puts an IPv6 address into its routing table later, from a work queue, even one it
    /// does not probe (`addrconf_dad_work`). Until then it drops what is sent there.
    pub(super) fn wait_until_local(
        &mut self,
        interface: &str,
        address: IpAddr,
    ) -> Result<(), LinkError> {
        let start = Nanos::now();
        while !self.is_local(address)? {
            if Nanos::now().since(start) > ADDRESS_TIMEOUT {
                let late = io::Error::from_raw_os_error(libc::ETIMEDOUT);
                let operation = format!("receive packets for {address} on {interface}");
                return Err(LinkError::new(operation, &self.netns, late.into()));
            }
            thread::park_timeout(ADDRESS_POLL);
        }
        Ok(())
    }

    /// Whether packets for `address` are delivered here.
    fn is_local(&mut self, address: IpAddr) -> Result<bool, LinkError> {
        let request = requests::route_to(address);
        let mut local = false;
        let answer = self.netlink.request(NLM_F_ACK, request, |part| {
            let header = part.parts(requests::RTMSG_LEN).map(|(header, _)| header);
            local |= header.is_some_and(|header| header[RTM_TYPE] == libc::RTN_LOCAL);
        });
        match answer {
            Ok(_) => Ok(local),
            Err(refusal) if refusal.source.raw_os_error() == Some(libc::ENETUNREACH) => Ok(false),
            Err(refusal) => {
                let operation = format_args!("find the route to {address}");
                Err(LinkError::new(operation, &self.netns, refusal))
            }
        }
    }

    pub(super) fn change(
        &mut self,
        operation: impl fmt::Display,
        flags: u16,
        request: Request,
    ) -> Result<(), LinkError> {
        self.request(operation, flags, request, |_| {}).map(|_| ())
    }

    fn request(
        &mut self,
        operation: impl fmt::Display,
        flags: u16,
        request: Request,
        mut each: impl FnMut(LinkStatus),
    ) -> Result<bool, LinkError> {
        let answer = self.netlink.request(flags | NLM_F_ACK, request, |part| {
            if let Some(status) = LinkStatus::parse(part) {
                each(status);
            }
        });
        answer.map_err(|refusal| LinkError::new(operation, &self.netns, refusal))
    }
}

impl fmt::Display for VethEnd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} in {}", self.name, self.netns)
    }
}

impl fmt::Display for KernelRoute {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.to)?;
        if let Some(gateway) = self.gateway {
            write!(f, " via {gateway}")?;
        }
        write!(f, " dev {}", self.interface)
    }
}

/// Why a device was not changed or read.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    /// Its namespace could not be opened or entered.
    #[error(transparent)]
    NetNs(#[from] NetNsError),
    /// The kernel refused.
    #[error("cannot {operation} in network namespace {netns}: {source}{}", hint(.words.as_deref(), source, netns))]
    Refused {
        /// What was to be done, with the names it concerns.
        operation: String,
        /// Where.
        netns: NetNs,
        /// The errno.
        source: io::Error,
        /// The kernel's own explanation, if it gave one.
        words: Option<String>,
    },
}

impl LinkError {
    /// The kernel's errno, if it was the kernel that refused.
    pub fn errno(&self) -> Option<i32> {
        match self {
            Self::NetNs(error) => error.source.raw_os_error(),
            Self::Refused { source, .. } => source.raw_os_error(),
        }
    }

    pub(super) fn new(operation: impl fmt::Display, netns: &NetNs, refusal: Refusal) -> Self {
        Self::Refused {
            operation: operation.to_string(),
            netns: netns.clone(),
            source: refusal.source,
            words: refusal.words,
        }
    }
}

/// The kernel's words, then what to type.
fn hint(words: Option<&str>, source: &io::Error, netns: &NetNs) -> String {
    let words = words.map(|words| format!(": {words}")).unwrap_or_default();
    let advice = match source.raw_os_error() {
        Some(libc::EEXIST) => "; it is there already".into(),
        Some(libc::ENODEV) => format!("; `{}` lists what is there", netns.ip_command("link")),
        Some(libc::EOPNOTSUPP) => "; this kernel has no support for it".into(),
        Some(libc::EPERM) => {
            "; this needs CAP_NET_ADMIN there: run as root, or inside `unshare -Urnm`".into()
        }
        _ => String::new(),
    };
    words + &advice
}

/// A list that changed while it was read is read again, this often at most.
const LIST_TRIES: usize = 10;

/// It takes the kernel some microseconds; on a machine under load, where namespaces end meanwhile and
/// hold the lock of all network settings, it was seen to take more than 5 s.
const ADDRESS_TIMEOUT: Duration = Duration::from_secs(30);
const ADDRESS_POLL: Duration = Duration::from_micros(100);

/// Where in a `struct rtmsg` the type of the route is.
const RTM_TYPE: usize = 7;
