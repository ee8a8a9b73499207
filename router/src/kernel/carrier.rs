//! Carrier: hearing from the kernel at once when a device goes up, down or away.
//!
//! A TUN device that is set down wakes nobody who polls its descriptor; the namespace it lives in
//! does send a notification. From the request that sets a TUN down to the event in the poll of
//! another thread it takes 50 to 90 µs (medians of fifty, on two cores with other work; the
//! slowest of each fifty 0.1 to 0.5 ms); `tests/port_carrier.rs` measures and prints it. A carrier
//! lost below a device that stays set up, such as a veth whose far end was set down, may be reported
//! later, when the kernel's link watch comes round.
#![forbid(unsafe_code)]

mod table;

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};

use netlink_packet_core::NLM_F_DUMP;

use super::descriptors;
use super::link::{LinkStatus, any_link};
use super::netlink::Netlink;
use super::netns::{NetNs, NetNsError};
use table::LinkTable;

/// Watches the devices of one namespace.
pub struct CarrierMonitor {
    netlink: Netlink,
    netns: NetNs,
    table: LinkTable,
    /// Number of the list request under way.
    list: u32,
    /// The list under way changed while it was read, or failed.
    spoiled: bool,
    /// Notifications were lost: a new list is needed.
    missed: bool,
}

/// The state of a device, when it is first seen and whenever it changes.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct LinkEvent {
    /// Interface index.
    pub ifindex: u32,
    /// Interface name.
    pub name: String,
    /// Set up by the administrator, and the layer below carries packets.
    pub up: bool,
    /// It is gone from this namespace; `up` is false then.
    pub deleted: bool,
    /// Bytes of the largest packet.
    pub mtu: u32,
}

impl CarrierMonitor {
    /// Starts watching. [`Self::poll_event`] first gives the state of every device there is.
    pub fn open(netns: &NetNs) -> Result<Self, CarrierError> {
        let failed = |source| CarrierError::Socket { netns: netns.clone(), source };
        let mut netlink = netns.within(Netlink::open)?.map_err(failed)?;
        // Subscribe before listing, so that no change falls between the two.
        netlink.subscribe(libc::RTNLGRP_LINK).map_err(failed)?;
        netlink.set_receive_buffer(RECEIVE_BUFFER).map_err(failed)?;
        let mut monitor = Self {
            netlink,
            netns: netns.clone(),
            table: LinkTable::default(),
            list: 0,
            spoiled: false,
            missed: false,
        };
        monitor.start_list().map_err(failed)?;
        Ok(monitor)
    }

    /// Which namespace it watches.
    pub fn netns(&self) -> &NetNs {
        &self.netns
    }

    /// What to poll for reading (level-triggered).
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.netlink.as_fd()
    }

    /// Whether the list of devices has been read to its end.
    pub fn is_synced(&self) -> bool {
        !self.table.is_listing() && !self.missed
    }

    /// Takes the next event. Call until `None` after [`Self::open`] and whenever the descriptor
    /// can be read. Never blocks; reads a bounded number of datagrams, so the descriptor may be
    /// readable still.
    #[must_use]
    pub fn poll_event(&mut self) -> Option<LinkEvent> {
        for _ in 0..DATAGRAMS_PER_POLL {
            if let Some(event) = self.table.poll_event() {
                return Some(event);
            }
            match self.netlink.receive() {
                Ok(()) => self.handle_datagram(),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    // The kernel drops notifications until an overflown queue has been read to its
                    // end: a list asked for sooner could miss what happens after it.
                    if !self.missed || self.table.is_listing() {
                        return None;
                    }
                    self.recover();
                    if self.missed {
                        return None;
                    }
                }
                Err(error) => {
                    let netns = &self.netns;
                    log::warn!("link notifications lost in network namespace {netns}: {error}");
                    self.missed = true;
                    if error.raw_os_error() != Some(libc::ENOBUFS) {
                        return None;
                    }
                }
            }
        }
        self.table.poll_event()
    }

    fn handle_datagram(&mut self) {
        let mut list_end = None;
        for message in self.netlink.messages() {
            if message.sequence == 0 {
                let Some(status) = LinkStatus::parse(message) else { continue };
                if message.kind == libc::RTM_DELLINK {
                    self.table.handle_deleted(status.ifindex);
                } else {
                    self.table.handle_changed(status);
                }
            } else if message.sequence == self.list {
                self.spoiled |= message.interrupted;
                match message.outcome() {
                    Some(outcome) => list_end = Some(outcome),
                    None => {
                        if let Some(status) = LinkStatus::parse(message) {
                            self.table.handle_listed(status);
                        }
                    }
                }
            }
        }
        if let Some(outcome) = list_end {
            self.spoiled |= outcome.is_err();
            self.table.end_list(!self.spoiled);
            self.missed |= self.spoiled;
        }
    }

    /// Asks for a list in place of the notifications that were lost.
    fn recover(&mut self) {
        match self.start_list() {
            Ok(()) => self.missed = false,
            Err(error) => {
                let netns = &self.netns;
                log::warn!("cannot list the devices of network namespace {netns}: {error}");
            }
        }
    }

    fn start_list(&mut self) -> io::Result<()> {
        self.list = self.netlink.send(NLM_F_DUMP, any_link())?;
        self.spoiled = false;
        self.table.begin_list();
        Ok(())
    }
}

impl AsFd for CarrierMonitor {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd()
    }
}

impl AsRawFd for CarrierMonitor {
    fn as_raw_fd(&self) -> RawFd {
        self.fd().as_raw_fd()
    }
}

/// Why a namespace cannot be watched.
#[derive(Debug, thiserror::Error)]
pub enum CarrierError {
    /// It could not be opened or entered.
    #[error(transparent)]
    NetNs(#[from] NetNsError),
    /// The socket could not be made.
    #[error("cannot watch the links of network namespace {netns}: {source}{}", descriptors::hint(.source))]
    Socket {
        /// Which namespace.
        netns: NetNs,
        /// What the kernel said.
        source: io::Error,
    },
}

/// A notification takes about 4 KiB of it: room for a burst over a few hundred devices.
const RECEIVE_BUFFER: usize = 1 << 20;

/// Bounds one call under a flood of notifications.
const DATAGRAMS_PER_POLL: usize = 256;
