//! The kernel's own forwarding between two veth pairs, as it comes, and with RPS on all cores.
#![forbid(unsafe_code)]

use super::subject::{Lab, Subject, run_in};
use crate::linux::{finds, join};
use crate::report::BenchError;

/// Whether what this needs is installed.
pub fn is_here() -> bool {
    finds("ip") && finds("unshare")
}

/// Builds a router; with `rps`, what comes in is spread over all cores by flow.
pub fn build(name: &'static str, rps: bool) -> Result<Subject, BenchError> {
    let id = if rps { "krps" } else { "kern" };
    let (lab, namespaces) = Lab::make(id)?;
    for (index, (port, host)) in [("c", &lab.client), ("s", &lab.site)].into_iter().enumerate() {
        join(&lab.router, port, host)?;
        for (netns, end, nic) in [(&lab.router, 1, port), (host, 2, "eth")] {
            let address = format!("10.{index}.0.{end}/24");
            run_in(netns, "ip", &["address", "add", &address, "dev", nic])?;
        }
    }
    let on = || std::fs::write("/proc/sys/net/ipv4/ip_forward", "1");
    let written = lab.router.within(on).map_err(BenchError::environment)?;
    written.map_err(BenchError::environment)?;
    run_in(&lab.router, "ip", &["route", "add", "10.2.0.0/16", "via", "10.1.0.2"])?;
    if rps {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let mask = format!("{:x}", (1_u64 << cores.min(32)) - 1);
        // What sysfs shows is of the namespace that mounts it.
        let spread = format!(
            "mount -t sysfs sysfs /sys && for port in c s; do \
             echo {mask} > /sys/class/net/$port/queues/rx-0/rps_cpus || exit 1; done"
        );
        run_in(&lab.router, "unshare", &["-m", "sh", "-c", &spread])?;
    }
    Subject::new(name, &lab, ["eth", "eth"], ETHERNET, Box::new(()), namespaces)
}

/// Bytes of an Ethernet header, which veth counts.
pub const ETHERNET: u64 = 14;
