//! The routers that people run, all asked the same.
//!
//! [`Program`] is which of them is at the other end, [`Setup`] what it is to do, [`Peer`] what a test asks of
//! it, whichever it is. Each runs in the foreground with all its files in a folder of its own, and ends with
//! the thread that started it.

mod bird;
mod exabgp;
mod frr;
mod gobgp;
mod openbgpd;

use std::collections::BTreeSet;

use nearhop::kernel::netns::NetNs;

use super::daemon::{Daemon, inside};
use super::missing;
use crate::support;

/// Which program is at the other end.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Program {
    Bird,
    ExaBgp,
    Frr,
    GoBgp,
    OpenBgpd,
}

/// What a peer is to do: one session, in both families, at these ends.
#[derive(Clone, Debug)]
pub struct Setup {
    /// The peer's ends: of the session, and next hop of its IPv6 routes.
    pub local: &'static str,
    pub local_v6: &'static str,
    /// The router's end.
    pub remote: &'static str,
    pub asn: u32,
    pub remote_as: u32,
    /// What it announces.
    pub offers: Vec<Offer>,
    /// GTSM (RFC 5082).
    pub gtsm: bool,
    /// What it says it is (RFC 9234).
    pub role: Option<&'static str>,
    /// ADD-PATH both ways (RFC 7911).
    pub add_path: bool,
    /// More prefixes of a family end the session.
    pub max_prefixes: Option<u32>,
    /// The router is its reflector client (RFC 4456).
    pub reflects: bool,
}

/// A route that a peer announces.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Offer {
    pub prefix: &'static str,
    /// Written `65002:1:2`.
    pub large_community: Option<&'static str>,
    /// Its ORIGINATOR_ID (RFC 4456); ExaBGP alone says what it is not.
    pub originator: Option<&'static str>,
}

/// A running peer.
pub trait Peer {
    /// Whether routes are exchanged.
    fn is_up(&self) -> bool;

    /// Prefixes that it has of the router.
    fn learned(&self) -> BTreeSet<String>;

    /// Announces these routes, and no others any more.
    fn offer(&mut self, offers: &[Offer]);

    /// Asks the router to announce everything again (RFC 2918); `false` if it has no way to.
    fn ask_again(&mut self) -> bool;

    /// UPDATEs that it received, by its own count; at least one for each prefix.
    fn updates(&self) -> u64;

    /// Ends the session and says why (RFC 9003); `false` if it has no way to.
    fn shut(&mut self, words: &str) -> bool;

    /// What it knows and logged of the session, as text.
    fn report(&self) -> String;

    /// Dies without a word.
    fn kill(&mut self);
}

impl Program {
    pub const ALL: [Self; 5] = [Self::Bird, Self::ExaBgp, Self::Frr, Self::GoBgp, Self::OpenBgpd];

    /// Why it cannot be used here; `None` if it can.
    pub fn missing(self) -> Option<String> {
        let needed: &[(&str, &str)] = match self {
            Self::Bird => &[("bird", "bird2")],
            Self::ExaBgp => &[("exabgp", "exabgp")],
            Self::Frr => &[("vtysh", "frr")],
            Self::GoBgp => &[("gobgpd", "gobgpd"), ("gobgp", "gobgpd")],
            Self::OpenBgpd => &[("bgpctl", "openbgpd")],
        };
        needed.iter().find_map(|(program, package)| missing(program, package))
    }

    /// Whether it changes its user when it starts, which a user namespace with one user does not allow.
    pub const fn needs_root(self) -> bool {
        matches!(self, Self::OpenBgpd)
    }

    /// Starts it in a namespace. `name` is new for each start.
    pub fn start(self, netns: &NetNs, name: &str, setup: &Setup) -> Box<dyn Peer> {
        // Processes of one that was killed may hold the port a little longer.
        support::wait_for("BGP's port to be free", || {
            let listening = ["ss", "-Hltn", "sport = :179"];
            let output = inside(&netns.to_string(), &listening).output().unwrap();
            (output.status.success() && output.stdout.is_empty()).then_some(())
        });
        match self {
            Self::Bird => Box::new(bird::Bird::start(netns, name, setup)),
            Self::ExaBgp => Box::new(exabgp::ExaBgp::start(netns, name, setup)),
            Self::Frr => Box::new(frr::Frr::start(netns, name, setup)),
            Self::GoBgp => Box::new(gobgp::GoBgp::start(netns, name, setup)),
            Self::OpenBgpd => Box::new(openbgpd::OpenBgpd::start(netns, name, setup)),
        }
    }
}

impl Setup {
    /// AS 65002 at the other end of the second site's link of a [`crate::daemon_support::Rig`].
    pub fn new(offers: &[Offer]) -> Self {
        Self {
            local: "10.2.0.2",
            local_v6: "fd00:2::2",
            remote: "10.2.0.1",
            asn: 65_002,
            remote_as: 65_001,
            offers: offers.to_vec(),
            gtsm: false,
            role: None,
            add_path: false,
            max_prefixes: None,
            reflects: false,
        }
    }
}

impl Offer {
    pub const fn new(prefix: &'static str) -> Self {
        Self { prefix, large_community: None, originator: None }
    }

    pub fn is_v6(&self) -> bool {
        self.prefix.contains(':')
    }
}

/// Every prefix in a text: words that have a `/` and are one.
fn prefixes_in(text: &str) -> BTreeSet<String> {
    let is_end = |c: char| !(c.is_ascii_hexdigit() || matches!(c, '.' | ':' | '/'));
    let words = text.split(is_end);
    let prefix = |word: &str| {
        let word = word.trim_matches(':');
        let prefix: nearhop_fib::IpPrefix = word.parse().ok()?;
        word.contains('/').then(|| prefix.to_string())
    };
    words.filter_map(prefix).collect()
}
