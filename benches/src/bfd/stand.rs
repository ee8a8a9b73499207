//! A nearhop and a BIRD that have a thousand sessions with each other, over some links.
#![forbid(unsafe_code)]

use std::fmt::Write as _;
use std::fs;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use nearhop::client::Client;
use nearhop::event::EventKind;
use nearhop::kernel::netns::NetNs;
use nearlab::lab::{Namespace, wait_for};

use crate::daemon::{self, Daemon};
use crate::program::{self, Program};
use crate::report::BenchError;

/// Both ends, all sessions up.
pub struct Stand {
    daemon: Daemon,
    client: Client,
    bird: Program,
    /// Sessions that went down.
    downs: Arc<AtomicU64>,
    _namespace: Namespace,
}

impl Stand {
    /// Starts both, and waits until all sessions are up in their interval.
    pub fn start() -> Result<Self, BenchError> {
        let namespace = Namespace::make(NETNS).map_err(BenchError::environment)?;
        let daemon = Daemon::start("bfd", &nearhop(), READY_WITHIN)?;
        let client = Client::new(daemon.socket.clone()).map_err(BenchError::environment)?;
        let downs: Arc<AtomicU64> = Arc::default();
        let noted = Arc::clone(&downs);
        daemon.follow("", move |event| {
            if matches!(event.kind, EventKind::Bfd { up: false, .. }) {
                noted.fetch_add(1, Ordering::Relaxed);
            }
        })?;
        let folder = program::folder("bfd-bird")?;
        let path = |file: &str| folder.join(file).display().to_string();
        fs::write(path("bird.conf"), bird()).map_err(BenchError::environment)?;
        // It opens a socket for each session.
        let command = format!(
            "ulimit -n {}; exec bird -f -c {} -s {} -P {}",
            4 * SESSIONS,
            path("bird.conf"),
            path("bird.ctl"),
            path("bird.pid")
        );
        let netns = NetNs::named(NETNS);
        let bird = Program::start(&netns, &folder.join("out"), &["sh", "-c", &command])?;
        let stand = Self { daemon, client, bird, downs, _namespace: namespace };
        wait_for("all sessions", UP_WITHIN, || stand.are_up()).map_err(|error| {
            let said = fs::read_to_string(folder.join("out")).unwrap_or_default();
            BenchError::environment(format!("{error}; BIRD said: {said}"))
        })?;
        Ok(stand)
    }

    /// nearhop's process.
    pub fn nearhop(&self) -> u32 {
        self.daemon.child.id()
    }

    /// BIRD's.
    pub fn bird(&self) -> u32 {
        self.bird.pid()
    }

    /// Packets that nearhop's sessions received and sent so far.
    pub fn packets(&self) -> Result<[u64; 2], BenchError> {
        let rows = daemon::show(&self.client, "bfd")?;
        Ok(["received", "sent"].map(|key| rows.iter().filter_map(|row| row[key].as_u64()).sum()))
    }

    /// Sessions that went down so far.
    pub fn downs(&self) -> u64 {
        self.downs.load(Ordering::Relaxed)
    }

    fn are_up(&self) -> Result<(), String> {
        let rows = daemon::show(&self.client, "bfd").map_err(|error| error.to_string())?;
        let interval_us = 1000 * u64::from(INTERVAL_MS);
        let is_up = |row: &&serde_json::Value| {
            row["state"] == "up" && row["interval_us"].as_u64() == Some(interval_us)
        };
        let up = rows.iter().filter(is_up).count();
        if up == SESSIONS { Ok(()) } else { Err(format!("{up} of {} are up", rows.len())) }
    }
}

/// The router: a static route by each session's other end.
fn nearhop() -> String {
    let list = |link: usize, host: u32| {
        let nets =
            (0..SESSIONS / LINKS).map(|index| format!("\"{}/30\"", address(link, index, host)));
        nets.collect::<Vec<_>>().join(", ")
    };
    let mut text = "[router]\nname = \"bfd\"\nhash-seed = 7\n".to_owned();
    for link in 0..LINKS {
        let _ = write!(
            text,
            "[[port]]\nname = \"l{link}\"\ntun = \"nh-{link}\"\nnetns = \"{NETNS}\"\n\
             addresses = [{}]\npeer-addresses = [{}]\n",
            list(link, 1),
            list(link, 2)
        );
    }
    for (link, index) in sessions() {
        let prefix = Ipv4Addr::from_bits(0x6440_0000 + (link * SESSIONS + index) as u32);
        let _ = write!(
            text,
            "[[route]]\nprefix = \"{prefix}/32\"\nvia = \"{}\"\nbfd = {{ interval = \"{INTERVAL_MS}ms\" }}\n",
            address(link, index, 2)
        );
    }
    text
}

fn bird() -> String {
    let mut text = format!(
        "router id 10.0.0.2;\nprotocol device {{}}\nprotocol bfd {{\n\
         interface \"*\" {{ interval {INTERVAL_MS} ms; multiplier 3; }};\n"
    );
    for (link, index) in sessions() {
        let [there, here] = [1, 2].map(|host| address(link, index, host));
        let _ = writeln!(text, "neighbor {there} dev \"nh-{link}\" local {here};");
    }
    text + "}\n"
}

/// The link and the number there of each session.
fn sessions() -> impl Iterator<Item = (usize, usize)> {
    (0..LINKS).flat_map(|link| (0..SESSIONS / LINKS).map(move |index| (link, index)))
}

/// The address of an end: each session has a network of its own.
fn address(link: usize, index: usize, host: u32) -> Ipv4Addr {
    Ipv4Addr::from_bits(0x0a00_0000 + ((link as u32 + 1) << 16) + 4 * index as u32 + host)
}

/// How many sessions there are.
pub const SESSIONS: usize = 1000;

/// In which interval they send, milliseconds.
pub const INTERVAL_MS: u32 = 50;

const LINKS: usize = 5;
const NETNS: &str = "bfd";
const READY_WITHIN: Duration = Duration::from_mins(1);
const UP_WITHIN: Duration = Duration::from_mins(2);
