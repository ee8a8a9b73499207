//! Bare loops: what one device gives the other takes, and nothing is looked at.
//!
//! They use the engines of nearhop's own ports and one thread for each core, as its workers do; what
//! nearhop costs more is parsing, looking up, choosing, rewriting and counting.
#![forbid(unsafe_code)]

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::thread::{self, JoinHandle};

use nearhop::batch::{Batch, Exit, PACKET_MAX};
use nearhop::ids::PortId;
use nearhop::kernel::netns::NetNs;
use nearhop::packet::offload::{OFFLOAD_LEN, Offloads};
use nearhop::port::queue::{open_queue, send_all};
use nearhop::port::tun::{self, TunSpec};
use nearhop::port::{EngineChoice, Port, Queue};
use nearhop::verdict::Verdict;
use rustix::event::{EventfdFlags, PollFd, PollFlags, eventfd, poll};

use super::subject::{CLIENT, Lab, SITE, Subject};
use crate::report::BenchError;

/// How packets are moved.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Engine {
    /// A system call for each packet, superframes and checksums left to the kernel.
    Plain,
    /// The same, with offloads.
    Epoll,
    /// Many packets in a system call, with offloads.
    Uring,
}

/// Starts a loop.
pub fn build(name: &'static str, engine: Engine) -> Result<Subject, BenchError> {
    let id = format!("copy{engine:?}").to_lowercase();
    let (lab, namespaces) = Lab::make(&id)?;
    let threads = thread::available_parallelism().map_or(1, usize::from);
    let offloads = if engine == Engine::Plain { Offloads::NONE } else { Offloads::ALL };
    let open = |netns: &NetNs, name: &str, peer| -> Result<Arc<dyn Port>, BenchError> {
        let spec = TunSpec {
            name: name.to_owned(),
            netns: netns.clone(),
            queues: threads,
            persist: false,
            offloads,
        };
        let opened = tun::open(&spec).map_err(BenchError::environment)?;
        let peer = ipnetwork::IpNetwork::new(peer, 24).map_err(BenchError::environment)?;
        opened.bring_up(1500, &[peer]).map_err(BenchError::environment)?;
        Ok(opened.port)
    };
    let ports = [open(&lab.client, "nh-c", CLIENT.into())?, open(&lab.site, "nh-s", SITE.into())?];
    let stop = eventfd(0, EventfdFlags::CLOEXEC).map_err(BenchError::environment)?;
    let mut loops = Loops { stop: Arc::new(stop), threads: Vec::new() };
    let choice = if engine == Engine::Uring { EngineChoice::Uring } else { EngineChoice::Epoll };
    for index in 0..threads {
        let (ports, stop) = (ports.clone(), Arc::clone(&loops.stop));
        let run = move || Copier::open(&ports, index, choice).run(&stop);
        let thread = thread::Builder::new().name(format!("copy-{index}")).spawn(run);
        loops.threads.push(thread.map_err(BenchError::environment)?);
    }
    Subject::new(name, &lab, ["nh-c", "nh-s"], 0, Box::new(loops), namespaces)
}

/// The threads; they end when this is dropped.
struct Loops {
    stop: Arc<OwnedFd>,
    threads: Vec<JoinHandle<()>>,
}

impl Drop for Loops {
    fn drop(&mut self) {
        let _ = rustix::io::write(&*self.stop, &1_u64.to_ne_bytes());
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

/// One thread's queue of both ports.
struct Copier {
    ports: [Arc<dyn Port>; 2],
    queues: [Box<dyn Queue>; 2],
    batch: Batch,
    buffer: Vec<u8>,
}

impl Copier {
    fn open(ports: &[Arc<dyn Port>; 2], index: usize, choice: EngineChoice) -> Self {
        let queues = [0, 1].map(|side: usize| open_queue(&ports[side], index, choice).0);
        let buffer = vec![0; OFFLOAD_LEN + PACKET_MAX];
        Self { ports: ports.clone(), queues, batch: Batch::new(), buffer }
    }

    fn run(mut self, stop: &OwnedFd) {
        loop {
            let ready = {
                let [Some(a), Some(b)] = [self.queues[0].fd(), self.queues[1].fd()] else { return };
                let mut fds = [
                    PollFd::from_borrowed_fd(a, PollFlags::IN),
                    PollFd::from_borrowed_fd(b, PollFlags::IN),
                    PollFd::new(stop, PollFlags::IN),
                ];
                if poll(&mut fds, None).is_err() || !fds[2].revents().is_empty() {
                    return;
                }
                [0, 1].map(|side: usize| !fds[side].revents().is_empty())
            };
            for _ in 0..ROUNDS {
                let mut any = false;
                for side in [0, 1] {
                    any |= ready[side] && self.copy(side);
                }
                if !any {
                    break;
                }
            }
        }
    }

    /// What `side` has goes out by the other; `false` if it has nothing.
    fn copy(&mut self, side: usize) -> bool {
        let out = PortId(1);
        self.batch.clear();
        if self.queues[side].rx(&mut self.batch).unwrap_or(0) == 0 {
            return false;
        }
        let exit = Exit { port: out, ..Exit::default() };
        for index in 0..self.batch.len() {
            self.batch.transmit(index, exit, None, Verdict::Forward);
        }
        let to = (out, &*self.ports[1 - side]);
        send_all(&mut *self.queues[1 - side], to, &self.batch, &mut self.buffer, &mut |_| {});
        true
    }
}

/// Turns before it polls again, as a worker's.
const ROUNDS: usize = 16;
