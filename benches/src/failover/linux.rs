//! The kernel's own forwarding: every prefix by two ways at different metrics. Its port is set
//! down, and it removes the routes by it.
#![forbid(unsafe_code)]

use std::fs;
use std::io::Write as _;
use std::process::{Command, Stdio};

use nearhop::kernel::link::LinkSetup;
use nearhop::kernel::netns::NetNs;
use nearhop::time::Nanos;
use nearlab::lab::Namespace;

use super::config::{self, PORTS, Size};
use super::subject::{Ends, Router, Subject};
use super::traffic::Sender;
use crate::linux::{finds, join};
use crate::report::BenchError;

/// Whether what this needs is installed.
pub fn is_here() -> bool {
    finds("ip")
}

/// Builds a router of that size.
pub fn build(size: Size) -> Result<Subject, BenchError> {
    let lab = format!("l{}", size.prefixes);
    let named = |name: &str| NetNs::named(&format!("{lab}-{name}"));
    let names = PORTS.iter().chain([&"r"]);
    let namespaces =
        names.map(|name| Namespace::make(&format!("{lab}-{name}"))).collect::<Result<_, _>>();
    let namespaces: Vec<Namespace> = namespaces.map_err(BenchError::environment)?;
    let router = named("r");
    for port in PORTS {
        join(&router, port, &named(port))?;
    }
    prepare(&named("c"), "addr add 10.0.0.2/24 dev eth\nroute add default via 10.0.0.1 dev eth\n")?;
    prepare(&router, ADDRESSES)?;
    router
        .within(|| fs::write("/proc/sys/net/ipv4/ip_forward", "1"))
        .map_err(BenchError::environment)?
        .map_err(BenchError::environment)?;
    let started = Nanos::now();
    prepare(
        &router,
        &(NEIGHBOUR_A.to_owned() + NEIGHBOUR_B + &config::kernel_routes(size, false)),
    )?;
    eprintln!(
        "Linux with {} prefixes is ready after {:.2} s",
        size.prefixes,
        Nanos::now().since(started).as_secs_f64()
    );
    let links = LinkSetup::open(&router).map_err(BenchError::environment)?;
    let sender = Sender::open(&named("c"), size)?;
    let ends = Ends { a: (named("a"), "eth".into()), b: (named("b"), "eth".into()) };
    let name = format!("Linux, {} routes", size.prefixes);
    Subject::new(name, Box::new(Kernel { netns: router, links, size }), &ends, sender, namespaces)
}

struct Kernel {
    netns: NetNs,
    links: LinkSetup,
    size: Size,
}

impl Router for Kernel {
    fn resume(&mut self) -> Result<(), BenchError> {
        Ok(())
    }

    fn pause(&mut self) -> Result<(), BenchError> {
        Ok(())
    }

    fn port_a(&mut self) -> (&mut LinkSetup, &str) {
        (&mut self.links, "a")
    }

    fn restore(&mut self) -> Result<(), BenchError> {
        let routes = config::kernel_routes(self.size, true);
        prepare(&self.netns, &(NEIGHBOUR_A.to_owned() + &routes))
    }
}

/// Runs `ip -batch` in a namespace.
pub fn prepare(netns: &NetNs, lines: &str) -> Result<(), BenchError> {
    let run = || {
        let mut ip = Command::new("ip").args(["-batch", "-"]).stdin(Stdio::piped()).spawn()?;
        if let Some(mut stdin) = ip.stdin.take() {
            stdin.write_all(lines.as_bytes())?;
        }
        ip.wait()
    };
    let status = netns.within(run).map_err(BenchError::environment)?;
    match status.map_err(BenchError::environment)? {
        status if status.success() => Ok(()),
        status => Err(BenchError::environment(format!("ip -batch in {netns}: {status}"))),
    }
}

const ADDRESSES: &str =
    "addr add 10.0.0.1/24 dev c\naddr add 10.1.0.1/24 dev a\naddr add 10.2.0.1/24 dev b\n";

/// The sites answer nothing, so who they are is reported.
const NEIGHBOUR_A: &str = "neigh replace 10.1.0.2 lladdr 02:00:00:00:00:0a dev a nud permanent\n";
const NEIGHBOUR_B: &str = "neigh replace 10.2.0.2 lladdr 02:00:00:00:00:0b dev b nud permanent\n";
