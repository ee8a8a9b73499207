//! A router between a client, a sink and those who announce; packets flow from the client to the sink.
#![forbid(unsafe_code)]

use std::fmt::Write as _;
use std::fs;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use nearhop::client::Client;
use nearhop::event::{Event, EventKind};
use nearhop::kernel::link::LinkSetup;
use nearhop::kernel::netns::NetNs;
use nearhop::time::Nanos;
use nearlab::lab::{Namespace, wait_for};
use nearlab::traffic::probe::sleep_until;
use serde_json::Value;

use crate::daemon::{self, Daemon, memory_kib};
use crate::lab::{Threads, route_everything, within};
use crate::report::BenchError;

/// A router, its neighbours' namespace, and a flow through it.
pub struct Lab {
    // They end before the router does.
    threads: Threads,
    pub daemon: Daemon,
    client: Client,
    news: Arc<News>,
    flow: Arc<Flow>,
    _namespaces: Vec<Namespace>,
}

/// What the router has published since it was last asked.
#[derive(Default)]
pub struct News {
    published: Mutex<Published>,
    changed: Condvar,
}

/// Sums of `publish` events.
#[derive(Clone, Copy, Debug, Default)]
pub struct Published {
    /// Prefixes added, changed or removed.
    pub prefixes: u64,
    /// When the latest of these events came.
    pub at: Nanos,
    /// When the first session of this count was established.
    pub up: Option<Nanos>,
    /// How many publications.
    pub times: u64,
    /// How often the checked site was found down.
    pub verdicts_down: u64,
}

/// Datagrams.
#[derive(Default)]
struct Flow {
    sent: AtomicU64,
    arrived: AtomicU64,
}

impl Lab {
    /// Starts the router, with this many neighbours and TCP checks, and the flow.
    ///
    /// # Errors
    /// Something of it cannot be started, or a check does not succeed.
    pub fn start(neighbors: usize, checks: usize) -> Result<Self, BenchError> {
        let namespaces: Result<Vec<_>, _> =
            NODES.iter().map(|name| Namespace::make(name)).collect();
        let namespaces = namespaces.map_err(BenchError::environment)?;
        let mut daemon = Daemon::start_unready("fulltable", &configuration(neighbors, checks))?;
        for name in NODES {
            set_up(name, neighbors)?;
        }
        if checks > 0 {
            answer_checks()?;
        }
        daemon.wait_ready(WITHIN)?;
        let client = Client::new(daemon.socket.clone()).map_err(BenchError::environment)?;
        let news: Arc<News> = Arc::default();
        let noted = Arc::clone(&news);
        daemon.follow("", move |event| noted.note(&event))?;
        let flow = Arc::default();
        let threads = start_flow(&flow)?;
        let lab = Self { threads, daemon, client, news, flow, _namespaces: namespaces };
        wait_for("the flow", WITHIN, || match lab.flow.arrived.load(Ordering::Relaxed) {
            0 => Err("no datagram came through".to_owned()),
            _ => Ok(()),
        })
        .map_err(BenchError::environment)?;
        Ok(lab)
    }

    /// Begins to count what is published.
    pub fn count_again(&self) {
        let mut published = self.news.published.lock().unwrap_or_else(PoisonError::into_inner);
        *published = Published { verdicts_down: published.verdicts_down, ..Published::default() };
    }

    /// Waits until so many prefixes were published since [`Self::count_again`].
    ///
    /// # Errors
    /// Not within a minute and a half.
    pub fn wait_published(&self, prefixes: u64) -> Result<Published, BenchError> {
        let locked = self.news.published.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = self
            .news
            .changed
            .wait_timeout_while(locked, WITHIN, |published| published.prefixes < prefixes);
        let (published, timed_out) = waited.unwrap_or_else(PoisonError::into_inner);
        if timed_out.timed_out() {
            let (have, log) = (published.prefixes, self.daemon.socket.with_extension("log"));
            let said = fs::read_to_string(log).unwrap_or_default();
            let end: Vec<&str> = said.lines().rev().take(5).collect();
            let why = format!("{have} of {prefixes} prefixes were published; the log: {end:#?}");
            return Err(BenchError::environment(why));
        }
        Ok(*published)
    }

    /// How many verdicts there were since the start that a checked site is down.
    pub fn verdicts_down(&self) -> u64 {
        self.news.published.lock().unwrap_or_else(PoisonError::into_inner).verdicts_down
    }

    /// What a lookup of an address finds, as the router explains it.
    ///
    /// # Errors
    /// The router does not answer.
    pub fn explain(&self, address: IpAddr) -> Result<Value, BenchError> {
        let path = format!("/v1/explain?address={address}");
        let answer = self.client.get(&path).map_err(BenchError::environment)?;
        serde_json::from_slice(&answer).map_err(BenchError::environment)
    }

    /// As [`daemon::show`].
    ///
    /// # Errors
    /// The router does not answer.
    pub fn show(&self, noun: &str) -> Result<Vec<Value>, BenchError> {
        daemon::show(&self.client, noun)
    }

    /// As [`daemon::longest_step`].
    ///
    /// # Errors
    /// The router does not answer.
    pub fn longest_step(&self, thread: &str) -> Result<(u64, String), BenchError> {
        daemon::longest_step(&self.client, thread)
    }

    /// Ends the flow; how many datagrams were sent and how many were lost, since the start.
    pub fn losses(&mut self) -> (u64, u64) {
        self.threads.end();
        let (sent, arrived) = (&self.flow.sent, &self.flow.arrived);
        let (sent, arrived) = (sent.load(Ordering::Relaxed), arrived.load(Ordering::Relaxed));
        (sent, sent.saturating_sub(arrived))
    }
}

/// Most memory that a process ever had, MB.
///
/// # Errors
/// The kernel does not say it.
pub fn peak_mb(pid: u32) -> Result<f64, BenchError> {
    let kib = memory_kib(pid, "VmHWM")? as f64;
    Ok(kib * 1.024 / 1000.0)
}

/// Processor time that a process has taken, of all its threads, seconds.
///
/// # Errors
/// The kernel does not say it.
pub fn processor_s(pid: u32) -> Result<f64, BenchError> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).map_err(BenchError::environment)?;
    // utime and stime are the 14th and 15th; the second, the name, may have spaces.
    let after = stat.rsplit_once(')').map_or("", |(_, after)| after);
    let ticks =
        after.split_whitespace().skip(11).take(2).filter_map(|word| word.parse::<f64>().ok());
    Ok(ticks.sum::<f64>() / rustix::param::clock_ticks_per_second() as f64)
}

/// The address of a neighbour.
pub fn neighbor(index: usize) -> Ipv4Addr {
    Ipv4Addr::from_bits(FIRST_NEIGHBOR.to_bits() + index as u32)
}

impl News {
    fn note(&self, event: &Event) {
        let mut published = self.published.lock().unwrap_or_else(PoisonError::into_inner);
        match &event.kind {
            EventKind::Publish { prefixes, .. } => {
                published.prefixes += prefixes;
                published.times += 1;
                published.at = Nanos::now();
                self.changed.notify_all();
            }
            EventKind::Site { up: false, .. } => published.verdicts_down += 1,
            EventKind::Bgp { up: true, .. } => {
                published.up.get_or_insert(Nanos(event.t_ns));
            }
            _ => {}
        }
    }
}

fn start_flow(flow: &Arc<Flow>) -> Result<Threads, BenchError> {
    let open =
        |node: &str, address: SocketAddr| within(&NetNs::named(node), || UdpSocket::bind(address));
    let sink = open("sink", SocketAddr::from((SINK, PORT)))?;
    let source = open("client", SocketAddr::from(([0, 0, 0, 0], 0)))?;
    source.connect((SINK, PORT)).map_err(BenchError::environment)?;
    sink.set_read_timeout(Some(LATE)).map_err(BenchError::environment)?;
    let mut threads = Threads::default();
    let counted = Arc::clone(flow);
    threads.start(move |stop| {
        let mut buffer = [0; 64];
        loop {
            match sink.recv(&mut buffer) {
                Ok(_) => drop(counted.arrived.fetch_add(1, Ordering::Relaxed)),
                Err(_) if stop.load(Ordering::Relaxed) => return,
                Err(_) => {}
            }
        }
    });
    let counted = Arc::clone(flow);
    threads.start(move |stop| {
        let mut next = Nanos::now();
        while !stop.load(Ordering::Relaxed) {
            if source.send(&[0; 32]).is_ok() {
                counted.sent.fetch_add(1, Ordering::Relaxed);
            }
            next = (next + SPACING).max(Nanos::now());
            sleep_until(next);
        }
    });
    Ok(threads)
}

/// Addresses of a node's device, once the router has made it, and its way back.
fn set_up(node: &str, neighbors: usize) -> Result<(), BenchError> {
    let (device, mut links) = route_everything(node, WITHIN)?;
    if node == "up" {
        for index in 0..neighbors {
            let address = format!("{}/32", neighbor(index)).parse();
            let address = address.map_err(BenchError::environment)?;
            links.replace_address(&device, address).map_err(BenchError::environment)?;
        }
    }
    Ok(())
}

/// The checked site's kernel takes connections.
fn answer_checks() -> Result<(), BenchError> {
    let sink = NetNs::named("sink");
    let mut links = LinkSetup::open(&sink).map_err(BenchError::environment)?;
    let address = format!("{CHECKED}/32").parse().map_err(BenchError::environment)?;
    links.replace_address("nh-sink", address).map_err(BenchError::environment)?;
    let listener = within(&sink, || TcpListener::bind((CHECKED, PORT)))?;
    // Ends with the process, or once the namespace does.
    thread::spawn(move || listener.incoming().for_each(drop));
    Ok(())
}

fn configuration(neighbors: usize, checks: usize) -> String {
    let mut text =
        String::from("[router]\nname = \"fulltable\"\nid = \"10.1.0.1\"\nhash-seed = 7\n");
    for (index, name) in NODES.iter().enumerate() {
        let _ = write!(
            text,
            "[[port]]\nname = \"{name}\"\ntun = \"nh-{name}\"\nnetns = \"{name}\"\n\
             addresses = [\"10.{index}.0.1/16\", \"fd00:{index}::1/64\"]\n\
             peer-addresses = [\"10.{index}.0.2/16\", \"fd00:{index}::2/64\"]\n"
        );
    }
    if checks > 0 {
        let one = format!("{{ tcp = {{ port = {PORT} }}, interval = \"50ms\", rise = 1 }}");
        let health = vec![one; checks].join(", ");
        let _ = write!(
            text,
            "[[service]]\nname = \"checked\"\nprefixes = [\"{CHECKED}/32\"]\n\
             [[service.site]]\nname = \"sink\"\nvia = \"sink\"\nhealth = [{health}]\n"
        );
    }
    let _ = write!(text, "[bgp]\nas = {LOCAL_AS}\n");
    for index in 0..neighbors {
        let _ = write!(
            text,
            "[[bgp.neighbor]]\nname = \"n{index}\"\naddress = \"{}\"\nas = {REMOTE_AS}\n\
             passive = true\nimport = \"all\"\nmax-prefixes = 2000000\n",
            neighbor(index)
        );
    }
    text
}

/// Each with a port of the router; the place is the second octet of the port's addresses.
const NODES: [&str; 3] = ["client", "up", "sink"];

pub const LOCAL_AS: u32 = 64_999;
/// In no path that is made, nor is the next one: BIRD refuses its own.
pub const REMOTE_AS: u32 = 63_000;
/// The router's end of the sessions.
pub const ROUTER: Ipv4Addr = Ipv4Addr::new(10, 1, 0, 1);
const FIRST_NEIGHBOR: Ipv4Addr = Ipv4Addr::new(10, 1, 1, 0);
const SINK: Ipv4Addr = Ipv4Addr::new(10, 2, 0, 2);
/// An address of the sink that TCP checks ask.
const CHECKED: Ipv4Addr = Ipv4Addr::new(10, 2, 9, 9);
const PORT: u16 = 9;
const SPACING: Duration = Duration::from_micros(500);
/// How late the last datagrams may be.
const LATE: Duration = Duration::from_millis(300);
const WITHIN: Duration = Duration::from_secs(90);
