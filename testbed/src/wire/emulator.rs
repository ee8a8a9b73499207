//! The emulator process of an impaired link: moves packets from each end to the other through a
//! model.
#![forbid(unsafe_code)]

use std::fs;
use std::io;
use std::num::NonZeroU64;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::PathBuf;
use std::time::Duration;

use nearhop::time::Nanos;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use super::Spec;
use super::device::Ends;
use super::model::{Admission, Model};

/// Runs until killed; returns only with an error.
pub(super) fn run(spec: &Spec) -> io::Result<()> {
    // By default the kernel delays timers by up to 50 µs.
    rustix::thread::set_current_timer_slack(NonZeroU64::new(1))?;
    let mut emulator = Emulator::open(spec)?;
    loop {
        emulator.turn()?;
    }
}

/// Counters of a link, as stored in /run/nearlab/wire-NAME.json.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct Counters {
    /// From the router to the host.
    pub to_host: Direction,
    /// From the host to the router.
    pub to_router: Direction,
}

/// Counters of one direction. A superframe (GSO) counts as one packet.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct Direction {
    /// Packets received.
    pub received: u64,
    /// Packets sent to the other end.
    pub sent: u64,
    /// Packets lost by the configured impairment.
    pub lost: u64,
    /// Packets dropped because the queue was full.
    pub overflowed: u64,
    /// Packets dropped by the kernel because the emulator did not read them in time; not in
    /// `received`.
    pub unread: u64,
    /// Packets dropped because the other end was down, absent or full.
    pub refused: u64,
}

impl Counters {
    /// Reads the counters of a running emulator, at most one second old.
    pub fn read(wire: &str) -> io::Result<Self> {
        Ok(serde_json::from_slice(&fs::read(file(wire))?)?)
    }

    fn write(&self, wire: &str) -> io::Result<()> {
        let path = file(wire);
        let whole = path.with_extension("new");
        fs::write(&whole, serde_json::to_vec(self)?)?;
        fs::rename(whole, path)
    }
}

struct Emulator {
    name: String,
    ends: Ends,
    to_host: Model,
    to_router: Model,
    counters: Counters,
    written: Counters,
    write_at: Nanos,
    buffer: Vec<u8>,
}

impl Emulator {
    fn open(spec: &Spec) -> io::Result<Self> {
        let (impairment, seed) = (&spec.impairment, spec.seed);
        Ok(Self {
            name: spec.name.clone(),
            ends: Ends::open(spec)?,
            to_host: Model::new(impairment, seed),
            to_router: Model::new(impairment, !seed),
            counters: Counters::default(),
            written: Counters::default(),
            write_at: Nanos::ZERO,
            buffer: vec![0; FRAME_MAX],
        })
    }

    /// Waits for work and does it; at most [`BURST`] packets from each end.
    fn turn(&mut self) -> io::Result<()> {
        let [host, router, state] = self.wait()?;
        if state {
            self.ends.carry_over()?;
        }
        let now = Nanos::now();
        if host {
            let from = Some(self.ends.host.as_fd());
            receive(from, &mut self.buffer, now, &mut self.to_router, &mut self.counters.to_router);
        }
        if router {
            let from = self.ends.router.as_ref().map(|router| router.socket.as_fd());
            receive(from, &mut self.buffer, now, &mut self.to_host, &mut self.counters.to_host);
        }
        let now = Nanos::now();
        send(Some(self.ends.host.as_fd()), now, &mut self.to_host, &mut self.counters.to_host);
        let router = self.ends.router.as_ref().map(|router| router.socket.as_fd());
        send(router, now, &mut self.to_router, &mut self.counters.to_router);
        self.write_counters(now)
    }

    /// Whether the host's end, the router's end and the state have something to read.
    fn wait(&self) -> io::Result<[bool; 3]> {
        let [host_changes, router_changes] = self.ends.changes();
        let mut fds = vec![
            PollFd::new(&self.ends.host, PollFlags::IN),
            PollFd::from_borrowed_fd(host_changes, PollFlags::IN),
            PollFd::from_borrowed_fd(router_changes, PollFlags::IN),
        ];
        if let Some(router) = &self.ends.router {
            fds.push(PollFd::new(&router.socket, PollFlags::IN));
        }
        let timeout = self.next_due().map(|due| timespec(due.since(Nanos::now())));
        match poll(&mut fds, timeout.as_ref()) {
            Err(Errno::INTR) => return Ok([false; 3]),
            other => other?,
        };
        let ready = |index: usize| fds.get(index).is_some_and(|fd| !fd.revents().is_empty());
        Ok([ready(0), ready(3), ready(1) || ready(2)])
    }

    fn next_due(&self) -> Option<Nanos> {
        let counters = (self.counters != self.written).then_some(self.write_at);
        let due = [self.to_host.poll_timeout(), self.to_router.poll_timeout(), counters];
        due.into_iter().flatten().min()
    }

    fn write_counters(&mut self, now: Nanos) -> io::Result<()> {
        if self.counters == self.written || now < self.write_at {
            return Ok(());
        }
        self.write_at = now + COUNTERS_EVERY;
        let (to_host, to_router) = self.ends.dropped()?;
        self.counters.to_host.unread += to_host;
        self.counters.to_router.unread = to_router;
        self.written = self.counters;
        self.counters.write(&self.name)
    }
}

/// Both kinds of descriptor use a `struct virtio_net_hdr` before each packet, so that partial
/// checksums and superframes pass unchanged.
fn receive(
    from: Option<BorrowedFd<'_>>,
    buffer: &mut [u8],
    now: Nanos,
    model: &mut Model,
    counters: &mut Direction,
) {
    let Some(from) = from else { return };
    for _ in 0..BURST {
        // The device is empty, down or removed: each ends the burst, and netlink reports the state.
        let Ok(length) = rustix::io::read(from, &mut *buffer) else { return };
        counters.received += 1;
        match model.handle_packet(now, &buffer[..length], VNET_HDR) {
            Admission::Queued => {}
            Admission::Lost => counters.lost += 1,
            Admission::Overflow => counters.overflowed += 1,
        }
    }
}

fn send(to: Option<BorrowedFd<'_>>, now: Nanos, model: &mut Model, counters: &mut Direction) {
    while let Some(packet) = model.poll_transmit(now) {
        match to.map(|to| rustix::io::write(to, &packet)) {
            Some(Ok(_)) => counters.sent += 1,
            _ => counters.refused += 1,
        }
    }
}

fn timespec(span: Duration) -> Timespec {
    Timespec { tv_sec: span.as_secs().cast_signed(), tv_nsec: i64::from(span.subsec_nanos()) }
}

fn file(wire: &str) -> PathBuf {
    PathBuf::from(format!("/run/nearlab/wire-{wire}.json"))
}

const BURST: usize = 64;
const COUNTERS_EVERY: Duration = Duration::from_secs(1);
/// `sizeof(struct virtio_net_hdr)`, the default of TUN and packet sockets.
const VNET_HDR: usize = 10;
/// The largest superframe with its header.
const FRAME_MAX: usize = VNET_HDR + 65_535;
