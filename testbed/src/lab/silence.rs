//! Making a link silent: its packets vanish in both directions and nobody is told.
//!
//! The drop sits at the host's own NIC, in the host's namespace, set by netlink alone. Two ways,
//! because kernels are built without the one or the other:
//!
//! * `nft`: a table of two `netdev` chains, ingress and egress (Linux 5.16), whose policy is to
//!   drop; both directions fall silent in one transaction;
//! * `tc`: a filter of one instruction (classic BPF, "drop") on each side of a `clsact` qdisc.
//!
//! Both act below the IP layer, so a sender on the host gets no error for what is dropped; a drop
//! in an output chain would give it EPERM. `ip link`, `ping` and the router see a healthy link.
#![forbid(unsafe_code)]

mod message;

use std::fmt;
use std::io;

use nearhop::kernel::netns::NetNs;
use netlink_sys::protocols::{NETLINK_NETFILTER, NETLINK_ROUTE};
use netlink_sys::{Socket, SocketAddr};

use message::{nft, tc};

/// How packets are dropped.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Way {
    /// nftables chains of the family `netdev`.
    Nft,
    /// `clsact` and a BPF filter.
    Tc,
}

impl Way {
    /// Both, the preferred one first.
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

/// The means to silence one device. Everything slow is done when it is made, so that silence
/// itself is one system call.
pub struct Silencer {
    way: Way,
    socket: Socket,
    interface: String,
    ifindex: u32,
    sequence: u32,
}

impl Silencer {
    /// Prepares `interface`, whose index is `ifindex`, in the first way that this kernel knows.
    pub fn new(netns: &NetNs, interface: &str, ifindex: u32) -> io::Result<Self> {
        let mut refusals = Vec::new();
        for way in Way::ALL {
            match Self::with(way, netns, interface, ifindex) {
                Ok(silencer) => return Ok(silencer),
                Err(error) => refusals.push(format!("{way}: {error}")),
            }
        }
        let why = refusals.join("; ");
        Err(io::Error::other(format!("this kernel has no way to drop packets silently ({why})")))
    }

    /// Prepares the device in the given way, and tries it once: a kernel without it must not be
    /// found out in the middle of a measurement.
    pub fn with(way: Way, netns: &NetNs, interface: &str, ifindex: u32) -> io::Result<Self> {
        let socket = netns.within(|| open(way)).map_err(io::Error::other)??;
        let mut silencer =
            Self { way, socket, interface: interface.to_owned(), ifindex, sequence: 0 };
        silencer.prepare()?;
        silencer.set(true)?;
        silencer.set(false)?;
        Ok(silencer)
    }

    /// Which way it is.
    pub fn way(&self) -> Way {
        self.way
    }

    /// The device it was made for; another one of the same name needs another silencer.
    pub fn ifindex(&self) -> u32 {
        self.ifindex
    }

    /// Makes the device silent, or lets it speak again (also if it was not silent). It has taken
    /// effect when this returns.
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
            // One that is there already is as good.
            Way::Tc => self.send(tc::add_clsact(self.ifindex)).or_else(|error| {
                let there = error.raw_os_error() == Some(libc::EEXIST);
                if there { Ok(()) } else { Err(error) }
            }),
            Way::Nft => Ok(()),
        }
    }

    /// Sends the batch at once and waits until each of its messages is acknowledged.
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
            // nfnetlink may give up on a whole batch with a single error; answers that come all
            // the same are left behind, and told from the next batch's by their number.
            if self.way == Way::Nft && outcome.is_err() {
                break;
            }
        }
        outcome
    }
}

/// Tries to add netem to the device.
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
