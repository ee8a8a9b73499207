//! nearhop under test: the daemon itself, on real TUN ports.
#![forbid(unsafe_code)]

use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use nearhop::client::Client;
use nearhop::event::{Event, EventKind};
use nearhop::kernel::link::{KernelRoute, LinkSetup};
use nearhop::kernel::netns::NetNs;
use nearhop::time::Nanos;
use nearlab::lab::{Namespace, wait_for};
use rustix::process::{Pid, Signal, kill_process, setpriority_process};

use super::config::{self, PORTS, Size};
use super::subject::{Ends, Router, Subject};
use super::traffic::Sender;
use crate::daemon::Daemon;
use crate::report::BenchError;

/// Starts a router of that size and waits until it is ready.
pub fn build(size: Size) -> Result<Subject, BenchError> {
    let lab = format!("n{}", size.prefixes);
    let end = |port: &str| format!("{lab}-{port}");
    let namespaces = PORTS.iter().map(|port| Namespace::make(&end(port))).collect::<Result<_, _>>();
    let namespaces: Vec<Namespace> = namespaces.map_err(BenchError::environment)?;
    let started = Nanos::now();
    let nearhop = Nearhop::start(&lab, size)?;
    eprintln!(
        "nearhop with {} prefixes is ready after {:.2} s",
        size.prefixes,
        Nanos::now().since(started).as_secs_f64()
    );
    let netns = |port: &str| NetNs::named(&end(port));
    route_everything(&netns("c"))?;
    let sender = Sender::open(&netns("c"), size)?;
    let ends = Ends { a: (netns("a"), "nh-a".into()), b: (netns("b"), "nh-b".into()) };
    let name = format!("nearhop, {} routes", size.prefixes);
    Subject::new(name, Box::new(nearhop), &ends, sender, namespaces)
}

/// Where the kernel side of port `a` of such a router is.
pub fn netns_a(size: Size) -> NetNs {
    NetNs::named(&format!("n{}-a", size.prefixes))
}

struct Nearhop {
    daemon: Daemon,
    client: Client,
    links: LinkSetup,
    news: Arc<Mutex<News>>,
}

/// The first event that took a site out since it was asked for.
#[derive(Default)]
struct News {
    since: Option<Nanos>,
    first: Option<(Nanos, Nanos)>,
}

impl Nearhop {
    fn start(lab: &str, size: Size) -> Result<Self, BenchError> {
        let daemon = Daemon::start(lab, &config::nearhop(size, lab), READY_WITHIN)?;
        let links = LinkSetup::open(&NetNs::named(&format!("{lab}-a")));
        let socket = daemon.socket.clone();
        let mut nearhop = Self {
            daemon,
            client: Client::new(socket.clone()).map_err(BenchError::environment)?,
            links: links.map_err(BenchError::environment)?,
            news: Arc::default(),
        };
        nearhop.follow(socket)?;
        Ok(nearhop)
    }

    /// Looks at the router's events on a thread of its own.
    fn follow(&mut self, socket: PathBuf) -> Result<(), BenchError> {
        let news = Arc::clone(&self.news);
        let watch = move || {
            // Reading the news must not compete with those who make them.
            let _ = setpriority_process(None, 19);
            let Ok(client) = Client::new(socket) else { return };
            let mut rest = Vec::new();
            let ended = client.follow("/v1/watch", std::future::pending(), |chunk| {
                rest.extend_from_slice(chunk);
                let lines = rest.iter().rposition(|&byte| byte == b'\n').map_or(0, |end| end + 1);
                news.lock().unwrap_or_else(PoisonError::into_inner).read(&rest[..lines]);
                rest.drain(..lines);
                ControlFlow::Continue(())
            });
            if let Err(error) = ended {
                eprintln!("the router's events ended: {error}");
            }
        };
        let thread = thread::Builder::new().name("watch".into()).spawn(watch);
        thread.map(drop).map_err(BenchError::environment)
    }

    fn signal(&self, signal: Signal) -> Result<(), BenchError> {
        kill_process(Pid::from_child(&self.daemon.child), signal).map_err(BenchError::environment)
    }

    /// Waits until the control thread has nothing else to do: it answers questions last.
    fn settle(&self) -> Result<(), BenchError> {
        self.client.get("/v1/show/ports").map(drop).map_err(BenchError::environment)
    }
}

impl Router for Nearhop {
    fn resume(&mut self) -> Result<(), BenchError> {
        self.signal(Signal::CONT)?;
        self.settle()
    }

    fn pause(&mut self) -> Result<(), BenchError> {
        self.settle()?;
        self.signal(Signal::STOP)
    }

    fn listen(&mut self) {
        let news = News { since: Some(Nanos::now()), first: None };
        *self.news.lock().unwrap_or_else(PoisonError::into_inner) = news;
    }

    fn reported(&mut self) -> Option<(Nanos, Nanos)> {
        let heard = || self.news.lock().unwrap_or_else(PoisonError::into_inner).first;
        wait_for("nearhop to report the fault", REPORTED_WITHIN, || heard().ok_or_else(String::new))
            .ok()
    }

    fn port_a(&mut self) -> (&mut LinkSetup, &str) {
        (&mut self.links, "nh-a")
    }

    fn restore(&mut self) -> Result<(), BenchError> {
        // What flaps this often would be damped.
        self.settle()?;
        self.client.post("/v1/undamp").map(drop).map_err(BenchError::environment)
    }
}

impl News {
    fn read(&mut self, lines: &[u8]) {
        let Some(since) = self.since.filter(|_| self.first.is_none()) else { return };
        let events = lines.split(|&byte| byte == b'\n');
        self.first = events
            .filter_map(|line| serde_json::from_slice::<Event>(line).ok())
            .filter(|event| event.t_ns >= since.0)
            .find_map(|event| match event.kind {
                EventKind::Site { up: false, stored_ns, .. } => {
                    Some((Nanos(event.t_ns), Nanos(stored_ns)))
                }
                _ => None,
            });
    }
}

/// The client's default route; its NIC is the router's TUN.
fn route_everything(client: &NetNs) -> Result<(), BenchError> {
    let to = "0.0.0.0/0".parse().map_err(BenchError::environment)?;
    let route = KernelRoute { to, gateway: None, interface: "nh-c".into() };
    let mut links = LinkSetup::open(client).map_err(BenchError::environment)?;
    links.replace_route(&route).map_err(BenchError::environment)
}

const READY_WITHIN: Duration = Duration::from_secs(100);
const REPORTED_WITHIN: Duration = Duration::from_secs(10);
