//! What one thread does starves no other: a control thread that stands still or works long fails no TCP
//! check, and a log that nobody reads stops nothing.
#![allow(clippy::disallowed_methods, reason = "real time")]
#![allow(clippy::unwrap_used, reason = "a test ends at the first thing it did not expect")]

mod daemon_support;
mod support;

use std::fmt::Write as _;
use std::fs;
use std::io::Read as _;
use std::net::{TcpListener, UdpSocket};
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use daemon_support::{
    Probes, Rig, SERVICE_V4, SERVICE_V6, Tracer, config_with, signal, spawn_logging_to,
};
use nearhop::kernel::link::LinkSetup;
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

/// A DNS server at a site, in both families, until it is killed: it answers every question with no answer.
fn serve_dns(rig: &Rig, site: &str) -> Server {
    let over = Arc::new(AtomicBool::new(false));
    let threads = [SERVICE_V4, SERVICE_V6].map(|address| {
        let netns = rig.site_netns(site);
        let socket = netns.within(|| UdpSocket::bind((address, 53))).unwrap().unwrap();
        socket.set_read_timeout(Some(Duration::from_millis(1))).unwrap();
        let over = Arc::clone(&over);
        thread::spawn(move || {
            let mut packet = [0; 512];
            while !over.load(Ordering::Relaxed) {
                if let Ok((len, from)) = socket.recv_from(&mut packet) {
                    packet[2] |= 0x80;
                    let _ = socket.send_to(&packet[..len], from);
                }
            }
        })
    });
    Server { over, threads: threads.into() }
}

/// A site for each kind of check, and one that none is needed for, from the cheapest to the dearest.
const KINDS: daemon_support::Costs<'static> =
    &[("ping", 10), ("dns", 20), ("tcp", 30), ("last", 40)];

fn config_of_kinds() -> String {
    let checks = [
        "{ icmp = {}, interval = \"100ms\", fall = 5, rise = 1 }",
        "{ dns = { name = \"example.com\" }, interval = \"100ms\", fall = 5, rise = 1 }",
        TCP,
        "[]",
    ];
    let mut text = config_with(KINDS, "KIND");
    for check in checks {
        text = text.replacen("KIND", check, 1);
    }
    text
}

/// Stops a thread of a router for ten seconds, and kills the servers of its sites meanwhile, one kind after
/// the other.
fn servers_are_watched_while(stop: impl FnOnce(&Rig) -> Tracer) {
    let mut rig = Rig::begin_with(KINDS, &config_of_kinds());
    let (dns, tcp) = (serve_dns(&rig, "dns"), Server::start(&rig, "tcp"));
    rig.wait_all_up();
    let probes = Probes::start(&rig.client, SERVICE_V4, 8);
    probes.wait_for_site("ping");
    let stopped_at = nearhop::time::Nanos::now();
    let tracer = stop(&rig);
    // Several times as long as a check that nobody serves may be silent.
    while nearhop::time::Nanos::now().since(stopped_at) < Duration::from_secs(4) {
        assert_eq!(probes.sites_now(), vec!["ping"; 8]);
    }
    // Nobody answers pings to an address that is nobody's.
    let mut links = LinkSetup::open(rig.site_netns("ping")).unwrap();
    for address in [SERVICE_V4, SERVICE_V6] {
        links.delete_address("lo", address.parse().unwrap()).unwrap();
    }
    probes.wait_for_site("dns");
    dns.kill();
    probes.wait_for_site("tcp");
    tcp.kill();
    probes.wait_for_site("last");
    while nearhop::time::Nanos::now().since(stopped_at) < Duration::from_secs(10) {
        assert_eq!(probes.sites_now(), vec!["last"; 8]);
    }
    let moves = probes.moves();
    assert!(moves.iter().all(|&moves| moves == 3), "one by each death: {moves:?}");
    let (_, lost, _) = probes.finish();
    assert!(lost > 0, "what was sent to the dead until they were known to be dead");
    // It ends by SIGTERM although the thread stands still; who traces that has to let it go.
    signal(&rig.router, Signal::TERM);
    wait_for("the router to end", || daemon_support::has_ended(&rig.router).then_some(()));
    drop(tracer);
    assert!(rig.router.wait().unwrap().code().is_some(), "it exited, and was not killed");
}

#[test]
fn servers_are_watched_while_the_control_thread_stands_still() {
    in_namespaces("servers_are_watched_while_the_control_thread_stands_still", || {
        servers_are_watched_while(Tracer::stop);
    });
}

#[test]
fn servers_are_watched_while_the_api_thread_stands_still() {
    in_namespaces("servers_are_watched_while_the_api_thread_stands_still", || {
        servers_are_watched_while(|rig| Tracer::stop_named(rig, "nh-api"));
    });
}

#[test]
fn servers_are_watched_while_the_log_thread_stands_still() {
    in_namespaces("servers_are_watched_while_the_log_thread_stands_still", || {
        servers_are_watched_while(|rig| Tracer::stop_named(rig, "nh-log"));
    });
}

#[test]
fn a_dead_tcp_server_is_told_of_with_its_reason() {
    in_namespaces("a_dead_tcp_server_is_told_of_with_its_reason", || {
        let rig = Rig::begin_with(SITES, &config_with(SITES, TCP));
        let (ams, _fra) = (Server::start(&rig, "ams"), Server::start(&rig, "fra"));
        rig.wait_all_up();
        ams.kill();
        let why = wait_for("the control thread to report it", || {
            let items = rig.show("services");
            let down = items.iter().find(|item| item["site"] == "ams" && item["state"] == "down");
            down.map(|item| item["why"].clone())
        });
        assert_eq!(why, "unreachable: health reset");
        let checks = rig.show("checks");
        assert_eq!(checks.len(), 4, "TCP checks are shown: {checks:?}");
        assert!(checks.iter().all(|check| check["sent"].as_u64() > Some(0)), "{checks:?}");
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
