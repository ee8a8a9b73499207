//! The routers under test: nearhop, the kernel alone, BIRD, FRR.
#![forbid(unsafe_code)]

use std::fmt::Write as _;
use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use nearhop::client::Client;
use nearhop::kernel::link::{KernelRoute, LinkSetup};
use nearhop::kernel::netns::NetNs;
use nearlab::lab::wait_for;

use super::config::{self, Setup};
use super::frr::Frr;
use crate::daemon::Daemon;
use crate::linux::{finds, join};
use crate::program::{self, Bird};
use crate::report::BenchError;

/// A router that can be put under test.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Kind {
    /// The daemon with TUN ports.
    Nearhop,
    /// The kernel with two metrics; nobody speaks BGP.
    Kernel,
    /// BIRD 2 with the kernel's forwarding.
    Bird,
    /// FRR's zebra, bgpd and bfdd with the kernel's forwarding.
    Frr,
}

/// A router under test, running. Dropping it ends it.
pub trait Router {
    /// Reads its configuration once more, which is the same.
    fn reload(&mut self) -> Result<(), BenchError>;

    /// A failure is over: forgives what flapped.
    fn forgive(&mut self) -> Result<(), BenchError> {
        Ok(())
    }
}

impl Kind {
    /// All of them, as measured.
    pub const ALL: [Self; 4] = [Self::Nearhop, Self::Kernel, Self::Bird, Self::Frr];

    /// Its name in rows.
    pub fn name(self) -> &'static str {
        match self {
            Self::Nearhop => "nearhop",
            Self::Kernel => "kernel",
            Self::Bird => "BIRD 2",
            Self::Frr => "FRR",
        }
    }

    /// Why it cannot be measured here; `None` if it can.
    pub fn missing(self) -> Option<String> {
        let needs: &[&str] = match self {
            Self::Nearhop => &["bird"],
            Self::Kernel => &["ip"],
            Self::Bird => &["bird", "ip"],
            Self::Frr => &["bird", "ip", "zebra", "bgpd", "bfdd", "vtysh"],
        };
        let missing = needs.iter().find(|program| !finds(program))?;
        Some(format!("missing: no program {missing}"))
    }

    /// The device of a site's namespace.
    pub fn device(self, place: &str) -> String {
        if self == Self::Nearhop { format!("nh-{place}") } else { "eth".into() }
    }

    /// Starts it between namespaces named after `lab`, `r` being its own where it needs one.
    pub fn start(
        self,
        lab: &str,
        setup: Setup,
        loader: bool,
    ) -> Result<Box<dyn Router>, BenchError> {
        if self == Self::Nearhop {
            let text = config::nearhop(setup, lab, loader);
            let daemon = Daemon::start(lab, &text, READY_WITHIN)?;
            let client = Client::new(daemon.socket.clone()).map_err(BenchError::environment)?;
            let to = "0.0.0.0/0".parse().map_err(BenchError::environment)?;
            let route = KernelRoute { to, gateway: None, interface: "nh-c".into() };
            let netns = NetNs::named(&format!("{lab}-c"));
            let mut links = LinkSetup::open(&netns).map_err(BenchError::environment)?;
            links.replace_route(&route).map_err(BenchError::environment)?;
            return Ok(Box::new(Nearhop { _daemon: daemon, client }));
        }
        let netns = NetNs::named(&format!("{lab}-r"));
        wire(lab, &netns)?;
        Ok(match self {
            Self::Kernel => {
                ip(&netns, &config::kernel_routes(setup))?;
                Box::new(Kernel { netns, setup })
            }
            Self::Bird => {
                let (name, config) =
                    (format!("{lab}-bird"), program::LOG.to_owned() + &config::bird(setup));
                Box::new(Bird::start(&netns, &name, &config, setup.in_real_time())?)
            }
            Self::Frr | Self::Nearhop => Box::new(Frr::start(&netns, lab, setup)?),
        })
    }
}

struct Nearhop {
    _daemon: Daemon,
    client: Client,
}

impl Router for Nearhop {
    fn reload(&mut self) -> Result<(), BenchError> {
        self.client.post("/v1/reload").map(drop).map_err(BenchError::environment)
    }

    fn forgive(&mut self) -> Result<(), BenchError> {
        self.client.post("/v1/undamp").map(drop).map_err(BenchError::environment)
    }
}

struct Kernel {
    netns: NetNs,
    setup: Setup,
}

impl Router for Kernel {
    fn reload(&mut self) -> Result<(), BenchError> {
        Ok(())
    }

    /// It has thrown away the routes by a device that was set down.
    fn forgive(&mut self) -> Result<(), BenchError> {
        ip(&self.netns, &config::kernel_routes(self.setup))
    }
}

impl Router for Bird {
    fn reload(&mut self) -> Result<(), BenchError> {
        self.ask("configure").map(drop).map_err(BenchError::environment)
    }
}

/// Links, addresses and forwarding for a router that forwards by the kernel.
fn wire(lab: &str, router: &NetNs) -> Result<(), BenchError> {
    let mut lines = String::new();
    for (index, port) in super::super::config::PORTS.into_iter().enumerate() {
        let host = NetNs::named(&format!("{lab}-{port}"));
        join(router, port, &host)?;
        let _ = writeln!(lines, "addr add 10.{index}.0.1/24 dev {port}");
        ip(&host, &format!("addr add 10.{index}.0.2/24 dev eth\n"))?;
    }
    ip(router, &lines)?;
    ip(&NetNs::named(&format!("{lab}-c")), "route add default via 10.0.0.1 dev eth\n")?;
    // Routes by a link without a carrier are none, as they are to nearhop.
    for (file, value) in [
        ("ip_forward", "1"),
        ("conf/all/ignore_routes_with_linkdown", "1"),
        ("conf/all/rp_filter", "0"),
    ] {
        set(router, file, value)?;
    }
    for port in super::super::config::PORTS {
        set(router, &format!("conf/{port}/ignore_routes_with_linkdown"), "1")?;
    }
    Ok(())
}

/// Sets a value of /proc/sys/net/ipv4 in a namespace.
pub fn set(netns: &NetNs, file: &str, value: &str) -> Result<(), BenchError> {
    let path = PathBuf::from("/proc/sys/net/ipv4").join(file);
    let written = netns.within(|| fs::write(&path, value)).map_err(BenchError::environment)?;
    written.map_err(|error| BenchError::environment(format!("{}: {error}", path.display())))
}

/// Runs `ip -batch` in a namespace, until it succeeds: what depends on a device that just came up may need it.
pub fn ip(netns: &NetNs, lines: &str) -> Result<(), BenchError> {
    wait_for("ip -batch", READY_WITHIN, || {
        super::super::linux::prepare(netns, lines).map_err(|e| e.to_string())
    })
    .map_err(BenchError::environment)
}

const READY_WITHIN: Duration = Duration::from_mins(1);
