//! Makes a link silent: it loses all packets in both directions, and nobody is notified.
//!
//! Packets are dropped at the host's own NIC, in the host's namespace, configured by netlink alone.
//! There are two methods, because a kernel may lack either:
//!
//! * `nft`: two `netdev` chains, ingress and egress (Linux 5.16), with the policy drop; one
//!   transaction silences both directions;
//! * `tc`: a classic BPF filter of one instruction, "drop", on each side of a `clsact` qdisc.
//!
//! Both drop below the IP layer, so a sender on the host gets no error; a drop in an output chain
//! would return EPERM. `ip link` and the router see a healthy link.
#![forbid(unsafe_code)]

mod message;

use std::fmt;
use std::io;

use nearhop::kernel::netns::NetNs;
use netlink_sys::protocols::{NETLINK_NETFILTER, NETLINK_ROUTE};
use netlink_sys::{Socket, SocketAddr};

use message::{nft, tc};

/// A method to drop packets.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Way {
    /// nftables chains of the family `netdev`.
    Nft,
    /// A BPF filter on a `clsact` qdisc.
    Tc,
}

impl Way {
    /// Both methods, the preferred one first.
    pub const ALL: [Self; 2] = [Self::Nft, Self::Tc];
}

impl fmt::Display for Way {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tc => "tc clsact with a BPF drop",
            Self::Nft => "nft netdev chains",
        })
    }
}

/// Silences one device. Everything slow is done on construction, so that silencing is one system
/// call.
pub struct Silencer {
    way: Way,
    socket: Socket,
    interface: String,
    ifindex: u32,
    sequence: u32,
}

impl Silencer {
    /// Prepares `interface`, of index `ifindex`, with the first method that this kernel supports.
    pub fn new(netns: &NetNs, interface: &str, ifindex: u32) -> io::Result<Self> {
        let mut refusals = Vec::new();
        for way in Way::ALL {
            match Self::with(way, netns, interface, ifindex) {
                Ok(silencer) => return Ok(silencer),
                Err(error) => refusals.push(format!("{way}: {error}")),
            }
        }
        let why = refusals.join("; ");
        Err(io::Error::other(format!(
            "this kernel cannot drop packets silently: neither nft nor tc works ({why})"
        )))
    }

    /// Prepares the device with the given method, and tries it once, so that a kernel without it is
    /// detected here and not during a measurement.
    pub fn with(way: Way, netns: &NetNs, interface: &str, ifindex: u32) -> io::Result<Self> {
        let socket = netns.within(|| open(way)).map_err(io::Error::other)??;
        let mut silencer =
            Self { way, socket, interface: interface.to_owned(), ifindex, sequence: 0 };
        silencer.prepare()?;
        silencer.set(true)?;
        silencer.set(false)?;
        Ok(silencer)
    }

    /// The method in use.
    pub fn way(&self) -> Way {
        self.way
    }

    /// The device it was made for. A new device of the same name needs a new silencer.
    pub fn ifindex(&self) -> u32 {
        self.ifindex
    }

    /// Makes the device silent, or ends its silence (no error if it was not silent). The change is
    /// in effect on return.
    pub fn set(&mut self, silent: bool) -> io::Result<()> {
        let batch = match (self.way, silent) {
            (Way::Tc, true) => tc::add_drops(self.ifindex),
            (Way::Tc, false) => tc::delete_drops(self.ifindex),
            (Way::Nft, true) => nft::add_table(&self.interface),
            (Way::Nft, false) => nft::delete_table(),
        };
        match self.send(batch) {
            Err(error) if !silent && error.raw_os_error() == Some(libc::ENOENT) => Ok(()),
            other => other,
        }
    }

    fn prepare(&mut self) -> io::Result<()> {
        match self.way {
            // A qdisc that exists already is fine.
            Way::Tc => self.send(tc::add_clsact(self.ifindex)).or_else(|error| {
                let there = error.raw_os_error() == Some(libc::EEXIST);
                if there { Ok(()) } else { Err(error) }
            }),
            Way::Nft => Ok(()),
        }
    }

    /// Sends the batch in one datagram and waits until each message is acknowledged.
    fn send(&mut self, mut batch: message::Batch) -> io::Result<()> {
        let before = self.sequence;
        let expected = batch.number(&mut self.sequence);
        self.socket.send(batch.bytes(), 0)?;
        let mut answers = 0;
        let mut outcome = Ok(());
        while answers < expected {
            let (datagram, _) = self.socket.recv_from_full()?;
            let ours = |answer: &message::Answer| answer.sequence > before;
            for answer in message::answers(&datagram).into_iter().filter(ours) {
                answers += 1;
                if answer.error != 0 && outcome.is_ok() {
                    outcome = Err(io::Error::from_raw_os_error(-answer.error));
                }
            }
            // nfnetlink may reject a whole batch with a single error. Later answers to the same
            // batch stay queued; the next batch ignores them by their sequence numbers.
            if self.way == Way::Nft && outcome.is_err() {
                break;
            }
        }
        outcome
    }
}

/// Tests whether netem can be added to the device.
pub fn has_netem(netns: &NetNs, ifindex: u32) -> io::Result<()> {
    let socket = netns.within(|| open(Way::Tc)).map_err(io::Error::other)??;
    let mut silencer =
        Silencer { way: Way::Tc, socket, interface: String::new(), ifindex, sequence: 0 };
    silencer.send(tc::add_netem(ifindex))
}

fn open(way: Way) -> io::Result<Socket> {
    let protocol = match way {
        Way::Tc => NETLINK_ROUTE,
        Way::Nft => NETLINK_NETFILTER,
    };
    let mut socket = Socket::new(protocol)?;
    socket.bind_auto()?;
    socket.connect(&SocketAddr::new(0, 0))?;
    Ok(socket)
}
