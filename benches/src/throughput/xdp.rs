//! An XDP program on two veth devices that sends on whatever comes in, and looks at nothing.
#![forbid(unsafe_code)]

use std::io;

use nearhop::kernel::link::LinkSetup;

use super::kernel::ETHERNET;
use super::subject::{Lab, Subject, run_in};
use crate::linux::join;
use crate::report::BenchError;
use crate::sys::{Feature, redirect, set_feature};

/// Builds it: each end has the other's MAC address for its gateway's, since nothing is rewritten.
///
/// What goes this way loses what the kernel knows of a packet besides its bytes: so senders complete their
/// checksums and cut their superframes themselves. Receivers join, without which a veth device takes
/// nothing from XDP.
pub fn build(name: &'static str) -> Result<Subject, BenchError> {
    let (lab, namespaces) = Lab::make("xdp")?;
    for (index, (port, host)) in [("c", &lab.client), ("s", &lab.site)].into_iter().enumerate() {
        join(&lab.router, port, host)?;
        let (address, gateway) = (format!("10.{index}.0.2/24"), format!("10.{index}.0.1"));
        run_in(host, "ip", &["link", "set", "eth", "address", MACS[index]])?;
        run_in(host, "ip", &["address", "add", &address, "dev", "eth"])?;
        let neighbour = ["neigh", "replace", &gateway, "lladdr", MACS[1 - index], "dev", "eth"];
        run_in(host, "ip", &neighbour)?;
        let features = || {
            set_feature("eth", Feature::SendChecksums, false)?;
            set_feature("eth", Feature::JoinReceived, true)
        };
        let set: io::Result<()> = host.within(features).map_err(BenchError::environment)?;
        set.map_err(BenchError::environment)?;
    }
    let mut links = LinkSetup::open(&lab.router).map_err(BenchError::environment)?;
    let mut index = |port| links.status(port).map(|status| status.ifindex);
    let client = index("c").map_err(BenchError::environment)?;
    let site = index("s").map_err(BenchError::environment)?;
    let attach = || Ok([redirect(client, site)?, redirect(site, client)?]);
    let programs: io::Result<_> = lab.router.within(attach).map_err(BenchError::environment)?;
    let programs = programs.map_err(BenchError::environment)?;
    Subject::new(name, &lab, ["eth", "eth"], ETHERNET, Box::new(programs), namespaces)
}

/// The client's and the site's.
const MACS: [&str; 2] = ["02:00:00:00:00:01", "02:00:00:00:00:02"];
