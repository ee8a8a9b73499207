//! The prober's process: its options, its sockets and its threads.
#![forbid(unsafe_code)]

use std::io::{self, BufRead, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, bounded};
use nearhop::ids::Family;
use nearhop::time::Nanos;
use rustix::thread::clock_nanosleep_absolute;
use rustix::time::{ClockId, Timespec};

use super::dns::{DnsClient, DnsLog};
use super::flow::open_flows;
use super::protocol::{Command, Reply};
use super::worker::{Message, Worker};

/// Options of `nearlab probe`.
#[derive(Clone, Debug, Eq, PartialEq, clap::Args)]
pub struct ProbeOptions {
    /// The client's name in records.
    #[arg(long)]
    pub client: String,
    /// An anycast address to probe; may be repeated.
    #[arg(long = "to", value_name = "ADDRESS", required = true)]
    pub to: Vec<IpAddr>,
    /// Flows per address, which differ by source port.
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
    /// Initial time between two probes of a flow, microseconds.
    #[arg(long, value_name = "US", default_value_t = 1_000)]
    pub spacing_us: u64,
    /// Time between two DNS queries to an address, milliseconds; 0 sends none.
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
        /// Destination of its probes.
        destination: SocketAddr,
        /// The source port.
        source_port: u16,
        /// The kernel's error.
        source: io::Error,
    },
    /// A thread could not be started.
    #[error("prober {client}: cannot start a thread: {source}")]
    Thread {
        /// The client's name.
        client: String,
        /// The kernel's error.
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
        /// Number of flows.
        flows: usize,
        /// The first source port.
        first: u16,
    },
}

/// Sends, receives and answers its parent, until the parent sends `stop` or closes standard input.
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
    // The writer ends when all replies are written.
    let _ = writer.join();
    Ok(())
}

impl ProbeOptions {
    /// The arguments that make `nearlab` run this prober: `probe --client oslo --to ...`.
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

/// Sleeps until `deadline`, never less; returns at once if it has passed.
pub fn sleep_until(deadline: Nanos) {
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

/// The log that the DNS thread writes and the reader reads.
pub(super) type SharedLog = Arc<DnsLog>;

const OUT_DEPTH: usize = 1_024;
const COMMANDS_DEPTH: usize = 64;
