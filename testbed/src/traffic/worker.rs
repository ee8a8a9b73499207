//! The thread that paces, sends and receives probes, without locks.
//!
//! It wakes at absolute deadlines, sends one probe per flow, then reads what has arrived; late
//! reading costs no precision, because the kernel stamps arrivals. Commands are handled between two
//! deadlines, and records are copied in small slices, so that neither delays a probe.
#![forbid(unsafe_code)]

use std::collections::VecDeque;
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, TryRecvError};
use log::warn;
use nearhop::time::Nanos;

use super::batch_io::{RxBatch, enable_timestamps, sharpen_timers};
use super::flow::OpenFlow;
use super::pace::Pacer;
use super::probe::sleep_until;
use super::protocol::{Command, RecordsHead, Reply};
use super::take::Take;
use super::wire::Echo;
use crate::measure::Arrival;

/// A message to the parent: a line, and raw bytes after it.
pub struct Message {
    /// The line.
    pub reply: Reply,
    /// Raw bytes after the line.
    pub raw: Vec<u8>,
}

/// State of the sending thread.
pub struct Worker {
    flows: Vec<OpenFlow>,
    sites: Vec<String>,
    pacer: Pacer,
    batch: RxBatch,
    takes: VecDeque<Take>,
    out: Sender<Message>,
    commands: Receiver<Command>,
    counts: RecordsHead,
}

impl Worker {
    /// Creates the state; must be called on the thread that runs it.
    pub fn new(
        flows: Vec<OpenFlow>,
        spacing: Duration,
        out: Sender<Message>,
        commands: Receiver<Command>,
    ) -> Self {
        sharpen_timers();
        Self {
            flows,
            sites: Vec::new(),
            pacer: Pacer::new(Nanos::now(), spacing),
            batch: RxBatch::new(RX_BATCH),
            takes: VecDeque::new(),
            out,
            commands,
            counts: RecordsHead::default(),
        }
    }

    /// Runs Until it is stopped, or until the command channel is closed.
    pub fn run(mut self) {
        let stamps = if self.flows.iter().all(|f| enable_timestamps(&f.socket).is_ok()) {
            "kernel"
        } else {
            "user"
        };
        let flows = self.flows.iter().map(|open| open.flow.clone()).collect();
        self.say(Reply::Ready { flows, stamps: stamps.to_owned() });
        loop {
            sleep_until(self.pacer.deadline());
            for _ in 0..self.pacer.due(Nanos::now()) {
                let refused = self.flows.iter_mut().filter_map(|f| (!f.send()).then_some(()));
                self.counts.send_errors += refused.count() as u64;
            }
            let now = Nanos::now();
            let all_read = self.receive();
            if !self.obey() {
                return;
            }
            self.serve_take(now, all_read);
        }
    }

    /// Reads what has arrived on every flow, at most [`RX_BATCH`] datagrams each; whether that was all.
    fn receive(&mut self) -> bool {
        let mut all_read = true;
        for index in 0..self.flows.len() {
            match self.batch.receive(&self.flows[index].socket, false) {
                Ok(0) => continue,
                Ok(count) => all_read &= count < RX_BATCH,
                Err(error) => {
                    warn!("flow {index}: {error}");
                    continue;
                }
            }
            let moves = read_echoes(
                &mut self.batch,
                &mut self.flows[index],
                &mut self.sites,
                &mut self.counts,
            );
            for (flow, t_ns, (from, to)) in moves {
                let name = |site: u16| self.sites[usize::from(site)].clone();
                self.say(Reply::Moved { flow, t_ns, from: name(from), to: name(to) });
            }
        }
        all_read
    }

    /// Handles a command of the parent; `false` if it is time to end.
    fn obey(&mut self) -> bool {
        match self.commands.try_recv() {
            Ok(Command::Spacing { us }) => {
                let now = Nanos::now();
                self.pacer.set_spacing(now, Duration::from_micros(us));
                self.say(Reply::Spacing { t_ns: now.0, us });
            }
            Ok(Command::Take { from_ns, to_ns, patience }) => {
                self.takes.push_back(Take::new(from_ns..to_ns, patience));
            }
            Ok(Command::Latest) => {
                let flows = self.flows.iter().map(|open| open.latest(&self.sites)).collect();
                self.say(Reply::Latest { flows });
            }
            // The reader answers these itself.
            Ok(Command::Dns { .. }) | Err(TryRecvError::Empty) => {}
            Ok(Command::Stop) | Err(TryRecvError::Disconnected) => return false,
        }
        true
    }

    /// Copies a slice of the oldest request that is due. `all_read`: what had come by `now` is
    /// recorded.
    fn serve_take(&mut self, now: Nanos, all_read: bool) {
        let Some(mut take) = self.takes.pop_front() else { return };
        if !take.is_ready(now, all_read, &self.flows) || !take.copy(&self.flows) {
            self.takes.push_front(take);
            return;
        }
        let (counts, complete, raw) = take.into_parts();
        let strays = self.counts.strays + self.flows.iter().map(|f| f.ring.strays()).sum::<u64>();
        let head = RecordsHead {
            counts,
            complete,
            bytes: raw.len() as u64,
            sites: self.sites.clone(),
            pace: self.pacer.stats(),
            strays,
            ..self.counts.clone()
        };
        self.send(Message { reply: Reply::Records(head), raw });
    }

    fn say(&self, reply: Reply) {
        self.send(Message { reply, raw: Vec::new() });
    }

    /// Never blocks: if the parent does not read, messages are lost, but no probe is delayed.
    fn send(&self, message: Message) {
        if self.out.try_send(message).is_err() {
            warn!("the parent does not read: a message is lost");
        }
    }
}

/// Records a batch of one flow's echoes; returns the moves of the flow.
fn read_echoes(
    batch: &mut RxBatch,
    open: &mut OpenFlow,
    sites: &mut Vec<String>,
    counts: &mut RecordsHead,
) -> Vec<(u16, u64, (u16, u16))> {
    let mut moves = Vec::new();
    for datagram in batch.datagrams() {
        let echo = Echo::decode(datagram.bytes)
            .filter(|_| datagram.from == open.flow.destination)
            .filter(|echo| echo.probe.flow == u32::from(open.flow.id));
        let Some((echo, site)) = echo.and_then(|e| Some((e, site_index(sites, e.site)?))) else {
            counts.strays += 1;
            continue;
        };
        let (kernel, user) = (&mut counts.kernel_stamps, &mut counts.user_stamps);
        *(if datagram.kernel_stamp { kernel } else { user }) += 1;
        let arrival = Arrival { server_ns: echo.server_ns, client_ns: datagram.at_ns, site };
        let moved = open.heard(echo.probe.seq, echo.probe.sent_ns, arrival);
        moves.extend(moved.map(|change| (open.flow.id, echo.server_ns, change)));
    }
    moves
}

/// The index of a site's name, which is added if new; `None` if there are too many.
fn site_index(sites: &mut Vec<String>, name: &str) -> Option<u16> {
    if let Some(at) = sites.iter().position(|site| site == name) {
        return Some(at as u16);
    }
    if sites.len() >= SITES_MAX {
        return None;
    }
    sites.push(name.to_owned());
    Some(sites.len() as u16 - 1)
}

const RX_BATCH: usize = 64;
const SITES_MAX: usize = 1_024;
