//! The kernel's thread: opens devices, and keeps the kernel's side of ports as it is configured. The
//! kernel may take its time over both, and nobody waits for this thread but who asked for a reload.
#![forbid(unsafe_code)]
#![allow(clippy::disallowed_methods, reason = "this is a thread's shell")]

mod kept;
mod report;

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crossbeam_channel::Receiver;

use self::kept::Kept;
pub(super) use self::report::{KernelReport, SideNews};
use super::RunError;
use super::ports::{Opened, open, open_all, side_of};
use super::sleep::Sleeper;
use super::turns::Turns;
use crate::config::model::Port as PortConfig;
use crate::kernel::netns::Place;
use crate::kernel::side::{Mine, Side, SideError, SideLink, SideWatch};
use crate::time::Nanos;
use crate::worker::Wake;

/// What the control thread asks of the kernel's thread.
pub(super) enum KernelOrder {
    /// End the thread.
    End,
    /// A port is configured no more: say when its device is free for others.
    Free(String),
    /// Keep the kernel's side of a port so; it may have another device than before.
    Keep {
        /// The port.
        port: String,
        /// Where its device is.
        place: Place,
        /// What it is to be like.
        side: Side,
    },
    /// Open the device of a port that has lost it.
    Open(Box<PortConfig>),
    /// Open the devices of these ports and bring the sides of those to their new configuration: all or
    /// none.
    Prepare {
        /// New ports.
        open: Vec<PortConfig>,
        /// Ports that there are, with what is configured of them from now on.
        change: Vec<PortConfig>,
    },
}

/// What the thread is made of.
pub(super) struct KernelParts {
    /// Woken by orders.
    pub(super) wake: OwnedFd,
    /// From the control thread.
    pub(super) orders: Receiver<KernelOrder>,
    /// Where the control thread finds what happened.
    pub(super) report: Arc<Mutex<KernelReport>>,
    /// Wakes the control thread.
    pub(super) control: Wake,
    /// Its turns, for the watchdog.
    pub(super) turns: Turns,
    /// How many workers read each device.
    pub(super) workers: usize,
}

/// The thread's state.
pub(super) struct KernelThread {
    parts: KernelParts,
    sleeper: Sleeper,
    /// By what distinguishes a namespace, for a path may lead to a new one later.
    spaces: HashMap<(u64, u64), Space>,
    kept: BTreeMap<String, Kept>,
    /// Devices that others have still open, and until when that is waited for.
    leaving: Vec<(String, Place, Nanos)>,
}

/// A namespace that has devices of ports.
struct Space {
    links: SideLink,
    watch: SideWatch,
}

impl KernelThread {
    pub(super) fn new(parts: KernelParts) -> io::Result<Self> {
        Ok(Self {
            sleeper: Sleeper::new(parts.wake.try_clone()?)?,
            parts,
            spaces: HashMap::new(),
            kept: BTreeMap::new(),
            leaving: Vec::new(),
        })
    }

    /// Keeps sides until it is to end.
    pub(super) fn run(mut self) -> io::Result<()> {
        loop {
            let now = Nanos::now();
            let looked_at = (!self.leaving.is_empty()).then(|| now + LEAVING_EVERY);
            let due = self.kept.values().filter_map(|kept| kept.due).chain(looked_at).min();
            if self.parts.orders.is_empty() {
                self.sleeper.sleep(due)?;
            }
            self.parts.turns.take();
            for _ in 0..ORDERS_PER_TURN {
                match self.parts.orders.try_recv() {
                    Ok(KernelOrder::End) => return Ok(()),
                    Ok(order) => self.handle(order),
                    Err(_) => break,
                }
            }
            self.hear();
            self.settle_what_is_due();
            self.look_at_leaving();
            self.let_go();
        }
    }

    fn handle(&mut self, order: KernelOrder) {
        match order {
            KernelOrder::End => {}
            KernelOrder::Free(port) => {
                if let Some(kept) = self.kept.remove(&port) {
                    self.leaving.push((port, kept.place, Nanos::now() + LEAVING_MAX));
                } else {
                    self.report(|report| report.freed.push(port));
                }
            }
            KernelOrder::Keep { port, place, side } => self.keep(port, place, side),
            KernelOrder::Open(config) => {
                let opened = open(&config, self.parts.workers).map_err(|error| error.to_string());
                self.report(|report| report.opened.push((config.name, opened)));
            }
            KernelOrder::Prepare { open, change } => {
                let prepared = self.prepare(&open, &change);
                self.report(|report| report.prepared = Some(prepared));
            }
        }
    }

    fn keep(&mut self, port: String, place: Place, side: Side) {
        let watched = self.space_of(&place, !side.routes.is_empty());
        let mut kept = Kept::new(place, side);
        match watched {
            Ok(()) => {
                kept.due = Some(Nanos::now());
                // What was said of it before is to be taken back.
                kept.why = self.kept.get(&port).and_then(|before| before.why.clone());
            }
            Err(error) => {
                let why = Some(format!("the kernel's side is not watched: {error}"));
                let ifindex = kept.place.ifindex;
                let news = SideNews { ifindex, why: why.clone(), made: vec![] };
                kept.why.clone_from(&why);
                kept.due = Some(Nanos::now() + WATCH_AGAIN_AFTER);
                if self.kept.get(&port).is_none_or(|before| before.why != why) {
                    self.report(|report| report.add(port.clone(), news));
                }
            }
        }
        self.kept.insert(port, kept);
    }

    /// Opens the namespace, unless it is open or is another by now.
    fn space_of(&mut self, place: &Place, routes: bool) -> Result<(), String> {
        let failed = |error: &dyn ToString| error.to_string();
        if !self.spaces.contains_key(&place.identity) {
            let watch = SideWatch::open(&place.netns).map_err(|error| failed(&error))?;
            let links = SideLink::open(&place.netns).map_err(|error| failed(&error))?;
            // After both were opened, in one or the other namespace.
            let identity = place.netns.identity().map_err(|error| failed(&error))?;
            if identity != place.identity {
                return Err(format!("{} is another network namespace now", place.netns));
            }
            self.sleeper.add(watch.fd()).map_err(|error| failed(&error))?;
            self.spaces.insert(identity, Space { links, watch });
        }
        match self.spaces.get_mut(&place.identity) {
            Some(space) if routes => space.watch.watch_routes().map_err(|error| failed(&error)),
            _ => Ok(()),
        }
    }

    /// What the kernel says has happened.
    fn hear(&mut self) {
        let now = Nanos::now();
        for (identity, space) in &mut self.spaces {
            let touched = space.watch.poll();
            let of_space = self.kept.values_mut().filter(|kept| kept.place.identity == *identity);
            for kept in of_space {
                let mut routes = kept.side.routes.iter();
                if touched.any
                    || touched.devices.contains(&kept.place.ifindex)
                    || !touched.routes.is_empty() && routes.any(|to| touched.routes.contains(to))
                {
                    kept.touched(now);
                }
            }
        }
    }

    fn settle_what_is_due(&mut self) {
        let start = Nanos::now();
        let due = self.kept.iter().filter(|(_, kept)| kept.due.is_some_and(|at| at <= start));
        let due: Vec<String> = due.map(|(name, _)| name.clone()).take(SETTLED_PER_TURN).collect();
        for port in due {
            let Some(kept) = self.kept.get_mut(&port) else { continue };
            let Some(space) = self.spaces.get_mut(&kept.place.identity) else {
                let (place, side) = (kept.place.clone(), kept.side.clone());
                self.keep(port, place, side);
                continue;
            };
            let mine: Mine = kept.side.addresses.iter().copied().collect();
            let done = space.links.settle(kept.place.ifindex, &kept.side, &mine, false);
            if done.as_ref().is_err_and(SideError::is_gone) {
                // Who watches the carrier says so, and it is opened again.
                self.kept.remove(&port);
                continue;
            }
            if let Some(news) = kept.settled(Nanos::now(), &done) {
                self.report(|report| report.add(port, news));
            }
        }
    }

    /// All or none: a failure puts those done so far back.
    fn prepare(
        &mut self,
        new: &[PortConfig],
        change: &[PortConfig],
    ) -> Result<BTreeMap<String, Opened>, RunError> {
        let opened = open_all(new, self.parts.workers)?;
        let mut done: Vec<(&str, Side)> = Vec::new();
        for config in change {
            let Some(kept) = self.kept.get(&config.name) else { continue };
            let before = kept.side.clone();
            let side = side_of(config, before.quiet);
            done.push((&config.name, before));
            match self.change(&config.name, side) {
                Ok(()) => {}
                Err(error) => {
                    for (name, side) in done {
                        if let Err(error) = self.change(name, side) {
                            log::error!("port {name:?} cannot be put back: {error}");
                        }
                    }
                    let text = format!("port {:?} cannot be changed: {error}", config.name);
                    return Err(RunError::new(text));
                }
            }
        }
        Ok(opened)
    }

    fn change(&mut self, port: &str, side: Side) -> Result<(), SideError> {
        let Some(kept) = self.kept.get_mut(port) else { return Ok(()) };
        let old = std::mem::replace(&mut kept.side, side);
        let mine: Mine = old.addresses.iter().copied().collect();
        kept.due = Some(Nanos::now());
        let (place, side) = (kept.place.clone(), kept.side.clone());
        if self.space_of(&place, !side.routes.is_empty()).is_err() {
            // Said already: it waits for a namespace.
            return Ok(());
        }
        let Some(space) = self.spaces.get_mut(&place.identity) else { return Ok(()) };
        let routes = !old.routes.is_empty();
        match space.links.settle(place.ifindex, &side, &mine, routes) {
            Err(error) if error.is_gone() => Ok(()),
            Err(error) => Err(error),
            Ok(_) => Ok(space.links.wait_until_delivered(place.ifindex, &side)?),
        }
    }

    fn look_at_leaving(&mut self) {
        let now = Nanos::now();
        let spaces = &mut self.spaces;
        let mut freed = Vec::new();
        self.leaving.retain(|(port, place, until)| {
            let space = spaces.get_mut(&place.identity);
            let is_free = space.is_none_or(|space| space.links.is_free(place.ifindex));
            if !is_free && now < *until {
                return true;
            }
            if !is_free {
                log::warn!("the device of port {port} is still in use");
            }
            freed.push(port.clone());
            false
        });
        if !freed.is_empty() {
            self.report(|report| report.freed.append(&mut freed));
        }
    }

    /// A namespace without ports is watched no more: that would keep it from ending.
    fn let_go(&mut self) {
        let (kept, leaving) = (&self.kept, &self.leaving);
        self.spaces.retain(|identity, _| {
            kept.values().any(|kept| kept.place.identity == *identity)
                || leaving.iter().any(|(_, place, _)| place.identity == *identity)
        });
    }

    fn report(&self, write: impl FnOnce(&mut KernelReport)) {
        write(&mut self.parts.report.lock().unwrap_or_else(PoisonError::into_inner));
        self.parts.control.wake();
    }
}

/// When it is tried again to watch a namespace.
const WATCH_AGAIN_AFTER: Duration = Duration::from_secs(1);

/// Orders taken before devices get their turn.
const ORDERS_PER_TURN: usize = 64;

/// Devices compared before orders get their turn, each of which may take milliseconds.
const SETTLED_PER_TURN: usize = 16;

/// How often devices that are to be free are looked at.
const LEAVING_EVERY: Duration = Duration::from_millis(1);

/// How long one may take to be free: longer than the kernel takes to end a ring that has it.
const LEAVING_MAX: Duration = Duration::from_secs(3);
