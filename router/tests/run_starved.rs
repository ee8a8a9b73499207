//! What one thread does starves no other: a control thread that stands still or works long fails no TCP
//! check, and a log that nobody reads stops nothing.
#![allow(clippy::disallowed_methods, reason = "real time")]
#![allow(clippy::unwrap_used, reason = "a test ends at the first thing it did not expect")]

mod daemon_support;
mod support;

use std::fmt::Write as _;
use std::fs;
use std::io::Read as _;
use std::net::TcpListener;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use daemon_support::{
    Probes, Rig, SERVICE_V4, SERVICE_V6, Tracer, config_with, signal, spawn_logging_to,
};
use rustix::process::Signal;
use support::{in_namespaces, wait_for};

const SITES: daemon_support::Costs<'static> = &[("ams", 10), ("fra", 20)];

/// Silent after half a second: a thread that stood still for as long as the tests stop one, or worked for
/// as long as a reload takes, would fail the checks that it does.
const TCP: &str = "{ tcp = { port = 7 }, interval = \"100ms\", fall = 5, rise = 1 }";

/// A TCP server at a site, in both families, until it is killed.
struct Server {
    over: Arc<AtomicBool>,
    threads: Vec<thread::JoinHandle<()>>,
}

impl Server {
    fn start(rig: &Rig, site: &str) -> Self {
        let over = Arc::new(AtomicBool::new(false));
        let threads = [SERVICE_V4, SERVICE_V6].map(|address| {
            let netns = rig.site_netns(site);
            let listener = netns.within(|| TcpListener::bind((address, 7))).unwrap().unwrap();
            listener.set_nonblocking(true).unwrap();
            let over = Arc::clone(&over);
            thread::spawn(move || {
                while !over.load(Ordering::Relaxed) {
                    drop(listener.accept());
                    thread::park_timeout(Duration::from_millis(1));
                }
            })
        });
        Self { over, threads: threads.into() }
    }

    /// From now on connections are refused.
    fn kill(self) {
        self.over.store(true, Ordering::Relaxed);
        for thread in self.threads {
            thread.join().unwrap();
        }
    }
}

#[test]
fn a_tcp_server_is_watched_while_the_control_thread_stands_still() {
    in_namespaces("a_tcp_server_is_watched_while_the_control_thread_stands_still", || {
        let rig = Rig::begin_with(SITES, &config_with(SITES, TCP));
        let (ams, _fra) = (Server::start(&rig, "ams"), Server::start(&rig, "fra"));
        rig.wait_all_up();
        let tracer = Tracer::stop(&rig);
        // Ten times as long as a check that nobody serves may be silent.
        let probes = Probes::start(&rig.client, SERVICE_V4, 8);
        probes.wait_for_site("ams");
        let until = nearhop::time::Nanos::now() + Duration::from_secs(5);
        while nearhop::time::Nanos::now() < until {
            assert_eq!(probes.sites_now(), vec!["ams"; 8]);
        }
        ams.kill();
        probes.wait_for_site("fra");
        assert!(tracer.is_stopped(&rig), "the control thread ran");
        drop(tracer);
        probes.finish();
        let why = wait_for("the control thread to report it", || {
            let items = rig.show("services");
            let down = items.iter().find(|item| item["site"] == "ams" && item["state"] == "down");
            down.map(|item| item["why"].clone())
        });
        assert_eq!(why, "unreachable: health reset");
        let checks = rig.show("checks");
        assert_eq!(checks.len(), 4, "TCP checks are shown: {checks:?}");
        assert!(checks.iter().all(|check| check["sent"].as_u64() > Some(10)), "{checks:?}");
    });
}

#[test]
fn a_reload_of_many_routes_fails_no_check_and_loses_no_packet() {
    in_namespaces("a_reload_of_many_routes_fails_no_check_and_loses_no_packet", || {
        let few = config_with(SITES, TCP);
        let mut many = few.clone();
        for n in 0..30_000 {
            let (a, b) = (n / 256, n % 256);
            let _ = write!(
                many,
                "[[route]]\nprefix = \"100.{}.{}.{b}/32\"\nvia = \"fra\"\n",
                64 + a / 256,
                a % 256
            );
        }
        let rig = Rig::begin_with(SITES, &few);
        let _servers = [Server::start(&rig, "ams"), Server::start(&rig, "fra")];
        rig.wait_all_up();
        let probes = Probes::start(&rig.client, SERVICE_V4, 8);
        probes.wait_for_site("ams");
        for text in [&many, &few] {
            rig.write_file(text);
            let out = rig.nearhop(&["reload"]);
            assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
        }
        let (sent, lost, _) = probes.finish();
        assert!(lost == 0, "{lost} of {sent} lost");
        let mut reloads = 0;
        let events = rig.events_until(|event| {
            reloads += u32::from(event["kind"] == "reload");
            reloads == 2
        });
        let down: Vec<_> = events
            .iter()
            .skip_while(|event| event["kind"] != "ready")
            .filter(|event| event["kind"] == "site" && event["up"] == false)
            .collect();
        assert!(down.is_empty(), "false alarms: {down:?}");
    });
}

#[test]
fn a_log_that_nobody_reads_stops_nothing() {
    in_namespaces("a_log_that_nobody_reads_stops_nothing", || {
        let dir = std::path::PathBuf::from("/run/rig");
        fs::create_dir_all(&dir).unwrap();
        for name in ["client", "ams", "fra"] {
            support::netns(name);
        }
        let mut router = spawn_logging_to(Stdio::piped(), &dir, &config_with(SITES, "[]"));
        let client = wait_for("the control socket", || {
            let client = nearhop::client::Client::new(dir.join("r1.sock")).ok()?;
            client.get("/v1/show/ports").ok().map(|_| client)
        });
        // A pipe holds 64 KiB, and each of these writes a line or two.
        for _ in 0..2000 {
            client.post("/v1/drain/ams").unwrap();
            client.post("/v1/undrain/ams").unwrap();
        }
        signal(&router, Signal::TERM);
        assert_eq!(router.wait().unwrap().code(), Some(0));
        let mut log = String::new();
        router.stderr.take().unwrap().read_to_string(&mut log).unwrap();
        assert!(log.len() <= 128 << 10, "it is what fitted into the pipe: {} bytes", log.len());
    });
}
