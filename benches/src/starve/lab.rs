//! A router between a client and three sites, each with a kind of check.
#![forbid(unsafe_code)]

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use nearhop::client::Client;
use nearhop::event::EventKind;
use nearhop::kernel::link::LinkSetup;
use nearhop::kernel::netns::NetNs;
use nearhop::time::Nanos;
use nearlab::lab::{Namespace, wait_for};
use nearlab::traffic::probe::sleep_until;
use serde_json::Value;

use super::Harm;
use crate::daemon::{self, Daemon, memory_kib};
use crate::lab::{Threads, route_everything, within};
use crate::report::BenchError;

/// A router under watch, with flows through it.
pub struct Lab {
    // They end before the router does.
    threads: Threads,
    pub daemon: Daemon,
    pub client: Client,
    flows: Vec<Arc<Mutex<Flow>>>,
    alarms: Arc<Alarms>,
    _namespaces: Vec<Namespace>,
}

/// One flow's probes.
#[derive(Default)]
struct Flow {
    sent: BTreeMap<u64, Nanos>,
    answered: BTreeMap<u64, Nanos>,
}

/// Sites that were taken for dead, and reloads that are done.
#[derive(Default)]
struct Alarms {
    down: AtomicU64,
    ready: AtomicBool,
}

impl Lab {
    /// Starts the router and the flows; returns when every site is up and every flow is answered.
    pub fn start() -> Result<Self, BenchError> {
        let namespaces = NODES.map(|(name, _)| Namespace::make(name));
        let namespaces: Result<Vec<_>, _> = namespaces.into_iter().collect();
        let namespaces = namespaces.map_err(BenchError::environment)?;
        let mut threads = Threads::default();
        // The servers wait for packets before the router asks.
        for (site, check) in &NODES[1..] {
            set_up_lo(site)?;
            serve(site, check, &mut threads)?;
        }
        let mut daemon = Daemon::start_unready("starve", &configuration(""))?;
        for (site, _) in &NODES {
            route_everything(site, READY_WITHIN)?;
        }
        daemon.wait_ready(READY_WITHIN)?;
        let client = Client::new(daemon.socket.clone()).map_err(BenchError::environment)?;
        let alarms = follow(&daemon)?;
        wait_for("the events", READY_WITHIN, || {
            if alarms.ready.load(Ordering::Relaxed) { Ok(()) } else { Err(String::new()) }
        })
        .map_err(BenchError::environment)?;
        let mut lab =
            Self { threads, daemon, client, flows: Vec::new(), alarms, _namespaces: namespaces };
        lab.start_flows()?;
        Ok(lab)
    }

    /// Puts these lines behind the configuration, and reloads.
    pub fn reload(&self, more: &str) -> Result<(), BenchError> {
        let file = self.daemon.socket.with_extension("toml");
        fs::write(file, configuration(more)).map_err(BenchError::environment)?;
        self.client.post("/v1/reload").map(drop).map_err(BenchError::environment)
    }

    /// Rows of `show NOUN`.
    pub fn show(&self, noun: &str) -> Result<Vec<Value>, BenchError> {
        daemon::show(&self.client, noun)
    }

    /// Resident memory of the router, KiB.
    pub fn resident_kib(&self) -> Result<u64, BenchError> {
        resident_kib(&self.daemon)
    }

    /// Ends the flows; what happened to them and to the checks meanwhile.
    pub fn harm(mut self, during: Range<Nanos>) -> Result<Harm, BenchError> {
        sleep_until(Nanos::now() + LATE);
        // Before the servers end.
        let false_alarms = self.alarms.down.load(Ordering::Relaxed);
        self.threads.end();
        let (longest, step) = daemon::longest_step(&self.client, "")?;
        let (mut sent, mut lost, mut gap) = (0, 0, Duration::ZERO);
        for flow in &self.flows {
            let flow = flow.lock().unwrap_or_else(PoisonError::into_inner);
            let numbers = flow.sent.iter().filter(|(_, at)| during.contains(at));
            for (number, _) in numbers {
                sent += 1;
                lost += u64::from(!flow.answered.contains_key(number));
            }
            let mut last = during.start;
            let times = flow.answered.values().filter(|at| during.contains(at));
            for &at in times.chain([&during.end]) {
                gap = gap.max(at.since(last));
                last = last.max(at);
            }
        }
        Ok(Harm {
            false_alarms,
            sent,
            lost,
            gap_ms: gap.as_secs_f64() * 1e3,
            step_ms: longest as f64 / 1e3,
            step,
            took_s: during.end.since(during.start).as_secs_f64(),
        })
    }

    fn start_flows(&mut self) -> Result<(), BenchError> {
        let netns = NetNs::named(NODES[0].0);
        for _ in 0..FLOWS {
            let socket = within(&netns, || UdpSocket::bind("0.0.0.0:0"))?;
            socket
                .connect(SocketAddr::from((SERVICE, ECHO_PORT)))
                .map_err(BenchError::environment)?;
            socket.set_read_timeout(Some(SPACING)).map_err(BenchError::environment)?;
            let flow: Arc<Mutex<Flow>> = Arc::default();
            let shared = Arc::clone(&flow);
            self.threads.start(move |stop| run_flow(&socket, &shared, stop));
            self.flows.push(flow);
        }
        let answered = |flow: &Arc<Mutex<Flow>>| {
            !flow.lock().unwrap_or_else(PoisonError::into_inner).answered.is_empty()
        };
        wait_for("an answer on every flow", READY_WITHIN, || {
            if self.flows.iter().all(answered) { Ok(()) } else { Err(String::new()) }
        })
        .map_err(BenchError::environment)
    }
}

/// Resident memory of a router, KiB.
pub fn resident_kib(daemon: &Daemon) -> Result<u64, BenchError> {
    memory_kib(daemon.child.id(), "VmRSS")
}

fn run_flow(socket: &UdpSocket, flow: &Mutex<Flow>, stop: &AtomicBool) {
    let mut buffer = [0; 64];
    for number in 0_u64.. {
        if stop.load(Ordering::Relaxed) {
            return;
        }
        let next = Nanos::now() + SPACING;
        if socket.send(&number.to_be_bytes()).is_ok() {
            let mut flow = flow.lock().unwrap_or_else(PoisonError::into_inner);
            flow.sent.insert(number, Nanos::now());
        }
        while Nanos::now() < next {
            let Ok(8) = socket.recv(&mut buffer) else { continue };
            let mut number = [0; 8];
            number.copy_from_slice(&buffer[..8]);
            let mut flow = flow.lock().unwrap_or_else(PoisonError::into_inner);
            flow.answered.insert(u64::from_be_bytes(number), Nanos::now());
        }
    }
}

/// Counts sites that are taken for dead once the router is ready.
fn follow(daemon: &Daemon) -> Result<Arc<Alarms>, BenchError> {
    let alarms: Arc<Alarms> = Arc::default();
    let noted = Arc::clone(&alarms);
    daemon.follow("?since=0", move |event| match event.kind {
        EventKind::Ready => noted.ready.store(true, Ordering::Relaxed),
        EventKind::Site { up: false, .. } if noted.ready.load(Ordering::Relaxed) => {
            noted.down.fetch_add(1, Ordering::Relaxed);
        }
        _ => {}
    })?;
    Ok(alarms)
}

/// An echo server, and one for the check.
fn serve(site: &str, check: &str, threads: &mut Threads) -> Result<(), BenchError> {
    let netns = NetNs::named(site);
    answer_udp(&netns, ECHO_PORT, false, threads)?;
    if check.contains("dns") {
        answer_udp(&netns, 53, true, threads)?;
    }
    if check.contains("tcp") {
        let listener =
            within(&netns, || TcpListener::bind(SocketAddr::from((SERVICE, ECHO_PORT))))?;
        listener.set_nonblocking(true).map_err(BenchError::environment)?;
        threads.start(move |stop| {
            while !stop.load(Ordering::Relaxed) {
                drop(listener.accept());
                thread::park_timeout(Duration::from_millis(2));
            }
        });
    }
    Ok(())
}

/// Answers every packet by itself; as a DNS server without answers would, if `dns`.
fn answer_udp(
    netns: &NetNs,
    port: u16,
    dns: bool,
    threads: &mut Threads,
) -> Result<(), BenchError> {
    let socket = within(netns, || UdpSocket::bind(SocketAddr::from((SERVICE, port))))?;
    socket.set_read_timeout(Some(Duration::from_millis(50))).map_err(BenchError::environment)?;
    threads.start(move |stop| {
        let mut packet = [0; 512];
        while !stop.load(Ordering::Relaxed) {
            if let Ok((len, from)) = socket.recv_from(&mut packet) {
                if dns {
                    packet[2] |= 0x80;
                }
                let _ = socket.send_to(&packet[..len], from);
            }
        }
    });
    Ok(())
}

fn set_up_lo(site: &str) -> Result<(), BenchError> {
    let mut links = LinkSetup::open(&NetNs::named(site)).map_err(BenchError::environment)?;
    let service = format!("{}/32", std::net::Ipv4Addr::from(SERVICE));
    let service = service.parse().map_err(BenchError::environment)?;
    links.replace_address("lo", service).map_err(BenchError::environment)
}

/// The router's, and `more`.
pub fn configuration(more: &str) -> String {
    let mut text = format!(
        "[router]\nname = \"starve\"\nhash-seed = 7\n[api]\nhttp = \"{}\"\n",
        SocketAddr::from(HTTP)
    );
    for (index, (name, _)) in NODES.iter().enumerate() {
        let _ = write!(
            text,
            "[[port]]\nname = \"{name}\"\ntun = \"nh-{name}\"\nnetns = \"{name}\"\n\
             addresses = [\"10.{index}.0.1/24\"]\npeer-addresses = [\"10.{index}.0.2/24\"]\n"
        );
    }
    let service = std::net::Ipv4Addr::from(SERVICE);
    let _ = write!(text, "[[service]]\nname = \"echo\"\nprefixes = [\"{service}/32\"]\n");
    for (name, check) in &NODES[1..] {
        let _ = write!(
            text,
            "[[service.site]]\nname = \"{name}\"\nvia = \"{name}\"\n\
             health = {{ {check}, interval = \"20ms\", fall = 10, rise = 1 }}\n"
        );
    }
    text + more
}

/// The client, and the sites with their checks, all at the same cost: flows go to each of them.
const NODES: [(&str, &str); 4] = [
    ("client", ""),
    ("tcp", "tcp = { port = 7 }"),
    ("dns", "dns = { name = \"example.com\" }"),
    ("ping", "icmp = {}"),
];

/// Where the router serves HTTP.
pub const HTTP: ([u8; 4], u16) = ([127, 0, 0, 1], 7780);

const SERVICE: [u8; 4] = [198, 51, 100, 53];
const ECHO_PORT: u16 = 7;
const FLOWS: usize = 24;
const SPACING: Duration = Duration::from_millis(2);

/// How late the last answers may be.
const LATE: Duration = Duration::from_millis(300);
const READY_WITHIN: Duration = Duration::from_mins(1);
