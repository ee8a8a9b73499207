//! The control thread's loop: one task owns all state, everything else sends it messages.
#![allow(clippy::disallowed_methods, reason = "this is a thread's shell")]

mod announcing;
mod clear;
mod facts;
mod history;
mod manager;
mod overrides;
mod reload;
mod reopen;
mod side;
mod summary;

use std::collections::{BTreeMap, BTreeSet};
use std::net::{SocketAddr, TcpListener};
use std::os::unix::net::UnixListener;
use std::sync::Arc;
use std::time::Duration;

use nearhop_fib::PathId;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};

use self::history::History;
use self::manager::Watchdog;
use self::reload::{Asker, Reloads};
use self::reopen::Reopening;
use super::host::HostCall;
use super::kernel::KernelOrder;
use super::liveness::Order;
use super::notify::Manager;
use super::placed::{Placed, ReadyGuard};
use super::ports::{Opened, open_all};
use super::signals::{Patience, Signal};
use super::steps::Steps;
use super::threads::Daemon;
use super::{RunError, RunOptions};
use crate::api::nouns::Show;
use crate::api::views::{self, Facts};
use crate::api::{self, ApiError, Command, Who};
use crate::config::Config;
use crate::engine::{EngineOrder, LivenessNews, LivenessOrder};
use crate::event::EventKind;
use crate::forward::PathCount;
use crate::ids::PortId;
use crate::kernel::netns::{NetNs, Place};
use crate::liveness::event::{MonitorEvent, MonitorEventKind};
use crate::port::counters::PortCounters;
use crate::time::Nanos;

/// What the control thread is given besides its configuration.
pub(super) struct Shell {
    pub(super) options: RunOptions,
    pub(super) placed: Arc<Placed>,
    /// The control socket.
    pub(super) listener: UnixListener,
    pub(super) signals: mpsc::Receiver<Signal>,
    /// How long the process may take to end.
    pub(super) patience: Patience,
}

/// Runs the router until it is to end.
pub(super) async fn run(daemon: Daemon, config: Config, shell: Shell) -> Result<(), RunError> {
    let Shell { options, placed, listener, mut signals, patience } = shell;
    let failed = |error: std::io::Error| RunError::new(format!("cannot start: {error}"));
    let (commands, mut asked) = mpsc::channel(COMMANDS_MAX);
    let http = config.api.http.map(listen).transpose()?;
    api::start(listener, http, commands).map_err(failed)?;
    let (reloads, mut loaded) = Reloads::new();
    let mut control = ControlThread::new(daemon, options, Arc::clone(&placed), reloads);
    // Dropped before the threads are ended: from then on the router is not ready.
    let mut ready = Some(ReadyGuard(placed));
    control.start(config)?;
    let wake = Arc::clone(&control.daemon.wake);
    let mut second = tokio::time::interval(HOUSEKEEPING_EVERY);
    let (watchdog, mut looks) = watchdog(&control.manager);
    let ended = loop {
        control.daemon.own_turns.take();
        let due = control.next_timeout();
        // In no order: lanes that are never empty, as under a flood, must not keep a signal or an
        // operator waiting, nor they the lanes.
        tokio::select! {
            () = wake.notified() => control.step("lanes", ControlThread::handle_lanes),
            Some(command) = asked.recv() => {
                // News from before an order is heard before it: what the order moves, and why, is
                // reported by what was known.
                control.step("lanes", ControlThread::handle_lanes);
                control.step(command.name(), |control| control.handle_command(command));
            }
            // The clock of `sleep_until` has steps of a millisecond.
            () = std::future::ready(()), if control.has_work() => {}
            () = sleep_until(due) => {}
            _ = second.tick() => control.step("latency and retries", ControlThread::keep_house),
            _ = looks.tick(), if watchdog => control.look_after_threads(),
            signal = signals.recv() => match signal {
                Some(Signal::Reload) => control.hang_up(),
                Some(Signal::Summarize) => control.step("summary", |control| control.log_summary()),
                Some(Signal::End) | None if !control.begin_exit(&patience) => break Ok(()),
                Some(Signal::End) | None => drop(ready.take()),
            },
            Some(loaded) = loaded.recv() => {
                control.step("lanes", ControlThread::handle_lanes);
                control.step("reload", |control| control.handle_loaded(loaded));
            }
        }
        control.step("publication", ControlThread::publish);
        control.step("devices", ControlThread::reopen_ports);
        control.step("events", ControlThread::after_step);
        if control.ends.is_some_and(|at| at <= Nanos::now()) {
            break Ok(());
        }
        if let Some(thread) = control.daemon.lost_thread() {
            break Err(RunError::new(format!("{thread} has ended; see the log")));
        }
        // Those who watch and ask have their turn between two steps, however much there is to report.
        tokio::task::yield_now().await;
    };
    drop(ready);
    control.manager.stopping();
    control.daemon.end();
    ended
}

/// Whether there is a watchdog, and when threads are looked after for it.
fn watchdog(manager: &Manager) -> (bool, tokio::time::Interval) {
    let interval = manager.watchdog_interval();
    let mut looks = tokio::time::interval(interval.unwrap_or(HOUSEKEEPING_EVERY));
    looks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    (interval.is_some(), looks)
}

fn listen(address: SocketAddr) -> Result<TcpListener, RunError> {
    let listener = TcpListener::bind(address).and_then(|listener| {
        listener.set_nonblocking(true)?;
        Ok(listener)
    });
    listener
        .map_err(|error| RunError::new(format!("[api] http: cannot listen on {address}: {error}")))
}

/// The control thread's state.
struct ControlThread {
    daemon: Daemon,
    opened: BTreeMap<String, Place>,
    reopening: Reopening,
    /// Ports that are configured no more, whose devices are not free yet.
    leaving: BTreeMap<String, (NetNs, String)>,
    /// What the path of each leg had counted for others before.
    counted_before: BTreeMap<PathId, PathCount>,
    /// As that, by the numbers of ports.
    ports_before: BTreeMap<PortId, PortCounters>,
    options: RunOptions,
    placed: Arc<Placed>,
    ready: bool,
    /// SIGHUP came before the router was ready.
    hung_up: bool,
    history: History,
    stalled: Option<(usize, Nanos)>,
    reloads: Reloads,
    /// Whether a publication cannot go on until a reader does.
    held_back: bool,
    steps: Steps,
    manager: Manager,
    watchdog: Watchdog,
    /// Why the last reload was refused, if it was.
    refused: Option<String>,
    /// When the process ends, if it is about to.
    ends: Option<Nanos>,
}

impl ControlThread {
    fn new(daemon: Daemon, options: RunOptions, placed: Arc<Placed>, reloads: Reloads) -> Self {
        Self {
            daemon,
            opened: BTreeMap::new(),
            reopening: Reopening::default(),
            leaving: BTreeMap::new(),
            counted_before: BTreeMap::new(),
            ports_before: BTreeMap::new(),
            options,
            placed,
            ready: false,
            hung_up: false,
            history: History::new(),
            stalled: None,
            reloads,
            held_back: false,
            steps: Steps::of("control"),
            manager: Manager::from_environment(),
            watchdog: Watchdog::default(),
            refused: None,
            ends: None,
        }
    }

    /// Does something, and notes if it takes too long.
    fn step(&mut self, name: &'static str, work: impl FnOnce(&mut Self)) {
        self.steps.begin(Nanos::now());
        work(self);
        self.steps.end(name, Nanos::now());
    }

    fn start(&mut self, config: Config) -> Result<(), RunError> {
        self.load_overrides(&config)?;
        let devices = open_all(&config.ports, self.daemon.workers.len())?;
        self.put_in_force(Arc::new(config), devices);
        self.after_step();
        Ok(())
    }

    /// Everything that other threads have sent.
    fn handle_lanes(&mut self) {
        self.handle_kernel();
        let mut gone = false;
        for news in self.daemon.news.try_iter().take(EVENTS_PER_STEP) {
            if let LivenessNews::Event(MonitorEvent { t, kind, .. }) = &news
                && let MonitorEventKind::Gone { port, ifindex }
                | MonitorEventKind::Link { port, ifindex, .. } = kind
            {
                let Some(name) = self.daemon.control.name_of(*port) else { continue };
                // The port may have another device by now.
                if self.opened.get(name).is_none_or(|place| place.ifindex != *ifindex) {
                    continue;
                }
                if matches!(kind, MonitorEventKind::Gone { .. }) {
                    self.reopening.lost(*t, name);
                    gone = true;
                }
            }
            self.daemon.control.handle_news(Nanos::now(), news);
        }
        if gone {
            self.wake_workers();
        }
        for (worker, first) in self.daemon.first_packets.try_iter().take(EVENTS_PER_STEP) {
            self.daemon.control.handle_first_packet(worker, first);
        }
        for news in self.daemon.engine_news.try_iter().take(EVENTS_PER_STEP) {
            self.daemon.control.handle_engine(Nanos::now(), &news);
        }
        let Daemon { news, first_packets, engine_news, wake, .. } = &self.daemon;
        if !(news.is_empty() && engine_news.is_empty() && first_packets.is_empty()) {
            wake.notify_one();
        }
    }

    /// Whether there is work that waits for nobody.
    fn has_work(&self) -> bool {
        let control = &self.daemon.control;
        let has_more = control.is_unpublished() || control.has_bgp_news();
        control.has_orders() || control.is_announcing() || has_more && !self.held_back
    }

    /// Publishes a part of what waits for it.
    fn publish(&mut self) {
        self.daemon.control.announce(Nanos::now());
        self.pass_orders_on();
        if self.held_back {
            return;
        }
        if let Err(error) = self.daemon.control.publish_step(Nanos::now()) {
            log::warn!("part of the configuration waits to be published: {error}");
            self.held_back = true;
        }
        self.pass_orders_on();
        self.hasten_leaving();
        if self.reloads.any_publishing()
            && !self.daemon.control.is_unpublished()
            && self.reloads.may_end(Nanos::now(), self.leaving.is_empty())
        {
            // The events of the publication come before that of the reload.
            self.after_step();
            self.finish_reloads();
        }
    }

    /// What follows from whatever happened: events, readiness.
    fn after_step(&mut self) {
        while let Some((t, kind)) = self.daemon.control.poll_event() {
            self.emit(t, kind);
        }
        if self.reloads.is_idle() {
            self.manager.reloaded();
        }
        if !self.ready && self.ends.is_none() && self.why_not_ready().is_none() {
            self.ready = true;
            self.placed.announce_ready();
            self.manager.ready();
            self.emit(Nanos::now(), EventKind::Ready);
            self.tell_status();
            if std::mem::take(&mut self.hung_up) {
                self.hang_up();
            }
        }
    }

    /// `None` if ports are open, routes installed, and every site's first result is known.
    fn why_not_ready(&self) -> Option<String> {
        let control = &self.daemon.control;
        if control.is_unpublished() {
            return Some("part of the configuration is not published yet".into());
        }
        for port in control.ports() {
            if let Some(why) = self.daemon.watched.why_not(port.id) {
                return Some(format!("the carrier of port {} is not watched: {why}", port.name()));
            }
        }
        if control.legs_unknown() == 0 {
            return None;
        }
        let (key, _) = control.legs().find(|(_, leg)| !leg.known)?;
        let family = key.family.label();
        Some(format!("no result yet about {} of {}/{family}", key.site, key.service))
    }

    /// SIGHUP: a reload, once what was read at the start is in service.
    fn hang_up(&mut self) {
        if !self.ready {
            log::info!("SIGHUP: the configuration is read again once the router is ready");
            self.hung_up = true;
            return;
        }
        let who = Who("SIGHUP".into());
        self.ask_reload(Asker { who, force: false, reply: None });
    }

    fn next_timeout(&self) -> Instant {
        let now = Nanos::now();
        let timers = [self.reopening.poll_timeout(), self.daemon.control.bgp_timeout(), self.ends];
        let due = timers.into_iter().flatten().min().map(|at| at.since(now));
        let longest = if self.leaving.is_empty() { HOUSEKEEPING_EVERY } else { LEAVING_EVERY };
        let sleep = due.unwrap_or(longest).min(longest);
        Instant::now() + sleep
    }

    /// Latency, retries, and who holds what back.
    fn keep_house(&mut self) {
        let now = Nanos::now();
        let control = &mut self.daemon.control;
        let stalled = control.publish_step(now).is_err();
        self.held_back = stalled;
        control.reclaim();
        match control.writer().slowest_reader() {
            Some(reader) => {
                let since = match self.stalled {
                    Some((slot, since)) if slot == reader => since,
                    _ => now,
                };
                self.stalled = Some((reader, since));
                let stalled_for = now.since(since);
                if stalled || stalled_for >= STALLED_AFTER {
                    let stalled_ms = u64::try_from(stalled_for.as_millis()).unwrap_or(u64::MAX);
                    let worker = reader as u16;
                    self.emit(now, EventKind::ReaderStalled { worker, stalled_ms });
                }
            }
            None => self.stalled = None,
        }
        self.pass_orders_on();
        self.look_at_namespaces(now);
        self.tell_status();
    }

    fn handle_command(&mut self, command: Command) {
        // One who asked and went away is not waited for.
        match command {
            Command::Announce(request, who, reply) => {
                drop(reply.send(self.change_announcements(&request, &who)));
            }
            Command::Clear(neighbor, soft, who, reply) => {
                drop(reply.send(self.clear_bgp(&neighbor, soft, &who)));
            }
            Command::Explain(query, reply) => {
                drop(reply.send(views::explain(&self.facts_of_routes(), &query)));
            }
            Command::Health(reply) => {
                let why_not = self.why_not_ready();
                drop(reply.send(why_not.map_or(Ok(()), |why| Err(ApiError::not_ready(why)))));
            }
            Command::Override(request, who, reply) => {
                drop(reply.send(self.put_override(&request, &who)));
            }
            Command::Reload(who, force, reply) => {
                self.ask_reload(Asker { who, force, reply: Some(reply) });
            }
            Command::Show(request, reply) => {
                let liveness = |paths| self.report(paths);
                let tcp_checks = |paths: &BTreeSet<PathId>| self.tcp_checks(paths);
                let transcript = |id| self.transcript(id);
                let facts = match request.show {
                    Show::Fib | Show::Routes | Show::Groups => self.facts_of_routes(),
                    _ => Facts {
                        liveness: &liveness,
                        tcp_checks: &tcp_checks,
                        transcript: &transcript,
                        ..self.facts()
                    },
                };
                drop(reply.send(views::show(&facts, &request)));
            }
            Command::Undamp(reply) => {
                self.daemon.liveness.order(Order::Engine(LivenessOrder::ClearDamping));
                drop(reply.send(Ok(views::undamped())));
            }
            Command::Watch(since, reply) => {
                drop(reply.send(Ok(self.history.follow(since))));
            }
        }
    }

    fn put_in_force(&mut self, config: Arc<Config>, devices: BTreeMap<String, Opened>) {
        let now = Nanos::now();
        let before = self.numbers_in_use();
        let config_before = self.daemon.control.config_in_force();
        let mut moved = BTreeMap::new();
        let mut sides = BTreeMap::new();
        for (name, opened) in devices {
            self.reopening.forget(&name);
            sides.insert(name.clone(), (opened.place.clone(), opened.quiet));
            self.opened.insert(name.clone(), opened.place);
            moved.insert(name, opened.device);
        }
        self.daemon.control.apply(now, config, moved);
        for (name, (place, quiet)) in sides {
            self.keep_side(&name, place, quiet);
        }
        self.await_leaving(&config_before);
        self.wake_workers();
        self.count_anew(&before);
        self.pass_orders_on();
    }

    /// There is a new snapshot to look at.
    fn wake_workers(&self) {
        for worker in &self.daemon.workers {
            worker.wake();
        }
    }

    /// To the other engines' threads, in their order, so many at a time.
    fn pass_orders_on(&mut self) {
        let mut any = false;
        for _ in 0..ORDERS_PER_STEP {
            let Some(order) = self.daemon.control.poll_order() else { break };
            any = true;
            match order {
                EngineOrder::Host(order) => self.daemon.host.queue(HostCall::Order(order)),
                EngineOrder::Liveness(LivenessOrder::Port(exit)) => {
                    let name = self.daemon.control.name_of(exit.port);
                    if let Some(place) = name.and_then(|name| self.opened.get(name)).cloned() {
                        self.daemon.liveness.queue(Order::Port { exit, place });
                    }
                }
                EngineOrder::Liveness(order) => {
                    if matches!(&order, LivenessOrder::Stop(stop) if !stop.ports.is_empty()) {
                        let control = &self.daemon.control;
                        let is_there = |name: &str| control.ports().any(|port| port.name() == name);
                        let gone: Vec<String> =
                            self.opened.keys().filter(|name| !is_there(name)).cloned().collect();
                        for name in gone {
                            self.opened.remove(&name);
                            self.daemon.kernel.order(KernelOrder::Free(name));
                        }
                        // Whoever sleeps on a port that is gone keeps its device open until then.
                        self.wake_workers();
                    }
                    self.daemon.liveness.queue(Order::Engine(order));
                }
            }
        }
        if any {
            self.daemon.liveness.wake();
            self.daemon.host.wake();
        }
    }

    /// Makes an event a line, for watchers, for those who come later, and for the log.
    fn emit(&mut self, t: Nanos, kind: EventKind) {
        let node = self.daemon.control.config().router.name.clone();
        self.history.emit(node, t, kind);
    }
}

/// Requests that may wait for the control thread.
const COMMANDS_MAX: usize = 256;

/// Events of each other thread taken in one turn: a fraction of the lines that may wait, so that
/// watchers follow while a port with very many legs goes down.
const EVENTS_PER_STEP: usize = 64;

/// Orders to other threads that are passed on in one turn: a fraction of what their lanes hold.
const ORDERS_PER_STEP: usize = 2048;

/// How often latency is taken over, and what waits is tried again.
const HOUSEKEEPING_EVERY: Duration = Duration::from_millis(250);

/// How often devices that are to be free are closed, where nobody else has them.
const LEAVING_EVERY: Duration = Duration::from_millis(2);

/// A worker that holds things back for so long is reported.
const STALLED_AFTER: Duration = Duration::from_secs(1);
