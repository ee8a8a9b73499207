//! ExaBGP 4.
#![forbid(unsafe_code)]

use std::fmt::Write as _;
use std::fs::File;
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use ipnetwork::IpNetwork;
use rustix::fs::{FileType, Mode, OFlags, mknodat};

use super::{Parts, Peering, SHUTDOWN, Stance, path_of};
use crate::topology::{HOLD_TIME_S, ROUTER_AS};

/// Its configuration.
pub(super) fn config(peering: &Peering, stance: Stance) -> String {
    let Peering { local: [v4, _], remote, announce, .. } = peering;
    let mut text = format!(
        "neighbor {remote} {{\n    router-id {v4};\n    local-address {v4};\n    local-as {};\n    \
         peer-as {ROUTER_AS};\n    hold-time {HOLD_TIME_S};\n    \
         family {{ ipv4 unicast; ipv6 unicast; }}\n",
        announce.asn
    );
    if stance != Stance::Withdrawn {
        text.push_str("    static {\n");
        for prefix in &announce.prefixes {
            let _ = writeln!(text, "        {};", route(peering, stance, prefix));
        }
        text.push_str("    }\n");
    }
    text + "}\n"
}

/// What it is asked for, to take a stance.
pub(super) fn commands(peering: &Peering, stance: Stance) -> String {
    let line = |prefix: &IpNetwork| match stance {
        Stance::Withdrawn => format!("withdraw route {prefix} next-hop {}\n", peering.hop(prefix)),
        _ => format!("announce {}\n", route(peering, stance, prefix)),
    };
    peering.announce.prefixes.iter().map(line).collect()
}

/// A route as configuration and commands write it.
fn route(peering: &Peering, stance: Stance, prefix: &IpNetwork) -> String {
    let announce = &peering.announce;
    let hop = peering.hop(prefix);
    let mut text = format!("route {prefix} next-hop {hop} med {}", announce.med);
    if announce.prepend > 0 {
        // Whoever writes the path writes all of it.
        let path = peering.prepended().join(" ");
        let _ = write!(text, " as-path [ {} {path} ]", announce.asn);
    }
    if stance == Stance::Drained {
        let [high, low] = SHUTDOWN;
        let _ = write!(text, " community [ {high}:{low} ]");
    }
    text
}

/// Where its command writes, and where it reads the answer: ExaBGP looks for both here, by the name
/// in its environment.
pub(super) fn pipes(site: &str) -> [PathBuf; 2] {
    ["in", "out"].map(|end| PathBuf::from(format!("/run/exabgp/bgp-{site}.{end}")))
}

pub(super) fn make_pipe(path: &Path) -> io::Result<()> {
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder)?;
    }
    let mode = Mode::RUSR | Mode::WUSR;
    match mknodat(rustix::fs::CWD, path, FileType::Fifo, mode, 0) {
        Err(error) if error != rustix::io::Errno::EXIST => Err(error.into()),
        _ => Ok(()),
    }
}

/// Writes commands to the pipe that ExaBGP reads; in one write, which a pipe keeps together. Returns
/// whether anybody reads it.
pub(super) fn say(pipe: &Path, lines: &str) -> io::Result<bool> {
    let nonblock = i32::try_from(OFlags::NONBLOCK.bits()).unwrap_or_default();
    let mut out = match File::options().write(true).custom_flags(nonblock).open(pipe) {
        Err(error) if error.raw_os_error() == Some(rustix::io::Errno::NXIO.raw_os_error()) => {
            return Ok(false);
        }
        opened => opened?,
    };
    out.write_all(lines.as_bytes()).map(|()| true)
}

pub(super) fn parts(folder: &Path, site: &str) -> Parts {
    let pipe = format!("exabgp.api.pipename=bgp-{site}");
    let env = ["exabgp.daemon.user=root", "exabgp.daemon.drop=false", &pipe];
    let env = env.iter().filter_map(|one| one.split_once('='));
    Parts {
        command: vec![path_of("exabgp").into(), folder.join("exabgp.conf").into()],
        env: env.map(|(name, value)| (name.into(), value.into())).collect(),
        files: Vec::new(),
        pipes: pipes(site).into(),
        client: ("exabgpcli", format!("env {pipe} {}", path_of("exabgpcli").display())),
    }
}
