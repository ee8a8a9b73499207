//! Brings a device to its side, and reads what there is.
#![forbid(unsafe_code)]

use std::fmt;

use ipnetwork::IpNetwork;
use netlink_packet_core::{NLM_F_CREATE, NLM_F_DUMP, NLM_F_EXCL, NLM_F_REPLACE};

use super::super::link::requests;
use super::super::link::{LinkError, LinkSetup, LinkStatus};
use super::super::netlink::{Message, Request};
use super::super::netns::NetNs;
use super::plan::{Mine, plan};
use super::seen::{IFA_PROTO, Seen};
use super::{Change, MARK, Side};

/// Changes and reads devices' sides in one namespace. Requests block for as long as the kernel works.
pub struct SideLink {
    links: LinkSetup,
}

/// What [`SideLink::settle`] did.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Settled {
    /// The changes it made, in order.
    pub made: Vec<Change>,
}

impl SideLink {
    /// Opens a socket in the namespace.
    ///
    /// # Errors
    /// The namespace cannot be entered, or the socket not be opened.
    pub fn open(netns: &NetNs) -> Result<Self, LinkError> {
        let links = LinkSetup::open(netns)?;
        // Without it, an older kernel lists everything, and what is of others is skipped here.
        links.netlink.filter_lists();
        Ok(Self { links })
    }

    /// What the kernel reports of a device. Routes are only read if they are asked for: there may be a
    /// million in the namespace.
    ///
    /// # Errors
    /// The kernel's refusal; `ENODEV` if the device is gone.
    pub fn look(&mut self, ifindex: u32, routes: bool) -> Result<Seen, LinkError> {
        let mut seen = Seen::default();
        let what = format_args!("read the state of device {ifindex}");
        let request = requests::indexed(libc::RTM_GETLINK, ifindex);
        self.list(what, 0, &request, |message| seen.take_link(message))?;
        let what = format_args!("list the addresses of {}", seen.name);
        let request = requests::addresses_of(ifindex);
        let mut addressed = Seen::default();
        for _ in 0..LIST_TRIES {
            addressed.addresses.clear();
            let take = |message: Message<'_>| addressed.take_address(ifindex, message);
            if !self.list(what, NLM_F_DUMP, &request, take)? {
                break;
            }
        }
        for v6 in [false, true].into_iter().filter(|_| routes) {
            let what = format_args!("list the routes of {}", seen.name);
            let take = |message: Message<'_>| addressed.take_route(ifindex, message);
            self.list(what, NLM_F_DUMP, &requests::routes_by(ifindex, v6), take)?;
        }
        (seen.addresses, seen.routes) = (addressed.addresses, addressed.routes);
        Ok(seen)
    }

    /// Brings a device to its side: changes, and looks again, until there is no difference. `routes`
    /// says whether there may be routes to look at, besides those that are wanted.
    ///
    /// # Errors
    /// What the kernel refused first, after everything else was done; or what it did not keep.
    pub fn settle(
        &mut self,
        ifindex: u32,
        want: &Side,
        mine: &Mine,
        routes: bool,
    ) -> Result<Settled, SideError> {
        let routes = routes || !want.routes.is_empty();
        let (mut made, mut failed, mut error) = (Vec::new(), Vec::new(), None);
        for _ in 0..ROUNDS_MAX {
            let seen = self.look(ifindex, routes)?;
            let changes = plan(want, &seen, mine, &failed);
            if changes.is_empty() {
                return match error {
                    None => Ok(Settled { made }),
                    Some(error) => Err(SideError::Refused { error, made }),
                };
            }
            for change in changes {
                match self.make(ifindex, &seen.name, change) {
                    Ok(()) => made.push(change),
                    Err(refused) => {
                        failed.push(change);
                        if !is_no_matter(change, &refused) {
                            error.get_or_insert(refused);
                        }
                    }
                }
            }
        }
        let left = plan(want, &self.look(ifindex, routes)?, mine, &failed);
        Err(SideError::NotKept { left, made })
    }

    /// Waits until packets for a side's IPv6 addresses are delivered: Linux adds them to its routing
    /// table later.
    ///
    /// # Errors
    /// They are not within half a minute.
    pub fn wait_until_delivered(&mut self, ifindex: u32, want: &Side) -> Result<(), LinkError> {
        let seen = self.look(ifindex, false)?;
        let there = |address: &&IpNetwork| {
            address.is_ipv6() && seen.addresses.iter().any(|one| one.network == **address)
        };
        for address in want.addresses.iter().filter(there).filter(|_| seen.admin_up) {
            self.links.wait_until_local(&seen.name, address.ip())?;
        }
        Ok(())
    }

    /// Whether nobody has the device open: it is gone, or stays without a holder.
    pub fn is_free(&mut self, ifindex: u32) -> bool {
        let mut is_held = false;
        let request = requests::indexed(libc::RTM_GETLINK, ifindex);
        let what = format_args!("read the state of device {ifindex}");
        let read = self.list(what, 0, &request, |message| {
            let tun = LinkStatus::parse(message).map(|link| (link.carrier, link.tun));
            // A device with one queue does not say whether it is open, but has no carrier if not.
            is_held |= tun.is_some_and(|(carrier, tun)| {
                tun.is_some_and(|tun| if tun.multi_queue { tun.open_queues > 0 } else { carrier })
            });
        });
        read.is_err() || !is_held
    }

    fn make(&mut self, ifindex: u32, name: &str, change: Change) -> Result<(), LinkError> {
        if let Change::QuietMtu(mtu) = change {
            return self.let_ipv6_in(ifindex, name, mtu);
        }
        let set = || requests::indexed(libc::RTM_SETLINK, ifindex);
        let address = |kind, address| requests::address(kind, ifindex, address);
        let route = |kind, to| requests::route_of(kind, ifindex, (to, None), MARK);
        let (flags, request) = match change {
            Change::Mtu(mtu) | Change::QuietMtu(mtu) => (0, requests::with_mtu(set(), mtu)),
            Change::Quiet => (0, requests::quiet(set())),
            Change::Promote => (0, requests::promoting(set())),
            Change::AddAddress(one) => {
                let request = address(libc::RTM_NEWADDR, one).with(IFA_PROTO, &[MARK]);
                (NLM_F_CREATE | NLM_F_REPLACE, request)
            }
            Change::DeleteAddress(one) => (0, address(libc::RTM_DELADDR, one)),
            // Never in place of another's: that would be the machine's own default route.
            Change::AddRoute(to) => (NLM_F_CREATE | NLM_F_EXCL, route(libc::RTM_NEWROUTE, to)),
            Change::DeleteRoute(to) => (0, route(libc::RTM_DELROUTE, to)),
        };
        let made = self.links.change(format_args!("{change} ({name})"), flags, request);
        match made {
            Err(error) if is_done_already(change, &error) => Ok(()),
            made => made,
        }
    }

    /// An MTU that lets IPv6 in has the kernel make a link-local address and solicit routers at once, and
    /// only then can that be turned off. So the device is dormant meanwhile (RFC 2863): IPv6 waits for
    /// that to end, carrier and IPv4 do not.
    fn let_ipv6_in(&mut self, ifindex: u32, name: &str, mtu: u32) -> Result<(), LinkError> {
        let set = || requests::indexed(libc::RTM_SETLINK, ifindex);
        let links = &mut self.links;
        let mut change =
            |what: &str, request| links.change(format_args!("{what} ({name})"), 0, request);
        let _ = change("make it dormant", requests::operstate(set(), IF_OPER_DORMANT));
        let set_mtu = change(&Change::Mtu(mtu).to_string(), requests::with_mtu(set(), mtu));
        // Without IPv6 there is nothing to turn off; what else is wrong shows in the next comparison.
        let _ = change("turn off link-local addresses", requests::quiet(set()));
        let _ = change("wake it", requests::operstate(set(), IF_OPER_UP));
        set_mtu
    }

    fn list(
        &mut self,
        what: impl fmt::Display,
        flags: u16,
        request: &Request,
        take: impl FnMut(Message<'_>),
    ) -> Result<bool, LinkError> {
        let flags = flags | netlink_packet_core::NLM_F_ACK;
        let answer = self.links.netlink.request(flags, request.clone(), take);
        answer.map_err(|refusal| LinkError::new(what, &self.links.netns, refusal))
    }
}

/// Gone with what was deleted before it.
fn is_done_already(change: Change, error: &LinkError) -> bool {
    match change {
        Change::DeleteAddress(_) => error.errno() == Some(libc::EADDRNOTAVAIL),
        Change::DeleteRoute(_) => error.errno() == Some(libc::ESRCH),
        _ => false,
    }
}

/// A kernel without IPv6 makes no link-local addresses. That addresses are independent of each other
/// spares those of others, and the router's own are added again without it.
fn is_no_matter(change: Change, error: &LinkError) -> bool {
    match change {
        Change::Quiet => error.errno() == Some(libc::EAFNOSUPPORT),
        Change::Promote => true,
        _ => false,
    }
}

/// Why a device is not as its side says.
#[derive(Debug, thiserror::Error)]
pub enum SideError {
    /// It cannot be read.
    #[error(transparent)]
    Link(#[from] LinkError),
    /// The kernel accepted changes, and the difference stays: somebody else changes it too.
    #[error("{} is not kept: something else changes the device too", listed(.left))]
    NotKept {
        /// The difference.
        left: Vec<Change>,
        /// What was changed.
        made: Vec<Change>,
    },
    /// The kernel refused a change.
    #[error("{error}")]
    Refused {
        /// The first.
        error: LinkError,
        /// What was changed all the same.
        made: Vec<Change>,
    },
}

impl SideError {
    /// Whether the device is not there any more.
    pub fn is_gone(&self) -> bool {
        let errno = match self {
            Self::Link(error) | Self::Refused { error, .. } => error.errno(),
            Self::NotKept { .. } => None,
        };
        errno == Some(libc::ENODEV)
    }

    /// What was changed all the same.
    pub fn made(&self) -> &[Change] {
        match self {
            Self::Link(_) => &[],
            Self::NotKept { made, .. } | Self::Refused { made, .. } => made,
        }
    }
}

fn listed(changes: &[Change]) -> String {
    changes.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

// <linux/if.h>
const IF_OPER_DORMANT: u8 = 5;
const IF_OPER_UP: u8 = 6;

/// A list that changed while it was read is read again, this often at most.
const LIST_TRIES: usize = 10;

/// Device, addresses, those in the wrong order, those again, routes, and two for what the kernel takes
/// back.
const ROUNDS_MAX: usize = 7;
