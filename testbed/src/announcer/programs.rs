//! Where the daemons are, and what to type where they are not.
#![forbid(unsafe_code)]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::topology::{Daemon, Topology};

/// What the lab needs and this machine lacks, and what to type; `None` if everything is there.
pub fn missing(topology: &Topology) -> Option<String> {
    missing_with(topology, |program| find(program).is_some())
}

pub(super) fn missing_with(topology: &Topology, is_there: impl Fn(&str) -> bool) -> Option<String> {
    let mut lacking: BTreeMap<Daemon, Vec<&str>> = BTreeMap::new();
    for (site, announce) in topology.announcing() {
        if !programs(announce.by).iter().all(|program| is_there(program)) {
            lacking.entry(announce.by).or_default().push(site);
        }
    }
    if lacking.is_empty() {
        return None;
    }
    let what = |(daemon, sites): (&Daemon, &Vec<&str>)| {
        let absent = programs(*daemon).iter().filter(|program| !is_there(program));
        let absent: Vec<&str> = absent.copied().collect();
        format!("{} of {} (package {})", absent.join(" and "), sites.join(", "), package(*daemon))
    };
    let lines: Vec<_> = lacking.iter().map(what).collect();
    let packages: Vec<_> = lacking.keys().map(|daemon| package(*daemon)).collect();
    Some(format!(
        "the lab's BGP daemons are not all here: missing {}; type: \
         sudo apt-get install --no-install-recommends {} (Debian's names)",
        lines.join(", "),
        packages.join(" ")
    ))
}

/// The path of a program that is known to be there.
pub(super) fn path_of(program: &str) -> PathBuf {
    find(program).unwrap_or_else(|| program.into())
}

/// Looks also where distributions put programs that a user does not start by hand. FRR's bgpd is named
/// with its folder, because OpenBGPD's has the same name.
fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let own: Vec<PathBuf> = std::env::split_paths(&path).collect();
    let folders = own.iter().map(PathBuf::as_path).chain(FOLDERS.map(Path::new));
    folders.map(|folder| folder.join(program)).find(|path| path.is_file())
}

const fn programs(daemon: Daemon) -> &'static [&'static str] {
    match daemon {
        Daemon::Bird => &["bird", "birdc"],
        Daemon::Frr => &["frr/bgpd", "vtysh"],
        Daemon::Exabgp => &["exabgp", "exabgpcli"],
    }
}

/// As Debian names it.
const fn package(daemon: Daemon) -> &'static str {
    match daemon {
        Daemon::Bird => "bird2",
        Daemon::Frr => "frr",
        Daemon::Exabgp => "exabgp",
    }
}

const FOLDERS: [&str; 5] = ["/usr/local/sbin", "/usr/sbin", "/sbin", "/usr/lib", "/usr/libexec"];
