//! The two ends of a wire, and how the state of one is carried over to the other.
#![forbid(unsafe_code)]

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nearhop::kernel::link::{LinkError, LinkSetup};
use nearhop::kernel::netns::NetNs;
use netlink_sys::protocols::NETLINK_ROUTE;
use netlink_sys::{Socket, SocketAddr};

use super::Spec;
use crate::lab::QUEUE_PACKETS;
use crate::sys;

/// Both ends.
pub(super) struct Ends {
    device: String,
    /// The descriptor of the host's NIC.
    pub(super) host: OwnedFd,
    host_side: Side,
    /// On the router's TUN, while there is one.
    pub(super) router: Option<Attached>,
    router_side: Side,
    /// What was last carried over.
    host_up: Option<bool>,
    carrier: Option<bool>,
}

/// A packet socket on the device of this index.
pub(super) struct Attached {
    ifindex: u32,
    pub(super) socket: OwnedFd,
}

/// One end's namespace: what is asked there, and what reports changes.
struct Side {
    netns: NetNs,
    links: LinkSetup,
    changes: Socket,
}

impl Ends {
    /// Makes the host's NIC, and joins the router's TUN if it is there already.
    pub(super) fn open(spec: &Spec) -> io::Result<Self> {
        let host_side = Side::open(&spec.host_netns)?;
        let router_side = Side::open(&spec.router_netns)?;
        let open = || sys::open_tun(&spec.device, sys::TunKind::VnetHdr);
        let host = host_side.netns.within(open).map_err(io::Error::other)??;
        let device = spec.device.clone();
        let (host_up, carrier) = (None, None);
        let mut ends =
            Self { device, host, host_side, router: None, router_side, host_up, carrier };
        ends.host_side.links.set_mtu(&ends.device, spec.mtu).map_err(io::Error::other)?;
        ends.carry_over()?;
        Ok(ends)
    }

    /// What to poll for changes of state, besides the packets.
    pub(super) fn changes(&self) -> [BorrowedFd<'_>; 2] {
        [self.host_side.changes.as_fd(), self.router_side.changes.as_fd()]
    }

    /// A host's NIC that is set down takes the router's device down with it, and up again. A
    /// router's device that is gone or down takes the carrier from the host's NIC; that way the
    /// kernel may be slow (700 ms), which is why the other way does not use the carrier.
    pub(super) fn carry_over(&mut self) -> io::Result<()> {
        self.host_side.drain()?;
        self.router_side.drain()?;
        let host = self.host_side.links.status(&self.device).map_err(io::Error::other)?;
        let router = self.router_side.links.find(&self.device).map_err(io::Error::other)?;
        self.attach(router.as_ref().map(|status| status.ifindex))?;
        let mut router_up = router.is_some_and(|status| status.admin_up);
        if self.router.is_some() && (self.host_up != Some(host.admin_up) || !host.admin_up) {
            if router_up != host.admin_up {
                gone_is_fine(self.router_side.links.set_up(&self.device, host.admin_up))?;
            }
            router_up = host.admin_up;
        }
        // Remembered only while there was a router to notify.
        self.host_up = self.router.is_some().then_some(host.admin_up);
        if host.admin_up && self.carrier != Some(router_up) {
            sys::set_carrier(&self.host, router_up)?;
            self.carrier = Some(router_up);
        }
        Ok(())
    }

    /// Packets that were dropped before the emulator could read them: those for the host since
    /// this was last asked, those for the router since the host's NIC was made.
    pub(super) fn dropped(&mut self) -> io::Result<(u64, u64)> {
        let to_host = match &self.router {
            Some(router) => u64::from(sys::packet_drops(&router.socket)?),
            None => 0,
        };
        let host = self.host_side.links.status(&self.device).map_err(io::Error::other)?;
        Ok((to_host, host.stats.tx_dropped))
    }

    /// Joins the router's device of that index, if it is not joined yet.
    fn attach(&mut self, ifindex: Option<u32>) -> io::Result<()> {
        if self.router.as_ref().map(|router| router.ifindex) == ifindex {
            return Ok(());
        }
        self.router = match ifindex {
            None => None,
            Some(ifindex) => {
                let set = self.router_side.links.set_queue_len(&self.device, QUEUE_PACKETS);
                gone_is_fine(set)?;
                let open = || sys::packet_socket(ifindex);
                match self.router_side.netns.within(open).map_err(io::Error::other)? {
                    Ok(socket) => Some(Attached { ifindex, socket }),
                    // Gone again meanwhile; its deletion is the next change to be reported.
                    Err(error) if error.raw_os_error() == Some(libc::ENODEV) => None,
                    Err(error) => return Err(error),
                }
            }
        };
        Ok(())
    }
}

impl Side {
    fn open(netns: &str) -> io::Result<Self> {
        let netns = NetNs::named(netns);
        let links = LinkSetup::open(&netns).map_err(io::Error::other)?;
        let changes = netns.within(subscribe).map_err(io::Error::other)??;
        Ok(Self { netns, links, changes })
    }

    /// What they say does not matter: the state is asked again. An overrun means changes, too.
    fn drain(&self) -> io::Result<()> {
        let mut buffer = Vec::with_capacity(NOTICE_MAX);
        loop {
            buffer.clear();
            match self.changes.recv(&mut buffer, 0) {
                Ok(_) => {}
                Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            }
        }
    }
}

/// A device that has just been deleted has no state to set.
fn gone_is_fine(outcome: Result<(), LinkError>) -> io::Result<()> {
    match outcome {
        Err(error) if error.errno() == Some(libc::ENODEV) => Ok(()),
        other => other.map_err(io::Error::other),
    }
}

/// A socket that reports when a device of the namespace changes.
fn subscribe() -> io::Result<Socket> {
    let mut socket = Socket::new(NETLINK_ROUTE)?;
    socket.bind(&SocketAddr::new(0, 0))?;
    socket.add_membership(RTNLGRP_LINK)?;
    socket.set_non_blocking(true)?;
    Ok(socket)
}

const RTNLGRP_LINK: u32 = 1;
const NOTICE_MAX: usize = 8192;
