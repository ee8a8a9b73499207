//! Linux itself beside nearhop: which programs are there, and links between namespaces.
#![forbid(unsafe_code)]

use std::env;

use nearhop::kernel::link::{LinkSetup, VethEnd};
use nearhop::kernel::netns::NetNs;

use crate::report::BenchError;

/// Whether a program is in the path, or where daemons are.
pub fn finds(program: &str) -> bool {
    let path = env::var_os("PATH").unwrap_or_default();
    let usual = ["/usr/sbin", "/sbin", "/usr/lib/frr"].map(Into::into);
    env::split_paths(&path).chain(usual).any(|folder| folder.join(program).exists())
}

/// A veth pair from the router's port to the only NIC of a namespace; both set up.
///
/// # Errors
/// What the kernel refuses.
pub fn join(router: &NetNs, port: &str, host: &NetNs) -> Result<(), BenchError> {
    let here = VethEnd { name: port.into(), ifindex: None, netns: router.clone() };
    let there = VethEnd { name: "eth".into(), ifindex: None, netns: host.clone() };
    LinkSetup::create_veth(&here, &there).map_err(BenchError::environment)?;
    for (netns, name) in [(router, port), (host, "eth")] {
        let mut links = LinkSetup::open(netns).map_err(BenchError::environment)?;
        links.keep_quiet(name).map_err(BenchError::environment)?;
        links.set_up(name, true).map_err(BenchError::environment)?;
    }
    Ok(())
}
