//! The parent's side of a prober.
#![forbid(unsafe_code)]

use std::io::{self, BufRead, BufReader, Read, Write};
use std::ops::Range;
use std::process::{Child, ChildStdin, ChildStdout, Command as Process, Stdio};
use std::thread;
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};
use nearhop::time::Nanos;

use super::protocol::{
    Command, DnsRecord, FlowNow, Patience, RECORD_LEN, RecordsHead, Reply, decode_record,
};
use crate::measure::{Flow, Trace};

/// A running prober. Dropping it ends the process.
pub struct Prober {
    child: Child,
    stdin: Option<ChildStdin>,
    replies: Receiver<(Reply, Vec<u8>)>,
    moves: Receiver<Moved>,
    flows: Vec<Flow>,
    stamps: String,
}

/// Another site answers a flow now.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Moved {
    /// The flow, as an index into [`Prober::flows`].
    pub flow: u16,
    /// When the first probe arrived at the new site, CLOCK_MONOTONIC nanoseconds.
    pub t_ns: u64,
    /// The site that answered before.
    pub from: String,
    /// The site that answers now.
    pub to: String,
}

/// Records of a range of time.
#[derive(Clone, Debug)]
pub struct Taken {
    /// One trace per flow, in the order of [`Prober::flows`].
    pub traces: Vec<Trace>,
    /// State of the prober: pace, strays, timestamps, and whether these records are complete.
    pub head: RecordsHead,
}

/// A failure of a prober.
#[derive(Debug, thiserror::Error)]
pub enum ProberError {
    /// It could not be started.
    #[error("cannot start the prober '{program}': {source}")]
    Start {
        /// The command line.
        program: String,
        /// The kernel's error.
        source: io::Error,
    },
    /// It ended; its messages are on standard error.
    #[error("the prober ended ({status}) when asked to {doing}; see its messages above")]
    Ended {
        /// Exit status, if known.
        status: String,
        /// What it was asked to do.
        doing: String,
    },
    /// It does not answer.
    #[error("the prober did not {doing} within {budget:?}; is it stopped, or short of CPU time?")]
    Silent {
        /// What it was asked to do.
        doing: String,
        /// How long the parent waited.
        budget: Duration,
    },
    /// It refused, or answered something unexpected.
    #[error("the prober did not {doing}: {reason}")]
    Refused {
        /// What it was asked to do.
        doing: String,
        /// Its answer.
        reason: String,
    },
}

impl Prober {
    /// Starts `command`, which must enter the client's namespace and run `nearlab probe` with
    /// [`ProbeOptions::to_args`](super::ProbeOptions::to_args), and waits until it is ready.
    pub fn spawn(mut command: Process) -> Result<Self, ProberError> {
        let program = command.get_program().to_string_lossy().into_owned();
        let failed = |source| ProberError::Start { program: program.clone(), source };
        let mut child =
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().map_err(failed)?;
        let (said, replies) = bounded(REPLIES_DEPTH);
        let (moved, moves) = bounded(MOVES_DEPTH);
        let stdin = child.stdin.take();
        if let Some(out) = child.stdout.take() {
            let reader = thread::Builder::new().name("prober".into());
            reader.spawn(move || read(out, &said, &moved)).map_err(failed)?;
        }
        let stamps = String::new();
        let mut prober = Self { child, stdin, replies, moves, flows: Vec::new(), stamps };
        match prober.answer("start", START_BUDGET)? {
            (Reply::Ready { flows, stamps }, _) => (prober.flows, prober.stamps) = (flows, stamps),
            (other, _) => return Err(refused("start", &other)),
        }
        Ok(prober)
    }

    /// The flows, by number.
    pub fn flows(&self) -> &[Flow] {
        &self.flows
    }

    /// Origin of receive times: `kernel`, or `user` where the kernel has no timestamps.
    pub fn stamps(&self) -> &str {
        &self.stamps
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Sets the time between two probes of each flow; returns when it took effect, CLOCK_MONOTONIC.
    pub fn set_spacing(&mut self, spacing: Duration) -> Result<Nanos, ProberError> {
        let us = u64::try_from(spacing.as_micros()).unwrap_or(u64::MAX);
        match self.ask(&Command::Spacing { us }, "change its spacing", Duration::ZERO)? {
            (Reply::Spacing { t_ns, .. }, _) => Ok(Nanos(t_ns)),
            (other, _) => Err(refused("change its spacing", &other)),
        }
    }

    /// The records of the probes sent in `range`. Blocks until its end, and then until the echoes
    /// that `patience` names have come or are given up.
    pub fn take_records(
        &mut self,
        range: Range<Nanos>,
        patience: Patience,
    ) -> Result<Taken, ProberError> {
        let doing = "return its records";
        let (from_ns, to_ns) = (range.start.0, range.end.0);
        let longest = Duration::from_millis(patience.settle_ms.max(patience.give_up_ms));
        let wait = range.end.since(Nanos::now()) + longest;
        let take = Command::Take { from_ns, to_ns, patience };
        match self.ask(&take, doing, wait)? {
            (Reply::Records(head), raw) => {
                let traces = self.traces(&head, &raw).ok_or_else(|| ProberError::Refused {
                    doing: doing.to_owned(),
                    reason: format!("{} raw bytes do not match {:?}", raw.len(), head.counts),
                })?;
                Ok(Taken { traces, head })
            }
            (other, _) => Err(refused(doing, &other)),
        }
    }

    /// The DNS queries sent in `range`, in order of sending.
    pub fn take_dns(&mut self, range: Range<Nanos>) -> Result<Vec<DnsRecord>, ProberError> {
        let take = Command::Dns { from_ns: range.start.0, to_ns: range.end.0 };
        match self.ask(&take, "return its DNS queries", Duration::ZERO)? {
            (Reply::Dns { queries }, _) => Ok(queries),
            (other, _) => Err(refused("return its DNS queries", &other)),
        }
    }

    /// The site that answers each flow now, by flow number.
    pub fn latest(&mut self) -> Result<Vec<FlowNow>, ProberError> {
        match self.ask(&Command::Latest, "say who answers", Duration::ZERO)? {
            (Reply::Latest { flows }, _) => Ok(flows),
            (other, _) => Err(refused("say who answers", &other)),
        }
    }

    /// Moves of flows as they are noticed. The channel holds some thousands; further ones are lost
    /// until somebody reads, but records are complete.
    pub fn moves(&self) -> &Receiver<Moved> {
        &self.moves
    }

    /// Polls [`latest`](Self::latest) until `enough` holds, for at most `budget`; returns the last
    /// answer.
    pub fn wait_until(
        &mut self,
        budget: Duration,
        mut enough: impl FnMut(&[FlowNow]) -> bool,
    ) -> Result<Result<Vec<FlowNow>, Vec<FlowNow>>, ProberError> {
        let deadline = Nanos::now() + budget;
        loop {
            let flows = self.latest()?;
            if enough(&flows) {
                return Ok(Ok(flows));
            }
            if Nanos::now() >= deadline {
                return Ok(Err(flows));
            }
            super::probe::sleep_until(Nanos::now() + POLL);
        }
    }

    /// Ends the prober and waits for its exit.
    pub fn stop(mut self) -> Result<(), ProberError> {
        let _ = self.command(&Command::Stop, "stop");
        self.stdin = None;
        self.wait("stop", STOP_BUDGET)
    }

    fn ask(
        &mut self,
        command: &Command,
        doing: &str,
        wait: Duration,
    ) -> Result<(Reply, Vec<u8>), ProberError> {
        self.command(command, doing)?;
        self.answer(doing, wait + ANSWER_BUDGET)
    }

    fn command(&mut self, command: &Command, doing: &str) -> Result<(), ProberError> {
        let written = serde_json::to_string(command).map_err(io::Error::other).and_then(|line| {
            let stdin = self.stdin.as_mut().ok_or(io::ErrorKind::BrokenPipe)?;
            writeln!(stdin, "{line}")?;
            stdin.flush()
        });
        written.map_err(|_| self.ended(doing))
    }

    fn answer(&mut self, doing: &str, budget: Duration) -> Result<(Reply, Vec<u8>), ProberError> {
        match self.replies.recv_timeout(budget) {
            Ok(answer) => Ok(answer),
            Err(RecvTimeoutError::Disconnected) => Err(self.ended(doing)),
            Err(RecvTimeoutError::Timeout) => {
                Err(ProberError::Silent { doing: doing.to_owned(), budget })
            }
        }
    }

    fn ended(&mut self, doing: &str) -> ProberError {
        let status = match self.child.try_wait() {
            Ok(Some(status)) => status.to_string(),
            _ => "it closed its output".to_owned(),
        };
        ProberError::Ended { status, doing: doing.to_owned() }
    }

    fn wait(&mut self, doing: &str, budget: Duration) -> Result<(), ProberError> {
        // The reader closes the channel when the process has closed its output.
        let deadline = Nanos::now() + budget;
        loop {
            match self.replies.recv_timeout(deadline.since(Nanos::now())) {
                Ok(_) => {}
                Err(RecvTimeoutError::Disconnected) => break,
                Err(RecvTimeoutError::Timeout) => {
                    return Err(ProberError::Silent { doing: doing.to_owned(), budget });
                }
            }
        }
        self.child.wait().map(drop).map_err(|_| self.ended(doing))
    }

    fn traces(&self, head: &RecordsHead, raw: &[u8]) -> Option<Vec<Trace>> {
        let expected = head.counts.iter().sum::<u64>() as usize * RECORD_LEN;
        if raw.len() != expected || head.counts.len() != self.flows.len() {
            return None;
        }
        let mut records = raw.chunks_exact(RECORD_LEN).filter_map(decode_record);
        let trace = |(flow, count): (&Flow, &u64)| Trace {
            flow: flow.clone(),
            sites: head.sites.clone(),
            probes: records.by_ref().take(*count as usize).collect(),
        };
        Some(self.flows.iter().zip(&head.counts).map(trace).collect())
    }
}

impl Drop for Prober {
    fn drop(&mut self) {
        self.stdin = None;
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn refused(doing: &str, reply: &Reply) -> ProberError {
    let reason = match reply {
        Reply::Refused { reason } => reason.clone(),
        other => format!("it answered {other:?}"),
    };
    ProberError::Refused { doing: doing.to_owned(), reason }
}

/// Reads the prober's output until it is closed.
fn read(out: ChildStdout, said: &Sender<(Reply, Vec<u8>)>, moved: &Sender<Moved>) {
    let mut out = BufReader::new(out);
    let mut line = String::new();
    while matches!(out.read_line(&mut line), Ok(1..)) {
        let reply = serde_json::from_str(&line).unwrap_or_else(|error| Reply::Refused {
            reason: format!("expected a reply, found {line:?}: {error}"),
        });
        line.clear();
        let mut raw = Vec::new();
        if let Reply::Records(head) = &reply {
            let whole = out.by_ref().take(head.bytes).read_to_end(&mut raw);
            if whole.is_err() {
                return;
            }
        }
        match reply {
            Reply::Moved { flow, t_ns, from, to } => {
                let _ = moved.try_send(Moved { flow, t_ns, from, to });
            }
            reply => {
                if said.send((reply, raw)).is_err() {
                    return;
                }
            }
        }
    }
}

const START_BUDGET: Duration = Duration::from_secs(10);
const ANSWER_BUDGET: Duration = Duration::from_secs(10);
const STOP_BUDGET: Duration = Duration::from_secs(5);
const POLL: Duration = Duration::from_millis(5);
const REPLIES_DEPTH: usize = 16;
const MOVES_DEPTH: usize = 4_096;
