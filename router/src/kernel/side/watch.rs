//! Hears from the kernel which devices' sides may have changed.
#![forbid(unsafe_code)]

use std::collections::BTreeSet;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use ipnetwork::IpNetwork;

use super::super::link::requests::{IFADDRMSG_LEN, IFINFOMSG_LEN, RTMSG_LEN};
use super::super::netlink::{Message, Netlink, number};
use super::super::netns::{NetNs, NetNsError};
use super::seen::destinations;

/// Watches the devices, addresses and routes of one namespace.
pub struct SideWatch {
    netlink: Netlink,
    routes: bool,
}

/// What something happened to.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Touched {
    /// Their interface indexes.
    pub devices: BTreeSet<u32>,
    /// Destinations whose routes changed, by whatever device: a route that takes another's place is
    /// reported, and the one that is gone is not.
    pub routes: BTreeSet<IpNetwork>,
    /// News were lost: it may be any.
    pub any: bool,
}

impl SideWatch {
    /// Starts watching; what happens from now on is heard.
    ///
    /// # Errors
    /// The namespace cannot be entered, or the socket not be opened.
    pub fn open(netns: &NetNs) -> Result<Self, NetNsError> {
        let failed = |source| NetNsError { netns: netns.clone(), step: "watch", source };
        let opened = netns.within(|| -> io::Result<Netlink> {
            let mut netlink = Netlink::open()?;
            // The last is heard when IPv6 is turned on for a device, before anything has an address.
            for group in [
                libc::RTNLGRP_LINK,
                libc::RTNLGRP_IPV4_IFADDR,
                libc::RTNLGRP_IPV6_IFADDR,
                libc::RTNLGRP_IPV6_IFINFO,
            ] {
                netlink.subscribe(group)?;
            }
            netlink.set_receive_buffer(RECEIVE_BUFFER)?;
            Ok(netlink)
        })?;
        Ok(Self { netlink: opened.map_err(failed)?, routes: false })
    }

    /// Watches routes too, of which a routing daemon may change a great many.
    ///
    /// # Errors
    /// The kernel's.
    pub fn watch_routes(&mut self) -> io::Result<()> {
        if !self.routes {
            self.netlink.subscribe(libc::RTNLGRP_IPV4_ROUTE)?;
            self.netlink.subscribe(libc::RTNLGRP_IPV6_ROUTE)?;
            self.routes = true;
        }
        Ok(())
    }

    /// What to poll for reading (level-triggered).
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.netlink.as_fd()
    }

    /// What has happened since the last call. Never blocks; reads a bounded number of datagrams, so
    /// the descriptor may be readable still.
    #[must_use]
    pub fn poll(&mut self) -> Touched {
        let mut touched = Touched::default();
        for _ in 0..DATAGRAMS_PER_POLL {
            match self.netlink.receive() {
                Ok(()) => {
                    for message in self.netlink.messages() {
                        touched.devices.extend(device_of(message));
                        touched.routes.extend(route_of(message));
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(_) => touched.any = true,
            }
        }
        touched
    }
}

/// The device that a notification is about.
fn device_of(message: Message<'_>) -> Option<u32> {
    let in_header = |len| message.parts(len).and_then(|(header, _)| number(&header[4..]));
    match message.kind {
        libc::RTM_NEWLINK | libc::RTM_DELLINK => in_header(IFINFOMSG_LEN),
        libc::RTM_NEWADDR | libc::RTM_DELADDR => in_header(IFADDRMSG_LEN),
        _ => None,
    }
}

/// The destinations of the route that a notification is about.
fn route_of(message: Message<'_>) -> Option<IpNetwork> {
    if message.kind != libc::RTM_NEWROUTE && message.kind != libc::RTM_DELROUTE {
        return None;
    }
    let (header, attributes) = message.parts(RTMSG_LEN)?;
    destinations(header, attributes)
}

/// Room for a burst over a few hundred devices; what does not fit is looked for on all.
const RECEIVE_BUFFER: usize = 1 << 19;

/// Bounds one call under a flood of notifications.
const DATAGRAMS_PER_POLL: usize = 256;
