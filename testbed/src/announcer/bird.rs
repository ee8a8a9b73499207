//! BIRD 2.
#![forbid(unsafe_code)]

use std::fmt::Write as _;
use std::path::Path;

use super::{Parts, Peering, SHUTDOWN, Stance, path_of};
use crate::topology::{HOLD_TIME_S, ROUTER_AS};

/// Its configuration.
pub(super) fn config(peering: &Peering, stance: Stance) -> String {
    let Peering { local: [v4, v6], remote, announce, .. } = peering;
    let mut text = format!("log stderr all;\nrouter id {v4};\nprotocol device {{}}\n\n");
    for (family, name) in [(0, "4"), (1, "6")] {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "protocol static anycast{name} {{\n    ipv{name};");
        if stance == Stance::Withdrawn {
            text.push_str("    disabled;\n");
        }
        for prefix in peering.prefixes_of(family) {
            let _ = writeln!(text, "    route {prefix} unreachable;");
        }
        text.push_str("}\n");
    }
    let _ = write!(
        text,
        "\nfilter announce {{\n    if source != RTS_STATIC then reject;\n    bgp_med = {};\n",
        announce.med
    );
    for asn in peering.prepended() {
        let _ = writeln!(text, "    bgp_path.prepend({asn});");
    }
    if stance == Stance::Drained {
        let [high, low] = SHUTDOWN;
        let _ = writeln!(text, "    bgp_community.add(({high}, {low}));");
    }
    let _ = write!(
        text,
        "    accept;\n}}\n\nprotocol bgp nearhop {{\n    local {v4} as {};\n    \
         neighbor {remote} as {ROUTER_AS};\n    hold time {HOLD_TIME_S};\n    \
         connect delay time 1;\n    connect retry time 1;\n    error wait time 1, 2;\n    \
         ipv4 {{ import none; export filter announce; next hop self; }};\n    \
         ipv6 {{ import none; export filter announce; next hop address {v6}; }};\n}}\n",
        announce.asn
    );
    text
}

pub(super) fn parts(folder: &Path) -> Parts {
    let socket = folder.join("bird.ctl");
    let (conf, pid) = (folder.join("bird.conf"), folder.join("bird.pid"));
    let args = ["-f".into(), "-c".into(), conf.into(), "-s".into(), socket.clone().into()];
    let command = std::iter::once(path_of("bird").into()).chain(args);
    Parts {
        command: command.chain(["-P".into(), pid.into()]).collect(),
        env: Vec::new(),
        files: Vec::new(),
        pipes: Vec::new(),
        client: ("birdc", format!("{} -s {}", path_of("birdc").display(), socket.display())),
    }
}
