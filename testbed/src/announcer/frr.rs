//! bgpd of FRRouting, alone: a site that forwards nothing needs no zebra.
#![forbid(unsafe_code)]

use std::fmt::Write as _;
use std::path::Path;

use super::{Parts, Peering, Stance, path_of};
use crate::topology::{HOLD_TIME_S, ROUTER_AS};

/// Its configuration.
pub(super) fn config(peering: &Peering, stance: Stance) -> String {
    let Peering { local: [v4, v6], remote, announce, site } = peering;
    let mut text =
        format!("frr defaults traditional\nhostname {site}\nlog stdout informational\n!\n");
    // Before the neighbour that uses them: of a route map that comes later, bgpd takes note 5 s later.
    for (_, name) in FAMILIES {
        let _ = writeln!(text, "route-map {name} permit 10\n set metric {}", announce.med);
        if announce.prepend > 0 {
            let _ = writeln!(text, " set as-path prepend {}", peering.prepended().join(" "));
        }
        // Without zebra, bgpd does not know the address of the link.
        if name == "ipv6" {
            let _ = writeln!(text, " set ipv6 next-hop global {v6}");
        }
        text.push_str("!\n");
    }
    let _ = write!(
        text,
        "router bgp {}\n bgp router-id {v4}\n no bgp ebgp-requires-policy\n \
         no bgp default ipv4-unicast\n no bgp network import-check\n coalesce-time 10\n",
        announce.asn
    );
    if stance == Stance::Drained {
        text.push_str(" bgp graceful-shutdown\n");
    }
    let _ = write!(
        text,
        " neighbor {remote} remote-as {ROUTER_AS}\n neighbor {remote} timers {} {HOLD_TIME_S}\n \
         neighbor {remote} timers connect 1\n",
        HOLD_TIME_S / 3
    );
    for (family, name) in FAMILIES {
        let _ = writeln!(text, " address-family {name} unicast\n  neighbor {remote} activate");
        let _ = writeln!(text, "  neighbor {remote} route-map {name} out");
        for prefix in peering.prefixes_of(family).filter(|_| stance != Stance::Withdrawn) {
            let _ = writeln!(text, "  network {prefix}");
        }
        text.push_str(" exit-address-family\n");
    }
    text + "!\n"
}

/// What its command is asked for, to come from one stance to another.
pub(super) fn commands(peering: &Peering, before: Stance, after: Stance) -> Vec<String> {
    let mut lines =
        vec!["configure terminal".to_owned(), format!("router bgp {}", peering.announce.asn)];
    let is_drained = [before, after].map(|stance| stance == Stance::Drained);
    if is_drained[0] != is_drained[1] {
        let no = if is_drained[1] { "" } else { "no " };
        lines.push(format!("{no}bgp graceful-shutdown"));
    }
    let is_withdrawn = [before, after].map(|stance| stance == Stance::Withdrawn);
    for (family, name) in FAMILIES.into_iter().filter(|_| is_withdrawn[0] != is_withdrawn[1]) {
        lines.push(format!("address-family {name} unicast"));
        let no = if is_withdrawn[1] { "no " } else { "" };
        lines.extend(peering.prefixes_of(family).map(|prefix| format!("{no}network {prefix}")));
        lines.push("exit-address-family".to_owned());
    }
    let words = lines.into_iter().flat_map(|line| ["-c".to_owned(), line]);
    std::iter::once("vtysh".to_owned()).chain(words).collect()
}

/// bgpd and vtysh want a user who belongs to the group frrvty, which an ordinary user's namespace
/// does not have: bgpd gets a list of groups of its own, in a mount namespace of its own.
pub(super) fn parts(folder: &Path) -> Parts {
    let bind = "mount --bind \"$0\" /etc/group && exec \"$@\"";
    let wrapper = ["unshare", "--mount", "sh", "-c", bind].map(Into::into);
    let paths = ["-f", "-i", "--vty_socket"].into_iter().zip(["bgpd.conf", "bgpd.pid", ""]);
    let paths = paths.flat_map(|(flag, name)| [flag.into(), folder.join(name).into()]);
    let bgpd = ["-Z", "-u", "root", "-g", "root", "-A", "127.0.0.1", "-P", "0"].map(Into::into);
    let command =
        wrapper.into_iter().chain([folder.join("group").into(), path_of("frr/bgpd").into()]);
    let vtysh = path_of("vtysh");
    Parts {
        command: command.chain(bgpd).chain(paths).collect(),
        env: Vec::new(),
        files: vec![
            ("group", "root:x:0:\nfrrvty:x:0:root\n".to_owned()),
            ("vtysh.conf", String::new()),
        ],
        pipes: Vec::new(),
        client: (
            "vtysh",
            format!(
                "{} --config_dir {1} --vty_socket {1} -d bgpd",
                vtysh.display(),
                folder.display()
            ),
        ),
    }
}

/// Families of [`Peering::prefixes_of`], and their names, which are also those of the route maps.
const FAMILIES: [(usize, &str); 2] = [(0, "ipv4"), (1, "ipv6")];
