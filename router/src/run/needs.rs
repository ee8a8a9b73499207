//! What a configuration needs of the machine's limits: asked before anything is made, so that what is
//! short is named with the limit to raise, and nothing runs by halves.
#![forbid(unsafe_code)]

use std::collections::BTreeSet;

use rustix::process::{Resource, getrlimit};

use super::RunError;
use super::ports::queues_of;
use crate::api::CONNECTIONS_MAX;
use crate::config::model::Port;
use crate::kernel::descriptors;

/// Refuses a configuration whose ports need more descriptors than the process may have.
pub(super) fn check_descriptors(ports: &[Port], workers: usize) -> Result<(), RunError> {
    let needed = descriptors_of(ports, workers);
    descriptors::expect(needed);
    match descriptors::limit() {
        Some(limit) if limit < needed => {
            let (count, queues) = (ports.len(), queues(ports, workers));
            Err(RunError::new(format!(
                "{count} port(s) with {queues} queue(s) and {workers} worker(s) need {needed} descriptors, \
                 found a limit of {limit}"
            ))
            .with_help(descriptors::how_to_raise(needed)))
        }
        _ => Ok(()),
    }
}

/// Refuses to start where memory or address space is too small for the tables and the threads.
///
/// Running out of it later ends the process without a word of what to do, so that all is asked for at
/// once, and returned. Nothing of it is touched.
pub(super) fn check_address_space(workers: usize) -> Result<(), RunError> {
    let limit = getrlimit(Resource::As).current;
    // Stacks and arenas are address space more than memory.
    let threads = if limit.is_some() { (THREADS + workers) * PER_THREAD } else { 0 };
    let needed = TABLES + threads;
    // In parts, as the tables are: the kernel refuses a single one that is larger than the machine's memory.
    let reserve = |_| {
        let mut part: Vec<u8> = Vec::new();
        part.try_reserve_exact(PART).map(|()| part)
    };
    let reserved: Result<Vec<_>, _> = (0..needed / PART).map(reserve).collect();
    if reserved.is_ok() {
        return Ok(());
    }
    let mib = needed >> 20;
    let message = format!("cannot reserve {mib} MiB of memory for tables and {workers} worker(s)");
    let help = match limit {
        Some(limit) => format!(
            "the limit of address space (RLIMIT_AS) is {} MiB: raise it to {} MiB by `ulimit -v`, or leave \
             LimitAS= out of the unit",
            limit >> 20,
            mib + IN_USE_MIB
        ),
        None => "allow overcommitment (sysctl vm.overcommit_memory), or free memory".to_owned(),
    };
    Err(RunError::new(message).with_help(help))
}

fn queues(ports: &[Port], workers: usize) -> usize {
    ports.iter().map(|port| queues_of(port, workers)).sum()
}

/// An upper bound, with clients of the API and room for what is open for a moment.
fn descriptors_of(ports: &[Port], workers: usize) -> u64 {
    let namespaces = ports.iter().map(|port| &port.netns).collect::<BTreeSet<_>>().len();
    let count = queues(ports, workers) * PER_QUEUE
        + namespaces * PER_NAMESPACE
        + (THREADS + workers) * DESCRIPTORS_PER_THREAD
        + 2 * CONNECTIONS_MAX
        + BESIDE;
    count as u64
}

/// A TUN descriptor and an io_uring.
const PER_QUEUE: usize = 2;

/// Sockets of the liveness thread and of the kernel's thread.
const PER_NAMESPACE: usize = 4;

/// An epoll, a timer, and an eventfd with its other end and a copy.
const DESCRIPTORS_PER_THREAD: usize = 5;

/// Threads besides the workers.
const THREADS: usize = 9;

/// Standard streams, files that are read, what opening a port has open meanwhile.
const BESIDE: usize = 64;

/// Bytes of address space of the tables and the lanes, however few routes there are.
const TABLES: usize = 1216 << 20;

/// Bytes of a thread's stack and of what the allocator reserves for it.
const PER_THREAD: usize = 66 << 20;

/// Bytes that are asked for at a time.
const PART: usize = 32 << 20;

/// What the process has mapped before, and a margin.
const IN_USE_MIB: usize = 128;
