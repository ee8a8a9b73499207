//! Work for the control plane.
#![forbid(unsafe_code)]

use std::fmt::Write as _;
use std::fs;
use std::io::Write as _;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use nearhop::client::Client;
use nearhop::config;
use nearhop::control::Control;
use nearhop::event::EventKind;
use nearhop::port::Port;
use nearhop::port::memory::MemoryPort;
use nearhop::time::Nanos;
use nearlab::traffic::probe::sleep_until;

use super::lab::{HTTP, Lab, resident_kib};
use crate::daemon::Daemon;
use crate::report::{BenchError, Row};
use crate::stats::Summary;

/// Something to do while others are not to notice.
pub struct Load {
    pub name: &'static str,
    pub put_on: fn(&Lab) -> Result<(), BenchError>,
    /// Whether it is put on only where its name is asked for.
    pub long: bool,
}

/// Something whose time or memory is the figure.
pub struct Size {
    pub name: &'static str,
    pub measure: fn(&str, u32) -> Result<Vec<Row>, BenchError>,
}

pub const ALL: &[Load] = &[
    Load {
        name: "reload of 100,000 routes, ten times",
        put_on: |lab| reloads(lab, &routes(100_000), 10),
        long: false,
    },
    Load {
        name: "reload of 30,000 routes, ten times",
        put_on: |lab| reloads(lab, &routes(30_000), 10),
        long: false,
    },
    Load {
        name: "reload of 1,000 services of 8 sites, ten times",
        put_on: |lab| reloads(lab, &services(1000, 8), 10),
        long: false,
    },
    Load {
        name: "eight reads of show fib, 100,000 routes",
        put_on: |lab| reads(lab, 8),
        long: false,
    },
    Load { name: "1,000 idle connections to HTTP, and 10,000 more", put_on: idle, long: false },
    Load { name: "40 clients that ask for it and never read", put_on: deaf, long: false },
    Load {
        name: "churn of reloads, drains and questions for 20 s",
        put_on: |lab| churn(lab, 20),
        long: false,
    },
    Load { name: "ten minutes of churn", put_on: |lab| churn(lab, 600), long: true },
];

pub const SIZES: &[Size] = &[
    Size { name: "a route file of 1,000,000 routes", measure: million },
    Size { name: "1,000 services of 64 sites", measure: thousand },
    Size { name: "5,000 routes in and out, 100 times", measure: growth },
    Size { name: "latency step", measure: latency_steps },
];

/// The configuration with more, and without it again.
fn reloads(lab: &Lab, more: &str, times: u32) -> Result<(), BenchError> {
    for _ in 0..times {
        lab.reload(more)?;
        lab.reload("")?;
    }
    Ok(())
}

fn reads(lab: &Lab, times: u32) -> Result<(), BenchError> {
    lab.reload(&routes(100_000))?;
    for _ in 0..times {
        let rows = lab.show("fib")?.len();
        if rows < 100_000 {
            return Err(BenchError::environment(format!("show fib has {rows} rows")));
        }
    }
    Ok(())
}

fn deaf(lab: &Lab) -> Result<(), BenchError> {
    lab.reload(&routes(100_000))?;
    let before = lab.resident_kib()?;
    let ask = || -> std::io::Result<UnixStream> {
        let mut stream = UnixStream::connect(&lab.daemon.socket)?;
        stream.write_all(b"GET /v1/show/fib HTTP/1.1\r\nhost: localhost\r\n\r\n")?;
        Ok(stream)
    };
    let clients: Result<Vec<UnixStream>, _> = (0..40).map(|_| ask()).collect();
    let clients = clients.map_err(BenchError::environment)?;
    sleep_until(Nanos::now() + Duration::from_secs(2));
    lab.show("ports")?;
    let after = lab.resident_kib()?;
    eprintln!("resident: {before} KiB before, {after} KiB with {} clients", clients.len());
    if after > before + (64 << 10) {
        return Err(BenchError::environment("40 clients that do not read cost more than 64 MiB"));
    }
    Ok(())
}

/// Connections that say nothing or half a request, and then ten times as many that go at once.
fn idle(lab: &Lab) -> Result<(), BenchError> {
    let connect = |head: &[u8]| -> std::io::Result<TcpStream> {
        let mut stream = TcpStream::connect(SocketAddr::from(HTTP))?;
        // Those above the router's limit it ends.
        let _ = stream.write_all(head);
        Ok(stream)
    };
    let before = lab.resident_kib()?;
    let half = |n: usize| {
        if n.is_multiple_of(2) { &b"GET /v1/show/fib HTTP/1.1\r\nhost:"[..] } else { b"" }
    };
    let held: Result<Vec<TcpStream>, _> = (0..1000).map(|n| connect(half(n))).collect();
    let held = held.map_err(BenchError::environment)?;
    lab.show("ports")?;
    for n in 0..10_000 {
        connect(half(n)).map_err(BenchError::environment)?;
        if n % 1000 == 0 {
            lab.show("ports")?;
        }
    }
    lab.reload("")?;
    let after = lab.resident_kib()?;
    eprintln!("resident: {before} KiB before, {after} KiB with {} connections", held.len());
    if after > before + (64 << 10) {
        return Err(BenchError::environment("idle connections cost more than 64 MiB"));
    }
    Ok(())
}

/// What operators and scripts do, all the time.
fn churn(lab: &Lab, seconds: u64) -> Result<(), BenchError> {
    let until = Nanos::now() + Duration::from_secs(seconds);
    let tables = [routes(3000), services(50, 8), String::new()];
    let mut round = 0;
    while Nanos::now() < until {
        lab.reload(&tables[round % tables.len()])?;
        for path in ["/v1/drain/dns", "/v1/undrain/dns"] {
            lab.client.post(path).map_err(BenchError::environment)?;
        }
        for noun in ["services", "checks", "ports"] {
            lab.show(noun)?;
        }
        round += 1;
    }
    eprintln!("{round} rounds of a reload, two drains and three questions");
    Ok(())
}

/// Static routes to one port.
fn routes(count: u32) -> String {
    let mut text = String::new();
    for n in 0..count {
        let prefix = Ipv4Addr::from_bits(0x6440_0000 + n);
        let _ = write!(text, "[[route]]\nprefix = \"{prefix}/32\"\nvia = \"ping\"\n");
    }
    text
}

/// Services without checks.
fn services(count: u32, sites: u32) -> String {
    let mut text = String::new();
    for n in 0..count {
        let prefix = Ipv4Addr::from_bits(0x6440_0000 + n);
        let _ = write!(text, "[[service]]\nname = \"s{n}\"\nprefixes = [\"{prefix}/32\"]\n");
        for site in 0..sites {
            let port = ["tcp", "dns", "ping"][site as usize % 3];
            let _ = write!(
                text,
                "[[service.site]]\nname = \"x{site}\"\nvia = \"{port}\"\ncost = {site}\n"
            );
        }
    }
    text
}

/// A router with two ports, in no lab.
fn alone(more: &str) -> String {
    let mut text = String::from("[router]\nname = \"alone\"\nhash-seed = 7\n");
    for (index, name) in ["tcp", "dns", "ping"].iter().enumerate() {
        let _ = write!(
            text,
            "[[port]]\nname = \"{name}\"\ntun = \"nh-{name}\"\naddresses = [\"10.{index}.0.1/24\"]\n"
        );
    }
    text + more
}

fn million(name: &str, repeat: u32) -> Result<Vec<Row>, BenchError> {
    let mut table = String::new();
    let mut state = 1_u64;
    for n in 0..1_000_000_u32 {
        // A /24 of each third of the space, and shorter and longer ones among them.
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let len = match state >> 60 {
            0..=9 => 24,
            10 => 23,
            11 | 12 => 22,
            13 => 20,
            14 => 19,
            _ => 18,
        };
        let address = 0x0b00_0000_u32 + n * 3000;
        let prefix = Ipv4Addr::from_bits(address >> (32 - len) << (32 - len));
        if !(prefix.is_link_local() || prefix.is_multicast() || prefix.is_loopback()) {
            let _ = writeln!(table, "{prefix}/{len} {}", ["tcp", "ping"][n as usize % 2]);
        }
    }
    fs::write("/run/million.txt", table).map_err(BenchError::environment)?;
    let text = alone("[[routes]]\nfile = \"/run/million.txt\"\n");
    let (mut ready, mut memory, mut page) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..repeat {
        let begun = Nanos::now();
        let daemon = Daemon::start("alone", &text, WITHIN)?;
        ready.push(Nanos::now().since(begun).as_secs_f64());
        memory.push(resident_kib(&daemon)? as f64 / 1000.0 * 1.024);
        let client = Client::new(daemon.socket.clone()).map_err(BenchError::environment)?;
        let begun = Nanos::now();
        client.get("/v1/show/fib?limit=256").map_err(BenchError::environment)?;
        page.push(Nanos::now().since(begun).as_secs_f64() * 1e3);
    }
    let (ready, memory, page) = (Summary::of(ready), Summary::of(memory), Summary::of(page));
    Ok(vec![
        Row::figure(format!("{name}: ready"), "s", &ready).judged("within 1.5 s", ready.p50 <= 1.5),
        Row::figure(format!("{name}: resident"), "MB", &memory)
            .judged("at most 200 MB", memory.p50 <= 200.0),
        Row::figure(format!("{name}: first page"), "ms", &page)
            .judged("within 10 ms", page.p50 <= 10.0),
    ])
}

fn thousand(name: &str, repeat: u32) -> Result<Vec<Row>, BenchError> {
    let text = alone(&services(1000, 64));
    let mut ready = Vec::new();
    for _ in 0..repeat {
        let begun = Nanos::now();
        let daemon = Daemon::start("alone", &text, WITHIN)?;
        ready.push(Nanos::now().since(begun).as_secs_f64());
        drop(daemon);
    }
    let ready = Summary::of(ready);
    Ok(vec![
        Row::figure(format!("{name}: ready"), "s", &ready).judged("within 5 s", ready.p50 <= 5.0),
    ])
}

fn growth(name: &str, _: u32) -> Result<Vec<Row>, BenchError> {
    let daemon = Daemon::start("alone", &alone(""), WITHIN)?;
    let client = Client::new(daemon.socket.clone()).map_err(BenchError::environment)?;
    let texts = [alone(&routes(5000)), alone("")];
    let mut at_half = 0;
    for round in 0..100 {
        for text in &texts {
            let file = daemon.socket.with_extension("toml");
            fs::write(file, text).map_err(BenchError::environment)?;
            client.post("/v1/reload").map_err(BenchError::environment)?;
        }
        if round == 49 {
            at_half = resident_kib(&daemon)?;
        }
    }
    let grown = (resident_kib(&daemon)? as f64 - at_half as f64) * 1.024 / 1000.0;
    let figure = Summary::of(vec![grown]);
    Ok(vec![
        Row::figure(format!("{name}: growth over the last 50"), "MB", &figure)
            .judged("at most 1 MB", grown <= 1.0),
    ])
}

/// What the control thread needs for it, beside this many routes.
fn latency_steps(name: &str, repeat: u32) -> Result<Vec<Row>, BenchError> {
    let mut rows = Vec::new();
    for count in [1000, 10_000, 100_000, 300_000] {
        let figures: Result<Vec<f64>, _> = (0..repeat).map(|_| latency_step(count)).collect();
        let figure = Summary::of(figures?);
        let row = Row::figure(format!("{name}, {count} routes"), "us", &figure);
        rows.push(row.judged("within 1 ms", figure.p50 <= 1000.0));
    }
    Ok(rows)
}

/// Microseconds that it takes to publish that one site of a service is slower now, among so many routes.
fn latency_step(count: u32) -> Result<f64, BenchError> {
    let sites = "[[service]]\nname = \"s\"\nprefixes = [\"198.51.100.53/32\"]\nlatency-unit = \"1ms\"\n\
                 [[service.site]]\nname = \"a\"\nvia = \"tcp\"\n\
                 [[service.site]]\nname = \"b\"\nvia = \"dns\"\n";
    let text = alone(&(routes(count) + sites));
    let (config, _) = config::parse("alone.toml", &text).map_err(BenchError::environment)?;
    let (writer, handle) = nearhop_fib::fib(1);
    let snapshot = Arc::new(ArcSwap::from_pointee(Control::empty_snapshot()));
    let begin = config.clone();
    let mut control = Control::new(writer, handle, snapshot, Arc::default(), begin, Nanos::now);
    let open = control.ports_to_open(&config).map_err(BenchError::environment)?;
    let device = || MemoryPort::pair(1).0 as Arc<dyn Port>;
    let devices = open.iter().map(|port| (port.name.clone(), device())).collect();
    control.apply(Arc::new(config), devices, Nanos::now());
    control.publish(Nanos::now()).map_err(BenchError::environment)?;
    let leg = control.legs().next().map(|(_, leg)| leg.path);
    let leg = leg.ok_or_else(|| BenchError::environment("the service has no leg"))?;
    while control.poll_event().is_some() {}
    let begun = Nanos::now();
    let times = [(leg, Duration::from_millis(30))];
    control.handle_round_trips(begun, times).map_err(BenchError::environment)?;
    let took = Nanos::now().since(begun);
    let published = |kind: &EventKind| matches!(kind, EventKind::Publish { groups: 1, .. });
    let left = control.is_unpublished();
    let mut events = std::iter::from_fn(|| control.poll_event());
    if left || !events.any(|(_, kind)| published(&kind)) {
        return Err(BenchError::environment("the step did not publish one group"));
    }
    Ok(took.as_secs_f64() * 1e6)
}

/// How long a router may take to be ready, at most.
const WITHIN: Duration = Duration::from_secs(100);
