//! A site that announces its prefixes by BGP, through a daemon of its own.
#![forbid(unsafe_code)]

use std::net::IpAddr;

use ipnetwork::IpNetwork;
use nearhop::config::reader::{Finding, Report, Table, ValueError, integer, one_of, text};
use toml::Spanned;

use super::plan::network;

/// What a site announces to the router, and by whom.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Announce {
    /// The daemon that speaks BGP at the site.
    pub by: Daemon,
    /// The site's AS; sites may share one.
    pub asn: u32,
    /// The prefixes; by default the addresses of the service, each alone.
    pub prefixes: Vec<IpNetwork>,
    /// MULTI_EXIT_DISC: among paths of one neighbouring AS, the lowest is the best.
    pub med: u32,
    /// How often the site's AS is put in front of the path once more.
    pub prepend: u8,
}

/// A BGP daemon.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Daemon {
    /// BIRD 2.
    Bird,
    /// bgpd of FRRouting, without zebra: a site forwards nothing.
    Frr,
    /// ExaBGP 4.
    Exabgp,
}

impl Daemon {
    /// Its name in topology files.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Bird => "bird",
            Self::Frr => "frr",
            Self::Exabgp => "exabgp",
        }
    }
}

/// The AS of a lab's router.
pub const ROUTER_AS: u32 = 65_000;

/// Reads `announce = { … }` of a site.
pub(super) fn announce(mut table: Table<'_>, addresses: &[IpAddr]) -> Announce {
    let daemons =
        [Daemon::Bird, Daemon::Frr, Daemon::Exabgp].map(|daemon| (daemon.label(), Some(daemon)));
    let by = table.need("by", "by = \"bird\"", text("a word", |word: &str| one_of(word, &daemons)));
    let asn = table.need("as", "as = 65001", integer(1..=AS_MAX));
    if let Some(asn) = asn.as_ref().filter(|asn| *asn.get_ref() == ROUTER_AS) {
        let finding = Finding::mistake(format!("AS {ROUTER_AS} is the router's"));
        table.report().add(finding.at(asn.span(), "a site has another"));
    }
    let given = table.list("prefixes", text("a prefix", prefix));
    check_covered(table.report(), &given, addresses);
    let announce = Announce {
        by: by.map_or(Daemon::Bird, Spanned::into_inner),
        asn: asn.map(Spanned::into_inner).unwrap_or_default(),
        prefixes: if given.is_empty() {
            addresses.iter().copied().map(IpNetwork::from).collect()
        } else {
            given.into_iter().map(Spanned::into_inner).collect()
        },
        med: table.get("med", integer(0..=u32::MAX)).map_or(0, Spanned::into_inner),
        prepend: table.get("prepend", integer(0..=PREPEND_MAX)).map_or(0, Spanned::into_inner),
    };
    table.finish();
    announce
}

fn prefix(text: &str) -> Result<IpNetwork, ValueError> {
    let expected = || ValueError::new("expected ADDRESS/LENGTH, such as \"198.51.100.0/24\"");
    let given: IpNetwork =
        text.contains('/').then(|| text.parse().ok()).flatten().ok_or_else(expected)?;
    let canonical = network(given.network(), given.prefix());
    if canonical == given {
        return Ok(given);
    }
    Err(expected()
        .because(format!("{text} is not a canonical prefix"))
        .help(format!("the prefix is \"{canonical}\"")))
}

/// An address that no prefix covers would have no route.
fn check_covered(report: &Report, prefixes: &[Spanned<IpNetwork>], addresses: &[IpAddr]) {
    let Some(first) = prefixes.first() else { return };
    let covered = |address: &&IpAddr| prefixes.iter().any(|one| one.get_ref().contains(**address));
    for address in addresses.iter().filter(|address| !covered(address)) {
        let finding = Finding::mistake(format!("no prefix of the site covers {address}"));
        report.add(finding.at(first.span(), "expected one that does among these"));
    }
}

const AS_MAX: u32 = u32::MAX - 1;
/// A longer path says no more to one router.
const PREPEND_MAX: u8 = 10;
