//! A real `nearhop run` between a client and two sites, in the namespaces of one test.
#![allow(clippy::disallowed_methods, reason = "real time")]
#![allow(dead_code)] // each test binary uses its own part

pub mod bgp;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::io::{BufRead, BufReader};
use std::mem;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use nearhop::client::Client;
use nearhop::kernel::link::{KernelRoute, LinkSetup};
use nearhop::kernel::netns::NetNs;
use nearhop::time::Nanos;
use serde_json::Value;

use crate::support;

pub const SERVICE_V4: &str = "198.51.100.53";
pub const SERVICE_V6: &str = "2001:db8:53::53";

/// Sites and their costs, in the order of the configuration.
pub type Costs<'a> = &'a [(&'a str, u32)];

/// The router, its client and its sites.
pub struct Rig {
    pub dir: PathBuf,
    pub router: Child,
    pub client: NetNs,
    sites: Vec<Site>,
}

impl Rig {
    /// Starts everything and waits until all sites are up.
    pub fn start(costs: Costs<'_>) -> Self {
        Self::start_with(costs, &config(costs))
    }

    /// Like [`Self::start`], with another configuration for these sites.
    pub fn start_with(costs: Costs<'_>, config: &str) -> Self {
        let rig = Self::begin_with(costs, config);
        rig.wait_all_up();
        rig
    }

    /// Like [`Self::start_with`], without waiting for the sites.
    pub fn begin_with(costs: Costs<'_>, config: &str) -> Self {
        Self::begin_as(costs, config, |_| {})
    }

    /// Like [`Self::begin_with`]; `change` adds to the router's command line and environment.
    pub fn begin_as(costs: Costs<'_>, config: &str, change: impl FnOnce(&mut Command)) -> Self {
        let mut rig = Self::alone(costs, config, change);
        rig.connect();
        for site in &mut rig.sites {
            site.serve();
        }
        rig
    }

    /// Like [`Self::begin_as`], while its devices have no addresses and nobody serves at its sites.
    pub fn alone(costs: Costs<'_>, config: &str, change: impl FnOnce(&mut Command)) -> Self {
        let dir = PathBuf::from("/run/rig");
        fs::create_dir_all(&dir).unwrap();
        let client = support::netns("client");
        let sites: Vec<_> = costs.iter().map(|(name, _)| Site::prepare(name)).collect();
        fs::write(dir.join("r1.toml"), config).unwrap();
        let mut command = command(&dir);
        command.stderr(log_in(&dir));
        change(&mut command);
        Self { router: command.spawn().unwrap(), dir, client, sites }
    }

    /// A router beside others, in a folder of its own, with sites that serve and nobody else; what its other
    /// ports lead to is the test's.
    pub fn beside(name: &str, client: &NetNs, costs: Costs<'_>, config: &str) -> Self {
        let dir = PathBuf::from(format!("/run/rig-{name}"));
        fs::create_dir_all(&dir).unwrap();
        let sites = costs.iter().map(|(name, _)| Site::prepare(name)).collect();
        let router = spawn(&dir, config);
        let mut rig = Self { router, dir, client: client.clone(), sites };
        rig.connect_sites();
        rig.sites.iter_mut().for_each(Site::serve);
        rig
    }

    /// Waits for the router's devices, then sets addresses and routes of the hosts.
    pub fn connect(&self) {
        connect(&self.client, "nh-client", &[]);
        self.connect_sites();
    }

    fn connect_sites(&self) {
        for site in &self.sites {
            let device = format!("nh-{}", site.name);
            connect(&site.netns, &device, &[SERVICE_V4, SERVICE_V6]);
        }
    }

    pub fn wait_all_up(&self) {
        support::wait_for("every leg up", || {
            let items = self.show("services");
            let up = items.len() == self.sites.len() * 2
                && items.iter().all(|item| item["state"] == "up");
            up.then_some(())
        });
    }

    /// Replaces the configuration file.
    pub fn write_config(&self, costs: Costs<'_>) {
        self.write_file(&config(costs));
    }

    /// Replaces the configuration file with this text.
    pub fn write_file(&self, text: &str) {
        fs::write(self.dir.join("r1.toml"), text).unwrap();
    }

    /// Creates a namespace for another site, which the router does not know yet.
    pub fn add_site(&mut self, name: &str) {
        self.sites.push(Site::prepare(name));
    }

    /// Waits for the router's device of the last site, sets its addresses, and starts its echo.
    pub fn serve_last_site(&mut self) {
        let site = self.sites.last_mut().unwrap();
        connect(&site.netns, &format!("nh-{}", site.name), &[SERVICE_V4, SERVICE_V6]);
        site.serve();
    }

    /// Removes the last site. Its name is free for another; its echo keeps the namespace.
    pub fn remove_last_site(&mut self) {
        let site = self.sites.pop().unwrap();
        support::hide_netns(&site.name);
    }

    /// Runs `nearhop ARGS` against this router.
    pub fn nearhop(&self, args: &[&str]) -> Output {
        let socket = self.dir.join("r1.sock");
        Command::new(env!("CARGO_BIN_EXE_nearhop"))
            .args(args)
            .env("NEARHOP_SOCKET", socket)
            .stdin(Stdio::null())
            .output()
            .unwrap()
    }

    /// What the router has logged so far.
    pub fn log(&self) -> String {
        fs::read_to_string(self.dir.join("log")).unwrap()
    }

    /// Waits for a line of the log with these words.
    pub fn wait_for_log(&self, words: &str) -> String {
        support::wait_for(words, || {
            self.log().lines().find(|line| line.contains(words)).map(str::to_owned)
        })
    }

    pub fn show(&self, noun: &str) -> Vec<Value> {
        let out = self.nearhop(&["show", noun, "--json"]);
        let document: Value = serde_json::from_slice(&out.stdout).unwrap_or_default();
        document["items"].as_array().cloned().unwrap_or_default()
    }

    /// Number of packets with this verdict.
    pub fn dropped(&self, reason: &str) -> u64 {
        let items = self.show("drops");
        let row = items.iter().find(|item| item["reason"] == reason);
        row.and_then(|row| row["packets"].as_u64()).unwrap_or(0)
    }

    /// Every event since the start, up to and including the first for which `last` holds.
    pub fn events_until(&self, mut last: impl FnMut(&Value) -> bool) -> Vec<Value> {
        let client = Client::new(self.dir.join("r1.sock")).unwrap();
        let mut text = Vec::new();
        let mut events: Vec<Value> = Vec::new();
        let take = |piece: &[u8]| {
            text.extend_from_slice(piece);
            let whole = text.iter().rposition(|&byte| byte == b'\n').map_or(0, |end| end + 1);
            let rest = text.split_off(whole);
            let lines = mem::replace(&mut text, rest);
            for line in lines.split(|&byte| byte == b'\n').filter(|line| !line.is_empty()) {
                events.push(serde_json::from_slice(line).unwrap());
                if events.last().is_some_and(&mut last) {
                    return ControlFlow::Break(());
                }
            }
            ControlFlow::Continue(())
        };
        client.follow("/v1/watch?since=0", std::future::pending(), take).unwrap();
        events
    }

    /// Stops the router; returns when all of its threads are stopped.
    pub fn stand_still(&self) {
        signal(&self.router, rustix::process::Signal::STOP);
        let tasks = format!("/proc/{}/task", self.router.id());
        support::wait_for("the router to stand still", || {
            let mut tasks = fs::read_dir(&tasks).unwrap();
            tasks.all(|task| is_in_state(&task.unwrap().path(), 'T')).then_some(())
        });
    }

    /// Continues the router.
    pub fn go_on(&self) {
        signal(&self.router, rustix::process::Signal::CONT);
    }

    pub fn site_netns(&self, name: &str) -> &NetNs {
        &self.sites.iter().find(|site| site.name == name).unwrap().netns
    }

    /// Ends the router by SIGTERM; returns its exit code.
    pub fn terminate(&mut self) -> Option<i32> {
        signal(&self.router, rustix::process::Signal::TERM);
        self.router.wait().unwrap().code()
    }

    /// Starts the router again after it has ended.
    pub fn restart(&mut self, costs: Costs<'_>) {
        self.restart_with(&config(costs));
    }

    /// Like [`Self::restart`], with another configuration.
    pub fn restart_with(&mut self, config: &str) {
        self.router = spawn(&self.dir, config);
    }

    /// Like [`Self::restart`], without the drains and disables that were kept.
    pub fn restart_forgetting(&mut self, costs: Costs<'_>) {
        fs::write(self.dir.join("r1.toml"), config(costs)).unwrap();
        let mut command = command(&self.dir);
        command.arg("--forget-overrides").stderr(log_in(&self.dir));
        self.router = command.spawn().unwrap();
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        let _ = self.router.kill();
        let _ = self.router.wait();
        if thread::panicking() {
            eprintln!("{}", fs::read_to_string(self.dir.join("log")).unwrap_or_default());
        }
    }
}

/// Whether a thread, by its folder in /proc, is in this state (proc_pid_stat(5)).
fn is_in_state(task: &Path, state: char) -> bool {
    let stat = fs::read_to_string(task.join("stat")).unwrap();
    stat.rsplit(')').next().unwrap().trim_start().starts_with(state)
}

/// Whether it has ended, also if somebody who traces one of its threads keeps it from being waited for.
pub fn has_ended(child: &Child) -> bool {
    is_in_state(Path::new(&format!("/proc/{}", child.id())), 'Z')
}

pub fn signal(child: &Child, signal: rustix::process::Signal) {
    let pid = rustix::process::Pid::from_child(child);
    rustix::process::kill_process(pid, signal).unwrap();
}

fn spawn(dir: &Path, config: &str) -> Child {
    spawn_logging_to(log_in(dir).into(), dir, config)
}

/// Where the router of this folder logs to.
pub fn log_in(dir: &Path) -> fs::File {
    fs::File::options().create(true).append(true).open(dir.join("log")).unwrap()
}

/// Starts a router in this folder.
pub fn spawn_logging_to(log: Stdio, dir: &Path, config: &str) -> Child {
    fs::write(dir.join("r1.toml"), config).unwrap();
    command(dir).stderr(log).spawn().unwrap()
}

/// The command that runs the router of this folder.
pub fn command(dir: &Path) -> Command {
    command_by(dir, &[])
}

/// Like [`command`], with further options of setpriv.
pub fn command_by(dir: &Path, setpriv: &[&str]) -> Command {
    // Ends with the test, however that ends.
    let mut command = Command::new("setpriv");
    command
        .args(setpriv)
        .args(["--pdeathsig", "KILL", env!("CARGO_BIN_EXE_nearhop"), "run"])
        .arg(dir.join("r1.toml"))
        .arg("--ready-file")
        .arg(dir.join("ready"))
        .arg("--socket")
        .arg(dir.join("r1.sock"))
        .stdin(Stdio::null());
    command
}

/// Two workers, a client, and the sites with their checks. The checks are patient, because a busy
/// machine must not make a site look dead, and these tests do not measure detection. Latency is
/// left out of costs, so that sites of equal cost stay equal.
pub fn config(costs: Costs<'_>) -> String {
    config_with(costs, "{ icmp = {}, interval = \"20ms\", fall = 50, rise = 3 }")
}

/// Like [`config`], with other checks.
pub fn config_with(costs: Costs<'_>, health: &str) -> String {
    let mut text = String::from(
        "[router]\nname = \"r1\"\nworkers = 2\nstate-dir = \"/run/rig/state\"\n\
         [[port]]\nname = \"client\"\ntun = \"nh-client\"\nnetns = \"client\"\n\
         addresses = [\"10.0.0.1/24\", \"fd00::1/64\"]\n\
         peer-addresses = [\"10.0.0.2/24\", \"fd00::2/64\"]\n",
    );
    for (index, (name, _)) in costs.iter().enumerate() {
        let n = index + 1;
        let _ = write!(
            text,
            "[[port]]\nname = \"{name}\"\ntun = \"nh-{name}\"\nnetns = \"{name}\"\n\
             addresses = [\"10.{n}.0.1/24\", \"fd00:{n}::1/64\"]\n\
             peer-addresses = [\"10.{n}.0.2/24\", \"fd00:{n}::2/64\"]\n"
        );
    }
    let _ = write!(
        text,
        "[[service]]\nname = \"echo\"\nlatency-unit = \"off\"\n\
         prefixes = [\"{SERVICE_V4}/32\", \"{SERVICE_V6}/128\"]\n"
    );
    for (name, cost) in costs {
        let _ = write!(
            text,
            "[[service.site]]\nname = \"{name}\"\nvia = \"{name}\"\ncost = {cost}\n\
             health = {health}\n"
        );
    }
    text
}

pub fn connect(netns: &NetNs, device: &str, shared: &[&str]) {
    let mut links = LinkSetup::open(netns).unwrap();
    support::wait_for("the router's device", || {
        links.find(device).unwrap().filter(nearhop::kernel::link::LinkStatus::up)
    });
    for address in shared {
        links.replace_address("lo", address.parse().unwrap()).unwrap();
    }
    for to in ["0.0.0.0/0", "::/0"] {
        let (to, interface) = (to.parse().unwrap(), device.to_owned());
        links.replace_route(&KernelRoute { to, gateway: None, interface }).unwrap();
    }
}

/// A site: a namespace with an echo server that returns its name.
struct Site {
    name: String,
    netns: NetNs,
}

impl Site {
    fn prepare(name: &str) -> Self {
        Self { name: name.to_owned(), netns: support::netns(name) }
    }

    fn serve(&mut self) {
        for address in [SERVICE_V4, SERVICE_V6] {
            let address = SocketAddr::new(address.parse().unwrap(), 7);
            let socket = self.netns.within(|| UdpSocket::bind(address)).unwrap().unwrap();
            let name = self.name.clone();
            thread::spawn(move || {
                let mut buffer = [0; 64];
                // Ends with the test's process.
                while let Ok((len, from)) = socket.recv_from(&mut buffer) {
                    let answer = [&buffer[..len.min(8)], name.as_bytes()].concat();
                    let _ = socket.send_to(&answer, from);
                }
            });
        }
    }
}

/// Numbered probes on several flows, until stopped.
pub struct Probes {
    stop: Arc<AtomicBool>,
    seen: Arc<Mutex<Seen>>,
    threads: Vec<JoinHandle<()>>,
}

/// The answers.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    pub sent: u64,
    /// By flow: number, time of arrival, site.
    pub answers: BTreeMap<u16, Vec<(u64, Nanos, String)>>,
}

impl Probes {
    /// `flows` flows to `to`, each with a probe every few milliseconds.
    pub fn start(client: &NetNs, to: &str, flows: u16) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let seen: Arc<Mutex<Seen>> = Arc::default();
        let to: IpAddr = to.parse().unwrap();
        let any: IpAddr = if to.is_ipv4() { [0; 4].into() } else { [0; 16].into() };
        let mut threads = Vec::new();
        for flow in 0..flows {
            // An IPv6 wildcard socket also takes the port number in IPv4.
            let first = if to.is_ipv4() { 40_000 } else { 41_000 };
            let from = SocketAddr::new(any, first + flow);
            let socket = client.within(|| UdpSocket::bind(from)).unwrap().unwrap();
            socket.connect(SocketAddr::new(to, 7)).unwrap();
            socket.set_read_timeout(Some(Duration::from_millis(1))).unwrap();
            let (stop, seen) = (Arc::clone(&stop), Arc::clone(&seen));
            threads.push(thread::spawn(move || run_flow(&socket, flow, &stop, &seen)));
        }
        Self { stop, seen, threads }
    }

    /// The site that answered each flow last, once all flows were answered after this call.
    pub fn sites_now(&self) -> Vec<String> {
        let since = Nanos::now();
        support::wait_for("an answer on every flow", || {
            let seen = self.seen.lock().unwrap();
            let last: Vec<_> = seen.answers.values().filter_map(|all| all.last()).collect();
            let fresh = last.len() == self.threads.len() && last.iter().all(|a| a.1 > since);
            fresh.then(|| last.iter().map(|answer| answer.2.clone()).collect())
        })
    }

    pub fn wait_for_site(&self, site: &str) {
        support::wait_for("every flow at the site", || {
            self.sites_now().iter().all(|now| now == site).then_some(())
        });
    }

    /// How often each flow moved to another site.
    pub fn moves(&self) -> Vec<usize> {
        let seen = self.seen.lock().unwrap();
        let moves = |all: &Vec<(u64, Nanos, String)>| {
            all.windows(2).filter(|pair| pair[0].2 != pair[1].2).count()
        };
        seen.answers.values().map(moves).collect()
    }

    /// Numbers of each flow that are missing below the highest answered one.
    pub fn lost(&self) -> Vec<u64> {
        let seen = self.seen.lock().unwrap();
        let lost = |all: &Vec<(u64, Nanos, String)>| {
            let highest = all.iter().map(|answer| answer.0).max();
            highest.map_or(0, |highest| highest + 1 - all.len() as u64)
        };
        seen.answers.values().map(lost).collect()
    }

    /// Stops sending, and waits for the answers on their way.
    pub fn stop(&mut self) {
        self.stop.store(true, Ordering::Release);
        for thread in self.threads.drain(..) {
            thread.join().unwrap();
        }
    }

    /// Ends it; returns the number of unanswered probes, and the longest time between two answers
    /// of a flow.
    pub fn finish(mut self) -> (u64, u64, Duration) {
        self.stop();
        let seen = self.seen.lock().unwrap();
        let answered: usize = seen.answers.values().map(Vec::len).sum();
        let gaps = seen.answers.values().flat_map(|all| all.windows(2));
        let gap = gaps.map(|pair| pair[1].1.since(pair[0].1)).max().unwrap_or_default();
        (seen.sent, seen.sent - answered as u64, gap)
    }
}

fn run_flow(socket: &UdpSocket, flow: u16, stop: &AtomicBool, seen: &Mutex<Seen>) {
    let mut number = 0_u64;
    let mut drain_until = None;
    loop {
        if !stop.load(Ordering::Acquire) {
            // A probe that cannot be sent counts as lost.
            let _ = socket.send(&number.to_be_bytes());
            seen.lock().unwrap().sent += 1;
            number += 1;
        } else if drain_until.get_or_insert_with(|| Nanos::now() + LATE) < &mut Nanos::now() {
            return;
        }
        let mut buffer = [0; 64];
        while let Ok(len) = socket.recv(&mut buffer) {
            let name = String::from_utf8_lossy(&buffer[8..len]).into_owned();
            let answer = u64::from_be_bytes(buffer[..8].try_into().unwrap());
            let mut seen = seen.lock().unwrap();
            seen.answers.entry(flow).or_default().push((answer, Nanos::now(), name));
        }
    }
}

/// The lines of `nearhop watch` so far, and further ones as they arrive.
pub struct Watch {
    child: Child,
    pub lines: Arc<Mutex<Vec<Value>>>,
    /// As they were written.
    pub text: Arc<Mutex<String>>,
}

impl Watch {
    pub fn start(rig: &Rig) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_nearhop"))
            .arg("watch")
            .env("NEARHOP_SOCKET", rig.dir.join("r1.sock"))
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines: Arc<Mutex<Vec<Value>>> = Arc::default();
        let (out, into) = (child.stdout.take().unwrap(), Arc::clone(&lines));
        let text: Arc<Mutex<String>> = Arc::default();
        let written = Arc::clone(&text);
        thread::spawn(move || {
            for line in BufReader::new(out).lines().map_while(Result::ok) {
                written.lock().unwrap().push_str(&line);
                into.lock().unwrap().push(serde_json::from_str(&line).unwrap());
            }
        });
        Self { child, lines, text }
    }

    pub fn wait_for(&self, what: &str, fits: impl Fn(&Value) -> bool) -> Value {
        support::wait_for(what, || self.lines.lock().unwrap().iter().find(|v| fits(v)).cloned())
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Stops some of the router's threads, and no other, by ptrace; dropping it continues them.
pub struct Tracer {
    release: Option<std::sync::mpsc::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Tracer {
    /// The control thread.
    pub fn stop(rig: &Rig) -> Self {
        Self::stop_threads(vec![i32::try_from(rig.router.id()).unwrap()])
    }

    /// Every worker.
    pub fn stop_workers(rig: &Rig) -> Self {
        Self::stop_named(rig, "nh-worker-")
    }

    /// The threads whose names begin so.
    pub fn stop_named(rig: &Rig, name: &str) -> Self {
        let tasks = fs::read_dir(format!("/proc/{}/task", rig.router.id())).unwrap();
        let tasks = tasks.flatten().map(|task| task.path());
        // Helpers of a moment may have ended.
        let is_named = |task: &PathBuf| {
            fs::read_to_string(task.join("comm")).is_ok_and(|found| found.starts_with(name))
        };
        let named = tasks.filter(is_named);
        let number = |task: PathBuf| task.file_name().unwrap().to_str().unwrap().parse().unwrap();
        let named: Vec<i32> = named.map(number).collect();
        assert!(!named.is_empty(), "no thread is named {name}");
        Self::stop_threads(named)
    }

    fn stop_threads(threads: Vec<i32>) -> Self {
        let (release, wait) = std::sync::mpsc::channel();
        let (stopped, is_stopped) = std::sync::mpsc::channel();
        // Every ptrace call must come from the thread that attached.
        let thread = thread::spawn(move || {
            for &tid in &threads {
                support::trace::seize_and_interrupt(tid);
            }
            stopped.send(()).unwrap();
            // Ends when the sender is dropped.
            let _ = wait.recv();
            for &tid in &threads {
                support::trace::detach(tid);
            }
        });
        is_stopped.recv().unwrap();
        Self { release: Some(release), thread: Some(thread) }
    }

    /// The kernel's state `t` is a tracing stop; the other threads run or sleep.
    #[expect(clippy::unused_self, reason = "asks about what this holds")]
    pub fn is_stopped(&self, rig: &Rig) -> bool {
        let pid = rig.router.id();
        is_in_state(Path::new(&format!("/proc/{pid}/task/{pid}")), 't')
    }
}

impl Drop for Tracer {
    fn drop(&mut self) {
        drop(self.release.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// The longest time to wait for an answer after the last probe.
const LATE: Duration = Duration::from_millis(200);
