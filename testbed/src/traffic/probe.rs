//! The prober's process: one thread that paces, sends and receives, without any lock.
//!
//! It wakes at absolute deadlines, sends one probe on each flow, then reads whatever has come: the
//! kernel has stamped it, so reading late costs no precision. A command is looked at between two
//! deadlines; records are copied out in small slices, so that giving them does not delay a probe.
#![forbid(unsafe_code)]

use std::collections::VecDeque;
use std::io::{self, BufRead, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::ops::Range;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, TryRecvError, bounded};
use log::warn;
use nearhop::event::Family;
use nearhop::time::Nanos;
use rustix::thread::clock_nanosleep_absolute;
use rustix::time::{ClockId, Timespec};

use super::batch_io::{RxBatch, enable_timestamps, sharpen_timers};
use super::dns::{DnsClient, DnsLog};
use super::pace::Pacer;
use super::protocol::{Command, FlowNow, RecordsHead, Reply, encode_record};
use super::ring::{Noted, Ring};
use super::wire::{Echo, Probe as ProbeDatagram};
use crate::measure::{Arrival, Flow};

/// What `nearlab probe` is told.
#[derive(Clone, Debug, Eq, PartialEq, clap::Args)]
pub struct ProbeOptions {
    /// The client's name in records.
    #[arg(long)]
    pub client: String,
    /// An anycast address to probe; may be given more than once.
    #[arg(long = "to", value_name = "ADDRESS", required = true)]
    pub to: Vec<IpAddr>,
    /// Flows for each address, told apart by source port.
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u16).range(1..=256))]
    pub flows: u16,
    /// The first source port; further flows take the following ones.
    #[arg(long, value_name = "PORT", default_value_t = 40_000)]
    pub source_port: u16,
    /// Port of the sites' echo.
    #[arg(long, value_name = "PORT", default_value_t = 7)]
    pub echo_port: u16,
    /// Port of the sites' DNS.
    #[arg(long, value_name = "PORT", default_value_t = 53)]
    pub dns_port: u16,
    /// Microseconds between two probes of a flow, at first.
    #[arg(long, value_name = "US", default_value_t = 1_000)]
    pub spacing_us: u64,
    /// Milliseconds between two DNS queries to an address; 0: none.
    #[arg(long, value_name = "MS", default_value_t = 10)]
    pub dns_every_ms: u64,
}

/// Why a prober could not start, or ended.
#[derive(Debug, thiserror::Error)]
pub enum ProbeError {
    /// A socket could not be opened.
    #[error(
        "prober {client}: cannot open a UDP socket for {destination} on source port {source_port}: \
         {source}; is another prober running in this namespace? give another --source-port"
    )]
    Socket {
        /// The client's name.
        client: String,
        /// Where its probes would go.
        destination: SocketAddr,
        /// The port it asked for.
        source_port: u16,
        /// What the kernel said.
        source: io::Error,
    },
    /// A thread could not be started.
    #[error("prober {client}: cannot start a thread: {source}")]
    Thread {
        /// The client's name.
        client: String,
        /// What the kernel said.
        source: io::Error,
    },
    /// There are more flows than source ports.
    #[error(
        "prober {client}: {flows} flows do not fit the source ports from {first} on; give a lower \
         --source-port"
    )]
    Ports {
        /// The client's name.
        client: String,
        /// How many flows.
        flows: usize,
        /// The first port.
        first: u16,
    },
}

/// Sends, receives and answers its parent, until that says `stop` or closes standard input.
pub fn run(options: &ProbeOptions) -> Result<(), ProbeError> {
    let flows = open_flows(options)?;
    let thread_failed = |source| ProbeError::Thread { client: options.client.clone(), source };
    let dns = DnsClient::open(options)?.map(DnsClient::start).transpose().map_err(thread_failed)?;
    let (out, writer_end) = bounded(OUT_DEPTH);
    let (say, commands) = bounded(COMMANDS_DEPTH);
    let writer = thread::Builder::new().name("out".into());
    let writer = writer.spawn(move || write_out(&writer_end)).map_err(thread_failed)?;
    let replies = out.clone();
    let reader = thread::Builder::new().name("in".into());
    reader.spawn(move || read_in(&say, &replies, dns.as_deref())).map_err(thread_failed)?;

    let spacing = Duration::from_micros(options.spacing_us);
    Worker::new(flows, spacing, out, commands).run();
    // The writer ends once all of what was said is written.
    let _ = writer.join();
    Ok(())
}

impl ProbeOptions {
    /// The arguments that make `nearlab` this prober: `probe --client oslo --to ...`.
    pub fn to_args(&self) -> Vec<String> {
        let mut args = vec!["probe".to_owned(), "--client".to_owned(), self.client.clone()];
        for address in &self.to {
            args.extend(["--to".to_owned(), address.to_string()]);
        }
        for (flag, value) in [
            ("--flows", u64::from(self.flows)),
            ("--source-port", self.source_port.into()),
            ("--echo-port", self.echo_port.into()),
            ("--dns-port", self.dns_port.into()),
            ("--spacing-us", self.spacing_us),
            ("--dns-every-ms", self.dns_every_ms),
        ] {
            args.extend([flag.to_owned(), value.to_string()]);
        }
        args
    }
}

/// Sleeps until `deadline`, not before; returns at once if it is over.
pub(super) fn sleep_until(deadline: Nanos) {
    let at = Timespec {
        tv_sec: (deadline.0 / 1_000_000_000).cast_signed(),
        tv_nsec: (deadline.0 % 1_000_000_000).cast_signed(),
    };
    while let Err(rustix::io::Errno::INTR) = clock_nanosleep_absolute(ClockId::Monotonic, &at) {}
}

/// The family of an address.
pub(super) fn family_of(address: IpAddr) -> Family {
    if address.is_ipv4() { Family::Ipv4 } else { Family::Ipv6 }
}

/// The wildcard address of the same family.
pub(super) fn any_of(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    }
}

/// A flow with its socket. The socket is not connected: an ICMP error would make it swallow the
/// next send.
struct OpenFlow {
    flow: Flow,
    socket: UdpSocket,
    ring: Ring,
    now: FlowNow,
    /// Whom `now.site` names, as an index.
    site: Option<u16>,
    /// The highest number that was answered, so that an overtaken echo moves nothing.
    newest: u64,
}

fn open_flows(options: &ProbeOptions) -> Result<Vec<OpenFlow>, ProbeError> {
    let count = options.to.len() * usize::from(options.flows);
    if usize::from(options.source_port) + count > usize::from(u16::MAX) {
        let (client, first) = (options.client.clone(), options.source_port);
        return Err(ProbeError::Ports { client, flows: count, first });
    }
    let flow = |id: usize| {
        let address = options.to[id / usize::from(options.flows)];
        let flow = Flow {
            client: options.client.clone(),
            id: id as u16,
            family: family_of(address),
            source_port: options.source_port + id as u16,
            destination: SocketAddr::new(address, options.echo_port),
        };
        let bound = UdpSocket::bind((any_of(address), flow.source_port));
        let socket = bound.map_err(|source| ProbeError::Socket {
            client: options.client.clone(),
            destination: flow.destination,
            source_port: flow.source_port,
            source,
        })?;
        if let Err(error) = enable_timestamps(&socket) {
            warn!("no kernel timestamps ({error}): arrivals carry the time of reading");
        }
        Ok(OpenFlow::new(flow, socket))
    };
    (0..count).map(flow).collect()
}

impl OpenFlow {
    fn new(flow: Flow, socket: UdpSocket) -> Self {
        let now = FlowNow {
            flow: flow.id,
            family: flow.family,
            site: None,
            heard_ns: 0,
            rtt_ns: 0,
            sent: 0,
            answered: 0,
        };
        Self { flow, socket, ring: Ring::new(RING_PROBES), now, site: None, newest: 0 }
    }

    /// Sends the next probe; whether the kernel took it.
    fn send(&mut self) -> bool {
        let sent_ns = Nanos::now().0;
        let seq = self.ring.sent(sent_ns);
        self.now.sent += 1;
        let datagram = ProbeDatagram { flow: self.flow.id.into(), seq, sent_ns }.encode();
        self.socket.send_to(&datagram, self.flow.destination).is_ok()
    }

    /// Takes an echo in; tells from which site to which the flow has moved, if it has.
    fn heard(&mut self, seq: u64, sent_ns: u64, arrival: Arrival) -> Option<(u16, u16)> {
        if self.ring.answered(seq, arrival) != Noted::First {
            return None;
        }
        self.now.answered += 1;
        if self.site.is_some() && seq < self.newest {
            return None;
        }
        self.newest = seq;
        self.now.heard_ns = arrival.client_ns;
        self.now.rtt_ns = arrival.client_ns.saturating_sub(sent_ns);
        let before = self.site.replace(arrival.site);
        before.filter(|before| *before != arrival.site).map(|before| (before, arrival.site))
    }
}

/// What goes out: a line, and raw bytes after it.
struct Message {
    reply: Reply,
    raw: Vec<u8>,
}

/// A request for records, and how far it has come.
struct Take {
    ready: Nanos,
    from_ns: u64,
    to_ns: u64,
    /// Ranges of sequence numbers by flow, once fixed.
    ranges: Option<Vec<Range<u64>>>,
    head: RecordsHead,
    raw: Vec<u8>,
}

struct Worker {
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
    fn new(
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

    fn run(mut self) {
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
            self.receive();
            if !self.obey() {
                return;
            }
            self.serve_take(Nanos::now());
        }
    }

    /// Reads what has come on every flow, at most [`RX_BATCH`] each.
    fn receive(&mut self) {
        for index in 0..self.flows.len() {
            match self.batch.receive(&self.flows[index].socket, false) {
                Ok(0) => continue,
                Ok(_) => {}
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
    }

    /// Does what the parent said; `false` when it is time to end.
    fn obey(&mut self) -> bool {
        match self.commands.try_recv() {
            Ok(Command::Spacing { us }) => {
                let now = Nanos::now();
                self.pacer.set_spacing(now, Duration::from_micros(us));
                self.say(Reply::Spacing { t_ns: now.0, us });
            }
            Ok(Command::Take { from_ns, to_ns, settle_ms }) => self.takes.push_back(Take {
                ready: Nanos(to_ns) + Duration::from_millis(settle_ms),
                from_ns,
                to_ns,
                ranges: None,
                head: RecordsHead::default(),
                raw: Vec::new(),
            }),
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

    /// Copies a slice of the oldest request that is due, at most [`COPY_SLICE`] records.
    fn serve_take(&mut self, now: Nanos) {
        let Some(mut take) = self.takes.pop_front() else { return };
        if now < take.ready {
            self.takes.push_front(take);
            return;
        }
        if take.copy(&self.flows) {
            take.head = RecordsHead {
                counts: take.head.counts,
                complete: take.head.complete,
                bytes: take.raw.len() as u64,
                sites: self.sites.clone(),
                pace: self.pacer.stats(),
                strays: self.counts.strays
                    + self.flows.iter().map(|f| f.ring.strays()).sum::<u64>(),
                ..self.counts.clone()
            };
            self.send(Message { reply: Reply::Records(take.head), raw: take.raw });
        } else {
            self.takes.push_front(take);
        }
    }

    fn say(&self, reply: Reply) {
        self.send(Message { reply, raw: Vec::new() });
    }

    /// A parent that does not read loses messages, but delays no probe.
    fn send(&self, message: Message) {
        if self.out.try_send(message).is_err() {
            warn!("the parent does not read: a message is lost");
        }
    }
}

impl Take {
    /// Goes on copying; `true` when all is there.
    fn copy(&mut self, flows: &[OpenFlow]) -> bool {
        let ranges = self.ranges.get_or_insert_with(|| {
            let found: Vec<_> =
                flows.iter().map(|f| f.ring.range(self.from_ns, self.to_ns)).collect();
            self.head.complete = found.iter().all(|(_, complete)| *complete);
            found.into_iter().map(|(range, _)| range).collect()
        });
        self.head.counts.resize(flows.len(), 0);
        let mut room = COPY_SLICE;
        for ((range, open), count) in ranges.iter_mut().zip(flows).zip(&mut self.head.counts) {
            for seq in range.by_ref().take(room) {
                room -= 1;
                match open.ring.find(seq) {
                    Some(probe) => {
                        encode_record(probe, &mut self.raw);
                        *count += 1;
                    }
                    None => self.head.complete = false,
                }
            }
        }
        ranges.iter().all(Range::is_empty)
    }
}

impl OpenFlow {
    fn latest(&self, sites: &[String]) -> FlowNow {
        let site = self.site.and_then(|site| sites.get(usize::from(site)).cloned());
        FlowNow { site, ..self.now.clone() }
    }
}

/// Takes in a batch of one flow; gives its moves.
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

/// The index of a name, which is added if it is new; `None` if there are too many.
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

/// Reads commands until the parent closes its end, which ends the prober.
fn read_in(say: &Sender<Command>, out: &Sender<Message>, dns: Option<&DnsLog>) {
    for line in io::stdin().lock().lines() {
        let Ok(line) = line else { return };
        let reply = match serde_json::from_str(&line) {
            Ok(Command::Dns { from_ns, to_ns }) => {
                Reply::Dns { queries: dns.map(|dns| dns.take(from_ns, to_ns)).unwrap_or_default() }
            }
            Ok(command) => {
                let last = command == Command::Stop;
                if say.send(command).is_err() || last {
                    return;
                }
                continue;
            }
            Err(error) => Reply::Refused { reason: format!("not a command: {error}") },
        };
        if out.send(Message { reply, raw: Vec::new() }).is_err() {
            return;
        }
    }
}

fn write_out(messages: &Receiver<Message>) {
    let mut out = io::stdout().lock();
    for message in messages {
        let Ok(mut line) = serde_json::to_vec(&message.reply) else { continue };
        line.push(b'\n');
        let written = out.write_all(&line).and_then(|()| out.write_all(&message.raw));
        if written.and_then(|()| out.flush()).is_err() {
            return;
        }
    }
}

/// A DNS log that the DNS thread fills and the reader reads.
pub(super) type SharedLog = Arc<DnsLog>;

/// Two minutes at 1 ms, 26 s at 0.2 ms.
const RING_PROBES: usize = 1 << 17;
const RX_BATCH: usize = 64;
const COPY_SLICE: usize = 2_048;
const SITES_MAX: usize = 1_024;
const OUT_DEPTH: usize = 1_024;
const COMMANDS_DEPTH: usize = 64;
